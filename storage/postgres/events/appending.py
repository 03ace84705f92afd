"""How events get into the log: one, many, or a batch for several streams, in one statement.

Everything here runs on the asyncio thread, with a connection of the pool.

No first try takes a lock, and none relies on what it read before it wrote: the primary key
(stream, version) decides who was first. A statement that loses the race, or brings a known
id, fails as a whole. It cannot tell what happened, for its snapshot is older than the
winner's commit; that is read afterwards, in a statement with a snapshot of its own (`facts`).
Who lost twice stands in line (`wait_in_line`), and from there loses only to newcomers.

Rule 1: the versions of a stream ascend along the global order. A transaction gets its number
with its first write. So what an append builds on is read before that: who is seen then has
committed, and therefore a lower number. A statement that only inserts events does so by
itself; where something else is written first, the head is read before it and handed to
`insert` as `base`.
Rule 2: rows of several streams are inserted in the order of their keys, so that two batches
wait for each other in one direction only; their positions are drawn in the batch's own order.

A single append is one round trip. A batch is two: versions are read first, all is decided
here, and the one INSERT stores everything or nothing. Reading binds nothing, the key does;
after a lost race the caller begins again, and then looks for known ids first.

Nothing is stored behind the event that closed its stream (`closing.py`), which is always the last
one. So it is enough to look at the event that an append builds on, and whether the name is one of
the few that are gone: of those any event may have been removed. Who closes takes the next version
as everyone does: an append that has not seen it loses that race, and is told why when it looks
again.

A stream goes by its name among those of all tenants (`AppendRequest.key`), and so do tags; the
statements know nothing else of tenants.

What goes with an append into its transaction stands in `event_store.py`.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg
import msgspec

from actors.persistence import (
    ANY,
    EXISTS,
    Appended,
    AppendRequest,
    Cursor,
    NewEvent,
    Shard,
    StoredEvent,
    StoreError,
    Version,
    fits,
    repeat_of,
)
from actors.persistence.event_store import outcome
from actors.persistence.words import owned_name, split_name
from storage.postgres.connecting.session import Connection
from storage.postgres.events.reading import last_event
from storage.postgres.events.rows import CLOSED, EVENT_COLUMNS, metadata_json, to_columns, to_event

# Constraints whose violation means a lost race or a repeat, not a bug.
RACES = frozenset({"events_pkey", "events_event_id_key"})

# The condition says "the stream is not shorter than expected", the primary key says "nor
# longer": together they are the version check, without a lock and in one round trip. A
# stream that is to be empty has no row to look for.
_IS_AT = f"""($2 = 0 OR EXISTS (
    SELECT FROM events WHERE stream_id = $1 AND version = $2 AND event_type NOT IN {CLOSED}
)) AND NOT EXISTS (SELECT FROM tombstones WHERE stream_id = $1)"""  # noqa: S608  (our own words)

# Plain parameters for an event alone: arrays and unnest cost it more than they give.
_ONE = f"""
INSERT INTO events (stream_id, version, event_id, event_type, event_version, codec, event_data,
    metadata, tenant)
SELECT $1, $2::bigint + 1, $3, $4, $5, $6, $7, $8::jsonb, $9
WHERE {_IS_AT}
RETURNING txid, position, version
"""

# In the order of `ord`, because positions are drawn in the order of insertion: within one
# transaction the position alone must sort the events of a stream by version.
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

_MANY_AT = _MANY.format(head="(SELECT $2::bigint AS version)", condition=_IS_AT)
# $2 is the least version the stream must have: 0 for any, 1 for an existing one. The head is
# read by the statement itself; a writer in between takes the version, and the key says so.
MANY_ON = _MANY.format(
    head="(SELECT coalesce(max(version), 0) AS version FROM events WHERE stream_id = $1)",
    condition=f"""h.version >= $2::bigint AND NOT EXISTS (SELECT FROM events c
    WHERE c.stream_id = $1 AND c.version = h.version AND c.event_type IN {CLOSED})""",
)

_HELD = """
WITH held AS MATERIALIZED (
    SELECT id FROM shards WHERE id = $10 AND owner = $11 AND epoch = $12 FOR KEY SHARE
)
"""
# The same under a shard, which is held until the commit, as `event_store.py` holds it: a takeover
# waits for that. It is taken within the snapshot of the statement, so what an event builds on is
# still seen before the transaction has a number. No row: the shard is another's, or the version.
_OWNED = {
    _ONE: _HELD + _ONE.replace("WHERE", "FROM held WHERE", 1),
    _MANY_AT: _HELD + _MANY_AT.replace("FROM", "FROM held,", 1),
    MANY_ON: _HELD + MANY_ON.replace("FROM", "FROM held,", 1),
}

# Of an append that goes its careful way: the version is known. Its tags are a JSON text an event,
# for lists of different lengths are no array; they stand in their index in the same order.
_TAGGED = f"""
WITH added AS (
    INSERT INTO events (stream_id, version, event_id, event_type, event_version, codec,
        event_data, metadata, tenant, tags)
    SELECT $1, $2::bigint + e.ord, e.id, e.type, e.schema, e.codec, e.data, e.meta::jsonb,
        e.tenant, CASE WHEN e.tags IS NOT NULL
            THEN ARRAY(SELECT jsonb_array_elements_text(e.tags::jsonb)) END
    FROM unnest($3::uuid[], $4::text[], $5::int[], $6::text[], $7::bytea[], $8::text[],
        $9::text[], $10::text[]) WITH ORDINALITY
        AS e (id, type, schema, codec, data, meta, tenant, tags, ord)
    WHERE {_IS_AT}
    ORDER BY e.ord
    RETURNING txid, position, version, tags
), marked AS (
    INSERT INTO event_tags (tag, txid, position)
    SELECT unnest(tags), txid, position FROM added
)
SELECT txid, position, version FROM added ORDER BY version
"""  # noqa: S608  (our own words)

_KNOWN = f"SELECT {EVENT_COLUMNS} FROM events WHERE event_id = ANY($1)"  # noqa: S608  (our own columns)


# In shared memory, so a batch must not take one for each of its streams: 256 for each of ten
# connections are 2,560 of the 6,400 places that a server has by default. Streams that share a
# place wait for each other needlessly, and nothing worse.
_PLACES = 256
# The space of two numbers: inline projections and migrations lock in that of one.
_LINE = 7461

_WAIT_IN_LINE = f"""
SELECT pg_advisory_xact_lock({_LINE}, line.place) FROM (
    SELECT DISTINCT hashtext(name) & {_PLACES - 1} AS place FROM unnest($1::text[]) name
    ORDER BY place
) line
"""  # noqa: S608  (our own numbers)
# The same place; most wait for one stream, and without a list that takes half the time.
_WAIT_FOR_ONE = f"""
SELECT pg_advisory_xact_lock({_LINE}, hashtext($1) & {_PLACES - 1})
"""


async def wait_in_line(connection: Connection, streams: Collection[str]) -> None:
    """Call this first in a transaction that lost races: others in line wait until it ends.

    It writes nothing, so the transaction has no number yet, and what is read next is fresh.
    """
    names = list(streams)
    if len(names) == 1:
        await connection.execute(_WAIT_FOR_ONE, names[0])
    else:
        await connection.execute(_WAIT_IN_LINE, names)


async def insert(
    connection: Connection,
    request: AppendRequest,
    base: Version | None = None,
    shard: Shard | None = None,
) -> Appended | None:
    """Call this to store the events of a request; None when the stream is too short.

    `base` is the head read before the transaction's first write; None when this is the first.
    With a `shard`, and no base, it is None too when that is another's by now. Raises the driver's
    unique violation when the stream is too long or an id is known.
    """
    events, expected = request.events, request.expected
    owned = () if shard is None else (shard.id, shard.owner, shard.epoch)
    if base is not None:
        if not fits(expected, base):
            return None
        expected = base
    if request.is_tagged:
        assert base is not None, "an append with tags is not plain"
        tags = [_tags_of(event) if event.tags else None for event in events]
        rows = await connection.fetch(_TAGGED, request.key, base, *to_columns(events), tags)
    elif expected is ANY or expected is EXISTS:
        least = 0 if expected is ANY else 1
        statement = _OWNED[MANY_ON] if owned else MANY_ON
        rows = await connection.fetch(statement, request.key, least, *to_columns(events), *owned)
    elif len(events) == 1:
        rows = await _insert_one(connection, request.key, expected, events[0], owned)
    else:
        statement = _OWNED[_MANY_AT] if owned else _MANY_AT
        rows = await connection.fetch(statement, request.key, expected, *to_columns(events), *owned)
    if not rows:
        return None
    first, last = rows[0], rows[-1]
    return Appended(last[2], first[2], Cursor(last[0], last[1]))


def _tags_of(event: NewEvent) -> str:
    return msgspec.json.encode([owned_name(event.tenant, tag) for tag in event.tags]).decode()


async def _insert_one(
    connection: Connection,
    stream_id: str,
    expected: object,
    event: NewEvent,
    owned: Sequence[object],
) -> list[asyncpg.Record]:
    return await connection.fetch(
        _OWNED[_ONE] if owned else _ONE,
        stream_id,
        expected,
        event.event_id,
        event.type,
        event.schema_version,
        event.codec,
        event.data,
        metadata_json(event.metadata),
        event.tenant,
        *owned,
    )


async def facts(
    connection: Connection, request: AppendRequest
) -> tuple[dict[UUID, StoredEvent], int, str | None]:
    """Call this after a refused append: the stored events with its ids, and the stream's end."""
    known = await _known(connection, [request])
    return known, *await last_event(connection, request.key)


# A batch.

# One index look-up a stream, however long it is.
_HEADS = """
SELECT s.stream_id, coalesce(last.version, 0), last.event_type
FROM unnest($1::text[]) AS s (stream_id) LEFT JOIN LATERAL (
    SELECT e.version, e.event_type FROM events e
    WHERE e.stream_id = s.stream_id ORDER BY e.version DESC LIMIT 1
) last ON true
"""

# Positions are drawn in the order of requests (`ord`, below the inner ORDER BY), rows are inserted
# in the order of keys: see rule 2.
_BATCH = """
INSERT INTO events (stream_id, version, event_id, event_type, event_version, codec, event_data,
    metadata, tenant, position)
OVERRIDING SYSTEM VALUE
SELECT e.stream_id, e.version, e.id, e.type, e.schema, e.codec, e.data, e.meta::jsonb, e.tenant,
    e.position
FROM (
    SELECT r.*, nextval('events_position_seq') AS position
    FROM (
        SELECT * FROM unnest($1::text[], $2::bigint[], $3::uuid[], $4::text[], $5::int[],
            $6::text[], $7::bytea[], $8::text[], $9::text[]) WITH ORDINALITY
            AS u (stream_id, version, id, type, schema, codec, data, meta, tenant, ord)
        ORDER BY ord
    ) r
) e
ORDER BY e.stream_id COLLATE "C", e.version
RETURNING txid, position
"""

_NOWHERE = Cursor(0, 0)
_BEFORE = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass
class _Plan:
    """What a batch comes to: the events to insert, and each request's share of them."""

    # Of each stream the version, and the type of its last stored event.
    heads: dict[str, tuple[int, str | None]]
    known: dict[UUID, StoredEvent]
    streams: list[str] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)
    events: list[NewEvent] = field(default_factory=list)
    # Where the events of this batch stand in `events`.
    places: dict[UUID, int] = field(default_factory=dict)


class _Share(NamedTuple):
    """The events of one request among those of the batch."""

    first: int
    last: int
    is_repeat: bool


class _Unsure(Exception):
    """A request may be a repeat: its ids must be looked for."""


async def append_batch(
    connection: Connection, requests: Sequence[AppendRequest], atomic: bool, is_doubtful: bool
) -> list[Appended | StoreError]:
    """Call this to store a batch; raises the first error when `atomic`.

    `is_doubtful` says that ids may be stored already; without it they are looked for only
    when a request does not fit.
    """
    plan = _Plan(await _heads(connection, requests), {})
    outcomes: list[Appended | _Share | StoreError] = []
    try:
        if is_doubtful:
            raise _Unsure
        outcomes += [_decide(plan, request) for request in requests]
    except (_Unsure, StoreError):
        plan = _Plan(await _heads(connection, requests), await _known(connection, requests))
        outcomes += [_answer(plan, request, atomic) for request in requests]
    cursors: list[Cursor] = []
    if plan.events:
        rows = await connection.fetch(_BATCH, plan.streams, plan.versions, *to_columns(plan.events))
        cursors = sorted(Cursor(row[0], row[1]) for row in rows)
    return [_result(plan, outcome, cursors) for outcome in outcomes]


async def _heads(
    connection: Connection, requests: Sequence[AppendRequest]
) -> dict[str, tuple[int, str | None]]:
    names = list({request.key for request in requests})
    return {row[0]: (row[1], row[2]) for row in await connection.fetch(_HEADS, names)}


async def _known(
    connection: Connection, requests: Sequence[AppendRequest]
) -> dict[UUID, StoredEvent]:
    ids = [event.event_id for request in requests for event in request.events]
    return {row["event_id"]: to_event(row) for row in await connection.fetch(_KNOWN, ids)}


def _answer(plan: _Plan, request: AppendRequest, atomic: bool) -> Appended | _Share | StoreError:
    try:
        return _decide(plan, request)
    except StoreError as error:
        if atomic:
            raise
        return error


def _decide(plan: _Plan, request: AppendRequest) -> Appended | _Share:
    first = len(plan.events)
    places = plan.places
    if any(event.event_id in places for event in request.events):
        return _repeat_in_batch(plan, request)
    key = request.key
    actual, last_type = plan.heads[key]
    repeated = outcome(request, plan.known, actual, last_type)
    if repeated is not None:
        return repeated
    count = len(request.events)
    plan.streams += [key] * count
    plan.versions += range(actual + 1, actual + count + 1)
    plan.events += request.events
    for place, event in enumerate(request.events, start=first):
        places[event.event_id] = place
    plan.heads[key] = (actual + count, request.events[-1].type)
    return _Share(first, first + count - 1, is_repeat=False)


def _repeat_in_batch(plan: _Plan, request: AppendRequest) -> _Share:
    """The share of a request whose events came before in this batch; else the id is misused."""
    earlier = {
        id_: _unplaced(plan.streams[at], plan.versions[at], plan.events[at])
        for id_, at in plan.places.items()
    }
    repeat_of(request, {**plan.known, **earlier})
    first = plan.places[request.events[0].event_id]
    return _Share(first, first + len(request.events) - 1, is_repeat=True)


def _unplaced(key: str, version: int, event: NewEvent) -> StoredEvent:
    """An event of this batch as later requests of the batch see it."""
    return StoredEvent(
        split_name(key)[1],
        version,
        _NOWHERE,
        event.event_id,
        event.type,
        event.schema_version,
        event.codec,
        event.data,
        event.metadata,
        event.tenant,
        _BEFORE,
    )


def _result(
    plan: _Plan, outcome: Appended | _Share | StoreError, cursors: list[Cursor]
) -> Appended | StoreError:
    if not isinstance(outcome, _Share):
        return outcome
    first, last, is_repeat = outcome
    return Appended(plan.versions[last], plan.versions[first], cursors[last], replayed=is_repeat)
