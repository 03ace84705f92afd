"""Changes that somebody disavows, in PostgreSQL; the twin of the other engine's."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from actors.accounts.kept.audit import Act, Entry, Origin
from actors.accounts.kept.disavowals import DISAVOWAL_KEPT, Disavowal, check_disavow
from actors.accounts.kept.recoveries import TellStopped
from actors.accounts.members import NO_PASSWORD
from actors.persistence.beside_log.outbox import check_messages
from actors.persistence.words import OutboxMessage
from storage.postgres.accounts.audit import begin, record
from storage.postgres.accounts.members import end_all
from storage.postgres.accounts.proving import stop_recovery
from storage.postgres.connecting.database import Database
from storage.postgres.connecting.notices import SESSIONS
from storage.postgres.connecting.session import Connection, change_rows
from storage.postgres.outbox import add_new_messages

_LOCK = "SELECT 1 FROM credentials WHERE user_id = $1 FOR UPDATE"
# Each removes more than it adds when there is that much to remove, as with tickets for sockets.
_USE = """
WITH over AS (
    DELETE FROM used_disavowals WHERE digest <> $1 AND digest = ANY(ARRAY(
        SELECT digest FROM used_disavowals WHERE expires_at <= clock_timestamp()
        ORDER BY expires_at LIMIT 10 FOR UPDATE SKIP LOCKED))
)
INSERT INTO used_disavowals (digest, expires_at) VALUES ($1, clock_timestamp() + $2::interval)
ON CONFLICT DO NOTHING
"""
# Of two that are disavowed the earlier counts: what was added behind it is doubted.
_DOUBT = """
UPDATE credentials SET password_hash = $3, changed_at = clock_timestamp(),
    doubted_since = least(doubted_since, $2)
WHERE user_id = $1
"""
_NO_LINKS = """
DELETE FROM sign_in_links WHERE email = (SELECT email FROM users WHERE id = $1)
"""
_NO_CODES = "DELETE FROM recovery_codes WHERE user_id = $1"
# Nobody knows from which one it was.
_NO_DEVICES = "DELETE FROM devices WHERE user_id = $1"
# But where nothing else would be left to sign in with.
_UNLINK = """
DELETE FROM provider_identities WHERE user_id = $1 AND linked_at >= $2
    AND ($3 OR EXISTS (SELECT FROM credentials WHERE user_id = $1 AND password_hash <> $4))
RETURNING provider
"""


class PostgresDisavowals:
    """The port `Disavowals` on a `Database`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def disavow(self, disavowal: Disavowal, origin: Origin) -> int | None:
        """See `Disavowals.disavow`."""
        check_disavow(disavowal, origin)
        return await self._database.transact(_disavow, disavowal, origin, channel=SESSIONS)


async def _disavow(connection: Connection, disavowal: Disavowal, origin: Origin) -> int | None:
    user_id = disavowal.user_id
    await begin(connection, user_id)
    if await connection.fetchval(_LOCK, user_id) is None:
        return None
    if not await change_rows(connection, _USE, disavowal.digest, DISAVOWAL_KEPT):
        return None
    return await carry_out(
        connection,
        user_id,
        disavowal.since,
        origin,
        needs_mailbox=disavowal.needs_mailbox,
        outbox=disavowal.outbox,
        tell_stopped=disavowal.tell_stopped,
    )


async def carry_out(
    connection: Connection,
    user_id: UUID,
    since: datetime,
    origin: Origin,
    *,
    needs_mailbox: bool,
    outbox: Sequence[OutboxMessage],
    tell_stopped: TellStopped | None,
) -> int:
    """Call this in an act's transaction, with the credentials locked; how many sign-ins ended."""
    if needs_mailbox:
        await connection.execute(_DOUBT, user_id, since, NO_PASSWORD)
    await connection.execute(_NO_LINKS, user_id)
    await connection.execute(_NO_CODES, user_id)
    await connection.execute(_NO_DEVICES, user_id)
    # Whoever began one may be who is disavowed; its owner begins another.
    await stop_recovery(connection, user_id, origin, tell_stopped, "disavowed")
    ended = await end_all(connection, user_id)
    await add_new_messages(connection, check_messages(outbox))
    await record(connection, Entry(Act.DISAVOW, user_id, origin), {"ended": str(ended)})
    for row in await connection.fetch(_UNLINK, user_id, since, needs_mailbox, NO_PASSWORD):
        facts = {"provider": row["provider"], "because": "disavowed"}
        await record(connection, Entry(Act.PROVIDER_UNLINK, user_id, origin), facts)
    return ended
