"""Effects carried out by their actor: what comes of each, in which order, and when it fails."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import trio
from trio.testing import MockClock

from actors.reducers import (
    Cancel,
    Delay,
    Dispatch,
    Effect,
    EffectTimeout,
    Environment,
    Future,
    Next,
    Nothing,
    Parallel,
    Publish,
    ReducerActor,
    ReducerRef,
    Reply,
    Sequential,
    Stream,
    command,
    effect,
    reducer,
    start_reducer,
)
from actors.reducers.performing import RUNNING_MAX
from actors.runtime import ActorCrashed, Ask, NoProc, StartError, System
from actors.testing import Probe
from tests.actors.reducers.kit import (
    Action,
    Break,
    Crash,
    Do,
    Each,
    Note,
    Noted,
    Till,
    TillActor,
    Total,
    Wrong,
    note,
    shouted,
    wrong,
)
from tests.logged import captured
from tests.tallied import numbers

TillRef = ReducerRef[Till, Action]


async def done_of(till: TillRef, *effects: Effect, cascade: bool = True) -> tuple[str, ...]:
    """What the till has done when the effects, and what they caused, are over."""
    handle = await till.run(Do(effects), track="cascade" if cascade else "direct")
    assert await handle.wait()
    assert handle.pending == 0
    return (await till.state()).done


# One effect


async def test_nothing_is_counted_and_does_nothing(
    autojump_clock: MockClock, till: TillRef
) -> None:
    handle = await till.run(Do((Nothing(), Nothing())))
    assert (handle.completed, handle.pending) == (2, 0)
    assert await till.state() == Till()


async def test_a_future_feeds_back_one_action_or_none(
    autojump_clock: MockClock, till: TillRef
) -> None:
    assert await done_of(till, note("a")) == ("a",)
    assert await done_of(till, note("")) == ("a",)


async def test_a_future_past_its_time_is_cancelled_and_has_failed(
    autojump_clock: MockClock, till: TillRef
) -> None:
    began = trio.current_time()
    slow = Future(Note("late", 60), timeout=2, failed=wrong)
    assert await done_of(till, slow) == ("wrong: EffectTimeout",)
    assert trio.current_time() - began == 2
    default = Future(Note("late", 31), failed=wrong)
    handle = await till.run(Do((default,)))
    assert await handle.wait()
    assert trio.current_time() - began == 32
    [error] = handle.errors
    assert isinstance(error, EffectTimeout)
    assert (error.effect, error.timeout) == (default, 30.0)


async def test_a_delay_follows_the_virtual_clock(autojump_clock: MockClock, till: TillRef) -> None:
    began = trio.current_time()
    assert await done_of(till, Delay(3600, Noted("a"))) == ("a",)
    assert trio.current_time() - began == 3600
    assert await done_of(till, Delay(0, Noted("b"))) == ("a", "b")


_asked: list[str] = []


@dataclass(frozen=True)
class Watched:
    """A stream that says what becomes of it."""

    texts: str

    async def run(self, env: Environment) -> AsyncIterator[Noted]:
        try:
            for text in self.texts:
                _asked.append(f"gives {text}")
                yield Noted(text)
                if text == "!":
                    raise OSError(text)
            if not self.texts.endswith("."):
                await trio.sleep_forever()
        finally:
            _asked.append("closed")


@reducer
def noisy(state: Till, action: Do | Noted | Wrong, env: Environment) -> Next[Till]:
    match action:
        case Do(effects):
            return Next(state, *effects)
        case Noted(text):
            _asked.append(f"reduced {text}")
        case Wrong(text):
            _asked.append(f"wrong {text}")
    return Next(state)


class Noisy(ReducerActor[Till, Do | Noted | Wrong]):
    reducer = noisy

    def initial(self) -> Till:
        return Till()


async def test_a_stream_is_asked_for_more_when_the_last_action_was_reduced(
    autojump_clock: MockClock, system: System, env: Environment
) -> None:
    _asked.clear()
    ref = await start_reducer(system, Noisy, env)
    handle = await ref.run(Do((Stream(Watched("ab.")),)))
    assert await handle.wait()
    assert _asked == [
        *("gives a", "reduced a", "gives b", "reduced b", "gives .", "reduced ."),
        "closed",
    ]


async def test_a_stream_is_closed_when_it_is_cancelled_fails_and_at_the_stop(
    autojump_clock: MockClock, system: System, env: Environment
) -> None:
    ref = await start_reducer(system, Noisy, env)
    _asked.clear()
    handle = await ref.run(Do((Stream(Watched("a"), key="s"),)))
    await trio.testing.wait_all_tasks_blocked()
    ref.tell(Do((Cancel("s"),)))
    assert await handle.wait()
    assert _asked == ["gives a", "reduced a", "closed"]
    assert (handle.completed, handle.errors) == (0, ())
    _asked.clear()
    handle = await ref.run(Do((Stream(Watched("!"), failed=wrong),)))
    assert await handle.wait()
    assert _asked == ["gives !", "reduced !", "closed", "wrong OSError"]
    _asked.clear()
    began = trio.current_time()
    handle = await ref.run(Do((Stream(Watched("a")),)))
    await trio.testing.wait_all_tasks_blocked()
    await ref.stop()
    assert _asked == ["gives a", "reduced a", "closed"]
    assert handle.pending == 0
    # It would never have ended by itself, so nobody has waited for it.
    assert trio.current_time() == began


async def test_a_dispatch_tells_another_actor(
    autojump_clock: MockClock, till: TillRef, system: System
) -> None:
    probe = Probe(system)
    assert await done_of(till, Dispatch(probe.ref, Noted("over there"))) == ()
    assert await probe.expect(Noted) == Noted("over there")


def counted(total: object) -> Noted:
    return Noted(f"{total} there")


async def test_a_dispatch_with_ok_asks_and_feeds_the_answer_back(
    autojump_clock: MockClock, till: TillRef, system: System, env: Environment
) -> None:
    other = await start_reducer(system, TillActor, env)
    assert await done_of(other, note("x"), note("y")) in (("x", "y"), ("y", "x"))
    asks = Dispatch(other, Total(), ok=counted, failed=wrong)
    assert await done_of(till, asks) == ("2 there",)
    probe = Probe(system)
    began = trio.current_time()
    silent = Dispatch(probe.ref, Total(), ok=counted, failed=wrong, timeout=3)
    assert await done_of(till, silent) == ("2 there", "wrong: AskTimeout")
    assert trio.current_time() - began == 3
    await other.stop()
    assert (await done_of(till, asks))[2:] == (f"wrong: {NoProc.__name__}",)
    await probe.expect(Total)


async def test_a_reply_answers_who_asked(autojump_clock: MockClock, till: TillRef) -> None:
    await done_of(till, note("a"))
    assert await till.ask(Total()) == 1
    # Told, and asked for in another way, nobody waits for it.
    till.tell(Total())
    await till.run(Total())
    assert (await till.state()).done == ("a",)


# Keys


async def test_cancel_ends_all_that_has_the_key(autojump_clock: MockClock, till: TillRef) -> None:
    waiting = (
        Delay(10, Noted("a"), key="k"),
        Future(Note("b", 10), key="k"),
        Stream(Each(("c",), 10), key="k"),
        Delay(10, Noted("d"), key="other"),
        Parallel(Delay(10, Noted("e"), key="k")),
    )
    handle = await till.run(Do(waiting), track="cascade")
    await trio.testing.wait_all_tasks_blocked()
    began = trio.current_time()
    await till.run(Do((Cancel("k"), Delay(10, Noted("again"), key="k"))))
    assert await handle.wait()
    assert trio.current_time() - began == 10
    await trio.testing.wait_all_tasks_blocked()
    # What was cancelled was none of the new one's business.
    assert sorted((await till.state()).done) == ["again", "d"]
    assert till.health().cancelled == 4


async def test_an_unknown_key_is_a_counted_nothing(
    autojump_clock: MockClock, till: TillRef
) -> None:
    handle = await till.run(Do((Cancel("nobody's"),)))
    assert handle.completed == 1
    assert till.board.counts.unknown_keys == 1


@dataclass(frozen=True)
class CancelMyself:
    """Its cancellation lies in the mailbox ahead of its action."""

    ref: TillRef

    async def run(self, env: Environment) -> Noted:
        self.ref.tell(Do((Cancel("me"),)))
        return Noted("too late")


async def test_an_action_behind_the_cancellation_of_its_effect_is_not_reduced(
    autojump_clock: MockClock,
    till: TillRef,
) -> None:
    handle = await till.run(Do((Future(CancelMyself(till), key="me"),)))
    assert await handle.wait()
    assert (await till.state()).done == ()
    assert handle.completed == 0


# Several


async def test_effects_returned_together_run_at_the_same_time(
    autojump_clock: MockClock, till: TillRef
) -> None:  # CORE-11
    began = trio.current_time()
    await done_of(till, note("a", 1), note("b", 1), Parallel(note("c", 1), note("d", 1)))
    assert trio.current_time() - began == 1
    assert sorted((await till.state()).done) == ["a", "b", "c", "d"]


async def test_in_sequence_each_waits_for_all_of_the_one_before(
    autojump_clock: MockClock, till: TillRef
) -> None:
    began = trio.current_time()
    chain = Sequential(
        Parallel(note("a", 2), Sequential(note("b", 1), Parallel(note("c", 3), note("d", 2)))),
        note("e", 1),
        Delay(1, Noted("f")),
    )
    assert await done_of(till, chain) == ("b", "a", "d", "c", "e", "f")
    assert trio.current_time() - began == 6


async def test_a_step_begins_when_what_was_fed_back_is_reduced(
    autojump_clock: MockClock, system: System, env: Environment
) -> None:
    _asked.clear()
    ref = await start_reducer(system, Noisy, env)
    chain = Sequential(Stream(Watched("a.")), Stream(Watched("b.")))
    handle = await ref.run(Do((chain,)))
    assert await handle.wait()
    first, second = _asked[:5], _asked[5:]
    assert first == ["gives a", "reduced a", "gives .", "reduced .", "closed"]
    assert second == ["gives b", "reduced b", "gives .", "reduced .", "closed"]


async def test_a_step_that_fails_or_is_cancelled_ends_the_chain(
    autojump_clock: MockClock, till: TillRef
) -> None:
    chain = Sequential(note("a"), Future(Break(), failed=wrong), note("never"))
    handle = await till.run(Do((chain,)))
    assert await handle.wait()
    assert (await till.state()).done == ("a", "wrong: OSError")
    assert [type(one) for one in handle.errors] == [OSError]
    cut = Sequential(Delay(5, Noted("b"), key="k"), note("never"))
    handle = await till.run(Do((cut,)))
    await till.run(Do((Cancel("k"),)))
    assert await handle.wait()
    assert len((await till.state()).done) == 2
    assert (handle.completed, handle.errors) == (0, ())


async def test_in_parallel_all_go_on_and_the_first_failure_counts(
    autojump_clock: MockClock, till: TillRef
) -> None:
    group = Parallel(
        note("a", 3),
        Future(Break("second"), failed=wrong),
        Future(Break("third"), failed=wrong),
    )
    handle = await till.run(Do((Sequential(group, note("never")),)))
    assert await handle.wait()
    assert (await till.state()).done == ("wrong: OSError", "wrong: OSError", "a")
    assert [str(one) for one in handle.errors] == ["second"]


async def test_nothing_and_cancel_work_inside_others(
    autojump_clock: MockClock, till: TillRef
) -> None:
    chain = Sequential(Nothing(), Parallel(), note("a"), Cancel("k"), Sequential(), note("b"))
    assert await done_of(till, Delay(99, Noted("never"), key="k"), chain) == ("a", "b")


# Failing


async def test_what_fails_without_failed_is_a_dead_letter_that_can_be_sent_again(
    autojump_clock: MockClock, till: TillRef, system: System
) -> None:  # CORE-13
    broken = Future(Broken("x"))
    _broken.add("x")
    with captured() as lines:
        handle = await till.run(Do((broken, note("b"))))
        assert await handle.wait()
    assert [str(one) for one in handle.errors] == ["x is broken"]
    assert (await till.state()).done == ("b",)  # It lives on.
    assert till.health().failed == 1
    [line] = [one for one in lines if one["event"] == "effect_failed"]
    assert (line["effect"], line["error"], line["path"]) == ("Future", "OSError", till.path)
    assert line["correlation_id"]
    [letter] = list(system.dead_letters)
    assert "Broken(name='x')" in letter.message
    assert letter.correlation_id == line["correlation_id"]
    # Once it is mended, the whole effect can be done once more.
    _broken.clear()
    system.dead_letters.resend(letter.id)
    await trio.testing.wait_all_tasks_blocked()
    assert (await till.state()).done == ("b", "x")


_broken: set[str] = set()


@dataclass(frozen=True)
class Broken:
    """Fails as long as it is broken."""

    name: str

    async def run(self, env: Environment) -> Noted:
        await trio.lowlevel.checkpoint()
        if self.name in _broken:
            raise OSError(f"{self.name} is broken")
        return Noted(self.name)


def unable(error: Exception) -> object:
    raise ValueError("not even this")


async def test_a_callback_that_raises_is_a_failure_too(
    autojump_clock: MockClock, till: TillRef, system: System
) -> None:
    with captured():
        handle = await till.run(Do((Future(Break(), failed=unable), note("a").map(unable))))
        assert await handle.wait()
    assert [type(one) for one in handle.errors] == [ValueError, ValueError]
    assert system.dead_letters.total == 2
    assert await till.state() == Till()


async def test_what_is_fed_back_and_nobody_takes_is_a_dead_letter(
    autojump_clock: MockClock, till: TillRef, system: System
) -> None:
    handle = await till.run(Do((Delay(0, "text"), note("a").map(str), note("b"))))
    with trio.move_on_after(5):
        await handle.wait()
    assert (await till.state()).done == ("b",)
    assert [one.reason for one in system.dead_letters] == ["unhandled"] * 2
    # It will not be waited for: it is over.
    assert handle.pending == 0


# How many


_running: list[int] = [0, 0]
_order: list[str] = []


@dataclass(frozen=True)
class Counted:
    text: str

    async def run(self, env: Environment) -> Noted:
        _running[0] += 1
        _running[1] = max(_running)
        _order.append(self.text)
        await trio.sleep(1)
        _running[0] -= 1
        return Noted(self.text)


async def test_so_many_run_at_once_and_the_others_wait_in_order(
    autojump_clock: MockClock, till: TillRef
) -> None:  # CORE-14
    _running[:] = [0, 0]
    _order.clear()
    texts = [str(number) for number in range(RUNNING_MAX * 2 + 10)]
    handle = await till.run(Do((Parallel(Delay(100, Noted("idle"), key="d")),)))
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(till.run, Do(tuple(Future(Counted(text)) for text in texts)))
        await trio.testing.wait_all_tasks_blocked()
        health = till.health()
        assert (health.status, health.waiting) == ("degraded", RUNNING_MAX + 10)
        # One that only waits takes no place, and one that needs none is not kept from running.
        await till.run(Do((Delay(0, Noted("at once")),)))
        await trio.testing.wait_all_tasks_blocked()
        assert (await till.state()).done == ("at once",)
    # `run` has returned when the last of them had begun.
    assert trio.current_time() - began == 2
    await till.run(Do((Cancel("d"),)))
    assert await handle.wait()
    await till.drain()
    assert _running == [0, RUNNING_MAX]
    # They begin in slices; within one, trio decides who is first.
    for first in (0, RUNNING_MAX, RUNNING_MAX * 2):
        one_slice = slice(first, first + RUNNING_MAX)
        assert sorted(_order[one_slice]) == sorted(texts[one_slice])
    waited = sum(min(number // RUNNING_MAX, 2) for number in range(len(texts)))
    assert till.health().waited_s == waited


async def test_one_that_waits_for_a_place_can_be_cancelled(
    autojump_clock: MockClock, till: TillRef
) -> None:
    _order.clear()
    first = await till.run(Do(tuple(Future(Counted("a")) for _ in range(RUNNING_MAX))))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(till.run, Do((Future(Counted("b"), key="k"),)))
        await trio.testing.wait_all_tasks_blocked()
        assert till.health().waiting == 1
        await till.run(Do((Cancel("k"),)))
        await trio.testing.wait_all_tasks_blocked()
        assert till.health().waiting == 0
    assert await first.wait()
    assert "b" not in _order


async def test_more_inside_one_effect_than_there_are_places_does_not_lock_up(
    autojump_clock: MockClock,
    till: TillRef,
) -> None:
    _running[:] = [0, 0]
    inner = Parallel(*(Future(Counted("x")) for _ in range(100)))
    await done_of(till, inner, Sequential(inner, inner), inner)
    assert _running[1] == RUNNING_MAX
    assert len((await till.state()).done) == 400


async def test_feedback_stands_in_line_with_other_messages(
    autojump_clock: MockClock, till: TillRef
) -> None:  # CORE-14
    till.tell(Do((Future(TellTwice(till)),)))
    await trio.testing.wait_all_tasks_blocked()
    assert (await till.state()).done == ("before", "mine", "after")


@dataclass(frozen=True)
class Endless:
    """Gives actions for ever, and waits for nothing but their being reduced."""

    async def run(self, env: Environment) -> AsyncIterator[Noted]:
        while True:
            yield Noted("more")


async def test_a_stream_that_never_waits_lets_others_run_and_can_be_cancelled(
    autojump_clock: MockClock, till: TillRef
) -> None:
    handle = await till.run(Do((Stream(Endless(), key="s"),)))
    with trio.fail_after(1):
        while not (await till.state()).done:
            await trio.lowlevel.checkpoint()
        till.tell(Do((Cancel("s"),)))
        assert await handle.wait()
    assert (handle.completed, handle.errors) == (0, ())


@dataclass(frozen=True)
class Doing:
    """Gives an action with these effects, or one that crashes its actor."""

    effects: tuple[Effect, ...] = ()
    crashes: bool = False

    async def run(self, env: Environment) -> Noted | Crash:
        return Crash() if self.crashes else Noted("mine", self.effects)


async def test_an_effect_that_its_own_action_cancels_was_cancelled(
    autojump_clock: MockClock, till: TillRef
) -> None:
    handle = await till.run(Do((Future(Doing((Cancel("me"),)), key="me"),)))
    assert await handle.wait()
    assert (await till.state()).done == ("mine",)
    assert (handle.completed, handle.errors) == (0, ())


async def test_an_effect_whose_action_crashes_its_actor_is_not_done(
    autojump_clock: MockClock, till: TillRef
) -> None:
    with captured():
        handle = await till.run(Do((Future(Doing(crashes=True)),)))
        assert await handle.wait()
    assert (handle.pending, handle.completed) == (0, 0)


@dataclass(frozen=True)
class TellTwice:
    """What it tells is in the mailbox before its action; what follows, behind it."""

    ref: TillRef

    async def run(self, env: Environment) -> Noted:
        self.ref.tell(Noted("before"))
        return Noted("mine", (Dispatch(self.ref, Noted("after")),))


# Effects of one's own


@effect
class Greet(Effect):
    name: str

    async def run(self, env: Environment) -> Noted:
        return Noted(f"hello {self.name}")


@effect
class Count(Effect):
    upto: int

    async def run(self, env: Environment) -> AsyncIterator[Noted]:
        for number in range(self.upto):
            yield Noted(str(number))


@effect
class Mail(Effect):
    to: str


async def sent(what: Mail, env: Environment) -> Noted:
    return Noted(f"mail to {what.to}, {env.clock.now():%Y}")


@command
class Go:
    effect: Effect


@reducer(effects=[Mail, Greet])
def mailing(state: Till, action: Go | Noted, env: Environment) -> Next[Till]:
    match action:
        case Go(what):
            return Next(state, what)
        case Noted(text):
            return Next(Till((*state.done, text)))


class Mailing(ReducerActor[Till, Go | Noted]):
    reducer = mailing

    def initial(self) -> Till:
        return Till()


async def test_an_effect_of_ones_own_is_five_lines(
    autojump_clock: MockClock, till: TillRef
) -> None:
    assert await done_of(till, Greet("Ada"), Greet("Bo").map(shouted)) in (
        ("hello Ada", "HELLO BO"),
        ("HELLO BO", "hello Ada"),
    )
    assert await done_of(till, Count(2)) in (
        ("hello Ada", "HELLO BO", "0", "1"),
        ("HELLO BO", "hello Ada", "0", "1"),
    )
    assert Greet("Ada") == Greet("Ada")


async def test_an_interpreter_is_handed_to_the_actor(
    autojump_clock: MockClock, system: System, env: Environment
) -> None:
    ref = await start_reducer(system, Mailing, env, interpreters={Mail: sent})
    handle = await ref.run(Go(Sequential(Mail("Ada"), Mail("Bo").map(shouted))), track="cascade")
    assert await handle.wait()
    assert (await ref.state()).done == ("mail to Ada, 2025", "MAIL TO BO, 2025")


async def test_an_effect_that_nobody_interprets_is_refused_at_the_start(
    autojump_clock: MockClock, system: System, env: Environment
) -> None:
    with pytest.raises(StartError, match=r"Mailing has effects of .*Mail, which nobody interprets"):
        await start_reducer(system, Mailing, env)


async def test_one_that_was_not_named_is_found_before_anything_is_done(
    autojump_clock: MockClock, system: System, env: Environment
) -> None:
    ref = await start_reducer(system, TillActor, env)
    with captured(), pytest.raises(ActorCrashed, match=r"Mail for Do.*nobody interprets"):
        await ref.run(Do((note("a"), Sequential(Parallel(Mail("Ada"))))))
    with pytest.raises(NoProc):
        await ref.state()


async def test_publish_needs_a_bus(
    autojump_clock: MockClock, system: System, env: Environment
) -> None:
    found: list[tuple[str, str, object]] = []

    async def publish(what: Publish, env: Environment) -> int:
        found.append((what.topic, what.key, what.payload))
        return len(found)

    class Bound(TillActor):
        interpreted = (Publish,)

    with pytest.raises(StartError, match="Publish, which nobody interprets"):
        await start_reducer(system, Bound, env)
    ref = await start_reducer(system, Bound, env, interpreters={Publish: publish})
    published = (Publish("prices", "x", 3), Publish("prices", "y", 4, ok=counted))
    assert await done_of(ref, Sequential(*published)) == ("2 there",)
    assert found == [("prices", "x", 3), ("prices", "y", 4)]


def test_what_is_asked_is_an_ask() -> None:
    assert issubclass(Total, Ask)
    assert Reply(1) == Reply(1)


async def test_operators_see_what_is_carried_out_by_class(
    autojump_clock: MockClock, system: System, env: Environment
) -> None:  # OBS-1
    ref = await start_reducer(system, TillActor, env)
    ref.tell(Do((Future(Note("a", 2.0)), Future(Note("b", 2.0)), Future(Break(), failed=wrong))))
    ref.tell(Do((Stream(Each(("x", "y"), 0.5)),)))
    await trio.sleep(1.5)
    assert numbers(system, "effects_running") == {("TillActor",): 2}
    await trio.sleep(1.5)
    assert numbers(system, "effects_running") == {("TillActor",): 0}
    assert numbers(system, "effects_started_total") == {
        ("TillActor", "Future"): 3,
        ("TillActor", "Stream"): 1,
    }
    failed = numbers(system, "effects_failed_total")
    assert failed == {("TillActor", "Future"): 1, ("TillActor", "Stream"): 0}
    assert numbers(system, "stream_items_total") == {("TillActor",): 2}
    took = {(name, *labels): one for name, labels, one in system.tallies.histograms()}
    assert sum(took["effect_seconds", "TillActor", "Future"].counts) == 3
    assert round(took["effect_seconds", "TillActor", "Future"].total, 3) == 4.0
    assert sum(took["reducer_seconds", "TillActor"].counts) == 7
    # What a crash cuts off runs no more.
    ref.tell(Do((Future(Note("late", 9.0)),)))
    await trio.sleep(1)
    with captured():
        ref.tell(Crash())
        await trio.sleep(1)
    assert numbers(system, "effects_running") == {("TillActor",): 0}
