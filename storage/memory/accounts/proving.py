"""Proofs of second factors in memory; the twin of `storage/postgres/accounts/proving.py`."""

from dataclasses import replace
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
from actors.accounts.members import NO_PASSWORD, AtProvider, Level
from actors.accounts.ways.left import KeptWays
from actors.accounts.ways.passkeys import counter_fell
from actors.accounts.ways.provider.identities import session_digest
from actors.accounts.ways.provider.words import Identity
from actors.persistence.beside_log.outbox import check_messages
from storage.memory.accounts.audit import record
from storage.memory.database import FactorsRow, MemoryDatabase


def has_second(database: MemoryDatabase, user_id: UUID) -> bool:
    """Call this for whether a sign-in of an account asks for a second factor."""
    row = database.factors.get(user_id)
    has_passkey = any(one.user_id == user_id for one in database.passkeys.values())
    return has_passkey or (row is not None and row.totp is not None)


def use_proof(
    database: MemoryDatabase,
    user_id: UUID,
    proof: Proof | None,
    origin: Origin,
    *,
    by_mailbox: bool = False,
    tell_stopped: TellStopped | None = None,
) -> bool:
    """Call this to use a proof up; without one, whether none is needed.

    An account that is doubted opens `by_mailbox` only, and is doubted no more behind it (AUTH-16).
    """
    since = database.users[user_id].doubted_since
    if since is not None and not by_mailbox:
        return False
    is_good = _is_good(database, user_id, proof, origin)
    if is_good and since is not None:
        _trust(database, user_id, proof, since, origin)
    if is_good and proof is not None:
        stop_recovery(database, user_id, origin, tell_stopped)
    return is_good


def stop_recovery(
    database: MemoryDatabase,
    user_id: UUID,
    origin: Origin,
    tell: TellStopped | None,
    because: str = "proven",
) -> None:
    """Call this in the act of who proved a second factor: it is not lost (AUTH-10).

    Or in another one `because` of which nobody is to finish a recovery that is under way.
    """
    id_ = drop_recovery(database, user_id)
    if id_ is None:
        return
    record(database, Entry(Act.RECOVERY_STOP, user_id, origin), {"because": because})
    known = None if tell is None else known_of(database, user_id)
    if tell is not None and known is not None:
        database.add_messages(check_messages(tell(id_, known)))


def known_of(database: MemoryDatabase, user_id: UUID) -> Known | None:
    """Call this for where an account is told; None for nobody."""
    now = database.now()
    user = database.users.get(user_id)
    if user is None or user.password_hash is None:
        return None
    made = [
        (row.made_at, row.former, one)
        for one, row in database.address_changes.items()
        if row.user_id == user_id and row.made_at is not None and now - row.made_at < REVERT_KEPT
    ]
    found = {user.email: KnownAddress(user.email)}
    for _, former, one in sorted(made):
        found.setdefault(former, KnownAddress(former, one))
    return Known(user.username, tuple(found.values())[:ADDRESSES_TOLD_MAX])


def drop_recovery(database: MemoryDatabase, user_id: UUID) -> UUID | None:
    """Call this in an act to end a recovery; which, None when there was none under way."""
    rows, now, email = database.recoveries, database.now(), database.users[user_id].email
    gone = {one: row for one, row in rows.items() if row.user_id == user_id}
    for one in gone:
        del rows[one]
    # One that is over, or of a former address, is nothing any more.
    under_way = (
        one
        for one, row in gone.items()
        if row.email == email and now - row.ready_at < RECOVERY_KEPT
    )
    return next(under_way, None)


def _trust(
    database: MemoryDatabase,
    user_id: UUID,
    proof: Proof | None,
    since: datetime,
    origin: Origin,
) -> None:
    user = database.users[user_id]
    # With what a request that was under way may have left there meanwhile: it is nobody's.
    user.doubted_since, user.password_hash = None, NO_PASSWORD
    row, passkeys = database.factors.get(user_id, FactorsRow()), database.passkeys
    row.codes.clear()
    match proof:
        case None:
            return
        case PasskeyProof(credential_id):
            added_at: datetime | None = passkeys[credential_id].added_at
        case _:
            added_at = None if row.totp is None else row.totp.added_at
    if added_at is None or added_at >= since:
        return
    if row.totp is not None and row.totp.added_at >= since:
        row.totp = None
        entry = Entry(Act.FACTOR_REMOVE, user_id, origin)
        record(database, entry, {"because": "disavowed"})
    for one, kept in list(passkeys.items()):
        if kept.user_id == user_id and kept.added_at >= since:
            del passkeys[one]
            facts = {"passkey": str(kept.id), "because": "disavowed"}
            record(database, Entry(Act.PASSKEY_REMOVE, user_id, origin), facts)


def _is_good(database: MemoryDatabase, user_id: UUID, proof: Proof | None, origin: Origin) -> bool:
    row = database.factors.get(user_id, FactorsRow())
    match proof:
        case None:
            return not has_second(database, user_id)
        case TotpProof(step):
            if row.totp is None or row.totp.last_step >= step:
                return False
            row.totp = replace(row.totp, last_step=step)
            return True
        case CodeProof(digest):
            is_there = digest in row.codes
            row.codes.discard(digest)
            return is_there
        case PasskeyProof():
            return proof.is_verified and use_passkey(database, user_id, proof, origin)


def use_passkey(
    database: MemoryDatabase, user_id: UUID, proof: PasskeyProof, origin: Origin
) -> bool:
    """Call this to move the counter of a passkey on; False, and nothing is, when it fell."""
    kept = database.passkeys.get(proof.credential_id)
    if kept is None or kept.user_id != user_id:
        return False
    if counter_fell(kept.sign_count, proof.sign_count):
        return False
    database.passkeys[proof.credential_id] = replace(
        kept,
        sign_count=proof.sign_count,
        is_backed_up=proof.is_backed_up,
        used_at=database.now(),
    )
    record(database, Entry(Act.PASSKEY_USE, user_id, origin), {"passkey": str(kept.id)})
    return True


def kept_ways(database: MemoryDatabase, user_id: UUID) -> KeptWays:
    """Call this for what an account has to sign in by."""
    return KeptWays(
        database.users[user_id].password_hash != NO_PASSWORD,
        sum(one.user_id == user_id for one in database.passkeys.values()),
        {row.provider for row in database.identities.values() if row.user_id == user_id},
    )


def is_alive(database: MemoryDatabase, user_id: UUID, reference: UUID) -> bool:
    """Call this in an act for whether a sign-in is one of its account's present epoch."""
    user = database.users.get(user_id)
    return user is not None and any(
        (row.user_id, row.reference, row.epoch) == (user_id, reference, user.epoch)
        for row in database.sign_ins.values()
    )


def renew_own(
    database: MemoryDatabase,
    user_id: UUID,
    reference: UUID,
    digest: bytes,
    level: Level | None = None,
) -> bool:
    """Call this for a sign-in that goes on under a new token, fresh; False for one that is over."""
    user, sign_ins = database.users.get(user_id), database.sign_ins
    for former, row in sign_ins.items():
        if (row.user_id, row.reference) == (user_id, reference):
            if user is None or row.epoch != user.epoch:
                return False
            sign_ins[digest] = sign_ins.pop(former)
            row.proven_at, row.level = database.now(), max(row.level, level or row.level)
            return True
    return False


# -- sessions at providers (AUTH-13) --------------------------------------------------


def at_provider(
    database: MemoryDatabase, user_id: UUID, at: AtProvider | None
) -> tuple[AtProvider, Identity] | None:
    """Call this for where a sign-in began, and whose identity there it was."""
    if at is None:
        return None
    rows = database.identities.items()
    found = (
        identity for identity, row in rows if (row.user_id, row.provider) == (user_id, at.provider)
    )
    identity = next(found, None)
    return None if identity is None else (at, identity)


def is_open_there(database: MemoryDatabase, user_id: UUID, at: AtProvider | None) -> bool:
    """Call this before a sign-in is made: False for one whose session at a provider is over."""
    if at is None or not at.session:
        return True
    found = at_provider(database, user_id, at)
    if found is None:
        return False
    until = database.used_states.get(session_digest(found[1].issuer, at.session))
    return until is None or until <= database.now()
