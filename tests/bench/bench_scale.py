"""What the event store costs when its log is long: a million events, or `EVENTS=10000000`.

Beside `eventsourcing`, on the same embedded server with fsync on, by turns in the same run. Long
steps run once and are told in thirds of the log, so that what grows with it is seen; the others
are the median of three. Streams have ten events each, one has ten thousand.
"""

from __future__ import annotations

import asyncio
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import uuid4

import asyncpg
import trio

from actors.persistence import (
    AppendRequest,
    AskStatus,
    GenerationState,
    NewEvent,
    ProjectionRunner,
    StreamId,
    begin_rebuild,
)
from actors.runtime import open_actors
from storage.postgres import (
    Database,
    EmbeddedServer,
    PostgresEventStore,
    PostgresProjections,
    migrate,
    open_database,
)
from storage.postgres.embedded.server import start
from storage.testing.event_store import following
from tests.bench.eventsourcing_peer import Peer, is_installed
from tests.bench.rows import Row, row
from tests.bench.spending import DATA, SECONDS, Sums, appends, new_id

EVENTS = int(os.environ.get("EVENTS", "1000000"))
LONG = 10_000
A_STREAM = 10
# So many events a transaction while the log is filled, by so many writers.
AT_ONCE = 1000
WRITERS = 4
PAGE = 500
RUNS = 3
PEER = "eventsourcing"


def _event() -> NewEvent:
    return NewEvent(new_id(), "Spent", DATA)


def _events(count: int) -> list[NewEvent]:
    return [_event() for _ in range(count)]


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def _thirds(step: Callable[[int], Awaitable[float]]) -> list[float]:
    """Events a second of each third of a step that is done once."""
    return [EVENTS // 3 / await step(EVENTS // 3) for _ in range(3)]


async def _runs(step: Callable[[], Awaitable[float]]) -> list[float]:
    await step()
    return [await step() for _ in range(RUNS)]


async def _fill(store: PostgresEventStore, events: int) -> float:
    async def write() -> None:
        for _ in range(events // AT_ONCE // WRITERS):
            requests = [
                AppendRequest(StreamId(f"scale-{uuid4()}"), _events(A_STREAM), 0)
                for _ in range(AT_ONCE // A_STREAM)
            ]
            await store.append_batch(requests)

    began = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(WRITERS):
            nursery.start_soon(write)
    return time.perf_counter() - began


async def _load(store: PostgresEventStore, stream_id: StreamId) -> float:
    began, count = time.perf_counter(), 0
    async for _ in store.load(stream_id):
        count += 1
    assert count == LONG
    return count / (time.perf_counter() - began)


async def _catch_up(store: PostgresEventStore) -> list[float]:
    rates: list[float] = []
    async with following(store) as pages:
        began, count = time.perf_counter(), 0
        async for page in pages:
            count += len(page.events)
            if count >= EVENTS // 3:
                rates.append(count / (time.perf_counter() - began))
                began, count = time.perf_counter(), 0
                if len(rates) == RUNS:
                    break
    return rates


async def _milliseconds(call: Callable[[], Awaitable[object]]) -> float:
    began = time.perf_counter()
    await call()
    return (time.perf_counter() - began) * 1000


async def _rebuild(database: Database) -> list[float]:
    """Events a second of a projection that is built anew over the whole log, in thirds."""
    store, projections = PostgresEventStore(database), PostgresProjections(database)
    projection = Sums()
    await projections.open(projection.name, 1, projection.version, GenerationState.LIVE)
    assert await begin_rebuild(projections, projection) == 2
    rates: list[float] = []
    async with open_actors() as system:
        runner = await system.start(
            lambda: ProjectionRunner(projection, store, projections, rebuild=True)
        )
        began, done = time.perf_counter(), 0
        while len(rates) < RUNS:
            await trio.sleep(0.1)
            applied = (await runner.ask(AskStatus(), timeout=60)).applied
            if applied >= (len(rates) + 1) * (EVENTS // 3):
                now = time.perf_counter()
                rates.append((applied - done) / (now - began))
                began, done = now, applied
        await runner.stop()
    return rates


def _asked(url: str, statement: str) -> object:
    """The first value of a statement's answer, on a connection of its own."""

    async def ask() -> object:
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    return asyncio.run(ask())


def _bytes_an_event(url: str, table: str) -> float:
    """What a table and its indexes take on disk, for each of its rows."""
    size = f"SELECT pg_total_relation_size('{table}')::float8 / count(*) FROM {table}"  # noqa: S608 - ours
    return float(str(_asked(url, size)))


@dataclass
class Figures:
    """The peer's figures, by the name of ours."""

    peer: Peer | None

    def of(self, measure: Callable[[Peer], float | list[float]]) -> dict[str, float | None]:
        """Call this right after ours was measured."""
        if self.peer is None:
            return {PEER: None}
        found = measure(self.peer)
        return {PEER: statistics.median(found) if isinstance(found, list) else found}


def _appends_of(writers: int, peer: Peer) -> list[float]:
    return [peer.appends(SECONDS, writers) for _ in range(RUNS)]


async def _measure(server: EmbeddedServer, peer: Peer | None) -> list[Row]:
    rows: list[Row] = []
    figures, at = Figures(peer), f"of {EVENTS:,}"
    async with open_database(server.url) as database:
        await migrate(database)
        store = PostgresEventStore(database)
        values = await _thirds(partial(_fill, store))
        peers = figures.of(
            lambda peer: [
                EVENTS // 3 / peer.fill(EVENTS // 3, A_STREAM, AT_ONCE, WRITERS) for _ in range(3)
            ]
        )
        rows.append(row(f"fill a log {at}, thirds", "events/s", values, peers=peers))
        for writers in (1, 8):
            values = await _runs(partial(appends, store, writers, _event))
            peers = figures.of(partial(_appends_of, writers))
            name = f"append 1 event to a log {at}, {writers} writers"
            rows.append(row(name, "events/s", values, peers=peers))
        rows += await _measure_reading(database, store, figures, at)
        values = await _rebuild(database)
        rows.append(row(f"rebuild a projection {at}, thirds", "events/s", values))
    return rows


def _size(server: EmbeddedServer, peer: Peer | None) -> Row:
    ours = [_bytes_an_event(server.url, "events")] * RUNS
    theirs = None
    if peer is not None:
        theirs = _bytes_an_event(server.url_of(peer.database), "stored_events")
    name = f"on disk an event, log of {EVENTS:,}"
    return row(name, "bytes", ours, peers={PEER: theirs}, is_lower_better=True)


async def _measure_reading(
    database: Database, store: PostgresEventStore, figures: Figures, at: str
) -> list[Row]:
    long, theirs = StreamId(f"long-{uuid4()}"), new_id()
    for _ in range(LONG // AT_ONCE):
        await store.append(long, _events(AT_ONCE))
    if figures.peer is not None:
        figures.peer.make(theirs, LONG, AT_ONCE)
    values = await _runs(partial(_load, store, long))
    peers = figures.of(lambda peer: [peer.load(theirs) for _ in range(RUNS)])
    rows = [row(f"load a stream of 10,000 {at}", "events/s", values, peers=peers)]
    before = _peak_mib()
    values = await _catch_up(store)
    grown = _peak_mib() - before
    peers = figures.of(lambda peer: peer.catch_up(EVENTS, PAGE))
    rows.append(row(f"catch up over a log {at}, thirds", "events/s", values, peers=peers))
    rows.append(row(f"memory that this takes {at}", "MiB", [grown] * RUNS))
    at_end = (await store.read_all(limit=1)).head
    short: list[tuple[str, Callable[[], Awaitable[object]]]] = [
        ("lag, from the start", lambda: store.lag(None)),
        ("lag, at the end", lambda: store.lag(at_end)),
        ("a page of a category without events", lambda: store.read_all(categories=["none"])),
        ("a page of a type without events", lambda: store.read_all(types=["None"])),
        ("a page of streams", store.list_streams),
    ]
    for name, call in short:
        values = await _runs(partial(_milliseconds, call))
        rows.append(row(f"{name}, log {at}", "ms", values, is_lower_better=True))
    return rows


def run() -> list[Row]:
    """Call this for the rows of a long log."""
    with tempfile.TemporaryDirectory() as folder:
        server = start(Path(folder))
        peer: Peer | None = None
        try:
            if is_installed():
                _asked(server.url, "CREATE DATABASE peer")
                peer = Peer(server.sockets, "peer", DATA, connections=10)
            return [*trio.run(_measure, server, peer), _size(server, peer)]
        finally:
            if peer is not None:
                peer.close()
            server.stop()


benchmarks = [run]
