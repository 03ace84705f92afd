"""Recoveries of accounts, in PostgreSQL; the twin of the other engine's. Times are the server's.

Whoever begins one, stops it or carries it out has the row of its account's credentials locked.
"""

from collections.abc import Sequence
from uuid import UUID

import asyncpg

from actors.accounts.kept.audit import Act, Entry, Origin
from actors.accounts.kept.factors import CodeProof
from actors.accounts.kept.recoveries import (
    GUARDED_FOR,
    READY_MAX,
    RECOVERY_KEPT,
    RECOVERY_WAIT,
    Known,
    NewRecovery,
    Recovery,
    Telling,
    check_due,
    check_recover,
    check_start,
    check_step,
)
from actors.accounts.members import NO_PASSWORD
from actors.persistence.beside_log.outbox import check_messages
from actors.persistence.words import check_a, check_uuid
from storage.postgres.accounts.audit import NotedAct, begin, record, record_acts
from storage.postgres.accounts.members import end_all
from storage.postgres.accounts.proving import known_of, use_proof
from storage.postgres.connecting.database import Database
from storage.postgres.connecting.notices import SESSIONS
from storage.postgres.connecting.session import Connection, change_rows
from storage.postgres.outbox import add_new_messages

_LOCK = """
SELECT has_second_factor(user_id) AS has_second FROM credentials WHERE user_id = $1 FOR UPDATE
"""
# With it whatever is over, also of others; each removes more than it adds when there is that much.
_FORGET = """
DELETE FROM recoveries r WHERE user_id = ANY(ARRAY(
        SELECT user_id FROM recoveries WHERE ready_at <= clock_timestamp() - $2::interval
        ORDER BY ready_at LIMIT 10 FOR UPDATE SKIP LOCKED))
    OR (user_id = $1 AND (ready_at <= clock_timestamp() - $2::interval
        OR email <> (SELECT email FROM users WHERE id = $1)))
"""
_START = """
INSERT INTO recoveries (user_id, id, email, started_at, ready_at)
SELECT u.id, $2, u.email, t.now, t.now + $3::interval
FROM users u, (SELECT clock_timestamp() AS now) t WHERE u.id = $1
ON CONFLICT (user_id) DO NOTHING
"""
# What is under way: not over, and of the address that the account still has.
_FIND = """
SELECT r.id, r.user_id, r.started_at, r.ready_at,
    r.told_at IS NOT NULL AND r.ready_at <= clock_timestamp() AS is_ready
FROM recoveries r JOIN users u ON u.id = r.user_id AND u.email = r.email
WHERE r.ready_at > clock_timestamp() - $2::interval AND
"""
_DUE = """
SELECT r.id, r.user_id, r.started_at, r.ready_at, false AS is_ready
FROM recoveries r JOIN users u ON u.id = r.user_id AND u.email = r.email
WHERE r.ready_at > clock_timestamp() - $1::interval AND r.ready_at <= clock_timestamp()
    AND r.told_at IS NULL
ORDER BY r.ready_at LIMIT $2
"""
_TOLD = """
UPDATE recoveries SET told_at = clock_timestamp()
WHERE id = $1 AND told_at IS NULL AND ready_at <= clock_timestamp()
"""
_GONE = "DELETE FROM recoveries WHERE id = $1"
_VOID = """
UPDATE credentials SET password_hash = $2, changed_at = clock_timestamp(),
    guarded_until = clock_timestamp() + $3::interval
WHERE user_id = $1
"""
_NO_LINKS = "DELETE FROM sign_in_links WHERE email = (SELECT email FROM users WHERE id = $1)"
_NO_CODES = "DELETE FROM recovery_codes WHERE user_id = $1"
# Nobody knows from which of them somebody came.
_NO_DEVICES = "DELETE FROM devices WHERE user_id = $1"
_NO_TOTP = "DELETE FROM totp_factors WHERE user_id = $1"
_NO_PASSKEYS = "DELETE FROM passkeys WHERE user_id = $1 RETURNING id"
_NO_PROVIDERS = "DELETE FROM provider_identities WHERE user_id = $1 RETURNING provider"


class PostgresRecoveries:
    """The port `Recoveries` on a `Database`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def known(self, user_id: UUID) -> Known | None:
        """See `Recoveries.known`."""
        check_uuid("user_id", user_id)
        return await self._database.run(known_of, user_id)

    async def start(self, new: NewRecovery, origin: Origin) -> Recovery | None:
        """See `Recoveries.start`."""
        check_start(new, origin)
        return await self._database.transact(_start, new, origin)

    async def recover(self, new: NewRecovery, proof: CodeProof, origin: Origin) -> int | None:
        """See `Recoveries.recover`."""
        check_recover(new, proof, origin)
        return await self._database.transact(_recover, new, proof, origin, channel=SESSIONS)

    async def of_user(self, user_id: UUID) -> Recovery | None:
        """See `Recoveries.of_user`."""
        check_uuid("user_id", user_id)
        return await self._database.run(_find, "r.user_id = $1", user_id)

    async def find(self, recovery_id: UUID) -> Recovery | None:
        """See `Recoveries.find`."""
        check_uuid("recovery_id", recovery_id)
        return await self._database.run(_find, "r.id = $1", recovery_id)

    async def due(self, limit: int = READY_MAX) -> Sequence[Recovery]:
        """See `Recoveries.due`."""
        check_due(limit)
        return await self._database.run(_due, limit)

    async def make_ready(self, recovery_id: UUID, telling: Telling) -> bool:
        """See `Recoveries.make_ready`."""
        check_step(recovery_id, telling)
        return await self._database.transact(_make_ready, recovery_id, telling)

    async def stop(self, recovery_id: UUID, telling: Telling, origin: Origin) -> bool:
        """See `Recoveries.stop`."""
        check_step(recovery_id, telling)
        check_a("origin", origin, Origin)
        return await self._database.transact(_stop, recovery_id, telling, origin)

    async def finish(self, recovery_id: UUID, telling: Telling, origin: Origin) -> int | None:
        """See `Recoveries.finish`."""
        check_step(recovery_id, telling)
        check_a("origin", origin, Origin)
        return await self._database.transact(
            _finish, recovery_id, telling, origin, channel=SESSIONS
        )


async def _are_known(connection: Connection, user_id: UUID, telling: Telling) -> bool:
    known = await known_of(connection, user_id)
    return known is not None and set(known.emails) == set(telling.emails)


async def _find(connection: Connection, which: str, value: UUID) -> Recovery | None:
    # A text of this file, never anybody's.
    row: asyncpg.Record | None = await connection.fetchrow(_FIND + which, value, RECOVERY_KEPT)
    return None if row is None else Recovery(**row)


async def _due(connection: Connection, limit: int) -> list[Recovery]:
    return [Recovery(**row) for row in await connection.fetch(_DUE, RECOVERY_KEPT, limit)]


async def _start(connection: Connection, new: NewRecovery, origin: Origin) -> Recovery | None:
    user_id = new.user_id
    await begin(connection, user_id)
    if not await connection.fetchval(_LOCK, user_id):
        return None
    await connection.execute(_FORGET, user_id, RECOVERY_KEPT)
    there = await _find(connection, "r.user_id = $1", user_id)
    if there is not None:
        return there
    if not await _are_known(connection, user_id, new.telling):
        return None
    await connection.execute(_START, user_id, new.id, RECOVERY_WAIT)
    await add_new_messages(connection, check_messages(new.telling.outbox))
    await record(connection, Entry(Act.RECOVERY_START, user_id, origin))
    return await _find(connection, "r.id = $1", new.id)


async def _locked(connection: Connection, recovery_id: UUID, telling: Telling) -> Recovery | None:
    """Lock the account of a recovery, and give what is under way behind that."""
    found = await _find(connection, "r.id = $1", recovery_id)
    if found is None:
        return None
    await begin(connection, found.user_id)
    await connection.execute(_LOCK, found.user_id)
    found = await _find(connection, "r.id = $1", recovery_id)
    if found is None or not await _are_known(connection, found.user_id, telling):
        return None
    return found


async def _make_ready(connection: Connection, recovery_id: UUID, telling: Telling) -> bool:
    if await _locked(connection, recovery_id, telling) is None:
        return False
    if not await change_rows(connection, _TOLD, recovery_id):
        return False
    await add_new_messages(connection, check_messages(telling.outbox))
    return True


async def _stop(
    connection: Connection, recovery_id: UUID, telling: Telling, origin: Origin
) -> bool:
    found = await _locked(connection, recovery_id, telling)
    if found is None:
        return False
    await connection.execute(_GONE, recovery_id)
    await add_new_messages(connection, check_messages(telling.outbox))
    await record(connection, Entry(Act.RECOVERY_STOP, found.user_id, origin))
    return True


async def _finish(
    connection: Connection, recovery_id: UUID, telling: Telling, origin: Origin
) -> int | None:
    found = await _locked(connection, recovery_id, telling)
    if found is None or not found.is_ready:
        return None
    await connection.execute(_GONE, recovery_id)
    return await _carry_out(connection, found.user_id, telling, origin)


async def _recover(
    connection: Connection, new: NewRecovery, proof: CodeProof, origin: Origin
) -> int | None:
    user_id = new.user_id
    await begin(connection, user_id)
    if not await connection.fetchval(_LOCK, user_id):
        return None
    if not await _are_known(connection, user_id, new.telling):
        return None
    # One that is under way is stopped by it, as by any second factor.
    if not await use_proof(connection, user_id, proof, origin, by_mailbox=True):
        return None
    return await _carry_out(connection, user_id, new.telling, origin)


async def _carry_out(
    connection: Connection, user_id: UUID, telling: Telling, origin: Origin
) -> int:
    because = {"because": "recovered"}
    await connection.execute(_VOID, user_id, NO_PASSWORD, GUARDED_FOR)
    await connection.execute(_NO_LINKS, user_id)
    await connection.execute(_NO_CODES, user_id)
    await connection.execute(_NO_DEVICES, user_id)
    gone: list[NotedAct] = []
    if await change_rows(connection, _NO_TOTP, user_id):
        gone.append((Entry(Act.FACTOR_REMOVE, user_id, origin), because | {"factor": "totp"}))
    for row in await connection.fetch(_NO_PASSKEYS, user_id):
        facts = because | {"passkey": str(row["id"])}
        gone.append((Entry(Act.PASSKEY_REMOVE, user_id, origin), facts))
    for row in await connection.fetch(_NO_PROVIDERS, user_id):
        facts = because | {"provider": row["provider"]}
        gone.append((Entry(Act.PROVIDER_UNLINK, user_id, origin), facts))
    ended = await end_all(connection, user_id)
    await add_new_messages(connection, check_messages(telling.outbox))
    done = Entry(Act.RECOVERY, user_id, origin), {"ended": str(ended)}
    await record_acts(connection, [done, *gone])
    return ended
