"""Generations of a projection side by side, as tests. Fixture `kept`, empty."""

from datetime import timedelta
from typing import cast

import pytest
import trio

from actors.persistence import (
    Cursor,
    DeadLetterStatus,
    GenerationState,
    NewDeadLetter,
    ProjectionBatch,
    ProjectionRunner,
    ProjectionStore,
    Rebuilding,
    UnknownProjection,
    begin_rebuild,
    live_collection,
    swap_back,
    wait_until,
)
from actors.persistence.beside_log.dead_letters import RETENTION
from actors.runtime import System, open_actors
from storage.testing.kept import Kept
from storage.testing.projections.filling import A, Totals, paid
from storage.testing.projections.poison import Faulty, RunnerRef
from storage.testing.samples import PATIENCE_S

_BUILDING, _LIVE, _RETIRED = (
    GenerationState.BUILDING,
    GenerationState.LIVE,
    GenerationState.RETIRED,
)


class Totals2(Totals):
    version = 2


class Held(Faulty):
    """A store that takes nothing of the second generation until it is released."""

    def __init__(self, store: ProjectionStore) -> None:
        super().__init__(store, before=lambda b: self.is_held and b.checkpoint.generation == 2)
        self.is_held = True


async def _start(
    system: System,
    kept: Kept,
    projection: Totals,
    *,
    store: Held | None = None,
    rebuild: bool = False,
    until_replaced: bool = False,
) -> RunnerRef:
    port = cast("ProjectionStore", store or kept.projections)

    def make() -> ProjectionRunner:
        return ProjectionRunner(
            projection, kept.events, port, rebuild=rebuild, until_replaced=until_replaced
        )

    return await system.start(make)


async def _states(kept: Kept) -> list[GenerationState]:
    return [one.state for one in await kept.projections.checkpoints("totals")]


async def _until_live(kept: Kept, collection: str) -> None:
    with trio.fail_after(PATIENCE_S):
        while await live_collection(kept.projections, "totals") != collection:
            await kept.projections.changed(0.05)


async def _reached(kept: Kept, cursor: Cursor) -> None:
    """Wait as a caller would who asks again when nobody seems to fill it."""
    with trio.fail_after(PATIENCE_S):
        while True:
            try:
                await wait_until(kept.projections, "totals", cursor, timeout_s=PATIENCE_S)
            except Rebuilding:
                continue
            return


class ProjectionRebuildSuite:
    """The conformance suite of generations side by side."""

    @pytest.mark.slow
    async def test_a_rebuild_is_wished_once(self, kept: Kept) -> None:
        # PROJ-8: however often its runner starts anew
        first = await kept.events.append(A, paid(1, 2))
        async with open_actors() as system:
            held = Held(kept.projections)
            await _start(system, kept, Totals(), store=held)
            await wait_until(kept.projections, "totals", first.cursor, timeout_s=PATIENCE_S)
            assert await begin_rebuild(kept.projections, Totals()) == 2
            assert await begin_rebuild(kept.projections, Totals()) == 2
            for _ in range(3):
                builder = await _start(system, kept, Totals(), store=held, rebuild=True)
                # The one that serves goes on meanwhile.
                last = await kept.events.append(A, paid(3))
                await wait_until(kept.projections, "totals", last.cursor, timeout_s=PATIENCE_S)
                await builder.stop()
            assert await _states(kept) == [_LIVE, _BUILDING]
            for _ in range(3):
                builder = await _start(system, kept, Totals(), rebuild=True)
                await _until_live(kept, "totals__g2")
                await builder.stop()
            assert await _states(kept) == [_RETIRED, _LIVE]
        assert await kept.projections.get("totals__g2", A) == {"sum": 12}

    @pytest.mark.slow
    async def test_a_new_version_alone_is_no_reason_to_wait_in_vain(self, kept: Kept) -> None:
        # PROJ-6, PROJ-8
        first = await kept.events.append(A, paid(1))
        async with open_actors() as system:
            old = await _start(system, kept, Totals())
            await wait_until(kept.projections, "totals", first.cursor, timeout_s=PATIENCE_S)
            await old.stop()
            held = Held(kept.projections)
            new = await _start(system, kept, Totals2(), store=held)
            # What was reached is there; what is behind it, nobody fills.
            await wait_until(kept.projections, "totals", first.cursor, timeout_s=PATIENCE_S)
            last = await kept.events.append(A, paid(2))
            with pytest.raises(Rebuilding) as caught:
                await wait_until(kept.projections, "totals", last.cursor, timeout_s=PATIENCE_S)
            assert (caught.value.wanted, caught.value.reached) == (last.cursor, first.cursor)
            held.is_held = False
            await _reached(kept, last.cursor)
            assert await _states(kept) == [_RETIRED, _LIVE]
            await new.stop()
        assert await kept.projections.get("totals__g2", A) == {"sum": 3}

    @pytest.mark.slow
    async def test_an_old_version_beside_the_new_one_goes_on(self, kept: Kept) -> None:
        # PROJ-6, PROJ-8: until the new one takes over, and then begins nothing
        first = await kept.events.append(A, paid(1))
        async with open_actors() as system:
            old = await _start(system, kept, Totals())
            await wait_until(kept.projections, "totals", first.cursor, timeout_s=PATIENCE_S)
            await old.stop()
            held = Held(kept.projections)
            await _start(system, kept, Totals2(), store=held)
            old = await _start(system, kept, Totals(), until_replaced=True)
            for amount in range(2, 5):
                last = await kept.events.append(A, paid(amount))
                await _reached(kept, last.cursor)
            assert await _states(kept) == [_LIVE, _BUILDING]
            assert await kept.projections.get("totals__g1", A) == {"sum": 10}
            # It goes away before the new one is built: nobody fills it any more.
            await old.stop()
            last = await kept.events.append(A, paid(5))
            with pytest.raises(Rebuilding):
                await wait_until(kept.projections, "totals", last.cursor, timeout_s=PATIENCE_S)
            old = await _start(system, kept, Totals(), until_replaced=True)
            await _reached(kept, last.cursor)
            held.is_held = False
            await _until_live(kept, "totals__g2")
            # With its next event it learns that it is retired, and ends.
            last = await kept.events.append(A, paid(6))
            with trio.fail_after(PATIENCE_S):
                await system.wait_down(old)
            await _reached(kept, last.cursor)
            again = await _start(system, kept, Totals(), until_replaced=True)
            with trio.fail_after(PATIENCE_S):
                await system.wait_down(again)
            assert await _states(kept) == [_RETIRED, _LIVE]
        assert await kept.projections.get("totals__g2", A) == {"sum": 21}

    async def test_a_retired_generation_is_removed_in_pieces(self, kept: Kept) -> None:
        # PROJ-8: what serves again stays, and from the first piece on there is no way back
        store = kept.projections
        for generation in (1, 2, 3):
            await _filled(kept, generation, documents=5)
            await store.swap("totals", generation)
            await kept.pass_time(3600)
        await store.swap("totals", 2)
        letters = [await kept.dead_letters.add(_parked(f"totals__g{one}")) for one in (1, 2)]
        await kept.dead_letters.retry(letters[0])
        assert await store.purge(3) == 0
        # Long ago for the first; the third serves no more since a moment ago.
        assert await store.purge(3, older_than=timedelta(hours=1)) == 3
        assert len(await store.query("totals__g1")) == 2
        with pytest.raises(UnknownProjection):
            await swap_back(store, "totals", 1)
        # The rest of it: two documents, its letter and its checkpoint.
        assert await store.purge(3, older_than=timedelta(hours=1)) == 3
        assert await store.purge(3, older_than=timedelta(hours=1)) == 1
        assert await _states(kept) == [_LIVE, _RETIRED]
        given_up = await kept.dead_letters.get(letters[0])
        assert (given_up.status, given_up.resolved_by) == (DeadLetterStatus.DISCARDED, RETENTION)
        assert (await kept.dead_letters.get(letters[1])).status is DeadLetterStatus.PENDING
        await kept.pass_time(25 * 3600)
        assert await store.purge() == 6
        assert await _states(kept) == [_LIVE]
        assert len(await store.query("totals__g2")) == 5
        # The number may come again, and finds nothing of before.
        assert await begin_rebuild(store, Totals2()) == 3
        assert await store.query("totals__g3") == []
        assert await store.purge(older_than=timedelta(0)) == 0


async def _filled(kept: Kept, generation: int, *, documents: int) -> None:
    begun = await kept.projections.open("totals", generation, 1, _LIVE)
    made = {f"till-{number}": {"sum": number} for number in range(documents)}
    assert await kept.projections.commit(ProjectionBatch(begun, begun.cursor, made))


def _parked(source: str) -> NewDeadLetter:
    return NewDeadLetter("projection", source, "m", "broken", stream_id="till-a", stream_version=1)
