"""Monitors and links of actors that live on other nodes; each end is told exactly once."""

from __future__ import annotations

from functools import partial

import pytest
import trio
from trio.testing import MockClock

from actors.runtime import Actor, ActorCrashed, AnyRef, Ask, Down, Exited, message
from tests.actors.cluster.reaching.talkers_kit import Crash, Echo, Talkers, talkers


@message
class Stop(Ask[int]):
    """Have the watcher end its monitor."""


class Watcher(Actor[Stop]):
    """Notes what it is told of the end of others."""

    trap_exits = True

    def __init__(self, seen: list[str], ref: AnyRef, *, final: bool, links: bool) -> None:
        self._seen, self._ref, self._final, self._links = seen, ref, final, links

    def on_start(self) -> None:
        self._monitor = self.monitor(self._ref, final=self._final)
        if self._links:
            self.link(self._ref)

    def on_down(self, message: Down) -> None:
        assert message.ref == self._ref
        self._seen.append(f"{type(message.exit).__name__} {getattr(message.exit, 'because', '')}")

    def on_exited(self, message: Exited) -> None:
        self._seen.append(f"link {getattr(message.exit, 'because', '')}")

    def on_stop_asked(self, message: Stop) -> int:
        self.demonitor(self._monitor)
        return 0


async def _watch(
    some: Talkers, name: str, id_: str, *, final: bool = False, links: bool = False
) -> list[str]:
    seen: list[str] = []
    ref = some.talkers[name].shelf(id_)
    await some.system.start(partial(Watcher, seen, ref, final=final, links=links))
    # Both are there: the actor, and who watches it.
    assert await ref.ask(Echo("x")) == "x"
    await trio.sleep(0.5)
    return seen


async def test_the_crash_of_an_actor_elsewhere_is_told_once(autojump_clock: MockClock) -> None:
    # CLU-22
    async with talkers("a", "b") as some:
        for home in ("a", "b"):
            id_ = some.id_on(home)
            seen = await _watch(some, "a", id_)
            with pytest.raises(ActorCrashed):
                await some.talkers["a"].shelf(id_).ask(Crash())
            await trio.sleep(5)
            assert seen == ["Crashed None"]


async def test_a_node_that_is_gone_is_the_end_of_all_that_is_watched_there(
    autojump_clock: MockClock,
) -> None:
    # CLU-22
    async with talkers("a", "b", "c") as some:
        seen = [
            await _watch(some, "a", some.id_on("b", number), links=number == 0)
            for number in range(5)
        ]
        # Both die together: the node is silent, and so is the server.
        some.stop("b")
        some.server.go_away()
        await trio.sleep(1)
        some.server.come_back()
        await trio.sleep(15)
        assert seen[0].count("Killed node_gone") == 1
        assert seen[0].count("link node_gone") == 1
        assert seen[1:] == [["Killed node_gone"]] * 4
        some.go_on("b")
        await trio.sleep(10)
        assert seen[1:] == [["Killed node_gone"]] * 4


async def test_a_hand_over_is_told_and_a_final_monitor_follows(autojump_clock: MockClock) -> None:
    # CLU-22
    async with trio.open_nursery() as nursery:
        async with talkers("a", "b") as some:
            ids = [some.id_on("b", number) for number in range(12)]
            first = {id_: await _watch(some, "a", id_) for id_ in ids}
            final = {id_: await _watch(some, "a", id_, final=True) for id_ in ids}
            await some.settle("c", nursery)
            await some.are_ready("a", "b", "c")
            await trio.sleep(3)
            moved = [id_ for id_ in ids if f"{id_} on c" in some.books.lives]
            assert moved, "some of them have moved, as a final monitor wants them to live"
            for id_ in ids:
                assert first[id_] == (["Shutdown moved"] if id_ in moved else [])
                assert final[id_] == []
        nursery.cancel_scope.cancel()


async def test_a_link_breaks_in_both_directions(autojump_clock: MockClock) -> None:
    # CLU-22
    async with talkers("a", "b") as some:
        for home in ("a", "b"):
            id_ = some.id_on(home)
            seen: list[str] = []
            ref = some.talkers["a"].shelf(id_)
            watcher = await some.system.start(partial(Watcher, seen, ref, final=False, links=True))
            assert await ref.ask(Echo("x")) == "x"
            await trio.sleep(0.5)
            # The linked actor is killed: the other one goes with it, and begins anew.
            watcher.kill()
            await trio.sleep(2)
            assert some.books.lives.count(f"{id_} on {home}") == 2
            assert await ref.ask(Echo("x")) == "x"


async def test_who_watches_no_more_is_told_nothing(autojump_clock: MockClock) -> None:
    # CLU-22
    async with talkers("a", "b") as some:
        id_ = some.id_on("b")
        seen: list[str] = []
        ref = some.talkers["a"].shelf(id_)
        watcher = await some.system.start(partial(Watcher, seen, ref, final=False, links=False))
        await ref.ask(Echo("x"))
        await trio.sleep(0.5)
        await watcher.ask(Stop())
        await trio.sleep(0.5)
        with pytest.raises(ActorCrashed):
            await ref.ask(Crash())
        await trio.sleep(2)
        assert seen == []
        assert not some.talkers["b"].cluster._watches._served
