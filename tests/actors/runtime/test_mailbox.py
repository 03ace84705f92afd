"""Two lanes, bounds, fairness, order."""

from __future__ import annotations

import math

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from actors.runtime import (
    UNBOUNDED,
    Actor,
    ByName,
    Crashed,
    Down,
    MailboxFull,
    MailboxOverflow,
    NoProc,
    Normal,
    Ref,
    System,
    latest,
    message,
    open_actors,
)
from actors.runtime.delivery import dispatcher
from actors.runtime.life.cell import cell_of
from actors.testing import AnyPuppet, AsyncPuppet, Call, Do, Note, Puppet, PuppetMessage, sleeping
from actors.testing.faults import Gate, Rule
from tests.actors.runtime.kit import Go, Small
from tests.patience import FOR_EVER_S


@message
class Place:
    who: str
    x: int


class Turns:
    """Counts the turns of the loop."""

    def __init__(self) -> None:
        self.count = 0

    def before_io_wait(self, timeout: float) -> None:
        self.count += 1


async def block(ref: object, seconds: float = 1) -> None:
    """Keep a task puppet busy, so that its lane can fill."""
    ref.tell(Do(sleeping(seconds)))  # type: ignore[attr-defined]
    await trio.testing.wait_all_tasks_blocked()


class Newest(Small):
    overflow = latest(lambda message: 0)


@pytest.mark.parametrize("capacity", [0, -1, 1.5, True])
def test_a_capacity_below_one_is_refused(capacity: int) -> None:
    # ACT-20
    with pytest.raises(ValueError, match="capacity"):
        type("Bad", (Puppet,), {"capacity": capacity})


def test_an_unknown_overflow_is_refused() -> None:
    # ACT-23
    with pytest.raises(ValueError, match="overflow"):
        type("Bad", (Puppet,), {"overflow": "drop_all"})


async def test_unbounded_is_written_out_and_flagged(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-20
    class Wide(AsyncPuppet):
        capacity = UNBOUNDED

    ref = await system.start(Wide)
    for n in range(5000):
        ref.tell(Note(n))
    assert system.stats(ref).capacity == UNBOUNDED  # What the lab flags.
    assert cell_of(ref).mailbox.queued == 5000


class Ten(AsyncPuppet):
    capacity = 10


async def test_a_full_lane_loses_the_new_tell_and_the_sender_notices_nothing(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-23, SUP-190
    log: list[object] = []
    ref = await system.start(Ten, log)
    await block(ref)
    for n in range(11):
        ref.tell(Note(n))
    assert system.stats(ref).overflowed == 1
    (letter,) = system.dead_letters
    assert (letter.reason, letter.message) == ("overflow", "Note(text=10)")
    await ref.send(Note("sent"))
    assert trio.current_time() == 1
    await ref.ask(Call(lambda me: None))
    assert log == [*range(10), "sent"]


async def test_drop_old_loses_the_oldest_tell_never_an_ask(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-23
    class Old(AsyncPuppet):
        capacity = 3
        overflow = "drop_old"

    log: list[object] = []
    ref = await system.start(Old, log)
    await block(ref)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ref.ask, Call(lambda me: log.append("ask")))
        await trio.testing.wait_all_tasks_blocked()
        for n in range(4):
            ref.tell(Note(n))
    await ref.ask(Call(lambda me: None))
    assert log == ["ask", 2, 3]
    assert system.dead_letters.by_reason == {"overflow": 2}


async def test_latest_replaces_what_is_queued_of_the_same_key(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-23, ACT-91
    class Map(Actor[Do | Place]):
        capacity = 3
        overflow = latest(lambda place: place.who)  # type: ignore[attr-defined]

        def __init__(self) -> None:
            self.seen: list[tuple[str, int]] = []

        async def on_do(self, message: Do) -> None:
            await trio.sleep(1)

        async def on_place(self, message: Place) -> None:
            self.seen.append((message.who, message.x))

    ref = await system.start(Map)
    await block(ref)
    for place in (Place("a", 1), Place("b", 1), Place("c", 1), Place("a", 2), Place("d", 1)):
        ref.tell(place)
    await trio.sleep(2)
    assert (await system.get_state(ref))["seen"] == [("a", 2), ("b", 1), ("c", 1)]
    stats = system.stats(ref)
    assert (stats.coalesced, stats.overflowed) == (1, 1)
    assert system.dead_letters.by_reason == {"overflow": 1}


async def test_of_several_of_one_key_the_newest_is_replaced(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-23: they were queued while there was room; the last to come must be handled last
    log: list[object] = []

    class Three(AsyncPuppet):
        capacity = 3
        overflow = latest(lambda note: note.text // 10)  # type: ignore[attr-defined]

    ref = await system.start(Three, log)
    await block(ref)
    for text in (10, 20, 11, 12):
        ref.tell(Note(text))
    await ref.ask(Call(lambda me: None))
    assert log == [10, 20, 12]


class Own(BaseException):
    """An error class of somebody who does not derive from Exception."""


class Unlike:
    """A key that cannot be compared: the comparison raises, or gives what is neither true nor not.

    Arrays are such keys.
    """

    def __init__(self, error: BaseException, *, late: bool) -> None:
        self.error, self.late = error, late

    def __eq__(self, other: object) -> object:  # type: ignore[override]
        if self.late:
            return self
        raise self.error

    def __bool__(self) -> bool:
        raise self.error

    def __hash__(self) -> int:
        return 1


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("error", [ValueError("no key"), Own("no key")])
async def test_keys_that_cannot_be_compared_crash_the_actor_not_the_sender(
    autojump_clock: MockClock, system: System, error: BaseException, late: bool
) -> None:
    # ACT-23, ACT-5, ACT-30
    class Odd(AsyncPuppet):
        capacity = 1
        overflow = latest(lambda note: Unlike(error, late=late))

    ref, other = await system.start(Odd), await system.start(Puppet)
    await block(ref, 60)
    ref.tell(Note(1))
    # From a handler of another actor too, which goes on.
    assert await other.ask(Call(lambda me: ref.tell(Note(2)))) is None
    assert await system.wait_down(ref) == Crashed(error)
    assert system.dead_letters.by_reason == {"overflow": 1, "crashed": 1, "stopped": 1}
    assert trio.current_time() == 0


async def test_a_key_that_cannot_be_hashed_crashes_the_actor_not_the_sender(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-23, ACT-5, ACT-30
    class Odd(AsyncPuppet):
        capacity = 1
        overflow = latest(lambda note: [note])  # type: ignore[arg-type,return-value]

    ref = await system.start(Odd)
    await block(ref, 60)
    ref.tell(Note(1))
    ref.tell(Note(2))
    exit_ = await system.wait_down(ref)
    assert isinstance(exit_, Crashed)
    assert isinstance(exit_.error, TypeError)


async def test_a_message_without_the_key_equals_none(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-23: of a class that has no such field, say
    class Odd(AsyncPuppet):
        capacity = 1
        overflow = latest(lambda note: note.who)  # type: ignore[attr-defined]

    ref = await system.start(Odd)
    await block(ref)
    ref.tell(Note(1))
    ref.tell(Note(2))
    assert system.dead_letters.by_reason == {"overflow": 1}


async def test_overflow_can_crash_the_actor(autojump_clock: MockClock, system: System) -> None:
    # ACT-23
    class Strict(AsyncPuppet):
        capacity = 1
        overflow = "crash"

    ref = await system.start(Strict)
    await block(ref, 60)
    ref.tell(Note(1))
    ref.tell(Note(2))
    exit_ = await system.wait_down(ref)
    assert isinstance(exit_, Crashed)
    assert isinstance(exit_.error, MailboxOverflow)
    assert trio.current_time() == 0


async def test_room_goes_to_waiters_in_order_before_any_later_tell(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-24
    class Two(AsyncPuppet):
        capacity = 2

    log: list[object] = []
    ref = await system.start(Two, log)
    await block(ref)
    ref.tell(Note("t1"))
    ref.tell(Note("t2"))

    async def sends(text: str) -> None:
        await ref.send(Note(text))

    async with trio.open_nursery() as nursery:
        for n in range(3):
            nursery.start_soon(sends, f"s{n}")
            await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(0.5):
            await ref.send(Note("cancelled"))
        ref.tell(Note("lost: waiters come first"))
        assert cell_of(ref).mailbox.waiting_senders == 3
    await ref.ask(Call(lambda me: None))
    assert log == ["t1", "t2", "s0", "s1", "s2"]


async def test_send_gives_up_in_time_and_keeps_the_message(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-24
    ref = await system.start(Ten)
    await block(ref, 4)
    for n in range(10):
        ref.tell(Note(n))
    late = Note("late")
    with pytest.raises(MailboxFull) as caught:
        await ref.send(late, timeout=1)
    assert caught.value.message is late
    assert (caught.value.capacity, caught.value.path) == (10, ref.path)
    assert trio.current_time() == 1
    assert cell_of(ref).mailbox.waiting_senders == 0


async def test_a_waiting_sender_hears_of_the_end(autojump_clock: MockClock, system: System) -> None:
    # ACT-24, ACT-54
    ref = await system.start(Ten)
    await block(ref, 4)
    for n in range(10):
        ref.tell(Note(n))
    async with trio.open_nursery() as nursery:

        async def sends() -> None:
            with pytest.raises(NoProc):
                await ref.send(Note("x"))

        nursery.start_soon(sends)
        await trio.testing.wait_all_tasks_blocked()
        ref.kill()


async def test_a_full_lane_does_not_delay_stop_and_down(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-21, SUP-189
    class Small(puppet):  # type: ignore[misc, valid-type]
        capacity = 10

    log: list[object] = []
    other = await system.start(Puppet)
    ref: Ref[PuppetMessage] = await system.start(Small, log)
    await ref.ask(Call(lambda me: me.monitor(other)))

    def fills(me: AnyPuppet) -> None:
        for n in range(10):
            me.ref.tell(Note(n))
        cell_of(other).request_stop(Normal())

    ref.tell(Do(fills))
    await trio.testing.wait_all_tasks_blocked()
    assert any(isinstance(entry, Down) for entry in log)

    def floods_and_stops(me: AnyPuppet) -> None:
        for _ in range(10):
            me.ref.tell(Note("late"))
        me.stop()

    ref.tell(Do(floods_and_stops))
    await system.wait_down(ref)
    assert "late" not in log


async def test_a_flood_of_ticks_never_starves_users(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-21
    log: list[object] = []
    ref = await system.start(puppet, log)

    def floods(me: AnyPuppet) -> None:
        for _ in range(200):
            me.after(0, Note("tick"))
        me.ref.tell(Note("user"))

    await ref.ask(Call(floods))
    await trio.sleep(1)
    assert log.count("tick") == 200
    assert log.index("user") <= 64


async def test_of_two_busy_actors_neither_handles_65_in_a_row(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-26
    log: list[object] = []
    refs = [await system.start(puppet, log) for _ in range(2)]
    for who, ref in enumerate(refs):
        for _ in range(640):
            ref.tell(Note(who))
    await trio.testing.wait_all_tasks_blocked()
    assert len(log) == 1280
    # A slow machine cuts turns short, and not both actors' alike: only while both are busy.
    both_busy = min(max(at for at, who in enumerate(log) if who == one) for one in (0, 1))
    runs: list[int] = [0]
    last: object = None
    for entry in log[:both_busy]:
        if entry != last:
            runs.append(0)
        runs[-1] += 1
        last = entry
    assert max(runs) <= 64
    assert system.stats(refs[0]).reductions == 640


async def test_a_slow_handler_yields_by_time(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-26
    clock = [1.0]
    system.clock = lambda: clock[0]
    log: list[object] = []

    def slow(me: AnyPuppet) -> None:
        clock[0] += 0.0004
        me.log.append(me.path)

    refs = [await system.start(puppet, log) for _ in range(2)]
    for ref in refs:
        for _ in range(12):
            ref.tell(Do(slow))
    await trio.testing.wait_all_tasks_blocked()
    assert len(log) == 24
    assert max(len(run) for run in "".join("ab"[p == refs[0].path] for p in log).split("a")) <= 4


async def test_after_a_stop_no_other_message_is_begun(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-27
    log: list[object] = []
    ref = await system.start(puppet, log)

    def stops(me: AnyPuppet) -> None:
        me.cell.request_stop(Normal())
        me.log.append("finished")

    ref.tell(Do(stops))
    ref.tell(Note("never"))
    await system.wait_down(ref)
    assert log == ["finished"]


async def test_messages_of_one_sender_keep_their_order(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-28, SUP-163
    log: list[object] = []
    ref = await system.start(puppet, log)
    sender = await system.start(Puppet)

    def sends(_: AnyPuppet) -> None:
        for n in range(1, 101):
            ref.tell(Note(n))
            if n == 50:
                ref.tell("a stranger")  # type: ignore[arg-type]

    await sender.ask(Call(sends))
    await trio.testing.wait_all_tasks_blocked()
    assert log == list(range(1, 101))
    assert system.dead_letters.by_reason == {"unhandled": 1}
    assert system.stats(ref).unhandled == 1


@pytest.mark.parametrize("kind", [Puppet, AsyncPuppet])
def test_idle_actors_take_no_turn_and_a_stop_does_not_spin(
    kind: type[Puppet], monkeypatch: pytest.MonkeyPatch
) -> None:
    # ACT-29, SUP-191
    # A machine that is slow does less of a chore in a turn, and has more turns.
    monkeypatch.setattr(dispatcher, "CHORE_S", FOR_EVER_S)
    turns = Turns()

    async def main() -> None:
        async with open_actors() as system:
            refs = [await system.start(kind) for _ in range(50)]
            await trio.testing.wait_all_tasks_blocked()
            before = turns.count
            await trio.sleep(1000)
            assert turns.count - before <= 4
            ref = refs[0]
            ref.tell(Do(lambda me: me.stop()))
            for n in range(1000):
                ref.tell(Note(n))
            before = turns.count
            await system.wait_down(ref)
            assert turns.count - before <= 10
            assert system.dead_letters.by_reason == {"stopped": 1000}

    trio.run(main, clock=MockClock(autojump_threshold=0), instruments=[turns])  # type: ignore[list-item]


async def test_what_was_taken_and_not_handled_counts_and_comes_back(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-25
    log: list[object] = []
    ref = await system.start(Ten, log)
    await block(ref)
    ref.tell(Note(0))
    ref.tell(Do(sleeping(1)))
    for n in range(1, 9):
        ref.tell(Note(n))
    await trio.sleep(1.5)
    assert log == [0]
    assert cell_of(ref).mailbox.queued == 8
    for n in range(9, 15):
        ref.tell(Note(n))
    assert system.stats(ref).overflowed == 4
    await trio.sleep(1)
    assert log == list(range(11))


async def test_tell_never_raises_and_needs_nobody(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-30, ACT-12, SUP-162
    ref = await system.start(puppet)
    await ref.stop()
    ref.tell(Note("dead"))
    ByName("unknown", Puppet).tell(Note("unknown"))
    assert [letter.reason for letter in system.dead_letters] == ["no_such_actor"] * 2
    log: list[object] = []
    living = await system.start(puppet, log)
    with trio.CancelScope() as scope:  # noqa: ASYNC100 - a tell must not care
        scope.cancel()
        living.tell(Note("from a cancelled scope"))
    living.tell(Do(lambda me: me.log.append(me.deadline)))
    await trio.testing.wait_all_tasks_blocked()
    assert log == ["from a cancelled scope", math.inf]


async def test_a_replacement_reaches_its_actor(
    autojump_clock: MockClock, system: System
) -> None:  # ACT-23, ACT-80
    ref = await system.start(Newest)
    await system.suspend(ref)
    system.topics.subscribe("topic", ref)
    assert [system.topics.publish("topic", Go()) for _ in range(3)] == [1, 1, 1]
    assert system.stats(ref).coalesced == 2


async def test_a_full_mailbox_behind_a_gate_makes_a_sender_wait(autojump_clock: MockClock) -> None:
    # ACT-24, ACT-122: a fault rule does not turn a waiting send into a lost one
    async with open_actors() as system:
        narrow = await system.start(Small)
        cell = cell_of(narrow)
        gate = Gate(cell, lambda *_: None)
        gate.rules.append(Rule("nobody", None, None))
        cell.mailbox.gate = gate.take
        cell.mailbox.renew_limit()
        await system.suspend(narrow)
        narrow.tell(Go())
        with trio.move_on_after(1) as scope:
            await narrow.send(Go())
        assert scope.cancelled_caught
        assert not list(system.dead_letters)


class Wide(AsyncPuppet):
    capacity = UNBOUNDED


async def test_sends_that_find_room_let_others_run_at_every_64th(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-24
    ref = await system.start(Wide)
    turns = Turns()
    trio.lowlevel.add_instrument(turns)  # type: ignore[arg-type]
    for n in range(640):
        await ref.send(Note(n))
    trio.lowlevel.remove_instrument(turns)  # type: ignore[arg-type]
    assert turns.count >= 10
    gone = await system.start(puppet)
    await gone.stop()
    turns = Turns()
    trio.lowlevel.add_instrument(turns)  # type: ignore[arg-type]
    for n in range(640):
        with pytest.raises(NoProc):
            await gone.send(Note(n))
    trio.lowlevel.remove_instrument(turns)  # type: ignore[arg-type]
    assert turns.count >= 10


async def test_who_asks_or_stops_the_dead_again_and_again_lets_others_run(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-31
    gone = await system.start(puppet)
    await gone.stop()
    turns = Turns()
    trio.lowlevel.add_instrument(turns)  # type: ignore[arg-type]
    for _ in range(20):
        with pytest.raises(NoProc):
            await gone.ask(Call(lambda me: None))
        with pytest.raises(NoProc):
            await gone.stop()
    trio.lowlevel.remove_instrument(turns)  # type: ignore[arg-type]
    assert turns.count >= 40


async def test_a_send_in_a_cancelled_scope_delivers_nothing(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-24: also where there is room
    log: list[object] = []
    ref = await system.start(Wide, log)
    with trio.CancelScope() as scope:
        for n in range(200):
            await ref.send(Note(n))
            if n == 150:
                scope.cancel()
    assert scope.cancelled_caught
    await trio.testing.wait_all_tasks_blocked()
    assert log == list(range(151))
