"""What is on, an event with its seats, and an order from its first second to its end."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from quart import Blueprint, redirect, request
from quart.typing import ResponseReturnValue
from werkzeug.datastructures import MultiDict

from actors.persistence import Refusal
from actors.sagas import SagaExists
from docs.examples.ticketing.http.desk import ID, signed_in
from docs.examples.ticketing.http.feed import Stands, stands_on, why
from docs.examples.ticketing.pages import words
from docs.examples.ticketing.pages.front import (
    Front,
    PageRoutes,
    asked_of,
    maybe_who,
    page_template,
    to_sign_in,
)
from docs.examples.ticketing.payments import REFUND_BEFORE, Attempt, Refund, open_attempts
from docs.examples.ticketing.reading.listing import PROGRAMME, EventRow
from docs.examples.ticketing.sections import TICKETS_MAX
from docs.examples.ticketing.shows import Show, Shows, sections_of
from web.api import wait_milestone

_PROGRAMME, _EVENT = page_template("programme"), page_template("event")
_RESERVATION = page_template("reservation")
_QUANTITY = re.compile(r"[1-9]", re.ASCII)
# A page of each; there is no second one.
SHOWS_LISTED = 100
OLD_FORM = "This form is too old; it was sent from another page."
# Where a reservation is when its customer can do something next, or nothing more.
_UNDECIDED = ("Initiated", "SeatsReserved")
_UNSETTLED = (*_UNDECIDED, "PaymentPending", "PaymentCompleted")

# What the simulated bank does with each.
CARDS = (
    words.CardView("tok_visa", "Ending 4242: is good"),
    words.CardView("tok_insufficient", "Ending 9995: has too little on it"),
    words.CardView("tok_declined", "Ending 0002: is declined"),
    words.CardView("tok_timeout", "Ending 0069: the bank answers too late"),
)


def buying_routes(front: Front) -> Blueprint:
    """Call this for the pages of who buys."""
    routes = PageRoutes(front, "buying")
    desk = front.desk

    @routes.get("/")
    async def home() -> ResponseReturnValue:
        if maybe_who() is not None:
            await front.caught_up(front.events, Shows.category)
        found = await front.events.named(PROGRAMME, "events", EventRow, limit=SHOWS_LISTED)
        rows = [row_of(row) for row in found]
        return await front.page(_PROGRAMME, "What is on", rows=rows)

    @routes.get("/events/<event_id>")
    async def event(event_id: str) -> ResponseReturnValue:
        show = await desk.look_at_show(event_id)
        if show.status == "Draft":
            return await front.nothing_here()
        return await event_page(front, show)

    @routes.post("/events/<event_id>/reserve")
    async def reserve(event_id: str) -> ResponseReturnValue:
        show = await desk.look_at_show(event_id)
        if maybe_who() is None:
            return to_sign_in(f"/events/{event_id}")
        await desk.count_attempt("reserve")
        return await reserved(front, show, await request.form)

    @routes.get("/reservations/<reservation>")
    async def look(reservation: str) -> ResponseReturnValue:
        if maybe_who() is None:
            return to_sign_in()
        return await reservation_page(front, reservation)

    @routes.post("/reservations/<reservation>/pay")
    async def pay(reservation: str) -> ResponseReturnValue:
        if maybe_who() is None:
            return to_sign_in(f"/reservations/{reservation}")
        await desk.look_at_reservation(reservation)
        await desk.count_attempt("pay")
        return await paid(front, reservation, await request.form)

    @routes.post("/reservations/<reservation>/cancel")
    async def cancel(reservation: str) -> ResponseReturnValue:
        if maybe_who() is None:
            return to_sign_in(f"/reservations/{reservation}")
        await desk.look_at_reservation(reservation)
        by = str(signed_in().user_id)
        begin = partial(desk.office.cancel, reservation, by, "by its customer")
        refused = await _until(front, reservation, begin, _UNSETTLED)
        return await done(front, reservation, refused)

    @routes.post("/reservations/<reservation>/refund")
    async def refund(reservation: str) -> ResponseReturnValue:
        if maybe_who() is None:
            return to_sign_in(f"/reservations/{reservation}")
        return await given_back(front, reservation, await request.form)

    return routes.blueprint


async def event_page(
    front: Front, show: Show, said: str = "", status: int = 200, quantity: int = 2
) -> ResponseReturnValue:
    plan = words.planned(show)
    is_member, now = maybe_who() is not None, front.desk.now()
    page = words.event_page(show, front.new_id(), now, is_member=is_member, quantity=quantity)
    panels = [f"seats:{plan.show}"]
    return await front.page(_EVENT, plan.title, panels=panels, status=status, said=said, page=page)


async def reserved(front: Front, show: Show, form: MultiDict[str, str]) -> ResponseReturnValue:
    """Begin a reservation, and lead to it once its seats are held; or say why they are not."""
    name, plan = form.get("reservation", ""), words.planned(show)
    section, quantity, seats = wanted(form)
    if ID.fullmatch(name) is None:
        return await event_page(front, show, OLD_FORM, 422)
    if section not in (one.name for one in sections_of(plan)):
        return await event_page(front, show, "Choose a section first.", 422, quantity)
    who = str(signed_in().user_id)
    begin = partial(front.desk.office.reserve, name, plan.show, section, who, quantity, seats)
    try:
        begun = await _until(front, name, begin, _UNDECIDED)
    except SagaExists:
        return await event_page(front, show, OLD_FORM, 409)
    if isinstance(begun, Refusal):
        return await event_page(front, show, begun.message, 422, quantity)
    if await front.status(name) == "Failed":
        reason = why(await front.desk.look_at_reservation(name))
        return await event_page(front, show, reason, 409, quantity)
    return redirect(f"/reservations/{name}", 303)


def wanted(form: MultiDict[str, str]) -> tuple[str, int, Sequence[str]]:
    """Call this for the section, how many, and which seats; those of one section only."""
    chosen = [one.rpartition("/") for one in form.getlist("seat")[: TICKETS_MAX + 1]]
    if chosen:
        section = form.get("section", "")
        named = {name for name, _, _ in chosen}
        # Who chose seats of one section means that one, whichever is ticked above.
        section = named.pop() if len(named) == 1 else ""
        return section, len(chosen), [seat for _, _, seat in chosen]
    text = form.get("quantity", "")
    return form.get("section", ""), int(text) if _QUANTITY.fullmatch(text) else 0, ()


async def paid(front: Front, reservation: str, form: MultiDict[str, str]) -> ResponseReturnValue:
    attempt, card = form.get("attempt", ""), form.get("card", "")
    known = next((one for one in CARDS if one.value == card), None)
    if known is None or ID.fullmatch(attempt) is None:
        return await reservation_page(front, reservation, OLD_FORM, 422)
    method = f"Credit Card (****{known.text[7:11]})"
    begin = partial(front.desk.office.pay, reservation, attempt, card, method)
    refused = await _until(
        front, reservation, begin, (*_UNDECIDED, "PaymentPending", "PaymentCompleted")
    )
    return await done(front, reservation, refused)


async def given_back(
    front: Front, reservation: str, form: MultiDict[str, str]
) -> ResponseReturnValue:
    asked = asked_of(await front.desk.look_at_reservation(reservation))
    if asked.customer != str(signed_in().user_id):
        return await front.nothing_here()
    name = form.get("refund", "")
    if ID.fullmatch(name) is None:
        return await reservation_page(front, reservation, OLD_FORM, 422)
    plan = words.planned(await front.desk.look_at_show(asked.show))
    refund = Refund(name, form.get("reason", ""), plan.starts_at)
    found = await front.desk.office.refund(reservation, refund)
    return await done(front, reservation, found if isinstance(found, Refusal) else None)


async def done(front: Front, reservation: str, refused: object) -> ResponseReturnValue:
    """Lead back to an order, or show it with the no that came."""
    if isinstance(refused, Refusal):
        return await reservation_page(front, reservation, refused.message, 409)
    return redirect(f"/reservations/{reservation}", 303)


class _Decided(Exception):
    """What was begun is over at once: nothing follows that could be waited for."""


async def _until(
    front: Front,
    reservation: str,
    begin: Callable[[], Awaitable[object]],
    not_yet: Sequence[str],
) -> object:
    """Begin, and wait until the reservation stands otherwise, or a while; gives what began said.

    A page without a script then has its answer at once. What takes longer is told on the page.
    """
    begun = list[object]()

    async def start() -> None:
        found = await begin()
        begun.append(found)
        is_taken = not isinstance(found, Attempt) or found.status == "Captured"
        if isinstance(found, Refusal) or not is_taken:
            raise _Decided

    def maybe_reached(told: object) -> Stands | None:
        return told if isinstance(told, Stands) and told.word not in not_yet else None

    topics = front.site.system.topics
    try:
        await wait_milestone(topics, stands_on(reservation), start, maybe_reached)
    except _Decided:
        pass
    return begun[0] if begun else None


async def reservation_page(
    front: Front, reservation: str, said: str = "", status: int = 200
) -> ResponseReturnValue:
    desk = front.desk
    asked = asked_of(await desk.look_at_reservation(reservation))
    plan = words.planned(await desk.look_at_show(asked.show))
    payment, now = await front.payment(reservation), desk.now()
    word = await front.status(reservation)
    under_way = open_attempts(payment)
    total = "" if payment.opened is None else words.money(payment.opened.cents)
    can_refund = (
        word == "Completed" and payment.money_kept > 0 and plan.starts_at - now >= REFUND_BEFORE
    )
    page = words.ReservationPage(
        f"/reservations/{reservation}",
        f"/events/{asked.show}",
        plan.title,
        plan.venue_name,
        words.moment(plan.starts_at),
        plan.starts_at.isoformat(),
        asked.section,
        asked.quantity,
        total,
        # The same again where the bank has not answered: then it tells what it did.
        under_way[0] if under_way else front.new_id(),
        word == "PaymentPending",
        can_refund,
        CARDS,
    )
    panels = [f"reservation:{reservation}"]
    return await front.page(
        _RESERVATION, plan.title, panels=panels, status=status, said=said, page=page
    )


def row_of(row: EventRow) -> words.RowView:
    return words.RowView(
        f"/events/{row.id}",
        row.title,
        words.moment(row.start_time),
        row.start_time.isoformat(),
        row.venue_name,
        price=words.money(row.from_cents),
        word=words.STATUS_WORDS[row.status],
        is_open=row.status == "SalesOpen",
    )
