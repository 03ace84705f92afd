"""Servers of Redis for tests, on loopback: `redis-server` or `valkey-server` of the distribution.

`REDIS_SERVER` names another program. Nothing is kept on disk.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from storage.redis import RedisSettings
from tests.processes.own_server import OwnServer


def program_of_tests() -> str:
    """Which program is the server; empty without one."""
    named = os.environ.get("REDIS_SERVER")
    return named or shutil.which("redis-server") or shutil.which("valkey-server") or ""


def missing() -> str:
    """Call this for why no server can be had; empty when one can."""
    return "" if program_of_tests() else "not run: no redis-server; REDIS_SERVER names a program"


@dataclass
class RedisServer(OwnServer):
    """One server; see `OwnServer`."""

    options: Sequence[str] = ()
    certificate: Path | None = None
    """A folder with `cert` and `key`: it speaks TLS only."""

    @property
    def url(self) -> str:
        """For `REDIS_URL`."""
        return f"redis://127.0.0.1:{self.port}"

    @property
    def settings(self) -> RedisSettings:
        """For a client."""
        return RedisSettings("127.0.0.1", self.port)

    def command(self) -> Sequence[str]:
        """All is said by options."""
        command = [program_of_tests(), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        command += ["--save", "", "--appendonly", "no", "--daemonize", "no", *self.options]
        if self.certificate is None:
            return [*command, "--port", str(self.port)]
        cert, key = (str(self.certificate / name) for name in ("cert", "key"))
        command += ["--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", "no"]
        return [
            *command,
            "--tls-cert-file",
            cert,
            "--tls-key-file",
            key,
            "--tls-ca-cert-file",
            cert,
        ]
