"""The lab as a visitor meets it: over HTTP, on the whole site."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from urllib.parse import quote
from uuid import uuid4

import msgspec
import pytest
import trio
from trio_websocket import WebSocketConnection, wrap_client_stream

from actors.persistence import EVENTS, StreamId
from actors.timeline import Kind
from supervision import Backoff, Dynamic
from tests.journeys.visitor import Answer, OpenStream, Visitor
from tests.patience import FOR_EVER_S, PATIENCE_S, until
from tests.web.accounts.test_entering import get, register
from tests.web.accounts.test_own_account import signed_in_again
from tests.web.whole_site import WholeSite, in_thread, open_whole_site
from web.lab.sandbox import desk
from web.lab.sandbox.recording import LabActed
from web.lab.sandbox.sandboxes import Sandbox
from web.lab.sandbox.words import PLACES, ROOMS, Place
from web.mail.senders.memory import MemorySender
from web.mail.words import address_digest
from web.realtime import Stream
from web.settings import LabMode
from web.views import Branch, CountView

pytestmark = pytest.mark.slow


@dataclass
class Guest:
    """A visitor with a sandbox of their own, and the stream of their page open."""

    site: WholeSite
    visitor: Visitor
    sandbox: Sandbox
    stream: Stream

    async def act(self, what: str, command_id: str, **more: object) -> Answer:
        fields = {"commandId": command_id, "sseTabId": self.visitor.tab, **more}
        return await in_thread(lambda: self.visitor.command(f"/api/lab/{what}", fields))

    def status(self, place: str) -> str:
        cells = self.site.web.sandboxes.cells(self.sandbox)
        return {str(name): cell.status for name, cell in cells.items()}.get(place, "gone")

    async def restart_now(self, place: str) -> None:
        """End the backoff of a room."""
        cells = self.site.web.sandboxes.cells(self.sandbox)
        life = cells[ROOMS].life
        assert life is not None
        assert isinstance(life.instance, Dynamic)
        await life.instance.restart_now(cells[Place(place)].ref)

    async def recorded(self) -> list[LabActed]:
        await until(lambda: not self.site.web.ledger.waiting)
        stream = StreamId(f"lab-{self.sandbox.record}")
        found = [EVENTS.decode(one) async for one in self.site.events.load(stream)]
        return [one for one in found if isinstance(one, LabActed)]


@asynccontextmanager
async def a_guest(site: WholeSite) -> AsyncIterator[Guest]:
    visitor = site.visitor()
    visitor.panel = "tree"
    await in_thread(visitor.open_lab)
    with await in_thread(visitor.open_stream) as stream:
        await in_thread(lambda: stream.read_until(b'"sseConnected":true'))
        (own,) = [one for one in site.web.streams.all() if one.key.tab == visitor.tab]
        guest = Guest(site, visitor, site.web.sandboxes.of(own.key.session), own)
        await until(lambda: {guest.status(place) for place in PLACES} == {"running"})
        yield guest


async def test_a_repeat_is_answered_from_what_was_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    """SITE-102 LAB-6: not judged by what is possible by then; each decision is an event."""
    # The backoff of a room, a fifth of a second, is as long here as two requests need.
    monkeypatch.setattr(desk, "ROOM_BACKOFF", Backoff(first=FOR_EVER_S, max=FOR_EVER_S))
    async with open_whole_site() as site, a_guest(site) as guest:
        first = await guest.act("actors/rooms-room-2/crash", "c1")
        await until(lambda: guest.status("rooms-room-2") == "backing_off")
        again = await guest.act("actors/rooms-room-2/crash", "c1")
        other = await guest.act("actors/rooms-room-2/crash", "c2")
        assert [first.status, again.status, other.status] == [202, 202, 409]
        await guest.restart_now("rooms-room-2")
        await until(lambda: guest.status("rooms-room-2") == "running")
        refused = await guest.act("actors/rooms-room-2/crash", "c2")
        reset = await guest.act("sandbox/reset", "c3")
        site.web._lab_switch._set = LabMode.READONLY
        repeats = [
            await guest.act("actors/rooms-room-2/crash", "c1"),
            await guest.act("sandbox/reset", "c3"),
            await guest.act("sandbox/reset", "c4"),
        ]
        assert [refused.status, reset.status] == [409, 202]
        assert [one.status for one in repeats] == [202, 202, 503]
        told = [(one.action, one.place, one.outcome) for one in await guest.recorded()]
        assert told == [
            ("crash", "rooms-room-2", "done"),
            ("crash", "rooms-room-2", "not_possible"),
            ("reset", "desk", "done"),
        ]
        assert len(guest.sandbox.stories.kept) == 1
        flow = site.web.timeline.diagnostic(request_id=first.headers["x-request-id"])
        assert Kind.LAB_ACTION in [entry.kind for entry in flow]


@pytest.mark.parametrize("action", ["crash", "kill"])
async def test_an_exit_stands_in_the_flow_of_its_press(action: str) -> None:
    """LAB-30 SITE-122: what was queued by another request, and is in hand then, tells nothing."""
    async with open_whole_site() as site, a_guest(site) as guest:
        flood = await guest.act("actors/feed-sink/flood", "c1", count=100)
        press = await guest.act(f"actors/feed-sink/{action}", "c2")

        def kinds(answer: Answer) -> list[Kind]:
            flow = site.web.timeline.diagnostic(request_id=answer.headers["x-request-id"])
            return [entry.kind for entry in flow]

        await until(lambda: {Kind.SSE_PATCH, Kind.ACTOR_RESTARTED} <= set(kinds(press)))
        told = [kind for kind in kinds(press) if kind.value.startswith("actor.")]
        assert told == [Kind.ACTOR_EXITED, Kind.ACTOR_RESTARTED]
        assert Kind.ACTOR_EXITED not in kinds(flood)


async def test_refusals_are_recorded_but_not_without_end() -> None:  # LAB-6 LAB-7
    async with open_whole_site() as site, a_guest(site) as guest:
        answers = [(await guest.act("actors/crew/crash", str(uuid4()))).status for _ in range(35)]
        assert set(answers) == {409}, "what is not possible costs no quota"
        assert [one.outcome for one in await guest.recorded()] == ["not_possible"] * 30


async def test_the_31st_action_is_refused_with_a_wait_and_repeats_are_not() -> None:
    """LAB-7 SITE-102: a repeat costs nothing, before the limit and behind it."""
    async with open_whole_site() as site, a_guest(site) as guest:
        began = trio.current_time()
        answers = [
            await guest.act("actors/feed-sink/flood", f"c{number % 30}", count=1)
            for number in range(40)
        ]
        assert {answer.status for answer in answers} == {202}
        over = await guest.act("actors/feed-sink/flood", "c30", count=1)
        assert over.status == 429
        assert over.headers["ratelimit-policy"] == '"lab";q=30;w=60'
        assert 60 - (trio.current_time() - began) <= int(over.headers["retry-after"]) <= 60
        assert (await guest.act("actors/feed-sink/flood", "c0", count=1)).status == 202
        outcomes = [one.outcome for one in await guest.recorded()]
        assert outcomes == ["done"] * 30 + ["over_quota"]


async def test_the_site_s_tree_shows_sandboxes_as_a_number() -> None:
    """LAB-10 LAB-93 LAB-95: what becomes of one is its visitor's, and costs nobody else a look."""
    async with open_whole_site() as site, a_guest(site) as guest:
        await guest.act("actors/crew-beta/crash", "c1")
        await until(lambda: len(guest.sandbox.stories.kept) == 1)
        facts = site.web._tree.read()
        assert facts.crash is None
        (row,) = [one for one in facts.root.children if is_sandboxes(one)]
        assert isinstance(row, Branch)
        assert [(one.kind, one.count) for one in row.children if isinstance(one, CountView)] == [
            ("Sandbox", 2)
        ]
        assert len(row.children) == 1


def is_sandboxes(one: Branch | CountView) -> bool:
    return isinstance(one, Branch) and one.node.name == "sandboxes"


async def test_what_is_open_is_listed_and_dropped_by_its_own_visitor_only() -> None:
    """LAB-55 LAB-1 LAB-93: a tab that comes back has its reconnects counted."""
    async with open_whole_site() as site, a_guest(site) as guest, a_guest(site) as other:
        visitor = guest.visitor
        mine, foreign = visitor.tab, other.visitor.tab
        await in_thread(visitor.open_lab)
        second, visitor.panel = visitor.tab, "connections"
        with await in_thread(visitor.open_stream) as stream:
            told = await in_thread(lambda: stream.read_until(mine.encode(), second.encode()))
            assert foreign.encode() not in told
            assert b"this page" in told
            assert (await guest.act(f"streams/{foreign}/drop", "c1")).status == 404
            assert (await guest.act("streams/socket-1/drop", "c2")).status == 404
            drops = [await guest.act(f"streams/{mine}/drop", "c3") for _ in range(2)]
            assert [one.status for one in drops] == [202, 202]
            assert (await guest.act(f"streams/{mine}/drop", "c4")).status == 404
            visitor.tab, visitor.panel = mine, "tree"
            with await in_thread(visitor.open_stream):
                await in_thread(lambda: stream.read_until(b"<td data-reconnects>1</td>"))
        assert other.stream.is_open
        assert [one.action for one in await guest.recorded()] == ["drop"]


async def test_a_member_sees_their_sign_ins_and_one_that_ends_goes_with_its_pages() -> None:
    """LAB-65: with how many pages each has open; others see nothing of it."""
    async with open_whole_site() as site:
        visitor = await register(site)
        there = await signed_in_again(site)
        await in_thread(there.open_lab)
        await in_thread(visitor.open_lab)
        visitor.panel = "sign-ins"
        with (
            await in_thread(there.open_stream) as far,
            await in_thread(visitor.open_stream) as stream,
        ):
            told = await in_thread(lambda: sign_ins_told(stream))
            assert told.count(b"1 page open") == 2
            assert told.count(b"this one") == 1
            reference = re.search(rb'data-end="([^"]+)"', told)
            assert reference
            fields = {"session_ref": reference[1].decode()}
            answer = await in_thread(lambda: visitor.form("/account/sessions/revoke", fields))
            assert answer.status == 303
            await in_thread(far.response.read)  # until the server ends it

            while told.count(b"<li>") > 1:
                told = await in_thread(lambda: sign_ins_told(stream))
        page = await in_thread(there.open_lab)
        assert "You are a guest here" in page.text


async def test_a_member_sees_what_became_of_their_mails_and_of_nobody_elses() -> None:
    # MAIL-6
    sender, address, other = MemorySender(), "ada@example.org", "bob@example.org"
    digest = address_digest(address).hex()
    async with open_whole_site(sender=sender) as site:
        visitor = await register(site)
        for to in (address, other):
            await in_thread(lambda: visitor.get("/login/link"))
            asked = {"email": to}
            assert (await in_thread(partial(visitor.form, "/login/link", asked))).status == 303
        await until(lambda: all(sender.outbox_of(to) for to in (address, other)))
        (left,) = sender.outbox_of(address)
        token = re.search(r"token=([\w-]{43})", left.mail.text)
        assert token
        await in_thread(visitor.open_lab)
        visitor.panel = "sign-ins"
        with await in_thread(visitor.open_stream) as stream:
            told = await in_thread(lambda: stream.read_until(b"kept in memory"))
        assert (
            f"<code>magic_link</code> to <code>{digest[:12]}</code>: <b>sent</b>".encode() in told
        )
        assert told.count(b"magic_link") == 1, "one that is somebody else's is not there"
        for secret in (
            address,
            digest,
            token[1],
            "bob",
            address_digest(other).hex()[:12],
        ):
            assert secret.encode() not in told.partition(b"sign-ins-list")[2], secret


@asynccontextmanager
async def a_socket(guest: Guest) -> AsyncIterator[WebSocketConnection]:
    cookies = "; ".join(f"{name}={value}" for name, value in guest.visitor.cookies.items())
    headers = [(b"cookie", cookies.encode()), (b"origin", guest.site.url.encode())]
    host = f"127.0.0.1:{guest.site.port}"
    stream = await trio.open_tcp_stream("127.0.0.1", guest.site.port)
    async with stream, trio.open_nursery() as nursery:
        yield await wrap_client_stream(nursery, stream, host, "/ws", extra_headers=headers)
        nursery.cancel_scope.cancel()


class ToldActor(msgspec.Struct):
    id: str
    incarnation: int


class ToldChange(msgspec.Struct):
    epoch: str
    seq: int
    changed: list[ToldActor]
    removed: list[str]


async def told_of(socket: WebSocketConnection, kind: str) -> ToldChange | None:
    """Wait for a message of a kind; of an event gives its change."""
    with trio.fail_after(PATIENCE_S):
        while True:
            found = json.loads(await socket.get_message())
            if found["type"] == kind:
                return None
            if kind in found.get("action", {}):
                return msgspec.convert(found["action"][kind], ToldChange)


async def test_a_program_follows_its_own_sandbox_without_a_gap() -> None:
    """LAB-4 LAB-93: from a snapshot on, each change one up; nobody hears another's."""
    async with open_whole_site() as site, a_guest(site) as guest, a_guest(site) as other:
        snapshot = json.loads((await in_thread(lambda: guest.visitor.get("/api/lab/tree"))).text)
        hear = json.dumps({"type": "subscribe", "topics": [snapshot["topic"]]})
        async with a_socket(other) as deaf:
            await deaf.send_message(hear)
            await told_of(deaf, "error")
        async with a_socket(guest) as socket:
            await socket.send_message(hear)
            await told_of(socket, "subscribed")
            snapshot = json.loads(
                (await in_thread(lambda: guest.visitor.get("/api/lab/tree"))).text
            )
            lives = {one["id"]: one["incarnation"] for one in snapshot["actors"]}
            assert set(lives) == set(PLACES)
            assert (await guest.act("actors/crew-beta/crash", "c1")).status == 202
            seq = snapshot["seq"]
            while min(lives[f"crew-{name}"] for name in ("alpha", "beta", "gamma")) < 2:
                change = await told_of(socket, "TreeChanged")
                assert change is not None
                if change.seq > seq:
                    assert (change.epoch, change.seq) == (snapshot["epoch"], seq + 1)
                    seq += 1
                    lives |= {one.id: one.incarnation for one in change.changed}
                    assert not set(change.removed) - {str(place) for place in PLACES}
        assert guest.sandbox.record not in str(lives)


def sign_ins_told(stream: OpenStream) -> bytes:
    stream.read_until(b'id="sign-ins-list"')
    return stream.read_until(b"</ul>")


NONSENSE = (
    "__import__('os').system('id')",
    "'; DROP TABLE events; --",
    "../../etc/passwd",
    "/etc/passwd",
    "https://evil.example/x",
    "file:///etc/passwd",
    "<script>alert(1)</script>",
    "{{ 7*7 }}",
    "crash ",
    "Crash",
    "\u202ecrash",
    "a\x00b",
    "x" * 3000,
    "",
    "room-lobby",
    "site/rooms/lobby",
    "desk/rooms/room-1",
    "999999999999999999999",
    "-1",
)
NO_NUMBERS = (0, -1, 1001, 10**30, 1.5, "5", True, None, [5], {"a": 5}, "1; DROP TABLE events")
NO_TEXTS = (*NONSENSE, 5, None, True, ["tree"], {"a": "tree"})


async def test_what_a_visitor_sends_is_of_closed_lists_and_bounded_numbers() -> None:
    # LAB-91: no code, SQL, path, address or free text gets anywhere; and nobody else's actor
    async with open_whole_site() as site, a_guest(site) as guest, a_guest(site) as other:
        before = {place: guest.status(place) for place in PLACES}
        refused: list[tuple[object, Answer]] = []

        async def give(path: str, **fields: object) -> None:
            command = {"commandId": str(uuid4()), "sseTabId": guest.visitor.tab, **fields}
            answer = await in_thread(lambda: guest.visitor.command(path, command))
            refused.append(((path, fields), answer))

        targets = (*NONSENSE, str(other.sandbox.root), f"{other.sandbox.root}/rooms/room-1")
        for text in targets:
            named = quote(text, safe="")
            await give(f"/api/lab/actors/{named}/crash")
            await give(f"/api/lab/actors/rooms-room-2/{named}")
            await give(f"/api/lab/streams/{named}/drop")
            await give(f"/demo/panels/{named}")
        for nothing in (5, None, True, "", "x" * 129):
            await give("/api/lab/sandbox/reset", commandId=nothing)
        await give(f"/api/lab/streams/{other.visitor.tab}/drop")
        for number in NO_NUMBERS:
            await give("/api/lab/actors/rooms-room-2/flood", count=number)
        for value in NO_TEXTS:
            await give("/api/lab/look", panel=value)
            if value != "":  # nowhere in the tree: that is to look at none
                await give("/api/lab/look", place=value)
            await give("/demo/panels/db-check", choice=value)
            await give("/api/lab/sandbox/reset", sseTabId=value)
        given = {"sseTabId": guest.visitor.tab, "ssePage": "lab", "roomName": "Lobby"}
        for text in NONSENSE:
            signals = quote(json.dumps({**given, "labPanel": text or "no such panel"}))
            for asked in ("/lab?room=", "/lab?before=", "/events?datastar="):
                told = signals if "events" in asked else quote(text)
                refused.append((asked + told, await get(guest.visitor, asked + told)))
        for what, answer in refused:
            assert answer.status in {400, 404}, (what, answer.status, answer.text[:200])
        for text in NONSENSE[:8]:
            assert not any(text in answer.text for _, answer in refused), text
        assert {place: guest.status(place) for place in PLACES} == before
        assert await guest.recorded() == []
        assert await other.recorded() == []
        assert (other.stream.is_open, guest.stream.is_open) == (True, True)
