"""Asks that were given up take no room from messages that somebody still wants."""

from __future__ import annotations

import random

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from actors.runtime import AskTimeout, MailboxFull, Ref, System
from actors.runtime.delivery.envelope import REPLY
from actors.runtime.delivery.mailbox import GIVEN_UP_MAX, Mailbox
from actors.runtime.life.cell import cell_of
from actors.testing import AnyPuppet, AsyncPuppet, Call, Do, Note, Puppet, PuppetMessage, sleeping


class Ten(AsyncPuppet):
    capacity = 10


class Hundred(AsyncPuppet):
    capacity = 100


class DispatchedTen(Puppet):
    capacity = 10


def settled(mailbox: Mailbox) -> int:
    """How many of the queued are asks that nobody waits for, counted one by one."""
    lane = [*mailbox.batch[mailbox.index :], *mailbox.inbox]
    return sum(one[REPLY] is not None and one[REPLY].task is None for one in lane)


async def give_up(ref: Ref[PuppetMessage], count: int, *, by_timeout: bool) -> None:
    """Ask `count` times and wait until all of it was in vain."""

    async def ask() -> None:
        if by_timeout:
            with pytest.raises(AskTimeout) as caught:
                await ref.ask(Call(lambda me: me.log.append("asked")), timeout=1)
            assert caught.value.stage == "queued"
        else:
            with trio.move_on_after(1):
                await ref.ask(Call(lambda me: me.log.append("asked")), timeout=60)

    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(ask)


@pytest.mark.parametrize("by_timeout", [True, False])
@pytest.mark.parametrize("kind", [Ten, DispatchedTen])
async def test_a_tell_finds_the_room_of_asks_that_were_given_up(
    autojump_clock: MockClock, system: System, kind: type[Puppet], by_timeout: bool
) -> None:
    # ACT-23, ACT-34, ACT-92
    log: list[object] = []
    ref = await system.start(kind, log)
    await system.suspend(ref)
    ref.tell(Note("before"))
    await give_up(ref, 9, by_timeout=by_timeout)
    for number in range(11):
        ref.tell(Note(number))
    stats = system.stats(ref)
    assert stats.overflowed == 2
    assert stats.queued == 10
    assert stats.peak == 10
    assert (stats.expired, stats.withdrawn) == ((9, 0) if by_timeout else (0, 9))
    lost = {"expired": 9, "overflow": 2} if by_timeout else {"overflow": 2}
    assert system.dead_letters.by_reason == lost
    await system.resume(ref)
    await trio.testing.wait_all_tasks_blocked()
    assert log == ["before", *range(9)]
    assert (stats.expired, stats.withdrawn) == ((9, 0) if by_timeout else (0, 9))


@pytest.mark.parametrize("by_timeout", [True, False])
async def test_whoever_waits_for_room_gets_it_before_a_later_tell(
    autojump_clock: MockClock, system: System, by_timeout: bool
) -> None:
    # ACT-24
    log: list[object] = []
    ref = await system.start(Ten, log)
    await system.suspend(ref)

    async def send(number: int) -> None:
        await ref.send(Note(number), timeout=10)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: give_up(ref, 10, by_timeout=by_timeout))
        await trio.testing.wait_all_tasks_blocked()
        for number in range(12):
            nursery.start_soon(send, number)
            await trio.testing.wait_all_tasks_blocked()
        assert system.stats(ref).waiting_senders == 12
        await trio.sleep(2)
        assert system.stats(ref).waiting_senders == 2
        ref.tell(Note("late"))
        assert system.stats(ref).overflowed == 1
        await system.resume(ref)
    await trio.testing.wait_all_tasks_blocked()
    assert log == list(range(12))


async def test_the_room_of_one_among_many_is_not_searched_for(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-23, ACT-29: it is not counted, and goes when the loop meets it or more have come
    log: list[object] = []
    ref = await system.start(Hundred, log)
    mailbox = cell_of(ref).mailbox
    await system.suspend(ref)
    for number in range(99):
        ref.tell(Note(number))
    await give_up(ref, 1, by_timeout=False)
    ref.tell(Note("room"))
    ref.tell(Note("none"))
    assert (mailbox.queued, len(mailbox.inbox)) == (100, 101)
    assert system.stats(ref).overflowed == 1
    with pytest.raises(MailboxFull):
        await ref.send(Note("none"), timeout=1)
    await system.resume(ref)
    await trio.testing.wait_all_tasks_blocked()
    assert log == [*range(99), "room"]
    assert (mailbox.given_up, system.stats(ref).withdrawn) == (0, 1)


async def test_a_mailbox_keeps_no_end_of_asks_that_were_given_up(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-34: of an actor that hangs, and is asked again and again
    class Roomy(AsyncPuppet):
        capacity = 10_000

    ref = await system.start(Roomy)
    ref.tell(Do(sleeping(1000)))
    await trio.testing.wait_all_tasks_blocked()
    ref.tell(Note("kept"))
    mailbox = cell_of(ref).mailbox
    for _ in range(100):
        await give_up(ref, 20, by_timeout=True)
        assert len(mailbox.inbox) <= 2 * GIVEN_UP_MAX
    await trio.testing.wait_all_tasks_blocked()
    assert mailbox.queued == 1
    assert system.stats(ref).expired >= 2000 - GIVEN_UP_MAX


async def test_a_stashed_ask_takes_no_room_and_gives_none(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-74
    ref = await system.start(puppet)
    mailbox = cell_of(ref).mailbox

    async def ask() -> None:
        with pytest.raises(AskTimeout) as caught:
            await ref.ask(Call(lambda me: me.stash()), timeout=1)
        assert caught.value.stage == "queued"

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(ask)
    assert (mailbox.queued, mailbox.given_up) == (0, 0)
    ref.tell(Do(lambda me: me.unstash_all()))
    await trio.testing.wait_all_tasks_blocked()
    assert (mailbox.queued, mailbox.given_up) == (0, 0)
    assert system.stats(ref).expired == 5


@pytest.mark.parametrize("seed", range(15))
async def test_what_is_not_counted_is_what_nobody_waits_for(
    autojump_clock: MockClock, system: System, puppet: type[Puppet], seed: int
) -> None:
    # ACT-23, ACT-24, ACT-74: through any order of asking, giving up, stashing and handling
    chance = random.Random(seed)

    class Small(puppet):  # type: ignore[misc, valid-type]  # both kinds in turn
        capacity = 12

    ref: Ref[PuppetMessage] = await system.start(Small)
    mailbox = cell_of(ref).mailbox
    wishes = ["stash", "unstash", "later", "reply"]

    def work(me: AnyPuppet) -> object:
        wish = chance.choice(wishes)
        if wish == "stash":
            me.stash()
        elif wish == "unstash":
            me.unstash_all()
        elif wish == "later":
            return me.reply_later()
        return None

    async def ask() -> None:
        with trio.move_on_after(chance.uniform(0, 3)):
            try:
                await ref.ask(Call(work), timeout=chance.uniform(0, 3))
            except AskTimeout:
                pass

    async with trio.open_nursery() as nursery:
        for _ in range(300):
            nursery.start_soon(ask)
            if chance.random() < 0.3:
                ref.tell(Do(lambda me: me.unstash_all()))
            if chance.random() < 0.1:
                await (system.suspend if chance.random() < 0.5 else system.resume)(ref)
            await trio.sleep(chance.uniform(0, 0.1))
            assert mailbox.given_up == settled(mailbox)
            assert 0 <= mailbox.queued <= 12 + 256
    await system.resume(ref)
    await trio.testing.wait_all_tasks_blocked()
    assert (mailbox.queued, mailbox.given_up) == (0, 0)
