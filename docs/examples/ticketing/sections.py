"""The seats of one section of one event: who holds which, and which are sold. Pure.

Rule 1: a seat is free, held or sold, and in one of them only: available = total - reserved - sold.
Rule 2: what comes twice is done once, and is answered as it was answered: a section remembers its
reservations, also those that it refused, each as long as its stream does.
Rule 3: seats that are freed before they were held are refused when the hold comes. So nobody has to
know whether it is still on its way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import assert_never
from uuid import NAMESPACE_OID, uuid5

from actors.persistence import (
    Aggregate,
    Beside,
    Decision,
    OutboxMessage,
    Refusal,
    Reply,
    event,
)
from actors.reducers import Environment
from actors.sagas import command
from docs.examples.ticketing.amounts import Tier, price_in, tier_at

TICKETS_MAX = 8
# Each is a message beside one append, and a full hall has thousands.
CALLED_OFF_AT_ONCE = 100
# By the outbox: a reservation is given back; and the hall is looked at once more.
CALLED_OFF, HALL = "called_off", "hall"

# Which kind of no it is: 400, 404, 409.
QUANTITY, UNKNOWN, TAKEN = "quantity", "unknown", "taken"


@dataclass(frozen=True)
class SetUp:
    """A section gets its seats; when the event begins says what they cost until then."""

    seats: tuple[str, ...]
    price_cents: int
    starts_at: datetime


@dataclass(frozen=True)
class StartSales:
    pass


@dataclass(frozen=True)
class StopSales:
    pass


@dataclass(frozen=True)
class MoveStart:
    starts_at: datetime


@dataclass(frozen=True)
class CallOffAll:
    """The event is called off: each reservation is told, a part of them at a time."""

    show: str
    section: str


@command("sections")
@dataclass(frozen=True)
class HoldSeats:
    reservation: str
    show: str
    section: str
    quantity: int
    seats: tuple[str, ...] = ()  # the ones that are wanted; none for any


@command("sections")
@dataclass(frozen=True)
class FreeSeats:
    reservation: str
    show: str
    section: str


@command("sections")
@dataclass(frozen=True)
class SellSeats:
    reservation: str
    show: str
    section: str


@event(name="Ticketing.SectionSetUp")
@dataclass(frozen=True)
class SectionSetUp:
    seats: tuple[str, ...]
    price_cents: int
    starts_at: datetime


@event(name="Ticketing.SectionSales")
@dataclass(frozen=True)
class SectionSales:
    are_open: bool


@event(name="Ticketing.SectionStartMoved")
@dataclass(frozen=True)
class SectionStartMoved:
    starts_at: datetime


@event(name="Ticketing.SeatsHeld")
@dataclass(frozen=True)
class SeatsHeld:
    """What each seat costs was fixed then, whenever it is paid."""

    reservation: str
    seats: tuple[str, ...]
    tier: Tier
    each_cents: int
    at: datetime

    @property
    def total_cents(self) -> int:
        return self.each_cents * len(self.seats)


@event(name="Ticketing.SeatsRefused")
@dataclass(frozen=True)
class SeatsRefused:
    reservation: str
    reason: str


@event(name="Ticketing.SeatsFreed")
@dataclass(frozen=True)
class SeatsFreed:
    """The reservation is over; it had no seats when it is freed before it came."""

    reservation: str
    seats: tuple[str, ...]


@event(name="Ticketing.SeatsSold")
@dataclass(frozen=True)
class SeatsSold:
    reservation: str
    seats: tuple[str, ...]


@event(name="Ticketing.SectionCalledOff")
@dataclass(frozen=True)
class SectionCalledOff:
    """These reservations are given back; there may be more, which are told of next."""

    show: str
    section: str
    reservations: tuple[str, ...]


Wanted = HoldSeats | FreeSeats | SellSeats | CallOffAll
Command = SetUp | StartSales | StopSales | MoveStart | Wanted
Moved = SeatsHeld | SeatsRefused | SeatsFreed | SeatsSold
Happened = SectionSetUp | SectionSales | SectionStartMoved | SectionCalledOff | Moved


@dataclass(frozen=True)
class Seating:
    """A section as its events have left it: all seats, the free ones in their order, the others."""

    seats: tuple[str, ...] = ()
    price_cents: int = 0
    starts_at: datetime | None = None
    is_on_sale: bool = False
    free: tuple[str, ...] = ()
    held: Mapping[str, SeatsHeld] = field(default_factory=dict)
    sold: Mapping[str, SeatsHeld] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    over: frozenset[str] = frozenset()
    called_off: frozenset[str] = frozenset()

    @property
    def total(self) -> int:
        return len(self.seats)

    @property
    def available(self) -> int:
        return len(self.free)

    @property
    def reserved(self) -> int:
        return sum(len(one.seats) for one in self.held.values())

    @property
    def sold_count(self) -> int:
        return sum(len(one.seats) for one in self.sold.values())


class Sections(Aggregate[Seating, Command, Happened]):
    category, state_type = "inventory", Seating

    def initial(self) -> Seating:
        return Seating()

    def decide(self, state: Seating, command: Command, env: Environment) -> Decision[Happened]:
        match command:
            case HoldSeats():
                return _hold(state, command, env.clock.now().astimezone(UTC))
            case FreeSeats(reservation):
                return _free(state, reservation)
            case SellSeats(reservation):
                return _sell(state, reservation)
            case SetUp(seats, price_cents, starts_at):
                return _set_up(state, SectionSetUp(seats, price_cents, starts_at))
            case _ if not state.seats:
                return Refusal(UNKNOWN, "There is no such section.")
            case StartSales() | StopSales():
                is_open = isinstance(command, StartSales)
                return [] if state.is_on_sale == is_open else [SectionSales(is_open)]
            case CallOffAll(show, section):
                left = to_call_off(state)[:CALLED_OFF_AT_ONCE]
                return [SectionCalledOff(show, section, left)] if left else []
            case MoveStart(starts_at):
                return [] if state.starts_at == starts_at else [SectionStartMoved(starts_at)]
        assert_never(command)

    def apply(self, state: Seating, event: Happened) -> Seating:
        match event:
            case SectionSetUp(seats, price_cents, starts_at):
                return Seating(seats, price_cents, starts_at, free=seats)
            case SectionSales(are_open):
                return replace(state, is_on_sale=are_open)
            case SectionStartMoved(starts_at):
                return replace(state, starts_at=starts_at)
            case SeatsHeld(reservation, seats):
                gone = frozenset(seats)
                free = tuple(seat for seat in state.free if seat not in gone)
                return replace(state, free=free, held={**state.held, reservation: event})
            case SeatsRefused(reservation, reason):
                return replace(state, refused={**state.refused, reservation: reason})
            case SeatsSold(reservation):
                sold = {**state.sold, reservation: state.held[reservation]}
                return replace(state, held=_without(state.held, reservation), sold=sold)
            case SectionCalledOff(_, _, reservations):
                return replace(state, called_off=state.called_off | frozenset(reservations))
            case SeatsFreed():
                return _freed(state, event)
        assert_never(event)

    def beside(
        self, before: Seating, events: Sequence[Happened], metadata: Mapping[str, str]
    ) -> Beside:
        told, after = list[OutboxMessage](), before
        for one in events:
            after = self.apply(after, one)
            if not isinstance(one, SectionCalledOff):
                continue
            told += [_message(CALLED_OFF, name, name, metadata) for name in one.reservations]
            if to_call_off(after):
                place = f"{one.show} {one.section} {len(after.called_off)}"
                told.append(_message(HALL, place, one.show, metadata))
        return Beside(told)


def _message(target: str, name: str, payload: str, headers: Mapping[str, str]) -> OutboxMessage:
    """One of this name there is once, in order with no other."""
    key = f"{target} {name}"
    return OutboxMessage(
        uuid5(NAMESPACE_OID, key), "command", target, key, payload.encode(), headers
    )


def to_call_off(state: Seating) -> tuple[str, ...]:
    """Call this for the reservations that have seats and were not told that there is no event."""
    return tuple(name for name in (*state.held, *state.sold) if name not in state.called_off)


def _freed(state: Seating, freed: SeatsFreed) -> Seating:
    free = frozenset((*state.free, *freed.seats))
    return replace(
        state,
        free=tuple(seat for seat in state.seats if seat in free),
        held=_without(state.held, freed.reservation),
        sold=_without(state.sold, freed.reservation),
        over=state.over | {freed.reservation},
    )


def _without(held: Mapping[str, SeatsHeld], reservation: str) -> Mapping[str, SeatsHeld]:
    return {name: one for name, one in held.items() if name != reservation}


def _set_up(state: Seating, wanted: SectionSetUp) -> Decision[SectionSetUp]:
    if not state.seats:
        return [wanted]
    is_same = (state.seats, state.price_cents) == (wanted.seats, wanted.price_cents)
    return [] if is_same else Refusal(TAKEN, "The section has other seats already.")


def quantity_refusal(quantity: int, seats: Sequence[str]) -> Refusal | None:
    """Call this before a reservation begins: what no section will ever hold."""
    if not 1 <= quantity <= TICKETS_MAX:
        return Refusal(
            QUANTITY, f"A reservation is for 1 to {TICKETS_MAX} tickets, not {quantity}."
        )
    if seats and (len(seats) != quantity or len(set(seats)) != quantity):
        return Refusal(QUANTITY, f"Name {quantity} different seats, or none.")
    return None


def _hold(state: Seating, command: HoldSeats, now: datetime) -> Decision[Moved]:
    name = command.reservation
    if found := state.held.get(name) or state.sold.get(name):
        return Reply(found)
    if name in state.over:
        return Refusal(TAKEN, "The reservation is over.")
    if name in state.refused:
        return Reply(SeatsRefused(name, state.refused[name]))
    if refused := quantity_refusal(command.quantity, command.seats):
        return refused
    if reason := why_not(state, command, now):
        return [SeatsRefused(name, reason)]
    assert state.starts_at is not None
    tier = tier_at(now, state.starts_at)
    wanted = frozenset(command.seats or state.free[: command.quantity])
    # In the order of the hall, however they were named.
    seats = tuple(seat for seat in state.free if seat in wanted)
    return [SeatsHeld(name, seats, tier, price_in(tier, state.price_cents), now)]


def why_not(state: Seating, command: HoldSeats, now: datetime) -> str | None:
    """Call this for why a section would not hold these seats now, or None."""
    if not state.is_on_sale or state.starts_at is None:
        return "There are no sales in this section."
    if now >= state.starts_at:
        return "The event has begun."
    if missing := set(command.seats) - set(state.free):
        return f"These seats are taken or unknown: {', '.join(sorted(missing))}."
    if command.quantity > state.available:
        return f"Sold out: there are {state.available} of {command.quantity} seats."
    return None


def _free(state: Seating, reservation: str) -> Decision[SeatsFreed]:
    if reservation in state.over:
        return []
    found = state.held.get(reservation) or state.sold.get(reservation)
    return [SeatsFreed(reservation, found.seats if found else ())]


def _sell(state: Seating, reservation: str) -> Decision[SeatsSold]:
    if reservation in state.sold:
        return []
    if reservation not in state.held:
        return Refusal(TAKEN, "The reservation holds no seats.")
    return [SeatsSold(reservation, state.held[reservation].seats)]
