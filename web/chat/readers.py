"""The open streams that show a room, and which room an open stream shows.

Streams are handed to a room's feed as they are: what it calls of them is `Reader`. The people whose
streams they are are in the room (`Presence`): members by name, with how many tabs and since when,
and guests as a number. A tab that drops its stream for a moment (a reload, a tab out of sight, a
bad line) has not left: who is without any stream is shown for `LEFT_AFTER_S` more (LAB-56, REL-37).
Where several nodes serve one site, each tells the others of its own people (`Elsewhere`), and a
person with tabs on two of them is one.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

import trio

from actors.chat import Message, RoomName, Viewer
from actors.chat.policy import author_id
from actors.chat.words import AuthorId
from web.realtime import Audience, PageHolds, Stream
from web.server import Bundle, Frame
from web.views import HereView, PresenceView

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

    def put_panel(self, panel: str, frame: Frame, /) -> bool:
        """Send what replaces the older state of a panel."""
        ...

    def put_window(self, frame: Frame, position: int, /) -> None:
        """Send the whole view; it covers every event up to `position`."""
        ...


# A page that lost its line tries again behind 1, 2, 4 and 8 seconds, a fifth more or less: the
# fourth try is made within 18. One that is in sight again connects at once.
LEFT_AFTER_S = 20.0
# A crowd is told by its number; so many names fit a few lines.
NAMES_MAX = 20

# An account, or the browser session of a guest.
Person = UUID | str


@dataclass(frozen=True, slots=True)
class PersonHere:
    """What nodes tell each other of a person: no tabs for who may come back, no name of a guest."""

    name: str | None
    tabs: int
    since: datetime


class Elsewhere(Protocol):
    """The same room on the other nodes. Its methods return at once."""

    def put(self, person: str, here: PersonHere, /) -> None:
        """Tell them of a person who came, or has other tabs than before."""
        ...

    def drop(self, person: str, /) -> None:
        """Tell them of a person who left for good."""
        ...

    def people(self) -> Iterable[tuple[str, PersonHere]]:
        """Give whom they have told of; a person may be on several."""
        ...


@dataclass(slots=True)
class _Here:
    name: str | None
    since: datetime
    tabs: int = 0
    left_at: float = 0.0

    def told(self) -> PersonHere:
        return PersonHere(self.name, self.tabs, self.since)


class Presence:
    """The people of one room. `now` are seconds of one clock that never goes back."""

    def __init__(self) -> None:
        self._here: dict[Person, _Here] = {}
        # Those without a stream, who left first comes first.
        self._leaving: dict[Person, None] = {}
        self._elsewhere: Elsewhere | None = None

    def __repr__(self) -> str:
        return f"<Presence {len(self._here)}, leaving {len(self._leaving)}>"

    def share(self, elsewhere: Elsewhere) -> None:
        """Call this where other nodes show the room as well: its people are theirs, too."""
        self._elsewhere = elsewhere
        for person, here in self._here.items():
            elsewhere.put(str(person), here.told())

    def join(self, person: Person, name: str | None, now: float, at: datetime) -> None:
        """Call this when a stream of a person opens; `name` is None for guests.

        `at` is the time of day in UTC: shown for who was not here.
        """
        # Who left for good and comes back is here since now, though nobody has looked meanwhile.
        self.forget(now)
        here = self._here.setdefault(person, _Here(name, at))
        here.name = name
        here.tabs += 1
        self._leaving.pop(person, None)
        if self._elsewhere is not None:
            self._elsewhere.put(str(person), here.told())

    def leave(self, person: Person, now: float) -> None:
        """Call this when a stream that had joined closed."""
        here = self._here[person]
        here.tabs -= 1
        if self._elsewhere is not None:
            self._elsewhere.put(str(person), here.told())
        if here.tabs == 0:
            here.left_at = now
            self._leaving[person] = None
            # Nobody may be looking for hours: what was left then is let go here.
            self.forget(now)

    def forget(self, now: float) -> float | None:
        """Call this to let go who left; gives when the next one will have left, if any."""
        for person in [*self._leaving]:
            over = self._here[person].left_at + LEFT_AFTER_S
            if over > now:
                return over
            del self._leaving[person], self._here[person]
            if self._elsewhere is not None:
                self._elsewhere.drop(str(person))
        return None

    def seen(self) -> PresenceView:
        """Call this, after `forget`, for what the room's pages show."""
        people = self._everywhere()
        named = sorted(
            (here.name.casefold(), here.name, max(1, here.tabs), here.since)
            for here in people
            if here.name is not None
        )
        shown = tuple(HereView(name, tabs, since) for _, name, tabs, since in named[:NAMES_MAX])
        return PresenceView(shown, len(named) - len(shown), len(people) - len(named))

    def _everywhere(self) -> Collection[_Here | PersonHere]:
        """Each person once: here since they were first anywhere, with the tabs of all nodes."""
        if self._elsewhere is None:
            return self._here.values()
        people = {str(person): here.told() for person, here in self._here.items()}
        for person, there in self._elsewhere.people():
            here = people.get(person)
            people[person] = (
                there
                if here is None
                else PersonHere(here.name, here.tabs + there.tabs, min(here.since, there.since))
            )
        return people.values()


class Readers(Audience[Reader]):
    """The streams that show one room, by the session they belong to."""

    def __init__(self, wake: Callable[[], None], now: Callable[[], datetime]) -> None:
        super().__init__(wake)
        # The wall clock, for what is shown.
        self._now = now
        # Messages handed to streams since the process started.
        self.delivered = 0
        self._by_session: dict[str, dict[Reader, None]] = {}
        # Of those sessions that have one: a sign-in and its session begin and end together.
        self._members: dict[str, UUID] = {}
        # Who is here; and the pages that show it, with what they were sent last.
        self.presence = Presence()
        self._people: dict[Reader, Person] = {}
        self.watching: dict[Reader, PresenceView | None] = {}
        # Of them those who decide about what waits, and so see it.
        self._moderators: set[str] = set()

    def join(
        self,
        reader: Reader,
        holds: PageHolds | None = None,
        who: Viewer = NOBODY,
        name: str | None = None,
    ) -> None:
        """Call this when a stream opens; `who` is signed in on its session, if anybody is.

        A member is named to the others in the room.
        """
        if reader not in self._people:
            person = self._people[reader] = who.user_id or reader.session_id
            name = name if who.user_id is not None else None
            self.presence.join(person, name, trio.current_time(), self._now())
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
        self.watching.pop(reader, None)
        person = self._people.pop(reader, None)
        if person is not None:
            self.presence.leave(person, trio.current_time())
            self.people_changed()

    def people_changed(self) -> None:
        """Call this when others came or went: the pages that show who is here are told."""
        if self.watching:
            self._wake()

    def watch(self, reader: Reader) -> None:
        """Call this when a page begins to show who is in the room; not for strangers."""
        if reader in self and reader not in self.watching:
            self.watching[reader] = None
            self._wake()

    def unwatch(self, reader: Reader) -> None:
        """Call this when its page shows something else; harmless when it did."""
        self.watching.pop(reader, None)

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
        name: str | None = None,
    ) -> None:
        """Call this when an open stream shows a room: the window comes, then every event.

        Of the window only what its page does not hold yet.
        """
        self._shown[stream] = room
        stream.when_closed(self._forget)
        self._readers[room].join(stream, holds, who, name)

    def move(self, stream: Stream, room: RoomName, who: Viewer, name: str | None = None) -> bool:
        """Call this when an open stream's page shows another room from now on; its window comes.

        Nothing of the room before reaches it any more. False for a stream that shows none.
        """
        before = self._shown.get(stream)
        if before is None:
            return False
        if before != room:
            is_watching = stream in self._readers[before].watching
            self._readers[before].leave(stream)
            stream.change_chat()
            self._shown[stream] = room
            self._readers[room].join(stream, None, who, name)
            if is_watching:
                self._readers[room].watch(stream)
        return True

    def watch(self, stream: Stream, *, is_shown: bool) -> None:
        """Call this when a page begins, or ends, to show who is in its room."""
        room = self._shown.get(stream)
        if room is None:
            return
        if is_shown:
            self._readers[room].watch(stream)
        else:
            self._readers[room].unwatch(stream)

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
