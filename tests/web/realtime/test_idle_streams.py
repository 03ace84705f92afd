"""What an open stream keeps of the request it was, and that the connection goes on behind it."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio
import trio.testing

from tests.patience import PATIENCE_S, until
from tests.web.realtime.site_kit import Site, opened
from tests.web.server import serving_kit
from web.realtime import Stream

# Fewer than one session may have (SEC-48).
STREAMS = 8
# Of a request, and of what it takes to answer one. Told by name: some have no name to import.
OF_A_REQUEST = {"Exchange", "LeanRequest", "Response", "LeanConnection", "RequestState", "Head"}

pytestmark = pytest.mark.skipif(serving_kit.USES_LIBRARY, reason="hypercorn keeps the request")


# Of a connection and its stream, and what they lead to.
OF_A_STREAM = {"Transport", "WritePipe", "PlainHttp", "Stream", "RequestState", "Life", "Task"}


def living() -> Counter[str]:
    """Count objects by the name of their class; what nobody holds any more is gone."""
    gc.collect()
    return held()


def held() -> Counter[str]:
    """Count objects by the name of their class, also those that wait for a collection."""
    return Counter(type(one).__name__ for one in gc.get_objects())


@contextmanager
def uncollected() -> Iterator[None]:
    """Have no collections: what is gone in the block was freed by who held it."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def asked(site: Site, tab: str) -> trio.SocketStream:
    """Open a stream and read its opening."""
    client = await trio.open_tcp_stream("127.0.0.1", site.server.port)
    site.clients.append(client)
    session = "00000000-0000-4000-8000-000000000001"
    host = f"Host: 127.0.0.1:{site.server.port}"
    target = f"/events?session={session}&tab={tab}"
    await client.send_all(f"GET {target} HTTP/1.1\r\n{host}\r\n\r\n".encode())
    await heard(client, b"sseConnected")
    return client


async def heard(client: trio.SocketStream, marker: bytes) -> bytes:
    """Read until something has come."""
    found = b""
    with trio.fail_after(PATIENCE_S):
        while marker not in found:
            more = await client.receive_some()
            assert more, found
            found += more
    return found


def stream_of(site: Site, tab: str) -> Stream:
    (found,) = [stream for stream in site.streams.all() if stream.key.tab == tab]
    return found


async def test_an_idle_stream_is_one_task_and_keeps_nothing_of_its_request() -> None:
    # PERF-23
    async with opened() as site:
        (await asked(site, "first")).socket.close()
        await until(lambda: not site.server.connections)
        await trio.testing.wait_all_tasks_blocked()
        before, tasks = living(), trio.lowlevel.current_statistics().tasks_living
        clients = [await asked(site, str(n)) for n in range(STREAMS)]
        await trio.testing.wait_all_tasks_blocked()
        # Long enough for the watch of long requests to come by, if there were one to watch.
        await trio.sleep(0.25)
        now = living()
        assert len(clients) == len(site.streams) == STREAMS
        assert trio.lowlevel.current_statistics().tasks_living - tasks == STREAMS
        # More than before: other tests of this process may have left some.
        assert {name for name in OF_A_REQUEST if now[name] > before[name]} == set()


async def test_what_a_stream_leaves_needs_no_collection() -> None:
    # PERF-24: thousands that come back would hold the loop for the circles of those before
    async with opened() as site:
        with uncollected():
            before = held()
            clients = [await asked(site, str(n)) for n in range(STREAMS)]
            for client in clients:
                client.socket.close()
            site.clients.clear()
            del client, clients
            await until(lambda: not site.server.connections and not len(site.streams))
            await trio.testing.wait_all_tasks_blocked()
            now = held()
        assert {name: now[name] - before[name] for name in OF_A_STREAM} == dict.fromkeys(
            OF_A_STREAM, 0
        )


async def test_what_is_asked_behind_a_stream_is_answered_when_it_is_over() -> None:
    # REL-30, SITE-94
    async with opened() as site:
        client = await asked(site, "a")
        await client.send_all(
            f"GET /page HTTP/1.1\r\nHost: 127.0.0.1:{site.server.port}\r\n".encode()
        )
        await trio.testing.wait_all_tasks_blocked()
        site.room.say("still here")
        await heard(client, b"still here")
        stream_of(site, "a").close("our side")
        await client.send_all(b"\r\n")
        found = await heard(client, b"<p>page</p>")
        assert found.startswith(b"0\r\n\r\nHTTP/1.1 200")


async def test_a_stream_whose_client_sends_on_and_on_is_read_to_a_limit_only() -> None:
    async with opened() as site:
        client = await asked(site, "a")
        (transport,) = site.server.connections
        limit = transport._settings.head_limits.whole
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send_all, b"x" * (8 * 1024 * 1024))
            plain = transport._plain
            assert plain is not None
            await until(lambda: len(plain.reader) >= limit)
            await trio.testing.wait_all_tasks_blocked()
            site.room.say("still here")
            await heard(client, b"still here")
            assert len(plain.reader) <= limit + 16 * 1024
            nursery.cancel_scope.cancel()
        stream_of(site, "a").close("our side")
        await until(lambda: not site.server.connections)


@pytest.mark.parametrize("how", ["client leaves", "cut off"])
async def test_a_stream_that_was_handed_over_is_closed_with_its_connection(how: str) -> None:
    # SITE-94, REL-30
    async with opened() as site:
        client = await asked(site, "a")
        stream = stream_of(site, "a")
        (transport,) = site.server.connections
        if how == "cut off":
            transport.reset("for a test")
        else:
            client.socket.close()
        with trio.fail_after(PATIENCE_S):
            await stream.closed.wait()
        assert stream.close_reason == "disconnected"
        assert len(site.streams) == 0
