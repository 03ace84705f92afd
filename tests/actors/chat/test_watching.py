"""Two processes have one store: what is stored in one is told to the readers of the other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actors.chat import (
    LOBBY,
    Author,
    ChatEnvironment,
    ChatLogUnavailable,
    CrashRoom,
    Decided,
    Decision,
    MessagePosted,
    Moderate,
    Post,
    Posted,
    RoomActor,
    RoomName,
    RoomRef,
    Rooms,
    RoomsWatch,
    Said,
    topic_of,
)
from actors.chat.chat_log import HISTORY_LIMIT, SAID_LIMIT
from actors.chat.watching import LOOK_S
from storage.memory import MemoryChatLog
from storage.testing.chat_log import MODERATOR_ID, moderator_in_memory
from supervision import Supervisor, child, open_system
from tests.actors.chat.counting import CountingIds, SteppingClock
from tests.actors.chat.test_room import Listener


class SharedLog(MemoryChatLog):
    """The twin, for several; it can be made to tell nothing, and counts what it is asked."""

    is_away = False
    said_count = 0

    async def versions(self) -> Mapping[RoomName, int]:
        if self.is_away:
            raise ChatLogUnavailable("away for a test")
        return await super().versions()

    async def said(self, room: RoomName, *, after: int, limit: int = SAID_LIMIT) -> Said:
        self.said_count += 1
        if self.is_away:
            raise ChatLogUnavailable("away for a test")
        return await super().said(room, after=after, limit=limit)


@dataclass
class Process:
    """A room as one process has it, and what its readers hear."""

    room: RoomRef
    listener: Listener

    async def say(self, text: str) -> Posted:
        posted = await self.room.ask(Post(Author(None, f"of {text}", "x"), text, text))
        assert isinstance(posted, Posted)
        return posted

    async def decide(self, waiting: Posted, decision: Decision) -> None:
        asked = Moderate(waiting.message.id, MODERATOR_ID, "of a moderator", decision, "off topic")
        assert isinstance(await self.room.ask(asked), Decided)

    def heard(self) -> list[str]:
        """What came since the last look: bodies, and other events by their names."""
        heard, self.listener.heard = self.listener.heard, []
        return [
            one.message.body if isinstance(one, MessagePosted) else type(one).__name__
            for one in heard
        ]


@asynccontextmanager
async def open_process(log: MemoryChatLog, number: int) -> AsyncIterator[Process]:
    environment = ChatEnvironment(SteppingClock(step_s=4.0), CountingIds(number * 1000), log)
    listener = Listener()

    class Tree(Supervisor):
        room = child(partial(RoomActor, LOBBY, environment))

    async with open_system(Tree) as tree:
        room: RoomRef = tree.room
        tree.system.topics.subscribe(topic_of(LOBBY), listener)
        rooms = Rooms(lambda name: room if name == LOBBY else None)
        await tree.system.start(RoomsWatch, log, rooms)
        yield Process(room, listener)


@asynccontextmanager
async def open_two(log: MemoryChatLog) -> AsyncIterator[tuple[Process, Process]]:
    await log.ensure_rooms([LOBBY])
    moderator_in_memory(log)
    async with AsyncExitStack() as stack:
        here, there = [await stack.enter_async_context(open_process(log, n)) for n in (1, 2)]
        await settled()
        for one in (here, there):
            one.heard()
        yield here, there


async def settled() -> None:
    """Until everything was told: a look comes a tenth of a second behind the one before."""
    await trio.sleep(1.0)
    await wait_all_tasks_blocked()


async def test_what_is_said_elsewhere_is_told_in_order_and_once(autojump_clock: MockClock) -> None:
    # SITE-63, SITE-76, SITE-107
    log = SharedLog()
    async with open_two(log) as (here, there):
        for text in ("one", "two"):
            await here.say(text)
        await settled()
        assert there.heard() == ["one", "two"]
        await there.say("three")
        await here.say("four")
        await settled()
        assert there.heard() == ["three", "four"]
        assert here.heard() == ["one", "two", "three", "four"]
        # What a process has stored itself is not read again.
        before = log.said_count
        await here.say("five")
        await wait_all_tasks_blocked()
        assert here.heard() == ["five"]
        await settled()
        assert log.said_count == before + 1  # by the other


async def test_what_is_not_for_all_is_not_told_one_by_one(autojump_clock: MockClock) -> None:
    # SITE-68, SITE-69: the readers read again, each what they may
    log = SharedLog()
    async with open_two(log) as (here, there):
        waits, too = await here.say("see http://a"), await here.say("see http://b")
        await settled()
        assert set(there.heard()) == {"RoomResumed"}
        await here.decide(too, Decision.REMOVE)
        await settled()
        assert there.heard() == ["RoomResumed"]
        await here.decide(waits, Decision.APPROVE)
        await settled()
        assert there.heard() == ["see http://a"]


async def test_a_long_way_is_told_at_once(autojump_clock: MockClock) -> None:
    # SITE-95: more than a page shows is one window
    log = SharedLog()
    log.is_deaf = True
    async with open_two(log) as (here, there):
        for number in range(HISTORY_LIMIT + 1):
            await here.say(f"{number}")
        await trio.sleep(LOOK_S)
        assert there.heard() == ["RoomResumed"]


async def test_a_lost_ring_and_a_lost_store_lose_nothing(autojump_clock: MockClock) -> None:
    # SITE-155
    log = SharedLog()
    async with open_two(log) as (here, there):
        log.is_deaf = True
        await here.say("nobody rang")
        await trio.sleep(LOOK_S)
        assert there.heard() == ["nobody rang"]
        log.is_deaf, log.is_away = False, True
        await here.say("nobody knows")
        await trio.sleep(5 * LOOK_S)
        assert there.heard() == []
        # Its own comes first then, and the readers are told that they miss something.
        await there.say("and here")
        assert there.heard() == ["and here"]
        log.is_away = False
        await settled()
        await trio.sleep(LOOK_S)
        assert there.heard() == ["RoomResumed"]
        await here.say("later")
        await settled()
        assert there.heard() == ["later"]


async def test_a_room_that_crashed_is_told_on(autojump_clock: MockClock) -> None:
    # SITE-63
    log = SharedLog()
    async with open_two(log) as (here, there):
        await here.say("one")
        await settled()
        there.room.tell(CrashRoom("a test"))
        await settled()
        await here.say("two")
        await settled()
        # It does not know what its readers have read: they read again.
        assert there.heard() == ["one", "RoomResumed", "RoomResumed"]
        await here.say("three")
        await settled()
        assert there.heard() == ["three"]
