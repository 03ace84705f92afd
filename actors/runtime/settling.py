"""What comes before and after a handler: is the message still wanted, what becomes of its result.

`loop.py` calls the handlers; these are the roads that not every message takes.
"""

from __future__ import annotations

from types import CoroutineType
from typing import TYPE_CHECKING, Literal, TypeAlias

import trio

from actors.runtime.envelope import NO_DEADLINE, Envelope
from actors.runtime.later import Later
from actors.runtime.stash import is_async
from actors.runtime.words.errors import BadReply, StopActor, UnhandledMessage
from actors.runtime.words.exits import Crashed, Exit, crash_from

if TYPE_CHECKING:
    from actors.runtime.life import Life

# MORE: the budget is used up. IDLE: nothing to do. AWAIT: `life.pending` waits for the task.
# ENDED: `life.exit` is set.
State: TypeAlias = Literal["more", "idle", "await", "ended"]


def is_wanted(life: Life, envelope: Envelope) -> bool:
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


def unhandled(life: Life, envelope: Envelope) -> None:
    """Call this for a message whose class has no handler; the actor is not disturbed."""
    life.cell.counts.unhandled += 1
    life.cell.system.dead_letters.add(life.cell, envelope, "unhandled")
    if envelope[2] is not None:
        envelope[2].fail(UnhandledMessage(life.cell.path, type(envelope[0])))
    life.activity.envelope = None


def returned(life: Life, envelope: Envelope, result: object) -> State | None:
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
        return is_async(life.behaviour)
    return life.table.receive_is_async or type(envelope[0]) in life.table.asynchronous


def finish(life: Life, envelope: Envelope, result: object) -> State | None:
    """Call this with what a handler returned in the end, its coroutine awaited."""
    if life.aside is envelope:
        life.aside = None  # It is in the stash, and answered when it comes back.
        if envelope[2] is not None:
            envelope[2].stage = "queued"
    elif life.owed is not None and any(later.envelope is envelope for later in life.owed):
        if result is not None and not isinstance(result, Later):
            return _bad_reply(life, envelope, result)
    elif isinstance(result, Later):
        pass
    elif envelope[2] is None:
        if result is not None:
            return _bad_reply(life, envelope, result)
    elif result is None and _was_settled(life, envelope):
        pass  # `later.reply` in the handler itself, or cancelled late: nothing was returned.
    elif life.cell.system.check_replies and not life.table.fits(type(envelope[0]), result):
        return _bad_reply(life, envelope, result)
    else:
        envelope[2].give(result)
        if life.wanted is not None:
            # It stopped itself: the asker has its reply in hand before anybody sees the exit.
            life.activity.envelope = life.activity.out = None
            return "more"
    life.activity.envelope = life.activity.out = None
    return None


def _was_settled(life: Life, envelope: Envelope) -> bool:
    reply = envelope[2]
    assert reply is not None
    if reply.outcome == "timed_out":
        return type(envelope[0]) in life.table.cancel_late
    return reply.outcome in ("answered", "failed")


def _bad_reply(life: Life, envelope: Envelope, result: object) -> State:
    error = BadReply(life.cell.path, envelope[0], result)
    if envelope[2] is not None:
        envelope[2].fail(error)
    return crash(life, Crashed(error))


def raised(life: Life, error: BaseException) -> State:
    """Call this when a handler raised."""
    if isinstance(error, StopActor):
        return crash(life, error.exit)
    return crash(life, crash_from(error))


def crash(life: Life, exit_: Exit) -> State:
    """Call this when handling ended the incarnation, with a crash or by StopActor."""
    life.end_with(exit_)
    return "ended"
