"""The Lobby for sockets: every event once and in order, also what the room told nobody."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from trio.testing import MockClock, wait_all_tasks_blocked

from actors.chat import LOBBY, MessagePosted, RoomForgot, RoomResumed, topic_of
from actors.persistence import ERASED
from tests.web.chat.feed_kit import FeedKit, open_kit
from tests.web.chat.test_chat_service import MESSAGE
from web.chat.socket import RoomTells
from web.chat.socket_feed import RoomTopic, SocketFeed
from web.realtime import Broadcast, Form, Heard, HistoryLimits, SocketEncoding, decode_server
from web.realtime import Event as SocketEvent
from web.server import Frame

LISTENER = Heard("room:lobby", Form.V1)


class Feeding:
    """A feed and somebody who listens."""

    def __init__(self, kit: FeedKit) -> None:
        self.kit = kit
        self.topic = RoomTopic(LOBBY, kit.log)
        self.cast: Broadcast[object, Heard] = Broadcast(
            SocketEncoding(RoomTells()), history=HistoryLimits(), source=self.topic
        )
        self.heard: list[SocketEvent] = []
        self.cast.join(LISTENER, self._hear)

    def _hear(self, frame: Frame, position: int) -> None:
        event = decode_server(frame.payload)
        assert isinstance(event, SocketEvent)
        assert event.seq == position
        self.heard.append(event)

    async def start(self) -> None:
        self.ref = await self.kit.system.start(SocketFeed, LOBBY, self.topic, self.cast)
        await wait_all_tasks_blocked()

    @property
    def places(self) -> list[tuple[int | None, int | None]]:
        return [(event.prev, event.seq) for event in self.heard]


@asynccontextmanager
async def feeding() -> AsyncIterator[Feeding]:
    async with open_kit(with_feed=False) as kit:
        yield Feeding(kit)


async def test_it_begins_where_the_room_stands() -> None:  # WEB-42
    async with feeding() as feed:
        await feed.kit.say("s1")
        await feed.kit.say("s1", "https://example.org")
        await feed.start()
        assert feed.heard == []
        assert (feed.cast.seq, feed.cast.known) == (1, 2)
        await feed.kit.say("s2")
        await feed.kit.say("s2", "https://example.org")
        await feed.kit.say("s2")
        assert feed.places == [(1, 3), (3, 5)]
        assert {event.epoch for event in feed.heard} == {feed.kit.log.database.lineage}


async def test_a_message_keeps_its_correlation_however_it_comes() -> None:  # WEB-40 WEB-42
    async with feeding() as feed:
        await feed.start()
        await feed.kit.say("s1")
        (said,) = (await feed.kit.log.said(LOBBY, after=0)).messages
        (heard,) = feed.heard
        assert heard.correlation_id == said.correlation_id
        assert heard.correlation_id


async def test_what_was_stored_and_never_published_is_heard() -> None:  # WEB-42
    async with feeding() as feed:
        await feed.start()
        await feed.kit.store("s1")
        await feed.kit.store("s1")
        await feed.kit.say("s2")
        assert feed.places == [(0, 1), (1, 2), (2, 3)]
        last = await feed.kit.store("s1")
        feed.kit.system.topics.publish(topic_of(LOBBY), RoomResumed(LOBBY))
        await feed.kit.settle()
        feed.kit.publish(last)
        await feed.kit.settle()
        assert feed.places == [(0, 1), (1, 2), (2, 3), (3, 4)]


async def test_the_next_incarnation_goes_on_behind_the_one_before() -> None:  # WEB-42
    async with feeding() as feed:
        await feed.start()
        await feed.kit.say("s1")
        feed.ref.kill()
        await feed.kit.settle()
        await feed.kit.say("s1")
        await feed.start()
        await feed.kit.say("s1")
        assert feed.places == [(0, 1), (1, 2), (2, 3)]


async def test_it_waits_for_a_store_that_is_away(autojump_clock: MockClock) -> None:  # SITE-155
    async with feeding() as feed:
        feed.kit.log.fail_next(times=3)
        await feed.start()
        await feed.cast.begun.wait()
        await feed.kit.say("s1")
        await feed.kit.store("s1")
        feed.kit.log.fail_next(times=2)
        feed.kit.system.topics.publish(topic_of(LOBBY), RoomResumed(LOBBY))
        await feed.kit.settle()
        assert feed.places == [(0, 1)]
        feed.kit.log.fail_next(times=0)
        await feed.kit.say("s1")
        assert feed.places == [(0, 1), (1, 2), (2, 3)]


async def test_what_is_forgotten_is_not_kept_here() -> None:  # STORE-44 WEB-42
    async with feeding() as feed:
        await feed.start()
        await feed.kit.say("s1")
        assert feed.cast.after(0)
        feed.kit.system.topics.publish(topic_of(LOBBY), RoomForgot(LOBBY))
        await feed.kit.settle()
        assert feed.cast.after(0) is None
        assert feed.cast.after(1) == []


async def test_another_store_is_another_epoch() -> None:  # WEB-42
    async with feeding() as feed:
        await feed.start()
        await feed.kit.say("s1")
        feed.kit.log.database.lineage = "another"
        feed.kit.system.topics.publish(topic_of(LOBBY), RoomResumed(LOBBY))
        await feed.kit.settle()
        await feed.kit.say("s1")
        assert [event.epoch for event in feed.heard][1:] == ["another"]


def test_a_forgotten_text_is_told_as_the_pages_tell_it() -> None:  # STORE-44 SITE-107
    action = RoomTells().action(MessagePosted(replace(MESSAGE, body=ERASED), 7))
    assert action is not None
    assert b'"(erased)"' in action.fields
