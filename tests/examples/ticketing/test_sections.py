"""Seats of a section and limits of a customer: nothing is sold twice, whatever comes when."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from actors.persistence import Refusal, Reply
from actors.reducers import Environment
from actors.testing import FixedClock, FixedIds, fixed_environment, given
from docs.examples.ticketing.amounts import Tier
from docs.examples.ticketing.buyers import (
    Buyers,
    ClaimMade,
    ClaimRefused,
    ClaimReturned,
    ClaimSeats,
    ClaimSettled,
    ReturnClaim,
    SettleClaim,
)
from docs.examples.ticketing.buyers import Command as BuyerCommand
from docs.examples.ticketing.buyers import Happened as BuyerHappened
from docs.examples.ticketing.sections import (
    Command,
    FreeSeats,
    Happened,
    HoldSeats,
    MoveStart,
    Seating,
    SeatsFreed,
    SeatsHeld,
    SeatsRefused,
    SeatsSold,
    Sections,
    SectionSales,
    SectionSetUp,
    SectionStartMoved,
    SellSeats,
    SetUp,
    StartSales,
    StopSales,
)
from tests.machines import machine_settings

NOW = FixedClock().now()
START = NOW + timedelta(days=20)
SEATS = ("A1", "A2", "A3", "A10")
READY: list[Happened] = [SectionSetUp(SEATS, 5000, START), SectionSales(True)]


def hold(name: str, quantity: int, *seats: str) -> HoldSeats:
    return HoldSeats(name, "e", "s", quantity, seats)


def held(name: str, *seats: str, tier: Tier = Tier.REGULAR, cents: int = 5000) -> SeatsHeld:
    return SeatsHeld(name, seats, tier, cents, NOW)


@pytest.mark.parametrize(
    ("before", "command", "events"),
    [
        ([], SetUp(SEATS, 5000, START), READY[:1]),
        (READY, SetUp(SEATS, 5000, START), []),
        (READY, StartSales(), []),
        (READY, StopSales(), [SectionSales(False)]),
        (READY, MoveStart(START), []),
        (READY, MoveStart(NOW), [SectionStartMoved(NOW)]),
        # The first ones in the hall's order, or those that are named, in that order too.
        (READY, hold("r", 2), [held("r", "A1", "A2")]),
        (READY, hold("r", 2, "A10", "A2"), [held("r", "A2", "A10")]),
        ([*READY, held("a", "A1", "A3")], hold("r", 2), [held("r", "A2", "A10")]),
        # Refused as a whole, naming the seats; and so for good.
        (
            [*READY, held("a", "A1", "A3")],
            hold("r", 4, "Z1", "A3", "A2", "A1"),
            [SeatsRefused("r", "These seats are taken or unknown: A1, A3, Z1.")],
        ),
        (
            [*READY, held("a", "A1", "A3")],
            hold("r", 3),
            [SeatsRefused("r", "Sold out: there are 2 of 3 seats.")],
        ),
        (READY[:1], hold("r", 1), [SeatsRefused("r", "There are no sales in this section.")]),
        ([], hold("r", 1), [SeatsRefused("r", "There are no sales in this section.")]),
        (
            [*READY, SectionStartMoved(NOW)],
            hold("r", 1),
            [SeatsRefused("r", "The event has begun.")],
        ),
        # Sold and freed once; freed before it came, it never comes.
        ([*READY, held("r", "A1")], SellSeats("r", "e", "s"), [SeatsSold("r", ("A1",))]),
        ([*READY, held("r", "A1"), SeatsSold("r", ("A1",))], SellSeats("r", "e", "s"), []),
        ([*READY, held("r", "A1")], FreeSeats("r", "e", "s"), [SeatsFreed("r", ("A1",))]),
        (
            [*READY, held("r", "A1"), SeatsSold("r", ("A1",))],
            FreeSeats("r", "e", "s"),
            [SeatsFreed("r", ("A1",))],
        ),
        (READY, FreeSeats("r", "e", "s"), [SeatsFreed("r", ())]),
        ([*READY, SeatsFreed("r", ())], FreeSeats("r", "e", "s"), []),
    ],
)
def test_what_a_section_does(
    before: list[Happened], command: Command, events: list[Happened]
) -> None:  # EX-41
    given(Sections(), *before).when(command).then(*events)


@pytest.mark.parametrize(
    ("before", "command", "code"),
    [
        (READY, hold("r", 0), "quantity"),
        (READY, hold("r", 9), "quantity"),
        (READY, hold("r", -1), "quantity"),
        (READY, hold("r", 2, "A1"), "quantity"),
        (READY, hold("r", 2, "A1", "A1"), "quantity"),
        (READY, SellSeats("r", "e", "s"), "taken"),
        ([*READY, SeatsFreed("r", ())], hold("r", 1), "taken"),
        ([*READY, SeatsFreed("r", ())], SellSeats("r", "e", "s"), "taken"),
        (READY, SetUp(("B1",), 5000, START), "taken"),
        ([], StartSales(), "unknown"),
        ([], MoveStart(START), "unknown"),
    ],
)
def test_what_a_section_refuses(before: list[Happened], command: Command, code: str) -> None:
    # EX-41
    given(Sections(), *before).when(command).then_refused(code)


def test_a_refusal_names_the_number_that_was_asked_for() -> None:  # EX-41
    refused = Sections().decide(Seating(), hold("r", 9), fixed_environment())
    assert refused == Refusal("quantity", "A reservation is for 1 to 8 tickets, not 9.")


def test_a_price_is_fixed_when_seats_are_held() -> None:  # EX-43
    sections = Sections()
    state = sections.apply(sections.initial(), READY[0])
    state = sections.apply(state, READY[1])
    early = Environment(FixedClock(START - timedelta(days=30)), FixedIds())
    late = Environment(FixedClock(START - timedelta(days=7)), FixedIds())
    (first,) = decided(sections, state, hold("r", 2), early)
    assert isinstance(first, SeatsHeld)
    assert (first.tier, first.each_cents, first.total_cents) == (Tier.EARLY_BIRD, 4000, 8000)
    after = sections.apply(state, first)
    # The same command later is answered with what was said then.
    assert sections.decide(after, hold("r", 2), late) == Reply(first)
    (second,) = decided(sections, after, hold("q", 1), late)
    assert isinstance(second, SeatsHeld)
    assert (second.tier, second.each_cents) == (Tier.LAST_MINUTE, 5500)


def decided(
    sections: Sections, state: Seating, command: Command, env: Environment
) -> list[Happened]:
    found = sections.decide(state, command, env)
    assert not isinstance(found, Refusal | Reply)
    return list(found)


_NAMES = st.sampled_from(["1", "2", "3", "4"])
_WANTED = st.lists(st.sampled_from([*SEATS, "Z9"]), max_size=3, unique=True).map(tuple)


class SectionMachine(RuleBasedStateMachine):
    """Seats are held, sold and freed, each command perhaps twice; a crash makes all anew."""

    sections = Sections()

    def __init__(self) -> None:
        super().__init__()
        self.env = fixed_environment()
        self.events: list[Happened] = []
        self.state = self.sections.initial()
        # What each reservation was told when it came; None once it is over.
        self.told: dict[str, SeatsHeld | SeatsRefused | None] = {}

    @initialize(is_open=st.booleans())
    def set_up(self, is_open: bool) -> None:
        self._decide(SetUp(SEATS, 5000, START))
        if is_open:
            self._decide(StartSales())

    @rule()
    def sales_start(self) -> None:
        self._decide(StartSales())

    @rule()
    def sales_stop(self) -> None:
        self._decide(StopSales())

    @rule(name=_NAMES, seats=_WANTED, quantity=st.integers(1, 4))
    def seats_are_held(self, name: str, seats: tuple[str, ...], quantity: int) -> None:
        answer = self._decide(hold(name, len(seats) or quantity, *seats))
        if name in self.told:
            # What was answered once is answered so for ever, until it is over.
            assert answer == self.told[name]
        else:
            assert isinstance(answer, SeatsHeld | SeatsRefused)
            self.told[name] = answer

    @rule(name=_NAMES)
    def seats_are_sold(self, name: str) -> None:
        answer = self._decide(SellSeats(name, "e", "s"))
        was_held = isinstance(self.told.get(name), SeatsHeld)
        assert (name in self.state.sold) == was_held
        assert was_held or answer is None

    @rule(name=_NAMES)
    def seats_are_freed(self, name: str) -> None:
        self._decide(FreeSeats(name, "e", "s"))
        self.told[name] = None
        assert name not in self.state.held
        assert name not in self.state.sold

    @rule()
    def crash(self) -> None:
        state = self.sections.initial()
        for event in self.events:
            state = self.sections.apply(state, event)
        assert state == self.state

    @invariant()
    def each_seat_is_in_one_place(self) -> None:
        state = self.state
        assert state.available + state.reserved + state.sold_count == state.total
        taken = [seat for one in (*state.held.values(), *state.sold.values()) for seat in one.seats]
        assert sorted((*state.free, *taken)) == sorted(state.seats)
        assert not set(state.held) & set(state.sold)
        assert list(state.free) == [seat for seat in state.seats if seat in state.free]

    def _decide(self, command: Command) -> object:
        """The event that came of it or came before, None for a refusal or nothing."""
        found = self.sections.decide(self.state, command, self.env)
        if isinstance(found, Refusal):
            return None
        if isinstance(found, Reply):
            return found.value
        for event in found:
            self.events.append(event)
            self.state = self.sections.apply(self.state, event)
        return found[-1] if found else None


def test_available_reserved_and_sold_are_the_capacity_whatever_comes() -> None:  # EX-41
    run_state_machine_as_test(SectionMachine, settings=machine_settings(40, steps=20))


class KeepsFreed(Sections):
    """Seats that are freed are held still."""

    def apply(self, state: Seating, event: Happened) -> Seating:
        after = super().apply(state, event)
        if isinstance(event, SeatsFreed):
            return replace(after, held=state.held)
        return after


def test_a_section_that_keeps_freed_seats_is_found() -> None:  # EX-41
    class Machine(SectionMachine):
        sections = KeepsFreed()

    with pytest.raises(AssertionError):
        run_state_machine_as_test(Machine, settings=machine_settings(40, steps=20, is_planted=True))


# A customer's limits.


def claim(name: str, quantity: int) -> ClaimSeats:
    return ClaimSeats(name, "e", "ann", quantity)


PENDING_LIMIT = "A customer has at most 2 pending reservations of an event."


@pytest.mark.parametrize(
    ("before", "command", "events"),
    [
        ([], claim("r", 8), [ClaimMade("r", 8)]),
        ([ClaimMade("r", 8)], claim("r", 8), []),
        ([ClaimMade("a", 4)], claim("r", 4), [ClaimMade("r", 4)]),
        (
            [ClaimMade("a", 4)],
            claim("r", 5),
            [ClaimRefused("r", "A customer has at most 8 seats of an event; 4 are taken.")],
        ),
        (
            [ClaimMade("a", 1), ClaimMade("b", 1)],
            claim("r", 1),
            [ClaimRefused("r", PENDING_LIMIT)],
        ),
        # What is bought is pending no more, and its seats still count.
        (
            [ClaimMade("a", 1), ClaimMade("b", 1), ClaimSettled("a")],
            claim("r", 6),
            [ClaimMade("r", 6)],
        ),
        (
            [ClaimMade("a", 8), ClaimSettled("a")],
            claim("r", 1),
            [ClaimRefused("r", "A customer has at most 8 seats of an event; 8 are taken.")],
        ),
        ([ClaimMade("a", 8), ClaimReturned("a")], claim("r", 8), [ClaimMade("r", 8)]),
        ([ClaimMade("r", 1)], SettleClaim("r", "e", "ann"), [ClaimSettled("r")]),
        ([ClaimMade("r", 1), ClaimSettled("r")], SettleClaim("r", "e", "ann"), []),
        (
            [ClaimMade("r", 1), ClaimSettled("r")],
            ReturnClaim("r", "e", "ann"),
            [ClaimReturned("r")],
        ),
        ([], ReturnClaim("r", "e", "ann"), [ClaimReturned("r")]),
        ([ClaimReturned("r")], ReturnClaim("r", "e", "ann"), []),
    ],
)
def test_what_a_customer_may_hold(
    before: list[BuyerHappened], command: BuyerCommand, events: list[BuyerHappened]
) -> None:  # EX-48
    given(Buyers(), *before).when(command).then(*events)


@pytest.mark.parametrize("command", [claim("r", 1), SettleClaim("r", "e", "ann")])
def test_a_claim_that_is_over_stays_over(command: BuyerCommand) -> None:  # EX-48
    given(Buyers(), ClaimReturned("r")).when(command).then_refused("over")


def test_a_claim_that_never_came_is_not_settled() -> None:  # EX-48
    given(Buyers()).when(SettleClaim("r", "e", "ann")).then_refused("unknown")
    given(Buyers(), ClaimRefused("r", "no")).when(claim("r", 1)).then_reply(ClaimRefused("r", "no"))


class BuyerMachine(RuleBasedStateMachine):
    """One customer asks for everything, again and again, in any order."""

    buyers = Buyers()

    def __init__(self) -> None:
        super().__init__()
        self.env = fixed_environment()
        self.state = self.buyers.initial()

    @rule(name=_NAMES, quantity=st.integers(1, 8))
    def claims(self, name: str, quantity: int) -> None:
        self._decide(claim(name, quantity))

    @rule(name=_NAMES)
    def settles(self, name: str) -> None:
        self._decide(SettleClaim(name, "e", "ann"))

    @rule(name=_NAMES)
    def returns(self, name: str) -> None:
        self._decide(ReturnClaim(name, "e", "ann"))
        assert name not in {*self.state.pending, *self.state.bought}

    @invariant()
    def limits_hold(self) -> None:
        state = self.state
        assert len(state.pending) <= 2
        assert sum((*state.pending.values(), *state.bought.values())) <= 8
        assert not {*state.pending, *state.bought} & state.over

    def _decide(self, command: BuyerCommand) -> None:
        found = self.buyers.decide(self.state, command, self.env)
        if not isinstance(found, Refusal | Reply):
            for event in found:
                self.state = self.buyers.apply(self.state, event)


def test_no_customer_holds_a_hall_without_paying() -> None:  # EX-48
    run_state_machine_as_test(BuyerMachine, settings=machine_settings(30, steps=20))
