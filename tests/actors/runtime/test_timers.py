"""Timers, silence, stash, become, hibernation."""

from __future__ import annotations

import math

import pytest
import trio
from trio.testing import MockClock

from actors.runtime import Actor, IdleTimeout, Ref, StashFull, System, current_context
from actors.runtime.life.cell import cell_of
from actors.testing import AnyPuppet, AsyncPuppet, Call, Do, Note, Puppet, PuppetMessage, sleeping


async def test_ticks_come_in_order_of_due_time_then_creation(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-70
    log: list[object] = []
    ref = await system.start(puppet, log)

    def sets(me: AnyPuppet) -> None:
        me.after(2, Note("c"))
        me.after(1, Note("a"))
        me.after(1, Note("b"))
        me.every(0.9, Note("e"))

    await ref.ask(Call(sets))
    await trio.sleep(2.5)
    assert log == ["e", "a", "b", "e", "c"]


@pytest.mark.parametrize("delay", [-1, math.nan, math.inf, "1"])
async def test_a_bad_delay_is_refused(
    autojump_clock: MockClock, system: System, delay: float
) -> None:
    # ACT-70
    ref = await system.start(Puppet)

    def sets(me: AnyPuppet) -> None:
        for call in (me.after, me.every):
            with pytest.raises(ValueError, match="delay"):
                call(delay, Note(1))
        with pytest.raises(ValueError, match="interval"):
            me.every(0.001, Note(1))

    await ref.ask(Call(sets))


async def test_cancel_takes_back_a_queued_tick_and_key_replaces(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-71
    log: list[object] = []
    ref = await system.start(puppet, log)

    def sets(me: AnyPuppet) -> None:
        me.state["timer"] = me.after(1, Note("never"))
        me.after(1, Note("replaced"), key="k")
        me.after(1, Note("kept"), key="k")

    await ref.ask(Call(sets))
    await system.suspend(ref)
    assert len(system.stats(ref)["timers"]) == 2
    await system.resume(ref)
    ref.tell(Do(lambda me: me.state["timer"].cancel()))  # type: ignore[attr-defined]
    await trio.sleep(2)
    assert log == ["kept"]
    assert system.stats(ref)["timers"] == []


async def test_every_lets_one_tick_wait_and_counts_the_missed(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-71
    log: list[object] = []
    ref = await system.start(AsyncPuppet, log)
    timers = []

    def sets(me: AnyPuppet) -> None:
        timers.append(me.every(1, Note("tick")))

    await ref.ask(Call(sets))
    ref.tell(Do(sleeping(5.5)))
    await trio.sleep(5.6)
    assert (log, timers[0].skipped) == (["tick"], 4)
    await trio.sleep(1)
    assert log == ["tick", "tick"]


async def test_silence_is_told_once_and_each_message_starts_it_anew(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-73, SUP-164
    log: list[object] = []
    ref = await system.start(puppet, log, lambda me: me.idle_after(5))
    for _ in range(2):
        await trio.sleep(3)
        ref.tell(Note(trio.current_time()))
    await trio.sleep(4.9)
    assert log == [3, 6]
    await trio.sleep(0.2)
    assert log == [3, 6, IdleTimeout()]
    await trio.sleep(20)
    assert len(log) == 3
    ref.tell(Note("again"))
    await trio.sleep(5.1)
    assert log[3:] == ["again", IdleTimeout()]


async def test_suspension_pauses_the_silence(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-73, ACT-101
    log: list[object] = []
    ref = await system.start(puppet, log, lambda me: me.idle_after(5))
    await trio.sleep(3)
    await system.suspend(ref)
    await trio.sleep(10)
    await system.resume(ref)
    await trio.sleep(1.9)
    assert log == []
    await trio.sleep(0.2)
    assert log == [IdleTimeout()]


async def test_silence_needs_a_handler(autojump_clock: MockClock, system: System) -> None:
    # ACT-73
    class Deaf(Actor[Call]):
        def on_call(self, message: Call) -> object:
            with pytest.raises(TypeError, match="IdleTimeout"):
                self.idle_after(1)
            return "refused"

    ref = await system.start(Deaf)
    assert await ref.ask(Call(lambda me: None)) == "refused"


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
        assert system.stats(ref)["stashed"] == 1
        ref.tell(Do(opens))
        ref.tell(Note("behind"))
    await trio.testing.wait_all_tasks_blocked()
    assert log == ["answered", "behind"]


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


async def test_a_tick_carries_the_context_of_its_creation(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-70, ACT-10
    seen: list[tuple[str, int | None]] = []
    ref = await system.start(puppet)

    def note(me: AnyPuppet) -> None:
        context = current_context()
        assert context is not None
        seen.append((context.correlation_id, context.causation_id))

    def sets(me: AnyPuppet) -> None:
        note(me)
        me.after(1, Do(note))

    await ref.ask(Call(sets))
    await trio.sleep(2)
    (first, cause), (second, later) = seen
    assert first == second
    assert (later or 0) > (cause or 0)
