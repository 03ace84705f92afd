"""What happened to one order, event by event: `python -m docs.examples.orders --order-id ID`."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

from actors.persistence import EventStore, StreamId
from actors.persistence.event_types import EVENTS
from docs.examples.orders.deciding import Cancelled, Order, Orders, Placed, Shipped
from docs.examples.orders.shapes import ID_PATTERN


class UnknownOrder(LookupError):
    """Raised when the store has no event of an order."""

    def __init__(self, order_id: str) -> None:
        super().__init__(f"Order with id {order_id} not found")


async def history(store: EventStore, order_id: str) -> AsyncIterator[str]:
    """Call this for a line an event: its version and time, what happened, what the order was then.

    Raises `UnknownOrder`. Reads in constant memory.
    """
    orders, state, version = Orders(), Order(), 0
    if re.fullmatch(ID_PATTERN, order_id):
        async for stored in store.load(StreamId(order_id)):
            happened, version = EVENTS.decode(stored), stored.version
            assert isinstance(happened, Placed | Cancelled | Shipped)
            state = orders.apply(state, happened)
            yield f"{version:>4}  {happened.at.isoformat()}  {said(happened)}  -> {state.status}"
    if not version:
        raise UnknownOrder(order_id)


def said(happened: Placed | Cancelled | Shipped) -> str:
    match happened:
        case Placed():
            items = ", ".join(f"{one.quantity} x {one.name}" for one in happened.items)
            return f"placed by {happened.customer_id}: {items}; {happened.total_cents} cents"
        case Cancelled(_, reason):
            return f"cancelled: {reason}"
        case Shipped(_, tracking):
            return f"shipped: {tracking}"
