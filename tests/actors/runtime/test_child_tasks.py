"""Child tasks: who hears of their errors, and when they end."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from actors.runtime import (
    Crashed,
    Exit,
    NoProc,
    System,
)
from actors.testing import (
    AnyPuppet,
    AsyncPuppet,
    Call,
    Do,
    Puppet,
    raising,
    sleeping,
)


async def test_a_child_task_that_raises_crashes_its_actor(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-50, ACT-4, SUP-181
    ref = await system.start(puppet)
    error = OSError()

    async def fails() -> None:
        await trio.sleep(1)
        raise error

    ref.tell(Do(lambda me: me.start_soon(fails)))
    exit_ = await system.wait_down(ref)
    assert isinstance(exit_, Crashed)
    assert exit_.leaves() == (error,)
    assert trio.current_time() == 1


async def test_a_child_task_that_raises_interrupts_a_waiting_handler(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-50
    ref = await system.start(AsyncPuppet)

    async def fails() -> None:
        await trio.sleep(1)
        raise OSError

    async def waits(me: AnyPuppet) -> None:
        me.start_soon(fails)
        await trio.sleep(60)

    with pytest.raises(Exception, match="crashed"):
        await ref.ask(Call(waits))
    assert trio.current_time() == 1


async def test_at_a_stop_child_tasks_outlive_on_stop_after_a_crash_they_do_not(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-50
    for what, order in (
        (lambda me: me.stop(), ["on_stop", "child task over"]),
        (raising(OSError()), ["child task over", "on_stop"]),
    ):
        log: list[object] = []

        async def child_task(log: list[object] = log) -> None:
            try:
                await trio.sleep_forever()
            finally:
                log.append("child task over")

        def stop(me: AnyPuppet, _: Exit) -> None:
            me.log.append("on_stop")

        ref = await system.start(puppet, log, None, stop)
        ref.tell(Do(lambda me, task=child_task: me.start_soon(task)))  # type: ignore[misc]
        await trio.testing.wait_all_tasks_blocked()
        ref.tell(Do(what))
        await system.wait_down(ref)
        assert log == order


async def test_a_child_task_begun_by_on_stop_ends_before_the_exit(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:  # ACT-50
    ended: list[float] = []

    async def child_task() -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append(trio.current_time())

    def on_stop(me: AnyPuppet, exit_: Exit) -> None:
        me.start_soon(child_task)

    ref = await system.start(puppet, None, None, on_stop)
    await ref.stop()
    await trio.sleep(1)
    assert not [at for at in ended if at == trio.current_time()]
    with pytest.raises(NoProc):
        await ref.ask(Call(lambda me: None))
    tasks = [task.name for task in system_tasks()]
    assert not [name for name in tasks if "child tasks" in name or "ending" in name]


def system_tasks() -> list[trio.lowlevel.Task]:
    left = [trio.lowlevel.current_root_task()]
    found: list[trio.lowlevel.Task] = []
    while left:
        task = left.pop()
        if task is not None:
            found.append(task)
            left += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    return found


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
