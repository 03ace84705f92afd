"""The drill: backups and writes, then a moment is brought back, and holds exactly its events.

`EVENTS` and `SECONDS` make it long (`make soak ONLY=backups`); its figures are printed.
"""

import os
import time
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from uuid import UUID

import pytest
import trio

from actors.persistence import Bookmark, CursorOutdated, StreamId
from storage.errors import StoreRewound
from storage.postgres import (
    Connection,
    Database,
    PostgresEventStore,
    accept_rewind,
    check_store,
    migrate,
    open_database,
)
from storage.postgres.embedded.backups.restoring import Restoring
from storage.postgres.embedded.backups.taking import Source, take
from storage.postgres.embedded.server import start
from storage.testing.samples import new_event, new_events
from tests.patience import PATIENT_POOL, until
from tests.storage.backups.kit import EXTRA, archive_of, begin, close_log, moment, names, wanted

pytestmark = pytest.mark.slow

EVENTS = int(os.environ.get("EVENTS", "1500"))
SECONDS = float(os.environ.get("SECONDS", "3"))
WRITERS, PER_S = 4, 200


async def _fill(store: PostgresEventStore, count: int) -> None:
    async with trio.open_nursery() as nursery:
        for stream in range(8):
            nursery.start_soon(_fill_stream, store, StreamId(f"order-{stream}"), count // 8)


async def _fill_stream(store: PostgresEventStore, stream: StreamId, count: int) -> None:
    while count > 0:
        await store.append(stream, new_events(min(count, 50)))
        count -= 50


async def _writing(store: PostgresEventStore, number: int, until_s: float) -> None:
    stream = StreamId(f"writer-{number}")
    while trio.current_time() < until_s:
        next_at = trio.current_time() + WRITERS / PER_S
        await store.append(stream, [new_event()])
        await trio.sleep_until(next_at)


async def _committed(database: Database, by: datetime | None) -> Sequence[UUID]:
    """The events whose transaction was committed by a moment, as the server itself has noted it."""

    async def ask(connection: Connection) -> Sequence[UUID]:
        # The first transactions of a cluster: their short number is the whole one.
        rows = await connection.fetch(
            "SELECT event_id FROM events WHERE $1::timestamptz IS NULL"
            " OR pg_xact_commit_timestamp(txid::text::xid) <= $1 ORDER BY event_id",
            by,
        )
        return [row[0] for row in rows]

    return await database.run(ask)


async def _write_on(source: Source) -> tuple[datetime, str]:
    """Write at 200 a second; returns a moment amid it, and how far a follower has read then."""
    async with open_database(source.url, settings=PATIENT_POOL) as database:
        store = PostgresEventStore(database)
        until_s = trio.current_time() + SECONDS
        amid = list[datetime]()

        async def look() -> None:
            await trio.sleep_until(until_s - SECONDS * 4 / 5)
            amid.append(await trio.to_thread.run_sync(moment, source))

        async with trio.open_nursery() as nursery:
            for number in range(WRITERS):
                nursery.start_soon(_writing, store, number, until_s)
            nursery.start_soon(look)
        place, is_last = None, False
        while not is_last:
            page = await store.read_all(after=place, limit=5000)
            place, is_last = page.bookmark, page.is_last
        return amid[0], str(place)


def test_a_moment_amid_writing_comes_back_with_exactly_its_events(tmp_path: Path) -> None:
    # OPS-1, OPS-2, STORE-26
    server, source = begin(tmp_path)
    archive = archive_of(tmp_path)

    async def fill(count: int) -> None:
        async with open_database(server.url, settings=PATIENT_POOL) as database:
            await migrate(database)
            await _fill(PostgresEventStore(database), count)

    async def expect(by: datetime | None) -> Sequence[UUID]:
        async with open_database(server.url, settings=PATIENT_POOL) as database:
            return await _committed(database, by)

    try:
        trio.run(fill, EVENTS * 2 // 3)
        base = take(source, archive, "base", bool)
        trio.run(fill, EVENTS // 3)
        incremental = take(source, archive, "incremental", bool)
        assert (incremental.parent, incremental.kind) == (base.number, "incremental")
        amid, place = trio.run(_write_on, source)
        close_log(source, archive)
        expected, everything = trio.run(expect, amid), trio.run(expect, None)
    finally:
        server.stop()
    assert EVENTS < len(expected) < len(everything)
    restoring = Restoring(archive, tmp_path / "back", bool)
    began = time.monotonic()
    recovered = restoring.begin(wanted(amid))
    recovered_s = time.monotonic() - began
    assert (recovered.backup, recovered.timeline) == (incremental, 2)
    assert recovered.last_commit is not None
    assert recovered.last_commit <= amid
    restoring.keep()
    assert names(tmp_path / "back") == ["postgres"]
    print(
        f"\n{len(everything)} events, base {base.size_bytes >> 20} MB, incremental "
        f"{incremental.size_bytes >> 20} MB; {len(expected)} restored in {recovered_s:.1f} s"
    )
    trio.run(_served_again, tmp_path / "back", expected, place)


async def _served_again(folder: Path, expected: Sequence[UUID], place: str) -> None:
    """What the operator does then: the store asks once, and goes on."""
    server = await trio.to_thread.run_sync(partial(start, folder, extra=EXTRA))
    try:
        async with open_database(server.url, settings=PATIENT_POOL) as database:
            with pytest.raises(StoreRewound):
                await migrate(database)
            assert await _committed(database, None) == expected
            await accept_rewind(database)
            assert await migrate(database) == 0
            found = await check_store(database)
            assert (found.events, found.problems) == (len(expected), ())
            store = PostgresEventStore(database)
            with pytest.raises(CursorOutdated):
                await store.read_all(after=Bookmark.parse(place))
            await store.append(StreamId("order-0"), new_events(1))
            assert len(await _committed(database, None)) == len(expected) + 1
    finally:
        await trio.to_thread.run_sync(server.stop)


async def test_what_was_written_is_archived_by_itself_and_survives_the_disk(tmp_path: Path) -> None:
    # OPS-2: nobody closes the log here; what is older than the time-out is safe
    server, source = await trio.to_thread.run_sync(partial(begin, tmp_path, every_s=1))
    archive = archive_of(tmp_path)
    try:
        async with open_database(server.url, settings=PATIENT_POOL) as database:
            await migrate(database)
            await trio.to_thread.run_sync(partial(take, source, archive, "base", bool))
            store = PostgresEventStore(database)
            await store.append(StreamId("order-a"), new_events(3))
            name = await trio.to_thread.run_sync(
                source.ask, "SELECT pg_walfile_name(pg_current_wal_lsn())"
            )
            await until((archive.log / f"{name}.gz").exists)
            expected = await _committed(database, None)
    finally:
        # As a machine that is gone: it closes nothing.
        await trio.to_thread.run_sync(partial(server.stop, timeout_s=0))
    restoring = Restoring(archive, tmp_path / "back", bool)
    recovered = await trio.to_thread.run_sync(partial(restoring.begin, wanted()))
    try:
        async with open_database(recovered.server.url, settings=PATIENT_POOL) as database:
            assert await _committed(database, None) == expected
    finally:
        await trio.to_thread.run_sync(restoring.drop)
    assert not (tmp_path / "back").exists()
