"""A site of one's own on two real nodes: each actor lives on one, and moves when that ends."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from actors.cluster import shard_of
from storage.memory import MemoryDatabase
from tests.journeys.site_process import SiteProcess
from tests.journeys.visitor import Visitor
from tests.nodes import Nodes, missing, until
from tests.nodes.own_site import KIND, PLAN
from tests.processes.forked import run
from web.app import CannotStart, SitePlan, open_site
from web.settings import Cluster, Settings

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing()), reason=missing())]


class TillsProcess(SiteProcess):
    """A running `python -m tests.nodes.own_site`."""

    module = "tests.nodes.own_site"
    name = "tills"
    words = ()


def _seen_by_top(state_dir: Path) -> dict[str, int]:
    """By name, how many shards `greenroom top` tells of each node."""
    done = run("web.cli", ["top", "--once", "--json", "--state-dir", str(state_dir)])
    assert done.returncode == 0, done.stderr
    nodes = json.loads(done.stdout)["nodes"]["nodes"]
    return {node["name"]: node["shards"] for node in nodes}


@pytest.mark.parametrize("store", [None, MemoryDatabase()])
async def test_a_plan_that_says_nothing_of_it_and_a_site_in_memory_are_no_nodes(
    store: MemoryDatabase | None, tmp_path: Path
) -> None:
    # CLU-2: nothing was made
    settings = Settings(state_dir=tmp_path / "state", port=0, cluster=Cluster.ON)
    plan = SitePlan() if store is None else PLAN
    with pytest.raises(CannotStart, match="leave it off"):
        async with open_site(plan, settings, store=store):
            raise AssertionError("it is open")
    assert os.listdir(tmp_path) == []  # noqa: PTH208  (of an async test)


@pytest.mark.parametrize("how", ["stop", pytest.param("kill", marks=pytest.mark.long)])
def test_an_actor_lives_on_one_node_and_moves_when_that_ends(how: str, tmp_path: Path) -> None:
    # CLU-20, CLU-13, CLU-41: of one that is stopped nobody waits for the lease
    with Nodes(tmp_path, "ab", program=TillsProcess) as nodes:
        visitors = {name: Visitor(site.url) for name, site in nodes.sites.items()}

        def count(at: str, till: str) -> str:
            answer = visitors[at].get(f"/count/{till}")
            return answer.text if answer.status == 200 else str(answer.status)

        held = nodes.held()
        of_a, of_b = (
            next(till for till in map(str, range(9999)) if shard_of(KIND, till) in held[name])
            for name in "ab"
        )
        assert [count(at, of_b) for at in "aba"] == ["1 b", "2 b", "3 b"]
        assert [count(at, of_a) for at in "aba"] == ["1 a", "2 a", "3 a"]
        told = json.loads(visitors["a"].get("/ready?verbose").body)["components"]
        assert told["cluster"]["details"]["node"] == "a"
        assert told["link"]["status"] == "healthy"
        # CLI-20: of a site of one's own, too
        assert _seen_by_top(tmp_path / "state") == {"a": len(held["a"]), "b": len(held["b"])}

        if how == "kill":
            nodes.kill("b")
            until(lambda: count("a", of_b).endswith(" a"))
        else:
            assert nodes.stop("b") == 0
            assert count("a", of_b) == "1 a"
        assert count("a", of_a) == "4 a"
