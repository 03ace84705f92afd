"""The link between nodes: the twin passes its suite, planted faults do not, and its own faults.

Frames, windows and the door run above it here, over a link that is late, loses and repeats.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from actors.cluster.link import (
    Delivery,
    Link,
    LinkMisuse,
    NoLink,
    RefusedReason,
)
from storage.link import MemoryLink, MemoryLinkServer
from storage.link.memory import PENDING_BYTES_MAX, Hearer
from storage.testing import LinkSuite, failing_cases
from storage.testing.link import Heard, KeptLinks, links_in_memory
from tests.storage.link.pair import Pair

N_B = "gr.test.n.b"


class TestMemoryLink(LinkSuite):
    @pytest.fixture
    def kept(self) -> KeptLinks:
        return links_in_memory()


class _Doubles(MemoryLink):
    """What was handed over is handed over again, as by a client that is unsure."""

    async def publish(self, subject: str, data: bytes, *, reply: str = "") -> None:
        await super().publish(subject, data, reply=reply)
        await super().publish(subject, data, reply=reply)


class _KeepsWhileDown(MemoryLink):
    """What is published while it is down is kept for later, as by a client's own buffer."""

    def __init__(self, server: MemoryLinkServer, name: str) -> None:
        super().__init__(server, name)
        self.kept: list[tuple[str, bytes, str]] = []

    async def publish(self, subject: str, data: bytes, *, reply: str = "") -> None:
        if not self.is_up:
            self.kept.append((subject, data, reply))
            return
        kept, self.kept = self.kept, []
        for one in kept:
            self.server.route(self.name, *one)
        await super().publish(subject, data, reply=reply)


class _KeepsAndSaysSo(_KeepsWhileDown):
    """The refusal is told, and the message is sent later all the same."""

    async def publish(self, subject: str, data: bytes, *, reply: str = "") -> None:
        was_down = not self.is_up
        await super().publish(subject, data, reply=reply)
        if was_down:
            raise NoLink


class _OutOfOrder(MemoryLink):
    """Of what waits the last comes first."""

    def put(self, due: float, delivery: Delivery, hearer: Hearer) -> None:
        super().put(due, delivery, hearer)
        self._waiting.sort(key=lambda one: -one[1])


class _TellsNobody(MemoryLink):
    """That nobody is there is not told."""

    async def publish(self, subject: str, data: bytes, *, reply: str = "") -> None:
        await super().publish(subject, data)


@pytest.mark.parametrize(
    ("kind", "case"),
    [
        (_Doubles, "test_one_subject_has_one_order_and_each_message_comes_once"),
        (_Doubles, "test_one_member_of_a_group_gets_each_message"),
        (_KeepsWhileDown, "test_while_it_is_down_nothing_is_sent_nor_kept"),
        (_KeepsAndSaysSo, "test_while_it_is_down_nothing_is_sent_nor_kept"),
        (_OutOfOrder, "test_one_subject_has_one_order_and_each_message_comes_once"),
        (_TellsNobody, "test_the_server_says_when_nobody_hears"),
    ],
)
async def test_a_planted_fault_fails_the_suite(
    kind: type[MemoryLink], case: str, autojump_clock: MockClock
) -> None:
    # CLU-45
    def in_time() -> KeptLinks:
        """Links whose tests end by themselves when they wait for what never comes."""
        kept = links_in_memory(kind)

        @asynccontextmanager
        async def open_link(name: str) -> AsyncIterator[Link]:
            with trio.fail_after(5):
                async with kept.open_link(name) as link:
                    yield link

        return KeptLinks(open_link, kept.go_away, kept.come_back)

    only = type("_Only", (), {case: getattr(LinkSuite, case)})
    assert await failing_cases(only, in_time) == {case}


@asynccontextmanager
async def _two() -> AsyncIterator[tuple[MemoryLinkServer, MemoryLink, MemoryLink, Heard]]:
    """A server with the links `a` and `b`, and what `b` hears."""
    server = MemoryLinkServer()
    a, b, heard = server.connect("a"), server.connect("b"), Heard()
    async with trio.open_nursery() as nursery:
        for link in (a, b):
            await nursery.start(link.run)
        await b.subscribe(N_B, heard)
        yield server, a, b, heard
        nursery.cancel_scope.cancel()


async def test_each_direction_has_a_delay_of_its_own_and_keeps_its_order(
    autojump_clock: MockClock,
) -> None:
    async with _two() as (server, a, b, heard):
        by_a = Heard()
        await a.subscribe("gr.test.n.a", by_a)
        server.direction("a", "b").delay_s = 2.0
        began = trio.current_time()
        await a.publish(N_B, b"1")
        await b.publish("gr.test.n.a", b"back")
        await by_a.wait_for(1)
        assert trio.current_time() == began
        server.direction("a", "b").delay_s = 0.0
        await a.publish(N_B, b"2")  # does not overtake
        await heard.wait_for(2)
        assert heard.data == [b"1", b"2"]
        assert math.isclose(trio.current_time() - began, 2.0)


async def test_a_direction_may_be_cut_or_lose_and_the_other_not(autojump_clock: MockClock) -> None:
    async with _two() as (server, a, b, heard):
        by_a = Heard()
        await a.subscribe("gr.test.n.a", by_a)
        way = server.direction("a", "b")
        way.is_cut = True
        await a.publish(N_B, b"1")
        await b.publish("gr.test.n.a", b"back")
        way.is_cut = False
        way.loses = lambda _, data: data == b"2"
        for data in (b"2", b"3"):
            await a.publish(N_B, data)
        await trio.sleep(1)
        assert (heard.data, by_a.data) == ([b"3"], [b"back"])


async def test_a_stopped_node_gets_everything_later_in_order(autojump_clock: MockClock) -> None:
    async with _two() as (_server, a, b, heard):
        b.stop()
        for n in range(50):
            await a.publish(N_B, b"%d" % n)
        await trio.sleep(10)
        assert heard.data == []
        b.go_on()
        await heard.wait_for(50)
        assert heard.data == [b"%d" % n for n in range(50)]


async def test_a_server_may_accept_and_lose(autojump_clock: MockClock) -> None:
    async with _two() as (server, a, _b, heard):
        server.swallow(4.0)
        await a.publish(N_B, b"1")
        await trio.sleep(4.1)
        await a.publish(N_B, b"2")
        await heard.wait_for(1)
        assert heard.data == [b"2"]
        assert repr(server) == "MemoryLinkServer(up, 2 links)"


async def test_a_message_may_be_overtaken(autojump_clock: MockClock) -> None:
    async with _two() as (server, a, _b, heard):
        server.direction("a", "b").overtaken = 1
        for data in (b"1", b"2", b"3"):
            await a.publish(N_B, data)
        await heard.wait_for(3)
        assert heard.data == [b"2", b"1", b"3"]


async def test_a_node_that_does_not_read_is_disconnected_and_the_server_keeps_no_more(
    autojump_clock: MockClock,
) -> None:
    async with _two() as (server, a, b, heard):
        b.stop()
        part = server.payload_bytes_max
        for _ in range(PENDING_BYTES_MAX // part):  # with their subjects they are more
            await a.publish(N_B, bytes(part))
        assert b.status().connects == 2
        assert repr(b) == "MemoryLink(b, up, 0 bytes waiting)"
        b.go_on()
        await a.publish(N_B, b"next")
        await heard.wait_for(1)
        assert heard.data == [b"next"]


async def test_who_ended_hears_nothing_of_what_was_under_way(autojump_clock: MockClock) -> None:
    async with _two() as (server, a, b, heard):
        ended = Heard()
        subscription = await b.subscribe(N_B, ended)
        server.direction("a", "b").delay_s = 1.0
        await a.publish(N_B, b"1")
        await subscription.end()
        await heard.wait_for(1)
        assert (ended.data, heard.data) == ([], [b"1"])


async def test_a_publish_that_is_cancelled_was_handed_over_or_not(
    autojump_clock: MockClock,
) -> None:
    async with _two() as (_server, a, _b, heard):
        with trio.CancelScope() as scope:
            scope.cancel()
            await a.publish(N_B, b"1")
        await a.publish(N_B, b"2")
        await heard.wait_for(1)
        assert heard.data == [b"2"]


def test_two_links_have_two_names() -> None:
    server = MemoryLinkServer()
    server.connect("a")
    with pytest.raises(LinkMisuse, match="another link"):
        server.connect("a")


@pytest.mark.parametrize(
    "fault", ["loses", "stops", "swallows", "overtakes", "goes away", "doubles"]
)
async def test_over_each_fault_what_was_sent_is_handled_once_or_counted(
    fault: str, autojump_clock: MockClock
) -> None:
    # CLU-52
    # CLU-53
    server = MemoryLinkServer()
    a = _Doubles(server, "a") if fault == "doubles" else MemoryLink(server, "a")
    server.links["a"] = a
    b = server.connect("b")
    pair = Pair(a)
    way = server.direction("a", "b")
    async with trio.open_nursery() as nursery:
        await nursery.start(b.run)
        await b.subscribe(pair.subject, pair.hear)
        for turn in range(60):
            match fault, turn:
                case "loses", _:
                    way.loses = (lambda _s, _d: True) if turn % 5 == 0 else (lambda _s, _d: False)
                case "overtakes", _ if turn % 7 == 0:
                    way.overtaken = 1
                case "swallows", 20:
                    server.swallow(1.0)
                case ("stops", 20):
                    b.stop()
                case ("stops", 40):
                    b.go_on()
                case ("goes away", 20):
                    server.go_away()
                case ("goes away", 30):
                    server.come_back()
            await pair.tell([b"%d.%d" % (turn, n) for n in range(3)])
            await trio.sleep(0.1)
            await pair.ask()
            pair.acknowledge()
        way.loses = lambda _s, _d: False
        way.overtaken = 0
        for _ in range(60):
            await trio.sleep(0.1)
            await pair.ask()
            await trio.sleep(0.1)
            pair.acknowledge()
        nursery.cancel_scope.cancel()
    sending = pair.sending
    assert sending.envelopes_under_way == 0
    assert len(pair.handled) == len(set(pair.handled)) == sending.delivered_count
    assert len(pair.sent) - len(pair.handled) == sending.lost_count
    assert pair.handled == [one for one in pair.sent if one in set(pair.handled)]
    expected = {"loses", "swallows", "overtakes", "goes away"}
    assert (sending.lost_count > 0) == (fault in expected)
    assert (RefusedReason.SEQUENCE in pair.refused) == (fault in {"overtakes", "doubles"})


async def test_what_waited_too_long_at_the_server_is_not_handled(
    autojump_clock: MockClock,
) -> None:
    # CLU-53
    server = MemoryLinkServer()
    a, b = server.connect("a"), server.connect("b")
    pair = Pair(a)
    async with trio.open_nursery() as nursery:
        await nursery.start(b.run)
        await b.subscribe(pair.subject, pair.hear)
        b.stop()
        await pair.tell([b"old"])
        await trio.sleep(20)
        await pair.tell([b"young"])
        await trio.sleep(11)
        b.go_on()
        await trio.sleep(1)
        await pair.ask()
        await trio.sleep(1)
        pair.acknowledge()
        nursery.cancel_scope.cancel()
    assert pair.handled == [b"young"]
    assert pair.refused == [RefusedReason.AGE]
    assert (pair.sending.delivered_count, pair.sending.lost_count) == (1, 1)


async def test_what_strangers_send_is_counted_and_nobody_hears_less(
    autojump_clock: MockClock,
) -> None:
    # CLU-45
    # CLU-55
    server = MemoryLinkServer()
    a, b, stranger, spy = (server.connect(name) for name in ("a", "b", "stranger", "spy"))
    pair, seen = Pair(a), Heard()
    async with trio.open_nursery() as nursery:
        for link in (b, spy):
            await nursery.start(link.run)
        await b.subscribe(pair.subject, pair.hear)
        await spy.subscribe(pair.subject, seen)
        await pair.tell([b"1"])
        await seen.wait_for(1)
        # Repeated, cut, changed, of another key, and nothing at all.
        first = seen.data[0]
        for raw in (first, first[:-1], b"\x00" + first[1:], bytes(200), b""):
            await stranger.publish(pair.subject, raw)
        await pair.tell([b"2"])
        await seen.wait_for(7)
        await trio.sleep(0.2)
        pair.acknowledge()
        nursery.cancel_scope.cancel()
    assert pair.handled == [b"1", b"2"]
    mac = [RefusedReason.MAC] * 3
    assert pair.refused == [RefusedReason.SEQUENCE, *mac, RefusedReason.SIZE]
    assert (pair.sending.delivered_count, pair.sending.lost_count) == (2, 0)
