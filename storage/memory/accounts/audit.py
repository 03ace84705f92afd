"""The audit of accounts in memory; the twin of `storage/postgres/accounts/audit.py`."""

from collections.abc import Sequence
from uuid import uuid4

from actors.accounts.kept.audit import Audited, AuditQuery, Entry, Operation, event_of, user_stream
from actors.persistence.words import check_a
from storage.memory.database import MemoryDatabase
from storage.memory.twin import Twin


class MemoryAudit(Twin):
    """The port `Audit` on a `MemoryDatabase`."""

    async def note(self, entry: Entry) -> None:
        """See `Audit.note`."""
        check_a("entry", entry, Entry)
        await self.pass_faults()
        record(self.database, entry)

    async def operated(self, operation: Operation) -> None:
        """See `Audit.operated`."""
        check_a("operation", operation, Operation)
        await self.pass_faults()
        origin = operation.origin
        row = Audited(
            len(self.database.audit) + 1,
            self.database.now(),
            "operation",
            str(operation.by),
            operation.act.value,
            operation.thing,
            is_success=True,
            reason=None,
            address=origin.address or None,
            browser=origin.browser or None,
            request_id=origin.request_id or None,
            why=operation.why or None,
        )
        self.database.audit.append(row)

    async def search(self, query: AuditQuery) -> Sequence[Audited]:
        """See `Audit.search`."""
        check_a("query", query, AuditQuery)
        await self.pass_faults()
        rows = [row for row in reversed(self.database.audit) if _is_wanted(query, row)]
        return rows[: query.limit]


def record(database: MemoryDatabase, entry: Entry, facts: dict[str, str] | None = None) -> None:
    """Call this in an act to write what it leaves."""
    origin = entry.origin
    user = None if entry.user_id is None else str(entry.user_id)
    row = Audited(
        len(database.audit) + 1,
        database.now(),
        "account",
        entry.actor,
        entry.act.value,
        user,
        not entry.reason,
        entry.reason or None,
        origin.address or None,
        origin.browser or None,
        origin.request_id or None,
    )
    database.audit.append(row)
    if entry.user_id is not None:
        stream = user_stream(entry.user_id)
        txid, event = database.begin(), event_of(uuid4(), entry, facts)
        version = len(database.streams.get(stream, ())) + 1
        database.commit(txid, database.place(txid, stream, version, [event]))


def _is_wanted(query: AuditQuery, row: Audited) -> bool:
    user = None if query.user_id is None else str(query.user_id)
    return (
        (user is None or user in (row.actor, row.subject))
        and query.action in (None, row.action)
        and (query.since is None or row.at >= query.since)
        and (query.until is None or row.at < query.until)
        and query.is_success in (None, row.is_success)
        and (query.before is None or row.id < query.before)
    )
