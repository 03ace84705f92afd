"""The schema: numbered SQL files, applied upwards once each, in order, under one lock.

The server only ever goes up; `migrate_down` is for a hand that knows what it does. A file
whose first line is `-- no transaction` runs outside one, a statement at a time (for CREATE INDEX
CONCURRENTLY). Such a step may fail half-way, so it has to be one that can be repeated; an index
that a failed attempt left invalid is removed before.
"""

import asyncio
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable

import asyncpg

from storage.errors import (
    MigrationChanged,
    MigrationFailed,
    MigrationGap,
    MigrationPending,
    MigrationRefused,
    SchemaNewer,
    StoreMoved,
    StoreRewound,
    StoreTimeout,
)
from storage.postgres.connecting.database import Database
from storage.postgres.connecting.session import Connection, first_words
from storage.postgres.schema.holding import LOCK_KEY, hold_alone
from storage.postgres.schema.rewind import read_timeline

# How long a second process waits while the first one applies (STORE-32).
LOCK_S_MAX = 60.0
# Looked at, not waited for: who waits inside the server for a lock has a snapshot meanwhile, and
# CREATE INDEX CONCURRENTLY waits for all snapshots. The two would wait for each other.
LOCK_LOOK_S = 0.1
# A migration may rebuild an index over all events; nobody is served meanwhile.
MIGRATE_S_MAX = 600.0

_NAME = re.compile(r"(\d{4})_([a-z0-9_]+)\.up\.sql")
_RESET = "RESET lock_timeout; RESET statement_timeout"
_NO_TRANSACTION = "-- no transaction"

_CONCURRENTLY = re.compile(
    r"CREATE\s+(?:UNIQUE\s+)?INDEX\s+CONCURRENTLY\s+(?:IF\s+NOT\s+EXISTS\s+)?"
    r'("[^"]+"|[\w$]+)\s+ON\b',
    re.IGNORECASE,
)
# What a statement is made of, as far as finding its end needs it.
_TOKEN = re.compile(
    r"""
    (?P<end>;)
    | (?P<space>\s+)
    | (?P<comment>--[^\n]* | /\*.*?\*/)
    | [eE]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*' | "(?:[^"]|"")*"
    | (?P<dollar>\$(?:[A-Za-z_]\w*)?\$).*?(?P=dollar)
    | \w[\w$]* | .
    """,
    re.VERBOSE | re.DOTALL,
)


# What no step down drops unasked, by its table.
_NOT_TO_BE_LOST = {
    "events": "stored events",
    "event_tags": "tags of stored events",
    "tombstones": "which streams are gone for ever",
}


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered step with its way back."""

    version: int
    name: str
    up: str
    down: str

    @property
    def checksum(self) -> str:
        """Call this to get what tells whether the file was changed after it was applied."""
        return hashlib.sha256(self.up.encode()).hexdigest()

    @property
    def is_transactional(self) -> bool:
        """Call this to ask whether the step may stand in a transaction."""
        return not self.up.startswith(_NO_TRANSACTION)


@dataclass(frozen=True, slots=True)
class MigrationPlan:
    """Where the schema is and what would be applied."""

    applied: int
    pending: tuple[Migration, ...]


def read_migrations(folder: Traversable | None = None) -> tuple[Migration, ...]:
    """Call this to read the steps of a folder, ours by default; raises `MigrationGap`."""
    source = resources.files("storage.postgres.schema") / "migrations" if folder is None else folder
    found = []
    for entry in source.iterdir():
        match = _NAME.fullmatch(entry.name)
        if match is None:
            continue
        down = source / entry.name.replace(".up.sql", ".down.sql")
        found.append(
            Migration(int(match[1]), match[2], entry.read_text("utf-8"), down.read_text("utf-8"))
        )
    found.sort(key=lambda migration: migration.version)
    for wanted, migration in enumerate(found, start=1):
        if migration.version != wanted:
            raise MigrationGap(wanted)
    return tuple(found)


async def migrate(database: Database, migrations: Sequence[Migration] | None = None) -> int:
    """Call this at start to bring the schema up; returns how many steps were applied.

    Of two processes one applies and the other waits up to a minute. Raises
    `MigrationChanged`, `MigrationGap`, `SchemaNewer`, `MigrationFailed`, `StoreMoved`,
    `StoreRewound`.
    """
    steps = read_migrations() if migrations is None else tuple(migrations)
    applied: int = await database.run(_migrate, steps, timeout_s=MIGRATE_S_MAX)
    return applied


async def plan_migrations(
    database: Database, migrations: Sequence[Migration] | None = None
) -> MigrationPlan:
    """Call this to see what `migrate` would do; nothing is changed."""
    steps = read_migrations() if migrations is None else tuple(migrations)
    return await database.run(_plan, steps)


async def check_migrations(
    database: Database, migrations: Sequence[Migration] | None = None
) -> None:
    """Call this instead of `migrate` when another job applies (`MIGRATE=off`); nothing is changed.

    Waits up to a minute for one that is at it. Raises `MigrationPending`, and what `migrate`
    raises but `MigrationFailed`.
    """
    steps = read_migrations() if migrations is None else tuple(migrations)
    await database.run(_check, steps, timeout_s=MIGRATE_S_MAX)


async def check_cluster(database: Database) -> None:
    """Call this to ask only whether the server's numbers are the store's.

    Raises `StoreMoved`, `StoreRewound`.
    """
    await database.run(_check_cluster)


async def migrate_down(
    database: Database,
    to: int,
    *,
    drop_events: bool = False,
    migrations: Sequence[Migration] | None = None,
) -> int:
    """Call this by hand to go back to a version; returns how many steps were undone.

    Raises `MigrationRefused` when it would drop stored events, their tags, or which streams are
    gone for ever, unless `drop_events`, and `StoreInUse` while a program of ours is connected: it
    would meet tables that it does not know.
    """
    steps = read_migrations() if migrations is None else tuple(migrations)
    return await database.run(_migrate_down, steps, to, drop_events, timeout_s=MIGRATE_S_MAX)


async def _migrate(connection: Connection, steps: tuple[Migration, ...]) -> int:
    await _lock(connection)
    try:
        plan = await _plan(connection, steps)
        for step in plan.pending:
            await _apply(connection, step, step.up)
        # Under the lock too: who is serving when it is given back has seen what the last one left.
        await _check_cluster(connection)
        return len(plan.pending)
    finally:
        await _unlock(connection)


async def _check(connection: Connection, steps: tuple[Migration, ...]) -> None:
    await _lock(connection)
    try:
        plan = await _plan(connection, steps)
        if plan.pending:
            raise MigrationPending(plan.applied, plan.pending[-1].version)
        await _check_cluster(connection)
    finally:
        await _unlock(connection)


async def _migrate_down(
    connection: Connection, steps: tuple[Migration, ...], to: int, drop_events: bool
) -> int:
    await _lock(connection)
    try:
        async with connection.transaction():
            await hold_alone(connection)
        plan = await _plan(connection, steps)
        if not 0 <= to <= plan.applied:
            raise MigrationRefused(to, f"the schema is at {plan.applied:04}")
        undone = [step for step in reversed(steps) if to < step.version <= plan.applied]
        for table, words in _NOT_TO_BE_LOST.items():
            drops = any(f"DROP TABLE {table};" in step.down for step in undone)
            if drops and not drop_events and await _has_rows(connection, table):
                raise MigrationRefused(to, f"it would drop {words}")
        for step in undone:
            await _apply(connection, step, step.down)
        return len(undone)
    finally:
        await _unlock(connection)


async def _has_rows(connection: Connection, table: str) -> bool:
    return bool(await connection.fetchval(f"SELECT EXISTS (SELECT FROM {table})"))  # noqa: S608


async def _lock(connection: Connection) -> None:
    """Take the one lock of all migrations; a step may take longer than other statements."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + LOCK_S_MAX
    while not await connection.fetchval(f"SELECT pg_try_advisory_lock({LOCK_KEY})"):
        if loop.time() >= deadline:
            raise StoreTimeout(LOCK_S_MAX, nothing_written=True)
        await asyncio.sleep(LOCK_LOOK_S)
    await connection.execute(f"SET lock_timeout = '{LOCK_S_MAX:.0f}s'; SET statement_timeout = 0")


async def _unlock(connection: Connection) -> None:
    # The lock is the session's, not a transaction's: a step may stand outside of one. A lost
    # session has given it up, whatever its steps came to.
    if not connection.is_closed():
        await connection.execute(f"SELECT pg_advisory_unlock({LOCK_KEY})")
        await connection.execute(_RESET)


async def _plan(connection: Connection, steps: tuple[Migration, ...]) -> MigrationPlan:
    rows: list[asyncpg.Record] = []
    if await connection.fetchval("SELECT to_regclass('schema_migrations') IS NOT NULL"):
        rows = await connection.fetch(
            "SELECT version, checksum FROM schema_migrations ORDER BY version"
        )
    if len(rows) > len(steps):
        raise SchemaNewer(rows[-1]["version"], len(steps))
    for step, row in zip(steps, rows, strict=False):
        if row["version"] != step.version:
            raise MigrationGap(step.version)
        if row["checksum"] != step.checksum:
            raise MigrationChanged(step.version)
    return MigrationPlan(len(rows), steps[len(rows) :])


async def _apply(connection: Connection, step: Migration, sql: str) -> None:
    is_up = sql is step.up
    try:
        if step.is_transactional:
            async with connection.transaction():
                await connection.execute(sql)
                await _note(connection, step, is_up=is_up)
        else:
            for statement in split_statements(sql):
                await _drop_invalid(connection, statement)
                await connection.execute(statement)
            await _note(connection, step, is_up=is_up)
    except asyncpg.PostgresError as error:
        raise MigrationFailed(
            step.version, step.name, first_words(error), is_rolled_back=step.is_transactional
        ) from None  # its further lines quote rows


async def _drop_invalid(connection: Connection, statement: str) -> None:
    """Remove what an earlier attempt left of an index: it serves nobody and bars its name."""
    match = _CONCURRENTLY.match(statement)
    if match is None:
        return
    is_invalid = await connection.fetchval(
        "SELECT NOT indisvalid FROM pg_index WHERE indexrelid = to_regclass($1)", match[1]
    )
    if is_invalid:
        await connection.execute(f"DROP INDEX CONCURRENTLY {match[1]}")


def split_statements(sql: str) -> list[str]:
    """Call this to get the statements of a file one by one, comments before them left out.

    Sent together they would be one transaction to the server. Semicolons in texts, quoted names,
    comments and dollar quotes end nothing.
    """
    found, start, code = [], 0, False
    for match in _TOKEN.finditer(sql):
        if match["end"]:
            if code:
                found.append(sql[start : match.start()].strip())
            start, code = match.end(), False
        elif match["comment"] or match["space"]:
            if not code:
                start = match.end()
        else:
            code = True
    return [*found, sql[start:].strip()] if code else found


async def _note(connection: Connection, step: Migration, *, is_up: bool) -> None:
    # In the step's transaction where it has one. A step without one may be applied and not
    # noted, if we die between: such steps have to be written so that they can be repeated.
    await connection.execute(
        """
        CREATE TABLE IF NOT EXISTS schema_migrations (
            version int PRIMARY KEY,
            name text NOT NULL,
            checksum text NOT NULL,
            applied_at timestamptz NOT NULL DEFAULT now()
        )
        """
    )
    if is_up:
        await connection.execute(
            "INSERT INTO schema_migrations (version, name, checksum) VALUES ($1, $2, $3)",
            step.version,
            step.name,
            step.checksum,
        )
    else:
        await connection.execute("DELETE FROM schema_migrations WHERE version = $1", step.version)


async def _check_cluster(connection: Connection) -> None:
    """Refuse data whose transaction numbers are not this server's, or are given out again.

    Another cluster wrote it (STORE-24), or this one was taken back in time (STORE-26).
    """
    if not await connection.fetchval("SELECT to_regclass('store_meta') IS NOT NULL"):
        return
    # As a document: a step that was undone by hand has taken its column along.
    row = await connection.fetchrow(
        """
        SELECT (to_jsonb(m) ->> 'timeline')::bigint AS timeline,
               m.system_identifier AS kept, c.system_identifier::text AS found,
               (SELECT txid FROM events ORDER BY txid DESC, position DESC LIMIT 1)
                   >= pg_snapshot_xmax(pg_current_snapshot()) AS is_ahead
        FROM store_meta m, pg_control_system() c
        """
    )
    assert row is not None, "the first migration writes this row"
    if row["kept"] != row["found"]:
        raise StoreMoved(f"it was written by cluster {row['kept']}, this is {row['found']}")
    if row["is_ahead"]:
        raise StoreMoved("its events have transaction numbers that this server has not reached")
    timeline = await read_timeline(connection)
    if row["timeline"] is not None and row["timeline"] != timeline:
        raise StoreRewound(row["timeline"], timeline)
