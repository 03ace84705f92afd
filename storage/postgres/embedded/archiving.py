"""What the server runs for each file of its log: puts it into the archive, or brings it back.

    python -I -S archiving.py keep ARCHIVE PATH NAME SYSTEM
    python -I -S archiving.py fetch ARCHIVE PATH NAME

A program of its own, run by the server as its own user: it knows the standard library and nothing
of ours, so that it starts in a few milliseconds and whatever else is broken does not matter.

Rule 1: done is said (code 0) only when the file lies in the archive for good: written, synced,
under its name, and the name synced. Whatever else is said, the server keeps it and asks again.
Rule 2: a name that is taken is never written again. The same content is done already, as after a
crash between the writing and the answer; another one is refused.
Rule 3: what is fetched is whole or is not fetched. What was damaged (gzip carries a checksum and
the length of all) ends the recovery: taken for the end of the archive it would give a store that
lacks the rest.
"""

import gzip
import os
import signal
import sys
import zlib
from pathlib import Path

# Nearly all of a file that was closed early, after `archive_timeout`, is zeros: the fastest
# packing makes 16 MB to some 100 KB, a full one to a half, at 100 MB/s.
_LEVEL = 1
# What the kernel is asked for at once.
_CHUNK = 1 << 20
# A disk that does not answer must not hold the server's end for ever; one that is slow writes
# 16 MB in a few seconds.
SECONDS_MAX = 120

# As PostgreSQL makes them here; the first page of each names its cluster, behind these.
SEGMENT_BYTES = 16 * 1024 * 1024
_SYSTEM_AT = 24

# Above 125 the server takes an answer for a trouble that ends the recovery, below for "there is
# no such file", with which it ends well.
NOT_THERE, FAILED, BROKEN = 1, 2, 200


class ArchiveTrouble(Exception):
    """Raised when a file was not archived or not brought back; says which, and why."""


def is_segment(name: str) -> bool:
    """Call this to tell a file of the log itself from those that stand beside it."""
    return len(name) == 24 and all(letter in "0123456789ABCDEF" for letter in name)


def keep(archive: Path, path: Path, name: str, system: str) -> None:
    """Call this to put a file into the archive; returns when it lies there for good."""
    content = path.read_bytes()
    if is_segment(name):
        _check_segment(name, content, system)
    final = archive / f"{name}.gz"
    if final.exists():
        _check_same(final, content)
        _sync(archive)
        return
    fresh = archive / f".{name}.{os.getpid()}.new"
    for stale in archive.glob(f".{name}.*.new"):
        stale.unlink(missing_ok=True)
    try:
        # When it was last written: no commit within it is later.
        _write(fresh, gzip.compress(content, _LEVEL, mtime=int(path.stat().st_mtime)))
        _name(fresh, final)
    finally:
        fresh.unlink(missing_ok=True)
    _sync(archive)


def _check_segment(name: str, content: bytes, system: str) -> None:
    if len(content) != SEGMENT_BYTES:
        raise ArchiveTrouble(f"{name} has {len(content)} bytes and is no whole file of the log")
    theirs = int.from_bytes(content[_SYSTEM_AT : _SYSTEM_AT + 8], sys.byteorder)
    if str(theirs) != system:
        raise ArchiveTrouble(f"{name} is of another server ({theirs}) than its archive ({system})")


def _check_same(final: Path, content: bytes) -> None:
    try:
        kept = unpacked(final)
    except ArchiveTrouble as error:
        raise ArchiveTrouble(f"{error}; it was not overwritten") from error
    if kept != content:
        raise ArchiveTrouble(f"{final} holds another content; it was not overwritten")


def _write(path: Path, content: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(handle, view[:_CHUNK]) :]
        os.fsync(handle)
    finally:
        os.close(handle)


def _name(fresh: Path, final: Path) -> None:
    """Give a file its name, which nobody else has: a link is refused where a rename is not."""
    try:
        os.link(fresh, final)
    except FileExistsError:
        raise ArchiveTrouble(f"{final} came from elsewhere meanwhile; it stays") from None
    except OSError:
        # A file system without links. Then two servers could meet here, one alone never does.
        fresh.rename(final)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def unpacked(final: Path) -> bytes:
    """Call this for what an archived file holds; raises `ArchiveTrouble` when it is damaged."""
    packed = final.read_bytes()
    if not packed:  # which unpacks to nothing, without a word
        raise ArchiveTrouble(f"{final} is damaged (it is empty)")
    try:
        return gzip.decompress(packed)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ArchiveTrouble(f"{final} is damaged ({error})") from error


def fetch(archive: Path, path: Path, name: str) -> bool:
    """Call this to bring a file back; False when it is not in the archive."""
    final = archive / f"{name}.gz"
    if not final.exists():
        # A disk that was taken away has no files either.
        if not archive.is_dir():
            raise ArchiveTrouble(f"{archive} is not there")
        return False
    content = unpacked(final)
    if is_segment(name) and len(content) != SEGMENT_BYTES:
        raise ArchiveTrouble(f"{final} is damaged (it has {len(content)} bytes)")
    path.unlink(missing_ok=True)
    _write(path, content)
    return True


def _late(_number: int, _frame: object) -> None:
    raise ArchiveTrouble(f"the archive did not answer within {SECONDS_MAX} s")


def main(words: list[str]) -> int:
    """Call this with what stands behind the program's name; returns the exit code."""
    signal.signal(signal.SIGALRM, _late)
    signal.alarm(SECONDS_MAX)
    what, archive, path, name = words[0], Path(words[1]), Path(words[2]), words[3]
    try:
        if what == "keep":
            keep(archive, path, name, words[4])
            return 0
        return 0 if fetch(archive, path, name) else NOT_THERE
    except (ArchiveTrouble, OSError) as error:
        why = str(error) if isinstance(error, ArchiveTrouble) else f"{archive}: {error.strerror}"
        done = "not archived; it is kept and tried again" if what == "keep" else "not restored"
        sys.stderr.write(f"greenroom: {name} was {done}: {why}\n")
        return FAILED if what == "keep" else BROKEN


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
