"""What it costs to be observed: the room's fan-out, and a tell, with everything on and off.

Issue budgets: at most 5 % of the fan-out with spans of every event and figures of all actors, and
0.1 us of a tell where nobody looks. Both sides are run by turns, and compared by processor time.
"""

from __future__ import annotations

import os
import statistics
from contextlib import ExitStack
from time import process_time

import trio

from actors.runtime import Actor, Ask, System, message, open_actors
from tests.bench.bench_fanout import LINE, ROOM, Contender, measure, module, opened
from tests.bench.rows import RUNS_MIN, Benchmark, Row, row

RUNS = 2 * RUNS_MIN + 1
TELLS = 50_000
EVENTS = 192
# Read by `site_server.py`.
OBSERVED = "BENCH_OBSERVED"


def fan_out() -> list[Row]:
    """Measure the room's stream to 300 readers, one event a turn."""
    sides = {
        name: Contender(name, "site-sse", module("site_server"), LINE, EVENTS)
        for name in ("on", "off")
    }
    with ExitStack() as stack:
        servers = {}
        for name, one in sides.items():
            os.environ[OBSERVED] = name
            servers[name] = stack.enter_context(opened(one.command))
        del os.environ[OBSERVED]
        for run in range(RUNS + 1):
            for name, one in sides.items():
                measure(one, servers[name], ROOM, 1)
                if not run:  # it warmed the caches
                    one.microseconds.clear()
    us = {name: [each * ROOM for each in one.microseconds] for name, one in sides.items()}
    shares = [100 * (on / off - 1) for on, off in zip(us["on"], us["off"], strict=True)]
    off = statistics.median(us["off"])
    what = f"an event to {ROOM} streams, all observed"
    return [
        row(what, "us", us["on"], peers={"nothing observed": off}, is_lower_better=True),
        row("what that is dearer, pair by pair", "%", shares, target="5 %", is_lower_better=True),
    ]


@message
class Tick:
    """Nothing to do."""


@message
class AreAllDone(Ask[None]):
    """Answered behind all that was told before."""


class Idle(Actor[Tick | AreAllDone]):
    """Handles it."""

    def on_tick(self, _: Tick) -> None:
        return None

    def on_are_all_done(self, _: AreAllDone) -> None:
        return None


async def _us_of_a_tell(system: System) -> float:
    ref = await system.start(Idle)
    began = process_time()
    for _ in range(TELLS // 500):
        for _ in range(500):
            ref.tell(Tick())
        # Before its mailbox overflows: what finds no room is measured by nobody.
        await ref.ask(AreAllDone(), timeout=60.0)
    took = process_time() - began
    await ref.stop()
    assert system.totals().dead_letters == {}, "each was handled"
    return took / TELLS * 1e6


async def _tells() -> dict[str, list[float]]:
    found: dict[str, list[float]] = {"off": [], "spans": [], "figures": []}
    for _ in range(RUNS + 1):
        for name, runs in found.items():
            async with open_actors() as system:
                if name == "spans":
                    system.trace()
                if name == "figures":
                    system.measure_all("sampled")
                runs.append(await _us_of_a_tell(system))
    return {name: runs[1:] for name, runs in found.items()}


def tells() -> list[Row]:
    """Measure a tell that belongs to no trace, from the loop's own task to its handler."""
    found = trio.run(_tells)
    off = statistics.median(found["off"])
    rows = [row("a tell, nothing observed", "us", found["off"], is_lower_better=True)]
    for name, what in (("spans", "spans of others are told"), ("figures", "one of 16 is timed")):
        more = [one - other for one, other in zip(found[name], found["off"], strict=True)]
        words = f"more for a tell where {what}"
        rows.append(row(words, "us", more, peers={"a tell": off}, is_lower_better=True))
    return rows


benchmarks: list[Benchmark] = [fan_out, tells]
