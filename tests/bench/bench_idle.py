"""Pages that only wait: ten thousand streams of which none says anything for minutes (REL-110).

    make bench ONLY=idle

`MINUTES` says how long in all, ten without it; each third of it is one figure, and ends with one
message to everybody. Without room for so many descriptors on both sides there are as many streams
as there is room for.
"""

from __future__ import annotations

import os
import resource
import time

from tests.bench.bench_fanout import module, opened
from tests.bench.bench_streams import load
from tests.bench.overload_load import used_s
from tests.bench.rows import RUNS_MIN, Row, row

STREAMS = 10_000
# What either process opens beside its streams.
OTHER_DESCRIPTORS = 200


def count() -> int:
    """Tell how many streams there is room for."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(STREAMS, soft - OTHER_DESCRIPTORS)


def idle() -> list[Row]:
    """Measure what streams cost to which nothing is sent, and how soon all hear something."""
    streams, each_s = count(), float(os.environ.get("MINUTES", "10")) * 60 / RUNS_MIN
    lost: list[float] = []
    held: list[float] = []
    busy: list[float] = []
    heard: list[float] = []
    with opened(module("site_server")) as site:
        with load("site-sse", site, 100, "idle"):
            pass  # what is made at the first of them is nobody's
        before = site.ask("memory")["bytes"]
        for _ in range(RUNS_MIN):
            with load("site-sse", site, streams, "latency") as readers:
                used, began = used_s(site.pid), time.monotonic()
                time.sleep(each_s)
                busy.append((used_s(site.pid) - used) / (time.monotonic() - began) * 100)
                held.append((site.ask("memory")["bytes"] - before) / streams / 1024)
                lost.append(streams - site.ask("state")["streams"])
                site.ask("beat 1 1")
                heard.append(max(readers.numbers()) / 1e6)
    what = f"{streams} idle streams"
    return [
        row(f"{what}: dropped", "", lost, target="REL-110: 0", is_lower_better=True),
        row(f"{what}: memory of each", "KiB", held, target="REL-110: <= 24", is_lower_better=True),
        row(f"{what}: processor", "%", busy, target="REL-110: <= 5", is_lower_better=True),
        row(
            f"{what}: all have a message", "s", heard, target="REL-110: <= 1", is_lower_better=True
        ),
    ]


benchmarks = [idle]
