"""What an order is: its commands and events, and when which of them is allowed. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from actors.persistence import Aggregate, Decision, Refusal, StreamId, event
from actors.reducers import Environment

CENTS_MAX = 2**63 - 1
QUANTITY_MAX = 2**32 - 1
CATEGORY = "order"

# Which kind of no it is; the text says the rest.
INVALID, UNKNOWN, TOO_MUCH = "invalid", "unknown", "too_much"


@dataclass(frozen=True)
class Item:
    product_id: str
    name: str
    quantity: int
    unit_price_cents: int


@dataclass(frozen=True)
class Place:
    order_id: str
    customer_id: str
    items: tuple[Item, ...]


@dataclass(frozen=True)
class Cancel:
    order_id: str
    reason: str


@dataclass(frozen=True)
class Ship:
    order_id: str
    tracking: str


@event(name="Order.Placed")
@dataclass(frozen=True)
class Placed:
    order_id: str
    customer_id: str
    items: tuple[Item, ...]
    total_cents: int
    at: datetime


@event(name="Order.Cancelled")
@dataclass(frozen=True)
class Cancelled:
    order_id: str
    reason: str
    at: datetime


@event(name="Order.Shipped")
@dataclass(frozen=True)
class Shipped:
    order_id: str
    tracking: str
    at: datetime


Command = Place | Cancel | Ship
Happened = Placed | Cancelled | Shipped


@dataclass(frozen=True)
class Order:
    """An order as its events have left it; a `Draft` until it is placed."""

    order_id: str = ""
    customer_id: str = ""
    items: tuple[Item, ...] = ()
    total_cents: int = 0
    status: str = "Draft"


class Orders(Aggregate[Order, Command, Happened]):
    """Place, then cancel or ship: `Draft -> Placed -> Cancelled | Shipped`."""

    category = CATEGORY
    state_type = Order
    # Most orders are placed once: a fresh one is not looked for before.
    opens = (Place,)

    def stream_of(self, id_: str) -> StreamId:
        """The order's id is the name of its stream."""
        return StreamId(id_)

    def initial(self) -> Order:
        return Order()

    def decide(self, state: Order, command: Command, env: Environment) -> Decision[Happened]:
        now = env.clock.now().astimezone(UTC)
        match command:
            case Place():
                return place(state, command, now)
            case _ if state.status == "Draft":
                return Refusal(UNKNOWN, f"Order with id {command.order_id} not found")
            case Cancel() if state.status != "Placed":
                return invalid(f"Order in status '{state.status}' cannot be cancelled")
            case Cancel(order_id, reason):
                return [Cancelled(order_id, reason, now)]
            case Ship() if state.status != "Placed":
                return invalid(f"Order in status '{state.status}' cannot be shipped")
            case Ship(_, tracking) if not tracking.strip():
                return invalid("Tracking number cannot be empty")
            case Ship(order_id, tracking):
                return [Shipped(order_id, tracking, now)]

    def apply(self, state: Order, event: Happened) -> Order:
        match event:
            case Placed():
                return Order(
                    event.order_id, event.customer_id, event.items, event.total_cents, "Placed"
                )
            case Cancelled():
                return replace(state, status="Cancelled")
            case Shipped():
                return replace(state, status="Shipped")


def place(state: Order, command: Place, now: datetime) -> Decision[Happened]:
    """Decide whether an order can be placed, and what it comes to."""
    if state.status != "Draft":
        return invalid("Order already placed")
    wrong = wrong_items(command.items)
    if wrong is not None:
        return invalid(wrong)
    total = sum(item.quantity * item.unit_price_cents for item in command.items)
    if total > CENTS_MAX:
        return Refusal(TOO_MUCH, f"The total of an order is at most {CENTS_MAX} cents")
    return [Placed(command.order_id, command.customer_id, command.items, total, now)]


def wrong_items(items: Sequence[Item]) -> str | None:
    """Say what is wrong with the items of an order, or None."""
    if not items:
        return "Order must contain at least one item"
    for item in items:
        if item.quantity == 0:
            return f"Item '{item.name}' has zero quantity"
        if item.unit_price_cents <= 0:
            return f"Item '{item.name}' has invalid price"
    return None


def invalid(message: str) -> Refusal:
    return Refusal(INVALID, message)
