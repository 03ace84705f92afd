"""The site's own room stream: the lab page's subscribers, posts through HTTP and PostgreSQL.

    python -m tests.bench site

Two figures: events a second that the Lobby's feed hands to its open pages, and the time from a
post's first byte to its arrival at the last of them. The load generator reads in a process of
its own on the same machine and is counted in the time.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys

from tests.bench.rows import Row, row

SUBSCRIBERS = 300
CROWD = 2000
POSTS = 200
# Some seconds of events each.
EVENTS = 400
EVENTS_CROWD = 40
RUNS = 3
# Two ends of a connection are in two processes; each needs its descriptors and some more.
DESCRIPTORS = CROWD + 200


def measure(subscribers: int, posts: int, events: int) -> tuple[float, list[float]]:
    """Run the site once; gives deliveries a second and the milliseconds of each post."""
    pipe = subprocess.PIPE
    own = [sys.executable, "-m", "tests.bench.site_server"]
    with subprocess.Popen(own, stdin=pipe, stdout=pipe, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        load = [sys.executable, "-m", "tests.bench.site_load", port, str(subscribers), str(posts)]
        with subprocess.Popen(load, stdout=pipe, text=True) as client:
            assert client.stdout is not None
            took = [float(one) for one in client.stdout.readline().split()]
            assert client.stdout.readline().strip() == "ready"
            server.stdin.write(f"publish {events}\n")
            server.stdin.flush()
            seconds = float(client.stdout.readline())
        assert int(server.stdout.readline()) == 0, "a reader fell behind: windows were measured"
        server.stdin.close()
        server.wait(timeout=20)
    return events * subscribers / seconds, took


def site_stream() -> list[Row]:
    """Measure with 300 pages, and once with 2000 where that many descriptors are allowed."""
    runs = [measure(SUBSCRIBERS, POSTS, EVENTS) for _ in range(RUNS)]
    cuts = [statistics.quantiles(took, n=100) for _, took in runs]
    name = f"site, {SUBSCRIBERS} pages"
    rows = [
        row(f"{name}: room events", "events/s", [rate for rate, _ in runs]),
        latency(f"{name}: post to last delivery, p50", [cut[49] for cut in cuts]),
        latency(f"{name}: post to last delivery, p99", [cut[98] for cut in cuts]),
    ]
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= DESCRIPTORS:
        rates = [measure(CROWD, 0, EVENTS_CROWD)[0] for _ in range(RUNS)]
        rows.append(row(f"site, {CROWD} pages: room events", "events/s", rates))
    return rows


def latency(name: str, runs: list[float]) -> Row:
    """Make a row of milliseconds."""
    return row(name, "ms", runs, target="PERF-25", is_lower_better=True)


benchmarks = [site_stream]
