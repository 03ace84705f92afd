"""Sockets of the whole site: what they leave behind, and what a killed supervisor leaves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from tests.patience import PATIENCE_S, until
from tests.web.whole_site import WholeSite, open_whole_site

pytestmark = pytest.mark.slow

PING = '{"type":"ping"}'


@asynccontextmanager
async def open_socket(site: WholeSite) -> AsyncIterator[WebSocketConnection]:
    stream = await trio.open_tcp_stream("127.0.0.1", site.port)
    async with stream, trio.open_nursery() as nursery:
        yield await wrap_client_stream(nursery, stream, f"127.0.0.1:{site.port}", "/ws")
        nursery.cancel_scope.cancel()


async def ping(socket: WebSocketConnection) -> str | bytes:
    """Give the answer; of a connection that ends, either half may be the one that fails."""
    await socket.send_message(PING)
    return await socket.get_message()


def sockets(site: WholeSite) -> int:
    return sum(cell.path.startswith("site/sockets/") for cell in site.system.cells())


async def test_sockets_leave_nothing_behind() -> None:  # SITE-94 REL-33
    async with open_whole_site() as site:
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
        assert site.system.topics.subscribers("room:lobby") == 1, "only the feed"


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
