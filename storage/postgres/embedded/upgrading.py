"""The embedded data brought up to the major version of the programs, by `pg_upgrade`, as a copy.

Rule 1: the old data are read and stay, as `postgres.old-16`, until a person removes them.
Rule 2: whatever is killed, at any moment, leaves data that a server can be started on: the copy has
the name `postgres.upgraded` only when it is complete, and whoever finds it where the data should
be takes it for them.

Transaction numbers go on where they were, so the order of events and every cursor stay; only the
store's own note of which cluster wrote it is renewed. Everything here blocks.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from storage.errors import BackupRefused, EmbeddedOutdated
from storage.postgres.embedded.account import Account, choose_account
from storage.postgres.embedded.archive import keep_archive
from storage.postgres.embedded.backups.taking import Source, run_long
from storage.postgres.embedded.disk import free_bytes
from storage.postgres.embedded.process import Patience, end, launch
from storage.postgres.embedded.server import (
    MAJOR,
    UPGRADED,
    find_programs,
    hold_folder,
    make_data,
    programs,
    stop_left_over,
)

_MB = 1024 * 1024
# What a new cluster has before anything is in it, and the log that is written meanwhile.
_BESIDE_BYTES = 192 * _MB
# A server that was killed replays its log, and writes all that was in memory when it ends.
RECOVERY_S_MAX, STOP_S_MAX = 3600.0, 120.0
_UNDER_WAY = "postgres.upgrading"

# The numbers of the old cluster go on: nothing was renumbered, nothing went back in time.
_TAKE_NOTE = """
DO $$ BEGIN
    IF to_regclass('store_meta') IS NOT NULL THEN
        UPDATE store_meta SET
            system_identifier = (SELECT system_identifier::text FROM pg_control_system()),
            timeline = ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint;
    END IF;
END $$
"""

Tell = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Upgraded:
    """From which major version to which, and where the old data are."""

    before: int
    now: int
    old: Path


def upgrade(state_dir: Path, tell: Tell, meanwhile: Callable[[], object] = bool) -> Upgraded | None:
    """Call this to bring the data of a folder up; None when they are of this version already.

    Raises `StateDirInUse`, `EmbeddedFailed`, `BackupRefused` where it cannot be done and
    `BackupFailed` where it did not succeed: then the old data are as they were.
    """
    data = (state_dir / "postgres").resolve()
    with hold_folder(state_dir, data) as lock:
        before = int((data / "PG_VERSION").read_text(encoding="ascii"))
        if before == MAJOR:
            return None
        if before > MAJOR:
            raise EmbeddedOutdated(str(data), before, MAJOR)
        old_programs = find_programs(before)
        if old_programs is None:
            raise BackupRefused(
                f"the package brings no programs of PostgreSQL {before}, which wrote {data}; "
                "nothing was done. Dump the data with the program that wrote them"
            )
        old = data.with_name(f"postgres.old-{before}")
        if old.exists():
            raise BackupRefused(f"{old} is there from an earlier upgrade; nothing was done")
        _check_room(data)
        stop_left_over(data)
        account = choose_account(data, programs(), (old_programs / "postgres",))
        upgraded = _copy(data, old_programs, account, tell, meanwhile, lock)
        data.rename(old)
        upgraded.rename(data)
        _sync(data.parent)
        # Its backups are of a cluster that is no more.
        keep_archive(state_dir, None)
    return Upgraded(before, MAJOR, old)


def _check_room(data: Path) -> None:
    size = sum(path.stat().st_size for path in data.rglob("*") if path.is_file())
    needed, free = size + _BESIDE_BYTES, free_bytes(data.parent)
    if free < needed:
        raise BackupRefused(
            f"the upgrade needs {needed // _MB} MB beside the data and {data.parent} has "
            f"{free // _MB} MB left; nothing was done"
        )


def _copy(
    data: Path,
    old_programs: Path,
    account: Account,
    tell: Tell,
    meanwhile: Callable[[], object],
    lock: int,
) -> Path:
    fresh, upgraded = data.with_name(_UNDER_WAY), data.with_name(UPGRADED)
    for left in (fresh, upgraded):
        shutil.rmtree(left, ignore_errors=True)
    try:
        with _work_folder(account) as work:
            has_checksums = _end_in_peace(data, old_programs, account, work, meanwhile)
            # Both must have sums over their pages, or neither.
            make_data(fresh, account, "-k" if has_checksums else "--no-data-checksums")
            tell("copying the data")
            words = [
                *("--old-bindir", str(old_programs), "--new-bindir", str(programs())),
                *("--old-datadir", str(data), "--new-datadir", str(fresh)),
                *("--username", "postgres", "--socketdir", str(work)),
            ]
            run_long(account, "pg_upgrade", words, meanwhile, lock, folder=work)
            # Before the copy has its name: whoever finds it then finds a store that serves.
            _take_note(fresh, account, work, meanwhile)
            if not has_checksums:
                tell("putting sums over its pages")
                run_long(account, "pg_checksums", ["--enable", str(fresh)], meanwhile, lock)
        os.sync()
        fresh.rename(upgraded)
        _sync(data.parent)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    return upgraded


def _end_in_peace(
    data: Path, old_programs: Path, account: Account, work: Path, meanwhile: Callable[[], object]
) -> bool:
    """Let a server that was killed end well, as its successor asks for; whether pages have sums."""
    said = run_long(account, "pg_controldata", [str(data)], meanwhile, of=old_programs)
    if re.search(r"cluster state: +shut down$", said, re.MULTILINE) is None:
        (data / "postmaster.pid").unlink(missing_ok=True)
        with _running(data, old_programs, account, work, meanwhile):
            pass
    return re.search(r"checksum version: +0$", said, re.MULTILINE) is None


def _take_note(fresh: Path, account: Account, work: Path, meanwhile: Callable[[], object]) -> None:
    url = f"postgresql://postgres@/postgres?host={work}&port=5432&sslmode=disable"
    with _running(fresh, programs(), account, work, meanwhile):
        Source(fresh, url, account).ask(_TAKE_NOTE)


@contextmanager
def _running(
    data: Path, of: Path, account: Account, work: Path, meanwhile: Callable[[], object]
) -> Iterator[None]:
    """A server that only we reach, and that is stopped in peace."""
    settings = (f"unix_socket_directories={work}", "listen_addresses=", "port=5432")
    options = [part for setting in settings for part in ("-c", setting)]
    command = [*account.prefix, str(of / "postgres"), "-D", str(data), *options]
    guard = launch(command, data, Patience(RECOVERY_S_MAX, meanwhile))
    try:
        yield
    finally:
        end(data, guard, STOP_S_MAX)


@contextmanager
def _work_folder(account: Account) -> Iterator[Path]:
    """Where the programs write beside the data, with a path short enough for their sockets."""
    work = Path(tempfile.mkdtemp(prefix="greenroom-upgrade-", dir="/tmp"))
    try:
        os.chown(work, account.uid, account.gid)
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
