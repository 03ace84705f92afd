"""The messages of the WebSocket protocol, both directions and both forms (WEB-30, WEB-40).

Plain: nine messages, exactly. `greenroom.v1`: the same with ids, and `ack`; what it adds stands
behind the plain keys. Encoders give exactly the bytes of the specification; decoders take other
key orders and spaces, ignore unknown keys of a message, and raise `ProtocolViolation` with a code
and a text that says what is wrong and where. Which message is allowed when is decided in
`protocol.py`; which commands an endpoint takes at all is its `CommandTable`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, TypeVar

import msgspec

from web.api.shapes import why_unread
from web.realtime.errors import NotACommandClass, ProtocolViolation, SocketCode

T = TypeVar("T")

# The subprotocol's name in `Sec-WebSocket-Protocol`.
V1 = "greenroom.v1"
MESSAGE_ID_LENGTH_MAX = 64


class Form(enum.Enum):
    """Which form a connection speaks."""

    PLAIN = "plain"
    V1 = V1
    # No socket: the client only listens (`web/realtime/event_stream.py`).
    EVENTS = "events"


_Id = Annotated[str, msgspec.Meta(min_length=1, max_length=MESSAGE_ID_LENGTH_MAX)] | None


class _Mark(msgspec.Struct, frozen=True):
    epoch: str
    seq: Annotated[int, msgspec.Meta(ge=0)]


class _Subscribe(msgspec.Struct, tag="subscribe", frozen=True):
    topics: list[str]
    id: _Id = None
    resume: dict[str, _Mark] = {}


class _Unsubscribe(msgspec.Struct, tag="unsubscribe", frozen=True):
    topics: list[str]
    id: _Id = None


class _Command(msgspec.Struct, tag="command", frozen=True):
    action: msgspec.Raw
    topic: str | None = None
    id: _Id = None


class _Ping(msgspec.Struct, tag="ping", frozen=True):
    id: _Id = None


class _Pong(msgspec.Struct, tag="pong", frozen=True):
    id: _Id = None


class _PlainSubscribe(msgspec.Struct, tag="subscribe", frozen=True):
    topics: list[str]


class _PlainUnsubscribe(msgspec.Struct, tag="unsubscribe", frozen=True):
    topics: list[str]


class _PlainCommand(msgspec.Struct, tag="command", frozen=True):
    action: msgspec.Raw
    topic: str | None = None


class _PlainPing(msgspec.Struct, tag="ping", frozen=True):
    pass


class _PlainPong(msgspec.Struct, tag="pong", frozen=True):
    pass


class _Position(msgspec.Struct, frozen=True):
    epoch: str
    seq: int
    recovered: bool


class _Subscribed(msgspec.Struct, tag="subscribed", frozen=True):
    topics: list[str]
    id: _Id = None
    positions: dict[str, _Position] | None = None


class _Unsubscribed(msgspec.Struct, tag="unsubscribed", frozen=True):
    topics: list[str]
    id: _Id = None


class _Event(msgspec.Struct, tag="event", frozen=True):
    action: msgspec.Raw
    topic: str
    seq: int | None = None
    epoch: str | None = None
    correlation_id: str | None = None
    prev: int | None = None


class _Ack(msgspec.Struct, tag="ack", frozen=True):
    id: str
    result: msgspec.Raw
    position: str | None


class _Error(msgspec.Struct, tag="error", frozen=True):
    message: str
    code: SocketCode | None = None
    id: _Id = None
    retry_after: int | None = None
    missed: int | None = None


class _TypeOnly(msgspec.Struct):
    type: str


class _IdOnly(msgspec.Struct):
    id: _Id = None


_FromClient = _Subscribe | _Unsubscribe | _Command | _Ping | _Pong
_FromPlainClient = _PlainSubscribe | _PlainUnsubscribe | _PlainCommand | _PlainPing | _PlainPong
_FromServer = _Subscribed | _Unsubscribed | _Event | _Ack | _Error | _Ping | _Pong
_CLIENT_TYPES = frozenset({"subscribe", "unsubscribe", "command", "ping", "pong"})
_Decode = Callable[[str | bytes], T]
_decode_client: _Decode[_FromClient] = msgspec.json.Decoder(_FromClient).decode
_decode_plain: _Decode[_FromPlainClient] = msgspec.json.Decoder(_FromPlainClient).decode
_decode_server: _Decode[_FromServer] = msgspec.json.Decoder(_FromServer).decode
_decode_action: _Decode[str | dict[str, msgspec.Raw]] = msgspec.json.Decoder(
    str | dict[str, msgspec.Raw]
).decode
_decode_type: _Decode[_TypeOnly] = msgspec.json.Decoder(_TypeOnly).decode
_decode_id: _Decode[_IdOnly] = msgspec.json.Decoder(_IdOnly).decode
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
class Mark:
    """Holds a place in a topic: `seq` rises within an epoch; of another epoch it says nothing."""

    epoch: str
    seq: int


@dataclass(frozen=True, slots=True)
class Position:
    """Holds where a topic stands at a subscription, and whether what was missed follows."""

    epoch: str
    seq: int
    is_recovered: bool


# -- from the client; ids and `resume` are of greenroom.v1 --------------------------------------


@dataclass(frozen=True, slots=True)
class Subscribe:
    """A client wants to hear topics, some of them from where it heard them last."""

    topics: tuple[str, ...]
    id: str | None = None
    resume: Mapping[str, Mark] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """A client has heard enough of topics."""

    topics: tuple[str, ...]
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Command:
    """A client asks for a change, perhaps of one topic."""

    action: Action
    topic: str | None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Ping:
    """Either side asks whether the other is there."""

    id: str | None = None


@dataclass(frozen=True, slots=True)
class Pong:
    """Either side is."""

    id: str | None = None


# -- from the server; all but the first fields are of greenroom.v1 ------------------------------


@dataclass(frozen=True, slots=True)
class Subscribed:
    """The server granted topics."""

    topics: tuple[str, ...]
    id: str | None = None
    positions: Mapping[str, Position] | None = None


@dataclass(frozen=True, slots=True)
class Unsubscribed:
    """The server confirms the end of topics."""

    topics: tuple[str, ...]
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """Something happened in a topic.

    `prev` is the number of the event this reader was sent before, where numbers have holes.
    """

    action: Action
    topic: str
    seq: int | None = None
    epoch: str | None = None
    correlation_id: str | None = None
    prev: int | None = None


@dataclass(frozen=True, slots=True)
class Ack:
    """The message of that id is done; `result` is JSON, `position` a place in the store."""

    id: str
    result: bytes = b"null"
    position: str | None = None


@dataclass(frozen=True, slots=True)
class Error:
    """The server refuses a message, or tells of a gap."""

    message: str
    code: SocketCode | None = None
    id: str | None = None
    retry_after: int | None = None
    missed: int | None = None


ClientMessage = Subscribe | Unsubscribe | Command | Ping | Pong
ServerMessage = Subscribed | Unsubscribed | Event | Ack | Error | Ping | Pong


def action_of(value: msgspec.Struct) -> Action:
    """Call this to write a struct as an action: its class name and fields."""
    return Action(type(value).__name__, fields_of(value))


def fields_of(value: msgspec.Struct) -> bytes:
    """Call this to write the fields of a struct as JSON, without its tag."""
    return msgspec.json.encode(msgspec.structs.asdict(value))


def encode_client(message: ClientMessage) -> bytes:
    """Call this to get the bytes a client sends."""
    match message:
        case Subscribe(topics, message_id, resume):
            places = {topic: _Mark(mark.epoch, mark.seq) for topic, mark in resume.items()}
            return _topics("subscribe", topics, id=message_id, resume=places or None)
        case Unsubscribe(topics, message_id):
            return _topics("unsubscribe", topics, id=message_id)
        case Command(action, topic, message_id):
            head = b'{"type":"command","action":%b,"topic":%b' % (_action(action), _encode(topic))
            return head + _added(id=message_id)
        case Ping(message_id):
            return b'{"type":"ping"' + _added(id=message_id)
        case Pong(message_id):
            return b'{"type":"pong"' + _added(id=message_id)


def encode_server(message: ServerMessage) -> bytes:
    """Call this to get the bytes the server sends."""
    match message:
        case Subscribed(topics, message_id, positions):
            places = None if positions is None else _positions(positions)
            return _topics("subscribed", topics, id=message_id, positions=places)
        case Unsubscribed(topics, message_id):
            return _topics("unsubscribed", topics, id=message_id)
        case Event(action, topic, seq, epoch, correlation_id, prev):
            head = b'{"type":"event","action":%b,"topic":%b' % (_action(action), _encode(topic))
            return head + _added(seq=seq, epoch=epoch, correlation_id=correlation_id, prev=prev)
        case Ack(message_id, result, position):
            place = _encode(position)
            return b'{"type":"ack","id":%b,"result":%b,"position":%b}' % (
                _encode(message_id), result, place,
            )  # fmt: skip
        case Error(text, code, message_id, retry_after, missed):
            head = b'{"type":"error","message":%b' % _encode(text)
            return head + _added(code=code, id=message_id, retry_after=retry_after, missed=missed)
        case Ping(message_id):
            return b'{"type":"ping"' + _added(id=message_id)
        case Pong(message_id):
            return b'{"type":"pong"' + _added(id=message_id)


def decode_client(text: str | bytes, form: Form = Form.V1) -> ClientMessage:
    """Call this with what a client sent; raises `ProtocolViolation`.

    In the plain form `id` and `resume` are keys like any other unknown one.
    """
    # Half of a surrogate pair comes in no frame; whoever hands over such a text is told by the
    # decoder.
    why = why_unread(text if isinstance(text, bytes) else text.encode(errors="surrogatepass"))
    if why:
        raise ProtocolViolation(f"That is not JSON: {why}", SocketCode.BAD_JSON)
    found = _decoded(_decode_client if form is Form.V1 else _decode_plain, text)
    match found:
        case _Subscribe(topics, message_id, resume):
            marks = {topic: Mark(mark.epoch, mark.seq) for topic, mark in resume.items()}
            return Subscribe(tuple(topics), message_id, marks)
        case _Unsubscribe(topics, message_id):
            return Unsubscribe(tuple(topics), message_id)
        case _Command(action, topic, message_id):
            return Command(_parse_action(action), topic, message_id)
        case _Ping(message_id):
            return Ping(message_id)
        case _Pong(message_id):
            return Pong(message_id)
        case _PlainSubscribe(topics):
            return Subscribe(tuple(topics))
        case _PlainUnsubscribe(topics):
            return Unsubscribe(tuple(topics))
        case _PlainCommand(action, topic):
            return Command(_parse_action(action), topic)
        case _PlainPing():
            return Ping()
        case _PlainPong():
            return Pong()


def id_of(text: str) -> str | None:
    """Call this with a broken message of greenroom.v1: its id, where that can be read."""
    try:
        return _decode_id(text).id
    except (msgspec.DecodeError, RecursionError):
        return None


def decode_server(text: str | bytes) -> ServerMessage:
    """Call this with what a server sent, in either form; raises `ProtocolViolation`."""
    found = _decoded(_decode_server, text)
    match found:
        case _Subscribed(topics, message_id, positions):
            return Subscribed(tuple(topics), message_id, _places(positions))
        case _Unsubscribed(topics, message_id):
            return Unsubscribed(tuple(topics), message_id)
        case _Event(action, topic, seq, epoch, correlation_id, prev):
            return Event(_parse_action(action), topic, seq, epoch, correlation_id, prev)
        case _Ack(message_id, result, position):
            return Ack(message_id, bytes(result), position)
        case _Error(message, code, message_id, retry_after, missed):
            return Error(message, code, message_id, retry_after, missed)
        case _Ping(message_id):
            return Ping(message_id)
        case _Pong(message_id):
            return Pong(message_id)


def _decoded(decode: Callable[[str | bytes], T], data: str | bytes) -> T:
    """Decode, with the decoder's errors turned into ours; they name the place of the mistake."""
    try:
        return decode(data)
    except msgspec.ValidationError as error:
        raise ProtocolViolation(
            f"That message has a wrong shape: {error}", _code_of_shape(data)
        ) from error
    except msgspec.DecodeError as error:
        raise ProtocolViolation(f"That is not JSON: {error}", SocketCode.BAD_JSON) from error
    except RecursionError as error:
        raise ProtocolViolation(
            "That is not JSON: it is nested too deeply", SocketCode.BAD_JSON
        ) from error


def _code_of_shape(data: str | bytes) -> SocketCode:
    try:
        named = _decode_type(data).type
    except (msgspec.DecodeError, RecursionError):
        return SocketCode.BAD_MESSAGE
    return SocketCode.BAD_MESSAGE if named in _CLIENT_TYPES else SocketCode.UNKNOWN_TYPE


def _parse_action(raw: msgspec.Raw) -> Action:
    try:
        found = _decode_action(bytes(raw))
    except (msgspec.DecodeError, RecursionError) as error:
        raise ProtocolViolation(_BAD_ACTION, SocketCode.BAD_MESSAGE) from error
    if isinstance(found, str):
        return Action(found)
    if len(found) != 1:
        raise ProtocolViolation(_BAD_ACTION, SocketCode.BAD_MESSAGE)
    name, fields = next(iter(found.items()))
    return Action(name, bytes(fields))


def _action(action: Action) -> bytes:
    if action.fields == b"{}":
        return _encode(action.name)
    return b"{%b:%b}" % (_encode(action.name), action.fields)


def _topics(word: str, topics: Sequence[str], **added: object) -> bytes:
    head = b'{"type":"%b","topics":%b' % (word.encode("ascii"), _encode(topics))
    return head + _added(**added)


def _places(positions: Mapping[str, _Position] | None) -> Mapping[str, Position] | None:
    if positions is None:
        return None
    return {
        topic: Position(place.epoch, place.seq, place.recovered)
        for topic, place in positions.items()
    }


def _positions(positions: Mapping[str, Position]) -> dict[str, _Position]:
    return {
        topic: _Position(place.epoch, place.seq, place.is_recovered)
        for topic, place in positions.items()
    }


def _added(**values: object) -> bytes:
    """Write what is there of the added keys, and the end of the message."""
    known = [(name, value) for name, value in values.items() if value is not None]
    return (
        b"".join(b',"%b":%b' % (name.encode("ascii"), _encode(value)) for name, value in known)
        + b"}"
    )


class CommandTable:
    """Turns actions into commands: the closed list an endpoint takes from clients (WEB-32, SEC-56).

    A command class is a msgspec struct that refuses unknown fields; its class name is the
    action's name. `events` are names that exist but never come from a client; of the `lenient`
    classes unknown fields are passed over. Checked once, at start-up: raises `NotACommandClass` at
    construction.
    """

    def __init__(
        self,
        commands: Iterable[type[msgspec.Struct]],
        *,
        events: Iterable[type[msgspec.Struct]] = (),
        lenient: Collection[type[msgspec.Struct]] = (),
    ) -> None:
        self._decoders: dict[str, msgspec.json.Decoder[msgspec.Struct]] = {}
        self._events = frozenset(event.__name__ for event in events)
        for command in commands:
            name = command.__name__
            if command not in lenient and not command.__struct_config__.forbid_unknown_fields:
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
                raise ProtocolViolation(
                    f"{action.name} is an event, not a command.", SocketCode.NOT_A_COMMAND
                )
            raise ProtocolViolation(
                f"There is no command {_shown(action.name)} here.", SocketCode.UNKNOWN_ACTION
            )
        try:
            return decoder.decode(action.fields)
        except (msgspec.DecodeError, RecursionError) as error:
            raise ProtocolViolation(
                f"{action.name} has wrong fields: {error}", SocketCode.VALIDATION_ERROR
            ) from error


def _shown(name: str) -> str:
    """Show a name a client made up; cut, as the error is sent back."""
    return repr(name if len(name) <= 64 else name[:63] + "…")
