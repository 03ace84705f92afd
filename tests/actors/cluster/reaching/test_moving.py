"""Messages for actors whose shard changes hands: sent on once, in order; or ended, never silent."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from actors.cluster import HELD_PER_SHARD_MAX, NodeGone, NoOwner, PeerOverloaded
from actors.cluster.holding import Moved
from actors.runtime import AskError
from tests.actors.cluster.reaching.talkers_kit import Add, Echo, Seen, Talkers, talkers


async def _keep_telling(some: Talkers, name: str, id_: str, until: trio.Event) -> int:
    """Tells numbers, 100 a second; gives how many."""
    shelf, number = some.talkers[name].shelf(id_), 0
    while not until.is_set():
        shelf.tell(Add(number))
        number += 1
        await trio.sleep(0.01)
    return number


async def test_a_hand_over_loses_nothing_and_keeps_the_order_of_each_sender(
    autojump_clock: MockClock,
) -> None:
    # CLU-12, CLU-16
    async with trio.open_nursery() as nursery:
        async with talkers("a", "b") as some:
            ids = [some.id_on(name, number) for name in ("a", "b") for number in range(6)]
            stop, told = trio.Event(), {}

            async def tell(name: str, id_: str) -> None:
                told[id_] = await _keep_telling(some, name, id_, stop)

            async with trio.open_nursery() as senders:
                for at, id_ in enumerate(ids):
                    senders.start_soon(tell, "ab"[at % 2], id_)
                await some.settle("c", nursery)
                await some.are_ready("a", "b", "c")
                await trio.sleep(2)
                stop.set()
            await trio.sleep(1)
            homes = {life.split(" on ")[1] for life in some.books.lives if " on " in life}
            assert homes == {"a", "b", "c"}, "some of them have moved"
            for id_ in ids:
                assert some.books.handled[id_] == list(range(told[id_])), id_
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("is_sender_next", [True, False])
async def test_nothing_overtakes_what_the_former_owner_sends_back(
    is_sender_next: bool, autojump_clock: MockClock
) -> None:
    """Who hears of a move before what was under way is back waits for that."""
    # CLU-12, CLU-16
    # Of seven the first has three, so that one of them may be another's.
    async with talkers("a", "b", "c", shards=7) as some:
        former, sender, third = sorted("abc", key=lambda name: -len(some[name].owned))
        heir = sender if is_sender_next else third
        for one, other in ((former, sender), (sender, former)):
            some.server.direction(one, other).delay_s = 0.05
        id_ = some.id_on(former)
        shelf = some.talkers[sender].shelf(id_)
        shelf.tell(Add(0))
        await trio.sleep(1)
        before, after = some[former].member, some[heir].member
        shard = before.whose("shelf", id_).shard
        given = await some[heir].line.hand_over(
            before.node_id, shard, before.holding.epochs[shard], after.node_id
        )
        assert given is not None
        before.holding.drop([shard])
        shelf.tell(Add(1))  # It will be sent back.
        after.holding.gained({shard: given})
        for node in some.all.values():
            node.member.map.learn(Moved(shard, str(after.node_id), given))
        shelf.tell(Add(2))
        await trio.sleep(1)
        assert some.books.handled[id_] == [0, 1, 2]
        assert some.books.lives[-1] == f"{id_} on {heir}"


async def test_asks_are_answered_while_their_actor_moves(autojump_clock: MockClock) -> None:
    # CLU-12, CLU-14
    async with trio.open_nursery() as nursery:
        async with talkers("a", "b") as some:
            ids = [some.id_on(name, number) for name in ("a", "b") for number in range(6)]
            ends: list[str] = []
            longest = 0.0
            stop = trio.Event()

            async def ask(name: str, id_: str) -> None:
                nonlocal longest
                shelf = some.talkers[name].shelf(id_)
                while not stop.is_set():
                    began = trio.current_time()
                    ends.append(await shelf.ask(Echo(id_)))
                    longest = max(longest, trio.current_time() - began)
                    await trio.sleep(0.01)

            async with trio.open_nursery() as askers:
                for at, id_ in enumerate(ids):
                    askers.start_soon(ask, "ab"[at % 2], id_)
                await some.settle("c", nursery)
                await some.are_ready("a", "b", "c")
                stop.set()
            assert set(ends) == set(ids)
            assert longest < 1.0
        nursery.cancel_scope.cancel()


async def test_a_wrong_map_costs_a_round_trip(autojump_clock: MockClock) -> None:
    # CLU-16
    async with talkers("a", "b", "c") as some:
        id_ = some.id_on("c")
        member = some["a"].member
        right = member.whose("shelf", id_)
        wrong = Moved(right.shard, str(some["b"].member.node_id), right.epoch - 1)
        member.map._owners[right.shard] = wrong
        shelf = some.talkers["a"].shelf(id_)
        for number in range(20):
            shelf.tell(Add(number))
        assert await shelf.ask(Seen()) == list(range(20))
        assert some.books.lives == [f"{id_} on c"]
        assert some.talkers["b"].cluster.statistics().counts["moved"] == 21


async def test_what_two_nodes_send_back_ends(autojump_clock: MockClock) -> None:
    """A message is sent on once: an owner that denies it again is believed."""
    # CLU-16, CLU-21
    async with talkers("a", "b") as some:
        id_ = some.id_on("b")
        holding = some["b"].member.holding
        shard = some["a"].member.whose("shelf", id_).shard
        epoch = holding.epochs[shard]
        shelf = some.talkers["a"].shelf(id_)
        # It says that it owns a later epoch, and takes nothing under any.
        some["a"].member.map.learn(Moved(shard, str(some["b"].member.node_id), epoch + 1))
        some["b"].member.map.learn(Moved(shard, "", epoch + 5))
        with pytest.raises(AskError) as ended:
            await shelf.ask(Echo("x"), timeout=20)
        assert isinstance(ended.value, NoOwner)
        assert not some.books.lives


async def test_asks_of_a_node_that_dies_end_and_its_actors_answer_elsewhere(
    autojump_clock: MockClock,
) -> None:
    # CLU-13, CLU-21
    async with talkers("a", "b") as some:
        id_ = some.id_on("b")
        shelf = some.talkers["a"].shelf(id_)
        assert await shelf.ask(Echo("x")) == "x"
        began = trio.current_time()
        ended: list[tuple[float, bool]] = []

        async def ask() -> None:
            with pytest.raises(NodeGone) as gone:
                await shelf.ask(Seen(after_s=60), timeout=60)
            ended.append((trio.current_time() - began, gone.value.maybe_handled))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.sleep(0.5)
            some.stop("b")
        # Nobody answers any more, and that is known by the lease alone.
        assert ended[0][1]
        assert 5.0 < ended[0][0] < 8.5
        await some.until(lambda: len(some["a"].owned) == some.shards)
        assert await shelf.ask(Echo("x")) == "x"
        assert f"{id_} on a" in some.books.lives


async def test_a_node_that_wakes_delivers_and_answers_nothing_of_its_old_life(
    autojump_clock: MockClock,
) -> None:
    # CLU-3, CLU-53
    async with talkers("a", "b") as some:
        id_ = some.id_on("b")
        shelf = some.talkers["a"].shelf(id_)
        shelf.tell(Add(0))
        assert await shelf.ask(Seen()) == [0]
        b = some.talkers["b"]
        some.stop("b")
        for number in range(1, 100):
            shelf.tell(Add(number))
        await some.until(lambda: len(some["a"].owned) == some.shards)
        shelf.tell(Add(100))
        assert await shelf.ask(Seen()) == [0, 100]
        some.go_on("b")
        await trio.sleep(5)
        assert some.books.handled[id_] == [0, 100]
        assert b.cluster.statistics().counts["fenced"] > 0


async def test_so_many_wait_for_a_shard_and_no_more(autojump_clock: MockClock) -> None:
    # CLU-12
    async with talkers("a", "b") as some:
        id_ = some.id_on("a")
        member = some["a"].member
        shard = member.whose("shelf", id_).shard
        shelf = some.talkers["a"].shelf(id_)
        member.holding.close(shard)
        for number in range(HELD_PER_SHARD_MAX):
            shelf.tell(Add(number))
        with pytest.raises(PeerOverloaded):
            await shelf.ask(Seen())
        some.system.dead_letters.by_reason.clear()
        shelf.tell(Add(-1))
        assert some.system.dead_letters.by_reason["no_such_actor"] == 1
        member.holding.reopen(shard)
        member.moved(Moved(shard, str(member.node_id), member.holding.epochs[shard]), is_kept=True)
        await trio.sleep(1)
        assert await some.talkers["b"].shelf(id_).ask(Seen()) == list(range(HELD_PER_SHARD_MAX))
