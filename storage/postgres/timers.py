"""Durable timers in PostgreSQL; the twin of `storage/memory/timers.py`."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from actors.persistence import CancelTimer, CloseTimer, DueTimer, SetTimer, TimerChange, TimerGone
from actors.persistence.beside_log.timers import CLAIM, CLAIM_MAX
from storage.postgres.connecting.database import Database
from storage.postgres.connecting.session import Connection, change_rows
from storage.postgres.events.rows import metadata_json, read_texts

_OPEN = "fired_at IS NULL AND cancelled_at IS NULL"

_SET = """
INSERT INTO timers (timer_id, address, name, token, due_at, payload, metadata)
VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING
"""

# Firing and cancelling both ask for an open row and lock it: of two at once, one finds none.
_CANCEL = f"""
UPDATE timers SET cancelled_at = clock_timestamp() WHERE address = $1 AND name = $2 AND {_OPEN}
"""  # noqa: S608  (our own words)

_CLOSE = f"""
UPDATE timers SET fired_at = clock_timestamp() WHERE timer_id = $1 AND {_OPEN}
"""  # noqa: S608  (our own words)

# Claimed rows of others are skipped, not waited for: two services share the work.
_CLAIM = f"""
WITH due AS (
    SELECT timer_id FROM timers
    WHERE {_OPEN} AND due_at <= $2 AND (claimed_until IS NULL OR claimed_until <= $2)
    ORDER BY due_at, timer_id LIMIT $3 FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE timers t SET claimed_by = $1, claimed_until = $2 + $4::interval,
        attempts = attempts + 1
    FROM due WHERE t.timer_id = due.timer_id
    RETURNING t.timer_id, address, name, token, due_at, payload, metadata, attempts
)
SELECT timer_id, address, name, token, due_at, payload, metadata, attempts
FROM claimed ORDER BY due_at, timer_id
"""  # noqa: S608  (our own words)


class PostgresTimers:
    """The port `DurableTimers` on a `Database`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def set(self, timer: SetTimer) -> None:
        """See `DurableTimers.set`."""
        await self._database.run(change_timer, timer)

    async def cancel(self, address: str, name: str) -> int:
        """See `DurableTimers.cancel`."""
        return await self._database.run(change_timer, CancelTimer(address, name))

    async def claim_due(
        self, worker: str, now: datetime, *, limit: int = CLAIM_MAX
    ) -> Sequence[DueTimer]:
        """See `DurableTimers.claim_due`."""
        return await self._database.run(_claim_due, worker, now, limit)

    async def close(self, timer_id: UUID) -> bool:
        """See `DurableTimers.close`."""
        return await self._database.run(_close, timer_id)

    async def next_due(self) -> datetime | None:
        """See `DurableTimers.next_due`."""
        return await self._database.run(_next_due)

    async def pending(self) -> int:
        """See `DurableTimers.pending`."""
        return await self._database.run(_pending)


async def change_timer(connection: Connection, change: TimerChange) -> int:
    """Call this to set, cancel or close timers; returns how many rows changed."""
    match change:
        case SetTimer():
            return await change_rows(
                connection,
                _SET,
                change.timer_id,
                change.address,
                change.name,
                change.token,
                change.due_at,
                change.payload,
                metadata_json(change.metadata),
            )
        case CancelTimer():
            return await change_rows(connection, _CANCEL, change.address, change.name)
        case CloseTimer():
            closed = await change_rows(connection, _CLOSE, change.timer_id)
            if closed != 1:
                raise TimerGone(str(change.timer_id))
            return closed


async def _claim_due(
    connection: Connection, worker: str, now: datetime, limit: int
) -> list[DueTimer]:
    rows = await connection.fetch(_CLAIM, worker, now, limit, CLAIM)
    return [
        DueTimer(
            timer_id=row["timer_id"],
            address=row["address"],
            name=row["name"],
            token=row["token"],
            due_at=row["due_at"],
            payload=row["payload"],
            metadata=read_texts(row["metadata"]),
            attempts=row["attempts"],
        )
        for row in rows
    ]


async def _close(connection: Connection, timer_id: UUID) -> bool:
    return await change_rows(connection, _CLOSE, timer_id) == 1


async def _next_due(connection: Connection) -> datetime | None:
    found: datetime | None = await connection.fetchval(
        f"SELECT min(greatest(due_at, coalesce(claimed_until, due_at))) FROM timers WHERE {_OPEN}"  # noqa: S608
    )
    return found


async def _pending(connection: Connection) -> int:
    return int(await connection.fetchval(f"SELECT count(*) FROM timers WHERE {_OPEN}"))  # noqa: S608
