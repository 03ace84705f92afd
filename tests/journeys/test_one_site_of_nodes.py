"""Three nodes are one site: what is said at one is heard at all, and outlives the killed one."""

from __future__ import annotations

import email
import json
import re
import threading
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from email import policy
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

import pytest
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from tests.journeys.site_process import SiteProcess
from tests.journeys.visitor import Visitor
from tests.nats_server import Eavesdropper
from tests.nodes import Nodes, missing, until
from tests.nodes.kit import SECRET
from tests.patience import PATIENCE_S
from tests.web.observability.operating.test_exporting import SAMPLED, SPAN, Received, spans_in

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing()), reason=missing())]

LOBBY = "room:lobby"
PASSWORD = "x9 qv, tz!"
SESSION_ENDED = 4401
TOKEN = "who-scrapes-shows-this"
SETTINGS = {"MAIL_SENDER": "file", "METRICS_TOKEN": TOKEN}


def at(site: SiteProcess, visitor: Visitor) -> Visitor:
    """The same browser, whose next request another node answers; its cookies are shared."""
    other = Visitor(site.url)
    other.cookies, other.tab = visitor.cookies, visitor.tab
    return other


def part_of_health(site: SiteProcess, part: str) -> dict[str, object]:
    """What a node says of a part of itself."""
    told = json.loads(Visitor(site.url).get("/ready?verbose").body)["components"][part]
    return {"status": told["status"], **told["details"]}


def nodes_of_figures(site: SiteProcess) -> set[str]:
    """Of which nodes a node's figures say they are; empty is one that does not say it."""
    shown = {"authorization": f"Bearer {TOKEN}"}
    told = Visitor(site.url).request("GET", "/metrics", b"", shown).text
    lines = [line for line in told.splitlines() if line and not line.startswith("#")]
    assert lines, told
    return {found[1] if (found := re.search(r'node="([^"]*)"', one)) else "" for one in lines}


@asynccontextmanager
async def socket_at(site: SiteProcess, visitor: Visitor) -> AsyncIterator[WebSocketConnection]:
    cookies = "; ".join(f"{name}={value}" for name, value in visitor.cookies.items())
    headers = [(b"cookie", cookies.encode()), (b"origin", site.url.encode())]
    stream = await trio.open_tcp_stream("127.0.0.1", site.port)
    async with stream, trio.open_nursery() as nursery:
        with trio.fail_after(PATIENCE_S):
            yield await wrap_client_stream(
                nursery,
                stream,
                f"127.0.0.1:{site.port}",
                "/ws",
                subprotocols=["greenroom.v1"],
                extra_headers=headers,
            )
        nursery.cancel_scope.cancel()


async def told(socket: WebSocketConnection, kind: str) -> dict[str, object]:
    """The next message of a kind."""
    while True:
        message: dict[str, object] = json.loads(await socket.get_message())
        if message["type"] == kind:
            return message


async def heard(socket: WebSocketConnection, text: str) -> list[tuple[object, str]]:
    """Events up to the one that says a text: their places and what they said."""
    events: list[tuple[object, str]] = []
    while not events or text not in events[-1][1]:
        event = await told(socket, "event")
        events.append((event["seq"], json.dumps(event)))
    return events


def link_by_mail(visitor: Visitor, folder: Path) -> str:
    """What signs in whoever opens the mail that this visitor asks for."""
    address = f"{uuid.uuid4().hex[:12]}@example.org"
    assert visitor.form("/login/link", {"email": address}).status == 303
    found: list[str] = []

    def has_come() -> bool:
        for path in folder.glob("*.eml"):
            mail = email.message_from_bytes(path.read_bytes(), policy=policy.default)
            text = mail.get_body(("plain",))
            assert text is not None
            if mail["to"] == address:
                found.extend(re.findall(r"token=([\w-]{43})", text.get_content()))
        return bool(found)

    until(has_come)
    return found[0]


def said_by(visitor: Visitor) -> str:
    text = uuid.uuid4().hex
    assert visitor.post(text).status == 202
    return text


class Collector(ThreadingHTTPServer):
    """Takes the spans that nodes export, from whatever node."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Collecting)
        self.spans: list[Received] = []

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def joins(self, trace: str, above: str, below: str) -> bool:
        """Whether what one node did stands below what another did, up to the request itself."""
        by_id = {one.id: one for one in tuple(self.spans) if one.trace == trace}
        for one in by_id.values():
            nodes, at = [one.service["service.instance.id"]], one
            while at.parent in by_id:
                at = by_id[at.parent]
                nodes.append(at.service["service.instance.id"])
            if at.name == "http.request" and (nodes[0], nodes[-1]) == (below, above):
                return at.parent == SPAN
        return False


class _Collecting(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Collector)
        self.server.spans += spans_in(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


def stored_by(site: SiteProcess) -> tuple[int, int]:
    """How many posts that came to a node the owner of the room has stored, and how many itself."""
    rooms = part_of_health(site, "rooms")
    return int(str(rooms["by_owner"])), int(str(rooms["by_self"]))


def said_at_another(nodes: Nodes, visitors: Mapping[str, Visitor]) -> tuple[str, str]:
    """Post in a trace until another node, which owns the room, has stored it: asked, and owner.

    A node that was just killed leaves a link to greet anew and shards to share out: each post is
    waited for, and the owner must be the same before and after it.
    """
    limit = time.monotonic() + PATIENCE_S
    while time.monotonic() < limit:
        owner = nodes.owner("room", "Lobby")
        asked = next(name for name in visitors if name != owner)
        site = nodes.sites[asked]
        before = stored_by(site)
        trace = f"00-{SAMPLED}-{SPAN}-01"
        assert visitors[asked].post(uuid.uuid4().hex, traceparent=trace).status == 202
        while (after := stored_by(site)) == before:
            assert time.monotonic() < limit, "the post was not stored"
            time.sleep(0.05)
        if after[0] > before[0] and nodes.owner("room", "Lobby") == owner:
            return asked, owner
    raise AssertionError("no post was stored by the owner of the room")


def test_what_is_said_at_one_node_is_heard_at_all(tmp_path: Path) -> None:
    # CLU-30, CLU-31, CLU-32, CLU-33, CLU-40, CLU-42, CLU-55, OBS-1, OBS-3, WEB-42, SEC-44
    with (
        Collector() as collector,
        Nodes(
            tmp_path,
            "abc",
            settings={
                **SETTINGS,
                "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}",
            },
        ) as nodes,
        Eavesdropper(nodes.messages, "gr.greenroom.>") as eavesdropper,
    ):
        for name, site in nodes.sites.items():
            assert nodes_of_figures(site) == {name}
        owner = nodes.owner("room", "Lobby")
        here, there = (site for name, site in nodes.sites.items() if name != owner)
        speaker, listener = Visitor(here.url), Visitor(there.url)
        speaker.open_lab()
        listener.open_lab()
        mark = trio.run(_hear_and_lose_the_owner, nodes, owner, speaker, here)
        # The page of another node has it too, says on, and shows who is in the room at both.
        speaker.panel = listener.panel = "chat"
        with listener.open_stream() as stream, speaker.open_stream():
            last = said_by(listener)
            # In whatever order: the other's guest may be known before its words are said.
            stream.read_until(last.encode(), b"2 guests")
        assert part_of_health(here, "link")["status"] == "healthy"
        # What was missed since the mark is given at another node.
        trio.run(_come_back, there, listener, mark, last)
        # What a request of one node leads to at another, by way of NATS, is of one trace.
        until(lambda: nodes.owner("room", "Lobby") != owner)
        at_each = {
            name: speaker if site is here else listener
            for name, site in nodes.sites.items()
            if name != owner
        }
        asked, heir = said_at_another(nodes, at_each)
        member: dict[str, str] = {}
        assert trio.run(_closed_with, here, there, member) == SESSION_ENDED
        link = link_by_mail(Visitor(there.url), tmp_path / "state" / "mail")
        # Who holds a node's credentials may listen: it hears what was said, and nothing that opens
        # a door.
        heard = bytes(eavesdropper.heard)
        assert last.encode() in heard
        canaries = {
            "a guest's session": speaker.cookies["gr_visitor"],
            "a member's session": member["gr_visitor"],
            "what has signed it in": member["gr_auth"],
            "its password": PASSWORD,
            "the cluster's secret": SECRET,
            "a link by mail": link,
        }
        assert [what for what, canary in canaries.items() if canary.encode() in heard] == []
        until(lambda: collector.joins(SAMPLED, asked, heir))


async def _hear_and_lose_the_owner(
    nodes: Nodes, owner: str, speaker: Visitor, here: SiteProcess
) -> dict[str, object]:
    in_thread = trio.to_thread.run_sync
    async with socket_at(here, speaker) as socket:
        await socket.send_message(json.dumps({"type": "subscribe", "topics": [LOBBY]}))
        positions = (await told(socket, "subscribed"))["positions"]
        assert isinstance(positions, dict)
        first = await in_thread(said_by, speaker)
        ((seq, _),) = await heard(socket, first)
        # Whoever owns the room has stored it, once the nodes have greeted each other.
        with trio.fail_after(PATIENCE_S):
            while not (await in_thread(stored_by, here))[0]:
                await heard(socket, await in_thread(said_by, speaker))
        # Said at the owner, heard here.
        elsewhere = Visitor(nodes.sites[owner].url)
        await in_thread(elsewhere.open_lab)
        await heard(socket, await in_thread(said_by, elsewhere))
        nodes.kill(owner)
        # Nobody waits for the lease of a node that is gone.
        await heard(socket, await in_thread(said_by, speaker))
    return {"epoch": positions[LOBBY]["epoch"], "seq": seq}


async def _come_back(
    there: SiteProcess, listener: Visitor, mark: dict[str, object], last: str
) -> None:
    async with socket_at(there, listener) as socket:
        again = {"type": "subscribe", "topics": [LOBBY], "resume": {LOBBY: mark}}
        await socket.send_message(json.dumps(again))
        positions = (await told(socket, "subscribed"))["positions"]
        assert isinstance(positions, dict)
        assert positions[LOBBY]["recovered"] is True
        places = [seq for seq, _ in await heard(socket, last)]
        first = int(str(mark["seq"])) + 1
        assert places == list(range(first, first + len(places)))


async def _closed_with(
    here: SiteProcess, there: SiteProcess, cookies: dict[str, str]
) -> int | None:
    """How a member's socket ends when it signs out elsewhere; `cookies` gets those it had."""
    in_thread = trio.to_thread.run_sync
    visitor, name = Visitor(here.url), f"u{uuid.uuid4().hex[:12]}"
    fields = {"username": name, "email": f"{name}@example.org", "password": PASSWORD}
    assert (await in_thread(visitor.form, "/register", fields)).status == 303
    cookies.update(visitor.cookies)
    async with socket_at(there, at(there, visitor)) as socket:
        await socket.send_message(json.dumps({"type": "subscribe", "topics": [LOBBY]}))
        await told(socket, "subscribed")
        assert (await in_thread(partial(visitor.form, "/logout", {}))).status == 303
        with pytest.raises(ConnectionClosed) as closed:
            await told(socket, "nothing of this kind")
    return None if closed.value.reason is None else closed.value.reason.code
