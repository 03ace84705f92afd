"""Which statements took longest: all of a database, where it keeps statistics, or one's own.

A database keeps them with the extension `pg_stat_statements`; the embedded one has it not, and of
such a one a process tells what it ran itself since it began. Texts have numbers in the places of
values; only statements that read or write rows are told, as others may hold a password.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import nlargest
from typing import Final

from storage.postgres.connecting.database import Database
from storage.postgres.connecting.session import Connection
from storage.postgres.connecting.statements import StatementSum

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


@dataclass(frozen=True, slots=True)
class SlowStatements:
    """The longest; `is_own` says that they are those of this process alone, since it began."""

    statements: Sequence[SlowStatement]
    is_own: bool


async def read_slow(database: Database, limit: int = 10) -> SlowStatements:
    """Call this for the longest. Raises `StoreError`."""
    found = await database.run(_read, limit, timeout_s=LOOK_S_MAX)
    return SlowStatements(
        own_statements(database, limit) if found is None else found, found is None
    )


_ROWS = re.compile(r"\s*(select|insert|update|delete|with|merge)\b", re.IGNORECASE)


def own_statements(database: Database, limit: int) -> list[SlowStatement]:
    """Call this for the longest of this process."""
    sums = database.sums.newest().items()
    longest = nlargest(
        limit, ((text, one) for text, one in sums if _ROWS.match(text)), key=_total_s
    )
    return [
        SlowStatement(
            " ".join(text.split())[:TEXT_CHARS_MAX],
            one.calls,
            1000 * one.total_s / one.calls,
            one.total_s,
        )
        for text, one in longest
    ]


def _total_s(told: tuple[str, StatementSum]) -> float:
    return told[1].total_s


async def _read(connection: Connection, limit: int) -> list[SlowStatement] | None:
    if not await connection.fetchval("SELECT to_regclass('pg_stat_statements') IS NOT NULL"):
        return None
    rows = await connection.fetch(_LONGEST, limit, TEXT_CHARS_MAX)
    return [SlowStatement(*row) for row in rows]
