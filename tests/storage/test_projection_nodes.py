"""Parts of read models on several nodes, which are killed: in PostgreSQL, in Redis (PROJ-14)."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.persistence import ProjectionStore
from storage.postgres import Database
from storage.redis import RedisProjections, open_redis
from storage.testing.kept import kept_in_postgres
from tests.redis_server import RedisServer, missing
from tests.storage.projection_node_process import IN_REDIS
from tests.storage.projection_nodes import Nodes, change_hands


@pytest.mark.slow
async def test_parts_change_hands_with_nodes_that_are_killed(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    """Two processes share the parts; each is killed with events in hand, and another goes on."""
    # CLU-15, PROJ-12, PROJ-14
    kept = kept_in_postgres(database)
    views: dict[str, ProjectionStore] = {"receipts": kept.projections}
    if missing():
        await change_hands(kept, Nodes(database, [database_url, ""]), database, views)
        return
    with RedisServer(tmp_path) as server:
        async with open_redis(server.settings) as client:
            views[IN_REDIS] = RedisProjections(client, kept.projections)
            nodes = Nodes(database, [database_url, server.url])
            await change_hands(kept, nodes, database, views)
