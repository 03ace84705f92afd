"""A burst at the edge, on real sockets: who is in hand, who waits, and what ends the wait."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import trio

from tests.patience import FOR_EVER_S, PATIENCE_S, until
from tests.web.server.edge_kit import Asker, Reply, edged
from tests.web.server.serving_kit import Client
from web.server import DrainResult, DrainStep
from web.server.connection.overload import OverloadSettings
from web.server.edge import turns

pytestmark = pytest.mark.usefixtures("road")

SAME_JSON = "content-type: application/json\r\nsec-fetch-site: same-origin\r\n"
HELD = f"{SAME_JSON}Content-Length: 4\r\n"


@pytest.fixture(autouse=True)
def _all_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count who is in hand for as long as the test holds it."""
    monkeypatch.setattr(turns, "PLACE_S", FOR_EVER_S)


@asynccontextmanager
async def held(ask: Asker, count: int) -> AsyncIterator[list[Client]]:
    """Send requests without their bodies, which the application waits for."""
    clients = [Client(await trio.open_tcp_stream("127.0.0.1", ask.port)) for _ in range(count)]
    host = f"Host: 127.0.0.1:{ask.port}\r\n"
    for client in clients:
        await client.send(f"POST /hangs HTTP/1.1\r\n{host}{HELD}\r\n".encode())
    try:
        await until(lambda: ask.app.edge._in_hand == count)
        yield clients
    finally:
        for client in clients:
            client.stream.socket.close()


async def test_further_requests_of_an_address_wait_and_probes_files_and_refusals_do_not() -> None:
    # PERF-42, SITE-143
    found: list[Reply] = []
    async with edged(requests_per_address=2) as ask, held(ask, 2) as clients:

        async def page() -> None:
            found.append(await ask("GET /"))

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(page)
            await until(lambda: ask.app.edge.turns.waiting_count() == 3)
            assert (await ask("GET /probe")).status == 200
            assert (await ask("GET /file")).status == 200
            assert (await ask("POST /", "sec-fetch-site: cross-site\r\n")).status == 403
            assert not found
            # One place is enough for all three, one after the other.
            await clients[0].send(b"body")
        assert [reply.status for reply in found] == [200, 200, 200]
        assert ask.app.edge.turns.waiting_count() == 0


async def test_a_line_has_an_end_while_there_is_too_much_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # REL-74, RES-8: in a longer one everybody would wait for longer than is worth it
    monkeypatch.setattr(turns, "LINE_MAX", 3)
    still = OverloadSettings(now=lambda: 0.0, worked=lambda: 0.0)
    found: list[int] = []
    async with edged(requests_per_address=1, overload=still) as ask, held(ask, 1) as clients:

        async def page() -> None:
            found.append((await ask("GET /")).status)

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(page)
            await until(lambda: ask.app.edge.turns.waiting_count() == 5)
            ask.server.overload.is_on = True
            ask.server.overload.note_refused()
            reply = await ask("GET /")
            assert (reply.status, reply.headers["retry-after"]) == (503, "1")
            assert ask.app.edge.overloads == 1
            assert ask.server.overload.refused == 2
            # Who stands in it already is served.
            assert not found
            await clients[0].send(b"body")
        assert found == [200] * 5
        assert (await ask("GET /")).status == 200


async def test_a_request_whose_time_is_over_in_line_is_answered_503() -> None:
    # SITE-153
    async with edged(requests_per_address=1, request_s=0.3) as ask:
        place = await ask.app.edge.turns.wait_place("127.0.0.1", None)
        assert (await ask("GET /")).status == 503
        assert ask.app.edge.turns.waiting_count() == 0
        place.leave()
        edge = ask.app.edge
        edge._settings = replace(edge._settings, request_s=FOR_EVER_S)
        assert (await ask("GET /")).status == 200


async def test_a_client_that_leaves_the_line_is_not_served() -> None:
    # REL-30
    async with edged(requests_per_address=1) as ask, held(ask, 1) as clients:
        async with await trio.open_tcp_stream("127.0.0.1", ask.port) as leaving:
            await leaving.send_all(
                f"GET /fail/slow HTTP/1.1\r\nHost: 127.0.0.1:{ask.port}\r\n\r\n".encode()
            )
            await until(lambda: ask.app.edge.turns.waiting_count() == 1)
        await until(lambda: ask.app.edge.turns.waiting_count() == 0)
        await clients[0].send(b"body")
        assert (await ask("GET /")).status == 200
        assert ask.app.slow == 0


async def test_a_drain_answers_who_stands_in_line() -> None:
    # REL-20
    found: list[Reply] = []
    async with (
        trio.open_nursery() as nursery,
        edged(requests_per_address=1) as ask,
        held(ask, 1),
    ):

        async def post() -> None:
            found.append(await ask("POST /command", SAME_JSON, b"body"))

        for _ in range(2):
            nursery.start_soon(post)
        await until(lambda: ask.app.edge.turns.waiting_count() == 2)
        # Who owes a body is cut off; these two owe nothing.
        await ask.server.drain()
    assert [(reply.status, reply.body) for reply in found] == [(202, b"4")] * 2


async def test_a_drain_that_waits_for_commands_waits_for_the_line_of_an_address() -> None:
    # REL-20, REL-24: nothing is cut that only waited for its turn
    found: list[int] = []
    results: list[DrainResult] = []
    async with (
        trio.open_nursery() as nursery,
        edged(requests_per_address=1) as ask,
        held(ask, 1) as clients,
    ):

        async def post() -> None:
            found.append((await ask("POST /command", SAME_JSON, b"body")).status)

        async def drain() -> None:
            finish = DrainStep("finish commands", PATIENCE_S, ask.app.edge.wait_none_in_hand)
            results.append(await ask.server.drain([finish]))

        for _ in range(20):
            nursery.start_soon(post)
        await until(lambda: ask.app.edge.turns.waiting_count() == 20)
        nursery.start_soon(drain)
        await until(lambda: ask.server.is_draining)
        assert not found
        await clients[0].send(b"body")
        await until(lambda: bool(results))
    assert found == [202] * 20
    assert results[0].is_clean
    # It waits for nobody where nobody is.
    await ask.app.edge.wait_none_in_hand()
