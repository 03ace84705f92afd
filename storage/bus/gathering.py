"""Which publishes share a statement; `storage/gathering.py` says how.

A record waits for no lock, and two publishes cannot refuse each other, so there is one statement
at a time, and what waits leaves in the order it came.
"""

from collections.abc import Awaitable, Callable, Sequence
from math import inf
from typing import NamedTuple

from actors.persistence.bus import BusUnavailable
from storage.gathering import Gathering, Limits, Tasks

# A publish beyond either goes by itself: it is a batch already.
SHARED_RECORDS_MAX, SHARED_BYTES_MAX = 100, 65_536
# Of all that share a statement: as of a batch, and what the server takes in without a pause.
RECORDS_MAX, BYTES_MAX = 1000, 1_048_576
# None beside another: records of a key keep their order.
LIMITS = Limits(
    rows_max=RECORDS_MAX,
    bytes_max=BYTES_MAX,
    overtake_after_s=inf,
    statements_max=1,
    singles_max=1,
)


class Row(NamedTuple):
    """A record as it is stored."""

    topic: str
    partition: int
    key: str
    value: bytes
    headers: str

    @property
    def size(self) -> int:
        """Call this for about how many bytes it takes."""
        return len(self.key) + len(self.value) + len(self.headers)


class Publishes(Gathering[Sequence[Row], bool]):
    """Sends the publishes of one bus, in company where there is some.

    `send` stores rows in one statement, or raises and stores none of them.
    """

    def __init__(
        self,
        tasks: Tasks,
        send: Callable[[Sequence[Row]], Awaitable[None]],
        operation_s_max: Callable[[], float] = lambda: inf,
    ) -> None:
        super().__init__(tasks, LIMITS, operation_s_max)
        self._store = send

    async def publish(self, rows: Sequence[Row]) -> None:
        """Call this to store rows; cancelled, they are stored or not."""
        if len(rows) > SHARED_RECORDS_MAX or self.size_of(rows) > SHARED_BYTES_MAX:
            await self._store(rows)
        else:
            await self.share(rows)

    def key_of(self, request: Sequence[Row]) -> int:
        """See `Gathering.key_of`: itself, so that all leave in the order they came."""
        return id(request)

    def size_of(self, request: Sequence[Row]) -> int:
        """See `Gathering.size_of`."""
        return sum(row.size for row in request)

    def rows_of(self, request: Sequence[Row]) -> int:
        """See `Gathering.rows_of`."""
        return len(request)

    async def one(self, request: Sequence[Row]) -> bool:
        """See `Gathering.one`."""
        await self._store(request)
        return True

    async def many(self, requests: Sequence[Sequence[Row]]) -> Sequence[bool]:
        """See `Gathering.many`."""
        await self._store([row for rows in requests for row in rows])
        return [True] * len(requests)

    def is_away(self, error: Exception) -> bool:
        """See `Gathering.is_away`."""
        return isinstance(error, BusUnavailable)

    def own(self, error: Exception) -> BusUnavailable:
        """See `Gathering.own`."""
        return BusUnavailable(error.reason if isinstance(error, BusUnavailable) else str(error))

    def ended(self, *, is_absent: bool) -> BusUnavailable:
        """See `Gathering.ended`."""
        return BusUnavailable("its loop ended")

    def late(self, limit_s: float, *, is_absent: bool) -> BusUnavailable:
        """See `Gathering.late`."""
        return BusUnavailable(f"no answer within {limit_s:g} s")
