"""Closing a stream, for a while or for ever, and removing what is left of those that are gone.

What became of a stream is its last event: `$archived`, `$reopened` or `$tombstoned`, stored as
any other, at the next version. So closing and appending are one race about one place, which the
key decides; `appending.py` says how an append sees that it came too late.

Rule 1: the event is the transaction's first write, as rule 1 of `appending.py` asks.
Rule 2: from the commit on nobody is given an event of a tombstoned stream, removed or not. Its
last event stays for ever, and so does its row in `tombstones`: the name is never given again.
Rule 3: rows leave the log here only. A trigger refuses every other DELETE, and also one of a
stream that is not named in `removals`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from uuid import uuid4

from actors.persistence import TOMBSTONED, Appended, Cursor, ExpectedVersion
from actors.persistence.event_store import is_closed_so
from actors.persistence.words import owned_name
from storage.postgres.connecting.database import Database
from storage.postgres.connecting.session import Connection
from storage.postgres.events.appending import wait_in_line
from storage.postgres.events.reading import cursor_at, last_event
from storage.postgres.events.rows import metadata_json

# An append that looked at the stream before it was tombstoned must have ended: it may find a
# place free that it saw taken. The server ends a statement after 30 s, and an operation is over
# long before.
REMOVED_AFTER = timedelta(seconds=60)

# In one transaction: some 20 ms, so that it holds nobody back who reads the order.
REMOVED_AT_ONCE = 1000

_CLOSE = """
INSERT INTO events (stream_id, version, event_id, event_type, event_data, metadata, tenant)
VALUES ($1, $2, $3, $4, '{}', $5::jsonb, $6)
RETURNING txid, position
"""

_REMOVE = f"""
DELETE FROM events WHERE stream_id = $1 AND version IN (
    SELECT version FROM events WHERE stream_id = $1 AND event_type <> '{TOMBSTONED}'
    ORDER BY version LIMIT {REMOVED_AT_ONCE}
)
RETURNING txid, position, tags
"""  # noqa: S608  (our own words)

# Behind their events: a trigger lets no tag of an event go that is there.
_REMOVE_TAGS = """
DELETE FROM event_tags t
USING unnest($1::text[], $2::xid8[], $3::bigint[]) AS r (tag, txid, position)
WHERE (t.tag, t.txid, t.position) = (r.tag, r.txid, r.position)
"""

# Copies: what a projection could not apply is kept with its bytes, and a state with all of them.
# Of all streams that ever were tombstoned: one that was read before may be written after.
_REMOVE_COPIES = (
    "DELETE FROM snapshots s USING tombstones t WHERE s.stream_id = t.stream_id",
    "DELETE FROM dead_letters d USING tombstones t WHERE d.stream_id = t.stream_id",
)


@dataclass(frozen=True, slots=True)
class Removed:
    """How many events of how many tombstoned streams were removed from the database."""

    streams: int
    events: int


async def close(
    connection: Connection,
    stream_id: str,
    kind: str,
    expected: ExpectedVersion,
    metadata: Mapping[str, str],
    tenant: str | None,
    is_in_line: bool,
) -> Appended:
    """Call this in a transaction; raises the driver's unique violation when it lost a race."""
    key = owned_name(tenant, stream_id)
    if is_in_line:
        await wait_in_line(connection, [key])
    version, last_type = await last_event(connection, key)
    if is_closed_so(stream_id, kind, expected, version, last_type):
        cursor = await cursor_at(connection, key, version)
        return Appended(version, version, cursor, replayed=True)
    at = version + 1
    row = await connection.fetchrow(_CLOSE, key, at, uuid4(), kind, metadata_json(metadata), tenant)
    assert row is not None, "it was stored, or the statement failed"
    if kind == TOMBSTONED:
        await connection.execute("INSERT INTO tombstones (stream_id) VALUES ($1)", key)
        await connection.execute("INSERT INTO removals (stream_id) VALUES ($1)", key)
        await connection.execute("DELETE FROM snapshots WHERE stream_id = $1", key)
    return Appended(at, at, Cursor(row[0], row[1]))


async def remove_tombstoned(
    database: Database, *, older_than: timedelta = REMOVED_AFTER
) -> Removed:
    """Call this now and then, as who owns the tables, to remove events of tombstoned streams.

    Of those that were tombstoned a minute ago or earlier; the others wait for the next call.
    Their copies go too: what projections could not apply of them, and late snapshots. A thousand
    rows a transaction, while everything else goes on; cancelled or killed, the rest is there for
    the next call. Raises `StoreRejected` for a role that may not.
    """
    streams = events = 0
    while (stream_id := await database.run(_waiting, older_than)) is not None:
        removed, is_done = await database.transact(_remove_some, stream_id)
        events += removed
        streams += is_done
    await database.transact(_remove_copies)
    return Removed(streams, events)


async def _waiting(connection: Connection, older_than: timedelta) -> str | None:
    name: str | None = await connection.fetchval(
        "SELECT stream_id FROM removals WHERE since <= clock_timestamp() - $1::interval"
        " ORDER BY stream_id LIMIT 1",
        older_than,
    )
    return name


async def _remove_some(connection: Connection, stream_id: str) -> tuple[int, bool]:
    """Remove a part of a stream: how many events, and whether they were the last."""
    # Another process may do the same: one at a time, and the other finds it done.
    held = "SELECT FROM removals WHERE stream_id = $1 FOR UPDATE"
    if await connection.fetchrow(held, stream_id) is None:
        return 0, False
    rows = await connection.fetch(_REMOVE, stream_id)
    tags = [(tag, row["txid"], row["position"]) for row in rows for tag in row["tags"] or ()]
    if tags:
        columns = [list(column) for column in zip(*tags, strict=True)]
        await connection.execute(_REMOVE_TAGS, *columns)
    if len(rows) == REMOVED_AT_ONCE:
        return len(rows), False
    await connection.execute("DELETE FROM removals WHERE stream_id = $1", stream_id)
    return len(rows), True


async def _remove_copies(connection: Connection) -> None:
    for statement in _REMOVE_COPIES:
        await connection.execute(statement)
