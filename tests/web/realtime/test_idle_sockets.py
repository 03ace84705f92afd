"""What an open WebSocket keeps of its handshake, and who sees its end once it was handed over."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from tests.patience import PATIENCE_S, until
from tests.web.realtime.site_kit import Site, opened
from tests.web.realtime.test_idle_streams import heard, held, living, uncollected
from tests.web.server.test_frame_sequences import TEXT, close, frame
from web.realtime.socket.connection import Connection
from web.realtime.socket.endpoint import BUSY_FROM
from web.server.connection.http.websocket import INBOX_MAX

# Fewer than one user may have (SEC-48).
SOCKETS = 8
# Of a handshake, and of what it takes to answer one. Told by name: some have no name to import.
OF_A_HANDSHAKE = {"Handler", "Head", "RequestState", "PlainHttp", "RequestReader"}
# Of a connection and its socket, and what they lead to.
OF_A_SOCKET = {"Transport", "WritePipe", "WebSocket", "Outlet", "Connection", "Topics", "Life"}
SAY = b'{"type":"command","action":{"Say":{"body":"%b"}},"id":"%d"}'


async def upgraded(site: Site, *first: bytes) -> trio.SocketStream:
    """Open a socket and read its 101; `first` comes in one packet with the handshake."""
    client = await trio.open_tcp_stream("127.0.0.1", site.server.port)
    site.clients.append(client)
    await client.send_all(
        b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Protocol: greenroom.v1\r\n\r\n" % site.server.port + b"".join(first)
    )
    with trio.fail_after(PATIENCE_S):
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += await client.receive_some(1)
    assert head.startswith(b"HTTP/1.1 101 ")
    return client


def say(body: bytes, number: int = 1) -> bytes:
    return frame(TEXT, SAY % (body, number))


async def test_an_idle_socket_is_one_task_and_keeps_nothing_of_its_handshake() -> None:
    # PERF-23
    async with opened() as site:
        (await upgraded(site)).socket.close()
        await until(lambda: not site.server.connections)
        await trio.testing.wait_all_tasks_blocked()
        before, tasks = living(), trio.lowlevel.current_statistics().tasks_living
        clients = [await upgraded(site) for _ in range(SOCKETS)]
        await trio.testing.wait_all_tasks_blocked()
        now = living()
        assert len(clients) == len(site.endpoint) == SOCKETS
        assert trio.lowlevel.current_statistics().tasks_living - tasks == SOCKETS
        # More than before: other tests of this process may have left some.
        assert {name for name in OF_A_HANDSHAKE if now[name] > before[name]} == set()


async def test_what_a_socket_leaves_needs_no_collection() -> None:
    # PERF-24
    async with opened() as site:
        with uncollected():
            before = held()
            clients = [await upgraded(site) for _ in range(SOCKETS)]
            for client in clients:
                client.socket.close()
            site.clients.clear()
            del client, clients
            await until(lambda: not len(site.endpoint) and not site.server.connections)
            await trio.testing.wait_all_tasks_blocked()
            now = held()
        assert {name: now[name] - before[name] for name in OF_A_SOCKET} == dict.fromkeys(
            OF_A_SOCKET, 0
        )


async def test_what_comes_with_the_handshake_is_answered_behind_it_in_order() -> None:
    # REL-35, WEB-33: more than a handler's inbox holds
    count = 2 * INBOX_MAX
    async with opened() as site:
        client = await upgraded(site, *(say(b"early %d" % n, n) for n in range(count)))
        told = await heard(client, b'"id":"%d"' % (count - 1))
        places = [told.index(b'"id":"%d"' % n) for n in range(count)]
        assert places == sorted(places)
        assert site.room.n == count


@pytest.mark.parametrize("ending", [b"", close(1000)])
async def test_the_end_of_a_client_whose_commands_wait_is_seen(ending: bytes) -> None:
    # REL-30: the mailbox is full behind a command that takes its time
    more = BUSY_FROM + Connection.capacity
    async with opened() as site:
        client = await upgraded(site)
        await client.send_all(say(b"slow") + b"".join(say(b"more", n) for n in range(2, more)))
        await until(lambda: bool(site.room.keys))
        await trio.testing.wait_all_tasks_blocked()
        assert len(site.endpoint) == 1
        if ending:
            # A frame is read behind those that wait; that nothing more will come is seen at once.
            await client.send_all(ending)
            await client.send_eof()
        else:
            client.socket.close()
        await until(lambda: not len(site.endpoint) and not site.server.connections)
        assert site.room.n == 0
        site.room.go_on.set()


@pytest.mark.parametrize("how", ["client leaves", "client closes", "cut off", "our side"])
async def test_whatever_ends_a_socket_its_actor_and_its_place_are_given_back(how: str) -> None:
    # REL-33
    async with opened() as site:
        before = living()["Connection"]
        client = await upgraded(site)
        assert len(site.endpoint) == len(site.server.connections) == 1
        match how:
            case "client leaves":
                client.socket.close()
            case "client closes":
                await client.send_all(close(1000))
                assert await client.receive_some() == b"\x88\x02\x03\xe8"
            case "cut off":
                next(iter(site.server.connections)).reset("for a test")
            case _:
                await site.endpoint.close_all()
                await heard(client, (1001).to_bytes(2, "big"))
                await client.send_all(close(1001))
        await until(lambda: not len(site.endpoint) and not site.server.connections)
        await trio.testing.wait_all_tasks_blocked()
        assert living()["Connection"] <= before
