"""Changes that somebody disavows, in memory; the twin of the other engine's."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from actors.accounts.kept.audit import Act, Entry, Origin
from actors.accounts.kept.disavowals import DISAVOWAL_KEPT, Disavowal, check_disavow
from actors.accounts.kept.recoveries import TellStopped
from actors.accounts.members import NO_PASSWORD
from actors.persistence.beside_log.outbox import check_messages
from actors.persistence.words import OutboxMessage
from storage.memory.accounts.audit import record
from storage.memory.accounts.members import MemoryAccounts
from storage.memory.accounts.proving import stop_recovery
from storage.memory.database import MemoryDatabase
from storage.memory.twin import Twin


class MemoryDisavowals(Twin):
    """The port `Disavowals` on a `MemoryDatabase`."""

    async def disavow(self, disavowal: Disavowal, origin: Origin) -> int | None:
        """See `Disavowals.disavow`."""
        check_disavow(disavowal, origin)
        await self.pass_faults()
        database, user_id, since = self.database, disavowal.user_id, disavowal.since
        user, used, now = database.users.get(user_id), database.used_disavowals, database.now()
        for over in [one for one, until in used.items() if until <= now]:
            del used[over]
        if user is None or user.password_hash is None or disavowal.digest in used:
            return None
        used[disavowal.digest] = now + DISAVOWAL_KEPT
        return carry_out(
            database,
            user_id,
            since,
            origin,
            needs_mailbox=disavowal.needs_mailbox,
            outbox=disavowal.outbox,
            tell_stopped=disavowal.tell_stopped,
        )


def carry_out(
    database: MemoryDatabase,
    user_id: UUID,
    since: datetime,
    origin: Origin,
    *,
    needs_mailbox: bool,
    outbox: Sequence[OutboxMessage],
    tell_stopped: TellStopped | None,
) -> int:
    """Call this in an act for what disavowing does; how many sign-ins ended."""
    user = database.users[user_id]
    if needs_mailbox:
        user.password_hash = NO_PASSWORD
        user.doubted_since = min(user.doubted_since or since, since)
    links = database.sign_in_links
    for mailbox in [one for one, row in links.items() if row.email == user.email]:
        del links[mailbox]
    if user_id in database.factors:
        database.factors[user_id].codes.clear()
    for device in [one for one, row in database.devices.items() if row.user_id == user_id]:
        del database.devices[device]
    stop_recovery(database, user_id, origin, tell_stopped, "disavowed")
    ended = MemoryAccounts(database).end_all_of(user_id)
    database.add_messages(check_messages(outbox))
    record(database, Entry(Act.DISAVOW, user_id, origin), {"ended": str(ended)})
    if needs_mailbox or user.password_hash != NO_PASSWORD:
        _unlink(database, user_id, since, origin)
    return ended


def _unlink(database: MemoryDatabase, user_id: UUID, since: datetime, origin: Origin) -> None:
    for identity, row in list(database.identities.items()):
        if row.user_id == user_id and row.linked_at >= since:
            del database.identities[identity]
            facts = {"provider": row.provider, "because": "disavowed"}
            record(database, Entry(Act.PROVIDER_UNLINK, user_id, origin), facts)
