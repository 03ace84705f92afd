"""A client program on `/ws`: subscribe, post by a command, hear the events."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio_websocket import WebSocketConnection, open_websocket_url

from tests.journeys.site_process import SiteProcess
from tests.journeys.visitor import Visitor
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.slow


class Client:
    """Speaks the plain protocol."""

    def __init__(self, connection: WebSocketConnection) -> None:
        self.connection = connection

    async def send(self, message: dict[str, object]) -> None:
        await self.connection.send_message(json.dumps(message))

    async def post(self, body: str, client_id: str | None = None) -> None:
        fields = {"body": body, "client_id": client_id or str(uuid.uuid4())}
        await self.send(
            {"type": "command", "action": {"PostMessage": fields}, "topic": "room:lobby"}
        )

    async def hear(self) -> dict[str, object]:
        with trio.fail_after(PATIENCE_S):
            heard = json.loads(await self.connection.get_message())
        assert isinstance(heard, dict)
        return heard

    async def hear_post(self, body: str) -> tuple[dict[str, object], object]:
        """Skip what others say until `body` is heard; gives the event and its topic."""
        while True:
            heard = await self.hear()
            assert heard["type"] == "event", heard
            action = heard["action"]
            assert isinstance(action, dict)
            posted = action["MessagePosted"]
            if posted["body"] == body:
                return posted, heard["topic"]


@asynccontextmanager
async def connect(site: SiteProcess) -> AsyncIterator[Client]:
    async with open_websocket_url(site.url.replace("http", "ws") + "/ws") as connection:
        yield Client(connection)


async def test_a_client_posts_and_hears(site: SiteProcess) -> None:
    """SITE-107 WEB-30 WEB-31: heard as `default` at open, by name after subscribing."""
    text = f"by socket {uuid.uuid4()}"
    async with connect(site) as speaker, connect(site) as listener:
        await listener.send({"type": "unsubscribe", "topics": ["default"]})
        assert await listener.hear() == {"type": "unsubscribed", "topics": ["default"]}
        await listener.send({"type": "subscribe", "topics": ["room:lobby", "room:lobby"]})
        assert await listener.hear() == {"type": "subscribed", "topics": ["room:lobby"]}
        await speaker.post(text)
        said, plain = await speaker.hear_post(text)
        heard, named = await listener.hear_post(text)
    assert said == heard
    assert (plain, named) == ("default", "room:lobby")
    assert list(said) == ["id", "room", "n", "author", "body", "at"]
    assert said["room"] == "Lobby"
    assert str(uuid.UUID(str(said["id"]))) == said["id"]


async def test_page_and_socket_see_the_same_messages(site: SiteProcess) -> None:  # SITE-107
    visitor = Visitor(site.url)
    visitor.open_lab()
    from_page, from_socket = f"page {uuid.uuid4()}", f"socket {uuid.uuid4()}"
    async with connect(site) as client:
        answer = await trio.to_thread.run_sync(visitor.post, from_page)
        assert answer.status == 202
        first, _ = await client.hear_post(from_page)
        await client.post(from_socket)
        second, _ = await client.hear_post(from_socket)
    assert isinstance(first["n"], int)
    assert isinstance(second["n"], int)
    assert second["n"] > first["n"]
    page = visitor.page("/lab").text
    assert from_page in page
    assert from_socket in page


async def test_a_malformed_frame_is_an_error_and_the_socket_lives(site: SiteProcess) -> None:
    """WEB-34 SEC-51: bad JSON, a wrong shape, an unknown type, a binary frame."""
    async with connect(site) as client:
        for bad in ("{", "[]", '{"type":"shout"}', '{"type":"subscribe"}', ""):
            await client.connection.send_message(bad)
            assert (await client.hear())["type"] == "error"
        await client.connection.send_message(b"\x00")
        assert (await client.hear())["type"] == "error"
        await client.send({"type": "ping"})
        assert await client.hear() == {"type": "pong"}


@pytest.mark.parametrize(
    "action",
    [
        {"PostMessage": {"body": "", "client_id": "c"}},
        {"PostMessage": {"body": "x"}},
        {"PostMessage": {"body": "x", "client_id": "c", "role": "admin"}},
        {"PostMessage": {"body": "a\u0000b", "client_id": "c"}},
        {"MessagePosted": {"id": "x", "room": "Lobby", "n": 1, "author": "x", "body": "x"}},
        {"DropTable": {}},
        "PostMessage",
    ],
)
async def test_a_wrong_command_is_refused(site: SiteProcess, action: object) -> None:
    """WEB-32 SEC-56 SEC-114: typed error, nothing is dispatched."""
    async with connect(site) as client:
        await client.send({"type": "command", "action": action, "topic": "room:lobby"})
        assert (await client.hear())["type"] == "error"


async def test_other_topics_are_refused_alike(site: SiteProcess) -> None:  # WEB-31 SEC-55
    async with connect(site) as client:
        await client.send({"type": "subscribe", "topics": ["room:support", "room:cellar"]})
        assert await client.hear() == {"type": "subscribed", "topics": []}
        errors = [await client.hear() for _ in range(2)]
    texts = [str(error["message"]).replace("support", "").replace("cellar", "") for error in errors]
    assert texts[0] == texts[1]


async def test_the_fate_of_a_post_is_told_to_who_posted(site: SiteProcess) -> None:
    """WEB-32 SITE-107: also when nobody hears of it, because it waits or was sent before."""
    async with connect(site) as client:
        await client.send({"type": "subscribe", "topics": ["room:lobby"]})
        assert await client.hear() == {"type": "subscribed", "topics": ["room:lobby"]}
        for body, client_id, told, status in (
            ("plain", "c1", "MessagePosted", None),
            ("plain", "c1", "PostStored", "visible"),
            ("https://example.org", "c2", "PostStored", "pending"),
        ):
            await client.post(body, client_id)
            heard = await client.hear()
            assert heard["topic"] == "room:lobby"
            action = heard["action"]
            assert isinstance(action, dict)
            assert list(action) == [told]
            assert action[told].get("status") == status


async def test_a_pending_message_is_not_published(site: SiteProcess) -> None:  # SITE-68
    link, plain = f"https://example.org/{uuid.uuid4()}", f"plain {uuid.uuid4()}"
    async with connect(site) as speaker, connect(site) as listener:
        await speaker.post(link)
        await speaker.post(plain)
        heard = await listener.hear()
    assert link not in str(heard)
    assert plain in str(heard)


@pytest.mark.parametrize(
    ("origin", "status"),
    [("http://evil.test", 403), ("null", 403), ("http://127.0.0.1.evil.test", 403), (None, 101)],
)
def test_a_foreign_page_cannot_connect(site: SiteProcess, origin: str | None, status: int) -> None:
    """SEC-40: an unlisted origin is refused; a program without origin and cookie may come in."""
    headers = {
        "connection": "Upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    if origin is not None:
        headers["origin"] = origin
    assert Visitor(site.url).handshake("/ws", headers) == status
