"""What Redis speaks, RESP2, without a socket: commands to bytes, and bytes to replies.

Rule: whatever comes in pieces is read once; a reply of a thousand pieces costs its length. What is
no reply, or is larger than any that we ask for, ends the connection.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

# The longest text of ours is far below; a server's own limit is 512 MiB.
TEXT_BYTES_MAX = 16 * 1024 * 1024
# The first line of a reply is a number, a word, or what went wrong.
LINE_BYTES_MAX = 64 * 1024
# Scripts answer lists of lists at most.
DEPTH_MAX = 8
ITEMS_MAX = 1_000_000

_END = b"\r\n"


class NotRedis(Exception):
    """Raised for bytes that are no reply; the connection is of no use from then on."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a server answers instead of a result: the first word says why, the rest tells people."""

    code: str
    text: str


Reply: TypeAlias = "bytes | int | Refusal | list[Reply] | None"
"""What a server answers: None where there is nothing; a refusal is a value here."""
Part: TypeAlias = "bytes | str | int"
"""One word of a command; a text is sent as UTF-8, a number as its digits."""


@dataclass(slots=True)
class _List:
    """A list of which some items are yet to come."""

    missing: int
    items: list[Reply] = field(default_factory=list)


def encode(parts: tuple[Part, ...]) -> bytes:
    """Call this with the words of a command for its bytes; ValueError without any."""
    if not parts:
        raise ValueError("a command is a word at least")
    pieces = [b"*%d\r\n" % len(parts)]
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode()
        pieces.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(pieces)


class Replies:
    """Reads what comes of one connection; after `NotRedis` it is of no use."""

    def __init__(self, text_bytes_max: int = TEXT_BYTES_MAX) -> None:
        self._text_bytes_max = text_bytes_max
        self._bytes = bytearray()
        self._at = 0
        self._open: list[_List] = []

    def feed(self, data: bytes) -> list[Reply]:
        """Call this with what came; gives the replies that are whole by now, in their order."""
        self._bytes += data
        whole: list[Reply] = []
        while self._read_one(whole):
            pass
        del self._bytes[: self._at]
        self._at = 0
        return whole

    def _read_one(self, whole: list[Reply]) -> bool:
        """Read one item; False when it is not all there."""
        end = self._bytes.find(_END, self._at, self._at + LINE_BYTES_MAX)
        if end < 0:
            if len(self._bytes) - self._at >= LINE_BYTES_MAX:
                raise NotRedis("a line without an end")
            return False
        kind, line = self._bytes[self._at : self._at + 1], bytes(self._bytes[self._at + 1 : end])
        after = end + len(_END)
        if kind == b"$":
            return self._read_text(_number(line), after, whole)
        self._at = after
        if kind == b"*":
            self._begin_list(_number(line), whole)
        elif kind == b":":
            self._take(_number(line), whole)
        elif kind == b"+":
            self._take(line, whole)
        elif kind == b"-":
            code, _, text = line.decode("utf-8", "replace").partition(" ")
            self._take(Refusal(code, text), whole)
        else:
            raise NotRedis(f"a reply of the kind {bytes(kind)!r}")
        return True

    def _read_text(self, length: int, start: int, whole: list[Reply]) -> bool:
        if length == -1:
            self._at = start
            self._take(None, whole)
            return True
        if not 0 <= length <= self._text_bytes_max:
            raise NotRedis(f"a text of {length} bytes")
        end = start + length
        if len(self._bytes) < end + len(_END):
            return False
        if self._bytes[end : end + len(_END)] != _END:
            raise NotRedis("a text that is longer than it says")
        self._at = end + len(_END)
        self._take(bytes(self._bytes[start:end]), whole)
        return True

    def _begin_list(self, count: int, whole: list[Reply]) -> None:
        if count == -1:
            self._take(None, whole)
        elif count == 0:
            self._take([], whole)
        elif not 0 < count <= ITEMS_MAX or len(self._open) >= DEPTH_MAX:
            raise NotRedis(f"a list of {count} items, {len(self._open)} deep")
        else:
            self._open.append(_List(count))

    def _take(self, item: Reply, whole: list[Reply]) -> None:
        """Put an item where it belongs; a list that is full by it is an item itself."""
        while self._open:
            innermost = self._open[-1]
            innermost.items.append(item)
            innermost.missing -= 1
            if innermost.missing:
                return
            self._open.pop()
            item = innermost.items
        whole.append(item)


def _number(line: bytes) -> int:
    # `int` also takes spaces and underscores, and as many digits as there are.
    digits = line[1:] if line[:1] == b"-" else line
    if not digits.isdigit() or len(digits) > 20:
        raise NotRedis("a number that is none")
    return int(line)
