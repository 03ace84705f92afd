"""Which statements took longest, where a database knows (OBS-11)."""

import pytest

from storage.postgres import open_database, read_slow
from storage.postgres.connecting.session import Connection
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


async def _create(connection: Connection) -> None:
    await connection.execute(VIEW)


@pytest.mark.slow
async def test_the_longest_are_told_with_no_value_and_no_password(database_url: str) -> None:
    # OBS-11
    async with open_database(database_url, settings=PATIENT_POOL) as database:
        assert await read_slow(database) is None, "no statistics are kept here"
        await database.run(_create)
        found = await read_slow(database)
        assert found is not None
        assert [(one.text, one.calls, one.mean_ms, one.total_s) for one in found] == [
            ("SELECT a FROM b WHERE c = $1", 7, 0.5, 3.5),
            (" insert into b values ($1)", 2, 2.0, 0.004),
        ]
        assert await read_slow(database, 1) == found[:1]
