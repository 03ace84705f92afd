"""Events by their tags, and appends that depend on what has which tags.

Runs on the asyncio thread, in a transaction.

An append holds a lock for each tag: alone for those of its events, with others for those that its
condition asks about. Who reads for a decision holds those of its query with others. Each is taken
before the transaction writes anything, and kept until it has ended. From that follows all:

1. Of two appends with a common tag the later to get its lock finds the former committed, and has
   the higher number, since numbers are given with the first write. So along the events of one tag
   the order of commits is that of the cursors.
2. Who reads by tags finds no append of them under way. What comes later of these tags has a higher
   cursor than everything that was there: "behind the last one" is "not seen", which for two tags
   would be wrong without the lock: one of a lower number might still be under way.
3. A condition is looked at under its locks: nothing that it excludes can come before the append
   that depends on it has ended.

So appends with conditions come out as if each had read, decided and written alone. The locks are
taken in one order, so nobody waits in a circle; tags with one hash wait for each other needlessly,
and nothing worse.
"""

from collections.abc import Mapping, Sequence

import msgspec

from actors.persistence import (
    AppendRequest,
    ConditionFailed,
    Cursor,
    CursorOutdated,
    Query,
    StoredEvent,
    StoreError,
)
from actors.persistence.event_store import check_lineage
from actors.persistence.words import TENANT_MARK, owned_name
from storage.postgres.connecting.session import Connection
from storage.postgres.events.reading import lineage
from storage.postgres.events.rows import EVENT_COLUMNS, to_event

# The space of two numbers, beside that of streams in line and of chat rooms.
_TAGS = 7463

# Where events are looked for next, nothing is sorted but a page: the planner knows how many events
# a tag has on average, and of one that has a hundred times as many would read and sort them all.
_LOCK = f"""
SELECT CASE WHEN held.is_alone THEN pg_advisory_xact_lock({_TAGS}, held.place)
    ELSE pg_advisory_xact_lock_shared({_TAGS}, held.place) END,
    set_config('enable_sort', CASE WHEN $3 THEN 'off' ELSE current_setting('enable_sort') END, true)
FROM (
    SELECT hashtext(tag) AS place, bool_or(is_alone) AS is_alone
    FROM unnest($1::text[], $2::boolean[]) AS asked (tag, is_alone)
    GROUP BY place ORDER BY place
) held
"""  # noqa: S608  (our own numbers)

# For each item the first rows of its first tag, from the index in order; the other tags and the
# types are asked of the event. So a page costs no more the more events there are behind it. Whether
# it is a tenant's, too: a tag of no tenant may be any text, also `@acme/course-7`.
_FIND = f"""
SELECT {EVENT_COLUMNS} FROM events JOIN (
    SELECT DISTINCT item.txid, item.position
    FROM jsonb_to_recordset($1::jsonb) AS asked (tags text[], types text[])
    CROSS JOIN LATERAL (
        SELECT t.txid, t.position
        FROM event_tags t JOIN events e ON (e.txid, e.position) = (t.txid, t.position)
        WHERE t.tag = asked.tags[1] AND (t.txid, t.position) > ($2::xid8, $3::bigint)
            AND e.tags @> asked.tags AND e.stream_id NOT IN (SELECT stream_id FROM removals)
            AND NOT starts_with(e.stream_id, '{TENANT_MARK}')
            AND (asked.types = '{{}}' OR e.event_type = ANY(asked.types))
        ORDER BY t.txid, t.position LIMIT $4
    ) item
    ORDER BY item.txid, item.position LIMIT $4
) found USING (txid, position)
ORDER BY txid, position
"""  # noqa: S608  (our own words)
_FIND_OF_TENANT = _FIND.replace("NOT starts_with", "starts_with")


async def lock_tags(connection: Connection, request: AppendRequest) -> StoreError | None:
    """Call this first in an append's transaction, if it has tags or asks about some.

    What its condition refuses it with; what else may refuse the append comes before that.
    """
    condition, tenant = request.condition, request.tenant
    tags = {owned_name(tenant, tag): is_alone for tag, is_alone in request.tags.items()}
    await _lock(connection, tags, is_asked=condition is not None)
    if condition is None:
        return None
    found = await _find(connection, condition.query, condition.cursor, 1, tenant)
    # What follows in this transaction is planned as ever.
    await connection.execute("RESET enable_sort")
    if condition.lineage:
        try:
            check_lineage(condition.lineage, await lineage(connection))
        except CursorOutdated as outdated:
            return outdated
    return ConditionFailed(request.stream_id, found[0].cursor) if found else None


async def read_tagged(
    connection: Connection,
    query: Query,
    tags: Sequence[str],
    after: Cursor,
    limit: int,
    tenant: str | None,
) -> tuple[list[StoredEvent], str]:
    """Call this for the events of a query behind a cursor, and the lineage they were read under.

    With what is committed by now.
    """
    asked = {owned_name(tenant, tag): False for tag in tags}
    await _lock(connection, asked, is_asked=True)
    # Asked behind it: no lineage comes back, so one that is still the wanted one was so before.
    return await _find(connection, query, after, limit, tenant), await lineage(connection)


async def _lock(connection: Connection, tags: Mapping[str, bool], *, is_asked: bool) -> None:
    """True is held alone, False with others who ask."""
    await connection.execute(_LOCK, list(tags), list(tags.values()), is_asked)


async def _find(
    connection: Connection, query: Query, after: Cursor, limit: int, tenant: str | None
) -> list[StoredEvent]:
    asked = [
        {"tags": [owned_name(tenant, tag) for tag in one.tags], "types": one.types} for one in query
    ]
    statement = _FIND if tenant is None else _FIND_OF_TENANT
    tags_and_types = msgspec.json.encode(asked).decode()
    rows = await connection.fetch(statement, tags_and_types, after.txid, after.position, limit)
    return [to_event(row) for row in rows]
