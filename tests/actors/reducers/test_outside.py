"""Effects that call something outside, behind the guards of its name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import trio
from trio.testing import MockClock

from actors.reducers import (
    Effect,
    Environment,
    Future,
    ReducerRef,
    Stream,
    start_reducer,
)
from actors.runtime import System
from supervision import (
    ONCE,
    BreakerPolicy,
    Dependencies,
    DependencyPolicy,
    RetryPolicy,
)
from tests.actors.reducers.kit import Action, Do, Noted, Till, TillActor, wrong

TillRef = ReducerRef[Till, Action]


@dataclass(frozen=True, slots=True)
class Charge:
    """Asks the gateway, which does as it is told."""

    dependency: ClassVar = "gateway"
    amount: str
    hangs: bool = False

    async def run(self, env: Environment) -> Noted:
        calls.append(self.amount)
        if self.hangs:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        if failing:
            failing.pop()
            raise ConnectionError("the gateway is away")
        return Noted(f"charged {self.amount}")


calls: list[str] = []
failing: list[None] = []


@dataclass(frozen=True, slots=True)
class ChargeNobody(Charge):
    dependency: ClassVar = "gatway"


@pytest.fixture(autouse=True)
def anew() -> None:
    calls.clear()
    failing.clear()


def outside_of(policy: DependencyPolicy) -> Dependencies:
    return Dependencies({"gateway": policy})


async def done_of(till: TillRef, *effects: Effect) -> tuple[str, ...]:
    handle = await till.run(Do(effects))
    assert await handle.wait()
    return (await till.state()).done


async def test_an_operation_is_run_through_the_dependency_that_it_names(
    autojump_clock: MockClock, system: System, env: Environment
) -> None:
    # RES-3: tried again by the retry of that name, one call for its breaker
    outside = outside_of(DependencyPolicy(retry=RetryPolicy(attempts=3, first=0.1, jitter=0.0)))
    failing.extend([None, None])
    till = await start_reducer(system, TillActor, replace(env, outside=outside))
    assert await done_of(till, Future(Charge("5"))) == ("charged 5",)
    assert calls == ["5", "5", "5"]
    [stats] = outside.stats()
    assert (stats.attempts, stats.breaker.calls, stats.breaker.successes) == (3, 1, 1)


async def test_while_its_breaker_is_open_nothing_is_called(
    autojump_clock: MockClock, system: System, env: Environment
) -> None:
    # RES-3
    outside = outside_of(DependencyPolicy(retry=ONCE, breaker=BreakerPolicy(failures=2)))
    failing.extend([None] * 9)
    till = await start_reducer(system, TillActor, replace(env, outside=outside))
    for _ in range(2):
        await done_of(till, Future(Charge("5"), failed=wrong))
    assert (await done_of(till, Future(Charge("5"), failed=wrong)))[-1] == "wrong: CircuitOpen"
    assert len(calls) == 2


async def test_an_effect_whose_own_time_is_over_says_nothing_of_the_dependency(
    autojump_clock: MockClock, system: System, env: Environment
) -> None:
    # RES-3, RES-5
    outside = outside_of(DependencyPolicy(deadline=20.0, attempt=20.0, retry=ONCE))
    till = await start_reducer(system, TillActor, replace(env, outside=outside))
    began = trio.current_time()
    done = await done_of(till, Future(Charge("5", hangs=True), timeout=2.0, failed=wrong))
    assert trio.current_time() - began == pytest.approx(2.0)
    assert done[0] in {"wrong: EffectTimeout", "wrong: DependencyTimeout"}
    [stats] = outside.stats()
    assert (stats.breaker.failures, stats.bulkhead.running) == (0, 0)
    # One whose dependency's time is the shorter one does.
    done = await done_of(till, Future(Charge("5", hangs=True), timeout=40.0, failed=wrong))
    assert done[1] == "wrong: DependencyTimeout"
    assert outside.stats()[0].breaker.failures == 1


@pytest.mark.parametrize(
    ("op", "outside", "error"),
    [
        (Charge("5"), None, "NothingOutside"),
        (ChargeNobody("5"), outside_of(DependencyPolicy()), "UnknownDependency"),
    ],
)
async def test_a_name_that_nobody_declared_is_a_failed_effect(
    op: Charge,
    outside: Dependencies | None,
    error: str,
    autojump_clock: MockClock,
    system: System,
    env: Environment,
) -> None:
    # RES-9
    till = await start_reducer(system, TillActor, replace(env, outside=outside))
    assert await done_of(till, Future(op, failed=wrong)) == (f"wrong: {error}",)
    assert calls == []


@dataclass(frozen=True)
class Nonsense:
    dependency: ClassVar = 7

    async def run(self, env: Environment) -> Noted:
        raise NotImplementedError


@dataclass(frozen=True)
class Empty:
    dependency: ClassVar = ""

    async def run(self, env: Environment) -> Noted:
        raise NotImplementedError


@dataclass(frozen=True)
class Several:
    dependency: ClassVar = "gateway"

    async def run(self, env: Environment) -> AsyncIterator[Noted]:
        yield Noted("never")


def test_nonsense_for_a_dependency_is_refused_at_its_line() -> None:
    for nonsense in (Nonsense(), Empty()):
        with pytest.raises(TypeError, match=r"dependency is .*test_outside\.py"):
            Future(nonsense)
    with pytest.raises(TypeError, match="what a Future calls outside"):
        Stream(Several())
