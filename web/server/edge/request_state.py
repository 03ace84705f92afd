"""What the edge knows about a request before any handler runs.

Made by `edge.py`, kept in the ASGI scope, read by handlers through `request_state(scope)` and in
Quart by `quart.g.edge`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from actors.runtime import Secret
from web.server.edge.answers import Rendering
from web.server.edge.visitor import SignedIn, Visitor

STATE_KEY = "greenroom.request"


@dataclass(slots=True)
class RequestState:
    """Holds the labels and verdicts of one request."""

    request_id: str
    client_request_id: str | None
    nonce: str
    address: str
    # From this machine or a trusted network, with nobody else on the way: an operator's probe.
    is_near: bool
    visitor: Visitor
    rendering: Rendering
    needs_csrf_token: bool
    # The client reads gzip, and we are to send it.
    takes_gzip: bool
    # In the loop's clock; streams have none. Messages a request causes carry it (SITE-153).
    deadline: float
    # Set by a route whose answer may take longer than a request; each write has its own time.
    is_long: bool = False
    # It came without encryption though the site is on HTTPS (SEC-41).
    is_plain: bool = False
    # What stood as `?ticket=` in the query, which is without it now (SEC-42).
    ticket: Secret[str] | None = None
    # Who is signed in, once somebody asked; None for guests.
    signed_in: SignedIn | None = None
    # By a bearer token: cookies count for nothing then, and none is set (SEC-37).
    is_by_bearer: bool = False
    # The token by which the sign-in of a bearer goes on; told in the answer.
    renewed: Secret[str] | None = None
    # Headers that set cookies with whatever the answer is.
    set_cookies: list[tuple[bytes, bytes]] = field(default_factory=list)
    # Of each limit that has counted the request what its client is told, with whatever the answer
    # is; a person is not (AUTH-40).
    rate_limits: list[tuple[bytes, bytes]] = field(default_factory=list)
    # Told of the tab a command comes from, once it was read; set by whoever keeps a record of it.
    on_tab: Callable[[str], None] | None = None
    # On the routes of client programs: what joins all that one task of a client has led to. Theirs
    # where they gave one; a label that is logged, stored and told back, and opens nothing.
    correlation_id: str | None = None
    # As W3C Trace Context writes it, where the client has told one; a new one for a malformed one.
    traceparent: str | None = None
    # The span that its own stands below, where traces are kept.
    above: str | None = None
    # What its device showed of itself, as digests by part, where that is collected (AUTH-24).
    shown: Mapping[str, bytes] | None = field(default=None, repr=False)
    # A further origin whose page asks and may read the answer, as it was given (SEC-35).
    reading_origin: bytes | None = None
    # The pattern of the route that took it, once one did; for the log.
    route: str | None = None
    # Tells which page of this site led here, as `Checks.came_from` does; for the way back.
    came_from: Callable[[], str] = str
    # Called, in order, when the request is over, however it ended; they return at once.
    at_end: list[Callable[[], None]] = field(default_factory=list)


class NoRequestState(RuntimeError):
    """Raised when a scope did not pass the edge: the application is composed without it."""


def request_state(scope: Mapping[str, object]) -> RequestState:
    """Call this with an ASGI scope; raises `NoRequestState` when no `Edge` stands before."""
    state = scope.get("state")
    # A dictionary, nearly always: to ask the abstract class is dearer than all else here.
    found = state.get(STATE_KEY) if isinstance(state, (dict, Mapping)) else None
    if not isinstance(found, RequestState):
        raise NoRequestState("this scope did not pass web.server.Edge; wrap the application in it")
    return found
