"""What a site tells of its store and of what stands beside it, on both engines."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from uuid import uuid4

import pytest
import trio
from trio.testing import MockClock

from actors.persistence import START, GenerationState, StoreUnavailable, StreamId
from actors.persistence.beside_log.outbox import partition_of
from actors.persistence.bus import Record, StartAt
from storage.bus import BusTables, MemoryBus
from storage.memory import (
    MemoryDatabase,
    MemoryDeadLetters,
    MemoryEventStore,
    MemoryOutbox,
    MemoryProjections,
    MemoryTimers,
)
from storage.postgres import Connection, Database, PoolSettings, open_database
from storage.testing import TemporaryServer
from storage.testing.dead_letters import letter
from storage.testing.kept import Kept, kept_in_memory, kept_in_postgres
from storage.testing.samples import NOON, message, new_events, timer
from tests.engines import real_environment, virtual_environment
from tests.patience import PATIENCE_S, until
from web.app.health import check_pool, memory_components, store_components
from web.observability.bus_lag import LOOK_S_MAX
from web.observability.health import Component, Finding, degraded, healthy, unhealthy
from web.observability.health.of_store import (
    LateAfter,
    bus_component,
    letters_component,
    outbox_component,
    projections_component,
    store_component,
    timers_component,
)
from web.settings import OUTBOX_AGE_S_MAX, TIMERS_LATE_S_MAX, Settings

A = StreamId("order-a")
LATE = LateAfter()


async def look(component: Component) -> Finding:
    found = component.check()
    return found if isinstance(found, Finding) else await found


async def dead_letters_degrade_from_half_and_are_unhealthy_when_full(kept: Kept) -> None:
    """None of its twenty places is left."""
    component = letters_component(kept.dead_letters)
    told = []
    for n in range(20):
        await kept.dead_letters.add(letter(n))
        told.append(await look(component))
    assert [found.status for found in told] == (["healthy"] * 10 + ["degraded"] * 9 + ["unhealthy"])
    assert told[10].message == "the dead letters are 55% full"
    assert told[19].message == "the dead letters are full: what fails from now on is not kept"
    assert told[19].details["pending"] == 20
    [first, *_] = await kept.dead_letters.list(limit=1)
    await kept.dead_letters.discard(first.id, "ada", "seen")
    assert (await look(component)).status == "degraded"


async def a_message_that_nobody_sends_degrades(kept: Kept) -> None:
    component = outbox_component(kept.outbox, LATE)
    await kept.events.append(A, new_events(1), outbox=[message("k")])
    assert (await look(component)).status == "healthy"
    await kept.pass_time(OUTBOX_AGE_S_MAX + 1)
    found = await look(component)
    assert found.status == "degraded"
    assert found.message.startswith("a message waits for 6")
    assert (found.details["pending"], found.details["given_up"]) == (1, 0)
    # One that was given up waits for nobody: it is a dead letter.
    part = partition_of("k")
    epoch = (await kept.outbox.lease("relay", [part]))[part]
    [entry] = await kept.outbox.next_batch(part, epoch)
    await kept.outbox.mark_failed(part, epoch, entry.id, "no", None)
    found = await look(component)
    assert (found.status, found.details["given_up"]) == ("healthy", 1)


async def a_timer_that_nobody_delivers_degrades(kept: Kept) -> None:
    now = NOON
    component = timers_component(kept.timers, lambda: now, LATE)
    assert (await look(component)).status == "healthy"
    await kept.timers.set(timer(0.0))
    for after_s, status in [(-60, "healthy"), (TIMERS_LATE_S_MAX, "healthy"), (61, "degraded")]:
        now = NOON + timedelta(seconds=after_s)
        assert (await look(component)).status == status
    assert (await look(component)).message == "a timer is due for 61 s"
    await kept.timers.claim_due("service", now)
    assert (await look(component)).status == "healthy"  # it is being delivered


async def a_read_model_that_is_behind_or_halted_degrades(kept: Kept) -> None:
    hasty, patient = (
        projections_component(kept.projections, kept.events, LateAfter(projections_s=seconds))
        for seconds in (0.0, 1e9)
    )
    assert (await look(hasty)).status == "healthy"
    await kept.events.append(A, new_events(3))
    await kept.projections.open("orders", 1, 1, GenerationState.LIVE)
    await kept.pass_time(31)
    found = await look(hasty)
    assert (found.status, found.message) == ("degraded", "over 0 s behind: orders")
    assert found.details["lag_events"] == (await kept.events.lag(START)).events
    # It has not served yet, and `/health/startup` waits for it.
    assert (found.details["behind"], found.is_starting) == (1, True)
    # A rebuild is behind by what it is, and serves nobody; but one that is halted is not built.
    await kept.projections.open("orders", 2, 1, GenerationState.BUILDING)
    assert (await look(patient)).status == "healthy"
    for generation, is_starting in [(2, True), (1, False)]:
        await kept.projections.set_state(
            "orders", generation, GenerationState.HALTED, "password=hunter2"
        )
        found = await look(patient)
        assert (found.status, found.message) == ("degraded", "halted: orders")
        # Waiting does not mend what serves and is halted: it keeps no start waiting.
        assert (await look(hasty)).is_starting is is_starting
    # A projection of a program that is gone is nobody's trouble.
    none = LateAfter(projections_s=0.0, passed_over=["orders"])
    component = projections_component(kept.projections, kept.events, none)
    assert (await look(component)).status == "healthy"


async def many_that_are_behind_are_a_number_and_some_names(kept: Kept) -> None:
    await kept.events.append(A, new_events(1))
    await kept.pass_time(31)
    for name in "edcba":
        await kept.projections.open(name, 1, 1, GenerationState.LIVE)
    late = LateAfter(projections_s=0.0, passed_over=["orders"])
    found = await look(projections_component(kept.projections, kept.events, late))
    assert found.message == "over 0 s behind: a, b, c and 2 more"
    assert found.details["behind"] == 5


ON_BOTH_ENGINES = [
    dead_letters_degrade_from_half_and_are_unhealthy_when_full,
    a_message_that_nobody_sends_degrades,
    a_timer_that_nobody_delivers_degrades,
    a_read_model_that_is_behind_or_halted_degrades,
    many_that_are_behind_are_a_number_and_some_names,
]


@pytest.mark.parametrize("holds", ON_BOTH_ENGINES, ids=lambda holds: holds.__name__)
async def test_in_memory(holds: Callable[[Kept], Awaitable[None]]) -> None:
    # WEB-21, RES-40, STORE-62, PROJ-5
    await holds(kept_in_memory())


async def test_in_postgres(database: Database) -> None:
    # WEB-21, RES-40, STORE-62, PROJ-5: one after the other, for a database takes a second to make
    kept = kept_in_postgres(database)
    for holds in ON_BOTH_ENGINES:
        await holds(kept)


async def test_a_store_that_is_away_is_told_in_fixed_words() -> None:
    # WEB-20, WEB-21: the twin in memory, cut as PostgreSQL is in `test_health_site.py`
    events = MemoryEventStore(MemoryDatabase())
    component = store_component(events)
    assert (await look(component)).status == "healthy"
    events.fail_next(StoreUnavailable("the host db.internal is away"))
    found = await look(component)
    assert (found.status, found.message) == ("unhealthy", "the database does not answer")
    assert (await look(component)).status == "healthy"


async def test_what_stands_beside_a_store_that_is_away_does_not_speak_for_it() -> None:
    # WEB-20: what cannot be read is degraded; that the store is away is one component's to tell
    gone = StoreUnavailable("the host db.internal is away")
    database = MemoryDatabase()
    outbox, timers = MemoryOutbox(database), MemoryTimers(database)
    projections, letters = MemoryProjections(database), MemoryDeadLetters(database)
    for port in (outbox, timers, projections, letters):
        port.fail_next(gone)
    components = [
        outbox_component(outbox, LATE),
        timers_component(timers, lambda: NOON, LATE),
        projections_component(projections, MemoryEventStore(database), LATE),
        letters_component(letters),
    ]
    found = [await look(one) for one in components]
    assert [one.status for one in found] == ["degraded"] * 3 + ["unhealthy"]
    assert "db.internal" not in str(found)


async def test_a_store_that_is_frozen_is_told_as_soon_as_pages_tell_it(
    autojump_clock: MockClock,
) -> None:
    # WEB-20, SITE-155
    database = MemoryDatabase()
    events, letters, outbox = (
        MemoryEventStore(database), MemoryDeadLetters(database), MemoryOutbox(database)
    )  # fmt: skip
    for port in (events, letters, outbox):
        port.slow(100.0)
    for component, status in [
        (store_component(events), "unhealthy"),
        (letters_component(letters), "unhealthy"),
        (outbox_component(outbox, LATE), "degraded"),
        (projections_component(MemoryProjections(database), events, LATE), "healthy"),
    ]:
        began = trio.current_time()
        assert (await look(component)).status == status
        assert trio.current_time() - began <= LOOK_S_MAX


async def test_a_new_store_is_well_in_all_its_parts(database: Database) -> None:
    # RES-40
    now, settings = real_environment().clock.now, Settings()
    of_postgres = store_components(database, settings, now)
    assert [one.name for one in of_postgres] == [
        "event_store", "pool", "archive", "outbox", "timers", "projections", "dead_letters",
    ]  # fmt: skip
    memory = MemoryDatabase()
    in_memory = memory_components(memory, MemoryEventStore(memory), settings, now)
    assert [one.name for one in in_memory] == [
        one.name for one in of_postgres if one.name not in ("pool", "archive")
    ]
    for component in (*of_postgres, *in_memory):
        assert await look(component) == Finding("healthy", "", (await look(component)).details)


async def test_connections_that_somebody_waits_for_degrade(
    postgres_server: TemporaryServer,
) -> None:
    # RES-40: all of them in use, and one more wanted
    url = postgres_server.server.url
    one = PoolSettings(connections_min=0, connections_max=1, acquire_s_max=PATIENCE_S)
    async with open_database(url, settings=one) as database, trio.open_nursery() as nursery:
        assert check_pool(database).status == "healthy"

        async def hold(connection: Connection) -> None:
            await connection.execute("SELECT pg_sleep(900)")

        nursery.start_soon(database.run, hold)
        await until(lambda: check_pool(database).details["in_use"] == 1)
        assert check_pool(database).status == "healthy"
        nursery.start_soon(database.run, hold)
        await until(lambda: check_pool(database).details["waiting"] == 1)
        found = check_pool(database)
        nursery.cancel_scope.cancel()
    assert (found.status, found.message) == (
        "degraded",
        "every connection is in use and 1 wait for one",
    )


async def test_a_bus_that_is_away_is_degraded_then_unhealthy(autojump_clock: MockClock) -> None:
    # BUS-9, RES-40, WEB-21
    bus = MemoryBus()
    component = bus_component(bus)
    assert (await look(component)).status == "healthy"
    bus.tables.go_away()
    assert (await look(component)).status == "degraded"
    await trio.sleep(59)
    assert (await look(component)).status == "degraded"
    await trio.sleep(2)
    assert await look(component) == unhealthy("the event bus is away for long", away_s=61.0)
    # Where nobody who is served needs it, it never takes the site away.
    spared = bus_component(bus, is_needed=False)
    assert await look(spared) == degraded("the event bus is away", away_s=61.0)
    bus.tables.come_back()
    assert (await look(component)).status == "healthy"


async def test_of_a_bus_it_is_told_how_far_its_groups_are_behind(autojump_clock: MockClock) -> None:
    # BUS-8
    bus = MemoryBus(BusTables(MemoryDatabase(now=virtual_environment().clock.now)))
    component = bus_component(bus)
    assert await look(component) == healthy(groups=0, behind=0, behind_s=0.0)
    await bus.declare("order-events", 2)
    for group in ("mail", "search"):
        await (await bus.join(group, ["order-events"], StartAt.EARLIEST)).leave()
    for number in range(7):
        await bus.publish("order-events", Record(uuid4(), f"order-{number}", b"1"))
    await trio.sleep(9)
    assert await look(component) == healthy(groups=2, behind=7, behind_s=9.0)
