"""Tells and asks between nodes, over the link's twin and in virtual time."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock

from actors.cluster import NodeGone, UnknownMessage
from actors.cluster.link import MessageTooLarge, NoLink, NotRemote
from actors.runtime import (
    ActorCrashed,
    Ask,
    AskTimeout,
    Context,
    NoProc,
    edge_context,
    message,
)
from actors.runtime.telling.spans import SpanRead, is_sampled, root_of
from tests.actors.cluster.reaching.talkers_kit import (
    Add,
    Around,
    Crash,
    Echo,
    Local,
    Seen,
    talkers,
)


async def test_an_actor_is_told_and_asked_wherever_it_lives(autojump_clock: MockClock) -> None:
    # CLU-20
    async with talkers("a", "b") as some:
        for home, other in (("a", "b"), ("b", "a")):
            id_ = some.id_on(home)
            for name in (home, other):
                some.talkers[name].shelf(id_).tell(Add(1))
            # The other's ask comes behind its tell.
            for name in (other, home):
                assert await some.talkers[name].shelf(id_).ask(Seen()) == [1, 1]
            assert some.books.lives.count(f"{id_} on {home}") == 1
        assert len(some.books.lives) == 2


async def test_a_sender_is_heard_in_order(autojump_clock: MockClock) -> None:
    # CLU-21, CLU-51
    async with talkers("a", "b") as some:
        shelf = some.talkers["a"].shelf(some.id_on("b"))
        for number in range(900):
            shelf.tell(Add(number))
        assert await shelf.ask(Seen()) == list(range(900))


async def test_a_thousand_asks_at_once_get_each_its_own_reply(autojump_clock: MockClock) -> None:
    # CLU-21
    async with talkers("a", "b") as some:
        ids = [some.id_on("b", number) for number in range(10)]
        wrong: list[str] = []

        async def ask(number: int) -> None:
            text = f"text {number}"
            got = await some.talkers["a"].shelf(ids[number % 10]).ask(Echo(text))
            if got != text:
                wrong.append(got)

        async with trio.open_nursery() as nursery:
            for number in range(1000):
                nursery.start_soon(ask, number)
        assert not wrong


@pytest.mark.parametrize("last_digits", [10, 11])
async def test_a_trace_goes_on_on_another_node(autojump_clock: MockClock, last_digits: int) -> None:
    # OBS-3, OBS-4
    trace = f"{'a' * 24}{last_digits:08x}"
    async with talkers("a", "b") as some:
        spans, (first, second) = some.system.trace(), (some.id_on(name) for name in "ab")
        with edge_context(Context("c-1", traceparent=root_of(trace))):
            # From `a` to `b`, whose actor asks one of `a`.
            asked = some.talkers["a"].shelf(second)
            assert await asked.ask(Around([first], 2.0)) == "there"
            asked.tell(Add(1))
        await trio.sleep(1)
        read = [spans.read(one) for one in spans.ring]
        assert {(one.trace, one.correlation_id) for one in read} == {(trace, "c-1")}
        # What one node keeps by its id, the other one keeps.
        assert {is_sampled(one.trace) for one in read} == {last_digits == 10}
        roads = {below(read, one) for one in read}
        assert roads == {("Around",), ("Around", "Around"), ("Add",)}
        assert {one.split()[0] for one in some.books.lives} == {first, second}


def below(spans: Sequence[SpanRead], last: SpanRead) -> tuple[str, ...]:
    """What was handled from the root down to it."""
    by_id, road = {one.span: one for one in spans}, [last]
    while (over := by_id.get(road[0].parent)) is not None:
        road.insert(0, over)
    return tuple(str(dict(one.fields)["message"]) for one in road)


async def test_what_cannot_cross_is_refused_at_its_caller(autojump_clock: MockClock) -> None:
    # CLU-20
    async with talkers("a", "b") as some:
        here, there = (some.talkers["a"].shelf(some.id_on(name)) for name in ("a", "b"))
        assert await here.ask(Local()) == 1
        with pytest.raises(NotRemote):
            await there.ask(Local())
        with pytest.raises(NotRemote):
            there.tell(Local())
        large = "x" * (256 * 1024 + 1)
        assert await here.ask(Echo(large)) == large
        with pytest.raises(MessageTooLarge) as told:
            await there.ask(Echo(large))
        assert told.value.limit == 256 * 1024
        assert told.value.size > told.value.limit
        assert await there.ask(Echo("x" * 200_000)) == "x" * 200_000


async def test_an_ask_ends_as_its_handler_does(autojump_clock: MockClock) -> None:
    # CLU-21
    async with talkers("a", "b") as some:
        there = some.talkers["a"].shelf(some.id_on("b"))
        with pytest.raises(ActorCrashed) as crashed:
            await there.ask(Crash())
        assert "ValueError: as it was asked to" in str(crashed.value)
        began = trio.current_time()
        with pytest.raises(AskTimeout):
            await there.ask(Seen(after_s=10), timeout=1.0)
        assert trio.current_time() - began == pytest.approx(1.0, abs=0.1)
        with pytest.raises(NoProc) as none:
            await some.talkers["a"].cluster.ref("attic", some.id_on("b", kind="attic")).ask(Seen())
        assert "no actors of this kind" in str(none.value)


async def test_a_ring_of_asks_over_nodes_ends_by_its_deadline(autojump_clock: MockClock) -> None:
    """Within a node it is refused at once; across, nobody sees all of it."""
    # CLU-21
    async with talkers("a", "b", "c") as some:
        first, second, third = (some.id_on(name) for name in "abc")
        shelf = some.talkers["a"].shelf(first)
        assert await shelf.ask(Around([second, third], 2.0)) == "there"
        began = trio.current_time()
        assert await shelf.ask(Around([second, third, first], 2.0)) == "AskTimeout"
        assert trio.current_time() - began == pytest.approx(2.0, abs=0.1)
        # Nobody is left waiting, and nothing is done for the second time.
        for name, id_ in zip("abc", (first, second, third), strict=True):
            assert await some.talkers[name].shelf(id_).ask(Echo("x")) == "x"
        await trio.sleep(5)
        for talker in some.talkers.values():
            assert [peer.asks for peer in talker.cluster.statistics().peers] == [0, 0]


async def test_a_message_of_a_later_release_is_unknown_there(autojump_clock: MockClock) -> None:
    # CLU-25
    from actors.runtime.words.messages import REMOTE

    @message(remote=True, name="test.Newer")
    class Newer(Ask[int]):
        """Known to the asker alone."""

    async with talkers("a", "b") as some:
        there = some.talkers["a"].shelf(some.id_on("b"))
        crossing = some.talkers["a"].cluster._talk.crossing
        crossing.written("shelf", Newer())
        del REMOTE["test.Newer", 1]
        with pytest.raises(UnknownMessage) as unknown:
            await there.ask(Newer())
        assert "test.Newer" in unknown.value.name
        assert unknown.value.node == str(some["b"].member.node_id)


async def test_without_a_link_asks_end_at_once_and_local_ones_go_on(
    autojump_clock: MockClock,
) -> None:
    # CLU-54
    async with talkers("a", "b") as some:
        a = some.talkers["a"]
        here, there = a.shelf(some.id_on("a")), a.shelf(some.id_on("b"))
        ends: list[tuple[bool, float]] = []

        async def ask() -> None:
            began = trio.current_time()
            with pytest.raises(NoLink) as lost:
                await there.ask(Seen(after_s=5), timeout=30)
            ends.append((lost.value.maybe_handled, trio.current_time() - began))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.sleep(1)
            some.server.go_away()
        assert [maybe_handled for maybe_handled, _ in ends] == [True]
        assert ends[0][1] == pytest.approx(1.0)
        with pytest.raises(NoLink) as none:
            await there.ask(Echo("x"))
        assert not none.value.maybe_handled
        assert await here.ask(Echo("x")) == "x"
        some.server.come_back()
        await some.are_ready("a", "b")
        assert await there.ask(Echo("x")) == "x"


async def test_asks_end_when_the_server_says_that_nobody_hears_the_node(
    autojump_clock: MockClock,
) -> None:
    # CLU-54
    async with talkers("a", "b") as some:
        there = some.talkers["a"].shelf(some.id_on("b"))
        some.talkers["b"].link.disconnect()
        began = trio.current_time()
        with pytest.raises(NodeGone) as gone:
            await there.ask(Echo("x"))
        assert gone.value.node == str(some["b"].member.node_id)
        assert trio.current_time() - began < 0.1
        some.talkers["b"].link.reconnect()
        await some.are_ready("a", "b")
        assert await there.ask(Echo("x")) == "x"
