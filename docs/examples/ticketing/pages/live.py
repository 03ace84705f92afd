"""The parts of pages that follow what happens: the seats of an event, and one customer's order.

Seats are the same to everybody. An order is shown to its customer alone, whatever its address.
What happens is read back from the store, so a page hears of what another process has sold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec

from actors.persistence import Page
from actors.sagas import SagaId
from docs.examples.store_feed import StoreFeed
from docs.examples.ticketing.amounts import PERCENT, Tier
from docs.examples.ticketing.http.feed import why
from docs.examples.ticketing.pages import words
from docs.examples.ticketing.pages.front import Front, asked_of, maybe_who, template
from docs.examples.ticketing.reservations import Held, Reservation, ticket_ids
from web.app import PanelOf
from web.server import ErrorAnswer

_SEATS, _STAND, _STATE = template("seats"), template("stand"), template("state")
CHANGED = "ticketing-pages"
_ID_CHARS = 36


@dataclass(frozen=True)
class Changed:
    """Something of an event's seats, or of an order, is otherwise now."""

    of_show: str = ""
    of_reservation: str = ""


class PageFeed(StoreFeed):
    """Publishes whose pages show something new; what it is, they look at themselves."""

    categories = ("event", "inventory", Reservation.kind, "payment")

    async def tell(self, page: Page) -> None:
        """Say each thing that changed once, however much of it did."""
        changed = dict.fromkeys(_changed(str(one.stream_id)) for one in page.events)
        for one in filter(None, changed):
            self.system.topics.publish(CHANGED, one)


def _changed(stream: str) -> Changed | None:
    kind, _, name = stream.partition("-")
    if kind in ("event", "inventory"):
        return Changed(of_show=name[:_ID_CHARS])
    return Changed(of_reservation=name) if kind in (Reservation.kind, "payment") else None


def live_parts(front: Front) -> Sequence[PanelOf]:
    """Call this for the panels that pages name `seats:EVENT` and `reservation:ID`."""

    async def sections(event_id: str) -> list[words.SectionView]:
        try:
            show = await front.desk.look_at_show(event_id)
        except ErrorAnswer:
            return []
        now, parts = front.desk.now(), list[words.SectionView]()
        for number, (name, seating) in enumerate(await front.seatings(words.planned(show)), 1):
            parts.append(words.section_view(number, name, seating, now))
        return parts

    async def seats(event_id: str) -> str:
        parts = await sections(event_id)
        first = next((place for place, one in enumerate(parts) if one.available), None)
        if first is not None:
            parts[first] = replace(parts[first], is_first=True)
        return front.site.render(_SEATS, sections=parts)

    async def stand(event_id: str) -> str:
        return front.site.render(_STAND, sections=await sections(event_id))

    async def state(reservation: str) -> str:
        return front.site.render(_STATE, state=await state_of(front, reservation))

    async def is_theirs(reservation: str) -> bool:
        if maybe_who() is None:
            return False
        try:
            await front.desk.look_at_reservation(reservation)
        except ErrorAnswer:
            return False
        return True

    return [
        PanelOf("seats", CHANGED, _show_of, seats),
        PanelOf("stand", CHANGED, _show_of, stand),
        PanelOf("reservation", CHANGED, _reservation_of, state, is_theirs),
    ]


def _show_of(told: object) -> str | None:
    return (told.of_show or None) if isinstance(told, Changed) else None


def _reservation_of(told: object) -> str | None:
    return (told.of_reservation or None) if isinstance(told, Changed) else None


async def state_of(front: Front, reservation: str) -> words.StateView:
    """Call this for how an order stands; who asks may see it, see `is_theirs`."""
    saga = SagaId.of(Reservation.kind, reservation)
    state = await front.desk.office.sagas.query(saga)
    status, asked = await front.desk.office.status(saga), asked_of(state)
    word, text, tone = words.state_words(status, why(state))
    view = words.StateView(word, text, tone)
    hold = state.step("hold")
    if hold.phase != "done":
        return view
    held: Held = msgspec.convert(hold.result, Held, str_keys=True)
    tier = Tier(held.tier)
    view = replace(
        view,
        seats=", ".join(held.given),
        total=words.money(held.cents),
        tier="" if PERCENT[tier] == 100 else words.TIERS[tier],
    )
    if status == "PaymentPending":
        declined = words.declined_words(await front.payment(reservation))
        until = asked.expires_at
        return replace(
            view, declined=declined, until=until.isoformat(), until_words=words.clock(until)
        )
    if status == "Completed":
        names = zip(ticket_ids(reservation, held.given), held.given, strict=True)
        links = [words.TicketLink(f"/tickets/{name}", seat) for name, seat in names]
        return replace(view, tickets=links)
    return replace(view, is_over=status not in ("Initiated", "SeatsReserved", "PaymentCompleted"))
