"""Ends: stop, crash and kill, the hook, the order, and what passes through a system."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from actors.runtime import (
    ActorExited,
    Crashed,
    Exit,
    Killed,
    NoProc,
    Normal,
    Shutdown,
    StopActor,
    StopTimeout,
    System,
    open_actors,
)
from actors.runtime.life.cell import cell_of
from actors.testing import (
    AnyPuppet,
    AsyncPuppet,
    Call,
    Do,
    Note,
    Puppet,
    raising,
    sleeping,
)
from tests.actors.runtime.kit import noting


async def test_on_stop_runs_once_after_a_stop_and_after_a_crash_not_after_a_kill(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-48
    log: list[object] = []
    error = OSError("gone")
    stopped = await system.start(puppet, None, None, noting(log))
    crashed = await system.start(puppet, None, None, noting(log))
    killed = await system.start(puppet, None, None, noting(log))
    await stopped.stop()
    crashed.tell(Do(raising(error)))
    assert await system.wait_down(crashed) == Crashed(error)
    killed.kill()
    assert await system.wait_down(killed) == Killed()
    assert log == [Normal(), Crashed(error)]


async def test_what_on_stop_raises_is_the_exit(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-48
    second = ValueError("second")

    def fails(_: AnyPuppet, __: Exit) -> None:
        raise second

    first = OSError("first")
    ref = await system.start(puppet, None, None, fails)
    ref.tell(Do(raising(first)))
    exit_ = await system.wait_down(ref)
    assert exit_ == Crashed(second)
    assert second.__context__ is first


async def test_on_stop_is_killed_at_the_shutdown_deadline(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-48, SUP-21
    async def hangs(_: AnyPuppet, __: Exit) -> None:
        await trio.sleep(60)

    ref = await system.start(AsyncPuppet, None, None, hangs)
    await ref.stop(timeout=None)
    assert trio.current_time() == 5
    assert not len(system.dead_letters)


async def test_stop_returns_when_it_is_dead(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-1, SUP-157
    ref = await system.start(puppet, name="it")
    exits: list[object] = []
    async with trio.open_nursery() as nursery:

        async def watch() -> None:
            exits.append(await system.wait_down(ref))

        nursery.start_soon(watch)
        await trio.testing.wait_all_tasks_blocked()
        await ref.stop(Shutdown("x"))
    assert exits == [Shutdown("x")]
    assert system.whereis("it") is None
    with pytest.raises(NoProc):
        await ref.stop()
    with pytest.raises(NoProc):
        await system.stop("it")


async def test_a_stop_that_takes_too_long_goes_on(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-32, ACT-27
    log: list[object] = []
    ref = await system.start(AsyncPuppet, log)

    async def slow(me: AnyPuppet) -> None:
        await trio.sleep(3)
        me.log.append("finished")

    ref.tell(Do(slow))
    await trio.testing.wait_all_tasks_blocked()
    ref.tell(Note("never begun"))
    with pytest.raises(StopTimeout):
        await ref.stop(timeout=1)
    assert await system.wait_down(ref) == Normal()
    assert (trio.current_time(), log) == (3, ["finished"])


async def test_an_actor_cannot_wait_for_its_own_end(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-35
    ref = await system.start(AsyncPuppet)
    with pytest.raises(Exception, match="wait for ever"):
        await ref.ask(Call(lambda me: me.ref.stop()))


async def test_self_stop_ends_after_the_reply(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-49, SUP-161
    ref = await system.start(puppet)
    order: list[object] = []

    async def watch() -> None:
        order.append(await system.wait_down(ref))

    def stops(me: AnyPuppet) -> int:
        me.stop()
        return 5

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        await trio.testing.wait_all_tasks_blocked()
        order.append(await ref.ask(Call(stops)))
    assert order == [5, Normal()]
    assert not system.reports.kept


async def test_stopactor_ends_at_once(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-49
    ref = await system.start(puppet)
    ref.tell(Do(raising(StopActor(Shutdown("enough")))))
    with pytest.raises(ActorExited):
        await ref.ask(Call(lambda me: 1))
    assert not system.reports.kept


async def test_a_drain_stop_handles_what_is_queued(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-57
    log: list[object] = []
    ref = await system.start(puppet, log)
    refused: list[object] = []

    def first(me: AnyPuppet) -> None:
        me.ref.tell(Note("after"))
        refused.append("told")

    ref.tell(Do(first))
    for n in range(200):
        ref.tell(Note(n))
    await ref.stop(drain=True)
    assert log == list(range(200))
    assert system.dead_letters.by_reason == {"stopped": 1}
    assert refused == ["told"]


async def test_a_drain_stop_ends_at_the_shutdown_deadline(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-57
    ref = await system.start(AsyncPuppet)
    for _ in range(10):
        ref.tell(Do(sleeping(2)))
    await ref.stop(timeout=None, drain=True)
    assert trio.current_time() == 5
    assert system.dead_letters.by_reason == {"killed": 1, "stopped": 7}


async def test_a_kill_acts_on_a_parked_a_waiting_and_a_starting_actor(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-43
    ref = await system.start(puppet)
    ref.tell(Do(lambda me: me.ref.kill()))
    ref.tell(Note("never"))
    assert await system.wait_down(ref) == Killed()
    assert system.dead_letters.by_reason == {"stopped": 1}
    waiting = await system.start(AsyncPuppet)
    waiting.tell(Do(sleeping(60)))
    await trio.testing.wait_all_tasks_blocked()
    waiting.kill()
    exit_ = await system.wait_down(waiting)
    assert exit_ == Killed()
    assert system.dead_letters.by_reason["killed"] == 1


async def test_a_shielded_task_is_seen_as_unkillable(
    autojump_clock: MockClock, system: System
) -> None:
    # DOC-4, ACT-51, SUP-177
    ref = await system.start(AsyncPuppet)

    async def shielded(_: AnyPuppet) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(60)

    ref.tell(Do(shielded))
    await trio.testing.wait_all_tasks_blocked()
    ref.kill()
    await trio.sleep(1.5)
    assert system.status(ref).status == "unkillable"
    life = cell_of(ref).life
    assert life is not None
    assert "shielded" in life.stack()
    assert await system.wait_down(ref) == Killed()
    assert trio.current_time() == 60


async def test_the_exit_tells_its_circumstances(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-2
    asker = await system.start(AsyncPuppet, name="asker")
    target = await system.start(puppet, name="target")
    await trio.sleep(3)

    async def stops(_: AnyPuppet) -> object:
        await target.stop()
        return None

    async with trio.open_nursery() as nursery:

        async def watch() -> None:
            exit_ = await system.wait_down(target)
            assert isinstance(exit_, Normal)
            assert (exit_.incarnation, exit_.at, exit_.by) == (1, 3.0, "asker")

        nursery.start_soon(watch)
        await trio.testing.wait_all_tasks_blocked()
        await asker.ask(Call(stops))


async def test_cancelled_leaves_are_no_part_of_a_crash(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-4
    ref = await system.start(AsyncPuppet)
    error = OSError()

    async def mixed(_: AnyPuppet) -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.sleep(1)
            except trio.Cancelled as cancelled:
                raise BaseExceptionGroup("mixed", [cancelled, error]) from None

    ref.tell(Do(mixed))
    exit_ = await system.wait_down(ref)
    assert isinstance(exit_, Crashed)
    assert exit_.leaves() == (error,)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
async def test_what_ends_the_process_is_no_exit(
    autojump_clock: MockClock, puppet: type[Puppet], error: type[BaseException]
) -> None:
    # ACT-5, SUP-180
    systems = []

    async def run() -> None:
        async with open_actors() as system:
            systems.append(system)
            ref = await system.start(puppet)
            ref.tell(Do(raising(error())))
            await trio.sleep_forever()

    with pytest.raises(error):
        await run()
    assert not systems[0].reports.kept


async def test_cancellation_from_outside_is_no_exit(
    autojump_clock: MockClock, puppet: type[Puppet]
) -> None:
    # ACT-5
    log: list[object] = []
    with trio.move_on_after(1) as scope:
        async with open_actors() as system:
            await system.start(puppet, None, None, noting(log))
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert log == []


async def test_leaving_stops_all_last_started_first(
    autojump_clock: MockClock, puppet: type[Puppet]
) -> None:
    # ACT-50, ACT-55
    log: list[object] = []

    def stop(me: AnyPuppet, _: Exit) -> None:
        log.append(me.path)

    async with open_actors() as system:
        for name in ("a", "b", "c"):
            await system.start(puppet, None, None, stop, name=name)
    assert log == ["c", "b", "a"]
    assert system.totals().actors == 0
    assert system.totals().asks_open == 0
    assert system.totals().timers == 0


async def test_an_error_of_the_body_leaves_as_it_is(autojump_clock: MockClock) -> None:
    # ACT-55
    log: list[object] = []

    async def run() -> None:
        async with open_actors() as system:
            await system.start(Puppet, None, None, noting(log))
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await run()
    assert log == [Shutdown()]


async def test_a_crash_hurts_no_other(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-55
    bad, good = await system.start(puppet), await system.start(puppet)
    bad.tell(Do(raising(OSError())))
    await system.wait_down(bad)
    assert await good.ask(Call(lambda me: "fine")) == "fine"
