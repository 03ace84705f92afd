"""Messages set aside for later, and other rules for a while (`become`)."""

from __future__ import annotations

from contextlib import suppress

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from actors.runtime import (
    AskTimeout,
    Ref,
    StashFull,
    System,
)
from actors.testing import AnyPuppet, AsyncPuppet, Call, Do, Note, Puppet, PuppetMessage


async def test_stash_keeps_order_and_asks_stay_open(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-74
    log: list[object] = []
    ref = await system.start(puppet, log)

    def waits(me: AnyPuppet) -> object:
        if not me.state.get("open"):
            me.stash()
            return None
        me.log.append("answered")
        return "reply"

    def opens(me: AnyPuppet) -> None:
        me.state["open"] = True
        me.unstash_all()

    async with trio.open_nursery() as nursery:

        async def asks() -> None:
            assert await ref.ask(Call(waits)) == "reply"

        nursery.start_soon(asks)
        await trio.testing.wait_all_tasks_blocked()
        assert system.stats(ref).stashed == 1
        ref.tell(Do(opens))
        ref.tell(Note("behind"))
    await trio.testing.wait_all_tasks_blocked()
    assert log == ["answered", "behind"]


async def test_what_is_set_aside_is_not_handled_behind_the_scopes_of_its_asker(
    mock_clock: MockClock, system: System
) -> None:
    # ACT-13, ACT-74
    log: list[object] = []
    ref = await system.start(Puppet, log)

    def stashes(me: AnyPuppet) -> object:
        if me.state.get("open"):
            me.log.append("handled")
        else:
            me.stash()
        return None

    def opens(me: AnyPuppet) -> None:
        # The scopes have ended, and trio has had no turn yet to say so.
        mock_clock.jump(2)
        me.state["open"] = True
        me.unstash_all()

    async def asks() -> None:
        with trio.move_on_after(1), suppress(AskTimeout):
            await ref.ask(Call(stashes), timeout=60)

    async with trio.open_nursery() as nursery:
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(asks)
        await trio.testing.wait_all_tasks_blocked()
        assert system.stats(ref).stashed == 1
        ref.tell(Do(opens))
    assert log == []
    assert system.dead_letters.by_reason["expired"] == 1


async def test_a_full_stash_is_an_error_in_the_handler(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-74
    class Small(puppet):  # type: ignore[misc, valid-type]  # both kinds in turn
        stash_capacity = 1

    log: list[object] = []
    ref: Ref[PuppetMessage] = await system.start(Small, log)

    def stashes(me: AnyPuppet) -> None:
        try:
            me.stash()
        except StashFull as error:
            log.append(error.capacity)

    ref.tell(Do(stashes))
    ref.tell(Do(stashes))
    await trio.testing.wait_all_tasks_blocked()
    assert log == [1]


async def test_a_message_set_aside_twice_comes_back_once(
    autojump_clock: MockClock, system: System
) -> None:  # ACT-74
    log: list[object] = []

    def aside(me: AnyPuppet) -> None:
        log.append("seen")
        if len(log) == 1:
            me.stash()
            me.stash()

    ref = await system.start(Puppet)
    ref.tell(Do(aside))
    ref.tell(Do(lambda me: me.unstash_all()))
    await trio.testing.wait_all_tasks_blocked()
    assert log == ["seen", "seen"]


async def test_a_message_that_crashed_is_gone_also_from_the_stash(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:  # ACT-53
    def aside(me: AnyPuppet) -> None:
        me.stash()
        me.unstash_all()
        raise OSError

    ref = await system.start(puppet)
    ref.tell(Do(aside))
    ref.tell(Note("behind it"))
    await system.wait_down(ref)
    assert [(letter.reason, letter.message_type) for letter in system.dead_letters] == [
        ("crashed", "Do"),
        ("stopped", "Note"),
    ]


async def test_become_replaces_the_handlers_until_none(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-75
    log: list[object] = []
    ref = await system.start(puppet, log)

    def other(message: object) -> None:
        log.append(("other", type(message).__name__))
        if isinstance(message, Do):
            message.what(actors[0])

    actors: list[AnyPuppet] = []
    ref.tell(Do(lambda me: (actors.append(me), me.become(other))[0]))  # type: ignore[func-returns-value]
    ref.tell(Note("x"))
    ref.tell(Do(lambda me: me.become(None)))
    ref.tell(Note("y"))
    await trio.testing.wait_all_tasks_blocked()
    assert log == [("other", "Note"), ("other", "Do"), "y"]


async def test_a_dispatched_actor_cannot_become_async(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-75
    async def other(message: object) -> None:
        seen.append(message)

    seen: list[object] = []
    ref = await system.start(Puppet)

    def becomes(me: AnyPuppet) -> str:
        with pytest.raises(TypeError, match="async"):
            me.become(other)
        return "refused"

    assert await ref.ask(Call(becomes)) == "refused"
    task = await system.start(AsyncPuppet)
    task.tell(Do(lambda me: me.become(other)))
    task.tell(Note("x"))
    await trio.testing.wait_all_tasks_blocked()
    assert seen == [Note("x")]


async def test_a_callable_object_may_be_async_too(
    autojump_clock: MockClock, system: System
) -> None:  # ACT-75
    class Behaviour:
        async def __call__(self, message: object) -> None: ...

    def change(me: AnyPuppet) -> None:
        with pytest.raises(TypeError, match="cannot await"):
            me.become(Behaviour())

    await (await system.start(Puppet)).ask(Call(change))
