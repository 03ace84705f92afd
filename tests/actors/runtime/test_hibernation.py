"""Giving the task back, and coming back with the next message."""

from __future__ import annotations

from contextvars import ContextVar
from itertools import pairwise

import pytest
import trio
import trio.abc
import trio.testing
from trio.testing import MockClock

from actors.runtime import Actor, AnyRef, Down, System, open_actors
from actors.runtime.life import resting
from actors.runtime.life.cell import cell_of
from actors.runtime.life.resting import LOOKS, WOKEN_AT_ONCE
from actors.testing import AnyPuppet, AsyncPuppet, Call, Do, Note, Puppet, raising, sleeping
from tests.actors.runtime.kit import Go
from tests.patience import until


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


class Idle(AsyncPuppet):
    """Says nothing of `hibernate_after`, and remembers how many tasks it has had."""

    async def on_start(self) -> object:
        self.held: set[object] = {trio.lowlevel.current_task()}
        return await super().on_start()

    async def on_note(self, message: Note) -> None:
        self.held.add(trio.lowlevel.current_task())
        await super().on_note(message)


def _is_asleep(ref: AnyRef) -> bool:
    life = cell_of(ref).life
    assert life is not None
    return life.hibernating


async def _looks(system: System, times: int) -> None:
    # A virtual clock does not count; the looks of the sweep are done by hand.
    for _ in range(times):
        await system.sweep.look()
        await trio.testing.wait_all_tasks_blocked()


async def test_an_idle_task_actor_gives_its_task_back_by_default(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-56
    log: list[object] = []
    ref = await system.start(Idle, log)
    watched = await system.start(Puppet)
    ref.tell(Do(lambda me: me.monitor(watched)))
    ref.tell(Do(lambda me: me.every(1000, Note("tick"))))
    await trio.testing.wait_all_tasks_blocked()
    await _looks(system, LOOKS)
    assert not _is_asleep(ref)
    # Nothing was set for it, neither an alarm nor anything else a virtual clock could jump to.
    assert system.totals().timers == 1
    await _looks(system, 1)
    assert _is_asleep(ref)
    assert len(system.sweep) == 0
    ref.tell(Note("woken"))
    await trio.testing.wait_all_tasks_blocked()
    await watched.stop()
    await trio.testing.wait_all_tasks_blocked()
    assert [type(entry) for entry in log] == [str, Down]
    assert not _is_asleep(ref)
    assert await ref.ask(Call(lambda me: len(me.held))) == 2  # type: ignore[union-attr]
    # And again, but only after as long a silence.
    await _looks(system, LOOKS)
    assert not _is_asleep(ref)
    await _looks(system, 1)
    assert _is_asleep(ref)
    await ref.stop()
    assert (len(system.sweep), trio.current_time()) == (0, 0)


async def test_the_looks_go_on_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a real clock, which this test waits for: a look each millisecond."""
    # ACT-56
    monkeypatch.setattr(resting, "INTERVAL_S", 0.001)
    async with open_actors() as system:
        ref = await system.start(Idle)
        await until(lambda: _is_asleep(ref))
        assert await ref.ask(Call(lambda me: 1)) == 1
        await until(lambda: _is_asleep(ref))


async def test_who_is_at_work_keeps_its_task(autojump_clock: MockClock, system: System) -> None:
    """A handler that waits, a child task, messages now and then; and who does not want to."""
    # ACT-56

    class Never(AsyncPuppet):
        hibernate_after = None

    waits, talks = await system.start(Idle), await system.start(Idle)
    parent, never = await system.start(Idle), await system.start(Never)
    done = trio.Event()
    parent.tell(Do(lambda me: me.start_soon(done.wait)))
    waits.tell(Do(sleeping(1000)))
    for _ in range(3 * LOOKS):
        talks.tell(Note("again"))
        await _looks(system, 1)
    lives = [cell_of(ref).life for ref in (waits, talks, parent, never)]
    assert [life and (life.hibernating, life.wants_hibernation) for life in lives] == [
        (False, False)
    ] * 4
    done.set()
    await trio.sleep(1001)
    await _looks(system, LOOKS + 1)
    assert [_is_asleep(ref) for ref in (waits, talks, parent, never)] == [True] * 3 + [False]


async def test_a_system_that_owns_nurseries_and_def_actors_has_nothing_to_sweep(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-56

    class Parent(AsyncPuppet):
        opens_nursery = True
        hibernate_after = 1

    await system.start(Puppet)
    parent = await system.start(Parent)
    await trio.sleep(10)
    await _looks(system, LOOKS + 1)
    assert (len(system.sweep), _is_asleep(parent)) == (0, False)


async def test_many_that_fall_asleep_at_once_let_others_run(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-56
    refs = [await system.start(Idle) for _ in range(2 * WOKEN_AT_ONCE + 1)]
    await _looks(system, LOOKS)
    awake = [len(refs)]

    class Turns(trio.abc.Instrument):
        def before_io_wait(self, timeout: float) -> None:
            awake.append(len(system.sweep))

    turns = Turns()
    trio.lowlevel.add_instrument(turns)
    await _looks(system, 1)
    trio.lowlevel.remove_instrument(turns)
    assert all(_is_asleep(ref) for ref in refs)
    assert max(before - after for before, after in pairwise(awake)) == WOKEN_AT_ONCE


async def test_what_hibernates_and_ends_is_not_looked_at_again(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-56
    refs = [await system.start(Idle) for _ in range(3)]
    refs[0].tell(Do(raising(OSError())))
    refs[1].kill()
    await trio.testing.wait_all_tasks_blocked()
    assert len(system.sweep) == 1
    await refs[2].ask(Call(lambda me: me.hibernate()))
    await trio.testing.wait_all_tasks_blocked()
    assert len(system.sweep) == 0


async def test_what_a_task_has_set_in_context_variables_outlives_it(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-15, ACT-56
    language: ContextVar[str] = ContextVar("language", default="none")

    async def start(_: AnyPuppet) -> None:
        language.set("Dutch")

    ref = await system.start(Idle, None, start)
    for said in ("Dutch", "Frisian"):
        await _looks(system, LOOKS + 1)
        assert _is_asleep(ref)
        assert await ref.ask(Call(lambda me: language.get())) == said
        ref.tell(Do(lambda me: language.set("Frisian")))
        await trio.testing.wait_all_tasks_blocked()
    assert language.get() == "none"
