"""A sale as its decisions tell it: two seats, three buyers, one expiry, two gates. Prints events.

No actor and no store: each log is a list, and time goes on when the story says so.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from typing import Generic, TypeVar
from uuid import UUID, uuid4

from actors.persistence import Aggregate, Refusal, Reply
from actors.reducers import Environment
from docs.examples.ticketing.amounts import amount_of
from docs.examples.ticketing.buyers import Buyers, ClaimSeats, ReturnClaim, SettleClaim
from docs.examples.ticketing.codes import KeyRing
from docs.examples.ticketing.payments import (
    ClosePayment,
    ConfirmPayment,
    NoteCaptured,
    NoteDeclined,
    OpenPayment,
    Payments,
    TryToPay,
)
from docs.examples.ticketing.sections import (
    FreeSeats,
    HoldSeats,
    SeatsHeld,
    Sections,
    SellSeats,
    SetUp,
    StartSales,
)
from docs.examples.ticketing.shows import OpenSales, Plan, Publish, Shows, sections_of
from docs.examples.ticketing.tickets import CheckIn, Issue, Ticket, Tickets
from docs.examples.ticketing.tickets import Command as TicketCommand
from docs.examples.ticketing.tickets import Happened as TicketHappened

S = TypeVar("S")
C = TypeVar("C")
E = TypeVar("E")

EXPIRY = timedelta(minutes=5)
CARD = "Credit Card (****4242)"


class Clock:
    """Goes on when it is told to."""

    def __init__(self) -> None:
        self.at = datetime(2030, 1, 1, 19, tzinfo=UTC)

    def now(self) -> datetime:
        return self.at


class Ids:
    def new_id(self) -> UUID:
        return uuid4()


class Log(Generic[S, C, E]):
    """The log of one stream, as a list: decides on it, and prints what came of it."""

    def __init__(self, name: str, aggregate: Aggregate[S, C, E], env: Environment) -> None:
        self.name, self.aggregate, self.env = name, aggregate, env
        self.state, self.events = aggregate.initial(), list[E]()

    def tell(self, command: C) -> E | None:
        """Call this to carry out a command; gives the last event that came of it."""
        found = self.aggregate.decide(self.state, command, self.env)
        if isinstance(found, Refusal):
            print(f"{self.name:>14}: no: {found.message}")
            return None
        if isinstance(found, Reply):
            print(f"{self.name:>14}: as before")
            return None
        for one in found:
            self.state = self.aggregate.apply(self.state, one)
            self.events.append(one)
            print(f"{self.name:>14}: {type(one).__name__}")
        return found[-1] if found else None


def said(text: str) -> None:
    print(f"\n{text}")


def main() -> None:
    clock = Clock()
    env = Environment(clock, Ids())
    starts_at = clock.now() + timedelta(days=40)
    plan = Plan("Jazz", "", starts_at, starts_at + timedelta(hours=2), "Hall", "", 2, 5000, "owner")
    said("An event with two seats is planned, and its sales open.")
    show = Log("event", Shows(), env)
    for told in (plan, Publish("owner"), OpenSales("owner")):
        show.tell(told)
    (part,) = sections_of(plan)
    hall = Log("inventory", Sections(), env)
    hall.tell(SetUp(part.seats, part.price_cents, starts_at))
    hall.tell(StartSales())

    said("Ann holds both seats, at the price of the early. Bob finds none.")
    ann = Log("buyer ann", Buyers(), env)
    ann.tell(ClaimSeats("r1", "jazz", "ann", 2))
    held = hall.tell(HoldSeats("r1", "jazz", part.name, 2))
    assert isinstance(held, SeatsHeld)
    print(f"{'':>16}{amount_of(held.total_cents)}: {', '.join(held.seats)}, {held.tier}")
    hall.tell(HoldSeats("r2", "jazz", part.name, 1))

    said("Her card is declined, she tries another, and the reservation expires meanwhile.")
    payment = Log("payment r1", Payments(), env)
    payment.tell(OpenPayment("r1", "ann", held.total_cents, clock.now() + EXPIRY))
    payment.tell(TryToPay("first", CARD))
    payment.tell(NoteDeclined("first", "too little money"))
    payment.tell(TryToPay("second", CARD))
    clock.at += EXPIRY
    payment.tell(ClosePayment("r1", "expired"))
    hall.tell(FreeSeats("r1", "jazz", part.name))
    ann.tell(ReturnClaim("r1", "jazz", "ann"))

    said("Then the bank says that it was paid: the money goes back.")
    payment.tell(NoteCaptured("second", "bank-1"))
    told_money(payment.state.money_in, payment.state.money_kept, payment.state.money_back)

    said("Cem is faster: he holds a seat, pays, and has a ticket.")
    cem = Log("buyer cem", Buyers(), env)
    cem.tell(ClaimSeats("r3", "jazz", "cem", 1))
    held = hall.tell(HoldSeats("r3", "jazz", part.name, 1))
    assert isinstance(held, SeatsHeld)
    payment = Log("payment r3", Payments(), env)
    payment.tell(OpenPayment("r3", "cem", held.total_cents, clock.now() + EXPIRY))
    payment.tell(TryToPay("first", CARD))
    payment.tell(NoteCaptured("first", "bank-2"))
    payment.tell(ConfirmPayment("r3"))
    hall.tell(SellSeats("r3", "jazz", part.name))
    cem.tell(SettleClaim("r3", "jazz", "cem"))
    told_money(payment.state.money_in, payment.state.money_kept, payment.state.money_back)
    ticket = Log("ticket 1", Tickets(), env)
    ticket.tell(Issue("1", "r3", "jazz", part.name, held.seats[0], "cem"))
    at_gates(ticket, clock, starts_at)
    seats = hall.state
    print(f"\n{seats.available} free, {seats.reserved} held, {seats.sold_count} sold")


def at_gates(
    ticket: Log[Ticket, TicketCommand, TicketHappened], clock: Clock, starts_at: datetime
) -> None:
    said("His code is good with a new key too, and lets one in.")
    ring = KeyRing({"k1": secrets.token_bytes(32)}, "k1")
    claims = ticket.state.claims
    assert claims is not None
    code = ring.code(claims)
    print(f"{'':>16}{code}")
    clock.at = starts_at - timedelta(minutes=28)
    read = ring.rotated("k2", secrets.token_bytes(32)).read(code)
    assert read == claims
    for gate in ("B", "C"):
        ticket.tell(CheckIn(read, gate))


def told_money(came: int, kept: int, back: int) -> None:
    print(f"{'':>16}in {amount_of(came)}, kept {amount_of(kept)}, back {amount_of(back)}")


if __name__ == "__main__":
    main()
