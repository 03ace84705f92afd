"""Timers: order, cancelling, rhythm, and the end of a silence."""

from __future__ import annotations

import math

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from actors.runtime import (
    Actor,
    Context,
    IdleTimeout,
    System,
    current_context,
    edge_context,
    span,
)
from actors.testing import AnyPuppet, AsyncPuppet, Call, Do, Note, Puppet, sleeping
from tests.actors.runtime.kit import Go, Small


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


@pytest.mark.parametrize("delay", [-1, math.nan, math.inf, "1", 10**400])
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
    assert len(system.stats(ref).timers) == 2
    await system.resume(ref)
    ref.tell(Do(lambda me: me.state["timer"].cancel()))  # type: ignore[attr-defined]
    await trio.sleep(2)
    assert log == ["kept"]
    assert system.stats(ref).timers == ()


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


async def test_silences_that_end_at_nearly_one_time_are_told_in_one_instant(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-73: never early, and at most a grain late: the loop is woken once for all of a grain.
    told: list[float] = []

    class Silent(Actor[Note]):
        def __init__(self, delay: float) -> None:
            self.delay = delay

        def on_start(self) -> None:
            self.idle_after(self.delay)

        def on_note(self, message: Note) -> None: ...

        def on_idle(self, message: IdleTimeout) -> None:
            told.append(trio.current_time())

    began = trio.current_time()
    for thousandths in range(1, 10):
        await system.start(Silent, 5 + thousandths / 1000)
    assert trio.current_time() == began
    await trio.sleep(6)
    assert len(told) == 9
    assert len(set(told)) == 1
    assert 5.009 <= told[0] - began <= 5.011


async def test_silence_needs_a_handler(autojump_clock: MockClock, system: System) -> None:
    # ACT-73
    class Deaf(Actor[Call]):
        def on_call(self, message: Call) -> object:
            with pytest.raises(TypeError, match="IdleTimeout"):
                self.idle_after(1)
            return "refused"

    ref = await system.start(Deaf)
    assert await ref.ask(Call(lambda me: None)) == "refused"


async def test_a_tick_carries_the_context_of_its_creation(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-70, ACT-10
    seen: list[tuple[str, int]] = []
    ref = await system.start(puppet)

    def note(me: AnyPuppet) -> None:
        context = current_context()
        assert context is not None
        assert isinstance(context.causation_id, int)
        seen.append((context.correlation_id, context.causation_id))

    def sets(me: AnyPuppet) -> None:
        note(me)
        me.after(1, Do(note))

    await ref.ask(Call(sets))
    await trio.sleep(2)
    (first, cause), (second, later) = seen
    assert first == second
    assert later > cause


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


async def test_ticks_go_on_with_the_trace_that_has_set_them(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # OBS-3
    spans = system.trace()
    trace, above = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    ref = await system.start(puppet)

    def sets(me: AnyPuppet) -> None:
        me.after(1, Do(lambda me: None))
        me.every(2, Do(lambda me: None), key="again")
        with span("store.append"):
            me.after(3, Do(lambda me: me.every(5, Do(lambda _: None), key="again")))

    with edge_context(Context("c-1", traceparent=f"00-{trace}-{above}-01")):
        await ref.ask(Call(sets))
    await ref.ask(Call(lambda me: me.after(1, Do(lambda _: None))))  # of no trace
    await trio.sleep(9)
    read = [spans.read(one) for one in spans.ring]
    assert {(one.trace, one.correlation_id) for one in read} == {(trace, "c-1")}
    (stored,) = (one for one in read if one.name == "store.append")
    (first,) = (one for one in read if one.parent == above)
    ticks = [(one.began, one.parent) for one in read if one not in (stored, first)]
    chained = next(one.span for one in read if one.parent == stored.span)
    assert ticks == [(1, first.span), (2, first.span), (3, stored.span), (8, chained)]
