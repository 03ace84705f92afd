"""One ticket: whose it is, whether it is good, and when it came in. Pure.

Each owner has a code of their own: one that was passed on lets nobody in. Of two gates that look at
the same ticket at once one lets somebody in, and the other is told when and where that was. Whoever
becomes its owner is sent it: the word leaves with the append.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import assert_never
from uuid import NAMESPACE_OID, uuid5

import msgspec

from actors.persistence import Aggregate, Beside, Decision, OutboxMessage, Refusal, event
from actors.reducers import Environment
from docs.examples.ticketing.codes import Claims

GATE_CHARS_MAX = 50
# By the outbox: a ticket has another owner, who is sent it.
TO_OWNER = "to_owner"

# Which kind of no it is: 404, 409, 422.
UNKNOWN, OVER, USED, INVALID = "unknown", "over", "used", "invalid"


@dataclass(frozen=True)
class Issue:
    ticket: str
    reservation: str
    show: str
    section: str
    seat: str
    owner: str


@dataclass(frozen=True)
class PassOn:
    by: str
    to: str


@dataclass(frozen=True)
class Void:
    reason: str


@dataclass(frozen=True)
class CheckIn:
    """With what the code says, which was seen to be signed by us."""

    claims: Claims
    gate: str


@event(name="Ticketing.TicketIssued")
@dataclass(frozen=True)
class TicketIssued:
    ticket: str
    reservation: str
    show: str
    section: str
    seat: str
    owner: str
    at: datetime


@event(name="Ticketing.TicketPassedOn")
@dataclass(frozen=True)
class TicketPassedOn:
    owner: str
    issue: int
    at: datetime


@event(name="Ticketing.TicketVoided")
@dataclass(frozen=True)
class TicketVoided:
    reason: str
    at: datetime


@event(name="Ticketing.TicketCheckedIn")
@dataclass(frozen=True)
class TicketCheckedIn:
    gate: str
    at: datetime


@dataclass(frozen=True)
class Handover:
    """Which ticket, and the how manieth of its owners is sent it."""

    ticket: str
    issue: int


Command = Issue | PassOn | Void | CheckIn
Happened = TicketIssued | TicketPassedOn | TicketVoided | TicketCheckedIn


@dataclass(frozen=True)
class Ticket:
    """A ticket as its events have left it; `issue` is 0 before there is one."""

    issued: TicketIssued | None = None
    owner: str = ""
    issue: int = 0
    is_void: bool = False
    came_in: TicketCheckedIn | None = None

    @property
    def claims(self) -> Claims | None:
        """What the code of its owner says."""
        if self.issued is None:
            return None
        return Claims(self.issued.ticket, self.issue, self.issued.show, self.issued.seat)


class Tickets(Aggregate[Ticket, Command, Happened]):
    category, state_type = "ticket", Ticket

    def initial(self) -> Ticket:
        return Ticket()

    def decide(self, state: Ticket, command: Command, env: Environment) -> Decision[Happened]:
        now = env.clock.now().astimezone(UTC)
        match command:
            case Void() if state.is_void:
                return []
            case Void(reason):
                # Also before it is issued: then it never will be.
                return [TicketVoided(reason, now)]
            case Issue() if state.is_void:
                return Refusal(OVER, "The ticket was taken back.")
            case Issue():
                return [] if state.issued else [_issued(command, now)]
            case _ if state.issued is None:
                return Refusal(UNKNOWN, "There is no such ticket.")
            case PassOn():
                return _pass_on(state, command, now)
            case CheckIn():
                return _check_in(state, command, now)
        assert_never(command)

    def apply(self, state: Ticket, event: Happened) -> Ticket:
        match event:
            case TicketIssued():
                return replace(state, issued=event, owner=event.owner, issue=1)
            case TicketPassedOn(owner, issue):
                return replace(state, owner=owner, issue=issue)
            case TicketVoided():
                return replace(state, is_void=True)
            case TicketCheckedIn():
                return replace(state, came_in=event)
        assert_never(event)

    def beside(
        self, before: Ticket, events: Sequence[Happened], metadata: Mapping[str, str]
    ) -> Beside:
        after = before
        for one in events:
            after = self.apply(after, one)
        if after.issued is None or after.issue == before.issue:
            return Beside()
        told = Handover(after.issued.ticket, after.issue)
        key = f"{TO_OWNER} {told.ticket} {told.issue}"
        payload = msgspec.json.encode(told)
        id_ = uuid5(NAMESPACE_OID, key)
        return Beside([OutboxMessage(id_, "command", TO_OWNER, key, payload, metadata)])


def _issued(asked: Issue, now: datetime) -> TicketIssued:
    return TicketIssued(
        asked.ticket, asked.reservation, asked.show, asked.section, asked.seat, asked.owner, now
    )


def _pass_on(state: Ticket, command: PassOn, now: datetime) -> Decision[TicketPassedOn]:
    if command.by != state.owner:
        # Nobody learns whose tickets there are.
        return Refusal(UNKNOWN, "There is no such ticket.")
    if refused := _not_good(state):
        return refused
    if not command.to.strip() or command.to == state.owner:
        return Refusal(INVALID, "A ticket is passed on to somebody else.")
    return [TicketPassedOn(command.to, state.issue + 1, now)]


def _check_in(state: Ticket, command: CheckIn, now: datetime) -> Decision[TicketCheckedIn]:
    if not command.gate.strip() or len(command.gate) > GATE_CHARS_MAX:
        return Refusal(INVALID, f"A gate has a name of 1 to {GATE_CHARS_MAX} characters.")
    if command.claims.issue != state.issue and command.claims.ticket == _id(state):
        return Refusal(OVER, "The ticket was passed on; this code is of a former owner.")
    if command.claims != state.claims:
        return Refusal(UNKNOWN, "There is no such ticket.")
    return _not_good(state) or [TicketCheckedIn(command.gate, now)]


def _id(state: Ticket) -> str:
    return state.issued.ticket if state.issued else ""


def _not_good(state: Ticket) -> Refusal | None:
    if state.is_void:
        return Refusal(OVER, "The ticket was taken back.")
    if state.came_in is not None:
        at, gate = state.came_in.at, state.came_in.gate
        detail = {"at": at.isoformat(), "gate": gate}
        return Refusal(USED, f"It came in already, at {at:%H:%M} UTC, gate {gate}.", detail)
    return None
