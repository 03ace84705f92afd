"""A document of a read model over HTTP for 8 who ask at once, and a route without (PERF-63).

    python -m tests.bench read_models

Where the documents are: in PostgreSQL, in Redis, and either with a cache. The two routes of a site
are asked by turns. The share is of the processor time that a server takes for one request, which
other load moves less than it does the answers a second.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from tests.bench.bench_http import spent_s
from tests.bench.rows import RUNS_MIN, Row, row
from tests.redis_server import RedisServer, missing

SECONDS = 1.5
CACHED = {"READ_MODELS_CACHE": "on"}


def measure(environment: Mapping[str, str], folder: Path) -> dict[str, list[tuple[float, float]]]:
    """Ask both routes of a site by turns: microseconds of its processor time for a request, and
    the milliseconds in which 95 of 100 came.
    """
    pipe = subprocess.PIPE
    found: dict[str, list[tuple[float, float]]] = {"/api/bare": [], "/api/parcels/parcel-1": []}
    own = [sys.executable, "-m", "tests.bench.read_model_server"]
    given = {**os.environ, "STATE_DIR": str(folder), **environment}
    with subprocess.Popen(own, stdin=pipe, stdout=pipe, text=True, env=given) as server:
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        for _ in range(RUNS_MIN):
            for path, runs in found.items():
                load = [sys.executable, "-m", "tests.bench.http_load", port, path, str(SECONDS)]
                began = spent_s(server.pid)
                done = subprocess.run([*load, "p95"], stdout=pipe, text=True, check=True)
                rate, slow_ms = map(float, done.stdout.split())
                spent = (spent_s(server.pid) - began) / (rate * SECONDS)
                runs.append((spent * 1e6, slow_ms))
        assert server.stdin is not None
        server.stdin.close()
    return found


def read_models() -> list[Row]:
    """Measure each place of documents."""
    rows: list[Row] = []
    with ExitStack() as stack:
        places: dict[str, Mapping[str, str]] = {
            "in PostgreSQL": {},
            "in PostgreSQL, cached": CACHED,
        }
        if not missing():
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            server = stack.enter_context(RedisServer(folder / "redis"))
            redis = {"READ_MODELS": "redis", "REDIS_URL": server.url}
            places |= {"in Redis": redis, "in Redis, cached": {**redis, **CACHED}}
        for place, environment in places.items():
            with tempfile.TemporaryDirectory() as folder_:
                found = measure(environment, Path(folder_))
            bare, model = found.values()
            shares = [other / one for (one, _), (other, _) in zip(model, bare, strict=True)]
            name = f"read model over HTTP, {place}"
            rows += [
                row(f"{name}, of the bare route", "x", shares, target="PERF-63: 0.8x"),
                row(f"{name}, a request", "us", [one for one, _ in model], is_lower_better=True),
                row(
                    f"{name}, p95",
                    "ms",
                    [slow_ms for _, slow_ms in model],
                    target="PERF-63: 50 ms",
                    is_lower_better=True,
                ),
            ]
    return rows


benchmarks = [read_models]
