"""How the store is, in one look: reachable, writable, held back, full; and how its pool is used.

An open transaction that has written hides everything later from readers of the order
(STORE-23), so the oldest one is part of health and is named: of any database of the server, whose
transactions share one order, and also those that are prepared and belong to no session. What it
does is measured beside that, for not every role may see who it is.
"""

import time
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from storage.errors import StoreError
from storage.postgres.connecting.database import Database
from storage.postgres.connecting.pool import PoolStats
from storage.postgres.connecting.session import Connection

# So long may a transaction hold back what readers of the order see, before it is told.
OLDEST_WARNED_S = 10.0
OLDEST_DEGRADED_S = 60.0
CHECK_S_MAX = 1.0
# What a lost disk may cost: a file waits for a minute at most before it is closed, and is copied in
# a moment. A command that hangs fails never, so the time tells of it, and not its failures.
ARCHIVE_LATE_S = 60.0

# Where whoever made the server read-only says why: the embedded one when its disk is nearly full.
READ_ONLY_REASON = "greenroom.read_only_reason"

_STATE = f"""
SELECT current_setting('transaction_read_only') = 'on' AS is_read_only,
       coalesce(current_setting('{READ_ONLY_REASON}', true), '') AS reason,
       to_regclass('events') IS NOT NULL AS has_events
"""

OLDEST = """
SELECT pid, who, extract(epoch FROM clock_timestamp() - since) AS age_s, at_home
FROM (
    SELECT pid, coalesce(application_name, '') AS who, xact_start AS since,
           datname IS NOT DISTINCT FROM current_database() AS at_home
    FROM pg_stat_activity
    WHERE backend_xid IS NOT NULL AND xact_start IS NOT NULL
    UNION ALL
    SELECT 0, 'prepared transaction ' || quote_literal(gid), prepared,
           database = current_database()
    FROM pg_prepared_xacts
) AS writing
ORDER BY since LIMIT 1
"""

# What the log's files are archived by, and whether this role may look at those that wait.
_ARCHIVER = """
SELECT current_setting('archive_mode') IN ('on', 'always') AS is_on,
       failed_count > 0 AND coalesce(last_failed_time > last_archived_time, true) AS is_failing,
       extract(epoch FROM clock_timestamp() - coalesce(last_archived_time, stats_reset)) AS since_s,
       has_function_privilege('pg_ls_archive_statusdir()', 'EXECUTE') AS may_look
FROM pg_stat_archiver
"""
_UNARCHIVED = """
SELECT count(*), extract(epoch FROM clock_timestamp() - min(modification))
FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'
"""

# Committed, and not yet in the order for anybody. By the order's own index: one row is read.
_HELD_BACK = """
SELECT extract(epoch FROM clock_timestamp() - recorded_at) FROM events
WHERE txid >= pg_snapshot_xmin(pg_current_snapshot())
ORDER BY txid, position LIMIT 1
"""


# What a store relies on, and an operator may have set otherwise.
_SERVER = """
SELECT clock_timestamp() AS now, current_setting('server_version') AS version,
       pg_encoding_to_char(encoding) AS encoding, current_setting('fsync') = 'on' AS syncs,
       current_setting('full_page_writes') = 'on' AS writes_pages
FROM pg_database WHERE datname = current_database()
"""


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """How the server is set: its clock when it was asked, and what a store relies on."""

    now: datetime
    version: str
    encoding: str
    is_durable: bool


@dataclass(frozen=True, slots=True)
class OldestTransaction:
    """The transaction that holds the order back the longest; `pid` is 0 for a prepared one."""

    age_s: float
    pid: int
    application: str
    # Whether it writes in this database; those of others hold our order back too.
    is_of_this_database: bool = True

    def __str__(self) -> str:
        who = self.application or "a client"
        if self.pid:
            who += f" (pid {self.pid})"
        return who if self.is_of_this_database else f"{who} in another database of this server"


@dataclass(frozen=True, slots=True)
class StoreHealth:
    """`healthy`, `degraded` or `unhealthy`, why, and since how long that took to find out.

    `held_back_s` is the age of the first event that is stored and that no reader of the order
    is given yet; 0 when there is none.
    """

    status: str
    message: str
    duration_ms: float
    oldest: OldestTransaction | None = None
    held_back_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _Found:
    oldest: OldestTransaction | None
    held_back_s: float
    read_only_reason: str


@dataclass(frozen=True, slots=True)
class ArchiveState:
    """How the server's log is archived. `waiting_s` is how long the oldest file waits that is full.

    A role that may not look at files knows only whether the last one failed, and takes for
    `waiting_s` the time since one was archived.
    """

    is_on: bool
    is_failing: bool = False
    waiting: int = 0
    waiting_s: float = 0.0


async def check_archive(database: Database) -> ArchiveState:
    """Call this for how the log is archived; a second at most. Raises `StoreError`."""
    return await database.run(read_archive, timeout_s=CHECK_S_MAX)


async def read_archive(connection: Connection) -> ArchiveState:
    """Call this on a connection for how the log is archived."""
    row = await connection.fetchrow(_ARCHIVER)
    assert row is not None, "a view of one row"
    if not row["is_on"]:
        return ArchiveState(is_on=False)
    if not row["may_look"]:
        since_s = float(row["since_s"] or 0.0) if row["is_failing"] else 0.0
        return ArchiveState(True, row["is_failing"], waiting_s=since_s)
    found = await connection.fetchrow(_UNARCHIVED)
    assert found is not None, "a count is a row"
    # A clock that was set back is no reason to wait less than not at all.
    waiting_s = max(0.0, float(found[1] or 0.0))
    return ArchiveState(True, row["is_failing"] and found[0] > 0, found[0], waiting_s)


def judge_archive(state: ArchiveState) -> str:
    """Call this for what is wrong with the archive: empty when it comes as fast as it should."""
    if state.is_failing or state.waiting_s >= ARCHIVE_LATE_S:
        how = "cannot be archived" if state.is_failing else "is not archived"
        return f"the log {how} for {state.waiting_s:.0f} s: a lost disk would cost what it holds"
    return ""


async def server_facts(database: Database) -> ServerFacts:
    """Call this for how the server is set; a second at most. Raises `StoreError`."""
    return await database.run(_server_facts, timeout_s=CHECK_S_MAX)


async def _server_facts(connection: Connection) -> ServerFacts:
    row = await connection.fetchrow(_SERVER)
    assert row is not None, "this database is one of the server's"
    is_durable = row["syncs"] and row["writes_pages"]
    return ServerFacts(row["now"], row["version"], row["encoding"], is_durable)


async def check_health(database: Database) -> StoreHealth:
    """Call this for readiness; takes at most a second and never raises a store's error."""
    began = time.perf_counter()
    found = _Found(None, 0.0, "")
    try:
        found = await database.run(_look, timeout_s=CHECK_S_MAX)
        status, text = judge(
            found.oldest,
            held_back_s=found.held_back_s,
            read_only_reason=found.read_only_reason,
        )
    except StoreError as error:
        status, text = "unhealthy", str(error)
    took_ms = (time.perf_counter() - began) * 1000
    return StoreHealth(status, text, took_ms, found.oldest, found.held_back_s)


def judge(
    oldest: OldestTransaction | None,
    *,
    held_back_s: float = 0.0,
    read_only_reason: str = "",
) -> tuple[str, str]:
    """Call this to turn facts into a status and its reason."""
    if read_only_reason:
        return "degraded", f"nothing can be written: {read_only_reason}"
    age_s = max(held_back_s, 0.0 if oldest is None else oldest.age_s)
    text = ""
    if age_s >= OLDEST_WARNED_S:
        # A role may be unable to see other people's transactions, and sees what they do.
        who = oldest or "an open transaction that this role cannot see"
        text = f"{who} holds the order of events back since {age_s:.0f} s"
    if age_s >= OLDEST_DEGRADED_S:
        return "degraded", text
    return "healthy", text


def judge_pool(stats: PoolStats) -> str:
    """Call this for what is wrong with a pool: empty when there are enough connections."""
    if stats.waiting and stats.utilization >= 1.0:
        return f"every connection is in use and {stats.waiting} wait for one"
    # STORE-33: nobody waits yet, or not in this moment; the next burst will.
    return "the connection pool is saturated" if stats.is_saturated else ""


async def _look(connection: Connection) -> _Found:
    state = await connection.fetchrow(_STATE)
    assert state is not None, "a row without a table"
    if state["is_read_only"] and not state["reason"]:
        # As a write would have found it: the pool then looks for a server that takes writes.
        raise asyncpg.ReadOnlySQLTransactionError("the server takes no writes")
    row = await connection.fetchrow(OLDEST)
    held_back = await connection.fetchval(_HELD_BACK) if state["has_events"] else None
    oldest = None
    if row is not None:
        oldest = OldestTransaction(float(row["age_s"]), row["pid"], row["who"], row["at_home"])
    return _Found(oldest, float(held_back or 0.0), state["reason"] if state["is_read_only"] else "")
