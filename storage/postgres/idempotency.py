"""Idempotency keys in PostgreSQL; the twin of `storage/memory/idempotency.py`."""

from uuid import UUID

from actors.persistence import Claim, Idempotent
from actors.persistence.beside_log.idempotency import ANSWER_BYTES_MAX, LIFETIME, PENDING_LIFETIME
from actors.persistence.event_store import check_limit
from actors.persistence.words import check_a, check_bytes
from storage.errors import IdempotencyInFlight, IdempotencyLost, IdempotencyMismatch
from storage.postgres.connecting.database import Database
from storage.postgres.connecting.session import Connection, change_rows

# Takes the key when it is free: new, expired, or pending since a dead request.
_CLAIM = """
INSERT INTO idempotency AS i (tenant, scope, key, request_hash, state, expires_at)
VALUES ($1, $2, $3, $4, 'pending', clock_timestamp() + $5)
ON CONFLICT (tenant, scope, key) DO UPDATE
SET request_hash = $4, state = 'pending', result = NULL, token = gen_random_uuid(),
    created_at = clock_timestamp(), expires_at = clock_timestamp() + $5
WHERE i.expires_at <= clock_timestamp() OR i.state = 'pending' AND i.request_hash = $4
    AND i.created_at <= clock_timestamp() - $6::interval
RETURNING token
"""


_REMEMBER = """
UPDATE idempotency SET state = 'done', result = $5,
    expires_at = clock_timestamp() + $6::interval
WHERE tenant = $1 AND scope = $2 AND key = $3 AND token = $4
"""

_ABANDON = """
DELETE FROM idempotency
WHERE tenant = $1 AND scope = $2 AND key = $3 AND token = $4 AND state = 'pending'
"""


async def claim(connection: Connection, request: Idempotent) -> Claim | bytes:
    """Call this in a transaction: the stored answer, or a claim when the key is ours now."""
    key = (request.tenant, request.scope, request.key)
    token: UUID | None = await connection.fetchval(
        _CLAIM, *key, request.request_hash, LIFETIME, PENDING_LIFETIME
    )
    if token is not None:
        return Claim(request, token)
    row = await connection.fetchrow(
        "SELECT request_hash, result FROM idempotency"
        " WHERE tenant = $1 AND scope = $2 AND key = $3",
        *key,
    )
    if row is None:
        # There a statement ago, and purged since: the next try finds the key free.
        raise IdempotencyInFlight(request.scope, request.key)
    if row["request_hash"] != request.request_hash:
        raise IdempotencyMismatch(request.scope, request.key)
    if row["result"] is None:
        raise IdempotencyInFlight(request.scope, request.key)
    return bytes(row["result"])


async def _maybe_answer(connection: Connection, request: Idempotent) -> bytes | None:
    row = await connection.fetchrow(
        "SELECT request_hash, result FROM idempotency WHERE tenant = $1 AND scope = $2 AND key = $3"
        " AND expires_at > clock_timestamp()",
        request.tenant,
        request.scope,
        request.key,
    )
    if row is None:
        return None
    if row["request_hash"] != request.request_hash:
        raise IdempotencyMismatch(request.scope, request.key)
    return None if row["result"] is None else bytes(row["result"])


async def remember(connection: Connection, held: Claim, result: bytes) -> None:
    """Call this in the transaction of the work to keep its answer; raises `IdempotencyLost`."""
    request = held.request
    kept = await change_rows(connection, _REMEMBER, *_place(held), result, LIFETIME)
    if kept != 1:
        raise IdempotencyLost(request.scope, request.key)


async def _abandon(connection: Connection, held: Claim) -> None:
    await connection.execute(_ABANDON, *_place(held))


def _place(held: Claim) -> tuple[str, str, str, UUID]:
    return (held.request.tenant, held.request.scope, held.request.key, held.token)


async def _purge(connection: Connection, limit: int) -> int:
    return await change_rows(
        connection,
        "DELETE FROM idempotency WHERE ctid = ANY(ARRAY("
        "SELECT ctid FROM idempotency WHERE expires_at <= clock_timestamp() LIMIT $1))",
        limit,
    )


class PostgresIdempotency:
    """The port `Idempotency` on a `Database`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, request: Idempotent) -> Claim | bytes:
        """See `Idempotency.begin`."""
        check_a("request", request, Idempotent)
        return await self._database.transact(claim, request)

    async def maybe_answer(self, request: Idempotent) -> bytes | None:
        """See `Idempotency.maybe_answer`."""
        check_a("request", request, Idempotent)
        return await self._database.run(_maybe_answer, request)

    async def finish(self, claim: Claim, result: bytes) -> None:
        """See `Idempotency.finish`."""
        check_a("claim", claim, Claim)
        check_bytes("result", result, ANSWER_BYTES_MAX)
        await self._database.run(remember, claim, result)

    async def abandon(self, claim: Claim) -> None:
        """See `Idempotency.abandon`."""
        check_a("claim", claim, Claim)
        await self._database.run(_abandon, claim)

    async def purge(self, limit: int = 1000) -> int:
        """See `Idempotency.purge`."""
        check_limit(limit)
        return await self._database.run(_purge, limit)
