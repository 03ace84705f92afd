"""Fixtures of the supervision tests: a kit of children, once of each kind."""

from typing import cast

import pytest

from tests.supervision.puppets import AsyncPuppet, DefPuppet, Kit, Puppet


@pytest.fixture(params=[DefPuppet, AsyncPuppet], ids=["def", "async"])
def kit(request: pytest.FixtureRequest) -> Kit:
    """Children of both kinds, one after the other."""
    return Kit(cast("Puppet", request.param))


@pytest.fixture
def async_kit() -> Kit:
    """Children with tasks, for what only they can do."""
    return Kit(AsyncPuppet)
