"""Durable timers in memory; the twin of `storage/postgres/timers.py`."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from actors.persistence import CancelTimer, DueTimer, SetTimer
from actors.persistence.beside_log.timers import CLAIM, CLAIM_MAX
from storage.memory.database import MemoryDatabase, TimerRow
from storage.memory.faults import Faults


class MemoryTimers(Faults):
    """The port `DurableTimers` on a `MemoryDatabase`."""

    def __init__(self, database: MemoryDatabase | None = None) -> None:
        super().__init__()
        self.database = database if database is not None else MemoryDatabase()

    async def set(self, timer: SetTimer) -> None:
        """See `DurableTimers.set`."""
        await self.pass_faults()
        self.database.change_timer(timer)

    async def cancel(self, address: str, name: str) -> int:
        """See `DurableTimers.cancel`."""
        await self.pass_faults()
        before = len(self._open())
        self.database.change_timer(CancelTimer(address, name))
        return before - len(self._open())

    async def claim_due(
        self, worker: str, now: datetime, *, limit: int = CLAIM_MAX
    ) -> Sequence[DueTimer]:
        """See `DurableTimers.claim_due`."""
        await self.pass_faults()
        due = [
            row
            for row in self._open()
            if row.timer.due_at <= now and (row.claimed_until is None or row.claimed_until <= now)
        ]
        due.sort(key=lambda row: (row.timer.due_at, row.timer.timer_id))
        for row in due[:limit]:
            row.claimed_by, row.claimed_until = worker, now + CLAIM
            row.attempts += 1
        return [_due(row) for row in due[:limit]]

    async def close(self, timer_id: UUID) -> bool:
        """See `DurableTimers.close`."""
        await self.pass_faults()
        row = self.database.timers.get(timer_id)
        if row is None or not row.is_open:
            return False
        row.fired_at = self.database.now()
        return True

    async def next_due(self) -> datetime | None:
        """See `DurableTimers.next_due`."""
        await self.pass_faults()
        times = [
            max(row.timer.due_at, row.claimed_until or row.timer.due_at) for row in self._open()
        ]
        return min(times, default=None)

    async def pending(self) -> int:
        """See `DurableTimers.pending`."""
        await self.pass_faults()
        return len(self._open())

    def _open(self) -> list[TimerRow]:
        return [row for row in self.database.timers.values() if row.is_open]


def _due(row: TimerRow) -> DueTimer:
    timer = row.timer
    return DueTimer(
        timer_id=timer.timer_id,
        address=timer.address,
        name=timer.name,
        token=timer.token,
        due_at=timer.due_at,
        payload=timer.payload,
        metadata=dict(timer.metadata),
        attempts=row.attempts,
    )
