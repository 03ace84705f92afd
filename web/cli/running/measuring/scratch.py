"""The database that is measured: one of its own, which is gone afterwards.

Rule 1: nothing is written where the streams of a program are. On a server that was named it is a
schema of its own, else an embedded server of its own, beside the data of the settings: on the same
disk, for a folder in memory would make every commit look fast.
Rule 2: it is removed however the command ends; what a killed one has left, the next one removes.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from secrets import token_hex

import trio

from storage.errors import EmbeddedFailed, StateDirInUse, StoreError, StoreRejected
from storage.postgres import (
    Connection,
    Database,
    PoolSettings,
    migrate,
    open_database,
    open_embedded,
)
from storage.postgres.embedded.server import hold_folder
from web.cli.opening import OPERATION_S_MAX, WAIT_S
from web.observability import Code, CommandFailed, complain, first_leaf
from web.settings import Settings

PREFIX = "greenroom_bench_"
FOLDER_PREFIX = ".greenroom-bench-"
# Of two that begin at once one removes what was left. No other advisory lock of ours has it.
LOCK_KEY = 7_203_114_000_9
# To drop sixty tables and what was written into three of them.
DROP_S_MAX = 15.0

# Those that were left by commands that were killed: nobody is connected under their name.
_LEFT = """
SELECT nspname FROM pg_namespace
WHERE nspname ~ '^greenroom_bench_[0-9a-f]{12}$' AND pg_has_role(nspowner, 'USAGE')
    AND NOT EXISTS (
        SELECT FROM pg_stat_activity
        WHERE application_name LIKE 'greenroom:bench-' || right(nspname, 12) || '%'
    )
"""


@asynccontextmanager
async def open_scratch(settings: Settings, wait_s: float) -> AsyncIterator[Database]:
    """Call this for an empty store with the whole schema, for as long as the block runs.

    On a server that was named it raises as every command does. Without one it is embedded, and
    raises `EmbeddedFailed` where that is not possible.
    """
    if settings.database_url is not None:
        async with _schema(settings.database_url.reveal(), wait_s) as database:
            yield database
        return
    with _folder(settings.state_dir) as folder:
        async with open_embedded(folder) as server, _open(server.url, "bench", wait_s) as database:
            await migrate(database)
            yield database


def _open(url: str, part: str, wait_s: float) -> AbstractAsyncContextManager[Database]:
    pool = PoolSettings(connections_min=1, connections_max=4, operation_s_max=OPERATION_S_MAX)
    return open_database(url, part=part, settings=pool, wait_s=wait_s)


@asynccontextmanager
async def _schema(url: str, wait_s: float) -> AsyncIterator[Database]:
    # Of hexadecimal digits: it stands in statements as it is.
    mark = token_hex(6)
    name, part = f"{PREFIX}{mark}", f"bench-{mark}"
    # Connected before it is made: from then on others see whose it is.
    async with _open(_of_schema(url, name), part, wait_s) as database:
        try:
            await _begin(database, name)
            yield database
        finally:
            await _drop(url, part, name)


def _of_schema(url: str, name: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}search_path={name}"


async def _begin(database: Database, name: str) -> None:
    try:
        found = await database.transact(_make, name)
    except StoreRejected as error:
        raise CommandFailed(
            Code.REFUSED,
            f"no schema of its own can be made there ({error}); nothing was measured",
            "Have CREATE on that database granted, or name another",
        ) from error
    if found != name:
        # Something stands between that drops what it does not know: it would be written to others'.
        raise CommandFailed(
            Code.REFUSED,
            f"sessions there are not those of a schema of its own but of {found}",
            "Name the server itself, and no pooler",
        )
    await migrate(database)


async def _make(connection: Connection, name: str) -> str | None:
    """Make it, and tell where a table would be made now."""
    await connection.execute(f"SELECT pg_advisory_xact_lock({LOCK_KEY})")
    for row in await connection.fetch(_LEFT):
        await connection.execute(f"DROP SCHEMA {row['nspname']} CASCADE")
    await connection.execute(f"CREATE SCHEMA {name}")
    found: str | None = await connection.fetchval("SELECT current_schema()")
    return found


async def _drop(url: str, part: str, name: str) -> None:
    """Remove it also for who interrupts it, by a session that is nobody's whose work is cut off."""

    async def drop(connection: Connection) -> None:
        await connection.execute(f"DROP SCHEMA IF EXISTS {name} CASCADE")

    why = "it took too long"
    with trio.move_on_after(DROP_S_MAX, shield=True):
        try:
            async with _open(url, part, WAIT_S) as database:
                await database.run(drop)
            return
        except Exception as raised:
            leaf = first_leaf(raised)
            if not isinstance(leaf, StoreError):
                raise
            why = str(leaf)
    complain(f"greenroom: the schema {name} stays there ({why}); the next bench removes it")


@contextmanager
def _folder(state_dir: Path) -> Iterator[Path]:
    place = state_dir
    while not place.is_dir() and place != place.parent:
        place = place.parent
    try:
        if not os.access(place, os.W_OK | os.X_OK):
            place = Path(tempfile.gettempdir())
        _sweep(place)
        scratch = tempfile.TemporaryDirectory(dir=place, prefix=FOLDER_PREFIX)
    except OSError as error:
        raise EmbeddedFailed(f"no folder can be made in {place}: {error.strerror}") from error
    with scratch as folder:
        yield Path(folder)


def _sweep(place: Path) -> None:
    for left in place.glob(f"{FOLDER_PREFIX}*"):
        try:
            with hold_folder(left, left / "postgres"):
                shutil.rmtree(left, ignore_errors=True)
        except (StateDirInUse, OSError):
            continue  # it is in use, or not ours to remove
