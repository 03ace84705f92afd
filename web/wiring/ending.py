"""What closes when a browser session ends: its sockets, its streams, and its cookie (SEC-44).

Also what a role or a membership had open that was taken away.

`actors.accounts.SessionEndWatch` says which are over; whoever ends one tells the store
(`SessionEnds.end`) and nobody else.
"""

from collections.abc import Callable, Mapping, Sized
from typing import Protocol
from uuid import UUID

from actors.accounts import ASKED_MAX, Accounts, HowEnded, Role, SessionEnded, SessionId
from actors.chat import LOBBY, ChatLog, ChatLogUnavailable, RoomName
from actors.chat.chat_log import MEMBERS_ASKED_MAX
from actors.persistence.errors import StoreError
from web.realtime import Close, CloseCode, Stream, Streams
from web.server import BoundedMap, SignedIn

# The newest that ended with something open here, some 150 bytes each. An older one whose cookie
# comes again opens nothing that the next look of the watch does not close.
ENDED_KEPT = 10_000

_CLOSES = {
    HowEnded.ENDED: Close(CloseCode.SESSION_ENDED, "the session is over"),
    HowEnded.BANNED: Close(CloseCode.BANNED, "banned"),
}


class OpenSockets(Sized, Protocol):
    """What is needed of a socket endpoint."""

    def users(self) -> set[str]:
        """See `SocketEndpoint.users`."""

    def close_user(self, user: str, code: CloseCode, reason: str = "") -> int:
        """See `SocketEndpoint.close_user`."""


class OpenRoles:
    """Has pages of members opened anew whose role is another one than when they were loaded."""

    def __init__(
        self, accounts: Accounts, members: Callable[[], Mapping[Stream, SignedIn]]
    ) -> None:
        self._accounts, self._members = accounts, members

    async def look(self) -> None:
        """Call this when a role may have changed; a store that is away is asked another time.

        A page that is told the same by its next stream asks to be loaded again (SITE-43).
        """
        waiting = [*{who.user_id for who in self._members().values()}]
        roles: dict[UUID, Role] = {}
        for at in range(0, len(waiting), ASKED_MAX):
            try:
                roles |= await self._accounts.roles(waiting[at : at + ASKED_MAX])
            except StoreError:
                return
        # As they are now: some have left, and some came with the new role.
        for stream, who in [*self._members().items()]:
            if who.role != roles.get(who.user_id, who.role):
                stream.close("its member has another role")


class OpenRooms:
    """Closes pages that show a room whose member is none any more."""

    def __init__(
        self,
        log: ChatLog,
        members: Callable[[], Mapping[Stream, SignedIn]],
        room_of: Callable[[Stream], RoomName | None],
    ) -> None:
        """`room_of` tells what the page of a stream shows, None for one without a chat."""
        self._log, self._members, self._room_of = log, members, room_of

    async def look(self) -> None:
        """Call this now and then; a store that is away is asked another time.

        A page that comes back is told to be loaded again, and shows the Lobby then.
        """
        inside: dict[RoomName, set[UUID]] = {}
        for stream, who in self._members().items():
            room = self._room_of(stream)
            if room is not None and room != LOBBY:
                inside.setdefault(room, set()).add(who.user_id)
        for room, users in inside.items():
            waiting, known = [*users], set[UUID]()
            for at in range(0, len(waiting), MEMBERS_ASKED_MAX):
                try:
                    known |= await self._log.members(room, waiting[at : at + MEMBERS_ASKED_MAX])
                except ChatLogUnavailable:
                    return
            # Who joined or came meanwhile was not asked about.
            gone = users - known
            for stream, who in [*self._members().items()]:
                if who.user_id in gone and self._room_of(stream) == room:
                    stream.close("its member left the room")


class OpenSessions:
    """What of each session is open in this process, and which are over."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._sockets: OpenSockets | None = None
        self._ended: BoundedMap[str, HowEnded] = BoundedMap(ENDED_KEPT)

    def __repr__(self) -> str:
        return f"<OpenSessions ended={len(self._ended)}>"

    def attach(self, sockets: OpenSockets) -> None:
        """Call this when the server has an endpoint; the one before is closed by then."""
        self._sockets = sockets

    def all(self) -> set[SessionId]:
        """Call this for the sessions that have a stream or a socket open."""
        found = {SessionId(str(session)) for session in self._streams.sessions()}
        if self._sockets is not None:
            found.update(map(SessionId, self._sockets.users()))
        return found

    def end(self, ended: SessionEnded) -> None:
        """Call this when a session is over; harmless to repeat. Returns at once."""
        session, close = ended.session_id, _CLOSES[ended.how]
        self._ended.put(session, ended.how)
        if self._sockets is not None:
            self._sockets.close_user(session, close.code, close.reason)
        self._streams.close_session(UUID(session), close.reason)

    def how_closed(self, session: str) -> Close | None:
        """Call this for how a socket of a session ends; None while that is not over."""
        how = self._ended.get(session)
        return None if how is None else _CLOSES[how]

    def has_ended(self, visitor: UUID) -> bool:
        """Call this with a visitor's id: the cookie of a session that is over counts as none."""
        return len(self._ended) > 0 and str(visitor) in self._ended
