"""Second factors in PostgreSQL; the twin of `storage/memory/accounts/factors.py`."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from actors.accounts.kept.audit import Act, Entry, Origin
from actors.accounts.kept.factors import HeldFactors, NewTotp, Totp
from actors.accounts.kept.factors.port import check_codes, check_removal
from actors.accounts.members import Level
from actors.chat import user_subject
from actors.persistence import OutboxMessage, SealedFields
from actors.persistence.words import check_a, check_uuid
from storage.errors import StoredDataError
from storage.keyring import SubjectKeyring
from storage.postgres.accounts.audit import begin, record
from storage.postgres.accounts.proving import is_alive
from storage.postgres.connecting.database import Database
from storage.postgres.connecting.session import Connection, change_rows
from storage.postgres.outbox import add_new_messages

_HELD = """
SELECT t.sealed, t.last_step, t.added_at,
    (SELECT count(*) FROM recovery_codes r WHERE r.user_id = c.user_id) AS codes_left,
    (SELECT count(*) FROM passkeys p WHERE p.user_id = c.user_id) AS passkeys_count
FROM credentials c LEFT JOIN totp_factors t ON t.user_id = c.user_id WHERE c.user_id = $1
"""
_ADD_TOTP = """
INSERT INTO totp_factors (user_id, sealed, last_step) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING
"""
_ADD_CODES = "INSERT INTO recovery_codes (user_id, digest) SELECT $1, unnest($2::bytea[])"
_RENEW = """
UPDATE sign_ins SET digest = $3, proven_at = clock_timestamp(), level = greatest(level, $4)
WHERE user_id = $1 AND id = $2
"""
_NO_CODES = "DELETE FROM recovery_codes WHERE user_id = $1"
_FIELD = "totp"


def sealing_place(user_id: UUID) -> str:
    """Call this for where the secret of somebody's app opens, and nowhere else."""
    return f"totp:{user_id}"


class PostgresFactors:
    """The port `Factors` on a `Database`; secrets are sealed with the keys of a keyring."""

    def __init__(self, database: Database, keyring: SubjectKeyring) -> None:
        self._database, self._keyring = database, keyring

    async def held(self, user_id: UUID) -> HeldFactors:
        """See `Factors.held`."""
        check_uuid("user_id", user_id)
        row = await self._database.run(_held, user_id)
        if row is None:
            return HeldFactors()
        sealed, last_step, added_at, codes_left, passkeys_count = row
        if sealed is None:
            return HeldFactors(None, codes_left, passkeys_count)
        box = msgspec.json.decode(sealed, type=SealedFields)
        (opened,) = await self._keyring.open_fields([(sealing_place(user_id), box)])
        secret = opened.get(_FIELD)
        if secret is None:
            raise StoredDataError(f"the second factor of {user_id} cannot be opened")
        return HeldFactors(Totp(secret, last_step, added_at), codes_left, passkeys_count)

    async def add_totp(self, new: NewTotp, origin: Origin) -> bool:
        """See `Factors.add_totp`."""
        check_a("new", new, NewTotp)
        check_a("origin", origin, Origin)
        box = await self._keyring.seal_fields(
            sealing_place(new.user_id), [user_subject(new.user_id)], {_FIELD: new.secret}
        )
        return await self._database.transact(_add_totp, new, msgspec.json.encode(box), origin)

    async def remove_totp(
        self, user_id: UUID, reference: UUID, origin: Origin, outbox: Sequence[OutboxMessage] = ()
    ) -> bool:
        """See `Factors.remove_totp`."""
        check_removal(user_id, origin, outbox)
        check_uuid("reference", reference)
        return await self._database.transact(_remove_totp, user_id, reference, origin, outbox)

    async def renew_codes(
        self,
        user_id: UUID,
        reference: UUID,
        codes: Sequence[bytes],
        origin: Origin,
        outbox: Sequence[OutboxMessage] = (),
    ) -> bool:
        """See `Factors.renew_codes`."""
        check_removal(user_id, origin, outbox)
        check_uuid("reference", reference)
        given = check_codes(codes)
        return await self._database.transact(
            _renew_codes, user_id, reference, given, origin, outbox
        )


async def _held(
    connection: Connection, user_id: UUID
) -> tuple[bytes | None, int, datetime, int, int] | None:
    row = await connection.fetchrow(_HELD, user_id)
    return None if row is None else tuple(row)


async def _add_totp(connection: Connection, new: NewTotp, sealed: bytes, origin: Origin) -> bool:
    await begin(connection, new.user_id)
    if not await is_alive(connection, new.user_id, new.reference):
        return False
    if not await change_rows(connection, _ADD_TOTP, new.user_id, sealed, new.step):
        return False
    if new.codes:
        await set_codes(connection, new.user_id, new.codes)
    level = int(Level.MULTI_FACTOR)
    await connection.execute(_RENEW, new.user_id, new.reference, new.digest, level)
    await add_new_messages(connection, new.outbox)
    await record(connection, Entry(Act.FACTOR_ADD, new.user_id, origin), {"factor": "totp"})
    return True


async def _remove_totp(
    connection: Connection,
    user_id: UUID,
    reference: UUID,
    origin: Origin,
    outbox: Sequence[OutboxMessage],
) -> bool:
    await begin(connection, user_id)
    if not await is_alive(connection, user_id, reference):  # locks the credentials
        return False
    statement = "DELETE FROM totp_factors WHERE user_id = $1"
    if not await change_rows(connection, statement, user_id):
        return False
    await drop_codes_without_factor(connection, user_id)
    await add_new_messages(connection, outbox)
    await record(connection, Entry(Act.FACTOR_REMOVE, user_id, origin), {"factor": "totp"})
    return True


async def _renew_codes(
    connection: Connection,
    user_id: UUID,
    reference: UUID,
    codes: Sequence[bytes],
    origin: Origin,
    outbox: Sequence[OutboxMessage],
) -> bool:
    await begin(connection, user_id)
    if not await is_alive(connection, user_id, reference):  # locks the credentials
        return False
    if not await connection.fetchval("SELECT has_second_factor($1)", user_id):
        return False
    await set_codes(connection, user_id, codes)
    await add_new_messages(connection, outbox)
    await record(
        connection, Entry(Act.RECOVERY_CODES, user_id, origin), {"factor": "recovery_code"}
    )
    return True


async def set_codes(connection: Connection, user_id: UUID, codes: Sequence[bytes]) -> None:
    """Call this in the act's transaction to replace all recovery codes of an account."""
    await connection.execute(_NO_CODES, user_id)
    await connection.execute(_ADD_CODES, user_id, list(codes))


async def drop_codes_without_factor(connection: Connection, user_id: UUID) -> None:
    """Call this when a factor was removed: recovery codes go with the last one."""
    if not await connection.fetchval("SELECT has_second_factor($1)", user_id):
        await connection.execute(_NO_CODES, user_id)
