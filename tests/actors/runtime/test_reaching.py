"""Ways to actors beside a plain ref: many at once, and from other threads."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from threading import Thread
from weakref import ReferenceType, ref

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from actors.runtime import (
    Actor,
    ByName,
    MailboxFull,
    NoProc,
    Portal,
    Ref,
    System,
    WrongActor,
    narrow,
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
    sleeping,
)
from supervision import Supervisor, child, open_system
from tests.patience import PATIENCE_S, until


async def test_ask_all_gives_replies_and_who_gave_none(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-31, SUP-168
    good, dead = await system.start(puppet), await system.start(puppet)
    slow = await system.start(AsyncPuppet)
    await dead.stop()
    slow.tell(Do(sleeping(3)))
    replies, without = await system.ask_all([good, dead, slow], Call(lambda me: me.path), timeout=1)
    assert (replies, without) == ({good: good.path}, [dead, slow])
    assert trio.current_time() == 1
    await trio.sleep(5)
    assert system.stats(slow).late_replies == 0
    system.tell_all([good, slow], Note("all"))
    with trio.move_on_after(1):
        slow.tell(Do(sleeping(3)))
        await system.ask_all([slow], Call(lambda me: 1), timeout=9)
    await trio.sleep(5)
    assert system.stats(slow).withdrawn == 1
    assert await system.ask_all([], Call(lambda me: 1), timeout=1) == ({}, [])


async def test_asking_all_leaves_out_who_would_wait_for_itself(
    autojump_clock: MockClock, system: System
) -> None:  # ACT-35
    other = await system.start(Puppet)

    async def ask(me: AnyPuppet) -> tuple[int, bool, float]:
        began = trio.current_time()
        replies, none = await system.ask_all([me.ref, other], Call(lambda me: 1), 3)
        return len(replies), none == [me.ref], trio.current_time() - began

    assert await (await system.start(AsyncPuppet)).ask(Call(ask)) == (1, True, 0.0)


async def test_off_the_trio_thread_refs_refuse_and_the_portal_serves(
    system: System,
) -> None:
    # ACT-30
    log: list[object] = []
    ref = await system.start(Puppet, log)

    def in_thread() -> object:
        with pytest.raises(RuntimeError, match=r"system\.portal"):
            ref.tell(Note("x"))
        with pytest.raises(RuntimeError, match=r"system\.portal"):
            ref.kill()
        system.portal.tell(ref, Note("by portal"))
        return system.portal.ask(ref, Call(lambda me: 5))

    assert await trio.to_thread.run_sync(in_thread) == 5
    assert log == ["by portal"]


@pytest.mark.slow
async def test_a_thread_that_sends_goes_no_faster_than_the_actor(system: System) -> None:
    """Four threads, 2,000 messages each, room for ten: none is lost, each thread's in order."""
    # ACT-30
    log: list[object] = []

    class Narrow(Puppet):
        capacity = 10

    ref = await system.start(Narrow, log)

    def in_thread(number: int) -> None:
        for serial in range(2_000):
            system.portal.send(ref, Note((number, serial)))

    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(trio.to_thread.run_sync, in_thread, number)
    await ref.ask(Call(lambda me: None))
    assert len(log) == 8_000
    assert system.stats(ref).overflowed == 0
    for number in range(4):
        own = [one for one in log if isinstance(one, tuple) and one[0] == number]
        assert own == [(number, serial) for serial in range(2_000)]


async def test_a_send_from_a_thread_fails_as_one_from_within() -> None:
    # ACT-30
    async with open_actors() as system:

        class Narrow(AsyncPuppet):
            capacity = 1

        busy, dead = await system.start(Narrow), await system.start(Puppet)
        await dead.stop()
        busy.tell(Do(sleeping(PATIENCE_S)))
        await trio.testing.wait_all_tasks_blocked()
        busy.tell(Note("fills it"))

        def in_thread() -> None:
            with pytest.raises(MailboxFull) as caught:
                system.portal.send(busy, Note("too much"), timeout=0.01)
            assert caught.value.message == Note("too much")
            with pytest.raises(NoProc):
                system.portal.send(dead, Note("x"))
            with pytest.raises(ValueError, match="timeout"):
                system.portal.send(dead, Note("x"), timeout=-1)

        await trio.to_thread.run_sync(in_thread)
        with pytest.raises(RuntimeError):
            system.portal.send(busy, Note("x"))  # It would block the loop it waits for.
        busy.kill()


def test_a_thread_that_waits_for_room_hears_of_the_end() -> None:
    """Cancelled from outside, the system tells it; afterwards there is no trio to send to."""

    # ACT-30
    class Narrow(AsyncPuppet):
        capacity = 1

    heard: list[BaseException] = []

    def in_thread(portal: Portal, ref: Ref[Note]) -> None:
        try:
            portal.send(ref, Note("waits"))
        except NoProc as error:
            heard.append(error)

    async def main() -> tuple[Portal, Ref[Note], Thread]:
        with trio.CancelScope() as scope:
            async with open_actors() as system:
                busy = await system.start(Narrow)
                busy.tell(Do(sleeping(PATIENCE_S)))
                await trio.testing.wait_all_tasks_blocked()
                busy.tell(Note("fills it"))
                thread = Thread(target=in_thread, args=(system.portal, busy))
                thread.start()
                await until(lambda: cell_of(busy).mailbox.waiting_senders == 1)
                scope.cancel()
        await trio.to_thread.run_sync(thread.join)
        return system.portal, busy, thread

    portal, ref, _ = trio.run(main)
    assert [type(error) for error in heard] == [NoProc]
    with pytest.raises(trio.RunFinishedError):
        portal.send(ref, Note("too late"))


async def test_asyncio_sends_through_a_thread_of_its_own() -> None:
    # ACT-30
    async with open_actors() as system:
        log: list[object] = []
        ref = await system.start(Puppet, log)

        async def in_asyncio() -> object:
            await asyncio.to_thread(system.portal.send, ref, Note("by asyncio"), 2.0)
            return await asyncio.to_thread(system.portal.ask, ref, Call(lambda me: 5))

        assert await trio.to_thread.run_sync(asyncio.run, in_asyncio()) == 5
        assert log == ["by asyncio"]


async def test_who_is_asked_may_come_from_a_generator(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:  # SUP-168: it can be read only once
    good, dead = await system.start(puppet), await system.start(puppet)
    await dead.stop()

    def each() -> Iterator[Ref[Call | Note]]:
        yield from (dead, good, dead)

    replies, without = await system.ask_all(each(), Call(lambda me: 1), timeout=1)
    assert (replies, without) == ({good: 1}, [dead])
    system.tell_all(each(), Note("x"))
    assert system.dead_letters.by_reason == {"no_such_actor": 2}


async def path_of(name: str) -> object:
    """Ask whoever has a name for the system it runs in."""
    return await ByName(name, Puppet).ask(Call(lambda me: me.system))


async def test_a_name_without_system_is_looked_up_in_the_newest_that_is_open(
    autojump_clock: MockClock,
) -> None:  # ACT-60
    async with open_actors() as outer:
        await outer.start(Puppet, name="x")
        assert await path_of("x") is outer
        async with open_actors() as inner:
            with pytest.raises(NoProc):
                await path_of("x")
            await inner.start(Puppet, name="x")
            assert await path_of("x") is inner
        assert await path_of("x") is outer
        with pytest.raises(ZeroDivisionError):
            async with open_actors():
                raise ZeroDivisionError
        assert await path_of("x") is outer
    with pytest.raises(NoProc):
        await path_of("x")
    ByName("x", Puppet).tell(Note("lost"))
    assert outer.dead_letters.by_reason == {"no_such_actor": 1}


async def test_systems_may_close_in_any_order(autojump_clock: MockClock) -> None:  # ACT-60
    opened: list[System] = []

    async def keep(until: trio.Event, *, task_status: trio.TaskStatus[None]) -> None:
        async with open_actors() as system:
            opened.append(system)
            await system.start(Puppet, name="x")
            task_status.started()
            await until.wait()

    events = [trio.Event() for _ in range(3)]
    async with trio.open_nursery() as nursery:
        for event in events:
            await nursery.start(keep, event)
        seen = []
        for at in (1, 2, 0):
            seen.append(await path_of("x"))
            events[at].set()
            await trio.testing.wait_all_tasks_blocked()
    assert seen == [opened[2], opened[2], opened[0]]


async def test_a_name_with_no_system_at_all_says_so() -> None:  # ACT-60
    with pytest.raises(RuntimeError, match="no system to look into"):
        ByName("x", Puppet).tell(Note("x"))


class Root(Supervisor):
    first = child(Puppet)
    second = child(AsyncPuppet)


async def used_system(*, tree: bool) -> ReferenceType[System]:
    """Open a system, use it, lose something, close it."""
    if tree:
        async with open_system(Root) as root:
            system = root.system
            await root.first.ask(Call(lambda me: 1))
            assert len(root.tree.snapshot().actors) == 3
            gone = await system.start(Puppet, name="gone")
            await gone.stop()
            gone.tell(Note("lost"))
            return ref(system)
    async with open_actors() as system:
        await (await system.start(AsyncPuppet)).ask(Call(lambda me: 1))
        ByName("nobody", Puppet).tell(Note("lost"))
        return ref(system)


async def cancelled_system(*, tree: bool) -> ReferenceType[System]:
    """The same for a system that was cut short."""
    with trio.CancelScope() as scope:
        async with open_system(Root) if tree else open_actors() as opened:
            system = opened if isinstance(opened, System) else opened.system
            found = ref(system)
            del opened, system
            scope.cancel()
            await trio.sleep_forever()
    return found


@pytest.mark.parametrize("tree", [False, True], ids=["actors", "tree"])
async def test_a_system_that_was_closed_is_let_go(
    autojump_clock: MockClock, tree: bool
) -> None:  # ACT-50: with everything it holds
    systems = [await used_system(tree=tree) for _ in range(3)]
    systems += [await cancelled_system(tree=tree) for _ in range(3)]
    await trio.testing.wait_all_tasks_blocked()
    gc.collect()
    assert [found() for found in systems] == [None] * 6


class Quiet(Actor[Note]):
    def on_note(self, message: Note) -> None: ...


async def test_whereis_with_a_class_gives_its_type_or_refuses(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-60
    class Special(puppet):  # type: ignore[misc, valid-type]  # both kinds in turn
        pass

    log: list[object] = []
    ref = await system.start(puppet, log, name="x")
    special: Ref[PuppetMessage] = await system.start(Special, name="special")
    found = system.whereis("x", puppet)
    assert found is ref
    found.tell(Note("typed"))
    await trio.testing.wait_all_tasks_blocked()
    assert log == ["typed"]
    assert system.whereis("special", puppet) is special
    assert system.whereis("nobody", puppet) is None
    with pytest.raises(WrongActor, match=r"x is of class .*Puppet; asked for was Quiet") as caught:
        system.whereis("x", Quiet)
    assert (caught.value.ref, caught.value.wanted, caught.value.found) == (ref, Quiet, puppet)


async def test_a_ref_of_unknown_type_is_narrowed_to_what_it_is(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-60
    ref = await system.start(puppet, name="x")
    unknown = system.whereis("x")
    assert unknown is not None
    narrowed: Ref[Note] = narrow(unknown, puppet)
    assert narrowed is ref
    with pytest.raises(WrongActor):
        narrow(unknown, Quiet)
    made_later = system.begin(lambda: puppet([]))
    with pytest.raises(WrongActor, match="not made yet"):
        narrow(made_later, puppet)
    await trio.testing.wait_all_tasks_blocked()
    assert narrow(made_later, puppet) is made_later


async def test_by_name_with_a_class_means_nobody_else(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-60
    log: list[object] = []
    named, quiet = ByName("x", puppet), ByName("x", Quiet)
    assert (named == ByName("x", puppet), named == quiet, named == ByName("x")) == (
        True, False, False,
    )  # fmt: skip
    await system.start(puppet, log, name="x")
    named.tell(Note("for a puppet"))
    quiet.tell(Note("for another"))
    assert await named.ask(Call(lambda me: me.path)) == "x"
    with pytest.raises(NoProc):
        await quiet.send(Note("for another"))
    assert log == ["for a puppet"]
    # What was told is lost and seen; what was sent its sender was told of.
    assert [letter.reason for letter in system.dead_letters] == ["no_such_actor"]
    await system.stop("x")
    taker = await system.start(Quiet, name="x")
    await quiet.send(Note("now"))
    assert system.stats(taker).handled == 0
    await trio.testing.wait_all_tasks_blocked()
    assert system.stats(taker).handled == 1
