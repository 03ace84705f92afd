"""A normal visit, seen from the log, the database and the process that ends with it."""

from __future__ import annotations

import asyncio
import json
import threading
import uuid
from urllib.parse import quote

import asyncpg
import pytest
import trio
from trio_websocket import CloseReason, ConnectionClosed, wrap_client_stream

from storage.testing import TemporaryServer
from tests.journeys.kinds import StartSite
from tests.journeys.site_process import SiteProcess
from tests.journeys.visitor import Visitor
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.slow

GETS = ("/", "/lab", "/demo/chat", "/health", "/health/live", "/ready", "/health/ready",
        "/nowhere", "/static/nothing.js", "/events", "/error-test", "/login", "/register",
        "/docs", "/docs?q=mailbox", "/docs/start/first-actor", "/docs/how_to", "/docs/licence",
        "/work", "/work/chat-realtime", "/work/operational-visibility")  # fmt: skip


# Who holds a part of the outbox renews that every few seconds, whoever asks.
BY_THE_CLOCK = {"outbox_leases"}


async def _tables(url: str) -> dict[str, list[str]]:
    connection = await asyncpg.connect(url)
    try:
        names = await connection.fetch(
            "SELECT table_name FROM information_schema.tables "
            "WHERE table_schema = 'public' AND table_type = 'BASE TABLE'"
        )
        return {
            name: sorted(map(str, await connection.fetch(f'SELECT * FROM "{name}"')))  # noqa: S608 - the database's own names
            for (name,) in names
            if name not in BY_THE_CLOCK
        }
    finally:
        await connection.close()


def tables(url: str) -> dict[str, list[str]]:
    """Read every row of every table."""
    return asyncio.run(_tables(url))


def visit_everything(visitor: Visitor) -> None:
    for path in GETS:
        for method in ("GET", "HEAD"):
            visitor.request(method, path)
    visitor.open_lab()
    with visitor.open_stream() as stream:
        stream.read_until(b'id="tree"')


def test_no_get_changes_the_database(
    start_site: StartSite, postgres_server: TemporaryServer, database_url: str
) -> None:
    """SITE-2: all GET routes twice, also with a stream; what requests fill is as it was."""
    site = start_site(DATABASE_URL=database_url)
    visitor = Visitor(site.url)
    visitor.open_lab()
    assert visitor.post("there is something to read").status == 202
    before = tables(database_url)
    for _ in range(2):
        visit_everything(visitor)
        visit_everything(Visitor(site.url))
    assert tables(database_url) == before
    assert any("chat_messages" in name and rows for name, rows in before.items())


def test_a_normal_visit_logs_nothing_of_the_visitor(start_site: StartSite) -> None:
    """SITE-132 SEC-131: no words, tokens, addresses; and nothing that looks like trouble."""
    site = start_site(LOG_FORMAT="json", LOG_LEVEL="debug")
    visitor = Visitor(site.url)
    visit_everything(visitor)
    words = f"private words {uuid.uuid4()}"
    with visitor.open_stream() as stream:
        assert visitor.post(words).status == 202
        stream.read_until(words.encode())
    assert visitor.post("x" * 2000).status == 400
    site.stop()
    told = "\n".join(line for line in site.lines if line.startswith("{"))
    assert told
    for secret in (words, *visitor.cookies.values()):
        assert secret not in told
    records = [json.loads(line) for line in told.splitlines()]
    # A loop that was held for a while tells of a busy machine, not of the visit.
    grave = [one for one in records if one["level"] in {"warning", "error", "critical"}]
    assert [one for one in grave if one["event"] != "loop_blocked"] == []
    mine = [one for one in records if "127.0.0.1" in json.dumps(one)]
    assert mine == []


@pytest.mark.parametrize(
    "signals",
    ["", "x", "[]", "{}", "[" * 2500, '{"a":' * 600, '{"sseTabId":1,"ssePage":"lab"}', "%ff",
     '{"sseTabId":"TAB","ssePage":"admin"}', '{"sseTabId":"TAB","ssePage":"lab"}',
     '{"sseTabId":"TAB","ssePage":"lab","roomName":"lobby"}'],
    ids=range(11),
)  # fmt: skip
def test_signals_that_cannot_be_are_400(site: SiteProcess, signals: str) -> None:
    """SITE-91 SITE-150: never a 500."""
    text = signals.replace("TAB", str(uuid.uuid4()))
    escaped = text if text == "%ff" else quote(text)
    assert Visitor(site.url).get(f"/events?datastar={escaped}").status == 400


def test_it_stops_with_streams_and_sockets_open(start_site: StartSite) -> None:
    """SITE-185 WEB-46: both are told, both are closed, exit 0."""
    site = start_site()
    visitor = Visitor(site.url)
    visitor.open_lab()
    ready, closed = threading.Event(), list[CloseReason | None]()

    async def hold_socket() -> None:
        # The library's own helper leaves the TCP socket open when the server closes first.
        stream = await trio.open_tcp_stream("127.0.0.1", site.port)
        async with stream, trio.open_nursery() as nursery:
            socket = await wrap_client_stream(nursery, stream, f"127.0.0.1:{site.port}", "/ws")
            ready.set()
            with pytest.raises(ConnectionClosed) as raised:
                await socket.get_message()
            closed.append(raised.value.reason)

    holder = threading.Thread(target=trio.run, args=(hold_socket,), daemon=True)
    holder.start()
    assert ready.wait(PATIENCE_S)
    with visitor.open_stream() as stream:
        stream.read_until(b'id="tree"')
        code = site.stop()
        rest = stream.response.read()
    holder.join(PATIENCE_S)
    assert code == 0, site.lines
    assert b'"serverConnected":false' in rest
    assert b"retry: " in rest
    (why,) = closed
    assert why is not None
    assert why.code == 1001
    assert "Traceback" not in "\n".join(site.lines)
