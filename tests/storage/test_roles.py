"""The role that docs/how_to/database.md makes can do the program's work, and not undo it."""

import re
from pathlib import Path

import pytest

from actors.persistence import (
    Condition,
    Cursor,
    GenerationState,
    ProjectionBatch,
    StreamId,
    Tagged,
)
from storage.errors import StoreRejected
from storage.postgres import (
    Connection,
    Database,
    PoolSettings,
    check_migrations,
    migrate,
    open_database,
)
from storage.testing.kept import kept_in_postgres
from storage.testing.samples import message, new_event, new_events, timer

_PAGE = Path(__file__).parents[2] / "docs" / "how_to" / "database.md"


async def _make_role(connection: Connection) -> None:
    (block,) = re.findall(r"```sql\n(.*?)```", _PAGE.read_text(), re.DOTALL)
    await connection.execute(block)


async def _execute(connection: Connection, statement: str) -> None:
    await connection.execute(statement)


async def test_the_program_works_as_a_role_that_owns_nothing(
    database: Database, database_url: str
) -> None:
    # STORE-31
    await database.run(_make_role)
    url = re.sub(r"//[^@/]*@", "//greenroom_app@", database_url)
    settings = PoolSettings(connections_min=0, connections_max=2)
    async with open_database(url, part="app", settings=settings) as as_app:
        await check_migrations(as_app)
        assert await migrate(as_app) == 0
        kept = kept_in_postgres(as_app)
        one = StreamId("order-1")
        await kept.events.append(one, new_events(2), expected=0)
        await kept.events.append(one, new_events(1), outbox=[message()], timers=[timer()])
        query = [Tagged(("a",))]
        tagged = [new_event(tags=("a",))]
        await kept.events.append(StreamId("order-2"), tagged, condition=Condition(query))
        assert len((await kept.events.read_tagged(query)).events) == 1
        assert len((await kept.events.read_all()).events) == 4
        begun = await kept.projections.open("totals", 1, 1, GenerationState.LIVE)
        assert await kept.projections.commit(ProjectionBatch(begun, Cursor(5, 1), {"a": {"n": 1}}))
        for statement in (
            "UPDATE events SET event_type = 'x'",
            "DELETE FROM events",
            "TRUNCATE events",
            "DELETE FROM event_tags",
            "UPDATE event_tags SET tag = 'b'",
            "ALTER TABLE events DISABLE TRIGGER events_are_immutable",
            "DROP TABLE events",
            "UPDATE store_meta SET lineage = gen_random_uuid()",
        ):
            with pytest.raises(StoreRejected, match=r"permission denied|must be owner"):
                await as_app.run(_execute, statement)
        assert await kept.events.head(one) == 3
