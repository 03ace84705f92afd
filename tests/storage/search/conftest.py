"""A server that the tests share, each with names of its own, and one to be bad to."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from actors.runtime import Secret
from storage.search import SearchClient, SearchSettings, open_search
from tests.search_server import SearchServer, missing


@pytest.fixture(scope="session")
def shared_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SearchSettings]:
    if named := os.environ.get("SEARCH_URL"):
        trusted = os.environ.get("SEARCH_TLS_CA")
        yield SearchSettings.of(Secret(named), Path(trusted) if trusted else None)
        return
    if missing():
        pytest.skip(missing())
    with SearchServer(tmp_path_factory.mktemp("search")) as started:
        yield started.settings


@pytest.fixture
async def client(shared_settings: SearchSettings) -> AsyncIterator[SearchClient]:
    async with open_search(shared_settings) as client:
        yield client


@pytest.fixture
async def prefix(client: SearchClient) -> AsyncIterator[str]:
    """Before all names of a test; what it made is removed."""
    prefix = f"test{uuid4().hex[:12]}-"
    yield prefix
    # By their own names: a server may refuse stars.
    for index in (await client.ask("GET", f"/{prefix}*/_alias", answer=dict)) or {}:
        await client.ask("DELETE", f"/{index}", answer=dict)


@pytest.fixture(scope="session")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SearchServer]:
    if missing():
        pytest.skip(missing())
    with SearchServer(Path(tmp_path_factory.mktemp("own")) / "server") as started:
        yield started
