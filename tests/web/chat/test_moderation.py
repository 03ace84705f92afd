"""Moderators decide about what waits, by a plain form; every open page follows by its stream."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from uuid import uuid4

import pytest
import trio
from trio_websocket import open_websocket_url

from actors.accounts import Role
from actors.chat import (
    ROOM_NAMES,
    CrashRoom,
    ModerationOutcome,
    RoomForgot,
    Verdict,
    Viewer,
    topic_of,
)
from storage.memory import MemoryChatLog
from tests.journeys.visitor import Answer, Visitor
from tests.patience import PATIENCE_S, until
from tests.web.accounts.test_entering import PASSWORD, form, get, register
from tests.web.whole_site import WholeSite, in_thread, open_whole_site
from web.chat.moderation import SHOWN_MAX, steady
from web.views import QueueView, WaitingView, csrf_token, element_id

pytestmark = pytest.mark.slow

QUEUE = "/demo/chat/moderation"
LINK = "see https://example.org"
GRACE = {"username": "Grace", "email": "grace@example.org"}


async def moderator(site: WholeSite, **who: str) -> Visitor:
    visitor = await register(site, **(who or GRACE))
    await site.accounts.grant((who or GRACE)["username"].lower(), Role.MODERATOR)
    return visitor


async def post_as_demo(visitor: Visitor, text: str) -> None:
    await in_thread(visitor.open_lab)
    fields = {"chatDemoDraftBody": text, "demoClientId": str(uuid4()), "sseTabId": visitor.tab}
    answer = await form(visitor, "/demo/chat/messages/demo", **fields)
    assert answer.status == 303, answer.text


def waiting(page: Answer) -> list[str]:
    return re.findall(r'<li id="waiting-([0-9a-f-]{36})"', page.text)


async def decide(visitor: Visitor, message_id: str, decision: str, reason: str = "") -> Answer:
    return await form(visitor, QUEUE, message_id=message_id, decision=decision, reason=reason)


async def test_only_moderators_see_the_queue_and_the_audit() -> None:
    # SITE-70, SITE-72, SITE-41, SITE-49
    async with open_whole_site() as site:
        guest, member = site.visitor(), await register(site)
        for path in (QUEUE, "/demo/chat/audit", "/demo/chat/audit?before=9"):
            answer = await get(guest, path)
            assert answer.status == 303
            assert answer.headers["location"].startswith("/login?next=%2Fdemo%2Fchat%2F")
            assert (await get(member, path)).status == 403
        answer = await decide(guest, str(uuid4()), "approve")
        assert answer.headers["location"] == "/login?next=%2Fdemo%2Fchat%2Fmoderation"
        assert (await decide(member, str(uuid4()), "approve")).status == 403
        assert "moderation-badge" not in (await get(member, "/lab")).text
        await site.accounts.grant("ada", Role.MODERATOR)
        assert (await get(member, QUEUE)).status == 200
        assert "moderation-badge" in (await get(member, "/lab")).text
        # What she has open shows what waits for review: it is closed with the role (SITE-68).
        await in_thread(member.open_lab)
        stream = await in_thread(partial(member.open_stream_of, "moderation"))
        with stream:
            await until(lambda: len(site.web.queue_readers) == 1)
            await site.accounts.grant("ada", Role.USER)
            await until(lambda: len(site.web.queue_readers) == 0)
        answer = await get(member, QUEUE)
        assert (answer.status, answer.headers["location"].partition("?")[0]) == (303, "/login")


async def test_an_approved_message_reaches_all_open_pages() -> None:
    # SITE-69, SITE-70, SITE-71
    async with open_whole_site() as site:
        author, guest, grace = site.visitor(), site.visitor(), await moderator(site)
        assert "Nothing waits for review" in (await get(grace, QUEUE)).text
        await post_as_demo(author, f"{LINK} <b>")
        await post_as_demo(author, "shown at once")
        page = await get(grace, QUEUE)
        (message_id,) = waiting(page)
        assert "see https://example.org &lt;b&gt;" in page.text
        streams = []
        for visitor in (author, guest, grace):
            await in_thread(visitor.open_lab)
            stream = await in_thread(visitor.open_stream)
            seen = await in_thread(partial(stream.read_until, b'id="chat-demo-list"'))
            assert (b"example.org" in seen) is (visitor is not guest)
            streams.append(stream)
        answer = await decide(grace, message_id, "approve")
        assert (answer.status, answer.headers["location"]) == (303, f"{QUEUE}?done=approve")
        assert "Approved" in (await get(grace, answer.headers["location"])).text
        for stream in streams:
            with stream:
                await in_thread(partial(stream.read_until, b"mode append", b"example.org"))
        bodies = [one.body for one in (await site.log.history(ROOM_NAMES[0], Viewer())).messages]
        assert bodies == [f"{LINK} <b>", "shown at once"]
        audit = (await get(grace, "/demo/chat/audit")).text
        assert "chat.message.moderate" in audit
        assert "grace" in audit
        assert "example.org" not in audit


async def test_a_removed_message_tells_its_author_why() -> None:
    # SITE-69
    async with open_whole_site() as site:
        author, grace = site.visitor(), await moderator(site)
        await post_as_demo(author, LINK)
        (message_id,) = waiting(await get(grace, QUEUE))
        stream = await in_thread(author.open_stream)
        with stream:
            await in_thread(partial(stream.read_until, b"waiting for review"))
            answer = await decide(grace, message_id, "remove", "no links, please")
            assert answer.status == 303
            await in_thread(partial(stream.read_until, b"no links, please"))
        assert "example.org" not in (await get(author, "/lab")).text


async def test_an_author_who_was_away_is_told_why_at_return() -> None:
    # SITE-69, SITE-68: on the page, in its stream and in the older ones; nobody else is
    async with open_whole_site() as site:
        author, guest, grace = site.visitor(), site.visitor(), await moderator(site)
        await post_as_demo(author, LINK)
        await post_as_demo(guest, "said meanwhile")
        (message_id,) = waiting(await get(grace, QUEUE))
        assert (await decide(grace, message_id, "remove", "no links, <b>please")).status == 303
        told = "no links, &lt;b&gt;please"
        for visitor, is_told in ((author, True), (guest, False), (grace, False)):
            page = await in_thread(visitor.open_lab)
            assert (told in page.text) is is_told
            assert "example.org" not in page.text
            stream = await in_thread(visitor.open_stream)
            with stream:
                seen = await in_thread(partial(stream.read_until, b"said meanwhile"))
            assert (told.encode() in seen) is is_told
            older = await get(visitor, "/partials/chat-history?room=Lobby&before=2")
            assert (told in older.text) is is_told
            assert "example.org" not in older.text


async def test_what_cannot_be_decided_says_why() -> None:
    # SITE-71, SITE-61
    async with open_whole_site() as site:
        author, grace = site.visitor(), await moderator(site)
        for text in (LINK, f"another {LINK}"):
            await post_as_demo(author, text)
        first, second = waiting(await get(grace, QUEUE))
        await post_as_demo(grace, f"own {LINK}")
        page = await get(grace, QUEUE)
        (own,) = set(waiting(page)) - {first, second}
        assert "You wrote this" in page.text
        await decide(grace, first, "approve")
        for message_id, decision, reason, status, told in (
            (own, "approve", "", 403, "another moderator decides"),
            (first, "remove", "", 409, "decided already"),
            (str(uuid4()), "approve", "", 404, "not there any more"),
            ("nonsense", "approve", "", 422, "names no message"),
            (second, "hide", "", 422, "is to approve or to remove"),
            (second, "remove", "x" * 201, 422, "at most 200 characters; this has 201"),
            (second, "remove", "a\x00b", 422, "without control characters"),
            (second, "remove", "a\u2028b", 422, "without control characters"),
        ):
            answer = await decide(grace, message_id, decision, reason)
            assert answer.status == status, (message_id, decision, answer.text)
            assert told in answer.text
            if len(reason) > 200:
                assert f'value="{reason}"' in answer.text  # SITE-64
        assert set(waiting(await get(grace, QUEUE))) == {own, second}
        # SITE-71: also once they signed out and in, as the demo user or a guest in between.
        assert (await form(grace, "/logout")).status == 303
        await post_as_demo(grace, f"as a guest {LINK}")
        login = {"email": GRACE["email"], "password": PASSWORD}
        assert (await form(grace, "/login", **login)).status == 303
        page = await get(grace, QUEUE)
        (as_guest,) = set(waiting(page)) - {own, second}
        assert page.text.count("You wrote this") == 2
        for message_id in (own, as_guest):
            assert (await decide(grace, message_id, "approve")).status == 403
        assert set(waiting(await get(grace, QUEUE))) == {own, second, as_guest}


class RevokingLog(MemoryChatLog):
    """Takes a moderator's role away when they are judged and their decision is not stored yet."""

    revoke: Callable[[], Awaitable[object]] | None = None

    async def moderate(self, verdict: Verdict) -> ModerationOutcome:
        if self.revoke is not None:
            await self.revoke()
        return await super().moderate(verdict)


async def test_a_role_that_ends_while_they_decide_decides_nothing() -> None:
    # SEC-117
    log = RevokingLog()
    async with open_whole_site(log=log) as site:
        author, grace = site.visitor(), await moderator(site)
        hedy = await moderator(site, username="Hedy", email="hedy@example.org")
        await post_as_demo(author, LINK)
        (message_id,) = waiting(await get(grace, QUEUE))
        log.revoke = partial(site.accounts.grant, "grace", Role.USER)
        answer = await decide(grace, message_id, "approve")
        assert answer.status == 403
        assert "example.org" not in answer.text
        assert waiting(await get(hedy, QUEUE)) == [message_id]


async def test_of_two_moderators_one_wins() -> None:
    # SITE-71
    async with open_whole_site() as site:
        author, grace = site.visitor(), await moderator(site)
        other = await moderator(site, username="Hedy", email="hedy@example.org")
        await post_as_demo(author, LINK)
        (message_id,) = waiting(await get(grace, QUEUE))
        answers: list[int] = []

        async def act(who: Visitor, decision: str) -> None:
            answers.append((await decide(who, message_id, decision)).status)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(act, grace, "approve")
            nursery.start_soon(act, other, "remove")
        assert sorted(answers) == [303, 409]


async def test_the_queue_and_its_badge_are_live() -> None:
    # SITE-70
    async with open_whole_site() as site:
        author, grace = site.visitor(), await moderator(site)
        page = await get(grace, QUEUE)
        found = re.search(r"sseTabId: '([0-9a-f-]{36})", page.text)
        assert found
        grace.tab = found.group(1)
        stream = await in_thread(partial(grace.open_stream_of, "moderation"))
        with stream:
            await in_thread(partial(stream.read_until, b'id="moderation-queue"'))
            await post_as_demo(author, LINK)
            parts = (b"example.org", b'name="csrf"', b'id="moderation-badge"')
            await in_thread(partial(stream.read_until, *parts))
            # What somebody else decides stays where it stood, until texts are to be forgotten.
            (message_id,) = waiting(await get(grace, QUEUE))
            other = await moderator(site, username="Hedy", email="hedy@example.org")
            assert (await decide(other, message_id, "approve")).status == 303
            decided = (f'id="waiting-{message_id}" class="panel waiting is-decided"'.encode(),)
            seen = await in_thread(partial(stream.read_until, *decided, b"Nothing waits any more"))
            assert seen.rpartition(b'name="decision"')[2].count(b"disabled") == 1
            topics = site.directory.system.topics
            topics.publish(topic_of(ROOM_NAMES[0]), RoomForgot(ROOM_NAMES[0]))
            await post_as_demo(author, LINK + "/more")
            seen = await in_thread(
                partial(stream.read_until, b"example.org/more", b"all that waits")
            )
            assert message_id.encode() not in seen.rpartition(b'id="moderation-queue"')[2]
        guest = site.visitor()
        await in_thread(guest.open_lab)
        refused = await in_thread(partial(guest.open_stream_of, "moderation"))
        with refused:
            assert refused.status == 403


def test_nothing_moves_under_the_hand_that_decides() -> None:
    """SITE-70: what leaves the queue keeps its place on an open page, up to a limit."""

    def queue(*numbers: int) -> QueueView:
        return QueueView(tuple(map(item, numbers)), 0, csrf_token("t"))

    def item(number: int) -> WaitingView:
        at = datetime(2026, 11, 27, tzinfo=UTC)
        short = element_id(f"m{number}")
        return WaitingView(short, "Lobby", "ada", short, "words", at, "auto")

    first = steady((), queue(1, 2, 3))
    second = steady(first.items, queue(1, 3, 4))
    third = steady(second.items, queue(4))
    told = [[(one.id, one.is_decided) for one in page.items] for page in (first, second, third)]
    assert told == [
        [("m1", False), ("m2", False), ("m3", False)],
        [("m1", False), ("m2", True), ("m3", False), ("m4", False)],
        [("m1", True), ("m2", True), ("m3", True), ("m4", False)],
    ]
    assert [page.is_done for page in (first, third, steady(third.items, queue()))] == [
        False, False, True,
    ]  # fmt: skip
    shown = first.items
    for number in range(4, 300):
        shown = steady(shown, queue(number)).items
        assert len(shown) <= SHOWN_MAX
        assert shown[-1] == item(number)


async def told(site: WholeSite, visitor: Visitor) -> str:
    """All that a visitor is told of the Lobby, by each road there is, from the beginning on."""
    page = await in_thread(visitor.open_lab)
    older = await get(visitor, "/partials/chat-history?room=Lobby&before=9")
    for answer in (page, older):
        assert answer.headers["cache-control"] == "no-store"
    streams = []
    with await in_thread(visitor.open_stream) as stream:
        streams.append(await in_thread(partial(stream.read_until, b"the last word")))
    epoch = site.web.said[ROOM_NAMES[0]].epoch
    last = {"last-event-id": f"{epoch}.0"}
    topic = partial(visitor.open_stream_at, "/events?topic=room:lobby", **last)
    with await in_thread(topic) as stream:
        streams.append(await in_thread(partial(stream.read_until, b"the last word")))
    cookies = "; ".join(f"{name}={value}" for name, value in visitor.cookies.items())
    headers = [(b"cookie", cookies.encode()), (b"origin", site.url.encode())]
    resume = {"room:lobby": {"epoch": epoch, "seq": 0}}
    asked = {"type": "subscribe", "topics": [*resume], "resume": resume}
    heard = ""
    with trio.fail_after(PATIENCE_S):
        async with open_websocket_url(
            f"ws://127.0.0.1:{site.port}/ws", extra_headers=headers, subprotocols=["greenroom.v1"]
        ) as socket:
            await socket.send_message(json.dumps(asked))
            while "the last word" not in heard:
                heard += str(await socket.get_message())
    return page.text + older.text + heard + b"".join(streams).decode()


async def test_four_viewers_are_told_what_is_theirs_to_know() -> None:
    # SEC-118, SITE-68: by pages, streams, topics and sockets, also from an old position
    marks = ("approved.example", "waiting.example", "removed.example")
    async with open_whole_site() as site:
        author, guest = site.visitor(), site.visitor()
        member = await register(site)
        grace = await moderator(site)
        for mark in marks:
            await post_as_demo(author, f"see https://{mark}")
        await post_as_demo(guest, "the last word")
        page = await get(grace, QUEUE)
        assert page.headers["cache-control"] == "no-store"
        queue = (await site.log.waiting()).messages
        found = {one.message.body[12:]: str(one.message.id) for one in queue}
        assert (await decide(grace, found[marks[0]], "approve")).status == 303
        assert (await decide(grace, found[marks[2]], "remove", "not here")).status == 303
        for _ in range(2):
            seen = {}
            for name, visitor in (
                ("author", author),
                ("guest", guest),
                ("member", member),
                ("grace", grace),
            ):
                text = await told(site, visitor)
                seen[name] = [mark for mark in marks if mark in text]
                assert ("not here" in text) is (name == "author")
            assert seen == {
                "author": [*marks[:2]],
                "guest": [marks[0]],
                "member": [marks[0]],
                "grace": [*marks[:2]],
            }
            # Once more with nothing in memory: what was told before is read from the store.
            site.web.rooms.of(ROOM_NAMES[0]).tell(CrashRoom("to begin anew"))
            site.web.said[ROOM_NAMES[0]].forget()


async def test_each_route_of_a_role_is_for_that_role() -> None:
    # SEC-117: who may not is told so, and nothing is decided
    async with open_whole_site() as site:
        author = site.visitor()
        await post_as_demo(author, LINK)
        (waits,) = (await site.log.waiting()).messages
        found: dict[str, list[int]] = {}
        for role in ("guest", *Role):
            visitor = site.visitor()
            if role != "guest":
                visitor = await register(site, username=f"a {role}", email=f"{role}@example.org")
                assert await site.accounts.grant(f"a {role}", Role(role)) is Role.USER
            await in_thread(visitor.open_lab)
            decided = {"message_id": str(waits.message.id), "decision": "hide", "reason": ""}
            answers = [
                await get(visitor, QUEUE),
                await form(visitor, QUEUE, **decided),
                await get(visitor, "/demo/chat/audit"),
                await get(visitor, "/ops/traces"),
            ]
            with await in_thread(partial(visitor.open_stream_of, "moderation")) as stream:
                found[str(role)] = [*(one.status for one in answers), stream.status]
        assert found == {
            "guest": [303, 303, 303, 404, 403],
            "user": [403, 403, 403, 404, 403],
            "moderator": [200, 422, 200, 404, 200],
            "admin": [403, 403, 403, 200, 403],
        }
        assert (await site.log.waiting()).messages == (waits,)
