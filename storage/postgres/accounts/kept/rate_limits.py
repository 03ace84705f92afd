"""Counted tries in PostgreSQL; the twin of `storage/memory/accounts/kept/rate_limits.py`.

Times are the server's. Each method is one statement: the function `hit_limits` of the schema locks
the keys in their order, judges as `actors.accounts.kept.throttle.judge` does, and counts.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from actors.accounts.kept.throttle import (
    DELAY_FIRST,
    DELAY_MAX,
    Allowed,
    Limit,
    Limited,
    Verdict,
    check_key,
    check_limits,
)
from actors.persistence.event_store import check_limit
from storage.postgres.connecting.database import Database
from storage.postgres.connecting.session import Connection, change_rows

_HIT = "SELECT wait, remaining FROM hit_limits($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
_GIVE_BACK = """
UPDATE attempts a SET tried_at = CASE g.shape
    WHEN 'bucket' THEN ARRAY(SELECT at - g.step FROM unnest(a.tried_at) at)
    ELSE trim_array(a.tried_at, 1) END
FROM unnest($1::text[], $2::text[], $3::interval[]) g (key, shape, step)
WHERE a.key = g.key AND cardinality(a.tried_at) > 0
    AND a.key = ANY(ARRAY(SELECT key FROM attempts WHERE key = ANY($1) ORDER BY key FOR UPDATE))
"""
# What is being counted under just now is left to the next time.
_PURGE = """
DELETE FROM attempts WHERE key = ANY(ARRAY(
    SELECT key FROM attempts WHERE expires_at <= clock_timestamp() LIMIT $1 FOR UPDATE SKIP LOCKED))
"""


class PostgresRateLimiter:
    """The port `RateLimiter` on a `Database`; `now` replaces the server's clock in tests."""

    def __init__(
        self, database: Database, now: Callable[[], datetime | None] = lambda: None
    ) -> None:
        self._database, self._now = database, now

    async def hit(self, *limits: Limit) -> Verdict:
        """See `RateLimiter.hit`."""
        return await self._database.run(_hit, check_limits(limits), True, self._now())

    async def peek(self, *limits: Limit) -> Verdict:
        """See `RateLimiter.peek`."""
        return await self._database.run(_hit, check_limits(limits), False, self._now())

    async def give_back(self, *limits: Limit) -> None:
        """See `RateLimiter.give_back`."""
        given = check_limits(limits)
        await self._database.run(
            change_rows,
            _GIVE_BACK,
            [limit.key for limit in given],
            [limit.shape.value for limit in given],
            [limit.step for limit in given],
        )

    async def clear(self, key: str) -> None:
        """See `RateLimiter.clear`."""
        known = check_key(key)
        await self._database.run(change_rows, "DELETE FROM attempts WHERE key = $1", known)

    async def purge(self, limit: int = 1000) -> int:
        """See `RateLimiter.purge`."""
        check_limit(limit)
        return await self._database.run(change_rows, _PURGE, limit)


async def _hit(
    connection: Connection, limits: list[Limit], is_counted: bool, now: datetime | None
) -> Verdict:
    row: Any = await connection.fetchrow(
        _HIT,
        [limit.key for limit in limits],
        [limit.tries_max for limit in limits],
        [limit.period for limit in limits],
        [limit.step for limit in limits],
        [limit.shape.value for limit in limits],
        [limit.kept_max for limit in limits],
        DELAY_FIRST,
        DELAY_MAX,
        is_counted,
        now,
    )
    wait, remaining = row["wait"], row["remaining"]
    return Limited(wait.total_seconds()) if wait else Allowed(remaining)
