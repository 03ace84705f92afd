"""One request, one effect: what is kept about a key, and for how long.

An append carries an `Idempotent` and settles it in its own transaction. Work that is more
than an append begins a key first, and finishes or abandons it.
"""

from datetime import timedelta
from typing import Protocol

from actors.persistence.words import Idempotent

# A client that repeats a request does so within its day.
LIFETIME = timedelta(hours=24)

# The request of a dead process is free again after this; no request of ours lasts longer.
PENDING_LIFETIME = timedelta(seconds=60)


class Idempotency(Protocol):
    """Which requests were answered, and how."""

    async def begin(self, request: Idempotent) -> bytes | None:
        """Call this before the work: the stored answer of a repeat, or None to go ahead.

        None holds the key for a minute. Raises `IdempotencyMismatch` when the key belongs to
        another request and `IdempotencyInFlight` when it is being handled.
        """
        ...

    async def finish(self, request: Idempotent, result: bytes) -> None:
        """Call this after the work to keep its answer for a day."""
        ...

    async def abandon(self, request: Idempotent) -> None:
        """Call this when the work failed and may be tried again with the same key."""
        ...

    async def purge(self, limit: int = 1000) -> int:
        """Call this to remove expired keys, at most `limit`; returns how many."""
        ...
