"""Nodes of a program with all that programs may have, struck at random (CLU-43).

Sagas, a projection, records on the bus and asks: what of a site's nodes `test_chaos.py` does not
see. `make soak` runs it as `nodes-shop` and `nodes-shop-long`; the suite says "not run" of it.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tests.journeys.site_process import SiteProcess
from tests.nodes import Nodes, Setup, missing, settled
from tests.nodes.epochs import EPOCHS, judge_epochs, watch
from tests.nodes.judging import SOON, STORE, judge_soon, judge_store
from tests.nodes.monkey import Monkey
from tests.nodes.shop.judging import (
    Said,
    Sold,
    Stored,
    judge_asks,
    judge_readers,
    judge_sold,
    read_sold,
    read_stored,
)
from tests.nodes.telling import leaving, telling, verdict
from tests.processes.forked import run

SETUP = Setup(servers=3, has_lines=True)
SECONDS = float(os.environ.get("CHAOS_S", "0"))
SEED = int(os.environ.get("SEED", "0")) or random.randrange(1, 10**6)

_NO = missing(SETUP) or ("" if SECONDS else "not run: `make soak` runs it")
_runs = pytest.mark.skipif(bool(_NO), reason=_NO)
READERS = "each record is handled once, and the projection is the fold"
SAGAS = "every checkout ends done or undone"
ASKS = "each ask ends by its deadline, in truth"
_ORDERED = ("OrderPlaced",)


class ShopProcess(SiteProcess):
    """A running `python -m tests.nodes.shop.program`."""

    module = "tests.nodes.shop.program"
    name = "shop"
    words = ()

    def run(self, *arguments: str) -> str:
        """Run a command of the site's program: one that looks at nodes looks at any."""
        done = run("web.cli", arguments, environment=self._settings())
        assert done.returncode == 0, done.stderr
        return done.stdout


def till_of(stream: str) -> tuple[str, str] | None:
    """Which till writes a stream; None for what is none's."""
    kind, _, id_ = stream.partition("-")
    return (kind, id_) if kind == "till" else None


def settle(name: str, judge: Callable[[], Sequence[str]]) -> None:
    """Wait until nothing is wrong any more, or fail with what still is."""
    assert verdict({name: settled(judge)}) == []


@pytest.mark.slow
@_runs
def test_whatever_is_struck_what_a_program_began_is_ended(tmp_path: Path) -> None:
    # CLU-15, CLU-43
    print(f"SEED={SEED}")
    started: list[ShopProcess] = []

    def program(state: Path, /, **settings: str) -> ShopProcess:
        started.append(ShopProcess(state, **settings))
        return started[-1]

    with Nodes(tmp_path, "abc", SETUP, program=program) as nodes:
        watch(nodes)
        monkey = Monkey(nodes, SEED)
        with leaving(nodes, monkey.done, []):
            try:
                with telling(monkey.progress):
                    monkey.run(SECONDS)
            finally:
                print("\n".join(monkey.done))
            began = time.monotonic()
            nodes.wait_shared_out()
            converged_s = time.monotonic() - began
            # Nothing begins any more; one is left to end what has begun.
            for name in "abc":
                assert nodes.stop(name) == 0
            nodes.program = partial(program, QUIET="on")
            nodes.start("a")
            settle(STORE, lambda: judge_store(nodes))
            said = Said.of(one.lines for one in started)
            print(json.dumps({"converged_s": round(converged_s, 1), "asks": dict(said.ends)}))
            settle(READERS, lambda: judge_readers(read_stored(nodes)))
            settle(SAGAS, lambda: judge_sold(read_sold(nodes)))
            print(json.dumps(Counter(f"{one.name[:4]} {one.status}" for one in read_sold(nodes))))
            nodes.stop("a")
            stored, said = read_stored(nodes), Said.of(one.lines for one in started)
            found = {
                ASKS: judge_asks(said, stored),
                EPOCHS: judge_epochs(nodes, till_of, of_owners_only=False),
                SOON: judge_soon(converged_s),
            }
            assert verdict(found) == []
            assert said.answered


def test_who_judges_finds_what_is_wrong() -> None:
    """Each invariant, planted broken: a judge that finds nothing is none."""
    # CLU-43
    said = Said.of([["answered 1 10", "counted NoLink=2", "counted NoLink=3 answered=1"], ["x"]])
    assert (said.answered, said.ends) == ([("1", 10)], {"NoLink": 3, "answered": 1})
    right = Stored({"till-1": [10, 11]}, ["p", "q"], ["q", "p"], {"till-1": [10, 11]})
    assert judge_asks(said, right) + judge_readers(right) == []
    assert judge_asks(Said.of([["LATE 7"]]), right) == ["an ask did not end: LATE 7"]
    assert judge_asks(said, replace(right, tills={"till-1": [11]})) != []
    assert judge_asks(said, replace(right, tills={"till-1": [10, 10]})) != []
    for wrong in (
        replace(right, noted=["p"]),
        replace(right, noted=["p", "q", "q"]),
        replace(right, noted=["p", "q", "r"]),
        replace(right, documents={}),
        replace(right, documents={"till-1": [11, 10]}),
        replace(right, documents={"till-1": [10, 11, 11]}),
    ):
        assert len(judge_readers(wrong)) == 1, wrong
    paid, kept = ("PaymentCompleted",), ("InventoryReserved",)
    back = (*paid, "PaymentRefunded")
    cancelled = (*_ORDERED, "OrderCancelled")
    ended = [
        Sold("bought-1", "completed", _ORDERED, paid, kept),
        Sold("poor-1", "failed", cancelled, ("PaymentFailed",), ()),
        Sold("sold-1", "failed", cancelled, back, ("ReservationRefused",)),
    ]
    assert judge_sold(ended) == []
    for bad in (
        Sold("bought-1", "running", _ORDERED, paid, ()),
        Sold("bought-1", "stuck", cancelled, back, ()),
        Sold("poor-1", "completed", _ORDERED, paid, kept),
        Sold("bought-1", "completed", _ORDERED, (*paid, *paid), kept),
        Sold("sold-1", "failed", cancelled, paid, ()),
        Sold("sold-1", "failed", cancelled, (*back, "PaymentRefunded"), ()),
    ):
        assert len(judge_sold([*ended, bad])) == 1, bad
