"""The message loop, the same for dispatched and task actors: what is done with one message.

`run` gives an incarnation its turn: it handles messages until the turn is over, and says why it
stopped ("more", "idle", "await", "ended"). Whoever drives it, the dispatcher's turn or the task of
the actor (`lifecycle.py`), does what follows from that and calls it again.

It never awaits. A loop that could be suspended in the middle would have to hold its state in a
coroutine for each actor, could be cancelled anywhere, and would let others run between two looks
at the same mailbox. So it is a plain function over plain lists: between the look at `attention`
and the call of the handler nobody else runs, and everything that may wait (the coroutine of an
`async def` handler, giving others their turn, parking) is left to the caller. What an `async def`
handler returns lies in `life.coroutine` then; the task awaits it and hands the result to `finish`.

One message goes this road:

    taken          out of the batch; `index` stands behind it before its handler runs, so that
                   it is never handled twice, whatever the handler does to the mailbox
    wanted?        an ask whose asker was cancelled, or a deadline that has passed, is counted
                   and dropped (`is_wanted`); a tell without deadline is not even asked about
    in hand        `activity.envelope` names it: for the context of what its handler sends, for
                   `deadline`, for the crash report
    called         user code, under a `try` of its own
    settled        nothing to do for a tell that returned None, by far the commonest case;
                   otherwise `returned`, `finish` or `raised`
    out of hand    once for a whole batch: the next message overwrites it anyway

The same road stands here three times: `_run_batch`, `_run_measured` with the clock in hand, and
`_run_one` for what comes one by one (from the system lane, or of a class not seen yet); a fourth
time in `lifecycle.py`, for the turn of a single message. That is on purpose:
a call more for each message is a tenth of what a tell costs, and so is a look at whether it is
measured, with the reading of the clock that follows from it. One function shared by all would
make everyone pay for what few use.
Profile before changing `_run_batch`: it is the road of every message.

Where spans are recorded, a message that belongs to a trace goes by `_run_one` with a clock around
it; those before and behind it go the quick road as ever.

Rule 1: between two messages only `mailbox.attention` is looked at.
Rule 2: user code is called under a `try` of its own, so a bug of the runtime is never a crash.
It catches whatever is raised; what is none of the actor's, `raised` raises again. A message or a
reply is asked for its `type`, never by `isinstance`: that reads `__class__`, which may be theirs.
Rule 3: a change to one of the four roads is a change to all of them.
"""

from __future__ import annotations

import inspect
from time import perf_counter
from types import CoroutineType
from typing import Final, Literal, TypeAlias

import trio

from actors.runtime.delivery.envelope import (
    CONTEXT,
    ENQUEUED_AT,
    MESSAGE,
    MESSAGE_ID,
    NO_DEADLINE,
    REPLY,
    Envelope,
    Later,
    Reply,
)
from actors.runtime.delivery.mailbox import Mailbox, Notice
from actors.runtime.life.cell import Life
from actors.runtime.life.handlers import Handler
from actors.runtime.telling.spans import DEADLINE_MISSED, HANDLED, Spans
from actors.runtime.words.counting import (
    MICRO,
    MICROSECOND,
    Meter,
    forget_some,
)
from actors.runtime.words.errors import BadReply, UnhandledMessage, exit_from
from actors.runtime.words.exits import Crashed, Exit, without_cancelled
from actors.runtime.words.messages import Ask

# more: the budget is used up. idle: nothing to do. await: `life.coroutine` waits for the task.
# ended: `life.exit` is set.
State: TypeAlias = Literal["more", "idle", "await", "ended"]

# A flood of ticks must not starve users: after so many system entries in a row one message goes.
SYSTEM_STREAK_MAX: Final = 64


def run(life: Life) -> State:
    """Handle messages until something else has to happen first, and say what.

    `life.turn_left`, `until_clock` and `turn_began` hold what is left of the budget.
    """
    cell = life.cell
    mailbox = cell.mailbox
    life.activity.cell = cell
    while life.turn_left > 0:
        if mailbox.attention:
            envelope = _attend(life)
            if envelope is None:
                return "idle" if life.exit is None else "ended"
            life.turn_left -= 1
            state = _run_told(life, envelope, cell.spans)
        elif mailbox.index < len(mailbox.batch) or mailbox.take():
            if life.turn_left == cell.budget[0] and len(mailbox.batch) == 1:
                life.until_clock = 1  # The commonest turn of all; the clock is not needed for one.
            elif life.until_clock <= 0:
                life.until_clock = _pace(life)
                if not life.until_clock:
                    return "more"
            # An `async def` handler leaves the slice each time; a longer one would be waste.
            limit = 1 if life.table.one_by_one else life.until_clock
            if cell.spans is not None:
                limit = _until_traced(mailbox, limit)
            if limit == 0:
                state = _run_traced(life, cell.spans)
            elif cell.meter is None:
                state = _run_batch(life, limit)
            else:
                state = _run_measured(life, limit, cell.meter)
        else:
            return "idle"
        if state is not None:
            return state
    return "more"


def _pace(life: Life) -> int:
    """How many messages may go before the clock is looked at again; 0 when the time is up.

    After the first message of a turn: as many as fit into the budget at the speed seen so far.
    """
    messages, seconds = life.cell.budget
    done = messages - life.turn_left
    if done == 0:
        life.turn_began = life.cell.system.clock() if len(life.cell.mailbox.batch) > 1 else 0.0
        return 1
    if life.turn_began == 0.0:
        life.turn_began = life.cell.system.clock()
        return 1
    spent = life.cell.system.clock() - life.turn_began
    if spent >= seconds:
        return 0
    if spent * life.turn_left <= (seconds - spent) * done:
        return life.turn_left
    return max(1, int(done * (seconds - spent) / spent))


def _run_batch(life: Life, limit: int) -> State | None:
    """The road of every message; see the module. `_run_measured` is its twin with a clock."""
    cell, activity = life.cell, life.activity
    mailbox = cell.mailbox
    # `become` replaces the table, and calls attention: this one is good until then.
    instance, handlers = life.instance, life.handlers
    first = index = mailbox.index
    handled = 0
    state: State | None = None
    # A slice of its own: what handlers do to the batch (put back, notices) ends it by `attention`.
    for envelope in mailbox.batch[index : index + limit]:
        if mailbox.attention:
            break
        index += 1
        mailbox.index = index
        message, _, reply, deadline, _, _ = envelope
        if (reply is not None or deadline is not NO_DEADLINE) and not is_wanted(life, envelope):
            continue
        try:
            handler = handlers.get(type(message))
        except BaseException as error:  # noqa: BLE001 - its metaclass cannot be hashed
            handler = unknown(error)
        if handler is None:
            state = _run_apart(life, envelope)
        else:
            activity.envelope = envelope
            activity.out = None
            handled += 1
            try:
                result = handler(instance, message)
            except BaseException as error:  # noqa: BLE001 - whatever a handler raises is its crash
                state = raised(life, error)
            else:
                if result is None and reply is None:
                    continue
                state = returned(life, envelope, result)
        if state is not None:
            break
    return _account(life, index - first, handled, state)


def unknown(error: BaseException) -> Handler | None:
    """Called when a message's class cannot be looked up; `_run_one` asks again, with care."""
    without_cancelled(error)
    return None


def _account(life: Life, advanced: int, handled: int, state: State | None) -> State | None:
    """Note what a batch has done, at once for all of it."""
    counts = life.cell.counts
    # At least one, so that every turn comes to its end.
    life.turn_left -= advanced or 1
    life.until_clock -= advanced or 1
    counts.reductions += advanced
    counts.handled += handled
    if state is None:
        life.activity.envelope = life.activity.out = None
    return state


# Not one function with `_run_batch`: what a measured message does more would be asked at every
# other one, and that is the default.
def _run_measured(life: Life, limit: int, meter: Meter) -> State | None:
    """`_run_batch` with the clock in hand; sampled envelopes carry the time they were put."""
    cell, activity, mailbox = life.cell, life.activity, life.cell.mailbox
    instance, handlers, senders = life.instance, life.handlers, cell.senders
    handling_us, queue_us = meter.handling_us, meter.queue_us
    is_observed, one_by_one = cell.observers is not None, cell.system.changes_log.before is not None
    # The end of one message is the beginning of the next: a reading of the clock less for each, a
    # twentieth of what a measured tell costs. 0.0 where something else came between them.
    handled, busy, waited, ended = 0, 0.0, 0.0, 0.0
    first = index = mailbox.index
    state: State | None = None
    for envelope in mailbox.batch[index : index + limit]:
        if mailbox.attention:
            break
        mailbox.index = index = index + 1
        message, _, reply, deadline, enqueued_at, context = envelope
        if (reply is not None or deadline is not NO_DEADLINE) and not is_wanted(life, envelope):
            ended = 0.0
            continue
        try:
            handler = handlers.get(type(message))
        except BaseException as error:  # noqa: BLE001 - its metaclass cannot be hashed
            handler = unknown(error)
        if handler is None or one_by_one:
            ended, state = 0.0, _run_apart(life, envelope)
            if state is not None:
                break
            continue
        activity.envelope, activity.out = envelope, None
        handled, began = handled + 1, (ended or perf_counter()) if enqueued_at else 0.0
        try:
            result = handler(instance, message)
        except BaseException as error:  # noqa: BLE001 - whatever a handler raises is its crash
            state = raised(life, error)
            break
        if result is not None or reply is not None:
            state = returned(life, envelope, result)
            if state is not None:
                life.handling_began = began
                break
        if enqueued_at:
            ended = perf_counter()
            spent = ended - began
            busy, waited = busy + spent, waited + began - enqueued_at
            # `Meter.note` written out; 2**31 us would be a handler, or a wait, of half an hour.
            if spent < MICROSECOND:
                handling_us[0] += 1
            else:
                handling_us[int(spent * MICRO).bit_length() & 31] += 1
            queue_us[int((began - enqueued_at) * MICRO).bit_length() & 31] += 1
            if context is not None and senders is not None and context.sender is not None:
                senders[context.sender] = began
            if is_observed:
                cell.system.changes_log.handled(cell, envelope, spent)
                ended = 0.0
        else:
            ended = 0.0
    meter.add_up(busy, waited)
    forget_some(senders or {})
    return _account(life, index - first, handled, state)


def _until_traced(mailbox: Mailbox, limit: int) -> int:
    """How many of the next messages are part of no trace: those go the quick road."""
    index = mailbox.index
    for at, envelope in enumerate(mailbox.batch[index : index + limit]):
        if is_traced(envelope):
            return at
    return limit


def is_traced(envelope: Envelope) -> bool:
    """Whether a message belongs to a trace."""
    context = envelope[CONTEXT]
    return context is not None and context.traceparent is not None


def _run_traced(life: Life, spans: Spans | None) -> State | None:
    """The next message of the batch, told as a span."""
    mailbox = life.cell.mailbox
    envelope = mailbox.batch[mailbox.index]
    mailbox.index += 1
    mailbox.took(envelope)
    return _account(life, 1, 0, _run_told(life, envelope, spans))


def _run_told(life: Life, envelope: Envelope, spans: Spans | None) -> State | None:
    """`_run_one`, told as a span where that is wanted and the message belongs to a trace."""
    if spans is None or not is_traced(envelope):
        return _run_one(life, envelope)
    counts = life.cell.counts
    handled, life.span_began = counts.handled, spans.tick()
    state = _run_one(life, envelope)
    if state != "await":
        # One that no handler was called for is told by what became of it.
        if counts.handled != handled:
            tell_handled(life, envelope)
        life.span_began = None
    return state


def tell_handled(life: Life, envelope: Envelope) -> None:
    """Record that a message of a trace was handled, and how that ended."""
    cell, began = life.cell, life.span_began
    spans, context = cell.spans, envelope[CONTEXT]
    life.span_began = None
    if spans is None or began is None or context is None or context.traceparent is None:
        return
    reply, error = envelope[REPLY], ""
    kind = type(envelope[MESSAGE])
    is_timed = envelope[ENQUEUED_AT] and life.handling_began
    if type(life.exit) is Crashed:
        error = type(life.exit.error).__name__
    elif reply is not None and reply.outcome == "timed_out":
        error = DEADLINE_MISSED
    spans.add(
        (
            HANDLED,
            context.traceparent,
            envelope[MESSAGE_ID],
            None,
            cell.id,
            began,
            spans.tick(),
            cell.path,
            context.correlation_id,
            error,
            (kind, life.handling_began - envelope[ENQUEUED_AT]) if is_timed else kind,
        )
    )


def _run_apart(life: Life, envelope: Envelope) -> State | None:
    """`_run_one` for one out of a batch, which the mailbox has not seen going."""
    life.cell.mailbox.took(envelope)
    return _run_one(life, envelope)


def _run_one(life: Life, envelope: Envelope) -> State | None:
    """Handle one envelope with all care: from the system lane, or of a class not seen yet."""
    message = envelope[MESSAGE]
    if type(message) is Notice:
        made = message.entry.act()
        if life.exit is not None:
            return "ended"
        if made is None:
            return None
        envelope, message = made, made[MESSAGE]
    elif not is_wanted(life, envelope):
        return None
    life.activity.envelope, life.activity.out = envelope, None
    handler = life.handler_for(envelope)
    if handler is None:
        unhandled(life, envelope)
        return None
    cell = life.cell
    before = cell.system.changes_log.before
    if before is not None and not before(cell, envelope):
        mailbox = cell.mailbox
        # What the system lane made is handled all the same: it has no place to go back to.
        if mailbox.index and mailbox.batch[mailbox.index - 1] is envelope:
            life.activity.envelope = None
            mailbox.put_back([envelope])
            return None
    cell.counts.handled += 1
    life.handling_began = perf_counter() if envelope[ENQUEUED_AT] else 0.0
    try:
        result = handler(life.instance, message)
    except BaseException as error:  # noqa: BLE001 - whatever a handler raises is its crash
        return raised(life, error)
    state = returned(life, envelope, result)
    if state is None:
        measured(life, envelope)
        life.activity.envelope = life.activity.out = None
    return state


def measured(life: Life, envelope: Envelope) -> None:
    """Note the times of a message that went another road than the batch."""
    cell = life.cell
    meter = cell.meter
    if meter is None:
        return
    _, _, _, _, enqueued_at, context = envelope
    if not enqueued_at or not life.handling_began:
        return
    ended = perf_counter()
    meter.note(enqueued_at, life.handling_began, ended)
    if cell.senders is not None and context is not None and context.sender is not None:
        cell.senders[context.sender] = life.handling_began
        forget_some(cell.senders)
    if cell.observers is not None:
        cell.system.changes_log.handled(cell, envelope, ended - life.handling_began)


def _attend(life: Life) -> Envelope | None:
    """Look at everything that comes before the next user message; gives what to handle now.

    In this order: a wish to end, the system lane, senders that wait for room, the user lane. Only
    here is `attention` taken back, and only when none of them is left.
    """
    mailbox = life.cell.mailbox
    # From here on messages are taken: what is known of their places is true no longer.
    mailbox.places = None
    while True:
        if life.wanted is not None and not (life.draining and mailbox.held):
            life.end_with(life.wanted)
            return None
        if life.held_by is not None:
            return None  # It is being looked into, and called when that is done.
        if life.system_streak < SYSTEM_STREAK_MAX or life.suspended or not mailbox.held:
            entry = mailbox.next_system()
            if entry is not None:
                life.system_streak += 1
                envelope = entry.act()
                if envelope is not None:
                    return envelope
                # The entry may have wished for an end, or suspended the actor: look again.
                continue
        life.system_streak = 0
        if mailbox.waiting:
            mailbox.admit()
        if life.suspended:
            return None
        envelope = mailbox.next_user()
        if envelope is not None:
            life.cell.counts.reductions += 1
        if mailbox.waiting:
            mailbox.admit()
        mailbox.attention = bool(mailbox.system_queued or mailbox.waiting or life.draining)
        if envelope is not None or not life.draining:
            return envelope


# Before a handler


def is_wanted(life: Life, envelope: Envelope) -> bool:
    """Whether anybody still waits for this; if not it is counted and dropped."""
    _, _, reply, deadline, _, _ = envelope
    if reply is not None:
        if reply.task is None and not _is_still_wanted(life, reply):
            return False
        reply.stage = "handling"
        # Of one that was served at once, and set aside, it is known only since.
        deadline = reply.deadline
    if deadline == NO_DEADLINE or trio.current_time() < deadline:
        return True
    life.cell.counts.expired += 1
    life.cell.system.dead_letters.add(life.cell, envelope, "expired")
    if reply is not None:
        # The clock fires late by up to a grain: its asker hears of it here and now.
        reply.expire(trio.current_time(), "queued")
    return False


def _is_still_wanted(life: Life, reply: Reply) -> bool:
    """Called for an ask that was settled while it waited; False when its asker was cancelled."""
    if reply.stage == "queued":
        life.cell.mailbox.given_up -= 1
        reply.stage = "handling"
    if reply.outcome == "withdrawn":
        life.cell.counts.withdrawn += 1
        return False
    return True  # Timed out: its deadline says so. Or answered from its stash: handled again.


def unhandled(life: Life, envelope: Envelope) -> None:
    """What becomes of a message whose class has no handler; the actor is not disturbed."""
    life.cell.counts.unhandled += 1
    life.cell.system.dead_letters.add(life.cell, envelope, "unhandled")
    reply = envelope[REPLY]
    if reply is not None:
        reply.fail(UnhandledMessage(life.cell.path, type(envelope[MESSAGE])))
    life.activity.envelope = None


# After a handler


def returned(life: Life, envelope: Envelope, result: object) -> State | None:
    """Do with a handler's result what has to be done; None: go on with the next message."""
    if type(result) is CoroutineType:
        if life.has_task and _made_by_async(life, envelope):
            life.coroutine = result
            return "await"
        result.close()
        return _bad_reply(life, envelope, result)
    return finish(life, envelope, result)


def _made_by_async(life: Life, envelope: Envelope) -> bool:
    if life.behaviour is not None:
        return is_async(life.behaviour)
    return life.table.receive_is_async or life.table.is_async(type(envelope[MESSAGE]))


def is_async(behaviour: object) -> bool:
    """Whether calling `behaviour` gives a coroutine, as far as can be seen."""
    call = getattr(behaviour, "__call__", None)  # noqa: B004 - of an object with `async __call__`
    return inspect.iscoroutinefunction(behaviour) or inspect.iscoroutinefunction(call)


def finish(life: Life, envelope: Envelope, result: object) -> State | None:
    """Settle a message with what its handler returned in the end, its coroutine awaited."""
    reply = envelope[REPLY]
    if life.passed_on is envelope:
        # Another actor answers, and may have: a value here would be a second answer.
        if result is not None and type(result) is not Later:
            return end(life, Crashed(BadReply(life.cell.path, envelope[MESSAGE], result)))
        life.passed_on = None
    elif life.set_aside is envelope:
        life.set_aside = None  # It is in the stash, and answered when it comes back.
        if reply is not None:
            reply.stage = "stashed"
            if reply.task is trio.lowlevel.current_task():
                # Served at once, in the task of its asker, whose scopes were not asked: to do so
                # each time is a twentieth of what an ask costs that has to wait.
                reply.deadline = min(reply.deadline, trio.current_effective_deadline())
    elif type(result) is Later:
        pass
    elif life.owed and life.owes(envelope):
        if result is not None:
            return _bad_reply(life, envelope, result)
    elif reply is None:
        if result is not None and not issubclass(type(envelope[MESSAGE]), Ask):
            return _bad_reply(life, envelope, result)
        # An `Ask` that was told: its handler cannot know. Nobody gets the reply, so nobody asks
        # whether it is of the right type.
        if result is not None:
            life.unasked(envelope)
    elif result is None and _was_settled(life, envelope):
        pass  # `later.reply` in the handler itself, or cancelled late: nothing was returned.
    elif life.cell.system.check_replies and not life.table.fits(type(envelope[MESSAGE]), result):
        return _bad_reply(life, envelope, result)
    else:
        reply.give(result)
        if life.wanted is not None:
            # It stopped itself: the asker has its reply in hand before anybody sees the exit.
            life.activity.envelope = life.activity.out = None
            return "more"
    life.activity.envelope = life.activity.out = None
    return None


def _was_settled(life: Life, envelope: Envelope) -> bool:
    reply = envelope[REPLY]
    assert reply is not None
    if reply.outcome == "timed_out":
        return life.table.is_cut_late(type(envelope[MESSAGE]))
    return reply.outcome in ("answered", "failed")


def _bad_reply(life: Life, envelope: Envelope, result: object) -> State:
    error = BadReply(life.cell.path, envelope[MESSAGE], result)
    reply = envelope[REPLY]
    if reply is not None:
        reply.fail(error)
    return end(life, Crashed(error))


def raised(life: Life, error: BaseException, task: trio.lowlevel.Task | None = None) -> State:
    """What becomes of an error out of a handler, which may have waited in `task`.

    Raises it again when it is none of the actor's (`words/exits.py`): then all ends.
    """
    return end(life, exit_from(without_cancelled(error, task)))


def end(life: Life, exit_: Exit) -> State:
    """Handling has ended the incarnation, with a crash or by StopActor."""
    life.end_with(exit_)
    return "ended"
