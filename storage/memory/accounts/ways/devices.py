"""Devices of accounts, in memory; the twin of the other engine's."""

from collections.abc import Sequence
from uuid import UUID

from actors.accounts.kept.audit import Act, Entry, Origin
from actors.accounts.kept.devices.port import Revoked, check_one, check_page, check_rename
from actors.accounts.kept.devices.words import DEVICES_PAGE, Device, Trust
from storage.memory.accounts.audit import record
from storage.memory.accounts.kept.logins import trust_of
from storage.memory.accounts.members import MemoryAccounts
from storage.memory.database import DeviceRow
from storage.memory.twin import Twin


class MemoryDevices(Twin):
    """The port `Devices` on a `MemoryDatabase`."""

    async def of_user(
        self, user_id: UUID, *, offset: int = 0, limit: int = DEVICES_PAGE
    ) -> Sequence[Device]:
        """See `Devices.of_user`."""
        check_page(user_id, offset, limit)
        await self.pass_faults()
        rows = [row for row in self.database.devices.values() if row.user_id == user_id]
        rows.sort(key=lambda row: row.id)
        rows.sort(key=lambda row: row.seen_at, reverse=True)
        return [
            Device(
                row.id,
                row.browser,
                row.name,
                trust_of(self.database, row),
                row.logins,
                row.first_seen_at,
                row.seen_at,
            )
            for row in rows[offset : offset + limit]
        ]

    async def trust(self, user_id: UUID, id_: UUID, origin: Origin) -> bool:
        """See `Devices.trust`."""
        check_one(user_id, id_, origin)
        await self.pass_faults()
        row = self._row(user_id, id_)
        if row is None:
            return False
        row.trust = Trust.TRUSTED
        record(self.database, Entry(Act.DEVICE_TRUST, user_id, origin), {"device": str(id_)})
        return True

    async def rename(self, user_id: UUID, id_: UUID, name: str) -> bool:
        """See `Devices.rename`."""
        given = check_rename(user_id, id_, name)
        await self.pass_faults()
        row = self._row(user_id, id_)
        if row is not None:
            row.name = given
        return row is not None

    async def revoke(self, user_id: UUID, id_: UUID, origin: Origin) -> Revoked | None:
        """See `Devices.revoke`."""
        check_one(user_id, id_, origin)
        await self.pass_faults()
        if self._row(user_id, id_) is None:
            return None
        del self.database.devices[id_]
        ended = MemoryAccounts(self.database).end_of_device(user_id, id_)
        record(self.database, Entry(Act.DEVICE_REVOKE, user_id, origin), {"device": str(id_)})
        if ended:
            facts = {"because": "device", "count": str(ended)}
            record(self.database, Entry(Act.END_SIGN_IN, user_id, origin), facts)
        return Revoked(ended)

    def _row(self, user_id: UUID, id_: UUID) -> DeviceRow | None:
        row = self.database.devices.get(id_)
        return row if row is not None and row.user_id == user_id else None
