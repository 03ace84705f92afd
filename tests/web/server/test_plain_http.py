"""The site in HTTPS mode, asked over plain HTTP: pages lead to HTTPS, all else is refused."""

from __future__ import annotations

import json

import pytest
from structlog.testing import capture_logs

from tests.web.server.edge_kit import Asker, Reply, edged
from web.server.edge.addresses import is_plain

pytestmark = pytest.mark.usefixtures("road")

PLAIN = "x-forwarded-proto: http\r\n"
SAME = "sec-fetch-site: same-origin\r\n"
UPGRADE = (
    "upgrade: websocket\r\nconnection: upgrade\r\n"
    "sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)


def check_headers(reply: Reply) -> None:
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert "content-security-policy" in reply.headers
    assert "x-request-id" in reply.headers
    assert "set-cookie" not in reply.headers
    # RFC 6797 7.2
    assert "strict-transport-security" not in reply.headers


def own(ask: Asker) -> str:
    return f"https://127.0.0.1:{ask.port}"


@pytest.mark.parametrize("has_proxy", [True, False])
@pytest.mark.parametrize(
    "target",
    ["/", "/?a=1&b=%20", "/nope", "/file", "/go", "/%2e%2e//evil.example", "//evil.example/x"],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_page_leads_to_itself_over_https(method: str, target: str, has_proxy: bool) -> None:
    # SEC-41
    async with edged(is_https=True, has_proxy=has_proxy) as ask:
        reply = await ask(f"{method} {target}", PLAIN)
        assert (reply.status, reply.body) == (308, b"")
        assert reply.headers["location"] == own(ask) + target
        assert reply.headers["cache-control"] == "no-store"
        check_headers(reply)
        assert [span.status for span in ask.spans] == [308]


async def test_it_leads_to_the_sites_own_name_whatever_the_request_calls_it() -> None:
    # SEC-41, SEC-84: plain HTTP comes by another port than the site's own
    async with edged(is_https=True) as ask:
        for host in ("127.0.0.1", "LOCALHOST", "localhost:80", f"127.0.0.1:{ask.port}"):
            reply = await ask("GET /a", PLAIN + "x-forwarded-host: evil.example\r\n", host=host)
            assert (reply.status, reply.headers["location"]) == (308, own(ask) + "/a")
        for host in ("evil.example", "", "127.0.0.1.evil.example"):
            assert (await ask("GET /a", PLAIN, host=host)).status == 421


@pytest.mark.parametrize("has_proxy", [True, False])
@pytest.mark.parametrize(
    ("line", "headers"),
    [
        ("POST /command", SAME), ("PUT /", SAME), ("DELETE /", SAME), ("OPTIONS /", ""),
        ("BREW /", ""), ("GET /api/nope", ""), ("HEAD /api/nope", ""), ("POST /api/nope", ""),
        ("GET /stream", ""), ("GET /", "accept: text/event-stream\r\n"),
        ("GET /", "datastar-request: true\r\n"), ("POST /command", "origin: null\r\n"),
    ],
)  # fmt: skip
async def test_everything_else_is_refused(line: str, headers: str, has_proxy: bool) -> None:
    # SEC-41
    async with edged(is_https=True, has_proxy=has_proxy) as ask:
        reply = await ask(line, PLAIN + headers)
        assert reply.status == 403
        assert "location" not in reply.headers
        check_headers(reply)
        if "/api/" in line and not line.startswith("HEAD"):
            assert json.loads(reply.body)["message"] == "This site is served over HTTPS only."


async def test_a_body_changes_nothing() -> None:
    # SEC-41: nor is it read by anybody
    async with edged(is_https=True) as ask:
        kinds = ("application/json", "text/plain", "application/x-www-form-urlencoded")
        for kind in kinds:
            headers = f"{PLAIN}{SAME}content-type: {kind}\r\n"
            assert (await ask("POST /command", headers, b"{}")).status == 403
        assert (await ask("POST /command", SAME)).status == 202


@pytest.mark.parametrize("has_proxy", [True, False])
async def test_a_socket_is_refused(has_proxy: bool) -> None:
    # SEC-41
    async with edged(is_https=True, has_proxy=has_proxy) as ask:
        reply = await ask("GET /ws", PLAIN + UPGRADE + f"origin: {own(ask)}\r\n")
        assert reply.status == 403
        assert json.loads(reply.body)["message"] == "This site is served over HTTPS only."
        check_headers(reply)
    async with edged(is_https=True) as ask:  # none is there, and that is what HTTPS is told
        assert (await ask("GET /ws", UPGRADE + f"origin: {own(ask)}\r\n")).status == 404


@pytest.mark.parametrize("has_proxy", [True, False])
async def test_probes_are_answered(has_proxy: bool) -> None:
    # SEC-41: whoever probes a process asks it by its address
    async with edged(is_https=True, has_proxy=has_proxy) as ask:
        assert (await ask("GET /probe", PLAIN)).status == 200


@pytest.mark.parametrize(
    ("told", "status"),
    [
        ("", 200),
        ("x-forwarded-proto: https\r\n", 200),
        ("x-forwarded-proto: HTTPS\r\n", 200),
        ("x-forwarded-proto: junk\r\n", 308),
        ("x-forwarded-proto: https, junk\r\n", 308),
        ("x-forwarded-proto: junk\r\nx-forwarded-proto: https\r\n", 200),
        ("x-forwarded-proto: http, https\r\n", 200),
        ("x-forwarded-proto: http\r\nx-forwarded-proto: https\r\n", 200),
        ("x-forwarded-proto: https,http\r\n", 308),
        ("x-forwarded-proto: https\r\nx-forwarded-proto: http\r\n", 308),
        ("x-forwarded-proto: Http \r\n", 308),
    ],
)
async def test_the_scheme_is_as_a_trusted_proxy_tells_it(told: str, status: int) -> None:
    # SEC-41
    for path in ("/", "/file"):
        async with edged(is_https=True) as ask:
            assert (await ask(f"GET {path}", told)).status == status
        # Of anybody else nothing is believed, and our own connection is a plain one.
        async with edged(is_https=True, has_proxy=False) as ask:
            assert (await ask(f"GET {path}", told)).status == 308
        # The site on plain HTTP has no other place to lead to.
        async with edged() as ask:
            assert (await ask(f"GET {path}", told)).status == 200


async def test_an_operator_hears_of_a_proxy_that_is_not_named() -> None:
    # SEC-41: behind it every page would lead to itself, without end
    with capture_logs() as lines:
        async with edged(is_https=True, has_proxy=False) as ask:
            for _ in range(3):
                await ask("GET /", "x-forwarded-proto: https\r\n")
            assert ask.app.edge.addresses.statistics().plain == 3
        async with edged(is_https=True) as ask:
            await ask("GET /", PLAIN)
            assert ask.app.edge.addresses.statistics().plain == 0
            for scheme in ("TLS", "on"):
                await ask("GET /", f"x-forwarded-proto: {scheme}\r\n")
    unread = [line for line in lines if line["event"] == "request.forwarded_scheme_unreadable"]
    assert len(unread) == 1
    told = [line for line in lines if line["event"] == "request.plain_from_untrusted"]
    assert [line["peer"] for line in told] == ["127.0.*.*"]


@pytest.mark.parametrize(
    ("scheme", "told", "is_proxy", "found"),
    [
        ("https", None, False, False),
        ("wss", None, False, False),
        ("https", "http", False, False),
        ("http", "https", False, True),
        ("ws", "wss", False, True),
        ("", None, False, True),
        ("https", "http", True, True),
        ("http", "wss", True, False),
        ("http", "ws", True, True),
        ("http", None, True, False),
        ("https", "junk", True, True),
        ("http", "", True, True),
        ("http", "https,", True, True),
        ("http", "https://x", True, True),
        ("http", "https;", True, True),
    ],
)
def test_what_counts_as_plain(scheme: str, told: str | None, is_proxy: bool, found: bool) -> None:
    # SEC-41: a TLS connection of our own is none, unless a trusted proxy tells otherwise
    assert is_plain(scheme, told, is_proxy=is_proxy) is found
