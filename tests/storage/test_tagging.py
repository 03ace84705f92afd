"""Tags and conditions on both engines, and why a reader of tags waits for who is under way."""

import asyncio
from dataclasses import replace

import pytest
import trio

from actors.persistence import (
    Appended,
    AppendRequest,
    Condition,
    ConditionFailed,
    Cursor,
    Page,
    StreamId,
    Tagged,
)
from storage.memory import MemoryEventStore
from storage.postgres import Connection, Database, PostgresEventStore
from storage.postgres.events import tagging
from storage.testing import TaggingSuite, failing_cases
from storage.testing.samples import PATIENCE_S, new_event

SLOW, FAST = StreamId("joined-slow"), StreamId("joined-fast")
BOTH = [Tagged(("fast",)), Tagged(("slow",))]


class TestMemoryTagging(TaggingSuite):
    @pytest.fixture
    def store(self) -> MemoryEventStore:
        return MemoryEventStore()


class TestPostgresTagging(TaggingSuite):
    @pytest.fixture
    def store(self, database: Database) -> PostgresEventStore:
        return PostgresEventStore(database)


class _Careless(MemoryEventStore):
    """Asks no condition."""

    async def append_request(self, request: AppendRequest) -> Appended:
        return await super().append_request(replace(request, condition=None))


class _AsksTwice(MemoryEventStore):
    """Asks a condition before a repeat is known."""

    async def append_request(self, request: AppendRequest) -> Appended:
        if request.condition is not None:
            page = await self.read_tagged(request.condition.query, after=request.condition.after)
            if page.events:
                raise ConditionFailed(request.stream_id, page.events[0].cursor)
        return await super().append_request(request)


@pytest.mark.parametrize(
    ("faulty", "case"),
    [
        (_Careless, "test_a_rule_over_two_things_is_kept_by_a_condition_only"),
        (_Careless, "test_of_many_who_ask_for_none_one_wins"),
        (_AsksTwice, "test_a_repeat_is_replayed_whatever_its_condition_says_now"),
    ],
)
async def test_the_suite_finds_a_planted_fault(faulty: type[MemoryEventStore], case: str) -> None:
    # TEST-8
    assert case in await failing_cases(TaggingSuite, faulty)


# Two appends of different tags, the first of which is under way for long: its number is lower,
# and it becomes visible later. Who has read the second must not take the first for read.


def _judge(slow: Appended, fast: Appended, page: Page) -> None:
    assert slow.cursor < fast.cursor
    assert [event.cursor for event in page.events] == [slow.cursor, fast.cursor]
    assert page.next == fast.cursor


async def test_a_reader_of_tags_waits_for_who_is_under_way_in_memory() -> None:
    # STORE-8, STORE-25
    store = MemoryEventStore()
    held = store.hold_next_commit()
    outcomes: dict[str, Appended] = {}
    pages: list[Page] = []

    async def append(stream_id: StreamId, tag: str) -> None:
        outcomes[tag] = await store.append(stream_id, [new_event(tags=(tag,))])

    async def read() -> None:
        pages.append(await store.read_tagged(BOTH))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(append, SLOW, "slow")
        await held.reached.wait()
        await append(FAST, "fast")
        # Not of its tags: such a reader waits for nobody.
        assert len((await store.read_tagged(BOTH[:1])).events) == 1
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        assert pages == []
        held.release()
    _judge(outcomes["slow"], outcomes["fast"], pages[0])


_HOLD_SLOW = """
CREATE FUNCTION wait_for_test() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(77);
    RETURN NEW;
END
$$;
CREATE TRIGGER wait_for_test AFTER INSERT ON events
    FOR EACH ROW WHEN (NEW.stream_id = 'joined-slow') EXECUTE FUNCTION wait_for_test()
"""
_WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'advisory'"


async def _execute(connection: Connection, statement: str) -> None:
    await connection.execute(statement)


async def _naive(connection: Connection) -> list[Cursor]:
    """What a reader sees that takes no lock."""
    found = await tagging._find(connection, BOTH, Cursor(0, 0), 10, None)
    return [event.cursor for event in found]


async def test_a_reader_of_tags_waits_for_who_is_under_way_in_postgres(database: Database) -> None:
    # STORE-8
    store = PostgresEventStore(database)
    await database.run(_execute, _HOLD_SLOW)
    outcomes: dict[str, Appended] = {}
    pages: list[Page] = []
    seen: list[list[Cursor]] = []

    async def append(stream_id: StreamId, tag: str) -> None:
        outcomes[tag] = await store.append(stream_id, [new_event(tags=(tag,))])

    async def read() -> None:
        pages.append(await store.read_tagged(BOTH))

    async def waiting(connection: Connection, count: int) -> None:
        while await connection.fetchval(_WAITING) < count:  # noqa: ASYNC110  (other sessions)
            await asyncio.sleep(0.01)

    async def hold_back(connection: Connection) -> None:
        await connection.execute("SELECT pg_advisory_lock(77)")
        try:
            token.run_sync_soon(nursery.start_soon, append, SLOW, "slow")
            await waiting(connection, 1)
            token.run_sync_soon(nursery.start_soon, append, FAST, "fast")
            while not seen or not seen[-1]:
                seen.append(await _naive(connection))
                await asyncio.sleep(0.01)
            token.run_sync_soon(nursery.start_soon, read)
            await waiting(connection, 2)
        finally:
            await connection.execute("SELECT pg_advisory_unlock(77)")

    token = trio.lowlevel.current_trio_token()
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            await database.run(hold_back, timeout_s=PATIENCE_S)
    slow, fast = outcomes["slow"], outcomes["fast"]
    _judge(slow, fast, pages[0])
    # TEST-8: without the lock the second is read alone, and the first stands before it for ever.
    assert seen[-1] == [fast.cursor]
    assert list((await store.read_tagged(BOTH, after=seen[-1][-1])).events) == []


async def test_who_asks_about_a_tag_holds_those_back_who_bring_it(database: Database) -> None:
    # STORE-8: two who ask about each other's tags cannot both be right
    store = PostgresEventStore(database)
    outcomes: list[str] = []

    async def append(stream: str, own: str, other: str) -> None:
        event, condition = new_event(tags=(own,)), Condition([Tagged((other,))])
        try:
            await store.append(StreamId(stream), [event], condition=condition)
            outcomes.append("stored")
        except ConditionFailed:
            outcomes.append("refused")

    for number in range(5):
        one, two = f"one-{number}", f"two-{number}"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(append, f"a-{number}", one, two)
            nursery.start_soon(append, f"b-{number}", two, one)
    assert (outcomes.count("stored"), outcomes.count("refused")) == (5, 5)


@pytest.mark.parametrize("tenant", [None, "acme"])
async def test_a_page_of_a_tag_that_most_events_have_reads_no_more_than_itself(
    database: Database, tenant: str | None
) -> None:
    # STORE-7: whatever the planner takes for the average
    store = PostgresEventStore(database)
    mark, its = ("", "NULL") if tenant is None else ("@acme/", "'acme'")
    rows = f"""
    INSERT INTO events (stream_id, version, event_id, event_type, event_data, tags, tenant)
    SELECT '{mark}joined-' || n, 1, gen_random_uuid(), 'Joined', '{{}}',
        ARRAY['{mark}all', '{mark}tag-' || n % 500], {its}
    FROM generate_series(1, 5000) n;
    INSERT INTO event_tags SELECT unnest(tags), txid, position FROM events;
    ANALYZE events, event_tags
    """  # noqa: S608  (our own words)
    plans: list[str] = []

    async def explain(connection: Connection) -> None:
        await connection.execute("BEGIN")
        await tagging._lock(connection, {f"{mark}all": False}, is_asked=True)
        asked = f'[{{"tags": ["{mark}all"], "types": []}}]'
        find = tagging._FIND if tenant is None else tagging._FIND_OF_TENANT
        found = await connection.fetch(f"EXPLAIN (ANALYZE) {find}", asked, 0, 0, 11)
        plans.extend(row[0] for row in found)
        await connection.execute("ROLLBACK")
        assert await connection.fetchval("SHOW enable_sort") == "on"

    await database.run(_execute, rows)
    await database.run(explain)
    scans = [plan for plan in plans if "event_tags" in plan]
    assert scans, plans
    assert all("rows=11.00" in plan for plan in scans), plans
    own = store if tenant is None else store.for_tenant(tenant)
    page = await own.read_tagged([Tagged(("all",))], limit=10)
    assert (len(page.events), page.is_last) == (10, False)
