"""A server that says back what it is told, on the whole stack: what the programs talk to.

Our listener, transport, edge and lanes; replies alternate between the fast lane and the library's
own road, as those of the site do.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import trio
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope

from actors.runtime import Secret
from web.server import (
    WIRE_KEY,
    Checks,
    EdgeSettings,
    ErrorTable,
    KeyRing,
    Server,
    ServerSettings,
    TransportSettings,
    WebApp,
    Wire,
    open_listeners,
    serve,
    text_frame,
)

# The largest messages of the suite have 16 MiB, in pieces of 64 bytes.
LARGE = TransportSettings(
    message_bytes_max=2**26, fragments_max=2**20, agrees_to_deflate=True, frame_s=300.0
)


async def echo(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    """Serve one socket."""
    assert scope["type"] == "websocket"
    await receive()
    await send({"type": "websocket.accept", "subprotocol": None, "headers": []})
    wire = scope["state"][WIRE_KEY]
    assert isinstance(wire, Wire)
    while (message := await receive())["type"] == "websocket.receive":
        text = message.get("text")
        # What the lane does not take now goes the other way, and waits.
        if text is None or not (wire.lane.is_ready and wire.lane.write(text_frame(text.encode()))):
            await send({"type": "websocket.send", "bytes": message.get("bytes"), "text": text})


@asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    """Serve on a free port of this machine."""
    sockets = open_listeners("127.0.0.1", 0)
    origin = f"http://127.0.0.1:{sockets[0].getsockname()[1]}"
    checks = Checks(own_origin=origin, public_sockets=frozenset({"/ws"}))
    edge = EdgeSettings(checks=checks, ring=KeyRing(Secret(b"k" * 64)))
    app = WebApp(__name__, edge, ErrorTable(), sockets={"/ws": echo})
    settings = ServerSettings(transport=LARGE)
    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(serve, app, settings, sockets=sockets))
        yield server
        await server.drain()
