"""Passkeys in PostgreSQL; the twin of `storage/memory/accounts/ways/passkeys.py`.

Times are the server's. Whoever changes one has the row of its account's credentials locked, as for
all factors.
"""

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

import asyncpg

from actors.accounts.kept.audit import Act, Entry, Origin
from actors.accounts.kept.factors import PasskeyProof
from actors.accounts.kept.factors.port import check_removal
from actors.accounts.members import NOWHERE, Level, NewSignIn
from actors.accounts.ways.left import is_way_left
from actors.accounts.ways.links import Entered, entered
from actors.accounts.ways.passkeys import (
    CHALLENGE_KEPT,
    PASSKEYS_PER_USER_MAX,
    Added,
    ChallengeClaim,
    NewChallenge,
    NewPasskey,
    Passkey,
    Removal,
    Removed,
    Taken,
)
from actors.accounts.ways.passkeys.words import check_passkey_name
from actors.persistence import OutboxMessage
from actors.persistence.words import check_a, check_text, check_uuid
from storage.postgres.accounts.audit import begin, record
from storage.postgres.accounts.factors import drop_codes_without_factor, set_codes
from storage.postgres.accounts.members import admit, renew_own
from storage.postgres.accounts.proving import is_alive, kept_ways, move_passkey, stop_recovery
from storage.postgres.connecting.database import Database
from storage.postgres.connecting.notices import SESSIONS
from storage.postgres.connecting.session import Connection, change_rows
from storage.postgres.outbox import add_new_messages

# Each removes more than it adds when there is that much to remove, as with tickets for sockets.
_ISSUE = """
WITH over AS (
    DELETE FROM passkey_challenges WHERE digest = ANY(ARRAY(
        SELECT digest FROM passkey_challenges WHERE expires_at <= clock_timestamp()
        ORDER BY expires_at LIMIT 10 FOR UPDATE SKIP LOCKED))
)
INSERT INTO passkey_challenges (digest, ceremony, bound, user_id, expires_at)
VALUES ($1, $2, $3, $4, clock_timestamp() + $5::interval)
"""
_TAKE = """
WITH taken AS (
    DELETE FROM passkey_challenges WHERE digest = $1 AND ceremony = $2 AND bound = $3
    RETURNING user_id AS whose, expires_at
)
SELECT taken.whose, p.id, p.user_id, p.credential_id, p.public_key, p.sign_count,
    p.is_backup_eligible, p.is_backed_up, p.is_attested, p.name, p.added_at, p.used_at, p.flagged_at
FROM taken LEFT JOIN passkeys p ON p.credential_id = $4
WHERE taken.expires_at > clock_timestamp()
"""
_OF_USER = """
SELECT p.id, p.user_id, p.credential_id, p.public_key, p.sign_count, p.is_backup_eligible,
    p.is_backed_up, p.is_attested, p.name, p.added_at, p.used_at, p.flagged_at
FROM passkeys p WHERE p.user_id = $1 ORDER BY p.added_at, p.id
"""
_OF_EMAIL = """
SELECT u.id, p.credential_id FROM users u LEFT JOIN passkeys p ON p.user_id = u.id
WHERE u.email = $1 AND u.deleted_at IS NULL ORDER BY p.added_at, p.id
"""
_IS_THEIRS = "SELECT 1 FROM passkeys WHERE id = $1 AND user_id = $2"
_COUNT = "SELECT count(*) FROM passkeys WHERE user_id = $1"
_ADD = """
INSERT INTO passkeys (id, user_id, credential_id, public_key, sign_count, is_backup_eligible,
    is_backed_up, is_attested, name)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (credential_id) DO NOTHING
"""
_RAISE = "UPDATE sign_ins SET level = greatest(level, $3) WHERE user_id = $1 AND id = $2"
_FLAG = """
UPDATE passkeys SET flagged_at = coalesce(flagged_at, clock_timestamp())
WHERE user_id = $1 AND credential_id = $2 AND $3 <= sign_count AND sign_count > 0
RETURNING id
"""


class PostgresPasskeys:
    """The port `Passkeys` on a `Database`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def issue(self, challenge: NewChallenge) -> None:
        """See `Passkeys.issue`."""
        check_a("challenge", challenge, NewChallenge)
        await self._database.run(
            change_rows,
            _ISSUE,
            challenge.digest,
            challenge.ceremony.value,
            challenge.bound,
            challenge.user_id,
            CHALLENGE_KEPT,
        )

    async def take(self, claim: ChallengeClaim) -> Taken | None:
        """See `Passkeys.take`."""
        check_a("claim", claim, ChallengeClaim)
        return await self._database.run(_take, claim)

    async def of_user(self, user_id: UUID) -> Sequence[Passkey]:
        """See `Passkeys.of_user`."""
        check_uuid("user_id", user_id)
        return await self._database.run(_of_user, user_id)

    async def of_email(self, email: str) -> tuple[UUID | None, Sequence[bytes]]:
        """See `Passkeys.of_email`."""
        check_text("email", email, 1024)
        return await self._database.run(_of_email, email)

    async def add(self, new: NewPasskey, origin: Origin) -> Added:
        """See `Passkeys.add`."""
        check_a("new", new, NewPasskey)
        check_a("origin", origin, Origin)
        return await self._database.transact(_add, new, origin, channel=SESSIONS)

    async def enter(
        self, user_id: UUID, proof: PasskeyProof, sign_in: NewSignIn, origin: Origin = NOWHERE
    ) -> Entered | None:
        """See `Passkeys.enter`."""
        check_a("origin", origin, Origin)
        check_uuid("user_id", user_id)
        check_a("proof", proof, PasskeyProof)
        check_a("sign_in", sign_in, NewSignIn)
        return await self._database.transact(
            _enter, user_id, proof, sign_in, origin, channel=SESSIONS
        )

    async def note_fall(
        self,
        user_id: UUID,
        proof: PasskeyProof,
        origin: Origin,
        outbox: Sequence[OutboxMessage] = (),
    ) -> bool:
        """See `Passkeys.note_fall`."""
        check_removal(user_id, origin, outbox)
        check_a("proof", proof, PasskeyProof)
        return await self._database.transact(_note_fall, user_id, proof, origin, outbox)

    async def rename(self, user_id: UUID, id_: UUID, name: str) -> bool:
        """See `Passkeys.rename`."""
        check_uuid("user_id", user_id)
        check_uuid("id_", id_)
        given = check_passkey_name(name)
        statement = "UPDATE passkeys SET name = $3 WHERE user_id = $1 AND id = $2"
        return bool(await self._database.run(change_rows, statement, user_id, id_, given))

    async def remove(self, removal: Removal, origin: Origin) -> Removed:
        """See `Passkeys.remove`."""
        check_a("removal", removal, Removal)
        check_a("origin", origin, Origin)
        return await self._database.transact(_remove, removal, origin, channel=SESSIONS)


async def _take(connection: Connection, claim: ChallengeClaim) -> Taken | None:
    row = await connection.fetchrow(
        _TAKE, claim.digest, claim.ceremony.value, claim.bound, claim.credential_id
    )
    if row is None:
        return None
    whose, *passkey = row
    return Taken(whose, None if passkey[0] is None else Passkey(*passkey))


async def _of_user(connection: Connection, user_id: UUID) -> list[Passkey]:
    return [Passkey(*row) for row in await connection.fetch(_OF_USER, user_id)]


async def _of_email(connection: Connection, email: str) -> tuple[UUID | None, tuple[bytes, ...]]:
    rows: list[asyncpg.Record] = await connection.fetch(_OF_EMAIL, email)
    ids = (row["credential_id"] for row in rows if row["credential_id"] is not None)
    return (rows[0]["id"] if rows else None), tuple(ids)


async def _add(connection: Connection, new: NewPasskey, origin: Origin) -> Added:
    await begin(connection, new.user_id)
    is_there = await is_alive(connection, new.user_id, new.reference)  # locks the credentials
    if not is_there:
        return Added.OVER
    if await connection.fetchval(_COUNT, new.user_id) >= PASSKEYS_PER_USER_MAX:
        return Added.TOO_MANY
    added = await change_rows(
        connection,
        _ADD,
        new.id,
        new.user_id,
        new.credential_id,
        new.public_key,
        new.sign_count,
        new.is_backup_eligible,
        new.is_backed_up,
        new.is_attested,
        check_passkey_name(new.name),
    )
    if not added:
        return Added.KNOWN
    if new.codes:
        await set_codes(connection, new.user_id, new.codes)
    await renew_own(connection, new.user_id, new.reference, new.digest, ends_others=new.ends_others)
    await connection.execute(_RAISE, new.user_id, new.reference, int(Level.MULTI_FACTOR))
    await add_new_messages(connection, new.outbox)
    entry = Entry(Act.PASSKEY_ADD, new.user_id, origin)
    await record(connection, entry, {"passkey": str(new.id)})
    return Added.DONE


async def _enter(
    connection: Connection,
    user_id: UUID,
    proof: PasskeyProof,
    sign_in: NewSignIn,
    origin: Origin,
) -> Entered | None:
    await begin(connection, user_id)
    used = await move_passkey(connection, user_id, proof, origin, is_alone=True)
    if used is None:
        return None
    if not proof.is_verified:
        await record(connection, *used.act)
        return Entered(user_id, used.username, used.email, False, 0, needs_second=True)
    if used.is_recovered:
        await stop_recovery(connection, user_id, origin, sign_in.tell_stopped)
    ended = await admit(connection, user_id, sign_in, origin, [used.act], proof)
    return entered(user_id, used.username, used.email, ended)


async def _note_fall(
    connection: Connection,
    user_id: UUID,
    proof: PasskeyProof,
    origin: Origin,
    outbox: Sequence[OutboxMessage],
) -> bool:
    await begin(connection, user_id)
    id_ = await connection.fetchval(_FLAG, user_id, proof.credential_id, proof.sign_count)
    if id_ is None:
        return False
    await add_new_messages(connection, outbox)
    entry = Entry(Act.COUNTER_FELL, user_id, origin, "counter")
    await record(connection, entry, {"passkey": str(id_)})
    return True


async def _remove(connection: Connection, removal: Removal, origin: Origin) -> Removed:
    user_id = removal.user_id
    await begin(connection, user_id)
    ways = await kept_ways(connection, user_id)
    is_theirs = await connection.fetchval(_IS_THEIRS, removal.id, user_id)
    if ways is None or is_theirs is None:
        return Removed.UNKNOWN
    left = replace(ways, passkeys_count=ways.passkeys_count - 1)
    if not is_way_left(left, removal.offered):
        return Removed.LAST
    if not await is_alive(connection, user_id, removal.reference):
        return Removed.OVER
    await connection.execute("DELETE FROM passkeys WHERE id = $1", removal.id)
    await drop_codes_without_factor(connection, user_id)
    await renew_own(
        connection, user_id, removal.reference, removal.digest, ends_others=removal.ends_others
    )
    await add_new_messages(connection, removal.outbox)
    entry = Entry(Act.PASSKEY_REMOVE, user_id, origin)
    await record(connection, entry, {"passkey": str(removal.id)})
    return Removed.DONE
