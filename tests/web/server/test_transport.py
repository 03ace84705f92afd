"""Connections on real sockets: late clients, gone clients, both lanes."""

from __future__ import annotations

import socket
import struct
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import replace

import pytest
import trio
import trio.testing
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope
from structlog.testing import capture_logs

from tests.patience import PATIENCE_S, until
from tests.web.server.serving_kit import (
    GET,
    UPGRADE,
    accept,
    answer,
    begin_stream,
    connect,
    frame,
    serving,
)
from web.server import Server, TransportSettings, chunk
from web.server.connection.http import exchange
from web.server.connection.transport import Transport

# The limits hold whoever speaks HTTP on a connection.
pytestmark = pytest.mark.usefixtures("road")

# Short only where the limit itself is what ends a test, and where nothing is lost by it.
QUICK = TransportSettings(keep_alive_s=0.05, linger_s=0.05, gone_grace_s=0.05)


async def hello(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    await receive()
    await answer(send, b"hello")


async def wait_gone(server: Server) -> None:
    await until(lambda: not server.connections)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HT",
        b"GET / HTTP/1.1\r\nHost: x\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf",
    ],
)
async def test_a_half_request_is_answered_408_and_closed(sent: bytes) -> None:
    # REL-14
    async def read_all(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        while (await receive())["type"] == "http.request":
            pass

    late = replace(QUICK, head_s=0.05, body_s=0.05)
    async with serving(read_all, late) as server, await connect(server) as client:
        if sent:
            await client.send(sent)
        assert (await client.read_to_end()).startswith(b"HTTP/1.1 408 ")
        await wait_gone(server)


async def test_a_byte_now_and_then_does_not_extend_the_time_for_a_head() -> None:
    # REL-14
    async with (
        serving(hello, TransportSettings(head_s=0.1)) as server,
        await connect(server) as client,
        trio.open_nursery() as nursery,
    ):

        async def drip() -> None:
            try:
                while True:  # for as long as somebody listens
                    await client.send(b"G")
                    await trio.testing.wait_all_tasks_blocked(0.01)
            except trio.BrokenResourceError:
                pass

        nursery.start_soon(drip)
        assert (await client.read_to_end()).startswith(b"HTTP/1.1 408 ")
        nursery.cancel_scope.cancel()


async def test_a_client_that_is_gone_when_it_is_accepted_is_no_error() -> None:
    # REL-33: reset before its connection had a task
    with capture_logs() as logged:
        async with serving(hello, QUICK) as server:
            for _ in range(5):
                client = socket.create_connection(("127.0.0.1", server.port))
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.close()
            await until(lambda: server.statistics().accepted == 5)
            await wait_gone(server)
    assert [entry for entry in logged if entry["log_level"] == "error"] == []


async def test_an_idle_connection_ends_without_a_word() -> None:
    # REL-53
    async with serving(hello, QUICK) as server, await connect(server) as client:
        await client.send(GET)
        assert (await client.read_to_end()).endswith(b"\r\n\r\nhello")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /" + b"x" * 8200 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 17_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 40_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    ],
)
async def test_a_broken_head_is_refused_and_no_handler_entered(sent: bytes, status: int) -> None:
    # SITE-150, REL-52
    entered = []

    async def handler(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        entered.append(scope)

    async with serving(handler) as server, await connect(server) as client:
        await client.send(sent)
        got = await client.read_to_end()
        assert got.startswith(b"HTTP/1.1 %d " % status) or (b"505" in got[:12])
        assert b"\r\nserver:" not in got.lower()
        assert not entered


@pytest.mark.parametrize("is_writing", [True, False])
async def test_a_client_that_leaves_cancels_a_handler_that_never_listens(is_writing: bool) -> None:
    # REL-30
    ended = trio.Event()
    begun = trio.Event()

    async def deaf(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        try:
            lane = await begin_stream(scope, send)
            begun.set()
            while is_writing:
                lane.write(chunk(b"data: x\n\n"))
                await trio.testing.wait_all_tasks_blocked(0.001)
            await trio.sleep_forever()
        finally:
            ended.set()

    async with serving(deaf, QUICK) as server:
        async with await connect(server) as client:
            await client.send(GET)
            await begun.wait()
        with trio.fail_after(PATIENCE_S):
            await ended.wait()
        await wait_gone(server)


@pytest.mark.slow
async def test_a_reader_that_stops_is_reset_and_its_descriptor_freed() -> None:
    # REL-11
    async def flood(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        body = b"x" * 65_536
        headers = [(b"content-type", b"text/plain")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        while True:
            await send({"type": "http.response.body", "body": body, "more_body": True})

    settings = TransportSettings(write_stall_s=0.3)
    async with serving(flood, settings) as server, await connect(server) as client:
        await client.send(GET)
        await until(lambda: server.statistics().stalled > 0)
        await wait_gone(server)


async def test_both_lanes_of_a_stream_keep_order_and_whole_chunks() -> None:
    # REL-44
    async def mixed(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        lane = await begin_stream(scope, send)
        for n in range(100):
            assert lane.write(chunk(b"F%d;" % n))
            await send({"type": "http.response.body", "body": b"L%d;" % n, "more_body": True})
        lane.close()
        assert not lane.write(b"never")
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async with serving(mixed) as server, await connect(server) as client:
        await client.send(GET)
        got = await client.read_until(b"\r\n0\r\n\r\n")
    wanted = b"".join(chunk(b"F%d;" % n) + chunk(b"L%d;" % n) for n in range(100))
    assert got.endswith(chunk(b": open\n\n") + wanted + b"0\r\n\r\n")


async def test_pings_and_close_stand_between_whole_fast_frames() -> None:
    # REL-43, REL-44: a ping is answered while the fast lane is busy, nothing follows a close
    async def talk(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        wire = await accept(scope, receive, send)
        count = 0
        while (await receive())["type"] == "websocket.receive":
            for _ in range(20):
                wire.lane.write(frame(f"m{count}"))
                count += 1
        assert not wire.lane.write(frame("after the close"))

    masked_ping = b"\x89\x84\x00\x00\x00\x00ping"
    masked_text = b"\x81\x81\x00\x00\x00\x00x"
    masked_close = b"\x88\x82\x00\x00\x00\x00\x03\xe8"
    async with serving(talk) as server, await connect(server) as client:
        await client.send(UPGRADE)
        head = await client.read_until(b"\r\n\r\n")
        assert b" 101 " in head
        assert b"sec-websocket-extensions" not in head.lower()  # SEC-45
        await client.send((masked_text + masked_ping) * 10)
        got = await client.read_until(b"m199")
        await client.send(masked_close)
        got += await client.read_to_end()
    frames = split_frames(got)
    assert [text for opcode, text in frames if opcode == 0x81] == [b"m%d" % n for n in range(200)]
    assert [text for opcode, text in frames if opcode == 0x8A] == [b"ping"] * 10
    assert frames[-1] == (0x88, b"\x03\xe8")


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"\x81\x82\x00\x00\x00\x00\xff\xff", 1007),  # SEC-51: invalid UTF-8
        (b"\x81\x02hi", 1002),  # unmasked
        (b"\x83\x80\x00\x00\x00\x00", 1002),  # reserved opcode
        (b"\x81\xff" + (1 << 30).to_bytes(8, "big") + bytes(4) + b"x" * 70_000, 1009),  # SEC-45
        ((b"\x01\x81" + bytes(4) + b"x") + (b"\x00\x81" + bytes(4) + b"x") * 4096, 1009),
    ],
)
async def test_broken_frames_close_with_their_code(sent: bytes, code: int) -> None:
    # REL-41, SEC-45, SEC-51, WEB-34, WEB-46
    gone = trio.Event()

    async def talk(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        await accept(scope, receive, send)
        message = await receive()
        assert message["type"] == "websocket.disconnect"
        gone.set()

    # Whoever still sends while it is told so is not cut off.
    patient = TransportSettings(linger_s=PATIENCE_S)
    async with serving(talk, patient) as server, await connect(server) as client:
        await client.send(UPGRADE)
        await client.read_until(b"\r\n\r\n")
        await client.send(sent)
        opcode, payload = split_frames(await client.read_to_end())[-1]
        assert (opcode, payload[:2]) == (0x88, code.to_bytes(2, "big"))
        assert len(payload.decode("ascii", "ignore")) > 4, "a close says why (WEB-46)"
        await gone.wait()


async def test_empty_messages_arrive_as_their_kind() -> None:
    # REL-42
    kinds: list[tuple[str | None, bytes | None]] = []

    async def talk(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        await accept(scope, receive, send)
        while (message := await receive())["type"] == "websocket.receive":
            kinds.append((message["text"], message["bytes"]))

    async with serving(talk) as server, await connect(server) as client:
        await client.send(UPGRADE)
        await client.read_until(b"\r\n\r\n")
        await client.send(b"\x81\x80" + bytes(4) + b"\x82\x80" + bytes(4) + b"\x88\x80" + bytes(4))
        await client.read_to_end()
    assert kinds == [("", None), (None, b"")]


class Planted(Exception):
    pass


def failures(logged: Iterable[Mapping[str, object]]) -> str:
    """What the log tells of failed applications, with every leaf of a group."""
    told = ""
    for entry in logged:
        error = entry.get("exc_info")
        if entry["event"] == "server.application_failed" and isinstance(error, BaseException):
            told += "".join(traceback.format_exception(error))
    return told


@pytest.mark.parametrize(
    "fault",
    [
        Planted("one"),
        ExceptionGroup("outer", [Planted("one"), ExceptionGroup("inner", [Planted("two")])]),
    ],
)
async def test_a_socket_whose_handler_fails_is_closed_1011_and_says_why(
    fault: Exception,
) -> None:
    # REL-34, WEB-46: never 1000, and each leaf of a group is logged
    async def fail(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        await accept(scope, receive, send)
        raise fault

    quick = replace(QUICK, close_reply_s=0.05)
    with capture_logs() as logged:
        async with serving(fail, quick) as server, await connect(server) as client:
            await client.send(UPGRADE)
            (last,) = split_frames((await client.read_to_end()).partition(b"\r\n\r\n")[2])
            assert last == (0x88, (1011).to_bytes(2, "big") + b"a bug here ended this connection")
            await wait_gone(server)
    leaves = ["one"] if isinstance(fault, Planted) else ["one", "two"]
    assert all(f"Planted: {leaf}" in failures(logged) for leaf in leaves)


async def test_a_failure_on_the_way_out_of_a_socket_is_logged() -> None:
    # REL-34: beside the cancellation of a handler whose client left
    begun, failed = trio.Event(), trio.Event()

    async def fail(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        await accept(scope, receive, send)
        begun.set()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                try:
                    await trio.sleep_forever()
                finally:
                    failed.set()
                    raise Planted("on the way out")
        finally:
            await trio.lowlevel.cancel_shielded_checkpoint()

    with capture_logs() as logged:
        async with serving(fail, QUICK) as server:
            async with await connect(server) as client:
                await client.send(UPGRADE)
                await begun.wait()
            await failed.wait()
            await wait_gone(server)
    assert "Planted: on the way out" in failures(logged)


async def test_a_handler_that_fails_before_it_accepts_is_500() -> None:
    # REL-34
    async def fail(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        raise Planted("early")

    with capture_logs() as logged:
        async with serving(fail, QUICK) as server, await connect(server) as client:
            await client.send(UPGRADE)
            assert (await client.read_to_end()).startswith(b"HTTP/1.1 500 ")
    assert "Planted: early" in failures(logged)


async def test_a_peer_that_does_not_answer_our_close_is_left() -> None:
    # REL-43
    async def leave(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        await accept(scope, receive, send)
        await send({"type": "websocket.close", "code": 4408, "reason": "gone"})

    settings = TransportSettings(close_reply_s=0.05, linger_s=0.05)
    async with serving(leave, settings) as server, await connect(server) as client:
        await client.send(UPGRADE)
        got = await client.read_to_end()
        assert got.endswith(b"\x88\x06" + (4408).to_bytes(2, "big") + b"gone")
        await wait_gone(server)


def split_frames(data: bytes) -> list[tuple[int, bytes]]:
    frames = []
    while data:
        size = data[1]
        at = 2
        if size == 126:
            size, at = int.from_bytes(data[2:4], "big"), 4
        frames.append((data[0], data[at : at + size]))
        data = data[at + size :]
    return frames


@pytest.mark.parametrize("road", ["plain"], indirect=True)
async def test_a_silent_client_is_looked_at_and_its_end_is_seen_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # REL-30: nobody watches by a task of its own who is only slow
    monkeypatch.setattr(exchange, "WATCH_AFTER_S", 0.001)
    monkeypatch.setattr(exchange, "LOOKS_FIRST", 1_000_000)
    looks: list[bool] = []
    is_silent = Transport.is_silent

    def noting(transport: Transport) -> bool:
        looks.append(is_silent(transport))
        return looks[-1]

    monkeypatch.setattr(Transport, "is_silent", noting)
    ended = trio.Event()

    async def slow(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    async with serving(slow, TransportSettings(gone_grace_s=0.05)) as server:
        async with await connect(server) as client:
            await client.send(GET)
            await until(lambda: len(looks) > 3)
            assert all(looks)
            assert repr(server._watchman) == "<Watchman of 1>"
        with trio.fail_after(PATIENCE_S):
            await ended.wait()
    assert not looks[-1]
    assert looks.count(False) == 1
