"""Proofs of second factors, used up in the transaction of what they open.

Whoever changes credentials or factors of an account has the row of its credentials locked: so of a
sign-in and a factor that is added at once one sees the other.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from actors.accounts.kept.audit import Act, Entry, Origin
from actors.accounts.kept.factors import CodeProof, PasskeyProof, Proof, TotpProof
from actors.accounts.members import NO_PASSWORD
from actors.accounts.ways.left import KeptWays
from storage.postgres.accounts.audit import NotedAct, record
from storage.postgres.connecting.session import Connection, change_rows

_LOCK = """
SELECT has_second_factor($1) AS has_second, doubted_since FROM credentials
WHERE user_id = $1 FOR UPDATE
"""
_LOCK_ONLY = "SELECT 1 FROM credentials WHERE user_id = $1 FOR UPDATE"
# No step opens twice, nor one before it.
_USE_STEP = "UPDATE totp_factors SET last_step = $2 WHERE user_id = $1 AND last_step < $2"
_USE_CODE = "DELETE FROM recovery_codes WHERE user_id = $1 AND digest = $2"
# Of two uses at once with one counter the second finds that it does not grow any more (SEC-103).
_USE_PASSKEY = """
WITH whose AS MATERIALIZED (
    SELECT u.username, u.email FROM credentials c JOIN users u ON u.id = c.user_id
    WHERE c.user_id = $1 AND ($5 IS FALSE OR c.doubted_since IS NULL) FOR UPDATE OF c)
UPDATE passkeys SET sign_count = $3, is_backed_up = $4, used_at = clock_timestamp() FROM whose
WHERE user_id = $1 AND credential_id = $2
    AND ($3 > sign_count OR ($3 = 0 AND sign_count = 0))
RETURNING id, whose.username, whose.email
"""
_WAYS = """
SELECT c.password_hash, (SELECT count(*) FROM passkeys p WHERE p.user_id = c.user_id) AS passkeys,
    ARRAY(SELECT i.provider FROM provider_identities i WHERE i.user_id = c.user_id) AS providers
FROM credentials c WHERE c.user_id = $1
"""
# Behind a proof from before, what was added since goes. Whoever proves one of those keeps them.
_OLD_PROOF = """
SELECT EXISTS (SELECT FROM totp_factors WHERE user_id = $1 AND added_at < $2 AND $3::bytea IS NULL)
    OR EXISTS (SELECT FROM passkeys WHERE user_id = $1 AND added_at < $2 AND credential_id = $3)
"""
_DROP_TOTP = "DELETE FROM totp_factors WHERE user_id = $1 AND added_at >= $2 RETURNING 1"
_DROP_PASSKEYS = "DELETE FROM passkeys WHERE user_id = $1 AND added_at >= $2 RETURNING id"
# With what a request that was under way may have left there meanwhile: it is nobody's.
_TRUST = """
WITH codes AS (DELETE FROM recovery_codes WHERE user_id = $1)
UPDATE credentials SET doubted_since = NULL, password_hash = $2 WHERE user_id = $1
"""
_ALIVE = """
SELECT 1 FROM sign_ins s JOIN credentials c ON c.user_id = s.user_id AND c.epoch = s.epoch
WHERE s.user_id = $1 AND s.id = $2 AND ($3::text IS NULL OR c.password_hash = $3)
FOR UPDATE OF c
"""


async def use_proof(
    connection: Connection,
    user_id: UUID,
    proof: Proof | None,
    origin: Origin,
    *,
    by_mailbox: bool = False,
) -> bool:
    """Call this to use a proof up; without one, whether none is needed. Locks the credentials.

    An account that is doubted opens `by_mailbox` only, and is doubted no more behind it (AUTH-16).
    """
    row = await connection.fetchrow(_LOCK, user_id)
    since = None if row is None else row["doubted_since"]
    if row is None or (since is not None and not by_mailbox):
        return False
    is_good = await _is_good(connection, user_id, proof, origin, has_second=row["has_second"])
    if is_good and since is not None:
        await _trust(connection, user_id, proof, since, origin)
    return is_good


async def _is_good(
    connection: Connection, user_id: UUID, proof: Proof | None, origin: Origin, *, has_second: bool
) -> bool:
    match proof:
        case None:
            return not has_second
        case TotpProof(step):
            return bool(await change_rows(connection, _USE_STEP, user_id, step))
        case CodeProof(digest):
            return bool(await change_rows(connection, _USE_CODE, user_id, digest))
        case PasskeyProof():
            return proof.is_verified and await use_passkey(connection, user_id, proof, origin)


async def _trust(
    connection: Connection, user_id: UUID, proof: Proof | None, since: datetime, origin: Origin
) -> None:
    key = proof.credential_id if isinstance(proof, PasskeyProof) else None
    if proof is not None and await connection.fetchval(_OLD_PROOF, user_id, since, key):
        if await connection.fetchval(_DROP_TOTP, user_id, since):
            entry = Entry(Act.FACTOR_REMOVE, user_id, origin)
            await record(connection, entry, {"because": "disavowed"})
        for one in await connection.fetch(_DROP_PASSKEYS, user_id, since):
            facts = {"passkey": str(one["id"]), "because": "disavowed"}
            await record(connection, Entry(Act.PASSKEY_REMOVE, user_id, origin), facts)
    await connection.execute(_TRUST, user_id, NO_PASSWORD)


async def is_doubted(connection: Connection, user_id: UUID) -> bool:
    """Call this with the credentials locked for whether an account opens by its mailbox only."""
    statement = "SELECT doubted_since IS NOT NULL FROM credentials WHERE user_id = $1"
    return bool(await connection.fetchval(statement, user_id))


async def use_passkey(
    connection: Connection, user_id: UUID, proof: PasskeyProof, origin: Origin
) -> bool:
    """Call this to move the counter of a passkey on; False, and nothing is, when it fell."""
    used = await move_passkey(connection, user_id, proof, origin)
    if used is not None:
        await record(connection, *used.act)
    return used is not None


@dataclass(frozen=True, slots=True)
class UsedPasskey:
    """Whose passkey was used, and the act that is still to be written."""

    username: str
    email: str
    act: NotedAct


async def move_passkey(
    connection: Connection,
    user_id: UUID,
    proof: PasskeyProof,
    origin: Origin,
    *,
    is_alone: bool = False,
) -> UsedPasskey | None:
    """Call this as `use_passkey` where other acts are written too; None when it fell.

    `is_alone`: with nothing else it opens no account that is doubted (AUTH-16). Locks the
    credentials.
    """
    row = await connection.fetchrow(
        _USE_PASSKEY,
        user_id,
        proof.credential_id,
        proof.sign_count,
        proof.is_backed_up,
        is_alone,
    )
    if row is None:
        return None
    act = Entry(Act.PASSKEY_USE, user_id, origin), {"passkey": str(row["id"])}
    return UsedPasskey(row["username"], row["email"], act)


async def kept_ways(connection: Connection, user_id: UUID) -> KeptWays | None:
    """Call this for what an account has to sign in by; None when it is gone.

    Locks the credentials, and looks behind that: whoever takes a way away stands in line there.
    """
    await connection.execute(_LOCK_ONLY, user_id)
    row = await connection.fetchrow(_WAYS, user_id)
    if row is None:
        return None
    return KeptWays(row["password_hash"] != NO_PASSWORD, row["passkeys"], row["providers"])


async def is_alive(
    connection: Connection, user_id: UUID, reference: UUID, password_hash: str | None = None
) -> bool:
    """Call this for whether a sign-in is one of its account, whose password is still that.

    Locks the credentials.
    """
    return await connection.fetchval(_ALIVE, user_id, reference, password_hash) is not None
