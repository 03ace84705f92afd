"""The real clock and the real ids: what actors are handed outside of tests."""

import os
import threading
import time
from datetime import UTC, datetime
from uuid import UUID

_SUB_MILLISECOND_BITS = 12


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

    def new_id(self) -> UUID:
        """Call this from any thread to get a fresh id; later ones sort behind earlier ones."""
        nanoseconds = time.time_ns()
        milliseconds, rest = divmod(nanoseconds, 1_000_000)
        ticks = milliseconds << _SUB_MILLISECOND_BITS
        ticks |= (rest << _SUB_MILLISECOND_BITS) // 1_000_000
        with self._lock:
            self._last = max(ticks, self._last + 1)
            ticks = self._last
        milliseconds, fraction = ticks >> _SUB_MILLISECOND_BITS, ticks & 0xFFF
        value = (milliseconds & (1 << 48) - 1) << 80 | 7 << 76 | fraction << 64 | 2 << 62
        return UUID(int=value | int.from_bytes(os.urandom(8)) >> 2)
