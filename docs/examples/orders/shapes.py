"""What clients send and are told, in the words of the API: bodies, answers, events.

Input is lenient where it says so (`LENIENT`); what is answered has the fields below and no other.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec

from docs.examples.orders.deciding import (
    CENTS_MAX,
    QUANTITY_MAX,
    Cancelled,
    Happened,
    Item,
    Order,
    Placed,
    Shipped,
)

LENIENT = "clients of this API are older than it, and send what they were given back"
CANCELLED_BY = "Cancelled by customer"
ID_PATTERN = r"order-[A-Za-z0-9_-]{1,64}"
# A line of an order is one product; a thousand of them fit a body and an event easily.
ITEMS_MAX = 1000

# Longer names are no names; an order with ITEMS_MAX of the longest still fits an event.
Text = Annotated[str, msgspec.Meta(max_length=200)]
Reason = Annotated[str, msgspec.Meta(max_length=1000)]
Cents = Annotated[int, msgspec.Meta(ge=-CENTS_MAX - 1, le=CENTS_MAX)]
Quantity = Annotated[int, msgspec.Meta(ge=0, le=QUANTITY_MAX)]
OrderId = Annotated[str, msgspec.Meta(pattern=f"^{ID_PATTERN}$")]


# Asked over HTTP.


class ItemBody(msgspec.Struct, frozen=True):
    product_id: Text
    name: Text
    quantity: Quantity
    unit_price_cents: Cents


class PlaceBody(msgspec.Struct, frozen=True):
    customer_id: Text
    items: Annotated[list[ItemBody], msgspec.Meta(max_length=ITEMS_MAX)]


class CancelBody(msgspec.Struct, frozen=True):
    reason: Reason = CANCELLED_BY


class ShipBody(msgspec.Struct, frozen=True):
    """`tracking`, or as older clients call it `tracking_number`."""

    tracking: Text | msgspec.UnsetType = msgspec.UNSET
    tracking_number: Text | msgspec.UnsetType = msgspec.UNSET


# Asked over the WebSocket.


class ItemAsked(msgspec.Struct, frozen=True):
    """An item whose price is called `unit_price` or `unit_price_cents`."""

    product_id: Text
    name: Text
    quantity: Quantity
    unit_price: Cents | msgspec.UnsetType = msgspec.UNSET
    unit_price_cents: Cents | msgspec.UnsetType = msgspec.UNSET

    def __post_init__(self) -> None:
        if self.unit_price is msgspec.UNSET and self.unit_price_cents is msgspec.UNSET:
            raise ValueError("Object missing required field `unit_price`")

    @property
    def price(self) -> int:
        given = self.unit_price if self.unit_price_cents is msgspec.UNSET else self.unit_price_cents
        assert given is not msgspec.UNSET, "looked at when it was made"
        return given


class PlaceOrder(msgspec.Struct, frozen=True):
    customer_id: Text
    items: Annotated[list[ItemAsked], msgspec.Meta(max_length=ITEMS_MAX)]
    order_id: OrderId | None = None


class CancelOrder(msgspec.Struct, frozen=True):
    order_id: str
    reason: Reason = CANCELLED_BY


class ShipOrder(msgspec.Struct, frozen=True):
    order_id: str
    tracking: Text


# Answered over HTTP.


class ItemShown(msgspec.Struct, frozen=True):
    product_id: str
    name: str
    quantity: int
    unit_price_cents: int


class OrderShown(msgspec.Struct, frozen=True):
    order_id: str
    customer_id: str
    status: str
    items: list[ItemShown]
    total_cents: int


class PlacedShown(msgspec.Struct, frozen=True):
    order_id: str
    status: str
    total_cents: int
    placed_at: datetime


class CancelledShown(msgspec.Struct, frozen=True):
    order_id: str
    status: str
    reason: str
    cancelled_at: datetime


class ShippedShown(msgspec.Struct, frozen=True):
    order_id: str
    status: str
    tracking: str
    shipped_at: datetime


# Told on the topic, all prices in cents.


class ItemTold(msgspec.Struct, frozen=True):
    product_id: str
    name: str
    quantity: int
    unit_price: int
    unit_price_cents: int


class OrderPlaced(msgspec.Struct, frozen=True):
    order_id: str
    customer_id: str
    items: list[ItemTold]
    total: int
    timestamp: datetime
    total_cents: int


class OrderCancelled(msgspec.Struct, frozen=True):
    order_id: str
    reason: str
    timestamp: datetime


class OrderShipped(msgspec.Struct, frozen=True):
    order_id: str
    tracking: str
    timestamp: datetime


class ValidationFailed(msgspec.Struct, frozen=True):
    """A refusal, told to nobody but who asked."""

    error: str


def told(happened: Happened) -> OrderPlaced | OrderCancelled | OrderShipped:
    """Call this for what the topic tells of an event."""
    match happened:
        case Placed(order_id, customer_id, items, total, at):
            listed = [
                ItemTold(one.product_id, one.name, one.quantity, cents, cents)
                for one in items
                for cents in (one.unit_price_cents,)
            ]
            return OrderPlaced(order_id, customer_id, listed, total, at, total)
        case Cancelled(order_id, reason, at):
            return OrderCancelled(order_id, reason, at)
        case Shipped(order_id, tracking, at):
            return OrderShipped(order_id, tracking, at)


def answered(happened: Happened) -> PlacedShown | CancelledShown | ShippedShown:
    """Call this for what HTTP answers for an event."""
    match happened:
        case Placed():
            return PlacedShown(happened.order_id, "Placed", happened.total_cents, happened.at)
        case Cancelled(order_id, reason, at):
            return CancelledShown(order_id, "Cancelled", reason, at)
        case Shipped(order_id, tracking, at):
            return ShippedShown(order_id, "Shipped", tracking, at)


def shown(order: Order) -> OrderShown:
    """Call this for what HTTP answers for an order."""
    items = [
        ItemShown(one.product_id, one.name, one.quantity, one.unit_price_cents)
        for one in order.items
    ]
    return OrderShown(order.order_id, order.customer_id, order.status, items, order.total_cents)


def items_of(asked: list[ItemBody] | list[ItemAsked]) -> tuple[Item, ...]:
    """Call this for the items of a body or a command."""
    return tuple(
        Item(
            one.product_id,
            one.name,
            one.quantity,
            one.unit_price_cents if isinstance(one, ItemBody) else one.price,
        )
        for one in asked
    )
