"""Topics and services of a cluster, over the link's twin and in virtual time."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from actors.cluster import NoOwner, TopicLost
from actors.cluster.link import LinkMisuse, NoLink
from actors.runtime import ActorCrashed
from tests.actors.cluster.reaching.talkers_kit import Add, Echo, talkers


async def test_a_topic_is_heard_on_all_nodes_in_order(autojump_clock: MockClock) -> None:
    async with talkers("a", "b", "c") as some:
        heard: dict[str, list[object]] = {name: [] for name in "abc"}
        hearings = [some.talkers[name].cluster.hear("news", heard[name].append) for name in "abc"]
        await trio.sleep(0.5)
        assert all([type(one) for one in got] == [TopicLost] for got in heard.values())
        for number in range(50):
            some.talkers["a"].cluster.publish("news", Add(number))
        await trio.sleep(3)
        for got in heard.values():
            assert got[1:] == [Add(number) for number in range(50)]
        hearings[1].end()
        some.talkers["a"].cluster.publish("news", Add(50))
        await trio.sleep(6)
        assert heard["b"][-1] == Add(49)
        assert heard["c"][-1] == Add(50)
        # Nobody hears it there any more, and nothing is sent to it.
        subject = "gr.test.t.news"
        assert {one.link.name for one in some.server.hearers if one.is_for(subject)} == {"a", "c"}


@pytest.mark.parametrize("last", [False, True])
async def test_what_is_lost_on_a_topic_is_told(autojump_clock: MockClock, last: bool) -> None:
    """In the middle by the next message, at the end by the list of last numbers."""
    async with talkers("a", "b") as some:
        heard: list[object] = []
        some.talkers["b"].cluster.hear("news", heard.append)
        await trio.sleep(0.5)
        publish = some.talkers["a"].cluster.publish
        publish("news", Add(0))
        await trio.sleep(0.5)
        way = some.server.direction("a", "b")
        way.loses = lambda subject, _: ".t." in subject
        publish("news", Add(1))
        await trio.sleep(0.5)
        way.loses = lambda subject, _: False
        if not last:
            publish("news", Add(2))
        await trio.sleep(4)
        kinds = [type(one) for one in heard]
        assert kinds[:3] == [TopicLost, Add, TopicLost]
        assert kinds[3:] == ([] if last else [Add])


async def test_the_loss_of_the_link_is_told_on_every_topic(autojump_clock: MockClock) -> None:
    async with talkers("a", "b") as some:
        heard: list[object] = []
        some.talkers["b"].cluster.hear("news", heard.append)
        await trio.sleep(0.5)
        some.server.go_away()
        some.talkers["a"].cluster.publish("news", Add(1))
        some.server.come_back()
        await some.are_ready("a", "b")
        some.talkers["a"].cluster.publish("news", Add(2))
        await trio.sleep(1)
        assert [type(one) for one in heard[:3]] == [TopicLost] * 3
        assert heard[-1] == Add(2)


async def test_anyone_who_offers_a_service_answers(autojump_clock: MockClock) -> None:
    # CLU-26
    async with talkers("a", "b", "c") as some:
        by: list[str] = []

        def offer(name: str) -> None:
            async def answer(message: object) -> object:
                assert isinstance(message, Echo)
                by.append(name)
                if message.text == "crash":
                    raise ValueError("as it was asked to")
                return message.text

            some.talkers[name].cluster.offer("echo", answer)

        anyone = some.talkers["a"].cluster.anyone("echo")
        began = trio.current_time()
        with pytest.raises(NoOwner):
            await anyone.ask(Echo("x"))
        assert trio.current_time() - began < 0.1
        offer("b")
        offer("c")
        await trio.sleep(0.5)
        assert [await anyone.ask(Echo(f"{n}")) for n in range(20)] == [f"{n}" for n in range(20)]
        assert set(by) == {"b", "c"}
        with pytest.raises(ActorCrashed, match="as it was asked to"):
            await anyone.ask(Echo("crash"))
        for name in "bc":
            some.talkers[name].cluster.withdraw("echo")
        await trio.sleep(0.5)
        with pytest.raises(NoOwner):
            await anyone.ask(Echo("x"))
        some.server.go_away()
        with pytest.raises(NoLink):
            await anyone.ask(Echo("x"))
        with pytest.raises(LinkMisuse):
            some.talkers["a"].cluster.anyone("no/service")
