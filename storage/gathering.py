"""Who shares a statement: requests that wait while another statement is under way.

Of the store's appends (`storage/postgres/events/gathering.py`) and the bus's publishes
(`storage/bus/gathering.py`): each says what fits together, and sends it. Who waits, who leaves,
and what happens when the loop ends is the same for both, and stands here.

Runs on the trio thread, in front of the hand-over to the loop: those who wait are woken in one
turn and meet in the next batch, and one crossing serves them all.

Rule 1: nobody waits for company. With no statement under way, or only few of others that are
alone, a request leaves at once, by the statement for one; what comes meanwhile leaves together
when they are answered.
Rule 2: nobody waits for somebody else's trouble. When a statement has been under way for long,
the next leaves beside it; when one row spoils it, all of it go alone or in halves.
A crowd does not wait either: sharing one statement with more saves it nothing.
Rule 3: of one key there is one request in a statement at a time.
Rule 4: "nobody waits, I end" and "somebody will take me along" are one step, without an await.
Rule 5: a request that was sent is answered by its statement, or told that its outcome is not
known; one that was not sent is certainly absent.

The road of a request:

    alone      nothing is under way: the statement for one, in the caller's own task
    waiting    parked, in the queue of its key, until a flush takes it: keys take turns
    sent       the flush, a task of the loop that serves, has it in a statement
    answered   done; or left out, and the caller looks why; or sent alone by its caller

A flush belongs to the loop that serves now, and ends with it; whoever is parked then is told. A
caller that is cancelled while waiting is taken out; when sent it learns the outcome as
everywhere, within a second, and the statement goes on.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Generic, Protocol, TypeVar, cast

import outcome
import trio

from actors.runtime.words.tallies import SIZES, Histogram
from storage.asyncio_thread import CANCEL_GRACE_S
from storage.errors import StatementRefused

R = TypeVar("R")
A = TypeVar("A")

# How often somebody looks whether a statement is late, or a caller's time over.
LOOK_S = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much shares a statement, and how many statements are under way.

    A statement that has been under way for `overtake_after_s` is overtaken. Up to `singles_max`
    that are alone go side by side; of batches there are `statements_max`. Where `crowd` wait they
    leave beside what is under way, however soon that may be back.
    """

    rows_max: int
    bytes_max: int
    overtake_after_s: float
    statements_max: int
    singles_max: int
    crowd: float = math.inf


class Tasks(Protocol):
    """Where a task lives as long as the database is served; as `Database.start_soon`."""

    def start_soon(self, task: Callable[[], Awaitable[object]]) -> bool:
        """Call this to start it; False when nothing serves."""
        ...


@dataclass(frozen=True, slots=True)
class GatherStats:
    """What became of the requests so far, and who waits now.

    `singles` went by the statement for one, `rows` in `statements` with others. Of those rows
    `left_out` found another state and looked why, and `alone` were sent again by themselves. An
    `apart` that grows is a key that many write to at once, or rows that are refused or locked.
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


class _Waiter(Generic[R, A]):
    """One request with its parked caller. `task` is None once nobody is to be woken."""

    __slots__ = (
        "gatherer",
        "is_sent",
        "key",
        "raise_cancel",
        "request",
        "since",
        "size",
        "task",
    )

    def __init__(self, gatherer: Gathering[R, A], request: R, key: Hashable, now: float) -> None:
        self.gatherer, self.request, self.key, self.since = gatherer, request, key, now
        self.size = gatherer.size_of(request)
        self.task: trio.lowlevel.Task | None = trio.lowlevel.current_task()
        self.is_sent = False
        self.raise_cancel: trio.lowlevel.RaiseCancelT | None = None

    def withdraw(self, raise_cancel: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
        """Called by trio at most once, when the caller's scope is cancelled while it is parked."""
        if self.is_sent:
            self.raise_cancel = raise_cancel
            self.gatherer.is_leaving(self)
            return trio.lowlevel.Abort.FAILED
        self.task = None
        self.gatherer.is_gone()
        return trio.lowlevel.Abort.SUCCEEDED

    def answer(self, result: outcome.Outcome[A | _Fate | _Flight]) -> None:
        """Wake the caller, once."""
        task, self.task = self.task, None
        if task is None:
            return
        # A cancelled caller is told what is stored, as by every call; anything else would only
        # make it go on.
        is_done = isinstance(result, outcome.Value) and not isinstance(
            result.value, (_Fate, _Flight)
        )
        if self.raise_cancel is not None and not is_done:
            result = outcome.capture(self.raise_cancel)
        trio.lowlevel.reschedule(task, result)


class Gathering(ABC, Generic[R, A]):
    """Sends requests, in company where there is some: answers an `A`, or None.

    `operation_s_max` gives how long a request may take. With `hold`, which is for tests, nothing
    goes alone unless it must, and each batch is taken when it returns.
    """

    def __init__(
        self,
        tasks: Tasks,
        limits: Limits,
        operation_s_max: Callable[[], float],
        hold: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._tasks, self._limits, self._hold = tasks, limits, hold
        self._operation_s_max = operation_s_max
        # By key, and the keys in turn. Those that were withdrawn stay until they are met.
        self._queues: OrderedDict[Hashable, deque[_Waiter[R, A]]] = OrderedDict()
        self._count = 0
        # All that are parked, oldest first; and those that were cancelled when sent.
        self._by_age: deque[_Waiter[R, A]] = deque()
        self._leaving: deque[tuple[float, _Waiter[R, A]]] = deque()
        self._is_watched = False
        # Keys that a statement under way is about.
        self._busy: set[Hashable] = set()
        # Statements under way, or about to leave, and since when; and how many are of batches.
        self._flights: dict[_Flight, float] = {}
        self._flushes = 0
        # Of the flushes those that have not taken yet whom they will send.
        self._boarding = 0
        # How many shared a statement, for operators.
        self.sizes = Histogram(SIZES)
        self._singles = self._statements = self._rows = self._left_out = self._alone = 0

    # What fits together, and what is sent: each gathering's own.

    @abstractmethod
    def key_of(self, request: R) -> Hashable:
        """Of one key only one request is in a statement, and they keep their order."""

    @abstractmethod
    def size_of(self, request: R) -> int:
        """About how many bytes it takes."""

    @abstractmethod
    def rows_of(self, request: R) -> int:
        """How many rows it is."""

    @abstractmethod
    async def one(self, request: R) -> A | None:
        """Send one; None when it found another state. Runs in its caller's task."""

    @abstractmethod
    async def many(self, requests: Sequence[R]) -> Sequence[A | None]:
        """Send several; raises, with nothing written, where one row is refused."""

    @abstractmethod
    def is_away(self, error: Exception) -> bool:
        """Whether an error is the database's, and no row's: then all are told."""

    @abstractmethod
    def own(self, error: Exception) -> Exception:
        """Make another one of an error that says all are away: one that is raised grows."""

    @abstractmethod
    def ended(self, *, is_absent: bool) -> Exception:
        """Tell that the loop has ended; `is_absent`: nothing was sent."""

    @abstractmethod
    def late(self, limit_s: float, *, is_absent: bool) -> Exception:
        """Tell that the time is over; `is_absent`: nothing was sent."""

    def __repr__(self) -> str:
        name, flights = type(self).__name__, len(self._flights)
        return f"<{name} {self._count} waiting, {flights} statements under way>"

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

    async def share(self, request: R) -> A | None:
        """Call this to send a request, alone or with others; None when it found another state."""
        now = trio.current_time()
        key = self.key_of(request)
        is_full = self._is_full(now)
        if (
            (not is_full or self._are_few())
            and not self._count
            and key not in self._busy
            and self._hold is None
        ):
            flight = _Flight()
            self._flights[flight] = now
            return await self._go_single(request, flight)
        fate = await self._wait(request, key, now, is_full=is_full)
        if isinstance(fate, _Flight):
            return await self._go_single(request, fate)
        if not isinstance(fate, _Fate):
            return fate
        return None if fate is _Fate.LEFT_OUT else await self._go_alone(request)

    # On the way in.

    def _is_full(self, now: float) -> bool:
        """Whether a statement must wait for those under way."""
        # Of batches only: singles may wait for locks of their own for long, as many as there are.
        return self._is_served(now) or self._flushes >= self._limits.statements_max

    def _is_served(self, now: float) -> bool:
        """Whether one is under way that takes who waits when it is back, and is not late."""
        overtake_after_s = self._limits.overtake_after_s
        # A loop: of the one that there nearly always is, it is faster than `any`.
        for since in self._flights.values():  # noqa: SIM110
            if now - since < overtake_after_s:
                return True
        return False

    def _is_crowd(self) -> bool:
        """Whether so many wait that one more statement is worth it, beside those about to leave."""
        return self._count >= self._limits.crowd * (self._boarding + 1)

    def _are_few(self) -> bool:
        """Whether one more may go by itself beside those that do."""
        return not self._flushes and len(self._flights) < self._limits.singles_max

    async def _go_single(self, request: R, flight: _Flight) -> A | None:
        """Send a request without company; who comes meanwhile waits for it."""
        self._singles += 1
        self.sizes.note(1)
        try:
            return await self._go_alone(request)
        finally:
            del self._flights[flight]
            self._send_on()

    async def _go_alone(self, request: R) -> A | None:
        """Send a request in its caller's task; those of its key wait meanwhile."""
        # Taken already when two of one key go alone; then the first frees it.
        key = self.key_of(request)
        is_ours = key not in self._busy
        if is_ours:
            self._busy.add(key)
        try:
            return await self.one(request)
        finally:
            if is_ours:
                self._busy.discard(key)
                self._send_on()

    def _send_on(self) -> None:
        """Have those who wait sent, unless one that is under way will see to it."""
        if self._count and not self._is_full(trio.current_time()):
            self._start_flush()

    async def _wait(
        self, request: R, key: Hashable, now: float, *, is_full: bool
    ) -> A | _Fate | _Flight:
        if not self._is_watched:
            # Before anybody parks: without a loop there is nobody to wake them.
            self._is_watched = self._tasks.start_soon(self._watch)
            if not self._is_watched:
                return _Fate.ALONE
        waiter = _Waiter(self, request, key, now)
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = deque()
        queue.append(waiter)
        self._by_age.append(waiter)
        self._count += 1
        if not is_full or (self._is_crowd() and self._flushes < self._limits.statements_max):
            self._start_flush()
        # `Any`: what a parked task is woken with.
        answer = await trio.lowlevel.wait_task_rescheduled(waiter.withdraw)
        return cast("A | _Fate | _Flight", answer)

    def is_gone(self) -> None:
        """Called by a waiter that was withdrawn before it was sent."""
        self._count -= 1

    def is_leaving(self, waiter: _Waiter[R, A]) -> None:
        """Called by a waiter that was cancelled when it was sent already."""
        self._leaving.append((trio.current_time() + CANCEL_GRACE_S, waiter))

    # Sending.

    def _start_flush(self) -> None:
        # Counted at once: who comes until it runs finds it there.
        flight = _Flight()
        self._flights[flight] = trio.current_time()
        self._flushes += 1
        self._boarding += 1
        if not self._tasks.start_soon(partial(self._flush, flight)):
            self._boarding -= 1
            self._landed(flight)  # the loop ends: so does the watch, and tells them

    async def _flush(self, flight: _Flight) -> None:
        """A task of the handle: one batch after the other, until nobody waits."""
        woken = 0
        try:
            while True:
                try:
                    await self._gather(woken)
                finally:
                    self._boarding -= 1
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
                    self._busy.difference_update([one.key for one in batch])
                    # Cancelled with the loop; who has an answer already does not hear it.
                    self._answer_all(batch, self.ended(is_absent=False))
                woken = len(batch)
                while self._by_age and self._by_age[0].task is None:
                    self._by_age.popleft()
                del self._flights[flight]
                now = trio.current_time()
                if self._is_served(now) and not self._is_crowd():
                    return  # one that left beside this one takes who waits
                self._flights[flight] = now
                self._boarding += 1
        finally:
            self._landed(flight)

    def _hand_back(self, waiter: _Waiter[R, A]) -> None:
        """Let a caller that is alone send by itself: the lock it may wait for is its own."""
        # Under way from here on, so that nobody leaves before it has begun.
        flight = _Flight()
        self._flights[flight] = trio.current_time()
        self._busy.discard(waiter.key)
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

    def _take(self) -> list[_Waiter[R, A]]:
        """Take one of each key, then the next of each, until the batch is full."""
        batch: list[_Waiter[R, A]] = []
        kept: list[tuple[Hashable, deque[_Waiter[R, A]]]] = []
        rows, size, queues, limits = 0, 0, self._queues, self._limits
        while queues and rows < limits.rows_max:
            key, queue = queues.popitem(last=False)
            if key in self._busy:
                kept.append((key, queue))
                continue
            waiter = queue[0]
            if waiter.task is not None:
                rows, size = rows + self.rows_of(waiter.request), size + waiter.size
                if batch and (rows > limits.rows_max or size > limits.bytes_max):
                    kept.append((key, queue))
                    break
                waiter.is_sent = True
                batch.append(waiter)
            queue.popleft()
            if queue:
                queues[key] = queue
        # It is their turn again, in their order.
        for key, queue in reversed(kept):
            queues[key] = queue
            queues.move_to_end(key, last=False)
        self._busy.update([waiter.key for waiter in batch])
        self._count -= len(batch)
        return batch

    async def _send(self, batch: list[_Waiter[R, A]]) -> None:
        """Send a batch and answer all of it; what went wrong is the answer."""
        requests = [waiter.request for waiter in batch]
        self._statements += 1
        self._rows += len(batch)
        self.sizes.note(len(batch))
        try:
            answers = await self.many(requests)
        except Exception as error:  # noqa: BLE001  (it is the callers', who know what to do)
            await self._not_sent(batch, error)
            return
        for waiter, answer in zip(batch, answers, strict=True):
            if answer is None:
                self._left_out += 1
            waiter.answer(outcome.Value(_Fate.LEFT_OUT if answer is None else answer))

    async def _not_sent(self, batch: list[_Waiter[R, A]], error: Exception) -> None:
        """Answer a batch whose statement failed."""
        if self.is_away(error):
            self._answer_all(batch, error)
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
            unsent = [one for one in self._by_age if not one.is_sent]
            self._answer_all(unsent, self.ended(is_absent=True))
            self._by_age.clear()

    def _end_overdue(self, now: float) -> None:
        """Tell those whose time is over: all have the same, so the oldest come first."""
        limit_s, by_age, leaving = self._operation_s_max(), self._by_age, self._leaving
        while by_age and (by_age[0].task is None or now - by_age[0].since >= limit_s):
            waiter = by_age.popleft()
            if waiter.task is None:
                continue
            is_absent = not waiter.is_sent
            waiter.answer(outcome.Error(self.late(limit_s, is_absent=is_absent)))
            if is_absent:
                self.is_gone()
        while leaving and (leaving[0][1].task is None or now >= leaving[0][0]):
            _, waiter = leaving.popleft()
            waiter.answer(outcome.Value(_Fate.LEFT_OUT))  # cancelled, so it hears that

    def _answer_all(self, batch: Sequence[_Waiter[R, A]], error: Exception) -> None:
        """Tell all the same, each by an error of its own: one that many raise grows in each."""
        for waiter in batch:
            if waiter.task is not None:
                own = self.own(error)
                own.__cause__ = error.__cause__
                waiter.answer(outcome.Error(own))
