"""Supervisors of many: start, list, stop and restart up to 100k children (PERF-12, PERF-14).

The figures per child at 10k and at 100k stand side by side: what is linear stays the same.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import cast

import structlog
import trio

from actors.runtime import Actor, Ask, Ref, message
from supervision import ChildSpec, Dynamic, DynamicFlags, Flags, Plan, Supervisor, open_system
from tests.bench.rows import RUNS_MIN, Benchmark, Row, row

FEW, MANY = 10_000, 100_000
PAGE = 1_000
RESTARTS = 300


@message
class Fail:
    pass


@message
class Ping(Ask[int]):
    pass


class Member(Actor[Fail | Ping]):
    """A child that can crash and answer."""

    def __init__(self, key: str = "") -> None:
        self.key = key

    def on_fail(self, message: Fail) -> None:
        raise ValueError("benchmark")

    def on_ping(self, message: Ping) -> int:
        return self.incarnation


class Crew(Supervisor):
    """Named children, some of them, under one strategy."""

    def __init__(self, flags: Flags, children: int) -> None:
        self._flags, self._children = flags, children

    def plan(self) -> Plan:
        return Plan(self._flags, [ChildSpec(f"m{i}", Member) for i in range(self._children)])


async def dynamic_run(children: int) -> tuple[float, float, float]:
    """Seconds to start one by one, to list page by page, and to stop so many."""
    async with open_system(Dynamic[Ping], DynamicFlags(), ChildSpec("one", Member)) as pool:
        began = perf_counter()
        for _ in range(children):
            await pool.start_child()
        started = perf_counter()
        seen = 0
        while page := await pool.which_children(seen, PAGE):
            seen += len(page)
        assert seen == children
        listed = perf_counter()
    return started - began, listed - started, perf_counter() - listed


async def static_run(children: int) -> tuple[float, float]:
    """Seconds to start so many named children in order, and to stop them in reverse."""
    began = perf_counter()
    async with open_system(Crew, Flags(), children):
        started = perf_counter()
    return started - began, perf_counter() - started


async def restarts() -> list[float]:
    """Seconds from a crash to the first message handled, many times over."""
    took = []
    async with open_system(Crew, Flags(intensity=RESTARTS + 1), 3) as crew:
        found = (await crew.which_child("m1")).ref
        assert found is not None
        member = cast("Ref[Fail | Ping]", found)
        for _ in range(RESTARTS):
            began = perf_counter()
            member.tell(Fail())
            await member.ask(Ping())
            took.append(perf_counter() - began)
    return took


def quietly(run: Callable[[], Awaitable[object]]) -> object:
    """Run without log lines: they would be most of what is measured."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        return trio.run(run)
    finally:
        structlog.reset_defaults()


def per_child(name: str, runs: list[float], children: int, target: str = "") -> Row:
    return row(
        name, "us", [1e6 * one / children for one in runs], target=target, is_lower_better=True
    )


def many_dynamic_children() -> list[Row]:
    """PERF-12 at 10k and 100k."""
    rows = []
    for children, times in ((FEW, RUNS_MIN), (MANY, RUNS_MIN)):
        runs = [trio.run(dynamic_run, children) for _ in range(times)]
        label = f"{children // 1000}k dynamic children"
        starts, lists, stops = (list(one) for one in zip(*runs, strict=True))
        rows += [
            per_child(f"start each of {label}", starts, children, "<= 40 us, linear"),
            per_child(f"list each of {label}", lists, children, "linear"),
            per_child(f"stop each of {label}", stops, children, "<= 30 us, linear"),
        ]
    return rows


def many_static_children() -> list[Row]:
    """SUP-144: named children in order."""
    runs = [trio.run(static_run, FEW) for _ in range(RUNS_MIN)]
    starts, stops = (list(one) for one in zip(*runs, strict=True))
    label = f"{FEW // 1000}k static children"
    return [
        per_child(f"start each of {label}, in order", starts, FEW),
        per_child(f"stop each of {label}, in reverse", stops, FEW),
    ]


def restart() -> list[Row]:
    """PERF-14 under a static supervisor, reports made but not printed."""
    took: list[float] = []
    for _ in range(RUNS_MIN):
        found = quietly(restarts)
        assert isinstance(found, list)
        took += found
    return [
        row(
            "restart under a supervisor, crash to reply",
            "us",
            [1e6 * one for one in took],
            target="median < 200 us",
            is_lower_better=True,
        )
    ]


benchmarks: list[Benchmark] = [many_dynamic_children, many_static_children, restart]
