"""Switches that make a twin fail as the real store does: at once, slowly, or by vanishing."""

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
