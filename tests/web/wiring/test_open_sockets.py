"""Sockets of the whole site: what they leave behind, and what a killed supervisor leaves."""

from __future__ import annotations

import json
import os
import socket
import struct
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from actors.chat import LOBBY, Viewer
from storage.memory import MemoryChatLog
from tests.journeys.visitor import Visitor
from tests.patience import PATIENCE_S, until
from tests.web.whole_site import WholeSite, in_thread, open_whole_site
from web.realtime import V1

pytestmark = pytest.mark.slow

PING = '{"type":"ping"}'


@asynccontextmanager
async def open_socket(
    site: WholeSite, path: str = "/ws", subprotocols: Sequence[str] = ()
) -> AsyncIterator[WebSocketConnection]:
    stream = await trio.open_tcp_stream("127.0.0.1", site.port)
    async with stream, trio.open_nursery() as nursery:
        host = f"127.0.0.1:{site.port}"
        yield await wrap_client_stream(nursery, stream, host, path, subprotocols=list(subprotocols))
        nursery.cancel_scope.cancel()


async def ping(socket: WebSocketConnection) -> str | bytes:
    """Give the answer; of a connection that ends, either half may be the one that fails."""
    await socket.send_message(PING)
    return await socket.get_message()


def sockets(site: WholeSite) -> int:
    return sum(cell.path.startswith("site/sockets/") for cell in site.system.cells())


def in_sandboxes(site: WholeSite) -> int:
    return sum(cell.path.startswith("site/sandboxes/") for cell in site.system.cells())


async def test_sockets_leave_nothing_behind() -> None:  # SITE-94 REL-33
    async with open_whole_site() as site:
        # The sandbox that all share is made beside the start: a desk and what is below it (LAB-2).
        await until(lambda: in_sandboxes(site) == 13)
        await trio.testing.wait_all_tasks_blocked(0.01)
        feeds = site.system.topics.subscribers("room:lobby")
        # Started sessions stay; the ones of sockets that only listen are never started.
        cells = len([*site.system.cells()])
        tasks = trio.lowlevel.current_statistics().tasks_living
        for _ in range(3):
            async with open_socket(site) as one, open_socket(site) as other:
                for socket in (one, other):
                    await ping(socket)
                assert sockets(site) == 2
            await until(lambda: not site.servers[0].connections)
        await until(lambda: len([*site.system.cells()]) == cells)
        await until(lambda: trio.lowlevel.current_statistics().tasks_living <= tasks)
        assert site.system.topics.subscribers("room:lobby") == feeds, "only the feeds"


# Of each ending. The first round starts what stays.
# Two rounds of each of two endings; the long form is in `make soak`.
LEFT = int(os.environ.get("LEFT", "50"))


def leaving(site: WholeSite, visitor: Visitor) -> list[tuple[bytes, bytes]]:
    """What a client sends before it leaves, and what it waits for."""
    cookies = "; ".join(f"{name}={value}" for name, value in visitor.cookies.items())
    same = f" HTTP/1.1\r\nHost: 127.0.0.1:{site.port}\r\nCookie: {cookies}\r\n"
    post = (
        "Sec-Fetch-Site: same-origin\r\nContent-Type: application/json\r\nContent-Length: 100\r\n"
    )
    upgrade = (
        f"Origin: {site.url}\r\n"
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    )
    found = [
        ("", ""),
        (f"GET /lab{same}"[:-5], ""),
        (f"GET /lab{same}\r\n", ""),
        (f"GET {visitor.stream_path}{same}\r\n", "sseConnected"),
        (f"GET /ws{same}{upgrade}\r\n", "101 "),
        (f"POST /demo/chat/messages{same}{post}\r\nhalf", ""),
    ]
    return [(sent.encode(), told.encode()) for sent, told in found]


def descriptors() -> int:
    return len([*Path("/proc/self/fd").iterdir()])


@pytest.mark.parametrize("is_reset", [False, True])
async def test_clients_that_leave_in_any_way_leave_nothing_behind(*, is_reset: bool) -> None:
    # SITE-94 REL-33
    linger = struct.pack("ii", 1, 0)
    async with open_whole_site() as site:
        visitor = site.visitor()
        await in_thread(visitor.open_lab)
        await until(lambda: in_sandboxes(site) == 13 and not site.servers[0].connections)
        await trio.testing.wait_all_tasks_blocked(0.01)
        kinds = leaving(site, visitor)

        async def come_and_leave(sent: bytes, told: bytes) -> None:
            stream = await trio.open_tcp_stream("127.0.0.1", site.port)
            await stream.send_all(sent)
            got = b""
            while told not in got:
                data = await stream.receive_some()
                assert data, got
                got += data
            if is_reset:
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            stream.socket.close()

        async def round_of_all() -> tuple[object, ...]:
            for number in range(LEFT):
                await come_and_leave(*kinds[number % len(kinds)])
            await until(lambda: not site.servers[0].connections and len(site.web.streams) == 0)
            await until(lambda: sockets(site) == 0)
            await trio.testing.wait_all_tasks_blocked(0.01)
            counts = site.web.streams.counts()
            return (
                len([*site.system.cells()]),
                trio.lowlevel.current_statistics().tasks_living,
                descriptors(),
                site.system.topics.subscribers("room:lobby"),
                (counts.sessions, counts.addresses),
                (len(site.web.shown), len(site.web.tree_readers)),
            )

        assert await round_of_all() == await round_of_all()


async def test_a_socket_whose_actor_was_killed_is_closed() -> None:  # SITE-94
    async with open_whole_site() as site, open_socket(site) as socket:
        await until(lambda: sockets(site) == 1)
        (above,) = [cell for cell in site.system.cells() if cell.path == "site/sockets"]
        above.ref.kill()
        await until(lambda: sockets(site) == 0)
        with trio.fail_after(PATIENCE_S), pytest.raises(ConnectionClosed):
            await ping(socket)
        await until(lambda: not site.servers[0].connections)
        async with open_socket(site) as again:
            assert await ping(again)


async def test_a_post_is_acknowledged_alike_before_and_after_a_restart() -> None:
    """WEB-41: the process that is asked again never saw it; the store knows it."""
    path = f"/ws?client={uuid.uuid4()}"
    post = (
        '{"type":"command","action":{"PostMessage":{"body":"hello","client_id":"p1"}},'
        '"topic":"room:lobby","id":"c1"}'
    )
    log, acks = MemoryChatLog(), []
    for _ in range(2):
        async with open_whole_site(log=log) as site, open_socket(site, path, [V1]) as socket:
            for _ in range(2):
                await socket.send_message(post)
                acks.append(await socket.get_message())
    assert set(acks) == {acks[0]}
    assert '"id":"c1","result":{"client_id":"p1"' in str(acks[0])
    history = await log.history(LOBBY, Viewer())
    assert [message.body for message in history.messages] == ["hello"]


async def test_a_program_that_names_itself_is_the_same_guest_each_time() -> None:
    """WEB-41 SITE-107: without a cookie, by `client`; a new name is a new guest."""
    one, other = uuid.uuid4(), uuid.uuid4()
    log = MemoryChatLog()
    async with open_whole_site(log=log) as site:
        for number, client in enumerate((one, one, other)):
            async with open_socket(site, f"/ws?client={client}") as socket:
                fields = f'{{"body":"{number}","client_id":"{number}"}}'
                action = f'{{"PostMessage":{fields}}}'
                await socket.send_message(f'{{"type":"command","action":{action}}}')
                await socket.get_message()
    history = await log.history(LOBBY, Viewer())
    first, second, third = (message.author_session for message in history.messages)
    assert first == second != third


async def test_a_client_that_comes_back_after_a_restart_gets_what_it_missed() -> None:
    """WEB-42 SITE-107: page and socket post; the numbers mean the same to the next process."""
    log = MemoryChatLog()

    async def post(socket: WebSocketConnection, name: str, body: str) -> None:
        fields = {"body": body, "client_id": name}
        command = {"type": "command", "action": {"PostMessage": fields}, "id": name}
        await socket.send_message(json.dumps(command))

    async def subscribe(
        socket: WebSocketConnection, resume: dict[str, object]
    ) -> dict[str, object]:
        topics = {"topics": ["room:lobby"], "resume": resume}
        await socket.send_message(json.dumps({"type": "subscribe", "id": "s"} | topics))
        told = json.loads(await socket.get_message())
        assert (told["type"], told["id"]) == ("subscribed", "s")
        at = told["positions"]["room:lobby"]
        assert isinstance(at, dict)
        return at

    async with open_whole_site(log=log) as site, open_socket(site, "/ws", [V1]) as socket:
        at = await subscribe(socket, {})
        assert (at["seq"], at["recovered"]) == (0, False)
        await post(socket, "a", "heard")
        answers = [json.loads(await socket.get_message()) for _ in range(2)]
        (told,) = (each for each in answers if each["type"] == "event")
        assert told["action"]["MessagePosted"]["body"] == "heard"
        assert (told["seq"], told["prev"], told["epoch"]) == (1, 0, at["epoch"])
        async with open_socket(site, "/ws", [V1]) as other:
            for name, body in (("b", "missed"), ("c", "https://waits"), ("d", "missed too")):
                await post(other, name, body)
                assert json.loads(await other.get_message())["type"] == "ack"
    async with open_whole_site(log=log) as site, open_socket(site, "/ws", [V1]) as socket:
        again = await subscribe(socket, {"room:lobby": {"epoch": told["epoch"], "seq": 1}})
        assert again == {"epoch": at["epoch"], "seq": 4, "recovered": True}
        missed = [json.loads(await socket.get_message()) for _ in range(2)]
        assert [(each["prev"], each["seq"]) for each in missed] == [(1, 2), (2, 4)]
        assert missed[1]["action"]["MessagePosted"]["body"] == "missed too"
