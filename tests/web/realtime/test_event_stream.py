"""A topic as server-sent events: each event once, in order, or said to be missed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actors.runtime import Ref, System, open_actors
from tests.web.realtime.connection_kit import Napping
from tests.web.realtime.test_resume import KEPT, Happened, Store, Tells
from web.realtime import (
    Broadcast,
    Caller,
    CloseCode,
    CommandTable,
    EndpointSettings,
    EventEncoding,
    EventMessages,
    EventStreamActor,
    Heard,
    Hub,
    Mark,
    SseParser,
    read_last_id,
)
from web.realtime.event_stream import EventOutlet
from web.server import Framing

TOPICS = ("stored", "memory")


class Line:
    """A lane to a reader that may stop reading."""

    def __init__(self) -> None:
        self.framing = Framing.RAW
        self.is_reading = True
        self.is_closed = False
        self.wrote = b""
        self._on_ready: Callable[[], None] | None = None

    @property
    def is_ready(self) -> bool:
        return self.is_reading and not self.is_closed

    def write(self, wire: bytes) -> bool:
        if self.is_ready:
            self.wrote += wire
        return self.is_ready

    def when_ready(self, on_ready: Callable[[], None] | None) -> None:
        self._on_ready = on_ready

    def read_on(self) -> None:
        self.is_reading = True
        if self._on_ready is not None:
            self._on_ready()

    def close(self) -> None:
        self.is_closed = True


class Process:
    """One process: its topics end with it, the store does not."""

    def __init__(self, system: System, store: Store) -> None:
        self.system, self.store = system, store
        encoding = EventEncoding(Tells())
        self.stored: Broadcast[object, Heard] = Broadcast(encoding, history=KEPT, source=store)
        self.hub: Hub[object, Heard] = Hub(
            encoding,
            subscribe=lambda topic, sink: None,
            unsubscribe=lambda topic, sink: None,
            history=KEPT,
            stored={"stored": self.stored},
        )
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


class Program:
    """Listens to one topic, keeps its last id, and finds fault with what comes."""

    def __init__(self, topic: str) -> None:
        self.topic, self.last_id = topic, ""
        self.line = Line()
        self.ref: Ref[EventMessages] | None = None
        self.outlet: EventOutlet | None = None
        self.told: list[dict[str, object]] = []
        # By epoch: the numbers that came since it was told to begin there.
        self.began: dict[str, int] = {}
        self.came: dict[str, list[int]] = {}

    async def connect(self, process: Process) -> None:
        self.line = Line()
        self.outlet = EventOutlet(Random(1))
        settings = EndpointSettings[str](
            commands=CommandTable([], events=[]), service=Napping(), hub=process.hub
        )
        caller, mark = Caller("somebody", "somebody"), read_last_id(self.last_id)
        self.ref = await process.system.start(
            EventStreamActor, settings, caller, self.outlet, self.topic, mark
        )
        self.outlet.lane.attach(self.line)
        await wait_all_tasks_blocked()

    async def cut(self, at: int | None = None) -> None:
        """Lose the connection; of what was written so much arrived."""
        assert self.outlet is not None
        assert self.ref is not None
        self.outlet.close(CloseCode.NORMAL)
        self.outlet.end()
        for event in SseParser().feed(self.line.wrote[:at]):
            self.last_id = event.id
            epoch, _, number = event.id.rpartition(".")
            fields = json.loads(event.data)
            if event.event == "subscribed":
                self.told.append(fields)
                assert (fields["epoch"], str(fields["seq"])) == (epoch, number)
                if not fields["recovered"]:
                    self.began[epoch], self.came[epoch] = fields["seq"], []
                continue
            assert (event.event, fields["n"]) == ("Happened", int(number))
            self.came[epoch].append(int(number))
        await self.system_settles()

    async def system_settles(self) -> None:
        await wait_all_tasks_blocked()

    def check(self, heard: list[int]) -> None:
        """See that since it began nothing is missing, none came twice, and none out of order."""
        for epoch, came in self.came.items():
            expected = [n for n in heard if n > self.began[epoch]]
            assert came == expected[: len(came)], epoch


@asynccontextmanager
async def process(store: Store) -> AsyncIterator[Process]:
    async with open_actors() as system:
        running = Process(system, store)
        await running.begin()
        yield running


async def test_a_program_hears_its_topic_and_goes_on_where_it_was() -> None:  # WEB-48, WEB-42
    store = Store()
    program = Program("stored")
    async with process(store) as one:
        one.say()
        await program.connect(one)
        for _ in range(3):
            one.say()
        one.say(is_hidden=True)
        await program.cut()
        assert program.last_id == "lineage.4"
        for _ in range(100):
            one.say()
    # Another process, which keeps nothing of before.
    async with process(store) as two:
        await program.connect(two)
        two.say()
        await program.cut()
    assert [told["recovered"] for told in program.told] == [False, True]
    assert program.came["lineage"] == [2, 3, 4, *range(6, 107)]


async def test_a_topic_in_memory_is_not_recovered_over_a_restart() -> None:  # WEB-42, REL-62
    program, store = Program("memory"), Store()
    async with process(store) as one:
        await program.connect(one)
        one.say()
        await program.cut()
        one.say()
        await program.connect(one)
        await program.cut()
        assert [told["recovered"] for told in program.told] == [False, True]
    async with process(store) as two:
        await program.connect(two)
        await program.cut()
    assert program.told[-1]["recovered"] is False
    assert len(program.came) == 2


@pytest.mark.parametrize("seed", range(6))
async def test_any_cuts_restarts_and_overflows_leave_no_gap(seed: int) -> None:  # REL-62
    random, store = Random(seed), Store()
    programs = [Program(topic) for topic in TOPICS for _ in range(2)]
    for _ in range(3):
        async with process(store) as running:
            for _ in range(25):
                for _ in range(random.choice((1, 3, 70))):
                    running.say(is_hidden=random.random() < 0.2)
                program = random.choice(programs)
                if random.random() < 0.3:
                    store.failures = 1
                if program.outlet is None or program.outlet.closing.is_set():
                    await program.connect(running)
                elif random.random() < 0.6:
                    await program.cut(random.randint(0, len(program.line.wrote)))
                elif random.random() < 0.5:
                    program.line.is_reading = False
                else:
                    program.line.read_on()
            for program in programs:
                if program.outlet is not None and not program.outlet.closing.is_set():
                    await program.cut(random.randint(0, len(program.line.wrote)))
                if program.topic == "memory":
                    program.check(list(range(1, running.said + 1)))
                    program.came.clear()
    heard = [event.n for event in store.events if not event.is_hidden]
    for program in programs:
        if program.topic == "stored":
            program.check(heard)
    assert any(told["recovered"] for program in programs for told in program.told)


async def test_a_reader_that_is_too_slow_is_cut_off_and_comes_back() -> None:
    # DOC-4, WEB-48, REL-70
    async with process(Store()) as one:
        program = Program("stored")
        await program.connect(one)
        program.line.is_reading = False
        for _ in range(1100):
            one.say()
        await wait_all_tasks_blocked()
        assert program.outlet is not None
        assert program.outlet.closing.is_set()
        assert program.line.is_closed
        await program.cut()
        await program.connect(one)
        for _ in range(20):
            await wait_all_tasks_blocked()
        await program.cut()
    assert program.told[-1]["recovered"] is True
    assert program.came["lineage"] == list(range(1, 1101))


async def test_silence_is_filled_with_comments(autojump_clock: MockClock) -> None:  # WEB-48
    async with process(Store()) as one:
        program = Program("stored")
        await program.connect(one)
        before = len(program.line.wrote)
        await trio.sleep(14.9)
        assert len(program.line.wrote) == before
        await trio.sleep(31)
        assert program.line.wrote[before:] == b": beat\n\n" * 3
        one.say()
        before = len(program.line.wrote)
        await trio.sleep(14)
        assert len(program.line.wrote) == before
        program.line.is_reading = False
        one.say()
        await trio.sleep(100)
        program.line.read_on()
        assert b"beat" not in program.line.wrote[before:]


async def test_a_stop_says_when_to_come_back() -> None:  # WEB-46, SITE-185
    async with process(Store()) as one:
        program = Program("stored")
        await program.connect(one)
        assert program.ref is not None
        await program.ref.stop()
        parser = SseParser()
        parser.feed(program.line.wrote)
        assert parser.retry_ms is not None
        assert 1000 <= parser.retry_ms <= 5000
        assert program.line.is_closed
        assert one.stored.member_count == 0


async def test_a_topic_that_does_not_answer_ends_the_stream(autojump_clock: MockClock) -> None:
    async with process(Store(failures=1000)) as one:  # WEB-42
        one.stored.begin("lineage", 0, 500)
        program = Program("stored")
        program.last_id = "lineage.5"
        one.stored.forget()
        await program.connect(one)
        await trio.sleep(11)
        assert program.outlet is not None
        assert program.outlet.closing.is_set()
        assert one.stored.member_count == 0


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        ("k3.5", Mark("k3", 5)),
        ("a-b_C.0", Mark("a-b_C", 0)),
        ("", None),
        ("5", None),
        (".5", None),
        ("k3.", None),
        ("k3.-5", None),
        ("k3.5.6", None),
        ("k3.٥", None),
        ("k3.5\n", None),
        ("k3." + "9" * 20, None),
        ("x" * 65 + ".1", None),
    ],
)
def test_what_a_client_heard_last(text: str, mark: Mark | None) -> None:  # WEB-48
    assert read_last_id(text) == mark
