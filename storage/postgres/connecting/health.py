"""How the store is, in one look: reachable, saturated, held back, full.

An open transaction that has written hides everything later from readers of the order
(STORE-23), so the oldest one is part of health and is named.
"""

import time
from dataclasses import dataclass

from storage.errors import StoreError
from storage.postgres.connecting.database import Database
from storage.postgres.connecting.session import Connection

OLDEST_WARNED_S = 10.0
OLDEST_DEGRADED_S = 60.0
CHECK_S_MAX = 1.0

_OLDEST = """
SELECT pid, application_name, extract(epoch FROM clock_timestamp() - xact_start) AS age_s
FROM pg_stat_activity
WHERE backend_xid IS NOT NULL AND xact_start IS NOT NULL AND datname = current_database()
ORDER BY xact_start LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class OldestTransaction:
    """The transaction that holds the order back the longest."""

    age_s: float
    pid: int
    application: str


@dataclass(frozen=True, slots=True)
class StoreHealth:
    """`healthy`, `degraded` or `unhealthy`, why, and since how long that took to find out."""

    status: str
    message: str
    duration_ms: float
    oldest: OldestTransaction | None = None


async def check_health(database: Database) -> StoreHealth:
    """Call this for readiness; takes at most a second and never raises a store's error."""
    began = time.perf_counter()
    oldest: OldestTransaction | None = None
    try:
        oldest = await database.run(_oldest, timeout_s=CHECK_S_MAX)
        status, text = judge(oldest, is_saturated=database.pool_stats().is_saturated)
    except StoreError as error:
        status, text = "unhealthy", str(error)
    return StoreHealth(status, text, (time.perf_counter() - began) * 1000, oldest)


def judge(oldest: OldestTransaction | None, *, is_saturated: bool) -> tuple[str, str]:
    """Call this to turn facts into a status and its reason."""
    if oldest is not None and oldest.age_s >= OLDEST_WARNED_S:
        who = f"{oldest.application or 'a client'} (pid {oldest.pid})"
        text = f"{who} holds the order of events back since {oldest.age_s:.0f} s"
        if oldest.age_s >= OLDEST_DEGRADED_S:
            return "degraded", text
        return "healthy", text
    if is_saturated:
        return "degraded", "the connection pool is saturated"
    return "healthy", ""


async def _oldest(connection: Connection) -> OldestTransaction | None:
    row = await connection.fetchrow(_OLDEST)
    if row is None:
        return None
    return OldestTransaction(float(row["age_s"]), row["pid"], row["application_name"])
