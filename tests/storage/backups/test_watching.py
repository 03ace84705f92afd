"""The queries of docs/how_to/production_database.md, each run, by whoever is to run them."""

import re
from pathlib import Path

import pytest

from storage.postgres import Connection, Database, PostgresEventStore, open_database
from storage.testing.samples import new_events
from tests.patience import PATIENT_POOL
from tests.storage.backups.kit import STREAM

_PAGE = Path(__file__).parents[3] / "docs" / "how_to" / "production_database.md"
_BLOCKS = re.findall(r"^ *```sql\n(.*?)^ *```$", _PAGE.read_text(), re.DOTALL | re.MULTILINE)
QUERIES = [block for block in _BLOCKS if block.lstrip().startswith("SELECT")]
ROLES = [block for block in _BLOCKS if "CREATE ROLE" in block]


def test_there_is_something_to_run() -> None:
    # OPS-1
    assert (len(QUERIES), len(ROLES)) == (8, 1)


@pytest.mark.parametrize("number", range(len(QUERIES)))
async def test_a_query_runs_as_the_role_that_watches(
    number: int, database: Database, database_url: str
) -> None:
    # OPS-1
    await PostgresEventStore(database).append(STREAM, new_events(1))

    async def make(connection: Connection) -> None:
        await connection.execute(ROLES[0])

    async def ask(connection: Connection) -> int:
        return len(await connection.fetch(QUERIES[number]))

    await database.run(make)
    url = re.sub(r"//[^@/]*@", "//greenroom_watch@", database_url)
    async with open_database(url, part="watch", settings=PATIENT_POOL) as watching:
        rows = await watching.run(ask)
    # Nobody waits, nothing is held back, and there is no standby.
    assert rows == 0 if number in (1, 3, 7) else rows > 0
