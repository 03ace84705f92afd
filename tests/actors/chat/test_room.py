"""The room actor stores, then publishes; a store that is away is an answer, not a crash."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from actors.chat import (
    DEMO_DISPLAY_NAME,
    DEMO_USER_ID,
    LOBBY,
    Author,
    ChatEnvironment,
    ChatLogUnavailable,
    CrashedOnPurpose,
    CrashRoom,
    Draft,
    History,
    MessagePosted,
    NotStored,
    Post,
    Posted,
    PostOutcome,
    ReadHistory,
    Repeated,
    RoomActor,
    RoomEvent,
    RoomResumed,
    Status,
    TooManyPosts,
    Viewer,
    guest_name,
    topic_of,
)
from actors.runtime import ActorCrashed, Crashed, Ref, System, open_actors
from storage.memory import MemoryChatLog
from tests.actors.chat.counting import CountingIds, SteppingClock

GUEST = Author(None, "s1", guest_name("s1"))
DEMO = Author(DEMO_USER_ID, "s1", DEMO_DISPLAY_NAME)


class FlakyLog(MemoryChatLog):
    """The twin, with a switch that takes it away."""

    is_away = False

    async def post(self, draft: Draft) -> PostOutcome:
        if self.is_away:
            raise ChatLogUnavailable("away for a test")
        return await super().post(draft)


@dataclass(eq=False)
class Listener:
    """A sink that remembers."""

    heard: list[RoomEvent] = field(default_factory=list)

    def deliver(self, message: object) -> None:
        assert isinstance(message, RoomEvent)
        self.heard.append(message)


@asynccontextmanager
async def open_room(
    log: MemoryChatLog, listener: Listener
) -> AsyncIterator[tuple[System, Ref[Post | ReadHistory | CrashRoom]]]:
    async with open_actors() as system:
        await log.ensure_rooms([LOBBY])
        system.topics.subscribe(topic_of(LOBBY), listener)
        environment = ChatEnvironment(SteppingClock(step_s=0.1), CountingIds(), log)
        yield system, await system.start(RoomActor, LOBBY, environment, name="lobby")


async def test_a_post_is_stored_then_published_once() -> None:  # SITE-62 SITE-66
    listener = Listener()
    async with open_room(MemoryChatLog(), listener) as (_, room):
        first = await room.ask(Post(GUEST, "hello", "c1"))
        again = await room.ask(Post(GUEST, "hello", "c1"))
        history = await room.ask(ReadHistory(Viewer()))
    assert isinstance(first, Posted)
    assert again == Repeated(first.message)
    assert listener.heard == [RoomResumed(LOBBY), MessagePosted(first.message, first.n)]
    assert isinstance(history, History)
    assert history.messages == (first.message,)
    assert history.n == first.n


async def test_numbers_follow_each_other() -> None:  # SITE-63
    listener = Listener()
    async with open_room(MemoryChatLog(), listener) as (_, room):
        for number in range(4):
            author = Author(None, f"s{number}", "x")
            await room.ask(Post(author, f"{number}", "c"))
    events = [event for event in listener.heard if isinstance(event, MessagePosted)]
    assert [event.message.seq for event in events] == [1, 2, 3, 4]
    assert [event.n - events[0].n for event in events] == [0, 1, 2, 3]


async def test_the_sixth_post_waits() -> None:  # SITE-65
    async with open_room(MemoryChatLog(), Listener()) as (_, room):
        outcomes = [await room.ask(Post(GUEST, "x", f"c{number}")) for number in range(6)]
        other = await room.ask(Post(DEMO, "x", "c"))
    assert [type(outcome) for outcome in outcomes] == [Posted] * 5 + [TooManyPosts]
    last = outcomes[-1]
    assert isinstance(last, TooManyPosts)
    assert 9 < last.retry_after_s <= 10
    assert isinstance(other, Posted)


async def test_addresses_have_a_limit_of_their_own() -> None:  # SITE-65
    async with open_room(MemoryChatLog(), Listener()) as (_, room):
        outcomes = [
            await room.ask(Post(Author(None, f"s{number}", "x"), "x", "c", address_key="a"))
            for number in range(21)
        ]
    assert [type(outcome) for outcome in outcomes] == [Posted] * 20 + [TooManyPosts]


async def test_long_texts_and_links_wait_for_review() -> None:  # SITE-67
    listener = Listener()
    async with open_room(MemoryChatLog(), listener) as (_, room):
        outcome = await room.ask(Post(GUEST, "see https://example.org", "c"))
        own = await room.ask(ReadHistory(Viewer(session_id="s1")))
        others = await room.ask(ReadHistory(Viewer(session_id="s2")))
    assert isinstance(outcome, Posted)
    assert outcome.message.status is Status.PENDING
    assert isinstance(own, History)
    assert isinstance(others, History)
    assert own.messages == (outcome.message,)
    assert others.messages == ()


async def test_a_store_that_is_away_is_an_answer() -> None:  # SITE-155
    log, listener = FlakyLog(), Listener()
    async with open_room(log, listener) as (_, room):
        log.is_away = True
        refused = await room.ask(Post(GUEST, "hello", "c1"))
        log.is_away = False
        accepted = await room.ask(Post(GUEST, "hello", "c1"))
    assert isinstance(refused, NotStored)
    assert isinstance(accepted, Posted)
    assert [type(event) for event in listener.heard] == [RoomResumed, MessagePosted]


async def test_a_room_told_to_crash_says_so() -> None:
    async with open_room(MemoryChatLog(), Listener()) as (system, room):
        room.tell(CrashRoom("the lab"))
        exit_ = await system.wait_down(room)
    assert isinstance(exit_, Crashed)
    assert isinstance(exit_.error, CrashedOnPurpose)
    assert "the lab" in str(exit_.error)


def test_topics_are_lower_case() -> None:  # SITE-107
    assert topic_of(LOBBY) == "room:lobby"


async def test_reports_hold_nobodys_words() -> None:
    """SEC-131: neither the crash report nor a dead letter tells what was written."""
    log = BrokenLog()
    async with open_room(log, Listener()) as (system, room):
        with pytest.raises(ActorCrashed):
            await room.ask(Post(GUEST, "my secret words", "c1"))
        room.tell(Post(GUEST, "more secret words", "c2"))
        await system.wait_down(room, final=True)
        reports = [*system.reports.kept]
        letters = [*system.dead_letters]
    assert reports
    assert letters
    assert "secret words" not in f"{reports} {letters}"


class BrokenLog(MemoryChatLog):
    """The twin, with a bug."""

    async def post(self, draft: Draft) -> PostOutcome:
        raise RuntimeError("a bug in the store")
