"""How far groups of the bus are behind is a figure that whoever shows it reads without asking."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from uuid import uuid4

import trio
from trio.testing import MockClock

from actors.persistence.bus import GroupInfo, Record, StartAt
from actors.runtime import open_actors
from storage.bus import BusTables, MemoryBus
from storage.memory import MemoryDatabase
from tests.engines import virtual_environment
from web.observability.bus_lag import (
    GROUPS_MAX,
    LOOK_EVERY_S,
    STALE_S,
    WANTED_S,
    BusLags,
    LagWatch,
    lags_of,
)


class _Counted(MemoryBus):
    """Counts how often its groups are asked for."""

    def __init__(self) -> None:
        super().__init__(BusTables(MemoryDatabase(now=virtual_environment().clock.now)))
        self.asked = 0

    async def groups(self) -> Sequence[GroupInfo]:
        self.asked += 1
        return await super().groups()


@asynccontextmanager
async def _watched() -> AsyncIterator[tuple[_Counted, BusLags]]:
    bus = _Counted()
    await bus.declare("order-events", 2)
    await bus.declare("shop-events", 1)
    await (await bus.join("mail", ["order-events", "shop-events"], StartAt.EARLIEST)).renew()
    lags = BusLags(bus)
    async with open_actors() as system:
        await system.start(partial(LagWatch, lags))
        yield bus, lags


async def test_figures_are_told_by_topic(autojump_clock: MockClock) -> None:
    # BUS-8: `topic` and `group` are what metrics are told apart by
    async with _watched() as (bus, lags):
        for number in range(5):
            await bus.publish("order-events", Record(uuid4(), f"order-{number}", b"1"))
        await trio.sleep(3)
        await bus.publish("shop-events", Record(uuid4(), "shop", b"1"))
        await trio.sleep(2)
        (lag,) = await lags.look()
        assert (lag.group, lag.members, lag.handled_at) == ("mail", 1, None)
        assert lag.by_topic() == {"order-events": (5, 5.0), "shop-events": (1, 2.0)}
        assert (lag.records, lag.seconds) == (6, 5.0)
        assert {(one.topic, one.partition) for one in lag.parts} == {
            ("order-events", 0), ("order-events", 1), ("shop-events", 0),
        }  # fmt: skip
        assert lags.newest() == [lag]


async def test_the_bus_is_asked_only_while_somebody_reads(autojump_clock: MockClock) -> None:
    # BUS-8, LAB-1
    async with _watched() as (bus, lags):
        await trio.sleep(600)
        assert bus.asked == 0
        assert lags.newest() == ()  # nothing is known yet; from now on it is
        await trio.sleep(LOOK_EVERY_S + 0.1)
        assert [one.group for one in lags.newest()] == ["mail"]
        await trio.sleep(WANTED_S + LOOK_EVERY_S)
        asked = bus.asked
        assert asked <= WANTED_S / LOOK_EVERY_S + 2
        await trio.sleep(600)
        assert bus.asked == asked
        assert lags.newest() == ()  # what is that old is nothing to show


async def test_a_bus_that_is_away_has_no_figures_and_its_watch_goes_on(
    autojump_clock: MockClock,
) -> None:
    # BUS-8, BUS-9
    async with _watched() as (bus, lags):
        lags.newest()
        await trio.sleep(LOOK_EVERY_S + 0.1)
        bus.tables.go_away()
        await trio.sleep(STALE_S - LOOK_EVERY_S)
        assert lags.newest() != ()  # a moment is no news
        await trio.sleep(LOOK_EVERY_S)
        assert lags.newest() == ()
        bus.tables.come_back()
        await trio.sleep(LOOK_EVERY_S)
        assert [one.group for one in lags.newest()] == ["mail"]


async def test_of_many_groups_some_are_looked_at() -> None:
    # BUS-8
    bus = _Counted()
    await bus.declare("order-events", 1)
    for number in range(GROUPS_MAX + 5):
        await bus.join(f"g{number:02}", ["order-events"], StartAt.EARLIEST)
    assert [one.group for one in await lags_of(bus)] == [f"g{n:02}" for n in range(GROUPS_MAX)]
