"""A reservation as a saga: seats are held while somebody pays, then sold, or all is given back.

Rule: whether there are tickets is the saga's word, whether there is money the payment's. The saga
asks the payment once more before it sells (`confirm`), and closes it before it frees seats. So a
payment that races the expiry ends in tickets, or in money back and free seats.

Each wait has its end in the log: a step that nobody answers, the five minutes, the whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from actors.sagas import Facts, Saga, SagaState, Status, command, step, wait
from docs.examples.ticketing.amounts import Tier
from docs.examples.ticketing.buyers import ClaimSeats, ReturnClaim, SettleClaim
from docs.examples.ticketing.payments import ClosePayment, ConfirmPayment, OpenPayment
from docs.examples.ticketing.sections import FreeSeats, HoldSeats, SellSeats

# Long enough to find a card; others wait for these seats.
EXPIRY = timedelta(minutes=5)
# No step has a name like it: what a reservation was cancelled for begins so.
CANCELLED = "cancelled: "


@dataclass(frozen=True)
class Reserve:
    """Who wants which seats; `seats` are the ones that are wanted, none for any."""

    reservation: str
    show: str
    section: str
    customer: str
    quantity: int
    seats: tuple[str, ...]
    expires_at: datetime


@dataclass(frozen=True)
class Held:
    """What a section gave: these seats, at this price."""

    given: tuple[str, ...]
    cents: int
    tier: Tier


@dataclass(frozen=True)
class PaymentSettled:
    """There is money, or there will be none: the payment knows which."""

    payment: str


@command("tickets")
@dataclass(frozen=True)
class IssueTickets:
    reservation: str
    show: str
    section: str
    customer: str
    given: tuple[str, ...]


@command("tickets")
@dataclass(frozen=True)
class VoidTickets:
    reservation: str
    given: tuple[str, ...]


def close(facts: Facts[Reserve]) -> ClosePayment:
    return ClosePayment(facts.data.reservation, facts.reason)


class Reservation(Saga[Reserve]):
    claim = step(ClaimSeats, undo=ReturnClaim)
    hold = step(HoldSeats, undo=FreeSeats, result=Held)
    bill = step(OpenPayment, undo=close)
    paid = wait(PaymentSettled, timeout=EXPIRY.total_seconds())
    confirm = step(ConfirmPayment)
    # Seats that were sold are freed as held ones are, and a settled claim is returned.
    sell = step(SellSeats)
    settle = step(SettleClaim)
    issue = step(IssueTickets, undo=VoidTickets)


# Behind which step a reservation has come how far, as a customer is told it.
BEHIND = {"confirm": "PaymentCompleted", "bill": "PaymentPending", "hold": "SeatsReserved"}


def status_of(state: SagaState) -> str:
    """Call this for where a reservation stands, as a customer is told it."""
    if state.phase is Status.COMPLETED:
        return "Completed"
    if state.phase is Status.RUNNING:
        done = (name for name in BEHIND if state.step(name).phase == "done")
        return next((BEHIND[name] for name in done), "Initiated")
    return word_of(state.reason, is_over=state.phase is Status.FAILED)


def word_of(reason: str, *, is_over: bool) -> str:
    """Call this for where one stands that is taken back, or was, for a reason."""
    if reason.startswith(CANCELLED):
        return "Cancelled"
    match reason.partition(": ")[0]:
        case "claim" | "hold":
            return "Failed"
        case "confirm" if not is_over:
            return "PaymentFailed"
        case "confirm" | "sell" | "settle" | "issue":
            return "Compensated"
    return "Expired"


def ticket_ids(reservation: str, seats: tuple[str, ...]) -> list[str]:
    """Call this for the tickets of a reservation, one a seat; the same ones each time."""
    return [f"{reservation}-{number}" for number in range(1, len(seats) + 1)]
