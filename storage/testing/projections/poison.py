"""What a projection does with events it cannot apply, as tests. Fixture `kept`, empty."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, cast

import pytest
import trio

from actors.persistence import (
    AskStatus,
    DeadLetterStatus,
    Document,
    EventTypes,
    GenerationState,
    Projection,
    ProjectionBatch,
    ProjectionHalted,
    ProjectionRunner,
    ProjectionStore,
    ProjectionTx,
    Rebuilding,
    ReplayParked,
    Resume,
    StoredEvent,
    StoreUnavailable,
    StreamId,
    WritesRefused,
    live_collection,
    wait_until,
)
from actors.runtime import Ref, System, open_actors
from storage.testing.kept import Kept
from storage.testing.projections.filling import TYPES, Paid, paid
from storage.testing.samples import PATIENCE_S, new_event

A, B = StreamId("till-a"), StreamId("till-b")
SEEN = "seen__g1"
Stage: TypeAlias = Literal["decode", "apply", "put", "no json", "key", "statement"]
STAGES: tuple[Stage, ...] = ("decode", "apply", "put", "no json", "key", "statement")
RunnerRef: TypeAlias = Ref[AskStatus | Resume | ReplayParked]


class Seen(Projection):
    """Which amounts were seen at each till; breaks on those below zero, where it is told to."""

    name = "seen"
    handles = (Paid,)
    types = TYPES

    def __init__(self, stage: Stage = "apply") -> None:
        self.stage, self.is_strict = stage, True

    async def apply(self, event: StoredEvent, tx: ProjectionTx) -> None:
        if b"-" in event.data and self.stage == "decode" and self.is_strict:
            self.types.decode(broken(event))
        payment = self.types.decode(event)
        assert isinstance(payment, Paid)
        kept = await tx.get(event.stream_id) or {"amounts": []}
        amounts = kept["amounts"]
        assert isinstance(amounts, list)
        # In place, as anybody would: a failure after it must leave no trace.
        amounts.append(payment.amount)
        tx.put(event.stream_id, kept)
        if payment.amount < 0 and self.is_strict:
            self.break_down(event, tx)

    def break_down(self, event: StoredEvent, tx: ProjectionTx) -> None:
        match self.stage:
            case "put":
                tx.put("name", {"text": "a\x00b"})
            case "no json":
                tx.put("name", {"object": object()})
            case "key":
                tx.delete("k" * 5000)
            case "statement":
                tx.execute("NO SQL OF THIS WORLD")
            case _:
                raise ValueError("less than nothing\x00\nwith a NUL and another line")


class SeenHalting(Seen):
    on_poison = "halt"


class SeenSkipping(Seen):
    on_poison = "skip"


@dataclass(frozen=True)
class Refunded:
    """An event that the program knows and the projection does not handle."""


@dataclass(frozen=True)
class Tipped:
    """An event of a later program."""


def _types_of_before() -> EventTypes:
    """The types of a program that knows payments only."""
    types = EventTypes()
    types.event(name=TYPES.name_of(Paid).rpartition(".v")[0])(Paid)
    return types


def broken(event: StoredEvent) -> StoredEvent:
    """Call this for an event whose bytes no class can read."""
    return StoredEvent(
        stream_id=event.stream_id,
        version=event.version,
        cursor=event.cursor,
        event_id=event.event_id,
        type=event.type,
        schema_version=event.schema_version,
        codec=event.codec,
        data=b'{"amount": "none"}',
        metadata=event.metadata,
        tenant=event.tenant,
        recorded_at=event.recorded_at,
    )


@dataclass(eq=False)
class Faulty:
    """A projection store whose commits fail as told: before they are done, or after."""

    store: ProjectionStore
    before: Callable[[ProjectionBatch], bool] = lambda batch: False
    after: Callable[[ProjectionBatch], bool] = lambda batch: False
    failed: list[ProjectionBatch] = field(default_factory=list)

    def __getattr__(self, name: str) -> object:
        return getattr(self.store, name)

    async def commit(self, batch: ProjectionBatch) -> bool:
        if self.before(batch):
            self.failed.append(batch)
            raise StoreUnavailable("planted")
        done = await self.store.commit(batch)
        if self.after(batch):
            self.failed.append(batch)
            raise StoreUnavailable("planted")
        return done


async def start(
    system: System, kept: Kept, projection: Projection, store: object = None
) -> RunnerRef:
    """Call this for a runner of the projection."""
    port = cast("ProjectionStore", store or kept.projections)
    return await system.start(ProjectionRunner, projection, kept.events, port)


async def replay(runner: RunnerRef, stream_id: StreamId) -> int:
    """Call this to replay what is parked of a stream."""
    return await runner.ask(ReplayParked(stream_id), timeout=PATIENCE_S)


async def seen(kept: Kept, collection: str = SEEN) -> dict[str, object]:
    """Call this for what the projection has seen, by till."""
    return {key: one["amounts"] for key, one in await kept.projections.query(collection)}


async def versions(kept: Kept, *statuses: DeadLetterStatus) -> list[int | None]:
    """Call this for the versions of the letters, in the order in which they were made."""
    letters = await kept.dead_letters.list(kind="projection", limit=2000)
    return [one.letter.stream_version for one in letters if not statuses or one.status in statuses]


async def reach(kept: Kept, *amounts: int) -> None:
    """Call this to append to B and wait until that is applied."""
    last = await kept.events.append(B, paid(*amounts))
    with trio.fail_after(PATIENCE_S):
        while True:
            # As a caller would who asks again when nobody seems to fill it: its runner is slow.
            with suppress(Rebuilding):
                return await wait_until(kept.projections, "seen", last.cursor, timeout_s=PATIENCE_S)


class ProjectionPoisonSuite:
    """The conformance suite of what cannot be applied."""

    @pytest.mark.slow
    @pytest.mark.parametrize("stage", STAGES)
    async def test_wherever_it_fails_the_stream_is_parked_and_mended(
        self, kept: Kept, stage: Stage
    ) -> None:
        # PROJ-7
        projection = Seen(stage)
        await kept.events.append(A, paid(1, -2, 3))
        async with open_actors() as system:
            runner = await start(system, kept, projection)
            await reach(kept, 7)
            assert await seen(kept) == {A: [1], B: [7]}
            letters = await kept.dead_letters.list(kind="projection")
            assert [one.letter.stream_version for one in letters] == [2, 3]
            assert "behind" not in letters[0].letter.error_message
            assert "\n" not in letters[0].letter.error_message
            status = await runner.ask(AskStatus(), timeout=PATIENCE_S)
            assert status.checkpoint is not None
            assert (status.parked_streams, status.checkpoint.error) == (1, None)
            assert await replay(runner, A) == 0
            first = (await kept.dead_letters.list(kind="projection"))[0]
            assert (first.retry_count, first.status) == (1, DeadLetterStatus.PENDING)
            projection.is_strict = False
            assert await replay(runner, A) == 2
            await kept.events.append(A, paid(4))
            await reach(kept, 8)
            assert await seen(kept) == {A: [1, -2, 3, 4], B: [7, 8]}
            assert await versions(kept, DeadLetterStatus.RESOLVED) == [2, 3]

    @pytest.mark.slow
    @pytest.mark.parametrize("stage", STAGES)
    async def test_wherever_it_fails_it_halts_and_goes_on(self, kept: Kept, stage: Stage) -> None:
        # PROJ-7
        projection = SeenHalting(stage)
        await kept.events.append(A, paid(1, -2))
        last = await kept.events.append(B, paid(3))
        async with open_actors() as system:
            runner = await start(system, kept, projection)
            with pytest.raises(ProjectionHalted):
                await wait_until(kept.projections, "seen", last.cursor, timeout_s=PATIENCE_S)
            assert await seen(kept) == {A: [1]}
            projection.is_strict = False
            with trio.fail_after(PATIENCE_S):
                while await seen(kept) != {A: [1, -2], B: [3]}:
                    runner.tell(Resume())
                    await kept.projections.changed(0.05)

    @pytest.mark.slow
    @pytest.mark.parametrize("stage", STAGES)
    async def test_wherever_it_fails_it_is_skipped_alone(self, kept: Kept, stage: Stage) -> None:
        # PROJ-7: also by the next runner, for which nothing waits behind it
        await kept.events.append(A, paid(1, -2, 3))
        async with open_actors() as system:
            runner = await start(system, kept, SeenSkipping(stage))
            await reach(kept, 7)
            await runner.stop()
            await start(system, kept, SeenSkipping(stage))
            await kept.events.append(A, paid(4))
            await reach(kept, 8)
        assert await seen(kept) == {A: [1, 3, 4], B: [7, 8]}
        assert await versions(kept) == [None]

    @pytest.mark.slow
    async def test_a_strict_one_sets_aside_what_its_program_does_not_know(self, kept: Kept) -> None:
        # STORE-42, PROJ-7: until the program knows it; and only that, of all it does not handle
        types = _types_of_before()
        strict = type("Strict", (Seen,), {"types": types, "strict": True})
        types.event(name="Refunded")(Refunded)
        refunded, later = new_event(type="Refunded"), new_event(b'{"amount": 9}', type="Tipped")
        await kept.events.append(StreamId("till-c"), [refunded])
        await kept.events.append(A, [*paid(1), later, *paid(2)])
        await kept.events.archive(StreamId("till-c"))
        async with open_actors() as system:
            runner = await start(system, kept, strict())
            await reach(kept, 7)
            assert await seen(kept) == {A: [1], B: [7]}
            letters = await kept.dead_letters.list(kind="projection")
            assert [one.letter.stream_version for one in letters] == [2, 3]
            assert "Tipped" in letters[0].letter.error_message
            types.event(name="Tipped")(Tipped)
            assert await replay(runner, A) == 2
        assert await seen(kept) == {A: [1, 2], B: [7]}

    async def test_another_passes_over_what_it_does_not_know(self, kept: Kept) -> None:
        # STORE-42
        lenient = type("Lenient", (Seen,), {"types": _types_of_before()})
        await kept.events.append(A, [*paid(1), new_event(type="Tipped"), *paid(2)])
        async with open_actors() as system:
            await start(system, kept, lenient())
            await reach(kept, 7)
        assert await seen(kept) == {A: [1, 2], B: [7]}
        assert await versions(kept) == []

    @pytest.mark.slow
    async def test_a_strict_one_halts_before_what_its_program_does_not_know(
        self, kept: Kept
    ) -> None:
        # STORE-42, PROJ-7
        types = _types_of_before()
        strict = type("Strict", (SeenHalting,), {"types": types, "strict": True})
        await kept.events.append(A, [*paid(1), new_event(type="Tipped")])
        last = await kept.events.append(B, paid(3))
        async with open_actors() as system:
            runner = await start(system, kept, strict())
            with pytest.raises(ProjectionHalted, match="Tipped"):
                await wait_until(kept.projections, "seen", last.cursor, timeout_s=PATIENCE_S)
            assert await seen(kept) == {A: [1]}
            types.event(name="Tipped")(Tipped)
            with trio.fail_after(PATIENCE_S):
                while await seen(kept) != {A: [1], B: [3]}:
                    runner.tell(Resume())
                    await kept.projections.changed(0.05)

    @pytest.mark.slow
    async def test_a_commit_that_fails_once_parks_nothing_twice_or_backwards(
        self, kept: Kept
    ) -> None:
        # PROJ-7: parking is part of the batch's transaction
        for place in ("before", "after"):
            stream = StreamId(f"till-{place}")
            await kept.events.append(stream, paid(1, -2, 3))
            store = Faulty(kept.projections)
            setattr(store, place, lambda batch, store=store: batch.letters and not store.failed)
            projection = Seen()
            async with open_actors() as system:
                runner = await start(system, kept, projection, store)
                await reach(kept, 7)
                assert len(store.failed) == 1
                assert (await seen(kept))[stream] == [1]
                letters = await kept.dead_letters.list(source=SEEN)
                mine = [one for one in letters if one.letter.stream_id == stream]
                assert [one.letter.stream_version for one in mine] == [2, 3]
                assert [one.retry_count for one in mine] == [0, 0]
                assert "less than nothing" in mine[0].letter.error_message
                projection.is_strict = False
                assert await replay(runner, stream) == 2
            assert (await seen(kept))[stream] == [1, -2, 3]

    @pytest.mark.slow
    async def test_a_replay_has_no_end_but_the_last_one(self, kept: Kept) -> None:
        # PROJ-7: all that is parked comes before the next event of the stream
        many = 1100
        projection = Seen()
        await kept.events.append(A, paid(-1, *range(1, 900)))
        await kept.events.append(A, paid(*range(900, many)))
        async with open_actors() as system:
            runner = await start(system, kept, projection)
            await reach(kept, 7)
            await runner.stop()
            runner = await start(system, kept, projection)
            assert len(await versions(kept, DeadLetterStatus.PENDING)) == many
            projection.is_strict = False
            assert await replay(runner, A) == many
            await kept.events.append(A, paid(5000))
            await reach(kept, 8)
        assert (await seen(kept))[A] == [-1, *range(1, many), 5000]
        assert await versions(kept, DeadLetterStatus.PENDING) == []

    @pytest.mark.slow
    async def test_a_replay_that_breaks_off_is_taken_up_again(self, kept: Kept) -> None:
        # PROJ-7, STORE-61: a letter is resolved by the commit that applies its event
        projection = Seen()
        await kept.events.append(A, paid(-1, 2))
        async with open_actors() as system:
            runner = await start(system, kept, projection)
            await reach(kept, 7)
            await runner.stop()
            projection.is_strict = False
            for place, left in (("before", [1, 2]), ("after", [])):
                store = Faulty(kept.projections)
                setattr(store, place, lambda batch: bool(batch.replayed))
                runner = await start(system, kept, projection, store)
                assert await replay(runner, A) == 0
                await runner.stop()
                assert await versions(kept, DeadLetterStatus.PENDING) == left
            runner = await start(system, kept, projection)
            assert await replay(runner, A) == 0
            await kept.events.append(A, paid(3))
            await reach(kept, 8)
        assert (await seen(kept))[A] == [-1, 2, 3]

    @pytest.mark.slow
    async def test_what_one_runner_replays_no_other_holds_parked(self, kept: Kept) -> None:
        # PROJ-7: nor does a letter in somebody's hand let others pass
        projection = Seen()
        async with open_actors() as system:
            runners = [await start(system, kept, projection) for _ in range(2)]
            await kept.events.append(A, paid(-1))
            await reach(kept, 7)
            (letter,) = await kept.dead_letters.list(source=SEEN)
            await kept.dead_letters.retry(letter.id, "somebody")
            await kept.events.append(A, paid(2))
            await reach(kept, 8)
            assert await seen(kept) == {B: [7, 8]}
            projection.is_strict = False
            assert await replay(runners[0], A) == 2
            for amount in range(3, 8):
                await kept.events.append(A, paid(amount))
                await reach(kept, amount)
            # Whichever of the two is left: neither knows anything of its own.
            await runners[0].stop()
            await kept.events.append(A, paid(8))
            await reach(kept, 9)
        assert (await seen(kept))[A] == [-1, 2, 3, 4, 5, 6, 7, 8]

    @pytest.mark.slow
    async def test_what_is_given_up_frees_its_stream(self, kept: Kept) -> None:
        # PROJ-7, STORE-61
        await kept.events.append(A, paid(-1))
        async with open_actors() as system:
            runner = await start(system, kept, Seen())
            await reach(kept, 7)
            (letter,) = await kept.dead_letters.list(source=SEEN)
            await kept.dead_letters.discard(letter.id, "ada", "a test payment")
            await kept.events.append(A, paid(2))
            await reach(kept, 8)
            assert (await seen(kept))[A] == [2]
            assert await replay(runner, A) == 0

    async def test_a_replay_outdates_what_was_read_before_it(self, kept: Kept) -> None:
        # PROJ-2, PROJ-3: though its cursor stands still
        store = kept.projections
        begun = await store.open("seen", 1, 1, GenerationState.LIVE)
        assert await store.commit(ProjectionBatch(begun, begun.cursor, {"a": {"n": 1}}))
        assert not await store.commit(ProjectionBatch(begun, begun.cursor, {"a": {"n": 2}}))
        (after,) = await store.checkpoints("seen")
        assert after.revision == begun.revision + 1
        # A letter that there is no more: settled by others.
        assert not await store.commit(ProjectionBatch(after, after.cursor, {}, replayed=[77]))
        assert not await store.commit(ProjectionBatch(after, after.cursor, {}, failed=(77, "no")))
        assert await store.get(begun.collection, "a") == {"n": 1}
        assert (await store.checkpoints("seen"))[0] == after

    @pytest.mark.parametrize(
        "document", [{"text": "a\x00b"}, {"text": "\ud800"}, {"x": object()}, {"\x00": 1}]
    )
    async def test_what_no_store_can_keep_is_refused_whole(
        self, kept: Kept, document: Document
    ) -> None:
        # PROJ-10
        store = kept.projections
        begun = await store.open("seen", 1, 1, GenerationState.LIVE)
        with pytest.raises(WritesRefused):
            await store.commit(ProjectionBatch(begun, begun.cursor, {"a": {"n": 1}, "b": document}))
        with pytest.raises(WritesRefused):
            await store.commit(ProjectionBatch(begun, begun.cursor, {"a": {}, "b\x00": {}}))
        assert await store.query(begun.collection) == []
        assert await store.checkpoints("seen") == [begun]
        for key in ("b\x00", "\ud800"):
            assert await store.get(begun.collection, key) is None
            assert await store.get_many(begun.collection, [key]) == {}
            assert not await store.exists(begun.collection, key)

    @pytest.mark.slow
    async def test_a_rebuild_that_halts_serves_nobody(self, kept: Kept) -> None:
        # PROJ-8: a failed rebuild leaves the old one untouched
        projection = SeenHalting()
        projection.is_strict = False
        await kept.events.append(A, paid(1, -2))

        class Rebuilt(SeenHalting):
            version = 2

        async with open_actors() as system:
            await start(system, kept, projection)
            await reach(kept, 3)
            rebuilt = Rebuilt()
            runner = await start(system, kept, rebuilt)
            with trio.fail_after(PATIENCE_S):
                while not (await kept.projections.checkpoints("seen"))[-1].is_halted:
                    await kept.projections.changed(0.05)
            assert await live_collection(kept.projections, "seen") == SEEN
            await reach(kept, 4)
            rebuilt.is_strict = False
            with trio.fail_after(PATIENCE_S):
                while await live_collection(kept.projections, "seen") == SEEN:
                    runner.tell(Resume())
                    await kept.projections.changed(0.05)
            await reach(kept, 5)
        assert await seen(kept, "seen__g2") == {A: [1, -2], B: [3, 4, 5]}


class SeenInParts(SeenHalting):
    """In two parts; one that halts stops both, and one that is resumed lets both go on."""

    partitions = 2


async def _is_halted(runner: RunnerRef) -> bool:
    status = await runner.ask(AskStatus(), timeout=PATIENCE_S)
    return status.checkpoint is not None and status.checkpoint.is_halted


class ProjectionHaltSuite:
    """The conformance suite of a projection in parts that halts."""

    @pytest.mark.slow
    async def test_one_part_halts_and_resumes_all(self, kept: Kept) -> None:
        # PROJ-4, PROJ-7
        projection = SeenInParts()
        async with open_actors() as system:
            runners: list[RunnerRef] = []
            for partition in range(2):

                def make(number: int = partition) -> ProjectionRunner:
                    return ProjectionRunner(
                        projection, kept.events, kept.projections, partition=number
                    )

                runners.append(await system.start(make))
            tills = [StreamId(f"till-{number}") for number in range(6)]
            await kept.events.append(tills[0], [*paid(-1), new_event(type="Other")])
            with trio.fail_after(PATIENCE_S):
                while not all(one.is_halted for one in await kept.projections.checkpoints("seen")):
                    await kept.projections.changed(0.05)
            last = await kept.events.append(tills[0], paid(2))
            for till in tills[1:]:
                last = await kept.events.append(till, paid(2))
            for runner in runners:
                with trio.fail_after(PATIENCE_S):
                    while not await _is_halted(runner):
                        await trio.lowlevel.checkpoint()
            assert await seen(kept) == {}
            projection.is_strict = False
            runners[0].tell(Resume())
            with trio.fail_after(PATIENCE_S):
                while any(
                    one.cursor < last.cursor for one in await kept.projections.checkpoints("seen")
                ):
                    await kept.projections.changed(0.05)
        assert await seen(kept) == {till: [2] for till in tills} | {tills[0]: [-1, 2]}
