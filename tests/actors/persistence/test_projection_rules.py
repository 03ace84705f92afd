"""What a projection must say of itself, and which generation its runner fills."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast
from uuid import uuid4

import pytest
import trio
from trio.testing import MockClock

from actors.persistence import (
    START,
    Checkpoint,
    CursorOutdated,
    Document,
    GenerationState,
    InvalidField,
    Projection,
    ProjectionBatch,
    ProjectionRunner,
    ProjectionStore,
    ProjectionTx,
    ReplayParked,
    StoredEvent,
    StoreUnavailable,
    StreamId,
    check_projections,
    wait_until,
)
from actors.persistence.projections.filling import EMPTY_COMMIT_S, POISON_RETRIES_S
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
    with pytest.raises(TypeError, match="inline and strict"):
        type("Both", (Deposits,), {"inline": True, "strict": True})


@pytest.mark.parametrize("name", ["\x00", "\ud800", "x" * 322])
def test_a_replay_of_what_no_stream_is_called_is_refused(name: str) -> None:
    # STORE-61
    with pytest.raises(InvalidField, match="stream_id"):
        ReplayParked(name)


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
        # It is away, too, when the runner looks for the translated one.
        store.fail_next(StoreUnavailable("planted"), times=10)
        (key, checkpoint), *_ = store._checkpoints.items()
        store._checkpoints[key] = replace(checkpoint, lineage="renumbered", cursor=START)
        last = await kept.events.append(account, [new_event(type="Other")])
        await trio.sleep(60)
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


class Asked:
    """Passes everything on, and counts what is asked of documents."""

    def __init__(self, store: ProjectionStore) -> None:
        self._store = store
        self.singly: list[str] = []
        self.together: list[list[str]] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    async def get(self, collection: str, key: str) -> Document | None:
        self.singly.append(key)
        return await self._store.get(collection, key)

    async def get_many(self, collection: str, keys: Sequence[str]) -> Mapping[str, Document]:
        self.together.append(list(keys))
        return await self._store.get_many(collection, keys)


class Sums(Deposits):
    """What was deposited in each account; looks at a document twice, and spoils what it read."""

    async def apply(self, event: StoredEvent, tx: ProjectionTx) -> None:
        spoiled = await tx.get(event.stream_id)
        if spoiled is not None:
            cast("dict[str, object]", spoiled)["sum"] = "spoiled"
        kept = await tx.get(event.stream_id) or {"sum": 0}
        tx.put(event.stream_id, {"sum": cast("int", kept["sum"]) + 1})


class InOne(Deposits):
    """Counts all deposits in one document, which is of no stream."""

    async def apply(self, event: StoredEvent, tx: ProjectionTx) -> None:
        kept = await tx.get("all") or {"sum": 0}
        tx.put("all", {"sum": cast("int", kept["sum"]) + 1})


async def _filled(projection: Projection, rounds: int, accounts: int) -> Asked:
    kept = kept_in_memory()
    asked = Asked(kept.projections)
    names = [StreamId(f"account-{number}") for number in range(accounts)]
    for name in names * rounds:
        deposit = TYPES.encode(Deposited(1), event_id=uuid4())
        await kept.events.append(name, [deposit])
    head = (await kept.events.read_all(limit=1)).head
    async with open_actors() as system:
        await system.start(
            ProjectionRunner, projection, kept.events, cast("ProjectionStore", asked)
        )
        await wait_until(kept.projections, "deposits", head, timeout_s=3600.0)
    found = await kept.projections.query("deposits__g1", limit=1000)
    assert [document["sum"] for _, document in found] in ([rounds] * accounts, [rounds * accounts])
    return asked


async def test_documents_of_streams_are_read_together(autojump_clock: MockClock) -> None:
    # PROJ-4, PROJ-8: a rebuild would ask for each of a hundred, a hundred times
    asked = await _filled(Sums(), rounds=5, accounts=50)
    # Batches of a hundred: the first finds out, the others read ahead, each document once.
    assert [len(keys) for keys in asked.together] == [50, 50]
    # The second look of an event whose first was read ahead, and the first batch's.
    assert len(asked.singly) == 50 + 50 + 50 + 50


async def test_documents_of_no_stream_are_not_read_ahead(autojump_clock: MockClock) -> None:
    # PROJ-4
    asked = await _filled(InOne(), rounds=5, accounts=50)
    assert asked.together == []
    assert asked.singly == ["all"] * 3


class Hinting(InOne):
    """The same, and says what it asks for; of some events it cannot."""

    def reads(self, event: StoredEvent) -> Sequence[str]:
        if event.version == 1:
            raise ValueError("nothing is known of the first")
        return ["all", event.stream_id, "no\x00key"]


async def test_documents_that_a_projection_names_are_read_together(
    autojump_clock: MockClock,
) -> None:
    # PROJ-4: from the first batch on; what it names in vain changes nothing
    asked = await _filled(Hinting(), rounds=4, accounts=50)
    assert [len(keys) for keys in asked.together] == [51, 51]
    assert asked.singly == []


async def test_a_hint_that_cannot_be_given_is_none(autojump_clock: MockClock) -> None:
    asked = await _filled(Hinting(), rounds=1, accounts=50)
    assert (asked.together, asked.singly) == ([], ["all"])
