"""Three kinds of failure, and what each of them touches: a bug, an effect, a refusal (RES-1)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, TypeAlias, assert_never

import pytest
import trio
from trio.testing import MockClock

from actors.persistence import EventSourcedReducerActor, EventTypes, Record
from actors.reducers import (
    Environment,
    Future,
    Next,
    ReducerRef,
    Refusal,
    Reply,
    as_reducer,
    command,
    reducer,
)
from actors.runtime import ActorCrashed, Ask, System
from actors.testing.cases.fixed import fixed_environment
from storage.memory import MemoryEventStore
from supervision import (
    BreakerPolicy,
    ChildSpec,
    Dependencies,
    DependencyPolicy,
    Flags,
    Plan,
    RetryPolicy,
    Supervisor,
    open_system,
)
from tests.logged import captured

TYPES = EventTypes()


@TYPES.event()
@dataclass(frozen=True)
class Bought:
    price: int


@command
class Buy(Ask[int | Refusal]):
    price: int


@command
class Tell:
    """Tells somebody outside."""


@command
class Spoil(Ask[int]):
    """Meets a bug."""


@dataclass(frozen=True, slots=True)
class Purse:
    left: int = 10


@dataclass(frozen=True, slots=True)
class CallGateway:
    dependency: ClassVar = "gateway"

    async def run(self, env: Environment) -> None:
        await trio.lowlevel.checkpoint()
        raise ConnectionError("the gateway is away")


NAMES = ("mine", "yours")
Action: TypeAlias = Bought | Buy | Tell | Spoil


@reducer
def purse(state: Purse, action: Action, env: Environment) -> Next[Purse]:
    match action:
        case Bought(price):
            return Next(Purse(state.left - price))
        case Buy(price) if price > state.left:
            return Next(state, Reply(Refusal("no_money", f"only {state.left} left")))
        case Buy(price):
            return Next(state, Record(Bought(price)), Reply(state.left - price))
        case Tell():
            return Next(state, Future(CallGateway()))
        case Spoil():
            raise OSError("a bug")
    assert_never(action)


class PurseActor(EventSourcedReducerActor[Purse, Action]):
    reducer = purse
    category = "purse"
    types = TYPES

    def initial(self) -> Purse:
        return Purse()


class Purses(Supervisor):
    def __init__(self, env: Environment, store: MemoryEventStore) -> None:
        self._env, self._store = env, store

    def plan(self) -> Plan:
        return Plan(
            Flags(),
            [
                ChildSpec(one, partial(PurseActor, self._env, one, self._store), name=one)
                for one in NAMES
            ],
        )


@dataclass
class World:
    """Two purses side by side under one supervisor."""

    system: System
    outside: Dependencies
    store: MemoryEventStore

    def purse(self, name: str) -> ReducerRef[Purse, Action]:
        found = self.system.whereis(name, PurseActor)
        assert found is not None
        return as_reducer(PurseActor, found)

    def crashes(self) -> dict[str, int]:
        return {
            cell.name: cell.counts.crashes for cell in self.system.cells() if cell.name in NAMES
        }


@pytest.fixture
async def world(autojump_clock: MockClock) -> AsyncIterator[World]:
    policy = DependencyPolicy(
        retry=RetryPolicy(attempts=2, first=0.1), breaker=BreakerPolicy(failures=2)
    )
    outside = Dependencies({"gateway": policy})
    store = MemoryEventStore(event_types=TYPES)
    env = replace(fixed_environment(), outside=outside)
    async with open_system(Purses, env, store) as purses:
        yield World(purses.system, outside, store)


async def test_a_bug_in_a_handler_crashes_its_actor_alone(world: World) -> None:
    # RES-1: a dead letter with the message, restarted from its events, siblings untouched
    mine, yours = world.purse("mine"), world.purse("yours")
    assert await mine.ask(Buy(3)) == 7
    assert await yours.ask(Buy(1)) == 9
    with captured(), pytest.raises(ActorCrashed):
        await mine.ask(Spoil())
    assert await mine.ask(Buy(1)) == 6
    assert await yours.ask(Buy(1)) == 8
    assert world.crashes() == {"mine": 1, "yours": 0}
    [letter] = world.system.dead_letters
    assert (letter.reason, "Spoil" in letter.message) == ("crashed", True)


async def test_a_failed_effect_is_tried_again_then_a_dead_letter_and_its_actor_lives(
    world: World,
) -> None:
    # RES-1: retry, breaker, dead letter
    mine = world.purse("mine")
    assert await mine.ask(Buy(3)) == 7
    with captured():
        for _ in range(3):
            handle = await mine.run(Tell())
            assert await handle.wait()
    [stats] = world.outside.stats()
    assert (stats.attempts, stats.exhausted, stats.breaker.state) == (4, 2, "open")
    assert stats.breaker.rejections == 1
    assert world.crashes() == {"mine": 0, "yours": 0}
    assert len(list(world.system.dead_letters)) == 3
    assert await mine.ask(Buy(1)) == 6


async def test_a_refusal_of_the_domain_is_an_answer_and_nothing_else(world: World) -> None:
    # RES-1
    mine = world.purse("mine")
    with captured() as lines:
        assert await mine.ask(Buy(11)) == Refusal("no_money", "only 10 left")
    assert lines == []
    assert list(world.system.dead_letters) == []
    assert world.crashes() == {"mine": 0, "yours": 0}
    assert world.store.event_count() == 0
