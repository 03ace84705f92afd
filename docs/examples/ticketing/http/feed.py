"""What was committed, told in this process, whichever one did it: reservations, seats, payments.

Routes wait for how a reservation stands; sockets are told of seats and payments, and only what
somebody hears is looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import cast

import msgspec

from actors.persistence import EVENTS, Follows, Page, StoredEvent, StreamId, ask_state
from actors.sagas import SagaEvent, SagaId, SagaStarted, SagaState, apply
from docs.examples.store_feed import FeedPlace, StoreFeed
from docs.examples.ticketing.http.desk import Desk
from docs.examples.ticketing.http.sockets import (
    PaymentConfirmation,
    ReservationStatus,
    Told,
    look_at_seats,
    notes_on,
    seats_on,
)
from docs.examples.ticketing.payments import (
    Payment,
    PaymentCaptured,
    PaymentDeclined,
    Payments,
    RefundDecided,
)
from docs.examples.ticketing.reading.halls import place_of
from docs.examples.ticketing.reservations import Reservation, Reserve, status_of
from docs.examples.ticketing.sections import Sections

FEED = "ticket-feed"
_SAYS = {
    "Initiated": "Your seats are being looked for.",
    "SeatsReserved": "Your seats are held.",
    "PaymentPending": "Your seats are held; pay before they are given to others.",
    "PaymentCompleted": "The money is there; the tickets are on their way.",
    "Completed": "Your tickets are there.",
    "Expired": "The five minutes are over; the seats are free for others.",
    "Cancelled": "The reservation is cancelled.",
    "PaymentFailed": "It was not paid; the seats go back.",
    "Compensated": "It was not paid; the seats went back.",
    "Failed": "There are no such seats for you.",
}


@dataclass(frozen=True)
class Stands:
    """How a reservation stands now."""

    reservation: str
    customer: str
    word: str
    reason: str
    expires_at: datetime | None


def stands(name: str, state: SagaState) -> Stands:
    """Call this for how a reservation stands by what is known of it."""
    asked: Reserve = msgspec.convert(state.data, Reserve, str_keys=True)
    return Stands(name, asked.customer, status_of(state), why(state), asked.expires_at)


def why(state: SagaState) -> str:
    """Call this for what stopped a reservation, without the step that did."""
    _, _, reason = state.reason.partition(": ")
    return reason or state.reason


def stands_on(reservation: str) -> str:
    """Call this for the topic on which one reservation is told of."""
    return f"reservation-{reservation}"


class TicketFeed(StoreFeed):
    """Hears of reservations, sections and payments on the bus, and publishes what came of them."""

    categories = (Reservation.kind, Sections.category, Payments.category)

    def __init__(self, desk: Desk, place: FeedPlace, source: Follows) -> None:
        super().__init__(desk.site.store, place, source)
        self._desk = desk
        # How each was told last, and what its events add up to: reading them again at each would
        # be most of the work. As many as are under way, for those that are over are forgotten.
        self._words: dict[str, str] = {}
        self._states: dict[str, SagaState] = {}

    async def tell(self, page: Page) -> None:
        """Publish how each reservation and section of the page stands; once each, as it is now."""
        events = [one for one in page.events if not one.is_system]
        for stream in _streams(events, Sections.category):
            show, section = place_of(stream)
            if self.system.topics.has_subscribers(seats_on(show)):
                cause_of = partial(self._cause, events, stream)
                told = await look_at_seats(self._desk, show, section, cause_of)
                self.system.topics.publish(seats_on(show), told)
        for stream in _streams(events, Reservation.kind):
            await self._tell_reservation(stream, [one for one in events if one.stream_id == stream])
        for one in events:
            if str(one.stream_id).startswith(f"{Payments.category}-"):
                await self._tell_payment(one)

    async def _cause(self, events: Sequence[StoredEvent], stream: str, version: int) -> str:
        """Which request led to a version: numbers may be newer than what this page tells."""
        found = [one for one in events if (one.stream_id, one.version) == (stream, version)]
        if not found:
            store = self._desk.site.store
            newer = store.load_backwards(StreamId(stream), from_version=version, limit=1)
            found = [one async for one in newer]
        return found[0].metadata.get("correlation_id", "") if found else ""

    async def _state(self, saga: SagaId, stored: Sequence[StoredEvent]) -> SagaState:
        """What a saga's events add up to, with these as its newest."""
        state = self._states.get(saga.name)
        facts = [fact for one in stored for fact in EVENTS.decode_all(one)]
        if state is None and facts and isinstance(facts[0], SagaStarted):
            state = SagaState()
        if state is None:
            # It began before this feed did: its log is asked each time.
            return await self._desk.office.sagas.query(saga)
        for fact in facts:
            state = apply(state, cast("SagaEvent", fact))
        self._states[saga.name] = state
        return state

    async def _tell_reservation(self, stream: str, stored: Sequence[StoredEvent]) -> None:
        saga = SagaId.parse(stream)
        state = await self._state(saga, stored)
        if state.is_over:
            self._states.pop(saga.name, None)
        word, customer = status_of(state), str(state.data.get("customer", ""))
        if self._words.get(saga.name) == word:
            return
        if state.is_over:
            self._words.pop(saga.name, None)
        else:
            self._words[saga.name] = word
        topics = self.system.topics
        topics.publish(stands_on(saga.name), stands(saga.name, state))
        if topics.has_subscribers(notes_on(customer)):
            cause = stored[-1].metadata.get("correlation_id", "")
            said = ReservationStatus(saga.name, word, _SAYS.get(word, word), cause)
            topics.publish(notes_on(customer), Told.of(said))

    async def _tell_payment(self, stored: StoredEvent) -> None:
        happened = EVENTS.decode(stored)
        match happened:
            case PaymentCaptured():
                status, text = "Captured", "Your payment came."
            case PaymentDeclined():
                status, text = "Failed", "The card was declined."
            case RefundDecided():
                status, text = "Refunded", "Money goes back to you."
            case _:
                return
        name = str(stored.stream_id).partition("-")[2]
        _, payment = await ask_state(self._desk.office.find().payments[name])
        assert isinstance(payment, Payment)
        assert payment.opened is not None
        topic = notes_on(payment.opened.customer)
        if self.system.topics.has_subscribers(topic):
            cause = stored.metadata.get("correlation_id", "")
            said = PaymentConfirmation(name, name, status, text, cause)
            self.system.topics.publish(topic, Told.of(said))


def _streams(events: Iterable[StoredEvent], category: str) -> list[str]:
    """The streams of a category, each once, in their order."""
    streams = dict.fromkeys(str(one.stream_id) for one in events)
    return [one for one in streams if one.startswith(f"{category}-")]
