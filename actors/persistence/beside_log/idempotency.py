"""One request, one effect: what is kept about a key, and for how long.

An append carries an `Idempotent` and settles it in its own transaction. Work that is more
than an append begins a key first, and finishes or abandons it.
"""

from datetime import timedelta
from typing import Protocol

from actors.persistence.words import Claim, Idempotent

# A client that repeats a request does so within its day.
LIFETIME = timedelta(hours=24)

# The request of a dead process is free again after this; no request of ours lasts longer.
PENDING_LIFETIME = timedelta(seconds=60)


# What an answer says stands in tables; this is enough to find it there.
ANSWER_BYTES_MAX = 1024 * 1024


class Idempotency(Protocol):
    """Which requests were answered, and how."""

    async def begin(self, request: Idempotent) -> Claim | bytes:
        """Call this before the work: the stored answer of a repeat, or a claim to go ahead.

        A claim holds the key for a minute; after it another may take the key over. Raises
        `IdempotencyMismatch` when the key belongs to another request and
        `IdempotencyInFlight` when it is being handled.
        """
        ...

    async def maybe_answer(self, request: Idempotent) -> bytes | None:
        """Call this to look whether a request was answered; takes no key, and changes nothing.

        None while it is handled, too. Raises `IdempotencyMismatch` as `begin` does.
        """
        ...

    async def finish(self, claim: Claim, result: bytes) -> None:
        """Call this after the work to keep its answer for a day; repeating it is harmless.

        Raises `IdempotencyLost` when the claim holds the key no more; nothing was kept then.
        """
        ...

    async def abandon(self, claim: Claim) -> None:
        """Call this when the work failed and may be tried again with the same key.

        No effect when another holds the key by now, or the work was finished.
        """
        ...

    async def purge(self, limit: int = 1000) -> int:
        """Call this to remove expired keys, at most `limit`; returns how many."""
        ...
