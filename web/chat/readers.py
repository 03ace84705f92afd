"""The open streams that show a room, and which room an open stream shows.

Streams are handed to a room's feed as they are: what it calls of them is `Reader`.
"""

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from typing import Protocol
from uuid import UUID

from actors.chat import Message, RoomName, Viewer
from actors.chat.policy import author_id
from actors.chat.words import AuthorId
from web.realtime import Audience, PageHolds, Stream
from web.server import Bundle, Frame

NOBODY = Viewer()


class Reader(Protocol):
    """One open stream of a page that shows the room. Its methods return at once."""

    @property
    def session_id(self) -> str:
        """Whose stream it is."""
        ...

    def put_chat(self, frame: Frame, position: int, /) -> None:
        """Send one event."""
        ...

    def put_chats(self, bundle: Bundle, /) -> None:
        """Send several events that follow each other."""
        ...

    def put_window(self, frame: Frame, position: int, /) -> None:
        """Send the whole view; it covers every event up to `position`."""
        ...


class Readers(Audience[Reader]):
    """The streams that show one room, by the session they belong to."""

    def __init__(self, wake: Callable[[], None]) -> None:
        super().__init__(wake)
        # Messages handed to streams since the process started.
        self.delivered = 0
        self._by_session: dict[str, dict[Reader, None]] = {}
        # Of those sessions that have one: a sign-in and its session begin and end together.
        self._members: dict[str, UUID] = {}
        # Of them those who decide about what waits, and so see it.
        self._moderators: set[str] = set()

    def join(self, reader: Reader, holds: PageHolds | None = None, who: Viewer = NOBODY) -> None:
        """Call this when a stream opens; `who` is signed in on its session, if anybody is."""
        self._by_session.setdefault(reader.session_id, {})[reader] = None
        if who.user_id is not None:
            self._members[reader.session_id] = who.user_id
        # As the newest stream of the session was opened: a role comes and goes.
        if who.is_moderator:
            self._moderators.add(reader.session_id)
        else:
            self._moderators.discard(reader.session_id)
        super().join(reader, holds)

    def leave(self, reader: Reader) -> None:
        """Call this when a stream closed; harmless when it had left."""
        readers = self._by_session.get(reader.session_id, {})
        readers.pop(reader, None)
        if not readers:
            self._by_session.pop(reader.session_id, None)
            self._members.pop(reader.session_id, None)
            self._moderators.discard(reader.session_id)
        super().leave(reader)

    def viewer(self, session_id: str) -> Viewer:
        """Call this for who reads on the streams of a session."""
        return Viewer(
            user_id=self._members.get(session_id),
            session_id=session_id,
            is_moderator=session_id in self._moderators,
        )

    @property
    def moderators(self) -> AbstractSet[str]:
        """The sessions with a stream open here that see what waits for review."""
        return self._moderators

    def sessions_of(self, message: Message) -> set[str]:
        """Call this for the sessions with a stream open here that see a message as their own."""
        return self.sessions_by(author_id(message))

    def sessions_by(self, author: AuthorId | None) -> set[str]:
        """Call this for the sessions with a stream open here of an author."""
        if isinstance(author, str):
            return {author} if author in self._by_session else set()
        return {session for session, member in self._members.items() if member == author}


class ShownRooms:
    """Which room each open stream shows; forgotten when it closes."""

    def __init__(self, readers: Mapping[RoomName, Readers]) -> None:
        self._readers = readers
        self._shown: dict[Stream, RoomName] = {}

    def __repr__(self) -> str:
        return f"<ShownRooms of {len(self._shown)} streams>"

    def __len__(self) -> int:
        return len(self._shown)

    def show(
        self,
        stream: Stream,
        room: RoomName,
        holds: PageHolds | None = None,
        who: Viewer = NOBODY,
    ) -> None:
        """Call this when an open stream shows a room: the window comes, then every event.

        Of the window only what its page does not hold yet.
        """
        self._shown[stream] = room
        stream.when_closed(self._forget)
        self._readers[room].join(stream, holds, who)

    def move(self, stream: Stream, room: RoomName, who: Viewer) -> bool:
        """Call this when an open stream's page shows another room from now on; its window comes.

        Nothing of the room before reaches it any more. False for a stream that shows none.
        """
        before = self._shown.get(stream)
        if before is None:
            return False
        if before != room:
            self._readers[before].leave(stream)
            stream.change_chat()
            self._shown[stream] = room
            self._readers[room].join(stream, None, who)
        return True

    def maybe_room(self, stream: Stream) -> RoomName | None:
        """Call this to learn which room a stream shows; None for most pages."""
        return self._shown.get(stream)

    def want_window(self, stream: Stream) -> None:
        """Called by a stream's actor: its chat overflowed."""
        room = self._shown.get(stream)
        if room is not None:
            self._readers[room].want(stream)

    def _forget(self, stream: Stream) -> None:
        self._readers[self._shown.pop(stream)].leave(stream)
