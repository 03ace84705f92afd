"""Start a program of ours as a fork of a process that has imported it (see `server`)."""

from __future__ import annotations

import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from tests.patience import PATIENCE_S
from tests.signals import as_a_person_starts_it

_ROOT = Path(__file__).parents[2]


class Forked:
    """A running program: as much of `subprocess.Popen` as the tests use, and told the same way.

    `output` and `errors` are the ends of pipes or files that it writes to.
    """

    def __init__(
        self,
        module: str,
        words: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        output: int,
        errors: int,
        cwd: Path = _ROOT,
        flags: tuple[str, ...] = (),
    ) -> None:
        order = {
            "module": module,
            "words": list(words),
            "cwd": str(cwd),
            "environment": dict(os.environ if environment is None else environment),
        }
        self.returncode: int | None = None
        self._ended, status = os.pipe()
        try:
            self.pid = _server(flags).start(json.dumps(order).encode(), (output, errors, status))
        finally:
            os.close(status)

    def poll(self) -> int | None:
        """Its exit code once it has ended; never waits."""
        return self._look(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; raises `subprocess.TimeoutExpired` behind `timeout` seconds."""
        code = self._look(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal to a process that has not ended yet."""
        if self.poll() is None:
            # It may have ended, and whoever forked it not have said so yet.
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _has_ended(self, timeout: float | None) -> bool:
        # Not `select`: a run of half an hour may have more than the 1,024 files it knows.
        look = select.poll()
        look.register(self._ended, select.POLLIN)
        return bool(look.poll(None if timeout is None else timeout * 1000))

    def _look(self, timeout: float | None) -> int | None:
        if self.returncode is None and self._has_ended(timeout):
            said = os.read(self._ended, 16)
            os.close(self._ended)
            # Nothing is said when the process that forks was itself killed.
            self.returncode = int(said) if said else -signal.SIGKILL
        return self.returncode


def start(
    module: str,
    words: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    errors: int = subprocess.STDOUT,
) -> tuple[Forked, IO[str]]:
    """Start `python -m module words` from the project's folder; with it what reads its output."""
    reading, output = os.pipe()
    try:
        process = Forked(
            module,
            words,
            environment=environment,
            output=output,
            errors=output if errors == subprocess.STDOUT else errors,
        )
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(output)
    return process, os.fdopen(reading, "r", encoding="utf-8")


def run(
    module: str,
    words: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    cwd: Path = _ROOT,
    flags: tuple[str, ...] = (),
    patience_s: float = PATIENCE_S,
) -> subprocess.CompletedProcess[str]:
    """Run `python -m module words` to its end, as long as the suite is patient."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        process = Forked(
            module,
            words,
            environment=environment,
            output=output.fileno(),
            errors=errors.fileno(),
            cwd=cwd,
            flags=flags,
        )
        try:
            code = process.wait(patience_s)
        finally:
            process.kill()
        said = []
        for each in (output, errors):
            each.seek(0)
            said.append(each.read().decode())
    return subprocess.CompletedProcess([module, *words], code, *said)


class _Server:
    """The process that forks, and the line to it; it ends when this process does."""

    def __init__(self, flags: tuple[str, ...]) -> None:
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lock = threading.Lock()
        with theirs:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-u", *flags, "-m", "tests.processes.server"),
                    str(theirs.fileno()),
                ],
                cwd=_ROOT,
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                preexec_fn=as_a_person_starts_it,  # noqa: PLW1509 - it only resets two signals
            )

    def start(self, order: bytes, files: tuple[int, int, int]) -> int:
        with self._lock:
            socket.send_fds(self._line, [order], files)
            pid = self._line.recv(32)
        assert pid, "the process that forks has ended: its own words are in the output above"
        return int(pid)


@functools.cache
def _server(flags: tuple[str, ...]) -> _Server:
    return _Server(flags)
