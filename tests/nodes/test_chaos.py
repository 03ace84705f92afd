"""Three nodes, three servers of messages and all lines between them struck at random (CLU-43).

`make soak` runs it as `nodes-chaos` (60 s) and `nodes-chaos-long` (30 min); it is too long for the
suite, which says "not run" of it. `SEED=n` does the same things again, as far as processes can.
"""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path

import pytest

from tests.nodes import Nodes, Setup, missing, settled
from tests.nodes.crowd import Crowd, gather
from tests.nodes.epochs import EPOCHS, WhoseStream, judge_epochs, watch
from tests.nodes.judging import SOON, STORE, invariants, judge_soon, judge_store, say
from tests.nodes.monkey import Monkey
from tests.nodes.telling import leaving, telling, verdict
from web.settings import NODE_DRAIN_S

SETUP = Setup(servers=3, balancer="haproxy", has_lines=True)
SECONDS = float(os.environ.get("CHAOS_S", "0"))
PAGES = int(os.environ.get("PAGES", "20"))
PROGRAMS = int(os.environ.get("PROGRAMS", "10"))
POSTS_PER_S = float(os.environ.get("POSTS_PER_S", "10"))
SEED = int(os.environ.get("SEED", "0")) or random.randrange(1, 10**6)

_NO = missing(SETUP) or ("" if SECONDS else "not run: `make soak` runs it")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(_NO), reason=_NO)]


def rooms_of(nodes: Nodes) -> WhoseStream:
    """Whose streams are those of rooms: a stream has the room's id, an actor its name."""
    rows = nodes.rows("SELECT id::text AS id, name FROM chat_rooms")
    names = {f"room-{row['id']}": row["name"] for row in rows}
    return lambda stream: ("room", names[stream]) if stream in names else None


def test_whatever_is_struck_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    # CLU-42, CLU-43
    print(f"SEED={SEED}")
    settings = {
        "DRAIN_BUDGET_SECS": str(NODE_DRAIN_S),
        "STREAMS_PER_ADDRESS_MAX": "1000",
        "SOCKETS_PER_ADDRESS_MAX": "1000",
    }
    with Nodes(tmp_path, "abc", SETUP, settings) as nodes:
        watch(nodes)
        monkey = Monkey(nodes, SEED)
        crowds: list[Crowd] = []
        converged: list[float] = []

        def strike(crowd: Crowd) -> None:
            crowds.append(crowd)
            try:
                with telling(lambda: f"{crowd.progress()}; {monkey.progress()}"):
                    monkey.run(SECONDS)
            finally:
                print("\n".join(monkey.done))
            began = time.monotonic()
            nodes.wait_shared_out()
            converged.append(time.monotonic() - began)

        assert nodes.balancer is not None
        with leaving(nodes, monkey.done, crowds):
            crowd = gather(nodes.balancer.port, (PAGES, PROGRAMS, POSTS_PER_S), SEED, strike)
            print(json.dumps({**say(crowd), "converged_s": round(converged[0], 1)}))
            store = settled(lambda: judge_store(nodes))
            found = {
                **invariants(nodes, crowd),
                STORE: store,
                EPOCHS: judge_epochs(nodes, rooms_of(nodes), of_owners_only=True),
                SOON: judge_soon(converged[0]),
            }
            assert verdict(found) == []
