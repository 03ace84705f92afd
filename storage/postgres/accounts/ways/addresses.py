"""Changes of addresses, in PostgreSQL; the twin of the other engine's. Times are the server's.

Whoever makes one or takes one back has the row of its account's credentials locked.
"""

from collections.abc import Sequence
from uuid import UUID

from actors.accounts.kept.addresses import (
    CONFIRM_KEPT,
    REVERT_KEPT,
    AddressChange,
    NewAddress,
    TakeBack,
    check_confirm,
)
from actors.accounts.kept.audit import Act, Entry, Origin
from actors.accounts.kept.disavowals import TOLD_MARGIN
from actors.persistence.beside_log.outbox import check_messages
from actors.persistence.words import OutboxMessage, check_a, check_uuid
from storage.errors import StatementRefused
from storage.postgres.accounts.audit import begin, record
from storage.postgres.accounts.proving import is_alive
from storage.postgres.accounts.ways.disavowals import carry_out
from storage.postgres.connecting.database import Database
from storage.postgres.connecting.notices import SESSIONS
from storage.postgres.connecting.session import Connection
from storage.postgres.outbox import add_new_messages

# Each removes more than it adds when there is that much to remove, as with tickets for sockets.
_FORGET = """
DELETE FROM address_changes WHERE (user_id = $1 AND made_at IS NULL) OR id = ANY(ARRAY(
    SELECT id FROM address_changes
    WHERE coalesce(made_at, asked_at) <= clock_timestamp() - $2::interval
        AND asked_at <= clock_timestamp() - $2::interval
    ORDER BY asked_at LIMIT 10 FOR UPDATE SKIP LOCKED))
"""
_ASK = """
INSERT INTO address_changes (id, user_id, reference, former, email)
SELECT $1, id, $3, email, $4 FROM users WHERE id = $2
"""
_IS_FREE = """
SELECT NOT EXISTS (SELECT 1 FROM users WHERE email = $1) AND NOT is_address_kept($1, $2)
"""
# What is not over. Both sides of a change wait as long, from the wish and from the act.
_FIND = """
SELECT a.id, a.user_id, u.username, a.former, a.email, a.asked_at, a.made_at IS NOT NULL AS is_made
FROM address_changes a JOIN users u ON u.id = a.user_id
WHERE a.id = $1 AND coalesce(a.made_at, a.asked_at) > clock_timestamp() - $2::interval
"""
_WAITS = """
SELECT reference, former, email FROM address_changes
WHERE id = $1 AND made_at IS NULL AND asked_at > clock_timestamp() - $2::interval
"""
_MOVE = """
UPDATE users SET email = $3, email_verified_at = clock_timestamp() WHERE id = $1 AND email = $2
RETURNING 1
"""
_MADE = "UPDATE address_changes SET made_at = clock_timestamp() WHERE id = $1"
_LOCK = "SELECT 1 FROM credentials WHERE user_id = $1 FOR UPDATE"
# With it the later ones: what the address was changed to behind it is let go.
_UNDO = """
DELETE FROM address_changes WHERE user_id = $1 AND asked_at >= $2
"""
_BACK = "UPDATE users SET email = $2 WHERE id = $1 AND email <> $2"
_NO_LINKS = "DELETE FROM sign_in_links WHERE email = ANY($1)"
_TAKEN = "users_email_key"


class PostgresAddresses:
    """The port `Addresses` on a `Database`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def ask(self, new: NewAddress, origin: Origin) -> bool:
        """See `Addresses.ask`."""
        check_a("new", new, NewAddress)
        check_a("origin", origin, Origin)
        return await self._database.transact(_ask, new, origin)

    async def find(self, change_id: UUID) -> AddressChange | None:
        """See `Addresses.find`."""
        check_uuid("change_id", change_id)
        return await self._database.run(_find, change_id)

    async def confirm(
        self, change_id: UUID, origin: Origin, outbox: Sequence[OutboxMessage] = ()
    ) -> bool:
        """See `Addresses.confirm`."""
        check_confirm(change_id, origin, outbox)
        try:
            return await self._database.transact(_confirm, change_id, origin, outbox)
        except StatementRefused as error:
            if error.constraint != _TAKEN:
                raise
            return False

    async def take_back(self, back: TakeBack, origin: Origin) -> int | None:
        """See `Addresses.take_back`."""
        check_a("back", back, TakeBack)
        check_a("origin", origin, Origin)
        return await self._database.transact(_take_back, back, origin, channel=SESSIONS)


async def _ask(connection: Connection, new: NewAddress, origin: Origin) -> bool:
    await begin(connection, new.user_id)
    if not await is_alive(connection, new.user_id, new.reference):  # locks the credentials
        return False
    await connection.execute(_FORGET, new.user_id, REVERT_KEPT)
    await connection.execute(_ASK, new.id, new.user_id, new.reference, new.email)
    is_free = await connection.fetchval(_IS_FREE, new.email, new.user_id)
    mails = [*(new.to_new if is_free else ()), *new.to_former]
    await add_new_messages(connection, check_messages(mails))
    await record(connection, Entry(Act.ADDRESS_ASK, new.user_id, origin))
    return True


async def _find(connection: Connection, change_id: UUID) -> AddressChange | None:
    row = await connection.fetchrow(_FIND, change_id, REVERT_KEPT)
    return None if row is None else AddressChange(**row)


async def _confirm(
    connection: Connection, change_id: UUID, origin: Origin, outbox: Sequence[OutboxMessage]
) -> bool:
    change = await _find(connection, change_id)
    if change is None:
        return False
    user_id = change.user_id
    await begin(connection, user_id)
    if await connection.fetchval(_LOCK, user_id) is None:
        return False
    waits = await connection.fetchrow(_WAITS, change_id, CONFIRM_KEPT)
    if waits is None or not await is_alive(connection, user_id, waits["reference"]):
        return False
    await connection.execute(_MADE, change_id)
    if not await connection.fetchval(_MOVE, user_id, waits["former"], waits["email"]):
        raise AssertionError("a wish is of the address there is: what changes that voids it")
    await connection.execute(_NO_LINKS, [waits["former"], waits["email"]])
    await add_new_messages(connection, check_messages(outbox))
    await record(connection, Entry(Act.ADDRESS, user_id, origin))
    await record(connection, Entry(Act.VERIFY_EMAIL, user_id, origin))
    return True


async def _take_back(connection: Connection, back: TakeBack, origin: Origin) -> int | None:
    change = await _find(connection, back.id)
    if change is None:
        return None
    user_id = change.user_id
    await begin(connection, user_id)
    if await connection.fetchval(_LOCK, user_id) is None:
        return None
    change = await _find(connection, back.id)  # it may be another one behind the lock
    if change is None:
        return None
    await connection.execute(_UNDO, user_id, change.asked_at)
    # To nobody's disadvantage: for a week it is kept for this account.
    await connection.execute(_BACK, user_id, change.former)
    await record(connection, Entry(Act.ADDRESS_BACK, user_id, origin))
    return await carry_out(
        connection,
        user_id,
        change.asked_at - TOLD_MARGIN,
        origin,
        needs_mailbox=back.needs_mailbox,
        outbox=back.outbox,
        tell_stopped=back.tell_stopped,
    )
