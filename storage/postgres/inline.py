"""Inline projections in PostgreSQL; the twin of `storage/memory/inline.py`.

Runs on the asyncio thread, in the append's transaction. Reading a document takes a lock on
its key, also when there is none yet: two appends cannot both find a name free.
"""

from collections.abc import Sequence

import asyncpg
import msgspec

from actors.persistence import (
    Appended,
    AppendRequest,
    Document,
    InlineProjectionFailed,
    InlineProjections,
    Projection,
    StoredEvent,
    inline_collection,
)
from storage.postgres.connecting.session import GONE, Connection
from storage.postgres.documents import write
from storage.postgres.event_rows import COLUMNS, to_event

_EVENTS = f"""
SELECT {COLUMNS} FROM events WHERE stream_id = $1 AND version BETWEEN $2 AND $3 ORDER BY version
"""  # noqa: S608  (our own columns)

_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended($1 || ' ' || $2, 0))"
_READ = "SELECT document FROM documents WHERE collection = $1 AND key = $2"

# What a statement of the projection's own is refused with: its rule, or its bug.
_REFUSALS = (
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.DataError,
    asyncpg.RaiseError,
    asyncpg.SyntaxOrAccessError,
)


async def apply_inline(
    connection: Connection,
    inline: InlineProjections,
    request: AppendRequest,
    appended: Appended,
) -> None:
    """Call this after the events were inserted; raises `InlineProjectionFailed`."""
    wanting = inline.wanting(request.events)
    if not wanting or appended.replayed:
        return
    rows = await connection.fetch(
        _EVENTS, request.stream_id, appended.first_version, appended.version
    )
    events = [to_event(row) for row in rows]
    for one in wanting:
        try:
            await _apply(connection, inline, one, events)
        except InlineProjectionFailed as failed:
            # The database went away below the projection, which is not to blame.
            if isinstance(failed.error, GONE) and not isinstance(failed.error, _REFUSALS):
                raise failed.error from None
            raise


async def _apply(
    connection: Connection,
    inline: InlineProjections,
    projection: Projection,
    events: Sequence[StoredEvent],
) -> None:
    collection = inline_collection(projection)

    async def read(key: str) -> Document | None:
        await connection.execute(_LOCK, collection, key)
        text = await connection.fetchval(_READ, collection, key)
        found: Document | None = None if text is None else msgspec.json.decode(text)
        return found

    tx = await inline.apply(projection, events, read)
    last = events[-1]
    try:
        await write(connection, collection, last.cursor, tx.documents, tx.statements)
    except _REFUSALS as error:
        raise InlineProjectionFailed(projection.name, last.stream_id, error) from error
