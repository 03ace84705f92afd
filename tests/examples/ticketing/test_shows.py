"""An event that tickets are sold for: its statuses, who may change it, and what is no plan."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from actors.reducers import Environment
from actors.testing import FixedClock, FixedIds, given
from docs.examples.ticketing.shows import (
    CallOff,
    Change,
    CloseSales,
    Command,
    Complete,
    Happened,
    OpenSales,
    Plan,
    Publish,
    Section,
    ShowChanged,
    ShowMoved,
    ShowPlanned,
    Shows,
    ShowStatus,
    in_order,
    numbered,
    sections_of,
)

NOW = FixedClock().now()
START = NOW + timedelta(days=40)
PLAN = Plan("Jazz", "", START, START + timedelta(hours=2), "Hall", "", 3, 5000, "ann")
PLANNED = ShowPlanned(PLAN, NOW)
STALLS = Section("Stalls", ("A1", "A2"), 5000)
BALCONY = Section("Balcony", ("1",), 3000)
COMMANDS: list[Command] = [
    Publish("ann"),
    OpenSales("ann"),
    CloseSales("ann"),
    CallOff("ann"),
    Change("ann", title="Blues"),
]
AFTER: dict[type, ShowStatus] = {
    Publish: "Published",
    OpenSales: "SalesOpen",
    CloseSales: "SalesClosed",
    CallOff: "Cancelled",
}
ALLOWED: dict[ShowStatus, tuple[type, ...]] = {
    "Draft": (Publish, CallOff, Change),
    "Published": (OpenSales, CallOff, Change),
    "SalesOpen": (CloseSales, CallOff, Change),
    "SalesClosed": (OpenSales, CallOff, Change),
    "Completed": (),
    "Cancelled": (),
}


def at(now: datetime) -> Environment:
    return Environment(FixedClock(now), FixedIds())


def in_status(status: ShowStatus) -> list[Happened]:
    return [PLANNED] if status == "Draft" else [PLANNED, ShowMoved(status, NOW)]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("status", ALLOWED)
def test_a_status_allows_what_the_table_says(status: ShowStatus, command: Command) -> None:
    # EX-40
    case = given(Shows(), *in_status(status)).when(command)
    if type(command) not in ALLOWED[status]:
        case.then_refused("status")
    elif isinstance(command, Change):
        case.then(ShowChanged("Blues", "", PLAN.starts_at, PLAN.ends_at))
    else:
        case.then(ShowMoved(AFTER[type(command)], NOW))


@pytest.mark.parametrize("command", COMMANDS, ids=lambda one: type(one).__name__)
def test_only_its_owner_changes_it_and_an_unknown_one_is_told(command: Command) -> None:
    # EX-40
    assert not isinstance(command, Plan | Complete)
    given(Shows(), PLANNED).when(replace(command, by="bob")).then_refused("foreign")
    given(Shows()).when(command).then_refused("unknown")


def test_a_plan_that_comes_again_is_the_same_and_another_is_refused() -> None:  # EX-40
    given(Shows()).when(PLAN).then(PLANNED)
    given(Shows(), PLANNED).when(PLAN).then()
    given(Shows(), PLANNED).when(replace(PLAN, title="x")).then_refused("status")


@pytest.mark.parametrize(
    "wrong",
    [
        replace(PLAN, title=" "),
        replace(PLAN, title="x" * 201),
        replace(PLAN, description="x" * 10_001),
        replace(PLAN, venue_name=""),
        replace(PLAN, venue_address="x" * 10_001),
        replace(PLAN, capacity=0),
        replace(PLAN, capacity=-1),
        replace(PLAN, capacity=3_001),
        replace(PLAN, description="\u0001" * 10_000),
        replace(PLAN, price_cents=0),
        replace(PLAN, price_cents=-5),
        replace(PLAN, price_cents=10**12 + 1),
        replace(PLAN, starts_at=NOW),
        replace(PLAN, starts_at=NOW - timedelta(days=1)),
        replace(PLAN, ends_at=PLAN.starts_at),
        replace(PLAN, starts_at=PLAN.starts_at.replace(tzinfo=None)),
        replace(PLAN, sections=(STALLS,)),
        replace(PLAN, sections=(STALLS, BALCONY), capacity=4),
        replace(PLAN, sections=(STALLS, replace(STALLS, seats=("1",)))),
        replace(PLAN, sections=(replace(STALLS, seats=("A1", "A1")), BALCONY)),
        replace(PLAN, sections=(STALLS, replace(BALCONY, seats=()))),
        replace(PLAN, sections=(STALLS, replace(BALCONY, price_cents=0))),
        replace(PLAN, sections=(replace(STALLS, name="a/b"), BALCONY)),
        replace(PLAN, sections=(replace(STALLS, seats=("A1", "A,2")), BALCONY)),
        replace(PLAN, sections=(BALCONY,) * 101, capacity=101),
    ],
)
def test_what_is_no_plan_is_refused(wrong: Plan) -> None:  # EX-40
    given(Shows()).when(wrong).then_refused("invalid")


def test_the_longest_plan_is_taken() -> None:  # EX-40
    for plan in (
        replace(PLAN, title="x" * 200),
        replace(PLAN, capacity=1),
        replace(PLAN, sections=(STALLS, BALCONY)),
        replace(PLAN, starts_at=NOW + timedelta(microseconds=1)),
    ):
        given(Shows()).when(plan).then(ShowPlanned(plan, NOW))


def test_a_change_says_something_and_keeps_the_rules() -> None:  # EX-40
    case = given(Shows(), PLANNED)
    case.when(Change("ann")).then_refused("nothing")
    case.when(Change("ann", title="")).then_refused("invalid")
    case.when(Change("ann", starts_at=PLAN.ends_at)).then_refused("invalid")
    case.when(Change("ann", starts_at=NOW)).then_refused("invalid")
    late = PLAN.ends_at + timedelta(days=1)
    changed = ShowChanged("Jazz", "", late, late + timedelta(hours=1))
    case.when(Change("ann", starts_at=late, ends_at=changed.ends_at)).then(changed)
    case.when(Change("ann", description="late")).then(
        ShowChanged("Jazz", "late", PLAN.starts_at, PLAN.ends_at)
    )


def test_it_is_called_off_until_a_day_before() -> None:  # EX-40
    border = START - timedelta(hours=24)
    case = given(Shows(), PLANNED)
    case.with_env(at(border)).when(CallOff("ann")).then(ShowMoved("Cancelled", border))
    late = at(border + timedelta(microseconds=1))
    case.with_env(late).when(CallOff("ann")).then_refused("status")


def test_sales_do_not_open_when_it_has_begun() -> None:  # EX-40
    case = given(Shows(), *in_status("Published"))
    case.with_env(at(START)).when(OpenSales("ann")).then_refused("status")


def test_it_is_completed_at_its_end_once_and_never_before() -> None:  # EX-40
    case = given(Shows(), *in_status("SalesOpen"))
    case.with_env(at(PLAN.ends_at - timedelta(microseconds=1))).when(Complete()).then()
    case.with_env(at(PLAN.ends_at)).when(Complete()).then(ShowMoved("Completed", PLAN.ends_at))
    for over in ("Completed", "Cancelled"):
        done = given(Shows(), *in_status(over)).with_env(at(PLAN.ends_at))
        done.when(Complete()).then()


def test_seats_are_given_out_as_people_count_them() -> None:  # EX-41
    assert in_order(["B1", "A10", "A2", "A", "10", "9"]) == ("9", "10", "A", "A2", "A10", "B1")
    assert in_order(numbered(12)) == numbered(12)
    mixed = replace(PLAN, sections=(replace(STALLS, seats=("A10", "A9")), BALCONY))
    assert sections_of(mixed)[0].seats == ("A9", "A10")
    assert [(one.name, one.seats) for one in sections_of(PLAN)] == [("General", ("1", "2", "3"))]
