"""A server that the tests share, emptied for each, and one of a test's own to be bad to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from storage.redis import RedisClient, open_redis
from tests.redis_server import RedisServer, missing


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    if missing():
        pytest.skip(missing())
    with RedisServer(tmp_path_factory.mktemp("redis")) as started:
        yield started


@pytest.fixture
async def redis(shared_server: RedisServer) -> AsyncIterator[RedisClient]:
    async with open_redis(shared_server.settings) as client:
        await client.call("FLUSHALL")
        yield client


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    if missing():
        pytest.skip(missing())
    with RedisServer(tmp_path / "server") as started:
        yield started
