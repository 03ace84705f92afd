"""What owning shards costs: a node's heartbeat, and an append that names its shard (PERF-74).

An embedded server of its own with fsync on. Both appends go one after the other, in turns, so that
what else the machine does meets both.
"""

import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from uuid import uuid4

import trio

from actors.cluster import SHARDS, NewNode, NodeState
from actors.persistence import Shard, StreamId
from storage.postgres import PostgresEventStore, PostgresNodes, migrate, open_database
from storage.postgres.embedded.server import start
from storage.testing.samples import new_events
from tests.bench.rows import Row, row

_RUNS = 5
_BEATS, _APPENDS = 50, 200


async def _took_ms(call: Callable[[], Awaitable[object]]) -> float:
    began = time.perf_counter()
    await call()
    return (time.perf_counter() - began) * 1000


async def _measure(url: str) -> tuple[list[float], list[float], list[float]]:
    beats: list[float] = []
    fenced: list[float] = []
    plain: list[float] = []
    async with open_database(url) as database:
        await migrate(database)
        nodes, store = PostgresNodes(database), PostgresEventStore(database)
        node_id = uuid4()
        await nodes.join(NewNode(node_id, "bench", "1"))
        await nodes.set_state(node_id, NodeState.UP)
        await nodes.claim(node_id, dict.fromkeys(range(SHARDS), 0))
        token = Shard(0, str(node_id), 1)
        for _ in range(_RUNS):
            times = [await _took_ms(lambda: nodes.beat(node_id)) for _ in range(_BEATS)]
            beats.append(statistics.median(times))
            with_it: list[float] = []
            without: list[float] = []
            for number in range(_APPENDS):
                shard = token if number % 2 else None
                stream, events = StreamId(f"order-{uuid4()}"), new_events(1)
                took = await _took_ms(lambda: store.append(stream, events, shard=shard))  # noqa: B023
                (with_it if number % 2 else without).append(took)
            await nodes.beat(node_id)
            fenced.append(statistics.median(with_it))
            plain.append(statistics.median(without))
    return beats, fenced, plain


def run() -> Sequence[Row]:
    """Call this for the rows of the cluster."""
    with tempfile.TemporaryDirectory() as folder:
        server = start(Path(folder))
        try:
            beats, fenced, plain = trio.run(_measure, server.url)
        finally:
            server.stop()
    return [
        row(
            "cluster: a heartbeat that renews 128 leases",
            "ms",
            beats,
            target="CLU-10: <= 10",
            is_lower_better=True,
        ),
        row(
            "cluster: an append that names its shard",
            "ms",
            fenced,
            peers={"without": statistics.median(plain)},
            target="PERF-74: <= 0.2 more",
            is_lower_better=True,
        ),
    ]


benchmarks = [run]
