"""Serving HTTP: connections with deadlines, a fast lane to the socket, and the edge of the site.

Read first `serving.py` (listen, serve, drain), then `transport.py` and `pipe.py` (one connection;
who writes and how long may it take), then `edge.py` (what happens to every request and answer)
and `quart_app.py` (the application class). Data and decisions: `settings.py`, `phases.py`,
`framing.py`, `edge_checks.py`, `origin.py`, `headers.py`, `error_table.py`, `address.py`.
Signed things: `keys.py`, `visitor.py`, `csrf.py`, `cookies.py`.

What streams and sockets say is in `web.realtime`; routes live in the feature folders of `web`.
"""

from web.server.address import client_address, masked
from web.server.cookies import cookie_name, expire_cookie, read_cookies, set_cookie
from web.server.csrf import CsrfTokens
from web.server.draining import DrainResult, DrainStep
from web.server.edge import Edge, EdgeSettings
from web.server.edge_checks import Checks, header_map
from web.server.error_table import Answer, ErrorRow, ErrorTable, row_of_status
from web.server.errors import CookieTooLong, PortBusy, PortForbidden, SecretTooShort, ServerError
from web.server.framing import (
    Frame,
    Framing,
    chunk,
    close_frame,
    ping_frame,
    pong_frame,
    text_frame,
)
from web.server.keys import Key, KeyRing
from web.server.lanes import Lane, PipeLane, PulledLane
from web.server.listening import open_listeners
from web.server.quart_app import (
    CsrfTokenMissing,
    MediaTypeRefused,
    WebApp,
    current_request_state,
    require_media,
)
from web.server.renderings import ErrorView, Rendering, plain_page, render_error
from web.server.request_state import NoRequestState, RequestState, request_state
from web.server.serving import (
    CLOSE_BATCH,
    CLOSE_PAUSE_S,
    Server,
    ServerSettings,
    ServerStatistics,
    serve,
)
from web.server.settings import ErrorResponse, TransportSettings
from web.server.transport import Transport, transport_of
from web.server.visitor import Visitor, VisitorSigner
from web.server.websocket import WIRE_KEY, Wire

__all__ = [
    "CLOSE_BATCH",
    "CLOSE_PAUSE_S",
    "WIRE_KEY",
    "Answer",
    "Checks",
    "CookieTooLong",
    "CsrfTokenMissing",
    "CsrfTokens",
    "DrainResult",
    "DrainStep",
    "Edge",
    "EdgeSettings",
    "ErrorResponse",
    "ErrorRow",
    "ErrorTable",
    "ErrorView",
    "Frame",
    "Framing",
    "Key",
    "KeyRing",
    "Lane",
    "MediaTypeRefused",
    "NoRequestState",
    "PipeLane",
    "PortBusy",
    "PortForbidden",
    "PulledLane",
    "Rendering",
    "RequestState",
    "SecretTooShort",
    "Server",
    "ServerError",
    "ServerSettings",
    "ServerStatistics",
    "Transport",
    "TransportSettings",
    "Visitor",
    "VisitorSigner",
    "WebApp",
    "Wire",
    "chunk",
    "client_address",
    "close_frame",
    "cookie_name",
    "current_request_state",
    "expire_cookie",
    "header_map",
    "masked",
    "open_listeners",
    "ping_frame",
    "plain_page",
    "pong_frame",
    "read_cookies",
    "render_error",
    "request_state",
    "require_media",
    "row_of_status",
    "serve",
    "set_cookie",
    "text_frame",
    "transport_of",
]
