"""What a projection cannot apply, on both engines, and what only PostgreSQL refuses."""

from typing import ClassVar

import pytest

from actors.persistence import AskStatus, ProjectionTx, StoredEvent
from actors.runtime import open_actors
from storage.postgres import Connection, Database
from storage.testing import ProjectionHaltSuite, ProjectionPoisonSuite
from storage.testing.kept import Kept, kept_in_memory, kept_in_postgres
from storage.testing.projections.filling import paid
from storage.testing.projections.poison import A, B, Seen, reach, replay, seen, start, versions
from storage.testing.samples import PATIENCE_S


class TestMemoryPoison(ProjectionPoisonSuite, ProjectionHaltSuite):
    @pytest.fixture
    def kept(self) -> Kept:
        return kept_in_memory()


class TestPostgresPoison(ProjectionPoisonSuite, ProjectionHaltSuite):
    @pytest.fixture
    def kept(self, database: Database) -> Kept:
        return kept_in_postgres(database)


class InATable(Seen):
    """Whose own table refuses: at once, or when the transaction ends."""

    insert: ClassVar = "INSERT INTO refusing (amount) VALUES ($1)"

    def break_down(self, event: StoredEvent, tx: ProjectionTx) -> None:
        for _ in range(2):
            tx.execute(self.insert, 7)


@pytest.mark.slow
@pytest.mark.parametrize("when", ["", "DEFERRABLE INITIALLY DEFERRED"])
async def test_what_a_constraint_refuses_is_the_poison_of_one_event(
    database: Database, when: str
) -> None:
    # PROJ-7: also when PostgreSQL says so only at COMMIT
    async def make(connection: Connection) -> None:
        await connection.execute(f"CREATE TABLE refusing (amount int UNIQUE {when})")

    await database.run(make)
    kept, projection = kept_in_postgres(database), InATable()
    await kept.events.append(A, paid(1, -2, 3))
    async with open_actors() as system:
        runner = await start(system, kept, projection)
        await reach(kept, 7)
        assert await seen(kept) == {A: [1], B: [7]}
        assert await versions(kept) == [2, 3]
        status = await runner.ask(AskStatus(), timeout=PATIENCE_S)
        assert status.parked_streams == 1
        assert await replay(runner, A) == 0
        projection.is_strict = False
        assert await replay(runner, A) == 2
        await reach(kept, 8)
    assert await seen(kept) == {A: [1, -2, 3], B: [7, 8]}
