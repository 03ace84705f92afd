"""Idempotency keys in memory; the twin of `storage/postgres/idempotency.py`."""

from uuid import uuid4

from actors.persistence import Claim, Idempotent
from actors.persistence.beside_log.idempotency import ANSWER_BYTES_MAX, LIFETIME, PENDING_LIFETIME
from actors.persistence.event_store import check_limit
from actors.persistence.words import check_a, check_bytes
from storage.errors import IdempotencyInFlight, IdempotencyLost, IdempotencyMismatch
from storage.memory.database import IdempotencyRow, MemoryDatabase
from storage.memory.twin import Twin


def answer_of(database: MemoryDatabase, request: Idempotent) -> bytes | None:
    """Call this for the stored answer, or None when the key is free."""
    row = database.idempotency.get(_key(request))
    now = database.now()
    if row is None or row.expires_at <= now:
        return None
    if row.request_hash != request.request_hash:
        raise IdempotencyMismatch(request.scope, request.key)
    if row.result is not None:
        return row.result
    if row.created_at + PENDING_LIFETIME <= now:
        return None
    raise IdempotencyInFlight(request.scope, request.key)


def claim(database: MemoryDatabase, request: Idempotent) -> Claim:
    """Call this to take a key that is free."""
    held, now = Claim(request, uuid4()), database.now()
    row = IdempotencyRow(request.request_hash, held.token, None, now, now + LIFETIME)
    database.idempotency[_key(request)] = row
    return held


def remember(database: MemoryDatabase, held: Claim, result: bytes) -> None:
    """Call this to keep an answer; raises `IdempotencyLost`."""
    row = database.idempotency.get(_key(held.request))
    if row is None or row.token != held.token:
        raise IdempotencyLost(held.request.scope, held.request.key)
    row.result, row.expires_at = result, database.now() + LIFETIME


def _key(request: Idempotent) -> tuple[str, str, str]:
    return (request.tenant, request.scope, request.key)


class MemoryIdempotency(Twin):
    """The port `Idempotency` on a `MemoryDatabase`."""

    async def begin(self, request: Idempotent) -> Claim | bytes:
        """See `Idempotency.begin`."""
        check_a("request", request, Idempotent)
        await self.pass_faults()
        answer = answer_of(self.database, request)
        return claim(self.database, request) if answer is None else answer

    async def maybe_answer(self, request: Idempotent) -> bytes | None:
        """See `Idempotency.maybe_answer`."""
        check_a("request", request, Idempotent)
        await self.pass_faults()
        row = self.database.idempotency.get(_key(request))
        if row is None or row.expires_at <= self.database.now():
            return None
        if row.request_hash != request.request_hash:
            raise IdempotencyMismatch(request.scope, request.key)
        return row.result

    async def finish(self, claim: Claim, result: bytes) -> None:
        """See `Idempotency.finish`."""
        check_a("claim", claim, Claim)
        check_bytes("result", result, ANSWER_BYTES_MAX)
        await self.pass_faults()
        remember(self.database, claim, result)

    async def abandon(self, claim: Claim) -> None:
        """See `Idempotency.abandon`."""
        check_a("claim", claim, Claim)
        await self.pass_faults()
        row = self.database.idempotency.get(_key(claim.request))
        if row is not None and row.result is None and row.token == claim.token:
            del self.database.idempotency[_key(claim.request)]

    async def purge(self, limit: int = 1000) -> int:
        """See `Idempotency.purge`."""
        check_limit(limit)
        await self.pass_faults()
        now = self.database.now()
        table = self.database.idempotency
        expired = [key for key, row in table.items() if row.expires_at <= now][:limit]
        for key in expired:
            del table[key]
        return len(expired)
