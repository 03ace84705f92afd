"""The bytes of an answer's head, and of an answer to what is no request."""

from __future__ import annotations

import time
from collections.abc import Sequence
from email.utils import formatdate
from http import HTTPStatus

from web.server.connection.settings import TransportSettings
from web.server.reading.heads import Refusal

CONTINUE = b"HTTP/1.1 100 \r\n\r\n"


class _Date:
    """The header `date`, made once a second."""

    def __init__(self) -> None:
        self._second, self._line = 0, b""

    def line(self) -> bytes:
        now = int(time.time())
        if now != self._second:
            self._second = now
            self._line = b"date: %b\r\n" % formatdate(now, usegmt=True).encode("ascii")
        return self._line


_DATE = _Date()


def date_line() -> bytes:
    """Call this for the line of the header `date`."""
    return _DATE.line()


def date_header() -> tuple[bytes, bytes]:
    """Call this for the header `date`, as a pair."""
    name, _, value = _DATE.line().rstrip().partition(b": ")
    return name, value


def _lines(pairs: Sequence[tuple[bytes, bytes]]) -> bytes:
    # Put together by `+`: a format takes twice as long, and these are most of a head.
    lines = b"".join([name + b": " + value + b"\r\n" for name, value in pairs])
    # Counted, not looked at one by one: a name or value that holds an end of line makes one more.
    if not (lines.count(b"\n") == lines.count(b"\r") == len(pairs)) or b"\0" in lines:
        raise ValueError("an answer's header holds a control character; nothing was sent")
    return lines


class FixedHeaders:
    """Headers that many answers have, in lower case, spelled once; none that this server writes.

    Raises ValueError as `head_bytes` does.
    """

    __slots__ = ("lines", "pairs")

    def __init__(self, *pairs: tuple[bytes, bytes]) -> None:
        self.pairs = pairs
        self.lines = _lines(pairs)

    def __repr__(self) -> str:
        return f"<FixedHeaders {self.pairs!r}>"


NO_HEADERS = FixedHeaders()
# RFC 9112 4: the words may be missing; some clients then see no status, or show an empty one.
_STATUS_LINES = {
    int(status): b"HTTP/1.1 %d %b\r\n" % (status, status.phrase.encode("ascii"))
    for status in HTTPStatus
}


def head_bytes(
    status: int, headers: Sequence[tuple[bytes, bytes]], fixed: FixedHeaders = NO_HEADERS
) -> bytes:
    """Call this to write a head, with its date; raises ValueError for what would break it."""
    line = _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
    return b"".join((line, _lines(headers), fixed.lines, _DATE.line(), b"\r\n"))


def refusal_bytes(
    refusal: Refusal, settings: TransportSettings, peer: str, *, is_head: bool
) -> bytes:
    """Call this to write the whole answer to a request that is none; the connection ends after."""
    answer = settings.error_response(refusal.status, refusal.rule, settings.is_tls, peer)
    options = [value for name, value in refusal.headers if name == b"connection"]
    more = [pair for pair in refusal.headers if pair[0] != b"connection"]
    connection = (b"connection", b", ".join([b"close", *options]))
    head = head_bytes(answer.status, [*answer.headers, *more, connection])
    return head if is_head else head + answer.body
