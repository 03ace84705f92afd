"""Where the embedded server's log is archived, and what the server is told for it.

The folder of the backups holds one for the log (a file each, packed), one for the backups (a folder
each), and `greenroom-backups.json`, which says of which server they are. One folder is for one
server: files of two would have the same names.

What was chosen is kept in `STATE_DIR/postgres.archive`: a command that starts the server for a
moment, on a shell that knows no BACKUP_DIR, would else leave a hole in the archive.
"""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

import msgspec

from storage.errors import BackupRefused, EmbeddedFailed
from storage.postgres.embedded import archiving
from storage.postgres.embedded.account import Account
from storage.postgres.embedded.disk import replace_file

# What may be lost when machine and disk are lost at once: a minute. Shorter costs a file of the
# archive (some 100 KB when little happens) each time something was written.
ARCHIVE_EVERY_S = 60
MARK = "greenroom-backups.json"
FORMAT = 1


class Archive(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a server's log goes, and how long a write waits at most until it is there."""

    folder: Path
    every_s: int = ARCHIVE_EVERY_S

    @property
    def log(self) -> Path:
        """Call this for the folder of the log's files."""
        return self.folder / "archive"

    @property
    def backups(self) -> Path:
        """Call this for the folder of the backups."""
        return self.folder / "backups"


class _Mark(msgspec.Struct, frozen=True):
    format: int
    system: str


@dataclass(frozen=True, slots=True)
class AsBefore:
    """Archive where it was last said, or not at all: what commands do."""


AS_BEFORE = AsBefore()


def read_system(data: Path) -> str:
    """Call this for the number that a cluster was given when it was made, and never loses."""
    with (data / "global" / "pg_control").open("rb") as file:
        return str(int.from_bytes(file.read(8), sys.byteorder))


def read_mark(folder: Path) -> str | None:
    """Call this for the server whose backups a folder holds; None when it holds none."""
    try:
        mark = msgspec.json.decode((folder / MARK).read_bytes(), type=_Mark)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BackupRefused(f"{folder / MARK} cannot be read ({error})") from error
    if mark.format != FORMAT:
        raise BackupRefused(f"{folder} was written by another version of this program")
    return mark.system


def kept_archive(state_dir: Path) -> Archive | None:
    """Call this for where the server of a folder archives, as it was last said."""
    path = state_dir / "postgres.archive"
    try:
        return msgspec.json.decode(
            path.read_bytes(), type=Archive, dec_hook=lambda _, text: Path(text)
        )
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise EmbeddedFailed(f"{path} cannot be read ({error}); remove it") from error


def keep_archive(state_dir: Path, archive: Archive | None) -> None:
    """Call this to have commands archive to the same place."""
    path = state_dir / "postgres.archive"
    if archive is None:
        path.unlink(missing_ok=True)
    else:
        replace_file(path, msgspec.json.encode(archive, enc_hook=str).decode())


def prepare(archive: Archive, data: Path, account: Account) -> None:
    """Call this before the server is started: makes the folders, and refuses those of another.

    Raises `BackupRefused`; then nothing was changed.
    """
    folder = archive.folder
    if folder.is_relative_to(data) or data.is_relative_to(folder):
        raise BackupRefused(f"{folder} and the data in {data} must lie apart")
    system, found = read_system(data), read_mark(folder)
    # The root of a disk is never quite empty.
    there = {path.name for path in folder.iterdir()} - {"lost+found"} if folder.exists() else set()
    if found is None and there:
        raise BackupRefused(f"{folder} holds something that is no backup of ours; name another")
    if found is not None and found != system:
        raise BackupRefused(
            f"{folder} holds the backups of another server; name another folder, for a server that "
            "was upgraded, too"
        )
    for path in (folder, archive.log, archive.backups):
        if not path.exists():
            path.mkdir(mode=0o700, parents=path == folder)
            os.chown(path, account.uid, account.gid)
    if found is None:
        # One that was there may be open to others, as a disk just made often is.
        os.chown(folder, account.uid, account.gid)
        folder.chmod(0o700)
        replace_file(folder / MARK, msgspec.json.encode(_Mark(FORMAT, system)).decode())
    _announce_histories(data, account)


def _announce_histories(data: Path, account: Account) -> None:
    """Have the files that tell of earlier timelines archived.

    The server does so when it begins a timeline while it archives. One that was restored began it
    before; without its history nobody could follow the archive past that moment.
    """
    status = data / "pg_wal" / "archive_status"
    if not status.is_dir():
        return
    for history in (data / "pg_wal").glob("*.history"):
        ready = status / f"{history.name}.ready"
        if not ready.exists() and not (status / f"{history.name}.done").exists():
            ready.touch(mode=0o600)
            os.chown(ready, account.uid, account.gid)


def settings_of(archive: Archive, data: Path) -> tuple[str, ...]:
    """Call this for what the server is told so that its log is archived."""
    keep = _program("keep", archive.log, " %p %f " + read_system(data))
    return (
        "archive_mode=on",
        f"archive_command={keep}",
        f"archive_timeout={archive.every_s}",
        # What an incremental backup is made by.
        "summarize_wal=on",
    )


def fetching(archive: Archive) -> str:
    """Call this for the command by which a server that recovers has its log's files."""
    return _program("fetch", archive.log, " %p %f")


def ways() -> tuple[Path, ...]:
    """Call this for the files that the server's user must be able to reach, to archive."""
    return (Path(sys.executable), Path(archiving.__file__).resolve())


def _program(what: str, log: Path, rest: str) -> str:
    interpreter, script = ways()
    words = [str(interpreter), "-I", "-S", str(script), what, str(log)]
    # A per cent sign begins what the server fills in.
    return " ".join(shlex.quote(word) for word in words).replace("%", "%%") + rest
