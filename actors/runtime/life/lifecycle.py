"""How an incarnation is driven from its `__init__` to its exit, with a task of its own or without.

A class with an `async def` handler or hook gets one task per incarnation; every other class runs
on the dispatcher, one turn after another. The steps are the same, in the same order:

    birth -> on_start -> messages (`loop.py`) -> on_stop, children, child tasks -> report

Read `turn` for the dispatched kind and `run_task` for the task kind; both begin at `_birth`, in
the dispatcher's task, for only the instance tells which kind it is.

Rule 1: the task of an incarnation never raises what an actor did; it ends, and the owner is told.
Rule 2: after a crash or kill child tasks are cancelled first; at a stop they outlive `on_stop`.
Rule 3: `_report` is the very last step; nothing of the incarnation runs after it.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from functools import partial
from types import CoroutineType

import trio

from actors.runtime.delivery.envelope import (
    DEADLINE,
    MESSAGE,
    NO_DEADLINE,
    REPLY,
    Envelope,
)
from actors.runtime.delivery.mailbox import AWAITS_TURN, AWAKE
from actors.runtime.life import loop
from actors.runtime.life.cell import Cell, Life
from actors.runtime.life.handlers import Handler
from actors.runtime.life.hooks import AnyHooks, Hooks, taken_name
from actors.runtime.life.letting_go import free
from actors.runtime.life.resting import stays_awake
from actors.runtime.words.errors import ActorExited, BadReturn, StartTimeout, cause_of
from actors.runtime.words.exits import (
    Crashed,
    Failed,
    Ignored,
    Killed,
    Normal,
    Ready,
    StartOutcome,
    without_cancelled,
)
from actors.runtime.words.messages import IGNORE, Started

# On the dispatcher


def turn(cell: Cell) -> bool:
    """Called by the dispatcher; True when the actor wants another turn."""
    life = cell.life
    if life is None:
        return False  # It ended while it waited for this turn.
    mailbox = cell.mailbox
    if len(mailbox.inbox) == 1 and not mailbox.attention and mailbox.index >= len(mailbox.batch):
        # One message for an actor that was idle: the commonest turn of all, and every turn of a
        # broadcast. The general way took 2 us for it, of which 1.3 us were calls and batches.
        try:
            handler = life.handlers.get(type(mailbox.inbox[0][MESSAGE]))
        except BaseException as error:  # noqa: BLE001 - its metaclass cannot be hashed
            handler = loop.unknown(error)
        if (
            handler is not None
            and cell.meter is None
            and (cell.spans is None or not loop.is_traced(mailbox.inbox[0]))
            and life.phase == "running"
            and not life.has_task
        ):
            return _single(life, handler)
    if life.phase == "new":
        _birth(life)
        return _is_dispatched(life)
    if life.hibernating:
        life.hibernating = False
        # In its context, as everything here: what it has set before it hibernated is still set.
        _start_task(life, _run_woken, name=cell.path)
        return False
    if not _is_dispatched(life):
        return False  # It has got a task meanwhile, or is on its way to its end.
    life.new_turn()
    return _messages(life)


def _messages(life: Life) -> bool:
    state = loop.run(life)
    life.activity.cell = None
    if state == "idle":
        life.park()
    elif state == "ended":
        _end_dispatched(life)
    return state == "more"


def _single(life: Life, handler: Handler) -> bool:
    """`loop.run` for the one message that waits, without a batch; the clock is not needed.

    The fourth of the four roads that `loop.py` tells of; what changes there changes here.
    """
    cell, activity = life.cell, life.activity
    mailbox, counts = cell.mailbox, cell.counts
    # Taken out before it is handled, as `index` would stand behind it.
    envelope = mailbox.inbox.pop()
    mailbox.peak = mailbox.peak or 1
    counts.reductions += 1
    message, _, reply, deadline, _, _ = envelope
    if (reply is None and deadline is NO_DEADLINE) or loop.is_wanted(life, envelope):
        counts.handled += 1
        activity.cell, activity.envelope, activity.out = cell, envelope, None
        state: loop.State | None = None
        try:
            result = handler(life.instance, message)
        except BaseException as error:  # noqa: BLE001 - whatever a handler raises is its crash
            state = loop.raised(life, error)
        else:
            if result is not None or reply is not None:
                state = loop.returned(life, envelope, result)
        if state is not None:
            activity.cell = None
            if state == "ended":
                _end_dispatched(life)
            return state == "more"
        activity.envelope = activity.out = None
    if mailbox.inbox or mailbox.attention:
        life.new_turn()
        life.turn_left -= 1
        return _messages(life)
    activity.cell = None
    if life.idle_timer is None:
        # `Life.park` written out; a dispatched actor has no nap.
        mailbox.idle, mailbox.system_idle = AWAKE if life.suspended else AWAITS_TURN, True
    else:
        life.park()
    return False


def _is_dispatched(life: Life) -> bool:
    return life.phase == "running" and not life.has_task


# In a task of its own


async def run_task(life: Life) -> None:
    """The task of an incarnation; it returns when the incarnation is over, or hibernates."""
    life.enter_task()
    if type(_instance(life)).opens_nursery:
        # The nursery of a supervisor's children: open until the last of them is gone.
        async with trio.open_nursery() as life.nursery:
            await _live(life)
            await _wind_up(life)
        _report(life)
    else:
        # `_live` written out: one coroutine less in the memory of every idle actor.
        with trio.CancelScope() as life.scope:
            if life.killed:
                life.scope.cancel()
            await _start_in_task(life)
            if life.phase == "running":
                await _serve(life)
        _note_end_of_scope(life)
        await _finish_unless_hibernating(life)


async def _run_woken(life: Life) -> None:
    """The task of an incarnation that had given its task back."""
    life.enter_task()
    stays_awake(life)
    with trio.CancelScope() as life.scope:
        await _serve(life)
    _note_interruption(life)
    await _finish_unless_hibernating(life)


async def _finish_unless_hibernating(life: Life) -> None:
    if not life.hibernating:
        await _wind_up(life)
        _report(life)


async def _live(life: Life) -> None:
    with trio.CancelScope() as life.scope:
        # Killed between its birth and the first step of this task: there was no scope to cancel.
        if life.killed:
            life.scope.cancel()
        await _start_in_task(life)
        if life.phase == "running":
            await _serve(life)
    _note_end_of_scope(life)


def _note_end_of_scope(life: Life) -> None:
    if life.phase == "starting":
        life.scope = None
        _start_is_over(life, None)
    else:
        _note_interruption(life)


def _note_interruption(life: Life) -> None:
    """What was cut short by us is over; a cancellation from outside passes through the scope."""
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
                continue  # The same turn goes on: waiting has let others run.
            state = after
        if state == "ended":
            return
        if state == "more":
            await dispatcher.let_others_run(life.cell)
        elif life.may_hibernate():
            life.hibernate()
            return
        else:
            # Not in a function of its own: its coroutine would be memory of every idle actor.
            life.park()
            life.parked_task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(life.unpark)
            dispatcher.tasks_waiting -= 1
        life.new_turn()


async def _await_handler(life: Life) -> loop.State | None:
    envelope = life.activity.envelope
    assert envelope is not None
    coroutine, life.coroutine = life.coroutine, None
    assert isinstance(coroutine, CoroutineType)
    life.awaiting_since = trio.current_time()
    try:
        if life.table.is_cut_late(type(envelope[MESSAGE])) and envelope[DEADLINE] < math.inf:
            result = await _until_deadline(life, envelope, coroutine)
        else:
            result = await coroutine
    except BaseException as error:  # noqa: BLE001 - whatever a handler raises is its crash
        state: loop.State | None = loop.raised(life, error, life.activity.task)
    else:
        life.awaiting_since = None
        loop.measured(life, envelope)
        state = loop.finish(life, envelope, result)
    if life.span_began is not None:
        loop.tell_handled(life, envelope)
    return state


async def _until_deadline(
    life: Life, envelope: Envelope, coroutine: CoroutineType[object, object, object]
) -> object:
    """Cut a handler marked `cancel_late` short at its message's deadline; no crash, but counted."""
    with trio.CancelScope(deadline=envelope[DEADLINE]) as scope:
        return await coroutine
    assert scope.cancelled_caught
    life.cell.counts.expired += 1
    reply = envelope[REPLY]
    if reply is not None:
        # The wheel may be late by up to a grain: the asker hears of it here and now.
        reply.expire(trio.current_time())
    return None


# The start


def _birth(life: Life) -> None:
    """Make the instance, and start it or its task."""
    if trio.current_effective_deadline() == -math.inf:
        return  # Cancelled from outside: nothing starts any more.
    if life.killed:
        _fail_to_start(life, _killed_while_starting(life))
        return
    if isinstance(life.wanted, Crashed):
        # A link broke, or the mailbox overflowed, before it came to its first turn.
        _fail_to_start(life, life.wanted.error)
        return
    try:
        instance = life.cell.start()
        if not isinstance(instance, Hooks):
            raise BadReturn(instance, "start")
        if (taken := taken_name(instance)) is not None:
            raise taken
        life.adopt(instance)
        if life.has_task:
            stays_awake(life)
    except BaseException as error:  # noqa: BLE001 - whatever `__init__` raises fails the start
        _fail_to_start(life, cause_of(without_cancelled(error)))
        return
    if life.has_task:
        _start_task(life, run_task, name=life.cell.path)
    else:
        _start_dispatched(life)


def _start_task(life: Life, task: Callable[[Life], Awaitable[object]], *, name: str) -> None:
    """Start a task of an actor beside those of its owner's others."""
    nursery = life.cell.owner.nursery
    try:
        nursery.start_soon(task, life, name=name)
    except RuntimeError:
        # Closed. Where the owner was cancelled from outside, as Ctrl-C does, or has raised, nothing
        # starts any more: whoever waits is told by `System.close`.
        if not nursery.cancel_scope.cancel_called:
            raise


def _fail_to_start(life: Life, error: BaseException) -> None:
    life.phase, life.failed_start = "ending", Failed(error)
    _report(life)


def _start_dispatched(life: Life) -> None:
    assert life.instance is not None
    life.activity.cell = life.cell
    try:
        result = life.instance.on_start()
    except BaseException as error:  # noqa: BLE001 - whatever `on_start` raises fails the start
        outcome: StartOutcome = Failed(cause_of(without_cancelled(error)))
    else:
        outcome = _outcome(result)
    life.activity.cell = life.activity.out = None
    _start_is_over(life, outcome)
    if life.phase == "ending":
        _end_dispatched(life)


async def _start_in_task(life: Life) -> None:
    assert life.instance is not None
    alarm, limit = None, _start_limit(life)
    if limit < math.inf:
        alarm = life.cell.system.wheel.call_after(limit, life.start_is_late)
    try:
        result = life.instance.on_start()
        if type(result) is CoroutineType:
            result = await result
    except BaseException as error:  # noqa: BLE001 - whatever `on_start` raises fails the start
        outcome: StartOutcome = Failed(cause_of(without_cancelled(error, life.activity.task)))
    else:
        outcome = _outcome(result)
    finally:
        if alarm is not None:
            alarm.cancel()
    life.activity.out = None
    _start_is_over(life, outcome)


def _start_limit(life: Life) -> float:
    """What the owner has said, or else the class of the instance, whatever has made that."""
    given = life.cell.start_timeout
    return type(_instance(life)).start_timeout if given is None else given


def _instance(life: Life) -> AnyHooks:
    assert life.instance is not None
    return life.instance


def _outcome(result: object) -> StartOutcome:
    if result is None:
        return Ready()
    if result is IGNORE:
        return Ignored()
    if type(result) is Started:
        return Ready(result.info)
    if type(result) is CoroutineType:
        result.close()
    return Failed(BadReturn(result))


def _start_is_over(life: Life, outcome: StartOutcome | None) -> None:
    """Note what `on_start` came to; None when it was cancelled by the runtime.

    A hook that came to its end has started the incarnation, whatever was wished meanwhile: it
    ends at once then, but with its `on_stop`.
    """
    if life.late_start is not None:
        late = StartTimeout(life.cell.path, _start_limit(life), life.late_start or None)
        outcome = Failed(late)
    elif outcome is None and isinstance(life.wanted, Crashed):
        outcome = Failed(life.wanted.error)
    elif outcome is None:
        outcome = Failed(_killed_while_starting(life))
    elif isinstance(outcome, Ready) and (taken := taken_name(_instance(life))) is not None:
        outcome = Failed(taken)
    if isinstance(outcome, Ready):
        life.table.names_are_free = True
        life.phase = "running"
        # Wishes, system entries and senders may be waiting: the loop looks up first.
        life.cell.mailbox.attention = True
        life.cell.life_started(outcome)
        return
    life.phase = "ending"
    life.failed_start = outcome


def _killed_while_starting(life: Life) -> ActorExited:
    return ActorExited(life.cell.path, Killed(because="killed while starting"))


# The end


def _end_dispatched(life: Life) -> None:
    """From the exit of a dispatched incarnation, or its failed start, to its report."""
    if life.child_tasks is not None:
        _end_in_task(life, _wind_up)
        return
    if life.failed_start is None and not life.killed:
        assert life.instance is not None
        assert life.exit is not None
        life.activity.cell = life.cell
        try:
            result = life.instance.on_stop(life.exit)
            if type(result) is CoroutineType:
                result.close()
                life.stop_raised(BadReturn(result, "on_stop"))
        except BaseException as error:  # noqa: BLE001 - whatever `on_stop` raises is the exit
            life.stop_raised(without_cancelled(error))
        life.activity.cell = life.activity.out = None
        if _has_child_tasks(life):  # `on_stop` has started one.
            life.cell.limit_stop(life.cell.shutdown)
            _end_in_task(life, _end_child_tasks)
            return
    _report(life)


def _has_child_tasks(life: Life) -> bool:
    # A function of its own: a checker believes that it cannot have changed since it was None.
    return life.child_tasks is not None


def _end_in_task(life: Life, rest: Callable[[Life], Awaitable[None]]) -> None:
    # Waiting for child tasks needs a task, for the first time in this incarnation's life.
    _start_task(life, partial(_finish_in_task, rest=rest), name=f"{life.cell.path} (ending)")


async def _finish_in_task(life: Life, rest: Callable[[Life], Awaitable[None]]) -> None:
    life.enter_task()
    await rest(life)
    _report(life)


async def _wind_up(life: Life) -> None:
    """Run the hooks of the end, and wait for everything the incarnation has started."""
    clean = life.failed_start is None and life.exit is not None and life.exit.clean
    if not clean:
        await _end_child_tasks(life)
    if life.failed_start is None and not life.killed:
        await _call_on_stop(life)
    if life.instance is not None and type(life.instance).opens_nursery:
        await _wind_down(life)
    # Also after a kill: `on_stop` may have started one.
    await _end_child_tasks(life)


async def _end_child_tasks(life: Life) -> None:
    if life.child_tasks is not None:
        await life.child_tasks.close()


async def _call_on_stop(life: Life) -> None:
    assert life.instance is not None
    assert life.exit is not None
    # A scope of its own, for a kill that comes now: that of the messages is gone.
    with trio.CancelScope() as life.scope:
        try:
            result = life.instance.on_stop(life.exit)
            if type(result) is CoroutineType:
                await result
        except BaseException as error:  # noqa: BLE001 - whatever `on_stop` raises is the exit
            life.stop_raised(without_cancelled(error, life.activity.task))
    life.scope = None


async def _wind_down(life: Life) -> None:
    """End the children. A kill cuts the gentle way short; they are killed then, in a second one."""
    assert life.instance is not None
    if not life.killed:
        with trio.CancelScope() as life.scope:
            await life.instance.wind_down(life.exit or Killed(because="its start failed"))
        life.scope = None
    if life.killed:
        await life.instance.wind_down(Killed())


def _report(life: Life) -> None:
    """The very last step of an incarnation: the cell and its owner are told."""
    cell, failed = life.cell, life.failed_start
    if failed is not None:
        life.release(Killed())
        life.leave_task()
        life.instance = None
        cell.life_started(failed)
        return
    assert life.exit is not None
    life.release(life.exit)
    if isinstance(life.exit, Crashed):
        cell.system.reports.crashed(life, life.exit)
    life.leave_task()
    instance, life.instance = life.instance, None
    free(instance, cell.system.dispatcher)
    instance = None
    cell.life_exited(life.exit)
