"""Ordinary requests of two bytes: our server, its library road, bare quart-trio on hypercorn.

    python -m tests.bench http

The servers run side by side and are asked by turns, so that a busy machine is busy for all.
"""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack

from tests.bench.rows import Row, row

RUNS = 5
SECONDS = 1.5
# kind of server -> path
ASKED = {"raw": "/", "raw-library": "/", "health": "/health", "route": "/", "bare": "/"}


def measure() -> dict[str, list[float]]:
    """Ask each server by turns; answers a second."""
    pipe = subprocess.PIPE
    found: dict[str, list[float]] = {kind: [] for kind in ASKED}
    with ExitStack() as stack:
        ports = {}
        for kind in ASKED:
            own = [sys.executable, "-m", "tests.bench.http_servers", kind]
            server = stack.enter_context(subprocess.Popen(own, stdin=pipe, stdout=pipe, text=True))
            assert server.stdout is not None
            assert server.stdin is not None
            stack.callback(server.stdin.close)
            ports[kind] = server.stdout.readline().strip()
        for _ in range(RUNS):
            for kind, path in ASKED.items():
                load = [
                    sys.executable,
                    "-m",
                    "tests.bench.http_load",
                    ports[kind],
                    path,
                    str(SECONDS),
                ]
                done = subprocess.run(load, stdout=pipe, text=True, check=True)
                found[kind].append(float(done.stdout))
    return found


def ordinary_requests() -> list[Row]:
    """Measure all of them in one run."""
    found = measure()
    library, bare = (sorted(found[kind])[RUNS // 2] for kind in ("raw-library", "bare"))
    peer = {"bare quart-trio on hypercorn": bare}
    return [
        row(
            "http, raw ASGI application", "requests/s", found["raw"],
            peers={"the same by hypercorn's h11": library}, target="3.5x",
        ),
        row("http, /health", "requests/s", found["health"], peers=peer, target="4.5x"),
        row("http, small Quart route", "requests/s", found["route"], peers=peer, target="2.5x"),
    ]  # fmt: skip


benchmarks = [ordinary_requests]
