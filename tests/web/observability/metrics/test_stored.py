"""What is looked up of projections when a scrape comes."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from actors.persistence import GenerationState, ProjectionBatch, StreamId
from storage.testing.kept import Kept, kept_in_memory
from storage.testing.samples import new_events
from web.observability.metrics import Scrape
from web.observability.metrics.stored import KEPT_S, LOOK_S_MAX, of_projections

NAME = ("orders",)
LAG, RATE, ETA = (f"projection_{one}" for one in ("lag_events", "events_per_second", "eta_seconds"))


class _Scraped:
    """A program whose projections are looked at, and events of it."""

    def __init__(self) -> None:
        self.kept: Kept = kept_in_memory()
        self.collect = of_projections(self.kept.projections, self.kept.events)

    async def pass_events(self, count: int) -> None:
        """Have the projection pass so many."""
        (checkpoint,) = await self.kept.projections.checkpoints("orders")
        page = await self.kept.events.read_all(after=checkpoint.cursor)
        batch = ProjectionBatch(checkpoint, page.events[count - 1].cursor)
        assert await self.kept.projections.commit(batch)

    async def scraped(self, *names: str) -> list[float | None]:
        found = Scrape()
        await self.collect(found)
        return [found.numbers.get(name, {}).get(NAME) for name in names]


async def test_of_a_projection_it_is_told_how_fast_it_is_and_when_it_is_there(
    autojump_clock: MockClock,
) -> None:
    # PROJ-5
    site = _Scraped()
    await site.kept.events.append(StreamId("order-1"), new_events(10))
    await site.kept.projections.open("orders", 1, 1, GenerationState.LIVE)
    # Of the first look nobody knows how fast it is.
    assert await site.scraped(LAG, RATE, ETA) == [10, None, None]
    await trio.sleep(KEPT_S)
    await site.pass_events(4)
    # What comes meanwhile makes it no slower.
    await site.kept.events.append(StreamId("order-2"), new_events(2))
    assert await site.scraped(LAG, RATE, ETA) == [8, 4 / KEPT_S, 8 / (4 / KEPT_S)]
    await trio.sleep(2 * KEPT_S)
    assert await site.scraped(LAG, RATE, ETA) == [8, 0, None]
    await trio.sleep(KEPT_S)
    await site.pass_events(8)
    assert await site.scraped(LAG, RATE, ETA) == [0, 8 / KEPT_S, 0]


async def test_what_was_found_counts_for_some_seconds_and_what_is_late_is_absent(
    autojump_clock: MockClock,
) -> None:
    # OBS-1
    site = _Scraped()
    await site.kept.events.append(StreamId("order-1"), new_events(3))
    await site.kept.projections.open("orders", 1, 1, GenerationState.LIVE)
    assert await site.scraped(LAG) == [3]
    await site.pass_events(3)
    assert await site.scraped(LAG) == [3]
    site.kept.projections.slow(LOOK_S_MAX * 2)  # type: ignore[attr-defined]  # of the twin
    await trio.sleep(KEPT_S)
    assert await site.scraped(LAG) == [None]
    site.kept.projections.slow(0)  # type: ignore[attr-defined]  # of the twin
    await trio.sleep(KEPT_S)
    assert await site.scraped(LAG) == [pytest.approx(0)]
