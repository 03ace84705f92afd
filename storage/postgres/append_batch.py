"""Many appends in one statement: the versions are read first, then all is decided here.

Runs on the asyncio thread in two round trips, without a transaction: reading binds nothing,
the primary key does. A lost race or a known id is a unique violation of the one INSERT,
which then stored nothing; the caller begins again, and then looks for known ids first.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

from actors.persistence import (
    Appended,
    AppendRequest,
    Cursor,
    NewEvent,
    StoredEvent,
    StoreError,
    fits,
    repeat_of,
)
from actors.persistence.event_store import conflict
from storage.postgres.connecting.session import Connection
from storage.postgres.event_rows import COLUMNS, to_columns, to_event

_HEADS = """
SELECT s.stream_id, (SELECT max(version) FROM events e WHERE e.stream_id = s.stream_id) AS head
FROM unnest($1::text[]) AS s (stream_id)
"""

_KNOWN = f"SELECT {COLUMNS} FROM events WHERE event_id = ANY($1)"  # noqa: S608  (our own columns)

_INSERT = """
INSERT INTO events (stream_id, version, event_id, event_type, event_version, codec, event_data,
    metadata, tenant)
SELECT e.stream_id, e.version, e.id, e.type, e.schema, e.codec, e.data, e.meta::jsonb, e.tenant
FROM unnest($1::text[], $2::bigint[], $3::uuid[], $4::text[], $5::int[], $6::text[],
    $7::bytea[], $8::text[], $9::text[]) WITH ORDINALITY
    AS e (stream_id, version, id, type, schema, codec, data, meta, tenant, ord)
ORDER BY e.ord
RETURNING txid, position
"""

_NOWHERE = Cursor(0, 0)
_BEFORE = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass
class _Plan:
    """What a batch comes to: the events to insert, and each request's share of them."""

    heads: dict[str, int]
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
    """A request that does not fit may be a repeat: its ids must be looked for."""


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
        outcomes += [_decide(plan, request, is_sure=False) for request in requests]
    except (_Unsure, StoreError):
        plan = _Plan(await _heads(connection, requests), await _known(connection, requests))
        outcomes += [_answer(plan, request, atomic) for request in requests]
    cursors: list[Cursor] = []
    if plan.events:
        rows = await connection.fetch(
            _INSERT, plan.streams, plan.versions, *to_columns(plan.events)
        )
        cursors = [Cursor(row[0], row[1]) for row in rows]
    return [_result(plan, outcome, cursors) for outcome in outcomes]


async def _heads(connection: Connection, requests: Sequence[AppendRequest]) -> dict[str, int]:
    names = list({request.stream_id for request in requests})
    return {row[0]: row[1] or 0 for row in await connection.fetch(_HEADS, names)}


async def _known(
    connection: Connection, requests: Sequence[AppendRequest]
) -> dict[UUID, StoredEvent]:
    ids = [event.event_id for request in requests for event in request.events]
    return {row["event_id"]: to_event(row) for row in await connection.fetch(_KNOWN, ids)}


def _answer(plan: _Plan, request: AppendRequest, atomic: bool) -> Appended | _Share | StoreError:
    try:
        return _decide(plan, request, is_sure=True)
    except StoreError as error:
        if atomic:
            raise
        return error


def _decide(plan: _Plan, request: AppendRequest, *, is_sure: bool) -> Appended | _Share:
    first = len(plan.events)
    places = plan.places
    if any(event.event_id in places for event in request.events):
        return _repeat_in_batch(plan, request)
    repeated = repeat_of(request, plan.known)
    if repeated is not None:
        return repeated
    actual = plan.heads[request.stream_id]
    if not fits(request.expected, actual):
        if not is_sure:
            raise _Unsure
        raise conflict(request, actual)
    count = len(request.events)
    plan.streams += [request.stream_id] * count
    plan.versions += range(actual + 1, actual + count + 1)
    plan.events += request.events
    for place, event in enumerate(request.events, start=first):
        places[event.event_id] = place
    plan.heads[request.stream_id] = actual + count
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


def _unplaced(stream_id: str, version: int, event: NewEvent) -> StoredEvent:
    """An event of this batch as later requests of the batch see it."""
    return StoredEvent(
        stream_id,
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
