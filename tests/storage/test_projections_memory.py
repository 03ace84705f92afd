"""Read models in memory pass the suite of their port."""

import pytest
import trio
from trio.testing import MockClock

from actors.persistence import (
    AskStatus,
    GenerationState,
    ProjectionRunner,
    ReplayParked,
    Resume,
    StoreError,
    StoreTimeout,
    StoreUnavailable,
    StreamId,
    wait_until,
)
from actors.runtime import Crashed, open_actors
from storage.errors import StatementRefused
from storage.memory import MemoryDatabase, MemoryEventStore, MemoryProjections
from storage.testing import ProjectionCrashSuite, ProjectionSuite
from storage.testing.kept import Kept, kept_in_memory
from storage.testing.projections.filling import Halting, Totals, paid


class TestMemoryProjections(ProjectionSuite, ProjectionCrashSuite):
    # PROJ-10
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
            assert status.checkpoint is not None
            assert (status.applied, status.checkpoint.generation) == (2, 1)
            port.fail_next(error, times=0)
        status = await runner.ask(AskStatus())
        assert (status.store_error, status.parked_streams, status.progress) == (None, 0, 1.0)


async def test_a_wish_to_go_on_is_kept_until_the_store_is_back(autojump_clock: MockClock) -> None:
    # PROJ-7: told to one that was restarted halted, while the store is away
    kept = kept_in_memory()
    assert isinstance(kept.projections, MemoryProjections)
    projection = Halting()
    await kept.events.append(StreamId("till-a"), paid(1, -5, 2))
    async with open_actors() as system:
        runner = await system.start(ProjectionRunner, projection, kept.events, kept.projections)
        await trio.sleep(10)
        assert (await kept.projections.checkpoints("totals"))[0].is_halted
        await runner.stop()
        kept.projections.fail_next(StoreUnavailable("planted"), times=10**6)
        runner = await system.start(ProjectionRunner, projection, kept.events, kept.projections)
        projection.is_strict = False
        runner.tell(Resume())
        assert await runner.ask(ReplayParked("till-a")) == 0
        kept.projections.fail_next(StoreUnavailable("planted"), times=0)
        await trio.sleep(10)
        assert await kept.projections.query("totals__g1") == [("till-a", {"sum": -2})]


async def test_a_store_that_says_nothing_holds_no_start_up(autojump_clock: MockClock) -> None:
    # PROJ-5: before the supervisor loses its patience
    kept = kept_in_memory()
    assert isinstance(kept.projections, MemoryProjections)
    last = await kept.events.append(StreamId("till-a"), paid(1, 2))
    kept.projections.slow(3600.0)
    async with open_actors() as system:
        began = trio.current_time()
        runner = await system.start(ProjectionRunner, Totals(), kept.events, kept.projections)
        assert trio.current_time() - began < ProjectionRunner.start_timeout
        status = await runner.ask(AskStatus())
        assert (status.checkpoint, status.store_error) == (None, StoreTimeout.code)
        kept.projections.slow(0.0)
        await wait_until(kept.projections, "totals", last.cursor, timeout_s=7200.0)
        assert (await runner.ask(AskStatus())).store_error is None


async def test_what_waiting_does_not_mend_ends_the_start_also_later(
    autojump_clock: MockClock,
) -> None:
    # STORE-24: the checkpoint is of another order, and nobody knew while the store was away
    kept = kept_in_memory()
    assert isinstance(kept.events, MemoryEventStore)
    await kept.projections.open("totals", 1, 1, GenerationState.LIVE)
    kept.events.database.lineage = "renumbered"
    kept.events.fail_next(StoreUnavailable("planted"), times=3)
    async with open_actors() as system:
        runner = await system.start(ProjectionRunner, Totals(), kept.events, kept.projections)
        exit_ = await system.wait_down(runner)
    assert isinstance(exit_, Crashed)
