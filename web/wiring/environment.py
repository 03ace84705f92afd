"""The real clock and the real ids: what actors are handed outside of tests."""

import os
import threading
import time
from datetime import UTC, datetime
from uuid import UUID

from actors.reducers.environment import uuid_of

_SUB_MILLISECOND_BITS = 12
# The chance of 64 ids is drawn at once: to ask the system lets go of the interpreter, and with a
# second thread at work it takes as long as that one likes to get it back.
_CHANCE_BYTES = 8
_DRAWN_BYTES = 64 * _CHANCE_BYTES


# How often this process is a forked child of one that had imported this: known without a call.
_forks = 0


def _note_fork() -> None:
    global _forks  # noqa: PLW0603  (it is the process's)
    _forks += 1


os.register_at_fork(after_in_child=_note_fork)


class SystemClock:
    """Tells the machine's wall clock, in UTC."""

    def now(self) -> datetime:
        """Call this to get the present moment, aware, in UTC."""
        return datetime.now(UTC)


class SystemIds:
    """Makes UUIDs of version 7 that rise within this process, also inside one millisecond.

    Layout and the use of twelve fraction bits for order: RFC 9562, sections 5.7 and 6.2,
    method 3. A wall clock that steps back does not make ids fall.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0
        self._drawn, self._forks = list[int](), 0

    def new_id(self) -> UUID:
        """Call this from any thread to get a fresh id; later ones sort behind earlier ones."""
        ticks = (time.time_ns() << _SUB_MILLISECOND_BITS) // 1_000_000
        with self._lock:
            if ticks <= self._last:
                ticks = self._last + 1
            self._last = ticks
            if not self._drawn or self._forks != _forks:
                self._draw()
            chance = self._drawn.pop()
        milliseconds, fraction = ticks >> _SUB_MILLISECOND_BITS, ticks & 0xFFF
        value = (milliseconds & (1 << 48) - 1) << 80 | 7 << 76 | fraction << 64 | 2 << 62
        return uuid_of(value | chance >> 2)

    def _draw(self) -> None:
        """Draw the chance of the next ids; a forked child draws anew."""
        self._drawn = memoryview(os.urandom(_DRAWN_BYTES)).cast("Q").tolist()
        self._forks = _forks
