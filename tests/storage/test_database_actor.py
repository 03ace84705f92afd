"""The supervised life of a database's loop."""

import asyncio

import pytest

from actors.runtime import Crashed, open_actors
from storage.errors import StoreUnavailable
from storage.postgres import Connection, Database, DatabaseActor, LoopLost


async def _one(connection: Connection) -> int:
    return int(await connection.fetchval("SELECT 1"))


async def _end_the_loop(_connection: Connection) -> None:
    asyncio.get_running_loop().stop()
    await asyncio.sleep(30)


async def test_the_database_is_served_while_the_actor_lives(database_url: str) -> None:
    database = Database(database_url, patience_s=0.05)
    async with open_actors() as system:
        ref = await system.start(DatabaseActor, database, name="database")
        assert await database.run(_one) == 1
        await ref.stop()
        with pytest.raises(StoreUnavailable):
            await database.run(_one)


async def test_a_lost_loop_is_a_crash_of_its_actor(database_url: str) -> None:
    # REL-87
    database = Database(database_url, patience_s=0.05)
    async with open_actors() as system:
        ref = await system.start(DatabaseActor, database)
        with pytest.raises(StoreUnavailable):
            await database.run(_end_the_loop)
        exit_ = await system.wait_down(ref)
        assert isinstance(exit_, Crashed)
        assert [type(leaf) for leaf in exit_.leaves()] == [LoopLost]
        await system.start(DatabaseActor, database)
        assert await database.run(_one) == 1
