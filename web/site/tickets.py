"""Tickets for sockets: how a program without our cookie opens one in a visitor's name (WEB-44).

A page of another host, or a program that was handed a session by a browser, asks for a ticket over
HTTP and gives it as `?ticket=` with its upgrade. It is 256 random bits, lives 30 s, opens one
socket, and belongs to the session that asked. Of it only a digest is kept, in the store, so any
process of the same database takes it (SEC-42).
"""

import re
import secrets
from collections.abc import Callable
from hashlib import sha256
from uuid import UUID

import msgspec
from quart import Blueprint, Response, request

from actors.accounts import TICKET_KEPT, SessionId, SocketTickets
from actors.persistence import StoreError
from web.routing import paths
from web.routing.errors import NotAvailable, NotSignedIn
from web.routing.quota import Quota
from web.server import current_request_state

TICKET_BYTES = 32
# A client that comes back again and again asks once a second at the worst (WEB-51).
TICKETS_PER_SESSION_MAX = 60
# Ten such clients behind one address.
TICKETS_PER_ADDRESS_MAX = 600
PERIOD_S = 60.0

# As `secrets` writes that many bytes.
_FORM = re.compile(r"[A-Za-z0-9_-]{43}")


class TicketOffice:
    """Issues tickets and takes them; `now` is the loop's clock."""

    def __init__(self, tickets: SocketTickets, now: Callable[[], float]) -> None:
        self._tickets = tickets
        self._quota = Quota(
            now,
            per_session_max=TICKETS_PER_SESSION_MAX,
            per_address_max=TICKETS_PER_ADDRESS_MAX,
            period_s=PERIOD_S,
        )

    async def issue(self, visitor: UUID, address: str) -> str:
        """Call this for a ticket; raises `RateLimited`, and `NotAvailable` with the store away."""
        self._quota.take(visitor, address)
        ticket = secrets.token_urlsafe(TICKET_BYTES)
        try:
            await self._tickets.issue(_digest(ticket), SessionId(str(visitor)))
        except StoreError as error:
            raise NotAvailable("the store does not answer") from error
        return ticket

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
        if "authorization" in request.headers:
            # There are no bearer tokens yet, and who shows one means to be somebody.
            raise NotSignedIn
        state = current_request_state()
        made = await office.issue(state.visitor.id, state.address)
        body = {"ticket": made, "expires_in": round(TICKET_KEPT.total_seconds())}
        return Response(
            msgspec.json.encode(body),
            content_type="application/json",
            headers={"cache-control": "no-store"},
        )

    return routes
