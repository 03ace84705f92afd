"""What a span costs whoever works in it: recorded, sent from, and where nobody records.

PERF-65.
"""

from __future__ import annotations

from collections.abc import Callable
from time import process_time

import trio

from actors.runtime import Context, current_context, edge_context, open_actors, span
from actors.runtime.delivery.span import NO_SPAN, current_spans
from actors.testing import Call, Puppet
from tests.bench.rows import Benchmark, Row, row

ROUNDS = 7
SPANS = 30_000
TRACED = Context("bench", traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")


def recorded() -> None:
    """A stretch as a store's, in which nothing is sent."""
    for _ in range(SPANS):
        with span("store.append", stream="room-lobby", events=2):
            pass


def sent_from() -> None:
    """The same, in which something is: its context is made too."""
    for _ in range(SPANS):
        with span("store.append", stream="room-lobby", events=2):
            current_context()


def looked_at() -> None:
    """As the runtime's own places do it, which look first."""
    spans = current_spans()
    for _ in range(SPANS):
        with NO_SPAN if spans is None else span("store.append", stream="room-lobby", events=2):
            pass


def nothing() -> None:
    """The loop alone."""
    for _ in range(SPANS):
        pass


def _us_each(work: Callable[[], None]) -> list[float]:
    found = []
    for _ in range(ROUNDS + 1):
        began = process_time()
        work()
        between = process_time()
        nothing()
        found.append((2 * between - began - process_time()) / SPANS * 1e6)
    return found[1:]


async def _in_handler(work: Callable[[], None], is_on: bool) -> list[float]:
    async with open_actors() as system:
        if is_on:
            system.trace()
        ref = await system.start(Puppet)
        runs = list[float]()
        with edge_context(TRACED):
            await ref.ask(Call(lambda me: runs.extend(_us_each(work))), timeout=60)
        return runs


def bench_spans() -> list[Row]:
    """PERF-65, in processor time of the one who works."""

    def of(name: str, work: Callable[[], None], is_on: bool, target: str) -> Row:
        runs = trio.run(_in_handler, work, is_on)
        return row(name, "us", runs, target=target, is_lower_better=True)

    return [
        of("a span, recorded", recorded, True, "1 us"),
        of("a span, recorded and sent from", sent_from, True, ""),
        of("a span nobody records, looked at first", looked_at, False, "0.1 us"),
        of("a span nobody records, as users write it", recorded, False, ""),
    ]


benchmarks: list[Benchmark] = [bench_spans]
