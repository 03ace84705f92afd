"""The messages of OTLP that traces need, written as protocol buffers by hand; and what is answered.

They are a dozen fields whose numbers never change, so neither a library of protocol buffers nor an
SDK is needed for them. Names and numbers are those of `opentelemetry/proto/trace/v1/trace.proto`
and of `collector/trace/v1/trace_service.proto`.

Rule 1: pure, and of no loop: it is done in a thread, which gives way between spans.
Rule 2: nothing is told of a span that its page does not show: whose it is stays here.
"""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from time import sleep
from typing import Final

from actors.runtime.telling.spans import Record, SpanRead, Value
from web.observability.operating.traces.kept import CUT, OWNER, REQUEST

SCOPE: Final = "greenroom"
# Other work of the process has a turn after so many: a millisecond or less.
TURN_SPANS: Final = 16
# Ids are most of what is left, and a higher one packs them no better.
GZIP_LEVEL: Final = 1

INTERNAL, SERVER, CLIENT, PRODUCER, CONSUMER = 1, 2, 3, 4, 5
KINDS: Final = {
    REQUEST: SERVER,
    "ws.command": SERVER,
    "mail.send": CLIENT,
    "outbox.send": PRODUCER,
    "bus.publish": PRODUCER,
    "bus.handle": CONSUMER,
}
_STATUS_ERROR: Final = 2
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_INT64: Final = 2**63
_NANOS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Encoded:
    """One request's body: of so many spans, without those that could not be written."""

    body: bytes
    spans: int
    unreadable: int


def encode(
    records: Iterable[Record],
    read: Callable[[Record], SpanRead],
    zero_ns: int,
    resource: Mapping[str, str],
) -> Encoded:
    """Call this in a thread for the body of a request, packed by gzip.

    `zero_ns` is when the clock of the spans was 0, in nanoseconds of 1970; `resource` tells whose
    the spans are.
    """
    spans = bytearray()
    written = unreadable = 0
    for record in records:
        try:
            spans += _field(2, _span(read(record), zero_ns))
            written += 1
        except (ValueError, TypeError, OverflowError, LookupError, struct.error):
            # One that somebody's own `span(...)` has filled with nonsense costs no other.
            unreadable += 1
        if (written + unreadable) % TURN_SPANS == 0:
            sleep(0)
    scope = _field(1, _text(1, SCOPE))
    whose = b"".join(_attribute(1, name, value) for name, value in resource.items())
    body = _field(1, _field(1, whose) + _field(2, scope + bytes(spans)))
    return Encoded(gzip.compress(body, GZIP_LEVEL, mtime=0), written, unreadable)


def _span(one: SpanRead, zero_ns: int) -> bytes:
    trace, span = bytes.fromhex(one.trace), bytes.fromhex(one.span)
    if len(trace) != 16 or len(span) != 8:
        raise ValueError("no id of a trace or of a span")
    parts = [_field(1, trace), _field(2, span)]
    if one.parent:
        parts.append(_field(4, bytes.fromhex(one.parent)))
    parts += [
        _text(5, one.name),
        _number(6, KINDS.get(one.name, INTERNAL)),
        _moment(7, zero_ns, one.began),
        _moment(8, zero_ns, one.ended),
    ]
    if one.path:
        parts.append(_attribute(9, "actor.path", one.path))
    if one.correlation_id:
        parts.append(_attribute(9, "correlation.id", one.correlation_id))
    parts += [_attribute(9, name, value) for name, value in one.fields if name != OWNER]
    if one.error == CUT:
        parts.append(_attribute(9, CUT, value=True))
    elif one.error:
        parts.append(_field(15, _text(2, one.error) + _number(3, _STATUS_ERROR)))
    return b"".join(parts)


def _attribute(number: int, name: str, value: Value) -> bytes:
    return _field(number, _text(1, name) + _field(2, _any(value)))


def _any(value: Value) -> bytes:
    if isinstance(value, bool):
        return _number(2, int(value))
    if isinstance(value, int) and -_INT64 <= value < _INT64:
        return _number(3, value)
    if isinstance(value, float):
        return _tag(4, _FIXED64) + struct.pack("<d", value)
    return _text(1, str(value))


def _moment(number: int, zero_ns: int, at: float) -> bytes:
    return _tag(number, _FIXED64) + struct.pack("<Q", zero_ns + int(at * _NANOS))


def _text(number: int, text: str) -> bytes:
    return _field(number, text.encode(errors="replace"))


def _field(number: int, held: bytes) -> bytes:
    return _tag(number, _BYTES) + _varint(len(held)) + held


def _number(number: int, value: int) -> bytes:
    # A negative one is written as the two's complement of 64 bits.
    return _tag(number, _VARINT) + _varint(value % 2**64)


def _tag(number: int, kind: int) -> bytes:
    return _varint(number << 3 | kind)


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def rejected_of(answer: bytes) -> int:
    """Call this for how many spans a collector has not taken, by its answer; 0 when unreadable."""
    try:
        partial = _found(answer, 1)
        rejected = _found(partial, 1) if isinstance(partial, bytes) else 0
    except (IndexError, ValueError):
        return 0
    return rejected if isinstance(rejected, int) and 0 <= rejected < _INT64 else 0


def _found(message: bytes, wanted: int) -> int | bytes:
    """The last field of that number; 0 when there is none. Raises `IndexError`, `ValueError`."""
    at, found = 0, 0
    held: int | bytes = found
    while at < len(message):
        key, at = _read_varint(message, at)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _read_varint(message, at)
            here: int | bytes = value
        elif kind == _BYTES:
            length, at = _read_varint(message, at)
            if at + length > len(message):
                raise ValueError("a message that was cut")
            here, at = message[at : at + length], at + length
        elif kind in {_FIXED64, _FIXED32}:
            here, at = b"", at + (8 if kind == _FIXED64 else 4)
        else:
            raise ValueError("no kind of a field")
        if number == wanted:
            held = here
    return held


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte <= 0x7F:
            return value, at
    raise ValueError("a number that does not end")
