"""From `begin_incarnation` to `on_start` being over: the instance is made, its kind is known.

Both kinds come through `birth`, in the dispatcher's task; `ending.py` undoes a start that failed.
"""

from __future__ import annotations

import math
from types import CoroutineType
from typing import TYPE_CHECKING

import trio

from actors.runtime.actor import Actor
from actors.runtime.ending import end_dispatched, report
from actors.runtime.words.errors import ActorExited, BadReturn, StartTimeout
from actors.runtime.words.exits import (
    Crashed,
    Failed,
    Ignored,
    Killed,
    Ready,
    StartOutcome,
    crash_from,
)
from actors.runtime.words.messages import IGNORE, Started

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from actors.runtime.life import Life


def birth(life: Life, run_task: Callable[[Life], Awaitable[None]]) -> None:
    """Call this to make the instance, and to start it or its task."""
    if trio.current_effective_deadline() == -math.inf:
        return  # Cancelled from outside: nothing starts any more.
    if life.killed:
        _fail(life, killed_while_starting(life))
        return
    if isinstance(life.wanted, Crashed):
        _fail(life, life.wanted.error)
        return
    try:
        instance = life.cell.start()
        if not isinstance(instance, Actor):
            raise BadReturn(instance, "start")
    except Exception as error:  # noqa: BLE001 - whatever `__init__` raises fails the start
        _fail(life, error)
        return
    life.adopt(instance)
    if life.table.is_task:
        life.cell.owner.nursery.start_soon(run_task, life, name=life.cell.path)
    else:
        _start_dispatched(life)


def _fail(life: Life, error: BaseException) -> None:
    life.phase, life.outcome = "ending", Failed(error)
    report(life)


def _start_dispatched(life: Life) -> None:
    assert life.instance is not None
    life.activity.cell = life.cell
    try:
        result = life.instance.on_start()
    except Exception as error:  # noqa: BLE001 - whatever `on_start` raises fails the start
        outcome: StartOutcome = Failed(error)
    except BaseExceptionGroup as error:
        outcome = Failed(crash_from(error).error)
    else:
        outcome = _outcome(result)
    life.activity.cell = life.activity.out = None
    start_is_over(life, outcome)
    if life.phase == "ending":
        end_dispatched(life)


async def start_task(life: Life) -> None:
    """Call this in the task of an incarnation, within its scope, to run `on_start`."""
    assert life.instance is not None
    alarm = None
    if life.cell.start_timeout < math.inf:
        alarm = life.cell.system.wheel.call_after(life.cell.start_timeout, life.start_is_late)
    try:
        result = life.instance.on_start()
        if type(result) is CoroutineType:
            result = await result
    except Exception as error:  # noqa: BLE001 - whatever `on_start` raises fails the start
        outcome: StartOutcome = Failed(error)
    except BaseExceptionGroup as error:
        outcome = Failed(crash_from(error).error)
    else:
        outcome = _outcome(result)
    finally:
        if alarm is not None:
            alarm.cancel()
    life.activity.out = None
    start_is_over(life, outcome)


def _outcome(result: object) -> StartOutcome:
    if result is None:
        return Ready()
    if result is IGNORE:
        return Ignored()
    if isinstance(result, Started):
        return Ready(result.info)
    if type(result) is CoroutineType:
        result.close()
    return Failed(BadReturn(result))


def start_is_over(life: Life, outcome: StartOutcome | None) -> None:
    """Call this with what `on_start` came to; None when it was cancelled by the runtime.

    A hook that came to its end has started the incarnation, whatever was wished meanwhile: it
    ends at once then, but with its `on_stop`.
    """
    if life.timed_out:
        outcome = Failed(StartTimeout(life.cell.path, life.cell.start_timeout))
    elif outcome is None and isinstance(life.wanted, Crashed):
        outcome = Failed(life.wanted.error)
    elif outcome is None:
        outcome = Failed(killed_while_starting(life))
    if isinstance(outcome, Ready):
        life.phase = "running"
        life.cell.mailbox.attention = True
        life.cell.life_started(outcome)
        return
    life.phase = "ending"
    life.outcome = outcome


def killed_while_starting(life: Life) -> ActorExited:
    """Call this for the error of a start that was ended by force."""
    return ActorExited(life.cell.path, Killed(because="killed while starting"))
