"""The checkout of the examples in a test's hand: on either engine, crashed at a chosen place.

A crash ends the whole tree at once, without a word to anybody, behind a commit that nobody has
heard of: what is left is what the store has.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import cast

import trio

from actors.persistence import (
    DeadLetters,
    DurableTimers,
    EventStore,
    Outbox,
    OutboxEntry,
    ProjectionStore,
    StreamId,
    execute,
)
from actors.reducers import Environment
from actors.sagas import Participant, SagaIndex, Sagas, Status
from docs.examples.checkout import (
    Checkout,
    InitiateCheckout,
    Ports,
    Shop,
    StockCame,
    ended,
    open_shop,
)
from storage.memory import (
    MemoryDatabase,
    MemoryDeadLetters,
    MemoryOutbox,
    MemoryProjections,
    MemoryTimers,
)
from storage.postgres import (
    Database,
    PostgresDeadLetters,
    PostgresOutbox,
    PostgresProjections,
    PostgresTimers,
)
from tests.engines import MemoryCommits, PostgresCommits, real_environment, virtual_environment
from tests.patience import PATIENCE_S


@dataclass
class Plan:
    """Where the next crash is: the `at`-th time that a place of this name is passed."""

    place: str = ""
    at: int = 0
    passed: dict[str, int] = field(default_factory=dict)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)

    async def pass_by(self, place: str) -> None:
        """Call this at a place; does not come back where the plan says so."""
        self.passed[place] = self.passed.get(place, 0) + 1
        if (place, self.passed[place]) == (self.place, self.at):
            self.scope.cancel()
            await trio.sleep_forever()


class _WatchedOutbox:
    """An outbox of either engine that passes by two places; all else is its own."""

    def __init__(self, outbox: Outbox) -> None:
        self.outbox, self.plan = outbox, Plan()

    def __getattr__(self, name: str) -> object:
        return getattr(self.outbox, name)

    async def next_batch(
        self,
        partition: int,
        epoch: int,
        *,
        limit: int = 100,
        skipping: Sequence[str] = (),
        without: Sequence[int] = (),
    ) -> Sequence[OutboxEntry]:
        found = await self.outbox.next_batch(
            partition, epoch, limit=limit, skipping=skipping, without=without
        )
        if found:
            await self.plan.pass_by("taken")
        return found

    async def mark_sent(self, partition: int, epoch: int, ids: Sequence[int]) -> int:
        for _ in ids:  # they are marked together, and were sent one by one
            await self.plan.pass_by("sent")
        return await self.outbox.mark_sent(partition, epoch, ids)


@dataclass
class World:
    """One database with a shop on it, which may be opened again and again."""

    events: EventStore
    outbox: Outbox
    timers: DurableTimers
    dead_letters: DeadLetters
    index: ProjectionStore
    env: Environment
    set_plan: Callable[[Plan], None]

    @property
    def ports(self) -> Ports:
        return Ports(
            self.events, self.outbox, self.timers, self.dead_letters, self.env, "the-process"
        )

    async def types(self, stream: str) -> list[str]:
        """The names of the events of a stream."""
        return [one.type async for one in self.events.load(StreamId(stream))]

    async def live(
        self,
        plan: Plan,
        body: Callable[[Shop, Sagas], Awaitable[None]],
        participants: Mapping[str, Participant] | None = None,
    ) -> bool:
        """Run a shop until the body ends, True, or it crashes by the plan, False."""
        self.set_plan(plan)
        with trio.fail_after(PATIENCE_S), plan.scope:
            async with open_shop(self.ports, participants) as (shop, sagas):
                await body(shop, sagas)
        self.set_plan(Plan())
        return not plan.scope.cancelled_caught


def memory_world() -> World:
    """Call this under virtual time."""
    env = virtual_environment()
    database = MemoryDatabase(now=env.clock.now)
    events = MemoryCommits(database, inline=[SagaIndex()])
    outbox = _WatchedOutbox(MemoryOutbox(database))

    def set_plan(plan: Plan) -> None:
        outbox.plan = plan
        events.behind = partial(plan.pass_by, "append")
        # All that is sent is to be taken from the outbox then.
        events.tells_of_outbox = plan.place != "taken"

    return World(
        events,
        cast("Outbox", outbox),
        MemoryTimers(database),
        MemoryDeadLetters(database),
        MemoryProjections(database),
        env,
        set_plan,
    )


def postgres_world(database: Database) -> World:
    """Call this on a fresh database."""
    events = PostgresCommits(database, inline=[SagaIndex()])
    outbox = _WatchedOutbox(PostgresOutbox(database))

    def set_plan(plan: Plan) -> None:
        outbox.plan = plan
        events.behind = partial(plan.pass_by, "append")
        # All that is sent is to be taken from the outbox then.
        events.tells_of_outbox = plan.place != "taken"

    return World(
        events,
        cast("Outbox", outbox),
        PostgresTimers(database),
        PostgresDeadLetters(database),
        PostgresProjections(database),
        real_environment(),
        set_plan,
    )


@dataclass(frozen=True)
class Story:
    """A checkout that ends in a known way, whatever happens on the way."""

    name: str
    cents: int
    chairs: int
    status: Status
    order: tuple[str, ...]
    payment: tuple[str, ...]
    stock: tuple[str, ...]

    async def play(self, world: World, number: str, plan: Plan) -> bool:
        """Run it until it ends or crashes; True when it ended."""
        return await world.live(plan, self.body(world, number))

    def body(self, world: World, number: str) -> Callable[[Shop, Sagas], Awaitable[None]]:
        """What whoever checks out does: asks again, under the same name, after a crash."""
        order = InitiateCheckout(number, "ann", self.cents, {f"chair {number}": self.chairs})

        async def body(shop: Shop, sagas: Sagas) -> None:
            await sagas.resume(world.index)
            saga = await sagas.start(Checkout, order, name=number)
            assert await ended(sagas, saga) is self.status

        return body

    async def check(self, world: World, number: str) -> None:
        """Each participant did each thing once."""
        assert await world.types(f"order-{number}") == list(self.order)
        assert await world.types(f"payment-{number}") == list(self.payment)
        stock = [
            one.type
            async for one in world.events.load(StreamId("inventory-main"))
            if f'"{number}"'.encode() in one.data
        ]
        assert stock == list(self.stock)


STORIES = [
    Story(
        "bought",
        500,
        1,
        Status.COMPLETED,
        ("OrderPlaced",),
        ("PaymentCompleted",),
        ("InventoryReserved",),
    ),
    Story(
        "no money",
        500_000,
        1,
        Status.FAILED,
        ("OrderPlaced", "OrderCancelled"),
        ("PaymentFailed",),
        (),
    ),
    Story(
        "sold out",
        500,
        9,
        Status.FAILED,
        ("OrderPlaced", "OrderCancelled"),
        ("PaymentCompleted", "PaymentRefunded"),
        ("ReservationRefused",),
    ),
]


async def stock(world: World, *numbers: str) -> None:
    """Two chairs of each number."""

    async def body(shop: Shop, sagas: Sagas) -> None:
        came = StockCame({f"chair {number}": 2 for number in numbers})
        await execute(shop.inventory["main"], came)

    assert await world.live(Plan(), body)
