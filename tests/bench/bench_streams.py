"""The site with many streams open: latency, memory, reconnects, posts, readers that do not read.

    make bench ONLY=streams

The whole site in a process of its own, its readers in another on the same machine, so what they
need to read is counted in every time below. Without room for 2000 descriptors nothing is measured
but the posts.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.bench.bench_fanout import CROWD, ROOM, Server, crowds, module, opened
from tests.bench.rows import RUNS_MIN, Row, row

POSTS = 200
# PERF-22: half a minute of ten messages a second.
BEATS, BEATS_PER_S = 300, 10
# REL-13: ten seconds.
BUSY, BUSY_PER_S, STALLED = 500, 50, 100
KINDS = {"site-sse": "SSE", "site-ws": "WebSocket"}


class Load:
    """The load generator while it runs."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        assert self._line() == "ready"

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def go(self) -> None:
        """Let it do what it waits to be told."""
        assert self._process.stdin is not None
        self._process.stdin.write("now\n")
        self._process.stdin.flush()

    def numbers(self) -> list[float]:
        return [float(one) for one in json.loads(self._line())]

    def facts(self) -> dict[str, float]:
        return dict(json.loads(self._line()))


@contextmanager
def load(kind: str, server: Server, count: int, *task: object) -> Iterator[Load]:
    """Have readers connected, until the block ends."""
    command = module("fanout_load", kind, server.port, str(count), *map(str, task))
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        yield Load(process)
        assert process.stdin is not None
        process.stdin.close()
        process.wait()


def percentile(values: Sequence[float], n: int) -> float:
    """Give the `n`th percentile."""
    return statistics.quantiles(values, n=100)[n - 1]


def posted() -> list[Row]:
    """Measure a post in a room of 300 pages: first byte sent to the last page, stored durably."""
    middles, slowest = [], []
    for _ in range(RUNS_MIN):
        with (
            opened(module("site_server")) as server,
            load("site-sse", server, ROOM, "posts", POSTS) as readers,
        ):
            took = readers.numbers()
        middles.append(statistics.median(took))
        slowest.append(percentile(took, 99))
    name = f"a post in a room of {ROOM} pages to the last of them"
    return [
        row(f"{name}, p50", "ms", middles, target="PERF-25: <= 25", is_lower_better=True),
        row(f"{name}, p99", "ms", slowest, target="PERF-25: <= 80", is_lower_better=True),
    ]


def stalled_among_many() -> list[Row]:
    """Measure 200 readers at 50 messages a second, alone and beside 100 that never read."""
    rows: list[Row] = []
    for kind, name in KINDS.items():
        slowest: dict[int, list[float]] = {0: [], STALLED: []}
        grown = []
        for _ in range(RUNS_MIN):
            for stalled, found in slowest.items():
                with (
                    opened(module("site_server")) as server,
                    load(kind, server, ROOM - STALLED, "latency", stalled) as readers,
                ):
                    before = server.ask("memory")["bytes"]
                    server.ask(f"beat {BUSY} {BUSY_PER_S}")
                    took = readers.numbers()
                    if stalled:
                        grown.append((server.ask("memory")["bytes"] - before) / 2**20)
                found.append(percentile(took, 99) / 1000)
        what = f"{name}, {STALLED} of {ROOM} stalled at {BUSY_PER_S} messages/s"
        alone = {"without them": statistics.median(slowest[0])}
        rows += [
            row(
                f"{what}: p99 of the others", "ms", slowest[STALLED],
                peers=alone, target="REL-13: <= 250", is_lower_better=True,
            ),
            row(f"{what}: memory", "MiB", grown, target="REL-13: <= 25", is_lower_better=True),
        ]  # fmt: skip
    return rows


def latency() -> list[Row]:
    """Measure 2000 readers of ten messages a second for half a minute."""
    rows: list[Row] = []
    for kind, name in KINDS.items() if CROWD in crowds() else ():
        with opened(module("site_server")) as server:
            slowest, missed, windows = [], [], 0.0
            for _ in range(RUNS_MIN):
                with load(kind, server, CROWD, "latency") as readers:
                    told = server.ask(f"beat {BEATS} {BEATS_PER_S}")
                    took = readers.numbers()
                windows += told["resyncs"]
                missed.append(float(BEATS * CROWD - len(took)))
                slowest.append(percentile(took, 99) / 1000)
        if windows:
            print(f"{name}: {windows:.0f} readers were sent a window instead", file=sys.stderr)
        what = f"{name}, {CROWD} readers at {BEATS_PER_S} messages/s"
        rows += [
            row(f"{what}: p99", "ms", slowest, target="PERF-22: <= 100", is_lower_better=True),
            row(f"{what}: deliveries missed", "", missed, target="0", is_lower_better=True),
        ]
    return rows


def memory() -> list[Row]:
    """Measure what an open stream holds of the server, with 2000 of them."""
    rows: list[Row] = []
    for kind, name in KINDS.items() if CROWD in crowds() else ():
        each = []
        for _ in range(RUNS_MIN):
            with opened(module("site_server")) as server:
                with load(kind, server, 100, "idle"):
                    pass  # what is made at the first of them is nobody's
                before = server.ask("memory")["bytes"]
                with load(kind, server, CROWD, "idle"):
                    each.append((server.ask("memory")["bytes"] - before) / CROWD / 1024)
        what = f"{name}: memory of an idle stream, {CROWD} open"
        rows.append(row(what, "KiB", each, target="PERF-23: <= 24", is_lower_better=True))
    return rows


def reconnect() -> list[Row]:
    """Measure 2000 clients that come back at once, while a visitor posts."""
    rows: list[Row] = []
    for kind, name in KINDS.items() if CROWD in crowds() else ():
        took, refused = [], 0.0
        with opened(module("site_server")) as server:
            for _ in range(RUNS_MIN):
                with load(kind, server, CROWD, "reconnect") as readers:
                    readers.go()
                    told = readers.facts()
                took.append(told["seconds"])
                refused += told["refused"]
        if refused:
            print(f"{name}: {refused:.0f} posts were refused meanwhile", file=sys.stderr)
        what = f"{name}: {CROWD} clients reconnect at once"
        rows.append(row(what, "s", took, target="PERF-24: <= 5", is_lower_better=True))
    return rows


benchmarks = [posted, latency, memory, reconnect, stalled_among_many]
