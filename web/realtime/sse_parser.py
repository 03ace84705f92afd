"""Server-sent events, read: the parser of the HTML standard, for tests and Python clients.

Sans-I/O: bytes go in as they come, whole events come out. Encoding is in `sse.py`.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass


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
        self._line = ""
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
        found: list[ServerEvent] = []
        for sign in text:
            if sign == "\n" and self._after_cr:
                self._after_cr = False
                continue
            self._after_cr = sign == "\r"
            if sign in "\r\n":
                line, self._line = self._line, ""
                self._take_line(line, found)
            else:
                self._line += sign
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
