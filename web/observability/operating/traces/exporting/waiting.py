"""The spans that wait for the collector: up to a bound, beyond which the oldest go and are counted.

From the loop's thread alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

import trio

from actors.runtime.telling.spans import Record
from actors.runtime.words.tallies import Tallies

# Some 10 MiB; a minute of 136 spans a second.
WAITING_MAX: Final = 8192
# One request: some 110 KiB, of which packing leaves 45 or less.
BATCH_MAX: Final = 512
# What has come is sent after so long, however little it is.
BATCH_S: Final = 2.0


class WaitingSpans:
    """What is to be sent, oldest first."""

    def __init__(self, tallies: Tallies) -> None:
        self._waiting: deque[Record] = deque(maxlen=WAITING_MAX)
        self._lost = tallies.count("trace_spans_lost_total", "queue")
        self._closed, self._some, self._full = trio.Event(), trio.Event(), trio.Event()

    def __repr__(self) -> str:
        return f"<WaitingSpans: {len(self._waiting)}, {self._lost.number} dropped>"

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def is_closed(self) -> bool:
        """Call this for whether nothing is waited for any more."""
        return self._closed.is_set()

    def put(self, records: Sequence[Record]) -> None:
        """Call this with what is new; never waits."""
        waiting = self._waiting
        self._lost.number += max(0, len(waiting) + len(records) - WAITING_MAX)
        waiting.extend(records)
        self._tell()

    def put_back(self, records: Sequence[Record]) -> None:
        """Call this with what was not taken: it goes first, as far as there is room."""
        waiting = self._waiting
        fitting = records[max(0, len(waiting) + len(records) - WAITING_MAX) :]
        self._lost.number += len(records) - len(fitting)
        waiting.extendleft(reversed(fitting))
        self._tell()

    async def take(self) -> list[Record]:
        """Call this for the next request's: when they are many, or have waited; a checkpoint.

        Of a closed one what is left, and nothing when that is all.
        """
        await self._some.wait()
        with trio.move_on_after(BATCH_S):
            await self._full.wait()
        waiting = self._waiting
        found = [waiting.popleft() for _ in range(min(BATCH_MAX, len(waiting)))]
        if not self.is_closed:
            self._some, self._full = trio.Event(), trio.Event()
            self._tell()
        return found

    async def rest(self, seconds: float) -> None:
        """Call this to wait, no longer than until it is closed."""
        with trio.move_on_after(seconds):
            await self._closed.wait()

    def open(self) -> None:
        """Call this when somebody begins to take; it may have been closed by who did before."""
        self._closed, self._some, self._full = trio.Event(), trio.Event(), trio.Event()
        self._tell()

    def close(self) -> None:
        """Call this at the end: nobody waits any more for what may come."""
        for event in (self._closed, self._some, self._full):
            event.set()

    def _tell(self) -> None:
        if self._waiting:
            self._some.set()
        if len(self._waiting) >= BATCH_MAX:
            self._full.set()
