"""Stops and kills by ref that come while nobody runs: they end the attempts, and are not lost."""

from __future__ import annotations

from functools import partial

import pytest
import trio
from trio.testing import MockClock

from actors.runtime import (
    Actor,
    ActorExited,
    Down,
    Killed,
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


@pytest.mark.parametrize("restart", KINDS)
async def test_a_stop_ends_the_attempts_at_once(
    kit: Kit, restart: RestartType, autojump_clock: MockClock
) -> None:
    # ACT-54, SUP-43: whatever its restart type, as `terminate_child` does
    spec = kit.spec("a", restart=restart, backoff=SLOW)
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


async def test_what_was_queued_is_returned_and_watchers_hear_the_exit_asked_for(
    kit: Kit, autojump_clock: MockClock
) -> None:
    # ACT-54, ACT-62
    async with open_system(Troupe, MANY, [kit.spec("a", backoff=SLOW)]) as sup:
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


async def test_two_who_stop_it_both_return(kit: Kit, autojump_clock: MockClock) -> None:
    # ACT-54: the second may come while it is being retired for the first
    async with open_system(Troupe, MANY, [kit.spec("a", backoff=SLOW)]) as sup:
        ref = (await sup.refs())["a"]
        await backing_off(kit, ref)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sup.system.wait_down, ref)
            await settle()
            await ref.stop(timeout=0)


@pytest.mark.parametrize("restart", KINDS)
async def test_a_kill_ends_the_attempts_too(
    kit: Kit, restart: RestartType, autojump_clock: MockClock
) -> None:
    # ACT-54
    spec = kit.spec("a", restart=restart, backoff=SLOW)
    async with open_system(Troupe, MANY, [spec]) as sup:
        ref = (await sup.refs())["a"]
        await backing_off(kit, ref)
        ref.kill()
        ref.kill()
        assert await sup.statuses() == {"a": "stopped"}
        await trio.sleep(60.0)
        assert kit.stage.log == []


async def test_a_failing_start_does_not_lose_the_stop(
    async_kit: Kit, autojump_clock: MockClock
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

    spec = ChildSpec("slow", Slow, restart="transient", backoff=Backoff(5.0, jitter=0.0))
    async with open_system(Troupe, MANY, [spec]) as sup:
        async_kit.stage.follow(sup.system)
        ref = (await sup.refs())["slow"]
        ref.tell(Crash(BOOM))
        await trio.sleep(5.5)
        assert (await sup.which_child("slow")).status == "restarting"
        await ref.stop()
        assert trio.current_time() == 6.0
        assert (await sup.which_child("slow")).status == "stopped"
        await trio.sleep(60.0)
        assert starts == [0.0, 5.0]
        assert async_kit.stage.contexts() == ["child_terminated", "start_error"]


async def test_dynamic_children_are_stopped_for_good(kit: Kit, autojump_clock: MockClock) -> None:
    # ACT-54, SUP-46
    start = partial(kit.puppet, kit.stage, "one")
    template = ChildSpec("one", start, backoff=SLOW)
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
    template = ChildSpec("one", partial(kit.puppet, kit.stage), backoff=SLOW)
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
async def test_a_group_ends_with_the_one_it_waits_for(
    kit: Kit, strategy: Strategy, autojump_clock: MockClock
) -> None:
    # SUP-43: as after `terminate_child`, members that are not up stay down
    specs = [kit.spec("a", backoff=SLOW), kit.spec("b", backoff=SLOW)]
    async with open_system(Troupe, Flags(strategy, 100), specs) as sup:
        ref = (await sup.refs())["a"]
        await backing_off(kit, ref)
        await ref.stop()
        assert await sup.statuses() == {"a": "stopped", "b": "stopped"}
        await trio.sleep(60.0)
        assert kit.stage.log == []


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
    async with open_system(Troupe, MANY, [kit.spec("a", backoff=SLOW)]) as sup:
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
        assert await sup.statuses() == {"a": "stopped"}
        assert sup.system.dead_letters.by_reason == {"crashed": 1, "stopped": 1}


async def test_a_stop_without_draining_overtakes_one_that_drains(
    kit: Kit, autojump_clock: MockClock
) -> None:
    # ACT-57
    async with open_system(Troupe, MANY, [kit.spec("a", backoff=SLOW)]) as sup:
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
