"""A moment that has been, from a backup and the archived log: beside the running site, or to look.

The copy is made and recovered in a folder of its own below the target, and gets its name when the
server has come to the moment and was stopped in peace. Killed before, it leaves that folder only,
which nothing takes for data and the next restore removes. Everything here blocks.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from storage.errors import (
    BackupBroken,
    BackupFailed,
    BackupRefused,
    EmbeddedFailed,
    OutsideBackups,
)
from storage.postgres.embedded.account import Account, choose_account
from storage.postgres.embedded.archive import Archive, fetching, ways
from storage.postgres.embedded.backups.folder import DATA, Kept, check_files, held, read_folder
from storage.postgres.embedded.backups.planning import (
    Backup,
    Reach,
    before,
    chain,
    parse_history,
    segment_of,
)
from storage.postgres.embedded.backups.taking import Source, Tell, run_long
from storage.postgres.embedded.disk import free_bytes
from storage.postgres.embedded.process import LOG_NAME, Patience
from storage.postgres.embedded.server import EmbeddedServer, programs, start, stop_left_over

SCRATCH = ".restoring"
# How the server says that what it reads of the log is no log: for it that is the end, as what was
# being written when a machine lost its power. A file that was archived is whole, and has no such
# end; zeros behind it, where nothing was written yet, are none either.
_DAMAGED = re.compile(
    r"LOG: +(?P<what>[^\n]*(?:in record at|prev-link|resource manager ID|contrecord|magic number"
    r"|info bits|unexpected pageaddr|too long|got [1-9])[^\n]*)"
)
# A log of days is replayed at some ten MB a second; what takes longer is stuck.
RECOVERY_S_MAX = 12 * 3600.0
_MB = 1024 * 1024
# What the recovery writes beyond the copy itself.
_BESIDE_BYTES = 128 * _MB
# How the server says that it came to the end of the log before the moment.
NOT_REACHED = "recovery ended before configured recovery target was reached"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to restore: a moment, else all there is; the timeline, else the newest; and now."""

    to: datetime | None
    timeline: int | None
    now: datetime


@dataclass(frozen=True, slots=True)
class Recovered:
    """A store at a moment, on a server that runs for it alone."""

    source: Source
    server: EmbeddedServer
    backup: Backup
    timeline: int
    # Of the last transaction that is in it; None when no log was replayed.
    last_commit: datetime | None


def choose(kept: Kept, wanted: Wanted) -> Reach:
    """Call this for the backup to begin with.

    Raises `OutsideBackups` for a moment that nothing reaches, `BackupBroken` where a hole in the
    archive lies before it.
    """
    spans = [(one.first, one.last) for one in kept.spans]
    found = {one.backup.number: one for one in kept.reaches}
    candidates = sorted((one.backup for one in kept.reaches), key=lambda one: one.number)
    if wanted.to is not None:
        if wanted.to > wanted.now:
            raise OutsideBackups(wanted.to, spans)
        candidates = [*reversed(before(wanted.to, candidates))]
    if not candidates:
        if wanted.to is not None and kept.backups:
            raise OutsideBackups(wanted.to, spans)
        raise BackupRefused(
            f"{kept.archive.folder} holds no backup that is whole; nothing was done"
        )
    chosen = found[candidates[-1].number]
    last = kept.last_moment(chosen)
    is_short = wanted.to is None or last is None or last < wanted.to
    if is_short and chosen.missing is not None:
        raise BackupBroken(
            f"{chosen.missing} is missing in {kept.archive.log}; nothing was restored. "
            + _told(spans)
        )
    if wanted.to is not None and (last is None or last < wanted.to):
        raise OutsideBackups(wanted.to, spans)
    return chosen


def _told(spans: Sequence[tuple[datetime, datetime]]) -> str:
    each = [f"from {first.isoformat()} to {last.isoformat()}" for first, last in spans]
    return f"What can be restored (--to) is {' and '.join(each) or 'nothing'}"


def remove_left_over(folder: str, pattern: str) -> None:
    """Call this with where restores were made to look only: what one that was killed has left is
    removed, with the folder that its target is in. One under way stays, and so does another's.
    """
    for target in Path(folder).glob(pattern):
        try:
            lock = os.open(target / SCRATCH / "lock", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if target.parent.lstat().st_uid == os.geteuid():
                stop_left_over(target / SCRATCH / "postgres")
                shutil.rmtree(target.parent, ignore_errors=True)
        except (OSError, EmbeddedFailed):
            continue
        finally:
            os.close(lock)


class Restoring:
    """One recovery into a folder; `begin`, then `keep` or `drop`, which end it.

    Used as a context it drops what was not kept.
    """

    def __init__(
        self, archive: Archive, target: Path, tell: Tell, meanwhile: Callable[[], object] = bool
    ) -> None:
        self._archive, self._target = archive, target.absolute()
        self._scratch = self._target / SCRATCH
        self._tell, self._meanwhile = tell, meanwhile
        self._server: EmbeddedServer | None = None
        self._made = not self._target.exists()
        self._lock = -1

    def begin(self, wanted: Wanted) -> Recovered:
        """Call this for a server at the moment; raises our errors, and then nothing is left.

        `BackupRefused`, `BackupBroken`, `BackupFailed`, `OutsideBackups`.
        """
        with held(self._archive, alone=False) as lock:
            kept = read_folder(self._archive, wanted.timeline)
            chosen = choose(kept, wanted)
            parts = chain(chosen.backup, kept.backups)
            assert parts is not None, "a reach is of a backup that has all beneath it"
            self._check_target()
            folders = [kept.path_of(one) for one in parts]
            self._tell(f"reading {', '.join(one.name for one in parts)}")
            sizes = [check_files(folder, self._meanwhile) for folder in folders]
            self._check_room(sum(sizes))
            try:
                account = self._make_scratch()
                run_long(
                    account,
                    "pg_combinebackup",
                    [*(str(folder / DATA) for folder in folders), "-o", str(self._data)],
                    self._meanwhile,
                    lock,
                )
                self._tell("the backup is copied; replaying the log")
                return self._recover(wanted, kept, chosen, account)
            except BaseException:
                self.drop()
                raise

    @property
    def _data(self) -> Path:
        return self._scratch / "postgres"

    def _check_target(self) -> None:
        if self._target.is_relative_to(self._archive.folder):
            raise BackupRefused(f"{self._target} lies among the backups; nothing was done")
        if self._target.exists() and not self._target.is_dir():
            raise BackupRefused(f"{self._target} is no folder; nothing was done")
        found = {path.name for path in self._target.iterdir()} if self._target.exists() else set()
        # The root of a disk is never quite empty.
        if found - {SCRATCH, "lost+found"}:
            raise BackupRefused(f"{self._target} is not empty; nothing was done")

    def _check_room(self, size: int) -> None:
        place = self._target if self._target.exists() else self._target.parent
        while not place.exists():
            place = place.parent
        needed, free = size + _BESIDE_BYTES, free_bytes(place)
        if free < needed:
            raise BackupFailed(
                f"the restored store needs {needed // _MB} MB and {self._target} has "
                f"{free // _MB} MB left; nothing was done"
            )

    def _make_scratch(self) -> Account:
        self._target.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._scratch.mkdir(mode=0o700, exist_ok=True)
        self._lock = os.open(self._scratch / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            self._lock = -1
            raise BackupRefused(f"another command restores into {self._target}") from None
        shutil.rmtree(self._data, ignore_errors=True)
        also = (*ways(), self._archive.backups, self._archive.log)
        account = choose_account(self._archive.backups, programs(), (self._data, *also))
        os.chown(self._scratch, account.uid, account.gid)
        return account

    def _recover(self, wanted: Wanted, kept: Kept, chosen: Reach, account: Account) -> Recovered:
        for log in self._data.glob(f"{LOG_NAME}*"):
            log.unlink()
        signal = self._data / "recovery.signal"
        signal.touch(mode=0o600)
        os.chown(signal, account.uid, account.gid)
        settings = [
            "archive_mode=off",
            f"restore_command={fetching(self._archive)}",
            f"recovery_target_timeline={kept.timeline}",
        ]
        target = [] if wanted.to is None else [f"recovery_target_time={wanted.to.isoformat()}"]
        goal = [*target, "recovery_target_action=promote"] if target else []
        try:
            server = self._start([*settings, *goal])
            is_at_the_end = not goal
        except BackupFailed as error:
            if not goal or NOT_REACHED not in str(error):
                raise
            # Nothing was committed after the moment: it is the end of what there is.
            server = self._start(settings)
            is_at_the_end = True
        self._server = server
        source = Source(self._data, server.url, account)
        last = source.ask("SELECT extract(epoch FROM pg_last_xact_replay_timestamp())")
        last_commit = datetime.fromtimestamp(float(last), wanted.now.tzinfo) if last else None
        timeline = source.timeline()
        if is_at_the_end:
            self._check_end(wanted, chosen, timeline, last_commit)
        return Recovered(source, server, chosen.backup, timeline, last_commit)

    def _check_end(
        self, wanted: Wanted, chosen: Reach, timeline: int, last_commit: datetime | None
    ) -> None:
        """Refuse a store that has less than was there when it began, or more than was asked for.

        The server ends its recovery in peace with the first file that it does not find.
        """
        said = (self._data / LOG_NAME).read_bytes().decode("utf-8", "replace")
        if (damage := _DAMAGED.search(said)) is not None:
            raise BackupBroken(
                f"a file of the log was damaged before it came to {self._archive.log}, and what "
                f"stands behind is lost ({damage['what']}); nothing was restored. A moment before "
                "can be (--to)"
            )
        history = self._data / "pg_wal" / f"{timeline:08X}.history"
        left_at = parse_history(history.read_text(encoding="ascii", errors="replace"))[-1].at
        if chosen.last is not None and segment_of(left_at - 1) < chosen.last:
            raise BackupBroken(
                f"{self._archive.log} lost files while they were read; nothing was restored"
            )
        if wanted.to is not None and last_commit is not None and last_commit > wanted.to:
            raise BackupFailed(
                f"the log went on beyond {wanted.to.isoformat()} while it was replayed; nothing "
                "was restored. Do it again"
            )

    def _start(self, settings: Sequence[str]) -> EmbeddedServer:
        patience = Patience(RECOVERY_S_MAX, self._meanwhile)
        try:
            return start(
                self._scratch,
                extra=tuple(settings),
                archive=None,
                patience=patience,
                # Its log's files are brought by a program of ours, and may lie behind closed doors.
                also=(*ways(), self._archive.log),
            )
        except EmbeddedFailed as error:
            said = [line for line in error.log_tail.splitlines() if line.startswith("greenroom: ")]
            if said:
                raise BackupBroken(said[-1].removeprefix("greenroom: ")) from error
            raise BackupFailed(
                f"the recovery did not come to its end: {error.reason}; nothing was restored. The "
                f"server says:\n{error.log_tail}"
            ) from error

    def keep(self) -> Path:
        """Call this to stop the server and leave its data in the folder; returns where."""
        if self._server is not None:
            self._server.stop()
            self._server = None
        final = self._target / "postgres"
        self._data.rename(final)
        self._clean()
        return final

    def drop(self) -> None:
        """Call this to leave nothing; a folder that was there before stays, empty."""
        if self._server is not None:
            self._server.stop()
            self._server = None
        if self._lock >= 0:
            self._clean()
        if self._made and self._target.exists() and not any(self._target.iterdir()):
            self._target.rmdir()

    def _clean(self) -> None:
        shutil.rmtree(self._scratch, ignore_errors=True)
        os.close(self._lock)
        self._lock = -1
        handle = os.open(self._target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
