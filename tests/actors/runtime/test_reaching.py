"""Ways to actors beside a plain ref: many at once, and from other threads."""

from __future__ import annotations

import asyncio
from threading import Thread

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from actors.runtime import (
    MailboxFull,
    NoProc,
    Portal,
    Ref,
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
    sleeping,
)
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
    assert system.stats(slow)["late_replies"] == 0
    system.tell_all([good, slow], Note("all"))
    with trio.move_on_after(1):
        slow.tell(Do(sleeping(3)))
        await system.ask_all([slow], Call(lambda me: 1), timeout=9)
    await trio.sleep(5)
    assert system.stats(slow)["withdrawn"] == 1
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
    assert system.stats(ref)["overflowed"] == 0
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
