"""Ports of loopback: free ones, and servers of other people that are waited for by theirs."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable

from tests.patience import PATIENCE_S

_LOOK_S = 0.005


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    opened = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(one.getsockname()[1]) for one in opened]
    for one in opened:
        one.close()
    return ports


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
