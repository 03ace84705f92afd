"""The bus in memory passes its suite, and the suite finds planted faults."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from random import Random
from uuid import uuid4
from zlib import crc32

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from actors.persistence import AppendRequest, InvalidField, OutboxRelay, StreamId
from actors.persistence.beside_log.outbox import ATTEMPTS_MAX
from actors.persistence.bus import (
    DEAD,
    Assignment,
    BusState,
    BusUnavailable,
    EventBus,
    Guard,
    Held,
    InvalidTopic,
    OnFailure,
    Part,
    RawRecord,
    Received,
    Record,
    StartAt,
    SubscribeOptions,
    Subscription,
    SubscriptionActor,
    SubscriptionFailed,
    bus_message,
    publisher,
)
from actors.persistence.bus.sharing import claim
from actors.persistence.words import Cursor
from actors.runtime import open_actors
from storage.bus import BusTables, MemoryBus
from storage.bus.memory import MemoryMember
from storage.memory import MemoryDatabase, MemoryDeadLetters, MemoryEventStore, MemoryOutbox
from storage.testing import failing_cases
from storage.testing.bus import TOPIC, BusKit, BusSuite, Heard, options, records, subscribed
from storage.testing.kept import kept_in_memory
from storage.testing.samples import new_event
from tests.engines import virtual_environment


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

    async def fetch(
        self, part: Part, after: Cursor, limit: int, bytes_max: int
    ) -> Sequence[RawRecord]:
        found = await super().fetch(part, after, limit, bytes_max)
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


async def test_the_outbox_waits_for_a_bus_that_is_away(
    autojump_clock: trio.testing.MockClock,
) -> None:
    # REL-85, BUS-9, BUS-13: away for 60 s, and then a quarter of an hour; what was appended
    # meanwhile drains in order, once, and nothing of it was given up
    database = MemoryDatabase(now=virtual_environment().clock.now)
    events, bus = MemoryEventStore(database), MemoryBus(BusTables(database))
    await bus.declare(TOPIC, 1)
    sent, stream, heard = records(20, keys=2), StreamId("effects-1"), Heard()

    async def handle(received: Received) -> None:
        await heard(received)
        inbox = ("mail", received.record.event_id)
        event = new_event(received.record.value)
        await events.append_request(AppendRequest(stream, [event], inbox=inbox))

    async with open_actors() as system, subscribed(bus, handle, SubscribeOptions(Guard.INBOX)):
        outbox, environment = MemoryOutbox(database), virtual_environment()
        letters = MemoryDeadLetters(database)
        relay = partial(OutboxRelay, dead_letters=letters)
        await system.start(relay, outbox, publisher(bus), environment, "one")
        for number, record in enumerate(sent):
            if number == 5:
                await heard.count(5)
                bus.tables.go_away()
            message = bus_message(TOPIC, record)
            await events.append(StreamId(f"order-{number}"), [new_event(b"1")], outbox=[message])
            if number >= 5:
                await trio.sleep(4)
        await trio.sleep(900)
        stats = await MemoryOutbox(database).stats()
        assert (stats.pending, stats.dead, await letters.list()) == (15, 0, [])
        tried = max(one.attempts for one in await MemoryOutbox(database).waiting())
        assert tried > 2 * ATTEMPTS_MAX
        bus.tables.come_back()
        await heard.until(lambda: len(set(heard.values)) == 20)
        await trio.sleep(5)
    effects = [int(one.data) async for one in events.load(stream)]
    assert sorted(effects) == list(range(20))
    for key in (0, 1):
        of_key = [number for number in effects if number % 2 == key]
        assert of_key == sorted(of_key)


async def test_a_bus_that_doubles_and_reorders_changes_no_outcome(
    autojump_clock: trio.testing.MockClock,
) -> None:
    # REL-94: deduplicated by event id behind the inbox
    kit = kit_of(MemoryBus)
    await kit.bus.declare(TOPIC, 3)
    sent, stream, heard = records(30), StreamId("effects-1"), Heard()

    async def handle(received: Received) -> None:
        await heard(received)
        inbox = ("mail", received.record.event_id)
        event = new_event(received.record.value)
        await kit.kept.events.append_request(AppendRequest(stream, [event], inbox=inbox))

    async with subscribed(kit.bus, handle, SubscribeOptions(Guard.INBOX)):
        for batch in (sent[20:], sent[:10], sent[::-1], sent[10:20], sent):
            await kit.bus.publish_batch(TOPIC, batch)
        await heard.count(90)
        await trio.sleep(1)
    effects = [int(one.data) async for one in kit.kept.events.load(stream)]
    assert sorted(effects) == list(range(30))


async def test_a_subscription_is_an_actor_that_joins_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    # BUS-9: a stop leaves the group; nothing is left behind
    bus = MemoryBus()
    await bus.declare(TOPIC, 1)
    heard = Heard()
    async with open_actors() as system:
        actor = await system.start(SubscriptionActor, bus, [TOPIC], "mail", heard, options())
        await bus.publish_batch(TOPIC, records(3))
        await heard.count(3)
        assert bus.subscriber_count(TOPIC) == 1
        await actor.stop()
        assert bus.subscriber_count(TOPIC) == 0


def test_nonsense_is_refused_when_it_is_made() -> None:
    # BUS-2, BUS-6
    for key in ("", "a\0", "\ud800", "x" * 1025, None, b"k"):
        with pytest.raises(InvalidField, match="key"):
            Record(uuid4(), key, b"")  # type: ignore[arg-type]
    with pytest.raises(InvalidField, match="event_id"):
        Record(None, "k", b"")  # type: ignore[arg-type]
    with pytest.raises(InvalidField, match="value"):
        Record(uuid4(), "k", "text")  # type: ignore[arg-type]
    for buffer in (0, -1, 1.5, None, "10", True):
        with pytest.raises(ValueError, match="buffer"):
            SubscribeOptions(Guard.IDEMPOTENT, buffer=buffer)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="part_bytes"):
            SubscribeOptions(Guard.IDEMPOTENT, part_bytes=buffer)  # type: ignore[arg-type]
    for wrong in ({"guard": "inbox"}, {"on_failure": "park"}, {"start_at": "latest"}):
        with pytest.raises(InvalidField):
            options(**wrong)
    for delays in ((-1.0,), ("1",), (3601.0,), (), None, (float("nan"),)):
        with pytest.raises(InvalidField):
            options(parked_delays_s=delays)
    bus = MemoryBus()
    for topics in ([], [TOPIC, TOPIC], "orders", ["orders.retry"], ["orders.dead"], ["x" * 194]):
        with pytest.raises((InvalidField, InvalidTopic)):
            Subscription(bus, topics, "mail", Heard(), options())
    for group in ("", 7, "x" * 256, "a\0"):
        with pytest.raises(InvalidField):
            Subscription(bus, [TOPIC], group, Heard(), options())  # type: ignore[arg-type]
    with pytest.raises(InvalidField, match="group"):
        Subscription(bus, ["a" * 150, "b" * 150], None, Heard(), options())
    with pytest.raises(SubscriptionFailed):
        Subscription(bus, [TOPIC], "mail", None, options())  # type: ignore[arg-type]


async def test_what_is_put_aside_is_bounded_in_bytes(
    autojump_clock: trio.testing.MockClock,
) -> None:
    # BUS-6
    bus, heard = MemoryBus(), Heard()
    await bus.declare(TOPIC, 1)
    sent = records(30, keys=30)
    heard.failing = {one.value.decode(): ValueError("no") for one in sent}
    await bus.publish_batch(TOPIC, sent)
    each = sent[0].size
    wanted = options(place_delays_s=(), parked_delays_s=(5.0,), part_bytes=3 * each)
    async with subscribed(bus, heard, wanted) as subscription:
        await heard.until(lambda: len(heard.tried) == 30)
        await trio.sleep(4.5)
        await trio.testing.wait_all_tasks_blocked()
        stats = subscription.statistics()
        # What is aside is marked with its group, and so is larger.
        assert (stats.put_aside, stats.in_hand) == (30, 3)
        while subscription.statistics().given_up < 30:  # noqa: ASYNC110  (virtual time)
            await trio.sleep(0.1)
    assert len(heard.tried) == 60


async def test_without_a_name_the_group_is_that_of_its_topics() -> None:
    # BUS-11
    bus, heard = MemoryBus(), Heard()
    subscription = Subscription(bus, ["stock", "order-events"], None, heard, options())
    assert subscription.group == "greenroom-order-events-stock"
    await bus.declare(TOPIC)
    await bus.publish(TOPIC, Record(uuid4(), "k", b"1"))
    async with subscribed(bus, heard, group=None):
        await heard.count(1)
    assert [one.name for one in await bus.groups()] == [f"greenroom-{TOPIC}"]


@given(
    st.integers(1, 40),
    st.lists(st.text("abcdef", min_size=1, max_size=3), min_size=1, unique=True, max_size=9),
    st.randoms(),
)
def test_partitions_are_shared_and_settle(partitions: int, members: list[str], by: Random) -> None:
    # BUS-5: whoever has them first, after two rounds each has a fair share, and nothing moves more
    owners = {number: by.choice([*members, ""]) for number in range(partitions)}
    before = owners
    for _ in range(3):
        before = dict(owners)
        for member in members:
            claimed = claim("t", member, members, owners)
            owners.update(dict.fromkeys(claimed.surplus, ""))
        for member in members:
            owners.update(dict.fromkeys(claim("t", member, members, owners).take, member))
    assert owners == before
    counts = [list(owners.values()).count(member) for member in members]
    assert sum(counts) == partitions
    assert max(counts) - min(counts) <= 1


async def test_the_page_tells_what_runs(autojump_clock: trio.testing.MockClock) -> None:
    page = (Path(__file__).parents[2] / "docs/reference/event_bus.md").read_text()
    names: dict[str, Callable[[MemoryBus], Awaitable[object]]] = {}
    exec(page.partition("```python\n")[2].partition("```")[0], names)  # noqa: S102  (our own page)
    assert await names["main"](MemoryBus()) == [b'{"seats": 2}']


async def test_without_room_for_a_dead_letter_nothing_is_given_up(
    autojump_clock: trio.testing.MockClock,
) -> None:
    # BUS-7: the partition waits for room, and fills the topic's .dead no further meanwhile
    bus = MemoryBus()
    bus.dead_letters = MemoryDeadLetters(bus.tables.database, rows_max=1)
    await bus.declare(TOPIC, 1)
    heard = Heard(failing={"0": ValueError("no"), "1": ValueError("no")})
    await bus.publish_batch(TOPIC, records(3))
    async with subscribed(bus, heard, options(on_failure=OnFailure.SKIP)):
        await trio.sleep(300)
        assert heard.values == []
        (first,) = await bus.dead_letters.list(kind="bus")
        assert first.letter.payload == b"0"
        assert len(bus.tables.records[Part(TOPIC + DEAD, 0)]) == 1
        await bus.dead_letters.discard(first.id, "ada", "seen")
        await heard.count(1)
    assert heard.values == ["2"]
    assert [one.value for one in bus.tables.records[Part(TOPIC + DEAD, 0)]] == [b"0", b"1"]


def test_the_port_has_no_request_with_a_reply() -> None:
    # BUS-1, BUS-17
    calls = {name for name in vars(EventBus) if not name.startswith("_")}
    assert calls == {
        "declare", "publish", "publish_batch", "lag", "topics", "groups", "seek", "health",
    }  # fmt: skip
    page = Path(__file__).parents[2] / "docs" / "reference" / "event_bus.md"
    said = " ".join(page.read_text().split())
    assert "no request with a reply on the bus: ask an actor, or send a command" in said
