"""Which statements took longest, where a database knows (OBS-11)."""

import pytest

from storage.errors import StoreTimeout
from storage.postgres import Database, open_database, read_slow
from storage.postgres.connecting.session import Connection
from storage.postgres.connecting.slow import SlowStatement, own_statements
from storage.postgres.connecting.statements import OTHERS, TEXTS_MAX
from tests.patience import PATIENT_POOL

# The columns that are asked for, as the extension has them.
VIEW = """
CREATE VIEW pg_stat_statements AS
SELECT (SELECT oid FROM pg_database WHERE datname = current_database()) AS dbid, query, calls,
    mean_exec_time, total_exec_time
FROM (VALUES
    (E'SELECT  a\n FROM b WHERE c = $1', 7::bigint, 0.5::float8, 3500::float8),
    ('ALTER ROLE ada PASSWORD ''hunter2''', 1, 9000, 9000),
    ('  insert into b values ($1)', 2, 2, 4),
    ('selected by nobody', 1, 9000, 9000)
) AS told (query, calls, mean_exec_time, total_exec_time)
"""


async def _sleep(connection: Connection) -> None:
    await connection.fetchval("SELECT  pg_sleep($1)", 0.3)


async def _sleep_on(connection: Connection) -> None:
    await connection.fetchval("SELECT  pg_sleep($1)", 30.0)


async def _slowest(database: Database) -> SlowStatement:
    found = await read_slow(database)
    return next(one for one in found.statements if one.text == "SELECT pg_sleep($1)")


async def _create(connection: Connection) -> None:
    await connection.execute(VIEW)


@pytest.mark.slow
async def test_the_longest_are_told_with_no_value_and_no_password(database_url: str) -> None:
    # OBS-11
    async with open_database(database_url, settings=PATIENT_POOL) as database:
        # None are kept here: what this process ran itself is told, also what was cut off.
        await database.run(_sleep)
        slow = await _slowest(database)
        while slow.calls < 2:  # On a busy machine the time may be over before it was begun.
            with pytest.raises(StoreTimeout):
                await database.run(_sleep_on, timeout_s=0.3)
            slow = await _slowest(database)
        found = await read_slow(database)
        assert found.is_own
        assert (slow.calls, slow.total_s >= 0.3) == (2, True)
        totals = [one.total_s for one in found.statements]
        assert totals == sorted(totals, reverse=True)
        await database.run(_create)
        found = await read_slow(database)
        assert not found.is_own
        assert [(one.text, one.calls, one.mean_ms, one.total_s) for one in found.statements] == [
            ("SELECT a FROM b WHERE c = $1", 7, 0.5, 3.5),
            (" insert into b values ($1)", 2, 2.0, 0.004),
        ]
        assert (await read_slow(database, 1)).statements == found.statements[:1]


def test_texts_that_are_made_up_take_no_more_room_and_none_is_shown_that_may_hold_a_password() -> (
    None
):
    # OBS-11
    database = Database("postgresql://nobody@127.0.0.1:1/none")
    for number in range(TEXTS_MAX + 10):
        database.sums.note(f"SELECT {number}", 0.001)
    database.sums.note("ALTER ROLE ada PASSWORD 'hunter2'", 9.0)
    sums = database.sums.newest()
    assert len(sums) == TEXTS_MAX + 1
    assert sums[OTHERS].calls == 11
    assert sum(one.calls for one in sums.values()) == TEXTS_MAX + 11
    full = Database("postgresql://nobody@127.0.0.1:1/none")
    full.sums.note("ALTER ROLE ada PASSWORD 'hunter2'", 9.0)
    full.sums.note("  with\n a AS (SELECT 1)  SELECT 2", 0.5)
    assert [one.text for one in own_statements(full, 10)] == ["with a AS (SELECT 1) SELECT 2"]
