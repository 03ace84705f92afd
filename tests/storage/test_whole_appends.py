"""Appends that bring more than an event, alone and in one statement: each whole, or not at all."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import cast
from uuid import uuid4

import pytest
import trio

from actors.persistence import (
    ANY,
    Appended,
    AppendRequest,
    CancelTimer,
    CloseTimer,
    ConcurrencyConflict,
    EventTypes,
    Idempotent,
    InlineProjections,
    OutboxMessage,
    Projection,
    ProjectionTx,
    StoredEvent,
    StoreError,
    StreamId,
    TimerChange,
    inline_collection,
)
from actors.persistence.event_types import EVENTS
from storage.postgres import (
    Connection,
    Database,
    Gatherer,
    PostgresEventStore,
    PostgresProjections,
    PostgresTimers,
)
from storage.postgres.whole_appends import insert_wholes
from storage.testing import InlineProjectionsSuite, WithAppendSuite
from storage.testing.kept import Kept, kept_in_postgres
from storage.testing.projections.inline import INLINE, NAMES, TYPES, NameTaken, taken
from storage.testing.samples import PATIENCE_S, message, new_event, new_events, timer
from tests.patience import until
from tests.storage.test_gathering import Gate

A, B, C = StreamId("user-a"), StreamId("user-b"), StreamId("user-c")


class _Exact(PostgresEventStore):
    """Expects what is there where nothing was expected, so that all suites go the one road."""

    async def append_request(self, request: AppendRequest) -> Appended:
        while request.expected is ANY:
            exact = replace(request, expected=await self.head(request.stream_id))
            try:
                return await super().append_request(exact)
            except ConcurrencyConflict:
                pass  # of others here who did not say either what they expect
        return await super().append_request(request)


def _held_kept(
    database: Database, inline: Sequence[Projection] = (), event_types: EventTypes = EVENTS
) -> Kept:
    gatherer = Gatherer(database, hold=trio.lowlevel.checkpoint)
    events = _Exact(database, inline=inline, event_types=event_types, gatherer=gatherer)
    return replace(kept_in_postgres(database), events=events)


class TestHeldWithAppend(WithAppendSuite):
    """As by default, but that each append waits for others."""

    @pytest.fixture
    def kept(self, database: Database) -> Kept:
        return _held_kept(database)


class TestHeldInline(InlineProjectionsSuite):
    """The same, with documents."""

    @pytest.fixture
    def kept(self, database: Database) -> Kept:
        return _held_kept(database, INLINE)


def _held(database: Database, inline: Sequence[Projection] = ()) -> tuple[PostgresEventStore, Gate]:
    gate = Gate()
    return PostgresEventStore(
        database, inline=inline, gatherer=Gatherer(database, hold=gate.hold)
    ), gate


async def _together(
    store: PostgresEventStore, gate: Gate, *requests: AppendRequest
) -> list[object]:
    """What comes of requests that wait, in this order, until all of them do."""
    outcomes: list[object] = [None] * len(requests)

    async def append(number: int) -> None:
        try:
            outcomes[number] = await store.append_request(requests[number])
        except StoreError as error:
            outcomes[number] = error

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            for number in range(len(requests)):
                nursery.start_soon(append, number)
                await until(partial(_waits, store, number + 1))
            gate.opened.set()
    return outcomes


def _waits(store: PostgresEventStore, count: int) -> bool:
    return store.whole_stats().waiting >= count


def _short(outcomes: Sequence[object]) -> list[object]:
    return [one.version if isinstance(one, Appended) else type(one).__name__ for one in outcomes]


def _whole(stream_id: StreamId, expected: int = 0) -> AppendRequest:
    """Two events, two messages, two timers of which one is over at once."""
    over = timer(address=stream_id, name="over")
    return AppendRequest(
        stream_id,
        new_events(2),
        expected,
        outbox=[message(f"{stream_id} 1"), message(f"{stream_id} 2")],
        timers=[timer(address=stream_id, name="set"), over, CancelTimer(stream_id, "over")],
    )


async def _messages(database: Database) -> list[str]:
    async def work(connection: Connection) -> list[str]:
        rows = await connection.fetch("SELECT key FROM outbox ORDER BY txid, id")
        return [row["key"] for row in rows]

    return await database.run(work)


async def _numbers(connection: Connection) -> list[int]:
    return [row["id"] for row in await connection.fetch("SELECT id FROM outbox ORDER BY txid, id")]


async def _open(database: Database) -> list[tuple[str, str]]:
    timers = await PostgresTimers(database).open_timers(limit=1000)
    return sorted((one.address, one.name) for one in timers)


async def test_appends_that_wait_together_are_one_statement(database: Database) -> None:
    # STORE-10, STORE-16, PERF-56
    store, gate = _held(database)
    streams = [StreamId(f"user-{n:02}") for n in range(20)]
    outcomes = await _together(store, gate, *map(_whole, streams))
    assert _short(outcomes) == [2] * 20
    stored = [event for stream in streams async for event in store.load(stream)]
    assert len({event.cursor.txid for event in stored}) == 1
    assert [one.cursor for one in outcomes if isinstance(one, Appended)] == [
        event.cursor for event in stored if event.version == 2
    ]
    assert [event.cursor for event in stored] == sorted(event.cursor for event in stored)
    # In order for each key, and no timer that was over before it was seen.
    assert await _messages(database) == [f"{stream} {n}" for stream in streams for n in (1, 2)]
    # Each is told the numbers of its own.
    assert [
        number for one in outcomes if isinstance(one, Appended) for number in one.outbox
    ] == await database.run(_numbers)
    assert await _open(database) == [(stream, "set") for stream in streams]
    stats = store.whole_stats()
    assert (stats.statements, stats.rows, stats.left_out, stats.alone) == (1, 20, 0, 0)


async def test_a_timer_is_cancelled_and_set_anew_by_one_append(database: Database) -> None:
    # STORE-50
    store, gate = _held(database)
    gate.opened.set()
    await store.append_request(_whole(A))
    again = timer(address=A, name="set")
    changes: list[TimerChange] = [CancelTimer(A, "set"), again, again]
    changes.append(timer(address=A, name="other"))
    await store.append(A, new_events(1), expected=2, timers=changes)
    found = await PostgresTimers(database).open_timers(address=A)
    assert sorted((one.name, one.timer_id == again.timer_id) for one in found) == [
        ("other", False),
        ("set", True),
    ]


async def test_one_that_is_too_late_hinders_nobody_and_leaves_nothing(database: Database) -> None:
    # STORE-11: of three that go together one expects what is not there, one has been overtaken
    store, gate = _held(database)
    await PostgresEventStore(database).append(C, new_events(1), expected=0)
    outcomes = await _together(store, gate, _whole(A), _whole(B, 5), _whole(C))
    assert _short(outcomes) == [2, "ConcurrencyConflict", "ConcurrencyConflict"]
    assert await _messages(database) == [f"{A} 1", f"{A} 2"]
    assert await _open(database) == [(A, "set")]
    assert [await store.head(stream) for stream in (A, B, C)] == [2, 0, 1]


async def test_two_of_one_stream_in_one_statement_take_turns(database: Database) -> None:
    # STORE-11, STORE-21
    store, gate = _held(database)
    outcomes = await _together(store, gate, _whole(A), _whole(A, 2), _whole(B))
    assert _short(outcomes) == [2, 4, 2]
    outcomes = await _together(*_held(database), _whole(A, 4), _whole(A, 4))
    assert sorted(map(str, _short(outcomes))) == ["6", "ConcurrencyConflict"]
    assert len(await _messages(database)) == 8


async def test_a_message_that_is_known_refuses_its_own_append_only(database: Database) -> None:
    # STORE-10, STORE-52
    store, gate = _held(database)
    known = message("known")
    await PostgresEventStore(database).append(C, new_events(1), outbox=[known])
    again = OutboxMessage(known.message_id, "bus", "t", "k", b"")
    twice = AppendRequest(B, new_events(1), 0, outbox=[again])
    outcomes = await _together(store, gate, _whole(A), twice, _whole(StreamId("user-z")))
    assert _short(outcomes) == [2, "DuplicateMessageId", 2]
    assert await store.head(B) == 0


async def test_a_repeat_is_told_what_was_stored(database: Database) -> None:
    # STORE-12
    store, gate = _held(database)
    request = _whole(A)
    first = await PostgresEventStore(database).append_request(request)
    outcomes = await _together(store, gate, request, _whole(B))
    assert isinstance(outcomes[0], Appended)
    assert (outcomes[0].replayed, outcomes[0].cursor) == (True, first.cursor)
    assert len(await _messages(database)) == 4


async def test_nothing_follows_the_end_of_a_stream(database: Database) -> None:
    # STORE-27
    store, gate = _held(database)
    plain = PostgresEventStore(database)
    await plain.append(A, new_events(1))
    await plain.archive(A)
    await plain.append(B, new_events(1))
    await plain.tombstone(B)
    outcomes = await _together(store, gate, _whole(A, 2), _whole(B), _whole(C))
    assert _short(outcomes) == ["StreamArchived", "StreamGone", 2]
    assert len(await _messages(database)) == 2


async def test_what_needs_a_look_at_more_goes_its_careful_way(database: Database) -> None:
    # STORE-54, STORE-55: and what is large, or takes the stream as it is
    async def never() -> None:
        raise AssertionError("nothing waits here")

    store = PostgresEventStore(database, gatherer=Gatherer(database, hold=never))
    one = timer()
    await store.append(A, new_events(1), timers=[one])
    await store.append(A, new_events(1), expected=1, timers=[CloseTimer(one.timer_id)])
    key = Idempotent("orders", "k", b"hash")
    await store.append(A, new_events(1), expected=2, idempotency=key)
    large = message("k", payload=b"x" * 20_000)
    await store.append(A, new_events(1), expected=3, outbox=[large])
    slow = replace(timer(), payload=b"x" * 20_000)
    await store.append(A, new_events(1), expected=4, timers=[slow])
    handled = AppendRequest(A, new_events(1), 5, inbox=("orders", uuid4()))
    await store.append_request(handled)
    await store.append(A, [new_event(tags=["t"])], expected=6)
    assert await store.head(A) == 7


# Documents.


class _Counting(Projection):
    """How often each owner took any name; asked for ahead of `apply`, or not."""

    name = "counting"
    handles = (NameTaken,)
    types = TYPES
    inline = True

    def __init__(self, *, ahead: bool) -> None:
        self.ahead = ahead

    def reads(self, event: StoredEvent) -> Sequence[str]:
        return ("all",) if self.ahead else ()

    async def apply(self, event: StoredEvent, tx: ProjectionTx) -> None:
        kept = await tx.get("all") or {}
        count = kept.get(event.stream_id, 0)
        assert isinstance(count, int)
        tx.put("all", {**kept, event.stream_id: count + 1})
        tx.put(event.stream_id, {"last": event.version})
        if count:
            tx.delete(event.stream_id)


@pytest.mark.parametrize("ahead", [True, False])
async def test_of_those_that_share_each_sees_what_those_before_it_wrote(
    database: Database, ahead: bool
) -> None:
    # PROJ-9
    counting = _Counting(ahead=ahead)
    store, gate = _held(database, [counting, NAMES])
    requests = [
        AppendRequest(stream, [taken(f"{stream} {n}") for n in range(count)], 0)
        for stream, count in ((A, 1), (B, 2), (C, 1))
    ]
    assert _short(await _together(store, gate, *requests)) == [1, 2, 1]
    assert store.whole_stats().statements == 1
    documents = PostgresProjections(database)
    found = dict(await documents.query(inline_collection(counting)))
    assert found == {
        "all": {A: 1, B: 2, C: 1},
        A: {"last": 1},
        C: {"last": 1},
    }
    assert await documents.exists(inline_collection(NAMES), f"{B} 1")


async def test_a_rule_that_one_breaks_refuses_no_other(database: Database) -> None:
    # PROJ-9: they are applied anew, each alone
    store, gate = _held(database, INLINE)
    requests = [
        AppendRequest(stream, [taken(name)], 0, outbox=[message(name)])
        for stream, name in ((A, "ann"), (B, "ann"), (C, "eve"))
    ]
    outcomes = await _together(store, gate, *requests)
    # Which of the two is first is nobody's promise.
    assert sorted(map(str, _short(outcomes))) == ["1", "1", "InlineProjectionFailed"]
    assert sorted(await _messages(database)) == ["ann", "eve"]
    assert store.whole_stats().alone == 3


class _OddHint(_Counting):
    """Names what can be no key."""

    name = "odd"

    def reads(self, event: StoredEvent) -> Sequence[str]:
        return ("\x00",)


async def test_a_wrong_hint_is_its_projections_fault(database: Database) -> None:
    # PROJ-9
    store = PostgresEventStore(database, inline=[_OddHint(ahead=True)])
    with pytest.raises(StoreError, match="projection odd refused"):
        await store.append(A, [taken("ann")], expected=0)
    assert await store.head(A) == 0


async def test_who_is_cancelled_before_it_was_sent_leaves_nothing(database: Database) -> None:
    # STORE-14
    store, gate = _held(database)
    scope = trio.CancelScope()

    async def leaves() -> None:
        with scope:
            await store.append_request(_whole(A))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(leaves)
        await until(partial(_waits, store, 1))
        scope.cancel()
        await until(lambda: store.whole_stats().waiting == 0)
        gate.opened.set()
    await store.append_request(_whole(B))
    assert await _messages(database) == [f"{B} 1", f"{B} 2"]
    assert await store.head(A) == 0


# What it costs.


class _Explaining:
    """A connection that tells how its statements are carried out, the last of a transaction."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.plan = ""

    async def fetch(self, query: str, *args: object) -> list[object]:
        text = await self.connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}", *args)
        self.plan += text
        return []


async def test_timers_are_found_one_by_one_however_many_there_are(database: Database) -> None:
    # PERF-56
    async def work(connection: Connection) -> str:
        await connection.execute(
            "INSERT INTO timers (timer_id, address, name, token, due_at)"
            " SELECT gen_random_uuid(), 'a' || n, 'step', n::text, now()"
            " FROM generate_series(1, 5000) n"
        )
        await connection.execute("ANALYZE timers")
        # As after the fifth call of a prepared statement: a plan for all values.
        await connection.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        told = _Explaining(connection)
        changes = [CancelTimer(f"a{n}", "step") for n in range(1, 6)]
        requests = [AppendRequest(stream, new_events(2), 0, timers=changes) for stream in (A, B, C)]
        await insert_wholes(cast(Connection, told), requests, InlineProjections(), 0)
        return told.plan

    plan = await database.transact(work)
    of_timers = re.findall(r'"Node Type": "([A-Za-z ]+)"[^{}]*?"Relation Name": "timers"', plan)
    assert of_timers.count("ModifyTable") == 2
    assert [one for one in of_timers if "Index" in one]
    assert "Seq Scan" not in of_timers


async def test_the_statement_is_planned_a_few_times_only(database: Database) -> None:
    # PERF-56: however many rows it has
    async def work(connection: Connection) -> list[tuple[int, int]]:
        inline = InlineProjections()
        for round_ in range(20):
            streams = [StreamId(f"user-{round_}-{n}") for n in range(1 + round_ % 4)]
            await insert_wholes(connection, [_whole(stream) for stream in streams], inline, 0)
        rows = await connection.fetch(
            "SELECT custom_plans, generic_plans FROM pg_prepared_statements"
            " WHERE statement LIKE '%fitting%unnest%'"
        )
        return [(row[0], row[1]) for row in rows if row[0]]

    assert await database.run(work) == [(5, 15)]
