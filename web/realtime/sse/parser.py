"""Server-sent events, read: the parser of the HTML standard, for tests and Python clients.

Sans-I/O: bytes go in as they come, whole events come out. Encoding is in `encoding.py`.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

_LINE_END = re.compile("\r\n|\r|\n")


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """Holds one dispatched event; `id` is the last one seen so far."""

    event: str
    data: str
    id: str


class SseParser:
    """Turns bytes, cut anywhere, into events.

    `retry_ms` is the last reconnection time the server told; `comments` counts skipped lines.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._line: list[str] = []
        self._after_cr = False
        self._is_first = True
        self._event = ""
        self._data: list[str] = []
        self._id = ""
        self.retry_ms: int | None = None
        self.comments = 0

    def feed(self, data: bytes) -> list[ServerEvent]:
        """Call this with the next bytes; returns the events they complete."""
        text = self._decoder.decode(data)
        if self._is_first and text:
            self._is_first = False
            text = text.removeprefix("\ufeff")
        if self._after_cr and text:
            # CR and LF of one line end may come in two pieces.
            text = text.removeprefix("\n")
            self._after_cr = False
        found: list[ServerEvent] = []
        if not text:
            return found
        # The line before the CR is complete and taken below; only an LF that may follow is not
        # another, empty, line.
        self._after_cr = text.endswith("\r")
        first, *rest = _LINE_END.split(text)
        self._line.append(first)
        for piece in rest:
            self._take_line("".join(self._line), found)
            self._line = [piece]
        return found

    def _take_line(self, line: str, found: list[ServerEvent]) -> None:
        if not line:
            self._dispatch(found)
            return
        if line.startswith(":"):
            self.comments += 1
            return
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._event = value
        elif name == "data":
            self._data.append(value)
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            self.retry_ms = int(value)

    def _dispatch(self, found: list[ServerEvent]) -> None:
        if self._data:
            text = "\n".join(self._data)
            # The standard dispatches nothing when the whole data is one empty line.
            if text:
                found.append(ServerEvent(self._event or "message", text, self._id))
        self._event, self._data = "", []
