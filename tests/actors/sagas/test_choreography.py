"""Services that react to each other's events, with nobody above them: no saga at all."""

from __future__ import annotations

from collections import Counter
from uuid import uuid4, uuid5

import trio
from trio.testing import MockClock

from actors.persistence import AppendRequest, StoreUnavailable, StreamId
from actors.persistence.bus import Guard, Received, Record, SubscribeOptions
from storage.bus import BusTables, MemoryBus
from storage.memory import MemoryDatabase, MemoryEventStore
from storage.testing.bus import subscribed
from storage.testing.samples import new_event
from tests.patience import until


class Service:
    """Does its own part once for each event that it hears, and tells so on a topic of its own."""

    def __init__(self, name: str, hears: str, bus: MemoryBus, store: MemoryEventStore) -> None:
        self.name, self.hears, self.bus, self.store = name, hears, bus, store
        self.failing = 3

    async def __call__(self, received: Received) -> None:
        if self.failing:
            self.failing -= 1
            raise StoreUnavailable("for a moment", nothing_written=True)
        heard = received.record
        own, inbox = StreamId(f"{self.name}-{heard.key}"), (self.name, heard.event_id)
        await self.store.append_request(AppendRequest(own, [new_event(b"1")], inbox=inbox))
        # Named by what it follows from: whoever hears it twice knows it again.
        told = Record(uuid5(heard.event_id, self.name), heard.key, b"1")
        await self.bus.publish(f"{self.name}-events", told)


async def test_three_services_need_no_saga_where_nothing_is_to_be_undone(
    autojump_clock: MockClock,
) -> None:
    # SAGA-12: each event comes doubled, and each handler fails at first
    database = MemoryDatabase()
    bus, store = MemoryBus(BusTables(database)), MemoryEventStore(database)
    payments = Service("payments", "order-events", bus, store)
    parcels = Service("parcels", "payments-events", bus, store)
    for topic in ("order-events", "payments-events", "parcels-events"):
        await bus.declare(topic, 2)
    done: Counter[str] = Counter()

    async def tell(received: Received) -> None:
        done[received.record.key] += 1

    options = SubscribeOptions(Guard.INBOX)
    orders = [Record(uuid4(), f"order-{number}", b"1") for number in range(10)]
    async with (
        subscribed(bus, payments, options, group="payments", topics=["order-events"]),
        subscribed(bus, parcels, options, group="parcels", topics=["payments-events"]),
        subscribed(bus, tell, options, group="mail", topics=["parcels-events"]),
    ):
        for batch in (orders, orders[::-1]):
            await bus.publish_batch("order-events", batch)
        await until(lambda: len(done) == len(orders))
        await trio.sleep(5)
    for record in orders:
        for service in (payments, parcels):
            stream = StreamId(f"{service.name}-{record.key}")
            assert len([one async for one in store.load(stream)]) == 1
