"""The edge around a Quart application, on a real socket."""

from __future__ import annotations

import re
import uuid
from contextlib import AsyncExitStack

import pytest
import trio
import trio.abc
import trio.testing
from structlog.testing import capture_logs

from tests.patience import PATIENCE_S, until
from tests.web.server.edge_kit import Reply, edged, make_app
from tests.web.server.http2_kit import Contexts, connected, serving2
from tests.web.server.serving_kit import Client
from web.server.edge.answers import WITH_CAMERA, secured
from web.server.edge.edge import REQUEST_S
from web.server.serving import SURPLUS_MAX

# What a visitor is answered does not depend on the road: by our own class for Quart, or its own.
pytestmark = pytest.mark.usefixtures("road")

SAME = "sec-fetch-site: same-origin\r\n"
JSON = "content-type: application/json\r\n"
FORM = "content-type: application/x-www-form-urlencoded\r\n"


@pytest.mark.parametrize("is_https", [False, True])
@pytest.mark.parametrize(
    "line", ["GET /", "HEAD /", "GET /probe", "GET /nope", "POST /", "GET /fail/x", "GET /go",
             "GET /api/fail/x", "GET /api/nope", "POST /command", "BROKEN", "OPTIONS /",
             "OPTIONS *"],
)  # fmt: skip
async def test_every_answer_has_the_headers(line: str, is_https: bool) -> None:
    # SITE-50, SEC-60, SEC-65, SEC-69
    async with edged(is_https=is_https) as ask:
        reply = await ask(line)
    headers = reply.headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "camera=()" in headers["permissions-policy"]
    request_id = uuid.UUID(headers["x-request-id"])
    assert (str(request_id), request_id.version) == (headers["x-request-id"], 4)
    assert "server" not in headers
    # What is no request does not say that a proxy came with it by HTTPS.
    assert ("strict-transport-security" in headers) is (is_https and line != "BROKEN")
    policy = headers["content-security-policy"]
    if headers.get("content-type", "").startswith("text/html"):
        assert re.search(r"script-src 'nonce-[\w-]{22}' 'unsafe-eval'; style-src 'self'", policy)
        assert headers["cache-control"] == "no-store"
    else:
        assert policy == "default-src 'none'; frame-ancestors 'none'"


@pytest.mark.parametrize("is_https", [False, True])
@pytest.mark.parametrize(
    ("said", "kind", "is_open"),
    [
        (WITH_CAMERA, b"text/html; charset=utf-8", True),
        (WITH_CAMERA, b"application/json", False),
        ((b"permissions-policy", b"camera=*"), b"text/html", False),
        ((b"permissions-policy", b"camera=(self)"), b"text/html", False),
        ((b"permissions-policy", WITH_CAMERA[1] + b", usb=*"), b"text/html", False),
        ((b"x-permissions", WITH_CAMERA[1]), b"text/html", False),
    ],
)
def test_a_page_may_ask_for_the_camera_and_for_nothing_else(
    said: tuple[bytes, bytes], kind: bytes, is_open: bool, is_https: bool
) -> None:
    # SEC-65
    found = secured([said, (b"content-type", kind)], request_id="", nonce="", is_https=is_https)
    (policy,) = [value for name, value in found if name == b"permissions-policy"]
    camera = b"(self)" if is_open else b"()"
    assert policy == b"camera=" + camera + b", microphone=(), geolocation=()"
    assert (
        (b"x-frame-options", b"DENY") in found,
        b"strict-transport-security" in dict(found),
    ) == (
        True,
        is_https,
    )


async def test_a_page_knows_its_own_nonce_and_visitor() -> None:
    # SEC-60, SITE-43
    async with edged() as ask:
        one, two = await ask("GET /"), await ask("GET /")
    nonce, _, request_id, same_nonce, visitor = one.body.decode().split()
    assert nonce == same_nonce
    assert f"'nonce-{nonce}'" in one.headers["content-security-policy"]
    assert request_id == one.headers["x-request-id"]
    assert nonce not in two.body.decode()
    assert one.headers["set-cookie"].startswith(f"gr_visitor={visitor.replace('-', '')}.")


async def test_the_visitor_cookie_is_kept_replaced_and_rotated() -> None:
    # SITE-43, SEC-13, SEC-10
    async with edged() as ask:
        assert "set-cookie" not in (await ask("GET /probe")).headers
        first = await ask("GET /")
        cookie = first.headers["set-cookie"].partition(";")[0]
        again = await ask("GET /", f"cookie: {cookie}\r\n")
        assert "set-cookie" not in again.headers
        assert again.body.split()[4] == first.body.split()[4]
        forged = await ask("GET /", f"cookie: {cookie[:-2]}\r\n")
        assert "set-cookie" in forged.headers
        rotated = await ask("POST /rotate", SAME + f"cookie: {cookie}\r\n")
        assert rotated.status == 204
        assert rotated.headers["set-cookie"].partition(";")[0] != cookie
    async with edged(is_https=True) as ask:
        assert (await ask("GET /")).headers["set-cookie"].startswith("__Host-gr_visitor=")


async def test_the_request_id_is_ours() -> None:
    # SITE-156
    async with edged() as ask:
        reply = await ask("GET /probe", "x-request-id: theirs\r\n")
    assert reply.headers["x-request-id"] != "theirs"


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "", "127.0.0.1:1"])
async def test_an_unknown_host_is_421(host: str) -> None:
    # SITE-150
    async with edged() as ask:
        assert (await ask("GET /", host=host)).status == 421
        assert (await ask("GET /", host="LOCALHOST:1")).status == 200


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        (SAME, b"", 202),
        ("sec-fetch-site: cross-site\r\n", b"", 403),
        ("", b"", 403),
        ("origin: null\r\n", b"", 403),
        (SAME + JSON, b"{}", 202),
        (SAME + FORM, b"a=b", 202),
        (SAME + "content-type: Application/JSON; charset=utf-8\r\n", b"{}", 202),
        (SAME + "content-type: text/plain\r\n", b"{}", 415),
        (SAME + "content-type: multipart/form-data; boundary=x\r\n", b"{}", 415),
        # RFC 9110 8.4: what is announced as compressed is read as what it is by nobody here.
        (SAME + JSON + "content-encoding: gzip\r\n", b"{}", 415),
        (SAME + JSON + "content-encoding: identity, br\r\n", b"{}", 415),
        (SAME, b"{}", 415),
        (SAME + JSON, b"x" * 65_536, 202),
        (SAME + JSON, b"x" * 65_537, 413),
    ],
)
async def test_a_command_passes_only_from_here_and_in_a_known_form(
    headers: str, body: bytes, status: int
) -> None:
    # SEC-30, SEC-31, SEC-33, SITE-44, SITE-150
    async with edged() as ask:
        assert (await ask("POST /command", headers, body)).status == status


async def test_a_form_passes_with_the_token_of_its_page() -> None:
    # SEC-31, SEC-32
    async with edged() as ask:
        home = await ask("GET /")
        cookie = "cookie: " + home.headers["set-cookie"].partition(";")[0] + "\r\n"
        token = home.body.decode().split()[1]
        form = b"csrf=" + token.encode() + b"&a=b"
        assert (await ask("POST /command", cookie + FORM, form)).status == 202
        header = f"x-csrf-token: {token}\r\n"
        assert (await ask("POST /command", cookie + header)).status == 202
        assert (await ask("POST /command", header)).status == 403  # another visitor's
        assert (await ask("POST /command", cookie + FORM, b"csrf=x")).status == 403


async def test_a_body_without_length_is_counted_as_it_comes() -> None:
    # SITE-150
    chunked = b"10000\r\n" + b"x" * 65_536 + b"\r\n1\r\ny\r\n0\r\n\r\n"
    async with edged() as ask:
        headers = SAME + JSON + "transfer-encoding: chunked\r\nconnection: close\r\n"
        async with Client(await trio.open_tcp_stream("127.0.0.1", ask.port)) as client:
            head = f"POST /command HTTP/1.1\r\nHost: 127.0.0.1:{ask.port}\r\n{headers}\r\n"
            await client.send(head.encode() + chunked)
            assert Reply(await client.read_to_end()).status == 413


async def test_errors_are_pages_json_or_bare() -> None:
    # SITE-150, SITE-151, SITE-101, WEB-1, SITE-154
    async with edged() as ask:
        shown = await ask("GET /fail/x")
        assert shown.status == 500
        assert shown.body.decode().split("</h1> ")[1].split()[0] == shown.headers["x-request-id"]
        assert b"secret cause" not in shown.body
        api = await ask("GET /api/fail/x")
        assert api.headers["content-type"] == "application/json"
        assert api.body == (
            b'{"code":"INTERNAL_SERVER_ERROR","message":"An internal error occurred"}'
        )
        bare = await ask("GET /fail/away", "datastar-request: true\r\n")
        assert (bare.status, bare.body, bare.headers["retry-after"]) == (503, b"", "1")
        assert [row.status for row in ask.refused] == [500, 500, 503]
        broken = await ask("GET /fail/conflict")
        assert broken.status == 409
        assert b"Already taken" in broken.body  # the plain page
        # Also when whoever is told of it is broken.
        missing = await ask("GET /api/nope")
        assert missing.body == b'{"code":"NOT_FOUND","message":"There is nothing here."}'


async def test_head_has_no_body_and_405_tells_what_is_allowed() -> None:
    # SITE-150
    async with edged() as ask:
        head = await ask("HEAD /")
        assert (head.status, head.body) == (200, b"")
        wrong = await ask("GET /command")
        assert (wrong.status, wrong.headers["allow"]) == (405, "OPTIONS, POST")
        moved = await ask("GET /go")
        assert (moved.status, moved.headers["location"]) == (303, "/")


async def test_a_star_asks_what_the_server_takes_at_all() -> None:
    # SEC-112, WEB-11: of no resource, so there is none that could be missing (RFC 9110 9.3.7)
    async with edged() as ask:
        whole = await ask("OPTIONS *")
        assert (whole.status, whole.body) == (200, b"")
        assert whole.headers["allow"] == "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"
        assert whole.headers["content-length"] == "0"
        assert "set-cookie" not in whole.headers
        assert (await ask("OPTIONS *", host="evil.example")).status == 421
        assert (await ask("GET *")).status == 400


@pytest.mark.parametrize("method", ["TRACE", "PURGE", "PROPFIND", "M-SEARCH"])
async def test_a_strange_method_is_405_where_there_is_a_route_and_else_501(method: str) -> None:
    # SEC-112: also without a word about its origin
    async with edged() as ask:
        here = await ask(f"{method} /command")
        assert (here.status, here.headers["allow"]) == (405, "OPTIONS, POST")
        assert (await ask(f"{method} /nowhere")).status == 501


@pytest.mark.parametrize("name", ["origin", "content-type", "sec-fetch-site"])
async def test_a_header_that_says_one_thing_comes_once(name: str) -> None:
    # SEC-30, SEC-33: the check and the route may not read two different ones
    async with edged() as ask:
        twice = f"{name}: same-origin\r\n{name}: cross-site\r\n"
        reply = await ask("POST /command", SAME.replace("sec-fetch-site", "a") + twice)
        assert (reply.status, reply.headers["connection"]) == (400, "close")
        assert "content-security-policy" in reply.headers


@pytest.mark.parametrize("is_tls", [True, False])
async def test_only_over_tls_somebody_is_told_to_stay_on_https(
    contexts: Contexts, *, is_tls: bool
) -> None:
    # SEC-65: also who sent what is no request, and has no head to say how it came
    tls = contexts[0] if is_tls else None
    async with edged(is_https=True, has_proxy=False, tls=tls) as ask:
        own = f"Host: 127.0.0.1:{ask.port}\r\nConnection: close\r\n\r\n"
        for head, status in (
            (f"GET / HTTP/1.1\r\n{own}", 200 if is_tls else 308),
            (f"GET / HTTP/1.1\r\nHost: x\r\n{own}", 400),
        ):
            plain = await trio.open_tcp_stream("127.0.0.1", ask.port)
            stream: trio.abc.Stream = plain
            if is_tls:
                stream = trio.SSLStream(
                    plain, contexts[1], server_hostname="localhost", https_compatible=True
                )
            await stream.send_all(head.encode())
            got = b""
            with trio.fail_after(PATIENCE_S):
                while data := await stream.receive_some():
                    got += data
            reply = Reply(got)
            assert reply.status == status
            assert ("strict-transport-security" in reply.headers) is is_tls
            await trio.aclose_forcefully(stream)


async def test_a_route_can_ask_for_one_media_type() -> None:
    # SEC-33
    async with edged() as ask:
        assert (await ask("POST /json", SAME + JSON, b"{}")).status == 200
        assert (await ask("POST /json", SAME + FORM, b"a=b")).status == 415


@pytest.mark.parametrize("word", ["slow", "nursery"])
async def test_a_request_past_its_deadline_is_503(
    word: str, mock_clock: trio.testing.MockClock
) -> None:
    # SITE-153, REL-16: also when what was cancelled comes as a group, out of its own nursery
    mock_clock.rate = 1.0
    with capture_logs() as logged:
        async with edged(REQUEST_S) as ask, trio.open_nursery() as nursery:

            async def late() -> None:
                await until(lambda: ask.app.slow == 1)
                mock_clock.jump(REQUEST_S)

            nursery.start_soon(late)
            reply = await ask(f"GET /fail/{word}")
    assert (reply.status, reply.headers["retry-after"]) == (503, "1")
    assert [entry for entry in logged if entry["log_level"] == "error"] == []


async def test_a_stream_has_no_total_time_and_whatever_else_is_late_is_seen_to_be_cut(
    mock_clock: trio.testing.MockClock,
) -> None:
    # REL-16
    mock_clock.rate = 1.0
    async with edged(REQUEST_S) as ask, AsyncExitStack() as stack:
        clients, begun = [], []
        for kind in ("event-stream", "document", "plain"):
            stream = await trio.open_tcp_stream("127.0.0.1", ask.port)
            clients.append(await stack.enter_async_context(Client(stream)))
            host = f"Host: 127.0.0.1:{ask.port}"
            await clients[-1].send(f"GET /long/{kind} HTTP/1.1\r\n{host}\r\n\r\n".encode())
            begun.append(await clients[-1].read_until(b"0\n\r\n"))
        *long, cut = clients
        mock_clock.jump(REQUEST_S)
        assert await cut.read_to_end() == b""
        ask.app.go_on.set()
        for whole in long:
            assert await whole.read_until(b"0\r\n\r\n") == b"2\r\n1\n\r\n0\r\n\r\n"
    assert all(one.startswith(b"HTTP/1.1 200 ") for one in begun)


async def test_a_stream_over_http2_has_no_total_time_and_what_is_cut_is_reset(
    contexts: Contexts, mock_clock: trio.testing.MockClock
) -> None:
    # REL-16
    mock_clock.rate = 1.0
    app = make_app("https://x", [], REQUEST_S, [], 1000, 8)
    async with serving2(contexts, app) as server, connected(server, contexts) as client:
        whole, cut = await client.ask("/long/event-stream"), await client.ask("/long/plain")
        await client.until(lambda: client.bodies[whole] == client.bodies[cut] == b"0\n")
        mock_clock.jump(REQUEST_S)
        await client.until(lambda: cut in client.resets)
        app.go_on.set()
        await client.until(lambda: whole in client.ended)
    assert (client.status[whole], client.bodies[whole]) == ("200", b"0\n1\n")
    assert cut not in client.ended


async def test_a_body_over_http2_needs_no_length(contexts: Contexts) -> None:
    app = make_app("https://x", [], REQUEST_S, [], 1000, 8)
    more = [("content-type", "application/json"), ("sec-fetch-site", "same-origin")]
    async with serving2(contexts, app) as server, connected(server, contexts) as client:
        number = client.frames.get_next_available_stream_id()
        head = [(":method", "POST"), (":scheme", "https"), (":authority", "x"), *more]
        client.frames.send_headers(number, [*head[:3], (":path", "/command"), *head[3:]])
        client.frames.send_data(number, b"x" * 10, end_stream=True)
        await client.flush()
        await client.until(lambda: number in client.ended)
    assert (client.status[number], client.bodies[number]) == ("202", b"10")


@pytest.mark.parametrize("path", ["/command", "/pieces", "/twice"])
@pytest.mark.parametrize("framing", ["content-length: 5", "transfer-encoding: chunked"])
async def test_a_body_that_does_not_come_is_408_also_where_both_times_are_over(
    path: str, framing: str, mock_clock: trio.testing.MockClock
) -> None:
    # REL-14: the request's deadline is no later than the body's
    mock_clock.rate = 1.0
    with capture_logs() as logged:
        async with edged(REQUEST_S) as ask, trio.open_nursery() as nursery:

            async def late() -> None:
                await until(lambda: ask.app.edge._in_hand == 1)
                await trio.testing.wait_all_tasks_blocked()
                mock_clock.jump(REQUEST_S)

            nursery.start_soon(late)
            reply = await ask(f"POST {path}", f"{SAME}{JSON}{framing}\r\n")
    assert reply.status == 408
    assert [entry for entry in logged if entry["log_level"] in ("warning", "error")] == []


async def test_a_forwarded_address_of_a_stranger_is_told_once_of_pages_and_of_sockets() -> None:
    # WEB-11: behind a proxy that nobody named, the whole site counts as one address
    forwarded = "x-forwarded-for: 203.0.113.7\r\n"
    upgrade = (
        "upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\n"
        "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    )
    with capture_logs() as logged:
        async with edged() as ask:
            for _ in range(2):
                reply = await ask("GET /nowhere", f"{forwarded}{upgrade}")
                assert (reply.status, reply.headers["content-type"]) == (404, "application/json")
            assert ask.app.edge.addresses.statistics().unasked == 2
            await ask("GET /", forwarded)
            assert ask.app.edge.addresses.statistics().unasked == 3
    told = [entry for entry in logged if entry["event"] == "request.forwarded_by_untrusted"]
    assert [entry["log_level"] for entry in told] == ["warning"]


@pytest.mark.parametrize(
    ("line", "headers", "status", "route"),
    [
        ("GET /?token=canary", "", 200, "/"),
        ("GET /file", "", 200, None),
        ("GET /nope", "", 404, None),
        ("POST /command", "sec-fetch-site: cross-site\r\n", 403, None),
        ("GET /fail/x", "", 500, "/fail/<word>"),
        ("TRACE /", "", 405, None),
    ],
)
async def test_every_request_is_told_once(
    line: str, headers: str, status: int, route: str | None
) -> None:  # SITE-121, SITE-133
    async with edged() as ask:
        reply = await ask(line, f"user-agent: a browser\r\nx-request-id: mine\r\n{headers}")
        # The answer may be here before the server's task has gone on.
        await until(lambda: bool(ask.spans))
    (span,) = ask.spans
    method, path = line.split(" ")
    assert (span.method, span.path) == (method, path.partition("?")[0])
    assert (span.status, span.route, reply.status) == (status, route, status)
    assert span.request_id == reply.headers["x-request-id"]
    assert (span.client_request_id, span.address) == ("mine", "127.0.0.1")
    assert span.latency_s >= 0
    assert "canary" not in repr(span)


async def test_bytes_that_were_no_request_are_told_too() -> None:  # SITE-133
    async with edged() as ask:
        reply = await ask("BROKEN")
        (span,) = ask.spans
    assert (span.status, span.request_id) == (400, reply.headers["x-request-id"])
    assert span.rule
    # Who sends such bytes all day is to be found.
    assert span.address == "127.0.0.1"


async def test_a_request_that_a_stop_cut_off_is_told_when_to_come_again() -> None:
    # REL-20 step 2
    async with edged() as ask:
        found = ask.app.edge.protocol_error(503, "The server stops.", False, "")
    assert found.status == 503
    assert (b"retry-after", b"1") in found.headers
    assert b"Back in a moment" in found.body


async def test_a_client_that_left_is_told_without_a_status() -> None:  # SITE-121
    async with edged() as ask:
        client = Client(await trio.open_tcp_stream("127.0.0.1", ask.port))
        async with client:
            host = f"Host: 127.0.0.1:{ask.port}"
            await client.send(f"GET /fail/slow HTTP/1.1\r\n{host}\r\n\r\n".encode())
            await until(lambda: ask.app.slow > 0)
        await until(lambda: bool(ask.spans))
        (span,) = ask.spans
    assert (span.status, span.route) == (None, "/fail/<word>")


async def test_more_connections_than_there_may_be_are_told_so() -> None:
    # REL-70: one request each, probes and files are answered, and those behind them are closed
    async with edged(connections_max=2) as ask, AsyncExitStack() as stack:

        async def hold() -> Client:
            stream = await trio.open_tcp_stream("127.0.0.1", ask.port)
            return await stack.enter_async_context(Client(stream))

        with capture_logs() as logged:
            held = [await hold() for _ in range(2)]
            await until(lambda: len(ask.server.connections) == 2)
            for _ in range(2):
                client = await hold()
                await client.send(f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{ask.port}\r\n\r\n".encode())
                reply = Reply(await client.read_to_end())
                assert (reply.status, reply.headers["retry-after"]) == (503, "1")
                assert reply.headers["connection"] == "close"
                assert "content-security-policy" in reply.headers
            assert (await ask("GET /probe")).status == 200
            assert (await ask("GET /file")).status == 200
            upgrade = (
                "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==\r\n"
            )
            assert (await ask("GET /ws", upgrade)).status in {400, 503}
            await until(lambda: len(ask.server.connections) == 2)
            held += [await hold() for _ in range(SURPLUS_MAX)]
            await until(lambda: len(ask.server.connections) == 2 + SURPLUS_MAX)
            assert await (await hold()).read_to_end() == b""
            assert len(ask.server.connections) == 2 + SURPLUS_MAX
        assert [one["event"] for one in logged].count("server.connections_full") == 1
        assert ask.server.statistics().refused == 5 + SURPLUS_MAX + 1
        # Streams have a limit of their own, and take nobody's place.
        ask.app.streams = SURPLUS_MAX + 1
        assert (await ask("GET /")).status == 200


async def test_more_requests_than_may_be_in_hand_are_refused_at_once() -> None:
    # REL-74
    held, body = "Content-Length: 4\r\n", b"body"
    async with edged(requests_max=3) as ask:
        clients = [Client(await trio.open_tcp_stream("127.0.0.1", ask.port)) for _ in range(3)]
        origin = f"Host: 127.0.0.1:{ask.port}\r\n{SAME}{JSON}"
        with capture_logs() as logged:
            for client in clients:
                await client.send(f"POST /hangs HTTP/1.1\r\n{origin}{held}\r\n".encode())
            # Each is in hand until its body is here.
            await until(lambda: ask.app.edge._in_hand == 3)
            for _ in range(2):
                reply = await ask("GET /")
                assert (reply.status, reply.headers["retry-after"]) == (503, "1")
                assert "content-security-policy" in reply.headers
            assert (await ask("GET /probe")).status == 200
            assert (await ask("GET /file")).status == 200
        assert [entry["event"] for entry in logged].count("request.too_many") == 1
        assert ask.app.edge.overloads == 2
        await clients[0].send(body)
        assert b" 200 " in await clients[0].read_until(b"\r\n\r\n4")
        assert (await ask("GET /")).status == 200
        # One that leaves is not in hand any more.
        clients[1].stream.socket.close()
        await until(lambda: ask.app.edge._in_hand == 1)
        for client in clients:
            client.stream.socket.close()


async def test_of_twice_as_many_as_may_be_in_hand_half_is_served_and_half_refused_at_once() -> None:
    # REL-74: also where those in hand are of one address, and most of them wait for their turn
    in_hand_max = 4
    async with (
        edged(requests_max=in_hand_max, requests_per_address=1) as ask,
        AsyncExitStack() as stack,
    ):
        head = (
            f"POST /hangs HTTP/1.1\r\nHost: 127.0.0.1:{ask.port}\r\n{SAME}{JSON}"
            "Connection: close\r\nContent-Length: 4\r\n\r\n"
        )
        held = []
        for _ in range(in_hand_max):
            stream = await trio.open_tcp_stream("127.0.0.1", ask.port)
            held.append(await stack.enter_async_context(Client(stream)))
            await held[-1].send(head.encode())
        await until(lambda: ask.app.edge._in_hand == in_hand_max)
        refused: list[Reply] = []

        async def come() -> None:
            refused.append(await ask("POST /hangs", f"{SAME}{JSON}", b"body"))

        # They end while none of those before them has, so nobody's end is what they wait for.
        async with trio.open_nursery() as nursery:
            for _ in range(in_hand_max):
                nursery.start_soon(come)
        assert ask.app.edge._in_hand == in_hand_max
        for reply in refused:
            assert (reply.status, reply.headers["retry-after"]) == (503, "1")
            assert reply.headers["x-content-type-options"] == "nosniff"
            assert "content-security-policy" in reply.headers
            assert uuid.UUID(reply.headers["x-request-id"]).version == 4
        assert ask.app.edge.overloads == in_hand_max
        for client in held:
            await client.send(b"body")
        for client in held:
            served = Reply(await client.read_to_end())
            assert (served.status, served.body) == (200, b"4")


async def test_over_http2_the_surplus_is_refused_at_once_and_what_is_in_hand_is_served(
    contexts: Contexts,
) -> None:
    # REL-74
    app = make_app("https://x", [], REQUEST_S, [], 2, 8)
    async with serving2(contexts, app) as server, connected(server, contexts) as client:
        held = [await client.ask("/long/plain") for _ in range(2)]
        await client.until(lambda: all(client.bodies[number] == b"0\n" for number in held))
        refused = [await client.ask("/") for _ in range(2)]
        await client.until(lambda: client.ended.issuperset(refused))
        for number in refused:
            headers = client.headers[number]
            assert (client.status[number], headers[b"retry-after"]) == ("503", b"1")
            assert b"content-security-policy" in headers
        app.go_on.set()
        await client.until(lambda: client.ended.issuperset(held))
        assert [client.bodies[number] for number in held] == [b"0\n1\n"] * 2
