"""The link's actor under load, restarted in the middle, and before peers that lie."""

from __future__ import annotations

from random import Random

import msgspec
import pytest
import trio
from trio.testing import MockClock

from actors.cluster import PeerOverloaded
from actors.cluster.link import (
    WINDOW_BYTES_MAX,
    Ack,
    Envelope,
    EnvelopeKind,
    FrameHead,
    FrameKeys,
    NoLink,
    Subjects,
    write_content,
)
from actors.cluster.reaching.cluster import UNHEARD_S_MAX
from actors.runtime import AskError, AskTimeout, Secret
from tests.actors.cluster.reaching.talkers_kit import (
    SECRET,
    Add,
    Crash,
    Echo,
    Seen,
    Talkers,
    talkers,
)

KEYS, SUBJECTS = FrameKeys("test", SECRET), Subjects("test")


async def test_a_flood_to_a_stopped_node_touches_nobody_else(autojump_clock: MockClock) -> None:
    # CLU-52
    async with talkers("a", "b", "c") as some:
        to_b = some.talkers["a"].shelf(some.id_on("b"))
        to_c = some.talkers["a"].shelf(some.id_on("c"))
        some.talkers["b"].link.stop()
        lost = some.system.dead_letters
        longest = 0.0
        for _ in range(20):
            for _ in range(25):
                to_b.tell(Add(1, "x" * 20_000))
            began = trio.current_time()
            assert await to_c.ask(Echo("x")) == "x"
            longest = max(longest, trio.current_time() - began)
            await trio.sleep(0.05)
        assert longest < 0.15
        with pytest.raises(PeerOverloaded) as told:
            await to_b.ask(Echo("x" * 20_000))
        assert told.value.node == str(some["b"].member.node_id)
        figures = {one.node_id: one for one in some.talkers["a"].cluster.statistics().peers}
        of_b = figures[some["b"].member.node_id]
        assert of_b.bytes_under_way <= WINDOW_BYTES_MAX
        assert of_b.under_way + lost.by_reason["no_such_actor"] == 500
        # It goes on: what was under way is handled, and there is room again.
        some.talkers["b"].link.go_on()
        await trio.sleep(1)
        assert len(await to_b.ask(Seen())) == of_b.under_way


async def test_the_links_actor_may_be_restarted_in_the_middle(autojump_clock: MockClock) -> None:
    # CLU-54
    async with talkers("a", "b") as some:
        a = some.talkers["a"]
        there = a.shelf(some.id_on("b"))
        there.tell(Add(0))
        assert await there.ask(Seen()) == [0]
        ends: list[bool] = []

        async def ask() -> None:
            with pytest.raises(NoLink) as lost:
                await there.ask(Seen(after_s=10), timeout=30)
            ends.append(lost.value.maybe_handled)

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(ask)
            await trio.sleep(1)
            await a.actor.stop()
            await trio.sleep(0.1)
        assert ends == [True] * 10
        with pytest.raises(NoLink):
            await there.ask(Echo("x"))
        here = a.shelf(some.id_on("a"))
        await some.serve_again("a")
        assert await here.ask(Echo("x")) == "x"
        await some.until(lambda: some.talkers["a"].is_ready and some.talkers["b"].is_ready)
        for number in range(1, 100):
            there.tell(Add(number))
        # The former ten are handled first, for their actor was never told to stop.
        assert await there.ask(Seen(), timeout=200) == list(range(100))


async def test_cancelled_asks_leave_nothing_behind(autojump_clock: MockClock) -> None:
    # CLU-21
    async with talkers("a", "b") as some:
        there = some.talkers["a"].shelf(some.id_on("b"))
        for _ in range(50):
            with trio.move_on_after(0.01):
                await there.ask(Seen(after_s=0.02))
        with pytest.raises(AskTimeout):
            await there.ask(Seen(after_s=1), timeout=0.0)
        assert await there.ask(Echo("x")) == "x"
        await trio.sleep(3)
        assert [one.asks for one in some.talkers["a"].cluster.statistics().peers] == [0]


async def _from_b(some: Talkers, envelopes: list[Envelope], sequence: int) -> None:
    """A frame that b has sealed, whatever it says."""
    b, a = some["b"].member, some["a"].member
    subject = SUBJECTS.node(a.node_id)
    at_us = int(some.env.clock.now().timestamp() * 1e6)
    head = FrameHead("test", b.node_id.bytes, sequence, 0, at_us, Ack(2**40, 2**41))
    frame = KEYS.seal(subject, write_content(head, envelopes))
    await some.talkers["b"].link.publish(subject, frame)


async def test_a_peer_that_lies_settles_nothing_of_others(autojump_clock: MockClock) -> None:
    # CLU-24, CLU-55
    async with talkers("a", "b", "c") as some:
        a = some.talkers["a"]
        to_c = a.shelf(some.id_on("c"))
        replies: list[str] = []

        async def ask() -> None:
            replies.append((await to_c.ask(Seen(after_s=2))).__repr__())
            replies.append(await to_c.ask(Echo("right")))

        random = Random(5)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.sleep(0.5)
            body = msgspec.msgpack.encode("wrong")
            for number in range(1, 200):
                lies = [
                    Envelope(kind, target, name, 1, random.randbytes(40), ask=random.randrange(50))
                    for kind in EnvelopeKind
                    for target in ("shelf/1", "reply", "/", "node")
                    for name in ("test.Add", "test.Echo", "os.system", "")
                ]
                lies += [
                    Envelope(EnvelopeKind.REPLY, "reply", "", 1, body, ask=ask) for ask in range(60)
                ]
                for first in range(0, len(lies), 100):
                    part = lies[first : first + 100]
                    await _from_b(some, part, 1_000_000 + number * 10 + first // 100)
                # Nothing of it is an actor's message, but a peer may send those anyhow.
        assert replies == ["[]", "right"]
        figures = a.cluster.statistics()
        assert figures.refused["body"] > 1000
        assert await a.shelf(some.id_on("a")).ask(Echo("x")) == "x"
        with pytest.raises(AskError):
            await to_c.ask(Crash())


async def test_the_way_to_each_node_is_measured(autojump_clock: MockClock) -> None:
    # CLU-40
    async with talkers("a", "b", shards=2) as some:

        def trip() -> float | None:
            (peer,) = some.talkers["a"].cluster.statistics().peers
            return peer.round_trip_s

        for one, other in (("a", "b"), ("b", "a")):
            some.server.direction(one, other).delay_s = 0.2
        await trio.sleep(5)
        assert trip() == pytest.approx(0.4, abs=0.001)
        # An answer to an older question tells nothing.
        some.server.direction("a", "b").delay_s = 2.5
        await trio.sleep(7)
        assert trip() == pytest.approx(0.4, abs=0.001)


async def test_who_lives_with_another_secret_is_named_as_not_heard(
    autojump_clock: MockClock,
) -> None:
    """It has shards as any other, and nobody reaches them: the database knows no secret."""

    # CLU-55, CLU-40
    def prepare(some: Talkers) -> None:
        some.keys["c"] = FrameKeys("test", Secret("another-secret-of-32-letters-or-more"))

    async with talkers("a", "b", prepare=prepare) as some, trio.open_nursery() as nursery:
        await some.settle("c", nursery)
        ids = {name: node.member.node_id for name, node in some.all.items()}
        clusters = {name: one.cluster for name, one in some.talkers.items()}
        assert [list(one.unheard()) for one in clusters.values()] == [[], [], []]
        await trio.sleep(UNHEARD_S_MAX + 5)
        assert list(clusters["a"].unheard()) == [ids["c"]]
        assert list(clusters["b"].unheard()) == [ids["c"]]
        assert set(clusters["c"].unheard()) == {ids["a"], ids["b"]}
        nursery.cancel_scope.cancel()
