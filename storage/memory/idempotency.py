"""Idempotency keys in memory; the twin of `storage/postgres/idempotency.py`."""

from actors.persistence import Idempotent
from actors.persistence.beside_log.idempotency import LIFETIME, PENDING_LIFETIME
from storage.errors import IdempotencyInFlight, IdempotencyMismatch
from storage.memory.database import IdempotencyRow, MemoryDatabase
from storage.memory.faults import Faults


def claim(database: MemoryDatabase, request: Idempotent) -> bytes | None:
    """Call this in an append: the stored answer, or None when the key is free."""
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


def remember(database: MemoryDatabase, request: Idempotent, result: bytes | None) -> None:
    """Call this to keep an answer, or without one that the request is being handled."""
    now = database.now()
    database.idempotency[_key(request)] = IdempotencyRow(
        request.request_hash, result, now, now + LIFETIME
    )


def _key(request: Idempotent) -> tuple[str, str, str]:
    return (request.tenant, request.scope, request.key)


class MemoryIdempotency(Faults):
    """The port `Idempotency` on a `MemoryDatabase`."""

    def __init__(self, database: MemoryDatabase | None = None) -> None:
        super().__init__()
        self.database = database if database is not None else MemoryDatabase()

    async def begin(self, request: Idempotent) -> bytes | None:
        """See `Idempotency.begin`."""
        await self.pass_faults()
        answer = claim(self.database, request)
        if answer is None:
            remember(self.database, request, None)
        return answer

    async def finish(self, request: Idempotent, result: bytes) -> None:
        """See `Idempotency.finish`."""
        await self.pass_faults()
        remember(self.database, request, result)

    async def abandon(self, request: Idempotent) -> None:
        """See `Idempotency.abandon`."""
        await self.pass_faults()
        row = self.database.idempotency.get(_key(request))
        if row is not None and row.result is None:
            del self.database.idempotency[_key(request)]

    async def purge(self, limit: int = 1000) -> int:
        """See `Idempotency.purge`."""
        await self.pass_faults()
        now = self.database.now()
        table = self.database.idempotency
        expired = [key for key, row in table.items() if row.expires_at <= now][:limit]
        for key in expired:
            del table[key]
        return len(expired)
