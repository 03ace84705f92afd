"""Significant children, and the automatic shutdown they bring about."""

import pytest
import trio
from trio.testing import MockClock

from actors.runtime import Normal, Shutdown, narrow
from supervision import (
    ChildSpec,
    Flags,
    Plan,
    handle_of,
    open_system,
)
from supervision.specs.words import AutoShutdownMode, Strategy
from tests.supervision.puppets import BOOM, MANY, Crash, End, Kit, Troupe, ref_of, settle


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
        inner = handle_of(Troupe, ref_of(await sup.which_child("sub")))
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
        narrow(cell.ref, kit.puppet).tell(End(Normal()))
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
