"""Listening, and stopping in time."""

from __future__ import annotations

import errno
import resource
import socket
import ssl
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope
from structlog.testing import capture_logs

from tests.patience import FOR_EVER_S, PATIENCE_S, until
from tests.web.server.serving_kit import (
    GET,
    UPGRADE,
    Client,
    accept,
    answer,
    begin_stream,
    connect,
    connect_narrow,
    frame,
    serving,
    with_lifespan,
)
from web.server import (
    DrainStep,
    PortBusy,
    ServerSettings,
    TransportSettings,
    open_listeners,
    serve,
)
from web.server.connection.listening import accept_forever
from web.server.connection.settings import Phase


async def hello(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    await answer(send, b"hello")


async def test_port_zero_takes_a_free_port_and_tells_it() -> None:
    # SITE-180 (PORT)
    async with serving(hello) as server:
        assert server.port > 0
        assert server.url == f"http://127.0.0.1:{server.port}"
        async with await connect(server) as client:
            await client.send(GET)
            assert (await client.read_until(b"hello")).startswith(b"HTTP/1.1 200 ")


async def test_a_busy_port_is_one_typed_error() -> None:
    # REL-25
    async with serving(hello) as server:
        with pytest.raises(PortBusy) as raised:
            await serve(with_lifespan(hello), ServerSettings(port=server.port))
        assert raised.value.port == server.port
        assert str(raised.value).startswith(f"port {server.port} on 127.0.0.1 is in use")


async def test_all_addresses_of_a_name_share_a_free_port() -> None:
    # SITE-180
    listeners = open_listeners("localhost", 0)
    try:
        assert len({listener.getsockname()[1] for listener in listeners}) == 1
    finally:
        for listener in listeners:
            listener.close()


def names_two(monkeypatch: pytest.MonkeyPatch, *addresses: tuple[int, str]) -> None:
    """Let every name mean these addresses, some of which the machine has not."""

    def answer(host: object, port: int, **_: object) -> list[tuple[object, ...]]:
        return [(family, socket.SOCK_STREAM, 6, "", (at, port)) for family, at in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", answer)


def test_of_a_name_the_addresses_that_are_not_here_are_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # WEB-11: Docker's own /etc/hosts gives localhost an address that its kernel has not
    names_two(monkeypatch, (socket.AF_INET, "198.51.100.1"), (socket.AF_INET, "127.0.0.1"))
    with capture_logs() as logged:
        (listener,) = open_listeners("localhost", 0)
    assert listener.getsockname()[0] == "127.0.0.1"
    listener.close()
    assert [(entry["event"], entry["errno"]) for entry in logged] == [
        ("server.address_left_out", "EADDRNOTAVAIL")
    ]


def test_a_family_that_is_not_here_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    # WEB-11
    names_two(monkeypatch, (4711, "::1"), (socket.AF_INET, "127.0.0.1"))
    with capture_logs() as logged:
        (listener,) = open_listeners("localhost", 0)
    listener.close()
    assert [entry["errno"] for entry in logged] == ["EAFNOSUPPORT"]


def test_no_address_at_all_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    # REL-25
    names_two(monkeypatch, (socket.AF_INET, "198.51.100.1"), (socket.AF_INET, "198.51.100.2"))
    with pytest.raises(OSError, match="assign requested address"):
        open_listeners("localhost", 0)


def test_a_star_is_every_address_of_both_families() -> None:
    # SITE-180
    listeners = open_listeners("*", 0)
    try:
        families = {listener.family for listener in listeners}
        assert socket.AF_INET in families
        assert len({listener.getsockname()[1] for listener in listeners}) == 1
    finally:
        for listener in listeners:
            listener.close()


def test_a_crowd_that_comes_in_one_moment_waits_in_the_queue() -> None:
    # PERF-24: who is turned away tries again after one second, three, and seven
    crowd, descriptors = 1500, resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if descriptors < crowd + 100 or _somaxconn() < crowd:
        pytest.skip(f"a queue of {crowd} needs somaxconn and descriptors for them")
    (listener,) = open_listeners("127.0.0.1", 0)
    clients = [socket.socket() for _ in range(crowd)]
    try:
        for client in clients:
            client.setblocking(False)
            # Over the loopback it is done at once, or not at all.
            client.connect_ex(listener.getsockname())
        for client in clients:
            client.getpeername()  # an OSError where it is not connected
    finally:
        for one in (listener, *clients):
            one.close()


def _somaxconn() -> int:
    try:
        return int(Path("/proc/sys/net/core/somaxconn").read_text())
    except OSError:
        return 0


@pytest.mark.usefixtures("road")
async def test_connections_are_counted() -> None:
    # REL-20
    async with serving(hello) as server, await connect(server) as client:
        await client.send(GET)
        await client.read_until(b"hello")
        counts = server.statistics()
        assert (counts.open, counts.accepted, counts.stalled) == (1, 1, 0)
        assert not counts.is_draining


async def test_accepting_pauses_without_descriptors_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    # REL-15
    accepted: list[trio.SocketStream] = []
    served = trio.Event()

    def take(stream: trio.SocketStream) -> None:
        accepted.append(stream)
        served.set()

    (listening,) = open_listeners("127.0.0.1", 0)
    listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening))
    failures = [OSError(errno.EMFILE, "too many open files")] * 250
    real = listener.accept

    async def scarce() -> trio.SocketStream:
        if failures:
            await trio.lowlevel.checkpoint()
            raise failures.pop()
        return await real()

    monkeypatch.setattr(listener, "accept", scarce)
    with capture_logs() as logged:
        async with trio.open_nursery() as nursery:
            # The connection is there before: virtual time jumps while a real one would come.
            client = await trio.open_tcp_stream("127.0.0.1", listening.getsockname()[1])
            began = trio.current_time()
            nursery.start_soon(partial(accept_forever, listener, take, tcp_user_timeout_s=1))
            await served.wait()
            assert trio.current_time() - began == pytest.approx(25)
            nursery.cancel_scope.cancel()
    # At 0, 10 and 20 seconds.
    assert [entry["event"] for entry in logged] == ["server.accept_paused"] * 3
    for stream in (client, *accepted):
        stream.socket.close()
    listening.close()


@pytest.mark.usefixtures("road")
@pytest.mark.slow
async def test_a_lowered_descriptor_limit_hurts_nobody_who_is_connected() -> None:
    # REL-15, with the kernel's own EMFILE
    async def stream(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        await begin_stream(scope, send)
        await receive()
        await receive()

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    clients: list[socket.socket] = []
    async with serving(stream) as server, await connect(server) as first:
        await first.send(GET)
        await first.read_until(b": open")
        try:
            # The client's end of each pair is opened before the limit falls.
            clients = [socket.socket() for _ in range(20)]
            used = max(client.fileno() for client in clients)
            resource.setrlimit(resource.RLIMIT_NOFILE, (used + 3, hard))
            for client in clients:
                client.setblocking(False)
                client.connect_ex(("127.0.0.1", server.port))
            with capture_logs() as logged:
                await until(lambda: bool(logged))
            assert [entry["event"] for entry in logged] == ["server.accept_paused"]
            assert len(server.connections) < 21
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        await until(lambda: len(server.connections) == 21)
        for client in clients:
            client.close()


async def test_a_drain_runs_its_steps_in_order_and_names_what_was_cut() -> None:
    # REL-20
    seen: list[str] = []
    async with serving(hello) as server:

        async def tell() -> None:
            seen.append("tell")
            assert server.is_draining

        async def hang() -> None:
            seen.append("hang")
            await trio.sleep_forever()

        steps = [DrainStep("tell", PATIENCE_S, tell), DrainStep("hang", 0.02, hang)]
        result = await server.drain(steps)
    assert seen == ["tell", "hang"]
    assert result.cut == ("hang",)
    assert not result.is_clean
    assert [name for name, _ in result.seconds] == ["listeners", "tell", "hang", "connections"]


@pytest.mark.usefixtures("road")
async def test_draining_refuses_new_and_idle_connections_and_finishes_answers() -> None:
    # REL-20 step 2, SITE-185
    entered, release = trio.Event(), trio.Event()

    async def slow(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] == "http" and scope["path"] == "/slow":
            entered.set()
            await release.wait()
        await answer(send, b"done")

    async with (
        serving(slow) as server,
        await connect(server) as idle,
        await connect(server) as fresh,
        await connect(server) as busy,
    ):
        await idle.send(GET)
        await idle.read_until(b"done")
        await busy.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        await entered.wait()
        await until(lambda: len(server.connections) == 3)

        async def finish() -> None:
            release.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.drain, [DrainStep("finish", PATIENCE_S, finish)])
            assert await idle.read_to_end() == b""
            assert await fresh.read_to_end() == b""
            got = await busy.read_to_end()
        assert got.endswith(b"done")
        assert b"connection: close" in got.lower()
        with pytest.raises(OSError, match=r"."):
            await connect(server)


@pytest.mark.usefixtures("road")
@pytest.mark.slow
@pytest.mark.parametrize("path", ["/lane", "/library"])
async def test_a_drain_ends_whatever_clients_do(path: str) -> None:
    # REL-21, SITE-185: a stalled reader, a half head, an endless handler
    async def stall(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        lane = await begin_stream(scope, send)
        body = b"x" * 65_536
        while path == "/lane":
            lane.write(b"10000\r\n" + body + b"\r\n")
            await trio.lowlevel.checkpoint()
        while True:
            await send({"type": "http.response.body", "body": body, "more_body": True})

    # None of the limits outside of a drain ends them.
    patient = TransportSettings(write_stall_s=FOR_EVER_S, frame_s=FOR_EVER_S, head_s=FOR_EVER_S)
    async with serving(stall, patient) as server:
        async with await connect(server) as stalled, await connect(server) as half:
            await stalled.send(GET)
            await half.send(b"GET / HT")
            # What the kernel does not take any more is kept by us.
            await until(lambda: any(one.pipe.pending_bytes for one in server.connections))
            await until(lambda: len(server.connections) == 2)
            with trio.fail_after(PATIENCE_S):
                await server.drain()
        assert not server.connections


@pytest.mark.usefixtures("road")
@pytest.mark.parametrize("end", [b"", b"bc"], ids=["stays", "comes"])
async def test_a_body_that_is_not_here_does_not_hold_a_drain(end: bytes) -> None:
    # REL-20 step 3, REL-21: what has not come is no command in hand
    asked, finished = trio.Event(), trio.Event()

    async def read(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        body = b""
        try:
            while (message := await receive())["type"] == "http.request":
                body += message["body"]
                asked.set()
                if not message["more_body"]:
                    return await answer(send, body)
        finally:
            finished.set()

    quick = TransportSettings(body_s=FOR_EVER_S, body_draining_s=PATIENCE_S if end else 0.05)
    results = []
    async with serving(read, quick) as server, await connect(server) as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\na")
        await asked.wait()

        async def drain() -> None:
            results.append(await server.drain([DrainStep("finish", PATIENCE_S, finished.wait)]))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(drain)
            await server.draining.wait()
            if end:
                await client.send(end)
            got = await client.read_to_end()
    assert got.startswith(b"HTTP/1.1 200 " if end else b"HTTP/1.1 503 ")
    assert not end or got.endswith(b"abc")
    assert results[0].cut == ()


async def _stream_until_closed(
    scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable, closing: trio.Event
) -> None:
    """Be a stream of the kind that is asked for; one that is told to be ahead of its reader is."""
    is_socket = scope["type"] == "websocket"
    lane = (
        (await accept(scope, receive, send)).lane if is_socket else await begin_stream(scope, send)
    )
    piece = frame("x" * 65_536) if is_socket else b"10000\r\n" + b"x" * 65_536 + b"\r\n"
    assert scope["type"] != "lifespan"
    while b"ahead" in scope["query_string"] and not closing.is_set():
        lane.write(piece)  # not taken while something waits: more than the kernel holds
        await trio.sleep(0.005)
    await closing.wait()
    if is_socket:
        await send({"type": "websocket.close", "code": 1001, "reason": "the server restarts"})
    else:
        await send({"type": "http.response.body", "body": b": bye\n\n", "more_body": False})


@pytest.mark.usefixtures("road")
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sse", "websocket"])
async def test_a_tenth_of_a_hundred_stalled_is_reset_and_nothing_is_cut(
    kind: str,
) -> None:
    # REL-21: the others get their end; who reads nothing, or never answers a close, loses no work
    closing = trio.Event()
    asked, end = (GET, b"0\r\n\r\n") if kind == "sse" else (UPGRADE, b"restarts")
    patient = TransportSettings(write_stall_s=FOR_EVER_S, close_reply_s=FOR_EVER_S)

    async def close() -> None:
        closing.set()
        # The step behind it has a second, whatever the machine.
        await until(lambda: len(server.connections) <= 10)
        await until(lambda: all(one.waits_for_client for one in server.connections))

    async def read(client: Client) -> None:
        await client.read_until(end)
        if kind == "websocket":
            await client.send(b"\x88\x82\0\0\0\0\x03\xe9")
        assert await client.read_to_end() == b""

    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(
            serving(partial(_stream_until_closed, closing=closing), patient)
        )
        made = [await (connect_narrow if at < 5 else connect)(server) for at in range(100)]
        clients = [await stack.enter_async_context(client) for client in made]
        for at, client in enumerate(clients):
            await client.send(asked.replace(b"GET /", b"GET /?ahead") if at < 5 else asked)
            await client.read_until(b"\r\n\r\n")
        await until(lambda: sum(not one.pipe.is_idle for one in server.connections) == 5)
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                for client in clients[10:]:
                    nursery.start_soon(read, client)
                result = await server.drain([DrainStep("close", PATIENCE_S, close)])
        assert result.is_clean, result
        assert not server.connections
        assert server.statistics().stalled == 5


@pytest.mark.slow
async def test_an_answer_that_is_not_done_is_cut_beside_a_stalled_reader() -> None:
    # REL-20, REL-21: that is work lost, and is said
    async def hang(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        assert scope["type"] == "http"
        if b"ahead" in scope["query_string"]:
            await _stream_until_closed(scope, receive, send, trio.Event())
        await trio.sleep_forever()

    patient = TransportSettings(write_stall_s=FOR_EVER_S, write_stall_draining_s=FOR_EVER_S)
    async with serving(hang, patient) as server, await connect_narrow(server) as stalled:
        await stalled.send(GET.replace(b"GET /", b"GET /?ahead"))
        await until(lambda: any(not one.pipe.is_idle for one in server.connections))
        async with await connect(server) as asking:
            await asking.send(GET)
            await until(lambda: [one.phase for one in server.connections] == [Phase.ANSWERING] * 2)
            result = await server.drain()
    assert result.cut == ("connections",)


async def test_a_drain_copes_with_a_connection_that_has_just_come() -> None:
    # REL-20, SITE-185: whose handshake is not over, so nothing of it was read yet
    settings = ServerSettings(port=0, tls=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(serve, with_lifespan(hello), settings))
        async with await connect(server) as silent:
            await until(lambda: len(server.connections) == 1)
            await server.drain()
            assert await silent.read_to_end() == b""
    assert not server.connections


@pytest.mark.usefixtures("road")
async def test_a_cancelled_server_leaves_nothing_open() -> None:
    # REL-25: a failing start undoes the earlier steps
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            settings = ServerSettings(port=0)
            server = await nursery.start(partial(serve, with_lifespan(hello), settings))
            async with await connect(server) as client:
                await client.send(GET)
                await client.read_until(b"hello")
            scope.cancel()
    assert not server.connections
    with pytest.raises(OSError, match=r"."):
        await connect(server)
