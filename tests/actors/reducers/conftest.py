"""A system on virtual time, and a till in it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from trio.testing import MockClock

from actors.reducers import Environment, ReducerRef, start_reducer
from actors.runtime import System, open_actors
from actors.testing.cases.fixed import fixed_environment
from tests.actors.reducers.kit import Action, Till, TillActor


@pytest.fixture
def env() -> Environment:
    return fixed_environment()


@pytest.fixture
async def system(autojump_clock: MockClock) -> AsyncIterator[System]:
    async with open_actors() as system:
        yield system


@pytest.fixture
async def till(system: System, env: Environment) -> ReducerRef[Till, Action]:
    return await start_reducer(system, TillActor, env)
