"""The whole site with streams open and a room that never rests: what it holds does not grow.

`STREAMS`, `EVENTS` (of a round) and `ROUNDS` (at least) make it longer, as `make soak` does.
"""

from __future__ import annotations

import os

import pytest

from tests.bench.bench_fanout import module, opened
from tests.bench.bench_streams import load

STREAMS = int(os.environ.get("STREAMS", "100"))
EVENTS = int(os.environ.get("EVENTS", "700"))
ROUNDS = int(os.environ.get("ROUNDS", "3"))
PER_S = 200
# Of what the site held when it was at it for half as long: windows, caches and pools are full then,
# or some rounds later.
ROUNDS_MORE_MAX = 7
GROWTH_MAX = 1.02


@pytest.mark.slow
def test_a_room_that_never_rests_leaves_the_memory_as_it_is() -> None:
    # REL-72: told by the room's feed, and not stored; each round has streams that were opened anew
    held: list[float] = []
    with opened(module("site_server")) as site:
        while not _rests(held):
            assert len(held) < ROUNDS + ROUNDS_MORE_MAX, [round(one / 2**20, 1) for one in held]
            with load("site-sse", site, STREAMS, "latency") as readers:
                site.ask(f"beat {EVENTS} {PER_S}")
                assert readers.numbers()
                held.append(site.ask("memory")["bytes"])


def _rests(held: list[float]) -> bool:
    return len(held) >= ROUNDS and held[-1] <= held[(len(held) - 1) // 2] * GROWTH_MAX
