"""Durable timers in memory; the twin of `storage/postgres/timers.py`."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

from actors.persistence import CancelTimer, DueTimer, OpenTimer, SetTimer, Shard
from actors.persistence.beside_log.dead_letters import storable
from actors.persistence.beside_log.timers import (
    CLAIM,
    CLAIM_MAX,
    HELD_ANEW,
    HELD_MAX,
    OVER_KEPT,
    check_claimed,
    check_due,
    check_undelivered,
)
from actors.persistence.event_store import check_limit
from actors.persistence.words import check_a, check_text, check_uuid
from storage.memory.database import TimerRow
from storage.memory.twin import Twin


class MemoryTimers(Twin):
    """The port `DurableTimers` on a `MemoryDatabase`."""

    async def set(self, timer: SetTimer) -> None:
        """See `DurableTimers.set`."""
        check_a("timer", timer, SetTimer)
        await self.pass_faults()
        self.database.change_timer(timer)

    async def cancel(self, address: str, name: str) -> int:
        """See `DurableTimers.cancel`."""
        await self.pass_faults()
        return self.database.change_timer(CancelTimer(address, name))

    async def claim_due(
        self,
        worker: str,
        now: datetime,
        *,
        limit: int = CLAIM_MAX,
        busy: Sequence[str] = (),
        shard: Shard | None = None,
    ) -> Sequence[DueTimer]:
        """See `DurableTimers.claim_due`."""
        check_due(worker, now, limit, busy, shard)
        await self.pass_faults()
        if shard is not None:
            self.database.check_shard(shard)
        for row in self._open():
            if (
                row.claimed_until is not None
                and row.claimed_until > now + HELD_MAX
                and (shard is None or row.claimed_by in (None, worker))
            ):
                row.claimed_until = now + HELD_ANEW
        due = [
            row
            for row in self._open()
            if row.timer.due_at <= now
            and row.timer.address not in busy
            and (
                row.claimed_until is None
                or row.claimed_until <= now
                or (shard is not None and row.claimed_by not in (None, worker))
            )
        ]
        due.sort(key=lambda row: (row.timer.due_at, row.timer.timer_id))
        for row in due[:limit]:
            row.claimed_by, row.claimed_until = worker, now + CLAIM
            row.attempts += 1
        return [_due(row) for row in due[:limit]]

    async def renew(self, worker: str, timer_ids: Iterable[UUID], now: datetime) -> int:
        """See `DurableTimers.renew`."""
        ids = set(check_claimed(worker, timer_ids, now))
        await self.pass_faults()
        ours = [row for row in self._claimed(worker) if row.timer.timer_id in ids]
        for row in ours:
            row.claimed_until = now + CLAIM
        return len(ours)

    async def release(self, worker: str) -> int:
        """See `DurableTimers.release`."""
        check_text("worker", worker)
        await self.pass_faults()
        ours = self._claimed(worker)
        for row in ours:
            row.claimed_by = row.claimed_until = None
        return len(ours)

    async def failed(
        self, worker: str, timer_id: UUID, error: str, retry_at: datetime | None
    ) -> bool:
        """See `DurableTimers.failed`."""
        check_undelivered(worker, timer_id, error, retry_at)
        await self.pass_faults()
        row = self.database.timers.get(timer_id)
        if row is None or not row.is_open or row.claimed_by != worker:
            return False
        row.failures += 1
        row.last_error, row.claimed_by, row.claimed_until = storable(error), None, retry_at
        if retry_at is None:
            row.given_up_at = self.database.now()
        return True

    async def revive(self, timer_id: UUID) -> bool:
        """See `DurableTimers.revive`."""
        check_uuid("timer_id", timer_id)
        await self.pass_faults()
        return self.database.revive_timer(timer_id)

    async def close(self, timer_id: UUID) -> bool:
        """See `DurableTimers.close`."""
        check_uuid("timer_id", timer_id)
        await self.pass_faults()
        row = self.database.timers.get(timer_id)
        if row is None or not row.is_open:
            return False
        row.fired_at = self.database.now()
        return True

    async def open_timers(
        self,
        *,
        address: str | None = None,
        due_by: datetime | None = None,
        limit: int = 50,
    ) -> Sequence[OpenTimer]:
        """See `DurableTimers.open_timers`."""
        await self.pass_faults()
        rows = [
            row
            for row in self._open()
            if address in (None, row.timer.address)
            and (due_by is None or row.timer.due_at <= due_by)
        ]
        rows.sort(key=lambda row: (row.timer.due_at, row.timer.timer_id))
        return [_shown(row, self.database.now()) for row in rows[:limit]]

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

    async def purge(self, limit: int = 1000) -> int:
        """See `DurableTimers.purge`."""
        check_limit(limit)
        await self.pass_faults()
        oldest = self.database.now() - OVER_KEPT
        gone = [
            id_
            for id_, row in self.database.timers.items()
            if (over_at := row.fired_at or row.cancelled_at or row.given_up_at) is not None
            and over_at <= oldest
        ][:limit]
        for id_ in gone:
            self.database.drop_timer(id_)
        return len(gone)

    def _claimed(self, worker: str) -> list[TimerRow]:
        return [row for row in self._open() if row.claimed_by == worker]

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
        failures=row.failures,
    )


def _shown(row: TimerRow, now: datetime) -> OpenTimer:
    timer = row.timer
    is_claimed = row.claimed_until is not None and row.claimed_until > now
    return OpenTimer(
        timer.timer_id,
        timer.address,
        timer.name,
        timer.token,
        timer.due_at,
        row.claimed_by if is_claimed else None,
        row.attempts,
        row.failures,
        row.last_error,
    )
