"""A node beats, claims, hands over and is fenced: in virtual time, over the twin."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from actors.cluster import (
    FENCE_S,
    HAND_OVER_S,
    HEARTBEAT_S,
    LEASE_S,
    LinkState,
    Member,
    NodeState,
    OtherShardCount,
    SecretMarks,
    shard_of,
)
from actors.persistence import Shard, StreamId
from actors.runtime import Crashed
from storage.errors import Fenced
from storage.memory import MemoryEventStore
from storage.testing.samples import new_events
from tests.actors.cluster.nodes_kit import Line, OneNode, some_nodes
from tests.logged import captured


async def test_one_node_owns_all(autojump_clock: MockClock) -> None:  # CLU-10
    async with some_nodes("a") as nodes:
        assert nodes["a"].owned == set(range(16))
        member = nodes["a"].member
        assert (member.state, member.is_serving) == (NodeState.UP, True)
        token = member.token("room", "lobby")
        assert token == Shard(shard_of("room", "lobby", 16), str(member.node_id), 1)


async def test_a_third_node_is_given_its_share_and_nothing_else_moves(
    autojump_clock: MockClock,
) -> None:  # CLU-11
    async with some_nodes("a", "b", shards=128) as nodes:
        before = nodes.owned()
        await nodes.start("c")
        took_s = await nodes.until(lambda: nodes.is_shared_out("a", "b", "c"))
        assert len(nodes["c"].owned) == 42
        assert all(nodes.owned()[name] <= before[name] for name in "ab")
        # Eight at once: so that few actors wait at a time.
        assert took_s >= 42 / 8 * 0.05


async def test_a_node_that_dies_is_replaced_when_its_lease_is_over(
    autojump_clock: MockClock,
) -> None:  # CLU-13
    async with some_nodes("a", "b", "c") as nodes:
        dead = nodes.all.pop("c")
        assert dead.ref is not None
        dead.line.is_refused = True  # it cannot say that it goes
        dead.ref.kill()
        took_s = await nodes.until(lambda: nodes.is_shared_out("a", "b"))
        assert LEASE_S - HEARTBEAT_S <= took_s <= LEASE_S + 2 * HEARTBEAT_S


async def test_a_node_that_stops_hands_over_first(autojump_clock: MockClock) -> None:  # CLU-12
    async with some_nodes("a", "b", "c") as nodes:
        gone = nodes.all.pop("c")
        assert gone.ref is not None
        await gone.ref.stop()
        assert gone.owned == set()
        assert gone.member.state is NodeState.GONE
        took_s = await nodes.until(lambda: nodes.is_shared_out("a", "b"))
        assert took_s <= HEARTBEAT_S + 0.1  # the next beat of its heirs


async def test_a_node_hands_over_first_and_goes_on_serving(autojump_clock: MockClock) -> None:
    # CLU-41
    async with some_nodes("a", "b") as nodes:
        leaving = nodes["a"].member
        began = trio.current_time()
        await leaving.hand_over()
        assert trio.current_time() - began <= 2 * HEARTBEAT_S
        assert (nodes["a"].owned, leaving.state) == (set(), NodeState.DRAINING)
        await nodes.until(lambda: nodes.is_shared_out("b"), within_s=2 * HEARTBEAT_S)
        # Fenced meanwhile, it joins no more.
        await trio.sleep(10)
        assert nodes["a"].owned == set()
        # And who is alone waits for nobody.
        began = trio.current_time()
        nodes.all.pop("a")
        await leaving.hand_over()
        last = nodes["b"].member
        with trio.move_on_after(30):
            await nodes["b"].line.set_state(leaving.node_id, NodeState.GONE)
            await trio.sleep(2)
            began = trio.current_time()
            await last.hand_over()
        assert trio.current_time() == began
        assert nodes["b"].owned == set(range(16))


async def test_the_last_node_stops_without_waiting_for_anybody(autojump_clock: MockClock) -> None:
    async with some_nodes("a") as nodes:
        began = trio.current_time()
        assert nodes["a"].ref is not None
        await nodes["a"].ref.stop()
        assert trio.current_time() - began < HEARTBEAT_S
        await nodes.start("b")
        await nodes.until(lambda: nodes.is_shared_out("b"), within_s=2 * HEARTBEAT_S)


@pytest.mark.parametrize("how", ["refused", "hangs", "slow"])
async def test_a_node_that_cannot_renew_is_fenced_in_time(
    autojump_clock: MockClock, how: str
) -> None:  # CLU-3
    """Before another may own anything of it; however its store fails to answer."""
    async with some_nodes("a", "b") as nodes:
        cut, other = nodes["a"], nodes["b"]
        mine, first_id = cut.owned, cut.member.node_id
        line, released = cut.line, trio.Event()
        match how:
            case "refused":
                line.is_refused = True
            case "hangs":
                line.hangs_until = released
            case _:
                line.delay_s = 5.0
        took_s = await nodes.until(lambda: cut.owned == set())
        assert FENCE_S - HEARTBEAT_S <= took_s <= FENCE_S + 0.1
        assert not other.owned & mine
        assert not cut.member.is_serving
        await nodes.until(lambda: nodes.is_shared_out("b"))
        line.is_refused, line.hangs_until, line.delay_s = False, None, 0.0
        released.set()
        await nodes.until(lambda: nodes.is_shared_out("a", "b"))
        assert cut.member.node_id != first_id
        assert cut.member.lives >= 2


async def test_all_are_back_soon_after_the_database_is(autojump_clock: MockClock) -> None:  # CLU-6
    async with some_nodes("a", "b", "c") as nodes:
        for node in nodes.all.values():
            node.line.is_refused = True
        took_s = await nodes.until(lambda: not any(nodes.owned().values()))
        assert took_s <= FENCE_S + 0.1
        await trio.sleep(60)
        for node in nodes.all.values():
            node.line.is_refused = False
        took_s = await nodes.until(lambda: nodes.is_shared_out("a", "b", "c"))
        assert took_s <= 8.0


async def test_what_a_former_owner_still_writes_is_fenced(
    autojump_clock: MockClock,
) -> None:  # CLU-17
    async with some_nodes("a", "b") as nodes:
        store, stream = MemoryEventStore(nodes.database), StreamId("room-lobby")
        shard = min(nodes["a"].owned)
        token = nodes["a"].member.holding.token_of(shard)
        assert token is not None
        await store.append(stream, new_events(1), shard=token)
        nodes["a"].line.is_refused = True
        await nodes.until(lambda: nodes.is_shared_out("b"))
        heir = nodes["b"].member.holding.token_of(shard)
        assert heir is not None
        await store.append(stream, new_events(1), shard=heir)
        # It asks before an effect, and is told before it has asked the database.
        assert not nodes["a"].member.may(token)
        with pytest.raises(Fenced):
            await store.append(stream, new_events(1), shard=token)
        assert await store.head(stream) == 2


async def test_a_hand_over_waits_for_who_lives_there(autojump_clock: MockClock) -> None:  # CLU-12
    async with some_nodes("a", shards=2) as nodes:
        member = nodes["a"].member
        for shard in (0, 1):
            member.moved_in(shard)
        token = member.holding.token_of(1)
        assert token is not None
        await nodes.start("b")
        await nodes.until(lambda: bool(member.holding.closing))
        await trio.sleep(2.0)
        # Nothing begins there, and what was begun may be finished.
        assert (member.holding.token_of(1), member.may(token)) == (None, True)
        assert nodes["b"].owned == set()
        member.moved_out(1)
        took_s = await nodes.until(lambda: nodes["b"].owned == {1})
        assert took_s <= HEARTBEAT_S
        assert not member.may(token)


async def test_who_does_not_end_in_time_is_left_behind(autojump_clock: MockClock) -> None:  # CLU-12
    async with some_nodes("a", shards=2) as nodes:
        nodes["a"].member.moved_in(1)
        await nodes.start("b")
        took_s = await nodes.until(lambda: nodes["b"].owned == {1})
        assert HAND_OVER_S <= took_s <= HAND_OVER_S + 3 * HEARTBEAT_S


async def test_a_node_without_link_gives_its_shards_to_those_with_one(
    autojump_clock: MockClock,
) -> None:  # CLU-5
    async with some_nodes("a", "b") as nodes:
        nodes["a"].link[0] = LinkState.DOWN
        await nodes.until(lambda: nodes.is_shared_out("b"))
        nodes["a"].link[0] = LinkState.UP
        await nodes.until(lambda: nodes.is_shared_out("a", "b"))
        before = nodes.owned()
        for node in nodes.all.values():
            # Beats are not told in one moment.
            node.link[0] = LinkState.DOWN
            await trio.sleep(HEARTBEAT_S)
        # All without: each keeps what it has.
        await trio.sleep(20)
        assert nodes.owned() == before


async def test_a_node_that_is_told_to_drain_keeps_nothing(
    autojump_clock: MockClock,
) -> None:  # CLU-40
    async with some_nodes("a", "b") as nodes:
        await nodes["b"].line.set_state(nodes["a"].member.node_id, NodeState.DRAINING)
        await nodes.until(lambda: nodes.is_shared_out("b"))
        assert nodes["a"].member.state is NodeState.DRAINING
        assert not nodes["a"].member.is_serving


async def test_a_singleton_is_owned_by_one_node(autojump_clock: MockClock) -> None:  # CLU-15
    async with some_nodes("a", "b", "c") as nodes:
        shards = {node.member.singleton("timers") for node in nodes.all.values()}
        (shard,) = shards

        def holders() -> list[str]:
            return [name for name, owned in nodes.owned().items() if shard in owned]

        await nodes.until(lambda: len(holders()) == 1)
        (first,) = holders()
        nodes[first].line.is_refused = True
        await nodes.until(lambda: holders() not in ([], [first]))
        assert len(holders()) == 1


async def test_every_node_knows_who_owns_what(autojump_clock: MockClock) -> None:  # CLU-16
    async with some_nodes("a", "b", "c") as nodes:
        ids = {name: str(node.member.node_id) for name, node in nodes.all.items()}
        await trio.sleep(2 * HEARTBEAT_S)
        for number in range(20):
            said = {node.member.whose("room", f"{number}").owner for node in nodes.all.values()}
            shard = shard_of("room", f"{number}", 16)
            assert said == {ids[name] for name, owned in nodes.owned().items() if shard in owned}


async def test_a_store_that_is_divided_otherwise_is_refused(
    autojump_clock: MockClock,
) -> None:  # CLU-10
    async with some_nodes("a") as nodes:
        nodes.shards = 32
        node = await nodes.start("b")
        assert node.ref is not None
        exit_ = await nodes.system.wait_down(node.ref)
        assert isinstance(exit_, Crashed)
        assert [type(leaf) for leaf in exit_.leaves()] == [OtherShardCount]


async def test_another_secret_is_waited_for_and_said(autojump_clock: MockClock) -> None:
    # CLU-55: two that start in one moment, of which neither saw the other
    async with some_nodes("a") as nodes:
        nodes.marks = SecretMarks("2")
        told_nothing = nodes.all.pop("a")
        one = await nodes.start("b")
        await nodes.until(lambda: one.member.state is NodeState.UP)
        nodes.marks = SecretMarks("3")
        other = nodes.all["c"] = OneNode(Member(trio.current_time, 16), Line(nodes.database))
        other.line.is_refused = True
        with captured() as lines:
            await nodes.start_again("c")
            await trio.sleep(HEARTBEAT_S)
            other.line.is_refused = False
            await trio.sleep(5 * HEARTBEAT_S)
        told = [line["code"] for line in lines if line["event"] == "cluster.node_waits"]
        assert told == ["store_unavailable", "other_secret"]
        assert (other.member.state, other.member.waits_for) == (NodeState.JOINING, "other_secret")
        assert one.ref is not None
        await one.ref.stop()
        await nodes.until(lambda: other.member.state is NodeState.UP)
        assert (other.member.waits_for, told_nothing.member.state) == ("", NodeState.UP)


async def test_a_name_that_is_taken_is_waited_for(autojump_clock: MockClock) -> None:
    """As after a crash: the former life is over within its lease."""
    async with some_nodes("a") as nodes:
        dead = nodes.all.pop("a")
        assert dead.ref is not None
        dead.line.is_refused = True
        dead.ref.kill()
        await nodes.start("a")
        took_s = await nodes.until(lambda: nodes.is_shared_out("a"))
        assert took_s <= LEASE_S + HEARTBEAT_S


@pytest.mark.parametrize("how", ["killed", "crashed", "stopped"])
async def test_a_node_whose_actor_ends_alone_is_back_at_once(
    autojump_clock: MockClock, how: str
) -> None:
    # CLU-3: whatever ends it, the next incarnation is a node, and the process goes on
    async with some_nodes("a", "b") as nodes:
        ended, first_id = nodes["a"], nodes["a"].member.node_id
        assert ended.ref is not None
        match how:
            case "killed":
                ended.ref.kill()
            case "stopped":
                await ended.ref.stop()
            case _:
                ended.link_state = _broken
        exit_ = await nodes.system.wait_down(ended.ref)
        assert isinstance(exit_, Crashed) is (how == "crashed")
        ended.link_state = None
        await nodes.start_again("a")
        took_s = await nodes.until(lambda: ended.member.node_id != first_id)
        assert took_s < HEARTBEAT_S
        await nodes.until(lambda: nodes.is_shared_out("a", "b"))


def _broken() -> LinkState:
    raise ValueError("planted")


async def test_of_a_node_that_crashed_the_others_take_over_at_once(
    autojump_clock: MockClock,
) -> None:  # CLU-13
    async with some_nodes("a", "b") as nodes:
        nodes["a"].link_state = _broken
        took_s = await nodes.until(lambda: nodes.is_shared_out("b"))
        assert took_s <= 3 * HEARTBEAT_S
        assert not nodes["a"].member.is_serving


async def test_a_process_that_ends_begins_no_life_again(autojump_clock: MockClock) -> None:
    # CLU-41
    async with some_nodes("a", "b") as nodes:
        await nodes["a"].member.hand_over()
        ref = nodes["a"].ref
        assert ref is not None
        ref.kill()
        await nodes.system.wait_down(ref)
        await nodes.start_again("a")
        await trio.sleep(5 * HEARTBEAT_S)
        assert nodes.is_shared_out("b")


async def test_who_serves_beside_a_cluster_without_being_of_it_is_told_once(
    autojump_clock: MockClock,
) -> None:  # CLU-2
    with captured() as lines:
        async with some_nodes("a") as nodes:
            nodes.database.alone.append("greenroom:site (pid 7)")
            await trio.sleep(5 * HEARTBEAT_S)
    told = [line["by"] for line in lines if line["event"] == "cluster.served_beside"]
    assert told == ["greenroom:site (pid 7)"]


async def test_ending_while_it_joins_is_clean(autojump_clock: MockClock) -> None:
    async with some_nodes("a") as nodes:
        cut = nodes["a"]
        cut.line.is_refused = True
        await nodes.until(lambda: not cut.member.is_serving)
        assert cut.ref is not None
        began = trio.current_time()
        await cut.ref.stop()
        assert trio.current_time() - began < HEARTBEAT_S
        assert repr(cut.member).startswith("<Member")
