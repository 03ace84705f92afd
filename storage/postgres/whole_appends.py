"""An append with what goes with it, in one statement: alone, or with those of other callers.

Runs on the asyncio thread; `events/gathering.py` says who shares. It stores several events of one
append, with messages for the outbox, with timers, and with what inline projections make of them.
What needs more (a shard, a key, an inbox, tags) goes its careful way in `event_store.py`.

Rule 1: an append is stored whole, or not at all: events, messages and timers ask alike whether it
is among the `fitting`. One that is not is left out and hinders nobody.
Rule 2: what the keys refuse (a stream that is longer, a known id) fails the statement, and with it
all that share it: they go again in halves. It is rare, for a stream has one writer.
Rule 3: versions ascend along the global order: what an append builds on is seen by the snapshot of
the statement that writes first, as `events/appending.py` asks. Two appends of one stream in one
statement would not see each other: the second is left out.
Rule 4: rows go in the order of their keys, so two statements wait for each other in one direction.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import asyncpg

from actors.persistence import (
    Appended,
    AppendRequest,
    CancelTimer,
    CloseTimer,
    Cursor,
    InlineProjections,
    SetTimer,
    StoredEvent,
)
from storage.postgres.connecting.database import Database
from storage.postgres.connecting.notices import EVENTS
from storage.postgres.connecting.session import Connection
from storage.postgres.events.appending import insert
from storage.postgres.events.gathering import Road
from storage.postgres.events.rows import to_columns
from storage.postgres.events.sharing import COLUMNS, IS_LONG_ENOUGH
from storage.postgres.outbox import MESSAGE_COLUMNS, message_row
from storage.postgres.projections import apply_inline
from storage.postgres.timers import OPEN, TIMER_COLUMNS, timer_row

# Of arrays the first is kept from the planner, who would else plan anew for each length. Timers
# are found one by one, by an index: of a join the planner might make a scan of all. What is set
# and cancelled by one append is set as cancelled, for the two parts do not see each other.
_WHOLE = f"""
WITH patience AS MATERIALIZED (
    SELECT CASE WHEN $1 <> '' THEN set_config('lock_timeout', $1, true) END
), fitting AS MATERIALIZED (
    SELECT e.ord FROM patience, unnest((SELECT $2::text[]), $3::bigint[])
        WITH ORDINALITY AS e (stream_id, expected, ord)
    WHERE {IS_LONG_ENOUGH}
), stored AS (
    INSERT INTO events ({COLUMNS})
    SELECT e.stream_id, e.version, e.id, e.type, e.schema, e.codec, e.data, e.meta::jsonb, e.tenant
    FROM unnest((SELECT $4::bigint[]), $5::text[], $6::bigint[], $7::uuid[], $8::text[], $9::int[],
        $10::text[], $11::bytea[], $12::text[], $13::text[]) WITH ORDINALITY
        AS e (of, stream_id, version, id, type, schema, codec, data, meta, tenant, ord)
    WHERE e.of IN (SELECT ord FROM fitting)
    ORDER BY e.ord
    RETURNING stream_id, version, txid, position, recorded_at
), queued AS (
    INSERT INTO outbox ({MESSAGE_COLUMNS})
    SELECT m.partition, m.kind, m.target, m.key, m.id, m.headers::jsonb, m.payload
    FROM unnest((SELECT $14::bigint[]), $15::int[], $16::text[], $17::text[], $18::text[],
        $19::uuid[], $20::text[], $21::bytea[]) WITH ORDINALITY
        AS m (of, partition, kind, target, key, id, headers, payload, ord)
    WHERE m.of IN (SELECT ord FROM fitting)
    ORDER BY m.ord
    RETURNING id, message_id
), cancelled AS (
    UPDATE timers SET cancelled_at = clock_timestamp()
    WHERE {OPEN} AND timer_id = ANY(ARRAY(
        SELECT found.timer_id
        FROM unnest((SELECT $22::bigint[]), $23::text[], $24::text[]) AS c (of, address, name)
        CROSS JOIN LATERAL (
            SELECT t.timer_id FROM timers t
            WHERE t.address = c.address AND t.name = c.name AND {OPEN} OFFSET 0
        ) found
        WHERE c.of IN (SELECT ord FROM fitting)
        ORDER BY found.timer_id
    ))
), timed AS (
    INSERT INTO timers ({TIMER_COLUMNS}, cancelled_at)
    SELECT t.id, t.address, t.name, t.token, t.due_at, t.payload, t.meta::jsonb,
        CASE WHEN t.is_over THEN clock_timestamp() END
    FROM unnest((SELECT $25::bigint[]), $26::bool[], $27::uuid[], $28::text[], $29::text[],
        $30::text[], $31::timestamptz[], $32::bytea[], $33::text[])
        WITH ORDINALITY
        AS t (of, is_over, id, address, name, token, due_at, payload, meta, ord)
    WHERE t.of IN (SELECT ord FROM fitting)
    ORDER BY t.ord
    ON CONFLICT DO NOTHING
)
SELECT stream_id, version, txid, position, recorded_at, NULL::uuid FROM stored
UNION ALL SELECT NULL, NULL, NULL, id, NULL, message_id FROM queued
ORDER BY position
"""  # noqa: S608  (our own words)


# Some five milliseconds of the server. A hundred that are answered at once and decide anew would
# wait for it in turn with their own program; so it works on some while that decides about others.
CROWD = 32

_Row = tuple[object, ...]


def road_of_wholes(database: Database, inline: InlineProjections) -> Road:
    """Call this for the road of all that this file can store."""

    async def many(requests: Sequence[AppendRequest], lock_wait_s: float) -> list[Appended | None]:
        events = (event for request in requests for event in request.events)
        # Without documents to write the statement is a transaction of its own.
        call = database.transact if inline.wanting(events) else database.run
        return await call(insert_wholes, requests, inline, lock_wait_s, channel=EVENTS)

    async def one(request: AppendRequest) -> Appended | None:
        if request.is_plain and not inline.wanting(request.events):
            return await database.run(insert, request, channel=EVENTS)
        return (await many([request], 0))[0]

    return Road(_takes, one, many, CROWD)


def _takes(request: AppendRequest) -> bool:
    """Whether nothing must be looked at before this append but its stream."""
    for change in request.timers:
        if isinstance(change, CloseTimer):
            return False  # its row must be there, else nothing of the append counts
    return (
        request.shard is None
        and request.idempotency is None
        and request.inbox is None
        and request.condition is None
        and not request.is_tagged
    )


async def insert_wholes(
    connection: Connection,
    requests: Sequence[AppendRequest],
    inline: InlineProjections,
    lock_wait_s: float,
) -> list[Appended | None]:
    """Call this to store each request whole; None for each that was left out.

    Each has an exact version and what `road_of_wholes` takes. With a `lock_wait_s` it waits no
    longer for what another holds; in a transaction, since inline projections may write. Raises
    what the driver raises, `InlineProjectionFailed` too, with nothing written.
    """
    chosen: dict[str, int] = {}
    for number, request in enumerate(requests):
        chosen.setdefault(request.key, number)
    # By code points, which is the order of bytes in UTF-8: that of the table's key.
    rows = [requests[chosen[key]] for key in sorted(chosen)]
    patience = f"{lock_wait_s * 1000:.0f}ms" if lock_wait_s else ""
    heads = [row.key for row in rows], [row.expected for row in rows]
    found = await connection.fetch(_WHOLE, patience, *heads, *_beside(rows))
    places: dict[str, list[asyncpg.Record]] = {}
    numbers: dict[UUID, int] = {}
    for place in found:
        if place[0] is None:
            numbers[place[5]] = place[3]
        else:
            places.setdefault(place[0], []).append(place)
    answers: list[Appended | None] = [None] * len(requests)
    stored: list[list[StoredEvent]] = []
    for key, of_request in places.items():
        number, first, last = chosen[key], of_request[0], of_request[-1]
        queued = tuple([numbers[one.message_id] for one in requests[number].outbox])
        cursor = Cursor(last[2], last[3])
        answers[number] = Appended(last[1], first[1], cursor, outbox=queued)
        if inline.wanting(requests[number].events):
            stored.append(_stored(requests[number], of_request))
    if stored:
        await apply_inline(connection, inline, stored)
    return answers


def _beside(rows: Sequence[AppendRequest]) -> list[list[object]]:
    """The columns of all that is inserted and changed, each with the number of its append."""
    events, messages, cancels, timers = list[_Row](), list[_Row](), list[_Row](), list[_Row]()
    columns = to_columns([event for row in rows for event in row.events])
    for of, row in enumerate(rows, 1):
        assert isinstance(row.expected, int)
        versions = range(row.expected + 1, row.expected + 1 + len(row.events))
        events += [(of, row.key, version) for version in versions]
        messages += [(of, *message_row(one)) for one in row.outbox]
        ended = set[tuple[str, str]]()
        for change in reversed(row.timers):
            match change:
                case CancelTimer(address, name):
                    ended.add((address, name))
                    cancels.append((of, address, name))
                case SetTimer():
                    is_over = (change.address, change.name) in ended
                    timers.append((of, is_over, *timer_row(change)))
    timers.reverse()
    return [
        *_turned(events, 3),
        *columns,
        *_turned(messages, 8),
        *_turned(cancels, 3),
        *_turned(timers, 9),
    ]


def _turned(rows: Sequence[_Row], width: int) -> list[list[object]]:
    """Rows as columns; of no rows as many empty ones."""
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[]] * width


def _stored(request: AppendRequest, places: Sequence[asyncpg.Record]) -> list[StoredEvent]:
    """The events as they would be read back."""
    return [
        StoredEvent(
            request.stream_id,
            version,
            Cursor(txid, position),
            event.event_id,
            event.type,
            event.schema_version,
            event.codec,
            event.data,
            dict(event.metadata),
            event.tenant,
            at,
        )
        for event, (_, version, txid, position, at, _) in zip(request.events, places, strict=True)
    ]
