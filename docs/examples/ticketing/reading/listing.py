"""The events there are: one row each, in lists by when they were planned."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from actors.persistence import Projection, ProjectionTx, StoredEvent
from docs.examples.ticketing.reading.rows import newest, person, put, row
from docs.examples.ticketing.shows import ShowChanged, ShowMoved, ShowPlanned, ShowStatus

NAME = "ticketing_events"
# A draft is its owner's alone.
LISTED = "listed"
DRAFT: ShowStatus = "Draft"
# Those that are to come, by their start.
PROGRAMME = "programme/"
ON = ("Published", "SalesOpen", "SalesClosed")


class EventRow(msgspec.Struct, frozen=True):
    """What the lists have of an event."""

    id: str
    title: str
    description: str
    start_time: datetime
    end_time: datetime
    venue_name: str
    status: ShowStatus
    created_at: datetime
    owner: str
    from_cents: int = 0


class Count(msgspec.Struct, frozen=True):
    count: int


class EventListing(Projection):
    """Keeps `events/ID`, the lists of all, of a status and of an owner, and how many each has.

    Beside them those that are to come, by when they begin.
    """

    name = NAME
    version = 2
    handles = (ShowPlanned, ShowChanged, ShowMoved)

    async def apply(self, event: StoredEvent, tx: ProjectionTx) -> None:
        """Write what an event means for the row of its show."""
        name = str(event.stream_id).removeprefix("event-")
        before = await row(tx, f"events/{name}", EventRow)
        after = changed(name, before, self.types.decode(event))
        if after is None:
            return
        put(tx, f"events/{name}", after)
        if before is not None and before.status in ON:
            tx.delete(_in_programme(before))
        if after.status in ON:
            tx.put(_in_programme(after), {"id": name})
        if before is None or before.status != after.status:
            await _move(tx, after, [] if before is None else _lists(before), _lists(after))


def changed(name: str, before: EventRow | None, happened: object) -> EventRow | None:
    """Call this for the row after an event; None where there is nothing to change."""
    match happened:
        case ShowPlanned(plan, at) if before is None:
            return EventRow(
                name,
                plan.title,
                plan.description,
                plan.starts_at,
                plan.ends_at,
                plan.venue_name,
                DRAFT,
                at,
                plan.owner,
                min([one.price_cents for one in plan.sections] or [plan.price_cents]),
            )
        case ShowChanged() if before is not None:
            return msgspec.structs.replace(
                before,
                title=happened.title,
                description=happened.description,
                start_time=happened.starts_at,
                end_time=happened.ends_at,
            )
        case ShowMoved(status) if before is not None:
            return msgspec.structs.replace(before, status=status)
    return None


def _in_programme(one: EventRow) -> str:
    return f"{PROGRAMME}{one.start_time.astimezone(UTC).isoformat()}/{one.id}"


def _lists(one: EventRow) -> list[str]:
    """The lists that an event is in."""
    all_of_them = [] if one.status == DRAFT else [LISTED]
    return [*all_of_them, f"status/{one.status}", f"owner/{person(one.owner)}"]


async def _move(tx: ProjectionTx, one: EventRow, before: list[str], after: list[str]) -> None:
    place = f"{newest(one.created_at)}/{one.id}"
    for name in before:
        if name not in after:
            tx.delete(f"in/{name}/{place}")
            await _add(tx, name, -1)
    for name in after:
        if name not in before:
            tx.put(f"in/{name}/{place}", {"id": one.id})
            await _add(tx, name, 1)


async def _add(tx: ProjectionTx, name: str, number: int) -> None:
    known = await row(tx, f"count/{name}", Count)
    put(tx, f"count/{name}", Count((known.count if known else 0) + number))
