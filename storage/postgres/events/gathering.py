"""Which appends share a statement; `storage/gathering.py` says how.

A store has three gatherers, for the statements that can be shared (`Road`): those of `sharing.py`
for single events, without and under a shard, and that of `whole_appends.py` for appends with more
in them.

A stream is in one statement at a time: of two the later would not see the earlier one's event,
and both would wait for one lock.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import asyncpg

from actors.persistence import Appended, AppendRequest, SetTimer
from actors.runtime.words.tallies import SIZES
from storage.errors import PoolExhausted, StoreTimeout, StoreUnavailable
from storage.gathering import Gathering, Limits
from storage.postgres.connecting.database import Database
from storage.postgres.connecting.notices import EVENTS
from storage.postgres.events.appending import insert
from storage.postgres.events.sharing import LOCK_WAIT_S_MAX, insert_owned, insert_shared


@dataclass(frozen=True, slots=True)
class GatherSettings:
    """The limits of statements that many share (PERF-30).

    Given to a store by `PostgresEventStore(database, gatherer=Gatherer(database, settings))`.
    With `event_bytes_max=0` every append has a statement of its own.
    """

    # A row costs the server about 40 us: this is ten milliseconds, and one more gains nothing.
    rows_max: int = 256
    bytes_max: int = 1024 * 1024
    # What is as large goes alone: a hundred small ones would wait for its bytes.
    event_bytes_max: int = 16 * 1024
    # A commit takes some milliseconds on any disk worth the name; what takes longer waits for
    # a lock, or for a disk that commits of several may wait for together.
    overtake_after_s: float = 0.02
    # Of the pool's ten connections less than half.
    statements_max: int = 4
    # So few are faster side by side: the server flushes their commits together by itself, and
    # works on one while the client is busy with another. With more, sharing saves more.
    singles_max: int = 3
    lock_wait_s_max: float = LOCK_WAIT_S_MAX

    def __post_init__(self) -> None:
        for name in ("rows_max", "bytes_max", "statements_max", "singles_max"):
            if not getattr(self, name) >= 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("event_bytes_max", "overtake_after_s"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if not self.lock_wait_s_max >= 0.001:
            # The server takes whole milliseconds, and none for "for ever".
            raise ValueError(f"lock_wait_s_max must be at least 0.001, got {self.lock_wait_s_max}")


@dataclass(frozen=True, slots=True)
class Road:
    """Which requests can share a statement, the statement of one, and that of many.

    `takes` is asked before anything else. `one` gives None when the request found another state.
    `many` is given how long it may wait for a lock, in seconds, and does so for each; it raises,
    with nothing written, where one row is refused. Both run in a trio task.
    """

    takes: Callable[[AppendRequest], bool]
    one: Callable[[AppendRequest], Awaitable[Appended | None]]
    many: Callable[[Sequence[AppendRequest], float], Awaitable[Sequence[Appended | None]]]
    # How many share a statement at most, where that is less than the settings say; where as many
    # wait they leave beside one that is under way.
    crowd: int | None = None


def road_of_singles(database: Database) -> Road:
    """Call this for the road of plain appends: one event, and an exact version.

    Several events of one request may not share by this statement: one of them left out were half
    an append.
    """

    async def one(request: AppendRequest) -> Appended | None:
        return await database.run(insert, request, channel=EVENTS)

    async def many(requests: Sequence[AppendRequest], lock_wait_s: float) -> list[Appended | None]:
        return await database.run(insert_shared, requests, lock_wait_s, channel=EVENTS)

    return Road(lambda request: len(request.events) == 1, one, many)


def road_of_owned(database: Database) -> Road:
    """Call this for the road of single events that count only while their shard is its owner's.

    None says of each that it was refused, and not for which of the reasons.
    """

    async def one(request: AppendRequest) -> Appended | None:
        return await database.run(insert, request, None, request.shard, channel=EVENTS)

    async def many(requests: Sequence[AppendRequest], lock_wait_s: float) -> list[Appended | None]:
        return await database.run(insert_owned, requests, lock_wait_s, channel=EVENTS)

    return Road(lambda request: len(request.events) == 1, one, many)


class Gatherer(Gathering[AppendRequest, Appended]):
    """Sends the appends of one store that go one road, in company where there is some.

    Without a `road` it is that of single events. `hold` is for tests: with it nothing goes alone
    unless it must, and each batch is taken when it returns.
    """

    def __init__(
        self,
        database: Database,
        settings: GatherSettings | None = None,
        *,
        road: Road | None = None,
        hold: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.settings = given = settings if settings is not None else GatherSettings()
        self._database = database
        self._sized: tuple[AppendRequest | None, int] = None, 0
        self._road = road if road is not None else road_of_singles(database)
        crowd = self._road.crowd
        limits = Limits(
            rows_max=given.rows_max if crowd is None else min(given.rows_max, crowd),
            bytes_max=given.bytes_max,
            overtake_after_s=given.overtake_after_s,
            statements_max=given.statements_max,
            singles_max=given.singles_max,
            crowd=math.inf if crowd is None else crowd,
        )
        super().__init__(database, limits, lambda: database.settings.operation_s_max, hold)
        self.sizes = database.tallies.histogram("store_batch_size", bounds=SIZES)

    def of_road(self, road: Road) -> Gatherer:
        """Call this for another gatherer, of the same settings, whose appends go another road."""
        return Gatherer(self._database, self.settings, road=road, hold=self._hold)

    def takes(self, request: AppendRequest) -> bool:
        """Call this to ask whether a request may share: a small one, with an exact version."""
        return (
            isinstance(request.expected, int)
            and self._road.takes(request)
            and self.size_of(request) < self.settings.event_bytes_max
        )

    async def append(self, request: AppendRequest) -> Appended | None:
        """Call this to store a request; None when it found another state.

        Raises `StoreUnavailable` and its kin, and what the driver raises for this very event.
        """
        return await self.share(request)

    def key_of(self, request: AppendRequest) -> str:
        """See `Gathering.key_of`: its stream."""
        return request.key

    def size_of(self, request: AppendRequest) -> int:
        """See `Gathering.size_of`."""
        # Asked twice in turn: whether it may share, and how much it adds.
        known, size = self._sized
        if known is not request:
            self._sized = request, (size := _size(request))
        return size

    def rows_of(self, request: AppendRequest) -> int:
        """See `Gathering.rows_of`: an append counts once, however much is in it."""
        return 1

    async def one(self, request: AppendRequest) -> Appended | None:
        """See `Gathering.one`."""
        return await self._road.one(request)

    async def many(self, requests: Sequence[AppendRequest]) -> Sequence[Appended | None]:
        """See `Gathering.many`."""
        return await self._road.many(requests, self.settings.lock_wait_s_max)

    def is_away(self, error: Exception) -> bool:
        """See `Gathering.is_away`."""
        return isinstance(error, StoreUnavailable) and not isinstance(error.__cause__, _OF_ONE_ROW)

    def own(self, error: Exception) -> StoreUnavailable:
        """See `Gathering.own`."""
        match error:
            case StoreTimeout():
                return StoreTimeout(error.timeout_s, nothing_written=error.nothing_written)
            case PoolExhausted():
                return PoolExhausted(error.waiting, error.limit)
            case StoreUnavailable():
                return StoreUnavailable(error.reason, nothing_written=error.nothing_written)
        raise error  # not one that `is_away` has let pass

    def ended(self, *, is_absent: bool) -> StoreUnavailable:
        """See `Gathering.ended`."""
        return StoreUnavailable("its loop ended", nothing_written=is_absent)

    def late(self, limit_s: float, *, is_absent: bool) -> StoreTimeout:
        """See `Gathering.late`."""
        return StoreTimeout(limit_s, nothing_written=is_absent)


# What the server undid because of one row, whose lock another holds.
_OF_ONE_ROW = (asyncpg.DeadlockDetectedError, asyncpg.LockNotAvailableError)


def _size(request: AppendRequest) -> int:
    size = 0
    for event in request.events:
        size += len(event.data)
        size += sum(map(len, event.metadata.values()))
    for one in request.outbox:
        size += len(one.payload)
    for change in request.timers:
        if isinstance(change, SetTimer):
            size += len(change.payload)
    return size
