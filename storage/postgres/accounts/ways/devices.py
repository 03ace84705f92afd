"""Devices of accounts, in PostgreSQL; the twin of the other engine's. Times are the server's."""

from collections.abc import Sequence
from uuid import UUID

from actors.accounts.kept.audit import Act, Entry, Origin
from actors.accounts.kept.devices.port import Revoked, check_one, check_page, check_rename
from actors.accounts.kept.devices.words import DEVICES_PAGE, Device, Trust, shown_trust
from storage.postgres.accounts.audit import begin, record
from storage.postgres.accounts.members import end_of_device
from storage.postgres.connecting.database import Database
from storage.postgres.connecting.notices import SESSIONS
from storage.postgres.connecting.session import Connection, change_rows

_OF_USER = """
SELECT id, browser, name, trust, logins, first_seen_at, seen_at, passkey IS NOT NULL AS is_bound
FROM devices WHERE user_id = $1 ORDER BY seen_at DESC, id OFFSET $2 LIMIT $3
"""
_LOCK = "SELECT 1 FROM credentials WHERE user_id = $1 FOR UPDATE"
_TRUST = "UPDATE devices SET trust = 'trusted' WHERE user_id = $1 AND id = $2"
_RENAME = "UPDATE devices SET name = $3 WHERE user_id = $1 AND id = $2"
_REVOKE = "DELETE FROM devices WHERE user_id = $1 AND id = $2"


class PostgresDevices:
    """The port `Devices` on a `Database`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of_user(
        self, user_id: UUID, *, offset: int = 0, limit: int = DEVICES_PAGE
    ) -> Sequence[Device]:
        """See `Devices.of_user`."""
        check_page(user_id, offset, limit)
        return await self._database.run(_of_user, user_id, offset, limit)

    async def trust(self, user_id: UUID, id_: UUID, origin: Origin) -> bool:
        """See `Devices.trust`."""
        check_one(user_id, id_, origin)
        return await self._database.transact(_trust, user_id, id_, origin)

    async def rename(self, user_id: UUID, id_: UUID, name: str) -> bool:
        """See `Devices.rename`."""
        given = check_rename(user_id, id_, name)
        return bool(await self._database.run(change_rows, _RENAME, user_id, id_, given))

    async def revoke(self, user_id: UUID, id_: UUID, origin: Origin) -> Revoked | None:
        """See `Devices.revoke`."""
        check_one(user_id, id_, origin)
        return await self._database.transact(_revoke, user_id, id_, origin, channel=SESSIONS)


async def _of_user(connection: Connection, user_id: UUID, offset: int, limit: int) -> list[Device]:
    found = []
    for row in await connection.fetch(_OF_USER, user_id, offset, limit):
        id_, browser, name, trust, logins, first, seen, is_bound = row
        counts = shown_trust(Trust(trust), has_passkey=is_bound)
        found.append(Device(id_, browser, name, counts, logins, first, seen))
    return found


async def _trust(connection: Connection, user_id: UUID, id_: UUID, origin: Origin) -> bool:
    await begin(connection, user_id)
    if not await change_rows(connection, _TRUST, user_id, id_):
        return False
    await record(connection, Entry(Act.DEVICE_TRUST, user_id, origin), {"device": str(id_)})
    return True


async def _revoke(
    connection: Connection, user_id: UUID, id_: UUID, origin: Origin
) -> Revoked | None:
    await begin(connection, user_id)
    await connection.execute(_LOCK, user_id)
    if not await change_rows(connection, _REVOKE, user_id, id_):
        return None
    ended = await end_of_device(connection, user_id, id_)
    await record(connection, Entry(Act.DEVICE_REVOKE, user_id, origin), {"device": str(id_)})
    if ended:
        facts = {"because": "device", "count": str(ended)}
        await record(connection, Entry(Act.END_SIGN_IN, user_id, origin), facts)
    return Revoked(ended)
