"""Many appends in one transaction: what is stored is read once, then decided here.

Runs on the asyncio thread within a transaction. A lost race is a unique violation, which
rolls everything back; the caller begins again with what is stored then.
"""

from collections.abc import Sequence
from dataclasses import dataclass
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
from actors.persistence.decisions import conflict
from storage.postgres.event_rows import COLUMNS, to_columns, to_event
from storage.postgres.pool import Connection

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
    streams: list[str]
    versions: list[int]
    events: list[NewEvent]
    # Where the events of this batch stand in `events`.
    places: dict[UUID, int]
    # For each request: an error, an earlier result, or its share of `events`.
    outcomes: "list[StoreError | Appended | _Share]"


class _Share(NamedTuple):
    first: int
    last: int
    is_repeat: bool


async def append_batch(
    connection: Connection, requests: Sequence[AppendRequest], atomic: bool
) -> list[Appended | StoreError]:
    """Call this in a transaction; raises the first error when `atomic`."""
    plan = await _read(connection, requests)
    for request in requests:
        try:
            plan.outcomes.append(_decide(plan, request))
        except StoreError as error:
            if atomic:
                raise
            plan.outcomes.append(error)
    cursors: list[Cursor] = []
    if plan.events:
        rows = await connection.fetch(
            _INSERT, plan.streams, plan.versions, *to_columns(plan.events)
        )
        cursors = [Cursor(row[0], row[1]) for row in rows]
    return [_result(plan, outcome, cursors) for outcome in plan.outcomes]


async def _read(connection: Connection, requests: Sequence[AppendRequest]) -> _Plan:
    names = list(dict.fromkeys(request.stream_id for request in requests))
    ids = [event.event_id for request in requests for event in request.events]
    heads = {row[0]: row[1] or 0 for row in await connection.fetch(_HEADS, names)}
    known = {row["event_id"]: to_event(row) for row in await connection.fetch(_KNOWN, ids)}
    return _Plan(heads, known, [], [], [], {}, [])


def _decide(plan: _Plan, request: AppendRequest) -> Appended | _Share:
    first = plan.places.get(request.events[0].event_id, len(plan.events))
    repeated = repeat_of(request, plan.known)
    if repeated is not None:
        if first == len(plan.events):
            return repeated
        return _Share(first, first + len(request.events) - 1, is_repeat=True)
    actual = plan.heads[request.stream_id]
    if not fits(request.expected, actual):
        raise conflict(request, actual)
    for version, event in enumerate(request.events, start=actual + 1):
        plan.places[event.event_id] = len(plan.events)
        plan.streams.append(request.stream_id)
        plan.versions.append(version)
        plan.events.append(event)
        plan.known[event.event_id] = _unplaced(request.stream_id, version, event)
    plan.heads[request.stream_id] = actual + len(request.events)
    return _Share(first, len(plan.events) - 1, is_repeat=False)


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
    plan: _Plan, outcome: StoreError | Appended | _Share, cursors: list[Cursor]
) -> Appended | StoreError:
    if not isinstance(outcome, _Share):
        return outcome
    first, last, is_repeat = outcome
    return Appended(plan.versions[last], plan.versions[first], cursors[last], replayed=is_repeat)
