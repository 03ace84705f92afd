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
from storage.memory.database import FactorsRow, SignInRow
from storage.memory.twin import Twin


class MemoryFactors(Twin):
    """The port `Factors` on a `MemoryDatabase`."""

    async def held(self, user_id: UUID) -> HeldFactors:
        """See `Factors.held`."""
        check_uuid("user_id", user_id)
        await self.pass_faults()
        row = self._row(user_id)
        return HeldFactors(row.totp, len(row.codes))

    async def add_totp(self, new: NewTotp, origin: Origin) -> bool:
        """See `Factors.add_totp`."""
        check_a("new", new, NewTotp)
        check_a("origin", origin, Origin)
        await self.pass_faults()
        sign_in, row = self._alive(new.user_id, new.reference), self._row(new.user_id)
        if sign_in is None or row.totp is not None:
            return False
        row.totp = Totp(new.secret, new.step, self.database.now())
        if new.codes:
            row.codes = set(new.codes)
        self.database.factors[new.user_id] = row
        self._renew(sign_in, new.digest)
        self.database.add_messages(new.outbox)
        record(self.database, Entry(Act.FACTOR_ADD, new.user_id, origin), {"factor": "totp"})
        return True

    async def remove_totp(
        self, user_id: UUID, origin: Origin, outbox: Sequence[OutboxMessage] = ()
    ) -> bool:
        """See `Factors.remove_totp`."""
        check_removal(user_id, origin, outbox)
        await self.pass_faults()
        row = self._row(user_id)
        if row.totp is None:
            return False
        row.totp = None
        if not row.has_second:
            row.codes.clear()
        self.database.add_messages(outbox)
        record(self.database, Entry(Act.FACTOR_REMOVE, user_id, origin), {"factor": "totp"})
        return True

    async def renew_codes(
        self,
        user_id: UUID,
        codes: Sequence[bytes],
        origin: Origin,
        outbox: Sequence[OutboxMessage] = (),
    ) -> bool:
        """See `Factors.renew_codes`."""
        check_removal(user_id, origin, outbox)
        given = check_codes(codes)
        await self.pass_faults()
        row = self._row(user_id)
        if not row.has_second:
            return False
        row.codes = set(given)
        self.database.add_messages(outbox)
        entry = Entry(Act.RECOVERY_CODES, user_id, origin)
        record(self.database, entry, {"factor": "recovery_code"})
        return True

    def _row(self, user_id: UUID) -> FactorsRow:
        return self.database.factors.get(user_id, FactorsRow())

    def _alive(self, user_id: UUID, reference: UUID) -> SignInRow | None:
        user = self.database.users.get(user_id)
        for row in self.database.sign_ins.values():
            if user is not None and (row.user_id, row.reference) == (user_id, reference):
                return row if row.epoch == user.epoch else None
        return None

    def _renew(self, row: SignInRow, digest: bytes) -> None:
        sign_ins = self.database.sign_ins
        former = next(key for key, value in sign_ins.items() if value is row)
        sign_ins[digest] = sign_ins.pop(former)
        row.proven_at, row.level = self.database.now(), max(row.level, Level.MULTI_FACTOR)
