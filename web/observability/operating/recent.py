"""The newest lines of the log, kept in memory for whoever asks for them (OBS-12).

Rule: they are few bytes: what is not among the very newest is packed, and the oldest go. A line is
kept as it was written, with its secrets hidden.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Collection, Iterator
from typing import Final

# At least so many, and some of one more chunk.
LINES_MAX: Final = 10_000
# Packed together: half a millisecond of work, once in so many lines.
_CHUNK_LINES: Final = 250
# How a line says of which trace it is.
_TRACE_ID: Final = "trace_id"
# Of tracebacks, which are the longest lines; some 3 MiB unpacked.
_CHUNK_CHARS: Final = 256 * 1024
# What all packed ones take at most.
PACKED_BYTES_MAX: Final = 4 * 1024 * 1024


class RecentLines:
    """Keeps the newest lines; `add` is called with each, in whatever thread writes it."""

    def __init__(self) -> None:
        self._open: list[str] = []
        self._open_chars = 0
        self._packed: deque[tuple[int, bytes]] = deque(maxlen=LINES_MAX // _CHUNK_LINES)
        self._packed_bytes = 0

    def __repr__(self) -> str:
        return f"<RecentLines {len(self)}>"

    def __len__(self) -> int:
        return sum(count for count, _ in [*self._packed]) + len(self._open)

    def add(self, line: str) -> None:
        """Call this with a line that was written; several records of one call are one line."""
        line = line[:_CHUNK_CHARS]
        self._open.append(line)
        self._open_chars += len(line)
        if len(self._open) >= _CHUNK_LINES or self._open_chars >= _CHUNK_CHARS:
            self._pack()

    def _pack(self) -> None:
        taken, self._open, self._open_chars = self._open, [], 0
        data = zlib.compress("\n".join(taken).encode(errors="replace"), 1)
        if len(self._packed) == self._packed.maxlen:
            self._packed_bytes -= len(self._packed.popleft()[1])
        self._packed.append((len(taken), data))
        self._packed_bytes += len(data)
        while self._packed_bytes > PACKED_BYTES_MAX and len(self._packed) > 1:
            self._packed_bytes -= len(self._packed.popleft()[1])

    def texts(self) -> Iterator[str]:
        """Call this for the newest lines, oldest first, many in one text without its last end."""
        for _, data in [*self._packed]:
            yield zlib.decompress(data).decode()
        if self._open:
            yield "\n".join(self._open)

    def of_trace(self, trace: str, flows: Collection[str], count_max: int) -> list[str]:
        """Call this, in a thread, for the newest lines of a trace, oldest first.

        They name it; or one of its `flows` and no trace, as the report of a supervisor does. It
        unpacks all there are: tens of milliseconds.
        """
        found: deque[str] = deque(maxlen=count_max)
        for text in self.texts():
            if trace in text or any(flow in text for flow in flows):
                found.extend(line for line in text.split("\n") if _is_of(line, trace, flows))
        return list(found)


def _is_of(line: str, trace: str, flows: Collection[str]) -> bool:
    if trace in line:
        return True
    return _TRACE_ID not in line and any(flow in line for flow in flows)


# Of this process; a program that is no site keeps none.
RECENT: Final = RecentLines()
