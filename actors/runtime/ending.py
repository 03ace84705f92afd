"""From the exit being known to the owner being told: `on_stop`, sub-tasks, children.

Rule 1: after a crash or kill sub-tasks are cancelled first; at a stop they outlive `on_stop`.
Rule 2: `report` is the very last step; nothing of the incarnation runs after it.
"""

from __future__ import annotations

from types import CoroutineType
from typing import TYPE_CHECKING

import trio

from actors.runtime.context import current_activity
from actors.runtime.words.errors import BadReturn
from actors.runtime.words.exits import Crashed, Killed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from actors.runtime.life import Life


def end_dispatched(life: Life) -> None:
    """Call this when the exit of a dispatched incarnation, or its failed start, is known."""
    if _has_helpers(life):
        _end_in_task(life, wind_up)
        return
    if life.outcome is None and not life.killed:
        assert life.instance is not None
        assert life.exit is not None
        life.activity.cell = life.cell
        try:
            result = life.instance.on_stop(life.exit)
            if type(result) is CoroutineType:
                result.close()
                life.stop_raised(BadReturn(result, "on_stop"))
        except Exception as error:  # noqa: BLE001 - whatever `on_stop` raises is the exit
            life.stop_raised(error)
        except BaseExceptionGroup as error:
            life.stop_raised(error)
        life.activity.cell = life.activity.out = None
        if _has_helpers(life):  # `on_stop` has started a sub-task.
            life.cell.limit_stop(life.cell.shutdown)
            _end_in_task(life, _end_helpers)
            return
    report(life)


def _has_helpers(life: Life) -> bool:
    return life.helpers is not None


def _end_in_task(life: Life, rest: Callable[[Life], Awaitable[None]]) -> None:
    # Waiting for sub-tasks needs a task, for the first time in this incarnation's life.
    nursery = life.cell.owner.nursery
    nursery.start_soon(_finish, life, rest, name=f"{life.cell.path} (ending)")


async def _finish(life: Life, rest: Callable[[Life], Awaitable[None]]) -> None:
    life.activity = life.new_activity()
    current_activity.set(life.activity)
    await rest(life)
    report(life)


async def _end_helpers(life: Life) -> None:
    if life.helpers is not None:
        await life.helpers.close()


async def wind_up(life: Life) -> None:
    """Call this to run the hooks of the end and to wait for everything the incarnation started."""
    clean = life.outcome is None and life.exit is not None and life.exit.clean
    if life.helpers is not None and not clean:
        await life.helpers.close()
    if life.outcome is None and not life.killed:
        await _call_on_stop(life)
    if life.instance is not None and life.instance.opens_nursery:
        await _wind_down(life)
    await _end_helpers(life)


async def _call_on_stop(life: Life) -> None:
    assert life.instance is not None
    assert life.exit is not None
    with trio.CancelScope() as life.scope:
        try:
            result = life.instance.on_stop(life.exit)
            if type(result) is CoroutineType:
                await result
        except Exception as error:  # noqa: BLE001 - whatever `on_stop` raises is the exit
            life.stop_raised(error)
        except BaseExceptionGroup as error:
            life.stop_raised(error)
    life.scope = None


async def _wind_down(life: Life) -> None:
    assert life.instance is not None
    if not life.killed:
        with trio.CancelScope() as life.scope:
            await life.instance.wind_down(life.exit or Killed(because="its start failed"))
        life.scope = None
    if life.killed:
        await life.instance.wind_down(Killed())


def report(life: Life) -> None:
    """Call this as the very last step of an incarnation: the cell and its owner are told."""
    cell, outcome = life.cell, life.outcome
    if outcome is not None:
        life.release(Killed())
        life.instance = None
        cell.life_started(outcome)
        return
    assert life.exit is not None
    life.release(life.exit)
    if isinstance(life.exit, Crashed):
        cell.system.reports.crashed(life, life.exit)
    life.instance = None
    cell.life_exited(life.exit)
