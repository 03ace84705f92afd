"""A PostgreSQL that stands still: callers get their answer in time, and all is normal after."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from storage.errors import StoreUnavailable
from storage.postgres import Connection, EmbeddedServer, open_database
from storage.postgres.embedded.server import start

pytestmark = pytest.mark.slow


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    made = start(tmp_path, extra=("fsync=off",))
    yield made
    made.stop()


def _signal_all(pid: int, word: signal.Signals) -> None:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for one in (pid, *map(int, children)):
        os.kill(one, word)


async def _one(connection: Connection) -> int:
    return int(await connection.fetchval("SELECT 1"))


async def test_a_frozen_server_blocks_nobody_for_long(server: EmbeddedServer) -> None:
    # REL-82, REL-22
    waits: list[float] = []
    async with open_database(server.url) as database:
        assert await database.run(_one) == 1
        pid = server.pid
        assert pid is not None
        _signal_all(pid, signal.SIGSTOP)
        try:

            async def ask() -> None:
                began = time.monotonic()
                with pytest.raises(StoreUnavailable):
                    await database.run(_one)
                waits.append(time.monotonic() - began)

            async with trio.open_nursery() as nursery:
                for _ in range(30):
                    nursery.start_soon(ask)
        finally:
            _signal_all(pid, signal.SIGCONT)
        began = time.monotonic()
        with trio.fail_after(3):
            while True:
                try:
                    assert await database.run(_one) == 1
                    break
                except StoreUnavailable:
                    await trio.sleep(0.05)
        # Times may be tripled on a slow machine (REL-2).
        assert time.monotonic() - began < 3
    assert len(waits) == 30
    assert max(waits) < 6
