"""Switches for tests: a twin that fails as the real store does, and a commit held back."""

from dataclasses import dataclass

import trio

from storage.errors import StoreError, StoreUnavailable


@dataclass(slots=True)
class _Planted:
    """What a test has planted in a twin, and in all views of it."""

    error: StoreError | None = None
    times: int = 0
    delay_s: float = 0.0


class Faults:
    """Base of the twins: every operation passes here first, which is also a checkpoint."""

    def __init__(self) -> None:
        self._planted = _Planted()

    def fail_next(self, error: StoreError, times: int = 1) -> None:
        """Call this to make the next operations raise an error before they do anything."""
        self._planted.error, self._planted.times = error, times

    def slow(self, seconds: float) -> None:
        """Call this to make every operation take so long; 0 ends it."""
        self._planted.delay_s = seconds

    def lose_connection(self) -> None:
        """Call this to fail the next operation as a cut connection does."""
        self.fail_next(StoreUnavailable("the connection was lost by a test"))

    async def pass_faults(self) -> None:
        """Call this at the head of an operation, before it looks at any state."""
        planted = self._planted
        await trio.sleep(planted.delay_s)
        if planted.times and planted.error is not None:
            planted.times -= 1
            raise planted.error


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
