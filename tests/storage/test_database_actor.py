"""The supervised life of a database's loop."""

import asyncio
import threading

import pytest
import trio

from actors.runtime import Actor, Ask, Context, Crashed, edge_context, message, open_actors
from storage.errors import StoreUnavailable
from storage.postgres import Connection, Database, DatabaseActor, LoopLost
from storage.testing.samples import PATIENCE_S
from supervision import Supervisor, child, open_system


async def _one(connection: Connection) -> int:
    return int(await connection.fetchval("SELECT 1"))


async def _end_the_loop(_connection: Connection) -> None:
    asyncio.get_running_loop().stop()
    await asyncio.sleep(30)


def _is_turning(name: str) -> bool:
    return any(one.name == name for one in threading.enumerate())


async def test_the_database_is_served_while_the_actor_lives(database_url: str) -> None:
    database = Database(database_url, patience_s=0.05)
    async with open_actors() as system:
        ref = await system.start(DatabaseActor, database, name="database")
        assert await database.run(_one) == 1
        await ref.stop()
        with pytest.raises(StoreUnavailable):
            await database.run(_one)


@message
class Look(Ask[int]):
    """Asks for an answer of the database."""


class Asker(Actor[Look]):
    """Asks a database in the name of whoever asks it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def on_look(self, message: Look) -> int:
        """Give the answer."""
        return await self._database.run(_one)


@pytest.mark.parametrize(("last", "is_told"), [("0", True), ("1", False)])
async def test_how_long_a_call_waited_leads_to_its_trace_where_that_is_kept(
    database_url: str, last: str, is_told: bool
) -> None:
    # OBS-7
    trace = f"{'a' * 31}{last}"
    database = Database(database_url)
    async with open_actors() as system:
        await system.start(DatabaseActor, database)
        asker = await system.start(Asker, database)
        system.trace()
        with edge_context(Context("c-1", traceparent=f"00-{trace}-{'1' * 16}-01")):
            assert await asker.ask(Look()) == 1
        waits = database.tallies.histogram("pool_acquire_seconds")
        led = {found[1] for found in waits.examples_since(0.0).values()}
        assert led == ({trace} if is_told else set())


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


@pytest.mark.slow
async def test_its_supervisor_restarts_a_dead_and_a_silent_loop(database_url: str) -> None:
    # REL-87: the handle stays the same, and a call waits for the new loop
    database = Database(database_url, part="silent", patience_s=PATIENCE_S)
    wake = threading.Event()

    class Root(Supervisor, strategy="one_for_one", intensity=5, period=10.0):
        database_ = child(DatabaseActor, database)

    async def block(_connection: Connection) -> None:
        wake.wait(5 * PATIENCE_S)  # the fault: the loop stands still

    with trio.fail_after(PATIENCE_S):
        async with open_system(Root):
            try:
                for number, fault in enumerate((_end_the_loop, block), start=1):
                    assert await database.run(_one) == 1
                    with pytest.raises(StoreUnavailable):
                        await database.run(fault)
                    # The silent one still stands there: nobody has waited for it.
                    assert await database.run(_one) == 1
                    assert database.loops_started == number + 1
            finally:
                wake.set()
        # Also the silent one ends when it wakes, and leaves no session open.
        while _is_turning("greenroom-silent"):  # noqa: ASYNC110  (a thread has no event)
            await trio.sleep(0.01)
