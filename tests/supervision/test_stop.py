"""How a tree stops: order, deadlines, unexpected answers, and what cannot be killed."""

from functools import partial

import pytest
import structlog
import trio
from trio.testing import MockClock

from actors.runtime import Crashed, Exit, Killed, NoProc, Normal, Ref, Shutdown
from supervision import ChildSpec, Flags, open_system
from tests.supervision.puppets import (
    MANY,
    AsyncPuppet,
    Crash,
    End,
    Kit,
    Shield,
    Sleep,
    Troupe,
    Word,
    settle,
)


async def test_worker_and_supervisor_without_deadline_exit_shutdown(
    kit: Kit, autojump_clock: MockClock
) -> None:
    # SUP-111
    inf = float("inf")
    sub = ChildSpec("sub", lambda: Troupe(Flags(), [kit.spec("x")]), type="supervisor")
    assert sub.shutdown == inf
    async with open_system(Troupe, Flags(), [kit.spec("a", shutdown=inf), sub]) as sup:
        ends = [(await sup.which_child(one)).ref for one in ("a", "sub")]
        async with trio.open_nursery() as nursery:
            exits: list[object] = []
            for ref in ends:
                assert ref is not None
                nursery.start_soon(_collect, sup, ref, exits)
            await settle()
            await sup.ref.stop()
    assert exits == [Shutdown(), Shutdown()]


async def _collect(sup: Troupe, ref: object, exits: list[object]) -> None:
    exits.append(await sup.system.wait_down(ref, final=True))  # type: ignore[arg-type]


async def test_a_deadline_kills_the_busy_one_only(
    async_kit: Kit, autojump_clock: MockClock
) -> None:
    # SUP-21, SUP-112
    kit = async_kit
    exits: list[object] = []
    async with trio.open_nursery() as nursery:
        specs = [kit.spec("a", shutdown=1), kit.spec("b", shutdown=1)]
        async with open_system(Troupe, Flags(), specs) as sup:
            refs = await sup.refs()
            refs["b"].tell(Sleep(200.0))
            for one in "ab":
                nursery.start_soon(_collect, sup, refs[one], exits)
            await settle()
            began = trio.current_time()
        assert trio.current_time() - began == 1.0
    assert exits == [Killed(), Shutdown()]
    assert kit.stage.log[2:] == ["stop a shutdown"]


async def test_kill_as_shutdown_skips_on_stop(kit: Kit, autojump_clock: MockClock) -> None:
    # SUP-113, SUP-23
    specs = [kit.spec("a", shutdown="kill"), kit.spec("b", shutdown=5)]
    exits: list[object] = []
    async with trio.open_nursery() as nursery, open_system(Troupe, Flags(), specs) as sup:
        kit.stage.follow(sup.system)
        for ref in (await sup.refs()).values():
            nursery.start_soon(_collect, sup, ref, exits)
        await settle()
    assert exits == [Shutdown(), Killed()]
    assert kit.stage.log[2:] == ["stop b shutdown"]
    assert kit.stage.reports == []


async def test_what_ends_by_itself_during_a_stop_is_recorded_as_it_was(
    kit: Kit, autojump_clock: MockClock
) -> None:
    # SUP-22, SUP-23, SUP-114, SUP-153: 3 restart types x 4 endings, while another one stops
    endings: list[Exit] = [Normal(), Shutdown(), Shutdown("x"), Crashed(ValueError("boom"))]
    kinds = ("permanent", "transient", "temporary")
    specs = [kit.spec(f"{kind}{i}", restart=kind) for kind in kinds for i in range(4)]
    slow = ChildSpec("slow", partial(AsyncPuppet, kit.stage, "slow"))
    kit.stage.stops["slow"] = 1.0
    exits: dict[str, object] = {}

    async def collect(sup: Troupe, child_id: str, ref: object) -> None:
        exits[child_id] = await sup.system.wait_down(ref, final=True)  # type: ignore[arg-type]

    async def end_all(refs: dict[str, Ref[Word]]) -> None:
        await trio.sleep(0.5)
        for spec in specs:
            ending = endings[int(spec.id[-1])]
            said = Crash(ending.error) if isinstance(ending, Crashed) else End(ending)
            refs[spec.id].tell(said)

    async with (
        trio.open_nursery() as nursery,
        open_system(Troupe, Flags(), [*specs, slow]) as sup,
    ):
        kit.stage.follow(sup.system)
        refs = await sup.refs()
        for child_id, ref in refs.items():
            nursery.start_soon(collect, sup, child_id, ref)
        nursery.start_soon(end_all, refs)
        await settle()
    starts = [line for line in kit.stage.log if line.startswith("start")]
    assert len(starts) == 13
    assert exits.pop("slow") == Shutdown()
    assert exits == {spec.id: endings[int(spec.id[-1])] for spec in specs}
    # Unexpected are the crashes, and the Normal of a permanent child.
    assert kit.stage.contexts() == ["shutdown_error"] * 4
    assert Normal() in [report.reason for report in kit.stage.reports]


async def test_a_stop_that_raises_is_reported_and_still_succeeds(
    kit: Kit, autojump_clock: MockClock
) -> None:
    # SUP-23
    kit.stage.stops["b"] = OSError("cannot close")
    async with open_system(Troupe, Flags(), [kit.spec("a"), kit.spec("b")]) as sup:
        kit.stage.follow(sup.system)
        await sup.terminate_child("b")
        assert await sup.statuses() == {"a": "running", "b": "stopped"}
    assert kit.stage.contexts() == ["shutdown_error"]


async def test_a_shielded_child_is_seen_and_waited_for(
    async_kit: Kit, autojump_clock: MockClock
) -> None:
    # SUP-24, SUP-90, SUP-177
    kit = async_kit
    async with open_system(Troupe, Flags(), [kit.spec("z"), kit.spec("a", shutdown=1)]) as sup:
        kit.stage.follow(sup.system)
        (await sup.refs())["a"].tell(Shield(60.0))
        await settle()
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sup.terminate_child, "a")
            await trio.sleep(1.5)
            assert (await sup.which_child("a")).status == "stopping"
            await trio.sleep(0.5)
            assert await sup.statuses() == {"z": "running", "a": "unkillable"}
            assert kit.stage.contexts() == ["unkillable"]
            assert "sleep" in (kit.stage.reports[0].stack or "")
        assert trio.current_time() - began == 60.0
        assert await sup.statuses() == {"z": "running", "a": "stopped"}


async def test_an_outsiders_kill_of_a_shielded_child_ends_in_a_restart(
    async_kit: Kit, autojump_clock: MockClock
) -> None:
    # SUP-30, SUP-90: nobody asked it to stop, so it is not left stopped
    kit = async_kit
    async with open_system(Troupe, Flags(), [kit.spec("a")]) as sup:
        ref = (await sup.refs())["a"]
        ref.tell(Shield(10.0))
        await settle()
        ref.kill()
        await trio.sleep(2.0)
        assert await sup.statuses() == {"a": "unkillable"}
        await trio.sleep(9.0)
        assert await sup.numbers() == {"a": 2}


async def test_an_ending_supervisor_still_answers(
    async_kit: Kit, autojump_clock: MockClock
) -> None:
    # SUP-177: the stop of the whole supervisor waits for the shielded one
    kit = async_kit
    async with open_system(Troupe, Flags(), [kit.spec("z"), kit.spec("a", shutdown=1)]) as sup:
        (await sup.refs())["a"].tell(Shield(60.0))
        await settle()
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_stop_patiently, sup)
            await trio.sleep(2.0)
            assert await sup.statuses() == {"z": "running", "a": "unkillable"}
        assert trio.current_time() - began == 60.0
        with pytest.raises(NoProc):
            await sup.which_children()


async def _stop_patiently(sup: Troupe) -> None:
    await sup.ref.stop(Shutdown(), timeout=None)


async def test_leaving_says_whom_it_waits_for(async_kit: Kit, autojump_clock: MockClock) -> None:
    # SUP-90
    with structlog.testing.capture_logs() as logs:
        async with open_system(Troupe, Flags(), [async_kit.spec("a", shutdown=1)]) as sup:
            (await sup.refs())["a"].tell(Shield(12.0))
            await settle()
    waits = [log for log in logs if log["event"] == "still_waiting_for"]
    assert [log["path"] for log in waits] == ["troupe/a", "troupe/a"]
    assert all("sleep" in log["stack"] for log in waits)


async def test_a_killed_supervisor_takes_its_children_along(
    kit: Kit, autojump_clock: MockClock
) -> None:
    # SUP-91: and its parent restarts all of it
    sub = ChildSpec("sub", lambda: Troupe(MANY, [kit.spec("x"), kit.spec("y")]), type="supervisor")
    async with open_system(Troupe, MANY, [sub]) as sup:
        ref = (await sup.which_child("sub")).ref
        assert ref is not None
        ref.kill()
        await settle()
        assert kit.stage.log == ["start x", "start y", "start x", "start y"]
        assert await sup.numbers() == {"sub": 2}
        assert len(list(sup.system.cells())) == 4
