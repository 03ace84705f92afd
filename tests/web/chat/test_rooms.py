"""Other rooms have members: who joins one reads and posts there, and what is said stays there."""

from __future__ import annotations

import re
from contextlib import ExitStack
from functools import partial
from uuid import uuid4

import pytest

from actors.chat import CrashRoom, RoomName, Viewer
from tests.journeys.visitor import Answer, OpenStream, Visitor
from tests.patience import until
from tests.web.accounts.test_entering import get, register
from tests.web.whole_site import WholeSite, in_thread, open_whole_site
from web.wiring.ending import OpenRooms

pytestmark = pytest.mark.slow

JOIN = "/demo/chat/rooms/join"
SUPPORT = RoomName("Support")
GRACE = {"username": "Grace", "email": "grace@example.org"}


async def join(visitor: Visitor, room: object, tab: str | None = None) -> Answer:
    values = {"roomName": room, "sseTabId": tab or visitor.tab}
    return await in_thread(partial(visitor.command, JOIN, values))


async def opened(visitor: Visitor) -> OpenStream:
    await in_thread(visitor.open_lab)
    stream = await in_thread(visitor.open_stream)
    await in_thread(partial(stream.read_until, b"chat-you-list"))
    return stream


async def post(visitor: Visitor, text: str) -> int:
    return (await in_thread(partial(visitor.post, text))).status


async def said(site: WholeSite, room: RoomName) -> list[str]:
    history = await site.log.history(room, Viewer(is_moderator=True))
    return [str(message.body) for message in history.messages]


async def test_who_joins_a_room_reads_and_posts_there() -> None:
    # SITE-75 SITE-76 SITE-72: idempotent, audited once, and nobody else hears of it
    with ExitStack() as open_now:
        async with open_whole_site() as site:
            ada, grace, guest = await register(site), await register(site, **GRACE), site.visitor()
            at_ada, at_grace, at_guest = [
                open_now.enter_context(await opened(one)) for one in (ada, grace, guest)
            ]
            assert (await join(guest, "Support")).status == 401
            assert (await join(guest, "Lobby")).status == 204
            for room, status in (("support", 404), ("", 404), (7, 400), ("Support\n", 404)):
                assert (await join(ada, room)).status == status
            assert (await join(ada, "Support", str(uuid4()))).status == 428
            history = "/partials/chat-history?room=Support"
            assert [(await get(one, history)).status for one in (ada, guest)] == [403, 403]
            for _ in range(2):
                answer = await join(ada, "Support")
                assert (answer.status, answer.body) == (204, b"")
            told = await in_thread(partial(at_ada.read_until, b'"Support"', b"chat-demo-list"))
            assert b"roomName" in told
            assert await post(ada, "to support") == 202
            assert await post(grace, "to the lobby") == 202
            assert await said(site, SUPPORT) == ["to support"]
            heard = await in_thread(partial(at_ada.read_until, b">to support<"))
            assert b"to the lobby" not in heard
            for stream in (at_grace, at_guest):
                heard = await in_thread(partial(stream.read_until, b">to the lobby<"))
                assert b"to support" not in heard
            assert "to support" in (await get(ada, history)).text
            assert (await get(guest, history)).status == 403
            # Back again, and nothing of the other room comes any more.
            assert (await join(ada, "Lobby")).status == 204
            back = await in_thread(partial(at_ada.read_until, b'"Lobby"'))
            assert (await join(grace, "Support")).status == 204
            assert await post(grace, "again to support") == 202
            assert await post(ada, "again to the lobby") == 202
            heard = await in_thread(partial(at_ada.read_until, b">again to the lobby<"))
            assert b"again to support" not in back + heard
            joins = [
                one for one in (await site.log.audited()).entries if one.action.endswith("join")
            ]
            joined = sorted((str(one.actor_name).lower(), one.room) for one in joins)
            assert joined == [("ada", "Lobby"), ("ada", "Support"), ("grace", "Support")]


async def test_a_stream_of_a_room_is_for_its_members() -> None:
    # SITE-91: an open page works on after a restart; nobody else gets one by naming the room
    # LAB-56: who looks at the room is told who is in it
    async with open_whole_site() as site:
        ada, grace = await register(site), await register(site, **GRACE)
        ada.panel = "chat"
        for one in (ada, grace):
            await in_thread(one.open_lab)
        with await in_thread(ada.open_stream) as stream:
            await in_thread(partial(stream.read_until, b"Here now: ", b">ada<"))
            assert (await join(ada, "Support")).status == 204
            assert await post(ada, "for members") == 202
        of_support = [one.stream_path.replace("Lobby", "Support") for one in (ada, grace)]
        assert all("Support" in path for path in of_support)
        with await in_thread(partial(ada.open_stream_at, of_support[0])) as stream:
            assert stream.status == 200
            await in_thread(partial(stream.read_until, b">for members<"))
            # Bound again by its stream alone.
            assert await post(ada, "still there") == 202
        with await in_thread(partial(grace.open_stream_at, of_support[1])) as stream:
            assert stream.status == 409
        assert await said(site, SUPPORT) == ["for members", "still there"]


async def test_a_membership_that_was_taken_away_ends_what_shows_the_room() -> None:
    # SITE-75, SEC-44: by whatever process, also by hand in the database, with nothing that rings
    async with open_whole_site() as site:
        ada, grace = await register(site), await register(site, **GRACE)
        streams = []
        for one in (ada, grace):
            await in_thread(one.open_lab)
            streams.append(await in_thread(one.open_stream))
            await in_thread(partial(streams[-1].read_until, b'id="chat-you-list"'))
            assert (await join(one, "Support")).status == 204
        with streams[0], streams[1]:
            users = site.log.database.users.items()
            (left,) = [user_id for user_id, user in users if user.username == "ada"]
            site.log._table(SUPPORT).members.discard(left)
            watch = OpenRooms(site.log, site.web.open_now.members, site.web.shown.maybe_room)
            site.log.fail_next()
            await watch.look()
            assert len(site.web.shown) == 2, "the store was away: it is asked another time"
            await watch.look()
            await until(lambda: len(site.web.shown) == 1)
            # Who is a member is known for some seconds, by the actor of the room.
            site.web.rooms.of(SUPPORT).tell(CrashRoom("to know nobody"))
            again = ada.stream_path.replace("Lobby", "Support")
            with await in_thread(partial(ada.open_stream_at, again)) as refused:
                assert refused.status == 409
            for path in ("/lab?room=Support", "/partials/chat-history?room=Support&before=9"):
                assert (await get(ada, path)).status == 403
                assert (await get(grace, path)).status == 200


def form_of(page: Answer, action: str) -> dict[str, str]:
    """The hidden fields of a page's form, as a browser sends them."""
    form = page.text.partition(f'action="{action}"')[2].partition("</form>")[0]
    return dict(re.findall(r'name="([a-zA-Z]+)" value="([^"]*)"', form.replace("roomName", "")))


async def send(visitor: Visitor, page: Answer, action: str, **fields: str) -> Answer:
    return await in_thread(partial(visitor.form, action, {**form_of(page, action), **fields}))


async def test_without_scripts_rooms_are_joined_read_and_posted_in() -> None:
    # SITE-19, SITE-75: by forms and links alone; SITE-41 for a guest
    async with open_whole_site() as site:
        ada, guest = await register(site), site.visitor()
        for visitor, there in ((ada, "/lab?room=Support#chat-demo"), (guest, "/login?next=%2Flab")):
            page = await get(visitor, "/lab")
            joined = await send(visitor, page, JOIN, roomName="Support")
            assert (joined.status, joined.headers["location"]) == (303, there)
        assert (await get(guest, "/lab?room=Support")).status == 401
        page = await get(ada, "/lab?room=Support")
        assert 'data-text="$roomName">Support</span>' in page.text
        path = "/demo/chat/messages"
        for number in range(60):
            posted = await send(
                ada, page, path, chatDraftBody=f"no {number}.", clientId=f"c{number}"
            )
            assert posted.headers["location"] == "/lab?room=Support#chat-demo"
        page = await get(ada, "/lab?room=Support")
        assert "no 59." in page.text
        assert "no 9." not in page.text
        older = re.search(r'href="(/lab\?room=Support&amp;before=\d+)#chat-demo"', page.text)
        assert older is not None
        page = await get(ada, older[1].replace("&amp;", "&"))
        assert "no 9." in page.text
        assert "no 10." not in page.text
        assert 'href="/lab?room=Support#chat-demo">Newest messages' in page.text
        assert await said(site, RoomName("Lobby")) == []

        # What was refused comes back on a page of the same room, and is said there.
        refused = await send(ada, page, path, chatDraftBody="x" * 1001, clientId="d1")
        assert refused.status == 422
        assert 'data-text="$roomName">Support</span>' in refused.text
        posted = await send(ada, refused, path, chatDraftBody="in the end")
        assert posted.status == 303
        assert (await said(site, SUPPORT))[-1] == "in the end"
        for path, status in (
            ("/lab?room=nowhere", 404),
            ("/lab?room=Demo", 403),
            ("/lab?before=0", 400),
            ("/lab?before=x", 400),
        ):
            assert (await get(ada, path)).status == status, path
