"""A client that vanished without a word: nothing is acknowledged any more, and nothing ends."""

from __future__ import annotations

import ctypes
import socket
import struct
import sys

import pytest
import trio
import trio.testing

from tests.patience import FOR_EVER_S, until
from tests.web.realtime.site_kit import Site, opened
from web.realtime.sse.encoding import HEARTBEAT_S
from web.server import TransportSettings

pytestmark = pytest.mark.slow

# Of Linux: a filter of a socket's own, asked before the kernel looks at a packet.
SO_ATTACH_FILTER = 26
# One instruction, "return 0": keep no byte of any packet.
DROP_ALL = struct.pack("HBBI", 0x06, 0, 0, 0)


def vanish(stream: trio.SocketStream) -> None:
    """Take the client off the network: its kernel hears nothing, and so acknowledges nothing."""
    program = ctypes.create_string_buffer(DROP_ALL)
    stream.setsockopt(
        socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(program))
    )


async def _open(site: Site, kind: str) -> trio.SocketStream:
    stream = await trio.open_tcp_stream("127.0.0.1", site.server.port)
    site.clients.append(stream)
    host = f"Host: 127.0.0.1:{site.server.port}\r\n"
    session = "00000000-0000-4000-8000-000000000001"
    asked = {
        "sse": f"GET /events?session={session}&tab=a HTTP/1.1\r\n{host}\r\n",
        "websocket": f"GET /ws HTTP/1.1\r\n{host}Connection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    }
    await stream.send_all(asked[kind].encode())
    await stream.receive_some()
    return stream


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's own limit is Linux's")
@pytest.mark.parametrize("kind", ["sse", "websocket"])
async def test_a_client_that_is_gone_without_a_word_is_given_up_by_the_kernel(kind: str) -> None:
    # REL-32: by the next thing that is sent to it and stays unacknowledged
    settings = TransportSettings(tcp_user_timeout_s=0.5, write_stall_s=FOR_EVER_S)
    async with opened(settings) as site:
        stream = await _open(site, kind)
        await until(lambda: len(site.streams) + len(site.endpoint) == 1)
        await trio.testing.wait_all_tasks_blocked()
        vanish(stream)
        (transport,) = site.server.connections
        if kind == "sse":
            site.room.say("who hears me?")
        else:
            await transport.pipe.write(b"\x89\x00")
        await until(lambda: not site.server.connections)
        await until(lambda: len(site.streams) + len(site.endpoint) == 0)


def test_a_heartbeat_and_the_kernels_patience_are_over_within_a_minute() -> None:
    # REL-32
    assert HEARTBEAT_S + TransportSettings().tcp_user_timeout_s <= 60
