"""Resume: whatever is cut, restarted or overflowed, each event comes once or is told as missed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import msgspec
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from actors.runtime import System, open_actors
from tests.web.realtime.connection_kit import Kit, Peer
from web.realtime import (
    Action,
    Again,
    Broadcast,
    CloseCode,
    Form,
    Heard,
    HistoryLimits,
    Hub,
    Policy,
    SocketEncoding,
    StoreAway,
    StoredHead,
    StoredPage,
    action_of,
)

# Few, so that a page of the store, and more than one, is soon needed.
KEPT = HistoryLimits(events_max=60)


class Happened(msgspec.Struct, frozen=True):
    """`n` is its number in the store; a hidden one is heard by nobody."""

    n: int
    is_hidden: bool = False


class Tells:
    def action(self, message: object, /) -> Action | None:
        assert isinstance(message, Happened)
        return action_of(message)

    def position(self, message: object, /) -> int | None:
        assert isinstance(message, Happened)
        return None if message.is_hidden else message.n


@dataclass
class Store:
    """What outlives a restart: one stream."""

    events: list[Happened] = field(default_factory=list)
    lineage: str = "lineage"
    failures: int = 0
    reads: int = 0
    is_whole: bool = True

    async def head(self) -> StoredHead:
        seen = [event.n for event in self.events if not event.is_hidden]
        return StoredHead(self.lineage, len(self.events), seen[-1] if seen else 0)

    async def page(self, after: int, limit: int) -> StoredPage[object]:
        await trio.lowlevel.checkpoint()
        self.reads += 1
        if self.failures:
            self.failures -= 1
            raise StoreAway
        page = self.events[after : after + limit]
        seen: Sequence[Again[object]] = [
            Again(event, event.n) for event in page if not event.is_hidden
        ]
        to = page[-1].n if page else after
        return StoredPage(self.lineage, len(self.events), to, seen, self.is_whole)


class Server:
    """One process: its topics end with it, the store does not."""

    def __init__(self, system: System, nursery: trio.Nursery, store: Store) -> None:
        self.store = store
        encoding = SocketEncoding(Tells())
        self.stored: Broadcast[object, Heard] = Broadcast(encoding, history=KEPT, source=store)
        self.hub: Hub[object, Heard] = Hub(
            encoding,
            subscribe=lambda topic, sink: None,
            unsubscribe=lambda topic, sink: None,
            history=KEPT,
            stored={"stored": self.stored},
        )
        self.kit = Kit(system, nursery, self.hub)
        self.said = 0

    async def begin(self) -> None:
        head = await self.store.head()
        self.stored.begin(head.epoch, head.seq, head.head)

    def say(self, *, is_hidden: bool = False) -> None:
        self.said += 1
        self.hub.broadcast("memory").deliver(Happened(self.said))
        event = Happened(len(self.store.events) + 1, is_hidden)
        self.store.events.append(event)
        self.stored.deliver(event)
        self.stored.pass_by(event.n)


class Client:
    """Keeps what it was told, and finds fault with it."""

    def __init__(self) -> None:
        self.peer: Peer | None = None
        self.marks: dict[str, tuple[str, int]] = {}
        # By topic and epoch: the numbers that came, and up to where a snapshot covers.
        self.came: dict[tuple[str, str], list[int]] = {}
        self.covered: dict[tuple[str, str], set[int]] = {}

    async def connect(self, server: Server) -> None:
        self.lose()
        self.peer = await server.kit.connect(Form.V1)
        resume = {topic: {"epoch": epoch, "seq": seq} for topic, (epoch, seq) in self.marks.items()}
        ask = {"type": "subscribe", "topics": ["memory", "stored"], "id": "c", "resume": resume}
        await self.peer.say(msgspec.json.encode(ask).decode())

    def lose(self) -> None:
        """Lose the socket: what was not read is gone."""
        if self.peer is None:
            return
        self.peer.lane.close()
        self.peer.hang_up()
        self.peer = None

    async def read(self) -> None:
        if self.peer is None:
            return
        for told in await self.peer.heard():
            match told["type"]:
                case "subscribed":
                    self._subscribed(told["positions"])
                case "event":
                    self._event(told)
                case "ping":
                    pass
                case other:
                    raise AssertionError(other)

    def _subscribed(self, positions: object) -> None:
        assert isinstance(positions, dict)
        assert set(positions) == {"memory", "stored"}
        for topic, at in positions.items():
            if at["recovered"]:
                assert self.marks[topic][0] == at["epoch"]
                assert at["seq"] >= self.marks[topic][1]
            else:
                self.marks[topic] = (at["epoch"], at["seq"])
                covered = self.covered.setdefault((topic, at["epoch"]), set())
                covered.update(range(1, at["seq"] + 1))

    def _event(self, told: dict[str, object]) -> None:
        topic, epoch, seq = str(told["topic"]), str(told["epoch"]), told["seq"]
        assert isinstance(seq, int)
        known, last = self.marks[topic]
        assert epoch == known
        assert seq > last, "twice, or out of order"
        assert told.get("prev", last) == last
        assert topic == "stored" or seq == last + 1
        self.marks[topic] = (epoch, seq)
        self.came.setdefault((topic, epoch), []).append(seq)

    def missing(self, topic: str, epoch: str, seqs: Sequence[int]) -> set[int]:
        place = (topic, epoch)
        return set(seqs) - set(self.came.get(place, ())) - self.covered.get(place, set())


STEPS = st.lists(
    st.tuples(st.just("say"), st.sampled_from([1, 3, 40, 250]))
    | st.tuples(st.just("hide"), st.integers(1, 3))
    | st.tuples(
        st.sampled_from(["cut", "stall", "connect", "restart", "wait", "away"]), st.just(0)
    ),
    max_size=14,
)


async def play(steps: Sequence[tuple[str, int]]) -> None:
    async with open_actors() as system, trio.open_nursery() as nursery:
        store, client = Store(), Client()
        server = Server(system, nursery, store)
        await server.begin()
        await client.connect(server)
        await client.read()
        for step, number in steps:
            match step:
                case "say" | "hide":
                    for _ in range(number):
                        server.say(is_hidden=step == "hide")
                case "stall" if client.peer is not None:
                    client.peer.reads = trio.Event()
                    continue
                case "cut":
                    client.lose()
                case "connect":
                    await client.connect(server)
                case "restart":
                    client.lose()
                    server = Server(system, nursery, store)
                    await server.begin()
                case "wait":
                    await trio.sleep(400)
                case "away":
                    store.failures = 2
            await client.read()
        store.failures = 0
        await client.connect(server)
        for n in range(4):
            server.say(is_hidden=n == 2)
        # Handfuls come one after the other, each when the one before was read.
        await trio.sleep(1)
        await client.read()
        seen = [event.n for event in store.events if not event.is_hidden]
        assert client.missing("stored", "lineage", seen) == set()
        memory = server.hub.broadcast("memory")
        assert client.missing("memory", memory.epoch, range(1, memory.seq + 1)) == set()
        nursery.cancel_scope.cancel()


@given(STEPS)
@settings(max_examples=40, deadline=None)
def test_each_event_comes_once_or_a_snapshot_covers_it(steps: list[tuple[str, int]]) -> None:
    # WEB-42, REL-62
    trio.run(partial(play, steps), clock=MockClock(autojump_threshold=0))


@pytest.mark.parametrize(
    "steps",
    [
        [("say", 3), ("cut", 0), ("say", 300), ("connect", 0)],
        [("say", 3), ("cut", 0), ("say", 1100), ("connect", 0)],
        [("say", 3), ("stall", 0), ("say", 1100), ("say", 1100), ("connect", 0)],
        [("say", 3), ("cut", 0), ("say", 300), ("restart", 0), ("away", 0), ("connect", 0)],
        [("say", 3), ("cut", 0), ("hide", 3), ("restart", 0), ("hide", 3), ("connect", 0)],
    ],
)
def test_the_cases_one_thinks_of_first(steps: list[tuple[str, int]]) -> None:
    # WEB-42, REL-62
    trio.run(partial(play, steps), clock=MockClock(autojump_threshold=0))


async def resumed(
    server: Server, topic: str, mark: dict[str, object] | None
) -> tuple[Peer, dict[str, object]]:
    peer = await server.kit.connect(Form.V1)
    resume = {} if mark is None else {topic: mark}
    ask = {"type": "subscribe", "topics": [topic], "id": "c", "resume": resume}
    await peer.say(msgspec.json.encode(ask).decode())
    subscribed, *_ = await peer.heard()
    positions = subscribed["positions"]
    assert isinstance(positions, dict)
    return peer, positions[topic]


async def test_what_cannot_be_recovered_is_told(autojump_clock: MockClock) -> None:
    # DOC-4
    # WEB-42: no mark, a foreign epoch, a number of the future, more than 10,000, some of it gone
    async with open_actors() as system, trio.open_nursery() as nursery:
        store = Store([Happened(n) for n in range(1, 10_011)])
        server = Server(system, nursery, store)
        await server.begin()
        server.say()
        memory = server.hub.broadcast("memory").epoch
        for topic, mark, is_recovered in (
            ("memory", None, False),
            ("memory", {"epoch": "k", "seq": 0}, False),
            ("memory", {"epoch": memory, "seq": 2}, False),
            ("memory", {"epoch": memory, "seq": 0}, True),
            ("stored", {"epoch": "k", "seq": 10_000}, False),
            ("stored", {"epoch": "lineage", "seq": 10_012}, False),
            ("stored", {"epoch": "lineage", "seq": 2**63 - 1}, False),
            ("stored", {"epoch": "lineage", "seq": 10}, False),
            ("stored", {"epoch": "lineage", "seq": 11}, True),
            ("stored", {"epoch": "lineage", "seq": 10_010}, True),
        ):
            _, at = await resumed(server, topic, mark)
            assert at["recovered"] is is_recovered, (topic, mark)
        store.is_whole = False
        _, at = await resumed(server, "stored", {"epoch": "lineage", "seq": 10_000})
        assert at == {"epoch": "lineage", "seq": 10_011, "recovered": False}
        nursery.cancel_scope.cancel()


async def test_a_client_that_is_ahead_of_this_process_hears_nothing_again(
    autojump_clock: MockClock,
) -> None:
    # WEB-42: it heard of events at another process, which this one reads later
    async with open_actors() as system, trio.open_nursery() as nursery:
        store = Store([Happened(1)])
        server = Server(system, nursery, store)
        await server.begin()
        store.events += [Happened(2), Happened(3)]
        peer, at = await resumed(server, "stored", {"epoch": "lineage", "seq": 3})
        assert at == {"epoch": "lineage", "seq": 3, "recovered": True}
        for n in (2, 3, 4):
            server.stored.deliver(Happened(n))
        (event,) = await peer.heard()
        assert (event["seq"], event["prev"]) == (4, 3)
        nursery.cancel_scope.cancel()


async def test_a_reader_that_stops_reading_what_it_missed_is_cut(
    autojump_clock: MockClock,
) -> None:
    # WEB-42, SEC-50: nothing is skipped, and no more than a handful waits for it
    async with open_actors() as system, trio.open_nursery() as nursery:
        server = Server(system, nursery, Store([Happened(n) for n in range(1, 5001)]))
        await server.begin()
        peer = await server.kit.connect(Form.V1)
        peer.reads = trio.Event()
        mark = {"epoch": "lineage", "seq": 0}
        ask = {"type": "subscribe", "topics": ["stored"], "resume": {"stored": mark}}
        await peer.say(msgspec.json.encode(ask).decode())
        await trio.sleep(5)
        assert 100 < peer.outlet.queued <= 201
        assert not peer.outlet.closing.is_set()
        await trio.sleep(6)
        assert peer.outlet.close_code is CloseCode.SLOW
        assert peer.outlet.close_reason == "too slow for what was missed"
        nursery.cancel_scope.cancel()


async def test_a_store_that_stays_away_is_told_and_nothing_is_subscribed(
    autojump_clock: MockClock,
) -> None:
    # WEB-42, WEB-43
    async with open_actors() as system, trio.open_nursery() as nursery:
        store = Store([Happened(1)], failures=1000)
        server = Server(system, nursery, store)
        await server.begin()
        peer = await server.kit.connect(Form.V1)
        mark = {"epoch": "lineage", "seq": 0}
        ask = {"type": "subscribe", "topics": ["stored"], "id": "c", "resume": {"stored": mark}}
        await peer.say(msgspec.json.encode(ask).decode())
        await trio.sleep(11)
        server.say()
        (error,) = await peer.heard()
        assert (error["code"], error["id"]) == ("TIMEOUT", "c")
        nursery.cancel_scope.cancel()


async def test_what_was_missed_comes_once_however_many_names_it_has(
    autojump_clock: MockClock,
) -> None:
    # WEB-30, WEB-42
    async with open_actors() as system, trio.open_nursery() as nursery:
        server = Server(system, nursery, Store([Happened(1), Happened(2)]))
        server.kit.settings = replace(server.kit.settings, aliases={"default": "stored"})
        server.kit.service.open.add("default")
        await server.begin()
        peer = await server.kit.connect(Form.V1)
        mark = {"epoch": "lineage", "seq": 0}
        names = ["default", "stored"]
        ask = {"type": "subscribe", "topics": names, "resume": dict.fromkeys(names, mark)}
        await peer.say(msgspec.json.encode(ask).decode())
        subscribed, *missed = await peer.heard()
        server.say()
        heard = missed + await peer.heard()
        assert subscribed["topics"] == names
        assert [(told["topic"], told["seq"]) for told in heard] == [
            ("stored", 1), ("stored", 2), ("stored", 3),
        ]  # fmt: skip
        nursery.cancel_scope.cancel()


async def test_what_is_removed_during_a_resume_is_not_skipped(autojump_clock: MockClock) -> None:
    # WEB-42: `recovered` was told; who comes back is told that it is not so any more
    async with open_actors() as system, trio.open_nursery() as nursery:
        store = Store([Happened(n) for n in range(1, 1001)])
        server = Server(system, nursery, store)
        await server.begin()
        peer = await server.kit.connect(Form.V1)
        mark: dict[str, object] = {"epoch": "lineage", "seq": 0}
        ask = {"type": "subscribe", "topics": ["stored"], "resume": {"stored": mark}}
        await peer.say(msgspec.json.encode(ask).decode())
        peer.reads = trio.Event()
        assert await peer.heard() == [], "the first handful waits for it"
        store.is_whole = False
        peer.reads.set()
        await trio.sleep(1)
        events = [told for told in await peer.heard() if told["type"] == "event"]
        assert len(events) < 1000
        assert peer.outlet.close_code is CloseCode.SLOW
        assert peer.outlet.close_reason == "what was missed is not kept any more"
        _, at = await resumed(server, "stored", {"epoch": "lineage", "seq": len(events)})
        assert at["recovered"] is False
        nursery.cancel_scope.cancel()


async def test_a_topic_of_the_newest_only_has_no_holes(autojump_clock: MockClock) -> None:
    # WEB-42, REL-70: what was replaced is not missed, so nobody asks for it
    async with open_actors() as system, trio.open_nursery() as nursery:
        server = Server(system, nursery, Store([Happened(1)]))
        newest = replace(server.kit.settings, policy=lambda topic: Policy.LATEST)
        for settings, prevs in ((server.kit.settings, [1, 2, 3]), (newest, [None])):
            server.kit.settings = settings
            await server.begin()
            peer, _ = await resumed(server, "stored", None)
            # Its lane is busy with the first, and two wait.
            peer.reads = trio.Event()
            for _ in range(3):
                server.say()
            peer.reads.set()
            heard = [told for told in await peer.heard() if told["type"] == "event"]
            assert [told.get("prev") for told in heard][-len(prevs) :] == prevs
            assert heard[-1]["seq"] == len(server.store.events)
            server.store.events[1:] = []
        nursery.cancel_scope.cancel()
