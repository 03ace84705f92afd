"""How Quart is called: bodies that are read when they are wanted, answers in one piece, ends."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import pytest
import trio
from hypercorn.typing import (
    ASGIReceiveCallable,
    ASGISendCallable,
    ASGISendEvent,
    HTTPScope,
    Scope,
)

from tests.patience import PATIENCE_S, until
from tests.web.server.edge_kit import edged
from tests.web.server.serving_kit import Client
from web.server import header_map, ready_answer
from web.server.lean import LateHeaders

pytestmark = pytest.mark.usefixtures("road")

SAME = "sec-fetch-site: same-origin\r\n"
JSON = "content-type: application/json\r\n"


def head(port: int, path: str, more: str) -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{SAME}{JSON}{more}\r\n".encode()


def test_a_field_of_several_lines_is_one_list() -> None:
    # SEC-112: a handler must not see another request than the edge has judged
    lines = [
        (b"accept", b"text/html"),
        (b"cookie", b"a=1"),
        (b"accept", b"*/*"),
        (b"cookie", b"b=2"),
    ]
    given = LateHeaders.of(cast("HTTPScope", {"headers": lines, "client": ("127.0.0.1", 1)}))
    assert {name: given.get(name) for name in ("Accept", "cookie")} == {
        "Accept": header_map(lines)["accept"],
        "cookie": header_map(lines)["cookie"],
    }
    assert given["ACCEPT"] == "text/html, */*"
    assert given.getlist("accept") == ["text/html", "*/*"]
    assert given.get("origin") is None
    with pytest.raises(KeyError):
        given["origin"]


async def test_a_body_is_read_in_pieces_or_whole_by_one_or_by_several() -> None:
    async with edged() as ask:
        pieces = (await ask("POST /pieces", SAME + JSON, b"x" * 50_000)).body
        assert sum(int(size) for size in pieces.split(b",")) == 50_000
        assert (await ask("POST /twice", SAME + JSON, b"x" * 5000)).body == b"[5000, 5000]"
        assert (await ask("POST /twice", SAME)).body == b"[0, 0]"
        assert (await ask("POST /pieces", SAME)).body == b""


async def test_an_answer_without_any_body_is_one_behind_a_body_that_was_read() -> None:
    async with edged() as ask:
        for body in (b"", b"x" * 5000):
            reply = await ask("POST /nothing", SAME + JSON, body)
            assert (reply.status, reply.body) == (204, b"")
            assert not {"transfer-encoding", "content-length"} & reply.headers.keys()


@pytest.mark.parametrize("status", [200, 202, 303, 409])
async def test_an_answer_that_was_given_no_body_has_an_empty_one(status: int) -> None:
    async with edged() as ask:
        for body in (b"", b"x" * 5000):
            reply = await ask(f"POST /bare/{status}", SAME + JSON, body)
            assert (reply.status, reply.body) == (status, b"")
            assert reply.headers["content-length"] == "0"
            assert "transfer-encoding" not in reply.headers


@pytest.mark.parametrize(("path", "body"), [("/listed", b"one, two"), ("/made", b"012")])
async def test_quarts_own_class_takes_a_list_and_a_generator(path: str, body: bytes) -> None:
    async with edged() as ask:
        reply = await ask(f"GET {path}")
        assert reply.status == 200
        sizes = reply.body.split(b"\r\n")
        assert b"".join(sizes[1::2]) == body
        assert (await ask(f"HEAD {path}")).body == b""


async def test_an_answer_made_of_what_it_has_is_sent_as_any_other() -> None:
    async with edged() as ask:
        reply = await ask("GET /whole")
        assert (reply.status, reply.body) == (200, b"all of it")
        assert reply.headers["content-length"] == "9"
        assert reply.headers["content-type"] == "text/html"
        assert "'nonce-" in reply.headers["content-security-policy"]
        reply = await ask("HEAD /whole")
        assert (reply.status, reply.body, reply.headers["content-length"]) == (200, b"", "9")


async def test_a_client_that_leaves_in_its_body_cancels_its_handler() -> None:
    # REL-30
    async with edged() as ask:
        async with Client(await trio.open_tcp_stream("127.0.0.1", ask.port)) as client:
            await client.send(head(ask.port, "/hangs", "content-length: 9\r\n") + b"half")
            await trio.testing.wait_all_tasks_blocked(0.01)
        with trio.fail_after(PATIENCE_S):
            await ask.app.hung.wait()


async def test_a_stream_of_quarts_is_sent_as_it_comes() -> None:
    async with edged() as ask:
        reply = await ask("GET /streamed")
        assert reply.headers["transfer-encoding"] == "chunked"
        assert reply.body == b"".join(b"2\r\n%d\n\r\n" % n for n in range(3)) + b"0\r\n\r\n"
        assert (await ask("HEAD /streamed")).body == b""


async def test_a_ready_answer_has_the_headers_and_its_other_methods_go_on() -> None:
    # SITE-1, SITE-50
    async with edged() as ask:
        got, without = await ask("GET /file"), await ask("HEAD /file")
        assert (got.status, got.body, without.body) == (200, b"body", b"")
        assert (got.headers["content-type"], got.headers["cache-control"]) == ("text/css", "public")
        assert got.headers["x-content-type-options"] == "nosniff"
        assert without.headers["content-length"] == "4"
        assert (await ask("GET /file", host="evil.test")).status == 421
        assert (await ask("POST /file", SAME)).status == 404
        await until(lambda: len(ask.spans) == 4)
        # Told like every request, a refused one and one by the other road too (SITE-133).
        told = [(span.method, span.path, span.status) for span in ask.spans]
        assert told == [
            ("GET", "/file", 200), ("HEAD", "/file", 200), ("GET", "/file", 421),
            ("POST", "/file", 404),
        ]  # fmt: skip


async def test_ready_answers_follow_each_other_on_a_connection_as_others_do() -> None:
    # REL-51, PERF-40
    line = "GET {} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n{}\r\n"
    async with edged() as ask:
        asked = [("/file", ""), ("/probe", ""), ("/file", "content-length: 0\r\n"), ("/file", "")]
        asked.append(("/styles", "accept-encoding: gzip\r\nconnection: close\r\n"))
        async with Client(await trio.open_tcp_stream("127.0.0.1", ask.port)) as client:
            await client.send("".join(line.format(p, ask.port, more) for p, more in asked).encode())
            got = await client.read_to_end()
    assert got.count(b"HTTP/1.1 200 ") == len(asked)
    assert got.count(b"\r\n\r\nbody") == 3
    assert got.lower().count(b"connection: close") == 1
    assert b"content-encoding: gzip" in got.lower().split(b"http/1.1 200 ")[-1]
    assert len({span.request_id for span in ask.spans}) == len(asked)


async def test_a_ready_answer_that_fails_is_answered_as_a_failed_request() -> None:
    # SITE-151
    async with edged() as ask:

        def broken(*_: object) -> None:
            raise ValueError("the teller is broken")

        ask.app.edge._settings = replace(ask.app.edge._settings, tell_begin=broken)
        assert (await ask("GET /file")).status == 500


# The library's road has no such promise: it does not say that it still writes.
@pytest.mark.parametrize("road", ["plain"], indirect=True)
async def test_the_connection_of_a_ready_answer_ends_with_the_drain(road: str) -> None:
    # REL-20: what was asked for before is answered whole, though its client reads late
    body = b"x" * 500_000
    async with edged() as ask:
        ask.app.edge._ready_answer = {"/file": ready_answer("text/css", body)}.get
        async with Client(await trio.open_tcp_stream("127.0.0.1", ask.port)) as client:
            await client.send(f"GET /file HTTP/1.1\r\nHost: 127.0.0.1:{ask.port}\r\n\r\n".encode())
            await until(lambda: bool(ask.spans))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask.server.drain)
                await ask.server.draining.wait()
                got = await client.read_to_end()
    assert got.partition(b"\r\n\r\n")[2] == body


async def test_what_stands_before_the_application_sees_and_changes_every_message() -> None:
    async with edged() as ask:
        inner, seen = ask.app.asgi_app, list[str]()

        async def between(
            scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
        ) -> None:
            async def told(message: ASGISendEvent) -> None:
                seen.append(message["type"])
                if message["type"] == "http.response.body":
                    message["body"] = message["body"].lower()
                await send(message)

            await inner(scope, receive, told)

        ask.app.asgi_app = between  # type: ignore[method-assign]  # reason: Quart's place for it
        reply = await ask("GET /probe")
        assert (reply.status, reply.body) == (200, b"ok")
        assert reply.headers["x-frame-options"] == "DENY"
        # Quart's own class sends an empty one behind the last.
        assert seen[:2] == ["http.response.start", "http.response.body"]


@pytest.mark.parametrize("begins", [False, True])
async def test_who_goes_on_when_its_client_has_left_is_cancelled(begins: bool) -> None:
    # REL-30, REL-16: a stream's time has no end, but for that of its client
    begun, ended = trio.Event(), trio.Event()

    async def late(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        begun.set()
        try:
            await receive()
            while (await receive())["type"] != "http.disconnect":
                pass
            if begins:
                headers = [(b"content-type", b"text/event-stream")]
                start = {"type": "http.response.start", "status": 200, "headers": headers}
                await send(cast("ASGISendEvent", start))
            await trio.sleep_forever()
        finally:
            ended.set()

    async with edged() as ask:
        ask.app.edge._app = late
        async with Client(await trio.open_tcp_stream("127.0.0.1", ask.port)) as client:
            await client.send(f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{ask.port}\r\n\r\n".encode())
            await begun.wait()
        with trio.fail_after(PATIENCE_S):
            await ended.wait()
        await until(lambda: [span.status for span in ask.spans] == [200 if begins else None])
        assert not ask.refused
