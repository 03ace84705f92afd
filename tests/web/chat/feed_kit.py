"""A room with its feed, and pages that show what a browser would after each event."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import trio
import trio.testing

from actors.chat import (
    LOBBY,
    Author,
    ChatEnvironment,
    ChatLogUnavailable,
    Decided,
    Decision,
    Draft,
    History,
    Message,
    MessagePosted,
    Moderate,
    Post,
    Posted,
    RoomActor,
    RoomRef,
    Rooms,
    Status,
    Viewer,
    guest_name,
    topic_of,
)
from actors.chat.chat_log import HISTORY_LIMIT
from actors.runtime import Ref, System, open_actors
from storage.memory import MemoryChatLog
from storage.testing.chat_log import MODERATOR_ID, moderator_in_memory
from tests.actors.chat.counting import CountingIds, SteppingClock
from tests.web.views.samples import renderer
from web.chat.presenting import RoomFrames, ViewerClass
from web.chat.readers import NOBODY, Readers
from web.chat.room_feed import Messages, RoomFeed
from web.realtime import waker
from web.server import Bundle, Frame

RENDERER = renderer()
MODERATOR = MODERATOR_ID


class SwitchedLog(MemoryChatLog):
    """The twin, with a switch that takes it away, and a count of what was read."""

    is_away = False
    reads = 0

    async def history(
        self, room: str, viewer: Viewer, *, before: int | None = None, limit: int = HISTORY_LIMIT
    ) -> History:
        self.reads += 1
        if self.is_away:
            raise ChatLogUnavailable("away for a test")
        return await super().history(LOBBY, viewer, before=before, limit=limit)


class CountingFrames(RoomFrames):
    """Counts what is rendered."""

    def __init__(self) -> None:
        super().__init__(LOBBY, RENDERER)
        self.posts: list[ViewerClass] = []
        self.windows: list[Viewer] = []

    def posted(
        self, message: Message, n: int, viewer_class: ViewerClass, *, has_waited: bool = False
    ) -> Frame:
        self.posts.append(viewer_class)
        return super().posted(message, n, viewer_class, has_waited=has_waited)

    def window(self, messages: tuple[Message, ...], n: int, viewer: Viewer) -> Frame:
        self.windows.append(viewer)
        return super().window(messages, n, viewer)


_SHOWN = re.compile(rb'id="chat-you-([0-9a-f]{8}-[0-9a-f-]{27})"')
_REMOVED = re.compile(rb"#chat-you-([0-9a-f]{8}-[0-9a-f-]{27})")


class Page:
    """A reader that keeps what its browser would show; a message shown twice is an error."""

    def __init__(self, session_id: str) -> None:
        self.session_id = session_id
        self.ids: list[str] = []
        self.positions: list[int] = []
        self.frames: list[Frame] = []
        self.panels: list[tuple[str, str]] = []
        self.window_count = self.bundle_count = 0

    def put_panel(self, panel: str, frame: Frame, /) -> bool:
        self.panels.append((panel, frame.payload.decode()))
        return True

    def put_window(self, frame: Frame, position: int, /) -> None:
        self.window_count += 1
        self.ids = []
        self._show(frame, position)

    def put_chat(self, frame: Frame, position: int, /) -> None:
        if b"mode remove" in frame.payload:
            gone = {found.decode() for found in _REMOVED.findall(frame.payload)}
            self.ids = [shown for shown in self.ids if shown not in gone]
        if b"is-withdrawn" not in frame.payload:
            self._show(frame, position)
        else:
            self._note(frame, position)

    def put_chats(self, bundle: Bundle, /) -> None:
        self.bundle_count += 1
        for frame, position in bundle.entries:
            self.put_chat(frame, position)

    @property
    def text(self) -> str:
        return "\n".join(frame.payload.decode() for frame in self.frames)

    def _show(self, frame: Frame, position: int) -> None:
        self.ids += [found.decode() for found in _SHOWN.findall(frame.payload)]
        assert len(self.ids) == len(set(self.ids)), "a message is shown twice"
        self._note(frame, position)

    def _note(self, frame: Frame, position: int) -> None:
        assert position >= (self.positions[-1] if self.positions else 0), "events out of order"
        self.positions.append(position)
        self.frames.append(frame)


@dataclass
class FeedKit:
    """A room, its log, its feed, its readers."""

    system: System
    log: SwitchedLog
    environment: ChatEnvironment
    room: RoomRef
    rooms: Rooms
    readers: Readers
    frames: CountingFrames
    feed: Ref[Messages] | None = None
    made: int = field(default=0)

    async def start_feed(self) -> Ref[Messages]:
        self.feed = await self.system.start(RoomFeed, LOBBY, self.rooms, self.frames, self.readers)
        return self.feed

    async def settle(self) -> None:
        """Let everything happen that needs no time to pass."""
        await trio.testing.wait_all_tasks_blocked()

    async def say(self, session: str, body: str = "hello") -> Posted:
        """Post through the room; waits until the feed is done with it."""
        self.made += 1
        author = Author(None, session, guest_name(session))
        outcome = await self.room.ask(Post(author, body, f"c{self.made}"))
        assert isinstance(outcome, Posted)
        await self.settle()
        return outcome

    async def decide(self, posted: Posted, decision: Decision, reason: str = "") -> Decided:
        """Let a moderator decide; waits until the feed is done with it."""
        asked = Moderate(posted.message.id, MODERATOR, "their session", decision, reason)
        outcome = await self.room.ask(asked)
        assert isinstance(outcome, Decided)
        await self.settle()
        return outcome

    async def store(self, session: str, body: str = "unheard") -> Posted:
        """Store a message of which the room tells nobody."""
        self.made += 1
        draft = Draft(
            message_id=self.environment.ids.new_id(),
            event_id=self.environment.ids.new_id(),
            room=LOBBY,
            author=Author(None, session, guest_name(session)),
            body=body,
            client_id=f"c{self.made}",
            status=Status.VISIBLE,
            reason=None,
            created_at=self.environment.clock.now(),
        )
        outcome = await self.log.post(draft)
        assert isinstance(outcome, Posted)
        return outcome

    def publish(self, posted: Posted) -> None:
        self.system.topics.publish(topic_of(LOBBY), MessagePosted(posted.message, posted.n))

    async def open_page(self, session: str, who: Viewer = NOBODY) -> Page:
        page = Page(session)
        self.readers.join(page, who=who)
        await self.settle()
        return page


def noon() -> datetime:
    """A time of day that goes with the loop's clock."""
    return datetime(2026, 11, 21, 12, tzinfo=UTC) + timedelta(seconds=trio.current_time())


@asynccontextmanager
async def open_kit(*, with_feed: bool = True) -> AsyncIterator[FeedKit]:
    """Open a room and, if wanted, its feed."""
    async with open_actors() as system:
        log = SwitchedLog()
        await log.ensure_rooms([LOBBY])
        moderator_in_memory(log)
        environment = ChatEnvironment(SteppingClock(step_s=3), CountingIds(), log)
        room: RoomRef = await system.start(RoomActor, LOBBY, environment, name="lobby")
        kit = FeedKit(
            system, log, environment, room, Rooms(lambda _: room), Readers(lambda: None, noon),
            CountingFrames(),
        )  # fmt: skip

        def find() -> Ref[Messages]:
            assert kit.feed is not None, "no reader came before the feed"
            return kit.feed

        kit.readers = Readers(waker(find), noon)
        if with_feed:
            await kit.start_feed()
            await kit.settle()
        yield kit


def ids_of(posts: Iterable[Posted]) -> list[str]:
    return [str(posted.message.id) for posted in posts]
