"""What lies in the folder of the backups: read, checked, and held against others.

A backup has its name only when it is complete, with `backup.json` written last; one under way is
called `.under-way`, and whoever makes the next removes it. Everything here blocks.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import msgspec

from storage.errors import BackupBroken, BackupRefused
from storage.postgres.embedded.account import open_own
from storage.postgres.embedded.archive import Archive, read_mark
from storage.postgres.embedded.archiving import ArchiveTrouble, unpacked
from storage.postgres.embedded.backups.planning import (
    Backup,
    Fork,
    Histories,
    Reach,
    Span,
    broken,
    chain,
    holes,
    is_on,
    joined,
    newest_timeline,
    parse_history,
    reach,
    road_to,
    segment_name,
    segment_of,
)

RECORD = "backup.json"
DATA = "data"
UNDER_WAY = ".under-way"
_MANIFEST = "backup_manifest"
_LOCK = "lock"
_CHUNK = 1 << 20


class _File(msgspec.Struct, frozen=True):
    size: int = msgspec.field(name="Size")
    path: str | None = msgspec.field(name="Path", default=None)
    # Of a name that is no text.
    encoded: str | None = msgspec.field(name="Encoded-Path", default=None)
    algorithm: str | None = msgspec.field(name="Checksum-Algorithm", default=None)
    checksum: str | None = msgspec.field(name="Checksum", default=None)


class _Range(msgspec.Struct, frozen=True):
    timeline: int = msgspec.field(name="Timeline")
    start: str = msgspec.field(name="Start-LSN")
    end: str = msgspec.field(name="End-LSN")


class Manifest(msgspec.Struct, frozen=True):
    """What the server says of a backup: its files, and the part of the log that it needs."""

    files: list[_File] = msgspec.field(name="Files")
    ranges: list[_Range] = msgspec.field(name="WAL-Ranges")


@dataclass(frozen=True)
class Kept:
    """All that a folder keeps, as it was when it was read."""

    archive: Archive
    backups: Sequence[Backup]
    archived: frozenset[str]
    histories: Histories
    timeline: int

    def path_of(self, backup: Backup) -> Path:
        """Call this for the folder of a backup."""
        return self.archive.backups / backup.name

    def there(self, backup: Backup) -> frozenset[str]:
        """Call this for the segments that a recovery may read: the archive's and a backup's own."""
        own = (self.path_of(backup) / DATA / "pg_wal").glob("[0-9A-F]*")
        return self.archived | {path.name for path in own}

    @property
    def road(self) -> Sequence[Fork]:
        """Call this for the timelines through which a recovery goes."""
        return road_to(self.timeline, self.histories)

    @cached_property
    def reaches(self) -> Sequence[Reach]:
        """Call this for how far recovery comes from each whole backup that is on the road."""
        return [
            reach(one, self.road, self.there(one))
            for one in self.backups
            if is_on(self.road, one) and chain(one, self.backups) is not None
        ]

    @cached_property
    def spans(self) -> Sequence[Span]:
        """Call this for what can be restored."""
        found = ((one.backup.ended_at, self.last_moment(one)) for one in self.reaches)
        return joined(Span(first, last) for first, last in found if last is not None)

    @property
    def holes(self) -> Sequence[str]:
        """Call this for the segments that the archive lacks between others."""
        return holes(self.backups, self.road, self.archived)

    @property
    def broken(self) -> Sequence[Backup]:
        """Call this for the backups that stand on one that is gone."""
        return broken(self.backups)

    def last_moment(self, found: Reach) -> datetime | None:
        """Call this for the last moment of which all is there, on the safe side; None when none is.

        A segment says in seconds when it was last written. What was committed in that very
        second may stand in the next one.
        """
        backup = found.backup
        if found.last is None or found.last < segment_of(backup.sealed - 1):
            return None
        # Also where a later backup closed the log: what came before it is there to the last moment.
        moments = [
            one.ended_at
            for one in self.backups
            if is_on(self.road, one) and segment_of(one.sealed - 1) <= found.last
        ]
        names = {segment_name(fork.timeline, found.last) for fork in self.road} & self.archived
        if names:
            moments.append(_written_at(self.archive.log / f"{max(names)}.gz"))
        return max(moments)


def _written_at(path: Path) -> datetime:
    with path.open("rb") as file:
        head = file.read(8)
    if len(head) < 8:
        return datetime.fromtimestamp(0, UTC)
    # No sum is over it: a byte that flipped there shall promise nothing that was written later.
    (seconds,) = struct.unpack("<I", head[4:8])
    seconds = min(seconds, int(path.stat().st_mtime))
    return datetime.fromtimestamp(max(0, seconds - 1), UTC)


def read_folder(archive: Archive, timeline: int | None = None) -> Kept:
    """Call this for what a folder keeps; raises `BackupRefused` when it is no folder of backups.

    `timeline` is the one that is to be reached; the one that was begun last unless it is said.
    """
    if read_mark(archive.folder) is None:
        raise BackupRefused(f"{archive.folder} holds no backups; nothing was done")
    backups = sorted(_records(archive.backups), key=lambda one: one.number)
    archived = frozenset(path.name[:-3] for path in archive.log.glob("[0-9A-F]*.gz"))
    histories: dict[int, Sequence[Fork]] = {}
    for name in archived:
        if name.endswith(".history"):
            histories[int(name[:8], 16)] = parse_history(_text(archive.log / f"{name}.gz"))
    newest = newest_timeline(histories, archived, backups)
    return Kept(archive, backups, archived, histories, timeline or newest)


def _text(path: Path) -> str:
    try:
        return unpacked(path).decode("ascii", "replace")
    except ArchiveTrouble as error:
        raise BackupBroken(f"{error}; nothing was done") from error


def _records(folder: Path) -> Iterator[Backup]:
    for record in folder.glob(f"[0-9]*/{RECORD}"):
        try:
            yield msgspec.json.decode(record.read_bytes(), type=Backup)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BackupBroken(
                f"{record} cannot be read ({error}); move that backup away"
            ) from error


@contextmanager
def held(archive: Archive, *, alone: bool) -> Iterator[int]:
    """Call this to keep others from changing the folder; `alone` also from reading it.

    Gives the descriptor of the lock, for programs that work on when we are killed: while they do,
    nobody else begins. Raises `BackupRefused` while it is not to be had.
    """
    handle = open_own(archive.folder / _LOCK, os.O_RDWR)
    try:
        try:
            fcntl.flock(handle, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except OSError:
            raise BackupRefused(
                f"another command works with the backups in {archive.folder}; nothing was done"
            ) from None
        yield handle
    finally:
        os.close(handle)


def read_manifest(folder: Path) -> Manifest:
    """Call this for what the server says of a backup; raises `BackupBroken`."""
    path = folder / DATA / _MANIFEST
    try:
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except FileNotFoundError:
        raise BackupBroken(f"{path} is missing") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BackupBroken(f"{path} is damaged ({error})") from error


def check_files(folder: Path, meanwhile: Callable[[], object]) -> int:
    """Call this to read a backup whole; returns its bytes, or raises `BackupBroken` with a name.

    By the manifest's own sums, without `pg_verifybackup`, which crashes on good backups.
    """
    total = 0
    for file in read_manifest(folder).files:
        meanwhile()
        name = file.path if file.path is not None else _decoded(file.encoded or "")
        path = folder / DATA / name
        try:
            found = path.stat().st_size
        except FileNotFoundError:
            raise BackupBroken(f"{path} is missing; nothing was restored") from None
        if found != file.size:
            raise BackupBroken(
                f"{path} has {found} bytes instead of {file.size}; nothing was restored"
            )
        if file.algorithm == "SHA256" and _sum(path) != file.checksum:
            raise BackupBroken(f"{path} is damaged; nothing was restored")
        total += found
    return total


def _decoded(text: str) -> str:
    return os.fsdecode(bytes.fromhex(text))


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def size_of(folder: Path) -> int:
    """Call this for the bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
