"""Dynamic supervisors: children of one template by ref, and a budget for each."""

from functools import partial

import pytest
import trio
from trio.testing import MockClock

from actors.runtime import IGNORE, Exit, Killed, NoProc, Normal, Ref, Shutdown, StartIgnored
from supervision import (
    Backoff,
    ChildSpec,
    Dynamic,
    DynamicFlags,
    Flags,
    NotFound,
    Plan,
    SpecError,
    StartFailed,
    StartResult,
    Unsupported,
    open_system,
)
from tests.supervision.pools import MANY, Pool, counted, template, word
from tests.supervision.puppets import (
    BOOM,
    Crash,
    End,
    Kit,
    Note,
    Number,
    Shield,
    Word,
    failure_of,
    settle,
)


async def test_administration_by_ref(kit: Kit, autojump_clock: MockClock) -> None:
    # SUP-60, SUP-61, SUP-121
    async with open_system(Pool, MANY, template(kit)) as pool:
        stranger = await pool.system.start(kit.puppet, kit.stage, "stranger")
        ref = word(await pool.start_child("1"))
        other = word(await pool.start_child("2"))
        assert [one.ref for one in await pool.which_children()] == [ref, other]
        assert [one.id for one in await pool.which_children(1, 1)] == [None]
        assert (await pool.which_child(ref)).incarnation == 1
        assert (await pool.get_spec(ref)).restart == "permanent"
        for call in (pool.terminate_child, pool.restart_child, pool.delete_child):
            with pytest.raises(Unsupported):
                await call("1")  # type: ignore[arg-type]
        with pytest.raises(Unsupported):
            await pool.which_child("1")  # type: ignore[arg-type]
        with pytest.raises(NotFound):
            await pool.terminate_child(stranger)
        assert await stranger.ask(Number()) == 1
        await pool.terminate_child(ref)
        await pool.terminate_child(ref)
        assert await counted(pool) == [1, 1, 0, 1]
        with pytest.raises(Unsupported):
            pool["1"]
    with pytest.raises(NoProc):
        await pool.count_children()


async def test_an_ignoring_child_is_never_listed(kit: Kit, autojump_clock: MockClock) -> None:
    # SUP-11, SUP-105
    async with open_system(Pool, MANY, template(kit, restart="temporary")) as pool:
        kit.stage.will_start("1", IGNORE)
        result = await pool.start_child("1")
        assert result == StartResult(None, None)
        assert await counted(pool) == [1, 0, 0, 0]
        with pytest.raises(StartIgnored):
            _ = result.started


async def test_a_started_child_takes_what_its_pool_takes(
    kit: Kit, autojump_clock: MockClock
) -> None:
    # SUP-15
    async with open_system(Pool, MANY, template(kit)) as pool:
        result = await pool.start_child("1")
        assert result.started is result.ref
        result.started.tell(Note("typed"))
        (listed,) = await pool.which_children()
        assert listed.ref is not None
        listed.ref.tell(Note("as well"))
        assert await result.started.ask(Number()) == 1
        assert kit.stage.cleared() == ["start 1", "1 typed", "1 as well"]


async def test_a_failing_start_lists_nothing(kit: Kit, autojump_clock: MockClock) -> None:
    # SUP-13
    async with open_system(Pool, MANY, template(kit)) as pool:
        kit.stage.will_start("1", OSError("no"))
        with pytest.raises(StartFailed) as caught:
            await pool.start_child("1")
        assert caught.value.spec is None
        assert isinstance(caught.value.cause, OSError)
        assert await counted(pool) == [1, 0, 0, 0]


@pytest.mark.parametrize("restart", ["permanent", "transient"])
async def test_ignoring_at_a_restart_ends_the_child(
    kit: Kit, restart: str, autojump_clock: MockClock
) -> None:
    # SUP-11, SUP-138
    async with open_system(Pool, MANY, template(kit, restart=restart)) as pool:
        kit.stage.will_start("1", None, IGNORE)
        word(await pool.start_child("1")).tell(Crash(BOOM))
        await trio.sleep(1.0)
        assert await pool.which_children() == []


async def test_a_restart_keeps_the_own_arguments(kit: Kit, autojump_clock: MockClock) -> None:
    # SUP-34
    async with open_system(Pool, MANY, template(kit)) as pool:
        refs = [word(await pool.start_child(str(i))) for i in range(3)]
        kit.stage.cleared()
        refs[1].tell(Crash(BOOM))
        await trio.sleep(1.0)
        assert kit.stage.log == ["stop 1 crashed", "start 1"]
        assert [one.incarnation for one in await pool.which_children()] == [1, 2, 1] or (
            sorted(one.incarnation for one in await pool.which_children()) == [1, 1, 2]
        )


async def test_counts_while_restarts_fail(kit: Kit, autojump_clock: MockClock) -> None:
    # SUP-124, SUP-141
    async with open_system(Pool, MANY, template(kit)) as pool:
        refs = [word(await pool.start_child(str(i))) for i in range(3)]
        for i, ref in enumerate(refs):
            kit.stage.will_start(str(i), *[OSError("no")] * 100)
            ref.tell(Crash(BOOM))
        await trio.sleep(0.05)
        assert await counted(pool) == [1, 0, 0, 3]
        await pool.terminate_child(refs[0])
        assert await counted(pool) == [1, 0, 0, 2]
        await trio.sleep(1.0)
        assert await counted(pool) == [1, 2, 0, 2]


# SUP-20, SUP-116
async def test_children_stop_in_parallel(async_kit: Kit, autojump_clock: MockClock) -> None:
    kit = async_kit
    kit.stage.stops.update({"1": 1.0, "2": 1.0, "3": 5.0})
    exits: list[Exit | NoProc] = []

    async def collect(pool: Pool, ref: Ref[Word]) -> None:
        exits.append(await pool.system.wait_down(ref, final=True))

    async with trio.open_nursery() as nursery:
        async with open_system(Pool, MANY, template(kit, shutdown=2)) as pool:
            for i in "123":
                nursery.start_soon(collect, pool, word(await pool.start_child(i)))
            await settle()
            began = trio.current_time()
        assert trio.current_time() - began == 2.0
    assert sorted(type(one).__name__ for one in exits) == ["Killed", "Shutdown", "Shutdown"]


async def test_children_are_killed_in_parallel(kit: Kit, autojump_clock: MockClock) -> None:
    # SUP-20
    async with open_system(Pool, MANY, template(kit, shutdown="kill")) as pool:
        for i in range(50):
            await pool.start_child(str(i))
        kit.stage.cleared()
    assert kit.stage.log == []


async def test_a_child_with_a_budget_of_its_own_gives_up(
    kit: Kit, autojump_clock: MockClock
) -> None:
    # SUP-46, SUP-193
    async with open_system(Pool, DynamicFlags(), template(kit)) as pool:
        kit.stage.follow(pool.system)
        refs = [word(await pool.start_child(str(i))) for i in range(100)]
        for _ in range(6):
            refs[7].tell(Crash(BOOM))
            await trio.sleep(0.1)
        children = await pool.which_children()
        assert len(children) == 99
        assert {one.incarnation for one in children} == {1}
        assert kit.stage.contexts()[-1] == "child_gave_up"
        assert kit.stage.contexts().count("child_terminated") == 6


async def test_the_default_backoff_of_dynamic_children(kit: Kit, autojump_clock: MockClock) -> None:
    # SUP-46: the Backoff of SUP-44
    spec = ChildSpec("one", partial(kit.puppet, kit.stage))
    async with open_system(Pool, DynamicFlags(), spec) as pool:
        assert (await pool.get_spec()).backoff == Backoff()
        ref = word(await pool.start_child("1"))
        ref.tell(Crash(BOOM))
        await settle()
        assert (await pool.which_child(ref)).status == "backing_off"
        await pool.restart_now(ref)
        await settle()
        assert (await pool.which_child(ref)).incarnation == 2


@pytest.mark.parametrize("budget", ["shared", "escalate"])
async def test_budgets_that_end_the_supervisor(
    kit: Kit, budget: str, autojump_clock: MockClock
) -> None:
    # SUP-46
    crashes: list[int] = []

    async def scenario() -> None:
        flags = DynamicFlags(intensity=3, budget=budget)  # type: ignore[arg-type]
        async with open_system(Pool, flags, template(kit)) as pool:
            refs = [word(await pool.start_child(str(i))) for i in range(4)]
            for i in range(20):
                crashes.append(i)
                refs[i % 4 if budget == "shared" else 0].tell(Crash(BOOM))
                await trio.sleep(0.1)

    caught = await failure_of(scenario)
    assert caught.exceptions == (BOOM,)
    assert len(crashes) == 4


async def test_the_spec_of_a_dynamic_child_can_be_read_when_it_has_ended(kit: Kit) -> None:
    # SUP-60
    template = ChildSpec("one", partial(kit.puppet, kit.stage), restart="temporary")
    async with open_system(Dynamic[Word], DynamicFlags(), template) as pool:
        ref = (await pool.start_child("1")).ref
        assert ref is not None
        await pool.terminate_child(ref)
        assert (await pool.get_spec(ref)).restart == "temporary"
        with pytest.raises(NotFound):
            await pool.get_spec(pool.ref)


async def test_a_new_template_serves_later_starts(kit: Kit, autojump_clock: MockClock) -> None:
    # SUP-70, SUP-151
    async with open_system(Pool, MANY, template(kit)) as pool:
        old = word(await pool.start_child("1"))
        await pool.reconfigure(Plan(MANY, [template(kit, restart="temporary")]))
        new = word(await pool.start_child("2"))
        old.tell(Crash(BOOM))
        new.tell(Crash(BOOM))
        await trio.sleep(1.0)
        assert [one.ref for one in await pool.which_children()] == [old]
        for specs in ([], [template(kit), kit.spec("two")]):
            with pytest.raises(SpecError) as caught:
                await pool.reconfigure(Plan(MANY, specs))
            assert caught.value.code == "bad_template"
        with pytest.raises(SpecError) as caught:
            await pool.reconfigure(Plan(Flags(), []))
        assert caught.value.code == "bad_template"


async def test_errors_of_dynamic_children_are_judged_too(
    kit: Kit, autojump_clock: MockClock
) -> None:
    # SUP-47
    spec = template(kit, stop_on=ValueError, escalate_on=MemoryError)

    async def scenario() -> None:
        async with open_system(Pool, MANY, spec) as pool:
            word(await pool.start_child("1")).tell(Crash(BOOM))
            await settle()
            assert await counted(pool) == [1, 0, 0, 0]
            word(await pool.start_child("2")).tell(Crash(MemoryError("all gone")))
            await trio.sleep_forever()

    caught = await failure_of(scenario)
    assert [type(error) for error in caught.exceptions] == [MemoryError]


async def test_an_unkillable_dynamic_child_does_not_hold_up_calls(
    async_kit: Kit, autojump_clock: MockClock
) -> None:
    # SUP-90, SUP-24
    kit = async_kit
    async with open_system(Pool, MANY, template(kit, shutdown=1)) as pool:
        ref = word(await pool.start_child("1"))
        ref.tell(Shield(60.0))
        await settle()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pool.terminate_child, ref)
            await trio.sleep(2.5)
            assert (await pool.which_child(ref)).status == "unkillable"
            assert (await pool.start_child("2")).ref is not None


# SUP-30, SUP-128
@pytest.mark.parametrize("how", [Normal(), Shutdown(), Killed(), None])
async def test_temporary_dynamic_children_go(
    kit: Kit, how: Exit | None, autojump_clock: MockClock
) -> None:
    async with open_system(Pool, MANY, template(kit, restart="temporary")) as pool:
        ref = word(await pool.start_child("1"))
        match how:
            case None:
                ref.tell(Crash(BOOM))
            case Killed():
                ref.kill()
            case exit_:
                ref.tell(End(exit_))
        await settle()
        assert await counted(pool) == [1, 0, 0, 0]
