"""A running orders example, in memory and on PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.examples.orders.orders_kit import Keeping


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.slow)])
def keeping(request: pytest.FixtureRequest, tmp_path: Path, database_url: str) -> Keeping:
    return Keeping(None if request.param == "memory" else database_url, tmp_path)


@pytest.fixture
async def port(keeping: Keeping) -> AsyncIterator[int]:
    async with keeping.open() as site:
        yield site.port


@pytest.fixture
async def memory_port(tmp_path: Path) -> AsyncIterator[int]:
    """For what is decided before any engine is asked."""
    async with Keeping(None, tmp_path).open() as site:
        yield site.port
