"""A handler that takes the waiting messages of its kind together: each keeps what is its own."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import groupby
from random import Random
from typing import ClassVar, TypeAlias

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from actors.runtime import (
    Actor,
    ActorCrashed,
    ActorExited,
    Ask,
    AskTimeout,
    BadReply,
    Batch,
    Change,
    Context,
    DeadLetter,
    Delta,
    Down,
    Exit,
    Later,
    Overflow,
    Ref,
    StopActor,
    System,
    Taken,
    current_context,
    edge_context,
    handler,
    latest,
    message,
)
from actors.runtime.words.places import place_of
from actors.testing import Simulation
from supervision import Supervisor, child, open_system
from tests.patience import FOR_EVER_S


@message
class Add(Ask[int]):
    number: int


@message
class Note:
    text: str


@message
class Hold(Ask[None]):
    """Keeps the actor busy until `free` is set, so that messages wait."""

    free: trio.Event


Work: TypeAlias = "Callable[[Adder, Batch[Add | Note]], object]"


class Adder(Actor[Add | Note | Hold]):
    """Writes down which messages it was given together; `work` is what it does with them."""

    def __init__(self, log: list[object], work: Work | None = None) -> None:
        self.log, self.work = log, work

    async def on_batch(self, batch: Batch[Add | Note]) -> None:
        self.log.append([_short(one) for one in batch])
        if self.work is None:
            for one in batch:
                _answer(one)
            return
        result = self.work(self, batch)
        if isinstance(result, Awaitable):
            await result

    async def on_hold(self, message: Hold) -> None:
        self.log.append("hold")
        await message.free.wait()


class Many(Adder):
    """Takes three at most."""

    batch_max = 3


class Dispatched(Actor[Add | Note]):
    """The same on the dispatcher."""

    def __init__(self, log: list[object]) -> None:
        self.log = log

    def on_batch(self, batch: Batch[Add | Note]) -> None:
        self.log.append([_short(one) for one in batch])
        for one in batch:
            _answer(one)


def _short(one: Taken[Add | Note]) -> object:
    message = one.message
    return message.number if isinstance(message, Add) else message.text


def _answer(one: Taken[Add | Note]) -> None:
    if isinstance(one.message, Add):
        _add(one).reply(one.message.number + 1)


def _add(one: Taken[Add | Note]) -> Taken[Add]:
    assert isinstance(one.message, Add)
    return one  # type: ignore[return-value]  # a type checker cannot narrow what a generic holds


def _short_of(message: object) -> object:
    """What `latest` keeps one of: of those that say the same."""
    return getattr(message, "text", None)


Held: TypeAlias = tuple[Ref[Add | Note | Hold], trio.Event]


async def _held(
    system: System, log: list[object], work: Work | None = None, kind: type[Adder] = Adder
) -> Held:
    """Start an actor that is busy, so that whatever is sent waits."""
    ref = await system.start(kind, log, work)
    free = trio.Event()
    ref.tell(Hold(free))
    await trio.testing.wait_all_tasks_blocked()
    log.clear()
    return ref, free


class Outcomes:
    """What asks came to: the reply, or the class of the error."""

    def __init__(self) -> None:
        self.of: dict[int, object] = {}

    async def ask(
        self, ref: Ref[Add | Note | Hold], number: int, timeout: float | None = 30.0
    ) -> None:
        try:
            self.of[number] = await ref.ask(Add(number), timeout=timeout)
        except Exception as error:  # noqa: BLE001 - what it came to
            self.of[number] = type(error)


async def _ask_all(
    ref: Ref[Add | Note | Hold], free: trio.Event, numbers: Sequence[int]
) -> Outcomes:
    outcomes = Outcomes()
    async with trio.open_nursery() as nursery:
        for number in numbers:
            nursery.start_soon(outcomes.ask, ref, number)
            await trio.testing.wait_all_tasks_blocked()
        free.set()
    return outcomes


def _letters(system: System) -> list[tuple[object, str]]:
    return [(_named(letter), letter.reason) for letter in system.dead_letters]


def _named(letter: DeadLetter) -> object:
    found = re.fullmatch(r"Add\(number=(\d+)\)|Note\(text='(.*)'\)", str(letter.message))
    assert found is not None
    return found[2] if found[1] is None else int(found[1])


async def test_what_waits_is_taken_together(autojump_clock: MockClock, system: System) -> None:
    # ACT-150
    log: list[object] = []
    ref, free = await _held(system, log)
    for text in "ab":
        ref.tell(Note(text))
    outcomes = await _ask_all(ref, free, [1, 2])
    assert log == [["a", "b", 1, 2]]
    assert outcomes.of == {1: 2, 2: 3}
    assert system.stats(ref).handled == 5
    assert system.stats(ref).reductions == 5


async def test_one_alone_is_a_batch_of_one(autojump_clock: MockClock, system: System) -> None:
    # ACT-150: nothing waits for others
    log: list[object] = []
    for kind in (Adder, Dispatched):
        ref = await system.start(kind, log)
        assert await ref.ask(Add(1)) == 2
        ref.tell(Note("a"))
        await trio.testing.wait_all_tasks_blocked()
    assert log == [[1], ["a"]] * 2


async def test_dispatched_actors_take_them_too(autojump_clock: MockClock, system: System) -> None:
    # ACT-150
    log: list[object] = []
    ref = await system.start(Dispatched, log)
    for number in range(3):
        ref.tell(Note(str(number)))
    await trio.testing.wait_all_tasks_blocked()
    assert log == [["0", "1", "2"]]
    assert system.stats(ref).handled == 3


# What ends a batch


async def test_only_what_stands_in_a_row_is_taken(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-150: no order changes
    log: list[object] = []
    ref, free = await _held(system, log)
    free.set()
    for sent in (Note("a"), Note("b"), Hold(free), Note("c"), Note("d")):
        ref.tell(sent)
    await trio.testing.wait_all_tasks_blocked()
    assert log == [["a", "b"], "hold", ["c", "d"]]


async def test_no_more_than_batch_max(autojump_clock: MockClock, system: System) -> None:
    # ACT-150
    log: list[object] = []
    ref, free = await _held(system, log, kind=Many)
    for number in range(7):
        ref.tell(Note(str(number)))
    free.set()
    await trio.testing.wait_all_tasks_blocked()
    assert log == [["0", "1", "2"], ["3", "4", "5"], ["6"]]


async def test_senders_that_wait_for_room_come_in(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-24, ACT-150
    class Small(Adder):
        capacity = 2

    queued: list[int] = []

    def work(me: Adder, batch: Batch[Add | Note]) -> None:
        queued.append(system.stats(ref).queued)  # They do not wait for the handler to end.
        for one in batch:
            _answer(one)

    log: list[object] = []
    ref, free = await _held(system, log, work, kind=Small)
    outcomes = await _ask_all(ref, free, range(6))
    assert queued == [2, 0]
    assert outcomes.of == {number: number + 1 for number in range(6)}
    assert [number for batch in log if isinstance(batch, list) for number in batch] == [*range(6)]
    assert system.stats(ref).peak == 2


async def test_of_two_busy_actors_neither_takes_65_in_a_row(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-26, ACT-150: also when a turn has begun with others
    # By their number alone: a turn that a busy machine cuts short is followed by a whole one.
    by_number = (64, FOR_EVER_S)

    class Logged(Actor[Add | Note | Hold]):
        budget = by_number

        def __init__(self, log: list[object]) -> None:
            self.log = log

        def on_batch(self, batch: Batch[Add | Note]) -> None:
            self.log.extend([self] * len(batch))

        def on_hold(self, message: Hold) -> None:
            self.log.append(self)

    class LoggedTask(Adder):
        budget = by_number

        async def on_batch(self, batch: Batch[Add | Note]) -> None:
            self.log.extend([self] * len(batch))

        async def on_hold(self, message: Hold) -> None:
            self.log.append(self)

    kinds: tuple[Callable[[list[object]], Actor[Add | Note | Hold]], ...] = (Logged, LoggedTask)
    for kind in kinds:
        log: list[object] = []
        refs: list[Ref[Add | Note | Hold]] = [await system.start(kind, log) for _ in range(2)]
        for number in range(210):
            for ref in refs:
                ref.tell(Hold(trio.Event()) if number < 10 else Note(""))
        await trio.testing.wait_all_tasks_blocked()
        assert len(log) == 420
        rows = [len(list(row)) for _, row in groupby(log, key=id)]
        assert max(rows) <= 64


async def test_what_the_system_has_to_say_comes_first(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-20, ACT-21, ACT-150: of a flood of ticks one message is let through, not a batch
    class Ticks(Adder):
        async def on_hold(self, message: Hold) -> None:
            self.log.append("tick")
            if not message.free.is_set():
                for _ in range(100):
                    self.after(0.5, message)
                await message.free.wait()

    log: list[object] = []
    ref, free = await _held(system, log, kind=Ticks)
    for number in range(5):
        ref.tell(Note(str(number)))
    await trio.sleep(1.0)
    free.set()
    await trio.testing.wait_all_tasks_blocked()
    assert log == [*["tick"] * 64, ["0"], *["tick"] * 36, ["1", "2", "3", "4"]]


async def test_a_stop_takes_no_more(autojump_clock: MockClock, system: System) -> None:
    # ACT-27, ACT-150
    log: list[object] = []
    ref, free = await _held(system, log)
    ref.tell(Note("queued"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ref.stop)
        await trio.testing.wait_all_tasks_blocked()
        free.set()
    assert log == []
    assert _letters(system) == [("queued", "stopped")]


async def test_any_mixture_is_handled_in_the_order_it_was_sent(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-28, ACT-150
    for seed in range(30):
        chance = Random(seed)
        log: list[object] = []
        ref, free = await _held(system, log, kind=chance.choice((Adder, Many)))
        free.set()
        sent: list[object] = []
        for number in range(60):
            if chance.random() < 0.2:
                ref.tell(Hold(free))
                sent.append("hold")
            else:
                ref.tell(Note(str(number)))
                sent.append(str(number))
            if chance.random() < 0.1:
                await trio.lowlevel.checkpoint()
        await trio.testing.wait_all_tasks_blocked()
        assert [one for batch in log for one in (batch if type(batch) is list else [batch])] == sent
        await ref.stop()


async def test_a_down_keeps_its_place_between_two_batches(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-22, ACT-150
    class Watches(Adder):
        def on_down(self, message: Down) -> None:
            self.log.append("down")

        async def on_hold(self, message: Hold) -> None:
            self.monitor(told)
            await message.free.wait()

    class Tells(Actor[Hold]):
        def on_hold(self, message: Hold) -> None:
            for text in "ab":
                watcher.tell(Note(text))
            self.stop()

    log: list[object] = []
    told = await system.start(Tells)
    watcher, free = await _held(system, log, kind=Watches)
    watcher.tell(Note("first"))
    told.tell(Hold(free))
    await trio.testing.wait_all_tasks_blocked()
    watcher.tell(Note("behind"))
    free.set()
    await trio.testing.wait_all_tasks_blocked()
    assert log == [["first", "a", "b"], "down", ["behind"]]


@pytest.mark.parametrize("overflow", ["drop_new", "drop_old", latest(_short_of)])
async def test_every_message_is_accounted_for(
    autojump_clock: MockClock, system: System, overflow: Overflow
) -> None:
    # ACT-23, ACT-150
    for seed in range(12):
        chance = Random(seed)
        log: list[object] = []
        kind = type(
            "Tight",
            (chance.choice((Adder, Many)),),
            {"overflow": overflow, "capacity": chance.choice((1, 5, 40))},
        )
        ref: Ref[Add | Note | Hold] = await system.start(kind, log)
        free = trio.Event()
        free.set()
        outcomes, sent = Outcomes(), 0
        async with trio.open_nursery() as nursery:
            for number in range(80):
                match chance.randrange(4):
                    case 0:
                        nursery.start_soon(outcomes.ask, ref, number)
                    case 1:
                        ref.tell(Hold(free))
                    case _:
                        ref.tell(Note(str(number)))
                sent += 1
                if chance.random() < 0.15:
                    await trio.testing.wait_all_tasks_blocked()
        await trio.testing.wait_all_tasks_blocked()
        stats = system.stats(ref)
        assert stats.handled is not None
        assert stats.handled + stats.overflowed + stats.coalesced == sent
        assert sum(len(one) if isinstance(one, list) else 1 for one in log) == stats.handled
        assert all(reply == number + 1 for number, reply in outcomes.of.items())
        await ref.stop()


async def test_asks_that_were_given_up_are_left_out(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-13, ACT-34, ACT-150
    log: list[object] = []
    ref, free = await _held(system, log)
    outcomes = Outcomes()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outcomes.ask, ref, 1)
        await trio.testing.wait_all_tasks_blocked()
        async with trio.open_nursery() as given_up:
            given_up.start_soon(outcomes.ask, ref, 2)
            given_up.start_soon(outcomes.ask, ref, 3, 0.5)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(outcomes.ask, ref, 4)
            await trio.sleep(1.0)
            given_up.cancel_scope.cancel()
        free.set()
    assert log == [[1, 4]]
    assert outcomes.of == {3: AskTimeout, 1: 2, 4: 5}
    assert _letters(system) == [(3, "expired")]
    stats = system.stats(ref)
    assert (stats.withdrawn, stats.expired, stats.handled) == (1, 1, 3)


# When it fails


def _answer_some(me: Adder, batch: Batch[Add | Note]) -> None:
    for one in batch:
        if isinstance(one.message, Add) and one.message.number == 13:
            raise OSError("poison")
        _answer(one)
        one.done()


@pytest.mark.parametrize("at", range(4))
async def test_a_crash_loses_what_was_not_done_and_nothing_else(
    autojump_clock: MockClock, system: System, at: int
) -> None:
    # ACT-31, ACT-150
    log: list[object] = []
    ref, free = await _held(system, log, _answer_some)
    numbers = [1, 2, 3]
    numbers.insert(at, 13)
    outcomes = await _ask_all(ref, free, numbers)
    done = {number: number + 1 for number in numbers[:at]}
    assert outcomes.of == {**done, **dict.fromkeys(numbers[at:], ActorCrashed)}
    assert _letters(system) == [(number, "crashed") for number in numbers[at:]]
    assert system.stats(ref).crashes == 1


async def test_tells_are_done_when_said_so(autojump_clock: MockClock, system: System) -> None:
    # ACT-150
    def work(me: Adder, batch: Batch[Add | Note]) -> None:
        batch[0].done()
        with batch[1]:
            raise OSError("poison")

    ref, free = await _held(system, [], work)
    for text in "abc":
        ref.tell(Note(text))
    free.set()
    await trio.testing.wait_all_tasks_blocked()
    assert _letters(system) == [("b", "crashed"), ("c", "crashed")]
    report = system.reports.kept[-1]
    assert "'b'" in str(report.last_message)
    assert "test_batches.py" in (place_of(report.exit.error) or "")


async def test_what_waits_behind_stays_for_the_next_incarnation(autojump_clock: MockClock) -> None:
    # ACT-28, ACT-150: the batch is not delivered again, the rest is
    log: list[object] = []

    def work(me: Adder, batch: Batch[Add | Note]) -> None:
        if me.incarnation == 1:
            raise OSError("poison")

    class Root(Supervisor):
        adder = child(partial(Many, log, work), restart="permanent")

    async with open_system(Root) as root:
        free = trio.Event()
        ref: Ref[Add | Note | Hold] = root.adder
        ref.tell(Hold(free))
        await trio.testing.wait_all_tasks_blocked()
        for text in "abcd":
            ref.tell(Note(text))
        free.set()
        await trio.testing.wait_all_tasks_blocked()
        assert log == ["hold", ["a", "b", "c"], ["d"]]
        assert _letters(root.system) == [(text, "crashed") for text in "abc"]


async def test_a_kill_ends_all_of_it(autojump_clock: MockClock, system: System) -> None:
    # ACT-150
    async def waits(me: Adder, batch: Batch[Add | Note]) -> None:
        _add(batch[0]).reply(1)
        await trio.sleep_forever()

    log: list[object] = []
    ref, free = await _held(system, log, waits)
    outcomes = Outcomes()
    async with trio.open_nursery() as nursery:
        for number in range(40):
            nursery.start_soon(outcomes.ask, ref, number)
            await trio.testing.wait_all_tasks_blocked()
        ref.tell(Note("told"))
        free.set()
        await trio.testing.wait_all_tasks_blocked()
        ref.kill()
    assert outcomes.of == {0: 1, **dict.fromkeys(range(1, 40), ActorExited)}
    assert _letters(system) == [
        *((number, "killed") for number in range(1, 40)),
        ("told", "killed"),
    ]


async def test_an_end_in_order_does_not_lose_the_others_in_silence(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-150: as if they had waited still
    def work(me: Adder, batch: Batch[Add | Note]) -> None:
        with batch[1]:
            raise StopActor

    ref, free = await _held(system, [], work)
    for text in "abc":
        ref.tell(Note(text))
    free.set()
    await trio.testing.wait_all_tasks_blocked()
    assert _letters(system) == [("a", "stopped"), ("c", "stopped")]


async def test_what_is_owed_at_an_end_in_order_may_still_be_answered(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-45, ACT-150
    laters: list[Later[int]] = []

    class Answers(Adder):
        def on_stop(self, exit: Exit) -> None:  # noqa: A002
            laters[0].reply(30)

    def work(me: Adder, batch: Batch[Add | Note]) -> None:
        with _add(batch[0]) as add:
            laters.append(me.reply_later(add))
        raise StopActor

    ref, free = await _held(system, [], work, kind=Answers)
    outcomes = await _ask_all(ref, free, [1, 2])
    assert outcomes.of == {1: 30, 2: ActorExited}
    assert _letters(system) == [(2, "stopped")]


async def test_one_that_is_forgotten_is_a_bad_reply(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-45, ACT-150
    def work(me: Adder, batch: Batch[Add | Note]) -> None:
        _add(batch[0]).reply(1)

    ref, free = await _held(system, [], work)
    outcomes = await _ask_all(ref, free, [1, 2, 3])
    assert outcomes.of == {1: 1, 2: BadReply, 3: ActorCrashed}
    assert _letters(system) == [(2, "crashed"), (3, "crashed")]


async def test_none_is_the_answer_where_it_is_promised(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-150
    class Holds(Actor[Hold]):
        def on_hold(self, holds: Batch[Hold]) -> None:
            return None

    ref = await system.start(Holds)
    assert await ref.ask(Hold(trio.Event())) is None  # type: ignore[func-returns-value]


async def test_each_may_fail_alone(autojump_clock: MockClock, system: System) -> None:
    # ACT-150
    def work(me: Adder, batch: Batch[Add | Note]) -> None:
        batch[0].fail(AskTimeout("elsewhere", batch[0].message, 1.0, "mailbox"))
        _add(batch[1]).reply(2)
        _add(batch[1]).reply(3)

    ref, free = await _held(system, [], work)
    outcomes = await _ask_all(ref, free, [1, 2])
    assert outcomes.of == {1: AskTimeout, 2: 2}
    assert system.stats(ref).late_replies == 1
    assert _letters(system) == []


# Each has its own papers


async def test_each_causes_what_is_sent_for_it(autojump_clock: MockClock, system: System) -> None:
    # ACT-10, ACT-11, ACT-150
    heard: list[tuple[object, object, object]] = []
    deadlines: list[float] = []

    class Hears(Actor[Note]):
        def on_note(self, message: Note) -> None:
            context = current_context()
            assert context is not None
            heard.append((message.text, context.correlation_id, context.traceparent))

    hears = await system.start(Hears)

    def work(me: Adder, batch: Batch[Add | Note]) -> None:
        hears.tell(Note("for all"))
        for one in (*batch, *batch):
            with one as message:
                deadlines.append(me.deadline)
                hears.tell(Note(str(message)))
        hears.tell(Note("for all"))
        deadlines.append(me.deadline)
        for one in batch:
            _answer(one)

    ref, free = await _held(system, [], work)
    outcomes = Outcomes()
    now = trio.current_time()
    async with trio.open_nursery() as nursery:
        for number in (1, 2):
            with edge_context(Context(f"c{number}", traceparent=f"t{number}")):
                nursery.start_soon(outcomes.ask, ref, number, number * 10.0)
                await trio.testing.wait_all_tasks_blocked()
        free.set()
    each = [(str(Add(number)), f"c{number}", f"t{number}") for number in (1, 2)]
    assert heard == [("for all", "c1", "t1"), *each, *each, ("for all", "c1", "t1")]
    assert [at - now for at in deadlines] == [10.0, 20.0, 10.0, 20.0, 20.0]


async def test_each_may_be_stashed_passed_on_or_answered_later(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-74, ACT-150
    other = await system.start(Adder, [])
    laters: list[Later[int]] = []

    def work(me: Adder, batch: Batch[Add | Note]) -> None:
        if len(batch) == 1:
            _answer(batch[0])
            return
        stashed, passed_on, later, now = batch
        with stashed:
            me.stash()
        with passed_on:
            me.forward(other)
        with _add(later) as add:
            laters.append(me.reply_later(add))
        _answer(now)
        for gone in (stashed, passed_on):
            with pytest.raises(RuntimeError, match=r"stashed|passed on"), gone:
                pass
        me.after(1.0, Note("unstash"))

    def unstash(me: Adder, batch: Batch[Add | Note]) -> None:
        if batch[0].message == Note("unstash"):
            me.unstash_all()
        else:
            work(me, batch)

    ref, free = await _held(system, [], unstash)
    outcomes = Outcomes()
    async with trio.open_nursery() as nursery:
        for number in (1, 2, 3, 4):
            nursery.start_soon(outcomes.ask, ref, number)
            await trio.testing.wait_all_tasks_blocked()
        free.set()
        await trio.testing.wait_all_tasks_blocked()
        assert outcomes.of == {2: 3, 4: 5}
        laters[0].reply(30)
        await trio.sleep(2.0)
    assert outcomes.of == {1: 2, 2: 3, 3: 30, 4: 5}


async def test_a_stashed_one_that_crashes_its_handler_does_not_come_again(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-74, ACT-150
    def work(me: Adder, batch: Batch[Add | Note]) -> None:
        for one in batch:
            with one:
                me.stash()
                if one is batch[1]:
                    raise OSError("poison")

    ref, free = await _held(system, [], work)
    for text in "abc":
        ref.tell(Note(text))
    free.set()
    await trio.testing.wait_all_tasks_blocked()
    # It is not restarted: what is stashed is buried as what is queued.
    assert _letters(system) == [("b", "crashed"), ("c", "crashed"), ("a", "stopped")]


async def test_only_one_of_them_can_be_meant(autojump_clock: MockClock, system: System) -> None:
    # ACT-150
    kept: list[Taken[Add | Note]] = []

    async def work(me: Adder, batch: Batch[Add | Note]) -> None:
        for call in (me.stash, me.reply_later, lambda: me.forward(me.ref)):
            with pytest.raises(RuntimeError, match="take the message that is meant"):
                call()

        async def elsewhere() -> None:
            with pytest.raises(RuntimeError, match="child task"), batch[0]:
                pass

        async with trio.open_nursery() as nursery:
            nursery.start_soon(elsewhere)
        for earlier in kept:
            with pytest.raises(RuntimeError, match="before that returns"), earlier:
                pass
        kept.extend(batch)
        with pytest.raises(ValueError, match="caught"), batch[0]:
            raise ValueError("caught")

    ref, free = await _held(system, [], work)
    free.set()
    for text in "ab":
        ref.tell(Note(text))
        await trio.testing.wait_all_tasks_blocked()
    assert len(kept) == 2
    assert system.stats(ref).crashes == 0


async def test_each_is_measured(autojump_clock: MockClock, system: System) -> None:
    # ACT-100, ACT-150
    class Full(Adder):
        level = "full"

    ref, free = await _held(system, [], kind=Full)
    seen: list[Change] = []
    with system.changes(ref.path) as changes:
        seen.append(await anext(changes))
        await _ask_all(ref, free, [1, 2, 3])
        while len(seen) < 5:
            seen.append(await anext(changes))
    stats = system.stats(ref)
    assert stats.queue_us is not None
    assert sum(stats.queue_us) == 4
    told = [change.data["was_ask"] for change in seen if isinstance(change, Delta)]
    assert told.count(True) == 3


# Declared


def test_what_cannot_work_is_refused_where_it_is_written() -> None:
    # ACT-150
    with pytest.raises(TypeError, match="returns nothing"):

        class Returns(Actor[Add]):
            def on_add(self, batch: Batch[Add]) -> int:
                return 1

    with pytest.raises(TypeError, match="no cancel_late"):

        class Late(Actor[Add]):
            @handler(cancel_late=True)
            async def on_add(self, batch: Batch[Add]) -> None: ...

    with pytest.raises(TypeError, match="not both"):

        class Both(Actor[Add | Note]):
            def on_add(self, batch: Batch[Add] | Note) -> None: ...

    for nonsense in (0, -1, True, 2.5, "4", None):
        with pytest.raises(ValueError, match="batch_max"):

            class Most(Adder):
                batch_max: ClassVar[int] = nonsense  # type: ignore[assignment]


@pytest.mark.parametrize("seed", range(3))
def test_a_simulation_is_repeatable_and_can_be_replayed(seed: int) -> None:
    # ACT-120, ACT-150
    async def scenario(sim: Simulation) -> None:
        log: list[object] = []
        ref = await sim.start(Adder, log)
        free = trio.Event()
        ref.tell(Hold(free))
        outcomes = Outcomes()
        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(outcomes.ask, ref, number)
            await sim.settle()
            free.set()
            if seed:
                sim.crash(ref, OSError("disk"))

    simulation = Simulation(seed)
    first = simulation.run(scenario)
    assert simulation.run(scenario) == first
    assert Simulation.replay(first).run(scenario) == first
    begun = [line for line in first.decode().splitlines() if '"begun"' in line and "Add" in line]
    assert len(begun) == (5 if not seed else 0)
