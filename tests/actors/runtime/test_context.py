"""What travels with a message: correlation, causation, deadlines, the application's own."""

from __future__ import annotations

import gc
import math
import re
import threading
import weakref
from functools import partial

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from actors.runtime import (
    AskTimeout,
    Context,
    System,
    current_context,
    edge_context,
    open_actors,
)
from actors.runtime.delivery.envelope import CONTEXT
from actors.runtime.life.cell import Life, cell_of
from actors.testing import AnyPuppet, AsyncPuppet, Call, Do, Note, Puppet, sleeping

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def test_a_flow_of_five_hops_is_one_correlation(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-10
    refs = [await system.start(puppet) for _ in range(5)]
    seen: list[tuple[Context, int]] = []

    def hop(n: int) -> Do:
        def work(me: AnyPuppet) -> None:
            context = current_context()
            envelope = me._life.activity.envelope
            assert context is not None
            assert envelope is not None
            seen.append((context, envelope[1]))
            if n == 2:
                me.after(1, hop(3))
            elif n < 4:
                refs[n + 1].tell(hop(n + 1))

        return Do(work)

    with edge_context(Context("edge", traceparent=TRACE, user_id="u", tenant="t")):
        refs[0].tell(hop(0))
    await trio.sleep(2)
    assert [context.correlation_id for context, _ in seen] == ["edge"] * 5
    # CORE-30: one trace, and in each actor a span of its own under that of who had sent to it
    traces = [context.traceparent or "" for context, _ in seen]
    spans = {trace.split("-")[2] for trace in (TRACE, *traces)}
    assert len(spans) == 6
    assert {trace.replace(trace.split("-")[2], "") for trace in traces} == {
        TRACE.replace("b7ad6b7169203331", "")
    }
    assert all(re.fullmatch("[0-9a-f]{16}", span) for span in spans)
    assert {(context.user_id, context.tenant) for context, _ in seen} == {("u", "t")}
    assert [context.causation_id for context, _ in seen] == [number for _, number in seen]
    assert len({number for _, number in seen}) == 5


async def test_a_span_is_one_for_all_that_a_message_causes_and_nobody_elses(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # CORE-30: also of a task that the handler leaves behind, and after it was passed on
    told: dict[str, list[str]] = {}
    a, b, c = [await system.start(puppet) for _ in range(3)]

    def note(name: str) -> Do:
        def work(me: AnyPuppet) -> None:
            envelope = me._life.activity.envelope
            assert envelope is not None
            assert envelope[5] is not None
            told.setdefault(name, []).append(envelope[5].traceparent or "")

        return Do(work)

    async def later() -> None:
        await trio.sleep(1)
        c.tell(note("a"))

    def sends(me: AnyPuppet) -> None:
        c.tell(note("a"))
        me.after(1, note("a"))
        me.start_soon(later)
        b.tell(Do(lambda _: c.tell(note("b"))))

    with edge_context(Context("edge", traceparent=TRACE)):
        a.tell(Do(sends))
        c.tell(note("edge"))
    await trio.sleep(2)
    assert told["edge"] == [TRACE]
    assert len(told["a"]) == 3
    assert len({*told["a"], *told["b"], TRACE}) == 3
    # What has no trace begins none, and what cannot be read is passed on as it came.
    with edge_context(Context("edge", traceparent="of-some-later-version")):
        a.tell(Do(lambda _: c.tell(note("odd"))))
    await trio.sleep(1)
    assert told["odd"] == ["of-some-later-version"]


async def test_spans_are_told_apart_by_message_actor_and_system(system: System) -> None:
    # CORE-30
    async with open_actors() as other:
        spans = {
            one.span_id(number, actor)
            for one in (system, other)
            for number in range(1, 1001)
            for actor in range(1, 11)
        }
    assert len(spans) == 20_000
    assert system.span_id(7, 3) == system.span_id(7, 3)


async def test_one_context_is_shared_by_all_a_message_causes(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-10
    contexts: list[object] = []
    a, b = await system.start(puppet), await system.start(puppet)

    def catches(me: AnyPuppet) -> None:
        envelope = me._life.activity.envelope
        assert envelope is not None
        contexts.append(envelope[5])

    def sends(me: AnyPuppet) -> None:
        for _ in range(3):
            b.tell(Do(catches))

    a.tell(Do(sends))
    await trio.testing.wait_all_tasks_blocked()
    assert len({id(context) for context in contexts}) == 1
    (context,) = set(contexts)
    assert isinstance(context, Context)
    assert (context.sender, context.correlation_id) == (
        a.path,
        f"{system.id}-{context.causation_id}",
    )


async def test_nothing_leaks_into_another_message_or_outside(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-15
    seen: list[str] = []
    ref = await system.start(puppet)

    def note(_: AnyPuppet) -> None:
        context = current_context()
        assert context is not None
        seen.append(context.correlation_id)

    with edge_context(Context("one")):
        ref.tell(Do(note))
    ref.tell(Do(note))
    with edge_context(Context("two")):
        ref.tell(Do(note))
    await trio.testing.wait_all_tasks_blocked()
    assert seen[0] == "one"
    assert seen[1].startswith(system.id)
    assert seen[2] == "two"
    assert current_context() is None


async def test_a_waiting_handler_keeps_its_own_context(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-15
    seen: list[str] = []

    async def slow(_: AnyPuppet) -> None:
        await trio.sleep(1)
        context = current_context()
        assert context is not None
        seen.append(context.correlation_id)

    for name in ("a", "b"):
        ref = await system.start(AsyncPuppet)
        with edge_context(Context(name)):
            ref.tell(Do(slow))
    await trio.sleep(2)
    assert sorted(seen) == ["a", "b"]


async def test_child_tasks_and_asks_carry_the_context_on(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-10
    seen: list[str] = []
    ref, other = await system.start(puppet), await system.start(puppet)

    def note(_: AnyPuppet) -> None:
        context = current_context()
        assert context is not None
        seen.append(context.correlation_id)

    async def child_task() -> None:
        await other.ask(Call(note))

    with edge_context(Context("flow")):
        ref.tell(Do(lambda me: me.start_soon(child_task)))
    await trio.sleep(1)
    assert seen == ["flow"]


async def test_a_task_in_another_nursery_keeps_the_cause_of_its_message_alone(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-10, ACT-11: it goes on when that message is over, and others are in hand.
    seen: list[tuple[object, object, float]] = []
    ref, other = await system.start(AsyncPuppet), await system.start(AsyncPuppet)

    def note(me: AnyPuppet) -> None:
        context = current_context()
        assert context is not None
        seen.append((context.correlation_id, context.causation_id, me.deadline))

    async def foreign() -> None:
        other.tell(Do(note))
        await trio.sleep(2)
        # `slow` is in hand now, with a deadline of its own.
        other.tell(Do(note))
        await other.ask(Call(note), timeout=60)
        await trio.sleep(2)
        # Nothing is in hand now.
        await other.send(Do(note))
        assert await other.ask(Call(lambda me: me.remaining()), timeout=60) == 60

    async def starts(_: AnyPuppet) -> None:
        nursery.start_soon(foreign)

    async with trio.open_nursery() as nursery:
        with edge_context(Context("mine")):
            await ref.ask(Call(starts), timeout=1)
        with edge_context(Context("strange")), trio.move_on_after(2.5):
            await ref.ask(Call(sleeping(3)), timeout=2.5)
    assert [correlation for correlation, _, _ in seen] == ["mine"] * 4
    assert [deadline for _, _, deadline in seen] == [math.inf, math.inf, 62.0, math.inf]


class Mixed(AsyncPuppet):
    """A task actor with a `def` handler."""

    def on_do(self, message: Do) -> None:  # type: ignore[override]
        message.what(self)


@pytest.mark.parametrize("kind", [Puppet, AsyncPuppet, Mixed])
@pytest.mark.parametrize("by", ["handler", "on_start"])
async def test_a_task_in_another_nursery_has_one_cause_whoever_has_started_it(
    autojump_clock: MockClock, system: System, kind: type[Puppet], by: str
) -> None:
    # ACT-10, ACT-11
    seen: list[tuple[str, float]] = []
    other = await system.start(AsyncPuppet)

    def note(me: AnyPuppet) -> None:
        context = current_context()
        assert context is not None
        seen.append((context.correlation_id, me.remaining()))

    async def foreign() -> None:
        for _ in range(3):
            await other.ask(Call(note), timeout=60)
            await trio.sleep(1)

    def starts(_: AnyPuppet) -> None:
        nursery.start_soon(foreign)

    slow = (lambda me: None) if kind is Puppet else sleeping(1.5)

    async with trio.open_nursery() as nursery:
        ref = await system.start(kind, None, starts if by == "on_start" else None)
        if by == "handler":
            with edge_context(Context("mine")):
                ref.tell(Do(starts))
        with edge_context(Context("strange")):
            await ref.ask(Call(slow), timeout=2)
            await ref.ask(Call(slow), timeout=2)
    assert len(seen) == 3
    (cause,) = {correlation for correlation, _ in seen}
    assert cause == "mine" if by == "handler" else cause.startswith(system.id)
    assert {remaining for _, remaining in seen} == {60.0}


async def test_tasks_in_a_nursery_of_the_handler_work_for_its_message(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-11
    other = await system.start(AsyncPuppet)

    async def works(_: AnyPuppet) -> object:
        deadlines: list[object] = []

        async def part() -> None:
            await trio.sleep(0.5)
            deadlines.append(await other.ask(Call(lambda me: me.deadline), timeout=60))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(part)
        return deadlines

    ref = await system.start(AsyncPuppet)
    assert await ref.ask(Call(works), timeout=3) == [3.0]


async def test_a_task_has_the_message_in_hand_as_long_as_its_handler(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-14
    seen: list[object] = []

    async def foreign(me: AnyPuppet) -> None:
        await trio.sleep(1)
        # Another one is in hand by now.
        with pytest.raises(RuntimeError, match="only a handler"):
            seen.append(me.deadline)

    async def part(me: AnyPuppet) -> None:
        seen.append(me.deadline)

    async def works(me: AnyPuppet) -> None:
        nursery.start_soon(foreign, me)
        async with trio.open_nursery() as own:
            own.start_soon(part, me)

    ref = await system.start(AsyncPuppet)
    async with trio.open_nursery() as nursery:
        await ref.ask(Call(works), timeout=3)
        await ref.ask(Call(sleeping(2)), timeout=4)
    assert seen == [3.0]


@pytest.mark.parametrize("abandon", [False, True])
async def test_a_thread_that_is_waited_for_works_for_the_message_in_hand(
    autojump_clock: MockClock, system: System, abandon: bool
) -> None:
    # ACT-10, ACT-11
    ref, other = await system.start(AsyncPuppet), await system.start(AsyncPuppet)
    seen: list[Context | None] = []

    async def looks(_: AnyPuppet) -> None:
        seen.append(current_context())
        await trio.sleep(5)

    def in_thread() -> None:
        system.portal.send(other, Note("sent"))
        with pytest.raises(AskTimeout):
            system.portal.ask(other, Call(looks), 600)

    async def gives_it_to_a_thread(_: AnyPuppet) -> None:
        await trio.to_thread.run_sync(in_thread, abandon_on_cancel=abandon)

    with edge_context(Context("flow")):
        # A deadline without an ask: time runs on while the thread is on its way.
        ref.tell(Do(gives_it_to_a_thread), deadline=trio.current_time() + 1)
    assert await ref.ask(Call(lambda _: 1), timeout=None) == 1
    for context in seen:
        assert context is not None
        assert (context.correlation_id, context.sender) == ("flow", other.path)


@pytest.mark.parametrize("by_portal", [True, False])
async def test_a_thread_that_is_left_behind_works_for_no_message(
    autojump_clock: MockClock, system: System, by_portal: bool
) -> None:
    # ACT-10, ACT-11: nor for the one that its actor has in hand by then
    ref, other = await system.start(AsyncPuppet), await system.start(AsyncPuppet)
    seen: list[Context | None] = []
    begun, done, replies = threading.Event(), trio.Event(), list[object]()

    async def looks(_: AnyPuppet) -> object:
        envelope = other_life().activity.envelope
        seen.append(None if envelope is None else envelope[CONTEXT])
        await trio.sleep(5)
        return "reply"

    def other_life() -> Life:
        life = cell_of(other).life
        assert life is not None
        return life

    def in_thread() -> None:
        begun.wait(30)
        try:
            if by_portal:
                replies.append(system.portal.ask(other, Call(looks), None))
            else:
                replies.append(trio.from_thread.run(other.ask, Call(looks), None))
        except AskTimeout as error:
            replies.append(error)
        trio.from_thread.run_sync(done.set)

    async def leaves_it_behind(_: AnyPuppet) -> None:
        with trio.move_on_after(1):
            await trio.to_thread.run_sync(in_thread, abandon_on_cancel=True)

    async def next_one(_: AnyPuppet) -> None:
        begun.set()
        await done.wait()

    with edge_context(Context("first")):
        await ref.ask(Call(leaves_it_behind))
    with edge_context(Context("second")):
        ref.tell(Do(next_one), deadline=trio.current_time() + 1)
    await done.wait()
    assert replies == ["reply"]
    assert seen == [None]


@pytest.mark.parametrize("by", ["child task", "nursery"])
async def test_a_request_that_comes_in_where_an_actor_serves_is_its_own_cause(
    autojump_clock: MockClock, system: System, puppet: type[Puppet], by: str
) -> None:
    # ACT-10
    seen: list[Context | None] = []
    other = await system.start(puppet)

    async def serves() -> None:
        await trio.sleep(1)
        for name in ("one", "two"):
            with edge_context(Context(name, user_id="u")):
                await other.ask(Call(note))
                async with trio.open_nursery() as part:
                    part.start_soon(other.ask, Call(note))
        await other.ask(Call(note))

    def note(me: AnyPuppet) -> None:
        envelope = me._life.activity.envelope
        assert envelope is not None
        seen.append(envelope[5])

    def starts(me: AnyPuppet) -> None:
        if by == "child task":
            me.start_soon(serves)
        else:
            nursery.start_soon(serves)

    async with trio.open_nursery() as nursery:
        server = await system.start(puppet)
        with edge_context(Context("start")):
            await server.ask(Call(starts))
        await trio.sleep(2)
    contexts = [context for context in seen if context is not None]
    assert [one.correlation_id for one in contexts] == ["one", "one", "two", "two", "start"]
    assert [one.user_id for one in contexts] == ["u"] * 4 + [None]
    assert {(one.sender, one.sender_id) for one in contexts} == {(server.path, server.id)}


async def test_an_idle_actor_does_not_keep_its_last_message_alive(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-10
    class Big:
        """Something to be let go of."""

    ref = await system.start(puppet)
    big = Big()
    gone = weakref.ref(big)
    await ref.ask(Call(partial(lambda big, me: None, big)))
    del big
    await trio.testing.wait_all_tasks_blocked()
    gc.collect()
    assert gone() is None


async def test_a_tell_carries_a_deadline_only_when_given(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-12, ACT-13
    log: list[object] = []
    ref = await system.start(AsyncPuppet, log)

    async def forwards(me: AnyPuppet) -> None:
        me.ref.tell(Do(lambda me: me.log.append(me.deadline)))
        me.ref.tell(Do(lambda me: me.log.append(me.deadline)), deadline=me.deadline)
        await ref.send(Note("late"), deadline=1.0)
        await trio.sleep(1)

    await ref.ask(Call(forwards), timeout=3)
    await trio.testing.wait_all_tasks_blocked()
    assert log == [math.inf, 3.0]
    assert system.dead_letters.by_reason == {"expired": 1}
    assert system.stats(ref).expired == 1


async def test_message_ids_rise(autojump_clock: MockClock, system: System) -> None:
    # ACT-10
    ids: list[int] = []
    ref = await system.start(Puppet)

    def note(me: AnyPuppet) -> None:
        envelope = me._life.activity.envelope
        assert envelope is not None
        ids.append(envelope[1])

    for _ in range(3):
        ref.tell(Do(note))
    await trio.testing.wait_all_tasks_blocked()
    assert ids == sorted(set(ids))
    assert len(ids) == 3
