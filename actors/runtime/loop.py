"""The message loop, the same for dispatched and task actors.

`run` handles messages until the turn is over; it never awaits. A coroutine made by an `async def`
handler is left in `life.pending` for the task to await. Profile before changing `_run_batch`:
it is the road of every message.

Rule 1: between two messages only `mailbox.attention` is looked at.
Rule 2: user code is called under a `try` of its own, so a bug of the runtime is never a crash.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Final

from actors.runtime.entries import Notice
from actors.runtime.envelope import NO_DEADLINE, Envelope
from actors.runtime.settling import State, is_wanted, raised, returned, unhandled
from actors.runtime.words.counting import MICRO, MICROSECOND, Meter

if TYPE_CHECKING:
    from actors.runtime.life import Life

# A flood of ticks must not starve users: after so many system entries in a row one message goes.
SYSTEM_STREAK_MAX: Final = 64


def run(life: Life) -> State:
    """Call this to handle messages until something else has to happen first.

    `life.left`, `life.allowed` and `life.began` hold what is left of the budget.
    """
    cell = life.cell
    mailbox = cell.mailbox
    life.activity.cell = cell
    while life.left > 0:
        if mailbox.attention:
            envelope = _attend(life)
            if envelope is None:
                return "idle" if life.exit is None else "ended"
            life.left -= 1
            state = _run_one(life, envelope)
        elif mailbox.index < len(mailbox.batch) or mailbox.take():
            if life.left == cell.budget[0] and len(mailbox.batch) == 1:
                life.allowed = 1  # The commonest turn of all; the clock is not needed for one.
            elif life.allowed <= 0:
                life.allowed = _pace(life)
                if not life.allowed:
                    return "more"
            # An `async def` handler leaves the batch each time; a longer slice would be waste.
            limit = 1 if life.table.asynchronous else life.allowed
            if cell.meter is None:
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
    done = messages - life.left
    if done == 0:
        life.began = life.cell.system.clock() if len(life.cell.mailbox.batch) > 1 else 0.0
        return 1
    if life.began == 0.0:
        life.began = life.cell.system.clock()
        return 1
    spent = life.cell.system.clock() - life.began
    if spent >= seconds:
        return 0
    if spent * life.left <= (seconds - spent) * done:
        return life.left
    return max(1, int(done * (seconds - spent) / spent))


def _run_batch(life: Life, limit: int) -> State | None:
    cell, activity = life.cell, life.activity
    mailbox = cell.mailbox
    instance, handlers = life.instance, life.handlers
    first = index = mailbox.index
    handled = 0
    state: State | None = None
    for envelope in mailbox.batch[index : index + limit]:
        if mailbox.attention:
            break
        index += 1
        mailbox.index = index
        message, _, reply, deadline, _, _ = envelope
        if (reply is not None or deadline is not NO_DEADLINE) and not is_wanted(life, envelope):
            continue
        handler = handlers.get(type(message))
        if handler is None:
            state = _run_one(life, envelope)
        else:
            activity.envelope = envelope
            activity.out = None
            handled += 1
            try:
                result = handler(instance, message)
            except Exception as error:  # noqa: BLE001 - whatever a handler raises is its crash
                state = raised(life, error)
            except BaseExceptionGroup as error:
                state = raised(life, error)
            else:
                if result is None and reply is None:
                    continue
                state = returned(life, envelope, result)
        if state is not None:
            break
    return _account(life, index - first, handled, state)


def _account(life: Life, advanced: int, handled: int, state: State | None) -> State | None:
    """Note what a batch has done."""
    counts = life.cell.counts
    life.left -= advanced or 1
    life.allowed -= advanced or 1
    counts.reductions += advanced
    counts.handled += handled
    if state is None:
        life.activity.envelope = life.activity.out = None
    return state


def _run_measured(life: Life, limit: int, meter: Meter) -> State | None:
    """`_run_batch` with the clock in hand; sampled envelopes carry the time they were put."""
    cell, activity = life.cell, life.activity
    mailbox = cell.mailbox
    instance, handlers = life.instance, life.handlers
    handling_us, queue_us = meter.handling_us, meter.queue_us
    senders, is_watched = cell.senders, cell.watches is not None
    # The end of one message is the beginning of the next: a reading of the clock less for each, a
    # twentieth of what a measured tell costs. 0.0 where something else came between them.
    busy = ended = 0.0
    first = index = mailbox.index
    handled = 0
    state: State | None = None
    for envelope in mailbox.batch[index : index + limit]:
        if mailbox.attention:
            break
        index += 1
        mailbox.index = index
        message, _, reply, deadline, enqueued_at, context = envelope
        if (reply is not None or deadline is not NO_DEADLINE) and not is_wanted(life, envelope):
            ended = 0.0
            continue
        handler = handlers.get(type(message))
        if handler is None:
            ended, state = 0.0, _run_one(life, envelope)
            if state is not None:
                break
            continue
        activity.envelope, activity.out = envelope, None
        handled += 1
        began = (ended or perf_counter()) if enqueued_at else 0.0
        try:
            result = handler(instance, message)
        except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 - user code's crash
            state = raised(life, error)
            break
        if result is not None or reply is not None:
            state = returned(life, envelope, result)
            if state is not None:
                life.measuring = began
                break
        if enqueued_at:
            ended = perf_counter()
            spent = ended - began
            busy += spent
            # A value of 2**31 us would need a handler, or a wait, of over half an hour.
            if spent < MICROSECOND:
                handling_us[0] += 1
            else:
                handling_us[int(spent * MICRO).bit_length() & 31] += 1
            queue_us[int((began - enqueued_at) * MICRO).bit_length() & 31] += 1
            if context is not None and senders is not None and context.sender is not None:
                senders[context.sender] = began
            if is_watched:
                cell.system.changes_log.handled(cell, envelope, spent)
                ended = 0.0
        else:
            ended = 0.0
    meter.busy_seconds += busy
    return _account(life, index - first, handled, state)


def _run_one(life: Life, envelope: Envelope) -> State | None:
    """Handle one envelope with all care: from the system lane, or of a class not seen yet."""
    message = envelope[0]
    if isinstance(message, Notice):
        made = message.entry.act()
        if life.exit is not None:
            return "ended"
        if made is None:
            return None
        envelope, message = made, made[0]
    elif not is_wanted(life, envelope):
        return None
    life.activity.envelope, life.activity.out = envelope, None
    handler = life.handlers.get(type(message)) or life.handler_for(envelope)
    if handler is None:
        unhandled(life, envelope)
        return None
    life.cell.counts.handled += 1
    life.measuring = perf_counter() if envelope[4] else 0.0
    try:
        result = handler(life.instance, message)
    except Exception as error:  # noqa: BLE001 - whatever a handler raises is its crash
        return raised(life, error)
    except BaseExceptionGroup as error:
        return raised(life, error)
    state = returned(life, envelope, result)
    if state is None:
        measured(life, envelope)
        life.activity.envelope = life.activity.out = None
    return state


def measured(life: Life, envelope: Envelope) -> None:
    """Call this after a message went another road than the batch, to note its times."""
    meter, cell = life.cell.meter, life.cell
    if meter is None or not envelope[4] or not life.measuring:
        return
    ended = perf_counter()
    meter.note(envelope[4], life.measuring, ended)
    context = envelope[5]
    if cell.senders is not None and context is not None and context.sender is not None:
        cell.senders[context.sender] = life.measuring
    if cell.watches is not None:
        cell.system.changes_log.handled(cell, envelope, ended - life.measuring)


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
                envelope = entry.act()
                if envelope is not None:
                    return envelope
                continue
        life.streak = 0
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
