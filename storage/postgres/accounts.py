"""Accounts and sign-ins in PostgreSQL; the twin of `storage/memory/accounts.py`.

Times are the server's. A sign-in that ends leaves a row in `session_ends` in the same transaction,
and what was committed rings for every process.
"""

from collections.abc import Mapping, Sequence
from uuid import UUID

from actors.accounts.members import (
    DELETED_NAME,
    FORGOTTEN_BY,
    SEEN_EVERY,
    SIGN_IN_IDLE,
    SIGN_IN_KEPT,
    SIGN_INS_PER_USER_MAX,
    Credentials,
    Member,
    NewAccount,
    NewPassword,
    NewSignIn,
    Role,
    SignIn,
    Swept,
    Taken,
    check_hash,
    check_role,
    is_taken_away,
)
from actors.accounts.ports import check_digest, check_session, check_users
from actors.accounts.words import SessionId
from actors.chat import LOBBY, user_subject
from actors.persistence.event_store import check_limit
from actors.persistence.words import check_a, check_text, check_uuid
from storage.errors import StatementRefused
from storage.postgres.connecting.database import Database
from storage.postgres.connecting.notices import SESSIONS
from storage.postgres.connecting.session import Connection, change_rows
from storage.postgres.events.subject_keys import forget_subject
from storage.postgres.outbox import add_new_messages

_TAKEN = {"users_username_key": Taken.USERNAME, "users_email_key": Taken.EMAIL}

_ADD_USER = """
INSERT INTO users (id, username, display_name, email) VALUES ($1, $2, $2, $3)
"""
_ADD_MEMBERSHIP = """
INSERT INTO chat_room_memberships (room_id, user_id) SELECT id, $1 FROM chat_rooms WHERE name = $2
"""
_CREDENTIALS = """
SELECT u.id AS user_id, u.username, u.email, c.password_hash
FROM users u JOIN credentials c ON c.user_id = u.id WHERE
"""
_RENEW_HASH = """
UPDATE credentials SET password_hash = $3 WHERE user_id = $1 AND password_hash = $2
"""
_CHANGE_HASH = """
UPDATE credentials SET password_hash = $3, changed_at = clock_timestamp()
WHERE user_id = $1 AND password_hash = $2
"""
_ADD_SIGN_IN = """
INSERT INTO sign_ins (id, digest, user_id, session_id, browser) VALUES ($1, $2, $3, $4, $5)
"""
_OVER_NUMBER = """
id = ANY(ARRAY(SELECT id FROM sign_ins WHERE user_id = $1 AND id <> $2
    ORDER BY seen_at DESC, created_at DESC OFFSET $3))
"""
# In the order of ids, as everybody who ends sessions: nobody waits in a circle. Whose a session was
# stays known for as long as what was written in it.
_END = """
WITH gone AS (DELETE FROM sign_ins WHERE {which} RETURNING session_id, user_id), ended AS (
    INSERT INTO session_ends AS e (session_id, how, members)
    SELECT session_id, 'ended', ARRAY[user_id] FROM gone ORDER BY 1
    ON CONFLICT (session_id) DO UPDATE
        SET members = ARRAY(SELECT DISTINCT unnest(e.members || excluded.members)))
SELECT count(*) FROM gone
"""
_END_SESSION = """
INSERT INTO session_ends AS e (session_id, how, members) VALUES ($1, 'ended', ARRAY[$2::uuid])
ON CONFLICT (session_id) DO UPDATE
    SET members = ARRAY(SELECT DISTINCT unnest(e.members || excluded.members))
"""
_FORGET_MEMBER = """
UPDATE session_ends SET members = array_remove(members, $1::uuid) WHERE session_id = ANY(ARRAY(
    SELECT session_id FROM session_ends WHERE members @> ARRAY[$1::uuid] ORDER BY 1 FOR UPDATE))
"""
# Of requests at once the first writes, and the others find that it did.
_WHO = """
WITH found AS (
    SELECT s.id, s.session_id, u.id AS user_id, u.username, u.email, u.role, u.created_at
    FROM sign_ins s JOIN users u ON u.id = s.user_id
    WHERE s.digest = $1 AND s.seen_at > clock_timestamp() - $2::interval
        AND s.created_at > clock_timestamp() - $3::interval
), seen AS (
    UPDATE sign_ins s SET seen_at = clock_timestamp() FROM found
    WHERE s.id = found.id AND s.seen_at <= clock_timestamp() - $4::interval
)
SELECT * FROM found
"""
_SIGN_INS = """
SELECT id, browser, created_at, seen_at FROM sign_ins
WHERE user_id = $1 AND seen_at > clock_timestamp() - $2::interval
    AND created_at > clock_timestamp() - $3::interval
ORDER BY created_at DESC, id
"""
_OVER_TIME = """
id = ANY(ARRAY(SELECT id FROM sign_ins WHERE seen_at <= clock_timestamp() - $1::interval
    OR created_at <= clock_timestamp() - $2::interval LIMIT $3 FOR UPDATE SKIP LOCKED))
"""
_NEXT_OVER = """
SELECT extract(epoch FROM least(
    (SELECT min(seen_at) FROM sign_ins) + $1::interval,
    (SELECT min(created_at) FROM sign_ins) + $2::interval) - clock_timestamp())::float8
"""
# The row stays, as a name for what it wrote: without an @ it is nobody's address.
_SCRUB = """
UPDATE users SET username = 'deleted:' || id, email = 'deleted:' || id, display_name = $2,
    role = 'user', deleted_at = clock_timestamp()
WHERE id = $1
"""
# First of all, as whoever changes more than one thing of an account: nobody waits in a circle.
_LOCK_NAMED = """
SELECT 1 FROM credentials c JOIN users u ON u.id = c.user_id WHERE u.username = $1 FOR UPDATE OF c
"""
_GRANT = """
WITH before AS (SELECT id, role FROM users WHERE username = $1 AND deleted_at IS NULL FOR UPDATE)
UPDATE users u SET role = $2 FROM before WHERE u.id = before.id RETURNING u.id, before.role
"""
_AUDIT = """
INSERT INTO audit_log (event_type, severity, actor, action, resource, success)
VALUES ('account', 'info', $1, $2, $1, true)
"""
# Who did it stands in the row of their command.
_AUDIT_ROLE = """
INSERT INTO audit_log (event_type, severity, action, resource, success)
VALUES ('account', 'info', 'account.role', $1, true)
"""


class PostgresAccounts:
    """The port `Accounts` on a `Database`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def register(self, account: NewAccount, sign_in: NewSignIn) -> Taken | None:
        """See `Accounts.register`."""
        check_a("account", account, NewAccount)
        check_a("sign_in", sign_in, NewSignIn)
        try:
            await self._database.transact(_register, account, sign_in, channel=SESSIONS)
        except StatementRefused as error:
            taken = _TAKEN.get(error.constraint or "")
            if taken is None:
                raise
            return taken
        return None

    async def credentials(self, email: str) -> Credentials | None:
        """See `Accounts.credentials`."""
        check_text("email", email, 1024)
        return await self._database.run(_credentials, "u.email = $1", email)

    async def credentials_of(self, user_id: UUID) -> Credentials | None:
        """See `Accounts.credentials_of`."""
        check_uuid("user_id", user_id)
        return await self._database.run(_credentials, "u.id = $1", user_id)

    async def renew_hash(self, user_id: UUID, former: str, renewed: str) -> None:
        """See `Accounts.renew_hash`."""
        check_uuid("user_id", user_id)
        check_hash(former)
        check_hash(renewed)
        await self._database.run(change_rows, _RENEW_HASH, user_id, former, renewed)

    async def sign_in(self, user_id: UUID, password_hash: str, sign_in: NewSignIn) -> bool:
        """See `Accounts.sign_in`."""
        check_uuid("user_id", user_id)
        check_hash(password_hash)
        check_a("sign_in", sign_in, NewSignIn)
        return await self._database.transact(
            _sign_in, user_id, password_hash, sign_in, channel=SESSIONS
        )

    async def who(self, digest: bytes) -> Member | None:
        """See `Accounts.who`."""
        check_digest(digest)
        return await self._database.run(_who, digest)

    async def sign_out(self, session_id: SessionId) -> None:
        """See `Accounts.sign_out`."""
        check_session(session_id)
        await self._database.run(_end, "session_id = $1", session_id, channel=SESSIONS)

    async def sign_ins(self, user_id: UUID) -> Sequence[SignIn]:
        """See `Accounts.sign_ins`."""
        check_uuid("user_id", user_id)
        return await self._database.run(_sign_ins, user_id)

    async def end_sign_in(self, user_id: UUID, reference: UUID) -> bool:
        """See `Accounts.end_sign_in`."""
        check_uuid("user_id", user_id)
        check_uuid("reference", reference)
        which = "user_id = $1 AND id = $2"
        return bool(await self._database.run(_end, which, user_id, reference, channel=SESSIONS))

    async def end_others(self, user_id: UUID, reference: UUID) -> int:
        """See `Accounts.end_others`."""
        check_uuid("user_id", user_id)
        check_uuid("reference", reference)
        which = "user_id = $1 AND id <> $2"
        return await self._database.run(_end, which, user_id, reference, channel=SESSIONS)

    async def change_password(self, change: NewPassword) -> bool:
        """See `Accounts.change_password`."""
        check_a("change", change, NewPassword)
        return await self._database.transact(_change_password, change, channel=SESSIONS)

    async def delete(self, user_id: UUID, former_hash: str) -> bool:
        """See `Accounts.delete`."""
        check_uuid("user_id", user_id)
        check_hash(former_hash)
        return await self._database.transact(_delete, user_id, former_hash, channel=SESSIONS)

    async def grant(self, username: str, role: Role) -> Role | None:
        """See `Accounts.grant`."""
        check_text("username", username, 1024)
        check_role(role)
        return await self._database.transact(_grant, username, role, channel=SESSIONS)

    async def named(self, username: str) -> tuple[UUID, Role] | None:
        """See `Accounts.named`."""
        check_text("username", username, 1024)
        return await self._database.run(_named, username)

    async def roles(self, user_ids: Sequence[UUID]) -> Mapping[UUID, Role]:
        """See `Accounts.roles`."""
        return await self._database.run(_roles, check_users(user_ids))

    async def sweep(self, limit: int = 1000) -> Swept:
        """See `Accounts.sweep`."""
        check_limit(limit)
        return await self._database.run(_sweep, limit, channel=SESSIONS)


async def _register(connection: Connection, account: NewAccount, sign_in: NewSignIn) -> None:
    await connection.execute(_ADD_USER, account.user_id, account.username, account.email)
    await connection.execute(
        "INSERT INTO credentials (user_id, password_hash) VALUES ($1, $2)",
        account.user_id,
        account.password_hash,
    )
    await connection.execute(_ADD_MEMBERSHIP, account.user_id, LOBBY)
    await connection.execute(_AUDIT, str(account.user_id), "account.register")
    await _add_sign_in(connection, account.user_id, sign_in)


async def _sign_in(
    connection: Connection, user_id: UUID, password_hash: str, sign_in: NewSignIn
) -> bool:
    # Its lock lets sign-ins of one person stand in line, so that no two of them leave a sixth; and
    # behind a change of the password, after which the hash is looked at.
    found = await connection.fetchval(
        "SELECT 1 FROM credentials WHERE user_id = $1 AND password_hash = $2 FOR UPDATE",
        user_id,
        password_hash,
    )
    if found is None:
        return False
    await _add_sign_in(connection, user_id, sign_in)
    kept = SIGN_INS_PER_USER_MAX - 1
    await _end(connection, _OVER_NUMBER, user_id, sign_in.reference, kept)
    return True


async def _add_sign_in(connection: Connection, user_id: UUID, sign_in: NewSignIn) -> None:
    if sign_in.former is not None:
        await _end(connection, "session_id = $1", sign_in.former)
        await connection.execute(_END_SESSION, sign_in.former, user_id)
    await connection.execute(
        _ADD_SIGN_IN,
        sign_in.reference,
        sign_in.digest,
        user_id,
        sign_in.session_id,
        sign_in.browser,
    )


async def _end(connection: Connection, which: str, *args: object) -> int:
    # `which` is one of the conditions of this file, never anybody's text.
    return int(await connection.fetchval(_END.format(which=which), *args))


async def _credentials(connection: Connection, which: str, value: object) -> Credentials | None:
    row = await connection.fetchrow(_CREDENTIALS + which, value)
    return None if row is None else Credentials(**row)


async def _who(connection: Connection, digest: bytes) -> Member | None:
    row = await connection.fetchrow(_WHO, digest, SIGN_IN_IDLE, SIGN_IN_KEPT, SEEN_EVERY)
    if row is None:
        return None
    return Member(
        row["user_id"],
        row["username"],
        row["email"],
        Role(row["role"]),
        row["created_at"],
        row["id"],
        SessionId(row["session_id"]),
    )


async def _sign_ins(connection: Connection, user_id: UUID) -> list[SignIn]:
    rows = await connection.fetch(_SIGN_INS, user_id, SIGN_IN_IDLE, SIGN_IN_KEPT)
    return [SignIn(row["id"], row["browser"], row["created_at"], row["seen_at"]) for row in rows]


async def _change_password(connection: Connection, change: NewPassword) -> bool:
    changed = await change_rows(
        connection, _CHANGE_HASH, change.user_id, change.former_hash, change.password_hash
    )
    if changed != 1:
        return False
    await connection.execute(
        "UPDATE sign_ins SET digest = $3 WHERE user_id = $1 AND id = $2",
        change.user_id,
        change.reference,
        change.digest,
    )
    if change.ends_others:
        await _end(connection, "user_id = $1 AND id <> $2", change.user_id, change.reference)
    await connection.execute(_AUDIT, str(change.user_id), "account.password")
    await add_new_messages(connection, change.outbox)
    return True


async def _delete(connection: Connection, user_id: UUID, former_hash: str) -> bool:
    gone = await change_rows(
        connection,
        "DELETE FROM credentials WHERE user_id = $1 AND password_hash = $2",
        user_id,
        former_hash,
    )
    if gone != 1:
        return False
    await _end(connection, "user_id = $1", user_id)
    await connection.execute(_FORGET_MEMBER, user_id)
    await connection.execute("DELETE FROM chat_room_memberships WHERE user_id = $1", user_id)
    await connection.execute(_SCRUB, user_id, DELETED_NAME)
    await connection.execute(_AUDIT, str(user_id), "account.delete")
    await forget_subject(connection, user_subject(user_id), FORGOTTEN_BY)
    return True


async def _grant(connection: Connection, username: str, role: Role) -> Role | None:
    await connection.execute(_LOCK_NAMED, username)
    row = await connection.fetchrow(_GRANT, username, role.value)
    if row is None:
        return None
    before = Role(row["role"])
    if before is not role:
        await connection.execute(_AUDIT_ROLE, str(row["id"]))
    if is_taken_away(before, role):
        await _end(connection, "user_id = $1", row["id"])
    return before


async def _roles(connection: Connection, user_ids: list[UUID]) -> dict[UUID, Role]:
    rows = await connection.fetch(
        "SELECT id, role FROM users WHERE id = ANY($1) AND deleted_at IS NULL", user_ids
    )
    return {row["id"]: Role(row["role"]) for row in rows}


async def _named(connection: Connection, username: str) -> tuple[UUID, Role] | None:
    row = await connection.fetchrow(
        "SELECT id, role FROM users WHERE username = $1 AND deleted_at IS NULL", username
    )
    return None if row is None else (row["id"], Role(row["role"]))


async def _sweep(connection: Connection, limit: int) -> Swept:
    count = await _end(connection, _OVER_TIME, SIGN_IN_IDLE, SIGN_IN_KEPT, limit)
    left: float | None = await connection.fetchval(_NEXT_OVER, SIGN_IN_IDLE, SIGN_IN_KEPT)
    return Swept(count, None if left is None else max(0.0, left))
