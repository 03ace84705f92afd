"""What became of mails in memory; the twin of `storage/postgres/mails.py`."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

from actors.persistence.beside_log.mails import (
    EXCEPTION_EVERY,
    LEFT_MAX,
    MAILS_KEPT,
    SUPPRESSED_FOR,
    KnownMail,
    MailRef,
    MailState,
    Suppression,
    check_address_digest,
    check_mail,
    check_reason,
    check_settled,
    check_shown,
)
from actors.persistence.event_store import check_limit
from storage.memory.database import SuppressedRow
from storage.memory.twin import Twin


class MemoryMailStates(Twin):
    """The port `MailStates` on a `MemoryDatabase`."""

    async def begin(self, mail: MailRef, *, anew: bool = False) -> int:
        """See `MailStates.begin`."""
        check_mail(mail)
        await self.pass_faults()
        known = self.database.mails.get(mail.message_id)
        is_anew = known is None or (anew and known.state is MailState.REFUSED)
        before = 0 if known is None or is_anew else known.left
        if before >= LEFT_MAX:
            return LEFT_MAX
        self._write(KnownMail(mail, MailState.SENDING, "", before + 1, self.database.now()))
        return before

    async def settle(
        self, mail: MailRef, state: MailState, reason: str = "", *, is_answered: bool = False
    ) -> None:
        """See `MailStates.settle`."""
        check_mail(mail)
        check_settled(state, reason)
        await self.pass_faults()
        known = self.database.mails.get(mail.message_id)
        left = 0 if known is None else max(known.left - bool(is_answered), 0)
        kept = KnownMail(mail, state, reason, left, self.database.now())
        self._write(kept if known is None else replace(kept, mail=known.mail))

    async def suppress(self, address: bytes, reason: str) -> None:
        """See `MailStates.suppress`."""
        check_address_digest(address)
        check_reason(reason)
        await self.pass_faults()
        until, known = self.database.now() + SUPPRESSED_FOR, self.database.suppressed.get(address)
        excepted_at = None if known is None else known.excepted_at
        self.database.suppressed[address] = SuppressedRow(reason, until, excepted_at)

    async def maybe_suppression(self, address: bytes) -> Suppression | None:
        """See `MailStates.maybe_suppression`."""
        check_address_digest(address)
        await self.pass_faults()
        row = self.database.suppressed.get(address)
        if row is None or row.until <= self.database.now():
            return None
        return Suppression(row.reason, row.until)

    async def take_exception(self, address: bytes) -> bool:
        """See `MailStates.take_exception`."""
        check_address_digest(address)
        await self.pass_faults()
        row, now = self.database.suppressed.get(address), self.database.now()
        if row is None or (row.excepted_at is not None and row.excepted_at > now - EXCEPTION_EVERY):
            return False
        row.excepted_at = now
        return True

    async def lift(self, address: bytes) -> bool:
        """See `MailStates.lift`."""
        check_address_digest(address)
        await self.pass_faults()
        return self.database.suppressed.pop(address, None) is not None

    async def newest(
        self, limit: int = 50, *, recipient: bytes | None = None
    ) -> Sequence[KnownMail]:
        """See `MailStates.newest`."""
        check_shown(limit, recipient)
        await self.pass_faults()
        newest = reversed(self.database.mails.values())
        wanted = (one for one in newest if recipient in (None, one.mail.recipient))
        return list(islice(wanted, limit))

    async def purge(self, limit: int = 1000) -> int:
        """See `MailStates.purge`."""
        check_limit(limit)
        await self.pass_faults()
        tables, now = self.database, self.database.now()
        mails = [
            id_ for id_, known in tables.mails.items() if known.changed_at <= now - MAILS_KEPT
        ][:limit]
        over = [address for address, row in tables.suppressed.items() if row.until <= now][:limit]
        for id_ in mails:
            del tables.mails[id_]
        for address in over:
            del tables.suppressed[address]
        return len(mails) + len(over)

    def _write(self, known: KnownMail) -> None:
        # The newest stands last.
        self.database.mails.pop(known.mail.message_id, None)
        self.database.mails[known.mail.message_id] = known
