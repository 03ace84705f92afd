"""How an incarnation is driven from `__init__` to its exit, with a task of its own or without.

A class with an `async def` handler or hook gets one task per incarnation; every other class runs
on the dispatcher. The steps are the same, in the same order:

    birth -> on_start -> messages -> on_stop -> sub-tasks over -> owner is told

Rule 1: the task of an incarnation never raises what an actor did; it ends, and the owner is told.
"""

from __future__ import annotations

import math
from types import CoroutineType
from typing import TYPE_CHECKING

import trio

from actors.runtime import loop
from actors.runtime.actor import Actor
from actors.runtime.cell import Failed, Ignored, Ready, StartOutcome
from actors.runtime.context import Activity, current_activity
from actors.runtime.errors import ActorExited, BadReturn, StartTimeout
from actors.runtime.exits import Crashed, Killed, Normal
from actors.runtime.messages import IGNORE, Started

if TYPE_CHECKING:
    from actors.runtime.cell import Cell
    from actors.runtime.life import Life


def turn(cell: Cell) -> bool:
    """Call this from the dispatcher; True when the actor wants another turn."""
    life = cell.life
    if life is None:
        return False
    if life.phase == "new":
        birth(life)
        return is_dispatched(life)
    if life.phase != "running":
        return False
    life.left = cell.budget[0]
    state = loop.run(life)
    life.activity.cell = None
    if state == "idle":
        park(life)
    elif state == "ended":
        _end_dispatched(life)
    return state == "more"


def is_dispatched(life: Life) -> bool:
    """Call this to know whether the dispatcher gives it turns."""
    return life.phase == "running" and not life.table.is_task


def park(life: Life) -> None:
    """Call this when there is nothing to do: the next put, or system entry, wakes the actor."""
    mailbox = life.cell.mailbox
    mailbox.idle = not life.suspended
    mailbox.system_idle = True


def birth(life: Life) -> None:
    """Call this to make the instance, and to start it or its task."""
    cell = life.cell
    if trio.current_effective_deadline() == -math.inf:
        return  # Cancelled from outside: nothing starts any more.
    if life.killed:
        _start_failed(life, Failed(_killed(life)))
        return
    try:
        instance = cell.start()
        if not isinstance(instance, Actor):
            raise BadReturn(instance)
    except Exception as error:  # noqa: BLE001 - whatever `__init__` raises fails the start
        _start_failed(life, Failed(error))
        return
    life.adopt(instance)
    if life.table.is_task:
        cell.owner.nursery.start_soon(run_task, life, name=cell.path)
    else:
        _start_dispatched(life)


def _start_dispatched(life: Life) -> None:
    assert life.instance is not None
    life.activity.cell = life.cell
    try:
        result = life.instance.on_start()
        if type(result) is CoroutineType:
            result.close()
    except Exception as error:  # noqa: BLE001 - whatever `on_start` raises fails the start
        outcome: StartOutcome = Failed(error)
    except BaseExceptionGroup as error:
        outcome = Failed(life.crash_from(error).error)
    else:
        outcome = _outcome(result)
    life.activity.cell = life.activity.out = None
    _started(life, outcome)
    if life.phase == "ending":
        _end_dispatched(life)


def _outcome(result: object) -> StartOutcome:
    if result is None:
        return Ready()
    if result is IGNORE:
        return Ignored()
    if isinstance(result, Started):
        return Ready(result.info)
    return Failed(BadReturn(result))


def _started(life: Life, outcome: StartOutcome) -> None:
    if life.killed:
        outcome = Failed(_killed(life))
    elif isinstance(outcome, Ready) and isinstance(life.wanted, Crashed):
        outcome = Failed(life.wanted.error)
    if isinstance(outcome, Ready):
        life.phase = "running"
        life.cell.mailbox.attention = True
        life.cell.life_started(outcome)
        return
    life.phase = "ending"
    life.outcome = outcome


def _start_failed(life: Life, outcome: Failed) -> None:
    life.phase, life.outcome = "ending", outcome
    _report(life)


def _killed(life: Life) -> BaseException:
    return ActorExited(life.cell.path, Killed(because="killed while starting"))


def _end_dispatched(life: Life) -> None:
    if life.helpers is not None:
        life.cell.owner.nursery.start_soon(_wind_up, life, name=f"{life.cell.path} (ending)")
        return
    if life.outcome is None and not life.killed:
        assert life.exit is not None
        assert life.instance is not None
        life.activity.cell = life.cell
        try:
            result = life.instance.on_stop(life.exit)
            if type(result) is CoroutineType:
                result.close()
        except Exception as error:  # noqa: BLE001 - whatever `on_stop` raises is the exit
            life.stop_raised(error)
        except BaseExceptionGroup as error:
            life.stop_raised(error)
        life.activity.cell = life.activity.out = None
    _report(life)


async def run_task(life: Life) -> None:
    """Call this as the task of an incarnation; it returns when the incarnation is over."""
    task = trio.lowlevel.current_task()
    life.activity = Activity(life.cell, task)
    current_activity.set(life.activity)
    assert life.instance is not None
    if life.instance.opens_nursery:
        async with trio.open_nursery() as life.nursery:
            await _live(life)
            await _end_task(life)
    else:
        await _live(life)
        if life.asleep:
            return
        await _end_task(life)
    _report(life)


async def _live(life: Life) -> None:
    with trio.CancelScope() as life.scope:
        if life.killed:
            life.scope.cancel()
        await _start_task(life)
        if life.phase == "running":
            await serve(life)
    interrupted = life.scope.cancelled_caught
    life.scope = None
    if life.phase == "starting":
        error = life.wanted.error if isinstance(life.wanted, Crashed) else _killed(life)
        if life.timed_out:
            error = StartTimeout(life.cell.path, life.cell.start_timeout)
        _started(life, Failed(error))
    elif interrupted and life.phase == "running":
        life.end_with(life.wanted or Normal())


async def _start_task(life: Life) -> None:
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
        outcome = Failed(life.crash_from(error).error)
    else:
        outcome = _outcome(result)
    finally:
        if alarm is not None:
            alarm.cancel()
    life.activity.out = None
    if life.timed_out:
        outcome = Failed(StartTimeout(life.cell.path, life.cell.start_timeout))
    _started(life, outcome)


async def serve(life: Life) -> None:
    """Call this to handle messages until the incarnation ends or gives its task back."""
    fair = life.cell.system.dispatcher
    life.left = life.cell.budget[0]
    while True:
        fair.last = life.cell
        state = loop.run(life)
        if state == "await":
            after = await _finish_async(life)
            if after is None:
                continue
            state = after
        if state == "ended":
            return
        if state == "more":
            await fair.let_others_run(life.cell)
            life.left = life.cell.budget[0]
            continue
        if life.asleep:
            return
        park(life)
        life.task = trio.lowlevel.current_task()
        try:
            await trio.lowlevel.wait_task_rescheduled(_abort)
        finally:
            life.task = None
            life.cell.mailbox.idle = life.cell.mailbox.system_idle = False
        life.left = life.cell.budget[0]


def _abort(_: object) -> trio.lowlevel.Abort:
    return trio.lowlevel.Abort.SUCCEEDED


async def _finish_async(life: Life) -> loop.State | None:
    envelope = life.activity.envelope
    assert envelope is not None
    coroutine, life.pending = life.pending, None
    assert isinstance(coroutine, CoroutineType)
    try:
        result: object = await coroutine
    except Exception as error:  # noqa: BLE001 - whatever a handler raises is its crash
        return loop.raised(life, error)
    except BaseExceptionGroup as error:
        return loop.raised(life, error)
    return loop.finish(life, envelope, result)


async def _end_task(life: Life) -> None:
    await _wind_up(life, report=False)


async def _wind_up(life: Life, *, report: bool = True) -> None:
    """Run `on_stop`, let the sub-tasks end; in which order depends on the exit."""
    helpers = life.helpers
    if helpers is not None and (life.outcome is not None or not _is_clean(life)):
        await helpers.close()
    if life.outcome is None and not life.killed:
        await _call_on_stop(life)
    await _wind_down(life)
    if life.helpers is not None:
        await life.helpers.close()
    if report:
        _report(life)


def _is_clean(life: Life) -> bool:
    return life.exit is not None and life.exit.clean


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
    if life.instance is None or not life.instance.opens_nursery:
        return
    exit_ = life.exit or Killed(because="its start failed")
    if not life.killed:
        with trio.CancelScope() as life.scope:
            await life.instance.wind_down(exit_)
        life.scope = None
    if life.killed:
        await life.instance.wind_down(Killed())


def _report(life: Life) -> None:
    """Tell the cell, as the very last step of an incarnation."""
    cell, outcome = life.cell, life.outcome
    life.exit = life.exit or Killed()
    life.release()
    if outcome is not None:
        cell.life_started(outcome)
    else:
        if isinstance(life.exit, Crashed):
            cell.system.reports.crashed(life, life.exit)
        cell.life_exited(life.exit)
