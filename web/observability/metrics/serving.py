"""Who is given the figures: a scraper on a port of its own, or who shows a token on the main one.

Rule 1: whoever may not see them is told that there is no such page, with a wrong token too: that
there are figures is for operators (SEC-124).
Rule 2: the own port is this machine's alone: it is asked by a name of this machine. A page
elsewhere whose name was turned to 127.0.0.1 would else read it through somebody's browser. What
comes there is one small request, and no more than a few at a time.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from functools import partial
from ipaddress import ip_address
from typing import Final, Never

import h11
import trio
from quart import Blueprint, Response, request

from actors.runtime import Actor, Log, Secret
from web.observability.metrics.scraping import Metrics
from web.observability.metrics.writing import wants_openmetrics, written
from web.routing import paths
from web.routing.errors import NoSuchThing

log = Log(__name__)

LOOPBACK: Final = "127.0.0.1"
# What this machine is called by whoever is on it. An address cannot be turned elsewhere; the last
# is what containers call the machine that they run on.
_OWN_NAMES: Final = frozenset({"localhost", "host.docker.internal", "host.containers.internal"})
# One scraper, another one beside it, and a person who looks.
CONNECTIONS_MAX: Final = 8
# A scraper sends its request at once; who keeps a connection is asked again every 15 to 60 s.
REQUEST_S_MAX: Final = 10.0
ANSWER_S_MAX: Final = 20.0
_HEAD_BYTES: Final = 16 * 1024


async def told(metrics: Metrics, accept: str) -> tuple[bytes, str]:
    """Call this for the text of all figures and its content type."""
    scrape = await metrics.collect()
    return await written(scrape, metrics.labels, is_openmetrics=wants_openmetrics(accept))


def metrics_routes(metrics: Metrics, token: Secret[str] | None) -> Blueprint:
    """Call this for the route on the main port; without a token nobody gets any figure there."""
    routes = Blueprint("metrics", __name__)

    @routes.get(paths.METRICS)
    async def scraped() -> Response:
        shown = request.headers.get("authorization", "")
        if token is None or not _is_right(shown, token):
            raise NoSuchThing(request.path)
        text, kind = await told(metrics, request.headers.get("accept", ""))
        return Response(text, headers={"content-type": kind, "cache-control": "no-store"})

    return routes


def _is_right(shown: str, token: Secret[str]) -> bool:
    scheme, _, given = shown.partition(" ")
    right = token.reveal().encode()
    return hmac.compare_digest(given.strip().encode(), right) and scheme.lower() == "bearer"


class MetricsServer(Actor[Never]):
    """Serves the figures on a port of this machine; its crash is its own, and it comes back."""

    def __init__(self, metrics: Metrics, port: int) -> None:
        self._metrics, self._port = metrics, port
        self._limit = trio.CapacityLimiter(CONNECTIONS_MAX)

    async def on_start(self) -> None:
        """Open the port and serve; raises `OSError` when it is taken."""
        listeners = await trio.open_tcp_listeners(self._port, host=LOOPBACK)
        self.start_soon(partial(trio.serve_listeners, self._serve, listeners))
        log.info("metrics.listening", port=listeners[0].socket.getsockname()[1])

    async def _serve(self, stream: trio.SocketStream) -> None:
        try:
            self._limit.acquire_nowait()
        except trio.WouldBlock:
            await stream.aclose()
            return
        try:
            async with stream:
                await self._converse(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError):
            return
        finally:
            self._limit.release()

    async def _converse(self, stream: trio.SocketStream) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEAD_BYTES)
        while True:
            asked = None
            with trio.move_on_after(REQUEST_S_MAX):
                asked = await _next_request(connection, stream)
            if asked is None:
                return
            with trio.move_on_after(ANSWER_S_MAX) as scope:
                await self._answer(connection, stream, asked)
            if scope.cancelled_caught or connection.our_state is not h11.DONE:
                return
            if connection.their_state is not h11.DONE:
                return
            connection.start_next_cycle()

    async def _answer(
        self, connection: h11.Connection, stream: trio.SocketStream, asked: h11.Request
    ) -> None:
        path = asked.target.partition(b"?")[0]
        status, text, kind = 404, b"", "text/plain"
        is_asked = path == paths.METRICS.encode() and asked.method in (b"GET", b"HEAD")
        if is_asked and _is_own_name(asked.headers):
            text, kind = await told(self._metrics, _accept_of(asked.headers))
            status = 200
        headers = [("content-type", kind), ("content-length", str(len(text)))]
        head = connection.send(h11.Response(status_code=status, headers=headers)) or b""
        body = b"" if asked.method == b"HEAD" else connection.send(h11.Data(data=text)) or b""
        await stream.send_all(head + body + (connection.send(h11.EndOfMessage()) or b""))


def _is_own_name(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a request is for this machine by its `Host`: a name of its own, or an address."""
    # h11 has refused two of them, and none where HTTP/1.1 wants one; an old scraper sends none.
    host = next((value for name, value in headers if name == b"host"), b"").decode("latin-1")
    name = host.strip().lower()
    if name.startswith("["):
        name = name[1:].partition("]")[0]
    elif name.count(":") == 1:
        name = name.partition(":")[0]
    name = name.removesuffix(".")
    if not name or name in _OWN_NAMES or name.endswith(".localhost"):
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _accept_of(headers: Iterable[tuple[bytes, bytes]]) -> str:
    # It may come in several lines, which are one list.
    return b", ".join([value for name, value in headers if name == b"accept"]).decode("latin-1")


async def _next_request(
    connection: h11.Connection, stream: trio.SocketStream
) -> h11.Request | None:
    """The head of the next one, its body read and passed over; None when there is none."""
    asked: h11.Request | None = None
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await stream.receive_some(_HEAD_BYTES))
        elif isinstance(event, h11.Request):
            asked = event
        elif isinstance(event, h11.EndOfMessage):
            return asked
        elif isinstance(event, h11.ConnectionClosed) or event is h11.PAUSED:
            return None
