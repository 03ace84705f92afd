"""Read models in PostgreSQL pass the suite of their port."""

import pytest
import trio

from actors.persistence import Cursor, ProjectionRunner, wait_until
from actors.runtime import open_actors
from storage.postgres import Database
from storage.testing import ProjectionSuite
from storage.testing.kept import Kept, kept_in_postgres
from storage.testing.projections.filling import A, Totals, paid
from storage.testing.samples import PATIENCE_S


class TestPostgresProjections(ProjectionSuite):
    @pytest.fixture
    def kept(self, database: Database) -> Kept:
        return kept_in_postgres(database)


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
