"""A real server around a small ASGI application, and raw clients for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

import trio
from hypercorn.typing import ASGIFramework, ASGIReceiveCallable, ASGISendCallable, Scope

from tests.patience import PATIENCE_S
from web.server import (
    WIRE_KEY,
    Frame,
    Framing,
    Lane,
    Server,
    ServerSettings,
    TransportSettings,
    Wire,
    serve,
    transport_of,
)

# Which of the two roads requests take; the fixture `road` sets it (conftest.py).
USES_LIBRARY = False

Handler = Callable[[Scope, ASGIReceiveCallable, ASGISendCallable], Awaitable[None]]


def with_lifespan(handler: Handler) -> ASGIFramework:
    async def app(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] != "lifespan":
            await handler(scope, receive, send)
            return
        while True:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                await send({"type": "lifespan.shutdown.complete"})
                return
            await send({"type": "lifespan.startup.complete"})

    return app


async def answer(send: ASGISendCallable, body: bytes, status: int = 200) -> None:
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def begin_stream(scope: Scope, send: ASGISendCallable) -> Lane:
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b": open\n\n", "more_body": True})
    transport = transport_of(scope)
    assert transport is not None
    lane = transport.lane(Framing.CHUNKED)
    assert lane is not None
    return lane


async def accept(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> Wire:
    await receive()
    await send({"type": "websocket.accept", "subprotocol": None, "headers": []})
    assert scope["type"] == "websocket"
    wire = scope["state"][WIRE_KEY]
    assert isinstance(wire, Wire)
    return wire


def frame(text: str) -> bytes:
    return Frame(text.encode()).wire(Framing.SOCKET)


@asynccontextmanager
async def serving(
    handler: Handler, transport: TransportSettings | None = None
) -> AsyncIterator[Server]:
    """Serve `handler` on a free port; drained at the end."""
    chosen = replace(transport or TransportSettings(), uses_library=USES_LIBRARY)
    settings = ServerSettings(port=0, transport=chosen)
    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(serve, with_lifespan(handler), settings))
        yield server
        if not server.is_draining:
            await server.drain()


class Client:
    """A raw connection."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stream.socket.close()

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def read_until(self, mark: bytes) -> bytes:
        data = b""
        with trio.fail_after(PATIENCE_S):
            while mark not in data:
                got = await self.stream.receive_some()
                assert got, f"closed after {data!r}"
                data += got
        return data

    async def read_to_end(self) -> bytes:
        """Read until the server closed, or reset, the connection."""
        data = b""
        with trio.fail_after(PATIENCE_S):
            try:
                while got := await self.stream.receive_some():
                    data += got
            except trio.BrokenResourceError:
                pass
        return data


async def connect(server: Server) -> Client:
    return Client(await trio.open_tcp_stream("127.0.0.1", server.port))


async def connect_narrow(server: Server) -> Client:
    """Connect with a receive buffer of a few kilobytes, which the kernel does not widen."""
    raw = trio.socket.socket()
    # Before the connection is made: afterwards the kernel has promised more.
    raw.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 4096)
    await raw.connect(("127.0.0.1", server.port))
    return Client(trio.SocketStream(raw))


GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
)
