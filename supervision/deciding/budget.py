"""How often a child may be restarted, and how long to wait before the next attempt.

Pure: time and randomness are handed in. Rule: a need for a restart is noted before anything is
tried, so a child that dies while starting cannot restart for ever.
"""

from collections import deque
from collections.abc import Callable

from supervision.specs.specs import Backoff


class RestartWindow:
    """The restarts of the last `period` seconds, both ends included."""

    __slots__ = ("_times",)

    def __init__(self) -> None:
        self._times: deque[float] = deque()

    def __repr__(self) -> str:
        return f"<RestartWindow {len(self._times)} noted>"

    def note(self, now: float, intensity: int, period: float) -> bool:
        """Call this at each need for a restart; True means there is still budget for it."""
        self._times.append(now)
        self._forget(now, period)
        within = len(self._times) <= intensity
        while len(self._times) > intensity + 1:  # a larger number decides nothing more
            self._times.popleft()
        return within

    def used(self, now: float, period: float) -> int:
        """Call this to see how many restarts stand in the window now."""
        self._forget(now, period)
        return len(self._times)

    def _forget(self, now: float, period: float) -> None:
        while self._times and now - self._times[0] > period:
            self._times.popleft()


class Attempts:
    """The failures in a row of one child, and so the length of its next wait."""

    __slots__ = ("_failed_at", "_waited", "count")

    def __init__(self) -> None:
        self.count = 0
        self._failed_at: float | None = None
        self._waited = 0.0

    def __repr__(self) -> str:
        return f"<Attempts {self.count} in a row>"

    def note(self, now: float, backoff: Backoff) -> None:
        """Call this at each crash or failed attempt, before asking for the wait."""
        if self._failed_at is not None:
            # A wait longer than reset_after must not pass for quiet time by itself.
            waited = self._waited if self._waited >= backoff.reset_after else 0.0
            if now - self._failed_at >= backoff.reset_after + waited:
                self.count = 0
        self.count += 1
        self._failed_at = now

    def exhausted(self, backoff: Backoff) -> bool:
        """Call this to know whether `give_up_after` failures in a row have happened."""
        return backoff.give_up_after is not None and self.count >= backoff.give_up_after

    def wait(self, backoff: Backoff, random: Callable[[], float]) -> float:
        """Call this to get the seconds until the next attempt; `random` gives [0, 1)."""
        self._waited = backoff.wait(self.count, 2.0 * random() - 1.0)
        return self._waited
