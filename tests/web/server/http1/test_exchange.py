"""One request and its answer as an application meets them: bodies, ends, deadlines, mistakes."""

from __future__ import annotations

import contextvars
from dataclasses import replace

import pytest
import trio
import trio.testing
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope
from structlog.testing import capture_logs

from tests.patience import FOR_EVER_S, PATIENCE_S, until
from tests.web.server.http1.wire import split_answers
from tests.web.server.serving_kit import GET, answer, begin_stream, connect, serving
from web.server import Server, TransportSettings
from web.server.connection.http import exchange
from web.server.connection.http.answers import head_bytes
from web.server.connection.settings import Phase

pytestmark = pytest.mark.usefixtures("road")

PATIENT = TransportSettings(
    head_s=FOR_EVER_S, body_s=FOR_EVER_S, keep_alive_s=FOR_EVER_S, linger_s=0.05, gone_grace_s=0.05
)
POST = b"POST / HTTP/1.1\r\nHost: x\r\n"
BODY_S = 10.0
LAST = b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.fixture
def prompt_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the watch begin its rounds as often as a test can want."""
    monkeypatch.setattr(exchange, "WATCH_AFTER_S", 0.001)


async def until_watched(server: Server) -> None:
    """Wait until the client of the only request, which has begun, is watched.

    The library's road has no watchman, and is not waited for: it reads ahead by itself.
    """
    await until(lambda: repr(server._watchman) == "<Watchman of 0>")


async def echo(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    body = b""
    while (message := await receive())["type"] == "http.request":
        body += message["body"]
        if not message["more_body"]:
            await answer(send, body)
            return


@pytest.mark.parametrize("is_listening", [True, False])
async def test_a_client_that_leaves_cancels_a_request_that_has_not_answered(
    is_listening: bool,
) -> None:
    # REL-30: nothing is written that could fail
    begun, ended = trio.Event(), trio.Event()

    async def slow(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        begun.set()
        try:
            while is_listening and (await receive())["type"] != "http.disconnect":
                pass
            if not is_listening:
                await trio.sleep_forever()
        finally:
            ended.set()

    async with serving(slow, PATIENT) as server:
        async with await connect(server) as client:
            await client.send(GET)
            await begun.wait()
        with trio.fail_after(PATIENCE_S):
            await ended.wait()
        await until(lambda: not server.connections)


@pytest.mark.usefixtures("prompt_watch")
async def test_what_is_sent_during_a_long_request_is_answered_after_it() -> None:
    # REL-51: the watch reads ahead, and loses nothing of it
    begun, release = trio.Event(), trio.Event()

    async def slow(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        assert scope["type"] == "http"
        if scope["path"] == "/":
            begun.set()
            await release.wait()
        await echo(scope, receive, send)

    async with serving(slow, PATIENT) as server, await connect(server) as client:
        await client.send(GET)
        await begun.wait()
        await until_watched(server)
        await client.send(POST.replace(b"POST /", b"POST /two") + b"Content-Length: 3\r\n\r\nab")
        await trio.testing.wait_all_tasks_blocked(0.01)
        release.set()
        await client.send(b"c" + LAST)
        got = split_answers(await client.read_to_end(), [b"GET", b"POST", b"GET"])
    assert [one.body for one in got] == [b"", b"abc", b""]


# More than a head, which is all that is read before its turn.
AHEAD = POST + b"Content-Length: 60000\r\n\r\n" + b"x" * 60_000


@pytest.mark.usefixtures("prompt_watch")
async def test_much_that_is_sent_during_a_long_request_waits_for_it() -> None:
    # REL-51
    begun, release = trio.Event(), trio.Event()

    async def slow(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        assert scope["type"] == "http"
        if scope["method"] == "GET":
            begun.set()
            await release.wait()
        await echo(scope, receive, send)

    async with serving(slow, PATIENT) as server, await connect(server) as client:
        await client.send(GET + AHEAD * 2 + LAST)
        await begun.wait()
        await until_watched(server)
        await trio.testing.wait_all_tasks_blocked(0.01)
        release.set()
        got = split_answers(await client.read_to_end(), [b"GET", b"POST", b"POST", b"GET"])
    assert [len(one.body) for one in got] == [0, 60_000, 60_000, 0]


LETTERS = b"abcdef"


@pytest.mark.usefixtures("prompt_watch")
async def test_a_body_comes_while_its_handler_is_busy() -> None:
    # The watch of a long request and its `receive` never read at once.
    tell, told = trio.open_memory_channel[None](0)

    async def dawdle(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        body = b""
        more = True
        while more:
            await until_watched(server)
            if len(body) < len(LETTERS):  # the library's last piece is an empty one
                await tell.send(None)
            if len(body) % 2:
                # Every other letter comes to the watch, and those between them to `receive`.
                await trio.testing.wait_all_tasks_blocked(0.01)
            message = await receive()
            assert message["type"] == "http.request"
            body, more = body + message["body"], message["more_body"]
        await answer(send, body)

    async with serving(dawdle, PATIENT) as server, await connect(server) as client:
        await client.send(POST + b"Content-Length: 6\r\nConnection: close\r\n\r\n")
        for letter in LETTERS:
            await told.receive()
            await client.send(bytes([letter]))
        assert (await client.read_to_end()).endswith(b"\r\n\r\n" + LETTERS)


async def test_a_large_answer_waits_for_its_reader_and_the_next_follows() -> None:
    # REL-44: more than the kernel takes at once, in one piece
    body = b"x" * 2_000_000

    async def large(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        await answer(send, body)

    async with serving(large, PATIENT) as server, await connect(server) as client:
        await client.send(GET + LAST)
        got = split_answers(await client.read_to_end(), [b"GET", b"GET"])
    assert [one.body == body for one in got] == [True, True]


async def test_a_body_nobody_wanted_is_passed_over_or_ends_the_connection() -> None:
    async def deaf(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        await answer(send, b"no", status=415)

    async with serving(deaf, PATIENT) as server:
        async with await connect(server) as client:
            await client.send(POST + b"Content-Length: 5\r\n\r\nhello" + LAST)
            got = split_answers(await client.read_to_end(), [b"POST", b"GET"])
            assert [one.status for one in got] == [415, 415]
        async with await connect(server) as client:
            await client.send(POST + b"Content-Length: 70000\r\n\r\nhello")
            (only,) = split_answers(await client.read_to_end(), [b"POST"])
            assert only.status == 415


async def test_a_variable_of_one_request_reaches_no_other() -> None:
    # REL-36: also on one connection, and for the tasks that a request starts
    name: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="nobody")

    async def told(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        assert scope["type"] == "http"
        before = name.get()
        name.set(scope["path"])
        await trio.lowlevel.checkpoint()
        assert name.get() == scope["path"]
        await answer(send, before.encode())

    async with serving(told, PATIENT) as server, await connect(server) as client:
        await client.send(GET + GET.replace(b"/", b"/b", 1))
        got = await client.read_until(b"nobody")
        got += await client.read_until(b"nobody") if got.count(b"nobody") == 1 else b""
        await client.send(LAST)
        got += await client.read_to_end()
    assert [one.body for one in split_answers(got, [b"GET"] * 3)] == [b"nobody"] * 3


@pytest.mark.parametrize(
    "headers",
    [[(b"a", b"b\r\nSet-Cookie: c")], [(b"a\nb", b"b")], [(b"a", b"b\0")], [(b"a", b"b\rc")]],
)
async def test_a_header_that_would_break_the_head_is_500(
    headers: list[tuple[bytes, bytes]],
) -> None:
    # SEC-10
    async def evil(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    with capture_logs():
        async with serving(evil, PATIENT) as server, await connect(server) as client:
            await client.send(GET)
            got = await client.read_to_end()
    assert b"et-Cookie" not in got
    assert got.startswith(b"HTTP/1.1 500 ")


@pytest.mark.parametrize("sent", [b"short", b"too long by far"])
async def test_a_body_of_another_length_is_cut_off(sent: bytes) -> None:
    # REL-51: no second answer could be told from the rest of it
    async def liar(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        headers = [(b"content-length", b"10")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": sent, "more_body": False})

    with capture_logs():
        async with serving(liar, PATIENT) as server, await connect(server) as client:
            await client.send(GET + LAST)
            got = await client.read_to_end()
    assert got.count(b"HTTP/1.1") <= 1


async def test_whoever_answers_nothing_or_fails_is_500_and_the_connection_ends() -> None:
    async def broken(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        assert scope["type"] == "http"
        if scope["path"] == "/raise":
            raise ExceptionGroup("both", [ValueError("a"), KeyError("b")])
        if scope["path"] == "/half":
            await begin_stream(scope, send)
            raise ValueError("a")

    with capture_logs():
        async with serving(broken, PATIENT) as server:
            for path in (b"/", b"/raise"):
                async with await connect(server) as client:
                    await client.send(GET.replace(b"/", path, 1) + LAST)
                    (only,) = split_answers(await client.read_to_end(), [b"GET"])
                    assert (only.status, only.closes) == (500, True)
            async with await connect(server) as client:
                await client.send(GET.replace(b"/", b"/half", 1) + LAST)
                got = await client.read_to_end()
                assert got.endswith(b": open\n\n\r\n")  # without the last chunk
            assert not server.is_draining


async def test_a_late_body_is_408_where_only_waiting_counts(
    mock_clock: trio.testing.MockClock,
) -> None:
    # REL-14: a handler that takes its time with what has come is not the client's fault
    mock_clock.rate = 1.0
    dawdling, go_on = trio.Event(), trio.Event()

    async def dawdle(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        dawdling.set()
        await go_on.wait()
        await echo(scope, receive, send)

    patient = replace(PATIENT, body_s=BODY_S)
    async with serving(dawdle, patient) as server, await connect(server) as client:
        await client.send(POST + b"Content-Length: 5\r\n\r\nhello" + LAST)
        await dawdling.wait()
        mock_clock.jump(2 * BODY_S)
        go_on.set()
        got = await client.read_to_end()
        assert got.startswith(b"HTTP/1.1 200 ")
        assert b"\r\n\r\nhello" in got
    async with serving(echo, patient) as server, await connect(server) as client:
        await client.send(POST + b"Content-Length: 6\r\n\r\nhello")
        await until(lambda: [one.phase for one in server.connections] == [Phase.BODY])
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(BODY_S)
        assert (await client.read_to_end()).startswith(b"HTTP/1.1 408 ")


def test_a_status_has_its_words_and_one_that_nobody_knows_has_none() -> None:
    # RFC 9112 4: h2load, for one, counts an answer without them as failed
    assert head_bytes(503, []).startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert head_bytes(599, []).startswith(b"HTTP/1.1 599 \r\n")


async def test_no_body_on_204_304_and_head() -> None:
    # REL-51
    async def status(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        assert scope["type"] == "http"
        number = int(scope["path"][1:])
        headers = [(b"content-type", b"text/plain")]
        await send({"type": "http.response.start", "status": number, "headers": headers})
        await send({"type": "http.response.body", "body": b"body", "more_body": False})

    sent = [b"GET /204", b"GET /304", b"HEAD /200", b"GET /200"]
    async with serving(status, PATIENT) as server, await connect(server) as client:
        await client.send(b"".join(line + b" HTTP/1.1\r\nHost: x\r\n\r\n" for line in sent[:3]))
        await client.send(b"GET /200 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        got = split_answers(await client.read_to_end(), [line.split()[0] for line in sent])
    assert [one.body for one in got] == [b"", b"", b"", b"body"]
