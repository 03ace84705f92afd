"""The box office at work: an actor for each stream and reservation, a relay, and a clock.

What a payment decides leaves by the outbox, in the append of the decision, as often as it takes: to
the gateway what goes back, and which attempt has to end; to its reservation that money came.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import msgspec
import trio

from actors.persistence import (
    Aggregate,
    AggregateActor,
    AggregateRef,
    Done,
    DueTimer,
    Idempotent,
    OutboxEntry,
    OutboxRelay,
    Refusal,
    TimerService,
    ask_state,
    execute,
)
from actors.persistence.beside_log.timers import LookForTimers
from actors.persistence.event_store import EventStore
from actors.reducers import Environment
from actors.sagas import (
    InvalidSagaTransition,
    Outcome,
    Refused,
    SagaActor,
    SagaCommand,
    SagaExists,
    SagaId,
    SagaIndex,
    SagaKinds,
    SagaParts,
    Sagas,
    Succeeded,
    saga_clock,
    saga_relay,
)
from docs.examples.ticketing import buyers, payments, sections, shows, tickets
from docs.examples.ticketing.gateway import Charged, Declined, Gateway
from docs.examples.ticketing.payments import (
    Attempt,
    EndOrder,
    GivenBack,
    NoteCaptured,
    NoteDeclined,
    NoteRefunded,
    Payment,
    Refund,
    RefundOrder,
    TryToPay,
)
from docs.examples.ticketing.reservations import (
    CANCELLED,
    EXPIRY,
    Held,
    IssueTickets,
    PaymentSettled,
    Reservation,
    Reserve,
    VoidTickets,
    status_of,
    ticket_ids,
)
from docs.examples.ticketing.sections import FreeSeats, SeatsHeld, SeatsRefused, quantity_refusal
from docs.examples.ticketing.tickets import Handover
from supervision import Supervisor, child_method, dynamic_method
from web.app import Beside

S = TypeVar("S")
C = TypeVar("C")
E = TypeVar("E")

# Of each kind: what has happened to nobody in a while ends. More at once are answered 503.
ACTORS_MAX = 50_000
# Half of the time that a request has.
FOLLOWED_S_MAX = 5.0
# Given to the store: it is written in the transaction of each append.
INLINE = (SagaIndex(),)


async def to_nobody(_: Handover) -> None:
    """Send tickets to nobody: they are looked at, and that is all."""


@dataclass(frozen=True)
class Ports:
    """What of a store a box office needs; `owner` names this process among those that relay.

    Where several processes sell the same seats, say `is_shared`: a no then costs a look.
    `to_owner` is called for each owner a ticket gets, as often as it takes.
    """

    store: EventStore
    beside: Beside
    env: Environment
    owner: str
    gateway: Gateway
    is_shared: bool = False
    to_owner: Callable[[Handover], Awaitable[None]] = to_nobody


class Office:
    """Begins reservations, takes money, and carries out what sagas send; `find` as in `Sagas`."""

    def __init__(self, ports: Ports, find: Callable[[], BoxOffice]) -> None:
        self.ports, self.find = ports, find
        self.parts = SagaParts(
            SagaKinds(Reservation),
            ports.store,
            ports.env,
            look_at_outbox=lambda look: find().relay.tell(look),  # noqa: PLW0108  (found late)
            look_for_timers=lambda: find().clock.tell(LookForTimers()),
        )
        self.sagas = Sagas(
            self.parts,
            lambda saga: find().sagas[saga.key],
            {
                "buyers": self._buyers,
                "sections": self._sections,
                "payments": self._payments,
                "tickets": self._tickets,
            },
            dead_letters=ports.beside.dead_letters,
        )

    # For customers.

    async def reserve(
        self,
        name: str,
        show: str,
        section: str,
        customer: str,
        quantity: int,
        seats: Sequence[str] = (),
    ) -> SagaId | Refusal:
        """Call this to begin a reservation; raises as `Sagas.start` does."""
        if refused := quantity_refusal(quantity, seats):
            return refused
        expires_at = self.ports.env.clock.now() + EXPIRY
        asked = Reserve(name, show, section, customer, quantity, tuple(seats), expires_at)
        try:
            return await self.sagas.start(Reservation, asked, name=name)
        except SagaExists:
            # The same request again, a little later.
            saga = SagaId.of(Reservation.kind, name)
            data = (await self.sagas.query(saga)).data
            known: Reserve = msgspec.convert(data, Reserve, str_keys=True)
            if replace(known, expires_at=expires_at) != asked:
                raise
            return saga

    async def why_not(self, asked: sections.HoldSeats) -> Refusal | None:
        """Call this before a reservation is begun: what nobody can have now needs no saga.

        It is no promise: seats that are free now may be held by others a moment later.
        """
        section = self.find().sections[f"{asked.show}-{asked.section}"]
        _, state = await ask_state(section)
        assert isinstance(state, sections.Seating)
        reason = sections.why_not(state, asked, self.ports.env.clock.now())
        return None if reason is None else Refusal(sections.TAKEN, reason)

    async def pay(self, reservation: str, key: str, token: str, method: str) -> Attempt | Refusal:
        """Call this with a customer's card; the same `key` is the same attempt.

        An attempt whose answer was lost stays `Pending`: the same call again tells what it was.
        """
        ref = self.find().payments[reservation]
        done = await execute(ref, TryToPay(key, method))
        if isinstance(done, Refusal):
            return done
        payment = await _payment(ref)
        if payment.attempts[key].status in ("Captured", "Failed") or payment.opened is None:
            return _answer(payment, key)
        name, cents = f"{reservation} {key}", payment.opened.cents
        try:
            said = await self.ports.gateway.charge(name, cents, token)
        except TimeoutError:
            return payment.attempts[key]
        noted = await execute(ref, _note(key, said))
        return noted if isinstance(noted, Refusal) else _answer(await _payment(ref), key)

    async def hear(
        self, reservation: str, note: payments.Noted, key: Idempotent | None = None
    ) -> Refusal | None:
        """Call this with what the gateway says by itself; with a `key` it is heard once."""
        ref = self.find().payments[reservation]
        done = await execute(ref, note, idempotency=key)
        return done if isinstance(done, Refusal) else None

    async def cancel(self, reservation: str, by: str, reason: str) -> Refusal | None:
        """Call this as the customer; a refusal for what is over. Raises `UnknownSaga`."""
        try:
            saga = SagaId.of(Reservation.kind, reservation)
            await self.sagas.cancel(saga, by, CANCELLED + reason)
        except InvalidSagaTransition:
            return Refusal("over", "The reservation is over.")
        return None

    async def refund(self, reservation: str, asked: Refund) -> GivenBack | Refusal:
        """Call this to give money back; all of it takes tickets and seats back as well."""
        ref = self.find().payments[reservation]
        done = await execute(ref, asked)
        if isinstance(done, Refusal):
            return done
        return (await _payment(ref)).refunds[payments.asked_name(asked)]

    async def status(self, saga: SagaId) -> str:
        """Call this for where a reservation stands; raises `UnknownSaga`."""
        found = status_of(await self.sagas.query(saga))
        if found != "Completed":
            return found
        payment = await _payment(self.find().payments[saga.name])
        return "Cancelled" if payment.status == "Refunded" else found

    # What the relay and the clock of the office are given.

    async def send(self, entry: OutboxEntry) -> None:
        if entry.target == payments.SETTLED:
            await self._tell_settled(entry.payload.decode())
        elif entry.target == payments.MONEY_BACK:
            await self._give_back(msgspec.json.decode(entry.payload, type=RefundOrder))
        elif entry.target == payments.PAID_BACK:
            await self._take_back(entry.payload.decode())
        elif entry.target == payments.ATTEMPT_ENDS:
            await self._make_end(msgspec.json.decode(entry.payload, type=EndOrder))
        elif entry.target == sections.HALL:
            await self.follow(entry.payload.decode())
        elif entry.target == sections.CALLED_OFF:
            await self._call_off(entry.payload.decode())
        elif entry.target == tickets.TO_OWNER:
            await self.ports.to_owner(msgspec.json.decode(entry.payload, type=Handover))
        else:
            await self.sagas.send(entry)

    async def deliver(self, timer: DueTimer) -> bool:
        if timer.name != shows.ENDS:
            return await self.sagas.deliver(timer)
        show = timer.address.removeprefix(f"{shows.Shows.category}-")
        await execute(self.find().shows[show], shows.Complete())
        return True

    async def follow(self, show: str) -> None:
        """Make the sections be as their event is now, however often and late this is asked for."""
        _, found = await ask_state(self.find().shows[show])
        assert isinstance(found, shows.Show)
        assert found.plan is not None
        is_open = found.status == "SalesOpen"
        for one in shows.sections_of(found.plan):
            section = self.find().sections[f"{show}-{one.name}"]
            if is_open:
                set_up = sections.SetUp(one.seats, one.price_cents, found.plan.starts_at)
                await execute(section, set_up)
            # Of one that was never opened this is refused, and nothing is sold either.
            await execute(section, sections.MoveStart(found.plan.starts_at))
            await execute(section, sections.StartSales() if is_open else sections.StopSales())
            if found.status == "Cancelled":
                await execute(section, sections.CallOffAll(show, one.name))

    async def wait_followed(self, show: str) -> bool:
        """Call this to wait until sections sell, or not, as their event says; not for ever.

        They are told by the relay alone, in order: who told them here as well could close with
        old news what was opened a moment ago.
        """
        _, found = await ask_state(self.find().shows[show])
        assert isinstance(found, shows.Show)
        assert found.plan is not None
        with trio.move_on_after(FOLLOWED_S_MAX):
            for one in shows.sections_of(found.plan):
                while True:
                    _, state = await ask_state(self.find().sections[f"{show}-{one.name}"])
                    assert isinstance(state, sections.Seating)
                    if state.is_on_sale == (found.status == "SalesOpen"):
                        break
                    await trio.sleep(0.02)
            return True
        return False

    async def _call_off(self, reservation: str) -> None:
        """Give one reservation back, paid or not; whatever is asked again is done once."""
        saga = SagaId.of(Reservation.kind, reservation)
        why = "the event was called off"
        try:
            await self.sagas.cancel(saga, "organiser", CANCELLED + why)
        except InvalidSagaTransition:
            # Of one that is over before it was paid there is nothing to give back, and this is
            # refused; what was sold goes back as all money does, tickets and seats with it.
            now = self.ports.env.clock.now()
            refund = Refund("called off", why, now, by_admin=True)
            await execute(self.find().payments[reservation], refund)

    async def _tell_settled(self, reservation: str) -> None:
        saga = SagaId.of(Reservation.kind, reservation)
        try:
            await self.sagas.signal(saga, PaymentSettled(reservation), key="settled")
        except InvalidSagaTransition:
            # It is over: its undo has closed the payment, which gives the money back itself.
            return

    async def _give_back(self, order: RefundOrder) -> None:
        name = f"{order.reservation} {order.refund}"
        await self.ports.gateway.refund(name, order.transaction, order.cents)
        await execute(self.find().payments[order.reservation], NoteRefunded(order.refund))

    async def _take_back(self, reservation: str) -> None:
        """End a reservation that is paid no more; what fails here is sent again by the relay."""
        saga = SagaId.of(Reservation.kind, reservation)
        try:
            await self.sagas.cancel(saga, "payments", f"{CANCELLED}the money went back")
        except InvalidSagaTransition:
            state = await self.sagas.query(saga)
        else:
            return  # It was not completed yet, and takes back itself what it has done.
        data: Reserve = msgspec.convert(state.data, Reserve, str_keys=True)
        held: Held = msgspec.convert(state.step("hold").result, Held, str_keys=True)
        find, show = self.find(), data.show
        for name in ticket_ids(reservation, held.given):
            await execute(find.tickets[name], tickets.Void("the money went back"))
        section = FreeSeats(reservation, show, data.section)
        await execute(find.sections[f"{show}-{data.section}"], section)
        claim = buyers.ReturnClaim(reservation, show, data.customer)
        await execute(find.buyers[f"{show}-{data.customer}"], claim)

    async def _make_end(self, order: EndOrder) -> None:
        said = await self.ports.gateway.settle(f"{order.reservation} {order.attempt}")
        await execute(self.find().payments[order.reservation], _note(order.attempt, said))

    # What sagas send.

    async def _buyers(self, command: SagaCommand) -> Outcome:
        told = command.opened()
        assert isinstance(told, buyers.Command)
        found = await _told(self.find().buyers[f"{told.show}-{told.customer}"], told)
        return Refused(found.reason) if isinstance(found, buyers.ClaimRefused) else _outcome(found)

    async def _sections(self, command: SagaCommand) -> Outcome:
        told = command.opened()
        assert isinstance(told, sections.HoldSeats | sections.FreeSeats | sections.SellSeats)
        found = await _told(self.find().sections[f"{told.show}-{told.section}"], told)
        match found:
            case SeatsRefused(_, reason):
                return Refused(reason)
            case SeatsHeld(seats=seats, tier=tier) if isinstance(told, sections.HoldSeats):
                return Succeeded(Held(seats, found.total_cents, tier))
        return _outcome(found)

    async def _payments(self, command: SagaCommand) -> Outcome:
        told = command.opened()
        assert isinstance(told, payments.Asked)
        assert not isinstance(told, TryToPay | Refund)
        return _outcome(await _told(self.find().payments[told.reservation], told))

    async def _tickets(self, command: SagaCommand) -> Outcome:
        told = command.opened()
        assert isinstance(told, IssueTickets | VoidTickets)
        names = ticket_ids(told.reservation, told.given)
        for name, seat in zip(names, told.given, strict=True):
            wanted: tickets.Command = tickets.Void("the reservation was taken back")
            if isinstance(told, IssueTickets):
                wanted = tickets.Issue(
                    name, told.reservation, told.show, told.section, seat, told.customer
                )
            found = await _told(self.find().tickets[name], wanted)
            if isinstance(found, Refusal):
                return Refused(found.message)
        return Succeeded()


async def _payment(ref: AggregateRef) -> Payment:
    _, state = await ask_state(ref)
    assert isinstance(state, Payment)
    return state


def _note(attempt: str, said: Charged | Declined) -> NoteCaptured | NoteDeclined:
    if isinstance(said, Charged):
        return NoteCaptured(attempt, said.transaction)
    return NoteDeclined(attempt, said.reason)


def _answer(payment: Payment, key: str) -> Attempt | Refusal:
    """What a customer is told of an attempt; one that came too late has paid for nothing."""
    attempt = payment.attempts[key]
    if attempt.status == "Captured" and payment.kept != key:
        return Refusal(payments.OVER, "The reservation is over; the money goes back.")
    return attempt


async def _told(ref: AggregateRef, command: object) -> object:
    """The refusal, or the last event that came of a command, now or when it came before."""
    done = await execute(ref, command)
    if isinstance(done, Done):
        return done.events[-1] if done.events else done.value
    return done


def _outcome(found: object) -> Outcome:
    return Refused(found.message) if isinstance(found, Refusal) else Succeeded()


class BoxOffice(Supervisor, intensity=10, period=5.0):
    def __init__(self, office: Office) -> None:
        self.office, self.ports = office, office.ports

    def _actor(self, aggregate: Aggregate[S, C, E], name: str) -> AggregateActor[S, C, E]:
        """What it sends and sets is looked for at once."""
        return AggregateActor(
            aggregate,
            name,
            self.ports.store,
            self.ports.env,
            look_at_outbox=self.office.parts.look_at_outbox,
            is_shared=self.ports.is_shared,
            look_for_timers=self.office.parts.look_for_timers,
        )

    @dynamic_method(key="key", restart="transient", max_children=ACTORS_MAX)
    def sagas(self, key: str) -> SagaActor:
        return SagaActor(self.office.parts, key)

    @dynamic_method(key="name", restart="transient", max_children=ACTORS_MAX)
    def shows(self, name: str) -> AggregateActor[shows.Show, shows.Command, shows.Happened]:
        return self._actor(shows.Shows(), name)

    @dynamic_method(key="name", restart="transient", max_children=ACTORS_MAX)
    def buyers(self, name: str) -> AggregateActor[buyers.Buyer, buyers.Command, buyers.Happened]:
        return self._actor(buyers.Buyers(), name)

    @dynamic_method(key="name", restart="transient", max_children=ACTORS_MAX)
    def sections(
        self, name: str
    ) -> AggregateActor[sections.Seating, sections.Command, sections.Happened]:
        return self._actor(sections.Sections(), name)

    @dynamic_method(key="name", restart="transient", max_children=ACTORS_MAX)
    def payments(self, name: str) -> AggregateActor[Payment, payments.Command, payments.Happened]:
        return self._actor(payments.Payments(), name)

    @dynamic_method(key="name", restart="transient", max_children=ACTORS_MAX)
    def tickets(
        self, name: str
    ) -> AggregateActor[tickets.Ticket, tickets.Command, tickets.Happened]:
        return self._actor(tickets.Tickets(), name)

    @child_method()
    def relay(self) -> OutboxRelay:
        ports = self.ports
        return saga_relay(ports.beside, self.office.send, ports.env, ports.owner)

    @child_method()
    def clock(self) -> TimerService:
        ports = self.ports
        return saga_clock(ports.beside, self.office.deliver, ports.env, ports.owner)
