"""Ports of loopback: free ones, and servers of other people that are waited for by theirs."""

from __future__ import annotations

import random
import socket
import subprocess
import time
from collections.abc import Callable

from tests.patience import PATIENCE_S

_LOOK_S = 0.005
# Below those that kernels give to who asks for none: nobody's connection takes one in between.
_DRAWN_FROM = range(18_000, 32_000)
_given: set[int] = set()


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, none of them given before in this process."""
    draw = random.SystemRandom()  # other processes of the suite draw too
    ports: list[int] = []
    while len(ports) < count:
        port = draw.choice(_DRAWN_FROM)
        if port not in _given and _is_free(port):
            _given.add(port)
            ports.append(port)
    return ports


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def free_port() -> int:
    """A port that nobody listens on."""
    return free_ports(1)[0]


def is_listening(port: int) -> bool:
    """Whether somebody accepts connections there."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def wait_for_port(port: int, process: subprocess.Popen[bytes], log: Callable[[], str]) -> None:
    """Wait until a process listens; with what its `log` says when it ends instead."""
    wait_for(lambda: is_listening(port), process, log)


def wait_for(
    is_so: Callable[[], bool], process: subprocess.Popen[bytes], log: Callable[[], str]
) -> None:
    """Wait for what a process does; raises RuntimeError when it ends, or never does it."""
    ends_at = time.monotonic() + PATIENCE_S
    while time.monotonic() < ends_at and process.poll() is None:
        if is_so():
            return
        time.sleep(_LOOK_S)
    raise RuntimeError(f"{process.args!r} did not come up: {log()[-2000:]}")
