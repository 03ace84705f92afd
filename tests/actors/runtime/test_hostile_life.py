"""Sub-tasks, stashes, timers and behaviours where they are least expected."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from actors.runtime import (
    Actor,
    Exit,
    IdleTimeout,
    NoProc,
    System,
    current_context,
    latest,
    message,
)
from actors.testing import AnyPuppet, Call, Do, Note, Puppet


@message
class Go:
    pass


class Small(Actor[Go]):
    capacity = 1

    def on_go(self, message: Go) -> None: ...


class Newest(Small):
    overflow = latest(lambda message: 0)


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


async def test_ticks_due_together_come_in_order_of_creation(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:  # ACT-70
    log: list[object] = []

    def begin(me: AnyPuppet) -> None:
        me.every(1, Note("every"))
        me.after(2, Note("after"))

    await system.start(puppet, log, begin)
    await trio.sleep(2.5)
    assert log == ["every", "every", "after"]


async def test_a_tick_in_hand_does_not_swallow_the_idle_timeout(
    autojump_clock: MockClock, system: System
) -> None:  # ACT-73
    class Ticking(Actor[Go]):
        async def on_start(self) -> None:
            self.idle_after(1)
            self.after(0.5, Go())

        async def on_go(self, message: Go) -> None:
            await trio.sleep(1)

        def on_idle(self, message: IdleTimeout) -> None:
            idle.append(trio.current_time() - began)

    idle: list[float] = []
    began = trio.current_time()
    await system.start(Ticking)
    await trio.sleep(10)
    assert [round(at, 3) for at in idle] == [1.5]


async def test_a_behaviour_takes_the_idle_timeout_too(
    autojump_clock: MockClock, system: System
) -> None:  # ACT-73, ACT-75
    log: list[object] = []

    def begin(me: AnyPuppet) -> None:
        me.become(log.append)
        me.idle_after(1)

    await (await system.start(Small)).send(Go())
    ref = await system.start(Puppet)
    ref.tell(Do(begin))
    await trio.sleep(2)
    assert log == [IdleTimeout()]


async def test_a_callable_object_may_be_async_too(
    autojump_clock: MockClock, system: System
) -> None:  # ACT-75
    class Behaviour:
        async def __call__(self, message: object) -> None: ...

    def change(me: AnyPuppet) -> None:
        with pytest.raises(TypeError, match="cannot await"):
            me.become(Behaviour())

    await (await system.start(Puppet)).ask(Call(change))


async def test_a_timer_set_by_a_child_task_has_its_cause(
    autojump_clock: MockClock, system: System
) -> None:  # ACT-10
    seen: list[str] = []

    def note(me: AnyPuppet) -> None:
        context = current_context()
        assert context is not None
        seen.append(context.correlation_id)

    def begin(me: AnyPuppet) -> None:
        async def child_task() -> None:
            await trio.sleep(1)
            me.after(1, Do(note))

        note(me)
        me.start_soon(child_task)

    ref = await system.start(Puppet)
    ref.tell(Do(begin))
    await trio.sleep(1.5)
    await ref.ask(Call(lambda me: None))
    await trio.sleep(1)
    assert len(seen) == 2
    assert len(set(seen)) == 1


async def test_a_replacement_reaches_its_actor(
    autojump_clock: MockClock, system: System
) -> None:  # ACT-23, ACT-80
    ref = await system.start(Newest)
    await system.suspend(ref)
    system.topics.subscribe("topic", ref)
    assert [system.topics.publish("topic", Go()) for _ in range(3)] == [1, 1, 1]
    assert system.stats(ref)["coalesced"] == 2


async def test_a_send_that_fails_is_no_dead_letter(
    autojump_clock: MockClock, system: System
) -> None:  # ACT-54
    ref = await system.start(Small)
    await system.suspend(ref)
    ref.tell(Go())

    async def send() -> None:
        with pytest.raises(NoProc):
            await ref.send(Go())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await trio.testing.wait_all_tasks_blocked()
        ref.kill()
    assert len(system.dead_letters) == 1


async def test_who_owns_a_nursery_has_no_task_to_give_back(
    autojump_clock: MockClock, system: System
) -> None:  # ACT-56
    class Parent(Actor[Go]):
        opens_nursery = True

        async def on_go(self, message: Go) -> None:
            self.hibernate()

    ref = await system.start(Parent)
    ref.tell(Go())
    await trio.sleep(1)
    await ref.stop()
