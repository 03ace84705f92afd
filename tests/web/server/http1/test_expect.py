"""`Expect: 100-continue`: the word to go on is given to who reads the body, and only then."""

from __future__ import annotations

import trio
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope

from tests.web.server.edge_kit import edged
from tests.web.server.http1.wire import split_answers
from tests.web.server.serving_kit import Client, answer, connect, serving

POST = b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-Continue\r\nContent-Length: 5\r\n\r\n"


async def test_who_reads_the_body_says_go_on_once() -> None:
    # REL-52
    async def echo(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message["body"]
            if not message["more_body"]:
                await answer(send, body)

    async with serving(echo) as server, await connect(server) as client:
        await client.send(POST)
        got = await client.read_until(b"\r\n\r\n")
        await client.send(b"he")
        await client.send(b"llo")
        got += await client.read_until(b"hello")
    assert [one.status for one in split_answers(got, [b"POST"])] == [100, 200]


async def test_whoever_does_not_read_it_answers_at_once_and_for_good() -> None:
    # REL-52: the body is not waited for, so nothing can follow it on this connection
    async def refuse(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        await answer(send, b"too large", status=413)

    async with serving(refuse) as server, await connect(server) as client:
        await client.send(POST)
        (only,) = split_answers(await client.read_to_end(), [b"POST"])
    assert (only.status, only.closes) == (413, True)


async def test_a_body_that_is_here_already_needs_no_word() -> None:
    # RFC 9110 10.1.1
    async def read(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        message = await receive()
        assert message["type"] == "http.request"
        await answer(send, message["body"])

    async with serving(read) as server, await connect(server) as client:
        await client.send(POST + b"hello")
        got = await client.read_until(b"hello")
    assert [one.status for one in split_answers(got, [b"POST"])] == [200]


async def test_what_is_refused_for_its_address_never_asks_for_its_body() -> None:
    # REL-52: through Quart too the status is certain before a byte of the body is
    async with (
        edged() as ask,
        Client(await trio.open_tcp_stream("127.0.0.1", ask.port)) as client,
    ):
        head = f"POST /no HTTP/1.1\r\nHost: 127.0.0.1:{ask.port}\r\nSec-Fetch-Site: same-origin\r\n"
        more = "Content-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n"
        await client.send((head + more).encode())
        (only,) = split_answers(await client.read_to_end(), [b"POST"])
    assert (only.status, only.closes) == (404, True)
