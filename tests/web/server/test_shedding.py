"""Connections at rest while the loop has too much to do: one task reads for all of them."""

from __future__ import annotations

import itertools
import math
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from functools import partial

import pytest
import trio
import trio.testing
from hypercorn.typing import ASGIFramework, ASGIReceiveCallable, ASGISendCallable, HTTPScope, Scope
from structlog.testing import capture_logs

from tests.patience import FOR_EVER_S, until
from tests.web.server.http1.corpus import CASES, Case
from tests.web.server.http1.test_corpus import PATIENT, SECOND, Recorder
from tests.web.server.http1.wire import split_answers
from tests.web.server.serving_kit import Client, answer, connect, connect_narrow, with_lifespan
from web.server import Server, ServerSettings, TransportSettings, serve
from web.server.connection.http.answers import NO_HEADERS, head_bytes
from web.server.connection.http.plain import AGAIN, Ready
from web.server.connection.http.shedding import Shedder
from web.server.connection.overload import Overload, OverloadSettings

BUSY = b"GET /busy HTTP/1.1\r\nHost: x\r\n\r\n"
LET_IN = b"GET /in HTTP/1.1\r\nHost: x\r\n\r\n"
LARGE = 1 << 16


class Door:
    """An application that turns away what is not let in, and tells how it was asked."""

    def __init__(self) -> None:
        # By path: judged anew, and known again; who of these was let in after all.
        self.asked: list[str] = []
        self.again: list[str] = []
        self.entered: list[str] = []
        self.is_open = False
        self.body = b""
        # Who is let in waits here.
        self.inside = trio.Event()
        self.inside.set()

    async def handle(
        self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        assert scope["type"] == "http"
        self.entered.append(scope["path"])
        await receive()
        await self.inside.wait()
        await answer(send, b"in")

    def app(self) -> ASGIFramework:
        app = with_lifespan(self.handle)
        app.maybe_ready = self.maybe_ready  # type: ignore[attr-defined]  # reason: a function may offer it too
        return app

    def maybe_ready(self, scope: HTTPScope) -> Ready | None:
        self.asked.append(scope["path"])
        if scope["path"] == "/in" or self.is_open:
            return None
        if scope["path"] == "/bug":
            raise ValueError("the application is broken")
        scope["state"][AGAIN] = partial(self.maybe_again, scope["path"])
        return self.refusal()

    def maybe_again(self, path: str) -> bytes | None:
        self.again.append(path)
        if self.is_open:
            return None
        status, headers, fixed, body = self.refusal()
        return head_bytes(status, headers, fixed) + body

    def refusal(self) -> Ready:
        number = b"%d" % (len(self.asked) + len(self.again))
        body = self.body + number
        headers = [(b"content-length", b"%d" % len(body)), (b"x-number", number)]
        return 503, headers, NO_HEADERS, body


@asynccontextmanager
async def overloaded(
    app: ASGIFramework, transport: TransportSettings = PATIENT
) -> AsyncIterator[Server]:
    """Serve by a loop that has too much to do all the time."""
    overload = OverloadSettings(now=lambda: 0.0, worked=lambda: 0.0)
    settings = ServerSettings(port=0, transport=transport, overload=overload)
    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(serve, app, settings))
        server.overload.is_on = True
        server.overload.note_refused()
        yield server
        if not server.is_draining:
            await server.drain()


def resting(server: Server) -> int:
    """How many connections are read for."""
    return len(server._shedder)


def rests_until(server: Server) -> float:
    """When the first of them has no time left."""
    return min((one.until for one in server._shedder._resting.values()), default=math.inf)


async def refused(client: Client, request: bytes, end: bytes) -> bytes:
    await client.send(request)
    got = await client.read_until(end)
    assert got.startswith(b"HTTP/1.1 503 ")
    return got


async def test_who_is_turned_away_rests_on_and_the_same_request_is_known_again() -> None:
    # REL-74
    door = Door()
    async with overloaded(door.app()) as server, await connect(server) as client:
        for number in range(1, 4):
            await refused(client, BUSY, b"\r\n\r\n%d" % number)
            assert resting(server) == 1
        assert (door.asked, door.again) == (["/busy"], ["/busy"] * 2)
        # One byte of difference, and it is read as any other; and so are the first bytes again.
        await refused(client, BUSY.replace(b": x", b": y"), b"\r\n\r\n4")
        await refused(client, BUSY, b"\r\n\r\n5")
        assert (door.asked, door.again) == (["/busy"] * 3, ["/busy"] * 2)
        # There is time for it now: it goes to the application, by the connection's own task.
        door.is_open = True
        await client.send(BUSY)
        assert (await client.read_until(b"in")).startswith(b"HTTP/1.1 200 ")
        assert (len(door.again), door.entered) == (3, ["/busy"])
        # Let in once, and still known.
        await until(lambda: resting(server) == 1)
        door.is_open = False
        asked = len(door.asked)
        await refused(client, BUSY, b"\r\n\r\n%d" % (asked + 4))
        assert (len(door.asked), len(door.again)) == (asked, 4)
    assert resting(server) == 0


async def test_the_rest_of_a_head_is_not_the_request_it_looks_like() -> None:
    # REL-74, SEC-45
    door = Door()
    async with overloaded(door.app()) as server, await connect(server) as client:
        await refused(client, BUSY, b"\r\n\r\n1")
        (transport,) = server.connections
        await client.send(b"GET /longer HTTP/1.1\r\nX: ")
        await until(lambda: transport._has_bytes() and resting(server) == 1)
        await refused(client, BUSY, b"\r\n\r\n2")
        assert (door.asked, door.again) == (["/busy", "/longer"], [])


async def test_nor_is_it_where_the_head_began_while_another_was_answered() -> None:
    # REL-74, SEC-45: of a request that takes long the client is watched, and what it sends is read
    door = Door()
    async with overloaded(door.app()) as server, await connect(server) as client:
        await refused(client, BUSY, b"\r\n\r\n1")
        (transport,) = server.connections
        door.is_open, door.inside = True, trio.Event()
        await client.send(BUSY)
        await until(lambda: door.entered == ["/busy"])
        await client.send(b"GET /longer HTTP/1.1\r\nX: ")
        await until(transport._has_bytes)
        door.inside.set()
        await client.read_until(b"in")
        await until(lambda: resting(server) == 1)
        door.is_open, known = False, len(door.again)
        await refused(client, BUSY, b"\r\n\r\n%d" % (len(door.asked) + known + 1))
        assert (door.asked[-1], len(door.again)) == ("/longer", known)


async def test_what_is_let_in_goes_on_in_its_own_task_and_comes_back() -> None:
    # REL-74
    door = Door()
    post = b"POST /busy HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n"
    async with overloaded(door.app()) as server, await connect(server) as client:
        for request in (LET_IN, post + b"ab", LET_IN):
            await client.send(request)
            assert (await client.read_until(b"in")).startswith(b"HTTP/1.1 200 ")
            await until(lambda: resting(server) == 1)
        # A body may come later than its head.
        await client.send(post)
        await until(lambda: resting(server) == 0)
        await client.send(b"ab" + BUSY)
        assert b"503" in await client.read_until(b"\r\n\r\n3")
    assert door.entered == ["/in", "/busy", "/in", "/busy"]


async def test_an_application_that_fails_to_say_is_asked_as_ever() -> None:
    # REL-74
    door = Door()
    with capture_logs() as logged:
        async with overloaded(door.app()) as server, await connect(server) as client:
            await client.send(BUSY.replace(b"/busy", b"/bug"))
            assert (await client.read_until(b"in")).startswith(b"HTTP/1.1 200 ")
    assert {one["event"] for one in logged if one["log_level"] == "error"} == {
        "server.application_failed"
    }


async def test_an_answer_that_cannot_be_written_ends_its_connection_and_no_other() -> None:
    # REL-74, REL-36
    door = Door()
    door.refusal = lambda: (503, [(b"x-broken", b"a\r\nb")], NO_HEADERS, b"")  # type: ignore[method-assign]
    with capture_logs() as logged:
        async with (
            overloaded(door.app()) as server,
            await connect(server) as client,
            await connect(server) as other,
        ):
            await client.send(BUSY)
            assert await client.read_to_end() == b""
            await other.send(LET_IN)
            await other.read_until(b"in")
    errors = [one["event"] for one in logged if one["log_level"] == "error"]
    assert errors == ["server.connection_failed"]


@pytest.mark.parametrize("step", [1, 3, 40])
async def test_requests_may_come_in_any_pieces_and_several_at_once(step: int) -> None:
    # REL-74, REL-50
    door = Door()
    raw = BUSY + BUSY + LET_IN + BUSY.replace(b"/busy", b"/bus") + BUSY
    async with overloaded(door.app()) as server, await connect(server) as client:
        client.stream.socket.setsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_NODELAY, 1)
        for at in range(0, len(raw), step):
            await client.send(raw[at : at + step])
            await trio.testing.wait_all_tasks_blocked()
        await client.send(BUSY.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        answers = split_answers(await client.read_to_end(), [b"GET"] * 6)
    assert [one.status for one in answers] == [503, 503, 200, 503, 503, 503]
    assert [one.closes for one in answers] == [False] * 5 + [True]
    numbers = [one.headers[b"x-number"] for one in answers if one.status == 503]
    assert len(set(numbers)) == 5


async def test_the_rest_of_a_head_is_no_request_that_is_known_again() -> None:
    # SEC-112, REL-74
    door = Door()
    first, rest = BUSY[:9], BUSY[9:]
    async with overloaded(door.app()) as server, await connect(server) as client:
        await client.send(first)
        await trio.testing.wait_all_tasks_blocked()
        await until(lambda: len(next(iter(server.connections))._plain.reader) == len(first))  # type: ignore[union-attr]
        await refused(client, rest, b"\r\n\r\n1")
        await client.send(rest)
        assert (await client.read_to_end()).startswith(b"HTTP/1.1 400 ")
    assert door.again == []


async def test_each_request_of_the_corpus_is_judged_as_ever() -> None:
    # REL-50, SEC-112, REL-74: what is no request is never told to come again
    problems: list[str] = []
    recorder = Recorder()
    app = with_lifespan(recorder)
    app.maybe_ready = lambda scope: (503, [(b"content-length", b"0")], NO_HEADERS, b"")  # type: ignore[attr-defined]
    limiter = trio.CapacityLimiter(20)

    async def ask(case: Case) -> None:
        async with limiter, await connect(server) as client:
            await until(lambda: resting(server) > 0)
            await client.send(case.raw + SECOND)
            if case.status == 101:
                got = await client.read_until(b"\r\n\r\n")
            else:
                got = await client.read_to_end()
        method = case.raw.lstrip(b"\r\n").partition(b" ")[0]
        answers = [one for one in split_answers(got, [method, b"GET"]) if one.status != 100]
        wanted = {case.status, 503} if case.entered and case.status != 101 else {case.status}
        if answers[0].status not in wanted:
            problems.append(f"{case.name}: answered {answers[0].status}, not {case.status}")
        if (len(answers) == 1) is not (case.closes or case.status == 101):
            problems.append(f"{case.name}: {len(answers)} answers")

    async with overloaded(app) as server, trio.open_nursery() as nursery:
        for case in CASES:
            nursery.start_soon(ask, case)
    assert problems == []


async def test_a_head_in_two_pieces_has_one_deadline_and_rest_has_its_own() -> None:
    # REL-14, REL-53
    door = Door()
    limits = TransportSettings(head_s=0.2, keep_alive_s=FOR_EVER_S, linger_s=0.2)
    async with overloaded(door.app(), limits) as server, await connect(server) as client:
        await client.send(BUSY[:9])
        assert b" 408 " in await client.read_to_end()
    limits = TransportSettings(head_s=FOR_EVER_S, keep_alive_s=2 * FOR_EVER_S, linger_s=0.2)
    async with overloaded(door.app(), limits) as server, await connect(server) as client:
        await refused(client, BUSY, b"\r\n\r\n1")
        # By its answer it has time anew, and by a part of a head that of a head.
        until_then = rests_until(server)
        assert until_then > trio.current_time() + 1.5 * FOR_EVER_S
        await refused(client, BUSY, b"\r\n\r\n2")
        assert rests_until(server) > until_then
        await client.send(BUSY[:9])
        await until(lambda: rests_until(server) < trio.current_time() + 1.5 * FOR_EVER_S)
    limits = TransportSettings(head_s=FOR_EVER_S, keep_alive_s=0.1, linger_s=0.2)
    async with overloaded(door.app(), limits) as server, await connect(server) as client:
        # Who asks nothing more is ended without a word, though it was answered without its task.
        await refused(client, BUSY, b"\r\n\r\n3")
        assert await client.read_to_end() == b""
        await until(lambda: not server.connections)
        assert resting(server) == 0


async def test_each_rests_as_long_as_its_last_answer_says(
    mock_clock: trio.testing.MockClock,
) -> None:
    # REL-53, REL-74
    overload = Overload(OverloadSettings(now=lambda: 0.0, worked=lambda: 0.0))
    overload.is_on = True
    shedder = Shedder(overload, receive_bytes=LARGE)
    ended: dict[str, bytes | None] = {}

    async def rest(name: str, end: socket.socket, seconds: float) -> None:
        until_then = trio.current_time() + seconds
        shed = lambda _: trio.current_time() + 5.0  # noqa: E731 - as a connection gives it
        ended[name] = await shedder.receive(end.fileno(), shed, until_then)

    async def jump(seconds: float) -> None:
        mock_clock.jump(seconds)
        await trio.testing.wait_all_tasks_blocked()

    async with trio.open_nursery() as nursery:
        with ExitStack() as ends:
            pairs = [socket.socketpair() for _ in range(3)]
            for one in itertools.chain(*pairs):
                ends.enter_context(one)
            nursery.start_soon(shedder.run)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(rest, "silent", pairs[0][0], 5.0)
            nursery.start_soon(rest, "asking", pairs[1][0], 5.0)
            await trio.testing.wait_all_tasks_blocked()
            await jump(3.0)
            pairs[1][1].send(BUSY)
            # One whose time is shorter than that of all who rested before it.
            nursery.start_soon(rest, "hasty", pairs[2][0], 1.0)
            await trio.testing.wait_all_tasks_blocked()
            await jump(1.0)
            assert ended == {"hasty": None}
            await jump(1.0)
            assert ended == {"hasty": None, "silent": None}
            await jump(3.0)
            assert ended == {"hasty": None, "silent": None, "asking": None}
            assert len(shedder) == 0
            nursery.cancel_scope.cancel()


async def test_as_many_requests_as_a_connection_may_ask() -> None:
    # REL-53
    door = Door()
    limits = TransportSettings(requests_max=3)
    async with overloaded(door.app(), limits) as server, await connect(server) as client:
        await client.send(BUSY * 3)
        answers = split_answers(await client.read_to_end(), [b"GET"] * 3)
    assert [one.closes for one in answers] == [False, False, True]


async def test_who_does_not_read_is_not_read_from() -> None:
    # REL-11, REL-74: an answer that does not leave holds its connection back, and is whole
    door = Door()
    door.body = b"x" * LARGE
    async with overloaded(door.app()) as server, await connect_narrow(server) as client:
        await until(lambda: resting(server) == 1)
        (transport,) = server.connections
        transport._raw.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_SNDBUF, 4096)
        await client.send(BUSY)
        await until(lambda: not transport.pipe.is_idle)
        assert resting(server) == 0
        await client.send(BUSY)
        await trio.testing.wait_all_tasks_blocked()
        assert len(door.asked) == 1
        got = await client.read_until(b"x1") + await client.read_until(b"x2")
        answers = split_answers(got, [b"GET"] * 2)
    assert [one.status for one in answers] == [503, 503]


async def test_whoever_leaves_or_is_cut_off_is_read_for_no_more() -> None:
    # REL-30, REL-33, REL-20
    door = Door()
    async with overloaded(door.app()) as server:
        for _ in range(3):
            async with await connect(server) as client:
                await refused(client, BUSY, b"\r\n\r\n%d" % (len(door.asked) + 1))
            await until(lambda: not server.connections)
            assert resting(server) == 0
        async with await connect(server) as cut, await connect(server) as left:
            await until(lambda: resting(server) == 2)
            next(iter(server.connections)).reset("a test wants it")
            await until(lambda: resting(server) == 1)
            # Those at rest are ended at once when the server stops.
            await server.drain()
            assert resting(server) == 0
            assert [await one.read_to_end() for one in (cut, left)] == [b"", b""]
    assert "0 connections" in repr(server._shedder)


async def test_when_there_is_time_again_connections_wait_by_themselves() -> None:
    # REL-74
    door = Door()
    async with overloaded(door.app()) as server, await connect(server) as client:
        await refused(client, BUSY, b"\r\n\r\n1")
        server.overload.is_on = False
        await client.send(LET_IN)
        await client.read_until(b"in")
        await trio.testing.wait_all_tasks_blocked()
        assert resting(server) == 0
        await client.send(LET_IN)
        await client.read_until(b"in")
