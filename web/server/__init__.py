"""Serving HTTP: connections with deadlines, a fast lane to the socket, and the edge of the site.

Read `serving.py` first (listen, serve, drain), then one of the chapters:

- `reading/`: the grammar of HTTP/1.1, pure: which bytes are a request
- `connection/`: one socket and its bytes; nothing there knows what is served
- `edge/`: what happens to every request and answer, whatever handles it

`quart_app.py` puts the edge around a Quart application, `lean.py` is how Quart is called here,
`dispatch.py` how a request goes through it, `bounded.py` keeps what clients name, and `errors.py`
is what can go wrong here.

Our words: a *transport* is one connection; its *pipe* is the only writer of its socket; a *lane* is
what a stream or WebSocket holds of the pipe, and the *fast lane* writes to the socket in one plain
call, past ASGI; a *frame* is an encoded message, wrapped for the wire once and shared by all who
hear it; to *drain* is to stop in steps that each have a limit.

What streams and sockets say is in `web.realtime`; routes live in the feature folders of `web`.
"""

from web.server.bounded import BoundedMap
from web.server.connection.framing import (
    Bundle,
    Frame,
    Framing,
    bundled,
    chunk,
    close_frame,
    ping_frame,
    pong_frame,
    text_frame,
)
from web.server.connection.gzip import STREAM_HEAD, GzipSum, deflated, gzipped
from web.server.connection.http.keeping import Kept
from web.server.connection.http.websocket import WIRE_KEY, Wire
from web.server.connection.lanes import COALESCE_BYTES, Lane, PipeLane, PulledLane
from web.server.connection.listening import open_listeners
from web.server.connection.overload import OverloadSettings
from web.server.connection.settings import ErrorResponse, TransportSettings
from web.server.connection.transport import Transport, transport_of
from web.server.edge.addresses import (
    Client,
    ClientAddresses,
    ForwardingStatistics,
    client_of,
    counted_as,
    host_of,
    masked,
    normal_origin,
    origin_of,
)
from web.server.edge.answers import (
    WITH_CAMERA,
    Answer,
    ErrorAnswer,
    ErrorRow,
    ErrorTable,
    ErrorView,
    FieldProblem,
    Rendering,
    plain_page,
    render_error,
    row_of_status,
)
from web.server.edge.checks import Checks, header_map
from web.server.edge.edge import (
    REQUEST_S,
    Edge,
    EdgeSettings,
    ReadyAnswer,
    new_uuid,
    ready_answer,
)
from web.server.edge.request_state import NoRequestState, RequestState, request_state
from web.server.edge.span import RequestSpan, TellBegin, TellSpan
from web.server.edge.tickets import Tickets
from web.server.edge.visitor import (
    CsrfTokens,
    Key,
    KeyRing,
    SignedIn,
    Visitor,
    VisitorSigner,
    cookie_name,
    expire_cookie,
    read_cookies,
    set_cookie,
)
from web.server.errors import CookieTooLong, PortBusy, PortForbidden, SecretTooShort, ServerError
from web.server.lean import KeptBody, WholeResponse
from web.server.quart_app import (
    CsrfTokenMissing,
    MediaTypeRefused,
    WebApp,
    current_load,
    current_request_state,
    require_media,
    sign_in_of,
    tell_unavailable,
)
from web.server.serving import (
    CLOSE_BATCH,
    CLOSE_PAUSE_S,
    DrainResult,
    DrainStep,
    Server,
    ServerSettings,
    ServerStatistics,
    serve,
)

__all__ = [
    "CLOSE_BATCH",
    "CLOSE_PAUSE_S",
    "COALESCE_BYTES",
    "REQUEST_S",
    "STREAM_HEAD",
    "WIRE_KEY",
    "WITH_CAMERA",
    "Answer",
    "BoundedMap",
    "Bundle",
    "Checks",
    "Client",
    "ClientAddresses",
    "CookieTooLong",
    "CsrfTokenMissing",
    "CsrfTokens",
    "DrainResult",
    "DrainStep",
    "Edge",
    "EdgeSettings",
    "ErrorAnswer",
    "ErrorResponse",
    "ErrorRow",
    "ErrorTable",
    "ErrorView",
    "FieldProblem",
    "ForwardingStatistics",
    "Frame",
    "Framing",
    "GzipSum",
    "Kept",
    "KeptBody",
    "Key",
    "KeyRing",
    "Lane",
    "MediaTypeRefused",
    "NoRequestState",
    "OverloadSettings",
    "PipeLane",
    "PortBusy",
    "PortForbidden",
    "PulledLane",
    "ReadyAnswer",
    "Rendering",
    "RequestSpan",
    "RequestState",
    "SecretTooShort",
    "Server",
    "ServerError",
    "ServerSettings",
    "ServerStatistics",
    "SignedIn",
    "TellBegin",
    "TellSpan",
    "Tickets",
    "Transport",
    "TransportSettings",
    "Visitor",
    "VisitorSigner",
    "WebApp",
    "WholeResponse",
    "Wire",
    "bundled",
    "chunk",
    "client_of",
    "close_frame",
    "cookie_name",
    "counted_as",
    "current_load",
    "current_request_state",
    "deflated",
    "expire_cookie",
    "gzipped",
    "header_map",
    "host_of",
    "masked",
    "new_uuid",
    "normal_origin",
    "open_listeners",
    "origin_of",
    "ping_frame",
    "plain_page",
    "pong_frame",
    "read_cookies",
    "ready_answer",
    "render_error",
    "request_state",
    "require_media",
    "row_of_status",
    "serve",
    "set_cookie",
    "sign_in_of",
    "tell_unavailable",
    "text_frame",
    "transport_of",
]
