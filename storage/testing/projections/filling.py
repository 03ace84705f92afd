"""What every `ProjectionStore` must do, and what runs on it, as tests. Fixture `kept`, empty."""

from dataclasses import dataclass, replace
from typing import cast

import pytest
import trio

from actors.persistence import (
    START,
    AskStatus,
    Cursor,
    Document,
    EventStore,
    EventTypes,
    GenerationState,
    Lag,
    NewEvent,
    Projection,
    ProjectionBatch,
    ProjectionHalted,
    ProjectionRunner,
    ProjectionStatus,
    ProjectionStore,
    ProjectionTimeout,
    ProjectionTx,
    ReplayParked,
    Resume,
    StoredEvent,
    StoreUnavailable,
    StreamId,
    begin_rebuild,
    live_collection,
    wait_until,
)
from actors.runtime import Ref, System, open_actors
from storage.testing.kept import Kept
from storage.testing.samples import PATIENCE_S, new_event

TYPES = EventTypes()
A, B = StreamId("till-a"), StreamId("till-b")
_LIVE = GenerationState.LIVE
RunnerRef = Ref[AskStatus | Resume | ReplayParked]


@TYPES.event()
@dataclass(frozen=True)
class Paid:
    amount: int


class Totals(Projection):
    """The sum paid at each till; breaks on a negative amount while `is_strict`."""

    name = "totals"
    handles = (Paid,)
    types = TYPES
    is_strict = True

    async def apply(self, event: StoredEvent, tx: ProjectionTx) -> None:
        paid = self.types.decode(event)
        assert isinstance(paid, Paid)
        kept = await tx.get(event.stream_key) or {}
        tx.put(event.stream_key, {"sum": _number(kept.get("sum")) + paid.amount})
        if paid.amount < 0 and self.is_strict:
            raise ValueError(f"{paid.amount} is less than nothing")


class Halting(Totals):
    on_poison = "halt"


class Skipping(Totals):
    on_poison = "skip"


class Totals2(Totals):
    version = 2


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def paid(*amounts: int) -> list[NewEvent]:
    """Call this for events of the projection."""
    return [new_event(b'{"amount": %d}' % amount, type="Paid") for amount in amounts]


@dataclass
class Away:
    """A port that was away when an answer was due: each call of `lost` is done, and raises."""

    port: object
    lost: list[str]
    is_away: bool = True

    def __getattr__(self, name: str) -> object:
        method: object = getattr(self.port, name)
        if name not in {"checkpoints", "open", "leave", "lineage"}:
            return method
        assert callable(method)

        async def call(*given: object, **named: object) -> object:
            if self.is_away:
                raise StoreUnavailable("planted")
            answer: object = await method(*given, **named)
            if name in self.lost:
                self.lost.remove(name)
                raise StoreUnavailable("planted")
            return answer

        return call


async def _start(
    system: System, kept: Kept, projection: Projection, *, rebuild: bool = False
) -> RunnerRef:
    def make() -> ProjectionRunner:
        return ProjectionRunner(
            projection,
            kept.events,
            kept.projections,
            rebuild=rebuild,
        )

    return await system.start(make)


async def _status(runner: RunnerRef) -> ProjectionStatus:
    return await runner.ask(AskStatus(), timeout=PATIENCE_S)


async def _sums(kept: Kept, collection: str = "totals__g1") -> dict[str, int]:
    found = await kept.projections.query(collection)
    return {key: _number(document["sum"]) for key, document in found}


class ProjectionSuite:
    """The conformance suite of `ProjectionStore` and of the runner on it."""

    async def test_documents_are_written_with_their_checkpoint(self, kept: Kept) -> None:
        # PROJ-2, PROJ-10
        store = kept.projections
        begun = await store.open("totals", 1, 1, _LIVE)
        assert (begun.cursor, begun.state, begun.lineage) == (
            START,
            _LIVE,
            await kept.events.lineage(),
        )
        writes: dict[str, Document | None] = {
            "b": {"n": 2},
            "a": {"n": 1, "deep": {"x": [1, "y", None]}},
            "c": None,
        }
        assert await store.commit(ProjectionBatch(begun, Cursor(5, 1), writes))
        name = begun.collection
        assert await store.get(name, "a") == {"n": 1, "deep": {"x": [1, "y", None]}}
        assert await store.get(name, "zz") is None
        assert set(await store.get_many(name, ["a", "b", "c"])) == {"a", "b"}
        assert await store.exists(name, "b")
        assert [key for key, _ in await store.query(name)] == ["a", "b"]
        assert [key for key, _ in await store.query(name, after="a")] == ["b"]
        assert [key for key, _ in await store.query(name, prefix="b")] == ["b"]
        assert [key for key, _ in await store.query(name, limit=1)] == ["a"]
        after = (await store.checkpoints("totals"))[0]
        assert after.cursor == Cursor(5, 1)
        assert await store.commit(ProjectionBatch(after, Cursor(6, 1), {"a": None}))
        assert not await store.exists(name, "a")

    async def test_a_batch_from_elsewhere_writes_nothing(self, kept: Kept) -> None:
        # PROJ-3: a duplicate or an older cursor changes nothing
        store = kept.projections
        begun = await store.open("totals", 1, 1, _LIVE)
        batch = ProjectionBatch(begun, Cursor(5, 1), {"a": {"n": 1}})
        assert await store.commit(batch)
        assert not await store.commit(batch)
        assert not await store.commit(replace(batch, documents={"a": {"n": 9}}))
        assert await store.get(begun.collection, "a") == {"n": 1}
        again = await store.open("totals", 1, 1, _LIVE)
        assert again.cursor == Cursor(5, 1)

    async def test_of_two_runners_one_writes(self, kept: Kept) -> None:
        # PROJ-2
        begun = await kept.projections.open("totals", 1, 1, _LIVE)
        results: list[bool] = []

        async def commit(number: int) -> None:
            batch = ProjectionBatch(begun, Cursor(5, 1), {"a": {"n": number}})
            results.append(await kept.projections.commit(batch))

        async with trio.open_nursery() as nursery:
            for number in range(6):
                nursery.start_soon(commit, number)
        assert sorted(results) == [False] * 5 + [True]

    async def test_events_become_documents_and_can_be_waited_for(self, kept: Kept) -> None:
        # PROJ-4, PROJ-6
        await kept.events.append(A, paid(*range(1, 251)))
        async with open_actors() as system:
            runner = await _start(system, kept, Totals())
            last = await kept.events.append(B, paid(7, 8))
            await wait_until(kept.projections, "totals", last.cursor, timeout_s=PATIENCE_S)
            assert await _sums(kept) == {A: 31375, B: 15}
            other = await kept.events.append(StreamId("till-c"), [new_event(type="Other")])
            await wait_until(kept.projections, "totals", other.cursor, timeout_s=PATIENCE_S)
            # Who waits may learn of a commit before the runner that made it.
            with trio.fail_after(PATIENCE_S):
                while (status := await _status(runner)).lag != Lag(0, 0.0):
                    await kept.projections.changed(0.01)
            assert (status.applied, status.progress, status.store_error) == (252, 1.0, None)
            assert await live_collection(kept.projections, "totals") == "totals__g1"

    async def test_a_new_runner_goes_on_behind_the_checkpoint(self, kept: Kept) -> None:
        # PROJ-2
        async with open_actors() as system:
            for round_ in range(3):
                runner = await _start(system, kept, Totals())
                last = await kept.events.append(A, paid(10))
                await wait_until(kept.projections, "totals", last.cursor, timeout_s=PATIENCE_S)
                assert await _sums(kept) == {A: 10 * (round_ + 1)}
                await runner.stop()

    async def test_waiting_in_vain_says_how_far_it_is(self, kept: Kept) -> None:
        # PROJ-6
        await kept.projections.open("totals", 1, 1, _LIVE)
        with pytest.raises(ProjectionTimeout) as caught:
            await wait_until(kept.projections, "totals", Cursor(9, 9), timeout_s=0.02)
        assert (caught.value.wanted, caught.value.reached) == (Cursor(9, 9), START)
        with pytest.raises(ProjectionTimeout):
            await wait_until(kept.projections, "unknown", Cursor(9, 9), timeout_s=0.02)

    @pytest.mark.slow
    async def test_a_poisoned_stream_is_parked_and_the_rest_flows(self, kept: Kept) -> None:
        # PROJ-7: replayed in order once it is mended
        totals = Totals()
        await kept.events.append(A, paid(1, -5, 2))
        last = await kept.events.append(B, paid(3))
        async with open_actors() as system:
            runner = await _start(system, kept, totals)
            await wait_until(kept.projections, "totals", last.cursor, timeout_s=PATIENCE_S)
            assert await _sums(kept) == {A: 1, B: 3}
            letters = await kept.dead_letters.list(kind="projection")
            assert [one.letter.payload for one in letters] == [
                b'{"amount": -5}',
                b'{"amount": 2}',
            ]
            assert (await _status(runner)).parked_streams == 1
            await runner.stop()
            again = await _start(system, kept, totals)
            last = await kept.events.append(A, paid(4))
            await wait_until(kept.projections, "totals", last.cursor, timeout_s=PATIENCE_S)
            assert await _sums(kept) == {A: 1, B: 3}
            assert await again.ask(ReplayParked(A), timeout=PATIENCE_S) == 0
            totals.is_strict = False
            assert await again.ask(ReplayParked(A), timeout=PATIENCE_S) == 3
            last = await kept.events.append(A, paid(5))
            await wait_until(kept.projections, "totals", last.cursor, timeout_s=PATIENCE_S)
            assert await _sums(kept) == {A: 7, B: 3}

    @pytest.mark.slow
    async def test_a_halting_projection_stops_tells_and_resumes(self, kept: Kept) -> None:
        # PROJ-7
        halting = Halting()
        await kept.events.append(A, paid(1))
        last = await kept.events.append(A, paid(-5))
        async with open_actors() as system:
            runner = await _start(system, kept, halting)
            with pytest.raises(ProjectionHalted, match="less than nothing"):
                await wait_until(kept.projections, "totals", last.cursor, timeout_s=PATIENCE_S)
            assert await _sums(kept) == {A: 1}
            halting.is_strict = False
            with trio.fail_after(PATIENCE_S):
                while await _sums(kept) != {A: -4}:
                    # Again and again: a runner that is still halting has nothing to resume.
                    runner.tell(Resume())
                    await kept.projections.changed(0.05)

    @pytest.mark.slow
    async def test_a_skipping_projection_leaves_it_out(self, kept: Kept) -> None:
        # PROJ-7
        last = await kept.events.append(A, paid(1, -5, 2))
        async with open_actors() as system:
            await _start(system, kept, Skipping())
            await wait_until(kept.projections, "totals", last.cursor, timeout_s=PATIENCE_S)
        assert await _sums(kept) == {A: 3}
        assert len(await kept.dead_letters.list(kind="projection")) == 1

    async def test_a_new_version_is_built_beside_then_swapped(self, kept: Kept) -> None:
        # PROJ-8
        async with open_actors() as system:
            first = await _start(system, kept, Totals())
            last = await kept.events.append(A, paid(*[1] * 150))
            await wait_until(kept.projections, "totals", last.cursor, timeout_s=PATIENCE_S)
            await first.stop()
            await _start(system, kept, Totals2())
            with trio.fail_after(PATIENCE_S):
                while await live_collection(kept.projections, "totals") != "totals__g2":
                    await kept.projections.changed(0.05)
            await wait_until(kept.projections, "totals", last.cursor, timeout_s=PATIENCE_S)
        assert await _sums(kept, "totals__g2") == await _sums(kept) == {A: 150}
        states = [
            (one.generation, one.state) for one in await kept.projections.checkpoints("totals")
        ]
        assert states == [(1, GenerationState.RETIRED), (2, _LIVE)]
        assert await kept.projections.purge() == 0
        await kept.pass_time(25 * 3600)
        # Its document and its checkpoint.
        assert await kept.projections.purge() == 2
        assert await _sums(kept) == {}
        assert await _sums(kept, "totals__g2") == {A: 150}

    @pytest.mark.slow
    async def test_a_runner_that_starts_while_the_store_is_away_waits_for_it(
        self, kept: Kept
    ) -> None:
        # PROJ-5, PROJ-8: whatever step is cut short; it begins once, and has not crashed
        last = await kept.events.append(A, paid(1, 2))
        async with open_actors() as system:
            first = await _start(system, kept, Totals())
            await wait_until(kept.projections, "totals", last.cursor, timeout_s=PATIENCE_S)
            await first.stop()
            events = Away(kept.events, ["lineage"])
            store = Away(kept.projections, ["checkpoints", "open", "leave"])
            runner = await system.start(
                ProjectionRunner,
                Totals2(),
                cast("EventStore", events),
                cast("ProjectionStore", store),
            )
            status = await _status(runner)
            assert (status.checkpoint, status.applied) == (None, 0)
            assert status.store_error == StoreUnavailable.code
            assert await runner.ask(ReplayParked(A), timeout=PATIENCE_S) == 0
            events.is_away = store.is_away = False
            with trio.fail_after(PATIENCE_S):
                while await live_collection(kept.projections, "totals") != "totals__g2":
                    await kept.projections.changed(0.05)
            assert (store.lost, events.lost) == ([], [])
            status = await _status(runner)
            assert status.checkpoint is not None
            assert (status.checkpoint.generation, status.store_error) == (2, None)
        assert await _sums(kept, "totals__g2") == {A: 3}
        assert len(await kept.projections.checkpoints("totals")) == 2

    async def test_a_rebuild_leaves_the_old_one_serving_and_can_be_undone(self, kept: Kept) -> None:
        # PROJ-8
        async with open_actors() as system:
            await _start(system, kept, Totals())
            last = await kept.events.append(A, paid(1, 2))
            await wait_until(kept.projections, "totals", last.cursor, timeout_s=PATIENCE_S)
            assert await begin_rebuild(kept.projections, Totals()) == 2
            builder = await _start(system, kept, Totals(), rebuild=True)
            with trio.fail_after(PATIENCE_S):
                while await live_collection(kept.projections, "totals") != "totals__g2":
                    await kept.projections.changed(0.05)
            last = await kept.events.append(A, paid(3))
            await wait_until(kept.projections, "totals", last.cursor, timeout_s=PATIENCE_S)
            # Whoever ran before goes on with what serves.
            await builder.stop()
            last = await kept.events.append(A, paid(4))
            await wait_until(kept.projections, "totals", last.cursor, timeout_s=PATIENCE_S)
            assert await _sums(kept, "totals__g2") == {A: 10}
            await kept.projections.swap("totals", 1)
            assert await live_collection(kept.projections, "totals") == "totals__g1"
            await wait_until(kept.projections, "totals", last.cursor, timeout_s=PATIENCE_S)
            assert await _sums(kept) == {A: 10}
