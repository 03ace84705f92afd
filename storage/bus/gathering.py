"""Who shares a statement: publishes that wait while another is under way.

As appends do (`storage/postgres/events/gathering.py`), and simpler: a record waits for no lock, and
two publishes cannot refuse each other.

Rule 1: nobody waits for company. With no statement under way a publish leaves at once, in its
caller's task; what comes meanwhile leaves together when it has landed, in the order it came.
Rule 2: a statement is all or nothing. Refused with several publishes in it, each goes by itself, so
that one that is refused takes no other with it.
Rule 3: who is cancelled before the statement left publishes nothing.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import trio

from actors.persistence.bus import BusUnavailable

# A publish beyond either goes by itself: it is a batch already.
SHARED_RECORDS_MAX, SHARED_BYTES_MAX = 100, 65_536
# Of all that share a statement: as of a batch, and what the server takes in without a pause.
RECORDS_MAX, BYTES_MAX = 1000, 1_048_576


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


@dataclass(frozen=True, slots=True)
class PublishStats:
    """What was sent so far, in how many statements; and how many publishes wait for one."""

    statements: int
    records: int
    waiting: int


class Tasks(Protocol):
    """Where a task lives as long as the database is served; as `Database.start_soon`."""

    def start_soon(self, task: Callable[[], Awaitable[object]]) -> bool:
        """Call this to start it; False when nothing serves."""
        ...


class _Waiter:
    def __init__(self, rows: Sequence[Row], size: int) -> None:
        self.rows, self.size = rows, size
        self.answered = trio.Event()
        self.failure: BusUnavailable | None = None
        self.is_gone = self.goes_alone = False


class Publishes:
    """Sends the publishes of one bus, in company where there is some.

    `send` stores rows in one statement, or raises and stores none of them.
    """

    def __init__(self, tasks: Tasks, send: Callable[[Sequence[Row]], Awaitable[None]]) -> None:
        self._tasks, self._send = tasks, send
        self._waiting: deque[_Waiter] = deque()
        self._is_busy = False
        self._statements = self._records = 0

    def __repr__(self) -> str:
        return f"<Publishes {len(self._waiting)} waiting, {self._statements} statements>"

    def statistics(self) -> PublishStats:
        """Call this for the counts so far."""
        return PublishStats(self._statements, self._records, len(self._waiting))

    async def publish(self, rows: Sequence[Row]) -> None:
        """Call this to store rows; cancelled, they are stored or not."""
        size = sum(row.size for row in rows)
        if len(rows) > SHARED_RECORDS_MAX or size > SHARED_BYTES_MAX:
            await self._store(rows)
        elif self._is_busy or self._waiting:
            await self._wait(_Waiter(rows, size))
        else:
            self._is_busy = True
            try:
                await self._store(rows)
            finally:
                self._landed()

    async def _wait(self, waiter: _Waiter) -> None:
        self._waiting.append(waiter)
        try:
            await waiter.answered.wait()
        finally:
            waiter.is_gone = True
        if waiter.goes_alone:
            await self._store(waiter.rows)
        elif waiter.failure is not None:
            raise waiter.failure

    async def _store(self, rows: Sequence[Row]) -> None:
        self._statements += 1
        self._records += len(rows)
        await self._send(rows)

    def _landed(self) -> None:
        """Have those who wait sent; without a loop each finds out by itself."""
        while self._waiting and self._waiting[0].is_gone:
            self._waiting.popleft()
        self._is_busy = bool(self._waiting) and self._tasks.start_soon(self._flush)
        if not self._is_busy:
            self._all_alone()

    async def _flush(self) -> None:
        """A task of the handle: one statement after the other, until nobody waits."""
        batch: list[_Waiter] = []
        try:
            while batch := self._take():
                await self._store_all(batch)
        finally:
            self._is_busy = False
            # Something is left only where the loop has ended.
            _fail(batch, BusUnavailable("its loop ended"))
            self._all_alone()

    def _take(self) -> list[_Waiter]:
        batch: list[_Waiter] = []
        count = size = 0
        while self._waiting:
            first = self._waiting[0]
            if not first.is_gone:
                count, size = count + len(first.rows), size + first.size
                if batch and (count > RECORDS_MAX or size > BYTES_MAX):
                    break
                batch.append(first)
            self._waiting.popleft()
        return batch

    async def _store_all(self, batch: Sequence[_Waiter]) -> None:
        try:
            await self._store([row for waiter in batch for row in waiter.rows])
        except BusUnavailable as error:
            _fail(batch, error)
        except Exception:  # noqa: BLE001  (who it was about is told by a call of its own)
            for waiter in batch:
                waiter.goes_alone = True
        for waiter in batch:
            waiter.answered.set()

    def _all_alone(self) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            waiter.goes_alone = True
            waiter.answered.set()


def _fail(batch: Sequence[_Waiter], error: BusUnavailable) -> None:
    """Tell those that have no answer, each by an error of its own: one that is raised grows."""
    for waiter in batch:
        if not waiter.answered.is_set():
            waiter.failure = BusUnavailable(error.reason)
            waiter.failure.__cause__ = error.__cause__
            waiter.answered.set()
