"""Events found by words: title, what is said of them, venue. Those that come first stand first.

A read model of its own, for it may be on a search server while the lists are not.
"""

from __future__ import annotations

import msgspec

from actors.persistence import Document, Projection, ProjectionTx, StoredEvent
from actors.persistence.projections.searching import SearchFields
from docs.examples.ticketing.reading.listing import DRAFT, EventRow, changed
from docs.examples.ticketing.shows import ShowChanged, ShowMoved, ShowPlanned

NAME = "ticketing_event_search"
FIELDS = SearchFields(
    texts=("event.title", "event.description", "event.venue_name"),
    filters=("event.status", "is_listed"),
    # The greatest comes first: what begins soonest is the least before nothing.
    order="before",
)
# What clients call them; a draft is its owner's alone.
FILTERS = {"status": "event.status"}
LISTED_ONLY = {"is_listed": "true"}


class EventSearch(Projection):
    """Keeps what each event is found by."""

    name = NAME
    handles = (ShowPlanned, ShowChanged, ShowMoved)

    def reads(self, event: StoredEvent) -> list[str]:
        """Each event is of one show, whose document has its id."""
        return [_id(event)]

    async def apply(self, event: StoredEvent, tx: ProjectionTx) -> None:
        """Write what an event means for what its show is found by."""
        before = await tx.get(_id(event))
        known = None if before is None else event_of(before)
        after = changed(_id(event), known, self.types.decode(event))
        if after is not None:
            begins = int(after.start_time.timestamp())
            shown = {"is_listed": after.status != DRAFT, "before": -begins}
            tx.put(after.id, {"event": msgspec.to_builtins(after), **shown})


def event_of(document: Document) -> EventRow:
    """Call this for the row that a document has."""
    return msgspec.convert(document["event"], EventRow)


def _id(event: StoredEvent) -> str:
    return str(event.stream_id).removeprefix("event-")
