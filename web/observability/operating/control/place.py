"""Where the control socket lies, and whose it is.

Rule 1: of all processes on one state folder one answers, the holder of the lock beside the socket.
        The system gives the lock back when a process ends, however it does: a socket without a
        holder is a dead one's, and the next takes its place.
Rule 2: nobody else gets near: the folder is its owner's alone, the socket too (0600), and each end
        asks the system who the other one is.
"""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Protocol

from web.observability.ending import Code, CommandFailed

SOCKET_NAME: Final = "control.sock"
LOCK_NAME: Final = "control.lock"
# What the system takes as an address, with the NUL behind it.
_PATH_BYTES_MAX: Final = 103
# How many may wait to be taken; a person at a terminal is one.
_BACKLOG: Final = 16


class PlaceTaken(Exception):
    """Raised when another process answers for this state folder."""


class HasOptions(Protocol):
    """A socket, of the system or of trio."""

    def getsockopt(self, level: int, option: int, size: int, /) -> bytes: ...


class HeldPlace:
    """The socket of this process, which listens; `close` removes it."""

    def __init__(self, folder: Path, lock: int, listener: socket.socket) -> None:
        self._folder, self._lock, self.listener = folder, lock, listener

    def close(self) -> None:
        """Call this at the end; harmless to repeat."""
        if self._lock < 0:
            return
        self.listener.close()
        with suppress(OSError):
            (self._folder / SOCKET_NAME).unlink(missing_ok=True)
        # Last: whoever waits for it makes a new one.
        os.close(self._lock)
        self._lock = -1


def hold(folder: Path) -> HeldPlace:
    """Call this to listen; raises `PlaceTaken` while another one does, and `OSError`."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    lock = os.open(folder / LOCK_NAME, flags, 0o600)
    listener = None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise PlaceTaken(folder) from error
        # Of a dead process: it had the lock.
        (folder / SOCKET_NAME).unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with _address(folder) as address:
            listener.bind(address)
        (folder / SOCKET_NAME).chmod(0o600)
        listener.listen(_BACKLOG)
    except BaseException:
        if listener is not None:
            listener.close()
        os.close(lock)
        raise
    return HeldPlace(folder, lock, listener)


def connect(folder: Path) -> socket.socket:
    """Call this for a connection to the site of a state folder; raises `CommandFailed`."""
    path = folder / SOCKET_NAME
    try:
        status = path.lstat()
    except PermissionError as error:
        raise CommandFailed(
            Code.REFUSED,
            f"{folder} is not for you to look into; nothing was asked",
            "Run the command as the user whose site it is",
        ) from error
    except OSError as error:
        raise _nobody(folder) from error
    if not stat.S_ISSOCK(status.st_mode) or not _is_trusted(status.st_uid):
        raise CommandFailed(
            Code.REFUSED,
            f"{path} is no socket of yours; nothing was asked",
            "Run the command as the user whose site it is",
        )
    asked = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _address(folder) as address:
            asked.connect(address)
        # Who listens may be another than who owns the file.
        if not is_ours(asked):
            raise CommandFailed(Code.REFUSED, f"{path} is served by another user")
    except OSError as error:
        asked.close()
        # ECONNREFUSED: it was killed, and its socket is left.
        raise _nobody(folder) from error
    except BaseException:
        asked.close()
        raise
    return asked


def is_ours(connection: HasOptions) -> bool:
    """Call this for whether the process at the other end is of our user, or of the system's."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return True  # Elsewhere than on Linux the folder alone keeps others out.
    told = connection.getsockopt(socket.SOL_SOCKET, option, struct.calcsize("3i"))
    return _is_trusted(struct.unpack("3i", told)[1])


def _is_trusted(uid: int) -> bool:
    return uid in (0, os.geteuid()) or os.geteuid() == 0


def _nobody(folder: Path) -> CommandFailed:
    return CommandFailed(
        Code.UNREACHABLE,
        f"no site runs on {folder}",
        "Start it with greenroom serve, or name its folder (STATE_DIR, --state-dir)",
    )


@contextmanager
def _address(folder: Path) -> Iterator[str]:
    """Give the address of the socket: its path, or one through the folder where that is long."""
    path = str(folder.absolute() / SOCKET_NAME)
    if len(os.fsencode(path)) <= _PATH_BYTES_MAX:
        yield path
        return
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # Linux; elsewhere it is an OSError, which tells that there is none.
        yield f"/proc/self/fd/{opened}/{SOCKET_NAME}"
    finally:
        os.close(opened)
