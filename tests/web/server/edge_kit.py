"""A small site behind the edge, and a client that asks it one thing a connection."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from ipaddress import ip_network

import trio
from quart import Response, abort, g, redirect, render_template_string, request
from werkzeug.wrappers import Response as WerkzeugResponse

from actors.runtime import Secret
from tests.patience import FOR_EVER_S
from tests.web.server import serving_kit
from tests.web.server.serving_kit import Client
from web.server import (
    Answer,
    Checks,
    EdgeSettings,
    ErrorRow,
    ErrorTable,
    ErrorView,
    KeyRing,
    RequestSpan,
    RequestState,
    Server,
    ServerSettings,
    TransportSettings,
    WebApp,
    WholeResponse,
    current_request_state,
    open_listeners,
    ready_answer,
    require_media,
    serve,
)
from web.server.connection.overload import OverloadSettings
from web.server.edge.addresses import Network
from web.server.serving import CONNECTIONS_MAX

RING = KeyRing(Secret(b"k" * 64))
# Of a page elsewhere that may ask and read.
LISTED = "https://listed.example"


class Away(Exception):
    pass


class Gone(Exception):
    pass


def page(view: ErrorView) -> str:
    if view.status == 409:
        raise ValueError("the template is broken")
    return f"<h1>{view.title}</h1> {view.request_id} {view.nonce}"


class KitApp(WebApp):
    """Tells when a handler that waited for its body was cancelled."""

    hung: trio.Event
    # Set by a test: what is long goes on.
    go_on: trio.Event
    # How many requests have begun to be slow.
    slow = 0
    # How many of its connections are streams.
    streams = 0
    # What is done for a request that is work.
    work: Callable[[], None] = staticmethod(lambda: None)


def make_app(
    origin: str,
    refused: list[ErrorRow],
    request_s: float,
    spans: list[RequestSpan],
    requests_max: int,
    requests_per_address: int,
    trusted_proxies: tuple[Network, ...] = (),
) -> KitApp:
    table = ErrorTable()
    table.add(Away, Answer.UNAVAILABLE)
    table.add(Gone, Answer.NOT_FOUND)
    checks = Checks(
        own_origin=origin,
        allowed_origins=frozenset({LISTED}),
        extra_hosts=frozenset({"localhost:1"}),
        probe_paths=frozenset({"/probe"}),
        stream_paths=frozenset({"/stream"}),
    )
    settings = EdgeSettings(
        checks=checks,
        ring=RING,
        trusted_proxies=trusted_proxies,
        error_page=page,
        request_s=request_s,
        requests_max=requests_max,
        requests_per_address=requests_per_address,
        uncounted_paths=frozenset({"/probe"}),
        tell_span=spans.append,
    )

    def note(state: RequestState, row: ErrorRow) -> None:
        refused.append(row)
        if row.status == 404:
            raise ValueError("the teller is broken")

    kept = (b"cache-control", b"public")
    files = {
        "/file": ready_answer("text/css", b"body", kept, has_gzip=True),
        "/styles": ready_answer("text/css", b"body{}" * 99, kept, has_gzip=True),
    }
    app = KitApp(__name__, settings, table, on_refused=note, ready_answer=files.get)
    app.hung, app.go_on = trio.Event(), trio.Event()

    @app.get("/")
    async def home() -> str:
        words = "{{ csp_nonce }} {{ csrf_token() }} {{ request_id }}"
        return await render_template_string(words) + f" {g.csp_nonce} {g.edge.visitor.id}"

    @app.get("/probe")
    async def probe() -> Response:
        return Response("OK", content_type="text/plain")

    @app.post("/command")
    async def command() -> tuple[str, int]:
        return str(len(await request.get_data())), 202

    @app.post("/pieces")
    async def pieces() -> str:
        return ",".join([str(len(piece)) async for piece in request.body])

    @app.post("/nothing")
    async def nothing() -> Response:
        await request.get_data()
        return Response(status=204)

    @app.get("/listed")
    async def listed() -> Response:
        return Response([b"one, ", b"two"], content_type="text/plain")

    @app.get("/made")
    async def made() -> Response:
        return Response((b"%d" % number for number in range(3)), content_type="text/plain")

    @app.get("/whole")
    async def whole() -> Response:
        return WholeResponse(b"all of it", [("Content-Type", "text/html")])

    @app.post("/bare/<int:status>")
    async def bare(status: int) -> Response:
        return Response(status=status)

    @app.post("/twice")
    async def twice() -> str:
        found: list[int] = []

        async def read() -> None:
            found.append(len(await request.get_data()))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            nursery.start_soon(read)
        return repr(found)

    @app.post("/hangs")
    async def hangs() -> str:
        try:
            return str(len(await request.get_data()))
        except trio.Cancelled:
            app.hung.set()
            raise

    @app.get("/streamed")
    async def streamed() -> Response:
        async def body() -> AsyncIterator[bytes]:
            for number in range(3):
                await trio.lowlevel.checkpoint()
                yield b"%d\n" % number

        return Response(body(), content_type="text/plain")

    @app.get("/long/<kind>")
    async def long(kind: str) -> Response:
        async def body() -> AsyncIterator[bytes]:
            yield b"0\n"
            await app.go_on.wait()
            yield b"1\n"

        current_request_state().is_long = kind == "document"
        return Response(body(), content_type=f"text/{kind}")

    @app.route("/work", methods=["GET", "POST"])
    @app.get("/api/work")
    async def work() -> str:
        app.work()
        return "done"

    @app.post("/json")
    async def json() -> str:
        require_media("application/json")
        return "json"

    @app.post("/rotate")
    async def rotate() -> tuple[str, int]:
        current_request_state().visitor.rotate()
        return "", 204

    @app.get("/go")
    async def go() -> WerkzeugResponse:
        return redirect("/", 303)

    @app.get("/fail/<word>")
    async def fail(word: str) -> str:
        if word == "away":
            raise ExceptionGroup("both", [Gone(), Away()])
        if word == "slow":
            app.slow += 1
            await trio.sleep(60)
        if word == "nursery":
            app.slow += 1
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep, 60)
                nursery.start_soon(trio.sleep, 60)
        if word == "conflict":
            abort(409)
        raise ValueError("a secret cause")

    app.add_url_rule("/api/fail/<word>", view_func=fail)
    return app


class Reply:
    def __init__(self, raw: bytes) -> None:
        head, _, self.body = raw.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        self.status = int(first.split(b" ")[1])
        self.headers: dict[str, str] = {}
        # What the answer depends on, of all its `vary` lines.
        self.varies: set[str] = set()
        for line in lines:
            name, _, value = line.decode().partition(": ")
            self.headers[name.lower()] = value
            if name.lower() == "vary":
                self.varies.update(value.lower().split(", "))


class Asker:
    """Sends one request a connection."""

    def __init__(
        self,
        port: int,
        refused: list[ErrorRow],
        app: KitApp,
        spans: list[RequestSpan],
        server: Server,
    ) -> None:
        self.port, self.refused, self.app, self.spans = port, refused, app, spans
        self.server = server

    async def __call__(
        self, line: str, headers: str = "", body: bytes = b"", host: str | None = None
    ) -> Reply:
        host = f"127.0.0.1:{self.port}" if host is None else host
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        head = f"{line} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{length}{headers}\r\n"
        async with Client(await trio.open_tcp_stream("127.0.0.1", self.port)) as client:
            await client.send(head.encode() + body)
            return Reply(await client.read_to_end())


@asynccontextmanager
async def edged(
    request_s: float = 10,
    *,
    is_https: bool = False,
    has_proxy: bool = True,
    requests_max: int = 1000,
    requests_per_address: int = 8,
    connections_max: int = CONNECTIONS_MAX,
    overload: OverloadSettings | None = None,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Asker]:
    """With `has_proxy` who asks in HTTPS mode is a trusted proxy that tells no scheme."""
    sockets = open_listeners("127.0.0.1", 0)
    port = sockets[0].getsockname()[1]
    refused: list[ErrorRow] = []
    spans: list[RequestSpan] = []
    scheme = "https" if is_https else "http"
    origin = f"{scheme}://127.0.0.1:{port}"
    proxies = (ip_network("127.0.0.0/8"),) if is_https and has_proxy else ()
    app = make_app(origin, refused, request_s, spans, requests_max, requests_per_address, proxies)
    transport = TransportSettings(
        error_response=app.edge.protocol_error,
        uses_library=serving_kit.USES_LIBRARY,
        # A connection that a test only holds open is not sent away.
        head_s=FOR_EVER_S if connections_max < CONNECTIONS_MAX else 5.0,
    )
    settings = ServerSettings(
        transport=transport,
        connections_max=connections_max,
        streams_open=lambda: app.streams,
        overload=overload or OverloadSettings(),
        tls=tls,
    )
    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(serve, app, settings, sockets=sockets))
        yield Asker(port, refused, app, spans, server)
        if not server.is_draining:
            await server.drain()
