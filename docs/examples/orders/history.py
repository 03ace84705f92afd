"""What happened to one order, event by event: `python -m docs.examples.orders --order-id ID`."""

from __future__ import annotations

import argparse
import re
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import TypedDict

from actors.persistence import EventStore, StreamId
from actors.persistence.event_types import EVENTS
from docs.examples.orders.deciding import Cancelled, Order, Orders, Placed, Shipped
from docs.examples.orders.shapes import ID_PATTERN
from storage.postgres import PostgresEventStore
from web.cli.answering import Teller
from web.cli.opening import open_store
from web.observability import Code, CommandFailed


class Line(TypedDict):
    """One event: what happened, and what the order was then."""

    version: int
    at: datetime
    status: str
    what: str


async def history(store: EventStore, order_id: str) -> AsyncIterator[Line]:
    """Call this for a line an event, in order; none for an unknown order. In constant memory."""
    if not re.fullmatch(ID_PATTERN, order_id):
        return
    orders, state = Orders(), Order()
    async for stored in store.load(StreamId(order_id)):
        happened = EVENTS.decode(stored)
        assert isinstance(happened, Placed | Cancelled | Shipped)
        state = orders.apply(state, happened)
        yield Line(version=stored.version, at=happened.at, status=state.status, what=said(happened))


def said(happened: Placed | Cancelled | Shipped) -> str:
    """Call this for an event in a person's words."""
    match happened:
        case Placed():
            items = ", ".join(f"{one.quantity} x {one.name}" for one in happened.items)
            return f"{happened.total_cents} cents for {happened.customer_id}: {items}"
        case Cancelled(_, reason):
            return reason
        case Shipped(_, tracking):
            return f"as {tracking}"


async def command(
    parsed: argparse.Namespace, environment: Mapping[str, str], teller: Teller
) -> int:
    """Call this to print the history of `parsed.order_id`, also while it is served."""
    async with open_store(environment) as database:
        lines = [line async for line in history(PostgresEventStore(database), parsed.order_id)]
    if not lines:
        raise CommandFailed(Code.UNKNOWN, f"Order with id {parsed.order_id} not found")
    teller.rows([{**line} for line in lines], "")
    return Code.DONE
