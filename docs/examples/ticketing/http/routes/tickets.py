"""Tickets: looked at by their owner, passed on, and let in at the gates of an event's owner."""

from __future__ import annotations

from typing import Literal

from quart import Blueprint, Response

from actors.persistence import Done, Refusal, ask_state, execute
from docs.examples.ticketing.http.desk import (
    TICKET_REFUSALS,
    Desk,
    desk_of,
    is_admin,
    signed_in,
)
from docs.examples.ticketing.http.shapes import CheckInBody, PassOnBody, TicketShown
from docs.examples.ticketing.tickets import CheckIn, PassOn, Ticket, TicketCheckedIn
from web.api import body, forbidden, not_found, ok
from web.app import OwnSite

TICKETS = "/api/tickets"
# As `ticket_ids` makes them: a reservation, and which of its seats.
ID_CHARS_MAX = 40


def ticket_routes(site: OwnSite) -> Blueprint:
    """Call this for the routes of one ticket."""
    routes, desk = Blueprint("tickets", __name__), desk_of(site)

    @routes.get(f"{TICKETS}/<ticket_id>")
    async def look(ticket_id: str) -> Response:
        return ok(ticket_shown(desk, await own_ticket(desk, ticket_id)))

    @routes.post(f"{TICKETS}/<ticket_id>/check-in")
    async def check_in(ticket_id: str) -> Response:
        asked = await body(CheckInBody)
        came = await let_in(desk, ticket_id, asked.code, asked.gate)
        return ok({"ticket_id": ticket_id, "checked_in_at": came.at, "gate": came.gate})

    @routes.post(f"{TICKETS}/<ticket_id>/pass-on")
    async def pass_on(ticket_id: str) -> Response:
        asked = await body(PassOnBody)
        await own_ticket(desk, ticket_id)
        await passed_on(desk, ticket_id, asked.email)
        return ok({"ticket_id": ticket_id, "message": "The ticket is theirs; your code is void."})

    return routes


async def look_at_ticket(desk: Desk, ticket_id: str) -> Ticket:
    """Call this for a ticket, whoever asks; raises the answer 404."""
    if len(ticket_id) <= ID_CHARS_MAX and ticket_id.isascii():
        _, found = await ask_state(desk.office.find().tickets[ticket_id])
        assert isinstance(found, Ticket)
        if found.issued is not None:
            return found
    raise not_found("Ticket", ticket_id)


async def own_ticket(desk: Desk, ticket_id: str) -> Ticket:
    """Call this for a ticket of who asks; raises the answer 404, as for one that is not there."""
    who, found = signed_in(), await look_at_ticket(desk, ticket_id)
    if found.owner != str(who.user_id) and not is_admin(who):
        raise not_found("Ticket", ticket_id)
    return found


def ticket_shown(desk: Desk, ticket: Ticket) -> TicketShown:
    """Call this for what its owner is told of a ticket: its code, too."""
    issued, claims = ticket.issued, ticket.claims
    assert issued is not None
    assert claims is not None
    status: Literal["Valid", "Void", "Used"] = "Void" if ticket.is_void else "Valid"
    if ticket.came_in is not None:
        status = "Used"
    return TicketShown(
        issued.ticket,
        issued.reservation,
        issued.show,
        issued.section,
        issued.seat,
        desk.options.tickets.code(claims),
        status,
        None if ticket.came_in is None else ticket.came_in.at,
        None if ticket.came_in is None else ticket.came_in.gate,
    )


async def let_in(desk: Desk, ticket_id: str, code: str, gate: str) -> TicketCheckedIn:
    """Call this at a gate of the event's owner; raises what they are answered."""
    who, ticket = signed_in(), await look_at_ticket(desk, ticket_id)
    assert ticket.issued is not None
    show = await desk.look_at_show(ticket.issued.show)
    assert show.plan is not None
    if show.plan.owner != str(who.user_id) and not is_admin(who):
        raise forbidden("Only who planned the event lets people in.")
    claims = desk.options.tickets.read(code)
    if claims is None or claims.ticket != ticket_id:
        raise not_found("Ticket", ticket_id)
    done = await execute(desk.office.find().tickets[ticket_id], CheckIn(claims, gate))
    if isinstance(done, Refusal):
        raise TICKET_REFUSALS.answer(done)
    came = done.events[0] if done.events else None
    assert isinstance(came, TicketCheckedIn)
    return came


async def passed_on(desk: Desk, ticket_id: str, email: str) -> Done:
    """Call this as its owner; raises what they are answered."""
    by = str(signed_in().user_id)
    known = await desk.site.members.accounts.credentials(email.strip().lower())
    if known is None:
        raise not_found("User", "of this address")
    done = await execute(desk.office.find().tickets[ticket_id], PassOn(by, str(known.user_id)))
    if isinstance(done, Refusal):
        raise TICKET_REFUSALS.answer(done)
    return done
