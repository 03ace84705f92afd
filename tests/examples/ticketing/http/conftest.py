"""A running ticketing site, in memory and on PostgreSQL: one for all cases that share it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.examples.ticketing.http.ticketing_kit import open_ticketing
from web.app import OwnSite


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.slow)])
async def site(
    request: pytest.FixtureRequest, tmp_path: Path, database_url: str
) -> AsyncIterator[OwnSite]:
    url = None if request.param == "memory" else database_url
    async with open_ticketing(url, tmp_path) as opened:
        yield opened


@pytest.fixture
async def port(site: OwnSite) -> int:
    return site.port


@pytest.fixture
async def memory_site(tmp_path: Path) -> AsyncIterator[OwnSite]:
    """For what no engine makes another."""
    async with open_ticketing(None, tmp_path) as opened:
        yield opened


@pytest.fixture
async def memory_port(memory_site: OwnSite) -> int:
    return memory_site.port
