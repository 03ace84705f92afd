"""A commit that a test holds back, to see what readers of the order do meanwhile."""

import trio


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
