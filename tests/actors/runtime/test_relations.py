"""Monitors and links: each end is told once, in its place, and never after it was taken back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from actors.runtime import (
    AskTimeout,
    Cell,
    Crashed,
    Down,
    Exit,
    Exited,
    Killed,
    LinkBroken,
    NoProc,
    Normal,
    Ref,
    Shutdown,
    System,
)
from actors.runtime.life.cell import cell_of
from actors.testing import (
    AnyPuppet,
    AsyncPuppet,
    AsyncTrappingPuppet,
    Call,
    Do,
    Note,
    Puppet,
    PuppetMessage,
    TrappingPuppet,
    raising,
    sleeping,
)
from supervision import Supervisor, child, open_system


class Root(Supervisor, intensity=10, period=5.0):
    first = child(AsyncPuppet, restart="permanent")
    second = child(AsyncPuppet, restart="temporary")


async def test_a_monitor_gives_one_down(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-62, SUP-170
    log: list[object] = []
    target, watcher = await system.start(puppet), await system.start(puppet, log)
    await watcher.ask(Call(lambda me: me.monitor(target)))
    await watcher.ask(Call(lambda me: me.monitor(target)))
    assert system.stats(target).monitored_by == (watcher.path,) * 2
    assert system.stats(watcher).monitors == (target.path,) * 2
    await target.stop()
    await trio.testing.wait_all_tasks_blocked()
    assert log == [Down(target, 1, Normal())] * 2


async def test_an_owners_own_watch_is_told_and_is_nobodys_monitor(system: System) -> None:
    class Watching:
        final = True

        def __init__(self) -> None:
            self.told: list[Exit] = []

        def ended(self, _: Cell, exit_: Exit) -> None:
            self.told.append(exit_)

    target, watch = await system.start(Puppet), Watching()
    cell_of(target).watch(watch)
    assert system.stats(target).monitored_by == ()
    await target.stop()
    assert watch.told == [Normal()]


async def test_a_monitor_of_the_dead_is_told_at_once(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-62, SUP-171
    log: list[object] = []
    target, watcher = await system.start(puppet), await system.start(puppet, log)
    await target.stop()
    await watcher.ask(Call(lambda me: me.monitor(target)))
    await trio.testing.wait_all_tasks_blocked()
    (down,) = log
    assert isinstance(down, Down)
    assert isinstance(down.exit, NoProc)
    assert isinstance(await system.wait_down(target), NoProc)


@pytest.mark.parametrize("early", [True, False])
async def test_demonitor_leaves_nothing_behind(
    autojump_clock: MockClock, system: System, puppet: type[Puppet], early: bool
) -> None:
    # ACT-63
    log: list[object] = []
    target, watcher = await system.start(puppet), await system.start(puppet, log)

    def watches(me: AnyPuppet) -> None:
        me.state["monitor"] = me.monitor(target)

    def forgets(me: AnyPuppet) -> None:
        if not early:
            cell_of(target).kill()
        me.demonitor(me.state["monitor"])  # type: ignore[arg-type]

    await watcher.ask(Call(watches))
    await system.suspend(watcher)
    watcher.tell(Do(forgets))
    await system.resume(watcher)
    await trio.testing.wait_all_tasks_blocked()
    target.kill()
    await trio.testing.wait_all_tasks_blocked()
    assert log == []


async def test_demonitor_also_takes_back_a_queued_down(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-63, ACT-22
    log: list[object] = []
    watcher = await system.start(puppet, log)

    def tells(me: AnyPuppet) -> None:
        watcher.tell(Do(lambda me: me.demonitor(me.state["monitor"])))  # type: ignore[arg-type]
        me.stop()

    target = await system.start(puppet)

    def watches(me: AnyPuppet) -> None:
        me.state["monitor"] = me.monitor(target)

    await watcher.ask(Call(watches))
    target.tell(Do(tells))
    await trio.testing.wait_all_tasks_blocked()
    assert log == []


async def test_down_stands_behind_the_messages_of_the_dead_and_no_others(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-22, SUP-172
    log: list[object] = []
    watcher = await system.start(puppet, log)
    target = await system.start(puppet)

    def last_words(me: AnyPuppet) -> None:
        for n in range(3):
            watcher.tell(Note(n))
        me.stop()

    await watcher.ask(Call(lambda me: me.monitor(target)))
    await system.suspend(watcher)
    watcher.tell(Note("other, before"))
    target.tell(Do(last_words))
    await trio.testing.wait_all_tasks_blocked()
    for n in range(900):
        watcher.tell(Note(f"other {n}"))
    await system.resume(watcher)
    await trio.testing.wait_all_tasks_blocked()
    assert log[:5] == ["other, before", 0, 1, 2, Down(target, 1, Normal())]
    assert len(log) == 905


async def test_a_down_takes_no_room_of_messages(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-22, ACT-23: nothing is lost, and nobody waits, because others have ended
    class Roomless(puppet):  # type: ignore[misc, valid-type]  # both kinds in turn
        capacity = 2

    log: list[object] = []
    watcher: Ref[PuppetMessage] = await system.start(Roomless, log)
    targets = [await system.start(puppet) for _ in range(2)]
    for target in targets:
        await watcher.ask(Call(lambda me, target=target: me.monitor(target)))  # type: ignore[misc]
    await system.suspend(watcher)
    for number, target in enumerate(targets):
        await target.ask(Call(lambda _, number=number: watcher.tell(Note(number))))  # type: ignore[misc]
        await target.stop()
    assert system.stats(watcher).queued == 2
    await system.resume(watcher)
    await watcher.send(Note("later"))
    await trio.testing.wait_all_tasks_blocked()
    downs = [Down(target, 1, Normal()) for target in targets]
    assert log == [0, downs[0], 1, downs[1], "later"]
    assert not system.dead_letters.total
    assert system.stats(watcher).peak == 2


@pytest.mark.parametrize("others", [0, 50])
@pytest.mark.parametrize("is_admitted", [True, False])
async def test_down_stands_behind_a_passed_on_ask_that_waits_for_room(
    autojump_clock: MockClock, system: System, others: int, is_admitted: bool
) -> None:
    # ACT-22: alone, and where many wait; when it gives up, the end is told all the same
    class Roomless(AsyncPuppet):
        capacity = 1

    log: list[object] = []
    watcher = await system.start(Roomless, log)
    front = await system.start(Puppet)
    await watcher.ask(Call(lambda me: me.monitor(front)))
    await front.ask(Call(lambda me: me.become(lambda _: me.forward(watcher))))
    watcher.tell(Do(sleeping(1)))
    await trio.testing.wait_all_tasks_blocked()
    watcher.tell(Do(sleeping(1)))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(failing, front.ask, Call(partial(noted, log, "passed on")), is_admitted)
        await trio.testing.wait_all_tasks_blocked()
        for number in range(others):
            nursery.start_soon(watcher.send, Note(number))
        await trio.testing.wait_all_tasks_blocked()
        front.kill()
        await trio.testing.wait_all_tasks_blocked()
        assert log == []
    await trio.sleep(10)
    down = Down(front, 1, Killed())
    if is_admitted:
        assert log[:2] == ["passed on", down]
    else:
        assert log[0] == down
    assert len(log) == others + 1 + is_admitted
    assert system.stats(watcher).peak == 1


async def failing(
    ask: Callable[[Call, float], Awaitable[object]], message: Call, is_answered: bool
) -> None:
    """Ask with time enough, or with too little."""
    try:
        await ask(message, 10.0 if is_answered else 0.5)
    except AskTimeout:
        assert not is_answered


def noted(log: list[object], text: str, _: AnyPuppet) -> None:
    log.append(text)


async def test_an_end_that_is_told_while_the_loop_looks_up_keeps_no_places(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-22: an entry of the system made the watcher look for the last message of somebody dead
    class Watching(AsyncPuppet):
        def on_system(self, entry: object) -> None:
            self.monitor(dead)

    log: list[object] = []
    watcher = await system.start(Watching, log)
    target, dead = await system.start(Puppet), await system.start(Puppet)
    await watcher.ask(Call(lambda me: me.monitor(target)))
    # A long batch, whose list is used again for what comes when it is over.
    for _ in range(50):
        watcher.tell(Note("first"))
    watcher.tell(Do(sleeping(1)))
    await trio.testing.wait_all_tasks_blocked()
    watcher.tell(Do(sleeping(1)))
    await dead.ask(Call(lambda _: watcher.tell(Note("of the dead"))))
    await dead.stop()
    for _ in range(50):
        watcher.tell(Note("second"))
    cell_of(watcher).post_system("look")
    await trio.sleep(1.5)
    await target.ask(Call(lambda _: watcher.tell(Note("third"))))
    await target.stop()
    await trio.sleep(1)
    assert log[50] == "of the dead"
    assert isinstance(log[51], Down)
    assert log[52:] == [*["second"] * 50, "third", Down(target, 1, Normal())]


async def test_a_silent_death_overtakes_the_messages_of_others(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-21, ACT-22
    log: list[object] = []
    watcher = await system.start(puppet, log)
    target = await system.start(puppet)
    await watcher.ask(Call(lambda me: me.monitor(target)))
    await system.suspend(watcher)
    for n in range(5):
        watcher.tell(Note(n))
    await target.stop()
    await system.resume(watcher)
    await trio.testing.wait_all_tasks_blocked()
    assert log == [Down(target, 1, Normal()), 0, 1, 2, 3, 4]


@pytest.mark.parametrize("from_a", [True, False])
@pytest.mark.parametrize("killed", [True, False])
async def test_a_link_passes_a_crash_and_a_kill_both_ways(
    autojump_clock: MockClock, system: System, puppet: type[Puppet], from_a: bool, killed: bool
) -> None:
    # ACT-64, SUP-173
    a, b = await system.start(puppet, name="a"), await system.start(puppet, name="b")
    await b.ask(Call(lambda me: me.link(a)))
    assert system.stats(a).links == ("b",)
    first, second = (a, b) if from_a else (b, a)
    if killed:
        first.kill()
    else:
        first.tell(Do(raising(OSError())))
    exit_ = await system.wait_down(second)
    assert isinstance(exit_, Crashed)
    assert isinstance(exit_.error, LinkBroken)
    assert exit_.error.path == first.path
    assert exit_.error.exit == Killed() if killed else isinstance(exit_.error.exit, Crashed)


async def test_a_link_passes_shutdown_as_shutdown_and_normal_not_at_all(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-64
    a, b, c = [await system.start(puppet) for _ in range(3)]
    await b.ask(Call(lambda me: me.link(a)))
    await b.ask(Call(lambda me: me.link(c)))
    await a.stop()
    assert await b.ask(Call(lambda me: "lives")) == "lives"
    c.tell(Do(lambda me: me.stop(Shutdown("x"))))
    assert await system.wait_down(b) == Shutdown("x")


async def test_a_link_to_the_dead_is_a_crash(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-64
    a, b = await system.start(puppet), await system.start(puppet)
    await a.stop()
    b.tell(Do(lambda me: me.link(a)))
    exit_ = await system.wait_down(b)
    assert isinstance(exit_, Crashed)
    assert isinstance(exit_.error, LinkBroken)
    assert isinstance(exit_.error.exit, Crashed)
    assert isinstance(exit_.error.exit.error, NoProc)


@pytest.mark.parametrize("kind", [TrappingPuppet, AsyncTrappingPuppet])
async def test_trapped_exits_are_messages(
    autojump_clock: MockClock, system: System, kind: type[TrappingPuppet]
) -> None:
    # ACT-65, SUP-174
    log: list[object] = []
    a, b = await system.start(Puppet), await system.start(AsyncPuppet)
    ref = await system.start(kind, log)
    await ref.ask(Call(lambda me: me.link(a)))
    await ref.ask(Call(lambda me: me.link(b)))
    await a.stop()
    error = OSError()
    b.tell(Do(raising(error)))
    await trio.testing.wait_all_tasks_blocked()
    assert log == [Exited(a, 1, Normal()), Exited(b, 1, Crashed(error))]
    assert await ref.ask(Call(lambda me: "lives")) == "lives"
    peer = await system.start(kind, log)
    await peer.ask(Call(lambda me: me.link(ref)))
    ref.kill()
    await trio.testing.wait_all_tasks_blocked()
    assert log[2:] == [Exited(ref, 1, Killed())]


async def test_after_unlink_nothing_comes(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-63, SUP-175
    a, b = await system.start(puppet), await system.start(puppet)
    await b.ask(Call(lambda me: me.link(a)))

    def unlinks(me: AnyPuppet) -> None:
        cell_of(a).kill()
        me.unlink(a)

    await b.ask(Call(unlinks))
    await trio.testing.wait_all_tasks_blocked()
    assert await b.ask(Call(lambda me: "lives")) == "lives"
    assert system.stats(b).links == ()


async def test_a_new_link_does_not_hide_how_the_last_one_ended(
    autojump_clock: MockClock,
) -> None:  # ACT-64
    async with open_system(Root) as root, trio.open_nursery() as nursery:
        first, second = root.first, root.second
        ended: list[Exit | NoProc] = []

        def block(me: AnyPuppet) -> None:
            # Between two messages of `second`: its peer crashes, comes back and links again.
            me.link(second)

        async def wait() -> None:
            ended.append(await root.system.wait_down(second))

        nursery.start_soon(wait)
        await first.ask(Call(block))
        second.tell(Do(sleeping(3)))
        await trio.sleep(1)
        first.tell(Do(raising(OSError())))
        first.tell(Do(block))
        await trio.sleep(5)
        assert [type(exit_) for exit_ in ended] == [Crashed]
