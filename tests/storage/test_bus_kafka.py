"""The bus on a real Kafka passes its suite; members and the broker are killed.

Run by `make kafka`; elsewhere the summary says "not run".
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest
import trio
from confluent_kafka import Consumer, KafkaError, KafkaException, Message

from tests.storage.kafka_broker import KafkaBroker, missing

if reason := missing():
    pytest.skip(reason, allow_module_level=True)

from actors.persistence import StreamId
from actors.persistence.bus import (
    BusState,
    BusUnavailable,
    OnFailure,
)
from actors.persistence.bus.words import AWAY_UNHEALTHY_S
from storage.bus import MemoryBus
from storage.bus.kafka import KafkaBus
from storage.bus.kafka_words import KafkaSettings
from storage.postgres import Database, PostgresEventStore
from storage.testing import ToxicProxy
from storage.testing.bus import (
    GROUP,
    TOPIC,
    BusKit,
    BusSuite,
    Heard,
    options,
    records,
    subscribed,
)
from storage.testing.kept import kept_in_memory
from tests.patience import PATIENCE_S, until
from tests.storage.bus_member_process import subscription_on
from tests.storage.kafka_member_process import kafka_bus

_ROOT = Path(__file__).parents[2]
# How long the broker stays away once it was killed; `make soak` says a minute (BUS-13).
AWAY_S = float(os.environ.get("AWAY_S", "0"))


class TestKafkaBus(BusSuite):  # BUS-11, BUS-12
    @pytest.fixture
    def kit(self, brokers: str) -> BusKit:
        beside, prefix = MemoryBus(), f"{uuid4()}-"
        settings = KafkaSettings(brokers, prefix=prefix, session_timeout_ms=6000)

        def make() -> KafkaBus:
            return KafkaBus(settings, parking=beside.parking, dead_letters=beside.dead_letters)

        return BusKit(make(), make, kept_in_memory(), beside.dead_letters, None, knows_when=False)


@contextmanager
def _member(url: str, brokers: str, prefix: str) -> Iterator[None]:
    command = [sys.executable, "-m", "tests.storage.kafka_member_process", url, brokers, prefix]
    process = subprocess.Popen(command, cwd=_ROOT)
    try:
        yield
    finally:
        process.kill()
        process.wait()


async def _effects(database: Database) -> list[int]:
    events = PostgresEventStore(database)
    return [
        int(one.data)
        for partition in range(3)
        async for one in events.load(StreamId(f"effects-{partition}"))
    ]


async def test_a_killed_members_partitions_are_handled_elsewhere(
    database: Database, database_url: str, brokers: str
) -> None:
    # BUS-4, BUS-13: 0 lost, 0 applied twice behind the inbox
    prefix = f"{uuid4()}-"
    bus = kafka_bus(database, brokers, prefix)
    await bus.declare(TOPIC)
    await bus.publish_batch(TOPIC, records(1000, keys=40))
    with _member(database_url, brokers, prefix), trio.fail_after(PATIENCE_S):
        while len(await _effects(database)) < 200:  # noqa: ASYNC110  (of another process)
            await trio.sleep(0.02)
    last = subscription_on(database, bus)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(last.run)
        with trio.fail_after(PATIENCE_S):
            while sum(one.records for one in await bus.lag(GROUP)):  # noqa: ASYNC110
                await trio.sleep(0.2)
        await last.stop()
    assert sorted(await _effects(database)) == list(range(1000))


async def test_a_killed_broker_loses_nothing_that_it_acknowledged(
    own_broker: KafkaBroker,
) -> None:
    # BUS-9, BUS-13, REL-85: with 6000 records in flight
    beside = MemoryBus()
    bus = KafkaBus(
        KafkaSettings(own_broker.address, prefix=f"{uuid4()}-", session_timeout_ms=6000),
        parking=beside.parking,
        dead_letters=beside.dead_letters,
    )
    await bus.declare(TOPIC)
    sent, heard, acknowledged = records(6000, keys=60), Heard(), set[str]()

    async def publish(batch: int) -> None:
        ours = sent[batch * 100 : batch * 100 + 100]
        while True:
            try:
                await bus.publish_batch(TOPIC, ours)
            except BusUnavailable:
                await trio.sleep(0.5)
            else:
                acknowledged.update(one.value.decode() for one in ours)
                return

    async with subscribed(bus, heard, options(on_failure=OnFailure.SKIP)):
        with trio.fail_after(PATIENCE_S + AWAY_S):
            async with trio.open_nursery() as nursery:
                for batch in range(60):
                    nursery.start_soon(publish, batch)
                await heard.until(lambda: len(heard.records) >= 300)
                await trio.to_thread.run_sync(own_broker.kill)
                assert (await bus.health()).state is BusState.DEGRADED
                await trio.sleep(AWAY_S)
                if AWAY_S >= AWAY_UNHEALTHY_S:
                    assert (await bus.health()).state is BusState.UNHEALTHY
                await trio.to_thread.run_sync(own_broker.start)
        assert len(acknowledged) == 6000
        await heard.until(lambda: len(set(heard.values)) == 6000)
        assert (await bus.health()).state is BusState.HEALTHY


async def test_a_bad_line_to_the_broker_loses_and_doubles_nothing(own_broker: KafkaBroker) -> None:
    # REL-80, REL-85, BUS-9: late and in crumbs, silent, reset, refused; then all is there
    beside, prefix = MemoryBus(), f"{uuid4()}-"
    reach = partial(trio.open_tcp_stream, "127.0.0.1", own_broker.behind)
    line = ToxicProxy(reach, seed=17, port=own_broker.far)
    bus = KafkaBus(
        KafkaSettings(f"127.0.0.1:{own_broker.far}", prefix=prefix, session_timeout_ms=6000),
        parking=beside.parking,
        dead_letters=beside.dead_letters,
    )
    sent, heard = records(400, keys=20), Heard()

    async def publish(batch: int) -> None:
        ours = sent[batch * 100 : batch * 100 + 100]
        while True:
            try:
                await bus.publish_batch(TOPIC, ours)
            except BusUnavailable:
                await trio.sleep(0.2)
            else:
                return

    async def published(batch: int) -> None:
        with trio.fail_after(PATIENCE_S):
            await publish(batch)
        await heard.until(lambda: len(set(heard.values)) == 100 * (batch + 1))

    async with trio.open_nursery() as nursery:
        await nursery.start(line.serve)
        await bus.declare(TOPIC)
        async with subscribed(bus, heard, options(on_failure=OnFailure.SKIP)):
            line.down.latency_s, line.down.jitter_s, line.down.slice_bytes = 0.01, 0.01, 700
            await published(0)
            line.down.latency_s, line.down.jitter_s, line.down.slice_bytes = 0.0, 0.0, None
            # Cut apart with records on their way, and then reset: nobody knows what arrived.
            async with trio.open_nursery() as publishing:
                line.cut_apart()
                publishing.start_soon(published, 1)
                await trio.sleep(0.5)
                assert line.reset_all() > 0
                line.mend()
            line.is_refusing, before = True, line.connects
            line.reset_all()
            async with trio.open_nursery() as publishing:
                publishing.start_soon(published, 2)
                await until(lambda: line.connects > before)
                line.is_refusing = False
            await published(3)
        # Each key in its order, whatever came twice.
        for key in {one.key for one in sent}:
            ours = [one.record.value for one in heard.records if one.record.key == key]
            first = list(dict.fromkeys(ours))
            assert first == [one.value for one in sent if one.key == key]
        nursery.cancel_scope.cancel()


class _FailsOnce(Consumer):
    """A client whose next poll fails when it is told to; another one has to be made."""

    made = 0
    is_to_fail = False

    def __init__(self, config: dict[str, object]) -> None:
        super().__init__(config)
        _FailsOnce.made += 1

    def consume(self, num_messages: int = 1, timeout: float = -1) -> list[Message]:
        if _FailsOnce.is_to_fail:
            _FailsOnce.is_to_fail = False
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))
        return super().consume(num_messages, timeout)


async def test_a_member_whose_client_failed_goes_on_with_another(brokers: str) -> None:
    # BUS-9
    beside, heard = MemoryBus(), Heard()
    bus = KafkaBus(
        KafkaSettings(brokers, prefix=f"{uuid4()}-", session_timeout_ms=6000),
        parking=beside.parking,
        dead_letters=beside.dead_letters,
        consumer=_FailsOnce,
    )
    await bus.declare(TOPIC)
    async with subscribed(bus, heard, options(on_failure=OnFailure.SKIP)):
        await bus.publish_batch(TOPIC, records(30))
        await heard.until(lambda: len(set(heard.values)) == 30)
        made, _FailsOnce.is_to_fail = _FailsOnce.made, True
        with trio.fail_after(PATIENCE_S):
            while (await bus.health()).state is not BusState.DEGRADED:  # noqa: ASYNC110
                await trio.sleep(0.01)
        await bus.publish_batch(TOPIC, records(60)[30:])
        await heard.until(lambda: len(set(heard.values)) == 60)
        assert _FailsOnce.made == made + 1
        assert (await bus.health()).state is BusState.HEALTHY


async def test_a_handler_that_stands_has_ten_seconds_when_its_partition_moves(
    brokers: str,
) -> None:
    """It stands for longer: then it is cancelled, and who has the partition handles its record."""
    # BUS-5, BUS-13
    beside, prefix = MemoryBus(), f"{uuid4()}-"
    settings = KafkaSettings(brokers, prefix=prefix, session_timeout_ms=6000)
    one, other = (
        KafkaBus(settings, parking=beside.parking, dead_letters=beside.dead_letters)
        for _ in range(2)
    )
    sent = records(40, keys=8)
    await one.declare(TOPIC, 2)
    await one.publish_batch(TOPIC, sent)
    standing, going = Heard(standing={record.value.decode() for record in sent}), Heard()
    wanted = options(on_failure=OnFailure.SKIP)
    async with subscribed(one, standing, wanted):
        await standing.until(lambda: len(standing.tried) == 2)  # the first of each partition
        began = trio.current_time()
        async with subscribed(other, going, wanted):
            await going.until(lambda: bool(going.tried))
            assert trio.current_time() - began > 9
            moved = {record.partition for record in going.records}
            assert len(moved) == 1
            standing.gate.set()
            expected = {record.value.decode() for record in sent}
            with trio.fail_after(PATIENCE_S):
                while {*going.values, *standing.values} != expected:  # noqa: ASYNC110
                    await trio.sleep(0.05)  # of two that change
            # What was cancelled was not handled there: here it was the first.
            assert going.values[0] in standing.tried
            assert going.values[0] not in standing.values
            with trio.fail_after(PATIENCE_S):
                while sum(lag.records for lag in await one.lag(GROUP)):  # noqa: ASYNC110
                    await trio.sleep(0.2)
    await one.close()
    await other.close()
