"""The message loop, the same for dispatched and task actors.

`run` handles messages until the turn is over; it never awaits. A coroutine made by an `async def`
handler is left in `life.pending` for the task to await. Profile before changing `_run_batch`:
it is the road of every message.

Rule 1: between two messages only `mailbox.attention` is looked at.
Rule 2: user code is called under a `try` of its own, so a bug of the runtime is never a crash.
"""

from __future__ import annotations

import inspect
from types import CoroutineType
from typing import TYPE_CHECKING, Final, Literal

import trio

from actors.runtime.envelope import NO_DEADLINE, Envelope
from actors.runtime.errors import BadReply, StopActor, UnhandledMessage
from actors.runtime.exits import Crashed, Exit
from actors.runtime.later import Later
from actors.runtime.mailbox import Notice

if TYPE_CHECKING:
    from actors.runtime.life import Life

# MORE: the budget is used up. IDLE: nothing to do. AWAIT: `life.pending` waits for the task.
# ENDED: `life.exit` is set.
State = Literal["more", "idle", "await", "ended"]

# A flood of ticks must not starve users: after so many system entries in a row one message goes.
SYSTEM_STREAK_MAX: Final = 64


def run(life: Life) -> State:
    """Call this to handle messages until something else has to happen first."""
    mailbox = life.cell.mailbox
    life.activity.cell = life.cell
    while life.left > 0:
        if mailbox.attention:
            envelope = _attend(life)
            if envelope is None:
                return "idle" if life.exit is None else "ended"
            life.left -= 1
            state = _run_one(life, envelope)
        elif mailbox.index < len(mailbox.batch) or mailbox.take():
            state = _run_batch(life)
        else:
            return "idle"
        if state is not None:
            return state
    return "more"


def _run_batch(life: Life) -> State | None:
    mailbox, activity = life.cell.mailbox, life.activity
    instance, handlers = life.instance, life.handlers
    before = index = mailbox.index
    state: State | None = None
    for envelope in mailbox.batch[index : index + life.left]:
        if mailbox.attention:
            break
        index += 1
        mailbox.index = index
        message, _, reply, deadline, _, _ = envelope
        if deadline is not NO_DEADLINE or reply is not None:
            if not _is_wanted(life, envelope):
                continue
        activity.envelope = envelope
        activity.out = None
        handler = handlers.get(type(message))
        if handler is None:
            state = _run_one(life, envelope)
        else:
            try:
                result = handler(instance, message)
            except Exception as error:  # noqa: BLE001 - whatever a handler raises is its crash
                state = raised(life, error)
            except BaseExceptionGroup as error:
                state = raised(life, error)
            else:
                if result is None and reply is None:
                    continue
                state = _returned(life, envelope, result)
        if state is not None:
            break
    handled = index - before
    life.left -= handled
    counts = life.cell.counts
    counts.handled += handled
    counts.reductions += handled
    if state is None:
        activity.envelope = activity.out = None
    return state


def _run_one(life: Life, envelope: Envelope) -> State | None:
    """Handle one envelope with all care: from the system lane, or of a class not seen yet."""
    message = envelope[0]
    if isinstance(message, Notice):
        life.activity.envelope = None
        made = message.entry.act(life)
        if life.exit is not None:
            return "ended"
        if made is None:
            return None
        envelope, message = made, made[0]
    elif not _is_wanted(life, envelope):
        return None
    life.activity.envelope, life.activity.out = envelope, None
    handler = life.handlers.get(type(message)) or life.handler_for(envelope)
    if handler is None:
        _unhandled(life, envelope)
        return None
    try:
        result = handler(life.instance, message)
    except Exception as error:  # noqa: BLE001 - whatever a handler raises is its crash
        return raised(life, error)
    except BaseExceptionGroup as error:
        return raised(life, error)
    return _returned(life, envelope, result)


def _attend(life: Life) -> Envelope | None:
    """Look at everything that comes before the next user message; gives what to handle now."""
    mailbox = life.cell.mailbox
    while True:
        if life.wanted is not None and not (life.draining and mailbox.queued):
            life.end_with(life.wanted)
            return None
        if life.streak < SYSTEM_STREAK_MAX or life.suspended or not mailbox.queued:
            entry = mailbox.next_system()
            if entry is not None:
                life.streak += 1
                envelope = entry.act(life)
                if envelope is not None:
                    return envelope
                continue
        life.streak = 0
        if mailbox.waiting:
            mailbox.admit()
        if life.suspended:
            return None
        envelope = mailbox.next_user()
        if mailbox.waiting:
            mailbox.admit()
        mailbox.attention = bool(mailbox.system_queued or mailbox.waiting or life.draining)
        if envelope is not None or not life.draining:
            return envelope


def _is_wanted(life: Life, envelope: Envelope) -> bool:
    """Whether anybody still waits for this; if not it is counted and dropped."""
    _, _, reply, deadline, _, _ = envelope
    if reply is not None:
        if reply.outcome == "withdrawn":
            life.cell.counts.withdrawn += 1
            return False
        reply.stage = "handling"
    if deadline == NO_DEADLINE or trio.current_time() < deadline:
        return True
    life.cell.counts.expired += 1
    life.cell.system.dead_letters.add(life.cell, envelope, "expired")
    if reply is not None:
        reply.stage = "queued"
        reply.expire(trio.current_time())
    return False


def _unhandled(life: Life, envelope: Envelope) -> None:
    life.cell.counts.unhandled += 1
    life.cell.system.dead_letters.add(life.cell, envelope, "unhandled")
    if envelope[2] is not None:
        envelope[2].fail(UnhandledMessage(life.cell.path, type(envelope[0])))
    life.activity.envelope = None


def _returned(life: Life, envelope: Envelope, result: object) -> State | None:
    """Do with a handler's result what has to be done; None: go on with the next message."""
    if type(result) is CoroutineType:
        if life.table.is_task and _made_by_async(life, envelope):
            life.pending = result
            return "await"
        result.close()
        return _bad_reply(life, envelope, result)
    return finish(life, envelope, result)


def _made_by_async(life: Life, envelope: Envelope) -> bool:
    if life.behaviour is not None:
        return inspect.iscoroutinefunction(life.behaviour)
    return life.table.receive_is_async or type(envelope[0]) in life.table.asynchronous


def finish(life: Life, envelope: Envelope, result: object) -> State | None:
    """Call this with what a handler returned in the end, its coroutine awaited."""
    if life.stash and life.stash[-1] is envelope:
        pass
    elif life.owed is not None and any(later.envelope is envelope for later in life.owed):
        if result is not None and not isinstance(result, Later):
            return _bad_reply(life, envelope, result)
    elif isinstance(result, Later):
        pass
    elif envelope[2] is None:
        if result is not None:
            return _bad_reply(life, envelope, result)
    elif life.cell.system.check_replies and not life.table.fits(type(envelope[0]), result):
        return _bad_reply(life, envelope, result)
    else:
        envelope[2].give(result)
    life.activity.envelope = life.activity.out = None
    return None


def _bad_reply(life: Life, envelope: Envelope, result: object) -> State:
    error = BadReply(life.cell.path, envelope[0], result)
    if envelope[2] is not None:
        envelope[2].fail(error)
    return crash(life, Crashed(error))


def raised(life: Life, error: BaseException) -> State:
    """Call this when a handler raised."""
    if isinstance(error, StopActor):
        return crash(life, error.exit)
    return crash(life, life.crash_from(error))


def crash(life: Life, exit_: Exit) -> State:
    """Call this when handling ended the incarnation, with a crash or by StopActor."""
    life.end_with(exit_)
    return "ended"
