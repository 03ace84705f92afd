"""How an incarnation is driven from `__init__` to its exit, with a task of its own or without.

A class with an `async def` handler or hook gets one task per incarnation; every other class runs
on the dispatcher. The steps are the same, in the same order:

    birth -> on_start (`starting.py`) -> messages (`loop.py`) -> on_stop, sub-tasks (`ending.py`)

Rule 1: the task of an incarnation never raises what an actor did; it ends, and the owner is told.
"""

from __future__ import annotations

import math
from types import CoroutineType
from typing import TYPE_CHECKING

import trio

from actors.runtime import loop
from actors.runtime.context import current_activity
from actors.runtime.ending import end_dispatched, report, wind_up
from actors.runtime.envelope import NO_DEADLINE
from actors.runtime.settling import State, finish, is_wanted, raised, returned
from actors.runtime.starting import birth, start_is_over, start_task
from actors.runtime.words.exits import Normal

if TYPE_CHECKING:
    from actors.runtime.cell import Cell
    from actors.runtime.envelope import Envelope
    from actors.runtime.handlers import Handler
    from actors.runtime.life import Life


def turn(cell: Cell) -> bool:
    """Call this from the dispatcher; True when the actor wants another turn."""
    life = cell.life
    if life is None:
        return False
    mailbox = cell.mailbox
    if len(mailbox.inbox) == 1 and not mailbox.attention and mailbox.index >= len(mailbox.batch):
        # One message for an actor that was idle: the commonest turn of all, and every turn of a
        # broadcast. The general way took 2 us for it, of which 1.3 us were calls and batches.
        envelope = mailbox.inbox[0]
        handler = life.handlers.get(type(envelope[0]))
        if (
            handler is not None
            and cell.meter is None
            and life.phase == "running"
            and not life.table.is_task
        ):
            return _single(life, handler)
    if life.phase == "new":
        birth(life, run_task)
        return _is_dispatched(life)
    if life.asleep:
        life.asleep = False
        cell.owner.nursery.start_soon(_awake, life, name=cell.path)
        return False
    if not _is_dispatched(life):
        return False
    life.new_turn()
    return _messages(life)


def _messages(life: Life) -> bool:
    state = loop.run(life)
    life.activity.cell = None
    if state == "idle":
        life.park()
    elif state == "ended":
        end_dispatched(life)
    return state == "more"


def _single(life: Life, handler: Handler) -> bool:
    """`loop.run` for the one message that waits, without a batch; the clock is not needed."""
    cell, activity = life.cell, life.activity
    mailbox, counts = cell.mailbox, cell.counts
    # Taken out before it is handled, as `index` would stand behind it.
    envelope = mailbox.inbox.pop()
    mailbox.peak = mailbox.peak or 1
    counts.reductions += 1
    message, _, reply, deadline, _, _ = envelope
    if (reply is None and deadline is NO_DEADLINE) or is_wanted(life, envelope):
        counts.handled += 1
        activity.cell, activity.envelope, activity.out = cell, envelope, None
        state: State | None = None
        try:
            result = handler(life.instance, message)
        except Exception as error:  # noqa: BLE001 - whatever a handler raises is its crash
            state = raised(life, error)
        except BaseExceptionGroup as error:
            state = raised(life, error)
        else:
            if result is not None or reply is not None:
                state = returned(life, envelope, result)
        if state is not None:
            activity.cell = None
            if state == "ended":
                end_dispatched(life)
            return state == "more"
        activity.envelope = activity.out = None
    if mailbox.inbox or mailbox.attention:
        life.new_turn()
        life.left -= 1
        return _messages(life)
    activity.cell = None
    if life.idle_timer is None:
        mailbox.idle, mailbox.system_idle = not life.suspended, True
    else:
        life.park()
    return False


def _is_dispatched(life: Life) -> bool:
    return life.phase == "running" and not life.table.is_task


async def run_task(life: Life) -> None:
    """Call this as the task of an incarnation; it returns when the incarnation is over."""
    life.activity = life.new_activity()
    current_activity.set(life.activity)
    assert life.instance is not None
    if life.instance.opens_nursery:
        async with trio.open_nursery() as life.nursery:
            await _live(life)
            await wind_up(life)
        report(life)
    else:
        # `_live` written out: one coroutine less in the memory of every idle actor.
        with trio.CancelScope() as life.scope:
            if life.killed:
                life.scope.cancel()
            await start_task(life)
            if life.phase == "running":
                await _serve(life)
        _note_end_of_scope(life)
        await _finish_unless_asleep(life)


async def _awake(life: Life) -> None:
    """The task of an incarnation that had given its task back."""
    life.activity.task = trio.lowlevel.current_task()
    current_activity.set(life.activity)
    with trio.CancelScope() as life.scope:
        await _serve(life)
    _note_interruption(life)
    await _finish_unless_asleep(life)


async def _finish_unless_asleep(life: Life) -> None:
    if not life.asleep:
        await wind_up(life)
        report(life)


async def _live(life: Life) -> None:
    with trio.CancelScope() as life.scope:
        if life.killed:
            life.scope.cancel()
        await start_task(life)
        if life.phase == "running":
            await _serve(life)
    _note_end_of_scope(life)


def _note_end_of_scope(life: Life) -> None:
    if life.phase == "starting":
        life.scope = None
        start_is_over(life, None)
    else:
        _note_interruption(life)


def _note_interruption(life: Life) -> None:
    assert life.scope is not None
    if life.scope.cancelled_caught and life.phase == "running":
        life.end_with(life.wanted or Normal())
    life.scope = None


async def _serve(life: Life) -> None:
    """Handle messages until the incarnation ends or gives its task back."""
    dispatcher = life.cell.system.dispatcher
    life.new_turn()
    while True:
        dispatcher.last = life.cell
        state = loop.run(life)
        if state == "await":
            after = await _await_handler(life)
            if after is None:
                continue
            state = after
        if state == "ended":
            return
        if state == "more":
            await dispatcher.let_others_run(life.cell)
        elif life.may_sleep():
            life.fall_asleep()
            return
        else:
            # Not in a function of its own: its coroutine would be memory of every idle actor.
            life.park()
            life.task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(life.unpark)
            dispatcher.tasks_waiting -= 1
        life.new_turn()


async def _await_handler(life: Life) -> State | None:
    envelope = life.activity.envelope
    assert envelope is not None
    coroutine, life.pending = life.pending, None
    assert isinstance(coroutine, CoroutineType)
    life.since = trio.current_time()
    try:
        if type(envelope[0]) in life.table.cancel_late and envelope[3] < math.inf:
            result = await _until_deadline(life, envelope, coroutine)
        else:
            result = await coroutine
    except Exception as error:  # noqa: BLE001 - whatever a handler raises is its crash
        return raised(life, error)
    except BaseExceptionGroup as error:
        return raised(life, error)
    life.since = None
    loop.measured(life, envelope)
    return finish(life, envelope, result)


async def _until_deadline(
    life: Life, envelope: Envelope, coroutine: CoroutineType[object, object, object]
) -> object:
    """Cut a handler marked `cancel_late` short at its message's deadline; no crash, but counted."""
    with trio.CancelScope(deadline=envelope[3]) as scope:
        return await coroutine
    assert scope.cancelled_caught
    life.cell.counts.expired += 1
    if envelope[2] is not None:
        envelope[2].expire(trio.current_time())
    return None
