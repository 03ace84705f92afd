"""What an encoded message looks like on the wire, for each kind of connection.

Pure functions and two small values. `Frame` is a payload that is wrapped at most once for each
framing and then shared by every connection that hears it; `Bundle` holds several that leave in one
write. Bytes are those h11 and wsproto would produce (REL-44); `tests/web/server/test_framing.py`
compares them.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable

from web.server.connection.gzip import deflated

# RFC 6455 5.2: FIN set; opcodes text, close, ping, pong. A server never masks.
_TEXT, _CLOSE, _PING, _PONG = 0x81, 0x88, 0x89, 0x8A
CONTROL_PAYLOAD_MAX = 125


class Framing(enum.Enum):
    """Names how a payload is wrapped for its connection."""

    RAW = "raw"  # HTTP/1.0, HTTP/2, tests
    CHUNKED = "chunked"  # HTTP/1.1 without a content length
    SOCKET = "socket"  # a WebSocket text message
    # The same two of a stream that is compressed: a piece of gzip (`gzip.py`).
    RAW_GZIP = "raw_gzip"
    CHUNKED_GZIP = "chunked_gzip"

    @property
    def is_gzip(self) -> bool:
        """Tell whether payloads are compressed for it."""
        return self in {Framing.RAW_GZIP, Framing.CHUNKED_GZIP}


def chunk(payload: bytes) -> bytes:
    """Call this to wrap a non-empty payload as one HTTP/1.1 chunk."""
    return b"%x\r\n%b\r\n" % (len(payload), payload)


def text_frame(payload: bytes) -> bytes:
    """Call this to wrap UTF-8 bytes as one whole, unmasked WebSocket text frame."""
    return _frame(_TEXT, payload)


def ping_frame(payload: bytes = b"") -> bytes:
    """Call this to build a ping; at most 125 bytes of payload."""
    return _control(_PING, payload)


def pong_frame(payload: bytes) -> bytes:
    """Call this to build the answer to a ping: the same payload."""
    return _control(_PONG, payload)


def close_frame(code: int, reason: str = "") -> bytes:
    """Call this to build a close frame; the reason is at most 123 bytes of UTF-8."""
    return _control(_CLOSE, struct.pack("!H", code) + reason.encode())


def _control(first: int, payload: bytes) -> bytes:
    if len(payload) > CONTROL_PAYLOAD_MAX:
        raise ValueError(f"a control frame holds {CONTROL_PAYLOAD_MAX} bytes, not {len(payload)}")
    return _frame(first, payload)


def _frame(first: int, payload: bytes) -> bytes:
    size = len(payload)
    if size <= CONTROL_PAYLOAD_MAX:
        return struct.pack("!BB", first, size) + payload
    if size < 1 << 16:
        return struct.pack("!BBH", first, 126, size) + payload
    return struct.pack("!BBQ", first, 127, size) + payload


class Frame:
    """Holds one encoded message; each wire form is made once and shared by all (ACT-145)."""

    __slots__ = ("_chunked", "_gzip", "payload", "socket")

    def __init__(self, payload: bytes) -> None:
        if not payload:
            # An empty chunk would end the response.
            raise ValueError("a frame holds at least one byte")
        self.payload = payload
        self._chunked: bytes | None = None
        # The bytes for a WebSocket, once `wire` has made them: for who asks it for each of many.
        self.socket: bytes | None = None
        self._gzip: bytes | None = None

    def __repr__(self) -> str:
        return f"<Frame {len(self.payload)} bytes>"

    def __len__(self) -> int:
        return len(self.payload)

    def wire(self, framing: Framing) -> bytes:
        """Call this to get the bytes for one kind of connection."""
        if framing is Framing.CHUNKED:
            if self._chunked is None:
                self._chunked = chunk(self.payload)
            return self._chunked
        if framing is Framing.SOCKET:
            if self.socket is None:
                self.socket = text_frame(self.payload)
            return self.socket
        if framing is Framing.CHUNKED_GZIP:
            if self._gzip is None:
                self._gzip = chunk(deflated(self.payload))
            return self._gzip
        # Rare: not worth a place in every frame.
        return deflated(self.payload) if framing is Framing.RAW_GZIP else self.payload


class Bundle:
    """Holds frames that follow each other, with their numbers; `bundled` makes them.

    One write brings all of them to a connection, and the bytes of each wire form are shared by all
    connections like those of a `Frame`. Each is a chunk or a message of its own nevertheless.
    """

    __slots__ = ("_wires", "entries", "size")

    def __init__(self, entries: tuple[tuple[Frame, int], ...]) -> None:
        self.entries = entries
        self.size = sum(len(frame) for frame, _ in entries)
        self._wires: dict[str, bytes] = {}

    def __repr__(self) -> str:
        return f"<Bundle of {len(self.entries)}>"

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def first(self) -> int:
        """The lowest number in it."""
        return self.entries[0][1]

    @property
    def payload(self) -> bytes:
        """What all of them say, without their wrapping."""
        return self.wire(Framing.RAW)

    def wire(self, framing: Framing) -> bytes:
        """Call this to get the bytes of all of them for one kind of connection."""
        # By the name: the hash of an enum's member is a call of Python.
        wire = self._wires.get(framing.value)
        if wire is None:
            wire = b"".join([frame.wire(framing) for frame, _ in self.entries])
            self._wires[framing.value] = wire
        return wire


def bundled(entries: Iterable[tuple[Frame, int]], bytes_max: int) -> list[Bundle]:
    """Call this to put frames with rising numbers into bundles; at least one frame in each.

    What the kernel does not take of a write waits outside of every backlog, so a bundle is limited.
    """
    bundles: list[Bundle] = []
    taken: list[tuple[Frame, int]] = []
    size = 0
    for frame, number in entries:
        if taken and size + len(frame) > bytes_max:
            bundles.append(Bundle(tuple(taken)))
            taken, size = [], 0
        taken.append((frame, number))
        size += len(frame)
    if taken:
        bundles.append(Bundle(tuple(taken)))
    return bundles
