"""From a press on a checkout of the lab until its visitor's page is sent what came of it (LAB-35).

    python -m tests.bench checkouts

The site is a process of its own on an embedded server with fsync on; the visitors follow it over
their streams, as pages do. What is timed holds the request, the append, and the event's way.
"""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

from tests.bench.rows import Row, row
from tests.journeys.site_process import SiteProcess
from tests.journeys.visitor import Visitor

RUNS = 3
# Four presses each; all come from one address, which has 120 in a minute.
VISITORS = 8
# The steps that somebody answers, and what the page then shows.
STEPS = (
    ("place", b'data-step="reserve"'),
    ("reserve", b'data-step="pay"'),
    ("pay", b'data-saga-act="confirm"'),
)


def press(visitor: Visitor, path: str, **more: str) -> None:
    """Press a button of the panel; it must be taken."""
    fields: dict[str, object] = {"commandId": str(uuid4()), "sseTabId": visitor.tab, **more}
    status = visitor.command(f"/api/lab/sagas{path}", fields).status
    if status != 202:
        raise RuntimeError(f"{path} was answered {status}")


def walk(url: str) -> list[float]:
    """Answer the steps of one checkout; gives how long each took to be seen, in milliseconds."""
    visitor, took = Visitor(url, panel="sagas"), list[float]()
    visitor.open_lab()
    with visitor.open_stream() as stream:
        press(visitor, "", choice="hand")
        patch = stream.read_until(b'data-step="place"')
        saga = patch.rpartition(b'data-saga="')[2].partition(b'"')[0].decode()
        for step, shown in STEPS:
            began = time.perf_counter()
            press(visitor, f"/{saga}/answer", step=step)
            stream.read_until(shown)
            took.append((time.perf_counter() - began) * 1000)
    return took


def checkouts() -> Sequence[Row]:
    """Measure with the site in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        site = SiteProcess(Path(folder) / "state")
        try:
            walk(site.url)
            runs = [[ms for _ in range(VISITORS) for ms in walk(site.url)] for _ in range(RUNS)]
        finally:
            site.end()
    middle = [statistics.median(run) for run in runs]
    late = [sorted(run)[math.ceil(0.95 * len(run)) - 1] for run in runs]
    return [
        row("checkout: press until seen, p50", "ms", middle, is_lower_better=True),
        row(
            "checkout: press until seen, p95",
            "ms",
            late,
            target="200 (LAB-35)",
            is_lower_better=True,
        ),
    ]


benchmarks = [checkouts]
