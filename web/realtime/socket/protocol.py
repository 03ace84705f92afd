"""The WebSocket JSON protocol of one connection, without a socket.

WEB-30, WEB-31, WEB-32, WEB-33, WEB-34, WEB-40, WEB-43.

Messages go in with the time, decisions come out: reply, subscribe, carry out a command, close.
No clock, no tasks: `connection.py` carries them out. The bytes of messages are in `messages.py`.
How often something may happen is counted in token buckets, by the time that is passed in (SEC-47).

Rule 1: a broken message costs its sender an error, never the connection, until there are too
        many of them.
Rule 2: nothing is decided here about who may do what; that is asked by the connection.
Rule 3: a message with an id is answered by exactly one message with that id.
"""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

import msgspec

from web.realtime.errors import ProtocolViolation, SocketCode
from web.realtime.socket.messages import (
    PONG,
    Ack,
    Command,
    CommandTable,
    Error,
    Form,
    Mark,
    Ping,
    Pong,
    Position,
    Subscribe,
    Subscribed,
    Unsubscribe,
    Unsubscribed,
    decode_client,
    encode_server,
    id_of,
)


@dataclass(frozen=True, slots=True)
class Rate:
    """Holds a limit: `per_s` in the long run, `burst` at once."""

    per_s: float
    burst: float


# SEC-47: a person types two a second, a program that reconnects sends its offline queue.
COMMAND_RATE = Rate(20, 40)
# SEC-47: pings and pongs count too.
FRAME_RATE = Rate(100, 200)
_FLOOD_PAUSE_S = 1.0
TOPIC_NAME = re.compile(r"[a-z][a-z0-9._:-]{0,127}")


class CloseCode(enum.IntEnum):
    """Why the server ends a connection (WEB-46)."""

    NORMAL = 1000
    GOING_AWAY = 1001
    BAD_UTF8 = 1007
    MISUSE = 1008
    TOO_BIG = 1009
    BUG = 1011
    SLOW = 1013
    SESSION_ENDED = 4401
    BANNED = 4403
    DEAD = 4408


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtocolLimits:
    """Holds what one connection may do, and how often (SEC-47, SEC-51)."""

    commands: Rate = COMMAND_RATE
    frames: Rate = FRAME_RATE
    # A burst that goes on this long is not a burst.
    flood_s: float = 2.0
    # SEC-51: a broken client is told ten times what is wrong.
    bad_messages_max: int = 10
    bad_messages_s: float = 60.0
    topics_max: int = 100


@dataclass(frozen=True, slots=True)
class Reply:
    """Send these bytes as one text message."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class AskTopics:
    """Authorise these topics, in this order, then answer with `granted`."""

    topics: tuple[str, ...]
    id: str | None = None
    resume: Mapping[str, Mark] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DropTopics:
    """End these subscriptions, then send `reply`."""

    topics: tuple[str, ...]
    reply: bytes


@dataclass(frozen=True, slots=True)
class RunCommand:
    """Authorise and carry out a command."""

    command: msgspec.Struct
    topic: str | None
    id: str | None = None
    # Tells another command of the same id.
    asked: bytes = b""


@dataclass(frozen=True, slots=True)
class Close:
    """End the connection."""

    code: CloseCode
    reason: str


Decision = Reply | AskTopics | DropTopics | RunCommand | Close


class ServerProtocol:
    """Decides what follows from each message of one client."""

    def __init__(
        self,
        commands: CommandTable,
        now: float,
        limits: ProtocolLimits | None = None,
        form: Form = Form.PLAIN,
    ) -> None:
        self._limits = limits or ProtocolLimits()
        self._commands = commands
        self.form = form
        self._command_bucket = TokenBucket(self._limits.commands, now)
        self._frame_bucket = TokenBucket(self._limits.frames, now)
        self._flood_began = float("-inf")
        self._dropped_at = float("-inf")
        self._flood_told = float("-inf")
        # A list: it is short, and an empty deque holds 700 bytes for each idle connection.
        self._bad: list[float] = []
        self.topics: dict[str, None] = {}

    def __repr__(self) -> str:
        return f"<ServerProtocol topics={list(self.topics)} bad={len(self._bad)}>"

    def admit_frame(self, now: float) -> bool:
        """Call this for every frame of any kind; False drops it (see `flood`)."""
        if self._frame_bucket.take(now):
            return True
        # The bucket earns a frame now and then in the middle of a flood; a pause ends it.
        if now - self._dropped_at > _FLOOD_PAUSE_S:
            self._flood_began = now
        self._dropped_at = now
        return False

    def flood(self, now: float) -> list[Decision]:
        """Call this after a dropped frame: told once a second, closed after two."""
        if now - self._flood_began >= self._limits.flood_s:
            return [Close(CloseCode.MISUSE, "too many frames")]
        if now - self._flood_told < 1.0:
            return []
        self._flood_told = now
        per_s = self._limits.frames.per_s
        text = f"Too many frames: at most {per_s:.0f} a second are read; some were dropped."
        return [Reply(self.error(text, SocketCode.TOO_MANY_REQUESTS, retry_after=1))]

    def error(
        self,
        text: str,
        code: SocketCode,
        message_id: str | None = None,
        *,
        retry_after: float | None = None,
        missed: int | None = None,
    ) -> bytes:
        """Call this for the bytes of an error; a plain connection is told the text alone."""
        if self.form is Form.PLAIN:
            return encode_server(Error(text))
        wait = None if retry_after is None else max(1, math.ceil(retry_after))
        return encode_server(Error(text, code, message_id, wait, missed))

    def receive_text(self, text: str, now: float, *, is_late: bool = False) -> list[Decision]:
        """Call this with each text message, in order; late ones came when the server stopped."""
        if not text:
            return self._bad_message("That message is empty.", SocketCode.BAD_JSON, None, now)
        message_id: str | None = None
        try:
            message = decode_client(text, self.form)
            message_id = message.id
            match message:
                case Subscribe():
                    return self._subscribe(message, now)
                case Unsubscribe(topics):
                    return self._unsubscribe(topics, message_id)
                case Command():
                    return self._command(message, now, is_late=is_late)
                case Ping():
                    return [Reply(PONG), *_acknowledged(message_id)]
                case Pong():
                    return _acknowledged(message_id)
        except ProtocolViolation as error:
            if message_id is None and self.form is Form.V1:
                message_id = id_of(text)
            return self._bad_message(str(error), error.code, message_id, now)

    def receive_bytes(self, now: float) -> list[Decision]:
        """Call this for a binary message: this protocol has none."""
        text = "That message is binary; send JSON as text."
        return self._bad_message(text, SocketCode.BAD_MESSAGE, None, now)

    def granted(
        self,
        topics: Iterable[str],
        message_id: str | None = None,
        positions: Mapping[str, Position] | None = None,
    ) -> bytes:
        """Call this with the granted ones of `AskTopics`: the reply; they are held from now on."""
        held = dict.fromkeys(topics)
        self.topics.update(held)
        if self.form is Form.PLAIN:
            return encode_server(Subscribed(tuple(held)))
        return encode_server(Subscribed(tuple(held), message_id, positions or {}))

    def refused(self, topic: str) -> bytes:
        """Call this for each refused one: forbidden and unknown read alike (SEC-55)."""
        # Without the id of the message: `subscribed` has it, and answers once.
        shown = topic if TOPIC_NAME.fullmatch(topic) else "that name"
        return self.error(f"No topic {shown} for you here.", SocketCode.FORBIDDEN)

    def withdrawn(self, topic: str) -> tuple[bytes, bytes]:
        """Call this for a topic that the client may not hear any more (WEB-45)."""
        self.topics.pop(topic, None)
        text = f"No topic {topic} for you here any more."
        return encode_server(Unsubscribed((topic,))), self.error(text, SocketCode.FORBIDDEN)

    def acknowledged(self, message_id: str, result: bytes, position: str | None) -> bytes:
        """Call this for the answer to a command that is committed (greenroom.v1)."""
        return encode_server(Ack(message_id, result, position))

    def _subscribe(self, message: Subscribe, now: float) -> list[Decision]:
        wanted = tuple(dict.fromkeys(message.topics))
        new = [topic for topic in wanted if topic not in self.topics]
        if len(self.topics) + len(new) > self._limits.topics_max:
            text = f"Too many topics: {self._limits.topics_max} at most; none was added."
            return [Reply(self.error(text, SocketCode.TOO_MANY_TOPICS, message.id))]
        if message.resume and not self._command_bucket.take(now):
            # What it missed is perhaps read from the store: as dear as a command.
            return [self._too_many(message.id, "nothing was subscribed")]
        return [AskTopics(wanted, message.id, message.resume)]

    def _unsubscribe(self, topics: tuple[str, ...], message_id: str | None) -> list[Decision]:
        wanted = tuple(dict.fromkeys(topics))
        for topic in wanted:
            self.topics.pop(topic, None)
        return [DropTopics(wanted, encode_server(Unsubscribed(wanted, message_id)))]

    def _command(self, message: Command, now: float, *, is_late: bool) -> list[Decision]:
        if is_late:
            text = "The server stops; this was not executed. Send it again after the restart."
            code = SocketCode.SHUTTING_DOWN
            return [Reply(self.error(text, code, message.id, retry_after=1))]
        if not self._command_bucket.take(now):
            return [self._too_many(message.id, "this one was not executed")]
        command = self._commands.parse(message.action)
        asked = b"" if message.id is None else _asked(command, message.topic)
        return [RunCommand(command, message.topic, message.id, asked)]

    def _too_many(self, message_id: str | None, what: str) -> Reply:
        per_s = self._limits.commands.per_s
        text = f"Too many commands: at most {per_s:.0f} a second; {what}."
        code = SocketCode.TOO_MANY_REQUESTS
        return Reply(self.error(text, code, message_id, retry_after=1 / per_s))

    def _bad_message(
        self, text: str, code: SocketCode, message_id: str | None, now: float
    ) -> list[Decision]:
        told = Reply(self.error(text, code, message_id))
        # A window that slides: at most eleven times are kept, however many messages were broken.
        self._bad.append(now)
        while self._bad[0] <= now - self._limits.bad_messages_s:
            self._bad.pop(0)
        if len(self._bad) > self._limits.bad_messages_max:
            return [told, Close(CloseCode.MISUSE, "too many broken messages")]
        return [told]


def _acknowledged(message_id: str | None) -> list[Decision]:
    return [] if message_id is None else [Reply(encode_server(Ack(message_id)))]


def _asked(command: msgspec.Struct, topic: str | None) -> bytes:
    # Of what was understood, so that other spaces are no other command; kept for ten minutes, so
    # not the whole of it.
    name = f"{type(command).__name__} {topic} "
    whole = name.encode() + msgspec.json.encode(msgspec.structs.asdict(command))
    return blake2b(whole, digest_size=16).digest()


class TokenBucket:
    """Allows `rate.burst` things at once and `rate.per_s` in the long run."""

    __slots__ = ("_at", "_rate", "_tokens")

    def __init__(self, rate: Rate, now: float) -> None:
        self._rate, self._tokens, self._at = rate, rate.burst, now

    def __repr__(self) -> str:
        return f"<TokenBucket {self._tokens:.1f} of {self._rate.burst}>"

    def take(self, now: float) -> bool:
        """Call this for each thing that happens; False when it is one too many."""
        # No task fills it: what it earned since the last look is reckoned now.
        earned = (now - self._at) * self._rate.per_s
        self._tokens = min(self._rate.burst, self._tokens + max(0.0, earned))
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
