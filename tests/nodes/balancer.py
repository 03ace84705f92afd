"""What stands before the nodes: HAProxy or nginx, with the file of docs/how_to/deploy-nodes.md."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.conformance.outside.lines import find
from tests.conformance.outside.proxies import PROXIES
from tests.patience import PATIENCE_S
from tests.processes.own_server import Guard
from tests.processes.ports import free_port, wait_for_port

PAGE = Path(__file__).parents[2] / "docs/how_to/deploy-nodes.md"
# The addresses of the page, in the order of the nodes.
_NODES = tuple(f"10.0.0.{number}:3000" for number in (1, 2, 3))


def program_of(kind: str) -> str | None:
    """Where `haproxy` or `nginx` is; a variable of that name in capitals names another one."""
    return find(kind, kind.upper())


def documented(kind: str, port: int, nodes: Sequence[int]) -> str:
    """The page's file of a balancer, which listens on `port` before these ports of nodes."""
    (text,) = re.findall(rf"```{kind}\n(.*?)```", PAGE.read_text(), re.DOTALL)
    text = text.replace("bind :80\n", f"bind 127.0.0.1:{port}\n")
    text = text.replace("listen 80;", f"listen 127.0.0.1:{port};")
    for said, node in zip(_NODES, nodes, strict=False):
        assert said in text, f"{PAGE} has no node at {said}"
        text = text.replace(said, f"127.0.0.1:{node}")
    # Of two nodes the page says to leave the third line out.
    return "".join(line for line in text.splitlines(keepends=True) if "10.0.0." not in line)


class Balancer:
    """A running balancer; ended by its pid."""

    def __init__(self, kind: str, folder: Path, nodes: Sequence[int]) -> None:
        program = program_of(kind)
        assert program is not None, f"{kind} is not installed"
        folder.mkdir()
        # The workers of nginx are another user.
        folder.chmod(0o755)
        self.port = free_port()
        write, command = PROXIES[kind]
        file, self._out = folder / "balancer.conf", folder / "out"
        file.write_text(write(documented(kind, self.port, nodes), folder))
        with self._out.open("wb") as out:
            self._process = subprocess.Popen(
                [program, *command(file, folder)], stdout=out, stderr=subprocess.STDOUT
            )
        # Asked to end: killed, it would leave its workers to themselves.
        self._guard = Guard(self._process, "TERM")
        wait_for_port(self.port, self._process, self.said)

    @property
    def url(self) -> str:
        """What visitors type."""
        return f"http://127.0.0.1:{self.port}"

    def said(self) -> str:
        """What it has said."""
        return self._out.read_text()

    def end(self) -> None:
        """End it, and wait for it."""
        self._process.terminate()
        self._guard.leave()
        self._process.wait(PATIENCE_S)
