"""The site asked for as much as it can do, and for twice as much (REL-74).

    make bench ONLY=overload
    PAGE=/lab make bench ONLY=overload

A `PAGE` is measured alone. What each run found is told on standard error when it is there.
Which pages, and by whom, is in `overload_load.py`, a process of its own. The peak and twice of it
are short and by turns, and what is asked for and served is told in seconds of the server's own
processor time: the load generator and whatever else this machine does take of everybody's. Only
how long answers take is told in that, and grows where the server has less than a processor.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from tests.bench.bench_fanout import Server, module, opened
from tests.bench.bench_pages import MESSAGES
from tests.bench.rows import RUNS_MIN, Row, row

PEAK_S, STEADY_S = 1.5, 6.0
ROUNDS = 3
PAGES = ("/", "/lab")
# Of the few who ask at the peak none waits for long; of a peak at which more are turned away than
# this it is not known how high it is.
REFUSED_MAX = 0.02
# Read by `site_server.py`: nobody is sent away who rests while others are measured.
REST_S = "600"
_TOLD = {
    "served_p99_ms": ("p99 of who is served", "<= 1000"),
    "refused_p99_ms": ("p99 of who is told 503", "<= 100"),
}

# Told what to do, and for which numbers.
Run = Callable[[str, Sequence[float]], dict[str, float]]


@contextmanager
def loaded(site: Server, path: str) -> Iterator[Run]:
    """Open the connections of a load generator; what it gives tells it what to do."""
    command, pipe = module("overload_load", site.port, str(site.pid), path), subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as load:
        assert load.stdin is not None
        assert load.stdout is not None
        assert load.stdout.readline() == "ready\n"

        def run(what: str, numbers: Sequence[float]) -> dict[str, float]:
            print(what, *numbers, file=load.stdin, flush=True)
            assert load.stdout is not None
            found: dict[str, float] = json.loads(load.stdout.readline())
            shown = ", ".join(f"{name} {value:.2f}" for name, value in found.items())
            print(f"{path} {what}: {shown}", file=sys.stderr, flush=True)
            return found

        yield run
        load.stdin.close()


def measured(path: str) -> dict[str, float]:
    """Ask one site for its peak and for twice of it, by turns; the medians of that."""
    os.environ["BENCH_REST_S"] = REST_S
    with opened(module("site_server")) as site:
        del os.environ["BENCH_REST_S"]
        site.ask(f"store {MESSAGES}")
        rounds: list[dict[str, float]] = []
        with loaded(site, path) as run:
            # It warms the caches; and who was turned away once is known again.
            run("steady", [2 * run("peak", [PEAK_S])["served"], STEADY_S])
            before = run("peak", [PEAK_S])
            for _ in range(ROUNDS):
                twice = run("steady", [2 * before["served"], STEADY_S])
                after = run("peak", [PEAK_S])
                refused = max(one["refused"] / one["served"] for one in (before, after))
                share = twice["served"] / statistics.mean((before["served"], after["served"]))
                if refused <= REFUSED_MAX:
                    rounds.append({**twice, "share": share})
                before = after
    if not rounds:
        raise SystemExit(f"{path}: at the peak itself some were turned away; the machine is full")
    return {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}


def overload() -> list[Row]:
    """Measure each page at twice its peak."""
    rows: list[Row] = []
    only = os.environ.get("PAGE")
    if only not in (None, *PAGES):
        raise SystemExit(f"PAGE={only} is none of {', '.join(PAGES)}")
    for path in PAGES if only is None else (only,):
        sites = [measured(path) for _ in range(RUNS_MIN)]
        shares = [one["share"] for one in sites]
        rows.append(row(f"{path} at 2x: served, of the peak", "", shares, target="REL-74: 0.9"))
        for key, (name, target) in _TOLD.items():
            rows.append(
                row(
                    f"{path} at 2x: {name}", "ms", [one[key] for one in sites],
                    target=f"REL-74: {target}", is_lower_better=True,
                )
            )  # fmt: skip
        parts = [one["of_a_processor"] for one in sites]
        rows.append(row(f"{path} at 2x: of a processor, for the server", "", parts))
    return rows


benchmarks = [overload]
