"""Actors live where their shard is: begun there, ended before it is another's; in virtual time."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from actors.cluster import (
    Elsewhere,
    Host,
    HostActor,
    MakeOwned,
    MakeSingleton,
    UnknownKind,
    made,
    shard_of,
)
from actors.persistence import OutboxEntry, OutboxRelay, Shard, StreamId
from actors.persistence.beside_log.outbox import PARTITIONS
from actors.runtime import Actor, AnyActor, Ask, AskError, Exit, message
from storage.memory import MemoryEventStore, MemoryOutbox
from storage.testing.samples import message as outbox_message
from storage.testing.samples import new_events
from supervision import ChildSpec, Dynamic, DynamicFlags, open_system
from tests.actors.cluster.nodes_kit import OneNode, SomeNodes


@message
class Write(Ask[int]):
    """Append one event, after a while; answers the version."""

    after_s: float = 0.0


class Room(Actor[Write]):
    def __init__(self, store: MemoryEventStore, log: list[str], id_: str, token: Shard) -> None:
        self._store, self._log, self._id, self._token = store, log, id_, token

    def on_start(self) -> None:
        self._log.append(f"{self._id} begins in {self._token.epoch}")

    async def on_write(self, message: Write) -> int:
        await trio.sleep(message.after_s)
        stream = StreamId(f"room-{self._id}")
        done = await self._store.append(stream, new_events(1), shard=self._token)
        return done.version

    def on_stop(self, exit_: Exit) -> None:
        self._log.append(f"{self._id} ends in {self._token.epoch}")


class Households(SomeNodes):
    """Nodes with what lives on them."""

    def __init__(self, above: Dynamic[object]) -> None:
        super().__init__(above.system, 4)
        self.above = above
        self.hosts: dict[str, Host] = {}
        self.log: list[str] = []
        self.store = MemoryEventStore(self.database)

    async def settle_in(
        self, name: str, above: Dynamic[object], singletons: Mapping[str, MakeSingleton]
    ) -> OneNode:
        node = await self.start(name)
        kinds: dict[str, MakeOwned] = {"room": partial(Room, self.store, self.log)}
        host = Host(node.member, lambda: above, kinds=kinds, singletons=singletons)
        self.hosts[name] = host
        await self.system.start(partial(HostActor, host))
        return node


def _owned() -> Dynamic[object]:
    return Dynamic(DynamicFlags(), ChildSpec("owned", made, restart="transient"))


@asynccontextmanager
async def households(
    *names: str, singletons: Callable[[str], dict[str, MakeSingleton]] = lambda _: {}
) -> AsyncIterator[Households]:
    async with open_system(_owned) as above:
        nodes = Households(above)
        for name in names:
            await nodes.settle_in(name, above, singletons(name))
        if names and not singletons("a"):
            await nodes.until(lambda: nodes.is_shared_out(*names))
        yield nodes


async def test_an_actor_is_reached_where_its_shard_is(autojump_clock: MockClock) -> None:
    # CLU-16
    async with households("a", "b") as nodes:
        for number in range(8):
            shard = shard_of("room", f"{number}", 4)
            here, there = ("a", "b") if shard in nodes["a"].owned else ("b", "a")
            with pytest.raises(Elsewhere) as elsewhere:
                await nodes.hosts[there].reach("room", f"{number}")
            moved = elsewhere.value.moved
            assert (moved.shard, moved.owner) == (shard, str(nodes[here].member.node_id))
            ref = await nodes.hosts[here].reach("room", f"{number}")
            assert await nodes.hosts[here].reach("room", f"{number}") == ref
            assert await ref.ask(Write()) == 1
        assert len(nodes.hosts["a"].residents) + len(nodes.hosts["b"].residents) == 8
        with pytest.raises(UnknownKind):
            await nodes.hosts["a"].reach("attic", "1")


async def test_a_hand_over_lets_the_message_in_hand_end(autojump_clock: MockClock) -> None:
    """And the next owner goes on behind it; never do two live at once."""
    # CLU-12
    async with households("a") as nodes:
        refs = [await nodes.hosts["a"].reach("room", f"{number}") for number in range(8)]
        answers: list[int] = []

        async def write(number: int) -> None:
            answers.append(await refs[number].ask(Write(after_s=3.0)))

        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(write, number)
            await trio.testing.wait_all_tasks_blocked()
            await nodes.settle_in("b", nodes.above, {})
        assert answers == [1] * 8
        await nodes.until(lambda: nodes.is_shared_out("a", "b"))
        moved = [f"{n}" for n in range(8) if shard_of("room", f"{n}", 4) in nodes["b"].owned]
        assert moved
        for id_ in moved:
            with pytest.raises(Elsewhere):
                await nodes.hosts["a"].reach("room", id_)
            ref = await nodes.hosts["b"].reach("room", id_)
            assert await ref.ask(Write()) == 2
            told = [line for line in nodes.log if line.startswith(id_)]
            assert told == [f"{id_} begins in 1", f"{id_} ends in 1", f"{id_} begins in 2"]


async def test_what_a_fenced_node_had_ends_there(autojump_clock: MockClock) -> None:  # CLU-3
    async with households("a", "b") as nodes:
        mine = [f"{n}" for n in range(8) if shard_of("room", f"{n}", 4) in nodes["a"].owned]
        refs = [await nodes.hosts["a"].reach("room", id_) for id_ in mine]
        nodes["a"].line.is_refused = True
        await nodes.until(lambda: not nodes.hosts["a"].residents)
        assert not nodes["b"].owned >= {0, 1, 2, 3}
        for ref in refs:
            with pytest.raises(AskError):
                await ref.ask(Write())
        await nodes.until(lambda: nodes.is_shared_out("b"))
        for id_ in mine:
            assert await (await nodes.hosts["b"].reach("room", id_)).ask(Write()) == 1


async def test_what_crashes_is_restarted_where_it_is(autojump_clock: MockClock) -> None:
    async with households("a") as nodes:
        ref = await nodes.hosts["a"].reach("room", "1")
        ref.kill()
        await nodes.until(lambda: len([x for x in nodes.log if "begins" in x]) == 2)
        assert await (await nodes.hosts["a"].reach("room", "1")).ask(Write()) == 1


class Beacon(Actor[Write]):
    """A singleton that notes each second where it runs."""

    def __init__(self, seen: list[tuple[float, str, int]], name: str, token: Shard) -> None:
        self._seen, self._name, self._token = seen, name, token

    def on_start(self) -> None:
        self._note()
        self.every(1.0, Write())

    def on_write(self, message: Write) -> int:
        self._note()
        return 0

    def _note(self) -> None:
        self._seen.append((trio.current_time(), self._name, self._token.epoch))


async def test_of_a_singleton_the_cluster_runs_one(autojump_clock: MockClock) -> None:  # CLU-15
    seen: list[tuple[float, str, int]] = []

    def singletons(name: str) -> dict[str, MakeSingleton]:
        return {"beacon": partial(Beacon, seen, name)}

    async with households("a", "b", "c", singletons=singletons) as nodes:
        await nodes.until(lambda: len(seen) >= 5)
        first = seen[0][1]
        assert {name for _, name, _ in seen} == {first}
        nodes[first].line.is_refused = True
        await nodes.until(lambda: seen[-1][1] != first)
        last = max(at for at, name, _ in seen if name == first)
        then = min(at for at, name, _ in seen if name != first)
        assert then > last
        # Epochs rise along the way, and none comes back.
        epochs = [epoch for _, _, epoch in seen]
        assert epochs == sorted(epochs)


async def test_each_part_of_the_outbox_is_sent_by_one_node(autojump_clock: MockClock) -> None:
    """Three nodes, one of which goes meanwhile: the sum of what they send is what there was."""
    # CLU-15
    sent: list[tuple[str, str]] = []
    async with households() as nodes:

        def relay(name: str, part: int, token: Shard) -> AnyActor:
            async def send(entry: OutboxEntry) -> None:
                sent.append((name, str(entry.message_id)))

            owner = f"{name}-{part}-{token.epoch}"
            outbox = MemoryOutbox(nodes.database)
            return OutboxRelay(outbox, send, nodes.env, owner, partitions=[part])

        async def put(first: int) -> None:
            for number in range(first, first + 100):
                out = outbox_message(key=f"k{number}")
                stream = StreamId(f"order-{number}")
                await nodes.store.append(stream, new_events(1), outbox=[out])
            await nodes.until(lambda: len(sent) == first + 100)

        for name in "abc":
            parts = {f"outbox-{n}": partial(relay, name, n) for n in range(PARTITIONS)}
            await nodes.settle_in(name, nodes.above, parts)
        counts = [PARTITIONS // 3, (PARTITIONS + 1) // 3, (PARTITIONS + 2) // 3]
        await nodes.until(
            lambda: sorted(len(host.residents) for host in nodes.hosts.values()) == counts
        )
        await put(0)
        assert len({name for name, _ in sent}) == 3
        leaver = nodes.all["c"]
        assert leaver.ref is not None
        await leaver.ref.stop()
        await put(100)
        await trio.sleep(30)
    assert len(sent) == 200
    assert max(Counter(id_ for _, id_ in sent).values()) == 1
