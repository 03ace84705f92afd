"""A client of HTTP/2 that does only what it is told: no window opens by itself."""

from __future__ import annotations

import ssl
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import trio

from tests.patience import PATIENCE_S
from tests.web.server.serving_kit import Handler, with_lifespan
from web.server import Server, ServerSettings, TransportSettings, serve
from web.server.connection.overload import OverloadSettings

GOAWAY = 7
Contexts = tuple[ssl.SSLContext, ssl.SSLContext]


class Http2Client:
    """One connection; what came is kept by stream."""

    def __init__(self, stream: trio.SSLStream[trio.SocketStream]) -> None:
        self.stream = stream
        self.frames = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=True, header_encoding=None)
        )
        self.authority = "x"
        self.bodies: defaultdict[int, bytes] = defaultdict(bytes)
        self.status: dict[int, str] = {}
        self.headers: dict[int, dict[bytes, bytes]] = {}
        self.ended: set[int] = set()
        self.resets: dict[int, int] = {}
        self.goodbye: int | None = None
        self.is_closed = False
        self._got = b""

    async def begin(self) -> None:
        self.frames.initiate_connection()
        await self.flush()

    async def flush(self) -> None:
        await self.stream.send_all(self.frames.data_to_send())

    async def ask(self, path: str, method: str = "GET", *, body: bytes | None = None) -> int:
        """Send a request; with a `body` that is not None it is left open behind that."""
        number = self.frames.get_next_available_stream_id()
        where = (":authority", self.authority)
        pairs = [(":method", method), (":scheme", "https"), where, (":path", path)]
        self.frames.send_headers(number, pairs, end_stream=body is None)
        size = self.frames.max_outbound_frame_size
        for at in range(0, len(body or b""), size):
            self.frames.send_data(number, (body or b"")[at : at + size])
        await self.flush()
        return number

    async def until_closed(self) -> None:
        """Read to the end."""
        await self.until(lambda: self.is_closed)

    async def until(self, is_so: Callable[[], bool], *, opens_window: bool = False) -> None:
        """Read until something is so, or the connection ended."""
        with trio.fail_after(PATIENCE_S):
            while not is_so() and not self.is_closed:
                try:
                    data = await self.stream.receive_some(65_536)
                except trio.BrokenResourceError:
                    data = b""
                if not data:
                    self.is_closed = True
                    return
                self._got += data
                while (frame := self._next_frame()) is not None:
                    for event in self.frames.receive_data(frame):
                        self._note(event, opens_window=opens_window)
                await self._answer()

    def _next_frame(self) -> bytes | None:
        """Cut off a frame; a goodbye is noted here, for h2 would take nothing behind it."""
        size = 9 + int.from_bytes(self._got[:3])
        if len(self._got) < max(size, 9):
            return None
        frame, self._got = self._got[:size], self._got[size:]
        if frame[3] != GOAWAY:
            return frame
        self.goodbye = int.from_bytes(frame[13:17])
        return b""

    async def _answer(self) -> None:
        try:
            await self.flush()
        except trio.BrokenResourceError:
            self.is_closed = True

    def _note(self, event: h2.events.Event, *, opens_window: bool) -> None:
        match event:
            case h2.events.ResponseReceived(stream_id=number, headers=headers):
                self.headers[number] = dict(headers)
                self.status[number] = self.headers[number][b":status"].decode()
            case h2.events.DataReceived(stream_id=number, data=data):
                self.bodies[number] += data
                if opens_window:
                    self.frames.acknowledge_received_data(event.flow_controlled_length, number)
            case h2.events.StreamEnded(stream_id=number):
                self.ended.add(number)
            case h2.events.StreamReset(stream_id=number, error_code=code):
                self.resets[number] = int(code)


@asynccontextmanager
async def connected(server: Server, contexts: Contexts) -> AsyncIterator[Http2Client]:
    """Connect to a server, by HTTP/2."""
    context = contexts[1]
    context.set_alpn_protocols(["h2"])
    raw = await trio.open_tcp_stream("127.0.0.1", server.port)
    stream = trio.SSLStream(raw, context, server_hostname="localhost", https_compatible=True)
    with trio.fail_after(PATIENCE_S):
        await stream.do_handshake()
    client = Http2Client(stream)
    await client.begin()
    try:
        yield client
    finally:
        raw.socket.close()
        context.set_alpn_protocols(["http/1.1"])


@asynccontextmanager
async def serving2(
    contexts: Contexts,
    handler: Handler,
    transport: TransportSettings | None = None,
    overload: OverloadSettings | None = None,
    on_stalled: Callable[[], None] = lambda: None,
) -> AsyncIterator[Server]:
    """Serve `handler` with TLS on a free port; drained at the end."""
    settings = ServerSettings(
        port=0,
        transport=transport or TransportSettings(),
        tls=contexts[0],
        overload=overload or OverloadSettings(),
        on_stalled=on_stalled,
    )
    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(serve, with_lifespan(handler), settings))
        yield server
        if not server.is_draining:
            await server.drain()
