"""The counter and the desk as actors: on streams that are read, in virtual time."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actors.runtime import NoProc, Ref, System, open_actors
from actors.timeline import Kind, Timeline
from tests.web.watcher import Watcher
from web.lab.demos.counter import Add, CounterActor, Counters
from web.lab.demos.desk import (
    PLAIN,
    PLAIN_IDLE_S,
    DemoParts,
    DeskActor,
    Guard,
    Look,
    Replace,
    Show,
    desk_name,
)
from web.lab.demos.desk import Messages as DeskMessage
from web.lab.demos.errands import NOTHING, ORIGINAL, PLAIN_RUN_S, RUN_S, WAITING_MAX
from web.realtime import Stream, StreamKey, Streams

SESSION = uuid.uuid4()


async def no_actor(_: Stream) -> None:
    """A stream without an actor of its own."""


@dataclass
class Kit:
    system: System
    parts: DemoParts
    timeline: Timeline

    async def open(self, tab: str = "tab") -> Watcher:
        stream = await self.parts.streams.open(StreamKey(SESSION, tab), "address")
        watcher = Watcher(stream=stream)
        self.parts.counters.join(stream)
        return watcher

    async def desk(self, watcher: Watcher) -> Ref[DeskMessage]:
        name = desk_name(watcher.stream.key)
        return await self.system.start(DeskActor, name, self.parts, name="desk")


@asynccontextmanager
async def open_kit() -> AsyncIterator[Kit]:
    streams, timeline = Streams(start_actor=no_actor), Timeline(trio.current_time)
    now = datetime(2026, 1, 1, tzinfo=UTC)
    parts = DemoParts(Counters(streams), streams, timeline, lambda: now)
    async with open_actors() as system:
        yield Kit(system, parts, timeline)


async def said(watcher: Watcher) -> str:
    return "\n".join(await watcher.events())


async def test_two_tabs_hear_the_same_number_and_it_has_a_floor() -> None:  # SITE-103
    async with open_kit() as kit:
        one, two = await kit.open("one"), await kit.open("two")
        counter = await kit.system.start(CounterActor, str(SESSION), kit.parts.counters)
        assert '"count":0' in await said(one)
        await said(two)
        for delta, count in ((3, 3), (-5, 0), (100, 100), (-1, 99)):
            assert await counter.ask(Add(delta, one.stream.key))
            for watcher in (one, two):
                assert f'"serverCount":{count}}}' in await said(watcher)
        late = await kit.open("late")
        assert '"count":99,"serverCount":99' in await said(late)
        one.stream.close("gone")
        assert len(kit.parts.counters) == 2


async def test_what_cannot_be_told_is_not_counted() -> None:  # SITE-103
    async with open_kit() as kit:
        behind, other = await kit.open("one"), await kit.open("two")
        counter = await kit.system.start(CounterActor, str(SESSION), kit.parts.counters)
        assert await counter.ask(Add(2, behind.stream.key))
        behind.stream.close("gone")
        await said(other)
        assert not await counter.ask(Add(2, behind.stream.key))
        assert kit.parts.counters.of(str(SESSION)) == 2
        assert await said(other) == ""
        assert await counter.ask(Add(2, None)), "a page without scripts needs no stream"
        assert '"serverCount":4' in await said(other)


async def test_numbers_are_kept_within_a_limit() -> None:
    streams = Streams(start_actor=no_actor)
    counters = Counters(streams, kept_max=2)
    for session in ("a", "b", "a", "c"):
        assert counters.add(session, 1, None)
    assert [counters.of(session) for session in "abc"] == [2, 0, 1]


async def test_the_guarded_run_in_order_for_a_second_each(autojump_clock: MockClock) -> None:
    async with open_kit() as kit:  # SITE-104
        watcher = await kit.open()
        desk = await kit.desk(watcher)
        began = trio.current_time()
        for _ in range(3):
            assert await desk.ask(Guard("r"))
        assert "running #1 · queued #2 · queued #3" in await said(watcher)
        await trio.sleep(3 * RUN_S + 0.01)
        told = await said(watcher)
        places = [told.index(f"running #{number}") for number in (2, 3)]
        assert places == sorted(places)
        assert f'"demoMessage":"{ORIGINAL}","demoStatus":"finished #3"' in told
        assert "started 3, cancelled 0, finished 3" in told
        assert trio.current_time() - began == pytest.approx(3 * RUN_S + 0.01)


async def test_one_too_many_is_refused_and_not_counted(autojump_clock: MockClock) -> None:
    async with open_kit() as kit:  # SITE-104
        watcher = await kit.open()
        desk = await kit.desk(watcher)
        answers = [await desk.ask(Guard("r")) for _ in range(WAITING_MAX + 2)]
        assert answers == [True] * (WAITING_MAX + 1) + [False]
        await trio.sleep((WAITING_MAX + 2) * RUN_S)
        assert f"finished {WAITING_MAX + 1}" in await said(watcher)


async def test_a_new_click_cancels_the_running_one(autojump_clock: MockClock) -> None:
    async with open_kit() as kit:  # SITE-105
        watcher = await kit.open()
        desk = await kit.desk(watcher)
        for number in range(1, 5):
            assert await desk.ask(Replace("r"))
            await trio.sleep(RUN_S / 2)
            assert f"running #{number}" in await said(watcher)
        assert await desk.ask(Guard("r"))
        assert "cancelled #3 · running #4 · queued #5" in await said(watcher)
        await trio.sleep(3 * RUN_S)
        told = await said(watcher)
        assert "started 5, cancelled 3, finished 2" in told
        assert "finished #5" in told


@pytest.mark.parametrize("comes_back", [False, True])
async def test_work_ends_with_its_stream(autojump_clock: MockClock, comes_back: bool) -> None:
    async with open_kit() as kit:  # SITE-94, SITE-105
        watcher = await kit.open()
        desk = await kit.desk(watcher)
        for _ in range(3):
            assert await desk.ask(Guard("r"))
        again = None
        if comes_back:
            again = await kit.open()  # takes the place of the older one
        else:
            watcher.stream.close("gone")
        await wait_all_tasks_blocked()
        await trio.sleep(5 * RUN_S)
        if again is None:
            with pytest.raises(NoProc):
                await desk.ask(Guard("r"))
            return
        told = await said(again)
        assert "finished" not in told
        assert f'"demoMessage":"{ORIGINAL}","demoStatus":""' in told
        assert await desk.ask(Guard("r"))
        assert '"demoStatus":"running #1"' in await said(again)


async def test_a_desk_that_ends_leaves_nothing_shown_as_running(
    autojump_clock: MockClock,
) -> None:
    async with open_kit() as kit:
        watcher = await kit.open()
        desk = await kit.desk(watcher)
        assert await desk.ask(Guard("r"))
        await said(watcher)
        await kit.system.stop("desk")
        assert f'"demoMessage":"{ORIGINAL}","demoStatus":""' in await said(watcher)
        again = await kit.desk(watcher)
        assert await again.ask(Guard("r"))
        assert '"demoStatus":"running #1"' in await said(watcher)


async def plain_desk(kit: Kit) -> Ref[DeskMessage]:
    """The desk of the pages without scripts; it has no stream."""
    name = desk_name(StreamKey(SESSION, PLAIN))
    return await kit.system.start(DeskActor, name, kit.parts, name="plain desk")


async def test_pages_without_scripts_are_told_when_they_ask(autojump_clock: MockClock) -> None:
    async with open_kit() as kit:  # SITE-104, SITE-105
        desk = await plain_desk(kit)
        assert await desk.ask(Look()) == NOTHING
        for _ in range(WAITING_MAX + 1):
            assert await desk.ask(Guard("r"))
        assert await desk.ask(Guard("r")) is False
        assert "running #1 · queued #2" in (await desk.ask(Look())).status
        assert await desk.ask(Replace("r"))
        told = await desk.ask(Look())
        assert told.message == f"Working on #{WAITING_MAX + 2} …"
        assert told.status.startswith(f"cancelled #1 · running #{WAITING_MAX + 2} · queued #2")
        await trio.sleep((WAITING_MAX + 1) * PLAIN_RUN_S + 0.01)
        told = await desk.ask(Look())
        assert (told.message, told.status) == (ORIGINAL, f"finished #{WAITING_MAX + 1}")
        assert told.counts == f"started {WAITING_MAX + 2}, cancelled 1, finished {WAITING_MAX + 1}"


@pytest.mark.parametrize("asks", [Look, lambda: Guard("r"), lambda: Replace("r")])
async def test_a_desk_without_a_stream_leaves_when_nobody_asks(
    autojump_clock: MockClock, asks: Callable[[], Look | Guard | Replace]
) -> None:
    # Nothing else would end it: no stream of it can close.
    async with open_kit() as kit:
        desk = await plain_desk(kit)
        for _ in range(3):
            await trio.sleep(PLAIN_IDLE_S - 0.01)
            await desk.ask(asks())
        # An errand that ends is something that happens, too.
        await trio.sleep(PLAIN_IDLE_S + PLAIN_RUN_S + 0.01)
        with pytest.raises(NoProc):
            await desk.ask(Look())
    assert PLAIN_IDLE_S > PLAIN_RUN_S, "it leaves with nothing running"


async def test_a_number_that_comes_while_a_stream_opens_hides_nothing() -> None:  # SITE-103
    async with open_kit() as kit:
        stream = await kit.parts.streams.open(StreamKey(SESSION, "tab"), "address")
        kit.parts.counters.join(stream)
        assert kit.parts.counters.add(str(SESSION), 5, stream.key)
        told = await said(Watcher(stream=stream))
        assert told.index('"count":0') < told.index('"serverCount":5')
        assert ORIGINAL in told


async def test_a_result_is_shown_with_what_its_request_has_led_to() -> None:  # SITE-106
    async with open_kit() as kit:
        watcher = await kit.open()
        desk = await kit.desk(watcher)
        kit.timeline.begin("r-1", str(SESSION), "POST", "/api/demos", is_new=False)
        kit.timeline.note("r-1", Kind.DB_QUERY, {"statement": "SELECT 1"})
        desk.tell(Show("ping", "r-1", lambda trace: f"<p id='x'>{[e.kind.value for e in trace]}"))
        assert "['request.start', 'db.query']" in await said(watcher)
        kinds = [entry.kind for entry in kit.timeline.diagnostic(request_id="r-1")]
        assert kinds[-1] is Kind.SSE_PATCH
