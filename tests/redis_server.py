"""Servers of Redis for tests, on loopback: `redis-server` or `valkey-server` of the distribution.

`REDIS_SERVER` names another program. Each has a folder of its own with its log, keeps nothing on
disk, is waited for by its port, and ended by its pid.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from storage.redis import RedisSettings
from tests.processes.ports import free_ports, is_listening, wait_for


def program_of_tests() -> str:
    """Which program is the server; empty without one."""
    named = os.environ.get("REDIS_SERVER")
    return named or shutil.which("redis-server") or shutil.which("valkey-server") or ""


def missing() -> str:
    """Call this for why no server can be had; empty when one can."""
    return "" if program_of_tests() else "not run: no redis-server; REDIS_SERVER names a program"


@dataclass
class RedisServer:
    """One server; what a test does to it are its methods. Leaving the block ends it."""

    folder: Path
    options: Sequence[str] = ()
    certificate: Path | None = None
    """A folder with `cert` and `key`: it speaks TLS only."""
    port: int = field(default_factory=lambda: free_ports(1)[0])
    process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> RedisServer:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()

    @property
    def url(self) -> str:
        """For `REDIS_URL`."""
        return f"redis://127.0.0.1:{self.port}"

    @property
    def settings(self) -> RedisSettings:
        """For a client."""
        return RedisSettings("127.0.0.1", self.port)

    def start(self) -> None:
        """Start it, and wait for its port."""
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [program_of_tests(), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        command += ["--save", "", "--appendonly", "no", "--daemonize", "no", *self.options]
        if self.certificate is None:
            command += ["--port", str(self.port)]
        else:
            cert, key = (str(self.certificate / name) for name in ("cert", "key"))
            command += ["--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", "no"]
            command += ["--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", cert]
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_for(lambda: is_listening(self.port), self.process, self._log)

    def kill(self) -> None:
        """End it without a word; a stopped one too."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def hang(self) -> None:
        """Stop it: it accepts connections, and says nothing."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def _log(self) -> str:
        return (self.folder / "server.log").read_text(errors="replace")
