"""One node of two for `bench_peers`: it serves actors until it is ended, or measures the other."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import ClassVar, cast

import trio

from actors.cluster import (
    SHARDS,
    Cluster,
    ClusterNode,
    ClusterRef,
    Host,
    HostActor,
    Identity,
    LinkActor,
    Member,
    NodeState,
    NoOwner,
    made,
    shard_of,
)
from actors.cluster.link import FrameKeys
from actors.persistence import Shard
from actors.reducers import Environment
from actors.runtime import Actor, Ask, Ref, Secret, message
from storage.link.nats import open_nats_link
from storage.link.nats_words import NatsCredentials, NatsSettings
from storage.postgres import PostgresNodes, open_database
from supervision import ChildSpec, Dynamic, DynamicFlags, open_system
from web.wiring.environment import SystemClock, SystemIds

PATIENCE_S = 60.0
ALONE, ASKERS, EACH = 2000, 64, 400
TELLS = 200_000


@message(remote=True, name="bench.Put")
class Put:
    """A tell of the size that its text has."""

    text: str


@message(remote=True, name="bench.Get")
class Get(Ask[str]):
    """Ask for the text back."""

    text: str


@message(remote=True, name="bench.Count")
class Count(Ask[int]):
    """Ask how many were put."""


class Counter(Actor[Put | Get | Count]):
    """Counts what it is told, and gives back what it is asked with."""

    # As much as comes while it waits for its turn: what is measured is the link.
    capacity: ClassVar[int] = 100_000

    def __init__(self, id_: str, token: Shard) -> None:
        self._count = 0

    def on_put(self, message: Put) -> None:
        self._count += 1

    def on_get(self, message: Get) -> str:
        return message.text

    def on_count(self, message: Count) -> int:
        return self._count


def _owned() -> Dynamic[object]:
    return Dynamic(DynamicFlags(), ChildSpec("owned", made, restart="transient"))


@asynccontextmanager
async def open_node(
    name: str, database_url: str, nats_url: str, user: str, password: Path
) -> AsyncIterator[tuple[Cluster, PostgresNodes]]:
    """Call this for a node on a real database and a real server of messages."""
    env = Environment(SystemClock(), SystemIds())
    settings = NatsSettings(
        (nats_url,), name, "gr.bench", NatsCredentials(user=user, password_file=password)
    )
    async with (
        open_database(database_url) as database,
        open_nats_link(settings, wait_s=PATIENCE_S) as link,
        open_system(_owned) as above,
    ):
        member = Member(time.monotonic)
        host = Host(member, lambda: above, kinds={"counter": Counter})
        secret = Secret("a secret of a benchmark, long enough")
        cluster = Cluster(
            above.system, member, host, link,
            name="bench", keys=FrameKeys("bench", secret), wall=env.clock.now,
        )  # fmt: skip
        nodes = PostgresNodes(database)
        node = partial(
            ClusterNode, nodes, member, Identity(name, "1"), env,
            link=cluster.link_state,
        )  # fmt: skip
        for make in (partial(HostActor, host), partial(LinkActor, cluster), node):
            await above.system.start(make)
        yield cluster, nodes


async def refs_elsewhere(cluster: Cluster) -> list[ClusterRef[Put | Get | Count]]:
    """Call this for refs of actors of the other node, once it has its half of the shards."""
    member = cluster.member

    def is_shared_out() -> bool:
        others = [shard for shard in range(SHARDS) if shard not in member.holding.epochs]
        return (
            len(others) == SHARDS // 2
            and all(member.map.of(one).owner not in ("", str(member.node_id)) for one in others)
            and all(peer.is_ready for peer in cluster.statistics().peers)
        )

    while not is_shared_out():  # noqa: ASYNC110  (most of it sets no event)
        await trio.sleep(0.05)
    mine = member.holding.epochs
    ids = (f"{n}" for n in range(10_000) if shard_of("counter", f"{n}") not in mine)
    return [cluster.ref("counter", next(ids), Counter) for _ in range(ASKERS)]


def _percentiles(took: list[float]) -> tuple[float, float]:
    took.sort()
    return statistics.median(took) * 1000, took[int(len(took) * 0.99)] * 1000


async def _asks_alone(ref: ClusterRef[Put | Get | Count], text: str) -> tuple[float, float]:
    took = []
    for _ in range(ALONE):
        began = time.perf_counter()
        await ref.ask(Get(text))
        took.append(time.perf_counter() - began)
    return _percentiles(took)


async def measure(cluster: Cluster, nodes: PostgresNodes) -> dict[str, float]:
    """Call this for all figures, asked of the other node."""
    text, refs = "x" * 200, await refs_elsewhere(cluster)
    for ref in refs:
        await ref.ask(Get(text))
    figures: dict[str, float] = {}
    figures["alone_p50_ms"], figures["alone_p99_ms"] = await _asks_alone(refs[0], text)

    async def ask_many(ref: ClusterRef[Put | Get | Count]) -> None:
        for _ in range(EACH):
            await ref.ask(Get(text))

    began = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for ref in refs:
            nursery.start_soon(ask_many, ref)
    figures["asks_per_s"] = ASKERS * EACH / (time.perf_counter() - began)
    began = time.perf_counter()
    for number in range(TELLS):
        if number % 64:
            refs[number % 8].tell(Put(text))
        else:
            # Waits for room, so that none is refused, and lets the link's tasks run.
            await refs[number % 8].send(Put(text))
            await trio.lowlevel.checkpoint()
    count = sum([await ref.ask(Count(), timeout=PATIENCE_S) for ref in refs[:8]])
    figures["tells_per_s"] = TELLS / (time.perf_counter() - began)
    figures["tells_lost"] = TELLS - count
    figures["beside_p99_ms"] = await _beside_large(refs, text)
    figures["no_owner_p99_ms"] = await _no_owner(cluster)
    figures["local_us"], figures["local_plain_us"] = await _local(cluster, text)
    figures["hand_over_p99_ms"] = await _hand_over(cluster, nodes, refs)
    return figures


async def _local(cluster: Cluster, text: str) -> tuple[float, float]:
    """What a tell to an actor of this node takes, by a ref of the cluster and by its own."""
    member = cluster.member
    mine = (f"{n}" for n in range(10_000) if shard_of("counter", f"{n}") in member.holding.epochs)
    ref = cluster.ref("counter", next(mine), Counter)
    await ref.ask(Count())
    plain = cast("Ref[Put | Get | Count]", cluster.host.residents["counter", ref.crosses_as[1]])
    took: list[list[float]] = [[], []]
    for number in range(40):
        for which, one in enumerate((ref, plain) if number % 2 else (plain, ref)):
            began = time.perf_counter()
            for _ in range(500):
                one.tell(Put(text))
            took[which if number % 2 else 1 - which].append((time.perf_counter() - began) / 500)
            await ref.ask(Count())
    return statistics.median(took[0]) * 1e6, statistics.median(took[1]) * 1e6


async def _hand_over(
    cluster: Cluster, nodes: PostgresNodes, refs: list[ClusterRef[Put | Get | Count]]
) -> float:
    """The longest ask of each actor while the other node gives all its shards to this one."""
    longest: dict[int, float] = dict.fromkeys(range(len(refs)), 0.0)

    async def ask(number: int) -> None:
        while len(cluster.member.holding.epochs) < SHARDS:
            began = time.perf_counter()
            await refs[number].ask(Get("x"), timeout=PATIENCE_S)
            longest[number] = max(longest[number], time.perf_counter() - began)
            await trio.sleep(0.02)

    other = cluster.statistics().peers[0].node_id
    async with trio.open_nursery() as nursery:
        for number in range(len(refs)):
            nursery.start_soon(ask, number)
        await nodes.set_state(other, NodeState.DRAINING)
    return _percentiles(list(longest.values()))[1]


async def _beside_large(refs: list[ClusterRef[Put | Get | Count]], text: str) -> float:
    took: list[float] = []
    async with trio.open_nursery() as nursery:

        async def flood() -> None:
            large = "y" * 60_000
            while True:
                refs[1].tell(Put(large))
                await trio.sleep(1 / 200)

        nursery.start_soon(flood)
        for _ in range(1000):
            began = time.perf_counter()
            await refs[0].ask(Get(text))
            took.append(time.perf_counter() - began)
            await trio.sleep(0.001)
        nursery.cancel_scope.cancel()
    return _percentiles(took)[1]


async def _no_owner(cluster: Cluster) -> float:
    took, nobody = [], cluster.anyone("nobody")
    for _ in range(500):
        began = time.perf_counter()
        try:
            await nobody.ask(Count())
        except NoOwner:
            took.append(time.perf_counter() - began)
    return _percentiles(took)[1]


async def _main(*given: str) -> None:
    name, database, nats, user, password = given
    async with open_node(name, database, nats, user, Path(password)) as (cluster, nodes):
        if name == "serving":
            await trio.sleep_forever()
        with trio.fail_after(3 * PATIENCE_S):
            print(json.dumps(await measure(cluster, nodes)), flush=True)


if __name__ == "__main__":
    trio.run(_main, *sys.argv[1:])
