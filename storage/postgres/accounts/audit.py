"""The audit of accounts in PostgreSQL; the twin of `storage/memory/accounts/audit.py`."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from uuid import UUID, uuid4

import msgspec

from actors.accounts.kept.audit import Audited, AuditQuery, Entry, Operation, event_of, user_stream
from actors.persistence import AppendRequest
from actors.persistence.words import check_a
from storage.postgres.connecting.database import Database
from storage.postgres.connecting.session import Connection
from storage.postgres.events.appending import MANY_ON, wait_in_line
from storage.postgres.events.rows import to_columns

_ADD = """
INSERT INTO audit_log (event_type, severity, actor, action, resource, success, error, ip_masked,
    user_agent, request_id)
SELECT 'account', n.severity, n.actor, n.action, n.resource, n.error IS NULL, n.error, n.address,
    n.browser, n.request
FROM unnest({columns}) WITH ORDINALITY
    AS n (severity, actor, action, resource, error, address, browser, request, ord)
ORDER BY n.ord
"""
_COLUMNS_COUNT = 8
# An act of somebody, with further facts of it.
NotedAct = tuple[Entry, Mapping[str, str]]
_NONE: Mapping[str, str] = MappingProxyType({})


def _columns(first: int) -> str:
    return ", ".join(f"${n}::text[]" for n in range(first, first + _COLUMNS_COUNT))


_ADD_ROWS = _ADD.format(columns=_columns(1))
# Behind the nine of an append: the rows of acts and their events are one round trip.
_ADD_ACTS = f"WITH noted AS ({_ADD.format(columns=_columns(10))}){MANY_ON}"
_OPERATED = """
INSERT INTO audit_log (event_type, severity, actor, action, resource, success, ip_masked,
    user_agent, request_id, metadata)
VALUES ('operation', 'warning', $1, $2, $3, true, $4, $5, $6, $7)
"""
_SEARCH = """
SELECT id, at, event_type, actor, action, resource, success, error, ip_masked, user_agent,
    request_id, nullif(metadata->>'reason', '')
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

    async def operated(self, operation: Operation) -> None:
        """See `Audit.operated`."""
        check_a("operation", operation, Operation)
        await self._database.run(_operated, operation)

    async def search(self, query: AuditQuery) -> Sequence[Audited]:
        """See `Audit.search`."""
        check_a("query", query, AuditQuery)
        return await self._database.run(_search, query)


async def begin(connection: Connection, user_id: UUID) -> None:
    """Call this first in the transaction of an act, so that its events ascend in all orders."""
    await wait_in_line(connection, [user_stream(user_id)])


async def record(connection: Connection, entry: Entry, facts: Mapping[str, str] = _NONE) -> None:
    """Call this in the transaction of an act to write what it leaves."""
    await record_acts(connection, [(entry, facts)])


async def record_acts(connection: Connection, acts: Sequence[NotedAct]) -> None:
    """Call this in a transaction to write what acts of one person, or of nobody, leave."""
    rows = zip(*(_row(entry) for entry, _ in acts), strict=True)
    user_id = acts[0][0].user_id
    if user_id is None:
        await connection.execute(_ADD_ROWS, *map(list, rows))
        return
    events = [event_of(uuid4(), entry, dict(facts)) for entry, facts in acts]
    key = AppendRequest(user_stream(user_id), events).key
    await connection.execute(_ADD_ACTS, key, 0, *to_columns(events), *map(list, rows))


def _row(entry: Entry) -> tuple[str | None, ...]:
    origin, user = entry.origin, None if entry.user_id is None else str(entry.user_id)
    return (
        "warning" if entry.reason else "info",
        entry.actor,
        entry.act.value,
        user,
        entry.reason or None,
        origin.address or None,
        origin.browser or None,
        origin.request_id or None,
    )


async def _note(connection: Connection, entry: Entry) -> None:
    if entry.user_id is not None:
        await begin(connection, entry.user_id)
    await record(connection, entry)


async def _operated(connection: Connection, operation: Operation) -> None:
    origin = operation.origin
    await connection.execute(
        _OPERATED,
        str(operation.by),
        operation.act.value,
        operation.thing,
        origin.address or None,
        origin.browser or None,
        origin.request_id or None,
        msgspec.json.encode(operation.to_json()).decode(),
    )


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
