"""What clients send and are told: amounts in whole units with 2 decimals, times with their zone.

Rule: what is told has the fields below and no other; statuses that carry a reason are objects.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal

import msgspec

from actors.persistence import Refusal
from docs.examples.ticketing.amounts import cents_of
from docs.examples.ticketing.payments import Payment
from docs.examples.ticketing.shows import Show
from web.api import validation
from web.server import FieldProblem

Moment = Annotated[datetime, msgspec.Meta(tz=True)]
Text = Annotated[str, msgspec.Meta(max_length=10_000)]
Name = Annotated[str, msgspec.Meta(max_length=200)]
# More than any section has: which quantity is none of ours is told with 400, and not as a shape.
Number = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31)]
Status = str | dict[str, dict[str, object]]


class SectionBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Its seats by name, or else numbered; without a price it costs what the event does."""

    name: Name
    capacity: Number
    price: Decimal | None = None
    seats: Annotated[list[Name], msgspec.Meta(max_length=10_000)] | None = None


class EventBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    title: Text
    description: Text
    start_time: Moment
    end_time: Moment
    venue_name: Text
    venue_address: Text
    capacity: Number
    price: Decimal
    sections: Annotated[list[SectionBody], msgspec.Meta(max_length=100)] = []
    open_sales: bool = True


class ChangeBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    title: Text | None = None
    description: Text | None = None
    start_time: Moment | None = None
    end_time: Moment | None = None


class ReserveBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    event_id: Name
    section: Name
    quantity: Number
    specific_seats: Annotated[list[Name], msgspec.Meta(max_length=100)] = []


class ReasonBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    reason: Annotated[str, msgspec.Meta(max_length=500)] = "by its customer"


class CreditCard(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="credit_card", tag_field="type"
):
    token: Name
    last_four: Annotated[str, msgspec.Meta(pattern=r"^[0-9]{4}\Z")]


class PayPal(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="pay_pal", tag_field="type"
):
    email: Name


class ApplePay(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="apple_pay", tag_field="type"
):
    token: Name


class PayBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`billing_info` is taken, and neither kept nor passed on: the gateway has what it needs."""

    reservation_id: Name
    payment_method: CreditCard | PayPal | ApplePay
    billing_info: dict[str, str] | None = None


class RefundBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    reason: Annotated[str, msgspec.Meta(max_length=2000)] = ""
    amount: Decimal | None = None


class CheckInBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    code: Annotated[str, msgspec.Meta(max_length=1000)]
    gate: Name


class PassOnBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whom a ticket is for from now on, by the address they sign in with."""

    email: Annotated[str, msgspec.Meta(max_length=254)]


class EventShown(msgspec.Struct, frozen=True):
    id: str
    title: str
    description: str
    start_time: datetime
    end_time: datetime
    venue_name: str
    status: str
    created_at: datetime


class SectionShown(msgspec.Struct, frozen=True):
    section: str
    total_capacity: int
    reserved: int
    sold: int
    available: int


class ReservationShown(msgspec.Struct, frozen=True):
    id: str
    event_id: str
    customer_id: str
    section: str
    quantity: int
    status: Status
    total_amount: float | None
    expires_at: datetime
    created_at: datetime
    completed_at: datetime | None


class PaymentShown(msgspec.Struct, frozen=True):
    id: str
    reservation_id: str
    customer_id: str
    amount: float
    payment_method: str
    status: Status
    transaction_id: str | None
    created_at: datetime
    processed_at: datetime | None


class TicketShown(msgspec.Struct, frozen=True):
    id: str
    reservation_id: str
    event_id: str
    section: str
    seat: str
    code: str
    status: Literal["Valid", "Void", "Used"]
    checked_in_at: datetime | None
    gate: str | None


def cents(amount: Decimal, field: str) -> int:
    """Call this for an amount that was sent; raises the answer 422."""
    found = cents_of(amount)
    if isinstance(found, Refusal):
        raise validation(f"{field}: {found.message}", [FieldProblem(field, found.message)])
    return found


def units(number: int) -> float:
    """Call this for cents as they are told: a JSON number with at most 2 decimals."""
    # Up to CENTS_MAX each is the nearest double of its own, and is written as it was meant.
    return number / 100


def method_of(body: CreditCard | PayPal | ApplePay) -> tuple[str, str]:
    """Call this for what the gateway is given, and how the method may be shown."""
    match body:
        case CreditCard(token, last_four):
            return token, f"Credit Card (****{last_four})"
        case PayPal(email):
            return f"paypal {email}", "PayPal"
        case ApplePay(token):
            return token, "Apple Pay"


def event_shown(event_id: str, show: Show) -> EventShown:
    """Call this for an event that has a plan."""
    plan = show.plan
    assert plan is not None
    assert show.created_at is not None
    return EventShown(
        event_id,
        plan.title,
        plan.description,
        plan.starts_at,
        plan.ends_at,
        plan.venue_name,
        show.status,
        show.created_at,
    )


def reservation_status(word: str, reason: str) -> Status:
    """Call this for how a reservation stands; a no of the bank or the hall says why."""
    return {word: {"reason": reason}} if word in ("PaymentFailed", "Failed") else word


def payment_status(payment: Payment) -> Status:
    """Call this for how a payment stands."""
    match payment.status:
        case "Failed":
            reasons = [one.reason for one in payment.attempts.values() if one.status == "Failed"]
            return {"Failed": {"reason": reasons[-1] if reasons else "it was not paid in time"}}
        case "Refunded":
            return {"Refunded": {"amount": payment.money_back}}
    return payment.status


def payment_shown(payment_id: str, payment: Payment) -> PaymentShown:
    """Call this for a payment that was opened."""
    opened = payment.opened
    assert opened is not None
    last = payment.attempts[payment.kept] if payment.kept else None
    if last is None and payment.attempts:
        last = list(payment.attempts.values())[-1]
    return PaymentShown(
        payment_id,
        opened.reservation,
        opened.customer,
        units(opened.cents),
        "" if last is None else last.method,
        payment_status(payment),
        last.transaction or None if last is not None else None,
        opened.at,
        None if last is None else last.captured_at,
    )
