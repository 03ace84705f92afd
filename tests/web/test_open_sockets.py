"""Sockets of the whole site: what they leave behind, and what a killed supervisor leaves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from tests.web.whole_site import WholeSite, open_whole_site

pytestmark = pytest.mark.slow

PING = '{"type":"ping"}'


@asynccontextmanager
async def open_socket(site: WholeSite) -> AsyncIterator[WebSocketConnection]:
    stream = await trio.open_tcp_stream("127.0.0.1", site.port)
    async with stream, trio.open_nursery() as nursery:
        yield await wrap_client_stream(nursery, stream, f"127.0.0.1:{site.port}", "/ws")
        nursery.cancel_scope.cancel()


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
                    await socket.send_message(PING)
                    await socket.get_message()
                assert sockets(site) == 2
            await site.wait_until(lambda: not site.servers[0].connections)
        await site.wait_until(lambda: len([*site.system.cells()]) == cells)
        await site.wait_until(lambda: trio.lowlevel.current_statistics().tasks_living <= tasks)
        assert site.system.topics.subscribers("room:lobby") == 1, "only the feed"


async def test_a_socket_whose_actor_was_killed_is_closed() -> None:  # SITE-94
    async with open_whole_site() as site, open_socket(site) as socket:
        await site.wait_until(lambda: sockets(site) == 1)
        (above,) = [cell for cell in site.system.cells() if cell.path == "site/sockets"]
        above.ref.kill()
        await site.wait_until(lambda: sockets(site) == 0)
        await socket.send_message(PING)
        with trio.fail_after(5), pytest.raises(ConnectionClosed):
            await socket.get_message()
        await site.wait_until(lambda: not site.servers[0].connections)
        async with open_socket(site) as again:
            await again.send_message(PING)
            assert await again.get_message()
