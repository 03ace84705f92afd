"""Single events that share a statement: the suites again, and each way in which it may go wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields, replace
from functools import partial
from math import inf, nan
from uuid import UUID, uuid4

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors.persistence import (
    Appended,
    AppendRequest,
    ConcurrencyConflict,
    DuplicateEventId,
    NewEvent,
    Shard,
    StoredEvent,
    StoreError,
    StreamId,
)
from storage import gathering
from storage.errors import StatementRefused, StoreTimeout, StoreUnavailable
from storage.postgres import (
    Connection,
    Database,
    GatherSettings,
    PostgresEventStore,
    open_database,
)
from storage.postgres.events.gathering import Gatherer
from storage.postgres.events.sharing import choose, insert_shared
from storage.testing import EventOrderSuite, EventStoreSuite
from storage.testing.event_store import read_to_end
from storage.testing.samples import PATIENCE_S, new_event, new_events
from tests.patience import PATIENT_POOL, until

A, B, C = StreamId("order-a"), StreamId("order-b"), StreamId("order-c")

# For tests in which a statement waits for a lock, and must not be given up for it.
_PATIENT = GatherSettings(lock_wait_s_max=PATIENCE_S)


class Gate:
    """Holds batches back until it is opened; `asked` once one is about to be taken."""

    def __init__(self) -> None:
        self.asked, self.opened = trio.Event(), trio.Event()

    async def hold(self) -> None:
        self.asked.set()
        await self.opened.wait()


class TestHeldPostgresEventStore(EventStoreSuite, EventOrderSuite):
    """As by default, but that every single event goes by the shared statement."""

    @pytest.fixture
    def store(self, database: Database) -> PostgresEventStore:
        return PostgresEventStore(
            database, gatherer=Gatherer(database, hold=trio.lowlevel.checkpoint)
        )


def _held(
    database: Database, settings: GatherSettings | None = None
) -> tuple[PostgresEventStore, Gate]:
    gate = Gate()
    return PostgresEventStore(database, gatherer=Gatherer(database, settings, hold=gate.hold)), gate


Outcomes = list["Appended | StoreError | None"]


@asynccontextmanager
async def _appending(
    store: PostgresEventStore, *requests: AppendRequest
) -> AsyncIterator[tuple[Outcomes, list[trio.CancelScope]]]:
    """All of them wait within; their outcomes stand in the list at the end, None if cancelled."""
    outcomes: Outcomes = [None] * len(requests)
    scopes = [trio.CancelScope() for _ in requests]

    async def append(number: int) -> None:
        with scopes[number]:
            try:
                outcomes[number] = await store.append_request(requests[number])
            except StoreError as error:
                outcomes[number] = error

    async with trio.open_nursery() as nursery:
        for number in range(len(requests)):
            nursery.start_soon(append, number)
            # One after the other, so that they wait in this order.
            await until(partial(_has_begun, store, number + 1))
        yield outcomes, scopes


def _has_begun(store: PostgresEventStore, count: int) -> bool:
    return store.gather_stats().waiting + store.owned_stats().waiting >= count


async def _together(store: PostgresEventStore, gate: Gate, *requests: AppendRequest) -> Outcomes:
    """The outcomes of requests that are sent in one batch, if they may be."""
    with trio.fail_after(PATIENCE_S):
        async with _appending(store, *requests) as (outcomes, _):
            gate.opened.set()
    return outcomes


def _one(stream_id: StreamId, expected: int = 0, event: NewEvent | None = None) -> AppendRequest:
    return AppendRequest(stream_id, [event or new_event()], expected)


def _short(outcomes: Sequence[object]) -> list[object]:
    return [
        (one.version, one.replayed) if isinstance(one, Appended) else type(one).__name__
        for one in outcomes
    ]


@asynccontextmanager
async def _holding(
    database: Database, *rows: tuple[StreamId, int]
) -> AsyncIterator[Callable[[], None]]:
    """Another session has written these places and not committed yet; call it to commit."""
    token = trio.lowlevel.current_trio_token()
    written, done = trio.Event(), trio.Event()

    async def work(connection: Connection) -> None:
        for stream_id, version in rows:
            await connection.execute(_BY_HAND, stream_id, version)
        token.run_sync_soon(written.set)
        while not done.is_set():  # noqa: ASYNC110  (an event of the other loop)
            await asyncio.sleep(0.005)

    async with (
        open_database(database.url, part="holder", settings=PATIENT_POOL) as other,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(partial(other.transact, work, timeout_s=PATIENCE_S))
        await written.wait()
        try:
            yield done.set
        finally:
            done.set()


_BY_HAND = """
INSERT INTO events (stream_id, version, event_id, event_type, event_data)
VALUES ($1, $2, gen_random_uuid(), 'Held', '{}')
"""


async def _write_by_hand(connection: Connection, stream_id: str, version: int) -> None:
    await connection.execute(_BY_HAND, stream_id, version)


async def _blocked(connection: Connection) -> int:
    return int(
        await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND wait_event_type = 'Lock'"
        )
    )


async def _until_blocked(database: Database, count: int = 1) -> None:
    """Wait until so many sessions wait for a lock."""
    with trio.fail_after(PATIENCE_S):
        while await database.run(_blocked) < count:  # noqa: ASYNC110  (the server has no event)
            await trio.sleep(0.005)


async def _forbid_acme(connection: Connection) -> None:
    await connection.execute("ALTER TABLE events ADD CONSTRAINT odd CHECK (codec <> 'acme')")


# What is stored.


async def test_who_waits_together_is_stored_by_one_statement(database: Database) -> None:
    # PERF-30
    store, gate = _held(database)
    streams = [StreamId(f"order-{n}") for n in range(20)]
    outcomes = await _together(store, gate, *(_one(stream) for stream in streams))
    assert _short(outcomes) == [(1, False)] * 20
    stored = [event.cursor for stream in streams async for event in store.load(stream)]
    assert stored == [one.cursor for one in outcomes if isinstance(one, Appended)]
    assert len({cursor.txid for cursor in stored}) == 1
    stats = store.gather_stats()
    assert (stats.statements, stats.rows, stats.rows_per_statement) == (1, 20, 20.0)
    assert (stats.singles, stats.left_out, stats.alone, stats.apart) == (0, 0, 0, 0.0)


class _Numbers(gathering.Gathering[int, int]):
    """Numbers that share statements, each of which is back when the test says so."""

    def __init__(self, nursery: trio.Nursery, crowd: float) -> None:
        self.nursery, self.sent = nursery, list[Sequence[int]]()
        self.back: list[trio.Event] = []
        limits = gathering.Limits(
            rows_max=3,
            bytes_max=1000,
            overtake_after_s=PATIENCE_S,
            statements_max=2,
            singles_max=1,
            crowd=crowd,
        )
        super().__init__(self, limits, lambda: PATIENCE_S)

    def start_soon(self, task: Callable[[], Awaitable[object]]) -> bool:
        self.nursery.start_soon(task)
        return True

    def key_of(self, request: int) -> int:
        return request

    def size_of(self, request: int) -> int:
        return 1

    def rows_of(self, request: int) -> int:
        return 1

    async def one(self, request: int) -> int:
        return (await self.many([request]))[0]

    async def many(self, requests: Sequence[int]) -> Sequence[int]:
        self.sent.append(list(requests))
        back = trio.Event()
        self.back.append(back)
        await back.wait()
        return requests

    def is_away(self, error: Exception) -> bool:
        return False

    def own(self, error: Exception) -> Exception:
        return error

    def ended(self, *, is_absent: bool) -> Exception:
        return StoreUnavailable("its loop ended", nothing_written=is_absent)

    def late(self, limit_s: float, *, is_absent: bool) -> Exception:
        return StoreTimeout(limit_s, nothing_written=is_absent)


@pytest.mark.parametrize(
    ("crowd", "count", "sent"),
    [
        (inf, 9, [[0]]),  # all wait for the one that is under way
        (3, 3, [[0]]),  # as do fewer than a crowd
        (3, 4, [[0], [1, 2, 3]]),
        (3, 6, [[0], [1, 2, 3]]),
        (3, 9, [[0], [1, 2, 3], [4, 5, 6]]),  # and of statements no more than there may be
    ],
)
async def test_a_crowd_leaves_beside_a_statement_that_is_under_way(
    crowd: float, count: int, sent: list[list[int]]
) -> None:
    # PERF-56: the server works on some while the program decides about others
    answers: list[int | None] = []

    async def share(number: int) -> None:
        answers.append(await numbers.share(number))

    async with trio.open_nursery() as tasks:
        numbers = _Numbers(tasks, crowd)
        async with trio.open_nursery() as nursery:
            for number in range(count):
                nursery.start_soon(share, number)
                await trio.testing.wait_all_tasks_blocked()
            assert numbers.sent == sent
            # One that is back takes a crowd that waits, and leaves fewer to those beside it.
            while len(answers) < count:
                numbers.back.pop(0).set()
                await trio.testing.wait_all_tasks_blocked()
            assert sorted(one for batch in numbers.sent for one in batch) == list(range(count))
        assert numbers.statistics().waiting == 0
    assert sorted(answers, key=str) == list(range(count))


async def test_one_alone_waits_for_nobody(database: Database) -> None:
    # PERF-30
    store = PostgresEventStore(database)
    for version in range(3):
        await store.append(A, new_events(1), expected=version)
    stats = store.gather_stats()
    assert (stats.singles, stats.statements, stats.rows, stats.waiting) == (3, 0, 0, 0)
    assert (stats.rows_per_statement, stats.apart, stats.oldest_waiting_s) == (0.0, 0.0, 0.0)


async def test_a_few_writers_go_side_by_side(database: Database) -> None:
    # PERF-30: as without sharing
    limits = GatherSettings(overtake_after_s=PATIENCE_S)
    store = PostgresEventStore(database, gatherer=Gatherer(database, limits))

    async def write(stream_id: StreamId) -> None:
        for version in range(10):
            await store.append(stream_id, new_events(1), expected=version)

    async with trio.open_nursery() as nursery:
        for number in range(limits.singles_max):
            nursery.start_soon(write, StreamId(f"order-{number}"))
    stats = store.gather_stats()
    assert (stats.singles, stats.rows) == (10 * limits.singles_max, 0)


async def test_many_writers_meet_in_the_same_statements(database: Database) -> None:
    # PERF-30: whoever is woken by one and goes on at once is in the next
    limits = GatherSettings(overtake_after_s=PATIENCE_S)
    store = PostgresEventStore(database, gatherer=Gatherer(database, limits))

    async def write(stream_id: StreamId) -> None:
        for version in range(20):
            await store.append(stream_id, new_events(1), expected=version)

    async with trio.open_nursery() as nursery:
        for number in range(16):
            nursery.start_soon(write, StreamId(f"order-{number}"))
    stats = store.gather_stats()
    assert stats.singles + stats.rows == 320
    assert stats.rows_per_statement > 12
    # The first of all, and none of those that were woken together.
    assert stats.singles == limits.singles_max
    await read_to_end(store, limit=500)


async def test_what_is_more_than_one_small_event_goes_by_itself(database: Database) -> None:
    # PERF-30
    # Several events of one append share another statement: `test_whole_appends.py`.
    store = PostgresEventStore(database, gatherer=Gatherer(database, GatherSettings(), hold=_never))
    await store.append(A, new_events(2))
    await store.append(A, new_events(1))
    await store.append(A, [new_event(b"x" * 20_000)], expected=3)
    await store.append(A, [new_event(b"x" * 1000, metadata={"k": "v" * 16_000})], expected=4)
    assert await store.head(A) == 5
    none = Gatherer(database, GatherSettings(event_bytes_max=0))
    assert not none.takes(_one(A, event=new_event(b"")))


async def _never() -> None:
    raise AssertionError("nothing waits here")


async def test_the_statement_of_many_is_planned_a_few_times_only(database: Database) -> None:
    # PERF-30: however many rows it has; planning takes longer than writing some
    async def work(connection: Connection) -> list[tuple[int, int]]:
        for round_ in range(20):
            streams = [StreamId(f"order-{round_}-{n}") for n in range(1 + round_ % 4)]
            await insert_shared(connection, [_one(stream) for stream in streams])
            await insert_shared(connection, [_one(stream, n) for stream in streams for n in (1, 2)])
        rows = await connection.fetch(
            "SELECT custom_plans, generic_plans FROM pg_prepared_statements"
            " WHERE statement LIKE '%patience%unnest%'"
        )
        return [(row[0], row[1]) for row in rows if row[0]]

    assert await database.run(work) == [(5, 15)] * 2


async def test_a_long_queue_goes_in_several_batches(database: Database) -> None:
    # PERF-30: by rows and by bytes
    for limits in (GatherSettings(rows_max=4), GatherSettings(bytes_max=4100)):
        store, gate = _held(database, limits)
        streams = [StreamId(f"order-{limits.rows_max}-{n}") for n in range(10)]
        requests = [_one(stream, event=new_event(b"x" * 1000)) for stream in streams]
        outcomes = await _together(store, gate, *requests)
        assert _short(outcomes) == [(1, False)] * 10
        assert store.gather_stats().statements == 3


async def test_a_busy_stream_does_not_push_out_others(database: Database) -> None:
    # PERF-30: streams take turns
    store, gate = _held(database, GatherSettings(rows_max=3))
    requests = [_one(A, version) for version in range(8)] + [_one(B), _one(C)]
    outcomes = await _together(store, gate, *requests)
    assert _short(outcomes) == [(version + 1, False) for version in range(8)] + [(1, False)] * 2
    first, *_, of_b, of_c = [one.cursor.txid for one in outcomes if isinstance(one, Appended)]
    assert first == of_b == of_c


def test_settings_that_make_no_sense_are_refused() -> None:
    # PERF-30
    for wrong in (
        {"rows_max": 0},
        {"bytes_max": 0},
        {"statements_max": 0},
        {"singles_max": 0},
        {"event_bytes_max": -1},
        {"overtake_after_s": -0.1},
        {"lock_wait_s_max": 0.0},
        {"lock_wait_s_max": float("nan")},
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            GatherSettings(**wrong)


# Several that want the same.


async def test_an_id_twice_in_a_batch_is_stored_once(database: Database) -> None:
    # STORE-12: the first is stored, and only he is told so
    store, gate = _held(database)
    event = new_event()
    changed = new_event(b'{"other": 1}', event_id=event.event_id)
    requests = [_one(A, 0, event)] * 3 + [_one(A, 0, changed), _one(B, 0, event)]
    outcomes = await _together(store, gate, *requests)
    assert _short(outcomes) == [
        (1, False),
        (1, True),
        (1, True),
        "DuplicateEventId",
        "DuplicateEventId",
    ]
    assert isinstance(outcomes[3], DuplicateEventId)
    assert (await store.head(A), await store.head(B)) == (1, 0)


async def test_an_id_that_is_stored_already_is_replayed(database: Database) -> None:
    # STORE-12, STORE-18
    store, gate = _held(database)
    event = new_event()
    first = await PostgresEventStore(database).append(A, [event])
    outcomes = await _together(
        store, gate, _one(A, 0, event), _one(A, 1), _one(B), _one(C, 0, event)
    )
    assert _short(outcomes) == [(1, True), (2, False), (1, False), "DuplicateEventId"]
    assert isinstance(outcomes[0], Appended)
    assert outcomes[0].cursor == first.cursor


async def test_of_many_that_want_one_place_the_first_has_it(database: Database) -> None:
    # STORE-11
    store, gate = _held(database)
    await PostgresEventStore(database).append(A, new_events(2))
    requests = [_one(A, 2), _one(A, 2), _one(A, 1), _one(A, 9), _one(B, 2), _one(B, 0)]
    outcomes = await _together(store, gate, *requests)
    assert _short(outcomes) == [(3, False)] + ["ConcurrencyConflict"] * 4 + [(1, False)]
    assert [one.actual for one in outcomes if isinstance(one, ConcurrencyConflict)] == [3, 3, 3, 1]
    assert store.gather_stats().left_out == 4


async def test_events_that_follow_each_other_share_a_statement(database: Database) -> None:
    # STORE-20: in whatever order they came, and the order over all streams has them in theirs
    store, gate = _held(database)
    await PostgresEventStore(database).append(B, new_events(1))
    requests = [_one(A, n) for n in (2, 0, 3, 1)] + [_one(B, n) for n in (2, 1)] + [_one(C)]
    outcomes = await _together(store, gate, *requests)
    assert _short(outcomes) == [(n, False) for n in (3, 1, 4, 2, 3, 2, 1)]
    stats = store.gather_stats()
    assert (stats.statements, stats.rows, stats.left_out, stats.alone) == (1, 7, 0, 0)
    pages = await read_to_end(store)
    assert [e.event_id for page in pages for e in page.events if e.stream_id == A] == [
        requests[at].events[0].event_id for at in (1, 3, 0, 2)
    ]


async def test_one_that_comes_too_late_leaves_its_followers_in(database: Database) -> None:
    # STORE-10: they follow what is stored
    store, gate = _held(database)
    await PostgresEventStore(database).append(A, new_events(2))
    requests = [_one(A, version) for version in range(5)] + [_one(A, 6), _one(B, 1), _one(B, 2)]
    outcomes = await _together(store, gate, *requests)
    assert _short(outcomes[:5]) == ["ConcurrencyConflict"] * 2 + [(n, False) for n in (3, 4, 5)]
    assert [one.actual for one in outcomes if isinstance(one, ConcurrencyConflict)] == [
        *(5, 5, 5, 0, 0)
    ]
    assert store.gather_stats().left_out == 5
    await read_to_end(store)


async def test_nobody_stands_before_the_one_he_follows(database: Database) -> None:
    # STORE-20: also when another is first while the statement has its number already
    store, gate = _held(database, _PATIENT)
    async with _holding(database, (A, 1)) as commit:
        with trio.fail_after(PATIENCE_S):
            async with _appending(store, _one(A), _one(B, 0), _one(B, 1)) as (outcomes, _):
                gate.opened.set()
                await _until_blocked(database)
                # Of a higher number than the statement that waits for `A`.
                await database.run(_write_by_hand, B, 1)
                commit()
    assert _short(outcomes) == ["ConcurrencyConflict", "ConcurrencyConflict", (2, False)]
    pages = await read_to_end(store)
    assert [e.version for page in pages for e in page.events if e.stream_id == B] == [1, 2]


async def test_a_known_id_among_followers_leaves_no_hole(database: Database) -> None:
    # STORE-12, STORE-10: the statement fails, and each half is tried
    store, gate = _held(database)
    known = new_event()
    await PostgresEventStore(database).append(C, [known])
    requests = [_one(A, 0), _one(A, 1), _one(A, 2, known), _one(A, 3)]
    outcomes = await _together(store, gate, *requests)
    assert _short(outcomes[:3]) == [(1, False), (2, False), "DuplicateEventId"]
    assert isinstance(outcomes[3], ConcurrencyConflict)
    assert outcomes[3].actual == 2
    assert [event.version async for event in store.load(A)] == [1, 2]
    await read_to_end(store)


def test_choosing_orders_and_leaves_out() -> None:
    # PERF-30
    one, two = new_event(), new_event()
    assert choose([_one(B), _one(A)]) == ([1, 0], None)
    assert choose([_one(A, 0), _one(A, 0), _one(A, 2)]) == ([0, 2], None)
    assert choose([_one(A, 0, one), _one(B, 0, one), _one(B, 0, two)]) == ([0, 2], None)
    assert choose([_one(A, 6), _one(A, 5), _one(A, 8), _one(B, 0)]) == (
        [1, 0, 2, 3],
        [5, 5, 8, 0],
    )
    wide, high = StreamId("order-\uffff"), StreamId("order-\U00010000")
    assert choose([_one(high), _one(wide)]) == ([1, 0], None)


# One that spoils it for others.


async def test_a_row_that_is_refused_refuses_no_other(database: Database) -> None:
    # STORE-10: halves find it, and it is told what it would be told alone
    await database.run(_forbid_acme)
    store, gate = _held(database)
    events = [new_event(codec="acme" if n == 5 else "json") for n in range(16)]
    requests = [_one(StreamId(f"order-{n}"), 0, event) for n, event in enumerate(events)]
    outcomes = await _together(store, gate, *requests)
    wanted: list[object] = [(1, False)] * 16
    wanted[5] = "StatementRefused"
    assert _short(outcomes) == wanted
    assert isinstance(outcomes[5], StatementRefused)
    assert outcomes[5].constraint == "odd"
    stats = store.gather_stats()
    # All, and then a half that is good and one that is not, down to a single one.
    assert (stats.statements, stats.alone, stats.left_out) == (1 + 2 * 4, 1, 0)


async def test_a_locked_row_holds_nobody_up_for_long(database: Database) -> None:
    # STORE-10: its neighbours are stored while the lock is held
    store, gate = _held(database)
    streams = [StreamId(f"order-{n}") for n in range(5)]
    async with _holding(database, (A, 1)) as commit:
        with trio.fail_after(PATIENCE_S):
            async with _appending(store, _one(A), *map(_one, streams)) as (outcomes, _):
                gate.opened.set()
                await until(lambda: None not in outcomes[1:])
                assert outcomes[0] is None
                commit()
    assert _short(outcomes) == ["ConcurrencyConflict"] + [(1, False)] * 5
    assert store.gather_stats().alone == 6


async def test_those_of_a_deadlock_go_alone(database: Database) -> None:
    # STORE-10: nothing of it was written
    async def soon(connection: Connection) -> None:
        name = await connection.fetchval("SELECT quote_ident(current_database())")
        await connection.execute(f"ALTER DATABASE {name} SET deadlock_timeout = '10ms'")

    await database.run(soon)
    token = trio.lowlevel.current_trio_token()
    written, goes_on = trio.Event(), trio.Event()
    between = StreamId("order-aa")

    async def crossing(connection: Connection) -> None:
        await connection.execute("SET LOCAL deadlock_timeout = '1h'")
        await _write_by_hand(connection, B, 1)
        token.run_sync_soon(written.set)
        while not goes_on.is_set():  # noqa: ASYNC110  (an event of the other loop)
            await asyncio.sleep(0.005)
        # On a busy machine ours may be there again first, alone.
        await connection.execute(f"{_BY_HAND} ON CONFLICT DO NOTHING", A, 1)

    with trio.fail_after(PATIENCE_S):
        async with (
            open_database(database.url, settings=PATIENT_POOL) as ours,
            _holding(ours, (between, 1)) as commit,
            trio.open_nursery() as nursery,
        ):
            store, gate = _held(ours, _PATIENT)
            nursery.start_soon(database.transact, crossing)
            await written.wait()
            async with _appending(store, _one(A), _one(between), _one(B), _one(C)) as (outcomes, _):
                gate.opened.set()
                # It has written `A` and waits for `between`; the other waits for `A`, and has `B`.
                await _until_blocked(ours)
                goes_on.set()
                await _until_blocked(ours, 2)
                commit()
            first, *others = _short(outcomes)
            assert first in ("ConcurrencyConflict", (1, False))
            assert others == ["ConcurrencyConflict"] * 2 + [(1, False)]
            assert store.gather_stats().alone == 4
            await read_to_end(store)


async def test_a_statement_that_takes_long_is_overtaken(database: Database) -> None:
    # PERF-30: those that come meanwhile do not wait for its lock, however many wait for locks
    store = PostgresEventStore(database, gatherer=Gatherer(database, _PATIENT))
    locked = [StreamId(f"order-{n}") for n in range(GatherSettings().statements_max + 2)]
    lost: list[str] = []

    async def lose(stream_id: StreamId) -> None:
        with pytest.raises(ConcurrencyConflict):
            await store.append(stream_id, new_events(1), expected=0)
        lost.append(stream_id)

    async with _holding(database, *((stream, 1) for stream in locked)) as commit:
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                for number, stream_id in enumerate(locked, start=1):
                    nursery.start_soon(lose, stream_id)
                    await _until_blocked(database, number)
                for version in range(5):
                    await store.append(C, new_events(1), expected=version)
                assert lost == []
                commit()
    assert sorted(lost) == locked


async def test_one_that_waits_for_a_lock_by_itself_holds_up_no_batch(database: Database) -> None:
    # PERF-30: also when it had to wait for its turn
    limits = replace(_PATIENT, statements_max=1)
    store = PostgresEventStore(database, gatherer=Gatherer(database, limits))

    async def lose(stream_id: StreamId) -> None:
        with pytest.raises(ConcurrencyConflict):
            await store.append(stream_id, new_events(1), expected=0)

    async with _holding(database, (A, 1), (B, 1)) as commit:
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lose, A)
                await _until_blocked(database)
                # It waits for the one before it, and so does whoever comes, but not for long.
                nursery.start_soon(lose, A)
                await until(lambda: store.gather_stats().waiting == 1)
                nursery.start_soon(lose, B)
                await _until_blocked(database, 2)
                for version in range(3):
                    await store.append(C, new_events(1), expected=version)
                assert store.gather_stats().waiting == 1
                commit()
    assert store.gather_stats().singles == 6


# Callers that go, and time that runs out.


async def test_one_that_is_cancelled_while_waiting_is_absent(database: Database) -> None:
    # STORE-18
    store, gate = _held(database)
    with trio.fail_after(PATIENCE_S):
        async with _appending(store, _one(A), _one(B), _one(C)) as (outcomes, scopes):
            scopes[1].cancel()
            await until(lambda: scopes[1].cancelled_caught)
            assert store.gather_stats().waiting == 2
            gate.opened.set()
    assert _short(outcomes) == [(1, False), "NoneType", (1, False)]
    assert await store.head(B) == 0
    assert store.gather_stats().rows == 2


async def test_all_cancelled_while_waiting_leave_nothing_behind(database: Database) -> None:
    # STORE-18: nothing is sent, and the next is served
    store, gate = _held(database)
    with trio.fail_after(PATIENCE_S):
        async with _appending(store, _one(A), _one(B)) as (_, scopes):
            for scope in scopes:
                scope.cancel()
        gate.opened.set()
        assert (await store.append(A, new_events(1), expected=0)).version == 1
    assert store.gather_stats().rows == 1


async def test_one_that_is_cancelled_when_sent_learns_what_happened(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    # STORE-18: the statement goes on for all
    monkeypatch.setattr(gathering, "CANCEL_GRACE_S", PATIENCE_S)
    store, gate = _held(database, _PATIENT)
    async with _holding(database, (A, 1)) as commit:
        with trio.fail_after(PATIENCE_S):
            async with _appending(store, _one(A), _one(B), _one(C)) as (outcomes, scopes):
                gate.opened.set()
                await _until_blocked(database)
                scopes[0].cancel()
                scopes[1].cancel()
                commit()
    # `A` was lost, and nobody is there to look why; `B` is stored, whatever its caller wanted.
    assert _short(outcomes) == ["NoneType", (1, False), (1, False)]
    assert scopes[0].cancelled_caught
    assert not scopes[1].cancelled_caught


async def test_one_that_is_cancelled_waits_no_longer_than_its_grace(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    # STORE-18: the statement goes on without it
    monkeypatch.setattr(gathering, "CANCEL_GRACE_S", 0.01)
    store, gate = _held(database, _PATIENT)
    async with _holding(database, (A, 1)) as commit:
        with trio.fail_after(PATIENCE_S):
            async with _appending(store, _one(A), _one(B)) as (outcomes, scopes):
                gate.opened.set()
                await _until_blocked(database)
                scopes[1].cancel()
                await until(lambda: scopes[1].cancelled_caught)
                commit()
    assert _short(outcomes) == ["ConcurrencyConflict", "NoneType"]
    assert await store.head(B) == 1


async def test_time_runs_from_the_call(database: Database) -> None:
    # STORE-10: who was not sent is certainly absent, who was sent may be there
    store, gate = _held(database, replace(_PATIENT, rows_max=2, statements_max=1))
    async with _holding(database, (A, 1)) as commit:
        with trio.fail_after(PATIENCE_S):
            async with _appending(store, _one(A), _one(B), _one(C)) as (outcomes, _):
                gate.opened.set()
                await _until_blocked(database)
                assert store.gather_stats().oldest_waiting_s > 0
                # Their time is over now, and that of the statement is not.
                database.settings = replace(PATIENT_POOL, operation_s_max=0.001)
            assert _short(outcomes) == ["StoreTimeout"] * 3
            unknown = [o.nothing_written for o in outcomes if isinstance(o, StoreTimeout)]
            assert unknown == [False, False, True]
            assert len({id(one) for one in outcomes}) == 3
            database.settings = PATIENT_POOL
            commit()
            # Behind the statement, which has gone on.
            assert (await store.append(B, new_events(1), expected=1)).version == 2
    assert await store.head(C) == 0


# What the database does.


async def test_the_end_of_a_session_is_told_to_all_of_its_batch(database: Database) -> None:
    # REL-81, STORE-18: and the ids settle it
    store, gate = _held(database, _PATIENT)
    requests = [_one(A), _one(B), _one(C)]

    async def end(connection: Connection) -> None:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )

    async with _holding(database, (A, 1)) as commit:
        with trio.fail_after(PATIENCE_S):
            async with _appending(store, *requests) as (outcomes, _):
                gate.opened.set()
                await _until_blocked(database)
                await database.run(end)
    commit()
    assert _short(outcomes) == ["StoreUnavailable"] * 3
    assert not any(o.nothing_written for o in outcomes if isinstance(o, StoreUnavailable))
    assert len({id(one) for one in outcomes}) == 3
    again, gate = _held(database)
    assert _short(await _together(again, gate, *requests)) == [
        "ConcurrencyConflict",
        (1, False),
        (1, False),
    ]


async def _end_the_loop(_connection: Connection) -> None:
    asyncio.get_running_loop().stop()
    await asyncio.sleep(30)


async def test_nobody_outlives_a_lost_loop_unanswered(database: Database) -> None:
    # STORE-18: those that wait, and those that were sent; then the next loop serves
    store, gate = _held(database, replace(_PATIENT, rows_max=2, statements_max=1))
    async with (
        open_database(database.url, settings=PATIENT_POOL) as other,
        _holding(other, (A, 1)),
    ):
        with trio.fail_after(PATIENCE_S):
            async with _appending(store, _one(A), _one(B), _one(C)) as (outcomes, _):
                gate.opened.set()
                await _until_blocked(other)
                with pytest.raises(StoreUnavailable):
                    await database.run(_end_the_loop)
    assert _short(outcomes) == ["StoreUnavailable"] * 3
    unknown = [o.nothing_written for o in outcomes if isinstance(o, StoreUnavailable)]
    assert unknown == [False, False, True]
    assert await store.head(C) == 0
    assert (await store.append(C, new_events(1), expected=0)).version == 1
    assert store.gather_stats().waiting == 0


async def test_nobody_outlives_the_handle_unanswered(database_url: str) -> None:
    # STORE-18: an orderly end too
    outcomes: list[Exception] = []
    with trio.fail_after(PATIENCE_S):
        async with (
            trio.open_nursery() as nursery,
            open_database(database_url, settings=PATIENT_POOL) as database,
        ):
            store, gate = _held(database)

            async def append(stream_id: StreamId) -> None:
                with pytest.raises(StoreUnavailable) as caught:
                    await store.append(stream_id, new_events(1), expected=0)
                outcomes.append(caught.value)

            nursery.start_soon(append, A)
            nursery.start_soon(append, B)
            await until(lambda: store.gather_stats().waiting == 2)
            await gate.asked.wait()
    assert [o.nothing_written for o in outcomes if isinstance(o, StoreUnavailable)] == [True, True]


# Whatever comes together.


@dataclass(frozen=True)
class _Act:
    """One append: of a fact to a stream; poisoned, or cancelled after so many turns."""

    stream: int
    expected: int
    fact: int
    is_poison: bool
    turns: int | None


_ACTS = st.builds(
    _Act,
    stream=st.integers(0, 2),
    expected=st.integers(0, 4),
    fact=st.integers(0, 7),
    is_poison=st.sampled_from([False, False, False, True]),
    turns=st.one_of(st.none(), st.none(), st.integers(0, 6)),
)


@pytest.mark.slow
@settings(max_examples=15, suppress_health_check=list(HealthCheck))
@given(
    groups=st.lists(st.lists(_ACTS, min_size=1, max_size=8), min_size=1, max_size=3),
    rows_max=st.integers(1, 5),
    is_held=st.booleans(),
)
def test_whatever_comes_together_comes_to_some_order(
    database_url_of_many: str, groups: list[list[_Act]], rows_max: int, is_held: bool
) -> None:
    # STORE-10, STORE-12, STORE-18
    trio.run(_play, database_url_of_many, groups, rows_max, is_held)


@pytest.fixture
def database_url_of_many(database_url: str) -> str:
    """A database for all examples of a test, each with streams of its own, that refuses some."""

    async def forbid() -> None:
        async with open_database(database_url) as database:
            await database.run(_forbid_acme)

    trio.run(forbid)
    return database_url


async def _play(url: str, groups: list[list[_Act]], rows_max: int, is_held: bool) -> None:
    streams = [StreamId(f"order-{uuid4()}") for _ in range(3)]
    ids = [uuid4() for _ in range(8)]
    async with open_database(url, settings=PATIENT_POOL) as database:
        gatherer = Gatherer(
            database,
            GatherSettings(rows_max=rows_max),
            hold=trio.lowlevel.checkpoint if is_held else None,
        )
        store = PostgresEventStore(database, gatherer=gatherer)

        async def lengths() -> list[int]:
            return [await store.head(stream) for stream in streams]

        played: list[tuple[_Act, object]] = []
        for group in groups:
            before = await lengths()
            outcomes: list[object] = [None] * len(group)

            async def act(number: int, act: _Act, outcomes: list[object] = outcomes) -> None:
                codec = "acme" if act.is_poison else "json"
                event = new_event(event_id=ids[act.fact], codec=codec)
                try:
                    outcomes[number] = await store.append(
                        streams[act.stream], [event], expected=act.expected
                    )
                except StoreError as error:
                    outcomes[number] = error

            async def cancel(scope: trio.CancelScope, turns: int) -> None:
                for _ in range(turns):
                    await trio.lowlevel.checkpoint()
                scope.cancel()

            async def cancellable(number: int, one: _Act) -> None:
                async with trio.open_nursery() as nursery:
                    if one.turns is not None:
                        nursery.start_soon(cancel, nursery.cancel_scope, one.turns)
                    await act(number, one)
                    nursery.cancel_scope.cancel()

            with trio.fail_after(PATIENCE_S):
                async with trio.open_nursery() as nursery:
                    for number, one in enumerate(group):
                        nursery.start_soon(cancellable, number, one)
            after = await lengths()
            _judge_group(list(zip(group, outcomes, strict=True)), before, after)
            played += zip(group, outcomes, strict=True)
        stored = [[event async for event in store.load(stream)] for stream in streams]
        assert store.gather_stats().waiting == 0
    _judge(played, stored, ids)


def _judge_group(group: list[tuple[_Act, object]], before: list[int], after: list[int]) -> None:
    """What those that ran side by side were told, beside how long the streams were by then."""
    for act, outcome in group:
        if isinstance(outcome, ConcurrencyConflict):
            assert outcome.actual != act.expected
            assert before[act.stream] <= outcome.actual <= after[act.stream]
        elif isinstance(outcome, Appended) and not outcome.replayed:
            assert before[act.stream] <= act.expected < after[act.stream]
        # Refused for its version although nobody was faster: nothing may come to that.
        fits = act.expected == before[act.stream] == after[act.stream]
        assert not (fits and isinstance(outcome, ConcurrencyConflict))


def _judge(
    played: list[tuple[_Act, object]], stored: list[list[StoredEvent]], ids: list[UUID]
) -> None:
    """The log is one that appends one after the other may have made, with the same answers."""
    everything = [event for events in stored for event in events]
    assert len({event.event_id for event in everything}) == len(everything)
    assert all(event.codec == "json" for event in everything)
    for number, events in enumerate(stored):
        assert [event.version for event in events] == list(range(1, len(events) + 1))
        assert [event.cursor for event in events] == sorted({event.cursor for event in events})
        for event in events:
            # Somebody wrote it, to this place, who was told so or was gone by then.
            assert any(
                (act.stream, act.expected, ids[act.fact])
                == (number, event.version - 1, event.event_id)
                and not act.is_poison
                and (outcome is None or isinstance(outcome, Appended))
                for act, outcome in played
            )
    places = {event.event_id: (event.stream_id, event.version) for event in everything}
    news: list[UUID] = []
    for act, outcome in played:
        id_ = ids[act.fact]
        mine = {event.event_id: event for event in stored[act.stream]}
        match outcome:
            case Appended():
                assert mine[id_].version == outcome.version
                assert mine[id_].cursor == outcome.cursor
                if not outcome.replayed:
                    assert outcome.version == act.expected + 1
                    news.append(id_)
            case DuplicateEventId():
                assert id_ in places
                assert id_ not in mine
            case StatementRefused():
                assert act.is_poison
            case None:
                assert act.turns is not None
            case _:
                assert isinstance(outcome, ConcurrencyConflict)
    # New to one caller only.
    assert len(set(news)) == len(news)


async def _own(database: Database, *shards: Shard) -> None:
    async def write(connection: Connection) -> None:
        await connection.executemany(
            "INSERT INTO shards (id, owner, epoch, lease_until) VALUES ($1, $2, $3, now())",
            [(one.id, one.owner, one.epoch) for one in shards],
        )

    await database.run(write)


async def test_appends_under_shards_share_a_commit(database: Database) -> None:
    # PERF-30, CLU-17
    mine = [Shard(number, "me", 2) for number in range(3)]
    await _own(database, *mine)
    store, gate = _held(database, _PATIENT)
    requests = [
        replace(_one(StreamId(f"order-{number}")), shard=mine[number % 3]) for number in range(12)
    ]
    before = await _transactions(database)
    assert _short(await _together(store, gate, *requests)) == [(1, False)] * 12
    stats = store.owned_stats()
    assert (stats.rows, stats.statements) == (12, 1)
    # Those that look how many there were are transactions too, and few.
    assert await _transactions(database) - before < 6


async def _transactions(database: Database) -> int:
    """The number of the next transaction that writes; asking for it is none."""

    async def ask(connection: Connection) -> int:
        return int(
            await connection.fetchval("SELECT pg_snapshot_xmax(pg_current_snapshot())::text")
        )

    return await database.run(ask)


async def test_of_appends_that_share_only_those_of_a_present_owner_are_stored(
    database: Database,
) -> None:
    """One shard under two epochs, of which the earlier must not count because the later does."""
    # CLU-17, PERF-30
    mine, anothers = Shard(1, "me", 2), Shard(2, "another", 7)
    await _own(database, mine, anothers)
    store, gate = _held(database, _PATIENT)
    held = [
        mine,
        Shard(1, "me", 1),
        Shard(1, "another", 2),
        Shard(2, "me", 7),
        Shard(3, "me", 2),
        anothers,
        mine,
    ]
    requests = [
        replace(_one(StreamId(f"order-{number}")), shard=shard) for number, shard in enumerate(held)
    ]
    # The last finds its stream longer than it expects; one builds on another of the statement.
    await store.append(StreamId("order-6"), [new_event()])
    behind = replace(_one(StreamId("order-0"), 1), shard=mine)
    outcomes = await _together(store, gate, *requests, behind)
    assert store.owned_stats().statements == 1
    assert _short(outcomes) == [
        (1, False), "Fenced", "Fenced", "Fenced", "Fenced", (1, False), "ConcurrencyConflict",
        (2, False),
    ]  # fmt: skip


async def test_a_takeover_waits_for_the_appends_that_share(database: Database) -> None:
    """And an append that waited for a takeover finds that its shard is another's."""
    # CLU-17
    mine = Shard(1, "me", 2)
    await _own(database, mine)
    store, gate = _held(database, _PATIENT)
    token = trio.lowlevel.current_trio_token()
    taken, done = trio.Event(), trio.Event()

    async def take_over(connection: Connection) -> None:
        await connection.execute("UPDATE shards SET owner = 'another', epoch = 3 WHERE id = 1")
        token.run_sync_soon(taken.set)
        while not done.is_set():  # noqa: ASYNC110  (an event of the other loop)
            await asyncio.sleep(0.005)

    requests = [replace(_one(one), shard=mine) for one in (A, B)]
    async with (
        open_database(database.url, part="holder", settings=PATIENT_POOL) as other,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(partial(other.transact, take_over, timeout_s=PATIENCE_S))
        await taken.wait()
        async with _appending(store, *requests) as (outcomes, _):
            gate.opened.set()
            while not await _waits_for_lock(database):  # noqa: ASYNC110  (of a server)
                await trio.sleep(0.01)
            done.set()
    assert _short(outcomes) == ["Fenced", "Fenced"]
    assert store.owned_stats().statements == 1


async def _waits_for_lock(database: Database) -> bool:
    async def ask(connection: Connection) -> bool:
        return bool(
            await connection.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)")
        )

    return await database.run(ask)


@pytest.mark.parametrize("name", [one.name for one in fields(GatherSettings)])
@pytest.mark.parametrize("nonsense", [-1, nan])
def test_nonsense_limits_are_refused(name: str, nonsense: float) -> None:
    with pytest.raises(ValueError, match="must be"):
        GatherSettings(**{name: nonsense})  # type: ignore[arg-type]  # nonsense, on purpose
