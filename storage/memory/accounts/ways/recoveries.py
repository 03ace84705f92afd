"""Recoveries of accounts, in memory; the twin of the other engine's."""

from collections.abc import Callable, Sequence
from uuid import UUID

from actors.accounts.kept.audit import Act, Entry, Origin
from actors.accounts.kept.factors import CodeProof, Totp
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
from storage.memory.accounts.audit import record
from storage.memory.accounts.members import MemoryAccounts
from storage.memory.accounts.proving import has_second, known_of, use_proof
from storage.memory.database import MemoryDatabase, RecoveryRow
from storage.memory.twin import Twin


class MemoryRecoveries(Twin):
    """The port `Recoveries` on a `MemoryDatabase`."""

    async def known(self, user_id: UUID) -> Known | None:
        """See `Recoveries.known`."""
        check_uuid("user_id", user_id)
        await self.pass_faults()
        return known_of(self.database, user_id)

    async def start(self, new: NewRecovery, origin: Origin) -> Recovery | None:
        """See `Recoveries.start`."""
        check_start(new, origin)
        await self.pass_faults()
        database, user_id = self.database, new.user_id
        user, now = database.users.get(user_id), database.now()
        if user is None or not has_second(database, user_id):
            return None
        there = self._find(lambda row: row.user_id == user_id)
        if there is not None:
            return there
        if not self._are_known(user_id, new.telling):
            return None
        rows = database.recoveries
        for one in [
            one
            for one, row in rows.items()
            if row.user_id == user_id or now - row.ready_at >= RECOVERY_KEPT
        ]:
            del rows[one]
        rows[new.id] = RecoveryRow(user_id, user.email, now, now + RECOVERY_WAIT)
        database.add_messages(check_messages(new.telling.outbox))
        record(database, Entry(Act.RECOVERY_START, user_id, origin))
        return self._of(new.id)

    async def recover(self, new: NewRecovery, proof: CodeProof, origin: Origin) -> int | None:
        """See `Recoveries.recover`."""
        check_recover(new, proof, origin)
        await self.pass_faults()
        user_id = new.user_id
        if user_id not in self.database.users or not has_second(self.database, user_id):
            return None
        if not self._are_known(user_id, new.telling):
            return None
        if not use_proof(self.database, user_id, proof, origin, by_mailbox=True):
            return None
        return self._carry_out(user_id, new.telling, origin)

    async def of_user(self, user_id: UUID) -> Recovery | None:
        """See `Recoveries.of_user`."""
        check_uuid("user_id", user_id)
        await self.pass_faults()
        return self._find(lambda row: row.user_id == user_id)

    async def find(self, recovery_id: UUID) -> Recovery | None:
        """See `Recoveries.find`."""
        check_uuid("recovery_id", recovery_id)
        await self.pass_faults()
        return self._of(recovery_id)

    async def due(self, limit: int = READY_MAX) -> Sequence[Recovery]:
        """See `Recoveries.due`."""
        check_due(limit)
        await self.pass_faults()
        rows, now = self.database.recoveries, self.database.now()
        waiting = [one for one, row in rows.items() if row.told_at is None and row.ready_at <= now]
        waiting.sort(key=lambda one: rows[one].ready_at)
        found = (self._of(one) for one in waiting)
        return [one for one in found if one is not None][:limit]

    async def make_ready(self, recovery_id: UUID, telling: Telling) -> bool:
        """See `Recoveries.make_ready`."""
        check_step(recovery_id, telling)
        await self.pass_faults()
        found, now = self._of(recovery_id), self.database.now()
        row = self.database.recoveries.get(recovery_id)
        if found is None or row is None or row.told_at is not None or row.ready_at > now:
            return False
        if not self._are_known(found.user_id, telling):
            return False
        row.told_at = now
        self.database.add_messages(check_messages(telling.outbox))
        return True

    async def stop(self, recovery_id: UUID, telling: Telling, origin: Origin) -> bool:
        """See `Recoveries.stop`."""
        check_step(recovery_id, telling)
        check_a("origin", origin, Origin)
        await self.pass_faults()
        found = self._of(recovery_id)
        if found is None or not self._are_known(found.user_id, telling):
            return False
        del self.database.recoveries[recovery_id]
        self.database.add_messages(check_messages(telling.outbox))
        record(self.database, Entry(Act.RECOVERY_STOP, found.user_id, origin))
        return True

    async def finish(self, recovery_id: UUID, telling: Telling, origin: Origin) -> int | None:
        """See `Recoveries.finish`."""
        check_step(recovery_id, telling)
        check_a("origin", origin, Origin)
        await self.pass_faults()
        found = self._of(recovery_id)
        if found is None or not found.is_ready:
            return None
        if not self._are_known(found.user_id, telling):
            return None
        del self.database.recoveries[recovery_id]
        return self._carry_out(found.user_id, telling, origin)

    def _carry_out(self, user_id: UUID, telling: Telling, origin: Origin) -> int:
        database = self.database
        user = database.users[user_id]
        user.password_hash, user.guarded_until = NO_PASSWORD, database.now() + GUARDED_FOR
        ended = MemoryAccounts(database).end_all_of(user_id)
        database.add_messages(check_messages(telling.outbox))
        record(database, Entry(Act.RECOVERY, user_id, origin), {"ended": str(ended)})
        _void(database, user_id, origin)
        return ended

    def _are_known(self, user_id: UUID, telling: Telling) -> bool:
        known = known_of(self.database, user_id)
        return known is not None and set(known.emails) == set(telling.emails)

    def _of(self, recovery_id: UUID) -> Recovery | None:
        row = self.database.recoveries.get(recovery_id)
        user = None if row is None else self.database.users.get(row.user_id)
        now = self.database.now()
        if row is None or user is None or user.email != row.email:
            return None
        if now - row.ready_at >= RECOVERY_KEPT:
            return None
        is_ready = row.told_at is not None and row.ready_at <= now
        return Recovery(recovery_id, row.user_id, row.started_at, row.ready_at, is_ready)

    def _find(self, is_meant: Callable[[RecoveryRow], bool]) -> Recovery | None:
        rows = self.database.recoveries.items()
        return next(
            (found for one, row in rows if is_meant(row) and (found := self._of(one)) is not None),
            None,
        )


def _void(database: MemoryDatabase, user_id: UUID, origin: Origin) -> None:
    user, because = database.users[user_id], {"because": "recovered"}
    links = database.sign_in_links
    for mailbox in [one for one, link in links.items() if link.email == user.email]:
        del links[mailbox]
    for device in [one for one, row in database.devices.items() if row.user_id == user_id]:
        del database.devices[device]
    factors = database.factors.pop(user_id, None)
    totp: Totp | None = None if factors is None else factors.totp
    if totp is not None:
        facts = because | {"factor": "totp"}
        record(database, Entry(Act.FACTOR_REMOVE, user_id, origin), facts)
    for key, passkey in list(database.passkeys.items()):
        if passkey.user_id == user_id:
            del database.passkeys[key]
            facts = because | {"passkey": str(passkey.id)}
            record(database, Entry(Act.PASSKEY_REMOVE, user_id, origin), facts)
    for identity, linked in list(database.identities.items()):
        if linked.user_id == user_id:
            del database.identities[identity]
            facts = because | {"provider": linked.provider}
            record(database, Entry(Act.PROVIDER_UNLINK, user_id, origin), facts)
