"""Giving the task back, and coming back with the next message."""

from __future__ import annotations

import trio
import trio.testing
from trio.testing import MockClock

from actors.runtime import (
    Actor,
    System,
)
from actors.runtime.life.cell import cell_of
from actors.testing import AnyPuppet, AsyncPuppet, Call, Note, Puppet
from tests.actors.runtime.kit import Go


async def test_a_hibernating_actor_gives_its_task_back(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-56
    log: list[object] = []

    def start(me: AnyPuppet) -> None:
        me.every(100, Note("tick"))
        me.state["kept"] = 5
        me.hibernate()

    ref = await system.start(AsyncPuppet, log, start, lambda me, exit_: log.append(exit_))
    other = await system.start(Puppet)
    await trio.testing.wait_all_tasks_blocked()
    life = cell_of(ref).life
    assert life is not None
    assert (life.hibernating, life.activity.task) == (True, None)

    def works(me: AnyPuppet) -> object:
        me.monitor(other)
        me.hibernate()
        return me.state["kept"]

    assert await ref.ask(Call(works)) == 5
    await trio.testing.wait_all_tasks_blocked()
    assert life.hibernating
    await system.suspend(ref)
    assert (await system.get_state(ref))["state"] == {"kept": 5}
    await system.resume(ref)
    await other.stop()
    await trio.sleep(101)
    assert len(log) == 2
    await ref.ask(Call(lambda me: me.hibernate()))
    await trio.testing.wait_all_tasks_blocked()
    await ref.stop()
    assert len(log) == 3


async def test_hibernate_after_gives_the_task_back_by_itself(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-56
    class Sleepy(AsyncPuppet):
        hibernate_after = 10

    ref = await system.start(Sleepy)
    await trio.sleep(6)
    assert await ref.ask(Call(lambda me: 1)) == 1
    life = cell_of(ref).life
    assert life is not None
    for seconds, asleep in ((9, False), (2, True)):
        await trio.sleep(seconds)
        assert life.hibernating is asleep
    assert await ref.ask(Call(lambda me: 2)) == 2
    await trio.sleep(11)
    assert life.hibernating
    ref.kill()
    await system.wait_down(ref)


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
