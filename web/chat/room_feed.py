"""The feed of one room: the actor through which its events reach every open stream of the room.

Rule 1: the feed holds the room's newest messages, so a stream that joins gets its window and
every later event from one place, in one turn, without a gap and without a query.
Rule 2: an event whose number does not follow the last one means that one was missed: the
feed reads the history again and sends every reader a whole window.
Rule 3: the readers outlive an incarnation of the feed; a restarted one serves them anew.
"""

from collections.abc import Iterator
from typing import Protocol

from actors.chat import (
    History,
    Message,
    MessagePosted,
    MessageWithdrawn,
    NotStored,
    ReadHistory,
    RoomName,
    RoomResumed,
    Rooms,
    Status,
    UnknownRoom,
    Viewer,
    hide_words,
    is_own,
    topic_of,
)
from actors.chat.ports import HISTORY_LIMIT
from actors.runtime import Actor, AskError, message
from web.chat.frames import RoomFrames
from web.chat.presenting import ViewerClass
from web.server import Frame

# While the room cannot tell its history (the store is away), it is asked again this often.
RETRY_S = 0.5

# Sees pending messages too: the feed shows each reader its part.
_EVERYTHING = Viewer(is_moderator=True)


class Reader(Protocol):
    """One open stream of a page that shows the room. Its methods return at once."""

    @property
    def session_id(self) -> str:
        """Whose stream it is."""
        ...

    def put_chat(self, frame: Frame, position: int, /) -> None:
        """Send one event."""
        ...

    def put_window(self, frame: Frame, position: int, /) -> None:
        """Send the whole view; it covers every event up to `position`."""
        ...


@message
class ReaderJoined:
    """A stream shows the room from now on."""

    reader: Reader


@message
class ReaderLeft:
    """A stream shows the room no more."""

    reader: Reader


@message
class WindowWanted:
    """A stream fell behind and wants the whole view instead of what it missed."""

    reader: Reader


@message
class ReadAgain:
    """The room could not tell its history; ask it again."""


class Readers:
    """Who reads a room, by session, and how much they were sent. Only the feed changes it."""

    def __init__(self) -> None:
        self.delivered = 0
        self._by_session: dict[str, dict[Reader, None]] = {}

    def __iter__(self) -> Iterator[Reader]:
        for readers in self._by_session.values():
            yield from readers

    def __len__(self) -> int:
        return sum(map(len, self._by_session.values()))

    def add(self, reader: Reader) -> None:
        """Call this when a stream joins."""
        self._by_session.setdefault(reader.session_id, {})[reader] = None

    def discard(self, reader: Reader) -> None:
        """Call this when a stream leaves; harmless when it had left."""
        readers = self._by_session.get(reader.session_id, {})
        readers.pop(reader, None)
        if not readers:
            self._by_session.pop(reader.session_id, None)

    def of_session(self, session_id: str) -> list[Reader]:
        """Call this to get the streams of one session."""
        return list(self._by_session.get(session_id, ()))

    def of_others(self, session_id: str | None) -> list[Reader]:
        """Call this to get the streams of all other sessions."""
        return [
            reader
            for session, readers in self._by_session.items()
            if session != session_id
            for reader in readers
        ]


Messages = (
    MessagePosted
    | MessageWithdrawn
    | RoomResumed
    | ReaderJoined
    | ReaderLeft
    | WindowWanted
    | ReadAgain
)


class RoomFeed(Actor[Messages]):
    """Renders each event of a room once for each class of viewers and hands out the bytes."""

    def __init__(self, room: RoomName, rooms: Rooms, frames: RoomFrames, readers: Readers) -> None:
        self.room, self._rooms, self._frames, self._readers = room, rooms, frames, readers
        self._messages: tuple[Message, ...] = ()
        self._n = 0
        self._is_loaded = False
        self._public_window: Frame | None = None
        self.resync_count = 0

    async def on_start(self) -> None:
        """Subscribe, then read the history; a restarted feed sends it to every reader."""
        self.system.topics.subscribe(topic_of(self.room), self.ref)
        await self._resync()

    async def on_message_posted(self, event: MessagePosted) -> None:
        """Send a new message to all who may see it."""
        if not await self._follows(event.n):
            return
        message = event.message
        self._messages = (*self._messages, message)[-HISTORY_LIMIT:]
        own = self._frames.posted(message, event.n, ViewerClass.AUTHOR)
        for reader in self._readers.of_session(message.author_session or ""):
            reader.put_chat(own, event.n)
            self._readers.delivered += 1
        if message.status is not Status.VISIBLE:
            return
        public = self._frames.posted(message, event.n, ViewerClass.PUBLIC)
        for reader in self._readers.of_others(message.author_session):
            reader.put_chat(public, event.n)
            self._readers.delivered += 1

    async def on_message_withdrawn(self, event: MessageWithdrawn) -> None:
        """Take a message away from all who saw it."""
        if not await self._follows(event.n):
            return
        self._messages = tuple(kept for kept in self._messages if kept.id != event.id)
        frame = self._frames.withdrawn(event)
        for reader in self._readers:
            reader.put_chat(frame, event.n)

    async def on_room_resumed(self, _: RoomResumed) -> None:
        """The room restarted: an event may be stored that was never published."""
        await self._resync()

    async def on_read_again(self, _: ReadAgain) -> None:
        """The store may be back."""
        await self._resync()

    def on_reader_joined(self, message: ReaderJoined) -> None:
        """Send the window, then every later event."""
        self._readers.add(message.reader)
        self._send_window(message.reader)

    def on_reader_left(self, message: ReaderLeft) -> None:
        """Send it nothing more."""
        self._readers.discard(message.reader)

    def on_window_wanted(self, message: WindowWanted) -> None:
        """Send the window to a reader that fell behind."""
        self._send_window(message.reader)

    def redact(self, state: dict[str, object]) -> dict[str, object]:
        """Show nobody's words in reports."""
        return hide_words(state)

    async def _follows(self, n: int) -> bool:
        """Count event `n` if it is the next one; a gap is mended for every reader."""
        if n <= self._n:
            return False
        if n > self._n + 1:
            await self._resync()
            return False
        self._n, self._public_window = n, None
        return True

    async def _resync(self) -> None:
        """Read the history; send it to every reader if it holds more than they have."""
        try:
            answer = await self._rooms.of(self.room).ask(ReadHistory(_EVERYTHING))
        except (AskError, UnknownRoom) as error:
            answer = NotStored(str(error))
        match answer:
            case NotStored():
                self.after(RETRY_S, ReadAgain(), key="read-again")
            case History(messages, n):
                is_news = n != self._n or not self._is_loaded
                self._messages, self._n, self._public_window = messages, n, None
                self._is_loaded = True
                if is_news:
                    self.resync_count += 1
                    for reader in self._readers:
                        self._send_window(reader)

    def _send_window(self, reader: Reader) -> None:
        if not self._is_loaded:
            return
        viewer = Viewer(session_id=reader.session_id)
        if any(is_own(message, viewer) for message in self._messages):
            frame = self._frames.window(self._messages, self._n, viewer)
        else:
            if self._public_window is None:
                self._public_window = self._frames.window(self._messages, self._n, Viewer())
            frame = self._public_window
        reader.put_window(frame, self._n)
