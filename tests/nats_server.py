"""Servers of the link for tests: one or three on loopback, with the file of docs/how_to/nats.md.

`NATS_SERVER` names another program than the pinned one.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.patience import PATIENCE_S
from tests.processes.own_server import OwnServer
from tests.processes.ports import free_ports

PAGE = Path(__file__).parent.parent / "docs/how_to/nats.md"
CLUSTER = "suite"
USER, PASSWORD = "node", "a-password-of-tests"
EVERYTHING = ("gr.>",)


@dataclass(frozen=True)
class User:
    """One user of the account; `nkey` is a public key, and needs no password."""

    name: str = USER
    password: str = PASSWORD
    nkey: str = ""
    publish: Sequence[str] = EVERYTHING
    subscribe: Sequence[str] = EVERYTHING

    def __str__(self) -> str:
        who = (
            f'nkey: "{self.nkey}"'
            if self.nkey
            else f'user: "{self.name}", password: "{self.password}"'
        )
        allowed = [
            f"{kind}: [{', '.join(map(_quoted, subjects))}]"
            for kind, subjects in (("publish", self.publish), ("subscribe", self.subscribe))
        ]
        return f"{{ {who}, permissions: {{ {', '.join(allowed)} }} }}"


@dataclass(frozen=True)
class ServerFile:
    """What a test sets in the documented file; what it does not set stands there as documented."""

    users: Sequence[User] = (User(),)
    strangers: Sequence[User] = ()
    """Users of another account on the same server."""
    token: str = ""
    """Instead of accounts: whoever knows it."""
    certificate: Path | None = None
    """A folder with `cert` and `key`, which clients need to trust; None: no TLS."""
    asks_certificate: bool = False
    max_payload: str = ""
    max_pending: str = ""
    routes: Sequence[int] = ()
    own_route: int = 0
    more: Sequence[str] = ()

    def render(self, port: int, version: tuple[int, ...]) -> str:
        """The text of the file."""
        text = documented()
        text = _put(text, "listen", f'"127.0.0.1:{port}"')
        text = _put(text, "server_name", f"n{port}")
        if self.max_payload:
            text = _put(text, "max_payload", self.max_payload)
        if self.max_pending:
            text = _put(text, "max_pending", self.max_pending)
        if version < (2, 10, 26):
            text = re.sub(r"(?m)^no_fast_producer_stall.*\n", "", text)
        text = text[: text.index("# Who may connect.")]
        lines = [*self._who(), *self.more]
        if self.certificate is not None:
            asks = ", verify: true" if self.asks_certificate else ""
            paths = {kind: self.certificate / kind for kind in ("cert", "key")}
            lines.append(
                f'tls: {{ cert_file: "{paths["cert"]}", key_file: "{paths["key"]}", '
                f'ca_file: "{paths["cert"]}"{asks} }}'
            )
        if self.own_route:
            routes = ", ".join(f'"nats://127.0.0.1:{route}"' for route in self.routes)
            lines.append(
                f'cluster: {{ name: suite, listen: "127.0.0.1:{self.own_route}", '
                f"routes: [{routes}], no_advertise: true }}"
            )
        return text + "\n".join(lines) + "\n"

    def _who(self) -> list[str]:
        if self.token:
            return [f'authorization: {{ token: "{self.token}" }}']
        if not self.users:
            return []
        accounts = [("GREENROOM", self.users), ("OTHERS", self.strangers)]
        return [
            "accounts: {",
            *(f"{name}: {{ users: [{', '.join(map(str, users))}] }}" for name, users in accounts),
            "}",
        ]


def documented() -> str:
    """The server's file, as the page gives it."""
    found = re.search(r"```conf\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None, f"{PAGE} has no server's file"
    return found[1]


def program_of_tests() -> str:
    """Which program is the server: `NATS_SERVER`, the one beside this Python, or the system's."""
    named = os.environ.get("NATS_SERVER")
    beside = Path(sys.executable).parent / "nats-server"
    return named or (str(beside) if beside.exists() else shutil.which("nats-server") or "")


@dataclass
class NatsServer(OwnServer):
    """One server; see `OwnServer`."""

    file: ServerFile = field(default_factory=ServerFile)
    program: str = field(default_factory=program_of_tests)

    @property
    def url(self) -> str:
        """For `NATS_URL`."""
        return f"nats://127.0.0.1:{self.port}"

    @property
    def config(self) -> Path:
        """Where its file is."""
        return self.folder / "nats-server.conf"

    def command(self) -> Sequence[str]:
        """Writes its file anew."""
        self.config.write_text(self.file.render(self.port, version(self.program)))
        return [self.program, "-c", str(self.config)]

    def reload(self, file: ServerFile) -> None:
        """Change its file, and wait until it has taken it over."""
        self.file = file
        self.config.write_text(file.render(self.port, version(self.program)))
        before = self.log().count(b"Reloaded server configuration")
        self.signal(signal.SIGHUP)
        self.until(lambda: self.log().count(b"Reloaded server configuration") > before)

    def lame_duck(self) -> None:
        """Tell it to leave: it sends its clients elsewhere, and ends."""
        self.signal(signal.SIGUSR2)


class Eavesdropper:
    """`with Eavesdropper(server, "gr.greenroom.>") as it`: hears all that is sent there.

    It has a node's credentials and no secret of the cluster; `heard` is all that came, as it came.
    """

    def __init__(self, server: NatsServer, pattern: str) -> None:
        self.heard = bytearray()
        self._socket = socket.create_connection(("127.0.0.1", server.port))
        options = json.dumps({"user": USER, "pass": PASSWORD, "verbose": False})
        self._socket.sendall(f"CONNECT {options}\r\nSUB {pattern} 1\r\nPING\r\n".encode())
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE_S)
        self._socket.close()

    def _listen(self) -> None:
        while data := self._socket.recv(64 * 1024):
            self.heard += data
            if data.endswith(b"PING\r\n"):
                self._socket.sendall(b"PONG\r\n")


def three(folder: Path, file: ServerFile | None = None) -> list[NatsServer]:
    """Three servers that are one cluster; start each."""
    ports, routes = free_ports(3), free_ports(3)
    plain = file if file is not None else ServerFile()
    return [
        NatsServer(
            folder / f"server-{n}",
            replace(plain, own_route=routes[n], routes=[one for one in routes if one != routes[n]]),
            port=ports[n],
        )
        for n in range(3)
    ]


def are_routed(servers: Sequence[NatsServer]) -> bool:
    """Whether each of a cluster's servers has a route; fails with what one said that has ended."""
    for one in servers:
        assert one.process is not None
        assert one.process.poll() is None, one.log().decode()
    return all(b"Route connection created" in one.log() for one in servers)


def missing() -> str:
    """Call this for why no server can be had; empty when one can."""
    return "" if program_of_tests() else "not run: no nats-server; NATS_SERVER names a program"


_versions: dict[str, tuple[int, ...]] = {}


def version(of: str) -> tuple[int, ...]:
    """The version of a program, asked once."""
    if of not in _versions:
        said = subprocess.run([of, "--version"], capture_output=True, text=True, check=True).stdout
        found = re.search(r"v(\d+)\.(\d+)\.(\d+)", said)
        assert found is not None, said
        _versions[of] = tuple(int(one) for one in found.groups())
    return _versions[of]


def _put(text: str, word: str, value: str) -> str:
    changed, count = re.subn(rf"(?m)^{word}:.*$", f"{word}: {value}", text)
    assert count == 1, f"the documented file has {count} lines of {word}"
    return changed


def _quoted(text: str) -> str:
    return f'"{text}"'
