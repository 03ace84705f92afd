"""One answer a request, in order, whatever stands in one connection (REL-51)."""

from __future__ import annotations

import random
import socket
import struct
from dataclasses import replace

import pytest
import trio
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope
from structlog.testing import capture_logs

from tests.patience import FOR_EVER_S, PATIENCE_S, until
from tests.web.server.http1.corpus import CASES, Case
from tests.web.server.http1.mutants import mutants
from tests.web.server.http1.wire import split_answers
from tests.web.server.serving_kit import GET, answer, connect, serving
from web.server import Server, TransportSettings

PATIENT = TransportSettings(head_s=FOR_EVER_S, body_s=FOR_EVER_S, linger_s=0.1)
# Nobody waits for the rest of a request that lost its end.
HASTY = replace(PATIENT, head_s=0.05, body_s=0.05, keep_alive_s=0.05)
CLOSING = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
LAST = Case("the last", CLOSING, 200, closes=True, entered=True)
PLAIN = [case for case in CASES if case.status in (200, 400, 501, 505) and len(case.raw) < 1000]


async def echo(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1000, "reason": None})
        return
    assert scope["type"] == "http"
    body = b""
    while (message := await receive())["type"] == "http.request":
        body += message["body"]
        if not message["more_body"]:
            await trio.lowlevel.checkpoint()
            await answer(send, scope["raw_path"] + b" " + body)
            return


async def in_pieces(server: Server, raw: bytes, chance: random.Random) -> bytes:
    async with await connect(server) as client, trio.open_nursery() as nursery:

        async def send() -> None:
            at = 0
            try:
                while at < len(raw):
                    size = chance.choice([1, 3, 20, 200, 5000])
                    await client.send(raw[at : at + size])
                    at += size
            except trio.BrokenResourceError:
                pass  # it was refused, and closed

        nursery.start_soon(send)
        got = await client.read_to_end()
        nursery.cancel_scope.cancel()
    return got


@pytest.mark.usefixtures("road")
@pytest.mark.parametrize("seed", range(2))
async def test_answers_come_in_order_until_the_first_refusal(seed: int) -> None:
    # REL-51
    chance = random.Random(seed)
    rows = [[*chance.choices(PLAIN, k=6), LAST] for _ in range(40)]
    problems: list[object] = []

    async def ask(row: list[Case]) -> None:
        got = await in_pieces(server, b"".join(case.raw for case in row), chance)
        methods = [case.raw.lstrip(b"\r\n").partition(b" ")[0] for case in row]
        found = [one.status for one in split_answers(got, methods) if one.status != 100]
        end = next(at for at, case in enumerate(row) if case.closes)
        wanted = [case.status for case in row[: end + 1]]
        if found != wanted:
            problems.append((row, found))

    async with serving(echo, PATIENT) as server, trio.open_nursery() as nursery:
        for row in rows:
            nursery.start_soon(ask, row)
    assert problems == []


async def test_whatever_is_sent_is_answered_or_ended_and_never_500(road: str) -> None:
    # REL-51: 1000 changed requests, half of them on each road
    chance = random.Random(road)
    limiter = trio.CapacityLimiter(50)
    problems: list[object] = []

    async def ask(raw: bytes) -> None:
        async with limiter:
            got = await in_pieces(server, raw, chance)
        method = raw.lstrip(b"\r\n").partition(b" ")[0].strip()
        statuses = [one.status for one in split_answers(got, [method, *[b"GET"] * 9])]
        if any(status >= 500 and status not in (501, 505) for status in statuses):
            problems.append((raw, statuses))

    with capture_logs() as logged:
        async with serving(echo, HASTY) as server, trio.open_nursery() as nursery:
            for raw in mutants(len(road), 500):
                nursery.start_soon(ask, raw)
    assert problems == []
    assert [entry for entry in logged if entry["log_level"] in ("error", "warning")] == []


@pytest.mark.parametrize("is_reset", [False, True])
async def test_a_client_that_leaves_behind_what_nobody_read_is_seen(*, is_reset: bool) -> None:
    # REL-30: past a head of what comes early nobody reads on
    ahead = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n" + b"x" * 60_000
    begun, ended = trio.Event(), trio.Event()

    async def slow(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        try:
            begun.set()
            await trio.sleep_forever()
        finally:
            ended.set()

    async with serving(slow, replace(PATIENT, gone_grace_s=0.05)) as server:
        async with await connect(server) as client:
            await client.send(GET + ahead)
            await begun.wait()
            if is_reset:
                linger = struct.pack("ii", 1, 0)
                client.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        with trio.fail_after(PATIENCE_S):
            await ended.wait()
        await until(lambda: not server.connections)
