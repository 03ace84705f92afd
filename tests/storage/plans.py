"""How many rows the statements of an adapter touch: what they cost on a large table, in any run."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from storage.postgres import Connection, Database, PoolSettings, open_database
from tests.patience import PATIENCE_S

Touched = Callable[[], Awaitable[list[int]]]


@asynccontextmanager
async def watched(database: Database, having: str) -> AsyncIterator[tuple[Database, Touched]]:
    """Call this for a handle of its own, and for what asks how its statements were carried out.

    That is, for each statement with `having` in it since it was last asked, the most rows that any
    node of its plan gave or threw away. They are run again for it: ask before anything changes.
    """
    asked: list[tuple[str, tuple[object, ...]]] = []

    def note(query: str, args: tuple[object, ...]) -> None:
        if having in query and not query.startswith("EXPLAIN"):
            asked.append((query, args))

    async def watch(connection: Connection) -> None:
        connection.add_query_logger(lambda record: note(record.query, record.args))
        # As after the fifth call of a prepared statement: a plan for all values.
        await connection.execute("SET plan_cache_mode = force_generic_plan")

    async def explain(connection: Connection) -> list[int]:
        found = []
        for query, args in tuple(asked):
            text = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}", *args)
            rows = re.findall(r'"Actual Rows": ([0-9.]+), *"Actual Loops": (\d+)', text)
            rows += re.findall(r'"Actual Rows": ([0-9.]+),\s+"Actual Loops": (\d+)', text)
            removed = re.findall(r'"Rows Removed by [A-Za-z ]+": ([0-9.]+)', text)
            counts = [float(one) * int(loops) for one, loops in rows] + [float(r) for r in removed]
            found.append(int(max(counts)))
        asked.clear()
        return found

    one = PoolSettings(connections_min=1, connections_max=1, operation_s_max=PATIENCE_S)
    async with open_database(database.url, settings=one, is_notified=False) as alone:
        await alone.run(watch)
        yield alone, lambda: alone.run(explain)


async def rows_touched(
    database: Database, work: Callable[[Database], Awaitable[object]], *, having: str
) -> list[int]:
    """Call this for what all statements of `work` touched; see `watched`."""
    async with watched(database, having) as (alone, touched):
        await work(alone)
        return await touched()
