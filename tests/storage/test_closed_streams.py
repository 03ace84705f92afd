"""Closed streams in both engines, and what only a database can show of them."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta

import pytest
import trio

from actors.chat import LOBBY, ROOM_NAMES, ChatLog, ChatLogUnavailable, Posted
from actors.persistence import (
    ANY,
    ARCHIVED,
    AppendRequest,
    EventStore,
    NewDeadLetter,
    Snapshot,
    StreamGone,
    StreamId,
)
from storage.errors import MigrationRefused, StatementRefused, StoreRejected
from storage.keyring import SubjectKeyring
from storage.memory import MemoryChatLog, MemoryDatabase, MemoryEventStore
from storage.postgres import (
    Connection,
    Database,
    PostgresChatLog,
    PostgresDeadLetters,
    PostgresEventStore,
    PostgresSubjectKeys,
    Removed,
    migrate,
    migrate_down,
    open_database,
    remove_tombstoned,
)
from storage.postgres.events.gathering import Gatherer
from storage.testing import ClosedStreamsSuite
from storage.testing.chat_log import draft
from storage.testing.event_store import versions
from storage.testing.kept import Kept, kept_in_memory, kept_in_postgres
from storage.testing.private import MASTER
from storage.testing.samples import PATIENCE_S, new_event, new_events
from tests.patience import PATIENT_POOL, until
from tests.storage.plans import rows_touched

NOW = timedelta(0)
A, B = StreamId("order-a"), StreamId("order-b")


class TestMemoryClosedStreams(ClosedStreamsSuite):
    @pytest.fixture
    def kept(self) -> Kept:
        return kept_in_memory()


class TestPostgresClosedStreams(ClosedStreamsSuite):
    @pytest.fixture
    def kept(self, database: Database) -> Kept:
        return kept_in_postgres(database)


async def test_statements_of_many_see_what_is_closed_too(database: Database) -> None:
    # STORE-28, STORE-29, PERF-30: every single event goes by the shared statement here
    store = PostgresEventStore(database, gatherer=Gatherer(database, hold=trio.lowlevel.checkpoint))
    kept = replace(kept_in_postgres(database), events=store)
    await ClosedStreamsSuite().test_an_archived_stream_takes_no_event_and_gives_all(kept)
    await store.append(A, new_events(3), expected=0)
    await store.tombstone(A)
    # One of its events has left already: its place is free.
    await database.run(_execute, "DELETE FROM events WHERE stream_id = 'order-a' AND version = 3")

    async def append(stream_id: StreamId, expected: int) -> None:
        with pytest.raises(StreamGone):
            await store.append(stream_id, new_events(1), expected=expected)

    for _ in range(2):
        # A chain of followers, and others beside it.
        async with trio.open_nursery() as nursery:
            for expected in range(6):
                nursery.start_soon(append, A, expected)
        await remove_tombstoned(database, older_than=NOW)
    assert store.gather_stats().rows_per_statement > 1
    assert await store.head(A) == 4
    assert await database.run(_count, "events WHERE stream_id = 'order-a'") == 1


async def _execute(connection: Connection, statement: str) -> str:
    return str(await connection.execute(statement))


async def _are_others_busy(connection: Connection) -> bool:
    found: bool = await connection.fetchval(
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()"
        " AND pid <> pg_backend_pid() AND backend_type = 'client backend' AND state <> 'idle')"
    )
    return found


async def _count(connection: Connection, table: str) -> int:
    return int(await connection.fetchval(f"SELECT count(*) FROM {table}"))  # noqa: S608  (ours)


async def test_rows_leave_the_log_for_a_tombstone_only(database: Database) -> None:
    # STORE-29, STORE-31: whoever asks, and never the tombstone itself
    store = PostgresEventStore(database)
    for stream_id in (A, B, StreamId("order-c")):
        await store.append(stream_id, new_events(2))
    await store.archive(B)
    await store.tombstone(A)
    for statement in (
        "DELETE FROM events",
        "DELETE FROM events WHERE stream_id = 'order-b'",
        "DELETE FROM events WHERE stream_id IN ('order-a', 'order-c') AND version = 1",
        "DELETE FROM events WHERE stream_id = 'order-a'",
        "UPDATE events SET event_data = '' WHERE stream_id = 'order-a'",
        "TRUNCATE events",
    ):
        with pytest.raises(StatementRefused, match="RestrictViolation"):
            await database.run(_execute, statement)
    # Some are gone already, as half-way through a removal: what is free is not to be had.
    await database.run(_execute, "DELETE FROM events WHERE stream_id = 'order-a' AND version = 2")
    for events, expected in ((new_events(1), 1), (new_events(2), 1), (new_events(1), 0)):
        with pytest.raises(StreamGone):
            await store.append(A, events, expected=expected)
    # Not yet: an append that saw the stream open may still be under way.
    assert await remove_tombstoned(database) == Removed(streams=0, events=0)
    assert await remove_tombstoned(database, older_than=NOW) == Removed(streams=1, events=1)
    assert await remove_tombstoned(database, older_than=NOW) == Removed(streams=0, events=0)
    with pytest.raises(StatementRefused, match="RestrictViolation"):
        await database.run(_execute, "DELETE FROM events WHERE stream_id = 'order-a'")
    assert await database.run(_count, "events") == 6


async def test_removing_takes_all_copies_and_can_be_cut_short(
    database: Database, database_url: str
) -> None:
    # STORE-29: by two at once, one of them given up half-way
    store, letters = PostgresEventStore(database), PostgresDeadLetters(database)
    for _ in range(4):
        await store.append(A, [new_event(tags=("a", f"b-{n % 9}")) for n in range(800)])
    await store.append(B, [new_event(tags=("a", "c"))])
    await store.append(B, new_events(4))
    for stream_id in (A, B):
        await letters.add(
            NewDeadLetter("projection", "p", f"m-{stream_id}", "broke", stream_id=stream_id)
        )
    await store.tombstone(A)
    # What was saved while the stream was tombstoned: nobody is given it, and it goes as well.
    await database.run(
        _execute, "INSERT INTO snapshots VALUES ('order-a', 7, 't', '{}'), ('order-b', 1, 't', '')"
    )
    kept = kept_in_postgres(database)
    assert await kept.snapshots.latest(A) is None
    done = list[Removed]()
    async with open_database(database_url, settings=PATIENT_POOL) as other:

        async def remove(by: Database) -> None:
            done.append(await remove_tombstoned(by, older_than=NOW))

        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(remove, other)
                while await database.run(_count, "events") > 3000:
                    await trio.lowlevel.checkpoint()
                scope.cancel()
        # A commit that was under way is wholly there or not, and may be told a moment later.
        while await database.run(_are_others_busy):
            await trio.lowlevel.checkpoint()
        left = await database.run(_count, "events") - 6
        assert 0 < left < 3200
        async with trio.open_nursery() as nursery:
            nursery.start_soon(remove, database)
            nursery.start_soon(remove, other)
    assert sum(one.events for one in done) == left
    assert sum(one.streams for one in done) == 1
    assert await database.run(_count, "events") == 6
    assert await database.run(_count, "dead_letters") == 1
    assert await database.run(_count, "event_tags") == 2
    with pytest.raises(StatementRefused, match="RestrictViolation"):
        await database.run(_execute, "DELETE FROM event_tags WHERE tag = 'c'")
    assert await kept.snapshots.latest(B) == Snapshot(B, 1, "t", b"")
    assert await versions(store, B) == [1, 2, 3, 4, 5]


async def test_a_cancelled_closing_is_there_or_not(database: Database) -> None:
    # STORE-28, STORE-29: with all of it
    store = PostgresEventStore(database)
    for number in range(8):
        stream_id = StreamId(f"order-{number}")
        await store.append(stream_id, new_events(2))
        with trio.move_on_after(number / 2000):
            await store.tombstone(stream_id)
        # Who is cancelled does not wait for a commit that is on its way.
        await until(lambda: database.pool_stats().in_use == 0)
        is_gone = await store.head(stream_id) == 3
        assert await versions(store, stream_id) == ([] if is_gone else [1, 2])
        again = await store.tombstone(stream_id)
        assert (again.version, again.replayed) == (3, is_gone)
    assert await database.run(_count, "removals") == 8


async def test_a_role_that_owns_nothing_may_close_and_not_remove(
    database: Database, database_url: str
) -> None:
    # STORE-29, STORE-31
    # What docs/how_to/database.md tells, for a role of its own.
    await database.run(
        _execute,
        "DO $$ BEGIN CREATE ROLE closing_app LOGIN; EXCEPTION WHEN duplicate_object THEN NULL;"
        " END $$; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO"
        " closing_app; REVOKE UPDATE, DELETE ON events, tombstones, removals FROM closing_app",
    )
    url = re.sub(r"//[^@/]*@", "//closing_app@", database_url)
    async with open_database(url, part="app", settings=PATIENT_POOL) as as_app:
        store = PostgresEventStore(as_app)
        await store.append(A, new_events(2))
        await store.archive(A)
        await store.tombstone(A)
        with pytest.raises(StreamGone):
            await store.append(A, new_events(1))
        with pytest.raises(StoreRejected, match="permission denied"):
            await remove_tombstoned(as_app, older_than=NOW)
    assert await remove_tombstoned(database, older_than=NOW) == Removed(streams=1, events=3)


async def test_going_down_shows_nothing_that_was_hidden(database: Database) -> None:
    # STORE-29, STORE-32
    store = PostgresEventStore(database)
    await store.append(A, new_events(2))
    await store.tombstone(A)
    with pytest.raises(MigrationRefused, match="gone for ever"):
        await migrate_down(database, 20)
    await migrate_down(database, 20, drop_events=True)
    assert await database.run(_count, "events") == 1
    with pytest.raises(StatementRefused, match="RestrictViolation"):
        await database.run(_execute, "DELETE FROM events")
    await migrate(database)
    assert await database.run(_count, "events") == 1


async def _posts_stop_and_go_on(
    chat_log: ChatLog, store: EventStore, stream_of: Awaitable[StreamId]
) -> None:
    first = await chat_log.post(draft("one"))
    assert isinstance(first, Posted)
    stream_id = await stream_of
    await store.archive(stream_id)
    with pytest.raises(ChatLogUnavailable, match="archived"):
        await chat_log.post(draft("two"))
    await store.reopen(stream_id)
    second = await chat_log.post(draft("three"))
    assert isinstance(second, Posted)
    assert (first.n, first.message.seq, second.n, second.message.seq) == (1, 1, 4, 2)
    assert [event.version async for event in store.load(stream_id)] == [1, 2, 3, 4]
    assert await chat_log.rebuild() == 0  # what is there is not made again, nor what is no post
    await store.tombstone(stream_id)
    with pytest.raises(ChatLogUnavailable, match="gone"):
        await chat_log.post(draft("four"))
    assert await chat_log.rebuild() == 0


def _chat(database: Database) -> PostgresChatLog:
    keys = PostgresSubjectKeys(database)
    return PostgresChatLog(database, SubjectKeyring(keys, MASTER))


async def _room(chat_log: ChatLog) -> StreamId:
    return StreamId(f"room-{(await chat_log.ensure_rooms([LOBBY]))[LOBBY].id}")


async def test_an_archived_room_takes_no_posts() -> None:
    # STORE-28
    database = MemoryDatabase()
    chat_log = MemoryChatLog(database)
    await chat_log.ensure_rooms(ROOM_NAMES)
    await _posts_stop_and_go_on(chat_log, MemoryEventStore(database), _room(chat_log))


async def test_an_archived_room_takes_no_posts_in_postgres(database: Database) -> None:
    # STORE-28
    chat_log = _chat(database)
    await chat_log.ensure_rooms(ROOM_NAMES)
    await _posts_stop_and_go_on(chat_log, PostgresEventStore(database), _room(chat_log))


async def test_an_archived_room_is_only_one_of_them(database: Database) -> None:
    # STORE-28: the others go on
    chat_log, store = _chat(database), PostgresEventStore(database)
    rooms = await chat_log.ensure_rooms(ROOM_NAMES)
    other = next(name for name in ROOM_NAMES if name != LOBBY)
    await store.archive(StreamId(f"room-{rooms[other].id}"), expected=0)
    assert isinstance(await chat_log.post(draft("one")), Posted)
    with trio.fail_after(PATIENCE_S), pytest.raises(ChatLogUnavailable, match="archived"):
        await chat_log.post(draft("two", room=other))
    found = [event.type async for event in store.load(StreamId(f"room-{rooms[other].id}"))]
    assert found == [ARCHIVED]


_FILL = """
INSERT INTO events (stream_id, version, event_id, event_type, event_data)
SELECT 'order-' || (n % 5), n / 5 + 1, gen_random_uuid(), 'Made', '{}'
FROM generate_series(0, 19999) n
"""


@pytest.mark.slow
async def test_hidden_events_make_no_page_longer_and_closing_no_append(database: Database) -> None:
    # STORE-28, STORE-29: by an index and no further, also of a long stream that is hidden
    await database.run(_execute, _FILL)
    await database.run(_execute, "ANALYZE events")
    stream_ids = [StreamId(f"order-{number}") for number in range(5)]
    first = PostgresEventStore(database)
    for stream_id in stream_ids[:4]:
        await first.tombstone(stream_id)
    open_ = stream_ids[4]

    async def appending(store: PostgresEventStore) -> None:
        for expected in (ANY, 4001):
            for count in (1, 2):
                with pytest.raises(StreamGone):
                    await store.append(stream_ids[0], new_events(count), expected=expected)
        (refused,) = await store.append_batch([AppendRequest(stream_ids[0], new_events(1))])
        assert isinstance(refused, StreamGone)

    async def reading(store: PostgresEventStore) -> None:
        assert [one async for one in store.load(stream_ids[0])] == []
        assert len([one async for one in store.load_backwards(open_, limit=100)]) == 100
        page = await store.read_all(limit=100)
        back = await store.read_backwards(limit=100)
        filtered = await store.read_all(limit=10, types=["Made"])
        assert (len(page.events), len(back.events), len(filtered.events)) == (20, 24, 10)
        found = [one.stream_id for one in await store.list_streams(limit=10)]
        assert found == [open_]

    for work, most in ((appending, 2), (reading, 1000)):

        async def run(
            by: Database, work: Callable[[PostgresEventStore], Awaitable[None]] = work
        ) -> None:
            await work(PostgresEventStore(by, scanned_max=1000))

        touched = await rows_touched(database, run, having="FROM events")
        assert touched
        assert max(touched) <= most, touched
