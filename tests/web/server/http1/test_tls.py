"""HTTP/1.1 over TLS: the same answers, the same ends."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

import pytest
import trio
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope

from tests.patience import PATIENCE_S, until
from tests.web.server import serving_kit
from tests.web.server.http1.wire import split_answers
from tests.web.server.serving_kit import GET, UPGRADE, accept, answer, frame, with_lifespan
from web.server import Server, ServerSettings, TransportSettings, serve

pytestmark = pytest.mark.usefixtures("road")

QUICK = TransportSettings(linger_s=0.05, gone_grace_s=0.05)


Open = tuple[Server, trio.SSLStream[trio.SocketStream]]


@asynccontextmanager
async def opened(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext], handler: serving_kit.Handler
) -> AsyncIterator[Open]:
    transport = replace(QUICK, uses_library=serving_kit.USES_LIBRARY)
    settings = ServerSettings(port=0, transport=transport, tls=contexts[0])
    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(serve, with_lifespan(handler), settings))
        raw = await trio.open_tcp_stream("127.0.0.1", server.port)
        stream = trio.SSLStream(
            raw, contexts[1], server_hostname="localhost", https_compatible=True
        )
        yield server, stream
        raw.socket.close()
        await server.drain()


async def read_to_end(stream: trio.SSLStream[trio.SocketStream]) -> bytes:
    got = b""
    with trio.fail_after(PATIENCE_S):
        while data := await stream.receive_some(65_536):
            got += data
    return got


async def test_requests_over_tls_are_answered_in_order(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    # REL-51
    async def told(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        assert scope["type"] == "http"
        assert scope["scheme"] == "https"
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message["body"]
            if not message["more_body"]:
                await answer(send, scope["raw_path"] + body + b"x" * 100_000)
                return

    post = b"POST /post HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 3\r\n\r\n"
    async with opened(contexts, told) as (_, stream):
        await stream.send_all(GET + post)
        await trio.testing.wait_all_tasks_blocked(0.01)
        await stream.send_all(b"abc")
        got = split_answers(await read_to_end(stream), [b"GET", b"POST"])
    assert [one.body[:8] for one in got] == [b"/xxxxxxx", b"/postabc"]


async def test_a_client_over_tls_that_leaves_cancels_its_request(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    # REL-30
    begun, ended = trio.Event(), trio.Event()

    async def slow(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        begun.set()
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    async with opened(contexts, slow) as (server, stream):
        await stream.send_all(GET)
        await begun.wait()
        stream.transport_stream.socket.close()
        with trio.fail_after(PATIENCE_S):
            await ended.wait()
        await until(lambda: not server.connections)


async def test_a_websocket_over_tls_is_handed_over(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    # REL-44
    async def talk(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        wire = await accept(scope, receive, send)
        wire.lane.write(frame("hello"))
        await receive()

    async with opened(contexts, talk) as (_, stream):
        await stream.send_all(UPGRADE)
        got = b""
        with trio.fail_after(PATIENCE_S):
            while b"hello" not in got:
                got += await stream.receive_some(65_536)
        assert got.startswith(b"HTTP/1.1 101 ")
