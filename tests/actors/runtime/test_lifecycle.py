"""Start, stop, crash: the hooks, their order, and what is left afterwards."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from actors.runtime import (
    IGNORE,
    ActorExited,
    AlreadyStarted,
    BadReply,
    BadReturn,
    Crashed,
    Exit,
    Killed,
    NoProc,
    Normal,
    Ref,
    Shutdown,
    Started,
    StartError,
    StartIgnored,
    StartTimeout,
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
    PuppetMessage,
    raising,
    sleeping,
)
from actors.testing.puppet import StopHook


def noting(log: list[object]) -> StopHook:
    def note(_: AnyPuppet, exit_: Exit) -> None:
        log.append(exit_)

    return note


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


async def test_a_start_can_ignore_and_hand_out_info(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-47, ACT-54
    assert await system.maybe_start(puppet, None, lambda me: IGNORE, name="x") is None
    with pytest.raises(StartIgnored):
        await system.start(puppet, None, lambda me: IGNORE, name="x")
    ref = await system.start(puppet, None, lambda me: Started(5), name="x")
    assert system.whereis("x") is ref


@pytest.mark.parametrize("value", [7, "IGNORE"])
async def test_a_start_that_returns_nonsense_fails(
    autojump_clock: MockClock, system: System, puppet: type[Puppet], value: object
) -> None:
    # ACT-47, SUP-13
    with pytest.raises(StartError) as caught:
        await system.start(puppet, None, lambda me: value)
    assert isinstance(caught.value.cause, BadReturn)
    assert caught.value.cause.value == value


async def test_a_start_that_raises_leaves_nothing(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-54, SUP-183
    log: list[object] = []
    error = OSError()
    with pytest.raises(StartError) as caught:
        await system.start(puppet, log, raising(error), noting(log), name="x")
    assert caught.value.cause is error
    assert system.whereis("x") is None
    assert list(system.cells()) == []
    assert log == []

    class Broken(Puppet):
        def __init__(self) -> None:
            raise error

    with pytest.raises(StartError):
        await system.start(Broken, name="x")
    assert list(system.cells()) == []
    assert not system.reports.kept


async def test_a_start_that_takes_too_long_is_cancelled(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-47, SUP-155
    seen: list[object] = []

    async def slow() -> None:
        try:
            await trio.sleep(60)
        finally:
            seen.append(trio.current_time())

    with pytest.raises(StartTimeout):
        await system.start(AsyncPuppet, None, lambda me: slow())
    assert seen == [10]


async def test_messages_sent_during_the_start_are_queued(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-47
    log: list[object] = []

    async def slow(me: AnyPuppet) -> None:
        me.ref.tell(Note("early"))
        await trio.sleep(1)
        me.log.append("ready")

    await system.start(AsyncPuppet, log, slow)
    await trio.testing.wait_all_tasks_blocked()
    assert log == ["ready", "early"]


async def test_a_cancelled_start_does_not_go_on(autojump_clock: MockClock, system: System) -> None:
    # ACT-54
    with trio.move_on_after(1):
        await system.start(AsyncPuppet, None, sleeping(9), name="x")
    await trio.testing.wait_all_tasks_blocked()
    assert system.whereis("x") is None


async def test_a_taken_name_is_refused(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-60, SUP-156
    first = await system.start(puppet, name="x")
    with pytest.raises(AlreadyStarted) as caught:
        await system.start(puppet, name="x")
    assert caught.value.ref is first
    assert system.whereis("x") is first


@pytest.mark.parametrize("name", ["", "a/b", "a\n", "x" * 201])
async def test_a_bad_name_is_refused(autojump_clock: MockClock, system: System, name: str) -> None:
    # ACT-60
    with pytest.raises(ValueError, match="name"):
        await system.start(Puppet, name=name)


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


async def test_a_crash_report_holds_what_one_needs(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-49, ACT-103, SUP-160, SUP-167
    class Secretive(puppet):  # type: ignore[misc, valid-type]  # both kinds in turn
        def redact(self, state: dict[str, object]) -> dict[str, object]:
            return {**super().redact(state), "state": "hidden"}

    ref: Ref[PuppetMessage] = await system.start(Secretive)

    def fails(me: AnyPuppet) -> None:
        me.state["pin"] = "0000"
        raise KeyError("where")

    ref.tell(Do(fails))
    await system.wait_down(ref)
    (report,) = system.reports.kept
    assert report.path == ref.path
    assert (report.incarnation, report.at) == (1, 0.0)
    assert report.last_message is not None
    assert report.last_message.startswith("Do(")
    assert "KeyError: 'where'" in report.stack
    assert "0000" not in str(report)
    assert isinstance(report.state, dict)
    assert report.state["state"] == "hidden"


async def test_a_failing_redaction_shows_nothing(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-103
    class Broken(puppet):  # type: ignore[misc, valid-type]
        def redact(self, state: dict[str, object]) -> dict[str, object]:
            raise TypeError(state)

    ref: Ref[PuppetMessage] = await system.start(Broken)
    assert system.status(ref)["state"] == "<redaction failed: TypeError>"
    ref.tell(Do(raising(OSError())))
    await system.wait_down(ref)
    assert system.reports.kept[0].state == "<redaction failed: TypeError>"


async def test_a_value_returned_to_a_tell_is_a_bad_reply(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-45
    class Careless(Puppet):
        def on_do(self, message: Do) -> None:
            return message.what(self)  # type: ignore[return-value]

    ref = await system.start(Careless)
    ref.tell(Do(lambda me: 7))
    exit_ = await system.wait_down(ref)
    assert isinstance(exit_, Crashed)
    assert isinstance(exit_.error, BadReply)
    assert exit_.error.got == 7


async def test_a_coroutine_from_a_def_handler_is_a_bad_reply(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-45
    ref = await system.start(Puppet)
    with pytest.raises(BadReply):
        await ref.ask(Call(sleeping(1)))


async def test_check_replies_refuses_other_types(
    autojump_clock: MockClock, puppet: type[Puppet]
) -> None:
    # ACT-45
    class Total(Call):
        pass

    async with open_actors(check_replies=True) as system:
        ref = await system.start(puppet)
        assert await ref.ask(Call(lambda me: object()))
        kind = cell_of(ref).actor_class
        assert kind is not None
        kind.__table__.replies[Call] = int
        try:
            with pytest.raises(BadReply) as caught:
                await ref.ask(Call(lambda me: "text"))
        finally:
            puppet.__table__.replies[Call] = object
        assert caught.value.got == "text"


async def test_reply_later_answers_from_another_message(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-44, SUP-169
    ref = await system.start(puppet)

    def keeps(me: AnyPuppet) -> None:
        me.state["later"] = me.reply_later()

    async with trio.open_nursery() as nursery:

        async def asks() -> None:
            assert await ref.ask(Call(keeps)) == "now"

        nursery.start_soon(asks)
        await trio.testing.wait_all_tasks_blocked()
        ref.tell(Do(lambda me: me.state["later"].reply("now")))  # type: ignore[attr-defined]


async def test_open_replies_fail_with_their_incarnation(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-44
    ref = await system.start(puppet)

    def keeps(me: AnyPuppet) -> None:
        me.state["later"] = me.reply_later()

    async with trio.open_nursery() as nursery:

        async def asks() -> None:
            with pytest.raises(ActorExited):
                await ref.ask(Call(keeps))

        nursery.start_soon(asks)
        await trio.testing.wait_all_tasks_blocked()
        await ref.stop()


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

    with pytest.raises(BaseExceptionGroup) as caught:
        await run()
    assert caught.value.subgroup(error) is not None
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
    assert system.totals()["actors"] == 0
    assert system.totals()["asks_open"] == 0
    assert system.totals()["timers"] == 0


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
    # ACT-51, SUP-177
    ref = await system.start(AsyncPuppet)

    async def shielded(_: AnyPuppet) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(60)

    ref.tell(Do(shielded))
    await trio.testing.wait_all_tasks_blocked()
    ref.kill()
    await trio.sleep(1.5)
    assert system.status(ref)["status"] == "unkillable"
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
