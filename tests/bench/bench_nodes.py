"""What a dead node costs those who ask its actors, and how soon all of another node hear a topic.

Two nodes, an embedded database and a real server of messages, all on this machine. The node that
serves is a process of its own, killed at the end of each run. Without a server there are no rows.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import trio

from actors.cluster import Cluster
from actors.cluster.link import LinkError
from actors.runtime import Ask, AskError, message
from tests.bench.node_ground import grounds
from tests.bench.peer_node import PATIENCE_S, Get, open_node, refs_elsewhere
from tests.bench.rows import Row, row
from tests.nats_server import missing

_RUNS = 3
HEARERS, TICKS, TICK_S = 300, 300, 0.02
TOPIC, SERVICE = "bench-ticks", "heard"
_AGAIN_S = 0.05


@message(remote=True, name="bench.Tick")
class Tick:
    """Published at a moment of the machine's monotonic clock, which its processes share."""

    at: float


@message(remote=True, name="bench.Heard")
class HeardBy(Ask[list[float]]):
    """Ask how long each tick took until the last of all hearers had it, in seconds."""


def hear(cluster: Cluster) -> None:
    """Call this on the node that serves."""
    counts: dict[float, int] = {}
    took: list[float] = []

    def heard(tick: object) -> None:
        if isinstance(tick, Tick):
            counts[tick.at] = counts.get(tick.at, 0) + 1
            if counts[tick.at] == HEARERS:
                took.append(time.monotonic() - tick.at)

    for _ in range(HEARERS):
        cluster.hear(TOPIC, heard)

    async def answer(_: object) -> list[float]:
        await trio.lowlevel.checkpoint()
        return took

    cluster.offer(SERVICE, answer)


async def _ticks(cluster: Cluster) -> float:
    """The time within which 99 of 100 ticks were heard by all, in milliseconds."""
    took: list[float] = []
    # Those before the other node had subscribed are heard by nobody.
    while len(took) < TICKS:
        for _ in range(TICKS // 4):
            cluster.publish(TOPIC, Tick(time.monotonic()))
            await trio.sleep(TICK_S)
        try:
            took = sorted(await cluster.anyone(SERVICE).ask(HeardBy(), timeout=PATIENCE_S))
        except (AskError, LinkError):
            continue
    return took[int(len(took) * 0.99)] * 1000


async def _moved(cluster: Cluster, kill: subprocess.Popen[bytes]) -> list[float]:
    """Seconds from the end of the other node to the first answer of each of its actors."""
    refs = await refs_elsewhere(cluster)
    for ref in refs:
        await ref.ask(Get("x"))
    took: list[float] = []
    kill.kill()
    began = time.monotonic()

    async def ask(number: int) -> None:
        while True:
            try:
                await refs[number].ask(Get("x"), timeout=1.0)
            except (AskError, LinkError):
                await trio.sleep(_AGAIN_S)
            else:
                took.append(time.monotonic() - began)
                return

    async with trio.open_nursery() as nursery:
        for number in range(len(refs)):
            nursery.start_soon(ask, number)
    return took


async def _measure(given: tuple[str, str, str, str], serving: subprocess.Popen[bytes]) -> str:
    database, nats, user, password = given
    async with open_node("asking", database, nats, user, Path(password)) as (cluster, _):
        with trio.fail_after(3 * PATIENCE_S):
            await refs_elsewhere(cluster)
            ticks = await _ticks(cluster)
            moved = await _moved(cluster, serving)
    return json.dumps({"ticks": ticks, "median": statistics.median(moved), "last": max(moved)})


def run() -> Sequence[Row]:
    """Call this for the rows of nodes."""
    if missing():
        return []
    found: list[dict[str, float]] = []
    for ground in grounds(_RUNS):
        given = (ground.database, ground.nats, ground.user, ground.password)
        serving = subprocess.Popen([sys.executable, "-m", "tests.bench.bench_nodes", *given])
        try:
            found.append(json.loads(trio.run(_measure, given, serving)))
        finally:
            serving.kill()
            serving.wait()
    rows = (
        ("kill -9 to an answer of a moved actor, median", "s", "median", "PERF-73: <= 7"),
        ("kill -9 to an answer of a moved actor, last", "s", "last", "PERF-73: <= 8"),
        ("a topic, last of 300 of the other node, p99", "ms", "ticks", "PERF-75: <= 50"),
    )
    return [
        row(f"nodes: {words}", unit, [one[key] for one in found], target=target,
            is_lower_better=True)
        for words, unit, key, target in rows
    ]  # fmt: skip


async def _serve(database: str, nats: str, user: str, password: str) -> None:
    async with open_node("serving", database, nats, user, Path(password)) as (cluster, _):
        hear(cluster)
        await trio.sleep_forever()


benchmarks = [run]

if __name__ == "__main__":
    trio.run(partial(_serve, *sys.argv[1:]))
