"""Streams over HTTP/2, where many share a connection: who does not read costs only itself."""

from __future__ import annotations

import ssl
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.patience import FOR_EVER_S, until
from tests.web.realtime.site_kit import Site, opened
from tests.web.server.certificate import make_contexts
from tests.web.server.http2_kit import Http2Client, connected
from web.realtime import StreamCaps
from web.server import TransportSettings
from web.server.connection.http.http2 import AHEAD_BYTES
from web.server.connection.lanes import COALESCE_BYTES

SESSION = "00000000-0000-0000-0000-000000000007"
TEXT, COUNT = "x" * 20_000, 100


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    folder: Path = tmp_path_factory.mktemp("tls")
    return make_contexts(folder)


async def open_tab(client: Http2Client, tab: str) -> int:
    number = await client.ask(f"/events?session={SESSION}&tab={tab}")
    await client.until(lambda: b"sseConnected" in client.bodies[number])
    assert client.status[number] == "200"
    return number


async def hear(client: Http2Client, number: int, mark: bytes) -> None:
    """Read until `mark` came, giving window for this stream alone; what was read is dropped."""

    async def more() -> None:
        had = len(client.bodies[number])
        await client.until(lambda: len(client.bodies[number]) > had)
        assert not client.is_closed
        client.frames.acknowledge_received_data(len(client.bodies[number]) - had, number)
        await client.flush()

    while mark not in client.bodies[number]:
        await more()
    client.bodies[number] = client.bodies[number].partition(mark)[2]


def bounds_hold(site: Site, stalled_count: int) -> None:
    """Look at what the site holds for those that stall."""
    found = [one.statistics() for one in site.streams.all()]
    behind = [one.backlog for one in found if one.key.tab.startswith("s")]
    assert len(behind) == stalled_count
    assert all(one.resyncs for one in behind), "all of them fell behind"
    assert all(one.chat_events <= 64 for one in behind)
    assert all(one.bytes <= 256 * 1024 for one in behind)
    requests = [
        request
        for connection in site.server.connections
        if connection._http2 is not None
        for request in connection._http2._streams.values()
    ]
    assert sum(request.blocked_at is not None for request in requests) >= stalled_count
    # What was ahead, and the one piece that was taken on top of it.
    assert all(len(one.ahead) <= AHEAD_BYTES + COALESCE_BYTES for one in requests)
    pending = [connection.pipe.pending_bytes for connection in site.server.connections]
    assert max(pending) <= COALESCE_BYTES


@pytest.mark.slow
async def test_readers_that_stall_cost_their_own_backlog_and_nobody_a_message(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    # REL-13, REL-70: three beside a reader on its own connection, and six on two others
    patient = TransportSettings(write_stall_s=FOR_EVER_S)
    async with (
        opened(patient, StreamCaps(per_session=30), tls=contexts[0]) as site,
        AsyncExitStack() as stack,
    ):

        async def connect() -> Http2Client:
            client = await stack.enter_async_context(connected(site.server, contexts))
            client.authority = f"127.0.0.1:{site.server.port}"
            return client

        mixed, alone = await connect(), await connect()
        # So that the window that ends is the stream's, not the connection's.
        mixed.frames.increment_flow_control_window(10_000_000)
        await mixed.flush()
        readers = [(mixed, await open_tab(mixed, "t0")), (alone, await open_tab(alone, "t1"))]
        stalled = [await open_tab(mixed, f"s{n}") for n in range(3)]
        for at in range(2):
            deaf = await connect()
            for n in range(3):
                await open_tab(deaf, f"s{at}-{n}")
        await until(lambda: len(site.streams) == 11)
        for n in range(COUNT):
            site.room.say(f"{n} {TEXT} end-{n}.")
            for client, number in readers:
                await hear(client, number, f" end-{n}.".encode())
        await until(
            lambda: all(
                one.statistics().backlog.resyncs
                for one in site.streams.all()
                if one.key.tab.startswith("s")
            )
        )
        bounds_hold(site, 9)
        # Its siblings stall, and still a request of this connection is answered.
        page = await mixed.ask("/page")
        await mixed.until(lambda: page in mixed.ended)
        assert mixed.bodies[page] == b"<p>page</p>"
        assert not mixed.ended.intersection(stalled)
        assert not mixed.resets
