"""How events get into the log: one statement for a plain append, one transaction else.

Everything here runs on the asyncio thread, with a connection of the pool. A statement that
loses a race fails and is rolled back; what happened is then read in a new one.
"""

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

import asyncpg
import msgspec

from actors.persistence import (
    ANY,
    EXISTS,
    Appended,
    AppendRequest,
    CancelTimer,
    CloseTimer,
    Cursor,
    NewEvent,
    OutboxMessage,
    SetTimer,
    Shard,
    StoredEvent,
    TimerChange,
)
from actors.persistence.beside_log.outbox import partition_of
from storage.errors import AlreadyHandled, Fenced, TimerGone
from storage.postgres.connecting.session import Connection
from storage.postgres.event_rows import COLUMNS, metadata_json, to_columns, to_event
from storage.postgres.idempotency import claim, remember

# The condition says "the stream is not shorter than expected", the primary key says "nor
# longer": together they are the version check, without a lock and in one round trip.
_ONE = """
INSERT INTO events (stream_id, version, event_id, event_type, event_version, codec, event_data,
    metadata, tenant)
SELECT $1, $2::bigint + 1, $3, $4, $5, $6, $7, $8::jsonb, $9
WHERE $2 = 0 OR EXISTS (SELECT FROM events WHERE stream_id = $1 AND version = $2)
RETURNING txid, position, version
"""

_MANY = """
INSERT INTO events (stream_id, version, event_id, event_type, event_version, codec, event_data,
    metadata, tenant)
SELECT $1, h.version + e.ord, e.id, e.type, e.schema, e.codec, e.data, e.meta::jsonb, e.tenant
FROM {head} h, unnest($3::uuid[], $4::text[], $5::int[], $6::text[], $7::bytea[], $8::text[],
    $9::text[]) WITH ORDINALITY AS e (id, type, schema, codec, data, meta, tenant, ord)
WHERE {condition}
ORDER BY e.ord
RETURNING txid, position, version
"""

_MANY_AT = _MANY.format(
    head="(SELECT $2::bigint AS version)",
    condition="$2 = 0 OR EXISTS (SELECT FROM events WHERE stream_id = $1 AND version = $2)",
)
# $2 is the least version the stream must have: 0 for any, 1 for an existing one.
_MANY_ON = _MANY.format(
    head="(SELECT coalesce(max(version), 0) AS version FROM events WHERE stream_id = $1)",
    condition="h.version >= $2::bigint",
)

_FACTS = f"""
SELECT {COLUMNS} FROM events WHERE event_id = ANY($1)
"""  # noqa: S608  (column names of our own, no values)

_HEAD = "SELECT coalesce(max(version), 0) FROM events WHERE stream_id = $1"

# Constraints whose violation means a lost race or a repeat, not a bug.
RACES = frozenset({"events_pkey", "events_event_id_key"})


async def insert(connection: Connection, request: AppendRequest) -> Appended | None:
    """Call this to store the events of a request; None when the stream is too short.

    Raises the driver's unique violation when it is too long or an id is known.
    """
    events, expected = request.events, request.expected
    if expected is ANY or expected is EXISTS:
        least = 0 if expected is ANY else 1
        rows = await connection.fetch(_MANY_ON, request.stream_id, least, *to_columns(events))
    elif len(events) == 1:
        rows = await _insert_one(connection, request.stream_id, expected, events[0])
    else:
        rows = await connection.fetch(_MANY_AT, request.stream_id, expected, *to_columns(events))
    if not rows:
        return None
    first, last = rows[0], rows[-1]
    return Appended(last[2], first[2], Cursor(last[0], last[1]))


async def _insert_one(
    connection: Connection, stream_id: str, expected: object, event: NewEvent
) -> list[asyncpg.Record]:
    return await connection.fetch(
        _ONE,
        stream_id,
        expected,
        event.event_id,
        event.type,
        event.schema_version,
        event.codec,
        event.data,
        metadata_json(event.metadata),
        event.tenant,
    )


async def insert_with_all(connection: Connection, request: AppendRequest) -> Appended | None:
    """Call this in a transaction: shard, inbox, key, events, then what goes with them."""
    if request.shard is not None:
        await _check_shard(connection, request.shard)
    if request.inbox is not None:
        await _note_handled(connection, *request.inbox)
    if request.idempotency is not None:
        earlier = await claim(connection, request.idempotency)
        if earlier is not None:
            return _replayed(earlier)
    appended = await insert(connection, request)
    if appended is None:
        return None
    if request.outbox:
        await _add_outbox(connection, request.outbox)
    for change in request.timers:
        await change_timer(connection, change)
    if request.idempotency is not None:
        await remember(connection, request.idempotency, msgspec.json.encode(appended))
    return appended


async def facts(
    connection: Connection, request: AppendRequest
) -> tuple[dict[UUID, StoredEvent], int]:
    """Call this after a refused append: the stored events with its ids, and the true version."""
    rows = await connection.fetch(_FACTS, [event.event_id for event in request.events])
    actual = await connection.fetchval(_HEAD, request.stream_id)
    return {row["event_id"]: to_event(row) for row in rows}, int(actual)


def _replayed(result: bytes) -> Appended:
    return replace(msgspec.json.decode(result, type=Appended), replayed=True)


async def _check_shard(connection: Connection, shard: Shard) -> None:
    # Shared with other appends; a takeover raises the epoch and so waits for us.
    row = await connection.fetchrow(
        "SELECT owner, epoch FROM shards WHERE id = $1 FOR SHARE", shard.id
    )
    if row is None or (row["owner"], row["epoch"]) != (shard.owner, shard.epoch):
        raise Fenced(shard.id, shard.epoch, None if row is None else row["epoch"])


async def _note_handled(connection: Connection, consumer: str, message_id: UUID) -> None:
    done = await connection.execute(
        "INSERT INTO inbox (consumer, message_id) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        consumer,
        message_id,
    )
    if done != "INSERT 0 1":
        raise AlreadyHandled(consumer, str(message_id))


async def _add_outbox(connection: Connection, messages: Sequence[OutboxMessage]) -> None:
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


async def change_timer(connection: Connection, change: TimerChange) -> int:
    """Call this to set, cancel or close timers; returns how many rows changed."""
    match change:
        case SetTimer():
            return await _execute(
                connection,
                "INSERT INTO timers (timer_id, address, name, token, due_at, payload, metadata)"
                " VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
                change.timer_id,
                change.address,
                change.name,
                change.token,
                change.due_at,
                change.payload,
                metadata_json(change.metadata),
            )
        case CancelTimer():
            return await _execute(
                connection,
                "UPDATE timers SET cancelled_at = clock_timestamp()"
                " WHERE address = $1 AND name = $2 AND fired_at IS NULL AND cancelled_at IS NULL",
                change.address,
                change.name,
            )
        case CloseTimer():
            done = await _execute(
                connection,
                "UPDATE timers SET fired_at = clock_timestamp()"
                " WHERE timer_id = $1 AND fired_at IS NULL AND cancelled_at IS NULL",
                change.timer_id,
            )
            if done != 1:
                raise TimerGone(str(change.timer_id))
            return done


async def _execute(connection: Connection, statement: str, *args: object) -> int:
    return int((await connection.execute(statement, *args)).rpartition(" ")[2])
