"""What a projection cannot apply, on both engines, and what only PostgreSQL refuses."""

from typing import ClassVar

import pytest
import trio

from actors.persistence import START, AskStatus, ProjectionStore, ProjectionTx, StoredEvent
from actors.persistence.projections import filling
from actors.runtime import open_actors
from storage.memory import MemoryEventStore, MemoryProjections
from storage.postgres import (
    Connection,
    Database,
    PostgresProjections,
    migrate,
    migrate_down,
    renumber,
)
from storage.postgres.schema.migrate import read_migrations
from storage.testing import ProjectionHaltSuite, ProjectionPoisonSuite
from storage.testing.kept import Kept, kept_in_memory, kept_in_postgres
from storage.testing.projections.filling import paid
from storage.testing.projections.poison import A, B, Seen, reach, replay, seen, start, versions
from storage.testing.samples import PATIENCE_S
from tests.logged import captured
from tests.tallied import numbers, times


@pytest.fixture(autouse=True)
def retries_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many retries as ever, and none of their pauses: a database knows no virtual time."""
    monkeypatch.setattr(filling, "POISON_RETRIES_S", (0.0,) * len(filling.POISON_RETRIES_S))


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
        # OBS-1
        [applied] = numbers(system, "projection_applied_total").values()
        assert applied == 2
        assert all(times(system, "projection_apply_seconds").values())
        assert await replay(runner, A) == 0
        projection.is_strict = False
        assert await replay(runner, A) == 2
        await reach(kept, 8)
    assert await seen(kept) == {A: [1, -2, 3], B: [7, 8]}


@pytest.mark.slow
async def test_parked_events_are_known_after_a_renumbering(database: Database) -> None:
    # PROJ-7, STORE-24: whatever became of their cursors
    kept, projection = kept_in_postgres(database), Seen()
    await kept.events.append(A, paid(1, -2, 3))
    async with open_actors() as system:
        runner = await start(system, kept, projection)
        await reach(kept, 7)
        await runner.stop()
        await renumber(database)
        runner = await start(system, kept, projection)
        await kept.events.append(A, paid(4))
        await reach(kept, 8)
        assert await versions(kept) == [2, 3, 4]
        projection.is_strict = False
        assert await replay(runner, A) == 3
    assert await seen(kept) == {A: [1, -2, 3, 4], B: [7, 8]}


@pytest.mark.slow
async def test_letters_of_before_keep_their_places(database: Database) -> None:
    # PROJ-7, STORE-32: parked with their cursors as keys, and their places among the metadata
    kept, projection = kept_in_postgres(database), Seen()
    await kept.events.append(A, paid(1, -2, 3))
    before = next(step.version for step in read_migrations() if step.name == "parked_events") - 1
    async with open_actors() as system:
        runner = await start(system, kept, projection)
        await reach(kept, 7)
        await runner.stop()

    async def make_old(connection: Connection) -> None:
        await connection.execute(
            "UPDATE dead_letters SET message_id = 'cursor ' || id, metadata ="
            " jsonb_build_object('stream_version', stream_version::text)"
        )

    await database.run(make_old)
    await migrate_down(database, before)
    await migrate(database)
    assert await versions(kept) == [2, 3]
    letters = await kept.dead_letters.list(kind="projection")
    assert all(one.letter.message_id == str(one.letter.event_id) for one in letters)
    async with open_actors() as system:
        projection.is_strict = False
        runner = await start(system, kept, projection)
        assert await replay(runner, A) == 2
    assert await seen(kept) == {A: [1, -2, 3], B: [7]}


async def _wait_with_a_full_table(kept: Kept, store: ProjectionStore) -> None:
    """A batch that has no room for its letters is not committed at all."""
    kept.projections = store
    await kept.events.append(A, paid(1, -2, 3))
    with captured() as lines:
        async with open_actors() as system:
            await start(system, kept, Seen())
            with trio.fail_after(PATIENCE_S):
                while not any(line.get("code") == "dead_letters_full" for line in lines):
                    await store.changed(0.05)
    assert (await seen(kept), await versions(kept)) == ({}, [])
    assert (await store.checkpoints("seen"))[0].cursor == START


@pytest.mark.slow
async def test_a_full_table_of_letters_loses_none_in_memory() -> None:
    # PROJ-7, STORE-62
    kept = kept_in_memory()
    assert isinstance(kept.events, MemoryEventStore)
    await _wait_with_a_full_table(kept, MemoryProjections(kept.events.database, letters_max=1))


@pytest.mark.slow
async def test_a_full_table_of_letters_loses_none_in_postgres(database: Database) -> None:
    # PROJ-7, STORE-62
    kept = kept_in_postgres(database)
    await _wait_with_a_full_table(kept, PostgresProjections(database, letters_max=1))
