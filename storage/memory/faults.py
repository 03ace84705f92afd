"""Switches for tests: a twin that fails as the real store does, and a commit held back."""

from collections.abc import Callable
from math import inf

import trio

from storage.errors import StoreError, StoreUnavailable


class Switches:
    """Faults that a test plants: in one twin, or in a `MemoryDatabase` for all that stand on it.

    `kind` is the base of what the port may raise, `away` what it raises while it is not reached.
    What makes no sense is TypeError or ValueError: a fault that never comes proves nothing.
    """

    def __init__(
        self,
        kind: type[Exception] = StoreError,
        away: Callable[[str], Exception] = StoreUnavailable,
    ) -> None:
        self._kind, self._away = kind, away
        self.reset()

    def reset(self) -> None:
        """Call this to have nothing fail, and nothing be slow."""
        self._error: Exception | None = None
        self._times = 0
        self.delay_s = 0.0

    def fail_next(self, error: Exception | None = None, times: int = 1) -> None:
        """Call this to make the next operations raise before they do anything; 0 times ends it.

        Without an error they are told that the port is not reached.
        """
        given: object = times
        if not isinstance(given, int) or isinstance(given, bool) or given < 0:
            raise ValueError(f"times is {times!r}; so often it fails, 0 or more")
        if error is not None and not isinstance(error, self._kind):
            raise TypeError(f"{error!r} is no {self._kind.__name__}; the real one raises no other")
        self._error = self._away("made to fail by a test") if error is None else error
        self._times = times

    def slow(self, seconds: float) -> None:
        """Call this to make every operation take so long; 0 ends it."""
        given: object = seconds
        if not isinstance(given, int | float) or isinstance(given, bool) or not 0 <= given < inf:
            raise ValueError(f"seconds is {seconds!r}; so long it takes, 0 or more")
        self.delay_s = seconds

    def lose_connection(self) -> None:
        """Call this to fail the next operation as a cut connection does."""
        self.fail_next(self._away("the connection was lost by a test"))

    def pass_by(self) -> None:
        """Call this when an operation begins; raises what is planted."""
        if self._times and self._error is not None:
            self._times -= 1
            raise self._error


class HeldCommit:
    """A commit that a test holds back: its numbers are drawn, its events unseen."""

    def __init__(self) -> None:
        self.reached = trio.Event()
        self._released = trio.Event()
        self._is_dropped = False

    def release(self) -> None:
        """Call this to let the commit happen."""
        self._released.set()

    def drop(self) -> None:
        """Call this to roll it back; its append fails as unavailable."""
        self._is_dropped = True
        self._released.set()

    async def wait(self) -> bool:
        """Call this in the append; False when it is rolled back."""
        self.reached.set()
        await self._released.wait()
        return not self._is_dropped
