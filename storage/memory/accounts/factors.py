"""Second factors in memory; the twin of `storage/postgres/accounts/factors.py`."""

from collections.abc import Sequence
from uuid import UUID

from actors.accounts.kept.audit import Act, Entry, Origin
from actors.accounts.kept.factors import HeldFactors, NewTotp, Totp
from actors.accounts.kept.factors.port import check_codes, check_removal
from actors.accounts.members import Level
from actors.persistence import OutboxMessage
from actors.persistence.words import check_a, check_uuid
from storage.memory.accounts.audit import record
from storage.memory.accounts.proving import has_second, is_alive, renew_own
from storage.memory.database import FactorsRow
from storage.memory.twin import Twin


class MemoryFactors(Twin):
    """The port `Factors` on a `MemoryDatabase`."""

    async def held(self, user_id: UUID) -> HeldFactors:
        """See `Factors.held`."""
        check_uuid("user_id", user_id)
        await self.pass_faults()
        row = self._row(user_id)
        passkeys = sum(one.user_id == user_id for one in self.database.passkeys.values())
        return HeldFactors(row.totp, len(row.codes), passkeys)

    async def add_totp(self, new: NewTotp, origin: Origin) -> bool:
        """See `Factors.add_totp`."""
        check_a("new", new, NewTotp)
        check_a("origin", origin, Origin)
        await self.pass_faults()
        row = self._row(new.user_id)
        if row.totp is not None or not renew_own(
            self.database, new.user_id, new.reference, new.digest, Level.MULTI_FACTOR
        ):
            return False
        row.totp = Totp(new.secret, new.step, self.database.now())
        if new.codes:
            row.codes = set(new.codes)
        self.database.factors[new.user_id] = row
        self.database.add_messages(new.outbox)
        record(self.database, Entry(Act.FACTOR_ADD, new.user_id, origin), {"factor": "totp"})
        return True

    async def remove_totp(
        self, user_id: UUID, reference: UUID, origin: Origin, outbox: Sequence[OutboxMessage] = ()
    ) -> bool:
        """See `Factors.remove_totp`."""
        check_removal(user_id, origin, outbox)
        check_uuid("reference", reference)
        await self.pass_faults()
        row = self._row(user_id)
        if row.totp is None or not is_alive(self.database, user_id, reference):
            return False
        row.totp = None
        if not has_second(self.database, user_id):
            row.codes.clear()
        self.database.add_messages(outbox)
        record(self.database, Entry(Act.FACTOR_REMOVE, user_id, origin), {"factor": "totp"})
        return True

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
        await self.pass_faults()
        row = self._row(user_id)
        if not has_second(self.database, user_id) or not is_alive(
            self.database, user_id, reference
        ):
            return False
        self.database.factors[user_id] = row
        row.codes = set(given)
        self.database.add_messages(outbox)
        entry = Entry(Act.RECOVERY_CODES, user_id, origin)
        record(self.database, entry, {"factor": "recovery_code"})
        return True

    def _row(self, user_id: UUID) -> FactorsRow:
        return self.database.factors.get(user_id, FactorsRow())
