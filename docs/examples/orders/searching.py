"""Orders found by words: what somebody remembers of one, such as an item or a parcel's number.

A read model of its own, for it may be on a search server while the list is not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from actors.persistence import Projection, ProjectionTx, StoredEvent, live_collection
from actors.persistence.projections.searching import Found, Place, SearchFields
from docs.examples.orders.deciding import Cancelled, Placed, Shipped
from docs.examples.orders.listing import OrderRow, changed, micros, read_row
from web.app import Searching

NAME = "order_search"
FIELDS = SearchFields(
    texts=("row.id", "row.customer_id", "row.tracking", "row.cancellation_reason", "items"),
    filters=("row.status", "row.customer_id"),
    order="placed",
)
# What clients call them.
FILTERS = {"status": "row.status", "customer_id": "row.customer_id"}


class OrderSearch(Projection):
    """Keeps for each order its row, the names of its items, and when it was placed."""

    name = NAME
    handles = (Placed, Cancelled, Shipped)

    def reads(self, event: StoredEvent) -> list[str]:
        """Each event is of one order, whose document has its id."""
        return [event.stream_id]

    async def apply(self, event: StoredEvent, tx: ProjectionTx) -> None:
        """Write what an event means for what its order is found by."""
        happened = self.types.decode(event)
        assert isinstance(happened, Placed | Cancelled | Shipped)
        before = await tx.get(happened.order_id)
        row = changed(None if before is None else row_of(before), happened)
        if row is None:
            return
        items: object = [] if before is None else before["items"]
        if isinstance(happened, Placed):
            items = [item.name for item in happened.items]
        placed = micros(row.placed_at)
        tx.put(row.id, {"row": msgspec.to_builtins(row), "items": items, "placed": placed})


def row_of(document: Mapping[str, object]) -> OrderRow:
    """Call this for the row that a document has."""
    row = read_row(msgspec.convert(document["row"], dict[str, object]))
    assert row is not None
    return row


class OrdersByWords:
    """The question that the read model answers."""

    def __init__(self, searching: Searching) -> None:
        self.store, self._by_words = searching.projections, searching.by_words

    async def search(
        self, text: str, filters: Mapping[str, str], after: Place | None, limit: int
    ) -> Sequence[Found]:
        """Orders with all words of a text and these values, newest first."""
        collection = await live_collection(self.store, NAME)
        if collection is None:
            return []
        return await self._by_words.search(
            collection, text, filters=filters, after=after, limit=limit
        )
