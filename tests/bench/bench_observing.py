"""What it costs to be observed: the room's fan-out, and a tell, with everything on and off.

Issue budgets: at most 5 % of the fan-out with spans of every event and figures of all actors, and
0.1 us of a tell where nobody looks. All sides are run by turns, and compared by processor time.

Of the fan-out a turn is of some 15 ms, so that whatever else the machine does is about the same for
neighbours, and what is told is the middle of hundreds of pairs. Two programs that are alike differ
too, by where they lie in memory: each block has servers of its own.
"""

from __future__ import annotations

import os
import statistics
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from random import Random
from time import process_time

import trio

from actors.runtime import Actor, Ask, System, message, open_actors
from tests.bench.bench_fanout import LINE, ROOM, Server, module, opened
from tests.bench.rows import RUNS_MIN, Benchmark, Row, row

RUNS = 2 * RUNS_MIN + 1
TELLS = 50_000
# In a turn of one side.
EVENTS = 8
TURNS = 60
WARM_UP = 2
# How often blocks and pairs are drawn anew, to tell within what the figure is 19 times in 20.
DRAWS = 400
# Read by `site_server.py`.
OBSERVED = "BENCH_OBSERVED"
SIDES = ("on", "off")


class Room:
    """A site, and its readers in a process beside it."""

    def __init__(self, server: Server, readers: subprocess.Popen[str]) -> None:
        self._server, self._readers = server, readers
        self.turns: list[float] = []

    def take_turn(self) -> None:
        """Send some events, one a turn of the loop; the time of the processor for each is noted."""
        readers = self._readers
        assert readers.stdin is not None
        assert readers.stdout is not None
        print(file=readers.stdin, flush=True)
        told = self._server.ask(f"publish {EVENTS} 1 {LINE}")
        assert readers.stdout.readline() == "null\n"
        assert not told["resyncs"], "a reader fell behind: windows were measured"
        self.turns.append(told["cpu"] / EVENTS * 1e6)


@contextmanager
def room(observed: str) -> Iterator[Room]:
    """Run a site with 300 readers for a while."""
    os.environ[OBSERVED] = observed
    with opened(module("site_server")) as server:
        del os.environ[OBSERVED]
        load = module("fanout_load", "site-sse", server.port, str(ROOM), "numbered", str(EVENTS))
        pipe = subprocess.PIPE
        with subprocess.Popen(load, stdin=pipe, stdout=pipe, text=True) as readers:
            assert readers.stdout is not None
            assert readers.stdin is not None
            assert readers.stdout.readline() == "ready\n"
            try:
                yield Room(server, readers)
            finally:
                readers.stdin.close()


def block() -> dict[str, list[float]]:
    """Let both sides take their turns, one order after the other; microseconds an event."""
    with ExitStack() as stack:
        rooms = {side: stack.enter_context(room(side)) for side in SIDES}
        order = list(rooms.values())
        for turn in range(WARM_UP + TURNS):
            for one in order:
                one.take_turn()
            order.reverse()
            if turn == WARM_UP - 1:
                for one in order:
                    one.turns.clear()
        return {side: one.turns for side, one in rooms.items()}


def percent_dearer(blocks: Sequence[Sequence[float]]) -> tuple[float, float, float]:
    """Tell by how many percent, of how many times dearer in each pair of each block.

    The middle one of all pairs, and the least and the most that it is 19 times in 20.
    """
    draw = Random(0)
    drawn = sorted(
        statistics.median(
            [
                ratio
                for one in draw.choices(blocks, k=len(blocks))
                for ratio in draw.choices(one, k=len(one))
            ]
        )
        for _ in range(DRAWS)
    )
    middle = statistics.median([ratio for one in blocks for ratio in one])
    cut = DRAWS // 40
    least, most = drawn[cut], drawn[-cut - 1]
    return 100 * (middle - 1), 100 * (least - 1), 100 * (most - 1)


def fan_out() -> list[Row]:
    """Measure the room's stream to 300 readers, one event a turn of the loop."""
    blocks = [block() for _ in range(RUNS)]
    us = {side: [statistics.median(one[side]) for one in blocks] for side in SIDES}
    ratios = [[on / off for on, off in zip(one["on"], one["off"], strict=True)] for one in blocks]
    what, off = f"an event to {ROOM} streams, all observed", statistics.median(us["off"])
    middle, least, most = percent_dearer(ratios)
    return [
        row(what, "us", us["on"], peers={"nothing observed": off}, is_lower_better=True),
        Row(
            "what that is dearer, 19 times in 20", middle, "%", least, most,
            target="5 %", is_lower_better=True,
        ),
    ]  # fmt: skip


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
