"""The nine messages of the plain WebSocket protocol, both directions (WEB-30).

Encoders give exactly the bytes of the specification; decoders take other key orders and spaces,
ignore unknown keys of a message, and raise `ProtocolViolation` with a text that says what is
wrong and where. Which message is allowed when is decided in `protocol.py`; which commands an
endpoint takes at all is its `CommandTable`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from web.realtime.errors import NotACommandClass, ProtocolViolation

T = TypeVar("T")


class _Subscribe(msgspec.Struct, tag="subscribe", frozen=True):
    topics: list[str]


class _Unsubscribe(msgspec.Struct, tag="unsubscribe", frozen=True):
    topics: list[str]


class _Command(msgspec.Struct, tag="command", frozen=True):
    action: msgspec.Raw
    topic: str | None = None


class _Ping(msgspec.Struct, tag="ping", frozen=True):
    pass


class _Pong(msgspec.Struct, tag="pong", frozen=True):
    pass


class _Subscribed(msgspec.Struct, tag="subscribed", frozen=True):
    topics: list[str]


class _Unsubscribed(msgspec.Struct, tag="unsubscribed", frozen=True):
    topics: list[str]


class _Event(msgspec.Struct, tag="event", frozen=True):
    action: msgspec.Raw
    topic: str


class _Error(msgspec.Struct, tag="error", frozen=True):
    message: str


_FromClient = _Subscribe | _Unsubscribe | _Command | _Ping | _Pong
_FromServer = _Subscribed | _Unsubscribed | _Event | _Error | _Ping | _Pong
_Decode = Callable[[str | bytes], T]
_decode_client: _Decode[_FromClient] = msgspec.json.Decoder(_FromClient).decode
_decode_server: _Decode[_FromServer] = msgspec.json.Decoder(_FromServer).decode
_decode_action: _Decode[str | dict[str, msgspec.Raw]] = msgspec.json.Decoder(
    str | dict[str, msgspec.Raw]
).decode
_encode = msgspec.json.Encoder().encode

_BAD_ACTION = (
    "That message has a wrong shape: an action is a name, or an object with its name as the "
    "only key - at `$.action`"
)
PING = b'{"type":"ping"}'
PONG = b'{"type":"pong"}'


@dataclass(frozen=True, slots=True)
class Action:
    """Holds an action as it stands on the wire: its name and the JSON of its fields."""

    name: str
    fields: bytes = b"{}"


@dataclass(frozen=True, slots=True)
class Subscribe:
    """A client wants to hear topics."""

    topics: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """A client has heard enough of topics."""

    topics: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Command:
    """A client asks for a change, perhaps of one topic."""

    action: Action
    topic: str | None


@dataclass(frozen=True, slots=True)
class Ping:
    """Either side asks whether the other is there."""


@dataclass(frozen=True, slots=True)
class Pong:
    """Either side is."""


@dataclass(frozen=True, slots=True)
class Subscribed:
    """The server granted topics."""

    topics: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unsubscribed:
    """The server confirms the end of topics."""

    topics: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Event:
    """Something happened in a topic."""

    action: Action
    topic: str


@dataclass(frozen=True, slots=True)
class Error:
    """The server refuses a message."""

    message: str


ClientMessage = Subscribe | Unsubscribe | Command | Ping | Pong
ServerMessage = Subscribed | Unsubscribed | Event | Error | Ping | Pong


def action_of(value: msgspec.Struct) -> Action:
    """Call this to write a struct as an action: its class name and fields."""
    return Action(type(value).__name__, msgspec.json.encode(msgspec.structs.asdict(value)))


def encode_client(message: ClientMessage) -> bytes:
    """Call this to get the bytes a client sends."""
    match message:
        case Subscribe(topics):
            return _topics("subscribe", topics)
        case Unsubscribe(topics):
            return _topics("unsubscribe", topics)
        case Command(action, topic):
            return b'{"type":"command","action":%b,"topic":%b}' % (_action(action), _encode(topic))
        case Ping():
            return PING
        case Pong():
            return PONG


def encode_server(message: ServerMessage) -> bytes:
    """Call this to get the bytes the server sends."""
    match message:
        case Subscribed(topics):
            return _topics("subscribed", topics)
        case Unsubscribed(topics):
            return _topics("unsubscribed", topics)
        case Event(action, topic):
            return b'{"type":"event","action":%b,"topic":%b}' % (_action(action), _encode(topic))
        case Error(text):
            return b'{"type":"error","message":%b}' % _encode(text)
        case Ping():
            return PING
        case Pong():
            return PONG


def decode_client(text: str | bytes) -> ClientMessage:
    """Call this with what a client sent; raises `ProtocolViolation`."""
    found = _decoded(_decode_client, text)
    match found:
        case _Subscribe(topics):
            return Subscribe(tuple(topics))
        case _Unsubscribe(topics):
            return Unsubscribe(tuple(topics))
        case _Command(action, topic):
            return Command(_parse_action(action), topic)
        case _Ping():
            return Ping()
        case _Pong():
            return Pong()


def decode_server(text: str | bytes) -> ServerMessage:
    """Call this with what a server sent; raises `ProtocolViolation`."""
    found = _decoded(_decode_server, text)
    match found:
        case _Subscribed(topics):
            return Subscribed(tuple(topics))
        case _Unsubscribed(topics):
            return Unsubscribed(tuple(topics))
        case _Event(action, topic):
            return Event(_parse_action(action), topic)
        case _Error(message):
            return Error(message)
        case _Ping():
            return Ping()
        case _Pong():
            return Pong()


def _decoded(decode: Callable[[str | bytes], T], data: str | bytes) -> T:
    """Decode, with the decoder's errors turned into ours; they name the place of the mistake."""
    try:
        return decode(data)
    except msgspec.ValidationError as error:
        raise ProtocolViolation(f"That message has a wrong shape: {error}") from error
    except msgspec.DecodeError as error:
        raise ProtocolViolation(f"That is not JSON: {error}") from error
    except RecursionError as error:
        raise ProtocolViolation("That is not JSON: it is nested too deeply") from error


def _parse_action(raw: msgspec.Raw) -> Action:
    try:
        found = _decode_action(bytes(raw))
    except (msgspec.DecodeError, RecursionError) as error:
        raise ProtocolViolation(_BAD_ACTION) from error
    if isinstance(found, str):
        return Action(found)
    if len(found) != 1:
        raise ProtocolViolation(_BAD_ACTION)
    name, fields = next(iter(found.items()))
    return Action(name, bytes(fields))


def _action(action: Action) -> bytes:
    if action.fields == b"{}":
        return _encode(action.name)
    return b"{%b:%b}" % (_encode(action.name), action.fields)


def _topics(word: str, topics: Sequence[str]) -> bytes:
    return b'{"type":"%b","topics":%b}' % (word.encode("ascii"), _encode(topics))


class CommandTable:
    """Turns actions into commands: the closed list an endpoint takes from clients (WEB-32, SEC-56).

    A command class is a msgspec struct that refuses unknown fields; its class name is the
    action's name. `events` are names that exist but never come from a client. Checked once, at
    start-up: raises `NotACommandClass` at construction.
    """

    def __init__(
        self,
        commands: Iterable[type[msgspec.Struct]],
        *,
        events: Iterable[type[msgspec.Struct]] = (),
    ) -> None:
        self._decoders: dict[str, msgspec.json.Decoder[msgspec.Struct]] = {}
        self._events = frozenset(event.__name__ for event in events)
        for command in commands:
            name = command.__name__
            if not command.__struct_config__.forbid_unknown_fields:
                raise NotACommandClass(name, "it must set forbid_unknown_fields=True.")
            if name in self._decoders or name in self._events:
                raise NotACommandClass(name, "the name is taken by another command or event.")
            self._decoders[name] = msgspec.json.Decoder(command)

    def __repr__(self) -> str:
        return f"<CommandTable {sorted(self._decoders)}>"

    def parse(self, action: Action) -> msgspec.Struct:
        """Call this to get the command; raises `ProtocolViolation` naming what is wrong."""
        decoder = self._decoders.get(action.name)
        if decoder is None:
            if action.name in self._events:
                raise ProtocolViolation(f"{action.name} is an event, not a command.")
            raise ProtocolViolation(f"There is no command {_shown(action.name)} here.")
        try:
            return decoder.decode(action.fields)
        except (msgspec.DecodeError, RecursionError) as error:
            raise ProtocolViolation(f"{action.name} has wrong fields: {error}") from error


def _shown(name: str) -> str:
    """Show a name a client made up; cut, as the error is sent back."""
    return repr(name if len(name) <= 64 else name[:63] + "…")
