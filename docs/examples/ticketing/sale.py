"""A sale by the box office itself, in memory: four customers and three seats. Prints what came.

`python -m docs.examples.ticketing.sale`; the five minutes of an expiry are waited for by tests.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import trio

from actors.persistence import AggregateRef, Refusal, ask_state, execute
from actors.reducers import Environment
from actors.sagas import SagaId
from docs.examples.ticketing.amounts import amount_of
from docs.examples.ticketing.gateway import TIMES_OUT, SimulatedGateway
from docs.examples.ticketing.office import INLINE, BoxOffice, Office, Ports
from docs.examples.ticketing.payments import Payment
from docs.examples.ticketing.sections import Seating, SetUp, StartSales
from docs.examples.ticketing.shows import numbered
from storage.memory import (
    MemoryDatabase,
    MemoryDeadLetters,
    MemoryEventStore,
    MemoryOutbox,
    MemoryProjections,
    MemoryTimers,
)
from supervision import open_system
from web.app import Beside

CARD = "Credit Card (****4242)"


class Clock:
    def now(self) -> datetime:
        return datetime.now(UTC)


class Ids:
    def new_id(self) -> UUID:
        return uuid4()


@asynccontextmanager
async def open_office(ports: Ports) -> AsyncIterator[Office]:
    """Have a box office that runs as long as the block."""
    opened: list[BoxOffice] = []
    office = Office(ports, lambda: opened[0])
    async with open_system(BoxOffice, office) as box:
        opened.append(box)
        yield office


async def wait_for(office: Office, saga: SagaId, *wanted: str, every_s: float = 0.05) -> str:
    """Call this to wait until a reservation stands at one of these."""
    while True:
        found = await office.status(saga)
        if found in wanted:
            return found
        await trio.sleep(every_s)


async def state_of(ref: AggregateRef) -> object:
    _, state = await ask_state(ref)
    return state


def memory_ports() -> Ports:
    """Call this for a database of one's own, and a bank."""
    database = MemoryDatabase()
    beside = Beside(
        MemoryOutbox(database),
        MemoryTimers(database),
        MemoryDeadLetters(database),
        MemoryProjections(database),
    )
    store = MemoryEventStore(database, inline=INLINE)
    return Ports(store, beside, Environment(Clock(), Ids()), "example", SimulatedGateway())


async def main() -> None:
    async with open_office(memory_ports()) as office:
        hall = office.find().sections["jazz-Stalls"]
        starts_at = office.ports.env.clock.now() + timedelta(days=40)
        await execute(hall, SetUp(numbered(3), 5000, starts_at))
        await execute(hall, StartSales())
        for name, customer, count, card in (
            ("r1", "ann", 2, "tok_visa"),
            ("r2", "bob", 2, "tok_visa"),
            ("r3", "cem", 1, "tok_insufficient"),
            ("r4", "dea", 1, TIMES_OUT),
        ):
            saga = await office.reserve(name, "jazz", "Stalls", customer, count)
            assert not isinstance(saga, Refusal)
            if await wait_for(office, saga, "PaymentPending", "Failed") == "PaymentPending":
                for attempt in ("first", "second", "third"):
                    key = "first" if card == TIMES_OUT else attempt
                    await office.pay(name, key, card, CARD)
                await wait_for(office, saga, "Completed", "Compensated")
            paid = await state_of(office.find().payments[name])
            assert isinstance(paid, Payment)
            money = f"in {amount_of(paid.money_in)}, kept {amount_of(paid.money_kept)}"
            print(f"{customer}: {count} of 3 seats, {card}: {await office.status(saga)}, {money}")
        seats = await state_of(hall)
        assert isinstance(seats, Seating)
        print(f"{seats.available} free, {seats.reserved} held, {seats.sold_count} sold")


if __name__ == "__main__":
    trio.run(main)
