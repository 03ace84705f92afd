"""What a handler answers with: at once, later, wrongly, or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Never, Protocol

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from actors.runtime import (
    Actor,
    ActorExited,
    Ask,
    AskTimeout,
    BadReply,
    Crashed,
    Later,
    System,
    UnhandledMessage,
    handler,
    message,
    open_actors,
)
from actors.runtime.life.cell import cell_of
from actors.testing import (
    AnyPuppet,
    Call,
    Do,
    Puppet,
    sleeping,
)
from tests.actors.runtime.kit import Stranger


@message
class Count(Ask[int]):
    pass


@message
class Answer:
    value: object


class Patient(Actor[Count | Answer]):
    def on_count(self, message: Count) -> Later[int]:
        self.later = self.reply_later(message)
        return self.later

    def on_answer(self, message: Answer) -> None:
        self.later.reply(message.value)  # type: ignore[arg-type]  # wrong on purpose


class Hasty(Actor[Count]):
    def on_count(self, message: Count) -> Later[int] | int:
        self.reply_later(message).reply(5)
        return None  # type: ignore[return-value]  # what many will write


class Slow(Actor[Count]):
    @handler(cancel_late=True)
    async def on_count(self, message: Count) -> int:
        await trio.sleep(10)
        return 1


async def test_a_value_returned_to_a_tell_is_a_bad_reply(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-45
    class Careless(Puppet):
        def on_do(self, message: Do) -> None:
            return message.what(self)  # type: ignore[return-value]

    ref = await system.start(Careless)
    ref.tell(Do(lambda me: 7))
    exit_ = await system.wait_down(ref)
    assert isinstance(exit_, Crashed)
    assert isinstance(exit_.error, BadReply)
    assert exit_.error.got == 7


def _given(reply: object, _: AnyPuppet) -> object:
    return reply


@pytest.mark.parametrize("check", [False, True])
async def test_the_reply_to_an_ask_that_was_told_is_dropped_and_counted(
    autojump_clock: MockClock, puppet: type[Puppet], check: bool
) -> None:
    # ACT-45, ACT-33
    async with open_actors(check_replies=check) as system:
        ref = await system.start(puppet)
        # Of the right type or not: nobody gets it.
        puppet.__table__.replies[Call] = int
        try:
            for reply in (7, "text", None):
                ref.tell(Call(partial(_given, reply)))
            await trio.testing.wait_all_tasks_blocked()
        finally:
            puppet.__table__.replies[Call] = object
        assert await ref.ask(Call(lambda me: me.incarnation)) == 1
        assert system.stats(ref).late_replies == 2
        assert not system.reports.kept


async def test_a_later_reply_to_an_ask_that_was_told_is_counted_too(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-45, ACT-44
    ref = await system.start(puppet)
    ref.tell(Call(lambda me: me.reply_later().reply("nobody")))
    await trio.testing.wait_all_tasks_blocked()
    assert system.stats(ref).late_replies == 1
    assert not system.reports.kept


async def test_an_expired_ask_can_be_sent_again_by_its_dead_letter(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-92, ACT-45
    ref = await system.start(puppet)
    await system.suspend(ref)
    with pytest.raises(AskTimeout):
        await ref.ask(Call(lambda me: "reply"), timeout=0.5)
    await system.resume(ref)
    await trio.testing.wait_all_tasks_blocked()
    (letter,) = system.dead_letters
    system.dead_letters.resend(letter.id)
    await trio.testing.wait_all_tasks_blocked()
    stats = system.stats(ref)
    assert (stats.handled, stats.late_replies, stats.crashes) == (1, 1, 0)


@pytest.mark.parametrize(
    ("message", "got", "text"),
    [
        (Count(), "five", "a str for Count, whose class promises something else"),
        (Answer("x"), 5, "a int for Answer, whose class is no Ask: nobody can get a reply to it"),
    ],
)
def test_a_bad_reply_says_what_is_wrong(message: object, got: object, text: str) -> None:
    # ACT-45
    assert text in str(BadReply("front", message, got))


class Shaped(Protocol):
    """A type that `isinstance` refuses to look at."""

    @property
    def size(self) -> int: ...


@message
class Shape(Ask[Shaped]):
    """A question whose answer cannot be checked."""


class Shaper(Actor[Shape]):
    def on_shape(self, message: Shape) -> Shaped:
        return Sized(3)


@message
class Sized:
    size: int


async def test_a_reply_that_cannot_be_checked_passes(autojump_clock: MockClock) -> None:
    # ACT-45, ACT-5
    async with open_actors(check_replies=True) as system:
        assert (await (await system.start(Shaper)).ask(Shape())).size == 3


async def test_a_coroutine_from_a_def_handler_is_a_bad_reply(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-45
    ref = await system.start(Puppet)
    with pytest.raises(BadReply):
        await ref.ask(Call(sleeping(1)))


async def test_check_replies_refuses_other_types(
    autojump_clock: MockClock, puppet: type[Puppet]
) -> None:
    # ACT-45
    class Total(Call):
        pass

    async with open_actors(check_replies=True) as system:
        ref = await system.start(puppet)
        assert await ref.ask(Call(lambda me: object()))
        kind = cell_of(ref).actor_class
        assert kind is not None
        kind.__table__.replies[Call] = int
        try:
            with pytest.raises(BadReply) as caught:
                await ref.ask(Call(lambda me: "text"))
        finally:
            puppet.__table__.replies[Call] = object
        assert caught.value.got == "text"


async def test_reply_later_answers_from_another_message(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-44, SUP-169
    ref = await system.start(puppet)

    def keeps(me: AnyPuppet) -> None:
        me.state["later"] = me.reply_later()

    async with trio.open_nursery() as nursery:

        async def asks() -> None:
            assert await ref.ask(Call(keeps)) == "now"

        nursery.start_soon(asks)
        await trio.testing.wait_all_tasks_blocked()
        ref.tell(Do(lambda me: me.state["later"].reply("now")))  # type: ignore[attr-defined]


class _Looked(list[Later[Never]]):
    """Counts how often the replies that are owed for a message are looked at."""

    looks = 0

    def __iter__(self) -> Iterator[Later[Never]]:
        _Looked.looks += 1
        return super().__iter__()


class _Owed(dict[int, list[Later[Never]]]):
    """Has what is owed in such lists, and is asked for single ones only."""

    def setdefault(self, number: int, _: object = None, /) -> list[Later[Never]]:
        return super().setdefault(number, _Looked())

    def _refuse(self, *_: object) -> Never:
        raise AssertionError("looks at all of them")

    __iter__ = __reversed__ = keys = values = items = _refuse


@pytest.mark.parametrize("returned", [True, False])
async def test_an_answer_costs_the_same_however_many_are_owed(
    autojump_clock: MockClock, system: System, puppet: type[Puppet], returned: bool
) -> None:
    # ACT-44: one that is given later, and one that is given at once, or by another actor
    many, _Looked.looks = 200, 0

    def later(me: AnyPuppet) -> object:
        made = me.reply_later()
        me.state[str(len(me.state))] = made
        return made if returned else None

    async def ask() -> None:
        with pytest.raises(ActorExited):
            await ref.ask(Call(later), timeout=60)

    def passes_on(me: AnyPuppet) -> object:
        return me.path if me.ref is other else me.forward(other)

    ref = await system.start(puppet)
    other = await system.start(puppet)
    life = cell_of(ref).life
    assert life is not None
    life.owed = walked = _Owed()
    async with trio.open_nursery() as nursery:
        for _ in range(many):
            nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        assert len(walked) == many
        assert _Looked.looks <= 2 * many
        _Looked.looks = 0
        assert await ref.ask(Call(lambda me: 1)) == 1
        with pytest.raises(UnhandledMessage):
            await ref.ask(Stranger())
        await ref.ask(Call(passes_on))
        assert _Looked.looks == 0
        life.owed = dict(zip(dict.keys(walked), dict.values(walked), strict=True))
        await ref.stop()


async def test_open_replies_fail_with_their_incarnation(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-44
    ref = await system.start(puppet)

    def keeps(me: AnyPuppet) -> None:
        me.state["later"] = me.reply_later()

    async with trio.open_nursery() as nursery:

        async def asks() -> None:
            with pytest.raises(ActorExited):
                await ref.ask(Call(keeps))

        nursery.start_soon(asks)
        await trio.testing.wait_all_tasks_blocked()
        await ref.stop()


@pytest.mark.parametrize("check", [False, True])
async def test_a_reply_given_in_the_handler_itself_is_the_reply(
    autojump_clock: MockClock, check: bool
) -> None:  # ACT-44, ACT-45
    async with open_actors(check_replies=check) as system:
        hasty = await system.start(Hasty)
        assert await hasty.ask(Count()) == 5
        assert await hasty.ask(Count()) == 5
        assert system.stats(hasty).late_replies == 0


async def test_a_later_reply_is_checked_too(autojump_clock: MockClock) -> None:  # ACT-45
    async with open_actors(check_replies=True) as system, trio.open_nursery() as nursery:
        patient = await system.start(Patient)

        async def ask() -> None:
            with pytest.raises(BadReply):
                await patient.ask(Count())

        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        patient.tell(Answer("five"))
        await system.wait_down(patient)
        assert isinstance(system.reports.kept[-1].exit.error, BadReply)


@pytest.mark.parametrize("check", [False, True])
async def test_a_handler_cancelled_late_has_returned_nothing(
    autojump_clock: MockClock, check: bool
) -> None:  # ACT-14, ACT-33
    async with open_actors(check_replies=check) as system:
        slow = await system.start(Slow)
        with pytest.raises(AskTimeout):
            await slow.ask(Count(), timeout=1)
        await trio.testing.wait_all_tasks_blocked()
        stats = system.stats(slow)
        assert (stats.status, stats.late_replies, stats.expired) == ("running", 0, 1)
