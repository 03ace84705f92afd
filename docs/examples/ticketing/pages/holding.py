"""The tickets somebody has: a list, one with its code, the picture as a file, and passing on."""

from __future__ import annotations

from collections.abc import Sequence

from quart import Blueprint, Response, redirect, request
from quart.typing import ResponseReturnValue

from docs.examples.ticketing.http.desk import signed_in
from docs.examples.ticketing.http.routes.tickets import look_at_ticket, passed_on
from docs.examples.ticketing.pages import words
from docs.examples.ticketing.pages.front import (
    Front,
    PageRoutes,
    maybe_who,
    page_template,
    to_sign_in,
)
from docs.examples.ticketing.payments import Payments
from docs.examples.ticketing.reading.listing import EventRow
from docs.examples.ticketing.reading.rows import person
from docs.examples.ticketing.reading.sales import ReservationRow, TicketRow
from docs.examples.ticketing.reservations import Reservation
from docs.examples.ticketing.tickets import Ticket, Tickets
from web.server import ErrorAnswer
from web.views import picture_of, svg_of

_MINE, _TICKET = page_template("mine"), page_template("ticket")
# A page of each; there is no second one.
TICKETS_LISTED, ORDERS_LISTED = 100, 50
# Rows of events are built anew, and not there yet.
UNKNOWN = "An event"
_OPEN = ("Initiated", "SeatsReserved", "PaymentPending", "PaymentCompleted")


def holding_routes(front: Front) -> Blueprint:
    """Call this for the pages of who has tickets."""
    routes = PageRoutes(front, "holding")
    desk = front.desk

    @routes.get("/tickets")
    async def mine() -> ResponseReturnValue:
        who = maybe_who()
        if who is None:
            return to_sign_in()
        tickets, orders = await lists(front, str(who.user_id))
        return await front.page(_MINE, "Tickets and orders", tickets=tickets, orders=orders)

    @routes.get("/tickets/<ticket_id>")
    async def look(ticket_id: str) -> ResponseReturnValue:
        if maybe_who() is None:
            return to_sign_in()
        ticket = await look_at_ticket(desk, ticket_id)
        if not is_theirs(ticket):
            return await front.nothing_here()
        return await ticket_page(front, ticket)

    @routes.get("/tickets/<ticket_id>/qr.svg")
    async def picture(ticket_id: str) -> ResponseReturnValue:
        if maybe_who() is None:
            return to_sign_in(f"/tickets/{ticket_id}")
        ticket = await look_at_ticket(desk, ticket_id)
        if not is_theirs(ticket) or words.why_not_good(ticket):
            return await front.nothing_here()
        # An inline picture loads nothing and runs nothing, and no cache keeps what lets one in.
        headers = {"cache-control": "no-store", "content-type": "image/svg+xml"}
        return Response(svg_of(picture_of(code_of(front, ticket))), 200, headers)

    @routes.post("/tickets/<ticket_id>/pass-on")
    async def pass_on(ticket_id: str) -> ResponseReturnValue:
        if maybe_who() is None:
            return to_sign_in(f"/tickets/{ticket_id}")
        ticket, to = await look_at_ticket(desk, ticket_id), (await request.form).get("to", "")
        if not is_theirs(ticket):
            return await front.nothing_here()
        # Who asks often enough would learn who has an account here.
        await desk.count_attempt("pass-on")
        try:
            await passed_on(desk, ticket_id, to)
        except ErrorAnswer as error:
            problem = error.row.text
            if error.row.status == 404:
                problem = "Nobody has signed in here with this address yet."
            return await ticket_page(front, ticket, error.row.status, to, problem)
        return redirect("/tickets?done=passed", 303)

    return routes.blueprint


def is_theirs(ticket: Ticket) -> bool:
    """Call this for whether who asks has the ticket now; no operator has a reason to see a code."""
    return ticket.owner == str(signed_in().user_id)


def code_of(front: Front, ticket: Ticket) -> str:
    assert ticket.claims is not None, "it was issued"
    return front.desk.options.tickets.code(ticket.claims)


async def ticket_page(
    front: Front, ticket: Ticket, status: int = 200, to: str = "", problem: str = ""
) -> ResponseReturnValue:
    issued, word = ticket.issued, words.why_not_good(ticket)
    assert issued is not None
    plan = words.planned(await front.desk.look_at_show(issued.show))
    code = "" if word else code_of(front, ticket)
    page = words.TicketPage(
        f"/tickets/{issued.ticket}",
        plan.title,
        plan.venue_name,
        words.moment(plan.starts_at),
        plan.starts_at.isoformat(),
        issued.section,
        issued.seat,
        word,
        code,
        picture_of(code) if code else None,
        to,
        problem,
    )
    return await front.page(_TICKET, plan.title, status=status, page=page)


async def lists(front: Front, who: str) -> tuple[Sequence[words.RowView], Sequence[words.RowView]]:
    """Call this for somebody's tickets and orders, those of the newest order first."""
    await front.caught_up(front.sold, Reservation.kind, Payments.category, Tickets.category)
    key = person(who)
    held = await front.sold.named(f"tickets_of/{key}/", "tickets", TicketRow, limit=TICKETS_LISTED)
    reserved = await front.sold.named(
        f"reservations_of/{key}/", "reservations", ReservationRow, limit=ORDERS_LISTED
    )
    names = dict.fromkeys([*(one.event_id for one in held), *(one.event_id for one in reserved)])
    events = await front.events.many("events", [*names], EventRow)
    tickets, orders = list[words.RowView](), list[words.RowView]()
    for one in held:
        event = events.get(one.event_id)
        word = "taken back" if one.is_void else "was used" if one.came_in else ""
        place = f"{one.section}, seat {one.seat}"
        when = "" if event is None else words.moment(event.start_time)
        title = UNKNOWN if event is None else event.title
        tickets.append(words.RowView(f"/tickets/{one.id}", title, when, place=place, word=word))
    for order in reserved:
        event = events.get(order.event_id)
        word, _, tone = words.state_words(order.status, "")
        tone = "tone-busy" if order.status in _OPEN else tone
        place, path = f"{order.quantity} × {order.section}", f"/reservations/{order.id}"
        title = UNKNOWN if event is None else event.title
        orders.append(words.RowView(path, title, place=place, word=word.rstrip("."), tone=tone))
    return tickets, orders
