"""What the event bus costs on PostgreSQL: from publishing to a handler (PERF-57).

An embedded server of its own with fsync on, publisher and member in one process. The peer is the
bus in memory, with the same subscription on it: what is between the two is the database.
"""

import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

import trio

from actors.persistence.bus import (
    Engine,
    Guard,
    OnFailure,
    Received,
    Record,
    SubscribeOptions,
    Subscription,
)
from storage.bus import MemoryBus, PostgresBus
from storage.postgres import migrate, open_database
from storage.postgres.embedded.server import start
from tests.bench.rows import Row, row

_RUNS = 3
_RECORDS, _BATCH = 6000, 100
_PER_SECOND, _SECONDS = 500, 3
_VALUE = b'{"amount": 1250, "currency": "EUR", "order": "order-4711"}'


def _records(count: int) -> list[Record]:
    headers = {"event_type": "Spent", "schema_version": "1"}
    return [Record(uuid4(), f"order-{number % 50}", _VALUE, headers) for number in range(count)]


async def _throughput(bus: Engine) -> float:
    """Records a second, published in batches of a hundred while they are handled."""
    done, handled = trio.Event(), 0

    async def handle(received: Received) -> None:
        nonlocal handled
        handled += 1
        if handled == _RECORDS:
            done.set()

    topic = f"bench-{uuid4()}"
    await bus.declare(topic)
    records = _records(_RECORDS)
    subscription = Subscription(bus, [topic], topic, handle, _OPTIONS)
    async with trio.open_nursery() as nursery:
        await nursery.start(subscription.run)
        began = time.perf_counter()
        for at in range(0, _RECORDS, _BATCH):
            await bus.publish_batch(topic, records[at : at + _BATCH])
        await done.wait()
        took = time.perf_counter() - began
        await subscription.stop()
    return _RECORDS / took


async def _latency(bus: Engine) -> float:
    """Milliseconds from publish to handler, 99th percentile at 500 records a second."""
    published: dict[str, float] = {}
    took: list[float] = []

    async def handle(received: Received) -> None:
        took.append(time.perf_counter() - published[str(received.record.event_id)])

    topic = f"bench-{uuid4()}"
    await bus.declare(topic)
    subscription = Subscription(bus, [topic], topic, handle, _OPTIONS)
    records = _records(_PER_SECOND * _SECONDS)
    async with trio.open_nursery() as nursery:
        await nursery.start(subscription.run)
        began = trio.current_time()

        async def publish(record: Record) -> None:
            published[str(record.event_id)] = time.perf_counter()
            await bus.publish(topic, record)

        async with trio.open_nursery() as publishing:
            for number, record in enumerate(records):
                await trio.sleep_until(began + number / _PER_SECOND)
                publishing.start_soon(publish, record)
        while len(took) < len(records):  # noqa: ASYNC110  (nobody waits for it but us)
            await trio.sleep(0.01)
        await subscription.stop()
    return statistics.quantiles(took, n=100)[98] * 1000


_OPTIONS = SubscribeOptions(Guard.IDEMPOTENT, on_failure=OnFailure.SKIP)


async def _measure(url: str) -> tuple[list[float], list[float], list[float]]:
    rates: list[float] = []
    memory: list[float] = []
    latencies: list[float] = []
    async with open_database(url) as database:
        await migrate(database)
        bus = PostgresBus(database)
        await bus.purge()
        await _throughput(bus)
        for _ in range(_RUNS):
            rates.append(await _throughput(bus))
            memory.append(await _throughput(MemoryBus()))
            latencies.append(await _latency(bus))
    return rates, memory, latencies


def run() -> Sequence[Row]:
    """Call this for the rows of the bus."""
    with tempfile.TemporaryDirectory() as folder:
        server = start(Path(folder))
        try:
            rates, memory, latencies = trio.run(_measure, server.url)
        finally:
            server.stop()
    return [
        row(
            "bus: publish to handled",
            "records/s",
            rates,
            peers={"in memory": statistics.median(memory)},
            target="PERF-57: >= 2000",
        ),
        row(
            "bus: publish to handled at 500/s, p99",
            "ms",
            latencies,
            target="PERF-57: <= 50",
            is_lower_better=True,
        ),
    ]


benchmarks = [run]
