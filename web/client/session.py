"""What a client says and what it makes of what it hears, without any I/O (WEB-50, WEB-51, WEB-52).

A `Session` outlives its connections. `opened` and `lost` tell it of them, `heard` gives it each
frame; it answers with frames to send, and settles what was promised by calling what it was given.
Rule 1: commands go out in the order they were given; one that was under way when the connection was
        lost is sent again under its id, as long as the server remembers ids.
Rule 2: of each topic the last place is kept; an event at or before it is not told again, and one
        behind a hole is not told until the hole was asked for.
Rule 3: what cannot be read changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from web.client.errors import CommandOverdue, CommandRefused
from web.realtime import (
    Ack,
    Action,
    Command,
    Error,
    Event,
    Mark,
    Ping,
    Pong,
    Position,
    ProtocolViolation,
    Subscribe,
    Subscribed,
    Unsubscribe,
    decode_server,
    encode_client,
)

# The server keeps answers for 10 minutes: later a command sent again might be carried out twice.
REPEATABLE_S = 9 * 60.0


@dataclass(frozen=True, slots=True)
class TopicEvent:
    """Something happened in a topic; `seq` and `epoch` are None on a plain connection."""

    topic: str
    name: str
    fields: Mapping[str, object]
    seq: int | None
    epoch: str | None

    @property
    def position(self) -> str | None:
        """Its place, as an `Acknowledged` command has it: so a program knows its own."""
        return None if self.seq is None else f"{self.epoch}.{self.seq}"


@dataclass(frozen=True, slots=True)
class Gap:
    """Events of a topic were lost for good: load its state anew."""

    topic: str


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The answer to a command: its result, and its place where it has one.

    `position` is that of the event the command made, which may come before or after the answer.
    """

    result: object
    position: str | None


Settle = Callable[[Acknowledged | Exception], None]
Tell = Callable[[TopicEvent | Gap], None]


@dataclass(slots=True)
class _Topic:
    tell: list[Tell] = field(default_factory=list)
    mark: Mark | None = None
    is_asked: bool = False
    was_heard: bool = False


@dataclass(slots=True)
class _Sending:
    command: Command
    settle: Settle
    sent_at: float | None = None
    is_sent: bool = False


class Session:
    """The memory of a client. `now` is a clock in seconds; `complain` is told what is wrong."""

    def __init__(self, now: Callable[[], float], complain: Callable[[Exception], None]) -> None:
        self._now, self._complain = now, complain
        self._topics: dict[str, _Topic] = {}
        self._commands: dict[str, _Sending] = {}
        self._last_id = 0
        self._is_open = self.is_versioned = False

    @property
    def unsent(self) -> int:
        """How many commands wait for a connection."""
        return sum(not one.is_sent for one in self._commands.values())

    def opened(self, *, is_versioned: bool) -> list[bytes]:
        """Call this when a connection is open: what is to be sent first."""
        self._is_open, self.is_versioned = True, is_versioned
        return self._ask(self._topics) + self._flush()

    def lost(self) -> None:
        """Call this when a connection is gone."""
        self._is_open = False
        for topic in self._topics.values():
            topic.is_asked = False
        for one in self._commands.values():
            one.is_sent = False

    def end(self, reason: Exception) -> None:
        """Call this when there will be no other connection: whoever waits is told."""
        self._is_open = False
        for message_id in tuple(self._commands):
            self._settle(message_id, reason)

    def command(self, action: Action, topic: str | None, settle: Settle) -> tuple[str, list[bytes]]:
        """Call this to give a command: its id, and what is to be sent now."""
        message_id = self._next_id()
        self._commands[message_id] = _Sending(Command(action, topic, message_id), settle)
        return message_id, self._flush()

    def is_under_way(self, message_id: str) -> bool:
        """Tell whether a command was sent on the present connection and has no answer."""
        one = self._commands.get(message_id)
        return one is not None and one.is_sent

    def withdraw(self, message_id: str) -> None:
        """Call this when nobody waits for a command any more: it is not sent again."""
        self._commands.pop(message_id, None)

    def subscribe(self, name: str, tell: Tell) -> list[bytes]:
        """Call this to have `tell` called with each event of a topic: what is to be sent."""
        is_new = name not in self._topics
        self._topics.setdefault(name, _Topic()).tell.append(tell)
        return self._ask([name]) if is_new else []

    def unsubscribe(self, name: str, tell: Tell) -> list[bytes]:
        """Call this to end that."""
        topic = self._topics.get(name)
        if topic is None or tell not in topic.tell:
            return []
        topic.tell.remove(tell)
        if topic.tell:
            return []
        del self._topics[name]
        return [encode_client(Unsubscribe((name,)))] if self._is_open else []

    def heard(self, data: str | bytes) -> list[bytes]:
        """Call this with each frame: what is to be sent in answer."""
        try:
            message = decode_server(data)
        except ProtocolViolation as error:
            self._complain(error)
            return []
        match message:
            case Event():
                return self._happened(message)
            case Ack(message_id, result, position):
                self._settle(message_id, Acknowledged(msgspec.json.decode(result), position))
            case Subscribed(topics, _, positions):
                self._granted(topics, positions)
            case Error():
                return self._refused(message)
            case Ping():
                return [encode_client(Pong())]
            case _:
                pass
        return []

    def _next_id(self) -> str:
        self._last_id += 1
        return f"c{self._last_id}"

    def _ask(self, names: Iterable[str]) -> list[bytes]:
        names = tuple(names)
        if not self._is_open or not names:
            return []
        resume: dict[str, Mark] = {}
        for name in names:
            topic = self._topics[name]
            topic.is_asked = True
            if topic.mark is not None and self.is_versioned:
                resume[name] = topic.mark
        message_id = self._next_id() if self.is_versioned else None
        return [encode_client(Subscribe(names, message_id, resume))]

    def _flush(self) -> list[bytes]:
        if not self._is_open:
            return []
        frames: list[bytes] = []
        now = self._now()
        for message_id, one in tuple(self._commands.items()):
            if one.is_sent:
                continue
            if one.sent_at is not None and now - one.sent_at > REPEATABLE_S:
                self._settle(message_id, CommandOverdue())
                continue
            one.is_sent = True
            one.sent_at = now if one.sent_at is None else one.sent_at
            if self.is_versioned:
                frames.append(encode_client(one.command))
            else:
                plain = Command(one.command.action, one.command.topic)
                frames.append(encode_client(plain))
                self._settle(message_id, Acknowledged(None, None))
        return frames

    def _settle(self, message_id: str, how: Acknowledged | Exception) -> None:
        one = self._commands.pop(message_id, None)
        if one is not None:
            one.settle(how)

    def _happened(self, event: Event) -> list[bytes]:
        topic = self._topics.get(event.topic)
        if topic is None:
            return []
        if event.seq is not None and event.epoch is not None:
            mark = topic.mark
            if mark is not None and mark.epoch == event.epoch:
                if event.seq <= mark.seq:
                    return []
                if event.prev is not None and event.prev != mark.seq:
                    # Something is missing: it is asked for, and this one comes again behind it.
                    return [] if topic.is_asked else self._ask([event.topic])
            topic.mark = Mark(event.epoch, event.seq)
        fields = msgspec.json.decode(event.action.fields)
        told = TopicEvent(event.topic, event.action.name, fields, event.seq, event.epoch)
        for tell in tuple(topic.tell):
            tell(told)
        return []

    def _granted(self, names: Iterable[str], positions: Mapping[str, Position] | None) -> None:
        for name in names:
            topic = self._topics.get(name)
            if topic is None:
                continue
            place = None if positions is None else positions.get(name)
            is_resumed = topic.was_heard
            topic.is_asked, topic.was_heard = False, True
            is_lost = place is None or not place.is_recovered
            if place is not None and (is_lost or topic.mark is None):
                topic.mark = Mark(place.epoch, place.seq)
            if is_lost and is_resumed:
                for tell in tuple(topic.tell):
                    tell(Gap(name))

    def _refused(self, error: Error) -> list[bytes]:
        code = "REFUSED" if error.code is None else str(error.code.value)
        if error.id is not None and error.id in self._commands:
            if code == "SHUTTING_DOWN":
                self._commands[error.id].is_sent = False  # nothing was done: it goes to the next
            else:
                self._settle(error.id, CommandRefused(error.message, code, error.retry_after))
            return []
        if code == "LAGGED":
            return self._ask(self._topics)
        self._complain(CommandRefused(error.message, code, error.retry_after))
        return []
