"""Base and incremental backups of a server that runs, and the end of old ones.

`pg_basebackup` copies the data while others write, with the part of the log that belongs to them;
an incremental one has the pages that changed since the backup it names. Everything here blocks.

Rule 1: a backup has its name when all of it is on the disk, and not before.
Rule 2: behind each backup the log is closed and archived, so that a moment behind it can be
reached; where that fails the backup stays, and the failure is told.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from storage.errors import BackupFailed, BackupRefused
from storage.postgres.embedded.account import Account, choose_account
from storage.postgres.embedded.archive import Archive, read_mark, read_system, ways
from storage.postgres.embedded.backups.folder import (
    DATA,
    RECORD,
    UNDER_WAY,
    Kept,
    held,
    read_folder,
    read_manifest,
    size_of,
)
from storage.postgres.embedded.backups.planning import (
    Backup,
    Kind,
    chain,
    parse_place,
    parse_segment,
    segment_name,
    segment_of,
)
from storage.postgres.embedded.disk import free_bytes, replace_file
from storage.postgres.embedded.process import LOG_NAME, own_environment, tail_of
from storage.postgres.embedded.server import programs

# The archive gets a file as soon as it is closed; a slow disk takes some seconds. Longer than the
# program may take that puts it there, and the server's pause after three failures.
SEALED_S_MAX = 200.0
_POLL_S = 0.05
_MB = 1024 * 1024
# What a copy of the data must find beyond its own size: the log that is written meanwhile.
_BESIDE_BYTES = 64 * _MB

Tell = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Source:
    """A server that runs: its data, its address, and as whom its programs run."""

    data: Path
    url: str
    account: Account

    def ask(self, statement: str) -> str:
        """Call this for what a statement gives; raises `BackupFailed`."""
        words = ("-XAtq", "-v", "ON_ERROR_STOP=1", "-c", statement, self.url)
        return run_long(self.account, "psql", words, bool).strip()

    def timeline(self) -> int:
        """Call this for the timeline that is written; what the control file says is older."""
        return int(self.ask("SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8)"), 16)


def source_of(state_dir: Path, url: str, archive: Archive) -> Source:
    """Call this for the server of a folder, which runs at an address."""
    data = (state_dir / "postgres").resolve()
    return Source(data, url, choose_account(data, programs(), (*ways(), archive.backups)))


def check_archiving(source: Source, archive: Archive) -> None:
    """Call this first: raises `BackupRefused` when the server does not archive to the folder."""
    told = source.ask("SHOW archive_mode") == "on" and source.ask("SHOW archive_command")
    if not told or str(archive.log).replace("%", "%%") not in told:
        raise BackupRefused(
            f"the server that runs does not archive to {archive.folder}; nothing was done. Start "
            f"the site with BACKUP_DIR={archive.folder}, or stop it"
        )
    if read_mark(archive.folder) != read_system(source.data):
        raise BackupRefused(f"{archive.folder} is another server's; nothing was done")


def take(
    source: Source, archive: Archive, kind: Kind, tell: Tell, meanwhile: Callable[[], object] = bool
) -> Backup:
    """Call this to make a backup; returns when it and the log behind it are there for good.

    `meanwhile` is called now and then; what it raises ends the backup. Raises `BackupRefused`,
    `BackupFailed`; then what was there before is there, and nothing else.
    """
    check_archiving(source, archive)
    with held(archive, alone=True) as lock:
        kept = read_folder(archive)
        parent = _parent(source, kept) if kind == "incremental" else None
        _check_room(source, archive, kind)
        # Counted on behind what was removed too, as long as something is left.
        number = max((one.number for one in kept.backups), default=0) + 1
        fresh = _under_way(archive, source.account)
        try:
            backup = _copy(source, kept, fresh, (kind, parent, number), lock, meanwhile)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
        tell(f"{backup.name} is complete: {backup.size_bytes / _MB:.1f} MB")
        wait_archived(source, archive, backup.sealed, meanwhile)
        return backup


def _parent(source: Source, kept: Kept) -> Backup:
    timeline = source.timeline()
    whole = [one for one in kept.backups if chain(one, kept.backups) is not None]
    if not whole:
        raise BackupRefused(
            "there is no backup that an incremental one could stand on; nothing was done. Make a "
            "base first"
        )
    if whole[-1].timeline != timeline:
        raise BackupRefused(
            f"the last backup is of timeline {whole[-1].timeline}, the server writes "
            f"{timeline} since it was restored; nothing was done. Make a base first"
        )
    return whole[-1]


def _check_room(source: Source, archive: Archive, kind: Kind) -> None:
    if kind == "incremental":
        return  # nobody knows before; a full disk ends it
    needed, free = size_of(source.data) + _BESIDE_BYTES, free_bytes(archive.folder)
    if free < needed:
        raise BackupFailed(
            f"a base needs {needed // _MB} MB and {archive.folder} has {free // _MB} MB left; "
            "nothing was done"
        )


def _under_way(archive: Archive, account: Account) -> Path:
    fresh = archive.backups / UNDER_WAY
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    os.chown(fresh, account.uid, account.gid)
    return fresh


def _copy(
    source: Source,
    kept: Kept,
    fresh: Path,
    what: tuple[Kind, Backup | None, int],
    lock: int,
    meanwhile: Callable[[], object],
) -> Backup:
    kind, parent, number = what
    began_at = _now(source)
    words = [
        f"--pgdata={fresh / DATA}", f"--dbname={source.url}", "--checkpoint=fast", "--no-password",
        "--wal-method=stream", "--manifest-checksums=SHA256", f"--label=greenroom {number}",
    ]  # fmt: skip
    if parent is not None:
        words.append(f"--incremental={kept.path_of(parent) / DATA / 'backup_manifest'}")
    try:
        run_long(source.account, "pg_basebackup", words, meanwhile, lock)
    except BackupFailed as error:
        if "WAL summaries are required" in str(error):
            raise BackupRefused(
                "the server has not kept what changed since the last backup; nothing was done. "
                "Make a base"
            ) from error
        raise
    ranges = read_manifest(fresh).ranges
    backup = Backup(
        number=number,
        kind=kind,
        parent=None if parent is None else parent.number,
        timeline=max(one.timeline for one in ranges),
        start=min(parse_place(one.start) for one in ranges),
        stop=max(parse_place(one.end) for one in ranges),
        began_at=began_at,
        ended_at=_now(source),
        sealed=seal(source),
        size_bytes=size_of(fresh),
        server=source.ask("SHOW server_version"),
    )
    replace_file(fresh / RECORD, msgspec.json.encode(backup).decode())
    fresh.rename(kept.path_of(backup))
    _sync(kept.archive.backups)
    return backup


def seal(source: Source) -> int:
    """Call this to have the log closed where it is; returns the place, which the next one begins.

    Something is written first: a file in which nothing stands is not closed.
    """
    source.ask("SELECT pg_create_restore_point('greenroom')")
    return parse_place(source.ask("SELECT pg_switch_wal()"))


def wait_archived(
    source: Source, archive: Archive, place: int, meanwhile: Callable[[], object] = bool
) -> None:
    """Call this until the log is archived up to a place; raises `BackupFailed` when it is not.

    Nothing is lost then: the server keeps what it could not archive, and tries again.
    """
    timeline = source.timeline()
    path = archive.log / f"{segment_name(timeline, segment_of(place - 1))}.gz"
    failed = source.ask("SELECT failed_count FROM pg_stat_archiver")
    deadline = time.monotonic() + SEALED_S_MAX
    while not path.exists():
        meanwhile()
        # Three failures, then the server waits for a minute: it is told now.
        now = source.ask("SELECT failed_count FROM pg_stat_archiver")
        if time.monotonic() > deadline or int(now) >= int(failed) + 3:
            why = why_not_archived(source.data)
            raise BackupFailed(
                f"the log is not archived beyond the last backup ({why}); the server keeps what is "
                "missing and tries again every minute"
            )
        time.sleep(_POLL_S)


def why_not_archived(data: Path) -> str:
    """Call this for what the last failure of the archive was, in its own words."""
    try:
        text = (data / LOG_NAME).read_bytes().decode("utf-8", "replace")
    except OSError:
        return "its log cannot be read"
    said = [line for line in text.splitlines() if line.startswith("greenroom: ")]
    return said[-1].removeprefix("greenroom: ") if said else "it does not come"


def prune(archive: Archive, keep: int, tell: Tell) -> tuple[Sequence[Backup], int]:
    """Call this to remove all but the last bases with what stands on them, and their log.

    Returns the removed backups, and how many files of the log went. Raises `BackupRefused`.
    """
    with held(archive, alone=True):
        kept = read_folder(archive)
        bases = [one.number for one in kept.backups if one.kind == "base"]
        if len(bases) <= keep:
            return [], 0
        first = bases[-keep]
        gone = [one for one in kept.backups if one.number < first]
        stay = [one for one in kept.backups if one.number >= first]
        for one in reversed(gone):  # what stands on another goes first
            # Not under its name while it is less than whole.
            dying = archive.backups / UNDER_WAY
            shutil.rmtree(dying, ignore_errors=True)
            kept.path_of(one).rename(dying)
            shutil.rmtree(dying)
            tell(f"{one.name} is removed")
        needed = min(segment_of(one.start) for one in stay)
        old = [
            name
            for name in kept.archived
            if (found := parse_segment(name[:24])) is not None and found[1] < needed
        ]
        for name in old:
            (archive.log / f"{name}.gz").unlink(missing_ok=True)
        return gone, len(old)


def _now(source: Source) -> datetime:
    seconds = float(source.ask("SELECT extract(epoch FROM clock_timestamp())"))
    return datetime.fromtimestamp(seconds, UTC)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def run_long(
    account: Account,
    name: str,
    words: Sequence[str],
    meanwhile: Callable[[], object],
    lock: int | None = None,
    folder: Path = Path("/"),
    of: Path | None = None,
) -> str:
    """Call this to run a program of the server that takes long; raises `BackupFailed`.

    It holds the lock on when we are killed. `of` are other programs than those of this version.
    """
    with subprocess.Popen(
        [*account.prefix, str((of or programs()) / name), *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=folder,
        env=own_environment(),
        pass_fds=() if lock is None else (lock,),
    ) as process:
        try:
            said = _hear(process, meanwhile)
        except BaseException:
            process.terminate()
            raise
    if process.returncode != 0:
        raise BackupFailed(f"{name} failed; nothing was kept of it. It says:\n{tail_of(said)}")
    return said.decode("utf-8", "replace")


def _hear(process: subprocess.Popen[bytes], meanwhile: Callable[[], object]) -> bytes:
    while True:
        try:
            return process.communicate(timeout=_POLL_S)[0]
        except subprocess.TimeoutExpired:
            meanwhile()
