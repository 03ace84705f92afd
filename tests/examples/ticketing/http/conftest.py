"""A running ticketing site, in memory and on PostgreSQL: one for all cases that share it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.examples.ticketing.http.ticketing_kit import open_ticketing


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.slow)])
async def port(
    request: pytest.FixtureRequest, tmp_path: Path, database_url: str
) -> AsyncIterator[int]:
    url = None if request.param == "memory" else database_url
    async with open_ticketing(url, tmp_path) as site:
        yield site.port


@pytest.fixture
async def memory_port(tmp_path: Path) -> AsyncIterator[int]:
    """For what is decided before any engine is asked."""
    async with open_ticketing(None, tmp_path) as site:
        yield site.port
