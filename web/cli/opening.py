"""The store that a command works on: that of the settings, also while a site serves it.

Rule 1: with `DATABASE_URL` that server is used. Without, the embedded one in `STATE_DIR`: where a
site keeps it running, through its socket; else it is started for as long as the command takes.
Rule 2: a command changes nothing before it was confirmed, and not without a row of the audit, but
for what helps a site whose store is away (`changing_anyway`).
"""

import argparse
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType

import trio

from storage.errors import StateDirInUse, StoreError
from storage.postgres import (
    Database,
    PoolSettings,
    audited,
    check_migrations,
    find_embedded,
    has_embedded,
    open_database,
    open_embedded,
)
from web.cli.answering import Teller
from web.observability import Code, CommandFailed, first_leaf
from web.settings import Settings, read_settings

# What of the settings a command needs; the rest is the site's, and may be missing here.
NEEDED = ("DATABASE_URL", "STATE_DIR", "DATABASE_WAIT_SECS")
# A person waits in front of it; a job that comes before its database sets DATABASE_WAIT_SECS.
WAIT_S = 5.0
# Nobody else waits for a command's connections, and a large store takes long.
OPERATION_S_MAX = 60.0


def needed_settings(environment: Mapping[str, str]) -> tuple[Settings, float]:
    """Call this for what of the settings a command needs, and how long it waits for its store."""
    given = {name: environment[name] for name in NEEDED if name in environment}
    settings = read_settings(given)
    return settings, float(settings.database_wait_s) if given.get("DATABASE_WAIT_SECS") else WAIT_S


@asynccontextmanager
async def open_store(
    environment: Mapping[str, str], *, is_any_schema: bool = False
) -> AsyncIterator[Database]:
    """Call this for the store of the settings; its schema is this program's, unless any will do."""
    settings, wait_s = needed_settings(environment)
    async with AsyncExitStack() as stack:
        url = await _address(settings, stack)
        pool = PoolSettings(connections_min=1, connections_max=2, operation_s_max=OPERATION_S_MAX)
        # A name of its own, by which others see that it is at work (`hold_alone`).
        database = await stack.enter_async_context(
            open_database(url, part=f"command-{os.getpid()}", settings=pool, wait_s=wait_s)
        )
        if not is_any_schema:
            await check_migrations(database)
        yield database


async def _address(settings: Settings, stack: AsyncExitStack) -> str:
    if settings.database_url is not None:
        return settings.database_url.reveal()
    if not has_embedded(settings.state_dir):
        raise CommandFailed(
            Code.UNKNOWN,
            f"there is no store in {settings.state_dir}",
            "Name its folder (STATE_DIR, --state-dir) or its server (DATABASE_URL); the site makes "
            "one when it starts",
        )
    try:
        server = await stack.enter_async_context(open_embedded(settings.state_dir))
    except StateDirInUse:
        url = find_embedded(settings.state_dir)
        if url is None:
            raise
        return url
    return server.url


@asynccontextmanager
async def changing(
    parsed: argparse.Namespace, teller: Teller, database: Database, what: str, resource: str
) -> AsyncIterator[None]:
    """Call this around a change: asks first, unless `--yes`, and writes the row of the audit.

    `what` completes "This will ...". Raises `CommandFailed` when the answer is no.
    """
    await confirm(parsed, what)
    async with audited(database, _action(parsed), resource, parsed.reason) as is_kept:
        if not is_kept:
            teller.note("this store has no table for the audit yet; the change is not noted")
        yield


def _action(parsed: argparse.Namespace) -> str:
    return " ".join(word for word in (parsed.command, getattr(parsed, "action", "")) if word)


@asynccontextmanager
async def changing_anyway(
    parsed: argparse.Namespace,
    teller: Teller,
    environment: Mapping[str, str],
    what: str,
    resource: str,
) -> AsyncIterator[None]:
    """Call this around a change beside the store that must be possible while the store is away.

    As `changing`, but where no row can be written that is told, and the change is made: it is what
    helps a site in trouble, such as room on a full disk.
    """
    await confirm(parsed, what)
    async with AsyncExitStack() as stack:
        try:
            database = await stack.enter_async_context(open_store(environment, is_any_schema=True))
            row = audited(database, _action(parsed), resource, parsed.reason)
            is_kept = await stack.enter_async_context(row)
            why = "" if is_kept else "this store has no table for the audit yet"
        except Exception as error:
            leaf = first_leaf(error)
            if not isinstance(leaf, StoreError | CommandFailed):
                raise
            why = str(leaf).rstrip(".")
        if why:
            teller.note(f"{why}; the change is not noted in the audit")
        yield


async def confirm(parsed: argparse.Namespace, what: str) -> None:
    """Call this before a change: asks on a terminal, unless `--yes`; raises `CommandFailed`."""
    if parsed.yes:
        return
    if not (sys.stdin and sys.stdin.isatty() and sys.stderr and sys.stderr.isatty()):
        raise CommandFailed(
            Code.USAGE, f"this would {what}, and nobody can be asked", "Say --yes to have it done"
        )
    sys.stderr.write(f"This will {what}. Type yes to go on: ")
    sys.stderr.flush()
    # Whoever ends it here is told that nothing was done (`answering.answer`).
    parsed.is_asking = True
    said = await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)
    parsed.is_asking = False
    if said.strip().lower() not in {"yes", "y"}:
        raise CommandFailed(Code.REFUSED, "nothing was done")


def import_modules(names: Sequence[str]) -> list[ModuleType]:
    """Call this for the modules of a program whose classes a command needs; `CommandFailed`.

    They may lie in the working folder: behind all that is installed, so that nothing is taken for
    ours that is not.
    """
    found = []
    here = str(Path.cwd())
    if names and here not in sys.path:
        sys.path.append(here)
    for name in names:
        try:
            found.append(import_module(name))
        except ImportError as error:
            raise CommandFailed(
                Code.UNKNOWN, f"there is no module {name} to import ({error})"
            ) from error
    return found
