"""What the stage sends, and what a crowd of flooded sandboxes costs everybody else (LAB-95)."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from uuid import UUID

import trio
import trio.testing

from actors.runtime import System
from supervision import ChildSpec, Plan, open_system
from tests.patience import until
from tests.web.lab.test_sandbox import Kit
from tests.web.lab.test_sandbox import Site as SandboxSite
from tests.web.views.samples import static
from web.lab.sandbox.sandboxes import Sandbox
from web.lab.sandbox.words import (
    LETTERS_PER_S,
    PLACES,
    SUPERVISORS,
    WORK_S,
    Pace,
    Place,
)
from web.lab.stage.feed import Changed, StageFeed
from web.lab.stage.picture import STILL_KEPT_S, StagePicture
from web.lab.stage.quota import LabQuota
from web.lab.stage.topic import TreeTopic
from web.lab.switch import LabSwitch
from web.settings import LabMode
from web.views import ChipView, Renderer, StageAccess

CROWD = 20
WORKERS = [place for place in PLACES if place not in SUPERVISORS]


class Counting(StagePicture):
    """Counts how often a sandbox is drawn, and in which step of the loop."""

    def __init__(self, kit: FeedKit) -> None:
        quota = LabQuota(trio.current_time)
        switch = LabSwitch(LabMode.PUBLIC)
        super().__init__(lambda: kit.systems[0], kit.sandboxes, switch, quota, lambda: 1)
        self.step = self.drawn_shared = 0
        self.drawn: Counter[int] = Counter()

    def chips(self, sandbox: Sandbox) -> dict[Place, ChipView]:
        if sandbox.is_own:
            self.drawn[self.step] += 1
        else:
            self.drawn_shared += 1
        return super().chips(sandbox)


class Steps(trio.abc.Instrument):
    """Numbers the turns of the loop."""

    def __init__(self, picture: Counting) -> None:
        self._picture = picture

    def before_io_wait(self, timeout: float) -> None:
        self._picture.step += 1


class Drawing(Renderer):
    """Counts the chips that are rendered."""

    chips = 0

    def stage_chip(self, chip: ChipView, level: int) -> str:
        self.chips += 1
        return super().stage_chip(chip, level)


@cache
def drawing() -> Drawing:
    """Its templates are compiled once."""
    return Drawing(static())


class Site(SandboxSite):
    """As that one, with the feed."""

    def __init__(self, kit: FeedKit) -> None:
        super().__init__(kit)
        self._feed = kit.feed

    def plan(self) -> Plan:
        plan = super().plan()
        return Plan(plan.flags, [*plan.specs, ChildSpec("stage", self._feed, name="stage")])


class FeedKit(Kit):
    """Sandboxes, and the feed that shows them."""

    def __init__(self) -> None:
        systems: list[System] = []
        super().__init__(systems, 200)
        self.sandboxes._wake_feed = self.wake_feed
        self.renderer = drawing()
        self.picture = Counting(self)

    def feed(self) -> StageFeed:
        tell = TreeTopic(self.sandboxes, lambda: self.systems[0]).tell
        return StageFeed(
            self.sandboxes, self.picture, self.renderer, lambda frame, session: None, tell
        )

    def wake_feed(self) -> None:
        feed = self.systems[0].whereis("stage", StageFeed)
        if feed is not None:
            feed.tell(Changed())

    def flood_all(self, sandbox: Sandbox, count: int = 500) -> None:
        for place in WORKERS:
            self.sandboxes.act(sandbox, place, "flood", count)


@asynccontextmanager
async def crowd(count: int) -> AsyncIterator[tuple[FeedKit, list[Sandbox]]]:
    kit = FeedKit()
    async with open_system(Site, kit, name="site"):
        await until(lambda: bool(kit.systems) and kit.systems[0].whereis("stage") is not None)
        streams = [kit.open(UUID(int=number + 1)) for number in range(count)]
        yield kit, [await kit.ready(stream) for stream in streams]


def test_moments_are_handed_out_so_many_a_second() -> None:
    pace = Pace(100)
    done = [pace.done_at(0.0) for _ in range(3)]
    assert done == [WORK_S, WORK_S + 0.01, WORK_S + 0.02]
    assert pace.done_at(5.0) == 5.0 + WORK_S, "a pause is no credit"


async def test_pages_that_load_look_at_the_shared_sandbox_for_a_moment_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    # PERF-40, LAB-3
    async with crowd(0) as (kit, _):
        picture, before = kit.picture, kit.picture.drawn_shared
        shown = [picture.still() for _ in range(10)]
        assert picture.drawn_shared - before == 1
        assert all(one is shown[0] for one in shown)
        # What a visitor may do is told at once.
        picture._switch = LabSwitch(LabMode.OFF)
        assert picture.still().state.access is StageAccess.OFF
        await trio.sleep(STILL_KEPT_S)
        assert len(picture.still().chips) == len(PLACES)
        assert picture.drawn_shared - before == 2


async def test_twenty_floods_have_their_share_of_the_loop(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """LAB-95: as many letters a second for a crowd as for two, and each sandbox its part."""
    async with crowd(CROWD) as (kit, sandboxes):
        for sandbox in sandboxes:
            for place in [one for one in WORKERS if not one.startswith("feed")]:
                kit.sandboxes.act(sandbox, place, "flood", 500)
        await trio.sleep(1.0)
        left = [
            sum(cell.mailbox.queued for cell in kit.sandboxes.cells(one).values())
            for one in sandboxes
        ]
        flooded = CROWD * 6
        # One is in hand of each.
        handled = flooded * 500 - sum(left) - flooded
        assert 0.9 * LETTERS_PER_S < handled <= LETTERS_PER_S
        assert max(left) - min(left) < LETTERS_PER_S / CROWD


async def test_a_crowd_is_drawn_one_a_turn_and_a_queue_draws_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:  # LAB-95 LAB-10
    async with crowd(6) as (kit, sandboxes):
        await trio.sleep(0.6)
        for sandbox in sandboxes:
            kit.flood_all(sandbox)
        await trio.sleep(0.6)
        trio.lowlevel.add_instrument(Steps(kit.picture))
        kit.picture.drawn.clear()
        chips = kit.renderer.chips
        await trio.sleep(2.0)
        drawn = kit.picture.drawn
        assert max(drawn.values()) == 1
        assert 3 * 6 <= drawn.total() <= 5 * 6, "two beats a second"
        assert kit.renderer.chips == chips
        # Among all the floods a crash is shown.
        place = Place("crew-beta")
        kit.sandboxes.act(sandboxes[-1], place, "crash", 1)
        await trio.sleep(1.0)
        assert kit.renderer.chips > chips
