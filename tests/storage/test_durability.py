"""What was acknowledged is on the disk: and the check that says so can fail."""

import os
import signal
from pathlib import Path
from uuid import UUID

import pytest
import trio

from actors.persistence import StoreError, StreamId
from storage.postgres import Connection, EmbeddedServer, PostgresEventStore, migrate, open_database
from storage.testing.samples import PATIENCE_S, new_events
from tests.patience import PATIENT_POOL
from tests.processes.prepared import start_prepared

pytestmark = pytest.mark.slow

_STREAM = StreamId("order-1")

# Of rounds with the server killed: with a commit that does not wait one is enough nearly always.
_ROUNDS = int(os.environ.get("ROUNDS", "2"))
_ROUNDS_UNTIL_LOST = 200


async def _flush(connection: Connection) -> None:
    await connection.execute("CHECKPOINT")


async def _lost_in(server: EmbeddedServer, kept: set[UUID]) -> set[UUID]:
    """Append, kill the server in the middle, bring it back: what was acknowledged and is gone."""
    async with open_database(server.url, settings=PATIENT_POOL) as database:
        await migrate(database)
        # The schema is not what is looked at here.
        await database.run(_flush)
        store = PostgresEventStore(database)

        async def write() -> None:
            while True:
                (event,) = new_events(1)
                try:
                    await store.append(_STREAM, [event])
                except StoreError:
                    return
                kept.add(event.event_id)

        wanted = len(kept) + 20
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(write)
            while len(kept) < wanted:  # noqa: ASYNC110  (of tasks that go on)
                await trio.sleep(0.001)
            pid = server.pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            while server.is_running:  # noqa: ASYNC110  (a process has no event)
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
        await trio.to_thread.run_sync(server.restart)
        await database.wait_up(PATIENCE_S)
        return kept - {event.event_id async for event in store.load(_STREAM)}


@pytest.mark.parametrize("is_waiting", [True, False], ids=["waits", "does-not-wait"])
async def test_what_was_acknowledged_outlives_the_server(tmp_path: Path, is_waiting: bool) -> None:
    # REL-92: with commits that do not wait for the disk the same check finds a loss
    # The machine goes on: what the kernel has is as good as on disk.
    extra: tuple[str, ...] = ("fsync=off",)
    if not is_waiting:
        extra = (*extra, "synchronous_commit=off", "wal_writer_delay=10s")
    server = await trio.to_thread.run_sync(lambda: start_prepared(tmp_path, extra=extra))
    kept: set[UUID] = set()
    lost: set[UUID] = set()
    try:
        for _ in range(_ROUNDS if is_waiting else _ROUNDS_UNTIL_LOST):
            lost = await _lost_in(server, kept)
            if lost:
                break
    finally:
        await trio.to_thread.run_sync(server.stop)
    assert bool(lost) is not is_waiting
