"""What a client program may hear and do in chat: the page's rules, in the protocol's words."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import msgspec
import pytest

from actors.accounts import Poster, SessionActor, SessionId
from actors.accounts.session import Messages as SessionMessage
from actors.chat import (
    DEMO_USER_ID,
    LOBBY,
    ChatEnvironment,
    Draft,
    Message,
    MessagePosted,
    MessageWithdrawn,
    PostRefused,
    PostVerdict,
    RoomActor,
    RoomName,
    RoomRef,
    RoomResumed,
    Rooms,
    Status,
    Viewer,
    topic_of,
)
from actors.chat.policy import WAITING_PER_AUTHOR_MAX
from actors.runtime import NoProc, Ref, open_actors
from storage.memory import MemoryChatLog
from tests.actors.chat.counting import CountingIds
from web.chat.socket import ChatService, PostMessage, PostStored, RoomTells, SocketGuest
from web.realtime import (
    Done,
    Form,
    Heard,
    Place,
    Refused,
    Request,
    SocketCode,
    SocketEncoding,
)
from web.routing.errors import ASK_AGAIN_S
from web.routing.services import FindSession

GUEST = SocketGuest("s1", "address")
TOPIC = topic_of(LOBBY)
SUPPORT = RoomName("Support")
ADA = UUID(int=9)
MEMBER = SocketGuest("s1", "address", Poster(ADA, "ada"))
AT = datetime(2026, 1, 1, tzinfo=UTC)
MESSAGE = Message(UUID(int=1), LOBBY, 1, None, "s1", None, "hello", Status.VISIBLE, "c1", AT)


async def epoch(room: RoomName) -> str | None:
    return "k"


class StillClock:
    """The same moment at each look."""

    def now(self) -> datetime:
        return AT


class Kit:
    """A session and a room behind a service."""

    def __init__(self, log: MemoryChatLog, find: FindSession, rooms: Rooms) -> None:
        self.log = log
        self.service = ChatService(find, rooms=rooms, epoch=epoch)

    async def post(self, body: str, client_id: str = "c1") -> Done:
        return await self.service.dispatch(PostMessage(body, client_id), Request(GUEST, TOPIC))

    async def bodies(self) -> list[str]:
        history = await self.log.history(LOBBY, Viewer(is_moderator=True))
        return [message.body for message in history.messages]


@asynccontextmanager
async def open_service(
    *, has_room: bool = True, waiting_max: int = WAITING_PER_AUTHOR_MAX
) -> AsyncIterator[Kit]:
    async with open_actors() as system:
        log = MemoryChatLog()
        await log.ensure_rooms([LOBBY, SUPPORT])
        environment = ChatEnvironment(
            StillClock(), CountingIds(), log, waiting_per_author_max=waiting_max
        )
        found: dict[RoomName, RoomRef] = {}
        for name in (LOBBY, SUPPORT) if has_room else ():
            found[name] = await system.start(RoomActor, name, environment)
        rooms = Rooms(found.get)
        session: Ref[SessionMessage] = await system.start(SessionActor, SessionId("s1"), rooms)
        yield Kit(log, lambda _: session, rooms)


async def test_a_post_is_stored_once() -> None:  # SITE-66 SITE-107
    async with open_service() as kit:
        await kit.post("  hello  ")
        await kit.post("hello")
        assert await kit.bodies() == ["hello"]


async def test_a_post_is_told_to_who_posted_where_its_topic_does_not() -> None:
    """WEB-32: a pending and a repeated one are heard by nobody, so their sender is told."""
    async with open_service() as kit:
        new = await kit.post("hello")
        again = await kit.post("hello")
        link = await kit.post("https://example.org", "c2")
    assert (new.heard_on, again.heard_on, link.heard_on) == (TOPIC, None, None)
    assert new.result == again.result
    assert isinstance(link.result, PostStored)
    assert (link.result.client_id, link.result.status) == ("c2", Status.PENDING)


async def test_a_post_is_told_with_its_place() -> None:
    """WEB-40: also one that waits for review, and one that was sent before."""
    async with open_service() as kit:
        posts = [("hello", "c1"), ("https://example.org", "c2"), ("more", "c3")]
        first = [(await kit.post(*post)).position for post in posts]
        again = [(await kit.post(*post)).position for post in posts]
        head = await kit.log.head(LOBBY)
    assert first == again == ["k.1", "k.2", "k.3"]
    assert head.n == 3


@pytest.mark.parametrize("body", ["   ", "x" * 1001, "a\x00b", "a\tb", "a\x85b", "\u202e\u200b"])
async def test_the_rules_of_a_body_hold(body: str) -> None:  # SITE-61 SITE-107
    async with open_service() as kit:
        with pytest.raises(Refused):
            await kit.post(body)
        assert await kit.bodies() == []


async def test_the_sixth_post_is_refused_with_the_wait() -> None:  # SITE-65 SITE-107
    async with open_service() as kit:
        for number in range(5):
            await kit.post("hello", f"c{number}")
        with pytest.raises(Refused, match=r"again in 10\.0 s") as refused:
            await kit.post("hello", "c5")
        assert refused.value.code is SocketCode.TOO_MANY_REQUESTS
        assert refused.value.retry_after == 10.0
        assert len(await kit.bodies()) == 5


async def test_one_more_that_would_wait_is_refused_and_a_short_one_is_not() -> None:
    """SITE-67 SITE-107: with words of its own; when there is room again nobody can tell."""
    async with open_service(waiting_max=1) as kit:
        await kit.post("https://example.org", "c1")
        with pytest.raises(Refused, match="1 of your messages wait") as refused:
            await kit.post("https://example.org", "c2")
        assert refused.value.code is SocketCode.TOO_MANY_REQUESTS
        assert refused.value.retry_after == ASK_AGAIN_S
        await kit.post("hello", "c3")
        assert await kit.bodies() == ["https://example.org", "hello"]


async def test_a_store_that_is_away_is_a_refusal() -> None:  # SITE-155
    async with open_service() as kit:
        kit.log.fail_next()
        with pytest.raises(Refused, match="same id"):
            await kit.post("hello")
        await kit.post("hello")
        assert await kit.bodies() == ["hello"]


async def test_what_the_store_never_takes_is_refused_for_good(
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # SITE-62: sent again it would be refused again
    async with open_service() as kit:

        async def refuses(drafts: Sequence[Draft]) -> Sequence[PostVerdict]:
            return [PostRefused("the row")] * len(drafts)

        monkeypatch.setattr(kit.log, "post_all", refuses)
        with pytest.raises(Refused, match="another way") as refused:
            await kit.post("hello")
        assert refused.value.code is SocketCode.VALIDATION_ERROR
        assert refused.value.retry_after is None


async def test_a_room_that_is_away_is_a_refusal() -> None:  # SITE-155
    async with open_service(has_room=False) as kit:
        with pytest.raises(Refused, match="same id"):
            await kit.post("hello")


async def test_sessions_that_are_away_are_a_refusal() -> None:
    """SITE-155: their supervisor restarts; the connection lives on."""

    def nobody(session_id: str) -> Ref[SessionMessage]:
        raise NoProc("sessions")

    request = Request(GUEST, TOPIC)
    service = ChatService(nobody, rooms=Rooms(lambda _: None), epoch=epoch)
    with pytest.raises(Refused, match="same id"):
        await service.dispatch(PostMessage("hello", "c1"), request)


async def test_only_the_lobby_is_open_to_guests() -> None:  # SITE-75 SITE-107
    async with open_service() as kit:
        for may in (kit.service.may_hear, kit.service.may_publish):
            assert await may(GUEST, TOPIC)
            for other in ("room:support", "room:demo", "room:Lobby", "tree", ""):
                assert not await may(GUEST, other)


async def test_a_room_is_open_to_its_members() -> None:
    # SITE-75, SITE-107, WEB-45: asked at each subscribe and each command
    async with open_service() as kit:
        kit.log.database.user_names[ADA] = "ada"
        topic = topic_of(SUPPORT)
        command, request = PostMessage("hello", "c1"), Request(MEMBER, topic)
        for may in (kit.service.may_hear, kit.service.may_publish):
            assert not await may(MEMBER, topic)
        with pytest.raises(Refused, match="members"):
            await kit.service.dispatch(command, request)
        await kit.log.join(SUPPORT, ADA)
        for may in (kit.service.may_hear, kit.service.may_publish):
            assert await may(MEMBER, topic)
            assert not await may(GUEST, topic)
        assert (await kit.service.dispatch(command, request)).heard_on == topic
        assert await kit.bodies() == []


async def test_who_is_a_member_may_be_unknown_for_a_while() -> None:
    # SITE-155: that is no refusal for good, and nobody is let in meanwhile
    async with open_service() as kit:
        kit.log.fail_next()
        with pytest.raises(Refused) as refused:
            await kit.service.may_hear(MEMBER, topic_of(SUPPORT))
        assert refused.value.code is SocketCode.TIMEOUT
    async with open_service(has_room=False) as kit:
        with pytest.raises(Refused):
            await kit.service.may_publish(MEMBER, topic_of(SUPPORT))


class TestEncoding:
    """What everybody may see, and nothing else."""

    tells = RoomTells()
    encoding = SocketEncoding(tells)

    def told(self, message: object, viewer: str = TOPIC) -> dict[str, object] | None:
        frame = self.encoding.encode(message, Heard(viewer, Form.PLAIN), Place(7, "k"))
        return None if frame is None else msgspec.json.decode(frame.payload, type=dict[str, object])

    def test_a_message_has_its_fields(self) -> None:  # SITE-107
        told = self.told(MessagePosted(MESSAGE, 7))
        assert told is not None
        assert (told["type"], told["topic"]) == ("event", TOPIC)
        action = told["action"]
        assert isinstance(action, dict)
        assert action["MessagePosted"] == {
            "id": str(MESSAGE.id),
            "room": "Lobby",
            "n": 7,
            "author": action["MessagePosted"]["author"],
            "body": "hello",
            "at": "2026-01-01T00:00:00Z",
        }
        assert "s1" not in str(told), "whose session it is stays here"

    def test_a_pending_or_removed_message_is_nothing(self) -> None:  # SITE-68
        for status in (Status.PENDING, Status.REMOVED):
            event = MessagePosted(replace(MESSAGE, status=status), 7)
            assert self.told(event) is None
            assert self.encoding.position(event) is None

    def test_a_withdrawal_names_the_message_only(self) -> None:  # SITE-107
        told = self.told(MessageWithdrawn(LOBBY, MESSAGE.id, 8))
        assert told is not None
        assert told["action"] == {"MessageWithdrawn": {"id": str(MESSAGE.id), "n": 8}}

    def test_other_events_are_nothing(self) -> None:
        assert self.told(RoomResumed(LOBBY)) is None
        assert self.encoding.position(RoomResumed(LOBBY)) is None
        assert self.encoding.position(MessagePosted(MESSAGE, 7)) == 7

    def test_the_topic_is_named_as_it_is_heard(self) -> None:  # WEB-31
        told = self.told(MessagePosted(MESSAGE, 7), "default")
        assert told is not None
        assert told["topic"] == "default"

    def test_the_demo_user_has_its_name(self) -> None:  # SITE-80
        demo = replace(MESSAGE, user_id=DEMO_USER_ID, author_name="Demo Bot")
        assert "Demo Bot" in str(self.told(MessagePosted(demo, 7)))
