"""Read models in memory pass the suite of their port."""

import pytest
from trio.testing import MockClock

from actors.persistence import AskStatus, ProjectionRunner, StoreError, StoreUnavailable, StreamId
from actors.runtime import open_actors
from storage.errors import StatementRefused
from storage.memory import MemoryDatabase, MemoryEventStore, MemoryProjections
from storage.testing import ProjectionSuite
from storage.testing.kept import Kept, kept_in_memory
from storage.testing.projections.filling import Totals, paid


class TestMemoryProjections(ProjectionSuite):
    @pytest.fixture
    def kept(self) -> Kept:
        return kept_in_memory()


@pytest.mark.parametrize(
    "error", [StoreUnavailable("planted"), StatementRefused("Planted", None, None, None)]
)
async def test_a_runner_can_be_asked_while_the_store_is_away(
    autojump_clock: MockClock, error: StoreError
) -> None:
    # PROJ-5: and goes on when it is back; the same incarnation, so nothing has crashed
    database = MemoryDatabase()
    events, store = MemoryEventStore(database), MemoryProjections(database)
    await events.append(StreamId("till-a"), paid(1, 2))
    async with open_actors() as system:
        runner = await system.start(lambda: ProjectionRunner(Totals(), events, store))
        while (status := await runner.ask(AskStatus())).applied < 2:
            pass
        for port in (events, store):
            port.fail_next(error, times=10**6)
            status = await runner.ask(AskStatus())
            assert status.store_error == error.code
            assert (status.lag, status.parked_streams, status.progress) == (None, None, None)
            assert (status.applied, status.checkpoint.generation) == (2, 1)
            port.fail_next(error, times=0)
        status = await runner.ask(AskStatus())
        assert (status.store_error, status.parked_streams, status.progress) == (None, 0, 1.0)
