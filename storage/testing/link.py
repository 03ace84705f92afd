"""The suite of the port `Link`: order, at most once, nobody there, groups, and being down."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

import pytest
import trio

from actors.cluster.link import (
    Delivery,
    Link,
    LinkMisuse,
    LinkStatus,
    MessageTooLarge,
    NoLink,
)
from storage.link import MemoryLink, MemoryLinkServer

ENOUGH = 200


@dataclass
class Heard:
    """What came by a subscription, and a way to wait for it."""

    deliveries: list[Delivery] = field(default_factory=list)
    changed: trio.Event = field(default_factory=trio.Event)

    def __call__(self, delivery: Delivery) -> None:
        self.deliveries.append(delivery)
        self.changed.set()
        self.changed = trio.Event()

    @property
    def data(self) -> list[bytes]:
        """The bytes of all that came, in order."""
        return [one.data for one in self.deliveries]

    async def wait_for(self, count: int) -> None:
        """Call this to wait until so many came; the test's own limit ends it."""
        while len(self.deliveries) < count:
            await self.changed.wait()


@dataclass
class KeptLinks:
    """A server, and how a test connects to it, ends it and starts it again."""

    open_link: Callable[[str], AbstractAsyncContextManager[Link]]
    go_away: Callable[[], None]
    come_back: Callable[[], None]


def links_in_memory(kind: type[MemoryLink] = MemoryLink) -> KeptLinks:
    """Call this for the twin, or one with a fault planted."""
    server = MemoryLinkServer()

    @asynccontextmanager
    async def open_link(name: str) -> AsyncIterator[Link]:
        link = kind(server, name)
        server.links[name] = link
        async with trio.open_nursery() as nursery:
            await nursery.start(link.run)
            yield link
            nursery.cancel_scope.cancel()

    return KeptLinks(open_link, server.go_away, server.come_back)


async def _settled(sender: Link, receiver: Link) -> None:
    """Waits until all that `sender` has published was given to `receiver`."""
    last = Heard()
    subscription = await receiver.subscribe("gr.suite.last", last)
    await sender.publish("gr.suite.last", b"")
    await last.wait_for(1)
    await subscription.end()


async def _wait_status(link: Link, *, is_up: bool) -> LinkStatus:
    changed = trio.Event()
    link.watch(lambda _: changed.set())
    while (status := link.status()).is_up is not is_up:
        await changed.wait()
        changed = trio.Event()
    return status


class LinkSuite:
    """Subclass it with a fixture `kept` that gives `KeptLinks` of a server that is up."""

    async def test_one_subject_has_one_order_and_each_message_comes_once(
        self, kept: KeptLinks
    ) -> None:
        # CLU-45
        heard = Heard()
        async with kept.open_link("a") as a, kept.open_link("b") as b:
            await b.subscribe("gr.suite.n.b", heard)
            for n in range(ENOUGH):
                await a.publish("gr.suite.n.b", b"%d" % n)
            await heard.wait_for(ENOUGH)
            await _settled(a, b)
        assert heard.data == [b"%d" % n for n in range(ENOUGH)]
        assert {one.subject for one in heard.deliveries} == {"gr.suite.n.b"}

    async def test_a_pattern_hears_what_is_below_it_and_nothing_else(self, kept: KeptLinks) -> None:
        # CLU-45
        below, exact = Heard(), Heard()
        async with kept.open_link("a") as a, kept.open_link("b") as b:
            await b.subscribe("gr.suite.s.>", below)
            await b.subscribe("gr.suite.s.x", exact)
            for subject in ("gr.suite.s.x", "gr.suite.s.x.y", "gr.suite.s", "gr.suite.sx", "gr.x"):
                await a.publish(subject, subject.encode())
            await below.wait_for(2)
            await _settled(a, b)
        assert below.data == [b"gr.suite.s.x", b"gr.suite.s.x.y"]
        assert exact.data == [b"gr.suite.s.x"]

    async def test_everybody_who_hears_a_subject_gets_it_but_not_its_sender(
        self, kept: KeptLinks
    ) -> None:
        # CLU-45
        by_a, by_b, by_c = Heard(), Heard(), Heard()
        async with (
            kept.open_link("a") as a,
            kept.open_link("b") as b,
            kept.open_link("c") as c,
        ):
            for link, heard in ((a, by_a), (b, by_b), (c, by_c)):
                await link.subscribe("gr.suite.all", heard)
            await a.publish("gr.suite.all", b"hello")
            await by_b.wait_for(1)
            await by_c.wait_for(1)
            await b.publish("gr.suite.all", b"and you")
            await by_a.wait_for(1)
            await _settled(a, b)
        assert (by_a.data, by_b.data) == ([b"and you"], [b"hello"])
        assert by_c.data == [b"hello", b"and you"]

    async def test_one_member_of_a_group_gets_each_message(self, kept: KeptLinks) -> None:
        # CLU-45
        by_b, by_c = Heard(), Heard()
        async with (
            kept.open_link("a") as a,
            kept.open_link("b") as b,
            kept.open_link("c") as c,
        ):
            await b.subscribe("gr.suite.any.mail", by_b, group="any")
            await c.subscribe("gr.suite.any.mail", by_c, group="any")
            for n in range(ENOUGH):
                await a.publish("gr.suite.any.mail", b"%d" % n)
            await _settled(a, b)
            await _settled(a, c)
        assert sorted(by_b.data + by_c.data) == sorted(b"%d" % n for n in range(ENOUGH))
        assert by_b.data
        assert by_c.data

    async def test_the_server_says_when_nobody_hears(self, kept: KeptLinks) -> None:
        # CLU-45
        told, heard = Heard(), Heard()
        async with kept.open_link("a") as a, kept.open_link("b") as b:
            await a.subscribe("gr.suite.s.a.>", told)
            await a.publish("gr.suite.n.b", b"early", reply="gr.suite.s.a.gone.b")
            await told.wait_for(1)
            subscription = await b.subscribe("gr.suite.n.b", heard)
            await a.publish("gr.suite.n.b", b"there", reply="gr.suite.s.a.gone.b")
            await heard.wait_for(1)
            await subscription.end()
            await subscription.end()
            await _settled(b, a)
            await a.publish("gr.suite.n.b", b"late", reply="gr.suite.s.a.gone.b")
            await told.wait_for(2)
            # Without a place for the answer there is none.
            await a.publish("gr.suite.n.b", b"silent")
            await _settled(a, b)
            await _settled(b, a)
        assert told.deliveries == [Delivery("gr.suite.s.a.gone.b", b"", is_nobody=True)] * 2
        assert heard.deliveries == [Delivery("gr.suite.n.b", b"there", "gr.suite.s.a.gone.b")]

    async def test_while_it_is_down_nothing_is_sent_nor_kept(self, kept: KeptLinks) -> None:
        # CLU-45
        heard = Heard()
        async with kept.open_link("a") as a, kept.open_link("b") as b:
            await b.subscribe("gr.suite.n.b", heard)
            before = a.status()
            assert before.is_up
            kept.go_away()
            for link in (a, b):
                await _wait_status(link, is_up=False)
            with pytest.raises(NoLink) as told:
                await a.publish("gr.suite.n.b", b"lost")
            assert not told.value.maybe_handled
            with pytest.raises(NoLink):
                await a.subscribe("gr.suite.n.a", heard)
            kept.come_back()
            for link in (a, b):
                after = await _wait_status(link, is_up=True)
                assert after.connects > before.connects
            await _settled(a, b)
            # What was subscribed is heard again without anybody's doing.
            await a.publish("gr.suite.n.b", b"found")
            await heard.wait_for(1)
            await _settled(a, b)
        assert heard.data == [b"found"]

    async def test_each_change_is_told_in_order(self, kept: KeptLinks) -> None:
        # CLU-45
        told: list[bool] = []
        async with kept.open_link("a") as a:
            a.watch(lambda status: told.append(status.is_up))
            for _ in range(2):
                kept.go_away()
                await _wait_status(a, is_up=False)
                kept.come_back()
                await _wait_status(a, is_up=True)
            assert told == [False, True] * 2

    async def test_it_says_what_the_server_takes_and_refuses_more(self, kept: KeptLinks) -> None:
        # CLU-45
        heard = Heard()
        async with kept.open_link("a") as a, kept.open_link("b") as b:
            await b.subscribe("gr.suite.n.b", heard)
            status = a.status()
            assert status.server
            assert status.version
            limit = status.payload_bytes_max
            with pytest.raises(MessageTooLarge) as told:
                await a.publish("gr.suite.n.b", bytes(limit + 1))
            assert (told.value.size, told.value.limit) == (limit + 1, limit)
            await a.publish("gr.suite.n.b", bytes(limit))
            await heard.wait_for(1)
        assert [len(one) for one in heard.data] == [limit]

    @pytest.mark.parametrize("subject", ["", "a b", "a..b", ".a", "a.", "gr.*", "gr.>", "a\n", "ä"])
    async def test_no_message_goes_to_such_a_subject(self, kept: KeptLinks, subject: str) -> None:
        async with kept.open_link("a") as a:
            with pytest.raises(LinkMisuse):
                await a.publish(subject, b"")
            with pytest.raises(LinkMisuse):
                await a.publish("gr.suite.x", b"", reply=subject or " ")
            if subject != "gr.>":
                with pytest.raises(LinkMisuse):
                    await a.subscribe(subject, Heard())

    async def test_an_ended_subscription_hears_no_more(self, kept: KeptLinks) -> None:
        heard, other = Heard(), Heard()
        async with kept.open_link("a") as a, kept.open_link("b") as b:
            ended = await b.subscribe("gr.suite.n.b", heard)
            await b.subscribe("gr.suite.n.b", other)
            await ended.end()
            await _settled(b, a)
            await a.publish("gr.suite.n.b", b"x")
            await other.wait_for(1)
            await _settled(a, b)
        assert heard.data == []
        assert other.data == [b"x"]
