"""What became of mails in PostgreSQL; the twin of `storage/memory/mails.py`. Times are its own."""

from collections.abc import Sequence

from actors.persistence.beside_log.mails import (
    EXCEPTION_EVERY,
    LEFT_MAX,
    MAILS_KEPT,
    SUPPRESSED_FOR,
    KnownMail,
    MailRef,
    MailState,
    Suppression,
    check_address_digest,
    check_mail,
    check_reason,
    check_settled,
    check_shown,
)
from actors.persistence.event_store import check_limit
from storage.postgres.connecting.database import Database
from storage.postgres.connecting.session import Connection, change_rows

# The row is locked by its update, so two who begin at once count one after the other.
_BEGIN = """
INSERT INTO mails AS m (message_id, recipient, template, state, copies_left)
VALUES ($1, $2, $3, 'sending', 1)
ON CONFLICT (message_id) DO UPDATE SET state = 'sending', reason = '',
    copies_left = CASE WHEN $5 AND m.state = 'refused' THEN 1 ELSE m.copies_left + 1 END,
    changed_at = clock_timestamp()
WHERE ($5 AND m.state = 'refused') OR m.copies_left < $4
RETURNING copies_left - 1
"""
_SETTLE = """
INSERT INTO mails AS m (message_id, recipient, template, state, reason)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (message_id) DO UPDATE SET state = $4, reason = $5, changed_at = clock_timestamp(),
    copies_left = greatest(m.copies_left - CASE WHEN $6 THEN 1 ELSE 0 END, 0)
"""
_SUPPRESS = """
INSERT INTO mail_suppressed (address_hash, reason, until)
VALUES ($1, $2, clock_timestamp() + $3::interval)
ON CONFLICT (address_hash) DO UPDATE SET reason = $2, until = clock_timestamp() + $3::interval
"""
_SUPPRESSED = """
SELECT reason, until FROM mail_suppressed WHERE address_hash = $1 AND until > clock_timestamp()
"""
_EXCEPT = """
UPDATE mail_suppressed SET excepted_at = clock_timestamp()
WHERE address_hash = $1
    AND (excepted_at IS NULL OR excepted_at <= clock_timestamp() - $2::interval)
"""
_NEWEST = """
SELECT message_id, recipient, template, state, reason, copies_left, changed_at FROM mails
ORDER BY changed_at DESC, message_id LIMIT $1
"""
_NEWEST_TO = """
SELECT message_id, recipient, template, state, reason, copies_left, changed_at FROM mails
WHERE recipient = $2 ORDER BY changed_at DESC, message_id LIMIT $1
"""
_PURGE_MAILS = """
DELETE FROM mails WHERE message_id = ANY(ARRAY(
    SELECT message_id FROM mails WHERE changed_at <= clock_timestamp() - $1::interval LIMIT $2))
"""
_PURGE_SUPPRESSED = """
DELETE FROM mail_suppressed WHERE address_hash = ANY(ARRAY(
    SELECT address_hash FROM mail_suppressed WHERE until <= clock_timestamp() LIMIT $1))
"""


class PostgresMailStates:
    """The port `MailStates` on a `Database`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, mail: MailRef, *, anew: bool = False) -> int:
        """See `MailStates.begin`."""
        check_mail(mail)

        async def work(connection: Connection) -> int:
            row = (mail.message_id, mail.recipient, mail.template)
            before: int | None = await connection.fetchval(_BEGIN, *row, LEFT_MAX, bool(anew))
            return LEFT_MAX if before is None else before

        return await self._database.run(work)

    async def settle(
        self, mail: MailRef, state: MailState, reason: str = "", *, is_answered: bool = False
    ) -> None:
        """See `MailStates.settle`."""
        check_mail(mail)
        check_settled(state, reason)
        row = (mail.message_id, mail.recipient, mail.template)
        await self._database.run(change_rows, _SETTLE, *row, state.value, reason, bool(is_answered))

    async def suppress(self, address: bytes, reason: str) -> None:
        """See `MailStates.suppress`."""
        check_address_digest(address)
        check_reason(reason)
        await self._database.run(change_rows, _SUPPRESS, address, reason, SUPPRESSED_FOR)

    async def maybe_suppression(self, address: bytes) -> Suppression | None:
        """See `MailStates.maybe_suppression`."""
        check_address_digest(address)

        async def work(connection: Connection) -> Suppression | None:
            row = await connection.fetchrow(_SUPPRESSED, address)
            return None if row is None else Suppression(row["reason"], row["until"])

        return await self._database.run(work)

    async def take_exception(self, address: bytes) -> bool:
        """See `MailStates.take_exception`."""
        check_address_digest(address)
        return await self._database.run(change_rows, _EXCEPT, address, EXCEPTION_EVERY) == 1

    async def lift(self, address: bytes) -> bool:
        """See `MailStates.lift`."""
        check_address_digest(address)
        statement = "DELETE FROM mail_suppressed WHERE address_hash = $1"
        return await self._database.run(change_rows, statement, address) == 1

    async def newest(
        self, limit: int = 50, *, recipient: bytes | None = None
    ) -> Sequence[KnownMail]:
        """See `MailStates.newest`."""
        check_shown(limit, recipient)

        async def work(connection: Connection) -> list[KnownMail]:
            if recipient is None:
                rows = await connection.fetch(_NEWEST, limit)
            else:
                rows = await connection.fetch(_NEWEST_TO, limit, recipient)
            return [
                KnownMail(
                    MailRef(row["message_id"], row["recipient"], row["template"]),
                    MailState(row["state"]),
                    row["reason"],
                    row["copies_left"],
                    row["changed_at"],
                )
                for row in rows
            ]

        return await self._database.run(work)

    async def purge(self, limit: int = 1000) -> int:
        """See `MailStates.purge`."""
        check_limit(limit)
        gone = await self._database.run(change_rows, _PURGE_MAILS, MAILS_KEPT, limit)
        return gone + await self._database.run(change_rows, _PURGE_SUPPRESSED, limit)
