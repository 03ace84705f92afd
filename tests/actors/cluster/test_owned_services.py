"""What a cluster runs once: parts of the outbox and of projections, timers; in virtual time."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from functools import partial
from itertools import pairwise
from typing import cast
from uuid import uuid4

import pytest
import trio
from trio.testing import MockClock

from actors.cluster import Elsewhere, Host, MakeSingleton, shard_of
from actors.persistence import (
    DueTimer,
    OutboxEntry,
    OutboxRelay,
    ProjectionRunner,
    ProjectionTx,
    SetTimer,
    Shard,
    StoredEvent,
    StoreUnavailable,
    StreamId,
    TimerService,
    wait_until,
)
from actors.persistence.beside_log.outbox import MARK_S, PARTITIONS
from actors.runtime import Actor, Ref, Shutdown
from storage.memory import MemoryOutbox, MemoryProjections, MemoryTimers
from storage.testing.projections.filling import paid
from storage.testing.projections.parts import PARTS, Receipts
from storage.testing.samples import message as outbox_message
from storage.testing.samples import new_events
from tests.actors.cluster.households_kit import Households, Leave, households

# CLU-13, CLU-15: what a dead node ran, others run after its lease and their next looks.
TAKEN_OVER_S_MAX = 8.0
DEAD = StoreUnavailable("its process is dead", nothing_written=True)


class Services:
    """What three nodes run for all of them, each by ports of its own; what they did, and who."""

    def __init__(self) -> None:
        self.nodes: Households
        self.outboxes: dict[str, MemoryOutbox] = {}
        self.timers: dict[str, MemoryTimers] = {}
        self.sent: list[tuple[str, str]] = []
        self.rung: list[tuple[str, str]] = []
        self.hangs = ""

    async def settle_in(self, *names: str) -> None:
        nodes = self.nodes
        for name in names:
            self.outboxes[name] = MemoryOutbox(nodes.database)
            self.timers[name] = MemoryTimers(nodes.database)
            each: dict[str, MakeSingleton] = {
                f"outbox-{part}": partial(self.relay, name, part) for part in range(PARTITIONS)
            }
            each["timers"] = partial(self.timer_service, name)
            await nodes.settle_in(name, nodes.above, each)
        whole = PARTITIONS + 1
        counts = sorted((whole + n) // len(names) for n in range(len(names)))
        hosts = nodes.hosts.values()
        await nodes.until(lambda: sorted(len(host.residents) for host in hosts) == counts)

    def relay(self, name: str, part: int, token: Shard) -> OutboxRelay:
        async def send(entry: OutboxEntry) -> None:
            self.sent.append((name, str(entry.message_id)))

        owner, env = f"{name}-{part}-{token.epoch}", self.nodes.env
        shard = self.nodes[name].member.lease(token)
        return OutboxRelay(self.outboxes[name], send, env, owner, partitions=[part], shard=shard)

    def timer_service(self, name: str, token: Shard) -> TimerService:
        async def deliver(timer: DueTimer) -> bool:
            if name == self.hangs:
                await trio.sleep_forever()
            self.rung.append((name, timer.address))
            return True

        shard = self.nodes[name].member.lease(token)
        worker = f"{name}-{token.epoch}"
        return TimerService(self.timers[name], deliver, self.nodes.env, worker, shard=shard)

    async def put(self, first: int, count: int) -> None:
        for number in range(first, first + count):
            out = [outbox_message(key=f"k{number}")]
            await self.nodes.store.append(StreamId(f"order-{number}"), new_events(1), outbox=out)

    def kill(self, name: str) -> None:
        """As `kill -9`: the store hears no more of the node, not even that it gives leases back."""
        self.nodes[name].line.is_refused = True
        self.outboxes[name].fail_next(DEAD, times=10_000)
        self.timers[name].fail_next(DEAD, times=10_000)


@asynccontextmanager
async def services(*names: str) -> AsyncIterator[Services]:
    async with households() as nodes:
        made = Services()
        made.nodes = nodes
        await made.settle_in(*names)
        yield made


async def test_each_part_of_the_outbox_is_sent_by_one_node(autojump_clock: MockClock) -> None:
    """Three nodes, one of which goes meanwhile: the sum of what they send is what there was."""
    # CLU-15
    async with services("a", "b", "c") as cluster:
        await cluster.put(0, 100)
        await cluster.nodes.until(lambda: len(cluster.sent) == 100)
        assert len({name for name, _ in cluster.sent}) == 3
        leaver = cluster.nodes["c"]
        assert leaver.ref is not None
        await leaver.ref.stop()
        await cluster.put(100, 100)
        await cluster.nodes.until(lambda: len(cluster.sent) == 200)
        await trio.sleep(30)
    assert max(Counter(id_ for _, id_ in cluster.sent).values()) == 1


async def test_a_dead_nodes_parts_of_the_outbox_go_on_with_their_shards(
    autojump_clock: MockClock,
) -> None:
    """And not when a lease of their own is over; what was on its way there is sent once more."""
    # CLU-13, CLU-15, STORE-52
    async with services("a", "b", "c") as cluster:
        await cluster.put(0, 50)
        await cluster.nodes.until(lambda: len(cluster.sent) == 50)
        await trio.sleep(2 * MARK_S)  # all it sent is marked by then
        cluster.kill("b")
        await cluster.put(50, 100)
        took = await cluster.nodes.until(lambda: len({id_ for _, id_ in cluster.sent}) == 150)
        assert 4.0 < took <= TAKEN_OVER_S_MAX
        await trio.sleep(30)
        late = [name for name, _ in cluster.sent[50:] if name == "b"]
    # Only what the dead one had sent, and never said so.
    assert len(cluster.sent) - 150 == len(late)


async def test_nothing_is_sent_by_a_node_whose_lease_is_over(autojump_clock: MockClock) -> None:
    """Its own lease of the part would run for longer."""
    # CLU-3, CLU-15
    async with services("a") as cluster:
        cluster.nodes["a"].line.is_refused = True
        holding = cluster.nodes["a"].member.holding
        await cluster.nodes.until(lambda: holding.is_fenced)
        await cluster.put(0, 20)
        await trio.sleep(8)
        assert cluster.sent == []
        cluster.nodes["a"].line.is_refused = False
        await cluster.nodes.until(lambda: len(cluster.sent) == 20)


async def test_timers_are_delivered_by_one_node(autojump_clock: MockClock) -> None:
    """What the former one has in hand when it dies is delivered elsewhere, not claimed for long."""
    # CLU-13, CLU-15, STORE-50
    async with services("a", "b", "c") as cluster:
        nodes, port = cluster.nodes, MemoryTimers(cluster.nodes.database)

        async def ring(number: int) -> None:
            due_at = nodes.env.clock.now() + timedelta(seconds=1)
            await port.set(SetTimer(uuid4(), f"saga/{number}", "step", "t", due_at))

        for number in range(30):
            await ring(number)
        await nodes.until(lambda: len(cluster.rung) == 30)
        (first,) = {name for name, _ in cluster.rung}
        cluster.hangs = first
        for number in range(30, 60):
            await ring(number)
        claimed = await nodes.until(lambda: _is_claimed(nodes))
        assert claimed < 2
        cluster.kill(first)
        took = await nodes.until(lambda: len(cluster.rung) == 60)
        assert took <= TAKEN_OVER_S_MAX
        await trio.sleep(60)
    assert Counter(address for _, address in cluster.rung) == Counter(
        f"saga/{number}" for number in range(60)
    )


def _is_claimed(nodes: Households) -> bool:
    rows = [row for row in nodes.database.timers.values() if row.is_open]
    return bool(rows) and all(row.claimed_by is not None for row in rows)


async def test_each_part_of_a_projection_is_filled_by_one_node(autojump_clock: MockClock) -> None:
    """Nodes come and die meanwhile: every event is applied, and once."""
    # CLU-15, PROJ-14
    async with households() as nodes:
        applied: Counter[tuple[str, int]] = Counter()

        class Counting(Receipts):
            async def apply(self, event: StoredEvent, tx: ProjectionTx) -> None:
                applied[event.stream_id, event.version] += 1
                await super().apply(event, tx)

        def filler(part: int, token: Shard) -> ProjectionRunner:
            store = MemoryProjections(nodes.database)
            return ProjectionRunner(Counting(), nodes.store, store, partition=part)

        parts = {f"receipts-{part}": partial(filler, part) for part in range(PARTS)}
        for name in "abc":
            await nodes.settle_in(name, nodes.above, parts)
        hosts = nodes.hosts.values()
        await nodes.until(lambda: [len(host.residents) for host in hosts] == [1, 1, 1])
        tills, view = [StreamId(f"till-{n}") for n in range(12)], MemoryProjections(nodes.database)
        last = await nodes.store.append(StreamId("till-0"), paid(0))
        for round_ in range(1, 10):
            for till in tills:
                last = await nodes.store.append(till, paid(round_))
            if round_ == 5:
                nodes["b"].line.is_refused = True
            await trio.sleep(1)
        # From whichever node: it stands in the store how far each part is.
        await wait_until(view, "receipts", last.cursor, timeout_s=TAKEN_OVER_S_MAX)
        found = await view.query("receipts__g1")
    amounts = {key: one["amounts"] for key, one in found}
    assert amounts.pop("till-0") == list(range(10))
    assert amounts == {str(till): list(range(1, 10)) for till in tills[1:]}
    assert set(applied.values()) == {1}


class Starts:
    """Which rooms have begun, as a log tells it."""

    def __init__(self, nodes: Households) -> None:
        self._nodes = nodes

    def since(self, at: int) -> set[str]:
        return {line.split()[0] for line in self._nodes.log[at:] if "begins" in line}


async def test_actors_that_are_remembered_begin_elsewhere_without_a_message(
    autojump_clock: MockClock,
) -> None:
    # CLU-13
    async with households("a", "b", remembered=["room"]) as nodes:
        for number in range(12):
            for host in nodes.hosts.values():
                with suppress(Elsewhere):
                    await host.reach("room", f"{number}")
        on_b = {key[1] for key in nodes.hosts["b"].residents}
        assert 0 < len(on_b) < 12
        at = len(nodes.log)
        nodes["b"].line.is_refused = True
        took = await nodes.until(lambda: Starts(nodes).since(at) == on_b)
        assert took <= TAKEN_OVER_S_MAX
        assert {key[1] for key in nodes.hosts["a"].residents} == {f"{n}" for n in range(12)}
        # One that ends by itself is forgotten; one that is ended with its shard is not.
        room = await nodes.hosts["a"].reach("room", "3")
        await room.stop()
        await nodes.until(lambda: ("room", "3") not in nodes.database.remembered)
        await nodes.settle_in("c", nodes.above, {}, ["room"])
        everywhere = {f"{n}" for n in range(12)} - {"3"}
        await nodes.until(
            lambda: {key[1] for h in nodes.hosts.values() for key in h.residents} == everywhere
        )


class Quiet(Actor[Leave]):
    """Does nothing."""

    def on_leave(self, message: Leave) -> None:
        pass


async def test_whoever_is_fenced_has_its_node_ask_and_begins_under_the_next_epoch(
    autojump_clock: MockClock,
) -> None:
    """It knows before the next heartbeat tells, and nothing begins in its place until then."""
    # CLU-14, CLU-15
    seen: list[tuple[float, int]] = []

    class Fenceable(Quiet):
        def __init__(self, token: Shard) -> None:
            self._token = token

        def on_start(self) -> None:
            seen.append((trio.current_time(), self._token.epoch))

        def on_leave(self, message: Leave) -> None:
            self.stop(Shutdown("fenced"))

    def singletons(name: str) -> dict[str, MakeSingleton]:
        return {"beacon": Fenceable}

    async with households("a", singletons=singletons) as nodes:
        await nodes.until(lambda: len(seen) == 1)
        await trio.sleep(5.5)
        beacon, node = nodes.hosts["a"].residents["", "beacon"], nodes["a"]
        shard = node.member.singleton("beacon")
        owner, epoch = nodes.database.shards[shard]
        nodes.database.shards[shard] = (owner, epoch + 1)
        # Slow, so that a host which began it at once would do so under the epoch that is over.
        node.line.delay_s = 0.3
        calls, fenced_at = node.line.calls, trio.current_time()
        cast("Ref[Leave]", beacon).tell(Leave())
        await nodes.until(lambda: node.line.calls > calls)
        assert trio.current_time() - fenced_at < 0.05
        await nodes.until(lambda: len(seen) == 2)
        await trio.sleep(10)
    assert [one for _, one in seen] == [epoch, epoch + 1]
    assert seen[1][0] - fenced_at <= 2


async def test_what_a_restarted_supervisor_ended_begins_again(autojump_clock: MockClock) -> None:
    """It was not done: neither a singleton nor what is remembered."""
    # CLU-13, CLU-15
    seen: list[str] = []

    class Beacon(Quiet):
        def on_start(self) -> None:
            seen.append("beacon")

    def singletons(name: str) -> dict[str, MakeSingleton]:
        return {"beacon": lambda token: Beacon()}

    async with households("a", singletons=singletons, remembered=["room"]) as nodes:
        await nodes.until(lambda: seen == ["beacon"] and len(nodes["a"].owned) == 5)
        await nodes.hosts["a"].reach("room", "1")
        for ref in list(nodes.hosts["a"].residents.values()):
            await nodes.above.terminate_child(ref)
        await nodes.until(lambda: seen == ["beacon", "beacon"])
        await nodes.until(lambda: ("room", "1") in nodes.hosts["a"].residents)
        # One that says itself that it is done stays so.
        await nodes.hosts["a"].residents["", "beacon"].stop()
        await trio.sleep(30)
        assert seen == ["beacon", "beacon"]


async def test_what_may_live_on_a_node_is_said_once(autojump_clock: MockClock) -> None:
    async with households("a") as nodes:
        host = nodes.hosts["a"]
        for wrong in (
            partial(host.own, kinds={"room": lambda id_, token: Quiet()}),
            partial(host.own, remembered=["attic"]),
        ):
            with pytest.raises(ValueError, match=r"room|attic"):
                wrong()
        bare = Host(nodes["a"].member, lambda: nodes.above, kinds={"room": lambda i, t: Quiet()})
        with pytest.raises(ValueError, match="memory"):
            bare.own(remembered=["room"])


async def test_one_that_cannot_begin_keeps_no_other_from_it(autojump_clock: MockClock) -> None:
    """It is tried again, and so is all of it while the store is away."""
    # CLU-13
    async with households("a", "b", remembered=["room"]) as nodes:
        ids = [f"{n}" for n in range(6) if shard_of("room", f"{n}", 4) in nodes["b"].owned]
        for id_ in ids:
            await nodes.hosts["b"].reach("room", id_)
        nodes.broken.add(ids[0])
        nodes["b"].line.is_refused = True
        whole = {("room", id_) for id_ in ids}
        await nodes.until(lambda: set(nodes.hosts["a"].residents) >= whole - {("room", ids[0])})
        nodes.broken.clear()
        await nodes.until(lambda: set(nodes.hosts["a"].residents) >= whole)


async def test_a_singleton_that_cannot_start_is_tried_each_second(
    autojump_clock: MockClock,
) -> None:
    """And keeps no other from it."""
    # CLU-15
    tries: list[float] = []

    class Failing(Quiet):
        def on_start(self) -> None:
            tries.append(trio.current_time())
            raise RuntimeError("planted")

    def singletons(name: str) -> dict[str, MakeSingleton]:
        return {"first": lambda token: Failing(), "second": lambda token: Quiet()}

    async with households("a", singletons=singletons) as nodes:
        await nodes.until(lambda: ("", "second") in nodes.hosts["a"].residents)
        await trio.sleep(10)
    pauses = [after - before for before, after in pairwise(tries)]
    assert len(tries) >= 5
    assert min(pauses) >= 1
