"""Changes of addresses, in memory; the twin of the other engine's."""

from collections.abc import Sequence
from uuid import UUID

from actors.accounts.kept.addresses import (
    CONFIRM_KEPT,
    REVERT_KEPT,
    AddressChange,
    NewAddress,
    TakeBack,
    check_confirm,
)
from actors.accounts.kept.audit import Act, Entry, Origin
from actors.accounts.kept.disavowals import TOLD_MARGIN
from actors.persistence.beside_log.outbox import check_messages
from actors.persistence.words import OutboxMessage, check_a, check_uuid
from storage.memory.accounts.audit import record
from storage.memory.accounts.members import MemoryAccounts
from storage.memory.accounts.ways.disavowals import carry_out
from storage.memory.database import AddressChangeRow
from storage.memory.twin import Twin


class MemoryAddresses(Twin):
    """The port `Addresses` on a `MemoryDatabase`."""

    async def ask(self, new: NewAddress, origin: Origin) -> bool:
        """See `Addresses.ask`."""
        check_a("new", new, NewAddress)
        check_a("origin", origin, Origin)
        await self.pass_faults()
        database, accounts = self.database, MemoryAccounts(self.database)
        if not accounts.is_alive(new.user_id, new.reference):
            return False
        changes, now = database.address_changes, database.now()
        for one in [
            one
            for one, row in changes.items()
            if (row.user_id == new.user_id and row.made_at is None)
            or now - (row.made_at or row.asked_at) >= REVERT_KEPT
        ]:
            del changes[one]
        former = database.users[new.user_id].email
        changes[new.id] = AddressChangeRow(new.user_id, new.reference, former, new.email, now)
        is_free = not accounts.is_taken(new.email, new.user_id)
        database.add_messages(check_messages([*(new.to_new if is_free else ()), *new.to_former]))
        record(database, Entry(Act.ADDRESS_ASK, new.user_id, origin))
        return True

    async def find(self, change_id: UUID) -> AddressChange | None:
        """See `Addresses.find`."""
        check_uuid("change_id", change_id)
        await self.pass_faults()
        return self._find(change_id)

    async def confirm(
        self, change_id: UUID, origin: Origin, outbox: Sequence[OutboxMessage] = ()
    ) -> bool:
        """See `Addresses.confirm`."""
        check_confirm(change_id, origin, outbox)
        await self.pass_faults()
        database, accounts = self.database, MemoryAccounts(self.database)
        row, now = database.address_changes.get(change_id), database.now()
        if row is None or row.made_at is not None or now - row.asked_at >= CONFIRM_KEPT:
            return False
        if not accounts.is_alive(row.user_id, row.reference):
            return False
        if accounts.is_taken(row.email, row.user_id):
            return False
        row.made_at, user = now, database.users[row.user_id]
        user.email, user.email_verified_at = row.email, now
        links = database.sign_in_links
        for mailbox in [one for one, it in links.items() if it.email in (row.former, row.email)]:
            del links[mailbox]
        database.add_messages(check_messages(outbox))
        record(database, Entry(Act.ADDRESS, row.user_id, origin))
        record(database, Entry(Act.VERIFY_EMAIL, row.user_id, origin))
        return True

    async def take_back(self, back: TakeBack, origin: Origin) -> int | None:
        """See `Addresses.take_back`."""
        check_a("back", back, TakeBack)
        check_a("origin", origin, Origin)
        await self.pass_faults()
        database, change = self.database, self._find(back.id)
        if change is None:
            return None
        changes = database.address_changes
        for one in [
            one
            for one, row in changes.items()
            if row.user_id == change.user_id and row.asked_at >= change.asked_at
        ]:
            del changes[one]
        database.users[change.user_id].email = change.former
        record(database, Entry(Act.ADDRESS_BACK, change.user_id, origin))
        return carry_out(
            database,
            change.user_id,
            change.asked_at - TOLD_MARGIN,
            origin,
            needs_mailbox=back.needs_mailbox,
            outbox=back.outbox,
            tell_stopped=back.tell_stopped,
        )

    def _find(self, change_id: UUID) -> AddressChange | None:
        row = self.database.address_changes.get(change_id)
        if row is None or row.user_id not in self.database.users:
            return None
        if self.database.now() - (row.made_at or row.asked_at) >= REVERT_KEPT:
            return None
        username = self.database.users[row.user_id].username
        is_made = row.made_at is not None
        return AddressChange(
            change_id, row.user_id, username, row.former, row.email, row.asked_at, is_made
        )
