"""Outbox and inbox in PostgreSQL; the twin of `storage/memory/outbox.py`."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from uuid import UUID

from actors.persistence import AlreadyHandled, OutboxEntry, OutboxMessage, OutboxStats
from actors.persistence.beside_log.dead_letters import storable
from actors.persistence.beside_log.outbox import (
    BATCH_MAX,
    INBOX_KEPT,
    LEASE,
    SENT_KEPT,
    partition_of,
)
from storage.postgres.connecting.database import Database
from storage.postgres.connecting.session import Connection, change_rows
from storage.postgres.events.rows import metadata_json, read_texts

# In the order of parts: two relays that lease at once lock them in one direction, and cannot
# wait for each other. The epoch rises when a part changes hands; it, and not the clock, tells
# whose marks count: a holder that was late to renew, and that nobody replaced, is still the one.
_LEASE = """
INSERT INTO outbox_leases AS l (partition, owner, epoch, lease_until)
SELECT p, $1, 1, clock_timestamp() + $3::interval FROM unnest($2::int[]) p ORDER BY p
ON CONFLICT (partition) DO UPDATE
SET owner = $1, lease_until = clock_timestamp() + $3::interval,
    epoch = CASE WHEN l.owner = $1 THEN l.epoch ELSE l.epoch + 1 END
WHERE l.owner = $1 OR l.lease_until <= clock_timestamp()
RETURNING partition, epoch
"""

_IS_OURS = "EXISTS (SELECT FROM outbox_leases l WHERE l.partition = $1 AND l.epoch = $2)"

# Who begins something needs more: from the end of the lease on another may take the part.
_IS_LEASED = """
EXISTS (SELECT FROM outbox_leases l WHERE l.partition = $1 AND l.epoch = $2
    AND l.lease_until > clock_timestamp())
"""

# A row waits behind an earlier one of its key that failed or was given up; the order of a
# partition is (txid, id), below the horizon of open transactions.
_NEXT = f"""
SELECT o.id, o.message_id, o.kind, o.target, o.key, o.payload, o.headers, o.attempts, o.created_at
FROM outbox o
WHERE o.partition = $1 AND o.sent_at IS NULL AND NOT o.is_dead
    AND o.txid < pg_snapshot_xmin(pg_current_snapshot())
    AND (o.next_attempt_at IS NULL OR o.next_attempt_at <= clock_timestamp())
    AND NOT EXISTS (
        SELECT FROM outbox b
        WHERE b.partition = o.partition AND b.key = o.key AND b.sent_at IS NULL
            AND (b.txid, b.id) < (o.txid, o.id)
            AND CASE WHEN b.is_dead THEN b.target <> ALL ($4::text[])
                ELSE b.next_attempt_at > clock_timestamp() END
    )
    AND {_IS_LEASED}
ORDER BY o.txid, o.id LIMIT $3
"""  # noqa: S608  (our own words)

_SENT = f"""
UPDATE outbox SET sent_at = clock_timestamp(), attempts = attempts + 1, last_error = NULL
WHERE id = ANY($3::bigint[]) AND partition = $1 AND sent_at IS NULL AND {_IS_OURS}
"""  # noqa: S608  (our own words)

_FAILED = f"""
UPDATE outbox SET attempts = attempts + 1, last_error = $4, is_dead = $5::interval IS NULL,
    next_attempt_at = clock_timestamp() + $5::interval
WHERE id = $3 AND partition = $1 AND sent_at IS NULL AND {_IS_OURS}
"""  # noqa: S608  (our own words)

_STATS = """
SELECT count(*) FILTER (WHERE NOT is_dead) AS pending, count(*) FILTER (WHERE is_dead) AS dead,
    coalesce(extract(epoch FROM clock_timestamp() - min(created_at)), 0) AS oldest_s
FROM outbox WHERE sent_at IS NULL
"""

_REVIVE = """
UPDATE outbox SET is_dead = false, attempts = 0, next_attempt_at = NULL
WHERE id = $1 AND is_dead AND sent_at IS NULL
"""

_DROP = """
UPDATE outbox SET is_dead = false, sent_at = clock_timestamp() WHERE id = $1 AND is_dead
"""

# The constraint that a message with a known id violates.
OUTBOX_IDS = "outbox_message_id_key"

_NOTE = "INSERT INTO inbox (consumer, message_id) VALUES ($1, $2) ON CONFLICT DO NOTHING"

_PURGE = """
DELETE FROM {table} WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM {table} WHERE {column} <= clock_timestamp() - $1::interval
    LIMIT $2 FOR UPDATE SKIP LOCKED))
"""


class PostgresOutbox:
    """The ports `Outbox` and `Inbox` on a `Database`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def lease(self, owner: str, partitions: Sequence[int]) -> Mapping[int, int]:
        """See `Outbox.lease`."""

        async def work(connection: Connection) -> dict[int, int]:
            rows = await connection.fetch(_LEASE, owner, list(partitions), LEASE)
            return {row["partition"]: row["epoch"] for row in rows}

        return await self._database.run(work)

    async def release(self, owner: str) -> None:
        """See `Outbox.release`."""
        await self._change(
            "UPDATE outbox_leases SET lease_until = clock_timestamp() WHERE owner = $1", owner
        )

    async def next_batch(
        self,
        partition: int,
        epoch: int,
        *,
        limit: int = BATCH_MAX,
        skipping: Sequence[str] = (),
    ) -> Sequence[OutboxEntry]:
        """See `Outbox.next_batch`."""

        async def work(connection: Connection) -> list[OutboxEntry]:
            rows = await connection.fetch(_NEXT, partition, epoch, limit, list(skipping))
            return [
                OutboxEntry(
                    id=row["id"],
                    message_id=row["message_id"],
                    kind=row["kind"],
                    target=row["target"],
                    key=row["key"],
                    payload=row["payload"],
                    headers=read_texts(row["headers"]),
                    attempts=row["attempts"],
                    created_at=row["created_at"],
                )
                for row in rows
            ]

        return await self._database.run(work)

    async def mark_sent(self, partition: int, epoch: int, ids: Sequence[int]) -> int:
        """See `Outbox.mark_sent`."""
        return await self._change(_SENT, partition, epoch, list(ids))

    async def mark_failed(
        self, partition: int, epoch: int, id_: int, error: str, retry_in: timedelta | None
    ) -> bool:
        """See `Outbox.mark_failed`."""
        args = (partition, epoch, id_, storable(error), retry_in)
        return await self._change(_FAILED, *args) == 1

    async def revive(self, id_: int) -> bool:
        """See `Outbox.revive`."""
        return await self._change(_REVIVE, id_) == 1

    async def drop(self, id_: int) -> bool:
        """See `Outbox.drop`."""
        return await self._change(_DROP, id_) == 1

    async def stats(self) -> OutboxStats:
        """See `Outbox.stats`."""

        async def work(connection: Connection) -> OutboxStats:
            row = await connection.fetchrow(_STATS)
            assert row is not None, "an aggregate gives one row"
            return OutboxStats(row["pending"], float(row["oldest_s"]), row["dead"])

        return await self._database.run(work)

    async def purge(self, limit: int = 1000) -> int:
        """See `Outbox.purge`."""
        sent = _PURGE.format(table="outbox", column="sent_at")
        handled = _PURGE.format(table="inbox", column="handled_at")
        gone = await self._change(sent, SENT_KEPT, limit)
        return gone + await self._change(handled, INBOX_KEPT, limit)

    async def note(self, consumer: str, message_id: UUID) -> bool:
        """See `Inbox.note`."""
        return await self._change(_NOTE, consumer, message_id) == 1

    async def _change(self, statement: str, *args: object) -> int:
        return await self._database.run(change_rows, statement, *args)


# In the transaction of an append.


async def add_to_outbox(connection: Connection, messages: Sequence[OutboxMessage]) -> None:
    """Call this after the events were inserted."""
    await connection.executemany(
        "INSERT INTO outbox (partition, kind, target, key, message_id, headers, payload)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7)",
        [
            (
                partition_of(one.key),
                one.kind,
                one.target,
                one.key,
                one.message_id,
                metadata_json(one.headers),
                one.payload,
            )
            for one in messages
        ],
    )


async def note_handled(connection: Connection, consumer: str, message_id: UUID) -> None:
    """Call this before the events are inserted; raises `AlreadyHandled`."""
    if await change_rows(connection, _NOTE, consumer, message_id) != 1:
        raise AlreadyHandled(consumer, str(message_id))
