"""The list of orders, filled from the store: one row an order, and what leads to it.

`OrderProjection` writes, `OrderList` reads. A row has the columns of `OrderRow`. Beside the rows
stand keys whose order is that of the questions: newest first of all, and of each customer.
"""

from __future__ import annotations

from datetime import datetime
from hashlib import sha256
from typing import assert_never

import msgspec

from actors.persistence import (
    Cursor,
    Document,
    Projection,
    ProjectionStore,
    ProjectionTx,
    StoredEvent,
    live_collection,
    wait_until,
)
from docs.examples.orders.deciding import Cancelled, Happened, Placed, Shipped

NAME = "order_projections"
# As many as a person looks through; a longer list has pages.
CUSTOMER_ORDERS_MAX = 100
RECENT_MAX = 100
STATUSES = ("placed", "cancelled", "shipped")
# Microseconds of the last moment there is: what is subtracted from it sorts newest first.
_LAST = 10**18


class OrderRow(msgspec.Struct, frozen=True):
    """What the list has of an order. `updated_at` is the time of its last event."""

    id: str
    customer_id: str
    item_count: int
    total_cents: int
    status: str
    placed_at: datetime
    updated_at: datetime
    tracking: str | None = None
    cancellation_reason: str | None = None


class OrderProjection(Projection):
    """Keeps a row for each order, and counts them by status."""

    name = NAME
    handles = (Placed, Cancelled, Shipped)

    def reads(self, event: StoredEvent) -> list[str]:
        """The order's row, whose stream has its id, and the counts: read at once for a batch."""
        return [row_key(event.stream_id), *(count_key(status) for status in STATUSES)]

    async def apply(self, event: StoredEvent, tx: ProjectionTx) -> None:
        """Write what an event means for the row of its order."""
        happened = self.types.decode(event)
        assert isinstance(happened, Placed | Cancelled | Shipped)
        before = await maybe_row(tx, happened.order_id)
        after = changed(before, happened)
        if after is None:
            return
        tx.put(row_key(after.id), msgspec.to_builtins(after))
        if before is None:
            newest = f"{_LAST - micros(after.placed_at):019d}/{after.id}"
            tx.put(f"recent/{newest}", {"id": after.id})
            tx.put(f"{customer_prefix(after.customer_id)}{newest}", {"id": after.id})
        else:
            await add(tx, before.status, -1)
        await add(tx, after.status, 1)


def changed(row: OrderRow | None, happened: Happened) -> OrderRow | None:
    """The row after an event; None where there is nothing to change."""
    match happened:
        case Placed():
            if row is not None:
                return None
            return OrderRow(
                happened.order_id,
                happened.customer_id,
                len(happened.items),
                happened.total_cents,
                "placed",
                happened.at,
                happened.at,
            )
        case _ if row is None:
            return None
        case Cancelled():
            return msgspec.structs.replace(
                row,
                status="cancelled",
                cancellation_reason=happened.reason,
                updated_at=happened.at,
            )
        case Shipped():
            return msgspec.structs.replace(
                row, status="shipped", tracking=happened.tracking, updated_at=happened.at
            )
    assert_never(happened)


async def maybe_row(tx: ProjectionTx, order_id: str) -> OrderRow | None:
    return read_row(await tx.get(row_key(order_id)))


async def add(tx: ProjectionTx, status: str, number: int) -> None:
    key = count_key(status)
    tx.put(key, {"count": read_count(await tx.get(key)) + number})


class OrderList:
    """The questions that the list answers, on any store of projections."""

    def __init__(self, store: ProjectionStore) -> None:
        self.store = store

    async def order(self, order_id: str) -> OrderRow | None:
        """One order, or None where the list has none of this id."""
        collection = await live_collection(self.store, NAME)
        if collection is None:
            return None
        return read_row(await self.store.get(collection, row_key(order_id)))

    async def customer_orders(self, customer_id: str) -> list[OrderRow]:
        """The orders of a customer, newest first, at most 100."""
        return await self._listed(customer_prefix(customer_id), CUSTOMER_ORDERS_MAX)

    async def recent(self, limit: int) -> list[OrderRow]:
        """The newest orders of all. ValueError for a limit that is not 1 to 100."""
        if not 1 <= limit <= RECENT_MAX:
            raise ValueError(f"limit is 1 to {RECENT_MAX}, got {limit}")
        return await self._listed("recent/", limit)

    async def count_by_status(self, status: str) -> int:
        """How many orders have a status. ValueError for one that is none."""
        if status not in STATUSES:
            raise ValueError(f"status is one of {', '.join(STATUSES)}")
        collection = await live_collection(self.store, NAME)
        if collection is None:
            return 0
        return read_count(await self.store.get(collection, count_key(status)))

    async def wait(self, cursor: Cursor) -> None:
        """Wait until the list has what stands at `cursor`; raises as `wait_until` does."""
        await wait_until(self.store, NAME, cursor)

    async def _listed(self, prefix: str, limit: int) -> list[OrderRow]:
        collection = await live_collection(self.store, NAME)
        if collection is None:
            return []
        found = await self.store.query(collection, prefix=prefix, limit=limit)
        ids = [str(entry["id"]) for _, entry in found]
        rows = await self.store.get_many(collection, [row_key(one) for one in ids])
        listed = [read_row(rows.get(row_key(one))) for one in ids]
        return [row for row in listed if row is not None]


# Keys, and what stands under them.


def row_key(order_id: str) -> str:
    return f"order/{order_id}"


def customer_prefix(customer_id: str) -> str:
    """Of a fixed length, and without what would tell keys of two customers for one another."""
    return f"customer/{sha256(customer_id.encode()).hexdigest()}/"


def count_key(status: str) -> str:
    return f"count/{status}"


def micros(at: datetime) -> int:
    return int(at.timestamp()) * 1_000_000 + at.microsecond


def read_row(document: Document | None) -> OrderRow | None:
    return None if document is None else msgspec.convert(document, OrderRow)


def read_count(document: Document | None) -> int:
    return 0 if document is None else msgspec.convert(document["count"], int)
