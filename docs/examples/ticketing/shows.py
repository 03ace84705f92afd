"""An event that tickets are sold for, from its draft to its end. Pure.

`Draft -> Published -> SalesOpen -> SalesClosed -> Completed | Cancelled`. In code it is a *show*:
an event is what has happened. What follows for its sections leaves with the append of each event,
and so does the timer that completes it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Literal, assert_never
from uuid import NAMESPACE_OID, uuid5

import msgspec

from actors.persistence import (
    Aggregate,
    Beside,
    Decision,
    OutboxMessage,
    Refusal,
    SetTimer,
    event,
)
from actors.reducers import Environment
from docs.examples.ticketing.amounts import CENTS_MAX
from docs.examples.ticketing.sections import HALL

TITLE_CHARS_MAX = 200
# A programme's page; longer ones are no text that somebody reads before buying.
TEXT_CHARS_MAX = 10_000
# The names of a section's seats are one event, which has 64 KiB, and a name has 16 characters; a
# stadium has more sections, not larger ones.
SECTION_SEATS_MAX = 3_000
# All that a plan says is one event, too.
PLAN_BYTES_MAX = 56 * 1024
SECTIONS_MAX = 100
SECTION = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9 _-]{0,30}[A-Za-z0-9])?", re.ASCII)
SEAT = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9 _-]{0,14}[A-Za-z0-9])?", re.ASCII)
_PARTS = re.compile(r"([^0-9]*)([0-9]*)")
GENERAL = "General"
# Who has travelled by then does not get the journey back.
CANCEL_BEFORE = timedelta(hours=24)

ENDS = "ends"

# Which kind of no it is: 422, 404, 403, 409, 400.
INVALID, UNKNOWN, FOREIGN, STATUS, NOTHING = "invalid", "unknown", "foreign", "status", "nothing"

ShowStatus = Literal["Draft", "Published", "SalesOpen", "SalesClosed", "Completed", "Cancelled"]


@dataclass(frozen=True)
class Section:
    """A part of the hall: its seats by name, and what one costs."""

    name: str
    seats: tuple[str, ...]
    price_cents: int


@dataclass(frozen=True)
class Plan:
    title: str
    description: str
    starts_at: datetime
    ends_at: datetime
    venue_name: str
    venue_address: str
    capacity: int
    price_cents: int
    owner: str
    sections: tuple[Section, ...] = ()
    show: str = ""  # its own id, by which its sections and its timer are found


@dataclass(frozen=True)
class Change:
    """What is None stays as it is."""

    by: str
    title: str | None = None
    description: str | None = None
    starts_at: datetime | None = None
    ends_at: datetime | None = None


@dataclass(frozen=True)
class Publish:
    by: str


@dataclass(frozen=True)
class OpenSales:
    by: str


@dataclass(frozen=True)
class CloseSales:
    by: str


@dataclass(frozen=True)
class CallOff:
    by: str


@dataclass(frozen=True)
class Complete:
    """The clock's word, at the end of the show or later."""


@event(name="Ticketing.ShowPlanned")
@dataclass(frozen=True)
class ShowPlanned:
    plan: Plan
    at: datetime


@event(name="Ticketing.ShowChanged")
@dataclass(frozen=True)
class ShowChanged:
    title: str
    description: str
    starts_at: datetime
    ends_at: datetime


@event(name="Ticketing.ShowMoved")
@dataclass(frozen=True)
class ShowMoved:
    """The show's status is another one."""

    status: ShowStatus
    at: datetime


Command = Plan | Change | Publish | OpenSales | CloseSales | CallOff | Complete
Happened = ShowPlanned | ShowChanged | ShowMoved


@dataclass(frozen=True)
class Show:
    """A show as its events have left it; it has a plan once there is one."""

    plan: Plan | None = None
    status: ShowStatus = "Draft"
    created_at: datetime | None = None


class Shows(Aggregate[Show, Command, Happened]):
    category, state_type = "event", Show
    opens = (Plan,)

    def initial(self) -> Show:
        return Show()

    def decide(self, state: Show, command: Command, env: Environment) -> Decision[Happened]:
        now = env.clock.now().astimezone(UTC)
        if isinstance(command, Plan):
            return _plan(state, command, now)
        plan = state.plan
        if plan is None:
            return Refusal(UNKNOWN, "There is no such event.")
        if not isinstance(command, Complete) and command.by != plan.owner:
            return Refusal(FOREIGN, "Only who planned the event may do that.")
        match command:
            case Change():
                return _change(state, plan, command, now)
            case Publish():
                return _move(state, ("Draft",), "Published", now)
            case OpenSales() if now >= plan.starts_at:
                return Refusal(STATUS, "The event has begun; no sales are opened.")
            case OpenSales():
                return _move(state, ("Published", "SalesClosed"), "SalesOpen", now)
            case CloseSales():
                return _move(state, ("SalesOpen",), "SalesClosed", now)
            case CallOff() if state.status not in ("Completed", "Cancelled") and (
                plan.starts_at - now < CANCEL_BEFORE
            ):
                return Refusal(STATUS, "It begins in less than 24 hours; it is not cancelled now.")
            case CallOff():
                before = ("Draft", "Published", "SalesOpen", "SalesClosed")
                return _move(state, before, "Cancelled", now)
            case Complete():
                return _complete(state, plan, now)
        assert_never(command)

    def apply(self, state: Show, event: Happened) -> Show:
        match event:
            case ShowPlanned(plan, at):
                return Show(plan, "Draft", at)
            case ShowMoved(status):
                return replace(state, status=status)
            case ShowChanged(title, description, starts_at, ends_at):
                assert state.plan is not None
                plan = replace(
                    state.plan,
                    title=title,
                    description=description,
                    starts_at=starts_at,
                    ends_at=ends_at,
                )
                return replace(state, plan=plan)
        assert_never(event)

    def beside(
        self, before: Show, events: Sequence[Happened], metadata: Mapping[str, str]
    ) -> Beside:
        after = before
        for one in events:
            after = self.apply(after, one)
        plan = after.plan
        if plan is None or not plan.show:
            return Beside()
        # Each is another message: an event may open and close its sales again and again.
        name = f"{plan.show} {events[-1]!r}"
        sent = OutboxMessage(
            uuid5(NAMESPACE_OID, name),
            "command",
            HALL,
            f"hall {plan.show}",
            plan.show.encode(),
            metadata,
        )
        if before.plan is not None and before.plan.ends_at == plan.ends_at:
            return Beside([sent])
        # An end that was moved has a timer of its own; the former comes too, and completes nothing.
        token = plan.ends_at.isoformat()
        id_ = uuid5(NAMESPACE_OID, f"{ENDS} {plan.show} {token}")
        return Beside([sent], [SetTimer(id_, self.stream_of(plan.show), ENDS, token, plan.ends_at)])


def sections_of(plan: Plan) -> tuple[Section, ...]:
    """Call this for the parts of a hall, seats in order; one that names none has a single one."""
    if plan.sections:
        return tuple(replace(one, seats=in_order(one.seats)) for one in plan.sections)
    return (Section(GENERAL, numbered(plan.capacity), plan.price_cents),)


@lru_cache(64)
def numbered(count: int) -> tuple[str, ...]:
    """Call this for the names of seats that have none."""
    return tuple(str(number) for number in range(1, count + 1))


def in_order(seats: Iterable[str]) -> tuple[str, ...]:
    """Call this for seats as people count them: A2 comes before A10."""
    return tuple(sorted(seats, key=_by_numbers))


def _by_numbers(seat: str) -> tuple[tuple[str, int], ...]:
    return tuple((word, int(number or -1)) for word, number in _PARTS.findall(seat))


def wrong_plan(plan: Plan) -> str | None:
    """Call this for what is wrong with a plan but its times, or None."""
    if not plan.venue_name.strip() or len(plan.venue_name) > TITLE_CHARS_MAX:
        return f"A venue has a name of 1 to {TITLE_CHARS_MAX} characters."
    if len(plan.venue_address) > TEXT_CHARS_MAX:
        return f"An address has at most {TEXT_CHARS_MAX} characters."
    if plan.capacity < 1:
        return "An event has room for one at least."
    for cents in (plan.price_cents, *(one.price_cents for one in plan.sections)):
        if not 0 < cents <= CENTS_MAX:
            return f"A price is more than nothing, and at most {CENTS_MAX // 100}."
    if len(plan.sections) > SECTIONS_MAX:
        return f"An event has at most {SECTIONS_MAX} sections."
    return _wrong_sections(plan) or _wrong_text(plan.title, plan.description) or _too_long(plan)


def _too_long(plan: Plan) -> str | None:
    texts = [plan.title, plan.description, plan.venue_name, plan.venue_address]
    texts += [seat for one in plan.sections for seat in (one.name, *one.seats)]
    # In JSON each has quotes and a comma, and a sign of control is written as six.
    size = len(msgspec.json.encode(texts))
    return None if size <= PLAN_BYTES_MAX else "The texts and seats of an event are too many."


def _wrong_sections(plan: Plan) -> str | None:
    if not plan.sections:
        too_large = plan.capacity > SECTION_SEATS_MAX
        return f"A section has at most {SECTION_SEATS_MAX} seats." if too_large else None
    names = [one.name for one in plan.sections]
    if len(set(names)) < len(names):
        return "Two sections have the same name."
    for one in plan.sections:
        if SECTION.fullmatch(one.name) is None:
            return "A section's name is 1 to 32 letters, digits, spaces, - or _."
        if not 1 <= len(one.seats) <= SECTION_SEATS_MAX:
            return f"A section has 1 to {SECTION_SEATS_MAX} seats."
        if len(set(one.seats)) < len(one.seats):
            return f"Two seats of section '{one.name}' have the same name."
        if not all(SEAT.fullmatch(seat) for seat in one.seats):
            return "A seat's name is 1 to 16 letters, digits, spaces, - or _."
    if sum(len(one.seats) for one in plan.sections) != plan.capacity:
        return f"The sections have not {plan.capacity} seats together."
    return None


def _wrong_text(title: str, description: str) -> str | None:
    if not title.strip() or len(title) > TITLE_CHARS_MAX:
        return f"A title has 1 to {TITLE_CHARS_MAX} characters."
    if len(description) > TEXT_CHARS_MAX:
        return f"A description has at most {TEXT_CHARS_MAX} characters."
    return None


def _wrong_times(starts_at: datetime, ends_at: datetime, now: datetime) -> str | None:
    if starts_at.tzinfo is None or ends_at.tzinfo is None:
        return "A time says how far it is from UTC."
    if starts_at <= now:
        return "An event begins in the future."
    return None if starts_at < ends_at else "An event begins before it ends."


def _plan(state: Show, plan: Plan, now: datetime) -> Decision[ShowPlanned]:
    if state.plan is not None:
        # A request that comes again with its key.
        return [] if state.plan == plan else Refusal(STATUS, "There is such an event already.")
    wrong = wrong_plan(plan) or _wrong_times(plan.starts_at, plan.ends_at, now)
    return [ShowPlanned(plan, now)] if wrong is None else Refusal(INVALID, wrong)


def _change(state: Show, plan: Plan, command: Change, now: datetime) -> Decision[ShowChanged]:
    if state.status in ("Completed", "Cancelled"):
        return _not_now(state)
    asked = (command.title, command.description, command.starts_at, command.ends_at)
    if all(one is None for one in asked):
        return Refusal(NOTHING, "Nothing to change was given.")
    title = plan.title if command.title is None else command.title
    description = plan.description if command.description is None else command.description
    starts_at, ends_at = command.starts_at or plan.starts_at, command.ends_at or plan.ends_at
    wrong = _wrong_text(title, description)
    # A title can be mended also when the show has begun.
    if wrong is None and (command.starts_at or command.ends_at):
        wrong = _wrong_times(starts_at, ends_at, now)
    if wrong is not None:
        return Refusal(INVALID, wrong)
    return [ShowChanged(title, description, starts_at, ends_at)]


def _move(
    state: Show, before: Sequence[str], after: ShowStatus, now: datetime
) -> Decision[ShowMoved]:
    return [ShowMoved(after, now)] if state.status in before else _not_now(state)


def _complete(state: Show, plan: Plan, now: datetime) -> Decision[ShowMoved]:
    """A timer may come twice, late, or for an end that was moved."""
    if state.status in ("Completed", "Cancelled") or now < plan.ends_at:
        return []
    return [ShowMoved("Completed", now)]


def _not_now(state: Show) -> Refusal:
    return Refusal(STATUS, f"An event in status '{state.status}' does not do that.")
