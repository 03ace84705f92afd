"""Three nodes are renewed one after the other, while visitors look, listen and post (CLU-41).

`make soak` runs it as `nodes-rolling`; it is too long for the suite, which says "not run" of it.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from tests.nodes import Nodes, Setup, missing
from tests.nodes.crowd import Crowd, gather
from tests.nodes.judging import judge, say
from web.settings import NODE_DRAIN_S

SETUP = Setup(balancer=os.environ.get("BALANCER", "haproxy"))
PAGES = int(os.environ.get("PAGES", "0"))
PROGRAMS = int(os.environ.get("PROGRAMS", "10"))
POSTS_PER_S = float(os.environ.get("POSTS_PER_S", "10"))
ROUNDS = int(os.environ.get("ROUNDS", "1"))
SEED = int(os.environ.get("SEED", "1"))

_NO = missing(SETUP) or ("" if PAGES else "not run: `make soak` runs it")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(_NO), reason=_NO)]


def test_nodes_renewed_in_turn_lose_and_double_nothing(tmp_path: Path) -> None:
    # CLU-31, CLU-41, CLU-42
    # Each has as long to end as the suite is patient: who has the processors does not decide it.
    # How long it took is told, beside the 15 s that a node has by default.
    settings = {
        "STREAMS_PER_ADDRESS_MAX": "1000",
        "SOCKETS_PER_ADDRESS_MAX": "1000",
    }
    with Nodes(tmp_path, "abc", SETUP, settings) as nodes:
        ended: list[str] = []
        stops_s: list[float] = []

        def renew(crowd: Crowd) -> None:
            for _ in range(ROUNDS):
                for name in "abc":
                    site = nodes.sites[name]
                    began = time.monotonic()
                    code = nodes.stop(name)
                    stops_s.append(round(time.monotonic() - began, 1))
                    if code:
                        ended.append(f"{name} ended with {code}: {site.last_words()}")
                    nodes.start(name)
                    nodes.wait_shared_out()

        assert nodes.balancer is not None
        crowd = gather(nodes.balancer.port, (PAGES, PROGRAMS, POSTS_PER_S), SEED, renew)
        print(
            json.dumps({**say(crowd), "stop_s_max": max(stops_s), "stop_s_default": NODE_DRAIN_S})
        )
        assert judge(nodes, crowd) == []
        assert not ended, "\n".join(ended)
        assert crowd.figures.reloads == 0
