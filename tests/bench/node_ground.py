"""What two nodes stand on while they are measured: a server of messages, and a database a run."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import trio

from storage.postgres import migrate, open_database
from storage.postgres.embedded.server import start
from tests.nats_server import PASSWORD, USER, NatsServer


@dataclass(frozen=True, slots=True)
class Ground:
    """Addresses of a database and a server, as programs are given them; `password` is a file."""

    database: str
    nats: str
    user: str
    password: str


def grounds(runs: int) -> Iterator[Ground]:
    """Give a new database for each run, with the whole schema; it ends with its run."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        password = folder / "password"
        password.write_text(PASSWORD)
        with NatsServer(folder / "nats") as server:
            for number in range(runs):
                database = start(folder / f"{number}")
                try:
                    trio.run(_migrated, database.url)
                    yield Ground(database.url, server.url, USER, str(password))
                finally:
                    database.stop()


async def _migrated(url: str) -> None:
    async with open_database(url) as database:
        await migrate(database)
