"""What is restarted and when, with real actors in virtual time."""

from functools import partial
from typing import cast

import pytest
import trio
from trio.testing import MockClock

from actors.runtime import (
    Actor,
    ActorExited,
    Exit,
    Killed,
    NoProc,
    Normal,
    Ref,
    Shutdown,
    System,
    UnhandledMessage,
    message,
)
from supervision import (
    ChildSpec,
    Flags,
    IntensityReached,
    Report,
    handle_of,
    open_system,
)
from supervision.specs.words import Strategy
from tests.supervision.puppets import (
    BOOM,
    MANY,
    Crash,
    End,
    Kit,
    Note,
    Number,
    Sleep,
    Troupe,
    crash,
    failure_of,
    flags,
    ref_of,
    settle,
)


# SUP-30, SUP-125, SUP-126, SUP-127, SUP-128
@pytest.mark.parametrize(
    ("restart", "how", "then"),
    [
        ("permanent", Normal(), "new"),
        ("permanent", Shutdown("x"), "new"),
        ("permanent", Killed(), "new"),
        ("permanent", None, "new"),
        ("transient", Normal(), "stopped"),
        ("transient", Shutdown("x"), "stopped"),
        ("transient", Killed(), "new"),
        ("transient", None, "new"),
        ("temporary", Normal(), "gone"),
        ("temporary", Shutdown(), "gone"),
        ("temporary", Killed(), "gone"),
        ("temporary", None, "gone"),
    ],
)
async def test_an_ending_is_answered_by_the_restart_type(
    kit: Kit, restart: str, how: Exit | None, then: str, autojump_clock: MockClock
) -> None:
    async with open_system(Troupe, MANY, [kit.spec("a", restart=restart), kit.spec("b")]) as sup:
        before = await sup.refs()
        match how:
            case None:
                before["a"].tell(Crash(BOOM))
            case Killed():
                before["a"].kill()
            case exit_:
                before["a"].tell(End(exit_))
        await settle()
        statuses = await sup.statuses()
        if then == "new":
            assert await sup.numbers() == {"a": 2, "b": 1}
            assert (await sup.refs())["a"] == before["a"]
        elif then == "stopped":
            assert statuses == {"a": "stopped", "b": "running"}
            assert (await sup.restart_child("a")).ref is not None
        else:
            assert statuses == {"b": "running"}
            assert await sup.counted() == [1, 1, 0, 1]
            assert (await sup.start_child(kit.spec("a", restart=restart))).ref is not None


async def test_rest_for_one_restarts_in_order(kit: Kit, autojump_clock: MockClock) -> None:
    # SUP-20, SUP-31, SUP-115
    specs = [kit.spec(one) for one in ("7", "3", "10", "2", "5")]
    async with open_system(Troupe, flags("rest_for_one"), specs) as sup:
        kit.stage.cleared()
        await crash(sup, "10")
        assert kit.stage.cleared() == [
            "stop 10 crashed",
            *("stop 5 shutdown", "stop 2 shutdown", "start 10", "start 2", "start 5"),
        ]
        assert await sup.numbers() == {"7": 1, "3": 1, "10": 2, "2": 2, "5": 2}
    assert kit.stage.log == [f"stop {one} shutdown" for one in ("5", "2", "10", "3", "7")]


# SUP-133, SUP-134, SUP-136
@pytest.mark.parametrize(
    ("strategy", "numbers"),
    [
        ("one_for_one", {"a": 1, "b": 2, "c": 1}),
        ("one_for_all", {"a": 2, "b": 2, "c": 2}),
        ("rest_for_one", {"a": 1, "b": 2, "c": 2}),
    ],
)
async def test_a_strategy_renews_its_share(
    kit: Kit, strategy: Strategy, numbers: dict[str, int], autojump_clock: MockClock
) -> None:
    async with open_system(Troupe, flags(strategy), [kit.spec(one) for one in "abc"]) as sup:
        refs = await sup.refs()
        await crash(sup, "b")
        assert await sup.numbers() == numbers
        # SUP-187, SUP-33: refs taken before the restart reach the new incarnation
        assert await sup.refs() == refs
        for child_id, number in numbers.items():
            assert await refs[child_id].ask(Number()) == number


async def test_one_for_all_begins_again_when_a_start_fails(
    kit: Kit, autojump_clock: MockClock
) -> None:
    # SUP-32, SUP-135
    specs = [kit.spec("a"), kit.spec("b")]
    async with open_system(Troupe, flags("one_for_all"), specs) as sup:
        kit.stage.follow(sup.system)
        kit.stage.cleared()
        kit.stage.will_start("b", OSError("no"))
        await crash(sup, "a")
        assert kit.stage.log == [
            "stop a crashed",
            *("stop b shutdown", "start a", "start b"),
            *("stop a shutdown", "start a", "start b"),
        ]
        assert kit.stage.contexts() == ["child_terminated", "start_error"]


async def test_rest_for_one_goes_on_from_a_start_that_failed(
    kit: Kit, autojump_clock: MockClock
) -> None:
    # SUP-32, SUP-137
    specs = [kit.spec("a"), kit.spec("b")]
    async with open_system(Troupe, flags("rest_for_one"), specs) as sup:
        kit.stage.cleared()
        kit.stage.will_start("b", OSError("no"))
        await crash(sup, "a")
        assert kit.stage.log[-4:] == ["stop b shutdown", "start a", "start b", "start b"]
        assert (await sup.numbers())["a"] == 2


async def test_a_start_that_fails_for_ever_is_given_up(kit: Kit, autojump_clock: MockClock) -> None:
    # SUP-42, SUP-132, SUP-43
    answers: list[str] = []

    async def scenario() -> None:
        async with open_system(Troupe, Flags(intensity=4), [kit.spec("a"), kit.spec("b")]) as sup:
            kit.stage.follow(sup.system)
            kit.stage.will_start("a", *[OSError("no")] * 50)
            (await sup.refs())["a"].tell(Crash(BOOM))
            try:
                while True:
                    answers.append((await sup.which_child("a")).status)
            except NoProc:
                await trio.sleep_forever()

    caught = await failure_of(scenario)
    assert len(answers) > 4
    assert "restarting" in answers
    assert [type(error) for error in caught.exceptions] == [OSError]
    assert kit.stage.log[-1] == "stop b shutdown"
    assert kit.stage.contexts() == ["child_terminated", *["start_error"] * 4, "shutdown"]
    assert kit.stage.reports[-1].reason == "reached_max_restart_intensity"
    assert kit.stage.reports[-1].offender.id == "a"


# SUP-40, SUP-130, SUP-131
@pytest.mark.parametrize(
    ("intensity", "period", "times", "alive"),
    [
        (1, 5.0, (0.0, 5.0), False),
        (1, 5.0, (0.0, 5.001), True),
        (1, 1.0, (0.0, 2.1, 4.2, 6.3), True),
        (0, 1.0, (0.0,), False),
    ],
)
async def test_the_budget_of_restarts(
    kit: Kit,
    intensity: int,
    period: float,
    times: tuple[float, ...],
    alive: bool,
    autojump_clock: MockClock,
) -> None:
    gave_up: list[Exception] = []
    flags = Flags(intensity=intensity, period=period)
    try:
        async with open_system(Troupe, flags, [kit.spec("a")]) as sup:
            for at in times:
                await trio.sleep_until(at)
                await crash(sup, "a")
    except* ValueError as group:
        gave_up.extend(group.exceptions)
    assert (not gave_up) == alive


async def test_giving_up_returns_what_was_queued(kit: Kit, autojump_clock: MockClock) -> None:
    # SUP-186
    ended: list[str] = []
    systems: list[System] = []

    async def scenario() -> None:
        async with open_system(Troupe, Flags(intensity=0), [kit.spec("a")]) as sup:
            ref = (await sup.refs())["a"]
            systems.append(sup.system)
            ref.tell(Crash(BOOM))
            ref.tell(Note("one"))
            ref.tell(Note("two"))
            try:
                await ref.ask(Number())
            except ActorExited:
                ended.append("exited")

    await failure_of(scenario)
    assert ended == ["exited"]
    reasons = [letter.reason for letter in systems[0].dead_letters]
    assert reasons.count("stopped") == 3
    assert reasons.count("crashed") == 1


async def test_the_queue_survives_a_restart(kit: Kit, autojump_clock: MockClock) -> None:
    # SUP-185, SUP-187
    async with open_system(Troupe, MANY, [kit.spec("a")]) as sup:
        ref = (await sup.refs())["a"]
        ref.tell(Crash(BOOM))
        ref.tell(Note("m2"))
        assert await ref.ask(Number()) == 2
        assert kit.stage.log[-1] == "a m2"
        assert [letter.reason for letter in sup.system.dead_letters] == ["crashed"]


async def test_an_unknown_message_is_no_crash(kit: Kit, autojump_clock: MockClock) -> None:
    # SUP-163
    class Foreign(Number):
        pass

    async with open_system(Troupe, MANY, [kit.spec("a")]) as sup:
        ref = (await sup.refs())["a"]
        with pytest.raises(UnhandledMessage):
            await ref.ask(Foreign())
        assert await ref.ask(Number()) == 1


async def test_five_crashes_make_five_reports(kit: Kit, autojump_clock: MockClock) -> None:
    # SUP-75, SUP-184
    async with open_system(Troupe, MANY, [kit.spec("a")]) as sup:
        kit.stage.follow(sup.system)
        for _ in range(5):
            await crash(sup, "a")
    assert kit.stage.contexts() == ["child_terminated"] * 5
    assert [one.offender.incarnation for one in kit.stage.reports] == [1, 2, 3, 4, 5]
    assert all(isinstance(one, Report) for one in kit.stage.reports)


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
