"""What reading from Redis costs: by the client of ours, and as a read model (PERF-76).

A server of its own on loopback, 32 who read one key after the other. The peer is `redis` for
Python in as many worker threads with a pool of connections: what a trio program would use without
a client of its own. Both in one run, one after the other.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

import trio

from actors.persistence import Cursor, GenerationState, ProjectionBatch
from storage.memory import MemoryDatabase, MemoryProjections
from storage.redis import RedisClient, RedisProjections, open_redis
from tests.bench.rows import RUNS_MIN, Row, row
from tests.redis_server import RedisServer, missing

READERS, SECONDS, KEYS = 32, 1.0, 100


async def _reads(read: Callable[[int], Awaitable[object]]) -> float:
    """Reads a second of all readers together."""
    count, began = 0, time.perf_counter()

    async def reader() -> None:
        nonlocal count
        while time.perf_counter() < began + SECONDS:
            assert await read(count % KEYS) is not None
            count += 1

    async with trio.open_nursery() as nursery:
        for _ in range(READERS):
            nursery.start_soon(reader)
    return count / (time.perf_counter() - began)


async def _in_threads(server: RedisServer) -> float | None:
    """The same of the peer; None when it is not installed."""
    try:
        from redis import Redis
    except ImportError:
        return None
    peer, limiter = Redis(port=server.port), trio.CapacityLimiter(READERS)

    async def read(number: int) -> object:
        return await trio.to_thread.run_sync(partial(peer.get, f"k{number}"), limiter=limiter)

    found = await _reads(read)
    peer.close()
    return found


async def _filled(client: RedisClient) -> RedisProjections:
    store = RedisProjections(client, MemoryProjections(MemoryDatabase()))
    begun = await store.open("bench", 1, 1, GenerationState.LIVE)
    made = {f"k{number}": {"sum": number} for number in range(KEYS)}
    assert await store.commit(ProjectionBatch(begun, Cursor(1, 1), made))
    return store


async def _measure(server: RedisServer) -> tuple[list[float], list[float], list[float | None]]:
    gets, documents, peers = list[float](), list[float](), list[float | None]()
    async with open_redis(server.settings) as client:
        for number in range(KEYS):
            await client.call("SET", f"k{number}", '{"sum":1}')
        store = await _filled(client)
        for _ in range(RUNS_MIN + 1):  # the first one warms up
            gets.append(await _reads(lambda number: client.call("GET", f"k{number}")))
            documents.append(await _reads(lambda number: store.get("bench__g1", f"k{number}")))
            peers.append(await _in_threads(server))
    return gets[1:], documents[1:], peers[1:]


def redis_reads() -> Sequence[Row]:
    """Call this for reads a second; nothing where there is no server."""
    if missing():
        return []
    with tempfile.TemporaryDirectory() as folder, RedisServer(Path(folder)) as server:
        gets, documents, peers = trio.run(_measure, server)
    known = sorted(one for one in peers if one is not None)
    peer = known[len(known) // 2] if known else None
    return [
        row(
            f"GET of Redis, {READERS} tasks",
            "reads/s",
            gets,
            peers={"redis-py in threads": peer},
            target=">= 30,000, and 5x of redis-py",
        ),
        row(f"documents of a read model in Redis, {READERS} tasks", "reads/s", documents),
    ]


benchmarks = [redis_reads]
