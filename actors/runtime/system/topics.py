"""In-process publish and subscribe: one message object for all, each at its own pace.

Rule 1: publishing never waits and never fails; a subscriber that is full loses by its own policy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from time import perf_counter
from typing import Protocol, TypeAlias, runtime_checkable

from actors.runtime.delivery.envelope import NO_DEADLINE, Envelope, current_activity
from actors.runtime.delivery.mailbox import AWAITS_TURN, AWAKE
from actors.runtime.delivery.ref import AnyRef, Ref
from actors.runtime.life.cell import Cell, cell_of
from actors.runtime.telling.log import Log, failure_of
from actors.runtime.words.showing import shown

_log = Log("actors.topics")


@runtime_checkable
class Sink(Protocol):
    """Somebody outside the actors who takes messages of a topic, and returns at once."""

    def deliver(self, message: object, /) -> None:
        """Take one message. Raising ends the subscription."""


# Who may subscribe: an actor gets the messages in its mailbox, a sink at once.
Subscriber: TypeAlias = AnyRef | Sink


class Topics:
    """The topics of a system. Subscribing twice is one subscription; empty topics are freed."""

    def __init__(
        self, next_id: Callable[[], int], enqueue: Callable[[Iterable[Cell]], None]
    ) -> None:
        self._next_id = next_id
        self._enqueue = enqueue
        # Cells and sinks apart: delivering to a cell needs no call into foreign code.
        self._cells: dict[str, dict[Cell, None]] = {}
        # Sinks by `id`: their own `__hash__` and `__eq__` may fail where nobody can be told.
        self._sinks: dict[str, dict[int, Sink]] = {}
        # How many have raised, and were removed for it.
        self.failed_sinks = 0

    def subscribe(self, topic: str, subscriber: Subscriber) -> None:
        """Call this to get the topic's messages from now on, in order of publication, once.

        Raises TypeError for a topic that is no text.
        """
        topic = _plain(topic)
        if isinstance(subscriber, Ref):
            cell = cell_of(subscriber)
            if cell.gone:
                return
            self._cells.setdefault(topic, {})[cell] = None
            if cell.topics is None:
                cell.topics = set()
            cell.topics.add(topic)
        else:
            self._sinks.setdefault(topic, {})[id(subscriber)] = subscriber

    def unsubscribe(self, topic: str, subscriber: Subscriber) -> None:
        """Call this to get no more of them; harmless when not subscribed."""
        topic = _plain(topic)
        if isinstance(subscriber, Ref):
            self._remove_cell(topic, cell_of(subscriber))
        else:
            self._remove_sink(topic, subscriber)

    def publish(self, topic: str, message: object) -> int:
        """Call this to pass `message` to all subscribers; gives how many it reached.

        All of them have it when this returns, in the same envelope: what the same sender tells one
        of them afterwards comes after it. It holds the loop for that, about 0.15 us a subscriber;
        what they do with it is done in their own turns.
        """
        reached = 0
        if type(topic) is not str:
            topic = _plain(topic)
        cells = self._cells.get(topic)
        if cells:
            activity = current_activity.get()
            context = activity.out or activity.sending()
            envelope: Envelope = (
                message, self._next_id(), None, NO_DEADLINE, perf_counter(), context,
            )  # fmt: skip
            # A copy: the end of an actor, or a sink, may unsubscribe somebody meanwhile.
            reached = self._put(list(cells), envelope)
        sinks = self._sinks.get(topic)
        for sink in list(sinks.values()) if sinks else ():
            error = failure_of(sink.deliver, message)
            if error is None:
                reached += 1
                continue
            self.failed_sinks += 1
            self._remove_sink(topic, sink)
            _log.warning("sink_failed", topic=topic, sink=shown(sink), error=shown(error))
        return reached

    def _put(self, cells: list[Cell], envelope: Envelope) -> int:
        # `Mailbox.put` and `Cell.wake` written out: two thirds of what 10k subscribers cost here
        # were the calls.
        reached = 0
        woken: list[Cell] = []
        for cell in cells:
            mailbox = cell.mailbox
            if mailbox.idle == AWAITS_TURN and mailbox.limit:
                # By far the commonest; it is parked, so nothing lies before it.
                mailbox.inbox.append(envelope)
                mailbox.idle, mailbox.system_idle = AWAKE, False
                woken.append(cell)
                continue
            if len(mailbox.inbox) >= mailbox.limit:
                # One that is gone has ended its subscriptions, if not all of them yet.
                reached += not cell.gone and mailbox.put(envelope)
                continue
            mailbox.inbox.append(envelope)
            reached += 1
            if mailbox.idle:
                mailbox.idle, mailbox.system_idle = AWAKE, False
                cell.wake()
        if woken:
            self._enqueue(woken)
        return reached + len(woken)

    def subscribers(self, topic: str) -> int:
        """Call this to get how many are subscribed."""
        return len(self._cells.get(topic, ())) + len(self._sinks.get(topic, ()))

    def has_subscribers(self, topic: str) -> bool:
        """Call this before making a message that is for subscribers alone."""
        return topic in self._cells or topic in self._sinks

    def topics(self) -> list[str]:
        """Call this to get the topics that somebody is subscribed to."""
        return sorted({*self._cells, *self._sinks})

    def forget(self, cell: Cell) -> Iterator[None]:
        """Called when an actor is gone: removes it from one topic after another."""
        while cell.topics:
            self._remove_cell(cell.topics.pop(), cell)
            yield

    def _remove_cell(self, topic: str, cell: Cell) -> None:
        if cell.topics is not None:
            cell.topics.discard(topic)
        cells = self._cells.get(topic)
        # `pop` gives the None it holds for a cell when that was in it, else what it was given.
        if cells is not None and cells.pop(cell, cells) is None and not cells:
            del self._cells[topic]

    def _remove_sink(self, topic: str, sink: Sink) -> None:
        sinks = self._sinks.get(topic)
        if sinks is not None and sinks.pop(id(sink), None) is not None and not sinks:
            del self._sinks[topic]


def _plain(topic: str) -> str:
    """A text without code of its own: the runtime looks topics up where nobody can be told."""
    if type(topic) is str:
        return topic
    if not issubclass(type(topic), str):
        raise TypeError(f"the topic {shown(topic)} is no text; nothing was done")
    return str.__str__(topic)
