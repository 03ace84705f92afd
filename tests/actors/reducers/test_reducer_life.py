"""Stopping, crashing and restarting a reducer actor with effects under way."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from actors.reducers import (
    Delay,
    Environment,
    Future,
    ReducerRef,
    Stream,
    as_reducer,
    start_reducer,
)
from actors.runtime import ActorCrashed, Normal, System
from actors.runtime.life.cell import cell_of
from supervision import Supervisor, child, child_method, dynamic_method, open_system
from tests.actors.reducers.kit import (
    Action,
    Crash,
    Do,
    Each,
    Note,
    Noted,
    Till,
    TillActor,
    note,
)
from tests.logged import captured

TillRef = ReducerRef[Till, Action]


class Ledger(TillActor):
    """Shows at its end what it had done by then."""

    ends: list[Till] = []  # noqa: RUF012 - of the test

    def on_stop(self, exit: object) -> object:  # noqa: A002 - the word of the runtime for this
        finish: object = super().on_stop(exit)  # type: ignore[arg-type]

        async def end() -> None:
            if finish is not None:
                await finish  # type: ignore[misc]
            self.ends.append(self._state)

        return end()


async def test_a_stop_lets_effects_finish_and_their_feedback_be_reduced(
    autojump_clock: MockClock, system: System, env: Environment
) -> None:  # CORE-15
    Ledger.ends.clear()
    ref = await start_reducer(system, Ledger, env)
    handle = await ref.run(Do((note("a", 1, (note("then", 1),)), Delay(2, Noted("b")))))
    async with ref.subscribe(100) as applied:
        began = trio.current_time()
        await ref.stop()
        seen = [getattr(one, "action", None) async for one in applied]
    assert trio.current_time() - began == 2
    assert next(one.text for one in seen if isinstance(one, Noted)) == "a"
    [end] = Ledger.ends
    assert sorted(end.done) == ["a", "b", "then"]
    assert handle.pending == 0


async def test_messages_that_come_after_the_stop_are_not_handled(
    autojump_clock: MockClock, system: System, env: Environment
) -> None:  # CORE-15
    Ledger.ends.clear()
    ref = await start_reducer(system, Ledger, env)
    await ref.run(Do((note("a", 1),)))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ref.stop)
        await trio.testing.wait_all_tasks_blocked()
        ref.tell(Noted("too late"))
    assert Ledger.ends == [Till(("a",))]
    assert [one.reason for one in system.dead_letters] == ["stopped"]


async def test_feedback_that_lies_in_the_mailbox_is_reduced_at_the_stop(
    autojump_clock: MockClock, system: System, env: Environment
) -> None:  # CORE-15
    Ledger.ends.clear()
    ref = await start_reducer(system, Ledger, env)
    await ref.run(Do((Future(StopsFirst(ref)), note("b"))))
    await trio.testing.wait_all_tasks_blocked()
    assert sorted(Ledger.ends[0].done) == ["a", "b"]
    # It was reduced: nobody is told that it was lost.
    assert system.dead_letters.total == 0


@dataclass(frozen=True)
class StopsFirst:
    """Its action is in the mailbox when the wish to stop is seen."""

    ref: TillRef

    async def run(self, env: Environment) -> Noted:
        cell_of(self.ref).request_stop(Normal(), drain=False)
        return Noted("a")


async def test_what_does_not_finish_in_time_is_cancelled_and_named(
    autojump_clock: MockClock, system: System, env: Environment
) -> None:  # CORE-15
    ref = await start_reducer(system, TillActor, env)
    cell_of(ref).shutdown = 40.0  # As its supervisor would say.
    slow = Future(Note("never", 100), timeout=200, key="slow")
    handle = await ref.run(Do((slow, note("a", 29), Delay(300, Noted("never")))))
    began = trio.current_time()
    with captured() as lines:
        await ref.stop(timeout=None)
    assert trio.current_time() - began == 30
    [line] = [one for one in lines if one["event"] == "effects_cancelled"]
    assert (line["names"], line["path"]) == (["Future 'slow'"], ref.path)
    assert (handle.pending, handle.completed) == (0, 1)


async def test_who_is_told_of_the_end_is_told_what_was_cut_short(
    autojump_clock: MockClock, system: System, env: Environment
) -> None:  # CORE-15
    ref = await start_reducer(system, TillActor, env)
    slow = [Future(Note("never", 100), timeout=200, key=number) for number in range(12)]
    await ref.run(Do(tuple(slow)))
    async with trio.open_nursery() as nursery:
        with captured():
            nursery.start_soon(partial(ref.stop, timeout=None))
            exit_ = await system.wait_down(ref)
    assert isinstance(exit_, Normal)
    assert exit_.because is not None
    assert exit_.because.endswith("Future 8, Future 9 and 2 more")
    assert "cancelled Future 0, Future 1" in exit_.because


async def test_an_end_that_cut_nothing_short_says_nothing(
    autojump_clock: MockClock, system: System, env: Environment
) -> None:  # CORE-15
    ref = await start_reducer(system, TillActor, env)
    await ref.run(Do((note("a", 1),)))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(ref.stop, timeout=None))
        exit_ = await system.wait_down(ref)
    assert isinstance(exit_, Normal)
    assert "cancelled" not in (exit_.because or "")


async def test_a_supervisor_that_gives_less_time_is_obeyed(
    autojump_clock: MockClock, system: System, env: Environment
) -> None:  # CORE-15
    ref = await start_reducer(system, TillActor, env)
    await ref.run(Do((Future(Note("never", 100), timeout=200),)))
    began = trio.current_time()
    with captured():
        await ref.stop(timeout=None)
    # Nine tenths of the five seconds that an actor has.
    assert trio.current_time() - began == 4.5


async def test_nobody_waits_at_a_stop_for_what_would_never_end(
    autojump_clock: MockClock, till: TillRef
) -> None:  # CORE-15
    await till.run(
        Do((Stream(Each(("a",), is_endless=True)), Delay(3600, Noted("x")), note("b", 1)))
    )
    began = trio.current_time()
    await till.stop()
    assert trio.current_time() - began == 1


async def test_a_reducer_that_a_method_makes_is_held_as_one(env: Environment) -> None:
    # CORE-20: its environment, or its store, is the supervisor's own
    class Shop(Supervisor):
        def __init__(self, env: Environment) -> None:
            self.env = env

        @child_method()
        def till(self) -> TillActor:
            return TillActor(self.env)

        @dynamic_method(key="name")
        def tills(self, name: str) -> TillActor:
            return TillActor(self.env)

    async with open_system(Shop, env) as shop:
        for ref in (shop.till, shop.tills["a"]):
            await as_reducer(TillActor, ref).run(Noted("x"))
            assert (await as_reducer(TillActor, ref).state()).done == ("x",)


async def test_a_restart_cancels_effects_and_begins_anew(
    autojump_clock: MockClock, env: Environment
) -> None:  # CORE-16
    class Shop(Supervisor):
        till = child(TillActor, env)

    async with open_system(Shop) as shop:
        ref = as_reducer(TillActor, shop.till)
        await ref.run(Noted("before"))
        handle = await ref.run(Do((note("never", 5), Delay(5, Noted("never")))))
        async with ref.subscribe(100) as applied:
            with captured(), pytest.raises(ActorCrashed):
                await ref.run(Crash())
            await ref.run(Noted("after"))
            await trio.sleep(20)
            assert handle.pending == 0
            assert (await ref.state()).done == ("after",)
            # The subscription has outlived the crash.
            found = await anext(applied)
            assert getattr(found, "action", None) == Noted("after")
            assert getattr(found, "seq", None) == 3
        assert ref.health().status == "healthy"


async def test_cancelling_who_runs_leaves_the_effects_alone(
    autojump_clock: MockClock, till: TillRef
) -> None:
    with trio.move_on_after(1) as limit:
        handle = await till.run(Do((note("a", 3),)))
        await handle.wait()
    assert limit.cancelled_caught
    assert not await handle.wait(timeout=1)
    assert await handle.wait()
    assert (await till.state()).done == ("a",)


def test_a_plain_reducer_actor_is_asked_without_a_task_of_its_own() -> None:
    # PERF-51: one handler that waits, and each ask costs two and a half times as much.
    assert not TillActor.__table__.one_by_one
