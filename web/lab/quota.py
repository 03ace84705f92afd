"""How often visitors may act in the lab (LAB-7): per session, and per address behind it.

Bounded: whoever has not acted for long is forgotten first, and by then has full quota again.
"""

from collections.abc import Callable, Hashable
from uuid import UUID

from web.routing.errors import RateLimited

# LAB-7: a person who crashes things for fun, not a script.
ACTIONS_PER_SESSION_MAX = 30
# A class room behind one address.
ACTIONS_PER_ADDRESS_MAX = 120
PERIOD_S = 60.0
# Some hundred bytes each; far more visitors than act within a minute.
KEPT_MAX = 10_000


class LabQuota:
    """Counts actions; `now` is the loop's clock."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._times: dict[Hashable, list[float]] = {}

    def __len__(self) -> int:
        return len(self._times)

    def take(self, session: UUID, address: str) -> None:
        """Call this for each action; raises `RateLimited`, and then nothing was counted."""
        now = self._now()
        limits = {session: ACTIONS_PER_SESSION_MAX, address: ACTIONS_PER_ADDRESS_MAX}
        recent = {who: self._recent(who, now) for who in limits}
        for who, limit in limits.items():
            if len(recent[who]) >= limit:
                raise RateLimited(recent[who][-limit] + PERIOD_S - now)
        for who, times in recent.items():
            # To the end: the least recently active is forgotten first.
            self._times.pop(who, None)
            self._times[who] = [*times, now]
        while len(self._times) > KEPT_MAX:
            del self._times[next(iter(self._times))]

    def _recent(self, who: Hashable, now: float) -> list[float]:
        return [at for at in self._times.get(who, ()) if now - at < PERIOD_S]
