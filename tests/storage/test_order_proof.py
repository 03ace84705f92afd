"""Nothing is skipped or given twice, whoever is killed: the proof, and that it can fail.

Random writers in processes of their own, one of them killed, the server killed and brought
back. The same run has a naive reader, which remembers positions only: it must miss events.

Nothing here counts seconds (REL-2): each step waits until enough is written, or has happened.
A slow machine takes longer, and gives up only after minutes.
"""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator, Sized
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import pytest
import trio

from actors.persistence import Cursor, NewEvent, StoredEvent, StreamId
from storage.errors import StoreError, StoreUnavailable
from storage.postgres import Connection, Database, PostgresEventStore, migrate, open_database
from storage.postgres.embedded.server import EmbeddedServer
from storage.testing.event_store import assert_streams_ascend, following, read_to_end
from storage.testing.samples import new_events
from tests.patience import PATIENT_POOL
from tests.processes.prepared import start_prepared

pytestmark = pytest.mark.slow

T = TypeVar("T")

# Of each of the two halves, before and after the server is killed.
_EVENTS = 300
# A whole run takes about ten seconds; a machine on which it takes ten minutes runs nothing.
_PATIENCE_S = 600.0
_ROOT = Path(__file__).parents[2]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    made = start_prepared(tmp_path, extra=("fsync=off", "max_connections=100"))
    yield made
    made.stop()


@contextmanager
def _writer(url: str, seed: int) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.storage.random_writer", url, str(seed)], cwd=_ROOT
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def _positions(connection: Connection, after: int) -> list[int]:
    rows = await connection.fetch(
        "SELECT position FROM events WHERE position > $1 ORDER BY position", after
    )
    return [row[0] for row in rows]


async def _table(connection: Connection) -> list[Cursor]:
    rows = await connection.fetch("SELECT txid, position FROM events ORDER BY txid, position")
    return [Cursor(row[0], row[1]) for row in rows]


async def _count(connection: Connection) -> int:
    return int(await connection.fetchval("SELECT count(*) FROM events"))


async def _open_transactions(connection: Connection) -> int:
    return int(
        await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE backend_xid IS NOT NULL"
        )
    )


async def _follow(database: Database, seen: list[StoredEvent]) -> None:
    async with following(PostgresEventStore(database, poll_s=0.1)) as pages:
        async for page in pages:
            seen.extend(page.events)


async def _follow_naively(database: Database, seen: list[int]) -> None:
    while True:
        try:
            seen.extend(await database.run(_positions, seen[-1] if seen else 0))
        except StoreError:
            await trio.sleep(0.05)


async def _ask(database: Database, work: Callable[[Connection], Coroutine[object, object, T]]) -> T:
    """Run work on the database, again while the server is away."""
    while True:
        try:
            return await database.run(work)
        except StoreError:
            await trio.sleep(0.05)


async def _until_written(database: Database, count: int) -> None:
    while await _ask(database, _count) < count:  # noqa: ASYNC110  (other processes write)
        await trio.sleep(0.05)


async def _until_fooled(database: Database, naive: list[int]) -> None:
    """Wait until an event lies behind the naive reader that it has not seen, and so never will."""
    while True:
        stored = await _ask(database, partial(_positions, after=0))
        if naive and any(position < naive[-1] for position in set(stored) - set(naive)):
            return
        await trio.sleep(0.05)


async def _until_grown(things: Sized, by: int) -> None:
    wanted = len(things) + by
    while len(things) < wanted:  # noqa: ASYNC110  (of tasks that go on)
        await trio.sleep(0.01)


async def _kill(server: EmbeddedServer) -> None:
    pid = server.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    while server.is_running:  # noqa: ASYNC110  (a process has no event)
        await trio.sleep(0.01)


async def _restart(server: EmbeddedServer) -> None:
    await trio.to_thread.run_sync(server.restart)


async def test_nothing_is_skipped_or_doubled(server: EmbeddedServer) -> None:
    # STORE-20, STORE-21, REL-81
    seed = int(os.environ.get("SEED", random.randrange(10**6)))
    print(f"SEED={seed}")
    events: list[StoredEvent] = []
    naive: list[int] = []
    async with (
        open_database(server.url, settings=PATIENT_POOL) as database,
        trio.open_nursery() as nursery,
    ):
        await migrate(database)
        nursery.start_soon(_follow, database, events)
        nursery.start_soon(_follow_naively, database, naive)
        with trio.fail_after(_PATIENCE_S):
            with _writer(server.url, seed), _writer(server.url, seed + 1) as victim:
                await _until_written(database, _EVENTS)
                victim.kill()
                await _until_written(database, await _ask(database, _count) + 20)
                await _kill(server)
                await _restart(server)
                with _writer(server.url, seed + 2):
                    await _until_written(database, await _ask(database, _count) + _EVENTS)
                    await _until_fooled(database, naive)
            while await _ask(database, _open_transactions):  # noqa: ASYNC110  (of other processes)
                await trio.sleep(0.01)
            # One more, for the reader to end with: whatever it gives twice comes before it.
            last = await PostgresEventStore(database).append(StreamId("last-1"), new_events(1))
            while not events or events[-1].cursor != last.cursor:  # noqa: ASYNC110  (the one under test)
                await trio.sleep(0.01)
            wanted = await _ask(database, _table)
        nursery.cancel_scope.cancel()
    seen = [event.cursor for event in events]
    assert len(wanted) > 2 * _EVENTS
    assert seen == wanted
    assert seen == sorted(set(seen))
    assert_streams_ascend(events)
    # The proof proves something: a cursor of positions alone misses what commits late.
    assert set(naive) < {cursor.position for cursor in wanted}


async def test_a_killed_server_loses_and_doubles_nothing(server: EmbeddedServer) -> None:
    # REL-81, STORE-18: each caller gets an answer, the ids settle the unknown ones
    acknowledged: dict[UUID, int] = {}
    unknown: list[list[NewEvent]] = []
    one = StreamId("order-1")

    async def write(store: PostgresEventStore) -> None:
        while True:
            events = new_events(2)
            try:
                appended = await store.append(one, events)
            except StoreError:
                unknown.append(events)
                await trio.sleep(0.02)
            else:
                acknowledged[events[0].event_id] = appended.first_version

    reached: dict[StreamId, list[UUID]] = {}

    async def write_on(store: PostgresEventStore, stream_id: StreamId) -> None:
        """In company: one event after the other, each until it is known to be stored."""
        ids = reached[stream_id] = []
        while True:
            (event,) = new_events(1)
            ids.append(event.event_id)
            while True:
                try:
                    appended = await store.append(stream_id, [event], expected=len(ids) - 1)
                except StoreUnavailable:
                    await trio.sleep(0.02)
                else:
                    assert appended.version == len(ids)
                    break

    async with open_database(server.url, settings=PATIENT_POOL) as database:
        await migrate(database)
        store = PostgresEventStore(database)
        with trio.fail_after(_PATIENCE_S):
            async with trio.open_nursery() as nursery:
                for number in range(8):
                    nursery.start_soon(write, store)
                    nursery.start_soon(write_on, store, StreamId(f"user-{number}"))
                for _ in range(3):
                    await _until_grown(acknowledged, 20)
                    await _kill(server)
                    await _until_grown(unknown, 1)
                    await _restart(server)
                await _until_grown(acknowledged, 20)
                while min(map(len, reached.values())) <= 4:  # noqa: ASYNC110
                    await trio.sleep(0.01)
                nursery.cancel_scope.cancel()
        assert unknown
        for events in unknown:
            await store.append(one, events)
            await store.append(one, events)
        stored = [event async for event in store.load(one)]
        for stream_id, ids in reached.items():
            kept = [event.event_id async for event in store.load(stream_id)]
            # The last one may have been under way.
            assert kept in (ids, ids[:-1])
            assert len(kept) > 3
        assert store.gather_stats().rows > 0
        await read_to_end(store, limit=500)
    assert [event.version for event in stored] == list(range(1, len(stored) + 1))
    versions = {event.event_id: event.version for event in stored}
    assert len(versions) == len(stored)
    assert {id_: versions.get(id_) for id_ in acknowledged} == acknowledged
    assert {event.event_id for events in unknown for event in events} <= set(versions)
