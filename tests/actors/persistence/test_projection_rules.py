"""What a projection must say of itself, and which generation its runner fills."""

from dataclasses import replace
from typing import cast

import pytest
import trio
from trio.testing import MockClock

from actors.persistence import (
    START,
    Checkpoint,
    CursorOutdated,
    GenerationState,
    Projection,
    ProjectionBatch,
    ProjectionRunner,
    ProjectionStore,
    ProjectionTx,
    StoredEvent,
    StreamId,
    check_projections,
    wait_until,
)
from actors.persistence.projections.runner import EMPTY_COMMIT_S, POISON_RETRIES_S
from actors.persistence.projections.store import next_generation
from actors.runtime import StartError, open_actors
from storage.memory import MemoryEventStore, MemoryProjections
from storage.testing.kept import kept_in_memory
from storage.testing.projections.poison import Faulty
from storage.testing.samples import new_event
from tests.actors.persistence.accounts import TYPES, Deposited

_LIVE, _BUILDING, _RETIRED = (
    GenerationState.LIVE,
    GenerationState.BUILDING,
    GenerationState.RETIRED,
)


class Deposits(Projection):
    name = "deposits"
    handles = (Deposited,)
    types = TYPES


def test_a_projection_without_events_or_name_is_refused() -> None:
    # PROJ-1
    with pytest.raises(TypeError, match="handles no event"):
        type("Nothing", (Projection,), {"name": "nothing"})
    with pytest.raises(TypeError, match="no name"):
        type("Nameless", (Projection,), {"handles": (Deposited,)})


def test_two_projections_of_one_name_are_refused() -> None:
    # PROJ-1
    class Again(Projection):
        name = "deposits"
        handles = (Deposited,)

    check_projections([Deposits(), Deposits()])
    with pytest.raises(TypeError, match=r"Deposits and of .*Again"):
        check_projections([Deposits(), Again()])


def _at(generation: int, version: int, state: GenerationState) -> Checkpoint:
    return Checkpoint("deposits", generation, version, START, "l", state)


def test_a_rebuild_prefers_what_is_being_built() -> None:
    # PROJ-8
    both = [_at(1, 1, _LIVE), _at(2, 1, _BUILDING)]
    assert next_generation(both, 1) == (1, _LIVE)
    assert next_generation(both, 1, rebuild=True) == (2, _BUILDING)
    assert next_generation(both[:1], 1, rebuild=True) == (1, _LIVE)


@pytest.mark.parametrize(
    ("known", "version", "wanted"),
    [
        ([], 1, (1, _LIVE)),
        ([_at(1, 1, _LIVE)], 1, (1, _LIVE)),
        ([_at(1, 1, _LIVE)], 2, (2, _BUILDING)),
        ([_at(1, 1, _LIVE), _at(2, 2, _BUILDING)], 2, (2, _BUILDING)),
        ([_at(1, 1, _RETIRED), _at(2, 2, _LIVE)], 2, (2, _LIVE)),
        ([_at(1, 1, _RETIRED), _at(2, 2, _LIVE)], 1, (3, _BUILDING)),
    ],
)
def test_the_generation_to_fill(
    known: list[Checkpoint], version: int, wanted: tuple[int, GenerationState]
) -> None:
    # PROJ-8
    assert next_generation(known, version) == wanted


async def test_a_checkpoint_of_another_lineage_is_refused() -> None:
    # STORE-24
    kept = kept_in_memory()
    await kept.projections.open("deposits", 1, 1, _LIVE)
    kept.events.database.lineage = "renumbered"  # type: ignore[attr-defined]

    def make() -> ProjectionRunner:
        return ProjectionRunner(Deposits(), kept.events, kept.projections)

    async with open_actors() as system:
        with pytest.raises(StartError) as caught:
            await system.start(make)
    assert isinstance(caught.value.cause, CursorOutdated)


async def test_a_runner_goes_on_from_the_translated_checkpoint_of_a_new_order(
    autojump_clock: MockClock,
) -> None:
    # STORE-24, STORE-26: its store came back with another lineage while it ran
    kept = kept_in_memory()
    store, account = kept.projections, StreamId("account-1")
    assert isinstance(kept.events, MemoryEventStore)
    assert isinstance(store, MemoryProjections)
    async with open_actors() as system:
        await system.start(ProjectionRunner, Deposits(), kept.events, store)
        first = await kept.events.append(account, [new_event(type="Other")])
        await wait_until(store, "deposits", first.cursor, timeout_s=3600.0)
        kept.events.database.lineage = "renumbered"
        (key, checkpoint), *_ = store._checkpoints.items()
        store._checkpoints[key] = replace(checkpoint, lineage="renumbered", cursor=START)
        last = await kept.events.append(account, [new_event(type="Other")])
        await wait_until(store, "deposits", last.cursor, timeout_s=3600.0)
    (reached,) = await store.checkpoints("deposits")
    assert (reached.lineage, reached.cursor) == ("renumbered", last.cursor)


class Broken(Deposits):
    async def apply(self, event: StoredEvent, tx: ProjectionTx) -> None:
        raise ValueError("nothing can be applied")


async def test_many_poisoned_streams_wait_together(autojump_clock: MockClock) -> None:
    # PROJ-7: the rest flows on, and not after 0.7 s for each of them
    kept = kept_in_memory()
    for number in range(100):
        deposited = new_event(b'{"amount": 1}', type="Deposited")
        await kept.events.append(StreamId(f"account-{number}"), [deposited])
    (event,) = [one async for one in kept.events.load(StreamId("account-99"))]
    began = trio.current_time()
    async with open_actors() as system:
        await system.start(ProjectionRunner, Broken(), kept.events, kept.projections)
        await wait_until(kept.projections, "deposits", event.cursor, timeout_s=3600.0)
        took = trio.current_time() - began
        assert len(await kept.projections.parked_streams("deposits__g1")) == 100
    assert took < 2 * sum(POISON_RETRIES_S)


async def test_foreign_events_cost_a_commit_a_second(autojump_clock: MockClock) -> None:
    # PROJ-4: and yet who waits for one of them waits no longer
    kept = kept_in_memory()
    commits: list[ProjectionBatch] = []

    def count(batch: ProjectionBatch) -> bool:
        commits.append(batch)
        return False

    store = cast("ProjectionStore", Faulty(kept.projections, before=count))
    async with open_actors() as system:
        await system.start(ProjectionRunner, Deposits(), kept.events, store)
        began = trio.current_time()
        for _ in range(300):
            last = await kept.events.append(StreamId("other-1"), [new_event(type="Other")])
            await trio.sleep(0.02)
        took = trio.current_time() - began
        assert 3 <= len(commits) <= took / EMPTY_COMMIT_S + 2
        began = trio.current_time()
        last = await kept.events.append(StreamId("other-1"), [new_event(type="Other")])
        await wait_until(store, "deposits", last.cursor, timeout_s=3600.0)
        assert trio.current_time() - began < 0.1
        # Nobody waits, and nothing comes after it: it is saved all the same.
        last = await kept.events.append(StreamId("other-1"), [new_event(type="Other")])
        await trio.sleep(2 * EMPTY_COMMIT_S)
        assert (await kept.projections.checkpoints("deposits"))[0].cursor == last.cursor
