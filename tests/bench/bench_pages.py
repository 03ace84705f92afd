"""Whole pages of the site, and one visitor's burst of them beside everybody else.

    make bench ONLY=pages

`/` and `/lab` are asked for by a guest who is known and by a member who is signed in, by turns with
two bytes of bare quart-trio on hypercorn; told is the processor time of the server for one page,
its line in the log included.
"""

from __future__ import annotations

import json
import statistics
import subprocess
from dataclasses import dataclass

from tests.bench.bench_fanout import Server, module, opened
from tests.bench.bench_http import spent_s
from tests.bench.bench_streams import load, percentile
from tests.bench.page_load import member_cookies
from tests.bench.rows import RUNS_MIN, Row, row
from web.routing.paths import BURST_PROBE

RUNS, SECONDS, MESSAGES = 5, 1.5, 50
# PERF-42, SITE-143.
BURST, READERS = 5000, 200


def asked(port: str, path: str, *more: object) -> str:
    """Run the load generator to its end; what it says."""
    command = module("page_load", port, path, *map(str, more))
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def pages() -> list[Row]:
    """Measure `/` and `/lab` with a full room beside the bare framework."""
    bare_took: list[float] = []
    found: dict[tuple[str, str], list[float]] = {
        (path, who): [] for path in ("/", "/lab") for who in ("", "member")
    }
    with (
        opened(module("site_server")) as site,
        opened(module("http_servers", "bare")) as bare,
    ):
        site.ask(f"store {MESSAGES}")
        cookies = {"": "", "member": member_cookies(int(site.port))}
        for _ in range(RUNS):
            for (path, who), took in found.items():
                began = spent_s(site.pid)
                count = int(asked(site.port, path, SECONDS, cookies[who]))
                took.append((spent_s(site.pid) - began) / count * 1e6)
            began = spent_s(bare.pid)
            answers = subprocess.run(
                module("http_load", bare.port, "/", str(SECONDS)),
                stdout=subprocess.PIPE, text=True, check=True,
            )  # fmt: skip
            count = round(float(answers.stdout) * SECONDS)
            bare_took.append((spent_s(bare.pid) - began) / count * 1e6)
    peers = {"two bytes of bare quart-trio on hypercorn": statistics.median(bare_took)}
    named = {"/": "/", "/lab": f"/lab with {MESSAGES} messages"}
    targets = {("/", ""): "PERF-40: 1.6x", ("/", "member"): "PERF-40: 0.9x"}
    return [
        row(
            f"a page, {named[path]}{', to a member' if who else ''}", "us", took,
            peers=peers, target=targets.get((path, who), ""), is_lower_better=True,
        )
        for (path, who), took in found.items()
    ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Beside:
    """What another visitor met while one asked for much."""

    slowest_ms: float
    # Of the other's requests, and of the one's, were told that there is too much to do.
    refused: float
    refused_to_one: float
    dropped: float


def beside(site: Server, mode: str, path: str, load: tuple[str, int]) -> Beside:
    """Ask for `path` now and then while somebody sends a load; a count of 0 is no burst."""
    one_path, count = load
    pipe = subprocess.PIPE
    command = module("page_load", site.port, path, mode)
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as others:
        before = site.ask("state")["streams"]
        said = asked(site.port, one_path, *(("burst", count) if count else (SECONDS,)))
        lost = before - site.ask("state")["streams"]
        told, _ = others.communicate("")
    came = json.loads(told)
    return Beside(
        percentile(came["took"], 99), came["refused"], int(said) if count else 0, max(0.0, lost)
    )


def burst() -> list[Row]:
    """Measure what others wait while one visitor asks for 5000 pages at once (PERF-42)."""
    alone: list[Beside] = []
    found: list[Beside] = []
    for _ in range(RUNS_MIN):
        with (
            opened(module("site_server")) as site,
            load("site-sse", site, READERS, "idle"),
        ):
            site.ask(f"store {MESSAGES}")
            alone.append(beside(site, "others", "/", ("/lab", 0)))
            found.append(beside(site, "others", "/", ("/lab", BURST)))
    what = f"a burst of {BURST} pages beside {READERS} streams"
    return [
        row(
            f"{what}: p99 of another visitor", "ms", [one.slowest_ms for one in found],
            peers={
                "beside four kept connections": statistics.median(one.slowest_ms for one in alone)
            },
            target="PERF-42: <= 250", is_lower_better=True,
        ),
        row(
            f"{what}: another visitor's turned away", "", [one.refused for one in found],
            target="0", is_lower_better=True,
        ),
        row(
            f"{what}: of the burst turned away", "", [one.refused_to_one for one in found],
            is_lower_better=True,
        ),
        row(
            f"{what}: streams dropped", "", [one.dropped for one in alone + found],
            target="0", is_lower_better=True,
        ),
    ]  # fmt: skip


def probes() -> list[Row]:
    """Measure what others wait while one visitor sends the burst of the lab (SITE-143)."""
    what = f"a burst of {BURST} probes beside {READERS} streams"
    rows: list[Row] = []
    all_found: list[Beside] = []
    for mode, name in (("others", "p99 of /health"), ("posts", "p99 of post to delivery")):
        alone: list[float] = []
        found: list[Beside] = []
        for _ in range(RUNS_MIN):
            with opened(module("site_server")) as site, load("site-sse", site, READERS, "idle"):
                alone.append(beside(site, mode, "/health", ("/", 0)).slowest_ms)
                found.append(beside(site, mode, "/health", (BURST_PROBE, BURST)))
        told = row(
            f"{what}: {name}", "ms", [one.slowest_ms for one in found],
            peers={"beside four kept connections": statistics.median(alone)},
            target="SITE-143: <= 250", is_lower_better=True,
        )  # fmt: skip
        rows.append(told)
        all_found += found
    return [
        *rows,
        row(
            f"{what}: another visitor's turned away", "", [one.refused for one in all_found],
            target="0", is_lower_better=True,
        ),
        row(
            f"{what}: streams dropped", "", [one.dropped for one in all_found],
            target="0", is_lower_better=True,
        ),
    ]  # fmt: skip


benchmarks = [pages, burst, probes]
