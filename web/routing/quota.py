"""How often visitors may do something in this process: per session, and per address behind it.

For what is harmless, or is this process's own: its sandboxes, its log. It asks no store, so over
several nodes it is as many times more. What guards accounts is the port `RateLimiter`.

Bounded: whoever has done nothing for long is forgotten first, and by then has full quota again.
"""

from collections.abc import Callable, Hashable
from datetime import timedelta
from hashlib import blake2b
from uuid import UUID

from actors.accounts import Limit, Limited
from web.api.limits import rate_limit_headers
from web.routing.errors import RateLimited
from web.server import BoundedMap, counted_as

# Some hundred bytes each; far more visitors than act within a minute.
KEPT_MAX = 10_000


def address_key(address: str) -> str:
    """Call this to name an address in limit rows without storing it."""
    return blake2b(counted_as(address).encode(), digest_size=12, person=b"gr-address").hexdigest()


class Quota:
    """Counts what is done; `now` is the loop's clock.

    At most so many within any `period_s` seconds, of a session and of an address. `name` is what
    client programs know the limit by.
    """

    def __init__(
        self,
        now: Callable[[], float],
        name: str,
        *,
        per_session_max: int,
        per_address_max: int,
        period_s: float,
        kept_max: int = KEPT_MAX,
    ) -> None:
        self._now, self._name, self._period_s = now, name, period_s
        self.per_session_max, self.per_address_max = per_session_max, per_address_max
        self._times: BoundedMap[Hashable, list[float]] = BoundedMap(kept_max)

    def __len__(self) -> int:
        return len(self._times)

    def take(self, session: UUID | None, address: str) -> None:
        """Call this for each time; raises `RateLimited`, and then nothing was counted.

        Without a session only the address counts.
        """
        now = self._now()
        limits: dict[Hashable, int] = {counted_as(address): self.per_address_max}
        if session is not None:
            limits[session] = self.per_session_max
        recent = {who: self._recent(who, now) for who in limits}
        for who, limit in limits.items():
            if len(recent[who]) >= limit:
                wait_s = recent[who][-limit] + self._period_s - now
                told = Limit(self._name, limit, timedelta(seconds=self._period_s))
                headers = rate_limit_headers(self._name, told, Limited(wait_s))
                raise RateLimited(wait_s, headers)
        for who, times in recent.items():
            self._times.put(who, [*times, now])

    def left(self, session: UUID, address: str) -> tuple[int, float]:
        """Call this for how many are left now, and when none is, in how many seconds there is."""
        now = self._now()
        limits = {session: self.per_session_max, counted_as(address): self.per_address_max}
        lefts, waits = [], [0.0]
        for who, limit in limits.items():
            recent = self._recent(who, now)
            lefts.append(max(0, limit - len(recent)))
            if len(recent) >= limit:
                waits.append(recent[-limit] + self._period_s - now)
        return min(lefts), max(waits)

    def _recent(self, who: Hashable, now: float) -> list[float]:
        return [at for at in self._times.get(who) or () if now - at < self._period_s]
