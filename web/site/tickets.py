"""Tickets for sockets: how a program without our cookie opens one in a visitor's name (WEB-44).

A page of another host, or a program that was handed a session by a browser, asks for a ticket over
HTTP and gives it as `?ticket=` with its upgrade. It is 256 random bits, lives 30 s, opens one
socket, and belongs to the session that asked. Of it only a digest is kept, in the store, so any
process of the same database takes it (SEC-42).
"""

import re
import secrets
from hashlib import sha256

import msgspec
from quart import Blueprint, Response, request

from actors.accounts import (
    TICKET_KEPT,
    LenientLimiter,
    RateLimiter,
    SessionId,
    SocketTickets,
    ticket_limits,
)
from actors.persistence import StoreError
from web.api import keep_within
from web.routing import paths
from web.routing.errors import NotAvailable, NotSignedIn
from web.routing.quota import address_key
from web.server import RequestState, current_request_state

TICKET_BYTES = 32

# As `secrets` writes that many bytes.
_FORM = re.compile(r"[A-Za-z0-9_-]{43}")


class TicketOffice:
    """Issues tickets and takes them."""

    def __init__(self, tickets: SocketTickets, limiter: RateLimiter) -> None:
        self._tickets, self._limiter = tickets, LenientLimiter(limiter)

    async def issue(self, state: RequestState) -> tuple[str, list[tuple[bytes, bytes]]]:
        """Call this for a ticket, and what is told with it of how many more there are.

        Raises `ErrorAnswer` 429, and `NotAvailable` with the store away.
        """
        user_id = None if state.signed_in is None else state.signed_in.user_id
        limits = ticket_limits(state.visitor.text, address_key(state.address), user_id)
        headers = await keep_within(self._limiter, "ticket", *limits)
        ticket = secrets.token_urlsafe(TICKET_BYTES)
        try:
            await self._tickets.issue(_digest(ticket), SessionId(state.visitor.text))
        except StoreError as error:
            raise NotAvailable("the store does not answer") from error
        return ticket, headers

    async def take(self, ticket: str) -> str | None:
        """Call this with what came as a ticket: the session whose it is, None for no good one.

        It is used up then. Raises `NotAvailable` while the store is away: it is perhaps used up.
        """
        if not _FORM.fullmatch(ticket):
            return None
        try:
            return await self._tickets.take(_digest(ticket))
        except StoreError as error:
            raise NotAvailable("the store does not answer") from error


def _digest(ticket: str) -> bytes:
    return sha256(ticket.encode("ascii")).digest()


def ticket_routes(office: TicketOffice) -> Blueprint:
    """Call this to get the route that gives tickets."""
    routes = Blueprint("tickets", __name__)

    @routes.post(paths.SOCKET_TICKET)
    async def ticket() -> Response:
        state = current_request_state()
        if "authorization" in request.headers and not state.is_by_bearer:
            # Who shows a credential means to be somebody.
            raise NotSignedIn
        made, told = await office.issue(state)
        body = {"ticket": made, "expires_in": round(TICKET_KEPT.total_seconds())}
        return Response(
            msgspec.json.encode(body),
            content_type="application/json",
            headers={
                "cache-control": "no-store",
                **{name.decode(): value.decode() for name, value in told},
            },
        )

    return routes
