"""What happens in one actor stays there: context variables, and whatever its code raises."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import FrozenInstanceError, dataclass
from functools import partial
from typing import Literal, TypeAlias, cast

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from actors.runtime import (
    Actor,
    ActorCrashed,
    Ask,
    CallbackFailed,
    Crashed,
    Exit,
    Killed,
    Level,
    Ref,
    Shutdown,
    StartError,
    StopActor,
    System,
    UnhandledMessage,
    open_actors,
)
from actors.runtime.life.cell import cell_of
from actors.testing import AnyPuppet, AsyncPuppet, Call, Do, Puppet, PuppetMessage, raising
from supervision import ChildSpec, Plan, Supervisor, open_system

Kind: TypeAlias = type[Puppet]

var: ContextVar[str] = ContextVar("var", default="clean")


def sets(value: str) -> Callable[[AnyPuppet], None]:
    """Give work that sets the variable."""

    def work(_: AnyPuppet) -> None:
        var.set(value)

    return work


def reads(_: AnyPuppet) -> str:
    """Give the variable, as work or as a hook."""
    return var.get()


# Context variables


async def test_a_variable_set_by_a_handler_reaches_no_other_actor(
    autojump_clock: MockClock, system: System, puppet: Kind
) -> None:
    # ACT-15
    others = [await system.start(Puppet), await system.start(AsyncPuppet)]
    first = await system.start(puppet)
    # Told, from a turn of the dispatcher, and asked, in the task of the asker.
    first.tell(Do(sets("told")))
    await trio.testing.wait_all_tasks_blocked()
    assert [await other.ask(Call(reads)) for other in others] == ["clean", "clean"]
    await first.ask(Call(sets("asked")))
    others += [await system.start(Puppet), await system.start(AsyncPuppet)]
    assert [await other.ask(Call(reads)) for other in others] == ["clean"] * 4
    assert var.get() == "clean"


async def test_an_actor_keeps_what_its_own_code_has_set(
    autojump_clock: MockClock, system: System, puppet: Kind
) -> None:
    # ACT-15
    seen: list[str] = []

    class Sets(puppet):  # type: ignore[valid-type, misc]
        def __init__(self) -> None:
            super().__init__(start=reads_start, stop=lambda me, exit_: seen.append(var.get()))
            var.set("made")

    def reads_start(_: AnyPuppet) -> None:
        seen.append(var.get())
        var.set("started")

    ref: Ref[PuppetMessage] = await system.start(Sets)
    ref.tell(Do(lambda me: seen.append(var.get())))
    ref.tell(Do(sets("told")))
    await trio.testing.wait_all_tasks_blocked()
    assert await ref.ask(Call(reads)) == "told"
    await ref.stop()
    assert seen == ["made", "started", "told"]


async def test_an_incarnation_begins_with_the_variables_of_whoever_opened_the_system(
    autojump_clock: MockClock, puppet: Kind
) -> None:
    # ACT-15
    class Root(Supervisor, intensity=9):
        def plan(self) -> Plan:
            return Plan(self.flags, [ChildSpec("one", puppet)])

    token = var.set("opener")
    try:
        async with open_system(Root) as root:
            var.set("later")
            one = cast("Ref[PuppetMessage]", root.ref_of("one"))
            assert await one.ask(Call(reads)) == "opener"
            one.tell(Do(sets("dirty")))
            one.tell(Do(raising(OSError())))
            await trio.testing.wait_all_tasks_blocked()
            assert await one.ask(Call(reads)) == "opener"
    finally:
        var.reset(token)


async def test_an_actor_started_by_a_handler_does_not_inherit_its_variables(
    autojump_clock: MockClock, system: System, puppet: Kind
) -> None:
    # ACT-15
    made: list[object] = []

    def starts(me: AnyPuppet) -> None:
        var.set("dirty")
        made.append(me.system.begin(puppet))

    await (await system.start(puppet)).ask(Call(starts))
    (ref,) = made
    assert await cast("Ref[PuppetMessage]", ref).ask(Call(reads)) == "clean"


async def test_a_child_task_has_the_variables_of_the_handler_at_that_moment(
    autojump_clock: MockClock, system: System, puppet: Kind
) -> None:
    # ACT-15
    seen: list[str] = []

    async def notes() -> None:
        seen.append(var.get())
        var.set("child task")

    def starts(me: AnyPuppet) -> None:
        for value in ("first", "second"):
            var.set(value)
            me.start_soon(notes)

    ref = await system.start(puppet)
    for _ in range(2):  # Before the nursery of the child tasks is open, and after that.
        ref.tell(Do(starts))
        await trio.testing.wait_all_tasks_blocked()
    assert sorted(seen) == ["first", "first", "second", "second"]
    assert await ref.ask(Call(reads)) == "second"


async def test_variables_outlive_hibernation(autojump_clock: MockClock, system: System) -> None:
    # ACT-15, ACT-56
    def rests(me: AnyPuppet) -> None:
        var.set("kept")
        me.hibernate()

    ref = await system.start(AsyncPuppet)
    ref.tell(Do(rests))
    await trio.testing.wait_all_tasks_blocked()
    assert [cell.life is not None and cell.life.hibernating for cell in system.cells()] == [True]
    assert await ref.ask(Call(reads)) == "kept"


# Whatever user code raises


class Own(BaseException):
    """An exception of an own class that is no `Exception`."""


async def waits(_: AnyPuppet) -> None:
    """Work that goes on until it is cut short."""
    await trio.sleep_forever()


async def kept_cancelled() -> trio.Cancelled:
    """Give a Cancelled as a cache would keep it, whose scope is long gone."""
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.sleep_forever()
        except trio.Cancelled as error:
            kept = error
    return kept


Stray: TypeAlias = Literal["own", "asyncio", "cancelled", "closed", "groups"]
LEVELS: list[Level] = ["counters", "full"]
STRAYS: list[Stray] = ["own", "asyncio", "cancelled", "closed", "groups"]


async def stray(kind: Stray) -> BaseException:
    """Give an error that none but its actor has to do with."""
    match kind:
        case "own":
            return Own("mine")
        case "asyncio":
            return asyncio.CancelledError()
        case "cancelled":
            return await kept_cancelled()
        case "closed":
            return GeneratorExit()
        case "groups":
            return BaseExceptionGroup("x", [BaseExceptionGroup("y", [await kept_cancelled()])])


@pytest.fixture(params=STRAYS)
async def error(request: pytest.FixtureRequest) -> BaseException:
    return await stray(request.param)


async def lives(system: System, puppet: Kind) -> bool:
    """Whether the system works: actors of both kinds start, answer and end."""
    ref: Ref[PuppetMessage] = await system.start(puppet)
    answer = await ref.ask(Call(lambda me: 1))
    await ref.stop()
    return answer == 1


@pytest.mark.parametrize("asked", [False, True])
async def test_whatever_a_handler_raises_is_its_crash_alone(
    autojump_clock: MockClock, system: System, puppet: Kind, error: BaseException, asked: bool
) -> None:
    # ACT-5, SUP-91
    ref, other = await system.start(puppet), await system.start(puppet)
    if asked:
        with pytest.raises(ActorCrashed) as caught:
            await ref.ask(Call(raising(error)))
        assert caught.value.error is error
    else:
        ref.tell(Do(raising(error)))
        exit_ = await system.wait_down(ref)
        assert isinstance(exit_, Crashed)
        assert exit_.error is error
    assert await other.ask(Call(lambda me: 1)) == 1
    assert await lives(system, puppet)


async def test_a_handler_that_has_waited_crashes_alone_too(
    autojump_clock: MockClock, system: System, error: BaseException
) -> None:
    # ACT-5
    async def fails(_: AnyPuppet) -> None:
        await trio.sleep(1)
        raise error

    ref = await system.start(AsyncPuppet)
    with pytest.raises(ActorCrashed) as caught:
        await ref.ask(Call(fails))
    assert caught.value.error is error
    assert await lives(system, AsyncPuppet)  # type: ignore[arg-type]


async def test_one_of_a_batch_and_one_that_is_measured_crash_alone(
    autojump_clock: MockClock, system: System, puppet: Kind, error: BaseException
) -> None:
    # ACT-5
    for level in LEVELS:
        system.set_level(puppet, level)
        ref = await system.start(puppet)
        for work in (lambda me: None, lambda me: None, raising(error), lambda me: None):
            ref.tell(Do(work))
        exit_ = await system.wait_down(ref)
        assert isinstance(exit_, Crashed)
        assert exit_.error is error
    assert await lives(system, puppet)


async def test_whatever_receive_or_a_behaviour_raises_is_its_crash_alone(
    autojump_clock: MockClock, system: System, puppet: Kind, error: BaseException
) -> None:
    # ACT-5, ACT-41, ACT-75
    class Takes(Actor[Do]):
        def receive(self, message: Do) -> None:
            raise error

    def fails(_: object) -> None:
        raise error

    taker, changed = await system.start(Takes), await system.start(puppet)
    await changed.ask(Call(lambda me: me.become(fails)))
    for ref in (taker, changed):
        ref.tell(Do(reads))
        exit_ = await system.wait_down(ref)
        assert isinstance(exit_, Crashed)
        assert exit_.error is error
    assert await lives(system, puppet)


async def test_whatever_init_or_on_start_raises_fails_this_start_alone(
    autojump_clock: MockClock, system: System, puppet: Kind, error: BaseException
) -> None:
    # ACT-5, SUP-183
    def init() -> Puppet:
        raise error

    for start in (init, lambda: puppet(start=raising(error))):
        with pytest.raises(StartError) as caught:
            await system.start(start, name="taken")
        assert caught.value.cause is error
        assert system.whereis("taken") is None
    assert await lives(system, puppet)


async def test_whatever_on_stop_raises_is_the_exit_of_this_actor_alone(
    autojump_clock: MockClock, system: System, puppet: Kind, error: BaseException
) -> None:
    # ACT-5, ACT-48
    def fails(_: AnyPuppet, exit_: Exit) -> None:
        raise error

    ref = await system.start(puppet, None, None, fails)
    await ref.stop()
    (report,) = system.reports.kept
    assert report.exit.error is error
    assert await lives(system, puppet)


async def test_whatever_a_child_task_raises_crashes_its_actor_alone(
    autojump_clock: MockClock, system: System, puppet: Kind, error: BaseException
) -> None:
    # ACT-5, ACT-50
    async def fails() -> None:
        await trio.sleep(1)
        raise error

    ref = await system.start(puppet)
    await ref.ask(Call(lambda me: me.start_soon(trio.sleep_forever)))
    await ref.ask(Call(lambda me: me.start_soon(fails)))
    exit_ = await system.wait_down(ref)
    assert isinstance(exit_, Crashed)
    assert error in (exit_.error, *exit_.leaves())
    assert trio.current_time() == 1
    assert await lives(system, puppet)


async def test_whatever_a_function_for_the_state_raises_is_for_its_caller(
    autojump_clock: MockClock, system: System, puppet: Kind, error: BaseException
) -> None:
    # ACT-5, ACT-100
    def fails(_: dict[str, object]) -> dict[str, object]:
        raise error

    ref = await system.start(puppet)
    with pytest.raises(CallbackFailed) as caught:
        await system.replace_state(ref, fails)
    assert caught.value.error is error
    assert await ref.ask(Call(lambda me: me.incarnation)) == 1


async def test_a_sibling_goes_on_when_a_stray_cancelled_is_raised(
    autojump_clock: MockClock, puppet: Kind
) -> None:
    # SUP-91, ACT-5
    class Root(Supervisor, intensity=9):
        def plan(self) -> Plan:
            return Plan(self.flags, [ChildSpec("bad", puppet), ChildSpec("good", puppet)])

    error, is_cut = await kept_cancelled(), True
    async with open_system(Root) as root:
        bad, good = (cast("Ref[PuppetMessage]", root.ref_of(name)) for name in ("bad", "good"))
        bad.tell(Do(raising(error)))
        await trio.testing.wait_all_tasks_blocked()
        assert await good.ask(Call(lambda me: me.incarnation)) == 1
        is_cut = False
    assert not is_cut


class Unbound:
    """A proxy of nothing, as web frameworks have them: `isinstance` raises what it raises."""

    @property  # type: ignore[misc]  # as such proxies do it
    def __class__(self) -> type:
        raise RuntimeError("working outside of a context")


async def test_a_message_that_raises_when_it_is_looked_at_is_unhandled(
    autojump_clock: MockClock, system: System, puppet: Kind
) -> None:
    # ACT-5, ACT-46, ACT-30
    ref, gone = await system.start(puppet), await system.start(puppet)
    await gone.stop()
    for target in (ref, gone):
        target.tell(cast("Do", Unbound()))
    await trio.testing.wait_all_tasks_blocked()
    assert [letter.reason for letter in system.dead_letters] == ["no_such_actor", "unhandled"]
    assert await lives(system, puppet)


class OddMeta(type):  # noqa: PLW1641 - that is the point
    """A metaclass with an `__eq__`, and so, as Python has it, without a `__hash__`."""

    def __eq__(cls, other: object) -> bool:
        raise RuntimeError("code of a metaclass")


class Odd(metaclass=OddMeta):
    """A message whose class cannot be looked up."""


class OddAsk(Ask[int], metaclass=OddMeta):
    """An ask whose class cannot be looked up."""


def notes(seen: list[int], number: int, _: AnyPuppet) -> None:
    """Note that this work was done."""
    seen.append(number)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("count", [1, 3])
async def test_a_message_whose_class_cannot_be_hashed_is_unhandled(
    autojump_clock: MockClock, system: System, puppet: Kind, level: Level, count: int
) -> None:
    # ACT-5, ACT-46: alone and in a batch, measured and not, told and asked
    system.set_level(puppet, level)
    ref = await system.start(puppet)
    seen: list[int] = []
    for number in range(count):
        ref.tell(cast("Do", Odd()))
        ref.tell(Do(partial(notes, seen, number)))
    await trio.testing.wait_all_tasks_blocked()
    ref.tell(cast("Do", Odd()))
    await trio.testing.wait_all_tasks_blocked()
    assert [letter.reason for letter in system.dead_letters] == ["unhandled"] * (count + 1)
    assert seen == list(range(count))
    with pytest.raises(UnhandledMessage):
        await ref.ask(cast("Call", OddAsk()))
    assert system.status(ref).incarnation == 1
    assert await lives(system, puppet)


async def test_receive_and_a_behaviour_handle_what_cannot_be_hashed(
    autojump_clock: MockClock, system: System, puppet: Kind
) -> None:
    # ACT-5, ACT-41, ACT-75
    class Takes(puppet):  # type: ignore[misc, valid-type]  # both kinds in turn
        def receive(self, message: object) -> object:
            seen.append(message)
            return "no integer" if isinstance(message, Ask) else None

    seen: list[object] = []
    taker: Ref[PuppetMessage] = await system.start(Takes)
    changed = await system.start(puppet)
    await changed.ask(Call(lambda me: me.become(seen.append)))
    for ref in (taker, changed):
        for _ in range(2):
            ref.tell(cast("Do", Odd()))
        await trio.testing.wait_all_tasks_blocked()
    assert [type(message).__name__ for message in seen] == ["Odd"] * 4
    # What it promises cannot be looked up, so no reply is the wrong one.
    promised: object = await taker.ask(cast("Call", OddAsk()))
    assert promised == "no integer"


async def test_a_reply_that_raises_when_it_is_looked_at_is_a_reply(
    autojump_clock: MockClock, system: System, puppet: Kind
) -> None:
    # ACT-5, ACT-44
    reply = Unbound()
    ref = await system.start(puppet)
    assert await ref.ask(Call(lambda me: reply)) is reply
    ref.tell(Call(lambda me: reply))
    with pytest.raises(StartError):
        await system.start(puppet, None, lambda me: reply)
    assert await lives(system, puppet)


# What is no crash


async def test_an_actor_that_cannot_be_written_to_is_an_actor(
    autojump_clock: MockClock, system: System, puppet: Kind
) -> None:
    # ACT-5: a frozen dataclass, for one
    class Frozen(puppet):  # type: ignore[misc, valid-type]  # both kinds in turn
        def __setattr__(self, name: str, value: object) -> None:
            if is_shut:
                raise FrozenInstanceError(name)
            super().__setattr__(name, value)

        def __init__(self) -> None:
            super().__init__()
            is_shut.append(True)

    is_shut: list[bool] = []
    ref: Ref[PuppetMessage] = await system.start(Frozen)
    assert await ref.ask(Call(lambda me: me.path)) == ref.path
    await ref.stop()
    assert await lives(system, puppet)


@pytest.mark.parametrize("name", ["__dict__", "__class__", "state", "redact"])
async def test_an_actor_that_cannot_be_read_crashes_alone(
    autojump_clock: MockClock, system: System, puppet: Kind, name: str
) -> None:
    # ACT-5, ACT-103
    class Unreadable(puppet):  # type: ignore[misc, valid-type]  # both kinds in turn
        def __getattribute__(self, asked: str) -> object:
            if asked == name and is_shut:
                raise RuntimeError("code of an actor")
            return super().__getattribute__(asked)

    is_shut = False
    ref: Ref[PuppetMessage] = await system.start(Unreadable)
    is_shut = True
    if name in ("__dict__", "redact"):
        assert system.status(ref).state == "<redaction failed: RuntimeError>"
    with pytest.raises(ActorCrashed) as caught:
        await ref.ask(Call(raising(OSError("full"))))
    assert isinstance(caught.value.error, OSError)
    assert len(system.reports.kept) == 1
    assert await lives(system, puppet)


async def test_a_message_that_cannot_be_read_crashes_its_actor_alone(
    autojump_clock: MockClock, system: System, puppet: Kind
) -> None:
    # ACT-5, ACT-103
    class Unreadable(puppet):  # type: ignore[misc, valid-type]  # both kinds in turn
        def receive(self, message: object) -> object:
            raise OSError("full")

    @dataclass
    class Shut:
        text: str = ""

        def __getattribute__(self, asked: str) -> object:
            raise RuntimeError("code of a message")

    ref: Ref[object] = await system.start(Unreadable)
    ref.tell(Shut())
    await trio.testing.wait_all_tasks_blocked()
    (report,) = system.reports.kept
    assert isinstance(report.exit.error, OSError)
    assert report.last_message == "<redaction failed: RuntimeError>"
    assert await lives(system, puppet)


async def test_a_kill_that_cuts_a_handler_short_is_no_crash(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-5
    ref = await system.start(AsyncPuppet)
    ref.tell(Do(waits))
    await trio.testing.wait_all_tasks_blocked()
    ref.kill()
    assert isinstance(await system.wait_down(ref), Killed)
    assert not system.reports.kept


async def test_cancellation_from_outside_is_no_crash(autojump_clock: MockClock) -> None:
    # ACT-5
    ended: list[Exit] = []

    async def in_a_nursery(_: AnyPuppet) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            await trio.sleep_forever()

    for work in (waits, in_a_nursery):
        with trio.move_on_after(1) as scope:
            async with open_actors() as system:
                ref = await system.start(AsyncPuppet, None, None, lambda me, e: ended.append(e))
                ref.tell(Do(work))
                ref.tell(Do(lambda me: me.start_soon(trio.sleep_forever)))
                await trio.sleep_forever()
        assert scope.cancelled_caught
        assert not system.reports.kept
    assert not ended


@pytest.mark.parametrize("ends_all", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("in_group", [False, True])
async def test_what_ends_the_process_leaves_through_every_road(
    autojump_clock: MockClock, puppet: Kind, ends_all: type[BaseException], in_group: bool
) -> None:
    # ACT-5, SUP-180
    error: BaseException = ends_all()
    if in_group:
        error = BaseExceptionGroup("x", [OSError(), error])

    async def child_task() -> None:
        raise error

    async def crashes(work: Callable[[AnyPuppet], object]) -> None:
        async with open_actors() as system:
            try:
                ref = await system.start(puppet)
                ref.tell(Do(work))
                await trio.sleep_forever()
            finally:
                assert not system.reports.kept

    works: list[Callable[[AnyPuppet], object]] = [
        raising(error),
        lambda me: me.start_soon(child_task),
    ]
    for work in works:
        # Alone it leaves as it is; what came with it must not be lost.
        with pytest.raises(BaseExceptionGroup if in_group else ends_all) as caught:
            await crashes(work)
        got = caught.value
        assert got is error or (isinstance(got, BaseExceptionGroup) and got.subgroup(ends_all))


def test_closing_the_coroutine_of_a_task_is_no_crash() -> None:
    # ACT-5: what is left when a run has broken off is collected, by whoever.
    exits: list[Exit | None] = []

    async def main() -> None:
        async with open_actors() as system:
            ref = await system.start(AsyncPuppet)
            ref.tell(Do(waits))
            await trio.testing.wait_all_tasks_blocked()
            life = cell_of(ref).life
            assert life is not None
            task = life.activity.task
            assert task is not None
            # Out of the task's scopes it comes as a RuntimeError: they are not in their task.
            with pytest.raises((GeneratorExit, RuntimeError)):
                task.coro.throw(GeneratorExit)
            exits.append(life.exit)
            raise KeyboardInterrupt

    with pytest.raises(BaseException):  # noqa: B017, PT011 - trio finds a task that ended behind it
        trio.run(main)
    assert exits == [None]


# A stop out of a nursery


@pytest.mark.parametrize("place", ["handler", "child task"])
async def test_a_stop_raised_in_a_nursery_is_that_stop(
    autojump_clock: MockClock, system: System, place: str
) -> None:
    # ACT-49, ACT-4
    async def stops() -> None:
        raise StopActor(Shutdown("first"))

    async def in_a_nursery(_: AnyPuppet) -> None:
        async with trio.open_nursery() as nursery, trio.open_nursery() as inner:
            nursery.start_soon(trio.sleep_forever)
            inner.start_soon(stops)
            await trio.sleep_forever()

    ref = await system.start(AsyncPuppet)
    if place == "handler":
        ref.tell(Do(in_a_nursery))
    else:
        ref.tell(Do(lambda me: me.start_soon(in_a_nursery, me)))
    assert await system.wait_down(ref) == Shutdown("first")
    assert not system.reports.kept


async def test_a_stop_beside_other_errors_is_a_crash_of_those(
    autojump_clock: MockClock, system: System, puppet: Kind
) -> None:
    # ACT-49, ACT-4
    error = OSError()
    group = ExceptionGroup("x", [StopActor(Shutdown("unseen")), ExceptionGroup("y", [error])])
    ref = await system.start(puppet)
    ref.tell(Do(raising(group)))
    exit_ = await system.wait_down(ref)
    assert isinstance(exit_, Crashed)
    assert exit_.leaves() == (error,)


async def test_a_start_that_stops_itself_in_a_nursery_fails_with_that_stop(
    autojump_clock: MockClock, system: System, puppet: Kind
) -> None:
    # ACT-49
    stop = StopActor(Shutdown("no"))
    with pytest.raises(StartError) as caught:
        await system.start(puppet, None, raising(ExceptionGroup("x", [stop])))
    assert caught.value.cause is stop
