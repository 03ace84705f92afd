"""The site's bus: what is published is heard by all; and what a start refuses."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from uuid import UUID, uuid4

import pytest
import trio
from trio.testing import MockClock

from actors.cluster import Host, LinkState, NodeState
from actors.persistence import EVENTS, InvalidField, NotSent, OutboxEntry, StreamId
from actors.persistence.beside_log.outbox import PARTITIONS
from actors.persistence.bus import (
    BusRejected,
    BusUnavailable,
    Guard,
    Received,
    Record,
    SubscribeOptions,
    Subscription,
    TopicInfo,
    bus_message,
)
from actors.runtime import Secret
from storage.bus import MemoryBus, PostgresBus
from storage.bus.kafka import KafkaBus
from storage.postgres import Database, PostgresEventStore, PostgresOutbox
from storage.testing.samples import NOON, message, new_events
from supervision import ChildSpec, Dependency, Flags, Plan, Supervisor, open_system
from tests.logged import captured
from tests.patience import PATIENCE_S
from web.app.bus import (
    TOPICS,
    BusRefused,
    NobodySends,
    SiteBus,
    bus_tree,
    check_bus,
    cloud_events,
    declared,
    make_bus,
    sender,
)
from web.app.clustering import SiteNode, node_of
from web.lab.lasting import TOPIC, Lasted, SiteSurvived
from web.observability.bus_lag import BusLags
from web.settings import Bus, Cluster, SaslMechanism, Settings, Switch
from web.wiring.directory import Directory
from web.wiring.environment import SystemClock
from web.wiring.frame.outside import BROKER, BUS_POLICY

KAFKA = Settings(
    bus=Bus.KAFKA,
    kafka_brokers="127.0.0.1:1",
    kafka_sasl_mechanism=SaslMechanism.SCRAM_SHA_256,
    kafka_username="site",
    kafka_password=Secret("canary"),
)


class _Tree(Supervisor):
    def __init__(self, directory: Directory, specs: Sequence[ChildSpec]) -> None:
        self._directory, self._specs = directory, specs

    def plan(self) -> Plan:
        self._directory.attach(self.system)
        return Plan(Flags(), self._specs)


async def _nothing(_: Received) -> None:
    pass


class _Heard:
    def __init__(self) -> None:
        self.ids: list[UUID] = []
        self._more = trio.Event()

    async def __call__(self, received: Received) -> None:
        self.ids.append(received.record.event_id)
        self._more.set()
        self._more = trio.Event()

    async def count(self, wanted: int) -> None:
        with trio.fail_after(PATIENCE_S):
            while len(self.ids) < wanted:
                await self._more.wait()


@asynccontextmanager
async def _listening(database: Database, heard: _Heard) -> AsyncIterator[None]:
    """Another program, in a group of its own."""
    engine = PostgresBus(database)
    await declared(engine, TOPIC)
    program = Subscription(engine, [TOPIC], "other", heard, SubscribeOptions(Guard.IDEMPOTENT))
    async with trio.open_nursery() as nursery:
        await nursery.start(program.run)
        yield
        await program.stop()


async def _publish(store: PostgresEventStore, count: int) -> list[UUID]:
    ids = []
    for _ in range(count):
        stream, (event,) = StreamId(f"order-{uuid4()}"), new_events(1)
        out = [bus_message(TOPIC, Record.of_append(stream, 1, event))]
        await store.append(stream, [event], outbox=out)
        ids.append(event.event_id)
    return ids


async def test_what_is_published_with_an_append_is_heard_by_others(database: Database) -> None:
    # BUS-2, BUS-9
    settings, heard = Settings(), _Heard()
    bus = make_bus(settings, database)
    assert await bus.purge(10) == 0
    tree = bus_tree(settings, bus, None, _nothing)
    async with _listening(database, heard), open_system(tree):
        ids = await _publish(PostgresEventStore(database), 20)
        await heard.count(20)
    assert sorted(heard.ids) == sorted(ids)


async def test_what_the_site_publishes_may_be_cloud_events() -> None:
    # BUS-15
    bus, origin = MemoryBus(), "https://example.org"
    for settings, source in [
        (Settings(), None),
        (Settings(bus_cloudevents=Switch.ON), "urn:greenroom:site"),
        (Settings(bus_cloudevents=Switch.ON, public_origin=origin), origin),
    ]:
        bus.reset()
        record = Record(uuid4(), "k", b"{}", {"event_type": "SiteSurvived"})
        send = sender(bus, cloud_events(settings))
        await send(
            OutboxEntry(
                1, record.event_id, "bus", TOPIC, record.key, record.value, record.headers, 0, NOON
            )
        )
        ((sent,),) = [found for found in bus.tables.records.values() if found]
        told = {name: text.decode() for name, text in sent.headers.items()}
        assert (told.get("ce_source"), told["event_type"]) == (source, "SiteSurvived")


@asynccontextmanager
async def _node(database: Database, name: str, heard: _Heard) -> AsyncIterator[SiteNode]:
    settings = Settings(cluster=Cluster.ON, node_name=name)
    node, directory = node_of(settings, database), Directory()
    assert node is not None
    bus, host = make_bus(settings, database), Host(node.member, directory.owned)
    specs = [
        ChildSpec("node", partial(node.make, lambda: LinkState.UP)),
        ChildSpec("bus", bus_tree(settings, bus, host, heard)),
    ]
    async with open_system(_Tree, directory, specs):
        yield node


async def _until_shared(nodes: Sequence[SiteNode]) -> None:
    """Each has its part of the eight relays."""
    with trio.fail_after(PATIENCE_S):
        while True:
            counts = [
                sum(node.member.residents(shard) for shard in node.member.planned())
                for node in nodes
            ]
            if sum(counts) == PARTITIONS and min(counts) > 0:
                return
            await trio.sleep(0.05)


async def test_of_several_nodes_each_sends_its_parts_and_hears_of_all(database: Database) -> None:
    """One goes meanwhile, in order: the sum of what they send is what there was, nothing twice."""
    # CLU-15, CLU-41
    others, first, second = _Heard(), _Heard(), _Heard()
    store = PostgresEventStore(database)
    async with (
        _listening(database, others),
        AsyncExitStack() as going,
        _node(database, "a", first) as staying,
    ):
        leaving = await going.enter_async_context(_node(database, "b", second))
        await _until_shared([staying, leaving])
        ids = await _publish(store, 20)
        await others.count(20)
        with trio.fail_after(PATIENCE_S):
            await leaving.member.hand_over()
        assert leaving.member.state is NodeState.DRAINING
        # It owns nothing, and goes on serving: it hears what others publish.
        assert not leaving.member.holding.epochs
        ids += await _publish(store, 20)
        await others.count(40)
        await first.count(40)
        await second.count(40)
        await going.aclose()
    assert Counter(others.ids) == Counter(ids)


async def test_a_message_that_is_none_of_the_bus_is_kept(database: Database) -> None:
    send = sender(MemoryBus())
    store, outbox = PostgresEventStore(database), PostgresOutbox(database)
    out = replace(message(), kind="command")
    await store.append(StreamId("order-1"), new_events(1), outbox=[out])
    held = await outbox.lease("r", range(PARTITIONS))
    ((entry,),) = [batch for part in held if (batch := await outbox.next_batch(part, held[part]))]
    with pytest.raises(NobodySends, match="kind command"):
        await send(entry)


class _Away(MemoryBus):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error, self.asked = error, 0

    async def publish(self, topic: str, *records: Record) -> None:
        self.asked += 1
        raise self.error


@pytest.mark.parametrize(
    ("error", "state"),
    [(BusUnavailable("nobody there"), "open"), (InvalidField("key", "it is empty"), "closed")],
)
async def test_a_broker_that_is_away_is_left_alone_and_waited_for(
    error: Exception, state: str, autojump_clock: MockClock
) -> None:
    # RES-9: a record that it refuses is no failure of it
    bus, guard = _Away(error), Dependency(BROKER, BUS_POLICY)
    send, tries = sender(bus, guard=guard), BUS_POLICY.breaker.failures + 5
    entry = OutboxEntry(1, uuid4(), "bus", TOPIC, "k", b"{}", {}, 0, NOON)
    for _ in range(tries):
        with pytest.raises((NotSent, InvalidField)) as caught:
            await send(entry)
        # Whatever the outage lasts, nothing is given up.
        if isinstance(caught.value, NotSent):
            assert caught.value.retry_in is not None
    assert guard.stats().breaker.state == state
    assert bus.asked == (BUS_POLICY.breaker.failures if state == "open" else tries)


class _Refusing(MemoryBus):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    async def topics(self) -> Sequence[TopicInfo]:
        raise self._error


async def _purge(_: int) -> int:
    return 0


def _site_bus(engine: MemoryBus, database: Database) -> SiteBus:
    return SiteBus(engine, BusLags(engine), database, _purge)


async def test_a_broker_that_refuses_us_is_told_at_the_start_and_no_secret(
    database: Database,
) -> None:
    # BUS-11
    refusing = _site_bus(_Refusing(BusRejected("SASL_AUTHENTICATION_FAILED")), database)
    with pytest.raises(BusRefused, match=r"^KAFKA_BROKERS: .*SASL_AUTHENTICATION_FAILED") as told:
        await check_bus(KAFKA, refusing)
    assert "canary" not in str(told.value)
    away = _site_bus(_Refusing(BusUnavailable("_TRANSPORT")), database)
    with captured() as lines:
        await check_bus(KAFKA, away)
    assert [line["event"] for line in lines] == ["bus.broker_awaited"]


async def test_the_settings_say_which_bus_it_is(database: Database) -> None:
    # BUS-11
    bus = make_bus(KAFKA, database)
    assert isinstance(bus.engine, KafkaBus)
    assert isinstance(make_bus(Settings(), database).engine, PostgresBus)
    assert bus.close is not None
    await bus.close()


async def test_what_a_record_says_is_what_was_stored() -> None:
    # LAB-75, BUS-2
    survived = SiteSurvived(Lasted(rooms=1), Lasted(rooms=4), SystemClock().now())
    record = Record.of_append(
        StreamId("survived-site"), 7, EVENTS.encode(survived, event_id=uuid4())
    )
    assert record.headers["version"] == "7"
    assert record.headers["event_type"] == "SiteSurvived"
    assert set(TOPICS) == {TOPIC}
