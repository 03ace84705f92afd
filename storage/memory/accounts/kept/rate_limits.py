"""Counted tries in memory; the twin of `storage/postgres/accounts/kept/rate_limits.py`."""

from datetime import datetime

from actors.accounts.kept.throttle import (
    Allowed,
    Limit,
    Limited,
    Verdict,
    check_key,
    check_limits,
    counted,
    judge,
    uncounted,
)
from actors.persistence.event_store import check_limit
from storage.memory.database import AttemptsRow
from storage.memory.twin import Twin


class MemoryRateLimiter(Twin):
    """The port `RateLimiter` on a `MemoryDatabase`."""

    async def hit(self, *limits: Limit) -> Verdict:
        """See `RateLimiter.hit`."""
        checked = check_limits(limits)
        await self.pass_faults()
        verdict = self._judge(checked)
        if isinstance(verdict, Allowed):
            now = self.database.now()
            for limit in checked:
                row = AttemptsRow(counted(limit, self._tries(limit), now), now + limit.period)
                self.database.attempts[limit.key] = row
        return verdict

    async def peek(self, *limits: Limit) -> Verdict:
        """See `RateLimiter.peek`."""
        checked = check_limits(limits)
        await self.pass_faults()
        return self._judge(checked)

    async def give_back(self, *limits: Limit) -> None:
        """See `RateLimiter.give_back`."""
        checked = check_limits(limits)
        await self.pass_faults()
        for limit in checked:
            row = self.database.attempts.get(limit.key)
            if row is not None:
                row.tried_at = uncounted(limit, row.tried_at)

    async def clear(self, key: str) -> None:
        """See `RateLimiter.clear`."""
        known = check_key(key)
        await self.pass_faults()
        self.database.attempts.pop(known, None)

    async def purge(self, limit: int = 1000) -> int:
        """See `RateLimiter.purge`."""
        check_limit(limit)
        await self.pass_faults()
        kept, now = self.database.attempts, self.database.now()
        over = [key for key, row in kept.items() if row.expires_at <= now][:limit]
        for key in over:
            del kept[key]
        return len(over)

    def _judge(self, limits: list[Limit]) -> Verdict:
        now = self.database.now()
        verdicts = [judge(limit, self._tries(limit), now) for limit in limits]
        waits = [one.retry_after for one in verdicts if isinstance(one, Limited)]
        if waits:
            return Limited(max(waits))
        return Allowed(min(one.remaining for one in verdicts if isinstance(one, Allowed)))

    def _tries(self, limit: Limit) -> list[datetime]:
        row = self.database.attempts.get(limit.key)
        return [] if row is None else row.tried_at
