"""A node that stands still under visitors: for a moment, past its lease, and its loop alone.

`make soak` runs it as `nodes-standing-still`; it is too long for the suite: "not run".
"""

from __future__ import annotations

import ctypes
import json
import os
import time
from pathlib import Path

import pytest

from tests.nodes import Nodes, missing, settled, until
from tests.nodes.crowd import Crowd, gather
from tests.nodes.judging import judge, judge_store, say

PAGES = int(os.environ.get("PAGES", "0"))
POSTS_PER_S = float(os.environ.get("POSTS_PER_S", "20"))
PROGRAMS = 3
SEED = int(os.environ.get("SEED", "1"))
# Of ptrace(2): a thread is taken, stopped, waited for and let go.
_SEIZE, _INTERRUPT, _DETACH = 0x4206, 0x4207, 17
_ANY_THREAD = 0x40000000

_NO = missing() or ("" if PAGES else "not run: `make soak` runs it")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(_NO), reason=_NO)]


def block_loop(pid: int, seconds: float) -> None:
    """Have the main thread of a process stand still, as by a handler that does not give way.

    Its other threads go on: that of the link answers pings, and takes what comes.
    """
    ptrace = ctypes.CDLL(None, use_errno=True).ptrace
    for request in (_SEIZE, _INTERRUPT):
        if ptrace(request, pid, None, None) != 0:
            pytest.skip(f"not run: ptrace says {os.strerror(ctypes.get_errno())}")
    os.waitpid(pid, _ANY_THREAD)
    try:
        time.sleep(seconds)
    finally:
        ptrace(_DETACH, pid, None, None)


@pytest.mark.parametrize(
    ("seconds", "is_loop_alone", "is_fenced"),
    [(3.0, False, False), (20.0, False, True), (5.0, True, True)],
    ids=["stopped for 3 s", "stopped for 20 s", "a loop blocked for 5 s"],
)
def test_a_node_that_stands_still_loses_and_doubles_nothing(
    tmp_path: Path, seconds: float, is_loop_alone: bool, is_fenced: bool
) -> None:
    # CLU-3, CLU-17, CLU-46
    settings = {"STREAMS_PER_ADDRESS_MAX": "1000", "SOCKETS_PER_ADDRESS_MAX": "1000"}
    with Nodes(tmp_path, "ab", settings=settings) as nodes:
        # Visitors are at one node, and the room at the other.
        owner = nodes.owner("room", "Lobby")
        (other,) = set("ab") - {owner}
        before = nodes.owned()[owner]

        def stand_still(crowd: Crowd) -> None:
            until(lambda: len(crowd.figures.accepted) > 20)
            if is_loop_alone:
                block_loop(nodes.sites[owner].process.pid, seconds)
            else:
                nodes.hang(owner)
                time.sleep(seconds)
                nodes.go_on(owner)
            at = len(crowd.figures.accepted)
            until(lambda: len(crowd.figures.accepted) > at + 100)
            nodes.wait_shared_out()

        crowd = gather(nodes.ports[other], (PAGES, PROGRAMS, POSTS_PER_S), SEED, stand_still)
        print(json.dumps({"seconds": seconds, "is_loop_alone": is_loop_alone, **say(crowd)}))
        after = nodes.owned()[owner]
        fenced = [line for line in nodes.sites[owner].lines if "cluster.node_fenced" in line]
        assert (bool(fenced), after.node_id != before.node_id) == (is_fenced, is_fenced), fenced
        if not is_fenced:
            assert after.shards == before.shards
        assert settled(lambda: judge_store(nodes)) == []
        assert judge(nodes, crowd) == []
