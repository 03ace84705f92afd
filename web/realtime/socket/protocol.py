"""The WebSocket JSON protocol of one connection, without a socket.

WEB-30, WEB-31, WEB-32, WEB-33, WEB-34.

Messages go in with the time, decisions come out: reply, subscribe, carry out a command, close.
No clock, no tasks: `connection.py` carries them out. The bytes of messages are in `messages.py`.
How often something may happen is counted in token buckets, by the time that is passed in (SEC-47).

Rule 1: a broken message costs its sender an error, never the connection, until there are too
        many of them.
Rule 2: nothing is decided here about who may do what; that is asked by the connection.
"""

from __future__ import annotations

import enum
import re
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from web.realtime.errors import ProtocolViolation
from web.realtime.socket.messages import (
    PONG,
    Command,
    CommandTable,
    Error,
    Ping,
    Pong,
    Subscribe,
    Subscribed,
    Unsubscribe,
    Unsubscribed,
    decode_client,
    encode_server,
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


@dataclass(frozen=True, slots=True)
class Close:
    """End the connection."""

    code: CloseCode
    reason: str


Decision = Reply | AskTopics | DropTopics | RunCommand | Close


class ServerProtocol:
    """Decides what follows from each message of one client."""

    def __init__(
        self, commands: CommandTable, now: float, limits: ProtocolLimits | None = None
    ) -> None:
        self._limits = limits or ProtocolLimits()
        self._commands = commands
        self._command_bucket = TokenBucket(self._limits.commands, now)
        self._frame_bucket = TokenBucket(self._limits.frames, now)
        self._flood_began = float("-inf")
        self._dropped_at = float("-inf")
        self._flood_told = float("-inf")
        self._bad: deque[float] = deque()
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
        return [_error("Too many frames: at most 100 a second are read; some were dropped.")]

    def receive_text(self, text: str, now: float) -> list[Decision]:
        """Call this with each text message, in order."""
        if not text:
            return self._bad_message("That message is empty.", now)
        try:
            message = decode_client(text)
            match message:
                case Subscribe(topics):
                    return self._subscribe(topics)
                case Unsubscribe(topics):
                    return self._unsubscribe(topics)
                case Command():
                    return self._command(message, now)
                case Ping():
                    return [Reply(PONG)]
                case Pong():
                    return []
        except ProtocolViolation as error:
            return self._bad_message(str(error), now)

    def receive_bytes(self, now: float) -> list[Decision]:
        """Call this for a binary message: this protocol has none."""
        return self._bad_message("That message is binary; send JSON as text.", now)

    def granted(self, topics: Iterable[str]) -> bytes:
        """Call this with the granted ones of `AskTopics`: the reply; they are held from now on."""
        held = dict.fromkeys(topics)
        self.topics.update(held)
        return encode_server(Subscribed(tuple(held)))

    def refused(self, topic: str) -> bytes:
        """Call this for each refused one: forbidden and unknown read alike (SEC-55)."""
        shown = topic if TOPIC_NAME.fullmatch(topic) else "that name"
        return encode_server(Error(f"No topic {shown} for you here."))

    def _subscribe(self, topics: tuple[str, ...]) -> list[Decision]:
        wanted = tuple(dict.fromkeys(topics))
        new = [topic for topic in wanted if topic not in self.topics]
        if len(self.topics) + len(new) > self._limits.topics_max:
            return [_error(f"Too many topics: {self._limits.topics_max} at most; none was added.")]
        return [AskTopics(wanted)]

    def _unsubscribe(self, topics: tuple[str, ...]) -> list[Decision]:
        wanted = tuple(dict.fromkeys(topics))
        for topic in wanted:
            self.topics.pop(topic, None)
        return [DropTopics(wanted, encode_server(Unsubscribed(wanted)))]

    def _command(self, message: Command, now: float) -> list[Decision]:
        if not self._command_bucket.take(now):
            return [_error("Too many commands: at most 20 a second; this one was not executed.")]
        return [RunCommand(self._commands.parse(message.action), message.topic)]

    def _bad_message(self, text: str, now: float) -> list[Decision]:
        # A window that slides: at most eleven times are kept, however many messages were broken.
        self._bad.append(now)
        while self._bad[0] <= now - self._limits.bad_messages_s:
            self._bad.popleft()
        if len(self._bad) > self._limits.bad_messages_max:
            return [_error(text), Close(CloseCode.MISUSE, "too many broken messages")]
        return [_error(text)]


def _error(text: str) -> Reply:
    return Reply(encode_server(Error(text)))


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
