"""Outbox and inbox in PostgreSQL; the twin of `storage/memory/outbox.py`."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from math import inf
from uuid import UUID

import asyncpg
import trio

from actors.persistence import (
    AlreadyHandled,
    Fenced,
    HeldKey,
    OutboxEntry,
    OutboxMessage,
    OutboxStats,
    Shard,
    WaitingMessage,
)
from actors.persistence.beside_log.dead_letters import storable
from actors.persistence.beside_log.outbox import (
    BATCH_MAX,
    INBOX_KEPT,
    LEASE,
    SENT_KEPT,
    Listen,
    check_asked,
    check_failure,
    check_messages,
    check_noted,
    check_numbers,
    check_part,
    check_parts,
    check_rows,
    part_of,
)
from actors.persistence.event_store import check_limit
from actors.persistence.words import FLEETING, check_row
from storage.postgres.connecting.database import Database
from storage.postgres.connecting.notices import EVENTS
from storage.postgres.connecting.session import Connection, change_rows
from storage.postgres.events.rows import metadata_json, read_texts

# A look begins where nothing before it was free for no longer than this: then all is read once
# more, so that a server that was set back in time under our feet costs a delay and no message.
PLACE_S_MAX = 30.0

# In the order of parts: two relays that lease at once lock them in one direction, and cannot
# wait for each other. The epoch rises when a part changes hands; it, and not the clock, tells
# whose marks count: a holder that was late to renew, and that nobody replaced, is still the one.
# A lease that is longer than any is from before the clock was set back: it begins anew.
_LEASE = """
INSERT INTO outbox_leases AS l (partition, owner, epoch, lease_until)
SELECT p, $1, 1, clock_timestamp() + $3::interval FROM unnest($2::int[]) p ORDER BY p
ON CONFLICT (partition) DO UPDATE
SET owner = CASE WHEN l.lease_until > clock_timestamp() THEN l.owner ELSE $1 END,
    lease_until = clock_timestamp() + $3::interval,
    epoch = CASE WHEN l.owner = $1 OR l.lease_until > clock_timestamp() THEN l.epoch
        ELSE l.epoch + 1 END
WHERE l.owner = $1 OR l.lease_until <= clock_timestamp()
    OR l.lease_until > clock_timestamp() + 2 * $3::interval
RETURNING partition, epoch, owner
"""

# The shard is the lease: whoever holds it takes the parts, whoever had them.
_LEASE_BY_SHARD = """
WITH mine AS MATERIALIZED (
    SELECT FROM shards WHERE id = $4 AND owner = $5 AND epoch = $6 FOR KEY SHARE
)
INSERT INTO outbox_leases AS l (partition, owner, epoch, lease_until)
SELECT p, $1, 1, clock_timestamp() + $3::interval FROM unnest($2::int[]) p
WHERE EXISTS (SELECT FROM mine) ORDER BY p
ON CONFLICT (partition) DO UPDATE
SET owner = $1, lease_until = clock_timestamp() + $3::interval,
    epoch = CASE WHEN l.owner = $1 THEN l.epoch ELSE l.epoch + 1 END
RETURNING partition, epoch
"""
_EPOCH = "SELECT epoch FROM shards WHERE id = $1"

_ENTRY = (
    "txid, id, message_id, kind, target, key, payload, headers, attempts, created_at,"
    " next_attempt_at IS NULL AS is_new"
)

_IS_OURS = "EXISTS (SELECT FROM outbox_leases l WHERE l.partition = $1 AND l.epoch = $2)"

# Who begins something needs more: from the end of the lease on another may take the part.
_IS_LEASED = """
EXISTS (SELECT FROM outbox_leases l WHERE l.partition = $1 AND l.epoch = $2
    AND l.lease_until > clock_timestamp())
"""

# The order of a partition is (txid, id), below the horizon of open transactions. A row waits
# behind an earlier one of its key that failed and is not due, or that was given up.
#
# Only what was tried can hold others, and an index of its own has it (`outbox_tried`): `held` is
# the first holder of each key. What was never tried stands behind all that was, within its key, so
# that it is judged by the key alone; what was tried, by its place. One time is asked for, so that
# no row comes due between being left out and holding up the others.
#
# `seen` tells what a next call may rely on: as long as the same rows hold their keys, all that was
# passed over is passed over again ($5, $6, $7: those rows, and where the first free one was).
_NEXT = f"""
WITH tried AS MATERIALIZED (
    SELECT id, txid, key, is_dead,
        CASE WHEN is_dead THEN target <> ALL ($4::text[])
            ELSE next_attempt_at > statement_timestamp() END AS holds
    FROM outbox
    WHERE partition = $1 AND sent_at IS NULL AND (is_dead OR next_attempt_at IS NOT NULL)
), held AS MATERIALIZED (
    SELECT DISTINCT ON (key) key, txid, id FROM tried WHERE holds ORDER BY key, txid, id
), seen AS MATERIALIZED (
    SELECT md5(coalesce(string_agg(id::text, ',' ORDER BY id), '')) AS holders,
        pg_snapshot_xmin(pg_current_snapshot()) AS horizon, {_IS_LEASED} AS is_leased
    FROM held
), again AS (
    SELECT t.id FROM tried t LEFT JOIN held h ON h.key = t.key
    WHERE NOT t.is_dead AND NOT t.holds AND (h.id IS NULL OR (t.txid, t.id) < (h.txid, h.id))
        AND t.id <> ALL ($8::bigint[])
    ORDER BY t.txid, t.id LIMIT $3
), next AS (
    (SELECT {_ENTRY} FROM outbox
        WHERE partition = $1 AND sent_at IS NULL AND NOT is_dead AND next_attempt_at IS NULL
            AND txid < pg_snapshot_xmin(pg_current_snapshot())
            AND (txid, id) >= (
                (SELECT CASE WHEN holders = $5 THEN $6::xid8 ELSE '0' END FROM seen),
                (SELECT CASE WHEN holders = $5 THEN $7::bigint ELSE 0 END FROM seen))
            AND key NOT IN (SELECT key FROM held) AND id <> ALL ($8::bigint[])
        ORDER BY txid, id LIMIT $3)
    UNION ALL
    SELECT {_ENTRY} FROM outbox WHERE id = ANY(ARRAY(SELECT id FROM again))
)
SELECT seen.*, n.* FROM seen LEFT JOIN LATERAL (
    SELECT * FROM next WHERE (SELECT is_leased FROM seen) ORDER BY txid, id LIMIT $3
) n ON true ORDER BY n.txid, n.id
"""  # noqa: S608  (our own words)

# For each part a row of two indexes: what was never tried is due, what was has its time.
_DUE_IN = """
SELECT p, d.in_s FROM unnest($1::int[]) p CROSS JOIN LATERAL (
    SELECT CASE WHEN EXISTS (
        SELECT FROM outbox WHERE partition = p AND sent_at IS NULL
            AND NOT is_dead AND next_attempt_at IS NULL
    ) THEN 0 ELSE (
        SELECT extract(epoch FROM min(next_attempt_at) - clock_timestamp())
        FROM outbox WHERE partition = p AND sent_at IS NULL
            AND NOT is_dead AND next_attempt_at IS NOT NULL
    ) END::float8 AS in_s
) d WHERE d.in_s IS NOT NULL
"""

# Of what is sent or dropped nothing stays that is nobody's from then on.
_LEFT = f"CASE WHEN headers ? '{FLEETING}' THEN ''::bytea ELSE payload END"

_SENT = f"""
UPDATE outbox SET sent_at = clock_timestamp(), attempts = attempts + 1, last_error = NULL,
    payload = {_LEFT}
WHERE id = ANY($3::bigint[]) AND partition = $1 AND sent_at IS NULL AND {_IS_OURS}
"""  # noqa: S608  (our own words)

_FAILED = f"""
UPDATE outbox SET attempts = attempts + 1, last_error = $4, is_dead = $5::interval IS NULL,
    next_attempt_at = clock_timestamp() + $5::interval
WHERE id = $3 AND partition = $1 AND sent_at IS NULL AND {_IS_OURS}
"""  # noqa: S608  (our own words)

_STATS = """
SELECT count(*) FILTER (WHERE NOT is_dead) AS pending, count(*) FILTER (WHERE is_dead) AS dead,
    coalesce(extract(epoch FROM clock_timestamp()
        - min(created_at) FILTER (WHERE NOT is_dead)), 0) AS oldest_s
FROM outbox WHERE sent_at IS NULL
"""

# Due, not as if it had never been tried: others of its key may have been tried since.
_REVIVE = """
UPDATE outbox SET is_dead = false, attempts = 0, next_attempt_at = clock_timestamp()
WHERE id = $1 AND is_dead AND sent_at IS NULL
"""

_EDIT = "UPDATE outbox SET payload = $2 WHERE id = $1 AND is_dead AND sent_at IS NULL"

_WAITING = """
SELECT id, kind, target, key, attempts, created_at, next_attempt_at, last_error, is_dead
FROM outbox WHERE sent_at IS NULL AND id > $2 ORDER BY id LIMIT $1
"""

# The first dead one of each key, and what waits behind it.
_HELD = """
SELECT dead.key, dead.id, dead.target, (
    SELECT count(*) FROM outbox b
    WHERE b.partition = dead.partition AND b.key = dead.key AND b.sent_at IS NULL
        AND NOT b.is_dead AND (b.txid, b.id) > (dead.txid, dead.id)
)
FROM (
    SELECT DISTINCT ON (partition, key) partition, key, txid, id, target FROM outbox
    WHERE sent_at IS NULL AND is_dead ORDER BY partition, key, txid, id
) dead
ORDER BY dead.id LIMIT $1
"""

_DROP = f"""
UPDATE outbox SET is_dead = false, sent_at = clock_timestamp(), payload = {_LEFT}
WHERE id = $1 AND is_dead
"""  # noqa: S608  (our own words)

# The constraint that a message with a known id violates.
OUTBOX_IDS = "outbox_message_id_key"

# What a message brings into its row.
MESSAGE_COLUMNS = "partition, kind, target, key, message_id, headers, payload"

_ADD = f"""
INSERT INTO outbox ({MESSAGE_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (message_id) DO NOTHING
"""  # noqa: S608  (our own words)

_NOTE = "INSERT INTO inbox (consumer, message_id) VALUES ($1, $2) ON CONFLICT DO NOTHING"

_PURGE = """
DELETE FROM {table} WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM {table} WHERE {column} <= clock_timestamp() - $1::interval
    LIMIT $2 FOR UPDATE SKIP LOCKED))
"""


async def _lease(
    connection: Connection, owner: str, partitions: list[int], shard: Shard | None
) -> dict[int, int]:
    args = (owner, partitions, LEASE)
    if shard is None:
        rows = await connection.fetch(_LEASE, *args)
        rows = [row for row in rows if row["owner"] == owner]
    else:
        token = (shard.id, shard.owner, shard.epoch)
        rows = await connection.fetch(_LEASE_BY_SHARD, *args, *token)
        if partitions and not rows:
            raise Fenced(shard.id, shard.epoch, await connection.fetchval(_EPOCH, shard.id))
    return {row["partition"]: row["epoch"] for row in rows}


class PostgresOutbox:
    """The ports `Outbox` and `Inbox` on a `Database`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._places: dict[int, _Place] = {}

    async def add(self, messages: Sequence[OutboxMessage]) -> int:
        """See `Outbox.add`."""
        given = check_messages(messages)
        return await self._database.transact(add_new_messages, given, channel=EVENTS)

    async def lease(
        self, owner: str, partitions: Sequence[int], *, shard: Shard | None = None
    ) -> Mapping[int, int]:
        """See `Outbox.lease`."""
        check_parts(owner, partitions, shard)
        return await self._database.run(_lease, owner, list(partitions), shard)

    async def release(self, owner: str) -> None:
        """See `Outbox.release`."""
        check_parts(owner, ())
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
        without: Sequence[int] = (),
    ) -> Sequence[OutboxEntry]:
        """See `Outbox.next_batch`."""
        check_part(partition, epoch)
        check_asked(limit, skipping, without)
        place = self._places.get(partition, _NOWHERE)
        if place.until <= trio.current_time() or place.skipping != tuple(skipping):
            place = replace(_NOWHERE, given=place.given)
        rows = await self._database.run(_next, partition, epoch, limit, skipping, without, place)
        reached = _reached(place, rows, limit, tuple(skipping))
        self._places[partition] = _not_past(reached, place, rows, without)
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
            if row["id"] is not None
        ]

    async def due_in(self, partitions: Sequence[int]) -> Mapping[int, float]:
        """See `Outbox.due_in`."""
        check_numbers(partitions)

        async def work(connection: Connection) -> dict[int, float]:
            rows = await connection.fetch(_DUE_IN, list(partitions))
            return {row["p"]: max(0.0, row["in_s"]) for row in rows}

        return await self._database.run(work)

    @contextmanager
    def heard(self) -> Iterator[Listen]:
        """See `Outbox.heard`: every append rings, for a message comes with one."""
        bell = self._database.bell(EVENTS)
        with bell.heard():
            yield bell.listen

    async def mark_sent(self, partition: int, epoch: int, ids: Sequence[int]) -> int:
        """See `Outbox.mark_sent`."""
        check_part(partition, epoch)
        check_rows("ids", ids)
        return await self._change(_SENT, partition, epoch, list(ids))

    async def mark_failed(
        self, partition: int, epoch: int, id_: int, error: str, retry_in: timedelta | None
    ) -> bool:
        """See `Outbox.mark_failed`."""
        check_part(partition, epoch)
        check_row(id_)
        check_failure(error, retry_in)
        args = (partition, epoch, id_, storable(error), retry_in)
        return await self._change(_FAILED, *args) == 1

    async def revive(self, id_: int) -> bool:
        """See `Outbox.revive`."""
        check_row(id_)
        return await self._database.run(change_rows, _REVIVE, id_, channel=EVENTS) == 1

    async def drop(self, id_: int) -> bool:
        """See `Outbox.drop`."""
        check_row(id_)
        return await self._database.run(change_rows, _DROP, id_, channel=EVENTS) == 1

    async def stats(self) -> OutboxStats:
        """See `Outbox.stats`."""

        async def work(connection: Connection) -> OutboxStats:
            row = await connection.fetchrow(_STATS)
            assert row is not None, "an aggregate gives one row"
            return OutboxStats(row["pending"], float(row["oldest_s"]), row["dead"])

        return await self._database.run(work)

    async def waiting(self, *, limit: int = 50, after: int = 0) -> Sequence[WaitingMessage]:
        """See `Outbox.waiting`."""

        async def work(connection: Connection) -> list[WaitingMessage]:
            return [WaitingMessage(*row) for row in await connection.fetch(_WAITING, limit, after)]

        return await self._database.run(work)

    async def held_keys(self, *, limit: int = 50) -> Sequence[HeldKey]:
        """See `Outbox.held_keys`."""

        async def work(connection: Connection) -> list[HeldKey]:
            return [HeldKey(*row) for row in await connection.fetch(_HELD, limit)]

        return await self._database.run(work)

    async def purge(self, limit: int = 1000) -> int:
        """See `Outbox.purge`."""
        check_limit(limit)
        sent = _PURGE.format(table="outbox", column="sent_at")
        handled = _PURGE.format(table="inbox", column="handled_at")
        gone = await self._change(sent, SENT_KEPT, limit)
        return gone + await self._change(handled, INBOX_KEPT, limit)

    async def note(self, consumer: str, message_id: UUID) -> bool:
        """See `Inbox.note`."""
        check_noted(consumer, message_id)
        return await self._change(_NOTE, consumer, message_id) == 1

    async def _change(self, statement: str, *args: object) -> int:
        return await self._database.run(change_rows, statement, *args)


# Where to look.


@dataclass(frozen=True, slots=True)
class _Place:
    """Before it nothing new of a part is free, as long as the same rows hold their keys."""

    holders: str | None
    skipping: tuple[str, ...]
    txid: int
    id: int
    until: float
    # The transactions of what was given, by id: a next look may leave it out, and one behind that
    # may not.
    given: Mapping[int, int] = field(default_factory=dict)


_NOWHERE = _Place(None, (), 0, 0, -inf)


def _reached(
    place: _Place, rows: Sequence[asyncpg.Record], limit: int, skipping: tuple[str, ...]
) -> _Place:
    """Where the next look may begin, after one that began at `place`."""
    state = rows[0]
    if not state["is_leased"]:
        return _NOWHERE
    is_same = place.holders == state["holders"]
    until = place.until if is_same else trio.current_time() + PLACE_S_MAX
    found = [row for row in rows if row["id"] is not None]
    for row in found:
        if row["is_new"]:
            return _Place(state["holders"], skipping, row["txid"], row["id"], until)
    if len(found) == limit:
        return place if is_same else _NOWHERE  # new ones may have been cut off
    return _Place(state["holders"], skipping, state["horizon"], 0, until)


def _not_past(
    reached: _Place, before: _Place, rows: Sequence[asyncpg.Record], without: Sequence[int]
) -> _Place:
    """The same, and not behind what was left out: it may be wanted yet."""
    given = {row["id"]: row["txid"] for row in rows if row["id"] is not None}
    for id_ in without:
        txid = before.given.get(id_)
        if txid is None:
            # Given before this object was made.
            reached = before if before.holders == reached.holders else _NOWHERE
            continue
        given[id_] = txid
        if (txid, id_) < (reached.txid, reached.id):
            reached = replace(reached, txid=txid, id=id_)
    return replace(reached, given=given)


async def _next(
    connection: Connection,
    partition: int,
    epoch: int,
    limit: int,
    skipping: Sequence[str],
    without: Sequence[int],
    place: _Place,
) -> list[asyncpg.Record]:
    begin = (place.holders, place.txid, place.id, list(without))
    rows: list[asyncpg.Record] = await connection.fetch(
        _NEXT, partition, epoch, limit, list(skipping), *begin
    )
    return rows


# In somebody's transaction.


async def add_new_messages(connection: Connection, messages: Sequence[OutboxMessage]) -> int:
    """Call this in a transaction as `Outbox.add`, at its end: others with one of the ids wait."""
    # In the order of ids: two who add the same ones cannot wait for each other.
    count = 0
    for one in sorted(messages, key=lambda message: message.message_id):
        count += await change_rows(connection, _ADD, *message_row(one))
    return count


async def revive_message(connection: Connection, id_: int) -> bool:
    """Call this in a transaction as `Outbox.revive`."""
    return await change_rows(connection, _REVIVE, id_) == 1


async def edit_message(connection: Connection, id_: int, payload: bytes) -> bool:
    """Call this in a transaction to replace what a given-up message says; False without one."""
    return await change_rows(connection, _EDIT, id_, payload) == 1


# In the transaction of an append.


async def add_to_outbox(connection: Connection, messages: Sequence[OutboxMessage]) -> None:
    """Call this after the events were inserted."""
    await connection.executemany(
        f"INSERT INTO outbox ({MESSAGE_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7)",  # noqa: S608
        [message_row(one) for one in messages],
    )


def message_row(message: OutboxMessage) -> tuple[int, str, str, str, UUID, str, bytes]:
    """Call this for the values of `MESSAGE_COLUMNS`."""
    return (
        part_of(message),
        message.kind,
        message.target,
        message.key,
        message.message_id,
        metadata_json(message.headers),
        message.payload,
    )


async def note_handled(connection: Connection, consumer: str, message_id: UUID) -> None:
    """Call this before the events are inserted; raises `AlreadyHandled`."""
    if await change_rows(connection, _NOTE, consumer, message_id) != 1:
        raise AlreadyHandled(consumer, str(message_id))
