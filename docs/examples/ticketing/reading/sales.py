"""Reservations, payments and tickets, each a row, and what of them was sold to whom, in cents.

Revenue is what pays for completed reservations and was not given back. A ticket counts as sold
until all of its reservation's money went back.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from actors.persistence import Projection, ProjectionTx, StoredEvent
from actors.sagas import (
    CompensationStarted,
    SagaCompleted,
    SagaFailed,
    SagaStarted,
    StepSucceeded,
)
from docs.examples.ticketing.payments import (
    PaymentCaptured,
    PaymentClosed,
    PaymentDeclined,
    PaymentOpened,
    PaymentTried,
    RefundDecided,
)
from docs.examples.ticketing.reading.ledger import Sale, count_cancelled, count_sold
from docs.examples.ticketing.reading.rows import natural, newest, person, put, row
from docs.examples.ticketing.reservations import BEHIND, Held, Reservation, Reserve, word_of
from docs.examples.ticketing.tickets import (
    TicketCheckedIn,
    TicketIssued,
    TicketPassedOn,
    TicketVoided,
)

NAME = "ticketing_sales"
_OF_SAGA = (SagaStarted, StepSucceeded, CompensationStarted, SagaCompleted, SagaFailed)
_OF_PAYMENT = (
    PaymentOpened,
    PaymentTried,
    PaymentCaptured,
    PaymentDeclined,
    RefundDecided,
    PaymentClosed,
)
_OF_TICKET = (TicketIssued, TicketPassedOn, TicketVoided, TicketCheckedIn)


class ReservationRow(msgspec.Struct, frozen=True):
    """`kept` is what pays for it, `back` what of that was given back; in cents, as all of it."""

    id: str
    event_id: str
    customer_id: str
    section: str
    quantity: int
    status: str
    expires_at: datetime
    created_at: datetime
    reason: str = ""
    seats: tuple[str, ...] = ()
    cents: int | None = None
    completed_at: datetime | None = None
    correlation_id: str = ""


class PaymentRow(msgspec.Struct, frozen=True):
    """`kept` is the attempt whose money pays for the tickets, `back` what of it was given back."""

    id: str
    customer_id: str
    cents: int
    created_at: datetime
    method: str = ""
    transaction: str = ""
    kept: str = ""
    back: int = 0
    refused: str = ""
    is_closed: bool = False
    money_in: int = 0
    processed_at: datetime | None = None
    correlation_id: str = ""


class TicketRow(msgspec.Struct, frozen=True):
    id: str
    reservation_id: str
    event_id: str
    section: str
    seat: str
    owner: str
    is_void: bool = False
    came_in: bool = False
    # Among those of its owner: the newest order first, and its seats as they are in the hall.
    place: str = ""
    correlation_id: str = ""


class Sales(Projection):
    """Keeps `reservations/ID`, `payments/ID`, `tickets/ID`, lists of each, and the ledger.

    Each row has the correlation id of what changed it last.
    """

    name = NAME
    version = 2
    handles = (*_OF_SAGA, *_OF_PAYMENT, *_OF_TICKET)

    def reads(self, event: StoredEvent) -> Sequence[str]:
        """The rows of one reservation."""
        category, _, name = str(event.stream_id).partition("-")
        if category == "ticket":
            return [f"tickets/{name}", f"reservations/{name.rpartition('-')[0]}"]
        return [f"reservations/{name}", f"payments/{name}"]

    async def apply(self, event: StoredEvent, tx: ProjectionTx) -> None:
        """Write what an event means for its reservation, its payment or its ticket."""
        category, _, name = str(event.stream_id).partition("-")
        happened = self.types.decode(event)
        if category == Reservation.kind:
            await _of_reservation(tx, name, happened, event)
        elif category == "payment":
            await _of_payment(tx, name, happened, _cause(event))
        elif category == "ticket":
            await _of_ticket(tx, name, happened, _cause(event))


def _cause(event: StoredEvent) -> str:
    return event.metadata.get("correlation_id", "")


async def _of_reservation(
    tx: ProjectionTx, name: str, happened: object, event: StoredEvent
) -> None:
    key = f"reservations/{name}"
    before = await row(tx, key, ReservationRow)
    if isinstance(happened, SagaStarted):
        asked: Reserve = msgspec.convert(happened.data, Reserve, str_keys=True)
        made = ReservationRow(
            name,
            asked.show,
            asked.customer,
            asked.section,
            asked.quantity,
            "Initiated",
            asked.expires_at,
            happened.started_at,
            correlation_id=_cause(event),
        )
        put(tx, key, made)
        listed = f"reservations_of/{person(asked.customer)}/{newest(happened.started_at)}/{name}"
        tx.put(listed, {"id": name})
        return
    if before is None:
        return
    after = _moved(before, happened, event.recorded_at)
    put(tx, key, msgspec.structs.replace(after, correlation_id=_cause(event)))
    if isinstance(happened, SagaCompleted):
        payment = await row(tx, f"payments/{name}", PaymentRow)
        if payment is not None and payment.kept:
            await count_sold(tx, _sale(after), payment.cents - payment.back, len(after.seats))
    if after.status == "Cancelled" and before.status != "Cancelled":
        await count_cancelled(tx, after.event_id)


def _moved(before: ReservationRow, happened: object, at: datetime) -> ReservationRow:
    replace = msgspec.structs.replace
    match happened:
        case StepSucceeded("hold", result):
            held: Held = msgspec.convert(result, Held, str_keys=True)
            return replace(before, status=BEHIND["hold"], seats=held.given, cents=held.cents)
        case StepSucceeded(step) if step in BEHIND and before.status in ("Initiated", *_WAY):
            return replace(before, status=BEHIND[step])
        case CompensationStarted(reason):
            return replace(before, status=word_of(reason, is_over=False), reason=reason)
        case SagaFailed(reason):
            return replace(before, status=word_of(reason, is_over=True), reason=reason)
        case SagaCompleted():
            return replace(before, status="Completed", completed_at=at)
    return before


_WAY = tuple(BEHIND.values())


async def _of_payment(tx: ProjectionTx, name: str, happened: object, cause: str) -> None:
    key = f"payments/{name}"
    if isinstance(happened, PaymentOpened):
        opened = PaymentRow(name, happened.customer, happened.cents, happened.at)
        put(tx, key, msgspec.structs.replace(opened, correlation_id=cause))
        listed = f"payments_of/{person(happened.customer)}/{newest(happened.at)}/{name}"
        tx.put(listed, {"id": name})
        return
    before = await row(tx, key, PaymentRow)
    if before is None:
        return
    after = _paid(before, happened)
    put(tx, key, msgspec.structs.replace(after, correlation_id=cause))
    if not isinstance(happened, RefundDecided) or after.back == before.back:
        return
    reservation = await row(tx, f"reservations/{name}", ReservationRow)
    if reservation is None or reservation.status != "Completed":
        return
    is_all = after.back == after.cents
    gone = len(reservation.seats) if is_all else 0
    await count_sold(tx, _sale(reservation), before.back - after.back, -gone)
    if is_all:
        put(tx, f"reservations/{name}", msgspec.structs.replace(reservation, status="Cancelled"))
        await count_cancelled(tx, reservation.event_id)


def _paid(before: PaymentRow, happened: object) -> PaymentRow:
    replace = msgspec.structs.replace
    match happened:
        case PaymentTried(_, method):
            return before if before.kept else replace(before, method=method)
        case PaymentDeclined(_, reason):
            return replace(before, refused=reason)
        case PaymentCaptured(attempt, transaction, cents, at):
            got = replace(before, money_in=before.money_in + cents)
            if before.kept or before.is_closed:
                return got
            return replace(got, kept=attempt, transaction=transaction, processed_at=at)
        case RefundDecided(_, attempt, _, cents) if attempt == before.kept:
            return replace(before, back=before.back + cents)
        case PaymentClosed():
            return replace(before, is_closed=True)
    return before


async def _of_ticket(tx: ProjectionTx, name: str, happened: object, cause: str) -> None:
    key = f"tickets/{name}"
    before = await row(tx, key, TicketRow)
    match happened:
        case TicketIssued():
            after = TicketRow(
                name,
                happened.reservation,
                happened.show,
                happened.section,
                happened.seat,
                happened.owner,
                place=await _place(tx, happened),
            )
        case TicketPassedOn(owner) if before is not None:
            tx.delete(_held(before))
            after = msgspec.structs.replace(before, owner=owner)
        case TicketVoided() if before is not None:
            after = msgspec.structs.replace(before, is_void=True)
        case TicketCheckedIn() if before is not None:
            after = msgspec.structs.replace(before, came_in=True)
        case _:
            return
    put(tx, key, msgspec.structs.replace(after, correlation_id=cause))
    tx.put(_held(after), {"id": name})


async def _place(tx: ProjectionTx, issued: TicketIssued) -> str:
    reservation = await row(tx, f"reservations/{issued.reservation}", ReservationRow)
    at = issued.at if reservation is None else reservation.created_at
    seat = natural(f"{issued.section}/{issued.seat}")
    return f"{newest(at)}/{issued.reservation}/{seat}"


def _held(one: TicketRow) -> str:
    return f"tickets_of/{person(one.owner)}/{one.place}/{one.id}"


def _sale(one: ReservationRow) -> Sale:
    return Sale(one.id, one.event_id, one.section, one.customer_id, one.completed_at)
