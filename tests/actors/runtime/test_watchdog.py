"""A loop that does not turn is seen, and who holds it is named."""

from __future__ import annotations

import linecache
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from types import CoroutineType, FrameType, ModuleType
from typing import cast

import pytest
import trio
from structlog.testing import capture_logs

from actors.runtime import LoopBlocked, System, open_actors
from actors.runtime.watching import watchdog
from actors.runtime.watching.watchdog import BLOCK_THRESHOLD_S, LOOKS_A_PING, Watchdog
from actors.testing import AnyPuppet, AsyncPuppet, Call, Do, Puppet
from tests.patience import PATIENCE_S


class Listener:
    """Hears of blocks, and blocks the loop until one of its own was heard of."""

    def __init__(self) -> None:
        self.reports: list[LoopBlocked] = []
        self._is_told = threading.Event()

    def __call__(self, report: LoopBlocked) -> None:
        # A busy machine holds the loop now and then, too: that is no report of ours.
        if "block_the_loop" in report.stack:
            self.reports.append(report)
            self._is_told.set()

    def block_the_loop(self, _: object = None) -> None:
        self._is_told.wait(1)


@pytest.fixture
def listener() -> Iterator[Listener]:
    yield Listener()
    assert not [t for t in threading.enumerate() if t.name == "actors: watchdog"]


def test_where_a_thread_is_is_told_without_reading_source_files() -> None:
    # REL-72: what is read stays in memory, a file for each place where a loop was ever held
    def here() -> str:
        return watchdog.stack_of(sys._getframe())

    linecache.clearcache()
    text = here()
    assert linecache.cache == {}
    assert text.splitlines()[-1].endswith("in here")
    assert f'File "{__file__}"' in text
    assert len(text.splitlines()) <= watchdog.STACK_FRAMES_MAX


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Puppet, AsyncPuppet])
async def test_the_watchdog_names_who_blocks_the_loop(
    kind: type[Puppet], listener: Listener
) -> None:
    # ACT-110, SUP-178, REL-90 (real time)
    reports = listener.reports
    async with open_actors() as system:
        system.block_listeners.append(listener)
        ref = await system.start(kind, name="blocker")
        with trio.fail_after(PATIENCE_S):
            # Told while it blocks, or never: the block ends with the report.
            while not reports:
                ref.tell(Do(listener.block_the_loop))
                await ref.ask(Call(lambda me: None))
            while len(reports) < 2:
                await trio.lowlevel.checkpoint()
        assert sum(system.totals().loop_lag_us) >= 1
    first, last = reports
    assert (first.path, first.message_type, first.ended) == ("blocker", "Do", False)
    assert (last.path, last.message_type, last.ended) == ("blocker", "Do", True)
    assert BLOCK_THRESHOLD_S <= first.blocked_for < last.blocked_for


async def at_once(system: System, block: Callable[[object], None]) -> None:
    """Served in the task of its asker."""
    ref = await system.start(Puppet, name="blocker")
    await ref.ask(Call(block), timeout=None)
    await ref.stop()


async def after_a_wait(system: System, block: Callable[[object], None]) -> None:
    """The loop of the actor is not on the stack any more."""

    async def wait(me: AnyPuppet) -> None:
        other = await system.start(Puppet)
        await other.ask(Call(lambda me: None))
        block(me)

    ref = await system.start(AsyncPuppet, name="blocker")
    await ref.ask(Call(wait), timeout=None)
    await ref.stop()


async def in_a_child_task(system: System, block: Callable[[object], None]) -> None:
    over = trio.Event()

    async def child_task() -> None:
        block(None)
        over.set()

    ref = await system.start(Puppet, name="blocker")
    ref.tell(Do(lambda me: me.start_soon(child_task)))
    await over.wait()
    await ref.stop()


async def in_a_nursery_of_the_handler(system: System, block: Callable[[object], None]) -> None:
    async def part() -> None:
        block(None)

    async def opens(_: AnyPuppet) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(part)

    ref = await system.start(AsyncPuppet, name="blocker")
    await ref.ask(Call(opens), timeout=None)
    await ref.stop()


async def before_it_runs(system: System, block: Callable[[object], None]) -> None:
    class Blocker(Puppet):
        def __init__(self) -> None:
            super().__init__()
            block(self)

    await (await system.start(Blocker, name="blocker")).stop()


async def outside(system: System, block: Callable[[object], None]) -> None:
    """No actor at all, though one has just run."""
    await (await system.start(Puppet, name="blocker")).stop()
    block(None)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "path", "message"),
    [
        (at_once, "blocker", "Call"),
        (after_a_wait, "blocker", "Call"),
        (in_a_child_task, "blocker", None),
        (in_a_nursery_of_the_handler, "blocker", "Call"),
        (before_it_runs, "blocker", None),
        (outside, None, None),
    ],
)
async def test_the_watchdog_finds_it_wherever_it_runs(
    where: Callable[[System, Callable[[object], None]], Awaitable[None]],
    path: str | None,
    message: str | None,
    listener: Listener,
) -> None:
    # ACT-110 (real time)
    async with open_actors() as system:
        system.block_listeners.append(listener)
        with trio.fail_after(PATIENCE_S):
            while not listener.reports:
                await where(system, listener.block_the_loop)
    first = listener.reports[0]
    assert (first.path, first.message_type) == (path, message)


@pytest.mark.slow
async def test_with_a_trio_that_hides_whose_step_it_takes_the_rest_is_told(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    # ACT-110 (real time)
    monkeypatch.setitem(sys.modules, "trio._core._run", ModuleType("trio._core._run"))
    async with open_actors() as system:
        system.block_listeners.append(listener)
        with trio.fail_after(PATIENCE_S):
            while not listener.reports:
                await after_a_wait(system, listener.block_the_loop)
    assert (listener.reports[0].path, "block_the_loop" in listener.reports[0].stack) == (None, True)


async def rest() -> None:
    await trio.sleep_forever()


class Resting(Coroutine[object, object, None]):
    """A task's coroutine that notes which threads look at its frame."""

    def __init__(self) -> None:
        self._coroutine = cast("CoroutineType[object, object, None]", rest())
        self.looked_at_by: set[int] = set()

    @property
    def cr_frame(self) -> FrameType | None:
        self.looked_at_by.add(threading.get_ident())
        return self._coroutine.cr_frame

    def send(self, value: object) -> object:
        return self._coroutine.send(value)

    def throw(self, error: BaseException) -> object:  # type: ignore[override]  # reason: trio throws an error, and nothing beside it
        return self._coroutine.throw(error)

    def close(self) -> None:
        self._coroutine.close()

    def __await__(self) -> Generator[object, object, None]:
        raise NotImplementedError


class Held(trio.abc.Instrument):
    """Holds the loop between two turns, in no task of it."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def before_io_wait(self, timeout: float) -> None:
        if not self._listener.reports:
            self._listener.block_the_loop()


@pytest.mark.slow
async def test_to_find_it_nobody_else_is_looked_at(listener: Listener) -> None:
    # ACT-110, REL-74 (real time): a late turn is not made longer by each who is connected
    resting = Resting()
    async with trio.open_nursery() as nursery, open_actors() as system:
        nursery.start_soon(lambda: resting)
        system.block_listeners.append(listener)
        held = Held(listener)
        trio.lowlevel.add_instrument(held)
        try:
            with trio.fail_after(PATIENCE_S):
                while not listener.reports:
                    await trio.lowlevel.checkpoint()
        finally:
            trio.lowlevel.remove_instrument(held)
        nursery.cancel_scope.cancel()
    assert listener.reports[0].path is None
    assert resting.looked_at_by == {threading.get_ident()}


@pytest.mark.slow
async def test_a_listener_that_raises_is_removed_and_the_watch_goes_on(listener: Listener) -> None:
    # ACT-110 (real time)
    told: list[LoopBlocked] = []

    def bad(report: LoopBlocked) -> None:
        told.append(report)
        raise OSError

    with capture_logs() as logged:
        async with open_actors() as system:
            system.block_listeners += [bad, listener]
            with trio.fail_after(PATIENCE_S):
                while not listener.reports:
                    await outside(system, listener.block_the_loop)
                # The same block once more, at its end.
                while len(listener.reports) < 2:
                    await trio.lowlevel.checkpoint()
            assert system.block_listeners == [listener]
    assert len(told) == 1
    blocks = [line for line in logged if line["event"] == "loop_blocked"]
    assert len(blocks) >= 2
    assert all(("stack" in line) != line["ended"] for line in blocks)


@pytest.mark.slow
async def test_a_look_that_fails_does_not_end_the_watch(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    # ACT-110 (real time)
    looked: list[float] = []
    look = Watchdog._look

    def fail_once(self: Watchdog, began: float) -> LoopBlocked:
        looked.append(began)
        if len(looked) == 1:
            raise RuntimeError("what was read has changed meanwhile")
        return look(self, began)

    monkeypatch.setattr(Watchdog, "_look", fail_once)
    async with open_actors() as system:
        system.block_listeners.append(listener)
        with trio.fail_after(PATIENCE_S):
            while not listener.reports:
                await outside(system, listener.block_the_loop)
    assert len(looked) > 1


@pytest.mark.slow
async def test_a_loop_that_waits_for_the_kernel_is_woken_now_and_then_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # ACT-110, REL-110 (real time): an idle program stays idle, and its lag is told all the same
    pings = 0
    pong = Watchdog._pong

    def counted(self: Watchdog, began: float) -> None:
        nonlocal pings
        pings += 1
        pong(self, began)

    monkeypatch.setattr(Watchdog, "_pong", counted)
    monkeypatch.setattr(watchdog, "PING_INTERVAL_S", 0.001)
    async with open_actors() as system:

        def looks() -> int:
            return sum(system.totals().loop_lag_us)

        def look_on() -> None:
            # In a thread: the loop has nothing else to do, and waits for its end.
            deadline = time.monotonic() + PATIENCE_S
            while looks() < 5 * LOOKS_A_PING and time.monotonic() < deadline:
                time.sleep(0.001)

        await trio.to_thread.run_sync(look_on)
        counted_looks = looks()
    assert counted_looks >= 5 * LOOKS_A_PING
    # Both: it is pinged, and mostly it is not. A full machine may find it elsewhere now and then.
    assert counted_looks // LOOKS_A_PING - 1 <= pings <= counted_looks / 2


async def test_the_watchdog_can_be_switched_off() -> None:
    # ACT-110 (real time)
    async with open_actors(block_threshold=0) as system:
        await system.start(Puppet)
        assert not [t for t in threading.enumerate() if t.name == "actors: watchdog"]
