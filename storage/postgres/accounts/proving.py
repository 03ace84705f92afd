"""Proofs of second factors, used up in the transaction of what they open.

Whoever changes credentials or factors of an account has the row of its credentials locked: so of a
sign-in and a factor that is added at once one sees the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from actors.accounts.kept.addresses import REVERT_KEPT
from actors.accounts.kept.audit import Act, Entry, Origin
from actors.accounts.kept.factors import CodeProof, PasskeyProof, Proof, TotpProof
from actors.accounts.kept.recoveries import (
    ADDRESSES_TOLD_MAX,
    RECOVERY_KEPT,
    Known,
    KnownAddress,
    TellStopped,
)
from actors.accounts.members import NO_PASSWORD, AtProvider
from actors.accounts.ways.left import KeptWays
from actors.accounts.ways.provider.identities import session_digest
from actors.accounts.ways.provider.words import SaidLogout
from actors.persistence.beside_log.outbox import check_messages
from storage.postgres.accounts.audit import NotedAct, record
from storage.postgres.connecting.session import Connection, change_rows
from storage.postgres.outbox import add_new_messages

_LOCK = """
SELECT has_second_factor($1) AS has_second, doubted_since,
    EXISTS (SELECT FROM recoveries WHERE user_id = $1) AS is_recovered
FROM credentials WHERE user_id = $1 FOR UPDATE
"""
# One that is over, or of a former address, is nothing any more, and nobody is told.
_NO_RECOVERY = """
WITH gone AS (DELETE FROM recoveries WHERE user_id = $1 RETURNING id, email, ready_at)
SELECT gone.id FROM gone JOIN users u ON u.id = $1 AND u.email = gone.email
WHERE gone.ready_at > clock_timestamp() - $2::interval
"""
_KNOWN = """
SELECT u.username, u.email, NULL::uuid AS change, NULL::timestamptz AS made_at
FROM users u JOIN credentials c ON c.user_id = u.id WHERE u.id = $1
UNION ALL
(SELECT u.username, a.former, a.id, a.made_at
FROM address_changes a JOIN users u ON u.id = a.user_id
WHERE a.user_id = $1 AND a.made_at > clock_timestamp() - $2::interval AND a.former <> u.email)
ORDER BY made_at NULLS FIRST
"""
_LOCK_ONLY = "SELECT 1 FROM credentials WHERE user_id = $1 FOR UPDATE"
# No step opens twice, nor one before it.
_USE_STEP = "UPDATE totp_factors SET last_step = $2 WHERE user_id = $1 AND last_step < $2"
_USE_CODE = "DELETE FROM recovery_codes WHERE user_id = $1 AND digest = $2"
# Of two uses at once with one counter the second finds that it does not grow any more (SEC-103).
_USE_PASSKEY = """
WITH whose AS MATERIALIZED (
    SELECT u.username, u.email,
        EXISTS (SELECT FROM recoveries r WHERE r.user_id = c.user_id) AS is_recovered
    FROM credentials c JOIN users u ON u.id = c.user_id
    WHERE c.user_id = $1 AND ($5 IS FALSE OR c.doubted_since IS NULL) FOR UPDATE OF c)
UPDATE passkeys SET sign_count = $3, is_backed_up = $4, used_at = clock_timestamp() FROM whose
WHERE user_id = $1 AND credential_id = $2
    AND ($3 > sign_count OR ($3 = 0 AND sign_count = 0))
RETURNING id, whose.username, whose.email, whose.is_recovered
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
    tell_stopped: TellStopped | None = None,
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
    if is_good and proof is not None and row["is_recovered"]:
        await stop_recovery(connection, user_id, origin, tell_stopped)
    return is_good


async def stop_recovery(
    connection: Connection,
    user_id: UUID,
    origin: Origin,
    tell: TellStopped | None,
    because: str = "proven",
) -> None:
    """Call this in the act of who proved a second factor: it is not lost (AUTH-10).

    Or in another one `because` of which nobody is to finish a recovery that is under way.
    """
    id_ = await connection.fetchval(_NO_RECOVERY, user_id, RECOVERY_KEPT)
    if id_ is None:
        return
    entry = Entry(Act.RECOVERY_STOP, user_id, origin)
    await record(connection, entry, {"because": because})
    known = None if tell is None else await known_of(connection, user_id)
    if tell is not None and known is not None:
        await add_new_messages(connection, check_messages(tell(id_, known)))


async def known_of(connection: Connection, user_id: UUID) -> Known | None:
    """Call this for where an account is told; None for nobody."""
    rows = await connection.fetch(_KNOWN, user_id, REVERT_KEPT)
    if not rows:
        return None
    # Of an address that was had twice the first time counts: it takes back the most.
    found: dict[str, KnownAddress] = {}
    for row in rows:
        found.setdefault(row["email"], KnownAddress(row["email"], row["change"]))
    return Known(rows[0]["username"], tuple(found.values())[:ADDRESSES_TOLD_MAX])


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
    # A recovery of the account is under way.
    is_recovered: bool = False


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
    return UsedPasskey(row["username"], row["email"], act, row["is_recovered"])


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


# -- sessions at providers (AUTH-13) --------------------------------------------------


_ISSUER = "SELECT issuer FROM provider_identities WHERE user_id = $1 AND provider = $2"
_LOCK_SESSION = "SELECT pg_advisory_xact_lock(hashtextextended(encode($1::bytea, 'hex'), 44))"
_IS_OVER = "SELECT EXISTS (SELECT FROM used_states WHERE digest = $1 AND expires_at > now())"
_NOTE = """
INSERT INTO provider_sign_ins (sign_in, provider, issuer, subject, session)
SELECT $1, provider, issuer, subject, $4 FROM provider_identities
WHERE user_id = $2 AND provider = $3
"""
_OF_SESSION = """
SELECT p.sign_in, s.user_id FROM provider_sign_ins p JOIN sign_ins s ON s.id = p.sign_in
WHERE p.issuer = $1 AND ($2::text IS NULL OR p.session = $2)
    AND ($3::text IS NULL OR p.subject = $3)
"""


async def lock_session(connection: Connection, issuer: str, session: str) -> bytes:
    """Call this for the digest of a session of a provider, which is locked until the commit."""
    digest = session_digest(issuer, session)
    await connection.execute(_LOCK_SESSION, digest)
    return digest


async def is_open_there(connection: Connection, user_id: UUID, at: AtProvider | None) -> bool:
    """Call this before a sign-in is made: False for one whose session at a provider is over."""
    if at is None or not at.session:
        return True
    issuer: str | None = await connection.fetchval(_ISSUER, user_id, at.provider)
    if issuer is None:
        return False  # unlinked in this moment
    digest = await lock_session(connection, issuer, at.session)
    return not await connection.fetchval(_IS_OVER, digest)


async def note_provider(
    connection: Connection, user_id: UUID, reference: UUID, at: AtProvider
) -> None:
    """Call this behind a sign-in to keep where it began."""
    await connection.execute(_NOTE, reference, user_id, at.provider, at.session)


async def begun_in(connection: Connection, said: SaidLogout) -> Sequence[tuple[UUID, UUID]]:
    """Call this for the sign-ins that began in what a provider says is over, and whose they are."""
    rows = await connection.fetch(_OF_SESSION, said.issuer, said.session, said.subject)
    return [(row["sign_in"], row["user_id"]) for row in rows]
