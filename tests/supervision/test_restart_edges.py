"""Backoff, escalation, cancellation and kills, with real actors in virtual time."""

from functools import partial
from typing import cast

import pytest
import trio
from trio.testing import MockClock

from actors.runtime import Actor, Ref, message
from supervision import (
    Backoff,
    ChildSpec,
    Flags,
    GaveUp,
    IntensityReached,
    handle_of,
    open_system,
)
from supervision.specs.words import Strategy
from tests.supervision.puppets import (
    Crash,
    Kit,
    Number,
    Sleep,
    Troupe,
    failure_of,
    ref_of,
    settle,
)

BOOM = ValueError("boom")
MANY = Flags(intensity=100)


def flags(strategy: Strategy, intensity: int = 100) -> Flags:
    return Flags(strategy, intensity)


async def crash(sup: Troupe, child_id: str) -> None:
    (await sup.refs())[child_id].tell(Crash(BOOM))
    await settle()


@message
class Aside:
    text: str


class Hoarder(Actor[Aside | Crash]):
    """Sets everything aside, and ends with what it is told."""

    def __init__(self, seen: list[list[str]]) -> None:
        self.seen: list[str] = []
        seen.append(self.seen)

    def on_aside(self, message: Aside) -> None:
        self.seen.append(message.text)
        self.stash()

    def on_crash(self, message: Crash) -> None:
        raise message.error.with_traceback(None)


async def test_what_was_set_aside_comes_first_again(autojump_clock: MockClock) -> None:
    # SUP-188
    seen: list[list[str]] = []
    spec = ChildSpec("a", partial(Hoarder, seen))
    sub = ChildSpec("sub", lambda: Troupe(Flags(intensity=2), [spec]), type="supervisor")
    async with open_system(Troupe, MANY, [sub]) as sup:
        cell = sup.system.at("troupe/sub/a")
        assert cell is not None
        ref = cast("Ref[Aside | Crash]", cell.ref)
        ref.tell(Aside("s1"))
        ref.tell(Aside("s2"))
        for _ in range(2):
            ref.tell(Crash(BOOM))
            await settle()
        ref.tell(Aside("s3"))
        await settle()
        assert seen == [["s1", "s2"], ["s1", "s2"], ["s1", "s2", "s3"]]
        ref.tell(Crash(BOOM))
        await settle()
        stopped = [one for one in sup.system.dead_letters if one.reason == "stopped"]
        assert len(stopped) == 3


async def test_the_next_start_waits_for_the_old_end(
    async_kit: Kit, autojump_clock: MockClock
) -> None:
    # SUP-182
    async_kit.stage.stops["a"] = 3.0
    async with open_system(Troupe, MANY, [async_kit.spec("a")]) as sup:
        (await sup.refs())["a"].tell(Crash(BOOM))
        await trio.sleep(2.9)
        assert await sup.numbers() == {"a": 1}
        await trio.sleep(0.2)
        assert await sup.numbers() == {"a": 2}


async def test_backoff_waits_and_serves(kit: Kit, autojump_clock: MockClock) -> None:
    # SUP-43, SUP-44, SUP-45, SUP-192
    backoff = Backoff(0.1, 30.0, jitter=0.2)
    async with open_system(Troupe, MANY, [kit.spec("a", backoff=backoff), kit.spec("b")]) as sup:
        ref = (await sup.refs())["a"]
        waits = []
        for _ in range(12):
            ref.tell(Crash(BOOM))
            await settle()
            assert (await sup.which_child("a")).status == "backing_off"
            began = trio.current_time()
            assert await sup.numbers() == {"b": 1}
            await ref.ask(Number(), timeout=None)
            waits.append(trio.current_time() - began)
        expected = [min(30.0, 0.1 * 2.0**n) for n in range(12)]
        assert waits == pytest.approx(expected, rel=0.201)
        await trio.sleep(60.0)
        ref.tell(Crash(BOOM))
        await settle()
        began = trio.current_time()
        await ref.ask(Number())
        assert trio.current_time() - began == pytest.approx(0.1, rel=0.201)


async def test_restart_now_and_the_shown_time(kit: Kit, autojump_clock: MockClock) -> None:
    # SUP-44
    backoff = Backoff(9.0, jitter=0.0)
    async with open_system(Troupe, MANY, [kit.spec("a", backoff=backoff)]) as sup:
        began = trio.current_time()
        await crash(sup, "a")
        (node,) = sup.tree.snapshot(sup.path + "/a").actors
        assert node.next_restart_at == began + 9.0
        await sup.restart_now("a")
        await settle()
        assert await sup.numbers() == {"a": 2}
        assert trio.current_time() == began


async def test_a_sub_supervisor_rebuilds_its_static_children(
    kit: Kit, autojump_clock: MockClock
) -> None:
    # SUP-33, SUP-42, SUP-139
    def sub(name: str) -> ChildSpec:
        specs = [kit.spec(f"{name}1", name=f"{name}1"), kit.spec(f"{name}2", restart="transient")]
        return ChildSpec(name, lambda: Troupe(Flags(intensity=1), specs), type="supervisor")

    async with open_system(Troupe, flags("one_for_all"), [sub("x"), sub("y")]) as sup:
        x = handle_of(Troupe, ref_of(await sup.which_child("x")))
        await x.terminate_child("x2")
        await x.start_child(kit.spec("added"))
        await crash(x, "x1")
        assert await sup.numbers() == {"x": 1, "y": 1}
        assert await x.numbers() == {"x1": 2, "added": 1}
        await crash(x, "x1")
        await settle()
        assert await sup.numbers() == {"x": 2, "y": 2}
        assert await x.statuses() == {"x1": "running", "x2": "running"}
        new = sup.system.whereis("x1")
        assert new is not None
        assert new == (await x.which_child("x1")).ref


async def test_a_group_error_is_judged_by_its_leaves(kit: Kit, autojump_clock: MockClock) -> None:
    # SUP-47, SUP-194
    spec = kit.spec("a", stop_on=ValueError, escalate_on=MemoryError)
    group = ExceptionGroup("g", [KeyError(), MemoryError("all gone")])

    async def scenario() -> None:
        async with open_system(Troupe, MANY, [spec]) as sup:
            (await sup.refs())["a"].tell(Crash(group))
            await trio.sleep_forever()

    caught = await failure_of(scenario)
    assert caught.exceptions == (group,)
    async with open_system(Troupe, MANY, [spec]) as sup:
        await crash(sup, "a")
        assert await sup.statuses() == {"a": "stopped"}


async def test_cancellation_from_outside_ends_a_backoff(
    kit: Kit, autojump_clock: MockClock
) -> None:
    # SUP-92, SUP-179
    with trio.move_on_after(1.0) as scope:
        async with open_system(Troupe, MANY, [kit.spec("a", backoff=Backoff(5.0))]) as sup:
            await crash(sup, "a")
            await trio.sleep_forever()
    assert scope.cancelled_caught
    await trio.sleep(20.0)
    assert kit.stage.log.count("start a") == 1


async def test_cancellation_while_a_child_starts(async_kit: Kit, autojump_clock: MockClock) -> None:
    # SUP-92, SUP-179
    async_kit.stage.will_start("a", 5.0)
    with trio.move_on_after(1.0) as scope:
        async with open_system(Troupe, MANY, [async_kit.spec("a"), async_kit.spec("b")]):
            raise AssertionError("never reached")
    assert scope.cancelled_caught
    assert async_kit.stage.log == ["start a"]


async def test_keyboard_interrupt_is_no_crash(kit: Kit, autojump_clock: MockClock) -> None:
    # SUP-180
    async def scenario() -> None:
        async with open_system(Troupe, MANY, [kit.spec("a")]) as sup:
            kit.stage.follow(sup.system)
            (await sup.refs())["a"].tell(Crash(KeyboardInterrupt()))
            await trio.sleep_forever()

    caught = await failure_of(scenario)
    assert caught.subgroup(KeyboardInterrupt) is not None
    assert kit.stage.log.count("start a") == 1
    assert kit.stage.reports == []


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


async def test_a_killed_root_closes_the_system(kit: Kit, autojump_clock: MockClock) -> None:
    # SUP-42
    async def scenario() -> None:
        async with open_system(Troupe, MANY, [kit.spec("a")]) as sup:
            sup.ref.kill()
            await trio.sleep_forever()

    caught = await failure_of(scenario)
    assert [type(error) for error in caught.exceptions] == [GaveUp]


async def test_siblings_are_never_cancelled_by_a_crash(
    async_kit: Kit, autojump_clock: MockClock
) -> None:
    # SUP-91
    async with open_system(Troupe, MANY, [async_kit.spec("a"), async_kit.spec("b")]) as sup:
        refs = await sup.refs()
        refs["a"].tell(Sleep(5.0))
        await crash(sup, "b")
        assert await refs["a"].ask(Number(), timeout=10.0) == 1


def test_the_info_of_giving_up_says_what_happened() -> None:
    # SUP-42
    info = IntensityReached("a", 1, 5.0)
    assert info == IntensityReached("a", 1, 5.0, "give_up_after", ValueError())
    assert "a" in str(info)
