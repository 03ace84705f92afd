"""What waiting for a projection must do on every engine, as tests. Fixture `kept`, empty."""

from collections.abc import Sequence

import pytest
import trio
import trio.testing

from actors.persistence import (
    START,
    Checkpoint,
    Cursor,
    GenerationState,
    ProjectionBatch,
    ProjectionHalted,
    ProjectionStore,
    ProjectionTimeout,
    StoreUnavailable,
    wait_until,
    waiter_count,
)
from storage.testing.kept import Kept
from storage.testing.samples import PATIENCE_S

_LIVE = GenerationState.LIVE
_WAITERS = 300


class Counted:
    """A store as those who wait see it, with the number of its queries."""

    def __init__(self, store: ProjectionStore) -> None:
        self._store = store
        self.queries = 0
        self.failures = 0

    async def checkpoints(self, projection: str) -> Sequence[Checkpoint]:
        self.queries += 1
        if self.failures:
            self.failures -= 1
            await trio.testing.wait_all_tasks_blocked()  # until all the others wait
            raise StoreUnavailable("planted")
        return await self._store.checkpoints(projection)

    async def changed(self, timeout_s: float) -> None:
        await self._store.changed(timeout_s)


class ProjectionWaitingSuite:
    """The conformance suite of `wait_until`."""

    async def test_hundreds_who_wait_cost_few_queries(self, kept: Kept) -> None:
        # PROJ-6: one query a commit, whoever waits
        store = Counted(kept.projections)
        at = await kept.projections.open("totals", 1, 1, _LIVE)
        reached: list[int] = []
        steps = 10

        async def wait(number: int) -> None:
            await wait_until(store, "totals", Cursor(1 + number % steps, 1), timeout_s=PATIENCE_S)
            reached.append(number % steps)

        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for number in range(_WAITERS):
                nursery.start_soon(wait, number)
            while waiter_count(store) < _WAITERS:
                await trio.lowlevel.checkpoint()
            for step in range(steps):
                assert await kept.projections.commit(ProjectionBatch(at, Cursor(1 + step, 1)))
                (at,) = await kept.projections.checkpoints("totals")
                with trio.fail_after(PATIENCE_S):
                    while len(reached) < (step + 1) * _WAITERS // steps:
                        await trio.lowlevel.checkpoint()
        assert reached == sorted(reached)
        # A commit rings here, and once more as a notice; the rest is polling on a slow machine.
        assert store.queries <= 5 + 3 * steps + (trio.current_time() - began) / 0.05
        assert waiter_count(store) == 0

    async def test_who_leaves_leaves_the_others_waiting(self, kept: Kept) -> None:
        # PROJ-6: also the one who looks for all
        store = Counted(kept.projections)
        at = await kept.projections.open("totals", 1, 1, _LIVE)
        scopes: list[trio.CancelScope] = []
        done: list[int] = []

        async def wait(number: int) -> None:
            with trio.CancelScope() as scope:
                scopes.append(scope)
                await wait_until(store, "totals", Cursor(5, 1), timeout_s=PATIENCE_S)
                done.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(wait, number)
            while waiter_count(store) < 10 or not store.queries:
                await trio.lowlevel.checkpoint()
            for scope in scopes[:9]:
                scope.cancel()
                await trio.lowlevel.checkpoint()
            assert await kept.projections.commit(ProjectionBatch(at, Cursor(5, 1)))
        assert len(done) == 1
        assert waiter_count(store) == 0

    async def test_all_learn_of_a_halt_and_of_a_store_that_is_away(self, kept: Kept) -> None:
        # PROJ-6
        store = Counted(kept.projections)
        await kept.projections.open("totals", 1, 1, _LIVE)
        ends: list[type[Exception]] = []

        async def wait() -> None:
            try:
                await wait_until(store, "totals", Cursor(5, 1), timeout_s=PATIENCE_S)
            except (ProjectionHalted, StoreUnavailable) as error:
                ends.append(type(error))

        store.failures = 1
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(wait)
        assert ends == [StoreUnavailable] * 20
        assert store.queries == 1
        ends.clear()
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(wait)
            while waiter_count(store) < 20:
                await trio.lowlevel.checkpoint()
            await kept.projections.set_state("totals", 1, GenerationState.HALTED, "planted")
        assert ends == [ProjectionHalted] * 20
        assert waiter_count(store) == 0

    async def test_each_waits_as_long_as_it_likes(self, kept: Kept) -> None:
        # PROJ-6
        store = Counted(kept.projections)
        at = await kept.projections.open("totals", 1, 1, _LIVE)
        done: list[str] = []

        async def wait_briefly() -> None:
            with pytest.raises(ProjectionTimeout) as caught:
                await wait_until(store, "totals", Cursor(5, 1), timeout_s=0.02)
            assert caught.value.reached == START
            done.append("briefly")
            assert await kept.projections.commit(ProjectionBatch(at, Cursor(5, 1)))

        async def wait_long() -> None:
            await wait_until(store, "totals", Cursor(5, 1), timeout_s=PATIENCE_S)
            done.append("long")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_briefly)
            nursery.start_soon(wait_long)
        assert done == ["briefly", "long"]
        # Nobody waits by now: the next one looks for itself.
        await wait_until(store, "totals", Cursor(5, 1), timeout_s=PATIENCE_S)
        assert waiter_count(store) == 0
