"""Members post as themselves, on pages and sockets, and see it as their own wherever they are."""

from __future__ import annotations

import json
import re
from contextlib import AsyncExitStack
from functools import partial

import pytest
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from actors.chat import LOBBY, Viewer
from tests.journeys.visitor import Visitor
from tests.patience import PATIENCE_S
from tests.web.accounts.test_entering import PASSWORD, form, get, register
from tests.web.whole_site import WholeSite, in_thread, open_whole_site

pytestmark = pytest.mark.slow

LINK = "see https://example.org"


def classes(text: str, author: str) -> list[str]:
    found = re.findall(r'<li id="chat-you-[^"]+" class="([^"]+)"[^>]*>.*?<bdi[^>]*>([^<]*)', text)
    return [classes for classes, name in found if name == author]


async def sign_in(site: WholeSite) -> Visitor:
    visitor = site.visitor()
    await form(visitor, "/login", email="ada@example.org", password=PASSWORD)
    return visitor


async def test_a_member_posts_by_name_and_sees_it_as_own_in_every_browser() -> None:
    # SITE-62, SITE-68, SITE-74
    async with open_whole_site() as site:
        ada = await register(site)
        other, guest = await sign_in(site), site.visitor()
        streams = []
        for visitor in (ada, other, guest):
            await in_thread(visitor.open_lab)
            stream = await in_thread(visitor.open_stream)
            await in_thread(partial(stream.read_until, b'id="chat-you-list"'))
            streams.append(stream)
        page = await get(ada, "/lab")
        assert 'You <span class="as">as <bdi>ada</bdi>' in page.text
        assert (await in_thread(partial(ada.post, LINK))).status == 202
        assert (await in_thread(partial(ada.post, "hello"))).status == 202
        seen = []
        for stream in streams:
            with stream:
                got = await in_thread(partial(stream.read_until, b"hello"))
                seen.append((b"example.org" in got, b"is-own" in got, b">ada<" in got))
        assert seen == [(True, True, True), (True, True, True), (False, False, True)]
        own = [classes((await get(one, "/lab")).text, "ada") for one in (ada, other, guest)]
        assert own[0] == own[1]
        assert ["is-own" in one for one in own[0]] == [True, True]
        assert ["is-own" in one for one in own[2]] == [False]
        # SITE-47
        assert (await form(ada, "/account/delete", password=PASSWORD)).status == 303
        page = await get(guest, "/lab")
        assert classes(page.text, "ada") == []
        assert len(classes(page.text, "deleted user")) == 1


async def hear_all(socket: WebSocketConnection) -> None:
    while True:
        await socket.get_message()


async def test_a_socket_of_a_member_posts_by_name_and_ends_with_the_sign_in() -> None:
    # SITE-107, SITE-40, SEC-15, SEC-44
    async with open_whole_site() as site:
        ada = await register(site)
        cookies = "; ".join(f"{name}={value}" for name, value in ada.cookies.items())
        headers = [(b"cookie", cookies.encode()), (b"origin", site.url.encode())]
        stream = await trio.open_tcp_stream("127.0.0.1", site.port)
        async with stream, trio.open_nursery() as nursery:
            host = f"127.0.0.1:{site.port}"
            socket = await wrap_client_stream(nursery, stream, host, "/ws", extra_headers=headers)
            action = {"PostMessage": {"body": "by socket", "client_id": "c1"}}
            with trio.fail_after(PATIENCE_S):
                await socket.send_message(json.dumps({"type": "command", "action": action}))
                await socket.get_message()
                assert (await form(ada, "/logout")).status == 303
                with pytest.raises(ConnectionClosed) as ended:
                    await hear_all(socket)
            assert ended.value.reason is not None
            assert ended.value.reason.code == 4401
            nursery.cancel_scope.cancel()
        history = await site.log.history(LOBBY, Viewer())
        assert [message.author_name for message in history.messages] == ["ada"]


async def test_a_member_hears_a_room_of_members_on_a_socket() -> None:
    # SITE-75, SITE-107, WEB-45, WEB-48: from when they have joined; a guest never
    topic = "room:support"
    async with open_whole_site() as site:
        ada, guest = await register(site), site.visitor()
        await get(guest, "/")

        async def hear_of(socket: WebSocketConnection, kind: str) -> dict[str, object]:
            while True:
                told: dict[str, object] = json.loads(await socket.get_message())
                if told["type"] == kind:
                    return told

        async def subscribed(socket: WebSocketConnection) -> object:
            await socket.send_message(json.dumps({"type": "subscribe", "topics": [topic]}))
            granted = (await hear_of(socket, "subscribed"))["topics"]
            if granted == []:
                assert f"No topic {topic}" in str((await hear_of(socket, "error"))["message"])
            return granted

        async def post(socket: WebSocketConnection, body: str) -> None:
            action = {"PostMessage": {"body": body, "client_id": body}}
            await socket.send_message(
                json.dumps({"type": "command", "action": action, "topic": topic})
            )

        async with AsyncExitStack() as opened, trio.open_nursery() as nursery:
            sockets = []
            for visitor in (ada, guest):
                cookies = "; ".join(f"{name}={value}" for name, value in visitor.cookies.items())
                headers = [(b"cookie", cookies.encode()), (b"origin", site.url.encode())]
                stream = await opened.enter_async_context(
                    await trio.open_tcp_stream("127.0.0.1", site.port)
                )
                host = f"127.0.0.1:{site.port}"
                sockets.append(
                    await wrap_client_stream(nursery, stream, host, "/ws", extra_headers=headers)
                )
            hers, other = sockets
            with trio.fail_after(PATIENCE_S):
                for socket in sockets:
                    assert await subscribed(socket) == []
                    await post(socket, "not let in")
                    assert "may not" in str((await hear_of(socket, "error"))["message"])
                await in_thread(ada.open_lab)
                joined = await form(
                    ada, "/demo/chat/rooms/join", roomName="Support", sseTabId=ada.tab
                )
                assert joined.status == 303
                assert await subscribed(hers) == [topic]
                assert await subscribed(other) == []
                await post(hers, "among members")
                told = json.dumps(await hear_of(hers, "event"))
                assert "among members" in told
                assert topic in told
                # What the guest hears next is what is said in the Lobby.
                await in_thread(guest.open_lab)
                assert (await in_thread(partial(guest.post, "to all"))).status == 202
                assert "to all" in json.dumps(await hear_of(other, "event"))
            assert (await get(guest, f"/events?topic={topic}")).status == 403
            nursery.cancel_scope.cancel()
