"""Ends of browser sessions, and tickets, in PostgreSQL.

The twin of `storage/memory/accounts/sessions.py`. Times are the server's, so that processes
on several machines agree about them.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence

from actors.accounts import ENDS_KEPT, TICKET_KEPT, HowEnded
from actors.accounts.ports import check_digest, check_how, check_session, check_sessions
from actors.accounts.words import SessionId
from actors.persistence.event_store import check_limit
from storage.postgres.connecting.database import Database
from storage.postgres.connecting.notices import SESSIONS
from storage.postgres.connecting.session import Connection, change_rows

# In the order of ids: two that end the same sessions wait for each other in one direction.
_END = """
INSERT INTO session_ends AS e (session_id, how)
SELECT DISTINCT s, $2 FROM unnest($1::text[]) s ORDER BY s
ON CONFLICT (session_id) DO UPDATE SET ended_at = clock_timestamp(),
    how = CASE WHEN e.how = 'banned' THEN e.how ELSE excluded.how END
"""

_ENDED = "SELECT session_id, how FROM session_ends WHERE session_id = ANY($1)"

_PURGE = """
DELETE FROM session_ends WHERE session_id = ANY(ARRAY(
    SELECT session_id FROM session_ends
    WHERE ended_at <= clock_timestamp() - $1::interval LIMIT $2))
"""

# Each removes more than it adds when there is that much to remove, so the table stays as small as
# what was issued in half a minute. What another one is removing is left to it.
_ISSUE = """
WITH over AS (
    DELETE FROM socket_tickets WHERE digest = ANY(ARRAY(
        SELECT digest FROM socket_tickets WHERE expires_at <= clock_timestamp()
        ORDER BY expires_at LIMIT 10 FOR UPDATE SKIP LOCKED))
)
INSERT INTO socket_tickets (digest, session_id, expires_at)
VALUES ($1, $2, clock_timestamp() + $3::interval)
"""

# One that is over is not given, and is removed by whoever asks for the next.
_TAKE = """
DELETE FROM socket_tickets WHERE digest = $1 AND expires_at > clock_timestamp()
RETURNING session_id
"""


class PostgresSessionEnds:
    """The port `SessionEnds` on a `Database`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def end(self, sessions: Sequence[SessionId], how: HowEnded = HowEnded.ENDED) -> None:
        """See `SessionEnds.end`."""
        check_how(how)
        given = check_sessions(sessions)
        await self._database.run(_execute, _END, given, how.value, channel=SESSIONS)

    async def ended(self, sessions: Sequence[SessionId]) -> Mapping[SessionId, HowEnded]:
        """See `SessionEnds.ended`."""
        return await self._database.run(_ended, check_sessions(sessions))

    async def rings(self, every_s: float) -> AsyncGenerator[None, None]:
        """See `SessionEnds.rings`."""
        bell = self._database.bell(SESSIONS)
        with bell.heard():
            while True:
                # Before whoever is woken looks: what ends while it does rings for it.
                wait = bell.listen()
                yield
                await wait(every_s)

    async def purge(self, limit: int = 1000) -> int:
        """See `SessionEnds.purge`."""
        check_limit(limit)
        return await self._database.run(change_rows, _PURGE, ENDS_KEPT, limit)


class PostgresSocketTickets:
    """The port `SocketTickets` on a `Database`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def issue(self, digest: bytes, session_id: SessionId) -> None:
        """See `SocketTickets.issue`."""
        check_digest(digest)
        session = check_session(session_id)
        await self._database.run(_execute, _ISSUE, digest, session, TICKET_KEPT)

    async def take(self, digest: bytes) -> SessionId | None:
        """See `SocketTickets.take`."""
        check_digest(digest)
        return await self._database.run(_take, digest)


async def _execute(connection: Connection, statement: str, *args: object) -> None:
    await connection.execute(statement, *args)


async def _ended(connection: Connection, sessions: list[SessionId]) -> dict[SessionId, HowEnded]:
    rows = await connection.fetch(_ENDED, sessions)
    return {SessionId(row["session_id"]): HowEnded(row["how"]) for row in rows}


async def _take(connection: Connection, digest: bytes) -> SessionId | None:
    taken: str | None = await connection.fetchval(_TAKE, digest)
    return None if taken is None else SessionId(taken)
