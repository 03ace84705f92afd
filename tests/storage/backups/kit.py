"""A store that is archived and backed up, for tests that take it back or damage what is kept."""

import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trio

from actors.persistence import StreamId
from storage.postgres import EmbeddedServer, PostgresEventStore, migrate, open_database
from storage.postgres.embedded.archive import Archive
from storage.postgres.embedded.backups.restoring import Wanted
from storage.postgres.embedded.backups.taking import Source, seal, source_of, wait_archived
from storage.postgres.embedded.server import start
from storage.testing.samples import new_events
from tests.patience import PATIENT_POOL
from tests.processes.prepared import lay_out

# No test waits for it: who needs a file closed closes it.
LATER_S = 3600
STREAM = StreamId("order-a")
EXTRA = ("fsync=off", "track_commit_timestamp=on")


def begin(folder: Path, *, every_s: int = LATER_S) -> tuple[EmbeddedServer, Source]:
    """Start a server in `folder/state` that archives to `folder/kept`."""
    archive = archive_of(folder, every_s)
    lay_out(folder / "state")
    server = start(folder / "state", extra=EXTRA, archive=archive)
    return server, source_of(folder / "state", server.url, archive)


def archive_of(folder: Path, every_s: int = LATER_S) -> Archive:
    return Archive(folder / "kept", every_s)


def write(url: str, count: int, *, is_new: bool = False) -> None:
    """Append events, each by a commit of its own."""

    async def run() -> None:
        async with open_database(url, settings=PATIENT_POOL) as database:
            if is_new:
                await migrate(database)
            store = PostgresEventStore(database)
            for _ in range(count):
                await store.append(STREAM, new_events(1))

    trio.run(run)


def count(source: Source) -> int:
    return int(source.ask("SELECT count(*) FROM events"))


def moment(source: Source) -> datetime:
    """Now, by the server's clock; what is committed before is before, what comes later is later."""
    return datetime.fromtimestamp(
        float(source.ask("SELECT extract(epoch FROM clock_timestamp())")), UTC
    )


def close_log(source: Source, archive: Archive) -> None:
    wait_archived(source, archive, seal(source))


def wanted(to: datetime | None = None, timeline: int | None = None) -> Wanted:
    # A moment of the test is past, however soon it is asked for.
    return Wanted(to, timeline, datetime.now(UTC) + timedelta(seconds=5))


def copied(folder: Path, to: Path) -> Archive:
    """The same backups once more, to be damaged; owners stay."""
    subprocess.run(["cp", "-a", str(folder / "kept"), str(to)], check=True)
    return Archive(to)


def names(path: Path) -> Sequence[str]:
    return sorted(one.name for one in path.iterdir())
