"""The data of a new site's database, made once and copied: making it takes a second each time.

What it holds is what the first start of a site makes: a new PostgreSQL with the whole schema. That
a start from nothing makes it is shown by `test_fresh_machine` and the tests of storage.
"""

from __future__ import annotations

import atexit
import functools
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import trio

from storage.postgres import open_database
from storage.postgres.embedded import server
from storage.postgres.embedded.server import EmbeddedServer
from storage.postgres.schema.migrate import migrate


def lay_out(state_dir: Path) -> None:
    """Put a new database into the folder of a site that was never started."""
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    # With its owner, who is another than root.
    subprocess.run(["cp", "-a", str(_made()), str(state_dir)], check=True)


def start_prepared(state_dir: Path, *, extra: tuple[str, ...] = ("fsync=off",)) -> EmbeddedServer:
    """Call this for a server of a test's own, on new data with the whole schema; stop it."""
    lay_out(state_dir)
    return server.start(state_dir, extra=extra)


@functools.cache
def _made() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="greenroom-prepared-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    # Who calls may be in a loop.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(_make, folder).result()
    return folder / "postgres"


def _make(folder: Path) -> None:
    made = server.start(folder, extra=("fsync=off",))
    try:
        trio.run(_migrate, made.url)
    finally:
        made.stop()


async def _migrate(url: str) -> None:
    async with open_database(url) as database:
        await migrate(database)
