"""What a program gives by mistake: it is refused where it is given, or hurts only who gave it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Never, cast

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from actors.runtime import (
    Actor,
    ActorCrashed,
    Ask,
    AskTimeout,
    Context,
    Crashed,
    Exit,
    Level,
    Normal,
    Ref,
    Shutdown,
    StopActor,
    System,
    UnhandledMessage,
    edge_context,
    latest,
)
from actors.runtime.life.cell import CLASSES_KEPT, cell_of
from actors.testing import AnyPuppet, AsyncPuppet, Call, Do, Note, Puppet, sleeping
from tests.actors.runtime.kit import Recorder


class Own(BaseException):
    """Raised by code that only looks like data."""


def fails(*_: object) -> Never:
    raise Own("code of a class")


async def lives(system: System, *refs: Ref[Call]) -> bool:
    """Whether the system and these actors go on."""
    await trio.sleep(5)
    return [await ref.ask(Call(lambda me: me.incarnation)) for ref in refs] == [1] * len(refs)


# Messages whose class has code of its own


class Nameless(type):
    """A metaclass that has code where others have a name."""

    __name__ = property(fails)


class Unequal(type):  # noqa: PLW1641 - that is the point
    """A metaclass with an `__eq__`, and so without a `__hash__`."""

    def __eq__(cls, other: object) -> bool:
        fails()


class HiddenName(Ask[int], metaclass=Nameless):
    """A message whose class does not give its name."""


class HiddenHash(Ask[int], metaclass=Unequal):
    """A message whose class cannot be looked up."""


class HiddenClass(Ask[int]):
    """A message that does not give its class."""

    __class__ = property(fails)


# By name: pytest asks a class for its own.
ODD: dict[str, type[Ask[int]]] = {"name": HiddenName, "hash": HiddenHash, "class": HiddenClass}


@pytest.fixture(params=ODD)
def kind(request: pytest.FixtureRequest) -> Callable[[], Ask[int]]:
    """Give what makes a message of each odd class in turn."""
    name: str = request.param
    return ODD[name]


@pytest.mark.parametrize("level", ["counters", "full"])
async def test_a_message_of_any_class_can_be_lost_late_refused_and_crashed_with(
    autojump_clock: MockClock,
    system: System,
    puppet: type[Puppet],
    kind: Callable[[], Ask[int]],
    level: Level,
) -> None:
    # ACT-5, ACT-46, ACT-90
    system.set_level(puppet, level)
    ref, other = await system.start(puppet), await system.start(puppet)
    with system.changes():
        ref.tell(cast(Do, kind()))
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(UnhandledMessage, match="Hidden"):
            await ref.ask(cast(Call, kind()))
        await system.suspend(ref)
        with pytest.raises(AskTimeout, match="Hidden"):
            await ref.ask(cast(Call, kind()))
        await system.resume(ref)
        assert all(letter.message_type.startswith("Hidden") for letter in system.dead_letters)
        assert len(system.dead_letters) == 3
        crashing = await system.start(puppet)
        await crashing.ask(Call(lambda me: me.become(fails)))
        with pytest.raises(ActorCrashed, match="Own"):
            await crashing.ask(cast(Call, kind()))
        returning = await system.start(puppet)
        await returning.ask(Call(lambda me: me.become(lambda _: me.forward(other))))
        with pytest.raises(UnhandledMessage):
            await returning.ask(cast(Call, kind()))
    assert await lives(system, ref, other, returning)


async def test_an_async_receive_takes_a_message_of_any_class(
    autojump_clock: MockClock, system: System, kind: Callable[[], Ask[int]]
) -> None:
    # ACT-5, ACT-41: within its time, and late
    class Takes(Actor[object]):
        async def receive(self, message: object) -> object:
            if type(message) is Call:
                return message.what(cast(AnyPuppet, self))
            await trio.sleep(1)
            return 1

    ref = await system.start(Takes)
    assert await ref.ask(kind()) == 1
    with pytest.raises(AskTimeout, match="Hidden"):
        await ref.ask(kind(), timeout=0.5)
    assert await lives(system, cast("Ref[Call]", ref))


async def test_latest_finds_messages_of_any_class(
    autojump_clock: MockClock, system: System, kind: Callable[[], Ask[int]]
) -> None:
    # ACT-23: a class is itself, whatever it says of that
    class Newest(AsyncPuppet):
        capacity = 2
        overflow = latest(lambda _: 0)

    ref = await system.start(Newest)
    ref.tell(Do(sleeping(1)))
    await trio.testing.wait_all_tasks_blocked()
    ref.tell(Note("first"))
    for _ in range(3):
        ref.tell(cast(Do, kind()))
    ref.tell(Note("second"))
    assert system.stats(ref).coalesced == 3
    assert await lives(system, ref)
    assert [letter.reason for letter in system.dead_letters] == ["unhandled"]


async def test_a_key_function_that_fails_in_any_way_equals_nothing(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-23, ACT-5
    class Newest(AsyncPuppet):
        capacity = 1
        overflow = latest(fails)

    ref = await system.start(Newest)
    ref.tell(Do(sleeping(1)))
    await trio.testing.wait_all_tasks_blocked()
    for number in range(3):
        ref.tell(Note(number))
    assert system.dead_letters.by_reason == {"overflow": 2}
    assert await lives(system, ref)
    with pytest.raises(ValueError, match="must be a function"):

        class Keyless(Puppet):
            overflow = latest(cast(Never, 3))


async def test_classes_that_come_and_go_are_not_kept(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-41: a program may make classes of messages as it goes
    class Takes(Actor[object]):
        def receive(self, message: object) -> object:
            return 1 if isinstance(message, Ask) else None

    ref = await system.start(Takes)
    for number in range(CLASSES_KEPT + 50):
        made: type[Ask[int]] = type(f"Made{number}", (Ask,), {})
        assert await ref.ask(made()) == 1
    life = cell_of(ref).life
    assert life is not None
    assert len(life.handlers) == CLASSES_KEPT


# Times


class Later(float):
    """A number with code of its own for what is done with it."""

    __lt__ = __gt__ = __add__ = __radd__ = fails


@pytest.mark.parametrize("deadline", [None, "1", math.nan, True, 10**400])
async def test_a_deadline_that_is_no_time_is_refused(
    autojump_clock: MockClock, system: System, puppet: type[Puppet], deadline: float
) -> None:
    # ACT-13: it would be looked at by the receiver
    ref = await system.start(puppet)
    with pytest.raises(ValueError, match="deadline"):
        ref.tell(Note(1), deadline=deadline)
    with pytest.raises(ValueError, match="deadline"):
        await ref.send(Note(1), deadline=deadline)
    assert system.stats(ref).queued == 0
    assert await lives(system, ref)


async def test_times_are_plain_numbers_behind_the_door(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-5: what is done with one there, nobody is told of
    log: list[object] = []
    ref = await system.start(puppet, log)
    ref.tell(Note("told"), deadline=Later(3))
    await ref.send(Note("sent"), deadline=Later(3))
    await ref.ask(Call(lambda me: me.after(1, Note("timer"), key="a")))
    assert await ref.ask(Call(lambda _: 1), timeout=7) == 1
    await trio.sleep(2)
    assert log == ["told", "sent", "timer"]


class Changing:
    """A key that can be hashed a few times only."""

    def __init__(self, times: int) -> None:
        self.times = times

    def __hash__(self) -> int:
        self.times -= 1
        return fails() if self.times < 0 else 1

    def __eq__(self, other: object) -> bool:
        fails()


async def test_a_bad_key_of_a_timer_sets_nothing(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-71: nor does one that cannot be hashed any more end anything
    log: list[object] = []
    ref = await system.start(puppet, log)

    def sets(me: AnyPuppet) -> None:
        before = system.totals().timers
        for call in (me.after, me.every):
            with pytest.raises(TypeError):
                call(1, Note("never"), key=[])  # type: ignore[arg-type]
            with pytest.raises(Own):
                call(1, Note("never"), key=Changing(0))
        assert system.totals().timers == before
        me.after(1, Note("one"), key=Changing(1))
        me.after(1, Note("two"), key=Changing(1))

    await ref.ask(Call(sets))
    assert await lives(system, ref)
    assert log == ["one", "two"]


# Exits


class Bare(StopActor):
    """A stop that does not call the `__init__` of its base."""

    def __init__(self) -> None:
        pass


class Wrong(StopActor):
    """A stop that has something else for an exit."""

    exit = property(fails)


@pytest.mark.parametrize("made", [lambda: StopActor(cast(Exit, "why")), Wrong, Bare])
async def test_a_stop_that_is_none_is_a_crash_of_that_actor(
    autojump_clock: MockClock, system: System, puppet: type[Puppet], made: type[StopActor]
) -> None:
    # ACT-5
    def stops(_: AnyPuppet) -> None:
        raise made()

    ref, other = await system.start(puppet), await system.start(puppet)
    ref.tell(Do(stops))
    exit_ = await system.wait_down(ref)
    if made is Bare:
        assert exit_ == Normal()
    else:
        assert isinstance(exit_, Crashed)
        assert isinstance(exit_.error, TypeError | Own)
    assert await lives(system, other)


async def test_only_exits_are_exits(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-1, ACT-5
    ref = await system.start(puppet)
    for wrong in ("because", None, 3, OSError(), type("Odd", (Normal,), {})()):
        with pytest.raises(TypeError, match="exit"):
            await ref.stop(cast(Exit, wrong))

    def stops(me: AnyPuppet) -> None:
        with pytest.raises(TypeError, match="exit"):
            me.stop(cast(Exit, "because"))

    await ref.ask(Call(stops))
    with pytest.raises(TypeError, match="exception"):
        Crashed(cast(BaseException, "no error"))
    assert await lives(system, ref)
    await ref.stop(Shutdown("enough"))


async def test_what_is_written_into_an_error_hurts_its_actor_alone(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-5: it is read for the error of whoever asked
    def raises(_: AnyPuppet) -> None:
        error = ActorCrashed("elsewhere", OSError())
        error.error = cast(BaseException, 3)
        raise error

    ref, other = await system.start(puppet), await system.start(puppet)
    with pytest.raises(ActorCrashed, match="elsewhere"):
        await ref.ask(Call(raises))
    assert await lives(system, other)


# Names and contexts


class Text(str):
    """A text with code of its own."""

    __hash__ = __eq__ = fails


class Sinking(Recorder):
    """A sink that can be hashed once, and does not take what it gets."""

    __eq__ = fails

    def __init__(self) -> None:
        super().__init__()
        self.fails, self.key = True, Changing(1)

    def __hash__(self) -> int:
        return hash(self.key)


async def test_topics_are_plain_texts(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-80, ACT-82: a topic is looked up when an actor ends, a sink when it has failed
    log: list[object] = []
    ref, other = await system.start(puppet, log), await system.start(puppet)
    system.topics.subscribe(Text("t"), ref)
    assert system.topics.publish("t", Note(1)) == system.topics.publish(Text("t"), Note(2)) == 1
    for wrong in (None, 3, b"t"):
        with pytest.raises(TypeError, match="no text"):
            system.topics.subscribe(cast(str, wrong), ref)
        with pytest.raises(TypeError, match="no text"):
            system.topics.publish(cast(str, wrong), Note(3))
    system.topics.subscribe("dead_letters", Sinking())
    other.tell(cast(Do, 3))
    await trio.testing.wait_all_tasks_blocked()
    assert system.topics.failed_sinks == 1
    await ref.stop()
    assert system.topics.topics() == []
    assert log == [1, 2]
    assert await lives(system, other)


async def test_a_context_from_outside_holds_plain_texts(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-10: it is looked at where messages are handled, lost and placed
    system.set_level(puppet, "full")
    ref = await system.start(puppet)
    with edge_context(Context(Text("flow"), sender=Text("me"))):
        ref.tell(Note(1))
        ref.tell(cast(Do, 3))
    await trio.testing.wait_all_tasks_blocked()
    assert [letter.correlation_id for letter in system.dead_letters] == ["flow"]
    odd = (3, None, Context("flow", sender_id=cast(int, [])), Context(cast(str, 3)),
           Context("flow", sender=cast(str, 3)))  # fmt: skip
    for wrong in odd:
        with pytest.raises(TypeError, match="Context"), edge_context(cast(Context, wrong)):
            raise AssertionError("it is refused")
    assert await lives(system, ref)


async def test_what_cannot_be_called_is_no_behaviour(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-75
    def becomes(me: AnyPuppet) -> None:
        with pytest.raises(TypeError, match="behaviour"):
            me.become(cast(Never, 3))

    ref = await system.start(puppet)
    await ref.ask(Call(becomes))
    assert await lives(system, ref)


def test_a_budget_is_a_number_one_can_reckon_with() -> None:
    # ACT-26: a larger one cannot be multiplied with a time
    with pytest.raises(ValueError, match="budget"):

        class Endless(Puppet):
            budget = (10**400, 1.0)
