"""Stops and kills by ref that come while nobody runs: they count as the coming one's end."""

from __future__ import annotations

from functools import partial

import pytest
import trio
from trio.testing import MockClock

from actors.runtime import (
    Actor,
    ActorExited,
    Crashed,
    Down,
    Exit,
    Killed,
    LinkBroken,
    NoProc,
    Normal,
    Ref,
    Shutdown,
    StopTimeout,
    message,
    open_actors,
)
from actors.testing import Call
from actors.testing import Puppet as Watcher
from supervision import Backoff, ChildSpec, Dynamic, DynamicFlags, Flags, open_system
from supervision.specs.words import RestartType, Strategy
from tests.supervision.pools import word
from tests.supervision.puppets import (
    BOOM,
    MANY,
    Crash,
    Kit,
    Note,
    Number,
    Troupe,
    Word,
    settle,
)

SLOW = Backoff(10.0, 10.0, jitter=0.0)
KINDS: list[RestartType] = ["permanent", "transient"]


async def backing_off(kit: Kit, ref: Ref[Word]) -> None:
    """Crash a child, so that it waits for its restart."""
    ref.tell(Crash(BOOM))
    await settle()
    kit.stage.log.clear()


async def test_a_stop_ends_the_attempts_at_once(kit: Kit, autojump_clock: MockClock) -> None:
    # ACT-54, SUP-43
    spec = kit.spec("a", restart="transient", backoff=SLOW)
    async with open_system(Troupe, MANY, [spec]) as sup:
        ref = (await sup.refs())["a"]
        await backing_off(kit, ref)
        began = trio.current_time()
        await ref.stop()
        assert trio.current_time() == began
        assert await sup.statuses() == {"a": "stopped"}
        with pytest.raises(NoProc):
            await ref.stop()
        await trio.sleep(60.0)
        assert kit.stage.log == []
        await sup.restart_child("a")
        assert (await sup.which_child("a")).status == "running"


@pytest.mark.parametrize("restart", KINDS)
@pytest.mark.parametrize("exit_", [Normal(), Shutdown("x"), Killed()])
async def test_what_follows_is_what_follows_the_end_of_a_running_one(
    kit: Kit, restart: RestartType, exit_: Exit, autojump_clock: MockClock
) -> None:
    # SUP-30, SUP-43: whenever it comes, a stop by ref has the same outcome
    outcomes = []
    for waits in (False, True):
        spec = kit.spec("a", restart=restart, backoff=Backoff(1.0) if waits else None)
        async with open_system(Troupe, MANY, [spec]) as sup:
            ref = (await sup.refs())["a"]
            log: list[object] = []
            watcher = await sup.system.start(Watcher, log)
            if waits:
                await backing_off(kit, ref)
            await watcher.ask(monitors(ref))
            if isinstance(exit_, Killed):
                ref.kill()
            else:
                await ref.stop(exit_)
            await trio.sleep(60.0)
            outcomes.append((log, await sup.statuses()))
            assert log == [Down(ref, 1, exit_)]
    status = "stopped" if restart == "transient" and exit_.clean else "running"
    assert [found for _, found in outcomes] == [{"a": status}] * 2


async def test_what_was_queued_is_returned_and_watchers_hear_the_exit_asked_for(
    kit: Kit, autojump_clock: MockClock
) -> None:
    # ACT-54, ACT-62
    spec = kit.spec("a", restart="transient", backoff=SLOW)
    async with open_system(Troupe, MANY, [spec]) as sup:
        ref = (await sup.refs())["a"]
        log: list[object] = []
        watcher = await sup.system.start(Watcher, log)
        await backing_off(kit, ref)
        await watcher.ask(monitors(ref))
        ref.tell(Note("kept"))
        exits: list[object] = []

        async def asks() -> None:
            with pytest.raises(ActorExited) as caught:
                await ref.ask(Number())
            exits.append(caught.value.exit)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(asks)
            await settle()
            await ref.stop(Shutdown("no more"))
        await settle()
        assert exits == [Shutdown("no more")]
        assert log == [Down(ref, 1, Shutdown("no more"))]
        assert sup.system.dead_letters.by_reason == {"crashed": 1, "stopped": 2}


def monitors(ref: Ref[Word]) -> Call:
    return Call(lambda me: me.monitor(ref))


@pytest.mark.parametrize("restart", KINDS)
async def test_all_who_wait_for_the_end_return(
    kit: Kit, restart: RestartType, autojump_clock: MockClock
) -> None:
    # ACT-54
    spec = kit.spec("a", restart=restart, backoff=SLOW)
    async with open_system(Troupe, MANY, [spec]) as sup:
        ref = (await sup.refs())["a"]
        await backing_off(kit, ref)
        with trio.fail_after(1):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(sup.system.wait_down, ref)
                await settle()
                await ref.stop(timeout=0)


async def test_what_is_tied_to_the_coming_incarnation_ends_with_it(
    kit: Kit, autojump_clock: MockClock
) -> None:
    # ACT-64: as with one that runs
    async with open_system(Troupe, MANY, [kit.spec("a", backoff=SLOW)]) as sup:
        ref = (await sup.refs())["a"]
        peer = await sup.system.start(Watcher)
        await backing_off(kit, ref)
        await peer.ask(Call(lambda me: me.link(ref)))
        ref.kill()
        exit_ = await sup.system.wait_down(peer)
        assert isinstance(exit_, Crashed)
        assert isinstance(exit_.error, LinkBroken)


async def test_a_failing_start_does_not_lose_a_broken_link(
    kit: Kit, autojump_clock: MockClock
) -> None:
    # ACT-64: tied to the coming incarnation, whichever start that comes of
    async with open_system(Troupe, MANY, [kit.spec("a", backoff=SLOW)]) as sup:
        ref = (await sup.refs())["a"]
        peer = await sup.system.start(Watcher)
        await backing_off(kit, ref)
        await peer.ask(Call(lambda me: me.link(ref)))
        kit.stage.will_start("a", OSError("not yet"))
        peer.kill()
        await trio.sleep(25.0)
        assert kit.stage.log == ["start a", "start a", "stop a crashed"]
        exit_ = sup.system.reports.kept[-1].exit
        assert isinstance(exit_, Crashed)
        assert isinstance(exit_.error, LinkBroken)


@pytest.mark.parametrize("restart", KINDS)
async def test_a_failing_start_does_not_lose_the_stop(
    async_kit: Kit, restart: RestartType, autojump_clock: MockClock
) -> None:
    # ACT-54: asked for while an attempt was under way that then failed
    starts: list[float] = []

    class Slow(Actor[Crash]):
        async def on_start(self) -> None:
            starts.append(trio.current_time())
            if len(starts) > 1:
                await trio.sleep(1.0)
                raise OSError("not yet")

        def on_crash(self, message: Crash) -> None:
            raise message.error

    spec = ChildSpec("slow", Slow, restart=restart, backoff=Backoff(5.0, jitter=0.0))
    async with open_system(Troupe, MANY, [spec]) as sup:
        async_kit.stage.follow(sup.system)
        ref = (await sup.refs())["slow"]
        ref.tell(Crash(BOOM))
        await trio.sleep(5.5)
        assert (await sup.which_child("slow")).status == "restarting"
        await ref.stop()
        assert trio.current_time() == 6.0
        is_over = restart == "transient"
        assert (await sup.which_child("slow")).status == ("stopped" if is_over else "backing_off")
        assert async_kit.stage.contexts() == ["child_terminated", "start_error"]
        await trio.sleep(60.0)
        assert (starts == [0.0, 5.0]) == is_over


@pytest.mark.parametrize("by_kill", [False, True])
async def test_whoever_stops_a_start_that_hangs_hears_its_end(
    by_kill: bool, autojump_clock: MockClock
) -> None:
    # ACT-54: the shutdown deadline of the stop makes it a kill, which permanent children survive
    starts: list[float] = []

    class Hangs(Actor[Crash]):
        start_timeout = 1e9

        async def on_start(self) -> None:
            starts.append(trio.current_time())
            if len(starts) == 2:
                await trio.sleep_forever()

        def on_crash(self, message: Crash) -> None:
            raise message.error

    async with open_system(Troupe, MANY, [ChildSpec("slow", Hangs, shutdown=2.0)]) as sup:
        ref = (await sup.refs())["slow"]
        ref.tell(Crash(BOOM))
        await settle()
        if by_kill:
            ref.kill()
            await settle()
        else:
            await ref.stop()
        assert trio.current_time() == (0.0 if by_kill else 2.0)
        await settle()
        assert (await sup.which_child("slow")).status == "running"
        assert starts == [0.0, 0.0, trio.current_time()]


@pytest.mark.parametrize("drain", [False, True])
async def test_a_group_that_cuts_the_start_off_does_not_lose_the_stop(
    async_kit: Kit, drain: bool, autojump_clock: MockClock
) -> None:
    # ACT-54: stopped by its ref first, by its group then, and its start fails
    kit = async_kit
    starts: list[float] = []

    class Slow(Actor[Crash | Note]):
        async def on_start(self) -> None:
            starts.append(trio.current_time())
            if len(starts) == 2:
                await trio.sleep(2.0)
                raise OSError("cut off")

        def on_crash(self, message: Crash) -> None: ...

        def on_note(self, message: Note) -> None:
            kit.stage.log.append(f"slow {message.text}")

    specs = [kit.spec("a"), ChildSpec("slow", Slow)]
    async with open_system(Troupe, Flags("one_for_all", 100), specs) as sup:
        refs = await sup.refs()
        refs["a"].tell(Crash(BOOM))
        await settle()
        with trio.fail_after(30.0):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(refs["slow"].stop, drain=drain, timeout=None))
                await trio.sleep(1.0)
                refs["slow"].tell(Note("queued"))
                refs["a"].tell(Crash(BOOM))
        assert trio.current_time() == 2.0
        await settle()
        # A permanent one comes again with its group, and is not stopped a second time.
        assert await sup.numbers() == {"a": 3, "slow": 2}
        await refs["slow"].send(Note("sent"))
        await settle()
        assert kit.stage.log[-1] == "slow sent"
        assert starts == [0.0, 0.0, 2.0]


async def test_dynamic_children_are_stopped_for_good(kit: Kit, autojump_clock: MockClock) -> None:
    # ACT-54, SUP-46
    start = partial(kit.puppet, kit.stage, "one")
    template = ChildSpec("one", start, restart="transient", backoff=SLOW)
    async with open_system(Dynamic[Word], DynamicFlags(intensity=99), template) as pool:
        ref = word(await pool.start_child())
        await backing_off(kit, ref)
        await ref.stop()
        assert await pool.which_children() == []
        await trio.sleep(60.0)
        assert kit.stage.log == []


async def test_a_key_is_free_after_the_stop_of_its_waiting_child(
    kit: Kit, autojump_clock: MockClock
) -> None:
    # ACT-54, SUP-50
    make = partial(kit.puppet, kit.stage)
    template = ChildSpec("one", make, restart="transient", backoff=SLOW)
    flags = DynamicFlags(intensity=99, key="child_id")
    async with open_system(Dynamic[Word], flags, template) as pool:
        ref = pool["oak"]
        assert await ref.ask(Number()) == 1
        await backing_off(kit, ref)
        await ref.stop()
        with pytest.raises(NoProc):
            await ref.ask(Number())
        assert await pool["oak"].ask(Number()) == 1
        assert pool["oak"] != ref


async def test_a_dormant_key_has_nothing_to_stop(kit: Kit, autojump_clock: MockClock) -> None:
    # SUP-50: nor to kill; its next message starts it
    template = ChildSpec("one", partial(kit.puppet, kit.stage))
    flags = DynamicFlags(key="child_id")
    async with open_system(Dynamic[Word], flags, template) as pool:
        ref = pool["oak"]
        await ref.stop()
        await ref.stop(drain=True)
        ref.kill()
        await settle()
        assert kit.stage.log == []
        assert await ref.ask(Number()) == 1
        assert pool["oak"] == ref


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
async def test_a_group_goes_on_without_the_one_it_waited_for(
    kit: Kit, strategy: Strategy, autojump_clock: MockClock
) -> None:
    # SUP-31, SUP-43: unlike `terminate_child` it is no wish about the others
    specs = [kit.spec("a", restart="transient", backoff=SLOW), kit.spec("b", backoff=SLOW)]
    async with open_system(Troupe, Flags(strategy, 100), specs) as sup:
        ref = (await sup.refs())["a"]
        await backing_off(kit, ref)
        assert await sup.statuses() == {"a": "backing_off", "b": "restarting"}
        await ref.stop()
        await settle()
        assert trio.current_time() == 0.0
        assert await sup.statuses() == {"a": "stopped", "b": "running"}
        assert kit.stage.log == ["start b"]
        await trio.sleep(60.0)
        assert kit.stage.log == ["start b"]


async def test_a_significant_child_is_significant_between_lives_too(
    kit: Kit, autojump_clock: MockClock
) -> None:
    # SUP-65: as one that runs and is stopped by its ref
    sub = ChildSpec(
        "sub",
        lambda: Troupe(
            Flags(intensity=9, auto_shutdown="any"),
            [kit.spec("a", restart="transient", significant=True, backoff=SLOW), kit.spec("b")],
        ),
        type="supervisor",
        restart="transient",
    )
    async with open_system(Troupe, MANY, [sub]) as sup:
        below = sup.handle_of_child("sub")
        assert isinstance(below, Troupe)
        ref = (await below.refs())["a"]
        await backing_off(kit, ref)
        await ref.stop()
        await settle()
        assert await sup.statuses() == {"sub": "stopped"}
        assert kit.stage.log == ["stop b shutdown"]


async def test_a_stop_that_drains_waits_for_who_can_drain(
    kit: Kit, autojump_clock: MockClock
) -> None:
    # ACT-57: also through a start that fails
    spec = kit.spec("a", restart="transient", shutdown=60.0, backoff=SLOW)
    kit.stage.will_start("a", None, OSError("not yet"))
    async with open_system(Troupe, MANY, [spec]) as sup:
        ref = (await sup.refs())["a"]
        await backing_off(kit, ref)
        ref.tell(Note("one"))
        ref.tell(Note("two"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(ref.stop, drain=True, timeout=None))
            await settle()
            ref.tell(Note("late"))
            with pytest.raises(NoProc):
                await ref.send(Note("late too"))
        assert trio.current_time() == 20.0
        assert kit.stage.log == ["start a", "start a", "a one", "a two", "stop a normal"]
        assert await sup.statuses() == {"a": "stopped"}
        assert sup.system.dead_letters.by_reason == {"crashed": 1, "stopped": 1}
        await trio.sleep(60.0)
        assert kit.stage.log[5:] == []


async def test_draining_nothing_is_a_stop(kit: Kit, autojump_clock: MockClock) -> None:
    # ACT-57
    spec = kit.spec("a", restart="transient", backoff=SLOW)
    async with open_system(Troupe, MANY, [spec]) as sup:
        ref = (await sup.refs())["a"]
        await backing_off(kit, ref)
        await ref.stop(drain=True)
        assert await sup.statuses() == {"a": "stopped"}


async def test_draining_has_the_shutdown_deadline_between_lives_too(
    kit: Kit, autojump_clock: MockClock
) -> None:
    # ACT-57: and a stop that has run out of patience still goes on
    async with open_system(Troupe, MANY, [kit.spec("a", shutdown=3.0, backoff=SLOW)]) as sup:
        ref = (await sup.refs())["a"]
        await backing_off(kit, ref)
        ref.tell(Note("one"))
        with pytest.raises(StopTimeout):
            await ref.stop(drain=True, timeout=1.0)
        assert (await sup.which_child("a")).status == "backing_off"
        assert await sup.system.wait_down(ref) == Killed()
        assert trio.current_time() == 3.0
        # As after any kill: it comes again, with what was queued, and takes new messages.
        ref.tell(Note("two"))
        await trio.sleep(10.0)
        assert kit.stage.log == ["start a", "a one", "a two"]


async def test_a_stop_without_draining_overtakes_one_that_drains(
    kit: Kit, autojump_clock: MockClock
) -> None:
    # ACT-57
    spec = kit.spec("a", restart="transient", backoff=SLOW)
    async with open_system(Troupe, MANY, [spec]) as sup:
        ref = (await sup.refs())["a"]
        await backing_off(kit, ref)
        ref.tell(Note("one"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(ref.stop, drain=True))
            await settle()
            await ref.stop()
        assert trio.current_time() == 0.0
        assert await sup.statuses() == {"a": "stopped"}


@message
class Go:
    """A message that says nothing."""


async def test_without_supervisor_a_stop_during_a_failing_start_returns(
    autojump_clock: MockClock,
) -> None:
    # ACT-54
    class Fails(Actor[Go]):
        async def on_start(self) -> None:
            await trio.sleep(1.0)
            raise OSError

        def on_go(self, message: Go) -> None: ...

    async with open_actors() as system:
        ref = system.begin(Fails)
        await settle()
        await ref.stop(Normal())
        assert trio.current_time() == 1.0
        assert list(system.cells()) == []
