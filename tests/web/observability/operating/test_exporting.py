"""Traces as a collector of OpenTelemetry receives them, and what is done while it does not."""

from __future__ import annotations

import gzip
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import TypeAlias

import h11
import pytest
import trio
from trio.testing import MockClock

from actors.runtime import Secret
from actors.runtime.telling.spans import Record, Spans, Value
from actors.runtime.words.tallies import Tallies
from supervision import ChildSpec, Flags, Plan, Supervisor, open_system
from tests.logged import captured
from tests.patience import until
from tests.processes.ports import free_ports
from tests.web.lab.test_lab_site import a_guest
from tests.web.whole_site import in_thread, open_whole_site
from web.observability.health import Component, Finding
from web.observability.health.of_guards import outside_component
from web.observability.operating.traces.exporting.encoding import encode, rejected_of
from web.observability.operating.traces.exporting.exporter import TraceExporter
from web.observability.operating.traces.exporting.sending import (
    OTLP,
    OtlpCollector,
)
from web.observability.operating.traces.exporting.waiting import (
    BATCH_MAX,
    WAITING_MAX,
    WaitingSpans,
)
from web.observability.operating.traces.kept import OWNER
from web.routing import paths
from web.settings import Settings
from web.wiring.frame.outside import outside_of

SAMPLED, SPAN = f"{'a' * 24}{10:08x}", "00f067aa0ba902b7"
PLANTED = "canary-of-a-collector"
PARTIAL = bytes.fromhex("0a06080712026e6f")  # 7 were not taken: "no"

# -- protocol buffers by what is on the wire, and by nothing of ours -----------------------------

Message: TypeAlias = dict[int, list["int | bytes"]]


def message(data: bytes) -> Message:
    found: Message = {}
    read = iter(data)
    for first in read:
        key = first if first < 0x80 else (first & 0x7F) | next(read) << 7
        kind = key & 7
        if kind == 0:
            value: int | bytes = varint(read)
        else:
            size = {1: 8, 5: 4}.get(kind) or varint(read)
            value = bytes(next(read) for _ in range(size))
        found.setdefault(key >> 3, []).append(value)
    return found


def varint(read: Iterator[int]) -> int:
    value, shift = 0, 0
    for byte in read:
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return value
    raise ValueError("cut")


def held(found: Message, number: int) -> bytes:
    (value,) = found[number]
    assert isinstance(value, bytes)
    return value


def each(found: Message, number: int) -> list[Message]:
    return [message(value) for value in found.get(number, []) if isinstance(value, bytes)]


def attributes(found: Message, number: int) -> dict[str, Value]:
    told: dict[str, Value] = {}
    for one in each(found, number):
        ((kind, (value,)),) = message(held(one, 2)).items()
        if isinstance(value, bytes):
            told[held(one, 1).decode()] = (
                value.decode() if kind == 1 else float(struct.unpack("<d", value)[0])
            )
        else:
            told[held(one, 1).decode()] = bool(value) if kind == 2 else value
    return told


@dataclass
class Received:
    """A span as a collector reads it."""

    span: Message
    service: dict[str, Value]

    @property
    def name(self) -> str:
        return held(self.span, 5).decode()

    @property
    def id(self) -> str:
        return held(self.span, 2).hex()

    @property
    def trace(self) -> str:
        return held(self.span, 1).hex()

    @property
    def parent(self) -> str:
        return held(self.span, 4).hex() if 4 in self.span else ""

    @property
    def told(self) -> dict[str, Value]:
        return attributes(self.span, 9)


def spans_in(body: bytes) -> list[Received]:
    found = []
    for one in each(message(gzip.decompress(body)), 1):
        (whose,) = each(one, 1)
        for scoped in each(one, 2):
            assert held(each(scoped, 1)[0], 1) == b"greenroom"
            found += [Received(span, attributes(whose, 1)) for span in each(scoped, 2)]
    return found


# -- a collector ---------------------------------------------------------------------------------


@dataclass
class Receiver:
    """Answers what is in `answers`, then 200; None is no answer at all."""

    port: int = 0
    answers: list[bytes | None] = field(default_factory=list)
    heads: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    spans: list[Received] = field(default_factory=list)
    came: trio.Event = field(default_factory=trio.Event)

    async def serve(self, stream: trio.SocketStream) -> None:
        connection, body = h11.Connection(h11.SERVER), b""
        async with stream:
            while not isinstance(event := connection.next_event(), h11.EndOfMessage):
                if event is h11.NEED_DATA:
                    connection.receive_data(bytes(await stream.receive_some(65_536)))
                elif isinstance(event, h11.Request):
                    head = {name.decode(): value.decode() for name, value in event.headers}
                    self.heads.append({**head, "path": event.target.decode()})
                elif isinstance(event, h11.Data):
                    body += bytes(event.data)
                else:
                    return
            answer = self.answers.pop(0) if self.answers else answer_of(200)
            self.bodies.append(body)
            self.spans += spans_in(body)
            self.came.set()
            if answer is None:
                await trio.sleep_forever()
            else:
                await stream.send_all(answer)


def answer_of(status: int, body: bytes = b"", *more: str) -> bytes:
    lines = (f"HTTP/1.1 {status} x", f"content-length: {len(body)}", "connection: close", *more)
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode() + body


@asynccontextmanager
async def receiving(*answers: bytes | None) -> AsyncIterator[Receiver]:
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        receiver = Receiver(listener.socket.getsockname()[1], list(answers))
        nursery.start_soon(trio.serve_listeners, receiver.serve, [listener])
        yield receiver
        nursery.cancel_scope.cancel()


# -- an exporter without a site ------------------------------------------------------------------


def spans() -> Spans:
    return Spans(lambda number, actor: f"{number:08x}{actor:08x}", lambda: 0.0)


def record(number: int = 1, trace: str = SAMPLED, error: str = "", **fields: Value) -> Record:
    above = f"00-{trace}-{'0' * 16}-01"
    return ("actor.handle", above, number, None, 5, 1.5, 2.25, "site", "c", error, fields)


@dataclass
class Kit:
    """An exporter in a tree of its own, through the guards that the site has."""

    port: int
    tallies: Tallies = field(default_factory=Tallies)

    def __post_init__(self) -> None:
        self.endpoint = f"http://127.0.0.1:{self.port}"
        settings = Settings(otlp_endpoint=self.endpoint)
        self.is_alone = trio.Event()
        self.outside = outside_of(settings, lambda _: self.is_alone.set())
        self.waiting = WaitingSpans(self.tallies)

    def exporter(self) -> TraceExporter:
        guard = self.outside.dependency(OTLP)
        take = OtlpCollector(guard, self.endpoint, None).take
        return TraceExporter(self.waiting, take, spans().read, lambda: 0, {}, self.tallies)

    @property
    def figures(self) -> dict[str, int]:
        """How many were taken, and how many were lost for what."""
        return {(labels or ("taken",))[0]: number for _, labels, number in self.tallies.counts()}

    def has_settled(self, count: int) -> bool:
        return sum(self.figures.values()) == count


class Root(Supervisor):
    def __init__(self, make: Callable[[], TraceExporter]) -> None:
        self._make = make

    def plan(self) -> Plan:
        return Plan(Flags(), [ChildSpec("otlp", self._make, shutdown=60.0)])


# -- what is sent --------------------------------------------------------------------------------


def test_every_field_is_where_a_collector_looks_for_it() -> None:
    # OBS-4
    told: dict[str, Value] = {
        "status": -5, "is_new": True, "share": 0.25, "huge": 2**70, OWNER: PLANTED, "no": None
    }  # fmt: skip
    records: list[Record] = [
        record(1, SAMPLED, "ValueError", **told),
        record(2, error="cancelled"),
        record(3, trace="z" * 32),
        (
            "actor.handle",
            f"00-{SAMPLED}-{SPAN}-01",
            "e" * 16,
            None,
            0,
            1.0,
            float("nan"),
            "",
            "",
            "",
            int,
        ),
        ("bus.handle", f"00-{SAMPLED}-{SPAN}-01", "e" * 16, None, 0, 1.0, 1.0, "", "", "", int),
    ]
    encoded = encode(records, spans().read, 1_700_000_000_000_000_000, {"service.name": "one"})
    assert (encoded.spans, encoded.unreadable) == (3, 2)
    failed, cut, other = spans_in(encoded.body)
    assert failed.service == {"service.name": "one"}
    assert (failed.trace, failed.id, failed.parent) == (SAMPLED, f"{1:08x}{5:08x}", "")
    assert (other.parent, other.told, other.span[6]) == (SPAN, {"message": "int"}, [5])
    moments = [struct.unpack("<Q", held(failed.span, number))[0] for number in (7, 8)]
    assert moments == [1_700_000_001_500_000_000, 1_700_000_002_250_000_000]
    assert failed.told == {
        "actor.path": "site", "correlation.id": "c", "status": 2**64 - 5, "is_new": True,
        "share": 0.25, "huge": str(2**70),
    }  # fmt: skip
    assert message(held(failed.span, 15)) == {2: [b"ValueError"], 3: [2]}
    # One that somebody had no use for any more is no error.
    assert 15 not in cut.span
    assert cut.told["cancelled"] is True
    assert PLANTED.encode() not in gzip.decompress(encoded.body)


@pytest.mark.parametrize(
    ("answer", "rejected"),
    [(b"", 0), (PARTIAL, 7), (PARTIAL[:4], 0), (b"\x0a\xff", 0), (b"\x0b" * 9, 0), (b"<html>", 0),
     (b"\xff" * 20, 0)],
)  # fmt: skip
def test_whatever_a_collector_answers_is_a_number(answer: bytes, rejected: int) -> None:
    assert rejected_of(answer) == rejected


@pytest.mark.slow
async def test_a_collector_receives_one_tree_of_the_site() -> None:
    # OBS-4, OBS-9: over HTTP, packed, and read by what is on the wire
    async with receiving() as receiver:
        settings = Settings(
            port=0,
            overload_late_ms=60_000,
            overload_after_ms=60_000,
            otlp_endpoint=f"http://127.0.0.1:{receiver.port}/of/it",
            otlp_headers=Secret(f"authorization: Bearer {PLANTED}"),
            otel_service_name="one",
        )

        def found() -> list[Received]:
            return [one for one in receiver.spans if one.trace == SAMPLED]

        def is_whole() -> bool:
            ids = {one.id for one in found()} | {SPAN}
            names = {one.name for one in found()}
            return {"http.request", "outbox.send", "saga.step", "store.append"} <= names and all(
                one.parent in ids for one in found()
            )

        with captured() as lines:
            async with (
                open_whole_site(settings=settings, has_documents=False) as site,
                a_guest(site) as guest,
            ):
                given: dict[str, object] = {"commandId": "c1", "sseTabId": guest.visitor.tab}
                header = {"traceparent": f"00-{SAMPLED}-{SPAN}-01"}
                act = partial(guest.visitor.command, "/api/lab/sagas", given, **header)
                assert (await in_thread(act)).status == 202
                await until(is_whole)
                session = str(guest.stream.key.session)
                assert site.web.traces.kept.maybe(SAMPLED) is not None
        (top,) = [one for one in found() if one.parent == SPAN]
        assert (top.name, top.told["route"], top.span[6]) == ("http.request", paths.LAB_SAGAS, [2])
        assert {one.service["service.name"] for one in found()} == {"one"}
        ids = [one.id for one in found()]
        assert len(set(ids)) == len(ids), "each once"
        head = receiver.heads[0]
        assert head["path"] == "/of/it/v1/traces"
        assert head["authorization"] == f"Bearer {PLANTED}"
        assert head["content-type"] == "application/x-protobuf"
        told = repr([gzip.decompress(body) for body in receiver.bodies])
        assert session not in told
        assert OWNER not in {name for one in receiver.spans for name in one.told}
        assert PLANTED not in repr(lines) + told + repr(settings)


async def test_without_a_collector_nobody_is_there() -> None:
    # OBS-4
    async with open_whole_site(has_documents=False) as site:
        assert "otlp" not in {one.id for one in site.web.traces.children()}
        assert site.web.outside.maybe(OTLP) is None


# -- and when it is not taken --------------------------------------------------------------------


async def test_what_may_be_taken_later_is_sent_again_and_what_never_will_is_counted() -> None:
    # OBS-4
    passing = answer_of(503, b"", "retry-after: 0")
    async with receiving(passing, answer_of(200), answer_of(400), answer_of(200, PARTIAL)) as there:
        kit = Kit(there.port)
        with captured() as lines:
            async with open_system(Root, kit.exporter):
                for number in (1, 2, 3):
                    kit.waiting.put([record(one) for one in range(BATCH_MAX)])
                    await until(partial(kit.has_settled, number * BATCH_MAX))
        assert there.bodies[0] == there.bodies[1]
        assert {len(spans_in(body)) for body in there.bodies} == {BATCH_MAX}
        assert kit.figures == {
            "taken": 2 * BATCH_MAX - 7, "refused": BATCH_MAX + 7, "queue": 0
        }  # fmt: skip
        assert kit.outside.dependency(OTLP).stats().retried == 1
        assert [line["event"] for line in lines] == ["traces.not_exported"]


async def test_one_that_hangs_holds_nobody_up_and_has_a_second_of_the_drain(
    mock_clock: MockClock,
) -> None:
    # OBS-4: by a clock that is set forward by hand
    async with receiving(None) as there, trio.open_nursery() as nursery:
        kit, end, is_over = Kit(there.port), trio.Event(), trio.Event()

        async def run() -> None:
            async with open_system(Root, kit.exporter):
                await end.wait()
            is_over.set()

        nursery.start_soon(run)
        kit.waiting.put([record(one) for one in range(BATCH_MAX)])
        await there.came.wait()
        # Whoever records never waits: this is no coroutine.
        kit.waiting.put([record(one) for one in range(WAITING_MAX + 100)])
        assert kit.figures == {"queue": 100}
        end.set()
        await kit.waiting.rest(inf)
        mock_clock.jump(1.0)
        await is_over.wait()
        # Those that were under way are the oldest.
        assert kit.figures == {"queue": 100 + BATCH_MAX, "stopped": WAITING_MAX}


async def test_one_that_is_absent_is_left_alone_and_shown(autojump_clock: MockClock) -> None:
    # OBS-4: what waits is kept up to its bound, and the health of the site tells of it
    (port,) = free_ports(1)
    kit = Kit(port)
    shown = outside_component(kit.outside)
    assert _found(shown) == ("healthy", {"otlp": "closed"})
    with captured() as lines:
        async with open_system(Root, kit.exporter):
            kit.waiting.put([record(one) for one in range(3)])
            await kit.is_alone.wait()
            assert _found(shown) == ("degraded", {"otlp": "open"})
            assert sum(kit.figures.values()) == 0, "nothing is lost yet"
            began = trio.current_time()
        assert trio.current_time() - began <= 1.0
    assert kit.figures == {"queue": 0, "stopped": 3}
    events = [line["event"] for line in lines]
    # A line each, not one a try.
    assert events == ["traces.not_exported", "outside.breaker", "traces.lost_at_stop"]


async def test_what_is_put_back_goes_first_as_far_as_there_is_room() -> None:
    # OBS-4
    tallies = Tallies()
    waiting = WaitingSpans(tallies)
    one, two, three = ([record(number)] * (BATCH_MAX - 1) for number in (1, 2, 3))
    waiting.put(one)
    waiting.put(two[:1])
    taken = await waiting.take()
    waiting.put(three)
    waiting.put_back(taken)
    assert await waiting.take() == taken
    waiting.put(two * (WAITING_MAX // len(two) + 1))
    assert len(waiting) == WAITING_MAX
    before = tallies.count("trace_spans_lost_total", "queue").number
    waiting.put_back(taken)
    assert tallies.count("trace_spans_lost_total", "queue").number == before + len(taken)
    waiting.close()
    while await waiting.take():
        pass
    assert not len(waiting)


def _found(shown: Component) -> tuple[str, dict[str, object]]:
    found = shown.check()
    assert isinstance(found, Finding)
    return found.status, dict(found.details)
