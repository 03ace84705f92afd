"""What an ended actor leaves behind: seen to in slices, in order, and wholly."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from actors.runtime import (
    UNBOUNDED,
    ActorExited,
    AskError,
    Cell,
    Crashed,
    Down,
    Exit,
    NoProc,
    Ref,
    System,
    open_actors,
)
from actors.runtime.delivery.clock import (
    DEAD_ALARMS_MAX,
    FIRED_AT_ONCE,
    SIFTED_A_STEP,
    Wheel,
)
from actors.runtime.delivery.dispatcher import CHORE_STEPS
from actors.runtime.delivery.envelope import NO_DEADLINE, Context, Envelope
from actors.runtime.delivery.mailbox import Mailbox, Notice
from actors.runtime.life.cell import STEPS_AT_ONCE, cell_of
from actors.testing import (
    AnyPuppet,
    AsyncPuppet,
    Call,
    Do,
    Note,
    Puppet,
    PuppetMessage,
    TrappingPuppet,
    raising,
)
from supervision import Supervisor, child, open_system
from tests.actors.runtime.kit import Recorder

MANY = 2000


class Roomy(Puppet):
    capacity = UNBOUNDED


class AsyncRoomy(AsyncPuppet):
    capacity = UNBOUNDED


class Narrow(Puppet):
    capacity = 1


class Root(Supervisor, intensity=10, period=5.0):
    first = child(Puppet)
    second = child(AsyncPuppet)


@pytest.fixture(params=[Roomy, AsyncRoomy], ids=["def", "async"])
def roomy(request: pytest.FixtureRequest) -> type[Puppet]:
    kind: type[Puppet] = request.param
    return kind


class Longest(trio.abc.Instrument):
    """The most that something rose in one turn of the loop."""

    def __init__(self, count: Callable[[], int]) -> None:
        self._count, self._before = count, count()
        self.rise = 0

    def before_io_wait(self, timeout: float) -> None:
        now = self._count()
        self.rise, self._before = max(self.rise, now - self._before), now


@contextmanager
def longest(count: Callable[[], int]) -> Iterator[Longest]:
    made = Longest(count)
    trio.lowlevel.add_instrument(made)
    try:
        yield made
    finally:
        trio.lowlevel.remove_instrument(made)


class Watching:
    """Notes what it is told."""

    def __init__(self, told: list[tuple[Watching, Exit]], *, final: bool = False) -> None:
        self.told, self.final = told, final

    def ended(self, _: Cell, exit_: Exit) -> None:
        self.told.append((self, exit_))


def fill(ref: Ref[PuppetMessage], count: int = MANY) -> None:
    for number in range(count):
        ref.tell(Note(number))


async def test_a_long_queue_is_buried_in_slices(
    autojump_clock: MockClock, system: System, roomy: type[Puppet]
) -> None:
    # ACT-29, ACT-54: others have their turns, the name is free, watchers hear of it at the end
    lost = system.dead_letters
    ref = await system.start(roomy, name="first")
    other = await system.start(Puppet)
    log: list[object] = []
    watcher = await system.start(Puppet, log)
    await watcher.ask(Call(lambda me: me.monitor(ref)))
    failed: list[type] = []

    async def ask() -> None:
        with pytest.raises(ActorExited) as caught:
            await ref.ask(Call(lambda me: None), timeout=60)
        failed.append(type(caught.value))

    await system.suspend(ref)
    with longest(lambda: lost.total) as turn:
        async with trio.open_nursery() as nursery:
            fill(ref)
            nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            ref.kill()
            while system.whereis("first") is not None:
                await trio.lowlevel.checkpoint()
            assert system.dead_letters.total < MANY
            assert failed == []
            assert await (await system.start(roomy, name="first")).ask(Call(lambda me: 1)) == 1
            assert await other.ask(Call(lambda me: 2)) == 2
            assert lost.total < MANY
            assert log == []
        assert lost.by_reason == {"stopped": MANY + 1}
        await trio.testing.wait_all_tasks_blocked()
    assert turn.rise <= CHORE_STEPS
    assert [letter.message for letter in lost][-2] == f"Note(text={MANY - 1})"
    assert [type(one) for one in log] == [Down]
    assert failed == [ActorExited]


async def test_a_short_queue_is_buried_at_once(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-54
    ref = await system.start(puppet)
    await system.suspend(ref)
    fill(ref, STEPS_AT_ONCE)
    ref.kill()
    await system.wait_down(ref)
    assert system.dead_letters.by_reason == {"stopped": STEPS_AT_ONCE}


async def test_many_asks_and_sends_that_wait_for_room_fail_in_slices(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-29, ACT-54, ACT-31
    ref = await system.start(Narrow)
    await system.suspend(ref)
    ref.tell(Note("in"))
    ended: Counter[str] = Counter()

    async def wait(send: bool) -> None:
        try:
            if send:
                await ref.send(Note("out"))
            else:
                await ref.ask(Call(lambda me: None), timeout=60)
        except (ActorExited, NoProc) as error:
            ended[type(error).__name__] += 1

    async with trio.open_nursery() as nursery:
        for number in range(MANY):
            nursery.start_soon(wait, number % 2 == 0)
        await trio.testing.wait_all_tasks_blocked()
        assert system.stats(ref).waiting_senders == MANY
        with longest(ended.total) as turn:
            ref.kill()
            await trio.testing.wait_all_tasks_blocked()
    assert ended == {"ActorExited": MANY // 2, "NoProc": MANY // 2}
    assert turn.rise <= CHORE_STEPS


async def test_a_system_is_left_when_everything_is_buried(autojump_clock: MockClock) -> None:
    # ACT-29, ACT-54
    async with open_actors() as system:
        lost = system.dead_letters
        ref = await system.start(Roomy)
        await system.suspend(ref)
        fill(ref)
        with longest(lambda: lost.total) as turn:
            await ref.stop()
    assert lost.by_reason == {"stopped": MANY}
    assert turn.rise <= CHORE_STEPS
    with longest(lambda: lost.total) as turn:
        async with open_actors() as system:
            lost = system.dead_letters
            turn._before = 0
            ref = await system.start(Roomy)
            await system.suspend(ref)
            fill(ref)
    assert lost.by_reason == {"stopped": MANY}
    assert turn.rise <= CHORE_STEPS


async def test_a_system_that_is_cancelled_buries_the_rest_at_once(
    autojump_clock: MockClock,
) -> None:
    # ACT-54: no ask hangs, no watcher is forgotten
    told: list[tuple[Watching, Exit]] = []
    failed: list[str] = []

    async def ask(ref: Ref[PuppetMessage]) -> None:
        try:
            with trio.move_on_after(70, shield=True):
                await ref.ask(Call(lambda me: None), timeout=60)
        except ActorExited as error:
            failed.append(type(error).__name__)

    async with trio.open_nursery() as outside:
        with trio.CancelScope() as scope:
            async with open_actors() as system:
                ref = await system.start(Roomy)
                await system.suspend(ref)
                fill(ref)
                outside.start_soon(ask, ref)
                await trio.testing.wait_all_tasks_blocked()
                cell_of(ref).watch(Watching(told))
                ref.kill()
                while not cell_of(ref).gone:
                    await trio.lowlevel.checkpoint()
                assert told == []
                scope.cancel()
    assert system.dead_letters.by_reason == {"stopped": MANY + 1}
    assert len(told) == 1
    assert failed == ["ActorExited"]


async def test_many_watchers_are_told_in_slices_and_once(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-29, ACT-62
    told: list[tuple[Watching, Exit]] = []
    ref = await system.start(Puppet)
    cell = cell_of(ref)
    watches = [Watching(told) for _ in range(MANY)]
    for watch in watches:
        cell.watch(watch)
    with longest(lambda: len(told)) as turn:
        ref.kill()
        while not cell.gone:
            await trio.lowlevel.checkpoint()
        assert len(told) < MANY - 2
        for watch in watches[-2:]:  # Taken back while the others are told.
            cell.unwatch(watch)
        await trio.testing.wait_all_tasks_blocked()
    assert [watch for watch, _ in told] == watches[:-2]
    assert turn.rise <= CHORE_STEPS


async def test_many_watchers_hear_of_the_incarnation_they_watched(
    autojump_clock: MockClock,
) -> None:
    # ACT-60, ACT-62: also when the next one ends before all have heard of the first
    told: list[tuple[Watching, Exit]] = []
    async with open_system(Root) as root:
        for ref in (root.first, root.second):
            told.clear()
            cell = cell_of(ref)
            first = [Watching(told) for _ in range(MANY)]
            last = [Watching(told, final=True) for _ in range(MANY)]
            for one, other in zip(first, last, strict=True):
                cell.watch(one)
                cell.watch(other)
            ref.tell(Do(raising(OSError("first"))))
            while cell.incarnation < 2:
                await trio.lowlevel.checkpoint()
            assert len(told) < MANY
            second = Watching(told)
            cell.watch(second)
            ref.tell(Do(raising(OSError("second"))))
            while cell.incarnation < 3:
                await trio.lowlevel.checkpoint()
            third = Watching(told)
            cell.watch(third)
            await trio.testing.wait_all_tasks_blocked()
            assert [watch for watch, _ in told] == [*first, second]
            incarnations = [exit_.incarnation for _, exit_ in told]
            assert incarnations == [1] * MANY + [2]
            await root.terminate_child(ref.path.rpartition("/")[2])
            await trio.testing.wait_all_tasks_blocked()
            assert sorted(map(id, last)) == sorted(
                id(watch) for watch, _ in told[MANY + 1 :] if watch.final
            )
            assert (third, 3) in [(watch, exit_.incarnation) for watch, exit_ in told]


async def test_many_timers_of_an_ended_one_are_let_go_in_slices(
    autojump_clock: MockClock,
) -> None:
    # ACT-29, ACT-53: the next incarnation works meanwhile
    def sets(me: AnyPuppet) -> None:
        for number in range(MANY):
            me.after(1000.0, Note(number))
        raise OSError("first")

    async with open_system(Root) as root:
        wheel = root.system.wheel
        for ref in (root.first, root.second):
            with longest(lambda: -wheel.open_alarms) as turn:
                ref.tell(Do(sets))
                assert await ref.ask(Call(lambda me: 1)) == 1
                assert wheel.open_alarms > 1
                await trio.testing.wait_all_tasks_blocked()
            assert wheel.open_alarms <= 1
            assert turn.rise <= CHORE_STEPS + 1


async def test_many_timers_that_are_due_while_their_actor_ends_tick_no_more(
    autojump_clock: MockClock,
) -> None:
    # ACT-29, ACT-71: also before their turn to be let go has come
    def sets(me: AnyPuppet) -> None:
        for number in range(MANY):
            me.after(0.0, Note(number))
        raise OSError("first")

    async with open_system(Root) as root:
        for ref in (root.first, root.second):
            ref.tell(Do(sets))
            assert await ref.ask(Call(lambda me: 1)) == 1
            await trio.testing.wait_all_tasks_blocked()
            assert await ref.ask(Call(lambda me: list(me.log))) == []


async def test_many_monitors_of_an_ended_one_tell_the_next_one_nothing(
    autojump_clock: MockClock, roomy: type[Puppet]
) -> None:
    # ACT-29, ACT-62: though those it watched end before they are let go
    class Rooms(Supervisor, intensity=10):
        first = child(roomy)

    async with open_system(Rooms) as root:
        targets = [await root.system.start(Puppet) for _ in range(MANY)]

        def watches(me: AnyPuppet) -> None:
            for target in targets:
                me.monitor(target)

        await root.first.ask(Call(watches))
        root.first.tell(Do(raising(OSError("first"))))
        while (cell := cell_of(root.first)).incarnation < 2:
            await trio.lowlevel.checkpoint()
        left = [target for target in targets if cell_of(target).watchers]
        assert left
        for target in left:
            target.kill()
        await trio.testing.wait_all_tasks_blocked()
        assert cell.incarnation == 2
        assert await root.first.ask(Call(lambda me: list(me.log))) == []


async def test_many_linked_actors_end_in_slices(autojump_clock: MockClock, system: System) -> None:
    # ACT-29, ACT-60
    hub = await system.start(Puppet)
    refs = [system.begin(Puppet) for _ in range(300)]
    for ref in refs:
        await ref.ask(Call(lambda me: me.link(hub)))
    hub.tell(Do(raising(OSError("hub"))))
    exits = [await system.wait_down(ref) for ref in refs]
    assert [type(exit_) for exit_ in exits if not isinstance(exit_, NoProc)]
    await trio.testing.wait_all_tasks_blocked()
    assert all(isinstance(cell_of(ref).last_exits[-1], Crashed) for ref in refs)


class Loose:
    """A tie that ties nobody."""

    def broke(self, peer: Cell, ended: Cell, exit_: Exit) -> None: ...


async def test_one_that_is_linked_anew_before_it_was_told_is_told_of_both_ends(
    autojump_clock: MockClock,
) -> None:
    # ACT-60
    log: list[object] = []
    async with open_system(Root) as root:
        cell = cell_of(root.first)
        cell.links = {root.system.cell_named(str(n)): Loose() for n in range(MANY)}
        trapper = await root.system.start(TrappingPuppet, log)
        await trapper.ask(Call(lambda me: me.link(root.first)))
        linked: list[object] = []

        def again(me: AnyPuppet) -> None:
            linked.extend(log)
            me.link(trapper)

        root.first.tell(Do(raising(OSError("one"))))
        root.first.tell(Do(again))
        await trio.testing.wait_all_tasks_blocked()
        assert linked == []  # It had not been told when it was linked anew.
        root.first.tell(Do(raising(OSError("two"))))
        await trio.testing.wait_all_tasks_blocked()
    assert [str(one.exit.error) for one in log] == ["one", "two"]  # type: ignore[attr-defined]


async def test_many_subscriptions_end_in_slices_and_lose_nothing(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-29, ACT-82
    ref, recorder = await system.start(Puppet), Recorder()
    for number in range(MANY):
        system.topics.subscribe(str(number), ref)
        system.topics.subscribe(str(number), recorder)
    cell = cell_of(ref)
    ref.kill()
    while not cell.gone:
        await trio.lowlevel.checkpoint()
    assert cell.topics
    last = str(MANY - 1)
    for number in range(MANY):
        assert system.topics.publish(str(number), Note("news")) == 1
    assert system.dead_letters.total == 0
    await trio.testing.wait_all_tasks_blocked()
    assert not cell.topics
    assert system.topics.subscribers(last) == 1


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_many_asks_that_are_due_at_once_are_told_in_slices(
    autojump_clock: MockClock, is_cancelled: bool
) -> None:
    # ACT-29, ACT-31: and all of them end, also when the system does in the middle of it
    ended: Counter[str] = Counter()

    async def ask(ref: Ref[PuppetMessage]) -> None:
        try:
            with trio.move_on_after(60, shield=True):
                await ref.ask(Call(lambda me: me.reply_later()), timeout=1)
        except AskError as error:
            ended[type(error).__name__] += 1

    async with trio.open_nursery() as outside:
        with trio.CancelScope() as scope:
            async with open_actors() as system:
                ref = await system.start(Roomy)
                for _ in range(MANY):
                    outside.start_soon(ask, ref)
                with longest(ended.total) as turn:
                    while not ended:
                        await trio.sleep(0.5)
                        for _ in range(3):
                            await trio.lowlevel.checkpoint()
                    assert ended.total() < MANY
                    assert system.totals().asks_open > 0
                    if is_cancelled:
                        scope.cancel()
                    await trio.testing.wait_all_tasks_blocked()
                assert turn.rise <= FIRED_AT_ONCE
    assert ended.total() == MANY
    assert ended["AskTimeout"] == MANY or is_cancelled


@pytest.mark.parametrize("order", ["as set", "turned round", "shuffled"])
async def test_many_alarms_that_are_cancelled_are_dropped_in_slices(
    autojump_clock: MockClock, system: System, order: str
) -> None:
    # ACT-29, ACT-70: those that are left come when they are due, in order, also meanwhile
    count, every = 50_000, 500
    wheel, now = system.wheel, trio.current_time()
    came: list[tuple[int, float]] = []

    def note(number: int) -> None:
        came.append((number, trio.current_time() - now))

    left, gone = list(range(0, count, every)), []
    for number in range(count):
        alarm = wheel.call_at(now + 1 + number, partial(note, number))
        if number % every:
            gone.append(alarm)
    if order == "turned round":
        gone.reverse()
    elif order == "shuffled":
        random.Random(1).shuffle(gone)
    with longest(lambda: -held_by(wheel)) as turn:
        for one in gone:
            one.cancel()
        assert wheel.open_alarms == len(left)
        wheel.call_after(0.0, partial(note, -1))
        await trio.testing.wait_all_tasks_blocked()
    assert came.pop() == (-1, 0.0)
    assert 0 < turn.rise <= FIRED_AT_ONCE * SIFTED_A_STEP
    assert held_by(wheel) <= 2 * len(left) + DEAD_ALARMS_MAX
    await trio.sleep(2 * count)
    assert came == [(number, 1.0 + number) for number in left]
    assert wheel.open_alarms == held_by(wheel) == 0


def held_by(wheel: Wheel) -> int:
    return len(wheel._alarms) + len(wheel._unsifted)


# The place of a notice


class Sent:
    """A context that counts how often it was asked whose it is."""

    asked = 0

    def __init__(self, sender_id: int) -> None:
        self._sender_id = sender_id

    @property
    def sender_id(self) -> int:
        Sent.asked += 1
        return self._sender_id


def envelope(number: int, sender_id: int | None) -> Envelope:
    context: Context | None = None if sender_id is None else Sent(sender_id)  # type: ignore[assignment]
    return (number, number, None, NO_DEADLINE, 0.0, context)


def notice() -> Envelope:
    return (Notice(None), 0, None, NO_DEADLINE, 0.0, None)  # type: ignore[arg-type]


def filled(addressee: Cell, count: int, senders: Callable[[int], int | None]) -> Mailbox:
    mailbox = Mailbox(addressee, UNBOUNDED, "drop_new")
    for number in range(count):
        mailbox.put(envelope(number, senders(number)))
        if number == count // 2:
            mailbox.take()
    mailbox.next_user()
    return mailbox


async def test_a_thousand_ends_search_a_full_mailbox_once(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-22, ACT-29
    mailbox = filled(cell_of(await system.start(Puppet)), 20_000, lambda number: number % 1500)
    Sent.asked = 0
    for sender_id in range(2000):
        assert mailbox.put_behind(sender_id, notice()) == (sender_id < 1500)
    assert Sent.asked <= 20_000


@pytest.mark.parametrize("seed", range(20))
async def test_a_notice_stands_behind_the_last_message_of_its_sender(
    autojump_clock: MockClock, system: System, seed: int
) -> None:
    # ACT-22: whatever was searched, placed, put, taken and returned before
    chance = random.Random(seed)
    mailbox = filled(
        cell_of(await system.start(Puppet)),
        chance.choice((20, 100)),
        lambda _: chance.choice((None, *range(8))),
    )
    for number in range(1000, 1200):
        step = chance.random()
        if step < 0.4:
            mailbox.put(envelope(number, chance.randrange(8)))
        elif step < 0.5:
            mailbox.places = None  # As the loop does before it takes one.
            mailbox.next_user()
        elif step < 0.55:
            mailbox.put_back([envelope(number, chance.randrange(8))])
        else:
            before = waiting(mailbox)
            sender_id, placed = chance.randrange(10), notice()
            found = mailbox.put_behind(sender_id, placed)
            theirs = [at for at, one in enumerate(before) if of(one) == sender_id]
            assert found == bool(theirs)
            if theirs:
                after = waiting(mailbox)
                at = next(at for at, one in enumerate(after) if one is placed)
                assert [one for one in after if one is not placed] == before
                # Behind it, and behind notices that stand behind it already.
                between = before[theirs[-1] + 1 : at]
                assert all(isinstance(one[0], Notice) for one in between)


def waiting(mailbox: Mailbox) -> list[Envelope]:
    return [*mailbox.batch[mailbox.index :], *mailbox.inbox]


def of(one: Envelope) -> int | None:
    return None if one[5] is None else one[5].sender_id


async def test_ends_told_to_a_busy_watcher_keep_their_places(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-22
    log: list[object] = []
    watcher = await system.start(Roomy, log)
    senders = [await system.start(Puppet, name=f"s{number}") for number in range(50)]
    for sender in senders:
        await watcher.ask(Call(lambda me, sender=sender: me.monitor(sender)))  # type: ignore[misc]
    await system.suspend(watcher)
    for round_ in range(4):
        for sender in senders:
            sender.tell(Do(lambda me, at=round_: watcher.tell(Note((me.path, at)))))  # type: ignore[misc]
        await trio.testing.wait_all_tasks_blocked()
    for sender in senders:
        sender.kill()
    await trio.testing.wait_all_tasks_blocked()
    await system.resume(watcher)
    await trio.testing.wait_all_tasks_blocked()
    assert len(log) == 250
    for sender in senders:
        at = next(at for at, one in enumerate(log) if isinstance(one, Down) and one.ref == sender)
        assert log[at - 1] == (sender.path, 3)


@pytest.mark.parametrize("how", ["crash", "kill", "stop"])
async def test_thousands_of_replies_that_are_owed_fail_in_slices(
    autojump_clock: MockClock, system: System, roomy: type[Puppet], how: str
) -> None:
    # ACT-29, ACT-44: each asker is told, and whoever watches after them
    ref = await system.start(roomy)
    other = await system.start(Puppet)
    told: list[str] = []

    async def ask() -> None:
        with pytest.raises(AskError) as caught:
            await ref.ask(Call(lambda me: me.reply_later()), timeout=60)
        told.append(type(caught.value).__name__)

    async def watch() -> None:
        await system.wait_down(ref)
        told.append("down")

    async with trio.open_nursery() as nursery:
        for _ in range(MANY):
            nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(watch)
        await trio.testing.wait_all_tasks_blocked()
        with longest(lambda: len(told)) as turn:
            if how == "kill":
                ref.kill()
            else:
                ref.tell(Do(raising(OSError("full")) if how == "crash" else lambda me: me.stop()))
            while not told:
                await trio.lowlevel.checkpoint()
            assert await other.ask(Call(lambda me: 1)) == 1
            assert len(told) < MANY
            await trio.testing.wait_all_tasks_blocked()
    assert 0 < turn.rise <= CHORE_STEPS
    assert told == [*["ActorCrashed" if how == "crash" else "ActorExited"] * MANY, "down"]
