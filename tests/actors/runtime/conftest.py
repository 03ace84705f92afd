"""Every important rule is tested with both kinds of actors."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from trio.testing import MockClock

from actors.runtime import System, open_actors
from actors.testing import AsyncPuppet, Puppet


@pytest.fixture(params=[Puppet, AsyncPuppet], ids=["def", "async"])
def puppet(request: pytest.FixtureRequest) -> type[Puppet]:
    """Give both kinds in turn; to the type checker they are the same."""
    kind: type[Puppet] = request.param
    return kind


@pytest.fixture
async def system(autojump_clock: MockClock) -> AsyncIterator[System]:
    async with open_actors() as system:
        yield system
