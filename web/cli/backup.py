"""`greenroom backup`: the embedded database backed up, looked at, and brought to a moment.

A backup is made of a site that runs, through its socket; where none runs the server is started for
it. Whoever restores gets a folder of their own: nothing that is there is touched.
"""

import argparse
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

import trio

from storage.errors import BackupFailed, EmbeddedFailed, StateDirInUse
from storage.postgres import (
    Archive,
    PoolSettings,
    audited,
    check_migrations,
    check_store,
    find_embedded,
    has_embedded,
    kept_archive,
    open_database,
    open_embedded,
    plan_migrations,
)
from storage.postgres.embedded.backups.folder import Kept, read_folder
from storage.postgres.embedded.backups.planning import Kind
from storage.postgres.embedded.backups.restoring import (
    Recovered,
    Restoring,
    Wanted,
    remove_left_over,
)
from storage.postgres.embedded.backups.taking import (
    Source,
    check_archiving,
    prune,
    seal,
    source_of,
    take,
    wait_archived,
)
from storage.postgres.embedded.upgrading import upgrade
from web.cli.answering import Teller, moment_of
from web.cli.opening import OPERATION_S_MAX, changing_anyway, confirm
from web.observability import Code, CommandFailed
from web.settings import Settings, read_settings

# A copy of all the data that `verify` looks at, in the system's folder for such.
_SCRATCH = "greenroom-verify-"
_NEEDED = ("STATE_DIR", "BACKUP_DIR", "BACKUP_EVERY_SECS")
T = TypeVar("T")
_Do = Callable[[argparse.Namespace, Teller, Settings, Archive], Awaitable[int]]


async def command(
    parsed: argparse.Namespace, environment: Mapping[str, str], teller: Teller
) -> int:
    """Call this with what was parsed; returns the exit code."""
    if environment.get("DATABASE_URL"):
        raise CommandFailed(
            Code.REFUSED,
            "DATABASE_URL names a server of your own, which is backed up by its own means; nothing "
            "was done",
            "docs/how_to/production_database.md tells what it must do, and `greenroom store check` "
            "looks at what it restored",
        )
    given = {name: environment[name] for name in _NEEDED if name in environment}
    settings = read_settings(given)
    if parsed.command == "db":
        return await _upgrade(parsed, teller, settings)
    do: Mapping[str, _Do] = {
        "base": _take,
        "incremental": _take,
        "list": _list,
        "verify": _verify,
        "restore": _restore,
        "prune": _prune,
    }
    return await do[parsed.action](parsed, teller, settings, _archive_of(settings))


async def _upgrade(parsed: argparse.Namespace, teller: Teller, settings: Settings) -> int:
    if not has_embedded(settings.state_dir):
        raise CommandFailed(
            Code.UNKNOWN,
            f"there is no store in {settings.state_dir}",
            "Name its folder (STATE_DIR, --state-dir)",
        )
    await confirm(parsed, "copy the data for this program's PostgreSQL, and keep the old ones")
    began = time.monotonic()
    try:
        done = await _in_thread(
            partial(upgrade, settings.state_dir, teller.note, trio.from_thread.check_cancelled)
        )
    except StateDirInUse as error:
        # There it is, and may not be touched: no matter of reaching it.
        raise CommandFailed(Code.REFUSED, str(error).rstrip(".")) from error
    if done is None:
        teller.note("nothing to do: the data are of this program's PostgreSQL")
        return Code.DONE
    what = f"PostgreSQL {done.before} to {done.now}"
    async with (
        open_embedded(settings.state_dir) as server,
        open_database(server.url, part="upgrade") as database,
        audited(database, "db upgrade", what, parsed.reason),
    ):
        pass
    took_s = round(time.monotonic() - began, 2)
    teller.one({"from": done.before, "to": done.now, "old": str(done.old), "took_s": took_s})
    teller.note(
        f"remove {done.old} when the site has run well; backups of before cannot go on: give a new "
        "BACKUP_DIR and make a base"
    )
    return Code.DONE


def _archive_of(settings: Settings) -> Archive:
    """Where the backups lie: as it is said, else as the site was last told."""
    if settings.backup_dir is not None:
        return Archive(settings.backup_dir.absolute(), settings.backup_every_s)
    kept = kept_archive(settings.state_dir)
    if kept is None:
        raise CommandFailed(
            Code.USAGE,
            "nobody has said where the backups lie; nothing was done",
            "Give BACKUP_DIR or --backup-dir: a folder on another disk than the data",
        )
    return kept


async def _in_thread(work: Callable[[], T]) -> T:
    """Run what blocks; who interrupts it waits until it has tidied up."""
    return await trio.to_thread.run_sync(work)


@asynccontextmanager
async def _source(settings: Settings, archive: Archive) -> AsyncIterator[Source]:
    """The server of the settings: the one that runs, else one that is started for this."""
    if not has_embedded(settings.state_dir):
        raise CommandFailed(
            Code.UNKNOWN,
            f"there is no store in {settings.state_dir}",
            "Name its folder (STATE_DIR, --state-dir)",
        )
    try:
        async with open_embedded(settings.state_dir, archive=archive) as server:
            yield source_of(settings.state_dir, server.url, archive)
    except StateDirInUse:
        url = find_embedded(settings.state_dir)
        if url is None:
            raise
        yield source_of(settings.state_dir, url, archive)


async def _take(
    parsed: argparse.Namespace, teller: Teller, settings: Settings, archive: Archive
) -> int:
    kind: Kind = "base" if parsed.action == "base" else "incremental"
    began = time.monotonic()
    async with _source(settings, archive) as source:
        if _is_same_disk(settings.state_dir, archive):
            teller.note(
                f"{archive.folder} lies on the disk of the data: this helps against mistakes, not "
                "against the loss of the disk"
            )
        teller.note(f"copying {'all of it' if kind == 'base' else 'what changed'}")
        backup = await _in_thread(
            partial(take, source, archive, kind, teller.note, trio.from_thread.check_cancelled)
        )
    teller.one(
        {
            "backup": backup.name,
            "kind": backup.kind,
            "size_bytes": backup.size_bytes,
            "timeline": backup.timeline,
            "restorable_from": backup.ended_at,
            "took_s": round(time.monotonic() - began, 2),
        }
    )
    return Code.DONE


def _is_same_disk(state_dir: Path, archive: Archive) -> bool:
    return state_dir.stat().st_dev == archive.folder.stat().st_dev


async def _list(
    parsed: argparse.Namespace, teller: Teller, _settings: Settings, archive: Archive
) -> int:
    kept = await _in_thread(partial(read_folder, archive, parsed.timeline))
    backups = [
        {
            "backup": one.name,
            "stands_on": one.parent,
            "timeline": one.timeline,
            "restorable_from": one.ended_at,
            "size_bytes": one.size_bytes,
            "server": one.server,
        }
        for one in kept.backups
    ]
    spans = [{"from": one.first, "to": one.last} for one in kept.spans]
    if teller.is_json:
        archived = await _in_thread(partial(_archived_bytes, kept))
        teller.one(
            {
                "backups": backups,
                "restorable": spans,
                "missing": list(kept.holes),
                "unusable": [one.name for one in kept.broken],
                "timeline": kept.timeline,
                "archived_files": len(kept.archived),
                "archived_bytes": archived,
            }
        )
    else:
        teller.rows(backups, "there is no backup yet: greenroom backup base")
        for span in kept.spans:
            teller.text(f"can be restored: {span.first.isoformat()} to {span.last.isoformat()}")
        for name in kept.holes:
            teller.text(f"missing in the archive: {name}; make a new base")
        for one in kept.broken:
            teller.text(f"cannot be used: {one.name}, what it stands on is gone; make a new base")
    return Code.FAILED if kept.holes or kept.broken else Code.DONE


def _archived_bytes(kept: Kept) -> int:
    return sum((kept.archive.log / f"{name}.gz").stat().st_size for name in kept.archived)


async def _prune(
    parsed: argparse.Namespace, teller: Teller, settings: Settings, archive: Archive
) -> int:
    what = f"remove all backups of {archive.folder} but the newest {parsed.keep}, for ever"
    given = {"STATE_DIR": str(settings.state_dir)}
    # Also beside data that are lost, and on a disk that is full of backups.
    async with changing_anyway(parsed, teller, given, what, str(archive.folder)):
        gone, files = await _in_thread(partial(prune, archive, parsed.keep, teller.note))
    teller.one({"removed": [one.name for one in gone], "files_of_the_log": files})
    return Code.DONE


async def _restore(
    parsed: argparse.Namespace, teller: Teller, settings: Settings, archive: Archive
) -> int:
    began = time.monotonic()
    await _close_log(teller, settings, archive)
    restoring = Restoring(archive, Path(parsed.dir), teller.note, trio.from_thread.check_cancelled)
    recovered = await _in_thread(partial(restoring.begin, _wanted(parsed)))
    try:
        data = await _in_thread(restoring.keep)
    except BaseException:
        restoring.drop()
        raise
    teller.one(
        {
            **_told(recovered),
            "data": str(data),
            "took_s": round(time.monotonic() - began, 2),
        }
    )
    teller.note(
        f"it went back in time: say so once, with greenroom store rewound --state-dir {parsed.dir} "
        "--reason WHY, then serve it; private-key and session-secret of the old STATE_DIR belong "
        "beside it"
    )
    return Code.DONE


async def _verify(
    parsed: argparse.Namespace, teller: Teller, _settings: Settings, archive: Archive
) -> int:
    began = time.monotonic()
    await _in_thread(partial(remove_left_over, tempfile.gettempdir(), f"{_SCRATCH}*/store"))
    with tempfile.TemporaryDirectory(prefix=_SCRATCH) as scratch:
        target = Path(scratch, "store") if parsed.dir is None else Path(parsed.dir)
        restoring = Restoring(archive, target, teller.note, trio.from_thread.check_cancelled)
        recovered = await _in_thread(partial(restoring.begin, _wanted(parsed)))
        recovered_s = time.monotonic() - began
        try:
            found = await _looked_at(teller, recovered)
        finally:
            # In this thread: also for who interrupts it.
            restoring.drop()
    events, streams, problems = found
    teller.one(
        {
            **_told(recovered),
            "events": events,
            "streams": streams,
            "problems": problems,
            "recovered_in_s": round(recovered_s, 2),
            "took_s": round(time.monotonic() - began, 2),
        }
    )
    return Code.FAILED if problems else Code.DONE


async def _looked_at(teller: Teller, recovered: Recovered) -> tuple[int, int, list[str]]:
    pool = PoolSettings(connections_min=1, connections_max=2, operation_s_max=OPERATION_S_MAX)
    async with open_database(recovered.server.url, part="verify", settings=pool) as database:
        if (await plan_migrations(database)).pending:
            await check_migrations(database)
        teller.note("reading all events")
        found = await check_store(database)
        # That it went back in time is what was asked for, and the operator's to say.
        others = [one for one in found.problems if one.kind != "store_rewound"]
        problems = [f"{one.kind} {one.place}: {one.words}" for one in others]
        return found.events, found.streams, problems


def _told(recovered: Recovered) -> Mapping[str, object]:
    return {
        "backup": recovered.backup.name,
        "last_commit": recovered.last_commit,
        "timeline": recovered.timeline,
    }


async def _close_log(teller: Teller, settings: Settings, archive: Archive) -> None:
    """What a site that runs has written until now belongs to what can be restored."""
    url = find_embedded(settings.state_dir)
    if url is None or kept_archive(settings.state_dir) is None:
        return
    try:
        source = source_of(settings.state_dir, url, archive)
        await _in_thread(partial(_seal, source, archive))
    except (BackupFailed, EmbeddedFailed) as error:
        teller.note(f"what the site wrote last may be missing: {error}")


def _seal(source: Source, archive: Archive) -> None:
    check_archiving(source, archive)
    wait_archived(source, archive, seal(source), trio.from_thread.check_cancelled)


def _wanted(parsed: argparse.Namespace) -> Wanted:
    now = datetime.now(UTC)
    return Wanted(moment_of(parsed.to), parsed.timeline, now)
