"""Inline projections on both engines, and in PostgreSQL with a table of their own."""

import pytest

from actors.persistence import (
    InlineProjectionFailed,
    InlineProjections,
    Projection,
    ProjectionRunner,
    ProjectionTx,
    StoredEvent,
    StreamId,
)
from storage.memory import MemoryEventStore
from storage.postgres import Connection, Database, PostgresEventStore
from storage.testing import InlineProjectionsSuite
from storage.testing.kept import Kept, kept_in_memory, kept_in_postgres
from storage.testing.projections.inline import INLINE, NAMES, TYPES, Names, NameTaken, taken


class TestMemoryInline(InlineProjectionsSuite):
    @pytest.fixture
    def kept(self) -> Kept:
        return kept_in_memory(INLINE)


class TestPostgresInline(InlineProjectionsSuite):
    @pytest.fixture
    def kept(self, database: Database) -> Kept:
        return kept_in_postgres(database, INLINE)


class InATable(Projection):
    """The constraint of a table is the rule."""

    name = "in_a_table"
    handles = (NameTaken,)
    types = TYPES
    inline = True

    async def apply(self, event: StoredEvent, tx: ProjectionTx) -> None:
        fact = self.types.decode(event)
        assert isinstance(fact, NameTaken)
        tx.execute("INSERT INTO names (name) VALUES ($1)", fact.name)


async def test_a_constraint_refuses_the_append(database: Database) -> None:
    # PROJ-9
    async def make(connection: Connection) -> None:
        await connection.execute("CREATE TABLE names (name text PRIMARY KEY)")

    async def count(connection: Connection) -> int:
        return int(await connection.fetchval("SELECT count(*) FROM names"))

    store = PostgresEventStore(database, inline=[InATable()])
    one = StreamId("user-a")
    with pytest.raises(InlineProjectionFailed, match="UndefinedTable"):
        await store.append(one, [taken("ann")])
    await database.run(make)
    await store.append(one, [taken("ann")])
    with pytest.raises(InlineProjectionFailed, match="UniqueViolation") as caught:
        await store.append(one, [taken("bob"), taken("ann")])
    assert "ann" not in str(caught.value)  # stored values stay out of messages
    assert (await store.head(one), await database.run(count)) == (1, 1)


async def test_the_twin_in_memory_knows_no_sql() -> None:
    store = MemoryEventStore(inline=[InATable()])
    with pytest.raises(InlineProjectionFailed, match="no SQL"):
        await store.append(StreamId("user-a"), [taken("ann")])
    assert store.event_count() == 0


def test_who_applies_which_projection_is_checked_at_start() -> None:
    # PROJ-1, PROJ-9
    class Beside(Names):
        name = "beside"
        inline = False

    class Again(Names):
        pass

    kept = kept_in_memory()
    with pytest.raises(TypeError, match="not inline"):
        InlineProjections([Beside()])
    with pytest.raises(TypeError, match="is the name of"):
        InlineProjections([NAMES, Again()])
    with pytest.raises(TypeError, match="is inline"):
        ProjectionRunner(NAMES, kept.events, kept.projections)
