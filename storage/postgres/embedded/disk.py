"""Room on the embedded server's disk: writing ends while there is some left, reading goes on.

PostgreSQL that finds no room for its log ends, and cannot come back: replaying the log needs
room too. So two things are done before, and both are undone by themselves when there is room.

- Below `FREE_BYTES_MIN` the server is told to take no writes. It stays up, and reads go on.
- A file of `SPARE_BYTES` lies beside the data, to be removed when the disk is full all the same
  (somebody else was faster), so that a server that ended has room to come back.

Everything here blocks; the keeper calls it in a thread. Nothing raises for want of room.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

from storage.postgres.connecting.health import READ_ONLY_REASON
from storage.postgres.embedded.account import open_own
from storage.postgres.embedded.process import send

_MB = 1024 * 1024

# Four files of the server's log. Readers may still fill one or two, for marks on pages; the next
# checkpoint then gives them back.
FREE_BYTES_MIN = 64 * _MB
# What replaying and the checkpoint after it take: a file of the log, and pages of tables.
SPARE_BYTES = 32 * _MB
# When writing begins again, and the spare room is taken (again): well above the floor, or the two
# would follow each other every second.
FREE_BYTES_AGAIN = FREE_BYTES_MIN + 2 * SPARE_BYTES
# The server writes its log in files of this size, and ends when it cannot have one.
_LOG_FILE_BYTES = 16 * _MB

LOOK_EVERY_S = 1.0

_SETTING = "default_transaction_read_only"


def free_bytes(folder: Path) -> int:
    """Call this to learn how much a normal user may still write on a folder's disk."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


class Disk:
    """Watches the room of one data folder."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._spare = data.with_name("postgres.spare")
        self.reason = ""

    @property
    def is_full(self) -> bool:
        """Call this to ask whether there is no room for a file of the server's log."""
        try:
            return free_bytes(self._data) < _LOG_FILE_BYTES
        except OSError:
            return False

    def look_before_start(self) -> None:
        """Call this before the server is started, which then begins with what is true."""
        self.look(takes_spare=False)

    def look(self, *, takes_spare: bool = True) -> None:
        """Call this now and then: ends or begins writing, and keeps the spare room."""
        try:
            free = free_bytes(self._data)
            if free < _LOG_FILE_BYTES:
                self.give_spare()  # first: telling takes some room too
            if free < FREE_BYTES_MIN or (self.reason and free < FREE_BYTES_AGAIN):
                self._tell(f"the disk of STATE_DIR has less than {FREE_BYTES_AGAIN // _MB} MB left")
            else:
                self._tell("")
            if takes_spare and free >= FREE_BYTES_AGAIN:
                self._take_spare()
        except OSError:
            pass  # gone, or so full that not even a line can be written: the next look tries again

    def give_spare(self) -> None:
        """Call this for a server that cannot start: it has the spare room from now on."""
        self._spare.unlink(missing_ok=True)

    def _take_spare(self) -> None:
        if self._spare.exists():
            return
        handle = open_own(self._spare, os.O_WRONLY)
        try:
            os.posix_fallocate(handle, 0, SPARE_BYTES)
        except OSError:
            # A file system that sets no room aside: then there is none to give.
            self._spare.unlink(missing_ok=True)
            raise
        finally:
            os.close(handle)

    def _tell(self, reason: str) -> None:
        """Have the server take writes, or none and say why; it reads its settings anew."""
        path = self._data / "postgresql.auto.conf"
        # What `ALTER SYSTEM` set stays; that it would set this one is the price of using it.
        old = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        ours = (_SETTING, READ_ONLY_REASON)
        is_read_only = any(line.startswith(READ_ONLY_REASON) for line in old)
        self.reason = reason
        if is_read_only == bool(reason):
            return
        lines = [line for line in old if not is_read_only or not line.startswith(ours)]
        if reason:
            lines += [f"{_SETTING} = 'on'", f"{READ_ONLY_REASON} = '{reason}'"]
        replace_file(path, "\n".join([*lines, ""]))
        send(self._data, signal.SIGHUP)


def replace_file(path: Path, text: str) -> None:
    """Write a file of the server anew, wholly or not at all, for the user the folder belongs to.

    Raises OSError; then the file is as it was.
    """
    fresh, owner = path.with_name(f"{path.name}.new"), path.parent.stat()
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
    try:
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        # A folder's name, which may be among it, is any bytes.
        with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chown(fresh, owner.st_uid, owner.st_gid)
        fresh.chmod(mode)
        fresh.rename(path)
    finally:
        fresh.unlink(missing_ok=True)
