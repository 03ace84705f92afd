"""The audit of accounts in PostgreSQL; the twin of `storage/memory/accounts/audit.py`."""

from collections.abc import Sequence
from uuid import UUID, uuid4

from actors.accounts.kept.audit import Audited, AuditQuery, Entry, event_of, user_stream
from actors.persistence import AppendRequest
from actors.persistence.words import check_a
from storage.postgres.connecting.database import Database
from storage.postgres.connecting.session import Connection
from storage.postgres.events.appending import insert, wait_in_line

_ADD = """
INSERT INTO audit_log (event_type, severity, actor, action, resource, success, error, ip_masked,
    user_agent, request_id)
VALUES ('account', $1, $9, $3, $2, $4, $5, $6, $7, $8)
"""
_SEARCH = """
SELECT id, at, event_type, actor, action, resource, success, error, ip_masked, user_agent,
    request_id
FROM audit_log
WHERE ($1::text IS NULL OR actor = $1 OR resource = $1) AND ($2::text IS NULL OR action = $2)
    AND ($3::timestamptz IS NULL OR at >= $3) AND ($4::timestamptz IS NULL OR at < $4)
    AND ($5::bool IS NULL OR success = $5) AND ($6::bigint IS NULL OR id < $6)
ORDER BY id DESC LIMIT $7
"""


class PostgresAudit:
    """The port `Audit` on a `Database`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def note(self, entry: Entry) -> None:
        """See `Audit.note`."""
        check_a("entry", entry, Entry)
        await self._database.transact(_note, entry)

    async def search(self, query: AuditQuery) -> Sequence[Audited]:
        """See `Audit.search`."""
        check_a("query", query, AuditQuery)
        return await self._database.run(_search, query)


async def begin(connection: Connection, user_id: UUID) -> None:
    """Call this first in the transaction of an act, so that its events ascend in all orders."""
    await wait_in_line(connection, [user_stream(user_id)])


async def record(connection: Connection, entry: Entry, facts: dict[str, str] | None = None) -> None:
    """Call this in the transaction of an act to write what it leaves."""
    origin = entry.origin
    user = None if entry.user_id is None else str(entry.user_id)
    await connection.execute(
        _ADD,
        "warning" if entry.reason else "info",
        user,
        entry.act.value,
        not entry.reason,
        entry.reason or None,
        origin.address or None,
        origin.browser or None,
        origin.request_id or None,
        user if origin.method else None,
    )
    if entry.user_id is not None:
        event = event_of(uuid4(), entry, facts)
        await insert(connection, AppendRequest(user_stream(entry.user_id), [event]))


async def _note(connection: Connection, entry: Entry) -> None:
    if entry.user_id is not None:
        await begin(connection, entry.user_id)
    await record(connection, entry)


async def _search(connection: Connection, query: AuditQuery) -> list[Audited]:
    rows = await connection.fetch(
        _SEARCH,
        None if query.user_id is None else str(query.user_id),
        query.action,
        query.since,
        query.until,
        query.is_success,
        query.before,
        query.limit,
    )
    return [Audited(*row) for row in rows]
