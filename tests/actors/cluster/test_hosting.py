"""Actors live where their shard is: begun there, ended before it is another's; in virtual time."""

from __future__ import annotations

from functools import partial

import pytest
import trio
from trio.testing import MockClock

from actors.cluster import (
    Elsewhere,
    MakeSingleton,
    UnknownKind,
    shard_of,
)
from actors.persistence import Shard
from actors.runtime import Actor, AskError
from tests.actors.cluster.households_kit import Write, households


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
