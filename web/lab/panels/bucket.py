"""How many probes a burst may send: a bucket of tokens that fills again by itself (SITE-142).

Unlike `Quota`, which looks back over a period, a bucket lets a full one be emptied at once.
Bounded: whoever sent nothing for longest is forgotten first, and has a full one again.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from uuid import UUID

from web.server import BoundedMap, counted_as

# Some 200 bytes each; far more visitors than send bursts within the twenty seconds of a refill.
KEPT_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Size:
    """How much a full bucket holds, and how much of it comes back in a second."""

    capacity: int
    refill_per_s: float


# SITE-142: of a session two slow runs of a thousand, or one of everything; of an address four such.
SESSION = Size(5_000, 250.0)
ADDRESS = Size(20_000, 500.0)


@dataclass(frozen=True, slots=True)
class Taken:
    """What a probe came to: `wait_s` is above 0 when it is refused, and until when.

    `left` is of the bucket that has least.
    """

    left: int
    wait_s: float = 0.0


@dataclass(slots=True)
class _Bucket:
    size: Size
    tokens: float
    at: float

    def fill(self, now: float) -> None:
        self.tokens = min(
            self.size.capacity, self.tokens + (now - self.at) * self.size.refill_per_s
        )
        self.at = now


class Buckets:
    """One bucket a session and one an address; `now` is the loop's clock."""

    def __init__(
        self,
        now: Callable[[], float],
        *,
        session: Size = SESSION,
        address: Size = ADDRESS,
        kept_max: int = KEPT_MAX,
    ) -> None:
        self._now = now
        self.session, self.address = session, address
        self._buckets: BoundedMap[Hashable, _Bucket] = BoundedMap(kept_max)

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, session: UUID | None, address: str) -> Taken:
        """Call this for each probe: takes one of both buckets, or of none of them."""
        now = self._now()
        found = [self._bucket(counted_as(address), self.address, now)]
        if session is not None:
            found.append(self._bucket(session, self.session, now))
        least = min(found, key=lambda one: one.tokens)
        if least.tokens < 1:
            return Taken(0, max((1 - one.tokens) / one.size.refill_per_s for one in found))
        for one in found:
            one.tokens -= 1
        return Taken(int(least.tokens))

    def left(self, session: UUID) -> int:
        """Call this for the tokens of a session; it takes none, and makes no bucket."""
        bucket = self._buckets.get(session)
        if bucket is None:
            return self.session.capacity
        since_s = self._now() - bucket.at
        return int(min(bucket.size.capacity, bucket.tokens + since_s * bucket.size.refill_per_s))

    def _bucket(self, who: Hashable, size: Size, now: float) -> _Bucket:
        bucket = self._buckets.get(who) or _Bucket(size, size.capacity, now)
        bucket.fill(now)
        self._buckets.put(who, bucket)
        return bucket
