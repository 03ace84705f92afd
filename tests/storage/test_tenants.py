"""Tenants of one store on both engines; their views pass the other suites in others' midst."""

from collections.abc import Awaitable, Callable

import pytest
import trio

from actors.persistence import (
    START,
    EventStore,
    Private,
    Snapshot,
    StreamId,
    SubjectForgotten,
)
from storage.errors import InvalidField, MigrationFailed
from storage.postgres import (
    Connection,
    Database,
    Gatherer,
    PostgresEventStore,
    check_store,
    migrate,
    migrate_down,
)
from storage.testing import (
    BackwardsSuite,
    ClosedStreamsSuite,
    DeadLettersSuite,
    EventOrderSuite,
    EventStoreSuite,
    FoldingSuite,
    TaggingSuite,
    TenantsSuite,
    WithAppendSuite,
)
from storage.testing.kept import Kept, kept_in_memory, kept_in_postgres
from storage.testing.private import ANN, Named, Place, encoded, place_in_memory, place_in_postgres
from storage.testing.private import TYPES as PRIVATE_TYPES
from storage.testing.private import read as read_private
from storage.testing.projections.inline import INLINE
from storage.testing.reading.folding import TYPES
from storage.testing.reading.tenants import settle
from storage.testing.samples import new_event, new_events
from tests.storage.plans import watched


class TestMemoryTenants(TenantsSuite):
    @pytest.fixture
    def kept(self) -> Kept:
        return kept_in_memory(INLINE)


class TestPostgresTenants(TenantsSuite):
    @pytest.fixture
    def kept(self, database: Database) -> Kept:
        return kept_in_postgres(database, INLINE)


class TestMemoryView(EventStoreSuite, EventOrderSuite, BackwardsSuite, TaggingSuite):
    @pytest.fixture
    async def store(self) -> EventStore:
        return (await settle(kept_in_memory())).events


class TestMemoryViewBesideLog(ClosedStreamsSuite, WithAppendSuite, DeadLettersSuite):
    # It asks `Idempotency` for the key of no tenant, and readers of "totals" for no tenant's.
    # A tenant's letter says so, and speaks of no message; the audit is not a view's. What goes with
    # an append is asked for by the names of no tenant, too.
    test_a_message_is_handled_once = None  # type: ignore[assignment]
    test_the_outbox_keeps_order_per_key = None  # type: ignore[assignment]
    test_a_failure_is_kept_whole = None  # type: ignore[assignment]
    test_an_edit_reaches_what_is_tried_again_and_stands_in_the_audit = None  # type: ignore[assignment]
    test_an_edited_timer_tells_what_it_was_made_to = None  # type: ignore[assignment]
    test_what_was_handed_back_is_told_as_failed_at_its_first_failure = None  # type: ignore[assignment]
    test_those_behind_a_message_go_on_when_its_letter_is_settled = None  # type: ignore[assignment]
    test_the_audit_is_kept_for_a_year = None  # type: ignore[assignment]
    test_a_key_is_held_while_its_request_is_handled = None  # type: ignore[assignment]
    test_a_projection_is_built_without_what_is_gone = None  # type: ignore[assignment]

    @pytest.fixture
    async def kept(self) -> Kept:
        return await settle(kept_in_memory())


class TestMemoryViewFolding(FoldingSuite):
    @pytest.fixture
    async def kept(self) -> Kept:
        return await settle(kept_in_memory(event_types=TYPES))


class TestPostgresView:
    """Of each suite what reads or writes in a way of its own; in memory a view passes all."""

    @pytest.fixture
    async def kept(self, database: Database) -> Kept:
        return await settle(kept_in_postgres(database))

    @pytest.fixture
    def store(self, kept: Kept) -> EventStore:
        return kept.events

    test_another_version = EventStoreSuite.test_another_version_than_expected_is_a_conflict
    test_of_many = EventStoreSuite.test_of_many_with_one_expectation_one_wins
    test_a_batch = EventStoreSuite.test_a_batch_answers_in_order
    test_an_atomic_batch = EventStoreSuite.test_an_atomic_batch_is_all_or_nothing
    test_pages = EventOrderSuite.test_pages_give_every_event_once_in_order
    test_a_filter = EventOrderSuite.test_a_filter_leaves_out_and_goes_on
    test_the_lag = EventOrderSuite.test_the_lag_tells_events_and_seconds
    test_backwards = BackwardsSuite.test_the_order_is_read_from_its_end
    test_counts = BackwardsSuite.test_events_are_counted
    test_queries = TaggingSuite.test_a_query_finds_what_one_of_its_items_describes
    test_of_many_who_ask = TaggingSuite.test_of_many_who_ask_for_none_one_wins
    test_lists = ClosedStreamsSuite.test_lists_leave_closed_streams_out
    test_hidden = ClosedStreamsSuite.test_readers_pass_by_what_is_hidden
    test_snapshots = FoldingSuite.test_a_snapshot_of_something_else_is_not_used


# Private fields.


async def _forgotten_by_one_tenant(place: Place) -> None:
    """Ann of acme is another one than Ann of globex, and than Ann of no tenant."""
    ring = place.ring()
    free = place.events(ring)
    stores = [free, free.for_tenant("acme"), free.for_tenant("globex")]
    states = place.snapshots(ring).for_tenant("acme")
    for store in stores:
        await store.append(ANN, [encoded(Named("ann", Private("Ann")))], expected=0)
    acme = stores[1]
    (event,) = [one async for one in acme.load(ANN)]
    assert event.private is not None
    assert event.private.subjects == ("@acme/customer:ann",)
    await states.save(Snapshot(ANN, 1, "s", b"Ann", frozenset(event.private.subjects)))
    kept = await states.latest(ANN)
    assert kept is not None
    assert kept.data == b"Ann"
    assert await ring.forget("customer:ann", by="ada", tenant="acme")
    told = [PRIVATE_TYPES.decode(one) for one in (await free.read_all()).events]
    assert [isinstance(one, Named) and one.name.is_erased for one in told] == [False, True, False]
    assert await states.latest(ANN) is None
    with pytest.raises(SubjectForgotten) as caught:
        await acme.append(ANN, [encoded(Named("ann", Private("Ann")))])
    assert caught.value.subject == "customer:ann"
    assert await ring.readmit("customer:ann", by="ada", tenant="acme")
    await acme.append(ANN, [encoded(Named("ann", Private("Anna")))])
    assert len(await read_private(acme)) == 2
    # Where there is no tenant nobody has a tenant's name.
    for call in (ring.forget, ring.readmit):
        with pytest.raises(InvalidField):
            await call("@globex/customer:ann", by="eve")


async def test_a_subject_is_its_tenants_own_in_memory() -> None:
    # STORE-44
    await _forgotten_by_one_tenant(place_in_memory())


async def test_a_subject_is_its_tenants_own_in_postgres(database: Database) -> None:
    # STORE-44
    await _forgotten_by_one_tenant(place_in_postgres(database))


# What it costs, and what a store of before becomes.

_OTHERS = """
INSERT INTO events (stream_id, version, event_id, event_type, event_data, tenant)
SELECT o.mark || 'order-' || n, 1, gen_random_uuid(), 'Counted', '{}', o.tenant
FROM (VALUES ('', NULL), ('@globex/', 'globex')) o (mark, tenant), generate_series(1, 2000) n
"""


async def test_a_tenant_pays_for_its_own_events_only(database: Database) -> None:
    # STORE-20, STORE-27: whoever has the rest of the log, and wherever in it the tenant's are
    async def execute_sql(connection: Connection, statement: str) -> None:
        await connection.execute(statement)

    store, own = PostgresEventStore(database), [StreamId(f"order-{n}") for n in range(30)]
    acme = store.for_tenant("acme")
    for name in own:
        await acme.append(name, new_events(1))
    await database.run(execute_sql, _OTHERS)
    await acme.append(own[0], new_events(1, type="Made"))
    await database.run(execute_sql, "ANALYZE events")
    async with watched(database, "FROM events") as (alone, touched):
        view = PostgresEventStore(alone).for_tenant("acme")
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: view.read_all(limit=10),
            lambda: view.read_all(types=["Made"]),
            lambda: view.read_backwards(limit=10),
            lambda: view.read_backwards(categories=["order"]),
            lambda: view.lag(START),
            view.count,
            lambda: view.count(types=["Made"]),
            view.list_streams,
            lambda: view.head(own[0]),
        ]
        for number, call in enumerate(calls):
            await call()
            assert max(await touched()) <= 62, number  # twice all of its own


async def test_tenants_share_statements_and_no_streams(database: Database) -> None:
    # STORE-9, PERF-30: one name and one version at once, and who is cancelled hinders nobody
    gatherer = Gatherer(database, hold=trio.lowlevel.checkpoint)
    store, name = PostgresEventStore(database, gatherer=gatherer), StreamId("order-a")
    stores = [store, *(store.for_tenant(f"t-{n}") for n in range(5))]

    async def write(own: PostgresEventStore) -> None:
        for version in range(4):
            await own.append(name, [new_event(tags=())], expected=version)

    async def write_until_cancelled(own: PostgresEventStore) -> None:
        with trio.move_on_after(0.02):
            await write(own)

    gone = store.for_tenant("gone")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(write_until_cancelled, gone)
        for own in stores:
            nursery.start_soon(write, own)
    stats = store.gather_stats()
    assert stats.rows > stats.statements
    for own in stores:
        assert [event.version async for event in own.load(name)] == [1, 2, 3, 4]
    versions = [event.version async for event in gone.load(name)]
    assert versions == list(range(1, len(versions) + 1))
    await stores[1].append(name, [new_event(tags=("a",))])
    checked = await check_store(database)
    assert (checked.problems, checked.streams) == ((), 6 + bool(versions))


# What programs of before sent, word by word.
_BEFORE_APPEND = """
INSERT INTO events (stream_id, version, event_id, event_type, event_version, codec, event_data,
    metadata, tenant)
SELECT $1, $2::bigint + 1, gen_random_uuid(), 'Before', 1, 'json', '{}', '{}', $3
WHERE ($2 = 0 OR EXISTS (
    SELECT FROM events WHERE stream_id = $1 AND version = $2
        AND event_type NOT IN ('$archived', '$tombstoned')
)) AND NOT EXISTS (SELECT FROM tombstones WHERE stream_id = $1)
RETURNING version
"""
_BEFORE_LOAD = "SELECT version FROM events WHERE stream_id = $1 ORDER BY version"


async def test_a_store_of_before_has_tenants_after_it(database: Database) -> None:
    # STORE-9, STORE-32: and a program of before goes on beside it
    async def before(connection: Connection, version: int, tenant: str | None) -> list[int]:
        await connection.execute(_BEFORE_APPEND, "order-a", version, tenant)
        return [row[0] for row in await connection.fetch(_BEFORE_LOAD, "order-a")]

    await migrate_down(database, 22)
    store, name = PostgresEventStore(database), StreamId("order-a")
    assert await database.run(before, 0, None) == [1]
    # For whom it was, which once was noted so.
    assert await database.run(before, 1, "acme") == [1, 2]
    await migrate(database)
    first, second = [event async for event in store.load(name)]
    assert (first.tenant, second.tenant) == (None, None)
    assert (first.metadata, second.metadata) == ({}, {"tenant": "acme"})
    acme = store.for_tenant("acme")
    assert await acme.head(name) == 0
    assert (await acme.read_all()).events == []
    await acme.append(name, new_events(5), expected=0)
    assert await database.run(before, 2, "acme") == [1, 2, 3]
    assert (await store.append(name, new_events(1), expected=3)).version == 4
    assert [event.tenant for event in (await store.read_all()).events].count("acme") == 5
    assert len((await acme.read_all()).events) == 5
    # And back, unless names have become too long for it.
    await migrate_down(database, 22)
    await migrate(database)
    await acme.append(StreamId(f"order-{'x' * 249}"), [new_event()])
    with pytest.raises(MigrationFailed):
        await migrate_down(database, 22)
    assert await acme.head(name) == 5
