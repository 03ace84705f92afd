"""Which statements of a database took longest, where it keeps statistics of them.

They are there with the extension `pg_stat_statements`. Their texts have numbers in the places of
values; only statements that read or write rows are told, as others may hold a password.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from storage.postgres.connecting.database import Database
from storage.postgres.connecting.session import Connection

LOOK_S_MAX: Final = 2.0
TEXT_CHARS_MAX: Final = 300
_LONGEST: Final = """
SELECT left(regexp_replace(query, '\\s+', ' ', 'g'), $2) AS text, calls,
    mean_exec_time AS mean_ms, total_exec_time / 1000 AS total_s
FROM pg_stat_statements
WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND query ~* '^\\s*(select|insert|update|delete|with|merge)\\M'
ORDER BY total_exec_time DESC LIMIT $1
"""


@dataclass(frozen=True, slots=True)
class SlowStatement:
    """One statement: its text, how often it ran, and how long that took on average and together."""

    text: str
    calls: int
    mean_ms: float
    total_s: float


async def read_slow(database: Database, limit: int = 10) -> Sequence[SlowStatement] | None:
    """Call this for the longest; None where no statistics are kept. Raises `StoreError`."""
    return await database.run(_read, limit, timeout_s=LOOK_S_MAX)


async def _read(connection: Connection, limit: int) -> list[SlowStatement] | None:
    if not await connection.fetchval("SELECT to_regclass('pg_stat_statements') IS NOT NULL"):
        return None
    rows = await connection.fetch(_LONGEST, limit, TEXT_CHARS_MAX)
    return [SlowStatement(*row) for row in rows]
