"""Replies given early, late, twice or by the wrong hand; rings that are none."""

from __future__ import annotations

from typing import Generic, TypeVar

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from actors.runtime import (
    Actor,
    Ask,
    AskTimeout,
    BadReply,
    DeadlockError,
    Later,
    System,
    handler,
    message,
    open_actors,
)
from actors.testing import AnyPuppet, AsyncPuppet, Call, Do, Puppet, sleeping

T = TypeVar("T")


@message
class Count(Ask[int]):
    pass


@message
class Answer:
    value: object


class Mixed(Generic[T]):
    __slots__ = ()


class Text(Mixed[str]):
    __slots__ = ()


@message
class MixedCount(Text, Count):
    pass


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


@pytest.mark.parametrize("check", [False, True])
async def test_a_reply_given_in_the_handler_itself_is_the_reply(
    autojump_clock: MockClock, check: bool
) -> None:  # ACT-44, ACT-45
    async with open_actors(check_replies=check) as system:
        hasty = await system.start(Hasty)
        assert await hasty.ask(Count()) == 5
        assert await hasty.ask(Count()) == 5
        assert system.stats(hasty)["late_replies"] == 0


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
        assert (stats["status"], stats["late_replies"], stats["expired"]) == ("running", 0, 1)


@pytest.mark.parametrize("later", [False, True])
async def test_the_edge_goes_with_the_ask(
    autojump_clock: MockClock, system: System, later: bool
) -> None:
    # ACT-35: the asker has its reply, though its task has not run again.
    first, second = await system.start(AsyncPuppet), await system.start(AsyncPuppet)
    refused: list[DeadlockError] = []

    async def ask_back(me: AnyPuppet) -> None:
        try:
            await first.ask(Call(lambda me: 2))
        except DeadlockError as error:
            refused.append(error)

    async def reply_and_ask_back(me: AnyPuppet) -> object:
        owed = me.reply_later()
        owed.reply(1)
        await ask_back(me)
        return owed

    async def ask(me: AnyPuppet) -> object:
        return await second.ask(Call(reply_and_ask_back if later else lambda me: 1))

    second.tell(Do(sleeping(1)))
    first.tell(Do(ask))
    await trio.testing.wait_all_tasks_blocked()
    second.tell(Do(ask_back))
    await trio.sleep(5)
    assert refused == []


async def test_a_child_task_has_no_message_in_hand(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-44: it must not answer, or set aside, what a handler has in hand by then.
    refused: list[str] = []

    def begin(me: AnyPuppet) -> None:
        async def child_task() -> None:
            await trio.sleep(1)
            for use in (me.reply_later, me.stash, me.remaining):
                with pytest.raises(RuntimeError, match="child task"):
                    use()
                refused.append(use.__name__)

        me.start_soon(child_task)

    ref = await system.start(puppet)
    ref.tell(Do(begin))
    if puppet.__name__ == "AsyncPuppet":
        ref.tell(Do(sleeping(2)))
    await trio.sleep(3)
    assert refused == ["reply_later", "stash", "remaining"]


def test_the_reply_type_is_found_behind_other_generic_bases() -> None:  # ACT-40
    with pytest.raises(TypeError, match="returns str"):

        class Wrong(Actor[MixedCount]):
            def on_count(self, message: MixedCount) -> str:
                return "five"
