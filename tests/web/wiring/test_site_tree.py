"""The tree of the site: who is there, and what open pages notice when parts of it restart."""

from __future__ import annotations

import json
import uuid
from functools import partial
from urllib.parse import quote

import pytest
import trio

from actors.chat import LOBBY, ROOM_NAMES, CrashRoom
from supervision import tree_of
from tests.journeys.visitor import OpenStream, Visitor
from tests.patience import PATIENCE_S, until
from tests.web.whole_site import WholeSite, in_thread, open_whole_site
from web.realtime import StreamCaps
from web.wiring.directory import feed_name, room_name

pytestmark = pytest.mark.slow


async def open_lab(site: WholeSite) -> tuple[Visitor, OpenStream]:
    visitor = site.visitor()
    await in_thread(visitor.open_lab)
    stream = await in_thread(visitor.open_stream)
    await in_thread(lambda: stream.read_until(b'"sseConnected":true', b'id="tree"'))
    return visitor, stream


async def test_parts_start_in_order_and_have_names() -> None:
    async with open_whole_site() as site:
        paths = [node.path for node in tree_of(site.system).snapshot().actors]
        tops = [path.split("/")[1] for path in paths if path.count("/") == 1]
        assert tops == [
            "rooms", "sessions", "flows", "passkey-flows", "provider-flows", "feeds", "elsewhere",
            "streams", "heartbeats",
            "sockets", "recorder", "survivals", "counters", "desks", "sandboxes", "keeper",
            "health", "checkouts", "letters", "ending", "traces", "sweeping", "server",
        ]  # fmt: skip
        for room in ROOM_NAMES:
            assert site.system.whereis(room_name(room)) is not None
            assert site.system.whereis(feed_name(room)) is not None
            assert f"site/rooms/{room.lower()}" in paths
    assert [result.is_clean for result in site.drains] == [True]


async def test_a_restarted_supervisor_of_rooms_is_found_and_nothing_is_lost() -> None:
    """SITE-63 SITE-155: its rooms have new refs; open pages go on."""
    async with open_whole_site() as site:
        visitor, stream = await open_lab(site)
        with stream:
            before = site.directory.maybe_room(LOBBY)
            assert (await in_thread(lambda: visitor.post("before"))).status == 202
            await kill(site, "site/rooms")
            await until(lambda: site.directory.maybe_room(LOBBY) not in {None, before})
            assert (await in_thread(lambda: visitor.post("after"))).status == 202
            await in_thread(lambda: stream.read_until(b"before", b"after"))
            assert (await in_thread(lambda: visitor.get("/ready"))).status == 200


async def test_a_restarted_supervisor_of_feeds_serves_the_open_pages() -> None:
    """SITE-91 SITE-94: nobody is lost who was there, nobody is kept who left."""
    async with open_whole_site() as site:
        visitor, stream = await open_lab(site)
        gone, gone_stream = await open_lab(site)
        with stream:
            before = site.directory.room_feed(LOBBY)
            await kill(site, "site/feeds")
            with gone_stream:
                pass
            await until(lambda: site.system.whereis(feed_name(LOBBY)) not in {None, before})
            assert (await in_thread(lambda: visitor.post("after the restart"))).status == 202
            await in_thread(lambda: stream.read_until(b"after the restart"))
            await until(lambda: len(site.web.shown) == len(site.web.tree_readers) == 1)
            assert gone.tab


async def test_a_restarted_session_knows_its_open_tab_again() -> None:
    """SITE-91: an open page works on without a reload."""
    async with open_whole_site() as site:
        visitor, stream = await open_lab(site)
        with stream:
            for path in (await session_path(site), "site/sessions"):
                await kill(site, path)
                answer = await in_thread(partial(visitor.post, f"after {path[:13]}"))
                assert (answer.status, answer.body) == (202, b"")
            await in_thread(lambda: stream.read_until(b"after site/sessions"))


async def test_a_restarted_supervisor_of_streams_closes_them_and_takes_new_ones() -> None:
    async with open_whole_site() as site:
        visitor, stream = await open_lab(site)
        with stream:
            await kill(site, "site/streams")
            await in_thread(stream.response.read)  # until the server ends it
        await until(lambda: len(site.web.streams) == 0)
        with await in_thread(visitor.open_stream) as again:
            await in_thread(lambda: again.read_until(b'"sseConnected":true', b'id="tree"'))


async def test_a_restarted_server_listens_on_its_port_and_takes_streams() -> None:
    """The readers of the server before are gone; the new one is not draining."""
    async with open_whole_site() as site:
        visitor, stream = await open_lab(site)
        with stream:
            await site.site.terminate_child("server")
            await site.site.restart_child("server")
        assert site.servers[0].port == site.servers[1].port
        assert (await in_thread(lambda: visitor.get("/ready"))).status == 200
        with await in_thread(visitor.open_stream) as again:
            await in_thread(lambda: again.read_until(b'"sseConnected":true', b'id="tree"'))
        assert (await in_thread(lambda: visitor.post("works on"))).status == 202


async def test_a_crash_from_the_lab_is_seen_by_every_page() -> None:  # LAB-12
    async with open_whole_site() as site:
        visitor, stream = await open_lab(site)
        with stream:
            room = site.directory.maybe_room(LOBBY)
            assert room is not None
            fields: dict[str, object] = {"commandId": str(uuid.uuid4()), "sseTabId": visitor.tab}
            path = f"/api/lab/actors/{room.id}/crash"
            answers = [await in_thread(lambda: visitor.command(path, fields)) for _ in range(2)]
            assert [(one.status, one.body) for one in answers] == [(202, b"")] * 2
            told = (b"CrashedOnPurpose", b'id="crash-result"', b"restarts <b>1</b>")
            await in_thread(lambda: stream.read_until(*told))
        (node,) = tree_of(site.system).snapshot(under="site/rooms/lobby").actors
        assert node.restarts == 1, "the repeat had no effect"


async def test_a_refused_command_may_be_sent_again() -> None:  # SITE-102
    async with open_whole_site() as site:
        visitor, stream = await open_lab(site)
        with stream:
            fields: dict[str, object] = {"commandId": "c1", "sseTabId": visitor.tab}
            unknown = "/api/lab/actors/999999/crash"
            first = await in_thread(lambda: visitor.command(unknown, fields))
            again = await in_thread(lambda: visitor.command(unknown, fields))
            assert (first.status, again.status) == (404, 404)


async def test_in_public_no_actor_of_the_site_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """LAB-6 LAB-90: whether it exists or not, whatever the action."""
    monkeypatch.setattr("web.wiring.composition.is_loopback", lambda host: False)
    async with open_whole_site() as site:
        visitor, stream = await open_lab(site)
        with stream:
            paths = ("site/rooms/lobby", "site/server", "site/sandboxes")
            cells = [cell for cell in map(site.system.at, paths) if cell is not None]
            assert len(cells) == len(paths)
            ids = [*(str(cell.id) for cell in cells), "999999", "feed-sink-2"]
            before = [cell.incarnation for cell in cells]

            def break_all() -> set[int]:
                return {
                    visitor.command(
                        f"/api/lab/actors/{one}/{action}",
                        {"commandId": str(uuid.uuid4()), "sseTabId": visitor.tab},
                    ).status
                    for one in ids
                    for action in ("crash", "kill", "flood")
                }

            assert await in_thread(break_all) == {404}
            assert [cell.incarnation for cell in cells] == before


async def test_two_hundred_streams_leave_nothing_behind() -> None:
    """SITE-94: all maps and the task count are back at the start."""
    caps = StreamCaps(per_session=300, per_address=300, total=300)
    async with open_whole_site(caps=caps) as site:
        visitors = [site.visitor() for _ in range(4)]
        for visitor in visitors:
            await in_thread(visitor.open_lab)
        await until(lambda: not site.servers[0].connections)
        tasks, cells = living_tasks(), len([*site.system.cells()])
        for _ in range(2):
            streams = await in_thread(lambda: [open_tab(visitors[n % 4]) for n in range(200)])
            await until(lambda: len(site.web.streams) == 200)
            assert len(site.web.shown) == len(site.web.tree_readers) == 200
            await in_thread(partial(close_all, streams))
            await until(lambda: not site.servers[0].connections)
        assert len(site.web.streams) == len(site.web.shown) == len(site.web.tree_readers) == 0
        counts = site.web.streams.counts()
        assert (counts.open, counts.sessions, counts.addresses) == (0, 0, 0)
        await until(lambda: len([*site.system.cells()]) == cells)
        # Threads that fetch leave their tasks a moment later.
        await until(lambda: living_tasks() <= tasks)


def close_all(streams: list[OpenStream]) -> None:
    for stream in streams:
        stream.__exit__()


def open_tab(visitor: Visitor) -> OpenStream:
    tab = Visitor(visitor.url, dict(visitor.cookies), str(uuid.uuid4()))
    stream = tab.open_stream()
    assert stream.status == 200
    return stream


def living_tasks() -> int:
    return trio.lowlevel.current_statistics().tasks_living


async def test_a_tab_that_reconnects_in_a_hurry_leaves_nothing_behind() -> None:
    """SITE-93 SITE-94: streams replaced while they open are no readers for ever."""
    async with open_whole_site() as site:
        visitor = site.visitor()
        await in_thread(visitor.open_lab)

        def hurry() -> list[OpenStream]:
            return [visitor.open_stream() for _ in range(30)]

        async with trio.open_nursery() as nursery:
            opened: list[list[OpenStream]] = []

            async def many() -> None:
                opened.append(await in_thread(hurry))

            for _ in range(3):
                nursery.start_soon(many)
        web = site.web
        await until(lambda: len(web.streams) == len(web.shown) == len(web.tree_readers) == 1)
        for streams in opened:
            for stream in streams:
                stream.__exit__()
        await until(lambda: len(web.streams) == 0)
        assert len(web.shown) == len(web.tree_readers) == 0


async def test_a_crowd_is_a_number_and_costs_no_drawing() -> None:  # LAB-10 LAB-93
    async with open_whole_site() as site:
        for _ in range(5):
            visitor, stream = await open_lab(site)
            stream.__exit__()
        page = (await in_thread(lambda: visitor.get("/lab"))).text
        sessions = [cell.name for cell in site.system.cells() if "site/sessions/" in cell.path]
        assert len(sessions) == 5
        assert not any(str(name) in page for name in sessions)
        assert "SessionActor" in page


async def test_a_stream_that_is_only_asked_about_changes_nothing() -> None:  # SITE-2
    async with open_whole_site() as site:
        visitor, stream = await open_lab(site)
        with stream:
            signals = json.dumps({"sseTabId": visitor.tab, "ssePage": "lab", "roomName": "Lobby"})
            path = f"/events?datastar={quote(signals)}"
            head = await in_thread(lambda: visitor.request("HEAD", path))
            assert (head.status, head.body) == (200, b"")
            assert head.headers["content-type"].startswith("text/event-stream")
            assert len(site.web.streams) == 1
            assert (await in_thread(lambda: visitor.post("still there"))).status == 202
            await in_thread(lambda: stream.read_until(b"still there"))


def incarnation(site: WholeSite, path: str) -> int:
    (node,) = [one for one in tree_of(site.system).snapshot().actors if one.path == path]
    return node.incarnation


async def session_path(site: WholeSite) -> str:
    (path,) = [cell.path for cell in site.system.cells() if "site/sessions/" in cell.path]
    return path


async def kill(site: WholeSite, path: str) -> None:
    """End an actor by force; returns when its next incarnation runs."""
    (cell,) = [cell for cell in site.system.cells() if cell.path == path]
    before = cell.incarnation
    cell.ref.kill()
    await until(lambda: cell.incarnation > before and cell.status == "running")


async def test_a_room_that_crashes_too_often_takes_only_its_supervisor_with_it() -> None:
    async with open_whole_site() as site:
        visitor, stream = await open_lab(site)
        with stream:
            with trio.fail_after(PATIENCE_S):
                while incarnation(site, "site/rooms") == 1:
                    room = site.directory.maybe_room(LOBBY)
                    if room is not None:
                        room.tell(CrashRoom("a test"))
                    await trio.sleep(0.005)
            await until(lambda: site.directory.maybe_room(LOBBY) is not None)
            assert incarnation(site, "site") == 1
            assert (await in_thread(lambda: visitor.post("still works"))).status == 202
            await in_thread(lambda: stream.read_until(b"still works"))
