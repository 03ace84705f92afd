"""The event store on PostgreSQL passes the suites of its port, and keeps under stress."""

import asyncio
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import trio

from actors.persistence import (
    Appended,
    AppendRequest,
    ConcurrencyConflict,
    Counted,
    Cursor,
    Idempotent,
    StoredEvent,
    StreamId,
)
from actors.persistence.words import END
from storage.errors import StatementRefused
from storage.postgres import (
    Connection,
    Database,
    PostgresEventStore,
    open_database,
)
from storage.testing import BackwardsSuite, EventOrderSuite, EventStoreSuite
from storage.testing.event_store import following, race, read_to_end
from storage.testing.samples import PATIENCE_S, new_events
from tests.patience import PATIENT_POOL
from tests.storage.plans import rows_touched

A, B = StreamId("order-a"), StreamId("order-b")


class TestPostgresEventStore(EventStoreSuite, EventOrderSuite, BackwardsSuite):
    @pytest.fixture
    def store(self, database: Database) -> PostgresEventStore:
        return PostgresEventStore(database)


@pytest.mark.slow
async def test_a_hundred_rounds_of_fifty_writers(database: Database) -> None:
    # STORE-11: one wins, 49 conflicts, no other error
    store = PostgresEventStore(database)
    for round_ in range(100):
        results = await race(store, A, expected=round_, writers=50)
        kinds = Counter(type(result) for result in results)
        assert kinds == {Appended: 1, ConcurrencyConflict: 49}
        assert {r.actual for r in results if isinstance(r, ConcurrencyConflict)} == {round_ + 1}


async def test_a_plain_append_takes_one_round_trip(database: Database) -> None:
    # PERF-30
    seen: list[str] = []

    async def watch(connection: Connection) -> None:
        connection.add_query_logger(lambda record: seen.append(record.query))

    store = PostgresEventStore(database)
    # A connection asks once what the types of its parameters are.
    await store.append(B, new_events(1), expected=0)
    await store.append(B, new_events(3), expected=1)
    await store.append(B, new_events(3))
    await database.run(watch)
    await store.append(A, new_events(1), expected=0)
    await store.append(A, new_events(3), expected=1)
    await store.append(A, new_events(3))
    assert [query.split()[0] for query in seen] == ["INSERT"] * 3


async def test_a_cancelled_append_is_there_or_not(database: Database) -> None:
    # STORE-18: and the same events again are never doubled
    store = PostgresEventStore(database)
    for delay in range(12):
        stream_id = StreamId(f"order-{delay}")
        events = new_events(3)
        with trio.move_on_after(delay / 2000):
            await store.append(stream_id, events, expected=0)
        assert await store.head(stream_id) in (0, 3)
        await store.append(stream_id, events, expected=0)
        assert await store.head(stream_id) == 3


async def test_an_open_transaction_holds_the_order_back(database: Database) -> None:
    # DOC-4, STORE-20, STORE-23: and names itself; STORE-27: backwards too
    store = PostgresEventStore(database)
    async with open_database(database.url, part="holder", settings=PATIENT_POOL) as other:
        begun, done = trio.Event(), trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_hold, other, begun, done)
            await begun.wait()
            await store.append(A, new_events(2))
            assert (await store.read_all()).events == []
            assert (await store.read_backwards()).events == []
            assert (await store.read_backwards(before=END, types=["Counted"])).events == []
            done.set()
        pages = await read_to_end(store)
    seen = [event for page in pages for event in page.events]
    assert [event.stream_id for event in seen] == [B, A, A]
    assert list((await store.read_backwards()).events) == seen[::-1]


async def _hold(database: Database, begun: trio.Event, done: trio.Event) -> None:
    """A transaction that has written and stays open until `done`."""
    token = trio.lowlevel.current_trio_token()

    async def work(connection: Connection) -> None:
        await connection.execute(
            "INSERT INTO events (stream_id, version, event_id, event_type, event_data)"
            " VALUES ('order-b', 1, gen_random_uuid(), 'Held', '{}')"
        )
        token.run_sync_soon(begun.set)
        while not done.is_set():  # noqa: ASYNC110  (an event of the other loop)
            await asyncio.sleep(0.005)

    await database.transact(work, timeout_s=PATIENCE_S)


async def test_everything_arrives_without_notices(database_url: str) -> None:
    # STORE-22: the notice is only a hint
    async with (
        open_database(database_url, is_notified=False, settings=PATIENT_POOL) as reading,
        open_database(database_url, is_notified=False, settings=PATIENT_POOL) as writing,
    ):
        reader, writer = PostgresEventStore(reading, poll_s=0.02), PostgresEventStore(writing)
        seen = 0
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery, following(reader) as pages:
                nursery.start_soon(_write, writer, 20)
                async for page in pages:
                    seen += len(page.events)
                    if seen == 20:
                        break


async def test_a_notice_of_another_process_comes_at_once(database_url: str) -> None:
    # STORE-22: long before the poll
    async with (
        open_database(database_url, settings=PATIENT_POOL) as reading,
        open_database(database_url, settings=PATIENT_POOL) as writing,
    ):
        reader = PostgresEventStore(reading, poll_s=5 * PATIENCE_S)
        seen = 0
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery, following(reader) as pages:
                nursery.start_soon(_write, PostgresEventStore(writing), 20)
                async for page in pages:
                    seen += len(page.events)
                    if seen == 20:
                        break


async def _write(store: PostgresEventStore, count: int) -> None:
    for _ in range(count):
        await store.append(A, new_events(1))


async def test_following_survives_cut_connections(database: Database) -> None:
    # REL-83: the listening connection too
    store = PostgresEventStore(database, poll_s=0.05)

    async def cut_all(connection: Connection) -> None:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

    seen: list[int] = []
    async with open_database(database.url, is_notified=False, settings=PATIENT_POOL) as other:
        writer = PostgresEventStore(other)
        with trio.fail_after(PATIENCE_S):
            async with following(store) as pages:
                for round_ in range(3):
                    await writer.append(A, new_events(2))
                    while len(seen) < 2 * (round_ + 1):
                        seen.extend(event.version for event in (await anext(pages)).events)
                    await other.run(cut_all)
    assert seen == [1, 2, 3, 4, 5, 6]


_BY_HAND = """
INSERT INTO events (stream_id, version, event_id, event_type, event_data, metadata)
SELECT 'order-a', n, gen_random_uuid(), 'Made', '{}', meta::jsonb
FROM unnest($1::text[]) WITH ORDINALITY AS t (meta, n)
"""


async def test_metadata_written_by_hand_keeps_nobody_from_reading_on(database: Database) -> None:
    # STORE-3, STORE-42
    texts = ['{"n": 1, "s": "a\\"b", "l": [1, {}], "z": null}', "[1]", '"x"', "5", "null", "{}"]

    async def write(connection: Connection) -> None:
        await connection.execute(_BY_HAND, texts)

    await database.run(write)
    store = PostgresEventStore(database)
    await store.append(A, new_events(1), expected=len(texts))
    read = list((await store.read_all()).events)
    assert read == [event async for event in store.load(A)]
    assert [event.version for event in read] == list(range(1, len(texts) + 2))
    assert read[0].metadata == {"n": "1", "s": 'a"b', "l": "[1, {}]", "z": "null"}
    assert all(event.metadata == {} for event in read[1:])


async def test_what_no_check_foresaw_is_told_without_values(database: Database) -> None:
    # STORE-10: the driver's words quote the row
    async def forbid(connection: Connection) -> None:
        await connection.execute("ALTER TABLE events ADD CONSTRAINT odd CHECK (codec <> 'acme')")

    await database.run(forbid)
    store = PostgresEventStore(database)
    secret = new_events(1, codec="acme", type="VerySecret")
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: store.append(A, secret),
        lambda: store.append(A, secret, idempotency=Idempotent("s", "k", b"h")),
        lambda: store.append_batch([AppendRequest(A, secret)]),
    ]
    for call in calls:
        with pytest.raises(StatementRefused) as caught:
            await call()
        assert (caught.value.kind, caught.value.constraint) == ("CheckViolationError", "odd")
        told = "".join(traceback.format_exception(caught.value))
        assert "acme" not in told
        assert "VerySecret" not in told
    assert await store.head(A) == 0


_FILL = """
INSERT INTO events (stream_id, version, event_id, event_type, event_data)
SELECT 'order-a', n, gen_random_uuid(), 'Made', '{}' FROM generate_series(1, $1) n
"""


async def _rows_touched(
    database: Database, work: Callable[[PostgresEventStore], Awaitable[object]]
) -> list[int]:
    return await rows_touched(
        database,
        lambda alone: work(PostgresEventStore(alone, scanned_max=1000)),
        having="FROM events",
    )


async def _fill(database: Database, count: int) -> None:
    async def work(connection: Connection) -> None:
        await connection.execute(_FILL, count)
        await connection.execute("ANALYZE events")

    await database.run(work, timeout_s=PATIENCE_S)


async def test_a_page_of_a_long_stream_reads_that_page_only(database: Database) -> None:
    # STORE-17: a long stream takes as long a page as a short one
    await _fill(database, 5000)

    async def load(store: PostgresEventStore) -> None:
        assert len([event async for event in store.load(A)]) == 5000
        assert [e.version async for e in store.load(A, from_version=7, to_version=7)] == [7]

    touched = await _rows_touched(database, load)
    assert len(touched) == 12
    assert max(touched) == 500
    assert touched[-1] == 1


async def test_the_lag_reads_what_it_counts(database: Database) -> None:
    # PROJ-5
    await _fill(database, 5000)
    store = PostgresEventStore(database)
    head = (await store.read_all(limit=1)).head
    near = (await store.read_all(limit=4990)).next
    assert max(await _rows_touched(database, lambda store: store.lag(head))) == 1
    assert max(await _rows_touched(database, lambda store: store.lag(near))) == 10


async def test_a_filter_that_matches_nothing_moves_on(database: Database) -> None:
    # STORE-21: page by page, however long the log is
    await _fill(database, 4500)
    last = await PostgresEventStore(database).append(B, new_events(1, type="Seen"))
    for types, categories in ((["Odd"], None), (None, ["user"])):
        places: list[Cursor | None] = [None]

        async def read(
            store: PostgresEventStore,
            types: list[str] | None = types,
            categories: list[str] | None = categories,
            places: list[Cursor | None] = places,
        ) -> None:
            while places[-1] != last.cursor:
                page = await store.read_all(after=places[-1], types=types, categories=categories)
                assert list(page.events) == []
                assert page.is_last == (page.next == last.cursor)
                places.append(page.next)

        assert max(await _rows_touched(database, read)) == 1000
        assert len(places) == 1 + 5
    with trio.fail_after(PATIENCE_S):
        async with following(
            PostgresEventStore(database, scanned_max=1000), types=["Seen"]
        ) as pages:
            seen = [await anext(pages) for _ in range(5)]
    assert [len(page.events) for page in seen] == [0, 0, 0, 0, 1]


_FILL_MANY = """
INSERT INTO events (stream_id, version, event_id, event_type, event_data)
SELECT 'bulk-' || (n / 1000), n % 1000 + 1, gen_random_uuid(), 'Made', '{}'
FROM generate_series(0, 29999) n
"""


@pytest.mark.slow
async def test_reading_backwards_and_counting_read_what_they_give(database: Database) -> None:
    # STORE-27: whatever is asked for, by an index and no further
    async def fill(connection: Connection) -> None:
        await connection.execute(_FILL_MANY)
        await connection.execute(_FILL, 5000)
        await connection.execute("ANALYZE events")

    await database.run(fill, timeout_s=PATIENCE_S)
    last = await PostgresEventStore(database).append(B, new_events(1, type="Seen"))
    calls: list[tuple[int, Callable[[PostgresEventStore], Awaitable[object]]]] = [
        (10, lambda store: _read_all_of(store.load_backwards(A, limit=10))),
        (500, lambda store: _read_all_of(store.load_backwards(A))),
        (10, lambda store: store.read_backwards(limit=10)),
        (10, lambda store: store.read_backwards(limit=10, before=last.cursor)),
        (1000, lambda store: store.read_backwards(types=["Odd"])),
        (1000, lambda store: store.read_backwards(categories=["user"])),
        (11, lambda store: store.count(up_to=10)),
        (11, lambda store: store.count(stream_id=A, up_to=10)),
        (11, lambda store: store.count(category="bulk", up_to=10)),
        (11, lambda store: store.count(types=["Made"], up_to=10)),
        # Rows of a filter that finds nothing, or little: none, or as many as it may look at.
        (1, lambda store: store.count(types=["Odd"])),
        (2, lambda store: store.count(types=["Seen", "Odd"])),
        (1, lambda store: store.count(types=["Odd"], stream_id=B)),
        (1001, lambda store: store.count(types=["Odd"], category="bulk")),
    ]
    for number, (most, call) in enumerate(calls):
        touched = await _rows_touched(database, call)
        assert touched, number
        assert max(touched) <= most, (number, touched)


async def _read_all_of(events: AsyncIterator[StoredEvent]) -> list[StoredEvent]:
    return [event async for event in events]


async def test_a_count_that_looks_no_further_says_so(database: Database) -> None:
    # STORE-27
    await _fill(database, 3000)
    store = PostgresEventStore(database, scanned_max=1000)
    assert await store.count(types=["Odd"], stream_id=A) == Counted(0, is_whole=False)
    assert await store.count(types=["Made"], stream_id=A) == Counted(1001, is_whole=False)
    page = await store.read_backwards(types=["Odd"])
    assert (list(page.events), page.is_last) == ([], False)
