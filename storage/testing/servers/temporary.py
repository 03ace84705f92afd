"""A PostgreSQL for one test session, and a fresh, migrated database for each test.

Every function blocks, and each statement opens a connection of its own: the fixtures that
call it are plain ones, outside any event loop.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from pathlib import Path

import asyncpg
import trio

from storage.postgres.connecting.database import open_database
from storage.postgres.embedded.server import EmbeddedServer, start
from storage.postgres.schema.migrate import migrate

_TEMPLATE = "greenroom_template"

# Tests kill clients, not the machine: what the kernel holds is as good as on disk.
_FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_wal_size=2GB")
# The kernel copies a template for a new database, where it can: half the time.
_COPYING = "file_copy_method=clone"
# A whole session's tests run side by side with few connections each.
_ROOM = ("max_connections=200", "shared_buffers=64MB")


class TemporaryServer:
    """An embedded server in a folder of its own, with a migrated template database."""

    def __init__(self, server: EmbeddedServer) -> None:
        self.server = server
        self._numbers = itertools.count(1)

    @classmethod
    def start(cls, folder: Path) -> TemporaryServer:
        """Call this to start a server below a folder; `stop` it, or it ends with the process."""
        temporary = cls(start(folder, extra=(*_FAST, *_ROOM, _COPYING)))
        try:
            temporary.execute(f"CREATE DATABASE {_TEMPLATE}")
            trio.run(_migrate, temporary.server.url_of(_TEMPLATE))
        except BaseException:
            temporary.stop()
            raise
        return temporary

    def stop(self) -> None:
        """Call this to end the server."""
        self.server.stop()

    def make_database(self) -> str:
        """Call this for the name of a new migrated database."""
        name = f"test_{os.getpid()}_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE} STRATEGY FILE_COPY")
        return name

    def drop_database(self, name: str) -> None:
        """Call this to remove a database, whoever is still connected to it."""
        self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def execute(self, statement: str) -> None:
        """Call this to run one statement in the server's own database."""
        asyncio.run(_execute(self.server.url, statement))


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def _migrate(url: str) -> None:
    async with open_database(url) as database:
        await migrate(database)
