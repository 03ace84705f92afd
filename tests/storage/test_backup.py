"""A dump restored into a new cluster: refused as moved, renumbered, and then it goes on."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.persistence import (
    Appended,
    Bookmark,
    Condition,
    ConditionFailed,
    Cursor,
    CursorOutdated,
    GenerationState,
    Idempotent,
    ProjectionBatch,
    StreamId,
    Tagged,
)
from storage.errors import (
    InvalidField,
    RewindNotLossless,
    StatementRefused,
    StoreMoved,
    StoreRewound,
)
from storage.postgres import (
    Connection,
    Database,
    EmbeddedServer,
    PostgresEventStore,
    PostgresProjections,
    accept_rewind,
    check_migrations,
    migrate,
    open_database,
    renumber,
)
from storage.postgres.embedded.server import programs, start
from storage.testing import TemporaryServer
from storage.testing.event_store import read_to_end
from storage.testing.samples import new_event, new_events
from tests.patience import PATIENT_POOL
from tests.processes.prepared import start_prepared

pytestmark = pytest.mark.slow

A, B = StreamId("order-a"), StreamId("order-b")


@pytest.fixture
def other_cluster(tmp_path: Path) -> Iterator[EmbeddedServer]:
    server = start(tmp_path, extra=("fsync=off",))
    yield server
    server.stop()


def _run(program: str, *args: str) -> None:
    subprocess.run([str(programs() / program), *args], check=True, capture_output=True)


async def _place(database: Database) -> list[tuple[str, int]]:
    pages = await read_to_end(PostgresEventStore(database), limit=50)
    return [(event.stream_id, event.version) for page in pages for event in page.events]


async def test_a_dump_goes_on_in_a_new_cluster(
    database_url: str, tmp_path: Path, other_cluster: EmbeddedServer
) -> None:
    # STORE-24
    dump = tmp_path / "greenroom.dump"
    async with open_database(database_url, settings=PATIENT_POOL) as database:
        store = PostgresEventStore(database)
        for _ in range(4):
            await store.append(A, new_events(2))
            await store.append(B, new_events(1))
        await store.append(A, new_events(2))
        middle = await store.append(B, new_events(1))
        for _ in range(3):
            await store.append(B, new_events(2))
        lineage = await store.lineage()
        projections = PostgresProjections(database)
        begun = await projections.open("totals", 1, 1, GenerationState.LIVE)
        assert await projections.commit(ProjectionBatch(begun, middle.cursor))
        before = await _place(database)
        behind = (await store.lag(middle.cursor)).events
    _run("pg_dump", "--format=custom", f"--file={dump}", database_url)
    _run(
        "pg_restore",
        "--clean",
        "--if-exists",
        "--no-owner",
        f"--dbname={other_cluster.url}",
        str(dump),
    )
    async with open_database(other_cluster.url, settings=PATIENT_POOL) as database:
        with pytest.raises(StoreMoved):
            await migrate(database)
        renumbered = await renumber(database)
        assert renumbered.events == len(before)
        assert await migrate(database) == 0
        store = PostgresEventStore(database)
        assert await store.lineage() == renumbered.lineage != lineage
        assert await _place(database) == before
        (moved,) = await PostgresProjections(database).checkpoints("totals")
        assert moved.lineage == renumbered.lineage
        assert (await store.lag(moved.cursor)).events == behind == 6
        appended = await store.append(A, new_events(1), expected=10)
        assert appended.version == 11
        assert appended.cursor > Cursor(1, len(before))
        assert await _place(database) == [*before, (A, 11)]


async def test_kept_answers_and_waiting_messages_follow_the_new_order(database: Database) -> None:
    # STORE-24, STORE-52, STORE-55
    store = PostgresEventStore(database)
    key = Idempotent("orders", "k", b"hash")
    await store.append(B, new_events(3))
    await store.append(A, new_events(2), idempotency=key)

    async def queue(connection: Connection) -> None:
        # As two transactions leave them of which the later one drew its ids first.
        await connection.execute(
            "INSERT INTO outbox (id, txid, partition, kind, target, key, message_id, payload)"
            " OVERRIDING SYSTEM VALUE SELECT id, txid::text::xid8, 0, 'bus', 't', key,"
            " gen_random_uuid(), convert_to(wanted::text, 'UTF8') FROM (VALUES"
            " (11, 90, 'k', 3), (12, 90, 'k', 4), (13, 70, 'k', 1), (14, 80, 'k', 2),"
            " (15, 80, 'other', 1), (10, 95, 'k', 5)) AS v (id, txid, key, wanted)"
        )

    async def waiting(connection: Connection) -> list[str]:
        rows = await connection.fetch(
            "SELECT payload FROM outbox WHERE key = 'k' ORDER BY txid, id"
        )
        return [bytes(row[0]).decode() for row in rows]

    await database.run(queue)
    await renumber(database)
    again = await store.append(A, new_events(2), idempotency=key)
    assert again == Appended(2, 1, (await store.read_all()).events[-1].cursor, replayed=True)
    assert again.cursor == Cursor(1, 5)
    assert await database.run(waiting) == ["1", "2", "3", "4", "5"]


async def test_tags_follow_the_new_order(database: Database) -> None:
    # STORE-24, STORE-7
    store, query = PostgresEventStore(database), [Tagged(("a",)), Tagged(("b",))]
    for number in range(6):
        await store.append(B, new_events(1))
        await store.append(A, [new_event(tags=("a", f"n-{number}")), new_event(tags=("b",))])
    before = [event.event_id for event in (await store.read_tagged(query)).events]
    await renumber(database)
    page = await store.read_tagged(query)
    assert [event.event_id for event in page.events] == before
    assert page.next == Cursor(1, 18)
    with pytest.raises(ConditionFailed):
        await store.append(B, new_events(1), condition=Condition(query, Cursor(1, 17)))
    await store.append(B, [new_event(tags=("a",))], condition=Condition(query, page.next))

    async def change(connection: Connection) -> None:
        await connection.execute("DELETE FROM event_tags")

    with pytest.raises(StatementRefused, match="23001"):
        await database.run(change)


async def test_renumbered_events_are_immutable_again(
    database: Database, postgres_server: TemporaryServer
) -> None:
    # STORE-31
    await PostgresEventStore(database).append(A, new_events(3))
    await renumber(database)

    async def change(connection: Connection) -> None:
        await connection.execute("DELETE FROM events")

    with pytest.raises(StatementRefused, match="23001"):
        await database.run(change)
    assert await _place(database) == [(A, 1), (A, 2), (A, 3)]


def _copy_for_recovery(state: Path, copy: Path) -> None:
    shutil.copytree(state, copy)
    data = copy / "postgres"
    for path in (data, *data.rglob("*")):
        shutil.chown(path, (state / "postgres").stat().st_uid)
    (data / "recovery.signal").touch()


# Of the archive that a real recovery reads, there is nothing more to come.
_RECOVERY = ("fsync=off", "restore_command=/bin/false")


async def _written_to(connection: Connection) -> str:
    return str(await connection.fetchval("SELECT pg_current_wal_lsn()::text"))


async def _follow_to_end(store: PostgresEventStore, kept: str | None) -> tuple[list[int], str]:
    """What a follower elsewhere reads from the place it has kept, and the place it keeps then."""
    versions, place = list[int](), None if kept is None else Bookmark.parse(kept)
    while True:
        page = await store.read_all(after=place, limit=3)
        versions += [event.version for event in page.events]
        place = page.bookmark
        if page.is_last:
            return versions, str(place)


@pytest.mark.parametrize("is_lossless", [False, True])
async def test_a_store_that_went_back_in_time_is_refused_until_that_is_known(
    tmp_path: Path, is_lossless: bool
) -> None:
    # STORE-26
    state, copy = tmp_path / "before", tmp_path / "after"
    first = start_prepared(state)
    try:
        async with open_database(first.url, settings=PATIENT_POOL) as database:
            await migrate(database)
            store = PostgresEventStore(database)
            await store.append(A, new_events(3))
            _, early = await _follow_to_end(store, None)
            copied = await database.run(_written_to)
        first.stop()
        _copy_for_recovery(state, copy)
        first = start(state, extra=("fsync=off",))
        async with open_database(first.url, settings=PATIENT_POOL) as database:
            assert await migrate(database) == 0
            store = PostgresEventStore(database)
            lineage = await store.lineage()
            for _ in range(8):
                await store.append(A, new_events(1))
            read, kept = await _follow_to_end(store, early)
            assert read == list(range(4, 12))
            lost = await database.run(_written_to)
    finally:
        first.stop()
    second = start(copy, extra=_RECOVERY)
    try:
        async with open_database(second.url, settings=PATIENT_POOL) as database:
            with pytest.raises(StoreRewound) as caught:
                await migrate(database)
            assert (caught.value.before, caught.value.now) == (1, 2)
            with pytest.raises(StoreRewound):
                await check_migrations(database)
            store = PostgresEventStore(database)
            # The loss that the refusal is there for: a bare cursor tells its reader nothing.
            await store.append(A, new_events(1), expected=3)
            bare = Bookmark.parse(kept).cursor
            assert len((await store.read_all(after=bare)).events) == 0
            for wrong in ("", "0", "0/", "0/00000000G", "0/3; DROP TABLE events"):
                with pytest.raises(InvalidField):
                    await accept_rewind(database, is_lossless=True, written_to=wrong)
            with pytest.raises(InvalidField):
                await accept_rewind(database, written_to=copied)
            with pytest.raises(RewindNotLossless) as refused:
                await accept_rewind(database, is_lossless=True, written_to=lost)
            assert refused.value.written == lost
            assert await store.lineage() == lineage
            accepted = await accept_rewind(
                database, is_lossless=is_lossless, written_to=copied if is_lossless else None
            )
            assert accepted.timeline == 2
            assert (accepted.lineage == lineage) is is_lossless
            assert await migrate(database) == 0
            await store.append(A, new_events(4))
            now = list(range(1, 9))
            if is_lossless:
                read, _ = await _follow_to_end(store, early)
                assert read == now[3:]
            else:
                for outdated in (kept, early):
                    with pytest.raises(CursorOutdated):
                        await _follow_to_end(store, outdated)
                read, kept = await _follow_to_end(store, None)
                assert read == now
                await store.append(A, new_events(2))
                assert (await _follow_to_end(store, kept))[0] == [9, 10]
    finally:
        second.stop()
