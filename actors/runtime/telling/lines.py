"""Writing lines where people or log collectors read them, without ever waiting for these.

Rule 1: nothing is left in a buffer: a line is written or it is not. Python would try the rest of
one again at its end, and leave with exit code 120 when that fails.
Rule 2: a reader that is there and does not read holds nobody up: the line fails instead.
"""

from __future__ import annotations

import errno
import io
import os
import select
import stat
import threading
from typing import Final, TextIO

# Half of what the watchdog calls a blocked loop. Only the first line of many waits so long.
STALLED_S: Final = 0.05
# What a pipe takes without waiting once it says that it is ready.
_CHUNK: Final = getattr(select, "PIPE_BUF", 512)


class LineWriter:
    """Writes to one stream, a line at once; threads may share it. `None` is a stream never opened.

    Characters that the stream's encoding does not have are escaped. A patient one waits for a
    reader for as long as it takes: for what somebody asked for, where nobody else is held up.
    """

    def __init__(self, stream: TextIO | None, *, is_patient: bool = False) -> None:
        self.stream, self._is_patient = stream, is_patient
        # Reentrant: an object that is collected while it is held may log in its `__del__`.
        self._lock = threading.RLock()
        # A disk that is full takes the first half of a line: the next begins on a line of its own.
        self._is_torn = False
        self._is_stalled = False

    def write(self, line: str) -> None:
        """Call this to write `line`, given without its end.

        Raises OSError or ValueError when it cannot be written, or only in part. Waits at most
        `STALLED_S` for a reader, unless it is patient.
        """
        stream = self.stream
        if stream is None:
            raise OSError(errno.EBADF, "the stream was closed before the program began")
        encoding = getattr(stream, "encoding", None) or "utf-8"
        data = f"{line}\n".encode(encoding, "backslashreplace")
        with self._lock:
            descriptor = _descriptor_of(stream)
            if descriptor is None:
                stream.write(data.decode(encoding))
                stream.flush()
                return
            self._wait(descriptor)
            # What others have printed stands before it.
            stream.flush()
            self._write(descriptor, data)

    def _write(self, descriptor: int, data: bytes) -> None:
        left = memoryview(b"\n" + data if self._is_torn else data)
        is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        at_once = len(left) if is_file else _CHUNK
        while left:
            done = os.write(descriptor, left[:at_once])
            left = left[done:]
            self._is_torn = bool(left)
            if left:
                self._wait(descriptor)

    def _wait(self, descriptor: int) -> None:
        if not hasattr(select, "poll"):
            return  # Windows: files and consoles, which do not wait for a reader.
        ready = select.poll()
        ready.register(descriptor, select.POLLOUT)
        # An error counts as ready: the write then says which.
        if self._is_patient:
            ready.poll()
            return
        if not ready.poll(0 if self._is_stalled else STALLED_S * 1000):
            self._is_stalled = True
            raise BlockingIOError(errno.EAGAIN, "whoever reads this stream does not read")
        self._is_stalled = False


def _descriptor_of(stream: TextIO) -> int | None:
    # A notebook puts something else in the place of standard error, and its number is of another
    # stream: what is written to that, nobody sees.
    if not isinstance(stream, io.TextIOWrapper):
        return None
    try:
        return stream.fileno()
    except OSError:  # `io.UnsupportedOperation`: it is in memory
        return None
