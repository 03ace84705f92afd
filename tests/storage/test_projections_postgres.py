"""Read models in PostgreSQL pass the suite of their port."""

from datetime import datetime

import pytest
import trio

from actors.persistence import (
    Cursor,
    GenerationState,
    ProjectionRunner,
    ProjectionTx,
    StoredEvent,
    begin_rebuild,
    wait_until,
)
from actors.runtime import open_actors
from storage.postgres import Connection, Database
from storage.testing import ProjectionCrashSuite, ProjectionSuite
from storage.testing.kept import Kept, kept_in_postgres
from storage.testing.projections.filling import A, Totals, paid
from storage.testing.samples import PATIENCE_S


class TestPostgresProjections(ProjectionSuite, ProjectionCrashSuite):
    # PROJ-10
    @pytest.fixture
    def kept(self, database: Database) -> Kept:
        return kept_in_postgres(database)


async def test_a_document_says_of_which_event_it_is_and_when_it_was_written(
    database: Database,
) -> None:
    # PROJ-11
    kept = kept_in_postgres(database)
    written = []

    async def look(connection: Connection) -> tuple[Cursor, datetime]:
        row = await connection.fetchrow("SELECT txid, position, updated_at FROM documents")
        assert row is not None
        return Cursor(row["txid"], row["position"]), row["updated_at"]

    async with open_actors() as system:
        await system.start(lambda: ProjectionRunner(Totals(), kept.events, kept.projections))
        for amount in (1, 2):
            cursor = (await kept.events.append(A, paid(amount))).cursor
            await wait_until(kept.projections, "totals", cursor, timeout_s=PATIENCE_S)
            written.append((cursor, await database.run(look)))
    assert all(kept_at == cursor for cursor, (kept_at, _) in written)
    (_, (_, first)), (_, (_, second)) = written
    assert first < second


@pytest.mark.slow
async def test_a_runner_killed_at_any_point_applies_each_event_once(database: Database) -> None:
    # PROJ-2, PROJ-3: two at once and one killed again and again
    kept = kept_in_postgres(database)
    total, last = 0, Cursor(0, 0)

    def make() -> ProjectionRunner:
        return ProjectionRunner(Totals(), kept.events, kept.projections)

    async with open_actors() as system:
        await system.start(make)
        for round_ in range(25):
            other = await system.start(make)
            amounts = [round_ + number for number in range(1, 20)]
            total += sum(amounts)
            last = (await kept.events.append(A, paid(*amounts))).cursor
            for _ in range(round_ % 7):
                await trio.lowlevel.checkpoint()
            other.kill()
        await wait_until(kept.projections, "totals", last, timeout_s=PATIENCE_S)
    assert await kept.projections.get("totals__g1", A) == {"sum": total}


class Told(Totals):
    """Notes how its commit was made."""

    async def apply(self, event: StoredEvent, tx: ProjectionTx) -> None:
        tx.execute(
            "INSERT INTO documents (collection, key, document, txid, position)"
            " SELECT 'told', $1, jsonb_build_object(source, setting), '1', 1"
            " FROM pg_settings WHERE name = 'synchronous_commit'",
            str(event.event_id),
        )


@pytest.mark.parametrize("rebuild", [False, True])
async def test_only_what_is_being_built_does_not_wait_for_the_disk(
    database: Database, rebuild: bool
) -> None:
    # PROJ-8
    kept = kept_in_postgres(database)
    if rebuild:
        await kept.projections.open("totals", 1, 1, GenerationState.LIVE)
        assert await begin_rebuild(kept.projections, Told()) == 2
    await kept.events.append(A, paid(1))

    def make() -> ProjectionRunner:
        return ProjectionRunner(Told(), kept.events, kept.projections, rebuild=rebuild)

    async with open_actors() as system:
        await system.start(make)
        with trio.fail_after(PATIENCE_S):
            while not (found := await kept.projections.query("told")):
                await kept.projections.changed(0.05)
    ((_, document),) = found
    # The servers of tests have it off at their command line.
    assert (document == {"session": "off"}) is rebuild
