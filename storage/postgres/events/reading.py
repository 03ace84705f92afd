"""How events are read: streams by version, the log in its order, lists, heads, lag.

Runs on the asyncio thread.

The global order is (txid, position), read below `pg_snapshot_xmin`. Why not by position: it
is drawn when a row is inserted, and the row seen when its transaction commits. With A drawing
7 and B drawing 8, and B committing first, a reader that has come to 8 asks for what is behind
it and never meets 7. A position has no memory of who is still under way; a transaction's
number has: every snapshot knows the oldest one that may still write, xmin. All numbers below
it are committed or gone, for ever. So a page stops there, and whatever becomes visible later
has a txid of xmin or more: it sorts behind everything that any reader was ever given.

A tenant's streams stand in the table as `@tenant/name`, and its events have it in a column too.
What is asked by the name of a stream needs no more: the names of two tenants are never one. The
order of a tenant's events is read from an index of its own (`events_of_tenant`), so that it costs
what they are, however many others there are; `_Order` has the words of either way.

The price: a transaction that has written and stays open hides itself and all later ones from
readers of the order (`connecting/health.py` names it). The position only sorts within one
transaction. Numbers belong to a cluster: a dump restored into another is renumbered
(`schema/renumber.py`).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import asyncpg

from actors.persistence import (
    ARCHIVED,
    COUNT_MAX,
    START,
    TOMBSTONED,
    BackwardPage,
    Counted,
    Cursor,
    Lag,
    Page,
    StoredEvent,
    StreamInfo,
)
from actors.persistence.event_store import check_lineage
from actors.persistence.words import TENANT_MARK, owned_name, split_name
from storage.postgres.connecting.session import Connection
from storage.postgres.events.rows import EVENT_COLUMNS, to_event

# Of a stream that was tombstoned, until its rows are removed. The table of those is nearly always
# empty. No reader of the order is given them, and their cursors are passed by as a filter does.
_HIDDEN = f"(event_type <> '{TOMBSTONED}' AND stream_id IN (SELECT stream_id FROM removals))"  # noqa: S608  (our own words)
# Without a type it is hidden: a column more would have to be taken off every row.
_SHOWN_COLUMNS = EVENT_COLUMNS.replace(
    "event_type", f"CASE WHEN {_HIDDEN} THEN NULL ELSE event_type END"
)
_IS_THERE = "NOT EXISTS (SELECT FROM tombstones WHERE stream_id = $1)"

_HORIZON = "txid < pg_snapshot_xmin(pg_current_snapshot())"

# Up to here a lag is counted; beyond it, told by the positions, gaps of rollbacks included.
_LAG_COUNTED_MAX = 10_000

# A filter looks at so many rows at most, in about 10 ms, and then ends its page where it has come
# to: a page that reads on until it is full may take longer than any limit, and gives nothing then.
SCANNED_MAX = 20_000

# Behind every name of a tenant's stream, and before those of no tenant: these begin with a letter.
BEHIND_TENANTS = chr(ord(TENANT_MARK) + 1)

# As the condition of the index, word by word. Programs of before noted a tenant in streams of none.
_IS_TENANTS = f"starts_with(stream_id, '{TENANT_MARK}')"

# The category of a stream, whoever's it is.
_CATEGORY = f"""split_part(CASE WHEN {_IS_TENANTS}
    THEN substr(stream_id, strpos(stream_id, '/') + 1) ELSE stream_id END, '-', 1)"""


class _Order(NamedTuple):
    """The words of a statement that reads the order: of all events, or of a tenant's.

    A tenant is asked for as a range of one, and sorted by: so no planner can think that the order
    of all, with the others thrown away, would do as well.
    """

    behind: str
    before: str
    whole: str
    up: str
    down: str


_ALL = _Order(
    behind="(txid, position) > ($1::xid8, $2::bigint)",
    before="(txid, position) < ($1::xid8, $2::bigint)",
    whole="true",
    up="txid, position",
    down="txid DESC, position DESC",
)


def _order(tenant: str | None, number: int) -> _Order:
    """The words, with a tenant as the parameter of that number, the last one."""
    if tenant is None:
        return _ALL
    its = f"${number}::text"
    return _Order(
        behind=f"""(tenant, txid, position) > ({its}, $1::xid8, $2::bigint)
            AND tenant <= {its} AND {_IS_TENANTS}""",
        before=f"""(tenant, txid, position) < ({its}, $1::xid8, $2::bigint)
            AND tenant >= {its} AND {_IS_TENANTS}""",
        whole=f"tenant >= {its} AND tenant <= {its} AND {_IS_TENANTS}",
        up="tenant, txid, position",
        down="tenant DESC, txid DESC, position DESC",
    )


def _its(tenant: str | None) -> tuple[str, ...]:
    """The last parameter of such a statement, if there is one."""
    return () if tenant is None else (tenant,)


# Both bounds are numbers of their own: a plan made for all streams must see that it is one page.
_STREAM = f"""
SELECT {EVENT_COLUMNS} FROM events
WHERE stream_id = $1 AND version BETWEEN $2 AND $3 AND {_IS_THERE}
ORDER BY version
"""  # noqa: S608  (our own columns)

_PAGE = f"""
SELECT {_SHOWN_COLUMNS} FROM events
WHERE {{of.behind}} AND {_HORIZON}
ORDER BY {{of.up}} LIMIT $3
"""  # noqa: S608  (our own columns)

# The inner LIMIT keeps the filter out: rows are taken from the order one by one, whatever the
# filter matches, and from no other index.
_FILTERED = f"""
SELECT {EVENT_COLUMNS} FROM (
    SELECT {EVENT_COLUMNS} FROM events
    WHERE {{of.behind}} AND (txid, position) <= ($4::xid8, $5::bigint)
    ORDER BY {{of.up}} LIMIT $8
) scanned
WHERE ($6::text[] IS NULL OR event_type = ANY($6))
    AND ($7::text[] IS NULL OR {_CATEGORY} = ANY($7))
    AND NOT {_HIDDEN}
ORDER BY {{of.up}} LIMIT $3
"""  # noqa: S608  (our own columns)

# The last row that a filter looks at, when there are more. From the index alone.
_SCAN_END = """
SELECT txid, position FROM events
WHERE {of.behind} AND (txid, position) <= ($3::xid8, $4::bigint)
ORDER BY {of.up} OFFSET $5 LIMIT 1
"""

# Newest first. The limit stands beside the bounds: the last ten of a long stream are ten rows.
_STREAM_BACK = f"""
SELECT {EVENT_COLUMNS} FROM events
WHERE stream_id = $1 AND version BETWEEN $3 AND $2 AND {_IS_THERE}
ORDER BY version DESC LIMIT $4
"""  # noqa: S608  (our own columns)

# Below a cursor that lies below the horizon: what is there is all there will ever be.
_PAGE_BACK = f"""
SELECT {_SHOWN_COLUMNS} FROM events
WHERE {{of.before}}
ORDER BY {{of.down}} LIMIT $3
"""  # noqa: S608  (our own columns)

_FILTERED_BACK = f"""
SELECT {EVENT_COLUMNS} FROM (
    SELECT {EVENT_COLUMNS} FROM events
    WHERE {{of.before}}
    ORDER BY {{of.down}} LIMIT $6
) scanned
WHERE ($4::text[] IS NULL OR event_type = ANY($4))
    AND ($5::text[] IS NULL OR {_CATEGORY} = ANY($5))
    AND NOT {_HIDDEN}
ORDER BY {{of.down}} LIMIT $3
"""  # noqa: S608  (our own columns)

# The last row that a filter looks at on its way back. From the index alone.
_SCAN_END_BACK = """
SELECT txid, position FROM events WHERE {of.before}
ORDER BY {of.down} OFFSET $3 LIMIT 1
"""

_END = f"""
SELECT txid, position FROM events WHERE {{of.whole}} AND {_HORIZON} ORDER BY {{of.down}} LIMIT 1
"""  # noqa: S608  (our own words)

# The highest one may be another, of a transaction that took long: the index knows this one.
_LAST_POSITION = "SELECT position FROM events ORDER BY txid DESC, position DESC LIMIT 1"

_LAG = f"""
WITH unread AS (
    SELECT position, recorded_at FROM events
    WHERE (txid, position) > ($1::xid8, $2::bigint) AND {_HORIZON}
    ORDER BY txid, position LIMIT {_LAG_COUNTED_MAX}
)
SELECT count(*) AS counted, greatest(0, extract(epoch FROM clock_timestamp() - min(recorded_at)))
    AS seconds, ({_LAST_POSITION}) - min(position) + 1 AS spread
FROM unread
"""  # noqa: S608  (our own words)

# Where positions tell nothing, for they are those of all. Counted from the index alone, so that it
# can go further; the first of the order stands for the oldest.
_UNREAD_OF_TENANT = f"FROM events WHERE {{of.behind}} AND {_HORIZON} ORDER BY {{of.up}}"
_LAG_OF_TENANT = f"""
SELECT (SELECT count(*) FROM (SELECT {_UNREAD_OF_TENANT} LIMIT {COUNT_MAX}) unread) AS counted,
    greatest(0, extract(epoch FROM clock_timestamp() - (
        SELECT recorded_at {_UNREAD_OF_TENANT} LIMIT 1))) AS seconds, 0 AS spread
"""  # noqa: S608  (our own words)

# Counts. Each reads one index in its order and stops: sorted, or no plan but that one would be
# taken for types that are everywhere, and one that is rare would be looked for in all rows.
_COUNT_ALL = """
SELECT count(*) FROM (SELECT FROM events WHERE {shown} ORDER BY txid, position LIMIT $1) counted
"""

_COUNT_TYPES = """
SELECT count(*) FROM (
    SELECT FROM unnest($1::text[]) asked (name) CROSS JOIN LATERAL (
        SELECT FROM events WHERE event_type = asked.name AND {shown}
        ORDER BY event_version LIMIT $2
    ) one
    LIMIT $2
) counted
"""

# The names between two: of one stream, of a category, whose names end before the next letter
# behind the hyphen, or of a tenant. The begin of several is the name of no stream, so none of that
# name is gone.
_COUNT_NAMES = """
SELECT count(*) FROM (
    SELECT FROM events WHERE stream_id >= $1 AND stream_id < $2
        AND {shown} AND {is_there}
    ORDER BY stream_id, version LIMIT $3
) counted
"""

_COUNT_TYPES_OF_NAMES = """
SELECT count(*) AS looked_at, count(*) FILTER (WHERE event_type = ANY($4)) AS found FROM (
    SELECT event_type FROM events WHERE stream_id >= $1 AND stream_id < $2
        AND {shown} AND {is_there}
    ORDER BY stream_id, version LIMIT $3
) scanned
"""

_ANYTHING_HIDDEN = "SELECT EXISTS (SELECT FROM removals)"

# A loose scan: one index look-up a stream, however many events each has.
_STREAMS = f"""
WITH RECURSIVE names AS (
    (SELECT stream_id FROM events WHERE stream_id > $1 AND stream_id >= $2 ORDER BY 1 LIMIT 1)
    UNION ALL
    SELECT (SELECT e.stream_id FROM events e WHERE e.stream_id > n.stream_id ORDER BY 1 LIMIT 1)
    FROM names n WHERE starts_with(n.stream_id, $2)
)
SELECT last.stream_id, last.version, last.recorded_at, last.event_type = '{ARCHIVED}'
FROM names CROSS JOIN LATERAL (
    SELECT e.stream_id, e.version, e.recorded_at, e.event_type FROM events e
    WHERE e.stream_id = names.stream_id ORDER BY e.version DESC LIMIT 1
) last
WHERE starts_with(names.stream_id, $2) AND last.event_type <> '{TOMBSTONED}'
    AND ($4 OR last.event_type <> '{ARCHIVED}')
LIMIT $3
"""  # noqa: S608  (our own words)


async def stream_page(
    connection: Connection, stream_id: str, first: int, last: int
) -> list[StoredEvent]:
    """Call this for the events of a stream from one version to another, a page at most."""
    rows = await connection.fetch(_STREAM, stream_id, first, last)
    return [to_event(row) for row in rows]


async def stream_page_backwards(
    connection: Connection, stream_id: str, first: int, last: int, limit: int
) -> list[StoredEvent]:
    """Call this for events of a stream from a higher version down to a lower one."""
    rows = await connection.fetch(_STREAM_BACK, stream_id, first, last, limit)
    return [to_event(row) for row in rows]


async def page_of_lineage(
    connection: Connection,
    wanted: str,
    after: Cursor,
    limit: int,
    types: Sequence[str] | None,
    categories: Sequence[str] | None,
    scanned_max: int,
    tenant: str | None,
) -> Page:
    """Call this for a page, and the lineage it was read under; `CursorOutdated` for another."""
    found = await page(connection, after, limit, types, categories, scanned_max, tenant)
    # Asked behind it: no lineage comes back, so one that is still the wanted one was so before.
    current = await lineage(connection)
    check_lineage(wanted, current)
    return replace(found, lineage=current)


async def page(
    connection: Connection,
    after: Cursor,
    limit: int,
    types: Sequence[str] | None,
    categories: Sequence[str] | None,
    scanned_max: int,
    tenant: str | None = None,
) -> Page:
    """Call this for the next page of the order; a filter looks at `scanned_max` rows at most."""
    if types is not None or categories is not None:
        return await _filtered(connection, after, limit, types, categories, scanned_max, tenant)
    statement = _PAGE.format(of=_order(tenant, 4))
    # Read first, the end second: the end may only be later than what was read, and `is_last`
    # then says "no" when it could have said "yes"; the other way round it would lie.
    rows = await connection.fetch(statement, after.txid, after.position, limit, *_its(tenant))
    events, last = _shown(rows, after)
    if len(rows) < limit:
        return Page(events, last, last)
    return Page(events, last, max(last, await _end(connection, tenant)))


def _shown(rows: Sequence[asyncpg.Record], begin: Cursor) -> tuple[list[StoredEvent], Cursor]:
    """The events of a page that are not hidden, and where it ended, hidden ones included."""
    # Marked, and not left out by a condition: however many there are, a page ends after so many.
    events = [to_event(row) for row in rows]
    last = events[-1].cursor if events else begin
    return [event for event in events if event.type], last


async def _filtered(
    connection: Connection,
    after: Cursor,
    limit: int,
    types: Sequence[str] | None,
    categories: Sequence[str] | None,
    scanned_max: int,
    tenant: str | None,
) -> Page:
    # The end first: what is read is bounded by it, so that `next` leaves nothing out. The
    # reader moves on to the end of the scan although the last event it was given lies far
    # behind: what lies between was left out by its filter.
    end = max(after, await _end(connection, tenant))
    if end == after:
        return Page([], end, end)
    bounds = (after.txid, after.position, end.txid, end.position)
    scan_end = _SCAN_END.format(of=_order(tenant, 6))
    row = await connection.fetchrow(scan_end, *bounds, scanned_max - 1, *_its(tenant))
    reached = end if row is None else Cursor(row[0], row[1])
    rows = await connection.fetch(
        _FILTERED.format(of=_order(tenant, 9)),
        after.txid,
        after.position,
        limit,
        reached.txid,
        reached.position,
        types,
        categories,
        scanned_max,
        *_its(tenant),
    )
    events = [to_event(row) for row in rows]
    return Page(events, events[-1].cursor if len(events) == limit else reached, end)


async def page_backwards(
    connection: Connection,
    wanted: str,
    before: Cursor,
    limit: int,
    types: Sequence[str] | None,
    categories: Sequence[str] | None,
    scanned_max: int,
    tenant: str | None,
) -> BackwardPage:
    """Call this for the page before a cursor, newest first; `CursorOutdated` for a lineage."""
    found = await _page_backwards(connection, before, limit, types, categories, scanned_max, tenant)
    current = await lineage(connection)  # behind it, as in `page_of_lineage`
    check_lineage(wanted, current)
    return replace(found, lineage=current)


async def _page_backwards(
    connection: Connection,
    before: Cursor,
    limit: int,
    types: Sequence[str] | None,
    categories: Sequence[str] | None,
    scanned_max: int,
    tenant: str | None,
) -> BackwardPage:
    # The end first: below it nothing is added between the statements.
    end = await _end(connection, tenant)
    txid, position = min(before, Cursor(end.txid, end.position + 1))
    its = _its(tenant)
    if types is None and categories is None:
        statement = _PAGE_BACK.format(of=_order(tenant, 4))
        rows = await connection.fetch(statement, txid, position, limit, *its)
        events, last = _shown(rows, START)
        return BackwardPage(events, last if len(rows) == limit else START)
    scan_end = _SCAN_END_BACK.format(of=_order(tenant, 4))
    row = await connection.fetchrow(scan_end, txid, position, scanned_max - 1, *its)
    reached = START if row is None else Cursor(row[0], row[1])
    statement = _FILTERED_BACK.format(of=_order(tenant, 7))
    rows = await connection.fetch(
        statement, txid, position, limit, types, categories, scanned_max, *its
    )
    events = [to_event(row) for row in rows]
    return BackwardPage(events, events[-1].cursor if len(events) == limit else reached)


async def count(
    connection: Connection,
    stream_id: str | None,
    category: str | None,
    types: Sequence[str] | None,
    up_to: int,
    scanned_max: int,
    tenant: str | None,
) -> Counted:
    """Call this to count events, one more than `up_to` at most."""
    # Only while something is hidden: an index alone does not tell the stream of a row.
    is_any = await connection.fetchval(_ANYTHING_HIDDEN)
    shown = f"NOT {_HIDDEN}" if is_any else "true"
    if (stream_id, category, tenant) == (None, None, None):
        asked = (_COUNT_ALL, []) if types is None else (_COUNT_TYPES, [types])
        statement, args = asked
        found = int(await connection.fetchval(statement.format(shown=shown), *args, up_to + 1))
        return Counted(min(found, up_to), found <= up_to)
    first, end = _names(stream_id, category, tenant)
    if types is None:
        statement = _COUNT_NAMES.format(shown=shown, is_there=_IS_THERE)
        found = int(await connection.fetchval(statement, first, end, up_to + 1))
        return Counted(min(found, up_to), found <= up_to)
    statement = _COUNT_TYPES_OF_NAMES.format(shown=shown, is_there=_IS_THERE)
    row = await connection.fetchrow(statement, first, end, scanned_max + 1, types)
    assert row is not None, "an aggregate gives one row"
    is_whole = row["looked_at"] <= scanned_max and row["found"] <= up_to
    return Counted(min(row["found"], up_to), is_whole)


def _names(stream_id: str | None, category: str | None, tenant: str | None) -> tuple[str, str]:
    """The first name that is meant, and the first behind all of them."""
    if stream_id is not None:
        # No name has a NUL: nothing lies between a stream's name and the same with \x01 behind it.
        return owned_name(tenant, stream_id), owned_name(tenant, f"{stream_id}\x01")
    if category is not None:
        return owned_name(tenant, f"{category}-"), owned_name(tenant, f"{category}.")
    return owned_name(tenant, ""), owned_name(tenant, "\U0010ffff")


async def _end(connection: Connection, tenant: str | None) -> Cursor:
    row: Any = await connection.fetchrow(_END.format(of=_order(tenant, 1)), *_its(tenant))
    return Cursor(0, 0) if row is None else Cursor(row[0], row[1])


async def lag(connection: Connection, after: Cursor, tenant: str | None) -> Lag:
    """Call this for how much is unread after a cursor."""
    statement = _LAG if tenant is None else _LAG_OF_TENANT.format(of=_order(tenant, 3))
    row = await connection.fetchrow(statement, after.txid, after.position, *_its(tenant))
    assert row is not None, "an aggregate gives one row"
    counted = int(row["counted"])
    if counted == 0:
        return Lag(0, 0.0)
    events = counted if counted < _LAG_COUNTED_MAX else max(counted, int(row["spread"]))
    return Lag(events, float(row["seconds"]))


async def streams(
    connection: Connection,
    beginning: str,
    after: str,
    limit: int,
    include_archived: bool,
    tenant: str | None,
) -> list[StreamInfo]:
    """Call this for a list of a tenant's streams by name, of those whose names begin so."""
    # Those of no tenant begin behind all tenants'.
    behind = max(after, BEHIND_TENANTS) if tenant is None else owned_name(tenant, after)
    rows: list[asyncpg.Record] = await connection.fetch(
        _STREAMS, behind, owned_name(tenant, beginning), limit, include_archived
    )
    return [StreamInfo(split_name(row[0])[1], *row[1:]) for row in rows]


async def last_event(connection: Connection, stream_id: str) -> tuple[int, str | None]:
    """Call this for version and type of a stream's last event, which says if it is closed."""
    row = await connection.fetchrow(
        "SELECT version, event_type FROM events WHERE stream_id = $1 ORDER BY version DESC LIMIT 1",
        stream_id,
    )
    return (0, None) if row is None else (row[0], row[1])


async def head(connection: Connection, stream_id: str) -> int:
    """Call this for the last version of a stream."""
    return (await last_event(connection, stream_id))[0]


async def cursor_at(connection: Connection, stream_id: str, version: int) -> Cursor:
    """Call this for the place of one event in the order; the start when it is gone."""
    row = await connection.fetchrow(
        "SELECT txid, position FROM events WHERE stream_id = $1 AND version = $2",
        stream_id,
        version,
    )
    return Cursor(0, 0) if row is None else Cursor(row[0], row[1])


async def lineage(connection: Connection) -> str:
    """Call this for the id of the order."""
    return str(await connection.fetchval("SELECT lineage FROM store_meta"))
