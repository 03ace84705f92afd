"""What pages list: events by their start, and of each person what they run, reserve and hold.

Rows are written in the append of each event, so who comes back from a form finds what it did.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from actors.persistence import Document, Projection, ProjectionStore, ProjectionTx, StoredEvent
from actors.persistence import inline_collection as collection
from actors.sagas.words.log import SagaStarted
from docs.examples.ticketing.reservations import Reservation, Reserve
from docs.examples.ticketing.shows import Plan, ShowChanged, ShowMoved, ShowPlanned, ShowStatus
from docs.examples.ticketing.tickets import (
    TicketCheckedIn,
    TicketIssued,
    TicketPassedOn,
    TicketVoided,
)

# A page of each; there is no second one.
SHOWS_LISTED, RESERVATIONS_LISTED, TICKETS_LISTED = 100, 50, 100
# After the year 2286 keys would sort the other way.
_LAST_MS = 10**13


class ShowRow(msgspec.Struct, frozen=True):
    show: str
    title: str
    venue: str
    owner: str
    starts_at: datetime
    status: ShowStatus
    planned: str  # what its organiser's list is sorted by, newest first
    from_cents: int


class ReservationRow(msgspec.Struct, frozen=True):
    reservation: str
    show: str
    section: str
    quantity: int


class TicketRow(msgspec.Struct, frozen=True):
    ticket: str
    show: str
    section: str
    seat: str
    owner: str
    issued: str
    is_void: bool = False
    came_in: bool = False


class Shelf(Projection):
    name = "ticketing_shelf"
    inline = True
    handles = (
        ShowPlanned,
        ShowChanged,
        ShowMoved,
        SagaStarted,
        TicketIssued,
        TicketPassedOn,
        TicketVoided,
        TicketCheckedIn,
    )

    async def apply(self, event: StoredEvent, tx: ProjectionTx) -> None:
        """Write what an event means for the lists that it is in."""
        kind, _, name = event.stream_id.partition("-")
        if kind == "event":
            await _of_show(name, self.types.decode(event), tx)
        elif kind == "ticket":
            await _of_ticket(name, self.types.decode(event), tx)
        elif kind == Reservation.kind:
            happened = self.types.decode(event)
            assert isinstance(happened, SagaStarted)
            _of_reservation(name, happened, tx)


async def _of_show(name: str, happened: object, tx: ProjectionTx) -> None:
    if isinstance(happened, ShowPlanned):
        row = _planned(name, happened.plan, happened.at)
        tx.put(f"by/{row.owner}/{row.planned}", {"show": name})
    else:
        found = await tx.get(f"show/{name}")
        if found is None:
            return
        row = msgspec.convert(found, ShowRow)
        tx.delete(_in_programme(row))
        match happened:
            case ShowMoved(status):
                row = msgspec.structs.replace(row, status=status)
            case ShowChanged(title, _, starts_at):
                row = msgspec.structs.replace(row, title=title, starts_at=starts_at)
    tx.put(f"show/{name}", msgspec.to_builtins(row))
    if row.status in ("Published", "SalesOpen", "SalesClosed"):
        tx.put(_in_programme(row), {"show": name})


def _planned(name: str, plan: Plan, at: datetime) -> ShowRow:
    cents = min([one.price_cents for one in plan.sections] or [plan.price_cents])
    return ShowRow(
        name,
        plan.title,
        plan.venue_name,
        plan.owner,
        plan.starts_at,
        "Draft",
        f"{_newest_first(at)}/{name}",
        cents,
    )


def _in_programme(row: ShowRow) -> str:
    return f"programme/{row.starts_at.astimezone(UTC).isoformat()}/{row.show}"


def _newest_first(at: datetime) -> str:
    return f"{_LAST_MS - int(at.timestamp() * 1000):013d}"


def _of_reservation(name: str, started: SagaStarted, tx: ProjectionTx) -> None:
    asked: Reserve = msgspec.convert(started.data, Reserve, str_keys=True)
    row = ReservationRow(name, asked.show, asked.section, asked.quantity)
    place = f"reserved/{asked.customer}/{_newest_first(started.started_at)}/{name}"
    tx.put(place, msgspec.to_builtins(row))


async def _of_ticket(name: str, happened: object, tx: ProjectionTx) -> None:
    if isinstance(happened, TicketIssued):
        row = TicketRow(
            name,
            happened.show,
            happened.section,
            happened.seat,
            happened.owner,
            _newest_first(happened.at),
        )
    else:
        found = await tx.get(f"ticket/{name}")
        if found is None:
            return  # It was taken back before it was issued.
        row = msgspec.convert(found, TicketRow)
        tx.delete(_held(row))
        match happened:
            case TicketPassedOn(owner):
                row = msgspec.structs.replace(row, owner=owner)
            case TicketVoided():
                row = msgspec.structs.replace(row, is_void=True)
            case TicketCheckedIn():
                row = msgspec.structs.replace(row, came_in=True)
    tx.put(f"ticket/{name}", msgspec.to_builtins(row))
    tx.put(_held(row), {"ticket": name})


def _held(row: TicketRow) -> str:
    return f"held/{row.owner}/{row.issued}/{row.ticket}"


# The questions of pages.


async def programme(rows: ProjectionStore) -> Sequence[ShowRow]:
    """Call this for what is on, by its start."""
    return await _shows(rows, "programme/")


async def run_by(rows: ProjectionStore, owner: str) -> Sequence[ShowRow]:
    """Call this for the events of an organiser, the newest first."""
    return await _shows(rows, f"by/{owner}/")


async def shows_of(rows: ProjectionStore, names: Sequence[str]) -> dict[str, ShowRow]:
    """Call this for events by their ids; unknown ones are left out."""
    keys = [f"show/{name}" for name in dict.fromkeys(names)]
    found = await rows.get_many(collection(Shelf()), keys)
    return {key.removeprefix("show/"): msgspec.convert(row, ShowRow) for key, row in found.items()}


async def reserved_by(rows: ProjectionStore, customer: str) -> Sequence[ReservationRow]:
    """Call this for the reservations of a customer, the newest first."""
    prefix = f"reserved/{customer}/"
    found = await rows.query(collection(Shelf()), prefix=prefix, limit=RESERVATIONS_LISTED)
    return [msgspec.convert(row, ReservationRow) for _, row in found]


async def held_by(rows: ProjectionStore, owner: str) -> Sequence[TicketRow]:
    """Call this for the tickets that somebody has now, the newest first."""
    prefix = f"held/{owner}/"
    found = await rows.query(collection(Shelf()), prefix=prefix, limit=TICKETS_LISTED)
    documents = await _in_order(rows, [f"ticket/{row['ticket']}" for _, row in found])
    return [msgspec.convert(row, TicketRow) for row in documents]


async def _shows(rows: ProjectionStore, prefix: str) -> Sequence[ShowRow]:
    found = await rows.query(collection(Shelf()), prefix=prefix, limit=SHOWS_LISTED)
    documents = await _in_order(rows, [f"show/{row['show']}" for _, row in found])
    return [msgspec.convert(row, ShowRow) for row in documents]


async def _in_order(rows: ProjectionStore, keys: Sequence[str]) -> Sequence[Document]:
    found = await rows.get_many(collection(Shelf()), keys)
    return [found[key] for key in keys if key in found]
