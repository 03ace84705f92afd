"""Switches for tests: a twin that fails as the real store does, and a commit held back."""

import trio

from storage.errors import StoreError, StoreUnavailable


class Switches:
    """Faults that a test plants: in one twin, or in a `MemoryDatabase` for all that stand on it."""

    def __init__(self) -> None:
        self._error: StoreError | None = None
        self._times = 0
        self.delay_s = 0.0

    def fail_next(self, error: StoreError | None = None, times: int = 1) -> None:
        """Call this to make the next operations raise before they do anything; 0 times ends it.

        Without an error they are told `StoreUnavailable`.
        """
        self._error = StoreUnavailable("made to fail by a test") if error is None else error
        self._times = times

    def slow(self, seconds: float) -> None:
        """Call this to make every operation take so long; 0 ends it."""
        self.delay_s = seconds

    def lose_connection(self) -> None:
        """Call this to fail the next operation as a cut connection does."""
        self.fail_next(StoreUnavailable("the connection was lost by a test"))

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
