"""What one customer has of one event: few reservations at a time, and few seats in all. Pure.

So nobody holds a hall without paying. All of a customer's reservations of an event are decided in
one stream, whatever sections they are in and however many come at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import assert_never

from actors.persistence import Aggregate, Decision, Refusal, Reply, event
from actors.reducers import Environment
from actors.sagas import command

PENDING_MAX = 2
SEATS_MAX = 8


@command("buyers")
@dataclass(frozen=True)
class ClaimSeats:
    reservation: str
    show: str
    customer: str
    quantity: int


@command("buyers")
@dataclass(frozen=True)
class ReturnClaim:
    reservation: str
    show: str
    customer: str


@command("buyers")
@dataclass(frozen=True)
class SettleClaim:
    """It was bought: it is pending no more, and its seats still count."""

    reservation: str
    show: str
    customer: str


@event(name="Ticketing.ClaimMade")
@dataclass(frozen=True)
class ClaimMade:
    reservation: str
    quantity: int


@event(name="Ticketing.ClaimRefused")
@dataclass(frozen=True)
class ClaimRefused:
    reservation: str
    reason: str


@event(name="Ticketing.ClaimReturned")
@dataclass(frozen=True)
class ClaimReturned:
    reservation: str


@event(name="Ticketing.ClaimSettled")
@dataclass(frozen=True)
class ClaimSettled:
    reservation: str


Command = ClaimSeats | ReturnClaim | SettleClaim
Happened = ClaimMade | ClaimRefused | ClaimReturned | ClaimSettled


@dataclass(frozen=True)
class Buyer:
    """Seats by reservation: those that wait for money, and those that were bought."""

    pending: Mapping[str, int] = field(default_factory=dict)
    bought: Mapping[str, int] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    over: frozenset[str] = frozenset()

    @property
    def seats(self) -> int:
        return sum(self.pending.values()) + sum(self.bought.values())


class Buyers(Aggregate[Buyer, Command, Happened]):
    category, state_type = "buyer", Buyer

    def initial(self) -> Buyer:
        return Buyer()

    def decide(self, state: Buyer, command: Command, env: Environment) -> Decision[Happened]:
        name = command.reservation
        match command:
            case ClaimSeats() if name in state.pending or name in state.bought:
                return []
            case ClaimSeats() if name in state.refused:
                return Reply(ClaimRefused(name, state.refused[name]))
            case ClaimSeats() | SettleClaim() if name in state.over:
                return Refusal("over", "The reservation is over.")
            case ClaimSeats(quantity=quantity):
                reason = limit_reached(state, quantity)
                return [ClaimMade(name, quantity) if reason is None else ClaimRefused(name, reason)]
            case SettleClaim() if name in state.bought:
                return []
            case SettleClaim() if name not in state.pending:
                return Refusal("unknown", "The customer has no such reservation.")
            case SettleClaim():
                return [ClaimSettled(name)]
            case ReturnClaim():
                return [] if name in state.over else [ClaimReturned(name)]
        assert_never(command)

    def apply(self, state: Buyer, event: Happened) -> Buyer:
        match event:
            case ClaimMade(name, quantity):
                return replace(state, pending={**state.pending, name: quantity})
            case ClaimRefused(name, reason):
                return replace(state, refused={**state.refused, name: reason})
            case ClaimSettled(name):
                bought = {**state.bought, name: state.pending[name]}
                return replace(state, pending=_without(state.pending, name), bought=bought)
            case ClaimReturned(name):
                return replace(
                    state,
                    pending=_without(state.pending, name),
                    bought=_without(state.bought, name),
                    over=state.over | {name},
                )
        assert_never(event)


def limit_reached(state: Buyer, quantity: int) -> str | None:
    """Call this for the limit that so many seats more would break, in words, or None."""
    if len(state.pending) >= PENDING_MAX:
        return f"A customer has at most {PENDING_MAX} pending reservations of an event."
    if state.seats + quantity > SEATS_MAX:
        return f"A customer has at most {SEATS_MAX} seats of an event; {state.seats} are taken."
    return None


def _without(claims: Mapping[str, int], name: str) -> Mapping[str, int]:
    return {one: count for one, count in claims.items() if one != name}
