"""Reservations as sagas: each wait ends, and a payment that races the expiry ends in one thing."""

from __future__ import annotations

import os
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest
import trio
from trio.testing import MockClock

from actors.persistence import Refusal, execute
from actors.sagas import SagaId
from actors.testing.cases.sagas import SagaTest
from docs.examples.ticketing.amounts import Tier
from docs.examples.ticketing.buyers import ClaimSeats, ReturnClaim, SettleClaim
from docs.examples.ticketing.gateway import TIMES_OUT, SimulatedGateway
from docs.examples.ticketing.office import INLINE, Office, Ports
from docs.examples.ticketing.payments import (
    Attempt,
    ClosePayment,
    ConfirmPayment,
    GivenBack,
    OpenPayment,
    Payment,
    Refund,
    open_attempts,
    unpaid,
)
from docs.examples.ticketing.reservations import (
    CANCELLED,
    Held,
    IssueTickets,
    PaymentSettled,
    Reservation,
    Reserve,
    status_of,
    ticket_ids,
)
from docs.examples.ticketing.sale import CARD, open_office, state_of
from docs.examples.ticketing.sections import HoldSeats, Seating, SellSeats, SetUp, StartSales
from docs.examples.ticketing.shows import (
    Change,
    CloseSales,
    OpenSales,
    Plan,
    Publish,
    Show,
    numbered,
)
from docs.examples.ticketing.shows import Command as ShowCommand
from docs.examples.ticketing.tickets import Ticket
from storage.memory import (
    MemoryDatabase,
    MemoryDeadLetters,
    MemoryOutbox,
    MemoryProjections,
    MemoryTimers,
)
from storage.postgres import (
    Database,
    PostgresDeadLetters,
    PostgresOutbox,
    PostgresProjections,
    PostgresTimers,
)
from tests.engines import (
    MemoryCommits,
    PostgresCommits,
    real_environment,
    virtual_environment,
)
from tests.examples.banks import Storm
from web.app import Beside

# The long form, `HISTORIES=1000`, is run by hand or in a soak.
HISTORIES = int(os.environ.get("HISTORIES", "6"))
# In the last one a process dies between the bank and the log, and nobody asks again.
SEEDS = sorted({*range(HISTORIES), 14})
EXTRA = timedelta(minutes=5)
OVER = {"Completed", "Expired", "Cancelled", "Compensated", "Failed"}
HELD = Held(("1",), 5000, Tier.REGULAR)
PAID = PaymentSettled("r")


def begun() -> SagaTest[Reserve]:
    case = SagaTest(Reservation)
    expires_at = case.env.clock.now() + timedelta(minutes=5)
    return case.start(Reserve("r", "e", "s", "ann", 1, (), expires_at))


def billed() -> SagaTest[Reserve]:
    case = begun().expect_command(ClaimSeats).reply()
    case.expect_command(HoldSeats).reply(HELD)
    return case.expect_command(OpenPayment).reply()


def test_a_reservation_goes_its_way() -> None:  # EX-42
    case = begun()
    assert status_of(case.state) == "Initiated"
    case.expect_command(ClaimSeats).reply().expect_command(HoldSeats).reply(HELD)
    assert status_of(case.state) == "SeatsReserved"
    case.expect_command(OpenPayment)
    assert case.last.opened() == OpenPayment("r", "ann", 5000, _expiry(case))
    case.reply()
    assert status_of(case.state) == "PaymentPending"
    case.expect_nothing().signal(PAID).expect_command(ConfirmPayment).reply()
    assert status_of(case.state) == "PaymentCompleted"
    case.expect_command(SellSeats).reply().expect_command(SettleClaim).reply()
    case.expect_command(IssueTickets)
    assert case.last.opened() == IssueTickets("r", "e", "s", "ann", ("1",))
    case.reply().expect_nothing()
    assert status_of(case.state) == "Completed"


def _expiry(case: SagaTest[Reserve]) -> datetime:
    return case.env.clock.now() + timedelta(minutes=5)


@pytest.mark.parametrize("done", range(4))
def test_it_expires_wherever_it_waits(done: int) -> None:  # EX-42
    # Nobody answers the claim, the hold, the bill; nobody pays.
    case, results = begun(), [None, HELD, None]
    commands = (ClaimSeats, HoldSeats, OpenPayment)
    for command, result in zip(commands[:done], results, strict=False):
        case.expect_command(command).reply(result)
    for command in commands[done : done + 1]:
        case.expect_command(command)
    case.advance(299.9 if done == 3 else 29.9)
    assert status_of(case.state) in ("Initiated", "SeatsReserved", "PaymentPending")
    case.advance(0.2)
    # What is done or may be is taken back in the other order: the payment is closed first.
    undone = ["claim", "hold", "bill"][: min(done + 1, 3)]
    for name in reversed(undone):
        case.expect_undo(name).reply()
    case.expect_nothing()
    assert case.state.is_over
    assert status_of(case.state) in ("Expired", "Failed")
    assert (status_of(case.state) == "Expired") == (done >= 2)


@pytest.mark.parametrize(
    ("reason", "is_said"), [("no money", "Compensated"), ("it is over", "Compensated")]
)
def test_what_the_payment_does_not_confirm_is_taken_back(reason: str, is_said: str) -> None:
    # EX-42
    case = billed().signal(PAID).expect_command(ConfirmPayment).refuse(reason)
    assert status_of(case.state) == "PaymentFailed"
    case.expect_undo("bill")
    assert case.last.opened() == ClosePayment("r", f"confirm: {reason}")
    case.reply().expect_undo("hold").reply().expect_undo("claim")
    assert case.last.opened() == ReturnClaim("r", "e", "ann")
    case.reply().expect_nothing()
    assert status_of(case.state) == is_said


def test_a_word_of_payment_that_comes_too_late_sells_nothing() -> None:  # EX-42
    case = billed().advance(301).signal(PAID)
    for name in ("bill", "hold", "claim"):
        case.expect_undo(name).reply()
    case.signal(PAID).expect_nothing()
    assert status_of(case.state) == "Expired"


def test_who_cancels_has_it_cancelled() -> None:  # EX-42
    case = billed().cancel(CANCELLED + "ill", "ann")
    for name in ("bill", "hold", "claim"):
        case.expect_undo(name).reply()
    assert status_of(case.state) == "Cancelled"


# The whole box office, in memory, under virtual time.


@dataclass
class House:
    """A database, a bank, and a hall with three seats; it is opened again and again."""

    ports: Ports
    events: MemoryCommits | PostgresCommits
    gateway: SimulatedGateway
    sagas: dict[str, SagaId] = field(default_factory=dict)

    async def live(self, body: Callable[[Office], Awaitable[None]], dies_at: int = 0) -> bool:
        """Run until the body ends, True, or the process dies behind that append, False."""
        storm = Storm(random.Random(0), dies_at=dies_at)
        self.events.behind = storm.pass_by
        with storm.scope:
            async with open_office(self.ports) as office:
                await body(office)
        return not storm.scope.cancelled_caught


def postgres_house(database: Database) -> House:
    """Call this on a fresh database; time is real there."""
    events = PostgresCommits(database, inline=INLINE)
    beside = Beside(
        PostgresOutbox(database),
        PostgresTimers(database),
        PostgresDeadLetters(database),
        PostgresProjections(database),
    )
    gateway = SimulatedGateway()
    return House(Ports(events, beside, real_environment(), "house", gateway), events, gateway)


def house() -> House:
    """Call this under virtual time."""
    env, gateway = virtual_environment(), SimulatedGateway()
    database = MemoryDatabase(now=env.clock.now)
    events = MemoryCommits(database, inline=INLINE)
    beside = Beside(
        MemoryOutbox(database),
        MemoryTimers(database),
        MemoryDeadLetters(database),
        MemoryProjections(database),
    )
    return House(Ports(events, beside, env, "house", gateway), events, gateway)


async def open_hall(office: Office, seats: int = 3) -> None:
    hall = office.find().sections["e-s"]
    starts_at = office.ports.env.clock.now() + timedelta(days=20)
    await execute(hall, SetUp(numbered(seats), 5000, starts_at))
    await execute(hall, StartSales())


async def reserved(office: Office, name: str, customer: str = "ann", quantity: int = 1) -> SagaId:
    saga = await office.reserve(name, "e", "s", customer, quantity)
    assert isinstance(saga, SagaId)
    return saga


async def reaches(office: Office, saga: SagaId, *wanted: str, is_real: bool = False) -> str:
    """Wait in steps that are few in five virtual minutes."""
    while True:
        found = await office.status(saga)
        if found in wanted and (found not in OVER or (await office.sagas.query(saga)).is_over):
            return found
        await trio.sleep(0.05 if is_real else 0.5 if "PaymentPending" in wanted else 7)


async def money(office: Office, name: str) -> Payment:
    """The payment of a reservation, when the gateway has paid back all that it was told to."""
    while True:
        found = await state_of(office.find().payments[name])
        assert isinstance(found, Payment)
        if not unpaid(found) and not (found.is_closed and open_attempts(found)):
            return found
        await trio.sleep(1)


async def seating(office: Office) -> Seating:
    found = await state_of(office.find().sections["e-s"])
    assert isinstance(found, Seating)
    assert found.available + found.reserved + found.sold_count == found.total
    return found


async def good_tickets(office: Office, name: str, count: int) -> int:
    found = [await state_of(office.find().tickets[one]) for one in ticket_ids(name, ("x",) * count)]
    return sum(isinstance(one, Ticket) and bool(one.issued) and not one.is_void for one in found)


async def whole(house: House, office: Office, wanted: dict[str, tuple[str, int]]) -> None:
    """Raise unless each of these is tickets and money, or neither, and nothing is between."""
    sold = kept = 0
    for name, (_, quantity) in wanted.items():
        saga = SagaId.of(Reservation.kind, name)
        found = await reaches(office, saga, *OVER)
        payment = await money(office, name)
        is_sold = found == "Completed"
        while True:
            tickets = await good_tickets(office, name, quantity)
            if is_sold or not tickets:
                break
            await trio.sleep(1)  # They are taken back behind the money.
        assert (tickets, bool(payment.money_kept)) == (quantity * is_sold, is_sold), (name, found)
        assert payment.money_in == payment.money_kept + payment.money_back
        partly = sum(one.cents for key, one in payment.refunds.items() if "part" in key)
        assert not is_sold or payment.money_kept + partly == 5000 * quantity
        sold, kept = sold + tickets, kept + payment.money_kept
    while True:
        seats = await seating(office)
        if not seats.reserved and seats.sold_count <= sold:
            break
        await trio.sleep(1)
    assert seats.sold_count == sold
    # What the bank says is what the logs say.
    gateway = house.gateway
    assert sum(gateway.taken.values()) - sum(gateway.given_back.values()) == kept


async def test_declined_three_times_the_seat_is_another_ones(autojump_clock: MockClock) -> None:
    # EX-42, EX-45
    ours = house()

    async def body(office: Office) -> None:
        await open_hall(office, 1)
        saga = await reserved(office, "r1")
        assert await reaches(office, saga, "PaymentPending") == "PaymentPending"
        other = await reserved(office, "r2", "bob")
        assert await reaches(office, other, *OVER) == "Failed"
        for key in ("a", "b", "c"):
            said = await office.pay("r1", key, "tok_declined", CARD)
            assert said == Attempt(CARD, "Failed", "the card was declined")
        began = trio.current_time()
        assert await reaches(office, saga, *OVER) == "Compensated"
        # At once, and not by the expiry.
        assert trio.current_time() - began < 60
        third = await reserved(office, "r3", "cem")
        await reaches(office, third, "PaymentPending")
        await office.pay("r3", "a", "tok_visa", CARD)
        assert await reaches(office, third, *OVER) == "Completed"
        refused = await office.cancel("r3", "cem", "ill")
        assert isinstance(refused, Refusal)
        await whole(ours, office, {"r1": ("ann", 1), "r2": ("bob", 1), "r3": ("cem", 1)})

    assert await ours.live(body)


async def test_an_answer_that_was_lost_is_asked_for_again(autojump_clock: MockClock) -> None:
    # EX-42, EX-49
    ours = house()

    async def body(office: Office) -> None:
        await open_hall(office)
        saga = await reserved(office, "r1")
        # The same request again is the same reservation.
        assert await reserved(office, "r1") == saga
        await reaches(office, saga, "PaymentPending")
        assert await office.pay("r1", "a", TIMES_OUT, CARD) == Attempt(CARD)
        other = await office.pay("r1", "b", "tok_visa", CARD)
        assert isinstance(other, Refusal)
        said = await office.pay("r1", "a", TIMES_OUT, CARD)
        assert isinstance(said, Attempt)
        assert said.status == "Captured"
        assert await office.pay("r1", "a", TIMES_OUT, CARD) == said
        assert await reaches(office, saga, *OVER) == "Completed"
        assert ours.gateway.taken == {"r1 a": 5000}
        await whole(ours, office, {"r1": ("ann", 1)})

    assert await ours.live(body)


async def test_all_of_the_money_back_takes_tickets_and_seats_back_and_a_part_does_not(
    autojump_clock: MockClock,
) -> None:  # EX-44
    ours = house()

    async def body(office: Office) -> None:
        await open_hall(office, 8)
        starts_at = office.ports.env.clock.now() + timedelta(days=20)
        saga = await reserved(office, "r1", quantity=8)
        await reaches(office, saga, "PaymentPending")
        early = await office.refund("r1", Refund("k", "ill", starts_at))
        assert isinstance(early, Refusal)
        await office.pay("r1", "a", "tok_visa", CARD)
        assert await reaches(office, saga, "Completed") == "Completed"
        part = await office.refund("r1", Refund("part", "ill", starts_at, 1000))
        assert isinstance(part, GivenBack)
        assert part.cents == 1000
        await whole(ours, office, {"r1": ("ann", 8)})
        # The limit of eight seats and the hall are full, until all goes back.
        other = await reserved(office, "r2", quantity=1)
        assert await reaches(office, other, *OVER) == "Failed"
        asked = Refund("rest", "ill", starts_at)
        rest = await office.refund("r1", asked)
        assert isinstance(rest, GivenBack)
        assert rest.cents == 39_000
        again = await office.refund("r1", asked)
        assert isinstance(again, GivenBack)
        assert again.cents == 39_000
        await whole(ours, office, {"r1": ("ann", 8), "r2": ("ann", 1)})
        assert await office.status(saga) == "Cancelled"
        assert (await seating(office)).available == 8
        third = await reserved(office, "r3", quantity=8)
        assert await reaches(office, third, "PaymentPending", *OVER) == "PaymentPending"

    assert await ours.live(body)


async def test_a_payment_that_races_the_expiry_ends_in_one_thing(
    autojump_clock: MockClock,
) -> None:  # EX-42
    ours, ends = house(), set[str]()

    async def body(office: Office) -> None:
        await open_hall(office, 40)
        wanted = {f"r{n}": (f"c{n}", 1) for n in range(16)}

        async def race(n: int) -> None:
            saga = await reserved(office, f"r{n}", f"c{n}")
            await reaches(office, saga, "PaymentPending")
            await office.pay(f"r{n}", "a", TIMES_OUT, CARD)
            # The second answer comes from a second before the end to half a second behind it.
            await trio.sleep_until(began + 299 + n / 10)
            await office.pay(f"r{n}", "a", TIMES_OUT, CARD)
            ends.add(await reaches(office, saga, *OVER))

        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for n in range(16):
                nursery.start_soon(race, n)
        await whole(ours, office, wanted)

    assert await ours.live(body)
    assert ends == {"Completed", "Expired"}


async def test_an_event_opens_closes_and_ends_its_sections(
    autojump_clock: MockClock,
) -> None:  # EX-40
    ours = house()
    starts_at = ours.ports.env.clock.now() + timedelta(minutes=3)
    ends_at = starts_at + timedelta(minutes=2)
    plan = Plan("Jazz", "", starts_at, ends_at, "Hall", "", 3, 5000, "ann", show="e")
    moved = Change("ann", starts_at=starts_at + EXTRA, ends_at=ends_at + EXTRA)

    async def told(office: Office, *commands: ShowCommand) -> None:
        for one in commands:
            await execute(office.find().shows["e"], one)

    async def is_so(office: Office, *, is_on_sale: bool, starts_at: datetime) -> None:
        while True:
            found = await state_of(office.find().sections["e-General"])
            assert isinstance(found, Seating)
            if (found.is_on_sale, found.starts_at, found.total) == (is_on_sale, starts_at, 3):
                return
            await trio.sleep(1)

    async def body(office: Office) -> None:
        with trio.fail_after(120):
            await told(office, plan, Publish("ann"), OpenSales("ann"))
            await is_so(office, is_on_sale=True, starts_at=starts_at)
            await told(office, CloseSales("ann"))
            await is_so(office, is_on_sale=False, starts_at=starts_at)
            await told(office, OpenSales("ann"), moved)
            await is_so(office, is_on_sale=True, starts_at=starts_at + EXTRA)
        await trio.sleep(
            (ends_at + timedelta(minutes=1) - office.ports.env.clock.now()).total_seconds()
        )
        found = await state_of(office.find().shows["e"])
        assert isinstance(found, Show)
        assert found.status == "SalesOpen"

    async def after(office: Office) -> None:
        wait = ends_at + EXTRA + timedelta(minutes=1) - office.ports.env.clock.now()
        await trio.sleep(wait.total_seconds())
        found = await state_of(office.find().shows["e"])
        assert isinstance(found, Show)
        assert found.status == "Completed"
        await is_so(office, is_on_sale=False, starts_at=starts_at + EXTRA)

    assert await ours.live(body)
    # Another process has its timer, and its end.
    assert await ours.live(after)


async def test_a_customer_holds_two_and_no_more(autojump_clock: MockClock) -> None:  # EX-48
    ours, ends = house(), list[str]()

    async def body(office: Office) -> None:
        await open_hall(office, 200)

        async def ask(n: int) -> None:
            saga = await reserved(office, f"r{n}")
            ends.append(await reaches(office, saga, "PaymentPending", "Failed"))

        async with trio.open_nursery() as nursery:
            for n in range(30):
                nursery.start_soon(ask, n)
        assert sorted(ends) == ["Failed"] * 28 + ["PaymentPending"] * 2
        assert (await seating(office)).reserved == 2

    assert await ours.live(body)


@pytest.mark.parametrize("seed", SEEDS)
async def test_whatever_dies_when_there_are_tickets_or_money_back(
    autojump_clock: MockClock, seed: int
) -> None:  # EX-41, EX-42, EX-44
    chance, ours = random.Random(seed), house()
    wanted = {
        f"r{n}": (chance.choice(["ann", "bob", "cem"]), chance.randint(1, 3)) for n in range(6)
    }
    cards = {
        name: chance.choice(["tok_visa", "tok_visa", "tok_declined", TIMES_OUT]) for name in wanted
    }
    delays = {name: chance.choice([0.0, 1.0, 299.9, 300.0, 300.1, 400.0]) for name in wanted}
    backs = {name: chance.choice([None, None, "part", "all"]) for name in wanted}
    leavers = {name for name in wanted if chance.random() < 0.2}

    async def buy(office: Office, name: str, began: float) -> None:
        customer, quantity = wanted[name]
        saga = await reserved(office, name, customer, quantity)
        found = await reaches(office, saga, "PaymentPending", *OVER)
        if found != "PaymentPending":
            return
        await trio.sleep_until(began + delays[name])
        for key in ("a", "b", "c"):
            await office.pay(name, "a" if cards[name] == TIMES_OUT else key, cards[name], CARD)
        if name in leavers:
            await office.cancel(name, customer, "changed my mind")
        if (back := backs[name]) is not None:
            # Also while tickets are still being issued.
            await trio.sleep(delays[name] % 0.7)
            cents = 1000 if back == "part" else None
            starts_at = office.ports.env.clock.now() + timedelta(days=20)
            await office.refund(name, Refund(back, "ill", starts_at, cents))

    async def body(office: Office) -> None:
        await open_hall(office, 5)
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for name in wanted:
                nursery.start_soon(buy, office, name, began)
        await whole(ours, office, wanted)

    deaths = 0
    while not await ours.live(body, dies_at=chance.randint(1, 40) if deaths < 4 else 0):
        deaths += 1
    assert deaths


async def test_on_postgresql_one_of_many_has_the_last_seat(database: Database) -> None:
    # EX-42, EX-45
    ours, ends = postgres_house(database), dict[str, str]()
    wanted = {f"r{n}": (f"c{n}", 1) for n in range(20)}

    async def body(office: Office) -> None:
        await open_hall(office, 1)

        async def buy(name: str) -> None:
            saga = await reserved(office, name, wanted[name][0])
            ends[name] = await reaches(office, saga, "PaymentPending", "Failed", is_real=True)

        async with trio.open_nursery() as nursery:
            for name in wanted:
                nursery.start_soon(buy, name)
        (winner,) = [name for name, end in ends.items() if end == "PaymentPending"]
        assert (await seating(office)).reserved == 1
        said = await office.pay(winner, "a", "tok_visa", CARD)
        assert isinstance(said, Attempt)
        saga = SagaId.of(Reservation.kind, winner)
        assert await reaches(office, saga, "Completed", is_real=True) == "Completed"
        await whole(ours, office, wanted)

    assert await ours.live(body)
