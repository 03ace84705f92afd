"""A connection's bytes, cut into heads and bodies; whoever reads here decides nothing.

    reader = RequestReader(HeadLimits())
    reader.feed(received)
    head = reader.next_head()      # Head, Refusal, or None: more must come
    piece = reader.next_body()     # bytes, b"" at the end, Refusal, or None: more must come

After a refusal nothing can be read any more: nobody knows where the next request begins.
"""

from __future__ import annotations

from http import HTTPStatus

from web.server.reading.bodies import ChunkedBody, SizedBody
from web.server.reading.heads import Head, HeadLimits, Refusal, early_refusal, read_head

_NO_BODY = SizedBody(0)
_TWO_EMPTY_LINES = Refusal(
    HTTPStatus.BAD_REQUEST, "At most one empty line may stand before a request."
)


class RequestReader:
    """Holds what came and was not taken yet; it grows only by `feed`."""

    __slots__ = ("_body", "_buffer", "_limits", "_looked_at", "_may_skip")

    def __init__(self, limits: HeadLimits) -> None:
        self._limits = limits
        self._buffer = bytearray()
        self._body: SizedBody | ChunkedBody = _NO_BODY
        # How much of an unfinished head was judged: a head of single bytes is not read again and
        # again from its beginning.
        self._looked_at = 0
        # RFC 9112 2.2: old clients end a body with an empty line too many; one is passed over.
        self._may_skip = True

    def __repr__(self) -> str:
        return f"<RequestReader {len(self._buffer)} bytes>"

    def __len__(self) -> int:
        return len(self._buffer)

    @property
    def is_in_body(self) -> bool:
        """Tell whether the body of the last head has not been taken to its end."""
        return not self._body.is_done

    @property
    def is_whole_body_here(self) -> bool:
        """Tell whether nothing more has to come for the body; of chunks only when taken."""
        return self._body.ends_within(len(self._buffer))

    def was_begun_by(self, word: bytes) -> bool:
        """Tell whether an unread or refused head begins with `word`."""
        return self._buffer.startswith(word)

    def feed(self, data: bytes) -> None:
        """Call this with what was received."""
        self._buffer += data

    def take_all(self) -> bytes:
        """Call this to get what came behind a head that ends HTTP on this connection."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest

    def next_head(self) -> Head | Refusal | None:
        """Call this when the body before was taken to its end."""
        buffer = self._buffer
        if not buffer:
            return None
        if buffer[:2] == b"\r\n":
            if not self._may_skip:
                return _TWO_EMPTY_LINES
            del buffer[:2]
            self._looked_at = 0
            self._may_skip = False
        end = buffer.find(b"\r\n\r\n", max(0, self._looked_at - 3))
        if end < 0:
            refused = early_refusal(buffer, self._looked_at, self._limits)
            self._looked_at = len(buffer)
            return refused
        raw = bytes(buffer[: end + 4])
        found = read_head(raw, self._limits)
        if isinstance(found, Head):
            del buffer[: end + 4]
            self._looked_at = 0
            self._may_skip = True
            if found.length is None:
                self._body = ChunkedBody(self._limits.headers)
            else:
                self._body = SizedBody(found.length) if found.length else _NO_BODY
        return found

    def next_body(self) -> bytes | Refusal | None:
        """Call this for the body of the head that was read last."""
        return self._body.take(self._buffer)
