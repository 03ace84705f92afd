"""What the event store costs: appends against the bare driver, batches, replay, catch-up.

PERF-30, PERF-31, PERF-32, PERF-33, PERF-34, PERF-54, on an embedded server of its own with fsync
on. The peer of a single append is asyncpg doing the same INSERT, on its own uvloop, with as many
connections as writers and a transaction for each row.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import asyncpg
import trio
import uvloop

from actors.persistence import (
    AppendRequest,
    NewEvent,
    ProjectionRunner,
    Snapshot,
    StreamId,
    wait_until,
)
from actors.runtime import open_actors
from storage.postgres import (
    Database,
    EmbeddedServer,
    PostgresEventStore,
    PostgresProjections,
    PostgresSnapshots,
    migrate,
    open_database,
)
from storage.postgres.embedded.server import start
from storage.testing.event_store import following
from tests.bench.rows import Row
from tests.bench.spending import DATA, SECONDS, TYPES, Spent, Sums, appends, new_id

T = TypeVar("T")

_RUNS = 3
_META = {"correlation_id": "0191d3b0-0000-7000-8000-000000000000"}

_INSERT = """
INSERT INTO events (stream_id, version, event_id, event_type, event_version, codec, event_data,
    metadata, tenant)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8::jsonb, $9)
"""


def _event() -> NewEvent:
    return NewEvent(new_id(), "Spent", DATA, 1, _META)


def _bare(url: str, writers: int) -> float:
    """The same of asyncpg alone."""

    async def main() -> float:
        connections = [await asyncpg.connect(url) for _ in range(writers)]
        count, deadline = 0, time.perf_counter() + SECONDS

        async def write(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
            nonlocal count
            stream_id, version = f"bare-{uuid4()}", 0
            while time.perf_counter() < deadline:
                version += 1
                await connection.execute(
                    _INSERT,
                    stream_id,
                    version,
                    new_id(),
                    "Spent",
                    1,
                    "json",
                    DATA,
                    '{"correlation_id": "0191d3b0-0000-7000-8000-000000000000"}',
                    None,
                )
                count += 1

        began = time.perf_counter()
        await asyncio.gather(*(write(connection) for connection in connections))
        rate = count / (time.perf_counter() - began)
        for connection in connections:
            await connection.close()
        return rate

    return uvloop.run(main())


async def _batches(store: PostgresEventStore) -> float:
    """Events a second of four writers with a hundred events a transaction."""
    count, deadline = 0, time.perf_counter() + SECONDS

    async def write() -> None:
        nonlocal count
        while time.perf_counter() < deadline:
            requests = [
                AppendRequest(StreamId(f"bulk-{uuid4()}"), [_event() for _ in range(10)], 0)
                for _ in range(10)
            ]
            await store.append_batch(requests)
            count += 100

    began = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(write)
    return count / (time.perf_counter() - began)


async def _times_as_fast(store: PostgresEventStore) -> float:
    """Of one writer, events a second in batches of a hundred appends over those one by one."""
    single = await appends(store, 1, _event)
    count, deadline = 0, time.perf_counter() + SECONDS
    streams = [StreamId(f"bulk-{uuid4()}") for _ in range(100)]
    began = time.perf_counter()
    while time.perf_counter() < deadline:
        await store.append_batch([AppendRequest(stream, [_event()]) for stream in streams])
        count += len(streams)
    return count / (time.perf_counter() - began) / single


async def _fill(store: PostgresEventStore, total: int) -> None:
    async def write(share: int) -> None:
        for _ in range(share // 1000):
            stream_id = StreamId(f"fill-{uuid4()}")
            await store.append_batch([AppendRequest(stream_id, [_event() for _ in range(1000)], 0)])

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(write, total // 4)


async def _replay(store: PostgresEventStore, stream_id: StreamId) -> float:
    """Events a second through codec and a pure function, of a stream of ten thousand."""
    began, total, count = time.perf_counter(), 0, 0
    async for stored in store.load(stream_id):
        event = TYPES.decode(stored)
        assert isinstance(event, Spent)
        total += event.amount
        count += 1
    assert total == 12 * count
    return count / (time.perf_counter() - began)


async def _load_from_snapshot(
    store: PostgresEventStore, snapshots: PostgresSnapshots, stream_id: StreamId
) -> float:
    """Milliseconds to load a stream with a snapshot and at most a hundred events behind it."""
    began = time.perf_counter()
    kept = await snapshots.latest(stream_id)
    assert kept is not None
    async for stored in store.load(stream_id, from_version=kept.version + 1):
        TYPES.decode(stored)
    return (time.perf_counter() - began) * 1000


async def _catch_up(store: PostgresEventStore, total: int) -> float:
    began, count = time.perf_counter(), 0
    async with following(store) as pages:
        async for page in pages:
            count += len(page.events)
            if count >= total:
                break
    return count / (time.perf_counter() - began)


async def _projected(database: Database) -> float:
    """Milliseconds from append to projection, 99th percentile at 200 events a second."""
    store, projections = PostgresEventStore(database), PostgresProjections(database)
    took: list[float] = []

    def make() -> ProjectionRunner:
        return ProjectionRunner(Sums(), store, projections)

    async def measure() -> None:
        stream_id = StreamId(f"sums-{uuid4()}")
        began = time.perf_counter()
        appended = await store.append(stream_id, [_event()])
        await wait_until(projections, "bench_sums", appended.cursor, timeout_s=10)
        took.append((time.perf_counter() - began) * 1000)

    async with open_actors() as system:
        ref = await system.start(make)
        first = await store.append(StreamId("sums-first"), [_event()])
        await wait_until(projections, "bench_sums", first.cursor, timeout_s=120)
        async with trio.open_nursery() as nursery:
            for _ in range(400):
                nursery.start_soon(measure)
                await trio.sleep(1 / 200)
        await ref.stop()
    return statistics.quantiles(took, n=100)[98]


async def _repeat(run: Callable[[], Awaitable[float]]) -> list[float]:
    await run()
    return [await run() for _ in range(_RUNS)]


def _row(
    name: str,
    unit: str,
    values: list[float],
    target: str,
    peers: dict[str, float | None] | None = None,
    *,
    less_is_better: bool = False,
) -> Row:
    return Row(
        name,
        statistics.median(values),
        unit,
        minimum=min(values),
        maximum=max(values),
        peers=peers or {},
        target=target,
        is_lower_better=less_is_better,
    )


async def _measure(server: EmbeddedServer) -> list[Row]:
    rows: list[Row] = []
    async with open_database(server.url) as database:
        await migrate(database)
        store, snapshots = PostgresEventStore(database), PostgresSnapshots(database)
        for writers, least in ((1, 0.75), (8, 2), (64, 2.5)):
            ours, bare = await _side_by_side(server.url, store, writers)
            name = f"PERF-30 append 1 event, {writers} writers"
            rows.append(
                _row(
                    name,
                    "events/s",
                    ours,
                    f">= {least}x asyncpg",
                    {"asyncpg": statistics.median(bare)},
                )
            )
        values = await _repeat(partial(_batches, store))
        rows.append(
            _row("PERF-31 batches of 100 events, 4 writers", "events/s", values, ">= 50k/s")
        )
        values = await _repeat(partial(_times_as_fast, store))
        name = "PERF-54 append_batch of 100 against appends one by one, 1 writer"
        rows.append(_row(name, "times", values, ">= 10"))
        values = await _repeat(partial(_projected, database))
        target = "<= 50 ms"
        name = "PERF-34 append to projection, p99 at 200/s"
        rows.append(_row(name, "ms", values, target, less_is_better=True))
        rows += await _measure_reading(database, store, snapshots)
    return rows


async def _side_by_side(
    url: str, store: PostgresEventStore, writers: int
) -> tuple[list[float], list[float]]:
    """Runs of ours and of the bare driver, by turns: the disk of one minute is not the next's."""
    ours, bare = [], []
    await appends(store, writers, _event)
    for _ in range(_RUNS):
        ours.append(await appends(store, writers, _event))
        bare.append(await trio.to_thread.run_sync(_bare, url, writers))
    return ours, bare


async def _measure_reading(
    database: Database, store: PostgresEventStore, snapshots: PostgresSnapshots
) -> list[Row]:
    long = StreamId(f"long-{uuid4()}")
    for _ in range(10):
        await store.append(long, [_event() for _ in range(1000)])
    await snapshots.save(Snapshot(long, 9900, "s", b"{}"))
    await _fill(store, 200_000)
    replay = await _repeat(partial(_replay, store, long))
    helped = await _repeat(partial(_load_from_snapshot, store, snapshots, long))
    caught = await _repeat(partial(_catch_up, store, 200_000))
    return [
        _row("PERF-32 replay a stream of 10k events", "events/s", replay, ">= 100k/s"),
        _row("PERF-32 load it with a snapshot", "ms", helped, "< 10 ms", less_is_better=True),
        _row("PERF-33 catch up over 200k events", "events/s", caught, ">= 60k/s"),
    ]


def run() -> list[Row]:
    """Call this for the rows of the store."""
    with tempfile.TemporaryDirectory() as folder:
        server = start(Path(folder))
        try:
            return trio.run(_measure, server)
        finally:
            server.stop()


benchmarks = [run]
