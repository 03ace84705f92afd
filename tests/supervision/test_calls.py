"""Calls on a running static supervisor, live reconfiguration among them."""

from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from actors.runtime import IGNORE, DeadlockError, Killed, NoProc, Normal, Ref
from actors.runtime.life.cell import cell_of
from actors.testing import AnyPuppet, AsyncPuppet, Call, Do, PuppetMessage, sleeping
from supervision import (
    AlreadyPresent,
    AlreadyStarted,
    ChildSpec,
    Flags,
    NotBackingOff,
    NotFound,
    Plan,
    SpecError,
    StartFailed,
    StillRestarting,
    StillRunning,
    Supervisor,
    child,
    dynamic,
    open_system,
)
from tests.supervision.puppets import BOOM, MANY, Crash, End, Kit, Troupe, failure_of, settle


async def settle_turns() -> None:
    """Let a few turns pass: a restart loop never blocks, so there is nothing to wait for."""
    for _ in range(20):
        await trio.lowlevel.checkpoint()


async def test_calls_on_a_running_and_a_stopped_child(kit: Kit, autojump_clock: MockClock) -> None:
    # SUP-60, SUP-61, SUP-117, SUP-118, SUP-119, SUP-120
    async with open_system(Troupe, MANY, [kit.spec("a")]) as sup:
        ref = (await sup.refs())["a"]
        with pytest.raises(AlreadyStarted) as caught:
            await sup.start_child(kit.spec("a"))
        assert caught.value.ref == ref
        for refused in (sup.restart_child, sup.delete_child):
            with pytest.raises(StillRunning):
                await refused("a")
        with pytest.raises(NotFound):
            await sup.terminate_child(ref)  # type: ignore[arg-type]
        assert await sup.statuses() == {"a": "running"}
        await sup.terminate_child("a")
        await sup.terminate_child("a")
        assert await sup.counted() == [1, 0, 0, 1]
        assert (await sup.which_child("a")).ref is None
        assert await sup.which_children() == [await sup.which_child("a")]
        with pytest.raises(AlreadyPresent):
            await sup.start_child(kit.spec("a"))
        result = await sup.restart_child("a")
        assert result.ref is not None
        assert result.ref != ref
        await sup.terminate_child("a")
        await sup.delete_child("a")
        assert await sup.which_children() == []
        calls = (sup.terminate_child, sup.restart_child, sup.delete_child, sup.which_child)
        for call in (*calls, sup.get_spec, sup.restart_now):
            with pytest.raises(NotFound):
                await call("a")
    for call in (sup.terminate_child, sup.restart_child, sup.delete_child, sup.which_child):
        with pytest.raises(NoProc):
            await call("a")


async def test_calls_in_a_restart_loop(kit: Kit, autojump_clock: MockClock) -> None:
    # SUP-43, SUP-140: the loop goes on while it is asked
    async with open_system(Troupe, Flags(intensity=10_000), [kit.spec("a")]) as sup:
        kit.stage.will_start("a", *[OSError("no")] * 5_000)
        (await sup.refs())["a"].tell(Crash(BOOM))
        await settle_turns()
        assert await sup.statuses() == {"a": "restarting"}
        assert await sup.counted() == [1, 0, 0, 1]
        refusals: list[tuple[Callable[[], Awaitable[object]], type[Exception]]] = [
            (partial(sup.start_child, kit.spec("a")), AlreadyPresent),
            (partial(sup.restart_child, "a"), StillRestarting),
            (partial(sup.delete_child, "a"), StillRestarting),
        ]
        for call, error in refusals:
            with pytest.raises(error):
                await call()
        await sup.terminate_child("a")
        assert await sup.statuses() == {"a": "stopped"}
        starts = kit.stage.log.count("start a")
        await trio.sleep(10.0)
        assert kit.stage.log.count("start a") == starts


async def test_stopping_in_a_restart_loop_completes(kit: Kit, autojump_clock: MockClock) -> None:
    # SUP-43, SUP-140
    async with open_system(Troupe, Flags(intensity=10_000), [kit.spec("a")]) as sup:
        kit.stage.will_start("a", *[OSError("no")] * 5_000)
        (await sup.refs())["a"].tell(Crash(BOOM))
        await sup.which_children()
    assert kit.stage.log.count("start a") < 5_000


async def test_a_failing_restart_by_hand_keeps_the_spec(
    kit: Kit, autojump_clock: MockClock
) -> None:
    # SUP-13, SUP-41
    async with open_system(Troupe, Flags(intensity=0), [kit.spec("a")]) as sup:
        await sup.terminate_child("a")
        kit.stage.will_start("a", OSError("no"))
        with pytest.raises(StartFailed) as caught:
            await sup.restart_child("a")
        assert isinstance(caught.value.spec, ChildSpec)
        assert await sup.statuses() == {"a": "stopped"}
        with pytest.raises(NotBackingOff):
            await sup.restart_now("a")


async def test_a_name_held_by_a_stranger(kit: Kit, autojump_clock: MockClock) -> None:
    # SUP-14, SUP-156
    async with open_system(Troupe, MANY, [kit.spec("a", name="front")]) as sup:
        stranger = sup.system.whereis("front")
        with pytest.raises(AlreadyStarted) as caught:
            await sup.start_child(kit.spec("b", name="front"))
        assert caught.value.ref == stranger
        assert list(await sup.statuses()) == ["a"]
        assert await sup.numbers() == {"a": 1}


async def test_a_call_waits_for_a_child_that_is_stopping(
    async_kit: Kit, autojump_clock: MockClock
) -> None:
    async_kit.stage.stops["a"] = 2.0
    async with (
        open_system(Troupe, MANY, [async_kit.spec("a")]) as sup,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(sup.terminate_child, "a")
        await settle()
        assert await sup.statuses() == {"a": "stopping"}
        began = trio.current_time()
        result = await sup.restart_child("a")
        assert result.ref is not None
        assert trio.current_time() - began == 2.0


async def test_a_cancelled_call_leaves_no_trace(async_kit: Kit, autojump_clock: MockClock) -> None:
    async_kit.stage.will_start("b", 5.0)
    async with open_system(Troupe, MANY, [async_kit.spec("a")]) as sup:
        with trio.move_on_after(1.0) as scope:
            await sup.start_child(async_kit.spec("b"))
        assert scope.cancelled_caught
        await trio.sleep(5.0)
        assert await sup.statuses() == {"a": "running", "b": "running"}


async def test_the_spec_of_a_child(kit: Kit, autojump_clock: MockClock) -> None:
    # SUP-109, SUP-30
    full = kit.spec("b", restart="temporary", shutdown="kill", stop_on=OSError)
    async with open_system(Troupe, MANY, [kit.spec("a"), full]) as sup:
        spec = await sup.get_spec("a")
        assert (spec.restart, spec.shutdown, spec.type) == ("permanent", 5.0, "worker")
        spec = await sup.get_spec("b")
        assert (spec.restart, spec.shutdown, spec.stop_on) == ("temporary", "kill", (OSError,))
        assert repr(spec.start) == "<forgotten>"
        with pytest.raises(NotFound):
            await sup.get_spec("x")


async def test_reconfigure_changes_the_budget_at_once(kit: Kit, autojump_clock: MockClock) -> None:
    # SUP-70, SUP-149
    async with open_system(Troupe, Flags(intensity=0), [kit.spec("a")]) as sup:
        await sup.reconfigure(Plan(Flags(intensity=9), [kit.spec("a")]))
        for _ in range(9):
            (await sup.refs())["a"].tell(Crash(BOOM))
            await settle()
        assert await sup.numbers() == {"a": 10}
        with pytest.raises(SpecError) as caught:
            await sup.reconfigure(Plan(Flags(intensity=100), [kit.spec("a", shutdown=-1)]))
        assert caught.value.code == "bad_shutdown"

    async def scenario() -> None:
        async with open_system(Troupe, Flags(intensity=0), [kit.spec("a")]) as sup:
            await sup.reconfigure(Plan(Flags(intensity=1), [kit.spec("a")]))
            for _ in range(2):
                (await sup.refs())["a"].tell(Crash(BOOM))
                await settle()
            await trio.sleep_forever()

    await failure_of(scenario)


async def test_reconfigure_adds_changes_and_drops(kit: Kit, autojump_clock: MockClock) -> None:
    # SUP-70, SUP-150
    async with open_system(Troupe, MANY, [kit.spec("a"), kit.spec("b")]) as sup:
        await sup.reconfigure(IGNORE)
        assert list(await sup.statuses()) == ["a", "b"]
        await sup.reconfigure(Plan(MANY, [kit.spec("b", restart="temporary"), kit.spec("c")]))
        assert await sup.statuses() == {"b": "running", "c": "stopped", "a": "running"}
        assert await sup.numbers() == {"b": 1, "a": 1}
        assert (await sup.get_spec("b")).restart == "temporary"
        (await sup.refs())["b"].tell(Crash(BOOM))
        await settle()
        assert await sup.statuses() == {"c": "stopped", "a": "running"}
        assert (await sup.restart_child("c")).ref is not None


async def test_counts_stay_exact(kit: Kit, autojump_clock: MockClock) -> None:
    # SUP-61
    sub = ChildSpec("sub", lambda: Troupe(MANY, []), type="supervisor")
    async with open_system(Troupe, Flags(intensity=10_000), [sub]) as sup:
        for round_ in range(50):
            for i in range(4):
                await sup.start_child(kit.spec(f"{round_}-{i}", restart="transient"))
            refs = await sup.refs()
            refs[f"{round_}-0"].kill()
            refs[f"{round_}-1"].tell(End(Normal()))
            await sup.terminate_child(f"{round_}-2")
            await sup.delete_child(f"{round_}-2")
            await settle()
        assert await sup.counted() == [151, 101, 1, 150]
        assert Killed() in cell_of((await sup.refs())["0-0"]).last_exits


class Child(AsyncPuppet):
    """Asks whoever has it started, before it runs."""

    def __init__(self, parent: Ref[PuppetMessage]) -> None:
        super().__init__()
        self.parent = parent

    async def on_start(self) -> None:
        await self.parent.ask(Call(lambda me: 1), timeout=60)


class Family(Supervisor, intensity=9):
    """One who has children started, and where they are started."""

    parent = child(AsyncPuppet)
    pool = dynamic(Child)


@pytest.mark.parametrize("kind", ["static", "dynamic"])
async def test_a_child_that_asks_whoever_waits_for_its_start_fails_at_once(
    autojump_clock: MockClock, kind: str
) -> None:
    # ACT-35, SUP-44
    async with open_system(Family) as family:
        parent = family.parent

        async def start() -> None:
            if kind == "dynamic":
                await family.pool.start_child(parent)
            else:
                await family.start_child(ChildSpec("late", partial(Child, parent)))

        async def starts(me: AnyPuppet) -> object:
            with pytest.raises(StartFailed) as caught:
                await start()
            assert me.cell.waiting_on is None
            return caught.value.cause

        error = await parent.ask(Call(starts), timeout=60)
        assert isinstance(error, DeadlockError)
        assert error.cycle[1:] == ("family/parent", error.cycle[0])
        assert trio.current_time() == 0

        async def gives_up(me: AnyPuppet) -> None:
            with trio.move_on_after(1):
                await family.start_child(ChildSpec("slow", partial(AsyncPuppet, None, sleeping(5))))
            assert me.cell.waiting_on is None

        parent.tell(Do(gives_up))
        await trio.testing.wait_all_tasks_blocked()
        assert family.system.stats(parent).waiting_on == "family/slow"
        await parent.ask(Call(lambda me: 1))
