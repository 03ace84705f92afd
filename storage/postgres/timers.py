"""Durable timers in PostgreSQL; the twin of `storage/memory/timers.py`."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

from actors.persistence import (
    CancelTimer,
    CloseTimer,
    DueTimer,
    Fenced,
    OpenTimer,
    SetTimer,
    Shard,
    TimerChange,
    TimerGone,
)
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
from storage.postgres.connecting.database import Database
from storage.postgres.connecting.session import Connection, change_rows
from storage.postgres.events.rows import metadata_json, read_texts

OPEN = "fired_at IS NULL AND cancelled_at IS NULL AND given_up_at IS NULL"

# What a set timer brings into its row.
TIMER_COLUMNS = "timer_id, address, name, token, due_at, payload, metadata"

_SET = f"""
INSERT INTO timers ({TIMER_COLUMNS})
VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING
"""  # noqa: S608  (our own words)

# Firing and cancelling both ask for an open row and lock it: of two at once, one finds none.
_CANCEL = f"""
UPDATE timers SET cancelled_at = clock_timestamp() WHERE address = $1 AND name = $2 AND {OPEN}
"""  # noqa: S608  (our own words)

_CLOSE = f"""
UPDATE timers SET fired_at = clock_timestamp() WHERE timer_id = $1 AND {OPEN}
"""  # noqa: S608  (our own words)

_RENEW = f"""
UPDATE timers SET claimed_until = $3::timestamptz + $4::interval
WHERE timer_id = ANY($2::uuid[]) AND claimed_by = $1 AND {OPEN}
"""  # noqa: S608  (our own words)

_RELEASE = f"""
UPDATE timers SET claimed_by = NULL, claimed_until = NULL WHERE claimed_by = $1 AND {OPEN}
"""  # noqa: S608  (our own words)

# Nobody's until its next time; who lost the claim has nothing to say.
_FAILED = f"""
UPDATE timers SET failures = failures + 1, last_error = $3, claimed_by = NULL,
    claimed_until = $4::timestamptz,
    given_up_at = CASE WHEN $4::timestamptz IS NULL THEN clock_timestamp() END
WHERE timer_id = $2 AND claimed_by = $1 AND {OPEN}
"""  # noqa: S608  (our own words)

_OPEN_TIMERS = f"""
SELECT timer_id, address, name, token, due_at,
    CASE WHEN claimed_until > clock_timestamp() THEN claimed_by END, attempts, failures, last_error
FROM timers
WHERE {OPEN} AND ($1::text IS NULL OR address = $1)
    AND ($2::timestamptz IS NULL OR due_at <= $2)
ORDER BY due_at, timer_id LIMIT $3
"""  # noqa: S608  (our own words)

_REVIVE = """
UPDATE timers SET given_up_at = NULL, failures = 0, claimed_until = NULL
WHERE timer_id = $1 AND given_up_at IS NOT NULL
"""

_EDIT = "UPDATE timers SET payload = $2 WHERE timer_id = $1 AND given_up_at IS NOT NULL"

# Each half has an index of its own; a claim ends after the timer was due.
_NEXT_DUE = f"""
SELECT min(at) FROM (
    (SELECT due_at AS at FROM timers WHERE {OPEN} AND claimed_until IS NULL
        ORDER BY due_at LIMIT 1)
    UNION ALL
    (SELECT claimed_until FROM timers WHERE {OPEN} AND claimed_until IS NOT NULL
        ORDER BY claimed_until LIMIT 1)
) next
"""  # noqa: S608  (our own words)

_OVER = "coalesce(fired_at, cancelled_at, given_up_at)"

_PURGE = f"""
DELETE FROM timers WHERE timer_id = ANY(ARRAY(
    SELECT timer_id FROM timers
    WHERE {_OVER} <= clock_timestamp() - $1::interval LIMIT $2 FOR UPDATE SKIP LOCKED))
"""  # noqa: S608  (our own words)

_CLAIMED = """
claimed AS (
    UPDATE timers t SET claimed_by = $1, claimed_until = $2 + $4::interval,
        attempts = attempts + 1
    FROM due WHERE t.timer_id = due.timer_id
    RETURNING t.timer_id, address, name, token, due_at, payload, metadata, attempts, failures
)
"""

# From before the clock was set back. Whoever has one in hand is not waited for: a next look may.
_HELD_LONG = f"""
SELECT timer_id FROM timers WHERE {OPEN} AND claimed_until > $2 + $6::interval
"""  # noqa: S608  (our own words)
_ANEW = """
UPDATE timers SET claimed_until = $2 + $7::interval
FROM held WHERE timers.timer_id = held.timer_id
"""

# Claimed rows of others are skipped, not waited for: two services share the work.
_CLAIM = f"""
WITH due AS (
    SELECT timer_id FROM timers
    WHERE {OPEN} AND due_at <= $2 AND (claimed_until IS NULL OR claimed_until <= $2)
        AND address <> ALL ($5::text[])
    ORDER BY due_at, timer_id LIMIT $3 FOR UPDATE SKIP LOCKED
), held AS (
    {_HELD_LONG} FOR UPDATE SKIP LOCKED
), anew AS ({_ANEW}), {_CLAIMED}
SELECT * FROM claimed ORDER BY due_at, timer_id
"""  # noqa: S608  (our own words)

# The shard is the claim: what another had claimed is free. No row at all tells that it is not ours.
_CLAIM_BY_SHARD = f"""
WITH mine AS MATERIALIZED (
    SELECT FROM shards WHERE id = $8 AND owner = $9 AND epoch = $10 FOR KEY SHARE
), due AS (
    SELECT timer_id FROM timers
    WHERE EXISTS (SELECT FROM mine) AND {OPEN} AND due_at <= $2
        AND (claimed_until IS NULL OR claimed_until <= $2 OR claimed_by <> $1)
        AND address <> ALL ($5::text[])
    ORDER BY due_at, timer_id LIMIT $3 FOR UPDATE SKIP LOCKED
), held AS (
    {_HELD_LONG} AND EXISTS (SELECT FROM mine) AND (claimed_by IS NULL OR claimed_by = $1)
    FOR UPDATE SKIP LOCKED
), anew AS ({_ANEW}), {_CLAIMED}
SELECT claimed.* FROM mine LEFT JOIN claimed ON true ORDER BY due_at, timer_id
"""  # noqa: S608  (our own words)
_EPOCH = "SELECT epoch FROM shards WHERE id = $1"


class PostgresTimers:
    """The port `DurableTimers` on a `Database`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def set(self, timer: SetTimer) -> None:
        """See `DurableTimers.set`."""
        check_a("timer", timer, SetTimer)
        await self._database.run(change_timer, timer)

    async def cancel(self, address: str, name: str) -> int:
        """See `DurableTimers.cancel`."""
        return await self._database.run(change_timer, CancelTimer(address, name))

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
        return await self._database.run(_claim_due, worker, now, limit, busy, shard)

    async def renew(self, worker: str, timer_ids: Iterable[UUID], now: datetime) -> int:
        """See `DurableTimers.renew`."""
        ids = check_claimed(worker, timer_ids, now)
        return await self._change(_RENEW, worker, ids, now, CLAIM)

    async def release(self, worker: str) -> int:
        """See `DurableTimers.release`."""
        check_text("worker", worker)
        return await self._change(_RELEASE, worker)

    async def failed(
        self, worker: str, timer_id: UUID, error: str, retry_at: datetime | None
    ) -> bool:
        """See `DurableTimers.failed`."""
        check_undelivered(worker, timer_id, error, retry_at)
        return await self._change(_FAILED, worker, timer_id, storable(error), retry_at) == 1

    async def revive(self, timer_id: UUID) -> bool:
        """See `DurableTimers.revive`."""
        check_uuid("timer_id", timer_id)
        return await self._change(_REVIVE, timer_id) == 1

    async def close(self, timer_id: UUID) -> bool:
        """See `DurableTimers.close`."""
        check_uuid("timer_id", timer_id)
        return await self._database.run(_close, timer_id)

    async def open_timers(
        self,
        *,
        address: str | None = None,
        due_by: datetime | None = None,
        limit: int = 50,
    ) -> Sequence[OpenTimer]:
        """See `DurableTimers.open_timers`."""

        async def work(connection: Connection) -> list[OpenTimer]:
            rows = await connection.fetch(_OPEN_TIMERS, address, due_by, limit)
            return [OpenTimer(*row) for row in rows]

        return await self._database.run(work)

    async def next_due(self) -> datetime | None:
        """See `DurableTimers.next_due`."""
        return await self._database.run(_next_due)

    async def pending(self) -> int:
        """See `DurableTimers.pending`."""
        return await self._database.run(_pending)

    async def purge(self, limit: int = 1000) -> int:
        """See `DurableTimers.purge`."""
        check_limit(limit)
        return await self._change(_PURGE, OVER_KEPT, limit)

    async def _change(self, statement: str, *args: object) -> int:
        return await self._database.run(change_rows, statement, *args)


async def revive_timer(connection: Connection, timer_id: UUID) -> bool:
    """Call this in a transaction as `DurableTimers.revive`."""
    return await change_rows(connection, _REVIVE, timer_id) == 1


async def edit_timer(connection: Connection, timer_id: UUID, payload: bytes) -> bool:
    """Call this in a transaction to replace what a given-up timer tells; False without one."""
    return await change_rows(connection, _EDIT, timer_id, payload) == 1


async def change_timer(connection: Connection, change: TimerChange) -> int:
    """Call this to set, cancel or close timers; returns how many rows changed."""
    match change:
        case SetTimer():
            return await change_rows(connection, _SET, *timer_row(change))
        case CancelTimer():
            return await change_rows(connection, _CANCEL, change.address, change.name)
        case CloseTimer():
            closed = await change_rows(connection, _CLOSE, change.timer_id)
            if closed != 1:
                raise TimerGone(str(change.timer_id))
            return closed


def timer_row(timer: SetTimer) -> tuple[UUID, str, str, str, datetime, bytes, str]:
    """Call this for the values of `TIMER_COLUMNS`."""
    return (
        timer.timer_id,
        timer.address,
        timer.name,
        timer.token,
        timer.due_at,
        timer.payload,
        metadata_json(timer.metadata),
    )


async def _claim_due(
    connection: Connection,
    worker: str,
    now: datetime,
    limit: int,
    busy: Sequence[str],
    shard: Shard | None,
) -> list[DueTimer]:
    args = (worker, now, limit, CLAIM, list(busy), HELD_MAX, HELD_ANEW)
    if shard is None:
        rows = await connection.fetch(_CLAIM, *args)
    else:
        token = (shard.id, shard.owner, shard.epoch)
        rows = await connection.fetch(_CLAIM_BY_SHARD, *args, *token)
        if not rows:
            raise Fenced(shard.id, shard.epoch, await connection.fetchval(_EPOCH, shard.id))
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
            failures=row["failures"],
        )
        for row in rows
        if row["timer_id"] is not None
    ]


async def _close(connection: Connection, timer_id: UUID) -> bool:
    return await change_rows(connection, _CLOSE, timer_id) == 1


async def _next_due(connection: Connection) -> datetime | None:
    found: datetime | None = await connection.fetchval(_NEXT_DUE)
    return found


async def _pending(connection: Connection) -> int:
    return int(await connection.fetchval(f"SELECT count(*) FROM timers WHERE {OPEN}"))  # noqa: S608
