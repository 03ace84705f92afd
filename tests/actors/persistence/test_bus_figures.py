"""What is counted of the bus: who publishes, who handles, and what fails."""

from __future__ import annotations

from uuid import uuid4

import trio
from trio.testing import MockClock

from actors.persistence import NotSent, OutboxEntry
from actors.persistence.bus import (
    BusUnavailable,
    Guard,
    OnFailure,
    Received,
    Record,
    SubscribeOptions,
    SubscriptionActor,
    publisher,
)
from actors.runtime import Actor, message, open_actors
from storage.bus import BusTables, MemoryBus
from storage.memory import MemoryDatabase
from storage.testing.samples import NOON
from tests.patience import until
from tests.tallied import numbers, times

TOPIC, GROUP = "order-events", "mail"


class Away(MemoryBus):
    """A bus that is away now and then."""

    is_away = False

    async def publish(self, topic: str, record: Record) -> None:
        if self.is_away:
            raise BusUnavailable("nobody there")
        await super().publish(topic, record)


@message
class Publish:
    """Asks to publish one record."""


class Publisher(Actor[Publish]):
    def __init__(self, bus: MemoryBus) -> None:
        self._send = publisher(bus)

    async def on_publish(self, message: Publish) -> None:
        entry = OutboxEntry(1, uuid4(), "bus", TOPIC, "k", b"{}", {}, 0, NOON)
        try:
            await self._send(entry)
        except NotSent:
            pass


async def test_what_is_published_and_handled_is_counted(autojump_clock: MockClock) -> None:
    # OBS-1
    bus, failing = Away(BusTables(MemoryDatabase())), [1]
    await bus.declare(TOPIC, 2)

    async def handle(received: Received) -> None:
        await trio.sleep(0.003)
        if failing:
            failing.pop()
            raise OSError("a moment")

    options = SubscribeOptions(Guard.IDEMPOTENT, on_failure=OnFailure.SKIP)
    async with open_actors() as system:
        listener = await system.start(
            lambda: SubscriptionActor(bus, [TOPIC], GROUP, handle, options)
        )
        ref = await system.start(Publisher, bus)
        for is_away in (False, True, False):
            bus.is_away = is_away
            ref.tell(Publish())
            await trio.sleep(1)
        await until(lambda: numbers(system, "bus_handled_total").get((TOPIC, GROUP, "ok")) == 1)
        assert numbers(system, "bus_published_total") == {(TOPIC, "ok"): 2, (TOPIC, "failed"): 1}
        assert times(system, "bus_publish_seconds") == {(TOPIC,): 2}
        assert numbers(system, "bus_handled_total") == {
            (TOPIC, GROUP, "ok"): 1,
            (TOPIC, GROUP, "failed"): 1,
        }
        assert times(system, "bus_handle_seconds") == {(TOPIC, GROUP): 2}
        assert numbers(system, "bus_rebalances_total") == {(GROUP,): 2}
        await listener.stop()
