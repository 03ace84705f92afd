"""What is measured of the store: one writer that appends small events, one after the other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from actors.persistence import EventStore, NewEvent, StreamId
from storage.memory import MemoryDatabase, MemoryEventStore
from storage.postgres import Database, PostgresEventStore
from web.cli.running.measuring.words import Turn
from web.wiring.environment import SystemIds

# As an event with a handful of fields.
DATA = b'{"order_id": "0191d3b0-0000-7000-8000-000000000000", "cents": 1200, "reason": "bench"}'
# Of one stream; then another begins.
STREAM_EVENTS = 100
# What is kept in memory is let go of behind so many: a minute of it would be gigabytes.
KEPT_EVENTS_MAX = 10_000


@asynccontextmanager
async def open_memory(_: Database | None) -> AsyncIterator[Turn]:
    """Call this to append one event to the store in memory."""
    yield _appending(lambda: MemoryEventStore(MemoryDatabase()), KEPT_EVENTS_MAX)


@asynccontextmanager
async def open_postgres(database: Database | None) -> AsyncIterator[Turn]:
    """Call this to append one event to PostgreSQL, from call to commit."""
    assert database is not None, "it needs one"
    yield _appending(lambda: PostgresEventStore(database))


def _appending(make: Callable[[], EventStore], anew_after: int | None = None) -> Turn:
    store, ids, count = make(), SystemIds(), 0

    async def turn() -> None:
        nonlocal store, count
        if anew_after is not None and count and not count % anew_after:
            store = make()
        stream = StreamId(f"bench-{count // STREAM_EVENTS}")
        count += 1
        await store.append(stream, [NewEvent(ids.new_id(), "Measured", DATA)])

    return turn
