"""The bus in memory passes its suite, and the suite finds planted faults."""

from collections.abc import Sequence
from itertools import pairwise
from zlib import crc32

import pytest
import trio
import trio.testing

from actors.persistence.bus import (
    Assignment,
    BusState,
    BusUnavailable,
    Guard,
    Held,
    Part,
    RawRecord,
    Received,
    Record,
    StartAt,
    SubscribeOptions,
)
from actors.persistence.words import Cursor
from storage.bus import BusTables, MemoryBus
from storage.bus.memory import MemoryMember
from storage.memory import MemoryDatabase, MemoryEventStore
from storage.testing import failing_cases
from storage.testing.bus import TOPIC, BusKit, BusSuite, Heard, options, records, subscribed
from storage.testing.kept import kept_in_memory


def kit_of(make: type[MemoryBus]) -> BusKit:
    """Call this for an engine in memory, with a store on the same database."""
    kept = kept_in_memory()
    assert isinstance(kept.events, MemoryEventStore)
    database: MemoryDatabase = kept.events.database
    tables, effects = BusTables(database), list[str]()

    async def effect(transaction: object, received: Received) -> None:
        assert transaction is database
        effects.append(received.record.value.decode())

    async def told() -> Sequence[str]:
        return effects

    bus = make(tables)
    return BusKit(bus, lambda: make(tables), kept, bus.dead_letters, trio.sleep, effect, told)


def _in_virtual_time(name: str) -> object:
    """A case of the suite for which the clock jumps: only a test's own argument sets trio's."""

    async def case(self: BusSuite, kit: BusKit, autojump_clock: trio.testing.MockClock) -> None:
        await getattr(BusSuite, name)(self, kit)

    return case


class TestMemoryBus(BusSuite):
    for _name in [name for name in dir(BusSuite) if name.startswith("test_")]:
        locals()[_name] = _in_virtual_time(_name)

    @pytest.fixture
    def kit(self) -> BusKit:
        return kit_of(MemoryBus)


class _KeyedByType(MemoryBus):
    """Keeps no order of a key: its partition is that of the event's type."""

    def _partition(self, record: Record, partitions: int) -> int:
        return crc32(record.headers.get("event_type", "").encode()) % partitions


class _AckingEarly(MemoryMember):
    """Notes an offset when it fetches: what its handler then loses is lost."""

    async def renew(self) -> Assignment:
        assignment = await super().renew()
        self._epochs: dict[Part, Held] = dict(assignment.held)
        return assignment

    async def fetch(self, part: Part, after: Cursor, limit: int) -> Sequence[RawRecord]:
        found = await super().fetch(part, after, limit)
        if found and part in self._epochs:
            await super().commit(part, self._epochs[part].epoch, found[-1].offset)
        return found

    async def commit(self, part: Part, epoch: int, offset: Cursor) -> bool:
        return True


class _AcksEarly(MemoryBus):
    async def join(self, group: str, topics: Sequence[str], start_at: StartAt) -> MemoryMember:
        member = await super().join(group, topics, start_at)
        return _AckingEarly(self.tables, group, topics, member.name)


class _Unfenced(MemoryBus):
    async def join(self, group: str, topics: Sequence[str], start_at: StartAt) -> MemoryMember:
        member = await super().join(group, topics, start_at)
        return _BelievingAll(self.tables, group, topics, member.name)


class _BelievingAll(MemoryMember):
    def _has(self, part: Part, epoch: int) -> bool:
        return True


@pytest.mark.parametrize(
    ("faulty", "case"),
    [
        (_KeyedByType, "test_a_key_has_the_same_partition_in_all_engines"),
        (_AcksEarly, "test_what_was_not_handled_comes_again"),
        (_Unfenced, "test_a_dead_members_partitions_go_to_others"),
    ],
)
async def test_the_suite_finds_a_planted_fault(
    faulty: type[MemoryBus], case: str, autojump_clock: trio.testing.MockClock
) -> None:
    # BUS-12, TEST-8
    assert case in await failing_cases(BusSuite, lambda: kit_of(faulty))


async def test_it_counts_and_begins_anew() -> None:
    # BUS-10
    bus = MemoryBus()
    await bus.declare(TOPIC)
    heard = Heard()
    async with subscribed(bus, heard):
        assert bus.subscriber_count(TOPIC) == 1
        assert bus.topic_count() == 3
    assert bus.subscriber_count(TOPIC) == 0
    bus.reset()
    assert bus.topic_count() == 0
    await bus.declare(TOPIC, 5)


async def test_a_bus_that_is_away_is_waited_for(autojump_clock: trio.testing.MockClock) -> None:
    # BUS-9, REL-85: degraded at once, unhealthy after a minute, and all is handled when it is back
    bus = MemoryBus()
    await bus.declare(TOPIC, 1)
    heard = Heard()
    async with subscribed(bus, heard) as subscription:
        await bus.publish_batch(TOPIC, records(3))
        await heard.count(3)
        await trio.sleep(1)  # noted, or they would come again
        bus.tables.go_away()
        with pytest.raises(BusUnavailable):
            await bus.publish(TOPIC, records(1)[0])
        assert (await bus.health()).state is BusState.DEGRADED
        await trio.sleep(61)
        told = await bus.health()
        assert told.state is BusState.UNHEALTHY
        assert told.away_s == pytest.approx(61)
        assert subscription.statistics().parts is not None
        bus.tables.come_back()
        await bus.publish_batch(TOPIC, records(5)[3:])
        await heard.count(5)
        assert (await bus.health()).state is BusState.HEALTHY
    assert heard.values == ["0", "1", "2", "3", "4"]


async def test_delays_are_those_that_are_told(autojump_clock: trio.testing.MockClock) -> None:
    # BUS-7: 100, 200, 400 ms in place; 5 s, 1 min, 10 min aside
    bus = MemoryBus()
    await bus.declare(TOPIC, 1)
    times: list[float] = []

    async def fail(received: Received) -> None:
        times.append(trio.current_time())
        raise ValueError(received.attempt)

    await bus.publish(TOPIC, records(1)[0])
    async with subscribed(bus, fail, SubscribeOptions(Guard.IDEMPOTENT)) as subscription:
        while subscription.statistics().given_up == 0:  # noqa: ASYNC110  (virtual)
            await trio.sleep(1)
    waits = [after - before for before, after in pairwise(times)]
    assert waits == [pytest.approx(one, abs=0.01) for one in (0.1, 0.2, 0.4, 5, 60, 600)]


async def test_a_handler_that_stands_has_ten_seconds(
    autojump_clock: trio.testing.MockClock,
) -> None:
    # BUS-5, BUS-9: a partition that goes to another, and a stop, wait so long for it
    bus = MemoryBus()
    await bus.declare(TOPIC, 1)
    heard = Heard(standing={"0"})
    await bus.publish_batch(TOPIC, records(2))
    async with subscribed(bus, heard, options()):
        await heard.until(lambda: heard.tried == ["0"])
        began = trio.current_time()
    assert trio.current_time() - began == pytest.approx(10, abs=0.01)
    assert heard.records == []
    rest = Heard()
    async with subscribed(bus, rest):
        await rest.count(2)
