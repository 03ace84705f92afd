"""Calls on a running static supervisor, significant children and live reconfiguration."""

from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from actors.runtime import IGNORE, Killed, NoProc, Normal, Shutdown
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
    open_system,
)
from supervision.words import AutoShutdownMode, Strategy
from tests.supervision.puppets import Crash, End, Kit, Troupe, failure_of, settle

BOOM = ValueError("boom")
MANY = Flags(intensity=100)


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


# SUP-65, SUP-145
@pytest.mark.parametrize(
    ("mode", "how", "ends"),
    [
        ("any", "terminate", False),
        ("any", "kill", True),
        ("any", "crash", True),
        ("any", "normal", True),
        ("all", "terminate", False),
        ("all", "kill", False),
        ("all", "both", True),
    ],
)
async def test_a_significant_child_ends_its_supervisor(
    kit: Kit, mode: AutoShutdownMode, how: str, ends: bool, autojump_clock: MockClock
) -> None:
    specs = [
        kit.spec("a", restart="temporary", significant=True),
        kit.spec("b", restart="temporary", significant=True),
        kit.spec("c"),
    ]
    sub = ChildSpec(
        "sub", lambda: Troupe(Flags(auto_shutdown=mode), specs), type="supervisor",
        restart="transient",
    )  # fmt: skip
    async with open_system(Troupe, MANY, [sub]) as sup:
        inner = Troupe.__new__(Troupe)
        inner._handle_of = (await sup.which_child("sub")).ref
        refs = await inner.refs()
        match how:
            case "terminate":
                await inner.terminate_child("a")
            case "kill":
                refs["a"].kill()
            case "crash":
                refs["a"].tell(Crash(BOOM))
            case "normal":
                refs["a"].tell(End(Normal()))
            case _:
                refs["a"].tell(End(Normal()))
                await settle()
                refs["b"].tell(Crash(BOOM))
        await settle()
        # SUP-66, SUP-148: to the parent it is a clean end; not significant there, so it lives
        assert await sup.statuses() == {"sub": "stopped" if ends else "running"}
        assert ("stop c shutdown" in kit.stage.log) == ends


@pytest.mark.parametrize("significant", [True, False])
async def test_an_automatic_shutdown_may_go_on_upwards(
    kit: Kit, significant: bool, autojump_clock: MockClock
) -> None:
    # SUP-66, SUP-148
    leaf = kit.spec("leaf", restart="transient", significant=True)
    any_flags = Flags(auto_shutdown="any")
    sub = ChildSpec(
        "sub", lambda: Troupe(any_flags, [leaf]), type="supervisor", restart="transient",
        significant=significant,
    )  # fmt: skip
    middle = ChildSpec(
        "middle", lambda: Troupe(any_flags, [sub, kit.spec("other")]), type="supervisor",
        restart="transient",
    )  # fmt: skip
    async with open_system(Troupe, MANY, [middle]) as sup:
        cell = sup.system.at("troupe/middle/sub/leaf")
        assert cell is not None
        cell.ref.tell(End(Normal()))  # type: ignore[arg-type]
        await settle()
        assert await sup.statuses() == {"middle": "stopped" if significant else "running"}


# SUP-65, SUP-147
@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
@pytest.mark.parametrize("mode", ["any", "all"])
async def test_a_group_stop_is_no_significant_end(
    kit: Kit, strategy: Strategy, mode: AutoShutdownMode, autojump_clock: MockClock
) -> None:
    flags = Flags(strategy, 10, 5.0, mode)
    specs = [kit.spec("a"), kit.spec("b", restart="temporary", significant=True)]
    async with open_system(Troupe, flags, specs) as sup:
        (await sup.refs())["a"].tell(Crash(BOOM))
        await settle()
        assert await sup.statuses() == {"a": "running"}


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


async def test_auto_shutdown_may_change_in_any_direction(
    kit: Kit, autojump_clock: MockClock
) -> None:
    # SUP-71: an ending of the past never shuts down
    def plan(mode: AutoShutdownMode) -> Plan:
        significant = mode != "never"
        specs = [kit.spec(one, restart="transient", significant=significant) for one in "ab"]
        return Plan(Flags(auto_shutdown=mode), specs)

    async with open_system(Troupe, Flags(), list(plan("never").specs)) as sup:
        (await sup.refs())["a"].tell(End(Normal()))
        await settle()
        await sup.reconfigure(plan("any"))
        await settle()
        assert await sup.statuses() == {"a": "stopped", "b": "running"}
        await sup.reconfigure(plan("never"))
        (await sup.refs())["b"].tell(End(Normal()))
        await settle()
        assert await sup.statuses() == {"a": "stopped", "b": "stopped"}
        await sup.restart_child("a")
        await sup.reconfigure(plan("any"))
        exits: list[object] = []
        async with trio.open_nursery() as nursery:

            async def collect() -> None:
                exits.append(await sup.system.wait_down(sup.ref))

            nursery.start_soon(collect)
            await settle()
            (await sup.refs())["a"].tell(End(Normal()))
        assert exits == [Shutdown()]


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
        assert Killed() in (await sup.refs())["0-0"]._cell.last_exits
