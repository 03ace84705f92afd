"""Where a body ends: by its length, or by its chunks, read as strictly as heads are.

Extensions of chunks and the fields behind the last one are read and thrown away (RFC 9112 7.1.1,
7.1.2: nobody here understands any), within limits. Pure; `requests.py` keeps the buffer.
"""

from __future__ import annotations

import enum
import re
from http import HTTPStatus

from web.server.reading.heads import FIELD_LINE, SINGLE, Refusal

# A size is at most 8 hexadecimal digits, and whoever sends extensions at all sends a short one.
_LINE_BYTES_MAX = 256
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"'
_SIZE_LINE = re.compile(
    rb"([0-9A-Fa-f]{1,8})(?:;[ \t]*%b(?:[ \t]*=[ \t]*(?:%b|%b))?)*" % (_TOKEN, _TOKEN, _QUOTED)
)
# What may still become such a line.
_SIZE_LINE_BEGUN = re.compile(rb"[0-9A-Fa-f]{0,8}(?:;[\t -~\x80-\xff]*)?\r?")
_FIELD_BEGUN = re.compile(rb"[\t -~\x80-\xff]*\r?")

_BAD_SIZE = Refusal(HTTPStatus.BAD_REQUEST, "A chunk begins with its size in hexadecimal digits.")
_BAD_END = Refusal(HTTPStatus.BAD_REQUEST, "A chunk is as long as it says, and ends in CR LF.")
_BAD_TRAILER = Refusal(HTTPStatus.BAD_REQUEST, "Behind the last chunk stand headers, or nothing.")
# RFC 9110 6.5.1: a reader that took them for headers would see another request.
_LATE_FIELD = Refusal(
    HTTPStatus.BAD_REQUEST, "What a request is about is said before its body, not behind it."
)
_LARGE_TRAILER = Refusal(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The headers behind the body are too large."
)


class _At(enum.Enum):
    SIZE = enum.auto()
    DATA = enum.auto()
    END = enum.auto()
    TRAILER = enum.auto()
    DONE = enum.auto()


class SizedBody:
    """Cuts a body of known length from the beginning of a buffer."""

    __slots__ = ("_left",)

    def __init__(self, length: int) -> None:
        self._left = length

    @property
    def is_done(self) -> bool:
        """Tell whether the next byte belongs to the next request."""
        return self._left == 0

    def ends_within(self, count: int) -> bool:
        """Tell whether the next `count` bytes hold the rest."""
        return self._left <= count

    def take(self, buffer: bytearray) -> bytes | Refusal | None:
        """Take what is there: bytes, empty ones at the body's end, None when more must come."""
        if self._left == 0:
            return b""
        if not buffer:
            return None
        piece = bytes(buffer[: self._left])
        del buffer[: self._left]
        self._left -= len(piece)
        return piece


class ChunkedBody:
    """Cuts a chunked body from the beginning of a buffer."""

    __slots__ = ("_at", "_left", "_trailer_left")

    def __init__(self, trailer_bytes_max: int) -> None:
        self._at = _At.SIZE
        self._left = 0
        self._trailer_left = trailer_bytes_max

    @property
    def is_done(self) -> bool:
        """Tell whether the next byte belongs to the next request."""
        return self._at is _At.DONE

    def ends_within(self, count: int) -> bool:
        """Tell whether the next `count` bytes hold the rest; not known before it was taken."""
        return self._at is _At.DONE

    def take(self, buffer: bytearray) -> bytes | Refusal | None:
        """Take what is there: bytes, empty ones at the body's end, None when more must come."""
        while self._at is not _At.DONE:
            if self._at is _At.DATA:
                if not buffer:
                    return None
                return self._data(buffer)
            found = self._step(buffer)
            if found is not None:
                return None if found is _MORE else found
        return b""

    def _data(self, buffer: bytearray) -> bytes:
        piece = bytes(buffer[: self._left])
        del buffer[: self._left]
        self._left -= len(piece)
        if not self._left:
            self._at = _At.END
        return piece

    def _step(self, buffer: bytearray) -> Refusal | None:
        """Read what stands around the data; None when it is behind us."""
        if self._at is _At.END:
            if not b"\r\n".startswith(buffer[:2]):
                return _BAD_END
            if len(buffer) < 2:
                return _MORE
            del buffer[:2]
            self._at = _At.SIZE
            return None
        return self._size(buffer) if self._at is _At.SIZE else self._trailer(buffer)

    def _size(self, buffer: bytearray) -> Refusal | None:
        end = buffer.find(b"\n", 0, _LINE_BYTES_MAX)
        if end < 0:
            begun = _SIZE_LINE_BEGUN.fullmatch(bytes(buffer[:_LINE_BYTES_MAX]))
            return _MORE if begun and len(buffer) < _LINE_BYTES_MAX else _BAD_SIZE
        line = bytes(buffer[: end + 1])
        found = _SIZE_LINE.fullmatch(line[:-2])
        if found is None or not line.endswith(b"\r\n"):
            return _BAD_SIZE
        del buffer[: end + 1]
        self._left = int(found[1], 16)
        self._at = _At.DATA if self._left else _At.TRAILER
        return None

    def _trailer(self, buffer: bytearray) -> Refusal | None:
        end = buffer.find(b"\n", 0, self._trailer_left)
        if end < 0:
            if len(buffer) >= self._trailer_left:
                return _LARGE_TRAILER
            return _MORE if _FIELD_BEGUN.fullmatch(bytes(buffer)) else _BAD_TRAILER
        line = bytes(buffer[: end + 1])
        if line != b"\r\n":
            if not line.endswith(b"\r\n") or not FIELD_LINE.fullmatch(line[:-2]):
                return _BAD_TRAILER
            if line.partition(b":")[0].lower() in SINGLE:
                return _LATE_FIELD
        del buffer[: end + 1]
        self._trailer_left -= len(line)
        if line == b"\r\n":
            self._at = _At.DONE
        return None


# Told apart by identity; it never leaves this file.
_MORE = Refusal(0, "more must come")
