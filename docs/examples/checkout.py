"""A checkout: an order is placed, paid and reserved, or everything is taken back.

`greenroom example checkout` runs one that goes well, one that cannot be paid and one that is sold
out, and shows where each went: its states, and the picture of the last. In memory; with PostgreSQL
take `PostgresEventStore` and its neighbours. `checkout_page.py` is the same on a page.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Literal
from uuid import UUID, uuid4

import trio

from actors.persistence import (
    EVENTS,
    Aggregate,
    AggregateActor,
    AggregateRef,
    DeadLetters,
    Decision,
    Done,
    DueTimer,
    DurableTimers,
    EventStore,
    LookAtOutbox,
    Outbox,
    OutboxEntry,
    OutboxRelay,
    Refusal,
    Reply,
    StoredEvent,
    TimerService,
    event,
    execute,
)
from actors.persistence.beside_log.timers import LookForTimers
from actors.reducers import Environment
from actors.sagas import (
    CompensationStarted,
    Facts,
    Outcome,
    Participant,
    Refused,
    Saga,
    SagaActor,
    SagaCommand,
    SagaCompleted,
    SagaFailed,
    SagaId,
    SagaIndex,
    SagaKinds,
    SagaParts,
    Sagas,
    SagaStuck,
    Status,
    StepStarted,
    Succeeded,
    command,
    saga_clock,
    saga_graph,
    saga_relay,
    step,
)
from storage.memory import (
    MemoryDatabase,
    MemoryDeadLetters,
    MemoryEventStore,
    MemoryOutbox,
    MemoryTimers,
)
from supervision import Supervisor, child_method, dynamic_method, open_system

# What a card of this shop pays.
LIMIT_CENTS = 100_000


# What the saga says to others.


@dataclass(frozen=True)
class InitiateCheckout:
    order_id: str
    customer_id: str
    order_total_cents: int
    items: Mapping[str, int]


@command("orders")
@dataclass(frozen=True)
class PlaceOrder:
    order_id: str
    customer_id: str


@command("orders")
@dataclass(frozen=True)
class CancelOrder:
    order_id: str


@command("payments")
@dataclass(frozen=True)
class ProcessPayment:
    order_id: str
    order_total_cents: int


@command("payments")
@dataclass(frozen=True)
class RefundPayment:
    order_id: str
    reason: str


@command("inventory")
@dataclass(frozen=True)
class ReserveInventory:
    order_id: str
    items: Mapping[str, int]


@command("inventory")
@dataclass(frozen=True)
class ReleaseInventory:
    order_id: str


@event()
@dataclass(frozen=True)
class PaymentCompleted:
    payment_id: str
    cents: int


def refund(facts: Facts[InitiateCheckout]) -> RefundPayment:
    """The payment is found by its order: whether it was made is not always known."""
    return RefundPayment(facts.data.order_id, facts.reason)


class Checkout(Saga[InitiateCheckout]):
    place = step(PlaceOrder, undo=CancelOrder)
    pay = step(ProcessPayment, undo=refund, result=PaymentCompleted)
    reserve = step(ReserveInventory, undo=ReleaseInventory)


# Orders, payments, stock: each decides from its own log, so a command that comes twice does once,
# an undo that comes first makes the command behind it a refusal, and what was refused stays so: it
# may come again when its saga is over, and stock is there.


@event()
@dataclass(frozen=True)
class OrderPlaced:
    customer_id: str


@event()
@dataclass(frozen=True)
class OrderCancelled:
    pass


OrderStatus = Literal["none", "placed", "cancelled"]


class Orders(Aggregate[OrderStatus, PlaceOrder | CancelOrder, OrderPlaced | OrderCancelled]):
    category, state_type = "order", str

    def initial(self) -> OrderStatus:
        return "none"

    def decide(
        self, state: OrderStatus, command: PlaceOrder | CancelOrder, env: Environment
    ) -> Decision[OrderPlaced | OrderCancelled]:
        match command:
            case PlaceOrder() if state == "cancelled":
                return Refusal("cancelled", "the order was cancelled")
            case PlaceOrder():
                return [] if state == "placed" else [OrderPlaced(command.customer_id)]
            case CancelOrder():
                return [] if state == "cancelled" else [OrderCancelled()]

    def apply(self, state: OrderStatus, event: OrderPlaced | OrderCancelled) -> OrderStatus:
        return "placed" if isinstance(event, OrderPlaced) else "cancelled"


@event()
@dataclass(frozen=True)
class PaymentFailed:
    reason: str


@event()
@dataclass(frozen=True)
class PaymentRefunded:
    reason: str


PaymentEvent = PaymentCompleted | PaymentFailed | PaymentRefunded


class Payments(Aggregate[PaymentEvent | None, ProcessPayment | RefundPayment, PaymentEvent]):
    category, state_type = "payment", object

    def initial(self) -> None:
        return None

    def decide(
        self,
        state: PaymentEvent | None,
        command: ProcessPayment | RefundPayment,
        env: Environment,
    ) -> Decision[PaymentCompleted | PaymentFailed | PaymentRefunded]:
        match command:
            case ProcessPayment() if state is not None:
                return Reply(state)
            case ProcessPayment() if command.order_total_cents > LIMIT_CENTS:
                return [PaymentFailed("the card's limit is reached")]
            case ProcessPayment():
                return [PaymentCompleted(str(env.ids.new_id()), command.order_total_cents)]
            case RefundPayment():
                is_over = isinstance(state, PaymentRefunded | PaymentFailed)
                return [] if is_over else [PaymentRefunded(command.reason)]

    def apply(
        self,
        state: PaymentEvent | None,
        event: PaymentCompleted | PaymentFailed | PaymentRefunded,
    ) -> PaymentEvent:
        return event


@event()
@dataclass(frozen=True)
class StockCame:
    items: Mapping[str, int]


@event()
@dataclass(frozen=True)
class InventoryReserved:
    order_id: str
    items: Mapping[str, int]


@event()
@dataclass(frozen=True)
class ReservationRefused:
    order_id: str
    reason: str


@event()
@dataclass(frozen=True)
class InventoryReleased:
    order_id: str


@dataclass(frozen=True)
class Stock:
    """What is there, what is reserved by which order, which were refused, and which are over."""

    items: Mapping[str, int]
    reserved: Mapping[str, Mapping[str, int]]
    released: frozenset[str] = frozenset()
    refused: Mapping[str, str] = field(default_factory=dict)


StockEvent = StockCame | InventoryReserved | ReservationRefused | InventoryReleased


class Inventory(Aggregate[Stock, StockCame | ReserveInventory | ReleaseInventory, StockEvent]):
    category, state_type = "inventory", Stock

    def initial(self) -> Stock:
        return Stock({}, {})

    def decide(
        self,
        state: Stock,
        command: StockCame | ReserveInventory | ReleaseInventory,
        env: Environment,
    ) -> Decision[StockCame | InventoryReserved | ReservationRefused | InventoryReleased]:
        match command:
            case StockCame(items) | ReserveInventory(_, items) if (
                min(items.values(), default=0) < 0
            ):
                return Refusal("nonsense", "there is no less than nothing of it")
            case StockCame():
                return [command]
            case ReserveInventory(order_id, items):
                if order_id in state.reserved:
                    return []
                if order_id in state.released:
                    return Refusal("released", "the order is over")
                if order_id in state.refused:
                    return Reply(ReservationRefused(order_id, state.refused[order_id]))
                missing = [name for name, n in items.items() if state.items.get(name, 0) < n]
                if missing:
                    reason = f"there is too little of {', '.join(missing)}"
                    return [ReservationRefused(order_id, reason)]
                return [InventoryReserved(order_id, items)]
            case ReleaseInventory(order_id):
                return [] if order_id in state.released else [InventoryReleased(order_id)]

    def apply(
        self,
        state: Stock,
        event: StockCame | InventoryReserved | ReservationRefused | InventoryReleased,
    ) -> Stock:
        match event:
            case StockCame(items):
                return replace(state, items=_added(state.items, items, 1))
            case InventoryReserved(order_id, items):
                reserved = {**state.reserved, order_id: items}
                return replace(state, items=_added(state.items, items, -1), reserved=reserved)
            case ReservationRefused(order_id, reason):
                return replace(state, refused={**state.refused, order_id: reason})
            case InventoryReleased(order_id):
                back = state.reserved.get(order_id, {})
                left = {name: one for name, one in state.reserved.items() if name != order_id}
                items = _added(state.items, back, 1)
                released = state.released | {order_id}
                return replace(state, items=items, reserved=left, released=released)


def _added(stock: Mapping[str, int], items: Mapping[str, int], sign: int) -> Mapping[str, int]:
    return {**stock, **{name: stock.get(name, 0) + sign * n for name, n in items.items()}}


# The tree.


@dataclass(frozen=True)
class Ports:
    """What of a store a shop needs; `owner` names this process among those that relay."""

    store: EventStore
    outbox: Outbox
    timers: DurableTimers
    dead_letters: DeadLetters
    env: Environment
    owner: str


Send = Callable[[OutboxEntry], Awaitable[None]]
Deliver = Callable[[DueTimer], Awaitable[bool]]


class Shop(Supervisor):
    def __init__(self, ports: Ports, parts: SagaParts, send: Send, deliver: Deliver) -> None:
        self.ports, self.parts, self.send, self.deliver = ports, parts, send, deliver

    @dynamic_method(key="key", restart="transient")
    def sagas(self, key: str) -> SagaActor:
        return SagaActor(self.parts, key)

    @dynamic_method(key="order_id", restart="transient")
    def orders(
        self, order_id: str
    ) -> AggregateActor[OrderStatus, PlaceOrder | CancelOrder, OrderPlaced | OrderCancelled]:
        return AggregateActor(Orders(), order_id, self.ports.store, self.ports.env)

    @dynamic_method(key="order_id", restart="transient")
    def payments(
        self, order_id: str
    ) -> AggregateActor[PaymentEvent | None, ProcessPayment | RefundPayment, PaymentEvent]:
        return AggregateActor(Payments(), order_id, self.ports.store, self.ports.env)

    @dynamic_method(key="house", restart="transient")
    def inventory(
        self, house: str
    ) -> AggregateActor[Stock, StockCame | ReserveInventory | ReleaseInventory, StockEvent]:
        return AggregateActor(Inventory(), house, self.ports.store, self.ports.env)

    @child_method()
    def relay(self) -> OutboxRelay:
        return saga_relay(self.ports, self.send, self.ports.env, self.ports.owner)

    @child_method()
    def clock(self) -> TimerService:
        return saga_clock(self.ports, self.deliver, self.ports.env, self.ports.owner)


class Counter:
    """What carries out the commands of sagas; `find` gives the shop at each use."""

    def __init__(self, find: Callable[[], Shop]) -> None:
        self._find = find

    @property
    def shop(self) -> Shop:
        return self._find()

    def parts(self, ports: Ports) -> SagaParts:
        """Call this for what the actors of checkouts are made with."""
        return SagaParts(
            SagaKinds(Checkout),
            ports.store,
            ports.env,
            look_at_outbox=self._look_at_outbox,
            look_for_timers=lambda: self.shop.clock.tell(LookForTimers()),
        )

    def _look_at_outbox(self, look: LookAtOutbox) -> None:
        self.shop.relay.tell(look)

    @property
    def participants(self) -> Mapping[str, Participant]:
        """Call this for who carries out what is said to whom."""
        return {"orders": self.orders, "payments": self.payments, "inventory": self.inventory}

    def saga(self, saga: SagaId) -> AggregateRef:
        return self.shop.sagas[saga.key]

    async def orders(self, command: SagaCommand) -> Outcome:
        told = command.opened()
        assert isinstance(told, PlaceOrder | CancelOrder)
        return _outcome(await execute(self.shop.orders[told.order_id], told))

    async def payments(self, command: SagaCommand) -> Outcome:
        told = command.opened()
        assert isinstance(told, ProcessPayment | RefundPayment)
        done = await execute(self.shop.payments[told.order_id], told)
        found = done.events[-1] if isinstance(done, Done) and done.events else None
        if found is None and isinstance(done, Done):
            found = done.value
        match found:
            case PaymentFailed(reason):
                return Refused(reason)
            case PaymentRefunded() if isinstance(told, ProcessPayment):
                return Refused("it was given back before")
            case PaymentCompleted():
                return Succeeded(found)
        return _outcome(done)

    async def inventory(self, command: SagaCommand) -> Outcome:
        done = await execute(self.shop.inventory["main"], command.opened())
        if isinstance(done, Done):
            last = done.events[-1] if done.events else done.value
            if isinstance(last, ReservationRefused):
                return Refused(last.reason)
        return _outcome(done)


def _outcome(done: Done | Refusal) -> Outcome:
    return Refused(done.message) if isinstance(done, Refusal) else Succeeded()


@asynccontextmanager
async def open_shop(
    ports: Ports, participants: Mapping[str, Participant] | None = None
) -> AsyncIterator[tuple[Shop, Sagas]]:
    """Call this for a shop on these ports; `participants` stand in for its own."""
    found: list[Shop] = []
    is_open = trio.Event()
    counter = Counter(lambda: found[0])
    parts = counter.parts(ports)
    sagas = Sagas(
        parts,
        counter.saga,
        {**counter.participants, **(participants or {})},
        dead_letters=ports.dead_letters,
    )

    async def send(entry: OutboxEntry) -> None:
        await is_open.wait()
        await sagas.send(entry)

    async def deliver(timer: DueTimer) -> bool:
        await is_open.wait()
        return await sagas.deliver(timer)

    async with open_system(Shop, ports, parts, send, deliver) as shop:
        found.append(shop)
        is_open.set()
        yield shop, sagas


async def ended(sagas: Sagas, saga: SagaId) -> Status:
    """Call this to wait until a saga is over, or needs a person."""
    while True:
        state = await sagas.query(saga)
        if state.is_over or state.stuck:
            return state.status
        await trio.sleep(0.05)


# Each step as those who buy know it.
STATES = {"place": "PlacingOrder", "pay": "ProcessingPayment", "reserve": "ReservingInventory"}


def states(log: Iterable[object]) -> Iterator[str]:
    """Call this with the facts of a checkout's log for the states it went through."""
    yield "Idle"
    for fact in log:
        match fact:
            case StepStarted(step, 1):
                yield STATES[step]
            case CompensationStarted(reason):
                yield f"Compensating ({reason})"
            case SagaStuck(step, reason):
                yield f"Stuck at {step} ({reason})"
            case SagaCompleted():
                yield "Completed"
            case SagaFailed(reason):
                yield "Failed"


class Clock:
    def now(self) -> datetime:
        return datetime.now(UTC)


class Ids:
    def new_id(self) -> UUID:
        return uuid4()


async def main() -> None:
    database = MemoryDatabase()
    ports = Ports(
        MemoryEventStore(database, inline=[SagaIndex()]),
        MemoryOutbox(database),
        MemoryTimers(database),
        MemoryDeadLetters(database),
        Environment(Clock(), Ids()),
        "example",
    )
    async with open_shop(ports) as (shop, sagas):
        log: list[StoredEvent] = []
        await execute(shop.inventory["main"], StockCame({"chair": 2}))
        for order_id, cents, chairs in (("1", 5000, 2), ("2", 500_000, 1), ("3", 5000, 1)):
            order = InitiateCheckout(order_id, "ann", cents, {"chair": chairs})
            saga = await sagas.start(Checkout, order, name=order_id)
            await ended(sagas, saga)
            log = [stored async for stored in ports.store.load(saga.stream)]
            facts = [fact for stored in log for fact in EVENTS.decode_all(stored)]
            print(f"{saga}: {' -> '.join(states(facts))}")
        print(saga_graph(Checkout.definition(), log))


if __name__ == "__main__":
    trio.run(main)
