"""What all twins are: a port on a `MemoryDatabase`, with switches that make it fail."""

import trio

from storage.errors import StoreError
from storage.memory.database import MemoryDatabase
from storage.memory.faults import Switches


class Twin:
    """Base of the twins: every operation passes its switches first, which is also a checkpoint.

    Views of a twin share its switches. Those of `database.faults` are of all twins that stand on
    the database, as if it was the server that failed.
    """

    def __init__(self, database: MemoryDatabase | None = None) -> None:
        self.database = database if database is not None else MemoryDatabase()
        self._faults = Switches()

    def fail_next(self, error: StoreError | None = None, times: int = 1) -> None:
        """See `Switches.fail_next`."""
        self._faults.fail_next(error, times)

    def slow(self, seconds: float) -> None:
        """See `Switches.slow`."""
        self._faults.slow(seconds)

    def lose_connection(self) -> None:
        """See `Switches.lose_connection`."""
        self._faults.lose_connection()

    def reset(self) -> None:
        """Call this to begin with an empty database, for all who stand on it, and no faults."""
        self._faults.reset()
        self.database.reset()

    async def pass_faults(self) -> None:
        """Call this at the head of an operation, before it looks at any state."""
        shared = self.database.faults
        await trio.sleep(self._faults.delay_s + shared.delay_s)
        shared.pass_by()
        self._faults.pass_by()
