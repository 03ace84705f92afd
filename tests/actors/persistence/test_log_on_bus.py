"""The log on the bus: what is published of it, and how what was heard is followed."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import cast
from uuid import UUID

import pytest
import trio
from trio.testing import MockClock

from actors.persistence import START, Bookmark, Cursor, Page, StoredEvent, StreamId
from actors.persistence.bus import (
    BusCodecError,
    HeardLog,
    LogListener,
    LogPublisher,
    OwnPlace,
    PublishingPlace,
    Record,
    SharedPlace,
)
from actors.persistence.bus.of_log import KEPT_EVENTS, LOOK_S, heard_of, records_of
from actors.runtime import System, open_actors
from storage.bus import BusTables, MemoryBus
from storage.memory import MemoryDatabase, MemoryEventStore, MemoryProjections
from storage.testing.samples import new_event, new_events
from tests.patience import PATIENCE_S

TOPIC = "log"
ONE, TWO = StreamId("one-1"), StreamId("two-1")


class CountingStore(MemoryEventStore):
    """Counts how often the log was read on."""

    reads = 0

    async def read_all(
        self,
        *,
        after: Cursor | Bookmark | None = None,
        limit: int = 1000,
        types: Sequence[str] | None = None,
        categories: Sequence[str] | None = None,
    ) -> Page:
        self.reads += 1
        return await super().read_all(after=after, limit=limit, types=types, categories=categories)


class World:
    """A log, a bus, and what one process hears on it."""

    def __init__(self, kept: int | None = None) -> None:
        self.database = MemoryDatabase()
        self.store = MemoryEventStore(self.database)
        self.read = CountingStore(self.database)
        self.tables = BusTables(MemoryDatabase(), kept=kept)
        self.bus = MemoryBus(self.tables)
        self.heard = HeardLog(self.read)

    async def publish(self, system: System, place: PublishingPlace) -> None:
        await system.start(LogPublisher, self.store, self.bus, TOPIC, place)

    async def listen(self, system: System, group: str = "here") -> None:
        await system.start(LogListener, self.bus, TOPIC, group, self.heard, self.store)

    async def end(self) -> Cursor:
        return (await self.store.read_backwards(limit=1)).events[0].cursor

    def topic(self) -> list[StoredEvent]:
        """What stands on the topic."""
        parts = [raws for part, raws in self.tables.records.items() if part.topic == TOPIC]
        return [heard_of(_record(raw.headers, raw.value)).event for raws in parts for raw in raws]


def _record(headers: object, value: bytes) -> Record:
    assert isinstance(headers, dict)
    texts = {name: text.decode() for name, text in headers.items()}
    return Record(UUID(texts.pop("event_id")), texts["stream_id"], value, texts)


@asynccontextmanager
async def following(
    log: HeardLog, categories: Sequence[str] | None = None, types: Sequence[str] | None = None
) -> AsyncIterator[list[StoredEvent]]:
    """What somebody is told who follows from the begin."""
    told = list[StoredEvent]()

    async def follow() -> None:
        pages = log.follow(after=START, categories=categories, types=types)
        async with aclosing(cast("AsyncGenerator[Page, None]", pages)) as reading:
            async for page in reading:
                told.extend(page.events)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow)
        yield told
        nursery.cancel_scope.cancel()


async def until_told(told: Sequence[StoredEvent], count: int) -> None:
    with trio.fail_after(PATIENCE_S):
        while len(told) < count:  # noqa: ASYNC110  (by the clock of the test)
            await trio.sleep(0.01)


async def test_what_is_published_is_heard_once_in_order_without_the_log(
    autojump_clock: MockClock,
) -> None:
    # EX-47
    world = World()
    await world.store.append(ONE, new_events(3))
    async with (
        open_actors() as system,
        following(world.heard) as told,
        following(world.heard, ["two"]) as of_two,
        following(world.heard, types=["Other"]) as of_type,
    ):
        await world.publish(system, OwnPlace())
        await world.listen(system)
        await until_told(told, 3)
        await trio.sleep(10)
        reads = world.read.reads
        caused = new_event(metadata={"correlation_id": "c-1", "by": "ann"})
        for number in range(50):
            await world.store.append(TWO if number % 2 else ONE, new_events(2))
        await world.store.append(TWO, [caused, new_event(type="Other")])
        await until_told(told, 105)
        assert world.read.reads == reads, "all of it was heard"
        stored = (await world.store.read_all(limit=1000)).events
        assert [facts_of(one) for one in told] == [facts_of(one) for one in stored]
        assert told[-2].metadata == {"correlation_id": "c-1"}
        assert [one.stream_id for one in of_two] == [TWO] * 52
        assert [one.type for one in of_type] == ["Other"]


def facts_of(event: StoredEvent) -> tuple[object, ...]:
    return (event.stream_id, event.version, event.cursor, event.event_id, event.type, event.data)


async def test_what_the_bus_has_lost_is_read_from_the_log(autojump_clock: MockClock) -> None:
    # EX-47: a hole is found by what stands behind it
    world = World()
    await world.store.append(ONE, new_events(5))
    stored = (await world.store.read_all()).events
    lineage = await world.store.lineage()
    records = records_of(stored, Bookmark(lineage, START))
    async with following(world.heard) as told:
        await until_told(told, 5)
        await world.store.append(ONE, new_events(5))
        stored = (await world.store.read_all()).events
        records = records_of(stored, Bookmark(lineage, START))
        for number in (5, 6, 9, 9, 6):
            world.heard.hear(heard_of(records[number]))
            await trio.sleep(0.1)
        assert [one.version for one in told] == list(range(1, 11))


@asynccontextmanager
async def told_one_of_three(world: World) -> AsyncIterator[Sequence[StoredEvent]]:
    """Give what somebody is told whose bus has gone away behind the first of three events."""
    async with open_actors() as system, following(world.heard) as told:
        await world.publish(system, OwnPlace())
        await world.listen(system)
        await trio.sleep(1)
        await world.store.append(ONE, new_events(1))
        await until_told(told, 1)
        world.tables.go_away()
        await world.store.append(ONE, new_events(2))
        yield told


async def test_a_bus_that_is_away_is_not_waited_for(autojump_clock: MockClock) -> None:
    # EX-47
    world = World()
    async with told_one_of_three(world) as told:
        began = trio.current_time()
        await until_told(told, 3)
        assert trio.current_time() - began <= 3 * LOOK_S
        world.tables.come_back()
        await world.store.append(ONE, new_events(1))
        await until_told(told, 4)
        await trio.sleep(60)
        assert [one.version for one in told] == [1, 2, 3, 4]
        assert [one.version for one in world.topic()] == [1, 2, 3, 4], "published when it was back"


async def test_who_begins_while_the_bus_is_away_leaves_nobody_untold(
    autojump_clock: MockClock,
) -> None:
    # EX-47: what one of them reads in the log, the others have not had
    world = World()
    async with told_one_of_three(world) as told:
        began = trio.current_time()
        async with following(world.heard) as later:
            await until_told(later, 3)
            assert len(told) == 1, "the bus has not told it, and nobody has looked"
            await until_told(told, 3)
            assert trio.current_time() - began <= 3 * LOOK_S
        # Nobody waits there any more: their place is no reason to look.
        reads = world.read.reads
        await trio.sleep(60)
        assert world.read.reads == reads


async def test_of_two_publishers_one_publishes_and_the_other_takes_over(
    autojump_clock: MockClock,
) -> None:
    # EX-47: in two processes, of which one dies
    world = World()
    rows = MemoryProjections(world.database)
    await world.store.append(ONE, new_events(7))
    async with open_actors() as first:
        await world.publish(first, SharedPlace(rows, "published"))
        async with open_actors() as second:
            await world.publish(second, SharedPlace(rows, "published"))
            await trio.sleep(1)
            for _ in range(20):
                await world.store.append(ONE, new_events(1))
                await trio.sleep(1)
            versions = [one.version for one in world.topic()]
            # Both begin at once, and the first page is twice there; then one lets the other.
            assert len(versions) <= 21
            assert sorted(set(versions)) == list(range(8, 28)), "none of before there was a bus"
        for _ in range(5):
            await world.store.append(ONE, new_events(1))
        await trio.sleep(3 * LOOK_S)
        versions = [one.version for one in world.topic()]
        assert list(dict.fromkeys(versions)) == list(range(8, 33))
        (row,) = await rows.checkpoints("published")
        assert row.cursor == await world.end()


async def test_little_is_kept_of_what_was_heard_and_published(autojump_clock: MockClock) -> None:
    world = World(kept=500)
    async with open_actors() as system:
        await world.publish(system, OwnPlace())
        await world.listen(system)
        await trio.sleep(1)
        for _ in range(25):
            await world.store.append(ONE, new_events(100))
        await trio.sleep(10)
        assert 500 <= len(world.topic()) < 1000
        assert str(world.heard).startswith(f"<HeardLog {KEPT_EVENTS} events")
        # Who begins now has all of it all the same.
        async with following(world.heard) as told:
            await until_told(told, 2500)
            assert [one.version for one in told] == list(range(1, 2501))


async def test_what_is_no_record_of_a_log_is_a_hole() -> None:
    world = World()
    await world.store.append(ONE, new_events(1))
    (record,) = records_of((await world.store.read_all()).events, Bookmark("l", START))
    for name, text in (("cursor", "x"), ("version", "-"), ("recorded_at", "now"), ("after", "")):
        broken = replace(record, headers={**record.headers, name: text})
        with pytest.raises(BusCodecError):
            heard_of(broken)
    bare = Record(record.event_id, "k", b"{}")
    with pytest.raises(BusCodecError):
        heard_of(bare)
