"""The asyncio loop beside trio: every call ends, whatever happens to the loop."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine

import pytest
import trio

from storage import asyncio_thread
from storage.asyncio_thread import AsyncioThread
from storage.errors import StoreUnavailable
from storage.testing.samples import PATIENCE_S


@pytest.fixture
async def thread() -> AsyncIterator[AsyncioThread]:
    # Silent for minutes only by a fault: a busy machine must not look like one.
    made = AsyncioThread("test-loop", silence_s_max=PATIENCE_S)
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
def patient_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give cancelled work the time that it needs to end on a busy machine."""
    monkeypatch.setattr(asyncio_thread, "CANCEL_GRACE_S", PATIENCE_S)


@pytest.fixture
async def wary_thread() -> AsyncIterator[AsyncioThread]:
    """One that gives a silent loop up soon, for tests in which it does fall silent."""
    made = AsyncioThread("test-loop", silence_s_max=0.3)
    await made.start()
    yield made
    await made.stop()


async def _call_then_cancel(
    thread: AsyncioThread, work: Callable[[Callable[[], None]], Coroutine[None, None, str]]
) -> str | None:
    """Cancel a call once its work has said that it is under way; None when that ended it."""
    token, begun = trio.lowlevel.current_trio_token(), trio.Event()
    answer: str | None = None

    async def call() -> None:
        nonlocal answer
        with scope:
            answer = await thread.call(work, lambda: token.run_sync_soon(begun.set))

    scope = trio.CancelScope()
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            await begun.wait()
            scope.cancel()
    return answer


async def _double(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


async def test_a_call_gives_its_outcome(thread: AsyncioThread) -> None:
    async def fail() -> None:
        raise KeyError("missing")

    assert await thread.call(_double, 4) == 8
    with pytest.raises(KeyError, match="missing"):
        await thread.call(fail)
    assert "running" in repr(thread)


async def test_many_calls_run_side_by_side(thread: AsyncioThread) -> None:
    answers: list[int] = []

    async def ask(number: int) -> None:
        answers.append(await thread.call(_double, number))

    async with trio.open_nursery() as nursery:
        for number in range(500):
            nursery.start_soon(ask, number)
    assert sorted(answers) == [2 * number for number in range(500)]


@pytest.mark.usefixtures("patient_grace")
async def test_cancelling_cancels_the_work_and_waits_for_its_end(thread: AsyncioThread) -> None:
    # STORE-18
    seen: list[str] = []

    async def work(begin: Callable[[], None]) -> str:
        begin()
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise
        return "slept"

    assert await _call_then_cancel(thread, work) is None
    assert seen == ["cancelled"]


@pytest.mark.usefixtures("patient_grace")
async def test_work_that_was_over_gives_its_outcome_though_cancelled(thread: AsyncioThread) -> None:
    # STORE-18: the caller of a commit that happened is told so
    async def work(begin: Callable[[], None]) -> str:
        begin()
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            return "done"
        return "slept"

    assert await _call_then_cancel(thread, work) == "done"


@pytest.mark.slow
async def test_work_that_resists_cancelling_is_left_after_a_second(thread: AsyncioThread) -> None:
    # REL-82
    ended: list[str] = []

    async def stubborn(begin: Callable[[], None]) -> str:
        begin()
        for _ in range(2):
            try:
                await asyncio.sleep(600)
            except asyncio.CancelledError:
                continue
        ended.append("ended")
        return "slept"

    # Left in the second that is CANCEL_GRACE_S; the work itself goes on.
    assert await _call_then_cancel(thread, stubborn) is None
    assert ended == []


async def test_a_lost_loop_fails_the_calls_in_flight(thread: AsyncioThread) -> None:
    # REL-87
    async def work() -> None:
        await asyncio.sleep(600)

    async def end_the_loop() -> None:
        asyncio.get_running_loop().stop()
        await work()

    async def expect_loss(of: Callable[[], Coroutine[None, None, None]]) -> None:
        with pytest.raises(StoreUnavailable):
            await thread.call(of)

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(expect_loss, work)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(expect_loss, end_the_loop)
        assert "stopped by itself" in await thread.watch()
        with pytest.raises(StoreUnavailable):
            await thread.call(_double, 1)


@pytest.mark.slow
async def test_a_silent_loop_is_given_up_and_ends_when_it_wakes(
    wary_thread: AsyncioThread,
) -> None:
    # REL-87
    wake = threading.Event()

    async def block() -> None:
        wake.wait(PATIENCE_S)

    async def expect_loss() -> None:
        with pytest.raises(StoreUnavailable):
            await wary_thread.call(block)

    try:
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(expect_loss)
                assert "did not turn" in await wary_thread.watch()
    finally:
        wake.set()
    await wary_thread.stop(PATIENCE_S)
    assert not any(one.name == "test-loop" for one in threading.enumerate())


@pytest.mark.slow
async def test_a_cancelled_call_on_a_silent_loop_ends_with_the_watch(
    wary_thread: AsyncioThread,
) -> None:
    # REL-87: none hangs
    token, begun = trio.lowlevel.current_trio_token(), trio.Event()
    wake = threading.Event()

    async def block() -> None:
        token.run_sync_soon(begun.set)
        wake.wait(PATIENCE_S)

    async def call() -> None:
        with scope:
            await wary_thread.call(block)

    scope = trio.CancelScope()
    try:
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(call)
                await begun.wait()
                scope.cancel()
                await wary_thread.watch()
    finally:
        wake.set()
    assert scope.cancelled_caught


async def test_the_watch_stays_quiet_while_the_loop_turns(thread: AsyncioThread) -> None:
    with trio.move_on_after(0.2) as scope:
        await thread.watch()
    assert scope.cancelled_caught
    assert await thread.call(_double, 1) == 2


async def test_the_hand_over_is_bounded_and_served_in_order() -> None:
    # REL-70
    thread = AsyncioThread("test-bound", hand_over_max=2)
    await thread.start()
    running: list[int] = []
    gates = [threading.Event() for _ in range(4)]

    async def work(number: int) -> None:
        running.append(number)
        await asyncio.to_thread(gates[number].wait, PATIENCE_S)

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(thread.call, work, number)
                await trio.testing.wait_all_tasks_blocked()
            while len(running) < 2:
                await trio.lowlevel.checkpoint()
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert running == [0, 1]
            for gate in gates:
                gate.set()
    assert sorted(running) == [0, 1, 2, 3]
    await thread.stop()


@pytest.mark.parametrize("options", [{"hand_over_max": 0}, {"silence_s_max": 0}])
def test_nonsense_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be"):
        AsyncioThread(**options)  # type: ignore[arg-type]
