"""The disk under the bus's log is full, and has room again: what waits, and what is told."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import trio

from actors.persistence import OutboxRelay, StreamId
from actors.persistence.bus import BusState, bus_message, publisher
from actors.runtime import open_actors
from storage.bus import PostgresBus
from storage.postgres import (
    Connection,
    Database,
    PostgresDeadLetters,
    PostgresEventStore,
    PostgresOutbox,
    migrate,
    open_database,
)
from storage.testing.bus import GROUP, TOPIC, records
from storage.testing.samples import new_event
from tests.engines import real_environment
from tests.patience import PATIENCE_S, PATIENT_POOL
from tests.processes.prepared import start_prepared
from tests.storage.bus_member_process import subscription_on

# What a filler has to write: quick, and more than all records here take.
DISK_MB = 2
RECORDS = 400


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A disk of its own in a folder; skips where this process may not have one."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(folder)]
    try:
        made = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("THE FULL DISK WAS NOT TRIED: there is no command mount")
    if made.returncode != 0:
        pytest.skip(f"THE FULL DISK WAS NOT TRIED: {made.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(path: Path) -> None:
    """Write until the disk takes no byte more."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass


def place_of(disk: Path, data: Path) -> Path:
    """Make a folder that the server of some data may write to, wherever it runs as another user."""
    (place := disk / "log").mkdir()
    owner = data.stat()
    os.chown(place, owner.st_uid, owner.st_gid)
    disk.parent.chmod(0o711)
    return place


async def move_log(connection: Connection, place: Path) -> None:
    """Have the bus's log, all its days, on another disk."""
    await connection.execute(f"CREATE TABLESPACE small LOCATION '{place}'")
    await connection.execute("ALTER TABLE bus_records SET TABLESPACE small")
    days = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = $1::text::regclass"
    for row in await connection.fetch(days, "bus_records"):
        await connection.execute(f"ALTER TABLE {row[0]} SET TABLESPACE small")


async def effects(database: Database) -> list[int]:
    """What the handler has done, by the numbers of the records."""
    events = PostgresEventStore(database)
    streams = [StreamId(f"effects-{partition}") for partition in range(3)]
    return [int(one.data) for stream in streams async for one in events.load(stream)]


@pytest.mark.slow
async def test_a_full_disk_under_the_bus_holds_records_in_the_outbox_and_loses_none(
    tmp_path: Path,
) -> None:
    # BUS-9, BUS-13, REL-89
    (disk := tmp_path / "disk").mkdir()
    with small_disk(disk):
        server = start_prepared(tmp_path / "state")
        try:
            place = await trio.to_thread.run_sync(place_of, disk, server.data)
            async with open_database(server.url, settings=PATIENT_POOL) as database:
                await migrate(database)
                await database.run(move_log, place)
                with trio.fail_after(PATIENCE_S):
                    await _fill_and_empty(database, disk / "filler")
        finally:
            server.stop()


async def _fill_and_empty(database: Database, filler: Path) -> None:
    bus, outbox, letters = (
        PostgresBus(database),
        PostgresOutbox(database),
        PostgresDeadLetters(database),
    )
    events = PostgresEventStore(database)
    await bus.declare(TOPIC)
    member = subscription_on(database, bus)
    sent = records(RECORDS, keys=40)
    async with open_actors() as system, trio.open_nursery() as nursery:
        nursery.start_soon(member.run)
        await system.start(OutboxRelay, outbox, publisher(bus), real_environment(), "one")
        await trio.to_thread.run_sync(fill, filler)
        for number in range(0, RECORDS, 100):
            messages = [bus_message(TOPIC, one) for one in sent[number : number + 100]]
            # The store has room: what is appended is acknowledged, and waits.
            await events.append(StreamId(f"order-{number}"), [new_event(b"1")], outbox=messages)
        while not any(one.last_error for one in await outbox.waiting()):  # noqa: ASYNC110
            await trio.sleep(0.05)  # (of another task, which rings nothing)
        told = [one.last_error for one in await outbox.waiting() if one.last_error]
        assert all("No space left on device" in error for error in told)
        health = await bus.health()
        assert (health.state, "No space left on device" in health.reason) == (
            BusState.DEGRADED,
            True,
        )
        assert sum(one.records for one in await bus.lag(GROUP)) < RECORDS
        await trio.to_thread.run_sync(filler.unlink)
        while len(await effects(database)) < RECORDS:  # noqa: ASYNC110  (as above)
            await trio.sleep(0.1)
        assert (await bus.health()).state is BusState.HEALTHY
        await member.stop()
    assert sorted(await effects(database)) == list(range(RECORDS))
    assert await letters.list() == []
