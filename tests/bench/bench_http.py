"""Ordinary requests of two bytes: our server, its library road, and the peers: bare quart-trio on
hypercorn, and FastAPI on uvicorn.

    python -m tests.bench http

The servers run side by side and are asked by turns, so that a busy machine is busy for all. Told
is the processor time that a server takes for one request, which other load moves less than it does
the answers a second.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from tests.bench.rows import Row, row

RUNS = 5
SECONDS = 1.5
# kind of server -> path
ASKED = {
    "raw": "/",
    "raw-library": "/",
    "health": "/health",
    "route": "/",
    "bare": "/",
    "fastapi": "/",
}


def spent_s(pid: int) -> float:
    """Seconds of processor time that a process has taken so far."""
    # Behind the name, which may hold blanks; user and system time are 12th and 13th (proc(5)).
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure() -> dict[str, list[float]]:
    """Ask each server by turns; microseconds of its processor time for one request."""
    pipe = subprocess.PIPE
    found: dict[str, list[float]] = {kind: [] for kind in ASKED}
    with ExitStack() as stack:
        servers = {}
        for kind in ASKED:
            own = [sys.executable, "-m", "tests.bench.http_servers", kind]
            server = stack.enter_context(subprocess.Popen(own, stdin=pipe, stdout=pipe, text=True))
            assert server.stdout is not None
            assert server.stdin is not None
            stack.callback(server.stdin.close)
            servers[kind] = (server.pid, server.stdout.readline().strip())
        for _ in range(RUNS):
            for kind, path in ASKED.items():
                pid, port = servers[kind]
                load = [sys.executable, "-m", "tests.bench.http_load", port, path, str(SECONDS)]
                began = spent_s(pid)
                done = subprocess.run(load, stdout=pipe, text=True, check=True)
                found[kind].append((spent_s(pid) - began) / (float(done.stdout) * SECONDS) * 1e6)
    return found


def ordinary_requests() -> list[Row]:
    """Measure all of them in one run."""
    found = measure()
    peers = {
        "bare quart-trio on hypercorn": statistics.median(found["bare"]),
        "FastAPI on uvicorn": statistics.median(found["fastapi"]),
    }
    library = {"the same by hypercorn's h11": statistics.median(found["raw-library"])}
    rows = [
        ("http, a request to an ASGI application", "raw", library, "3.5x"),
        ("http, a request to /health", "health", peers, "4.5x of bare, 0.9x of FastAPI"),
        (
            "http, a request to a small Quart route",
            "route",
            peers,
            "2.5x of bare, 0.45x of FastAPI",
        ),
    ]
    return [
        row(name, "us", found[kind], peers=others, target=target, is_lower_better=True)
        for name, kind, others, target in rows
    ]


benchmarks = [ordinary_requests]
