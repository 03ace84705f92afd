"""The site asked for as much as it can do, and for twice as much (REL-74).

    make bench ONLY=overload
    PAGE=/lab make bench ONLY=overload

A `PAGE` is measured alone. What each run found is told on standard error when it is there.
Which pages, and by whom, is in `overload_load.py`, a process of its own. How much is served is
told in a second of the server's own processor time: the load generator and whatever else this
machine does take of the other.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

from tests.bench.bench_fanout import module, opened
from tests.bench.bench_pages import MESSAGES
from tests.bench.rows import RUNS_MIN, Row, row

SECONDS = 8.0
PAGES = ("/", "/lab")
_TOLD = {
    "served_p99_ms": ("p99 of who is served", "<= 1000"),
    "refused_p99_ms": ("p99 of who is told 503", "<= 100"),
}


def told(port: str, pid: int, path: str, what: object) -> dict[str, float]:
    """Run the load generator to its end; what it says."""
    command = module("overload_load", port, str(pid), path, str(what), str(SECONDS))
    output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    found: dict[str, float] = json.loads(output)
    shown = ", ".join(f"{name} {value:.1f}" for name, value in found.items())
    print(f"{path} {what}: {shown}", file=sys.stderr, flush=True)
    return found


def overload() -> list[Row]:
    """Measure each page at its peak, and at once and twice the rate of it."""
    rows: list[Row] = []
    only = os.environ.get("PAGE")
    if only not in (None, *PAGES):
        raise SystemExit(f"PAGE={only} is none of {', '.join(PAGES)}")
    for path in PAGES if only is None else (only,):
        shares: list[float] = []
        runs: dict[int, list[dict[str, float]]] = {1: [], 2: []}
        for _ in range(RUNS_MIN):
            with opened(module("site_server")) as site:
                site.ask(f"store {MESSAGES}")
                peak = told(site.port, site.pid, path, "peak")
                for times, found in runs.items():
                    found.append(told(site.port, site.pid, path, times * peak["served"]))
                shares.append(runs[2][-1]["served_a_cpu_s"] / peak["served_a_cpu_s"])
        rows.append(row(f"{path} at 2x: served, of the peak", "", shares, target="REL-74: 0.9"))
        for times, found in runs.items():
            for key, (name, target) in _TOLD.items():
                values = [one[key] for one in found]
                rows.append(
                    row(
                        f"{path} at {times}x: {name}", "ms", values,
                        target=f"REL-74: {target}", is_lower_better=True,
                    )
                )  # fmt: skip
    return rows


benchmarks = [overload]
