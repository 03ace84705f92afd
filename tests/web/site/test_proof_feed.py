"""The home page's figures: at most once a second, only when one changed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.web.views.samples import renderer
from tests.web.watcher import WatchedFeed, Watcher, open_feed
from web.realtime import Audience, Stream
from web.site.proof_feed import GLANCE_KEPT_S, PERIOD_S, Messages, ProofFeed, ProofSource

RENDERER = renderer()


@dataclass
class Figures:
    """What is measured; counts who looks."""

    delivered: int = 0
    looks: int = 0

    def actors(self) -> int:
        self.looks += 1
        return 7

    def source(self) -> ProofSource:
        return ProofSource(
            actors_alive=self.actors,
            open_streams=lambda: 1,
            messages_delivered=lambda: self.delivered,
            restarts=lambda: (2, 1.25),
            uptime_s=lambda: int(trio.current_time()),
        )


@dataclass
class Kit:
    """The feed, and what it looks at."""

    figures: Figures
    feed: WatchedFeed[Messages]

    @property
    def readers(self) -> Audience[Stream]:
        return self.feed.readers


@asynccontextmanager
async def open_kit() -> AsyncIterator[Kit]:
    figures = Figures()
    async with open_feed(lambda readers: ProofFeed(figures.source(), RENDERER, readers)) as feed:
        yield Kit(figures, feed)


async def test_figures_come_at_once_and_at_most_once_a_second(autojump_clock: MockClock) -> None:
    async with open_kit() as kit:  # SITE-6
        watcher = Watcher()
        kit.readers.join(watcher.stream)
        (first,) = await watcher.events()
        assert 'id="proof"' in first
        for _ in range(100):
            kit.figures.delivered += 1
            await trio.sleep(0.05)
        assert 4 <= len(await watcher.events()) <= 5


async def test_nothing_changed_nothing_sent(autojump_clock: MockClock) -> None:  # SITE-6
    async with open_kit() as kit:
        watcher = Watcher()
        kit.readers.join(watcher.stream)
        await watcher.events()
        await trio.sleep(30)
        assert await watcher.events() == []


async def test_it_stops_when_nobody_watches(autojump_clock: MockClock) -> None:  # SITE-8
    async with open_kit() as kit:
        watcher = Watcher()
        kit.readers.join(watcher.stream)
        await trio.sleep(3)
        kit.readers.leave(watcher.stream)
        await trio.sleep(2)
        looks = kit.figures.looks
        await trio.sleep(60)
        assert kit.figures.looks == looks
        kit.readers.join(watcher.stream)
        await wait_all_tasks_blocked()
        assert kit.figures.looks == looks + 1


async def test_who_comes_later_sees_the_present(autojump_clock: MockClock) -> None:  # SITE-6
    async with open_kit() as kit:
        early, late = Watcher(), Watcher()
        kit.readers.join(early.stream)
        await early.events()
        await trio.sleep(3600.5)
        kit.figures.delivered = 12
        kit.readers.join(late.stream)
        await wait_all_tasks_blocked()
        (told,) = await late.events()
        assert 'data-uptime="3600"' in told
        await trio.sleep(PERIOD_S)
        (changed,) = await early.events()
    assert ">12<" in changed


async def test_a_restarted_feed_serves_its_old_readers(autojump_clock: MockClock) -> None:
    async with open_kit() as kit:
        watcher = Watcher()
        kit.readers.join(watcher.stream)
        await watcher.events()
        await kit.feed.ref.stop()
        await kit.feed.start()
        await trio.sleep(PERIOD_S + 0.1)
        (again,) = await watcher.events()
    assert 'id="proof"' in again


async def test_pages_that_load_together_look_at_the_figures_once(
    autojump_clock: MockClock,
) -> None:
    # SITE-6: what is shown is read from the process, and is not older than that of an open page
    figures = Figures()
    source = figures.source()
    first = source.glance()
    figures.delivered = 5
    assert all(source.glance() is first for _ in range(100))
    assert figures.looks == 1
    await trio.sleep(GLANCE_KEPT_S)
    assert (source.glance().messages_delivered, figures.looks) == (5, 2)
    second = source.glance()
    await trio.sleep(GLANCE_KEPT_S)
    # What looks the same is the same object: a page is rendered by it.
    assert source.glance() is second
    assert figures.looks == 3


async def test_the_lines_are_what_was_seen_in_the_last_five_minutes(
    autojump_clock: MockClock,
) -> None:
    figures = Figures()
    source = figures.source()
    assert source.view().lines.messages_delivered == ((100, 20),)
    await trio.sleep(4)
    # Less than a sample later the newest point alone has moved on.
    assert [x for x, _ in source.view().lines.messages_delivered] == [99, 100]
    await trio.sleep(146)
    figures.delivered = 40
    lines = source.view().lines
    # Half of the time ago there were none; what only grows is drawn by how much.
    assert lines.messages_delivered == ((50, 20), (100, 0))
    assert lines.actors_alive == ((50, 0), (100, 0))
    assert lines.crashes == ((50, 20), (100, 20))
    await trio.sleep(160)
    # What is older is no more known, and the rest is as it was.
    assert source.view().lines.messages_delivered == ((47, 20), (100, 20))
    for _ in range(1000):
        await trio.sleep(1)
        assert len(source.view().lines.actors_alive) <= 31
