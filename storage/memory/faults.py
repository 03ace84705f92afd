"""Switches for tests: a twin that fails as the real store does, and a commit held back."""

import trio

from storage.errors import StoreError, StoreUnavailable


class Faults:
    """Base of the twins: every operation passes here first, which is also a checkpoint."""

    def __init__(self) -> None:
        self._error: StoreError | None = None
        self._times = 0
        self._delay_s = 0.0

    def fail_next(self, error: StoreError, times: int = 1) -> None:
        """Call this to make the next operations raise an error before they do anything."""
        self._error, self._times = error, times

    def slow(self, seconds: float) -> None:
        """Call this to make every operation take so long; 0 ends it."""
        self._delay_s = seconds

    def lose_connection(self) -> None:
        """Call this to fail the next operation as a cut connection does."""
        self.fail_next(StoreUnavailable("the connection was lost by a test"))

    async def pass_faults(self) -> None:
        """Call this at the head of an operation, before it looks at any state."""
        await trio.sleep(self._delay_s)
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
