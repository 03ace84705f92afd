"""How a handler of a `Batch` gets the messages that wait, and what is left of them when it returns.

The loop knows nothing of it: it calls such a handler with the first message, as any other. What it
calls is made here, around the method of the class. It takes further messages out of the mailbox by
the rules of the loop (`loop.py`), as long as the next one is of the handler's kind:

- one of another kind, a notice or a system entry ends the batch, so no order changes
- an ask that was given up, or a deadline that has passed, is counted and dropped
- each counts as handled, as a reduction and in the turn's budget, and is measured by itself

Rule 1: what is taken is in hand, all of it, from here to the end of the handler: a crash settles
what is not done by then (`Life._settle_batch`), a stop waits for it.
Rule 2: nothing is waited for to make a batch larger. Only a turn that is used up ends first.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable
from functools import wraps
from itertools import islice
from time import perf_counter
from typing import cast

from actors.runtime.delivery.batch import Batch, Taken
from actors.runtime.delivery.envelope import (
    DEADLINE,
    MESSAGE,
    NO_DEADLINE,
    REPLY,
    Envelope,
    Later,
)
from actors.runtime.life.cell import Life
from actors.runtime.life.handlers import Handler
from actors.runtime.life.hooks import Hooks
from actors.runtime.life.loop import is_wanted, tell_handled
from actors.runtime.words.counting import MICRO, Meter, bucket, forget_some
from actors.runtime.words.errors import BadReply


def gathering(function: Handler, kinds: tuple[type, ...]) -> Handler:
    """Called when an actor class is made, for a method that takes a `Batch` of these classes."""
    if not inspect.iscoroutinefunction(function):

        @wraps(function)
        def handle(instance: object, _: object) -> object:
            life = _life_of(instance)
            more = _most(life) - 1
            if life.turn_left < life.cell.budget[0]:
                more = min(more, life.turn_left - 1)  # The first one is not taken off it yet.
            batch = _gather(life, kinds, more)
            return _close(life, batch, function(instance, batch))

        return handle

    @wraps(function)
    async def handle_in_task(instance: object, _: object) -> object:
        life = _life_of(instance)
        more = _most(life) - 1
        if life.turn_left < min(life.cell.mailbox.queued, more):
            # Of two busy actors neither handles more than a turn's worth in a row. In a turn of
            # its own the batch is whole, and what comes meanwhile is in it.
            await life.cell.system.dispatcher.let_others_run(life.cell)
            life.new_turn()
        batch = _gather(life, kinds, more)
        return _close(life, batch, await cast(Awaitable[object], function(instance, batch)))

    return handle_in_task


def _life_of(instance: object) -> Life:
    assert isinstance(instance, Hooks)
    life = instance._life
    assert isinstance(life, Life)
    return life


def _most(life: Life) -> int:
    cls = type(life.instance)
    assert issubclass(cls, Hooks)
    return cls.batch_max


# Before the handler


def _gather(life: Life, kinds: tuple[type, ...], more: int) -> Batch[object]:
    cell, mailbox = life.cell, life.cell.mailbox
    first = life.activity.envelope
    assert first is not None
    began = 0.0 if cell.meter is None else perf_counter()
    taken = [Taken[object](life, first)]
    for _ in range(more):
        envelope = _next(life, kinds)
        if envelope is None:
            break
        taken.append(Taken(life, envelope))
    if mailbox.waiting:
        mailbox.admit()
    batch = life.gathered = Batch(taken, began)
    life.activity.envelope = batch.shared
    return batch


def _next(life: Life, kinds: tuple[type, ...]) -> Envelope | None:
    """The next message if it is of the kind, and nothing comes before it."""
    cell, mailbox = life.cell, life.cell.mailbox
    while not _must_look_up(life):
        batch, inbox = mailbox.batch, mailbox.inbox
        if mailbox.index < len(batch):
            envelope = batch[mailbox.index]
        elif inbox:
            envelope = inbox[0]
        else:
            return None
        kind = type(envelope[MESSAGE])
        # Not by a look into a set: the metaclass of any message would be asked for its hash.
        if not any(kind is one for one in kinds):
            return None
        if mailbox.index >= len(batch):
            mailbox.take()
        mailbox.places = None
        mailbox.index += 1
        cell.counts.reductions += 1
        life.turn_left -= 1
        life.until_clock -= 1
        is_plain = envelope[REPLY] is None and envelope[DEADLINE] is NO_DEADLINE
        if is_plain or is_wanted(life, envelope):
            before = cell.system.changes_log.before
            if before is not None and not before(cell, envelope):
                mailbox.put_back([envelope])
                return None
            cell.counts.handled += 1
            return envelope
    return None


def _must_look_up(life: Life) -> bool:
    """Whether the loop has something to see to before the next message."""
    return (
        bool(life.cell.mailbox.system_queued)
        or (life.wanted is not None and not life.draining)
        or life.suspended
        or life.held_by is not None
    )


# After the handler


def _close(life: Life, batch: Batch[object], result: object) -> Later[object]:
    """Settle what the handler has left open, and give back what the loop expects."""
    first = batch[0].envelope
    if result is not None:
        raise BadReply(life.cell.path, first[MESSAGE], result)
    for taken in batch:
        _answer(life, taken.envelope, is_done=taken.is_done)
    batch.close()
    life.gathered = None
    meter = life.cell.meter
    if meter is not None and batch.began:
        for taken in islice(batch, 1, None):
            _measure(life, meter, taken.envelope, batch.began)
    if life.span_began is not None:
        began, first_began = life.span_began, life.handling_began
        # As their waits are counted: until they were taken together.
        life.handling_began = batch.began
        for taken in islice(batch, 1, None):
            life.span_began = began
            tell_handled(life, taken.envelope)
        life.span_began, life.handling_began = began, first_began
    # The loop goes on as after any handler that answers later; the first one was answered here.
    life.activity.envelope, life.activity.out = first, None
    return Later(life, first)


def _answer(life: Life, envelope: Envelope, *, is_done: bool) -> None:
    reply = envelope[REPLY]
    if is_done or reply is None or reply.task is None or life.owes(envelope):
        return
    message = envelope[MESSAGE]
    if not life.table.fits(type(message), None):
        error = BadReply(life.cell.path, message, None)
        reply.fail(error)
        raise error
    reply.give(None)


def _measure(life: Life, meter: Meter, envelope: Envelope, began: float) -> None:
    """As `loop.measured`, for all but the first one: that has the whole time, counted once."""
    cell = life.cell
    _, _, _, _, enqueued_at, context = envelope
    if not enqueued_at:
        return
    spent = perf_counter() - began
    meter.handling_us[bucket(spent * MICRO)] += 1
    meter.waited_seconds += began - enqueued_at
    meter.queue_us[bucket((began - enqueued_at) * MICRO)] += 1
    if cell.senders is not None and context is not None and context.sender is not None:
        cell.senders[context.sender] = began
        forget_some(cell.senders)
    if cell.observers is not None:
        cell.system.changes_log.handled(cell, envelope, spent)
