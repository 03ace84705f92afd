"""Dynamic children by key: first messages, limits, cooling down and passivation."""

from functools import partial

import pytest
import trio
from trio.testing import MockClock

from actors.runtime import ActorExited, Crashed, Exit, Killed, NoProc, Normal, Ref, Shutdown
from actors.runtime.cell import cell_of
from supervision import (
    AlreadyStarted,
    Backoff,
    ChildSpec,
    Dynamic,
    DynamicFlags,
    Flags,
    KeyRefused,
    Passivated,
    Plan,
    SpecError,
    StartResult,
    TooManyChildren,
    handle_of,
    open_system,
)
from tests.supervision.puppets import (
    Crash,
    End,
    Kit,
    Note,
    Number,
    Shield,
    Sleep,
    Troupe,
    Word,
    failure_of,
    ref_of,
    settle,
)

BOOM = ValueError("boom")
MANY = DynamicFlags(intensity=10_000)
KEYED = DynamicFlags(intensity=10_000, key="child_id")
Pool = Dynamic[Word]


def template(kit: Kit, **options: object) -> ChildSpec:
    """Children called by number (`start_child("1")`) or by key."""
    start = partial(kit.puppet, kit.stage)
    return ChildSpec.parse({"id": "one", "start": start, "backoff": QUICK, **options})


# A wait so short that it never matters, and always the same.
QUICK = Backoff(0.001, 0.001, jitter=0.0)


def word(result: StartResult) -> Ref[Word]:
    assert result.ref is not None
    return result.ref  # type: ignore[return-value]  # we know what it takes


async def counted(pool: Pool) -> list[int]:
    counts = await pool.count_children()
    return [counts.specs, counts.active, counts.supervisors, counts.workers]


async def test_the_first_message_starts_a_keyed_child(kit: Kit, autojump_clock: MockClock) -> None:
    # SUP-50, SUP-3
    async with open_system(Pool, KEYED, template(kit)) as pool:
        ref = pool["oak"]
        assert pool["oak"] == ref
        assert ref.path == "dynamic/oak"
        assert await counted(pool) == [1, 0, 0, 0]
        assert pool.running("oak") is None
        for i in range(100):
            pool["oak"].tell(Note(str(i)))
        assert await ref.ask(Number()) == 1
        assert kit.stage.log == ["start oak", *(f"oak {i}" for i in range(100))]
        assert pool.running("oak") == ref
        assert pool.keys() == ["oak"]
        with pytest.raises(AlreadyStarted):
            await pool.start_child(key="oak")
        assert (await pool.start_child(key="elm")).ref == pool["elm"]
        for bad in ("", "a/b", "x" * 201, "a\nb"):
            with pytest.raises(ValueError, match="name"):
                pool[bad]


async def test_a_keyed_child_that_does_not_start(kit: Kit, autojump_clock: MockClock) -> None:
    # SUP-50
    async with open_system(Pool, KEYED, template(kit)) as pool:
        kit.stage.will_start("oak", OSError("no wood"))
        pool["oak"].tell(Note("lost"))
        with pytest.raises(ActorExited) as caught:
            await pool["oak"].ask(Number())
        assert isinstance(caught.value.exit, Crashed)
        assert isinstance(caught.value.exit.error, OSError)
        assert [letter.reason for letter in pool.system.dead_letters].count("stopped") == 2
        assert await pool["oak"].ask(Number()) == 1


async def test_the_limit_of_children(kit: Kit, autojump_clock: MockClock) -> None:
    # SUP-51
    flags = DynamicFlags(key="child_id", max_children=2)
    async with open_system(Pool, flags, template(kit)) as pool:
        for key in ("a", "b"):
            await pool.start_child(key=key)
        with pytest.raises(TooManyChildren) as caught:
            await pool.start_child(key="c")
        assert caught.value.limit == 2
        pool["c"].tell(Note("lost"))
        with pytest.raises(NoProc, match="max_children=2"):
            await pool["c"].ask(Number())
        letters = list(pool.system.dead_letters)
        assert letters[0].reason == "no_such_actor"
        await pool.terminate_child(pool["a"])
        assert await pool["c"].ask(Number()) == 1


async def test_a_key_that_gave_up_cools_down(kit: Kit, autojump_clock: MockClock) -> None:
    # SUP-51
    flags = DynamicFlags(intensity=0, key="child_id")
    async with open_system(Pool, flags, template(kit)) as pool:
        pool["a"].tell(Crash(BOOM))
        await settle()
        with pytest.raises(NoProc, match="gave up"):
            await pool["a"].ask(Number())
        with pytest.raises(KeyRefused) as caught:
            await pool.start_child(key="a")
        assert caught.value.retry_in == pytest.approx(30.0)
        await trio.sleep(30.0)
        assert await pool["a"].ask(Number()) == 1


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


async def test_a_dynamic_supervisor_in_the_middle_is_restarted(
    kit: Kit, autojump_clock: MockClock
) -> None:
    # SUP-33: its children were no part of a plan and do not return
    inner = ChildSpec("pool", partial(Pool, KEYED, template(kit)))
    async with open_system(Troupe, Flags(intensity=9), [inner]) as sup:
        pool = handle_of(Pool, ref_of(await sup.which_child("pool")))
        old = pool["a"]
        assert await old.ask(Number()) == 1
        pool.ref.kill()
        await settle()
        assert await counted(pool) == [1, 0, 0, 0]
        with pytest.raises(NoProc):
            await old.ask(Number())
        assert await pool["a"].ask(Number()) == 1


async def test_an_idle_child_is_passivated(kit: Kit, autojump_clock: MockClock) -> None:
    # SUP-52
    flags = DynamicFlags(intensity=0, key="child_id", passivate_after=10.0)
    async with open_system(Pool, flags, template(kit)) as pool:
        kit.stage.follow(pool.system)
        ref = pool["a"]
        assert await ref.ask(Number()) == 1
        await trio.sleep(9.0)
        assert await ref.ask(Number()) == 1
        await trio.sleep(9.0)
        assert pool.keys() == ["a"]
        await trio.sleep(2.0)
        assert pool.keys() == []
        assert kit.stage.log == ["start a", "stop a shutdown"]
        assert await counted(pool) == [1, 0, 0, 0]
        # The ref still stands; its next message starts the next one.
        assert await ref.ask(Number()) == 2
        assert kit.stage.reports == []
        assert list(pool.system.dead_letters) == []


async def test_a_message_while_passivating_is_handled_by_the_next(
    async_kit: Kit, autojump_clock: MockClock
) -> None:
    # SUP-52, SUP-195
    kit = async_kit
    flags = DynamicFlags(intensity=0, key="child_id", passivate_after=10.0)
    async with open_system(Pool, flags, template(kit)) as pool:
        kit.stage.stops["a"] = 2.0
        ref = pool["a"]
        assert await ref.ask(Number()) == 1
        await trio.sleep(11.0)
        assert (await pool.which_child(ref)).status == "stopping"
        ref.tell(Note("late"))
        await trio.sleep(2.0)
        assert kit.stage.log == ["start a", "stop a shutdown", "start a", "a late"]
        assert list(pool.system.dead_letters) == []
        assert pool.keys() == ["a"]
        last = cell_of(ref).last_exits[-1]
        assert isinstance(last, Shutdown)
        assert isinstance(last.info, Passivated)


async def test_a_busy_child_is_not_passivated(async_kit: Kit, autojump_clock: MockClock) -> None:
    # SUP-52
    flags = DynamicFlags(key="child_id", passivate_after=10.0)
    async with open_system(Pool, flags, template(async_kit)) as pool:
        pool["a"].tell(Sleep(50.0))
        await trio.sleep(49.0)
        assert pool.keys() == ["a"]
        await trio.sleep(10.0)
        assert pool.keys() == ["a"]
        await trio.sleep(3.0)
        assert pool.keys() == []


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
