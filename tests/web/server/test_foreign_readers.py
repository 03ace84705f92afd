"""Which pages of other origins may read what they are answered (SEC-35)."""

from __future__ import annotations

import pytest

from tests.web.server.edge_kit import LISTED, Reply, edged

pytestmark = pytest.mark.usefixtures("road")

# Near the listed one, and none of them is it.
FOREIGN = [
    "https://evil.example", "null", "https://listed.example.evil.example", "http://listed.example",
    "https://listed.example:8443", "https://notlisted.example", "https://sub.listed.example",
    "*", "", "https://listed.example, https://evil.example",
]  # fmt: skip
PREFLIGHT = "access-control-request-method: POST\r\n"


def cors_of(reply: Reply) -> dict[str, str]:
    return {
        name: value for name, value in reply.headers.items() if name.startswith("access-control-")
    }


async def test_by_default_and_for_all_others_there_is_no_such_header() -> None:
    # SEC-35: also on errors, and for the own origin, which needs none
    async with edged() as ask:
        for origin in [*FOREIGN, "http://site.com"]:
            for line in ("GET /", "POST /command", "GET /nope", "GET /api/fail/x", "OPTIONS /"):
                reply = await ask(line, f"origin: {origin}\r\n")
                assert cors_of(reply) == {}, (origin, line)
                assert "origin" in reply.varies
        assert cors_of(await ask("GET /")) == {}


async def test_a_listed_origin_is_echoed_exactly() -> None:
    # SEC-35: never `*`, for cookies are allowed
    async with edged() as ask:
        for given in (LISTED, "https://LISTED.example", "https://listed.example:443"):
            for line in ("GET /", "GET /nope", "GET /api/fail/x", "GET /file", "POST /command"):
                reply = await ask(line, f"origin: {given}\r\n")
                assert reply.status != 403, line
                assert reply.headers["access-control-allow-origin"] == given, line
                assert reply.headers["access-control-allow-credentials"] == "true"
                assert "origin" in reply.varies


async def test_another_origins_preflight_is_refused() -> None:
    # SEC-35
    async with edged() as ask:
        for origin in FOREIGN:
            reply = await ask("OPTIONS /command", f"origin: {origin}\r\n{PREFLIGHT}")
            assert (reply.status, cors_of(reply)) == (403, {}), origin
        told = await ask("OPTIONS /command", f"origin: {LISTED}\r\n{PREFLIGHT}")
        assert (told.status, told.body) == (204, b"")
        assert told.headers["access-control-allow-origin"] == LISTED
        assert "POST" in told.headers["access-control-allow-methods"]
        assert "idempotency-key" in told.headers["access-control-allow-headers"]
        assert "*" not in "".join(cors_of(told).values())
