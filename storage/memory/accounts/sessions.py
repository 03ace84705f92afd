"""Ends of browser sessions, and tickets, in memory.

The twin of `storage/postgres/accounts/sessions.py`.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence

import trio

from actors.accounts import ENDS_KEPT, TICKET_KEPT, HowEnded
from actors.accounts.ports import check_digest, check_how, check_session, check_sessions
from actors.accounts.words import SessionId
from actors.persistence.event_store import check_limit
from storage.memory.database import MemoryDatabase, SessionEndRow, SocketTicketRow
from storage.memory.twin import Twin


class MemorySessionEnds(Twin):
    """The port `SessionEnds` on a `MemoryDatabase`; `is_deaf` makes every ring be lost."""

    def __init__(self, database: MemoryDatabase | None = None) -> None:
        super().__init__(database)
        self.is_deaf = False

    async def end(self, sessions: Sequence[SessionId], how: HowEnded = HowEnded.ENDED) -> None:
        """See `SessionEnds.end`."""
        check_how(how)
        given = check_sessions(sessions)
        await self.pass_faults()
        ends, now = self.database.session_ends, self.database.now()
        for session in given:
            known = ends.setdefault(session, SessionEndRow(how, now))
            known.ended_at = now
            if how is HowEnded.BANNED:
                known.how = how
        if not self.is_deaf:
            self.database.sessions_changed.set()
            self.database.sessions_changed = trio.Event()

    async def ended(self, sessions: Sequence[SessionId]) -> Mapping[SessionId, HowEnded]:
        """See `SessionEnds.ended`."""
        given = check_sessions(sessions)
        await self.pass_faults()
        ends = self.database.session_ends
        return {one: HowEnded(ends[one].how) for one in given if one in ends}

    async def rings(self, every_s: float) -> AsyncGenerator[None, None]:
        """See `SessionEnds.rings`."""
        while True:
            changed = self.database.sessions_changed
            yield
            with trio.move_on_after(every_s):
                await changed.wait()

    async def purge(self, limit: int = 1000) -> int:
        """See `SessionEnds.purge`."""
        check_limit(limit)
        await self.pass_faults()
        first, ends = self.database.now() - ENDS_KEPT, self.database.session_ends
        old = [session for session, row in ends.items() if row.ended_at <= first][:limit]
        for session in old:
            del ends[session]
        return len(old)


class MemorySocketTickets(Twin):
    """The port `SocketTickets` on a `MemoryDatabase`."""

    async def issue(self, digest: bytes, session_id: SessionId) -> None:
        """See `SocketTickets.issue`."""
        check_digest(digest)
        check_session(session_id)
        await self.pass_faults()
        tickets, now = self.database.socket_tickets, self.database.now()
        for over in [one for one, row in tickets.items() if row.expires_at <= now]:
            del tickets[over]
        tickets[digest] = SocketTicketRow(session_id, now + TICKET_KEPT)

    async def take(self, digest: bytes) -> SessionId | None:
        """See `SocketTickets.take`."""
        check_digest(digest)
        await self.pass_faults()
        row = self.database.socket_tickets.pop(digest, None)
        if row is None or row.expires_at <= self.database.now():
            return None
        return SessionId(row.session_id)
