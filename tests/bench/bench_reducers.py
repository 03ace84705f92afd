"""What reducers cost: the pure call, a round trip, an effect, a broadcast.

PERF-50, PERF-51, PERF-52, PERF-53. Processor time of this process, so that what else the machine
does counts as little as it can.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import assert_never

import trio

from actors.reducers import (
    Environment,
    Future,
    Next,
    Nothing,
    ReducerActor,
    ReducerRef,
    command,
    reducer,
    start_reducer,
)
from actors.runtime import open_actors
from actors.testing import fixed_environment
from docs.examples.counter import Count, Increment, count
from tests.bench.rows import Row, row

_RUNS = 5
_CALLS, _TRIPS, _SHOWN = 200_000, 4_000, 400


@command
class Bare:
    """Has no effect."""


@command
class Idle:
    """Has the effect that does nothing."""


@command
class Work:
    """Has an effect that runs, and feeds back."""


@command
class Done:
    """Was fed back."""


@dataclass(frozen=True, slots=True)
class Give:
    async def run(self, env: Environment) -> Done:
        return Done()


_IDLE, _WORK = Nothing(), Future(Give())


@reducer
def costing(state: int, action: Bare | Idle | Work | Done, env: Environment) -> Next[int]:
    match action:
        case Bare():
            return Next(state + 1)
        case Idle():
            return Next(state + 1, _IDLE)
        case Work():
            return Next(state, _WORK)
        case Done():
            return Next(state + 1)
    assert_never(action)


class Costing(ReducerActor[int, Bare | Idle | Work | Done]):
    reducer = costing

    def initial(self) -> int:
        return 0


CostingRef = ReducerRef[int, Bare | Idle | Work | Done]
Timed = Callable[[CostingRef], Awaitable[None]]


async def _each_us(timed: Timed, times: int) -> list[float]:
    found: list[float] = []
    async with open_actors() as system:
        ref = await start_reducer(system, Costing, fixed_environment())
        for run in range(_RUNS + 1):
            began = time.process_time()
            for _ in range(times):
                await timed(ref)
            if run:  # The first is the warm-up.
                found.append((time.process_time() - began) / times * 1e6)
    return found


async def _trip(ref: CostingRef) -> None:
    await ref.run(Bare())
    await ref.state()


async def _bare(ref: CostingRef) -> None:
    await ref.run(Bare())


async def _idle(ref: CostingRef) -> None:
    await ref.run(Idle())


async def _work(ref: CostingRef) -> None:
    await ref.ask_for(Work(), Done)


def pure_call() -> Sequence[Row]:
    """PERF-50: the counter's reducer, called as a function."""
    env, action = fixed_environment(), Increment()
    runs: list[float] = []
    for run in range(_RUNS + 1):
        state = Count()
        began = time.process_time()
        for _ in range(_CALLS):
            state = count(state, action, env).state
        if run:
            runs.append(_CALLS / (time.process_time() - began))
    return [row("reducer: pure call", "calls/s", runs, target=">= 1,000,000 (PERF-50)")]


def round_trips() -> Sequence[Row]:
    """PERF-51 and PERF-52: what goes through the actor."""
    trip, bare, idle, work = (
        trio.run(_each_us, one, _TRIPS) for one in (_trip, _bare, _idle, _work)
    )
    least = min(bare)
    return [
        row(
            "reducer: run and state", "us", trip, target="<= 20 us (PERF-51)", is_lower_better=True
        ),
        row(
            "reducer: Nothing, beyond a run without it",
            "us",
            [max(0.0, one - least) for one in idle],
            target="<= 3 us (PERF-52)",
            is_lower_better=True,
        ),
        row(
            "reducer: Future and its feedback, beyond a run",
            "us",
            [one - least for one in work],
            target="<= 40 us (PERF-52)",
            is_lower_better=True,
        ),
    ]


async def _shown_us(listeners: int) -> list[float]:
    """An action and its place in the queue of each subscriber; nobody reads meanwhile."""
    found: list[float] = []
    async with open_actors() as system:
        ref = await start_reducer(system, Costing, fixed_environment())
        for run in range(_RUNS + 1):
            # New ones each time, with room for all: nobody is behind, and nothing is missed.
            subscriptions = [ref.subscribe(_SHOWN) for _ in range(listeners)]
            began = time.process_time()
            for _ in range(_SHOWN):
                await ref.run(Bare())
            spent = time.process_time() - began
            for one in subscriptions:
                await one.aclose()
            if run:
                found.append(spent / _SHOWN * 1e6)
    return found


def broadcasts() -> Sequence[Row]:
    """PERF-53: an applied action, put into the queue of each subscriber."""
    nobody = min(trio.run(_shown_us, 0))
    return [
        row(
            f"reducer: an action shown to {listeners}",
            "us",
            [max(0.0, one - nobody) for one in trio.run(_shown_us, listeners)],
            target=target,
            is_lower_better=True,
        )
        for listeners, target in ((10, "<= 20 us (PERF-53)"), (1000, "<= 2,000 us (PERF-53)"))
    ]


benchmarks = [pure_call, round_trips, broadcasts]
