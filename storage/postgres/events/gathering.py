"""Who shares a statement: appends that wait while another statement is under way.

Runs on the trio thread, in front of the hand-over to the loop: those who wait are woken in one
turn and meet in the next batch, and one crossing serves them all. A store has two gatherers, for
the two statements that can be shared (`Road`): that of `sharing.py` for single events, and that of
`whole_appends.py` for appends with more in them.

Rule 1: nobody waits for company. With no statement under way, or only two of others that are
alone, a request leaves at once, by the statement for one; what comes meanwhile leaves together
when they are answered.
Rule 2: nobody waits for somebody else's trouble. When a statement has been under way for long,
the next leaves beside it; when one row spoils it, all of it go alone or in halves.
Rule 3: a stream is in one statement at a time: of two the later would not see the earlier one's
event, and both would wait for one lock.
Rule 4: "nobody waits, I end" and "somebody will take me along" are one step, without an await.
Rule 5: a request that was sent is answered by its statement, or told that its outcome is not
known; one that was not sent is certainly absent.

The road of a request:

    alone      nothing is under way: the statement for one, in the caller's own task
    waiting    parked, in the queue of its stream, until a flush takes it: streams take turns
    sent       the flush, a task of the database handle, has it in a statement
    answered   stored; or left out, and the caller looks why; or sent alone by its caller

A flush belongs to the loop that serves the handle now, and ends with it; whoever is parked then
is told. A caller that is cancelled while waiting is taken out; when sent it learns the outcome
as everywhere, within a second, and the statement goes on.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, cast

import asyncpg
import outcome
import trio

from actors.persistence import Appended, AppendRequest, SetTimer
from storage.asyncio_thread import CANCEL_GRACE_S
from storage.errors import PoolExhausted, StatementRefused, StoreTimeout, StoreUnavailable
from storage.postgres.connecting.database import Database
from storage.postgres.connecting.notices import EVENTS
from storage.postgres.events.appending import insert
from storage.postgres.events.sharing import LOCK_WAIT_S_MAX, insert_shared

# How often somebody looks whether a statement is late, or a caller's time over.
LOOK_S = 0.01


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
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("event_bytes_max", "overtake_after_s"):
            if getattr(self, name) < 0:
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


@dataclass(frozen=True, slots=True)
class GatherStats:
    """What became of single appends so far, and who waits now.

    `singles` went by the statement for one, `rows` in `statements` with others. Of those rows
    `left_out` found another state and looked why, and `alone` were sent again by themselves. An
    `apart` that grows is a stream that many write to at once, or rows that are refused or locked.
    """

    singles: int
    statements: int
    rows: int
    left_out: int
    alone: int
    waiting: int
    oldest_waiting_s: float

    @property
    def rows_per_statement(self) -> float:
        """Call this for how many shared a statement on average; 0 before the first."""
        return self.rows / self.statements if self.statements else 0.0

    @property
    def apart(self) -> float:
        """Call this for the share of rows that a shared statement did not settle."""
        return (self.left_out + self.alone) / self.rows if self.rows else 0.0


class _Fate(Enum):
    """What a shared statement may come to besides an answer."""

    LEFT_OUT = "left out"  # nothing was written; the caller looks why
    ALONE = "alone"  # nothing was written; it may be another's fault


class _Flight:
    """A statement under way, or about to leave."""

    __slots__ = ()


class _Waiter:
    """One request with its parked caller. `task` is None once nobody is to be woken."""

    __slots__ = ("gatherer", "is_sent", "raise_cancel", "request", "since", "size", "task")

    def __init__(self, gatherer: Gatherer, request: AppendRequest, size: int, now: float) -> None:
        self.gatherer, self.request, self.size, self.since = gatherer, request, size, now
        self.task: trio.lowlevel.Task | None = trio.lowlevel.current_task()
        self.is_sent = False
        self.raise_cancel: Callable[[], Any] | None = None

    def withdraw(self, raise_cancel: Callable[[], Any]) -> trio.lowlevel.Abort:
        """Called by trio at most once, when the caller's scope is cancelled while it is parked."""
        if self.is_sent:
            self.raise_cancel = raise_cancel
            self.gatherer.is_leaving(self)
            return trio.lowlevel.Abort.FAILED
        self.task = None
        self.gatherer.is_gone()
        return trio.lowlevel.Abort.SUCCEEDED

    def answer(self, result: outcome.Outcome[Appended | _Fate | _Flight]) -> None:
        """Wake the caller, once."""
        task, self.task = self.task, None
        if task is None:
            return
        # A cancelled caller is told what is stored, as by every call; anything else would only
        # make it go on.
        if self.raise_cancel is not None and not (
            isinstance(result, outcome.Value) and isinstance(result.value, Appended)
        ):
            result = outcome.capture(self.raise_cancel)
        trio.lowlevel.reschedule(task, result)


class Gatherer:
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
        self.settings = settings if settings is not None else GatherSettings()
        self._database, self._hold = database, hold
        self._road = road if road is not None else road_of_singles(database)
        # By stream, and the streams in turn. Those that were withdrawn stay until they are met.
        self._queues: OrderedDict[str, deque[_Waiter]] = OrderedDict()
        self._count = 0
        # All that are parked, oldest first; and those that were cancelled when sent.
        self._by_age: deque[_Waiter] = deque()
        self._leaving: deque[tuple[float, _Waiter]] = deque()
        self._is_watched = False
        # Streams that a statement under way writes to.
        self._busy: set[str] = set()
        # Statements under way, or about to leave, and since when; and how many are of batches.
        self._flights: dict[_Flight, float] = {}
        self._flushes = 0
        self._singles = self._statements = self._rows = self._left_out = self._alone = 0

    def of_road(self, road: Road) -> Gatherer:
        """Call this for another gatherer, of the same settings, whose appends go another road."""
        return Gatherer(self._database, self.settings, road=road, hold=self._hold)

    def __repr__(self) -> str:
        return f"<Gatherer {self._count} waiting, {len(self._flights)} statements under way>"

    def statistics(self) -> GatherStats:
        """Call this for the counts so far."""
        oldest = next((one for one in self._by_age if one.task is not None), None)
        return GatherStats(
            singles=self._singles,
            statements=self._statements,
            rows=self._rows,
            left_out=self._left_out,
            alone=self._alone,
            waiting=self._count,
            oldest_waiting_s=0.0 if oldest is None else trio.current_time() - oldest.since,
        )

    def takes(self, request: AppendRequest) -> bool:
        """Call this to ask whether a request may share: a small one, with an exact version."""
        return (
            isinstance(request.expected, int)
            and self._road.takes(request)
            and _size(request) < self.settings.event_bytes_max
        )

    async def append(self, request: AppendRequest) -> Appended | None:
        """Call this to store a request; None when it found another state.

        Raises `StoreUnavailable` and its kin, and what the driver raises for this very event.
        """
        now = trio.current_time()
        is_full = self._is_full(now)
        if (
            (not is_full or self._are_few())
            and not self._count
            and request.key not in self._busy
            and self._hold is None
        ):
            flight = _Flight()
            self._flights[flight] = now
            return await self._go_single(request, flight)
        fate = await self._wait(request, now, is_full=is_full)
        if isinstance(fate, Appended):
            return fate
        if isinstance(fate, _Flight):
            return await self._go_single(request, fate)
        if fate is _Fate.LEFT_OUT:
            return None
        return await self._go_alone(request)

    # On the way in.

    def _is_full(self, now: float) -> bool:
        """Whether a statement must wait for those under way."""
        flights, settings = self._flights, self.settings
        # A loop: of the one that there nearly always is, it is faster than `any`.
        for since in flights.values():
            if now - since < settings.overtake_after_s:
                return True
        # Of batches only: singles may wait for locks of their own for long, as many as there are.
        return self._flushes >= settings.statements_max

    def _are_few(self) -> bool:
        """Whether one more may go by itself beside those that do."""
        return not self._flushes and len(self._flights) < self.settings.singles_max

    async def _go_single(self, request: AppendRequest, flight: _Flight) -> Appended | None:
        """Send a request without company; who comes meanwhile waits for it."""
        self._singles += 1
        try:
            return await self._go_alone(request)
        finally:
            del self._flights[flight]
            self._send_on()

    async def _go_alone(self, request: AppendRequest) -> Appended | None:
        """Send a request in its caller's task; those of its stream wait meanwhile."""
        # Taken already when two of one stream go alone; then the first frees it.
        is_ours = request.key not in self._busy
        if is_ours:
            self._busy.add(request.key)
        try:
            return await self._road.one(request)
        finally:
            if is_ours:
                self._busy.discard(request.key)
                self._send_on()

    def _send_on(self) -> None:
        """Have those who wait sent, unless one that is under way will see to it."""
        if self._count and not self._is_full(trio.current_time()):
            self._start_flush()

    async def _wait(
        self, request: AppendRequest, now: float, *, is_full: bool
    ) -> Appended | _Fate | _Flight:
        if not self._is_watched:
            # Before anybody parks: without a loop there is nobody to wake them.
            self._is_watched = self._database.start_soon(self._watch)
            if not self._is_watched:
                return _Fate.ALONE
        waiter = _Waiter(self, request, _size(request), now)
        queue = self._queues.get(request.key)
        if queue is None:
            queue = self._queues[request.key] = deque()
        queue.append(waiter)
        self._by_age.append(waiter)
        self._count += 1
        if not is_full:
            self._start_flush()
        # `Any`: what a parked task is woken with.
        answer = await trio.lowlevel.wait_task_rescheduled(waiter.withdraw)
        return cast("Appended | _Fate | _Flight", answer)

    def is_gone(self) -> None:
        """Called by a waiter that was withdrawn before it was sent."""
        self._count -= 1

    def is_leaving(self, waiter: _Waiter) -> None:
        """Called by a waiter that was cancelled when it was sent already."""
        self._leaving.append((trio.current_time() + CANCEL_GRACE_S, waiter))

    # Sending.

    def _start_flush(self) -> None:
        # Counted at once: who comes until it runs finds it there.
        flight = _Flight()
        self._flights[flight] = trio.current_time()
        self._flushes += 1
        if not self._database.start_soon(self._flush, flight):
            self._landed(flight)  # the loop ends: so does the watch, and tells them

    async def _flush(self, flight: _Flight) -> None:
        """A task of the handle: one batch after the other, until nobody waits."""
        woken = 0
        try:
            while True:
                await self._gather(woken)
                batch = self._take()
                if not batch:
                    return
                self._flights[flight] = trio.current_time()
                if len(batch) == 1 and self._hold is None:
                    self._hand_back(batch[0])
                    return
                try:
                    await self._send(batch)
                finally:
                    self._busy.difference_update([one.request.key for one in batch])
                    # Cancelled with the loop; who has an answer already does not hear it.
                    _answer_all(batch, StoreUnavailable("its loop ended"))
                woken = len(batch)
                while self._by_age and self._by_age[0].task is None:
                    self._by_age.popleft()
                del self._flights[flight]
                now = trio.current_time()
                if self._is_full(now):
                    return  # one that left beside this one takes who waits
                self._flights[flight] = now
        finally:
            self._landed(flight)

    def _hand_back(self, waiter: _Waiter) -> None:
        """Let a caller that is alone send by itself: the lock it may wait for is its own."""
        # Under way from here on, so that nobody leaves before it has begun.
        flight = _Flight()
        self._flights[flight] = trio.current_time()
        self._busy.discard(waiter.request.key)
        waiter.answer(outcome.Value(flight))

    def _landed(self, flight: _Flight) -> None:
        self._flights.pop(flight, None)
        self._flushes -= 1

    async def _gather(self, woken: int) -> None:
        """Let those who were woken by the last statement come back, if they do so at once."""
        if self._hold is not None:
            await self._hold()
        await trio.lowlevel.checkpoint()
        if self._count < woken:
            # They run in this turn, but before us or after us, as trio's dice fall.
            await trio.lowlevel.checkpoint()

    def _take(self) -> list[_Waiter]:
        """Take one of each stream, then the next of each, until the batch is full."""
        batch: list[_Waiter] = []
        kept: list[tuple[str, deque[_Waiter]]] = []
        size, queues, settings = 0, self._queues, self.settings
        while queues and len(batch) < settings.rows_max:
            stream_id, queue = queues.popitem(last=False)
            if stream_id in self._busy:
                kept.append((stream_id, queue))
                continue
            waiter = queue[0]
            if waiter.task is not None:
                size += waiter.size
                if batch and size > settings.bytes_max:
                    kept.append((stream_id, queue))
                    break
                waiter.is_sent = True
                batch.append(waiter)
            queue.popleft()
            if queue:
                queues[stream_id] = queue
        # It is their turn again, in their order.
        for stream_id, queue in reversed(kept):
            queues[stream_id] = queue
            queues.move_to_end(stream_id, last=False)
        self._busy.update([waiter.request.key for waiter in batch])
        self._count -= len(batch)
        return batch

    async def _send(self, batch: list[_Waiter]) -> None:
        """Send a batch and answer all of it; what went wrong is the answer."""
        requests = [waiter.request for waiter in batch]
        self._statements += 1
        self._rows += len(batch)
        try:
            answers = await self._road.many(requests, self.settings.lock_wait_s_max)
        except Exception as error:  # noqa: BLE001  (it is the callers', who know what to do)
            await self._not_sent(batch, error)
            return
        for waiter, answer in zip(batch, answers, strict=True):
            if answer is None:
                self._left_out += 1
            waiter.answer(outcome.Value(_Fate.LEFT_OUT if answer is None else answer))

    async def _not_sent(self, batch: list[_Waiter], error: Exception) -> None:
        """Answer a batch whose statement failed."""
        if isinstance(error, StoreUnavailable) and not isinstance(error.__cause__, _OF_ONE_ROW):
            _answer_all(batch, error)
        elif len(batch) == 1 or not isinstance(error, StatementRefused):
            # The server has undone it. In halves the one that waits would hold the others up
            # again and again.
            self._alone += len(batch)
            for waiter in batch:
                waiter.answer(outcome.Value(_Fate.ALONE))
        else:
            # One row that is refused; the driver seldom tells which.
            middle = len(batch) // 2
            await self._send(batch[:middle])
            await self._send(batch[middle:])

    # Looking after those who wait.

    async def _watch(self) -> None:
        """A task of the handle, for as long as anybody is parked: ends what takes too long."""
        try:
            while self._by_age:
                await trio.sleep(LOOK_S)
                now = trio.current_time()
                self._end_overdue(now)
                self._send_on()
        finally:
            self._is_watched = False
            # Empty, unless the loop has ended: then nobody will come to send them.
            self._queues.clear()
            self._count = 0
            lost = StoreUnavailable("its loop ended", nothing_written=True)
            _answer_all([one for one in self._by_age if not one.is_sent], lost)
            self._by_age.clear()

    def _end_overdue(self, now: float) -> None:
        """Tell those whose time is over: all have the same, so the oldest come first."""
        limit_s, by_age, leaving = (
            self._database.settings.operation_s_max,
            self._by_age,
            self._leaving,
        )
        while by_age and (by_age[0].task is None or now - by_age[0].since >= limit_s):
            waiter = by_age.popleft()
            if waiter.task is None:
                continue
            is_absent = not waiter.is_sent
            waiter.answer(outcome.Error(StoreTimeout(limit_s, nothing_written=is_absent)))
            if is_absent:
                self.is_gone()
        while leaving and (leaving[0][1].task is None or now >= leaving[0][0]):
            _, waiter = leaving.popleft()
            waiter.answer(outcome.Value(_Fate.LEFT_OUT))  # cancelled, so it hears that


# What the server undid because of one row, whose lock another holds.
_OF_ONE_ROW = (asyncpg.DeadlockDetectedError, asyncpg.LockNotAvailableError)


def _size(request: AppendRequest) -> int:
    size = 0
    for event in request.events:
        size += len(event.data)
        for text in event.metadata.values():
            size += len(text)
    for one in request.outbox:
        size += len(one.payload)
    for change in request.timers:
        if isinstance(change, SetTimer):
            size += len(change.payload)
    return size


def _answer_all(batch: list[_Waiter], error: StoreUnavailable) -> None:
    """Tell all the same, each by an error of its own: one raised in many tasks grows in each."""
    for waiter in batch:
        if waiter.task is None:
            continue
        match error:
            case StoreTimeout():
                own: StoreUnavailable = StoreTimeout(
                    error.timeout_s, nothing_written=error.nothing_written
                )
            case PoolExhausted():
                own = PoolExhausted(error.waiting, error.limit)
            case _:
                own = StoreUnavailable(error.reason, nothing_written=error.nothing_written)
        own.__cause__ = error.__cause__
        waiter.answer(outcome.Error(own))
