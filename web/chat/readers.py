"""The open streams that show a room, and which room an open stream shows."""

from collections.abc import Callable, Mapping
from typing import Protocol

from actors.chat import RoomName
from web.chat.reader import StreamReader
from web.realtime import Audience, Stream
from web.server import Frame


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


class Readers(Audience[Reader]):
    """The streams that show one room, by the session they belong to."""

    def __init__(self, wake: Callable[[], None]) -> None:
        super().__init__(wake)
        # Messages handed to streams since the process started.
        self.delivered = 0
        self._by_session: dict[str, dict[Reader, None]] = {}

    def join(self, reader: Reader) -> None:
        """Call this when a stream opens."""
        self._by_session.setdefault(reader.session_id, {})[reader] = None
        super().join(reader)

    def leave(self, reader: Reader) -> None:
        """Call this when a stream closed; harmless when it had left."""
        readers = self._by_session.get(reader.session_id, {})
        readers.pop(reader, None)
        if not readers:
            self._by_session.pop(reader.session_id, None)
        super().leave(reader)

    def of_session(self, session_id: str | None) -> list[Reader]:
        """Call this to get the streams of one session."""
        return [] if session_id is None else [*self._by_session.get(session_id, ())]

    def of_others(self, session_id: str | None) -> list[Reader]:
        """Call this to get the streams of all other sessions."""
        if session_id not in self._by_session:
            return [*self]
        return [reader for reader in self if reader.session_id != session_id]


class ShownRooms:
    """Which room each open stream shows; forgotten when it closes."""

    def __init__(self, readers: Mapping[RoomName, Readers]) -> None:
        self._readers = readers
        self._shown: dict[Stream, tuple[RoomName, Reader]] = {}

    def __repr__(self) -> str:
        return f"<ShownRooms of {len(self._shown)} streams>"

    def __len__(self) -> int:
        return len(self._shown)

    def show(self, stream: Stream, room: RoomName) -> None:
        """Call this when an open stream shows a room: the window comes, then every event."""
        reader = StreamReader(stream)
        self._shown[stream] = room, reader
        stream.when_closed(self._forget)
        self._readers[room].join(reader)

    def maybe_room(self, stream: Stream) -> RoomName | None:
        """Call this to learn which room a stream shows; None for most pages."""
        shown = self._shown.get(stream)
        return None if shown is None else shown[0]

    def want_window(self, stream: Stream) -> None:
        """Called by a stream's actor: its chat overflowed."""
        shown = self._shown.get(stream)
        if shown is not None:
            room, reader = shown
            self._readers[room].want(reader)

    def _forget(self, stream: Stream) -> None:
        room, reader = self._shown.pop(stream)
        self._readers[room].leave(reader)
