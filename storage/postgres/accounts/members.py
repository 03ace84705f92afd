"""Accounts and their sign-ins in PostgreSQL; the twin of `storage/memory/accounts/members.py`.

Times are the server's. A sign-in that ends leaves a row in `session_ends` in the same transaction,
and what was committed rings for every process.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from uuid import UUID

import trio

from actors.accounts.kept.audit import Act, Entry, Origin, user_stream
from actors.accounts.kept.factors import PasskeyProof
from actors.accounts.kept.risk.words import LIMITED_FOR, Outcome, Proven, Withheld
from actors.accounts.members import (
    DELETED_NAME,
    FORGOTTEN_BY,
    NOWHERE,
    SEEN_EVERY,
    SIGN_IN_IDLE,
    SIGN_IN_KEPT,
    SIGN_INS_PER_USER_MAX,
    Credentials,
    Level,
    Member,
    NewAccount,
    NewPassword,
    NewSignIn,
    Operator,
    Role,
    SignIn,
    StepUp,
    Swept,
    Taken,
    check_hash,
    check_revoke,
    check_role,
    check_sign_in_name,
    is_taken_away,
)
from actors.accounts.ports import check_digest, check_session, check_users
from actors.accounts.words import SessionId
from actors.chat import LOBBY, user_subject
from actors.persistence.beside_log.outbox import check_messages
from actors.persistence.event_store import check_limit
from actors.persistence.words import check_a, check_text, check_uuid
from storage.errors import StatementRefused
from storage.postgres.accounts.audit import NotedAct, begin, record, record_acts
from storage.postgres.accounts.kept.lately import Lately
from storage.postgres.accounts.kept.logins import Arrived, arrive, keep_login
from storage.postgres.accounts.kept.tokens import end_tokens, sweep_tokens
from storage.postgres.accounts.proving import is_alive, is_open_there, note_provider, use_proof
from storage.postgres.connecting.database import Database
from storage.postgres.connecting.notices import SESSIONS
from storage.postgres.connecting.session import Connection, change_rows
from storage.postgres.events.appending import wait_in_line
from storage.postgres.events.subject_keys import forget_subject
from storage.postgres.outbox import add_new_messages

# Of a site with many members one transaction would hold too many rows.
_REVOKED_AT_ONCE = 200

_TAKEN = {"users_username_key": Taken.USERNAME, "users_email_key": Taken.EMAIL}

_ADD_USER = """
INSERT INTO users (id, username, display_name, email) VALUES ($1, $2, $2, $3)
"""
_ADD_MEMBERSHIP = """
INSERT INTO chat_room_memberships (room_id, user_id) SELECT id, $1 FROM chat_rooms WHERE name = $2
"""
_CREDENTIALS = """
SELECT u.id AS user_id, u.username, u.email, c.password_hash,
    has_second_factor(u.id) AS has_second
FROM users u JOIN credentials c ON c.user_id = u.id WHERE
"""
_RENEW_HASH = """
UPDATE credentials SET password_hash = $3 WHERE user_id = $1 AND password_hash = $2
"""
_CHANGE_HASH = """
UPDATE credentials SET password_hash = $2, changed_at = clock_timestamp(), epoch = epoch + $3::int
WHERE user_id = $1
"""
# Adds one, and ends what it replaces: the session its browser had, `$12`, and the oldest of too
# many, whose number is told. The one that is added does not see itself. The browser's is over
# whether there was a sign-in in it or not, and was of whoever signs in now.
_ADD_SIGN_IN = """
WITH added AS (
    INSERT INTO sign_ins (id, digest, user_id, session_id, browser, address, method, level, epoch,
        device, is_limited)
    SELECT $1, $2, $3, $4, $5, $6, $7, $8, c.epoch, $10, $11
    FROM credentials c WHERE c.user_id = $3
), gone AS (
    DELETE FROM sign_ins WHERE session_id = $12 OR id = ANY(ARRAY(
        SELECT id FROM sign_ins WHERE user_id = $3 AND session_id IS DISTINCT FROM $12
        ORDER BY seen_at DESC, created_at DESC OFFSET $9))
    RETURNING session_id, user_id
), ended AS (
    INSERT INTO session_ends AS e (session_id, how, members)
    SELECT session_id, 'ended', array_agg(DISTINCT user_id) FROM (
        SELECT session_id, user_id FROM gone UNION ALL SELECT $12, $3 WHERE $12 IS NOT NULL
    ) over GROUP BY 1 ORDER BY 1
    ON CONFLICT (session_id) DO UPDATE
        SET members = ARRAY(SELECT DISTINCT unnest(e.members || excluded.members)))
SELECT count(*) FROM gone WHERE session_id IS DISTINCT FROM $12
"""
# In the order of ids, as everybody who ends sessions: nobody waits in a circle. Whose a session was
# stays known for as long as what was written in it.
_END = """
WITH gone AS (DELETE FROM sign_ins WHERE {which} RETURNING session_id, user_id), ended AS (
    INSERT INTO session_ends AS e (session_id, how, members)
    SELECT session_id, 'ended', ARRAY[user_id] FROM gone ORDER BY 1
    ON CONFLICT (session_id) DO UPDATE
        SET members = ARRAY(SELECT DISTINCT unnest(e.members || excluded.members)))
SELECT user_id, count(*) AS count FROM gone GROUP BY 1
"""
_FORGET_MEMBER = """
UPDATE session_ends SET members = array_remove(members, $1::uuid) WHERE session_id = ANY(ARRAY(
    SELECT session_id FROM session_ends WHERE members @> ARRAY[$1::uuid] ORDER BY 1 FOR UPDATE))
"""
# Of requests at once the first writes, and the others find that it did.
_WHO = """
WITH found AS (
    SELECT s.id, s.session_id, u.id AS user_id, u.username, u.email, u.role, u.created_at,
        s.level, clock_timestamp() - s.proven_at AS proven_ago,
        has_second_factor(u.id) AS has_second, s.is_limited AND s.level < 2
            AND s.created_at > clock_timestamp() - $5::interval AS is_limited,
        greatest(c.guarded_until - clock_timestamp(), interval '0') AS guarded_for
    FROM sign_ins s JOIN users u ON u.id = s.user_id
        JOIN credentials c ON c.user_id = s.user_id AND c.epoch = s.epoch
    WHERE s.digest = $1 AND s.seen_at > clock_timestamp() - $2::interval
        AND s.created_at > clock_timestamp() - $3::interval
), seen AS (
    UPDATE sign_ins s SET seen_at = clock_timestamp() FROM found
    WHERE s.id = found.id AND s.seen_at <= clock_timestamp() - $4::interval
)
SELECT * FROM found
"""
_SIGN_INS = """
SELECT s.id, s.browser, s.created_at, s.seen_at, s.address, s.name, s.user_id, u.username
FROM sign_ins s JOIN credentials c ON c.user_id = s.user_id AND c.epoch = s.epoch
    JOIN users u ON u.id = s.user_id
WHERE ($1::uuid IS NULL OR s.user_id = $1) AND s.seen_at > clock_timestamp() - $2::interval
    AND s.created_at > clock_timestamp() - $3::interval
ORDER BY s.created_at DESC, s.id LIMIT $4
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
_STEP_UP = """
UPDATE sign_ins SET digest = $3, proven_at = clock_timestamp(), level = greatest(level, $4)
WHERE user_id = $1 AND id = $2
"""
_RENEWED = """
UPDATE sign_ins SET digest = $3, proven_at = clock_timestamp(),
    epoch = (SELECT epoch FROM credentials WHERE user_id = $1)
WHERE user_id = $1 AND id = $2
"""
_OPERATES = """
SELECT 1 FROM sign_ins s JOIN credentials c ON c.user_id = s.user_id AND c.epoch = s.epoch
    JOIN users u ON u.id = s.user_id
WHERE s.user_id = $1 AND s.id = $2 AND u.role = 'admin'
"""
_REVOKED_USERS = """
SELECT user_id FROM sign_ins
WHERE ($1::uuid IS NULL OR id = $1) AND ($2::uuid IS NULL OR user_id = $2)
UNION
SELECT user_id FROM api_tokens WHERE $1 IS NULL AND ($2::uuid IS NULL OR user_id = $2)
ORDER BY user_id LIMIT $3
"""


class PostgresAccounts:
    """The port `Accounts` on a `Database`."""

    def __init__(self, database: Database) -> None:
        self._database, self._lately = database, Lately()

    async def register(
        self, account: NewAccount, sign_in: NewSignIn, origin: Origin = NOWHERE
    ) -> Taken | None:
        """See `Accounts.register`."""
        check_a("origin", origin, Origin)
        check_a("account", account, NewAccount)
        check_a("sign_in", sign_in, NewSignIn)
        try:
            await self._database.transact(_register, account, sign_in, origin, channel=SESSIONS)
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

    async def sign_in(
        self, user_id: UUID, password_hash: str, sign_in: NewSignIn, origin: Origin = NOWHERE
    ) -> int | Withheld | None:
        """See `Accounts.sign_in`."""
        check_a("origin", origin, Origin)
        check_uuid("user_id", user_id)
        check_hash(password_hash)
        check_a("sign_in", sign_in, NewSignIn)
        return await self._database.transact(
            _sign_in, user_id, password_hash, sign_in, origin, channel=SESSIONS
        )

    async def who(self, digest: bytes) -> Member | None:
        """See `Accounts.who`."""
        check_digest(digest)
        return await self._database.run(_who, digest)

    async def who_lately(self, digest: bytes) -> Member | None:
        """See `Accounts.who_lately`."""
        check_digest(digest)
        now, rung = trio.current_time(), self._database.rung(SESSIONS)
        member = self._lately.get(digest, now, rung)
        if member is None:
            member = await self._database.run(_who, digest)
            # Of several askers each has its own answer: another may have seen a ring since.
            if member is not None and rung == self._database.rung(SESSIONS):
                self._lately.keep(digest, member, now, rung)
        return member

    async def sign_out(self, session_id: SessionId, origin: Origin = NOWHERE) -> None:
        """See `Accounts.sign_out`."""
        check_a("origin", origin, Origin)
        check_session(session_id)
        await self._database.transact(_sign_out, session_id, origin, channel=SESSIONS)

    async def sign_ins(self, user_id: UUID) -> Sequence[SignIn]:
        """See `Accounts.sign_ins`."""
        check_uuid("user_id", user_id)
        return await self._database.run(_sign_ins, user_id, SIGN_INS_PER_USER_MAX)

    async def name_sign_in(self, user_id: UUID, reference: UUID, name: str) -> bool:
        """See `Accounts.name_sign_in`."""
        check_uuid("user_id", user_id)
        check_uuid("reference", reference)
        given = check_sign_in_name(name)
        statement = "UPDATE sign_ins SET name = $3 WHERE user_id = $1 AND id = $2"
        return bool(await self._database.run(change_rows, statement, user_id, reference, given))

    async def end_sign_in(
        self, user_id: UUID, reference: UUID, origin: Origin = NOWHERE, *, by: UUID
    ) -> bool:
        """See `Accounts.end_sign_in`."""
        check_a("origin", origin, Origin)
        check_uuid("user_id", user_id)
        check_uuid("reference", reference)
        check_uuid("by", by)
        which = "user_id = $1 AND id = $2"
        return bool(
            await self._database.transact(
                _end_some, which, user_id, reference, by, origin, channel=SESSIONS
            )
        )

    async def end_others(
        self, user_id: UUID, reference: UUID, origin: Origin = NOWHERE
    ) -> int | None:
        """See `Accounts.end_others`."""
        check_a("origin", origin, Origin)
        check_uuid("user_id", user_id)
        check_uuid("reference", reference)
        which = "user_id = $1 AND id <> $2"
        return await self._database.transact(
            _end_some, which, user_id, reference, reference, origin, channel=SESSIONS
        )

    async def step_up(self, step: StepUp, origin: Origin = NOWHERE) -> bool:
        """See `Accounts.step_up`."""
        check_a("origin", origin, Origin)
        check_a("step", step, StepUp)
        return await self._database.transact(_step_up, step, origin)

    async def all_sign_ins(
        self, user_id: UUID | None = None, *, limit: int = 1000
    ) -> Sequence[SignIn]:
        """See `Accounts.all_sign_ins`."""
        if user_id is not None:
            check_uuid("user_id", user_id)
        check_limit(limit)
        return await self._database.run(_sign_ins, user_id, limit)

    async def revoke(
        self,
        *,
        reference: UUID | None = None,
        user_id: UUID | None = None,
        by: Operator | None = None,
        origin: Origin = NOWHERE,
    ) -> int:
        """See `Accounts.revoke`."""
        check_revoke(reference, user_id, by, origin)
        who = None if by is None else by.user_id
        # Asked once: of all sign-ins the operator's own may be among the first that end.
        if by is not None and not await self._database.run(_operates, by):
            return 0
        count = 0
        # A piece at a time: each is one transaction, and its sessions close at once.
        while ended := await self._database.transact(
            _revoke, reference, user_id, who, origin, channel=SESSIONS
        ):
            count += ended
        return count

    async def change_password(self, change: NewPassword, origin: Origin = NOWHERE) -> bool:
        """See `Accounts.change_password`."""
        check_a("origin", origin, Origin)
        check_a("change", change, NewPassword)
        return await self._database.transact(_change_password, change, origin, channel=SESSIONS)

    async def delete(
        self, user_id: UUID, former_hash: str, origin: Origin = NOWHERE, *, by: UUID | None
    ) -> bool:
        """See `Accounts.delete`."""
        check_a("origin", origin, Origin)
        check_uuid("user_id", user_id)
        check_hash(former_hash)
        if by is not None:
            check_uuid("by", by)
        return await self._database.transact(
            _delete, user_id, former_hash, by, origin, channel=SESSIONS
        )

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


async def _register(
    connection: Connection, account: NewAccount, sign_in: NewSignIn, origin: Origin
) -> None:
    await begin(connection, account.user_id)
    await make_account(connection, account)
    arrived = None
    if sign_in.arrival is not None:
        # Whoever makes an account is its owner: there is nothing to judge.
        here = replace(sign_in.arrival, judge=None)
        arrived = await arrive(connection, account.user_id, here, Proven())
    await _add_sign_in(connection, account.user_id, sign_in, origin, arrived)
    done: list[NotedAct] = [(Entry(Act.REGISTER, account.user_id, origin), {})]
    if sign_in.arrival is not None and arrived is not None:
        user_id = account.user_id
        done += await keep_login(connection, user_id, sign_in.arrival, arrived, origin, None)
    await record_acts(connection, done)


async def make_account(connection: Connection, account: NewAccount) -> None:
    """Call this in the act's transaction to make an account, a member of the Lobby."""
    await connection.execute(_ADD_USER, account.user_id, account.username, account.email)
    await connection.execute(
        "INSERT INTO credentials (user_id, password_hash) VALUES ($1, $2)",
        account.user_id,
        account.password_hash,
    )
    await connection.execute(_ADD_MEMBERSHIP, account.user_id, LOBBY)


async def _sign_in(
    connection: Connection, user_id: UUID, password_hash: str, sign_in: NewSignIn, origin: Origin
) -> int | Withheld | None:
    await begin(connection, user_id)
    # Its lock lets sign-ins of one person stand in line, so that no two of them leave a sixth; and
    # behind a change of the password, after which the hash is looked at.
    found = await connection.fetchval(
        "SELECT 1 FROM credentials WHERE user_id = $1 AND password_hash = $2 FOR UPDATE",
        user_id,
        password_hash,
    )
    if not await is_open_there(connection, user_id, sign_in.at_provider):
        return None
    if found is None or not await use_proof(
        connection,
        user_id,
        sign_in.proof,
        origin,
        by_mailbox=sign_in.by_mailbox,
        tell_stopped=sign_in.tell_stopped,
    ):
        return None
    await add_new_messages(connection, check_messages(sign_in.outbox))
    return await admit(connection, user_id, sign_in, origin)


async def admit(
    connection: Connection,
    user_id: UUID,
    sign_in: NewSignIn,
    origin: Origin,
    acts: Sequence[NotedAct] = (),
    key: PasskeyProof | None = None,
) -> int | Withheld:
    """Call this in the act's transaction, with the row of the credentials locked.

    However somebody proved who they are: the oldest of more than five sign-ins end; how many. Or
    its risk asks for more, and nobody is signed in. `acts` are those of this person that led to it,
    and are written first; `key` is a passkey that signs in alone.
    """
    arrived = None
    if sign_in.arrival is not None:
        arrived = await arrive(connection, user_id, sign_in.arrival, sign_in.proven(key))
    outcome = Outcome.ENTERED if arrived is None else arrived.judgement.outcome
    ended = 0
    if outcome.is_in:
        ended = await _add_sign_in(connection, user_id, sign_in, origin, arrived)
    entry = Entry(Act.SIGN_IN, user_id, origin, "" if outcome.is_in else "risk")
    facts = {"reference": str(sign_in.reference)}
    done: list[NotedAct] = [*acts, (entry, facts)]
    if sign_in.arrival is not None and arrived is not None:
        facts |= arrived.judgement.facts
        by = key or sign_in.proof
        used = by.credential_id if isinstance(by, PasskeyProof) else None
        done += await keep_login(connection, user_id, sign_in.arrival, arrived, origin, used)
    if ended:
        done.append((Entry(Act.END_SIGN_IN, user_id, origin), {"because": "too_many"}))
    await record_acts(connection, done)
    return ended if outcome.is_in else Withheld(outcome)


async def _add_sign_in(
    connection: Connection,
    user_id: UUID,
    sign_in: NewSignIn,
    origin: Origin,
    arrived: Arrived | None = None,
) -> int:
    """Add it, and end what it replaces; gives how many others it ended for their number."""
    ended: int = await connection.fetchval(
        _ADD_SIGN_IN,
        sign_in.reference,
        sign_in.digest,
        user_id,
        sign_in.session_id,
        sign_in.browser,
        origin.address,
        origin.method,
        int(sign_in.level),
        SIGN_INS_PER_USER_MAX - 1,
        None if arrived is None else arrived.device,
        arrived is not None and arrived.judgement.outcome is Outcome.LIMITED,
        sign_in.former,
    )
    if sign_in.at_provider is not None:
        await note_provider(connection, user_id, sign_in.reference, sign_in.at_provider)
    return ended


async def end_references(connection: Connection, references: Sequence[UUID]) -> dict[UUID, int]:
    """Call this in an act's transaction to end sign-ins by their ids; gives how many of whom."""
    return await _end(connection, "id = ANY($1)", list(references))


async def _end(connection: Connection, which: str, *args: object) -> dict[UUID, int]:
    """End sign-ins; gives how many of whom."""
    # A text of this file, never anybody's.
    rows = await connection.fetch(_END.format(which=which), *args)
    return {row["user_id"]: row["count"] for row in rows}


async def _sign_out(connection: Connection, session_id: SessionId, origin: Origin) -> None:
    user_id = await connection.fetchval(
        "SELECT user_id FROM sign_ins WHERE session_id = $1", session_id
    )
    if user_id is None:
        return
    await begin(connection, user_id)
    if await _end(connection, "session_id = $1", session_id):
        await record(connection, Entry(Act.SIGN_OUT, user_id, origin))


async def _end_some(
    connection: Connection, which: str, user_id: UUID, reference: UUID, by: UUID, origin: Origin
) -> int | None:
    await begin(connection, user_id)
    if not await is_alive(connection, user_id, by):
        return None
    count = sum((await _end(connection, which, user_id, reference)).values())
    if count:
        entry = Entry(Act.END_SIGN_IN, user_id, origin)
        await record(connection, entry, {"because": "owner", "count": str(count)})
    return count


async def _operates(connection: Connection, by: Operator) -> bool:
    return await connection.fetchval(_OPERATES, by.user_id, by.reference) is not None


async def _revoke(
    connection: Connection,
    reference: UUID | None,
    user_id: UUID | None,
    by: UUID | None,
    origin: Origin,
) -> int:
    rows = await connection.fetch(_REVOKED_USERS, reference, user_id, _REVOKED_AT_ONCE)
    users = [row["user_id"] for row in rows]
    if not users:
        return 0
    await wait_in_line(connection, [user_stream(user) for user in users])
    which = "user_id = ANY($1) AND ($2::uuid IS NULL OR id = $2)"
    ended = await _end(connection, which, users, reference)
    for user, count in ended.items():
        facts = {"because": "operator", "count": str(count)}
        await record(connection, Entry(Act.END_SIGN_IN, user, origin, by=by), facts)
    tokens = 0
    if reference is None:
        tokens = await end_tokens(connection, users, "operator", origin, by)
    return sum(ended.values()) + tokens


async def _step_up(connection: Connection, step: StepUp, origin: Origin) -> bool:
    await begin(connection, step.user_id)
    if not await is_alive(connection, step.user_id, step.reference, step.former_hash):
        return False
    if not await use_proof(
        connection, step.user_id, step.proof, origin, tell_stopped=step.tell_stopped
    ):
        return False
    await add_new_messages(connection, check_messages(step.outbox))
    await connection.execute(_STEP_UP, step.user_id, step.reference, step.digest, int(step.level))
    await record(connection, Entry(Act.STEP_UP, step.user_id, origin))
    return True


async def _credentials(connection: Connection, which: str, value: object) -> Credentials | None:
    row = await connection.fetchrow(_CREDENTIALS + which, value)
    return None if row is None else Credentials(**row)


async def _who(connection: Connection, digest: bytes) -> Member | None:
    row = await connection.fetchrow(
        _WHO, digest, SIGN_IN_IDLE, SIGN_IN_KEPT, SEEN_EVERY, LIMITED_FOR
    )
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
        Level(row["level"]),
        row["proven_ago"],
        row["has_second"],
        row["is_limited"],
        row["guarded_for"],
    )


async def _sign_ins(connection: Connection, user_id: UUID | None, limit: int) -> list[SignIn]:
    rows = await connection.fetch(_SIGN_INS, user_id, SIGN_IN_IDLE, SIGN_IN_KEPT, limit)
    return [SignIn(*row) for row in rows]


async def renew_own(
    connection: Connection, user_id: UUID, reference: UUID, digest: bytes, *, ends_others: bool
) -> None:
    """Call this in the act's transaction for a sign-in that goes on under a new token, fresh.

    With `ends_others` the epoch of the account ends with the other sign-ins (SEC-17). The row of
    the credentials is locked, and the sign-in known to be alive.
    """
    if ends_others:
        await connection.execute(
            "UPDATE credentials SET epoch = epoch + 1 WHERE user_id = $1", user_id
        )
        await _end(connection, "user_id = $1 AND id <> $2", user_id, reference)
        await end_tokens(connection, [user_id], "factors")
    await connection.execute(_RENEWED, user_id, reference, digest)


async def end_all(connection: Connection, user_id: UUID) -> int:
    """Call this in an act's transaction after which no sign-in of an account is good; how many.

    The row of the credentials is locked.
    """
    await connection.execute("UPDATE credentials SET epoch = epoch + 1 WHERE user_id = $1", user_id)
    await end_tokens(connection, [user_id], "doubt")
    return sum((await _end(connection, "user_id = $1", user_id)).values())


async def end_of_device(connection: Connection, user_id: UUID, device: UUID) -> int:
    """Call this in an act's transaction to end what is signed in on a device; how many ended."""
    which = "user_id = $1 AND device = $2"
    return sum((await _end(connection, which, user_id, device)).values())


async def _change_password(connection: Connection, change: NewPassword, origin: Origin) -> bool:
    await begin(connection, change.user_id)
    if not await is_alive(connection, change.user_id, change.reference, change.former_hash):
        return False
    await connection.execute(
        _CHANGE_HASH, change.user_id, change.password_hash, int(change.ends_others)
    )
    await connection.execute(_RENEWED, change.user_id, change.reference, change.digest)
    if change.ends_others:
        await _end(connection, "user_id = $1 AND id <> $2", change.user_id, change.reference)
        await end_tokens(connection, [change.user_id], "password", origin)
    await add_new_messages(connection, change.outbox)
    await record(connection, Entry(Act.PASSWORD, change.user_id, origin))
    return True


async def _delete(
    connection: Connection, user_id: UUID, former_hash: str, by: UUID | None, origin: Origin
) -> bool:
    await begin(connection, user_id)
    if by is not None and not await is_alive(connection, user_id, by):
        return False
    gone = await change_rows(
        connection,
        "DELETE FROM credentials WHERE user_id = $1 AND password_hash = $2",
        user_id,
        former_hash,
    )
    if gone != 1:
        return False
    await _end(connection, "user_id = $1", user_id)
    await end_tokens(connection, [user_id], "deletion", origin)
    await connection.execute(_FORGET_MEMBER, user_id)
    await connection.execute("DELETE FROM chat_room_memberships WHERE user_id = $1", user_id)
    await connection.execute(_SCRUB, user_id, DELETED_NAME)
    await record(connection, Entry(Act.DELETE, user_id, origin))
    await forget_subject(connection, user_subject(user_id), FORGOTTEN_BY)
    return True


async def _grant(connection: Connection, username: str, role: Role) -> Role | None:
    user_id = await connection.fetchval("SELECT id FROM users WHERE username = $1", username)
    if user_id is not None:
        await begin(connection, user_id)
    await connection.execute(_LOCK_NAMED, username)
    row = await connection.fetchrow(_GRANT, username, role.value)
    if row is None:
        return None
    before = Role(row["role"])
    if before is not role:
        # Who did it stands in the row of their command.
        entry = Entry(Act.ROLE, row["id"], NOWHERE)
        await record(connection, entry, {"before": before.value, "role": role.value})
    if is_taken_away(before, role):
        await _end(connection, "user_id = $1", row["id"])
        await end_tokens(connection, [row["id"]], "role")
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
    count = sum((await _end(connection, _OVER_TIME, SIGN_IN_IDLE, SIGN_IN_KEPT, limit)).values())
    left: float | None = await connection.fetchval(_NEXT_OVER, SIGN_IN_IDLE, SIGN_IN_KEPT)
    tokens, next_token = await sweep_tokens(connection, limit)
    waits = [max(0.0, one) for one in (left, next_token) if one is not None]
    return Swept(count, min(waits, default=None), tokens)
