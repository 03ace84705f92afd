"""The timeline's feed: each viewer its own, at most ten times a second, and no loop."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import trio
from trio.testing import MockClock

from actors.runtime import Ref, open_actors
from actors.timeline import Kind, Timeline
from tests.web.views.samples import renderer
from tests.web.watcher import Watcher
from web.realtime import Arrivals, Stream, StreamKey, waker
from web.timeline.feed import PERIOD_S, Messages, TimelineFeed, Viewers

RENDERER = renderer()
AT = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Kit:
    timeline: Timeline
    viewers: Viewers
    refs: list[Ref[Messages]]

    def request(self, watcher: Watcher, name: str, path: str = "/lab", method: str = "GET") -> None:
        self.timeline.begin(name, watcher.stream.session_id, method, path, is_new=False)
        self.timeline.end(name, 200, 0.01, is_member=False)


@asynccontextmanager
async def open_kit() -> AsyncIterator[Kit]:
    refs: list[Ref[Messages]] = []

    def find() -> Ref[Messages]:
        return refs[-1]

    timeline = Timeline(trio.current_time)
    viewers = Viewers(waker(find))
    timeline.on_change = viewers.changed
    async with open_actors() as system:
        refs.append(await system.start(TimelineFeed, timeline, RENDERER, viewers, lambda: AT))
        yield Kit(timeline, viewers, refs)


def pressed(events: list[str]) -> list[bool]:
    return [part.startswith("true") for part in "".join(events).split('aria-pressed="')[1:]]


async def test_a_viewer_is_sent_its_own_flows(autojump_clock: MockClock) -> None:
    # SITE-123, SITE-125
    async with open_kit() as kit:
        mine, other = Watcher(), Watcher()
        kit.viewers.join(mine.stream)
        kit.viewers.join(other.stream)
        await trio.sleep(1)
        await mine.events(), await other.events()
        kit.request(mine, "aaaa1111-x", "/work/mine")
        await trio.sleep(1)
        told = "".join(await mine.events())
        assert "aaaa1111" in told
        assert "GET /work/mine" in told
        assert await other.events() == []


async def test_a_thousand_requests_in_five_seconds_are_few_renders(
    autojump_clock: MockClock,
) -> None:
    # SITE-129
    async with open_kit() as kit:
        watcher = Watcher()
        viewer = kit.viewers.join(watcher.stream)
        await trio.sleep(1)
        before, began = viewer.renders, trio.current_time()
        for number in range(1000):
            kit.request(watcher, f"{number:08x}-x")
            await trio.sleep_until(began + number * 0.005)
        await trio.sleep(1)
        assert 40 <= viewer.renders - before <= 52
        assert f"{999:08x}" in "".join(await watcher.events())


async def test_showing_it_makes_no_entry(autojump_clock: MockClock) -> None:
    # SITE-127
    async with open_kit() as kit:
        watcher = Watcher()
        viewer = kit.viewers.join(watcher.stream)
        kit.request(watcher, "r")
        await trio.sleep(0.5)
        renders, kept = viewer.renders, len(kit.timeline.live(watcher.stream.session_id))
        await trio.sleep(2)
        assert (viewer.renders, len(kit.timeline.live(watcher.stream.session_id))) == (
            renders,
            kept,
        )


async def test_a_choice_is_never_taken_away(autojump_clock: MockClock) -> None:
    # SITE-124
    async with open_kit() as kit:
        watcher = Watcher()
        viewer = kit.viewers.join(watcher.stream)
        kit.request(watcher, "first-1", "/first")
        await trio.sleep(1)
        first = "".join(await watcher.events())
        assert "onlyIfMissing true" in first
        assert '"activeFlowId":"first-1"' in first
        for number in range(40):
            kit.request(watcher, f"later-{number}", "/later")
            kit.timeline.note(f"later-{number}", Kind.SSE_PATCH, {"event": "x"})
        await trio.sleep(1)
        told = await watcher.events()
        assert 'activeFlowId":' not in "".join(told)
        # It left the list, and is read on; also when it is known nowhere any more.
        assert pressed(told)
        assert not any(pressed(told))
        assert "GET /first" in "".join(told)
        kit.timeline._flows.clear()
        kit.request(watcher, "last-1", "/last")
        await trio.sleep(1)
        assert "GET /first" in "".join(await watcher.events())
        kit.viewers.set(viewer, chosen="last-1")
        await trio.sleep(1)
        told = await watcher.events()
        assert "GET /first" not in "".join(told)
        assert pressed(told)[0]


async def test_a_foreign_flow_cannot_be_chosen(autojump_clock: MockClock) -> None:
    # SITE-125
    async with open_kit() as kit:
        mine, other = Watcher(), Watcher()
        viewer = kit.viewers.join(mine.stream)
        kit.request(other, "theirs-1", "/secret-of-theirs")
        kit.viewers.set(viewer, chosen="theirs-1")
        await trio.sleep(1)
        assert "secret-of-theirs" not in "".join(await mine.events())


async def test_a_filter_belongs_to_one_stream_and_comes_back_with_it(
    autojump_clock: MockClock,
) -> None:
    # SITE-128
    async with open_kit() as kit:
        session = uuid.uuid4()
        one = Watcher(stream=Stream(StreamKey(session, "one"), "address"))
        two = Watcher(stream=Stream(StreamKey(session, "two"), "address"))
        kit.viewers.join(one.stream, " /LEFT-out ,, ")
        kit.viewers.join(two.stream)
        kit.request(one, "a-1", "/left-out/1")
        await trio.sleep(1)
        assert "/left-out/1" not in "".join(await one.events())
        assert "/left-out/1" in "".join(await two.events())


async def test_who_does_not_look_is_not_rendered_for_and_who_left_is_forgotten(
    autojump_clock: MockClock,
) -> None:
    async with open_kit() as kit:
        watcher = Watcher()
        viewer = kit.viewers.join(watcher.stream)
        await trio.sleep(1)
        kit.viewers.set(viewer, is_shown=False)
        await watcher.events()
        renders = viewer.renders
        kit.request(watcher, "r-1")
        await trio.sleep(1)
        assert viewer.renders == renders
        kit.viewers.set(viewer, is_shown=True)
        await trio.sleep(1)
        assert "r-1" in "".join(await watcher.events())
        watcher.stream.close("test")
        assert len(kit.viewers) == 0
        kit.request(watcher, "r-2")


async def test_a_feed_that_was_away_goes_on(autojump_clock: MockClock) -> None:
    async with open_kit() as kit:
        watcher = Watcher()
        kit.viewers.join(watcher.stream)
        await trio.sleep(1)
        await watcher.events()
        kit.refs[-1].tell(Arrivals())
        kit.viewers._is_woken = True  # the nudge that the old feed took with it
        kit.request(watcher, "r-1")
        kit.viewers.want_all()
        kit.refs[-1].tell(Arrivals())
        await trio.sleep(PERIOD_S * 3)
        assert "r-1" in "".join(await watcher.events())
