"""Holding a reducer actor: running, asking for an outcome, reading, following, draining."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import cast

import pytest
import trio
from trio.testing import MockClock

from actors.reducers import (
    Applied,
    Cancel,
    Delay,
    Dispatch,
    Draining,
    DrainTimeout,
    Environment,
    Future,
    Lagged,
    Metadata,
    Next,
    OutcomeTimeout,
    Parallel,
    ReducerActor,
    ReducerRef,
    Sequential,
    Stream,
    as_reducer,
    command,
    reducer,
    start_reducer,
)
from actors.runtime import (
    Actor,
    ActorCrashed,
    AskTimeout,
    Context,
    System,
    current_context,
    edge_context,
    span,
)
from actors.runtime.life.cell import Life, cell_of
from actors.testing import Puppet
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
    wrong,
)
from tests.logged import captured

TillRef = ReducerRef[Till, Action]
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


# The handle


async def test_run_returns_when_the_effects_have_begun(
    autojump_clock: MockClock, till: TillRef
) -> None:
    began = trio.current_time()
    handle = await till.run(Do((note("a", 5), note("b", 2))))
    assert trio.current_time() == began
    assert (handle.pending, handle.completed) == (2, 0)
    assert not await handle.wait(timeout=1)
    assert await handle.wait_until(remaining=1)
    assert trio.current_time() - began == 2
    assert not await handle.wait_until(remaining=0, timeout=1)
    assert handle.pending == 1  # Nothing was cancelled.
    assert await handle.wait()
    assert trio.current_time() - began == 5
    assert (handle.pending, handle.completed, handle.errors) == (0, 2, ())
    assert await handle.wait(timeout=0)
    with pytest.raises(ValueError, match="remaining is -1"):
        await handle.wait_until(remaining=-1)
    with pytest.raises(ValueError, match="track is 'all'"):
        await till.run(Do(), track="all")  # type: ignore[arg-type]


async def test_what_is_reduced_and_what_effects_do_are_spans_of_its_trace(
    autojump_clock: MockClock, system: System, till: TillRef
) -> None:  # OBS-3
    spans = system.trace()
    with edge_context(Context("c", traceparent=TRACE)):
        handle = await till.run(Do((note("a", 5), Future(Break()))), track="cascade")
    assert await handle.wait()
    await till.run(Do())  # of no trace
    read = [spans.read(one) for one in spans.ring]
    assert {one.trace for one in read} == {TRACE[3:35]}
    effects = [one for one in read if one.name == "effect.Future"]
    assert sorted((one.took_s, one.error) for one in effects) == [(0, "OSError"), (5, "")]
    reduced = [one for one in read if one.name == "reducer.reduce"]
    assert [dict(one.fields)["action"] for one in reduced] == ["Do", "Noted"]
    handled = {one.span for one in read if one.name == "actor.handle"}
    assert {one.parent for one in (*effects, *reduced)} <= handled
    by_id = {one.span: one for one in read}
    fed = by_id[reduced[1].parent]
    assert by_id[fed.parent].name == "effect.Future", "what is fed back comes of the effect"


@dataclass(frozen=True, slots=True)
class Spanned:
    """Gives its actions out of the middle of a span of its own."""

    async def run(self, env: Environment) -> AsyncIterator[Noted]:
        for text in ("a", "b"):
            with span("effect.own"):
                await trio.lowlevel.checkpoint()
                yield Noted(text)


@pytest.mark.parametrize("is_busy", [False, True])
async def test_what_an_effect_gives_from_inside_a_span_is_reduced(
    autojump_clock: MockClock, system: System, till: TillRef, is_busy: bool
) -> None:  # OBS-3
    system.trace()
    with edge_context(Context("c", traceparent=TRACE)):
        handles = [await till.run(Do((Stream(Spanned()),))) for _ in range(1 + 3 * is_busy)]
    for handle in handles:
        assert await handle.wait(timeout=1)
        assert handle.errors == ()
    assert sorted((await till.state()).done) == sorted("ab" * len(handles))


CHAIN = Future(Note("one", 1, (Future(Note("two", 1, (note("three", 1),))),)))


async def test_direct_counts_the_effects_of_the_action_alone(
    autojump_clock: MockClock, till: TillRef
) -> None:  # CORE-20
    handle = await till.run(Do((CHAIN, Future(Break(), failed=wrong))))
    assert await handle.wait()
    assert (handle.completed, [str(one) for one in handle.errors]) == (1, ["no"])
    assert (await till.state()).done == ("wrong: OSError", "one")


async def test_cascade_counts_three_levels_and_a_failure_in_the_last(
    autojump_clock: MockClock, till: TillRef
) -> None:  # CORE-20
    broken = Future(Note("a", 1, (Future(Note("b", 1, (Future(Break(), failed=wrong),))),)))
    handle = await till.run(Do((CHAIN, broken)), track="cascade")
    assert await handle.wait()
    assert (await till.state()).done[-1] == "three"
    assert sorted((await till.state()).done) == ["a", "b", "one", "three", "two", "wrong: OSError"]
    assert (handle.completed, len(handle.errors)) == (5, 1)


@pytest.mark.parametrize("track", ["direct", "cascade"])
async def test_a_handle_counts_a_fan_out_of_a_hundred(
    autojump_clock: MockClock, till: TillRef, track: str
) -> None:  # CORE-20
    fan = tuple(note(str(number), 1, (note("then", 1),)) for number in range(100))
    handle = await till.run(Do(fan), track="cascade" if track == "cascade" else "direct")
    assert await handle.wait()
    assert handle.completed == (200 if track == "cascade" else 100)
    await till.drain()
    assert len((await till.state()).done) == 200


@pytest.mark.parametrize("how", ["crash", "kill", "stop", "cancel"])
async def test_the_count_comes_to_zero_however_the_effects_end(
    autojump_clock: MockClock, till: TillRef, how: str
) -> None:  # CORE-20
    waits = (
        *(Future(Note("never", 1000), timeout=2000, key="k") for _ in range(70)),
        Sequential(Delay(1000, Noted("never"), key="k"), note("never")),
        Parallel(Stream(Each((), is_endless=True), key="k")),
    )
    async with trio.open_nursery() as nursery:
        first = await till.run(Do((Delay(1000, Noted("x"), key="k"),)), track="cascade")
        nursery.start_soon(_ended, till, Do(waits))
        await trio.testing.wait_all_tasks_blocked()
        assert till.health().pending == 73
        with captured():
            if how == "crash":
                till.tell(Crash())
            elif how == "kill":
                till.kill()
            elif how == "stop":
                await till.stop()
            else:
                await till.run(Do((Cancel("k"),)))
            assert await first.wait()
    assert first.pending == 0
    performing = till.board.performing
    assert performing is not None
    assert (performing.pending, performing.places.waiting, performing.names()) == (0, 0, [])


async def _ended(till: TillRef, action: Do) -> None:
    """Its effects do not all begin; whatever comes of that."""
    try:
        handle = await till.run(action, track="cascade", timeout=None)
    except Exception:  # noqa: BLE001 - the actor has ended
        return
    assert await handle.wait()


# Outcomes


@command
class Serve:
    """Asks for an answer of its own, in a while."""

    number: int
    seconds: float = 0.0


@command
class Halfway:
    number: int
    seconds: float


@command
class Served:
    number: int


@dataclass(frozen=True, slots=True)
class Wait:
    number: int
    seconds: float

    async def run(self, env: Environment) -> Served:
        await trio.sleep(self.seconds)
        return Served(self.number)


@reducer
def serving(state: Till, action: Serve | Halfway | Served, env: Environment) -> Next[Till]:
    match action:
        case Serve(number, seconds):
            return Next(state, Delay(seconds, Halfway(number, seconds)))
        case Halfway(number, seconds):
            return Next(state, Future(Wait(number, seconds)))
        case Served(number):
            return Next(Till((*state.done, str(number))))


class Server(ReducerActor[Till, Serve | Halfway | Served]):
    reducer = serving

    def initial(self) -> Till:
        return Till()


ServerRef = ReducerRef[Till, Serve | Halfway | Served]


async def _ask_many(refs: list[ServerRef], numbers: range) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []

    async def one(number: int) -> None:
        # Later ones are served earlier, so that answers overtake each other.
        seconds = (number * 37 % 11) / 10
        served = await refs[number % len(refs)].ask_for(
            Serve(number, seconds), Served, timeout=None
        )
        found.append((number, served.number))

    async with trio.open_nursery() as nursery:
        for number in numbers:
            nursery.start_soon(one, number)
    return found


async def test_a_thousand_asks_of_one_actor_get_their_own_answer(
    autojump_clock: MockClock, system: System, env: Environment
) -> None:  # CORE-21
    ref = await start_reducer(system, Server, env)
    found = await _ask_many([ref], range(1000))
    assert sorted(found) == [(number, number) for number in range(1000)]
    assert ref.board.waiting == 0


async def test_a_thousand_asks_of_a_hundred_actors_get_their_own_answer(
    autojump_clock: MockClock, system: System, env: Environment
) -> None:  # CORE-21
    refs = [await start_reducer(system, Server, env) for _ in range(100)]
    found = await _ask_many(refs, range(1000))
    assert sorted(found) == [(number, number) for number in range(1000)]


async def test_a_hundred_asks_of_one_correlation_get_their_own_answer(
    autojump_clock: MockClock, system: System, env: Environment
) -> None:  # CORE-21
    ref = await start_reducer(system, Server, env)
    with edge_context(Context("the-same")):
        found = await _ask_many([ref], range(100))
    assert sorted(found) == [(number, number) for number in range(100)]


async def test_the_same_action_object_is_told_apart_by_who_sent_it(
    autojump_clock: MockClock, till: TillRef
) -> None:  # CORE-21
    same = Noted("same")
    first: list[Noted] = []

    async def ask() -> None:
        first.append(await till.ask_for(Do((Delay(5, same),)), Noted, timeout=None))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        till.tell(same)
        await trio.testing.wait_all_tasks_blocked()
        assert first == []
    assert first == [same]
    assert (await till.state()).done == ("same", "same")


async def test_an_outcome_is_a_class_some_classes_or_a_predicate(
    autojump_clock: MockClock, till: TillRef
) -> None:
    chain = Do((Sequential(note("a"), Future(Break(), failed=wrong), note("b")),))
    assert await till.ask_for(chain, Noted) == Noted("a")
    assert await till.ask_for(chain, (Total, Wrong)) == Wrong("OSError")
    assert await till.ask_for(chain, lambda one: one == Noted("a")) == Noted("a")
    # The action itself is not what came of it.
    with pytest.raises(OutcomeTimeout):
        await till.ask_for(Noted("c"), Noted, timeout=1)
    for nonsense in (3, (), ("Noted",), None):
        with pytest.raises(TypeError, match="is no outcome"):
            await till.ask_for(chain, cast("type", nonsense))
    with pytest.raises(ZeroDivisionError):
        await till.ask_for(chain, lambda one: 1 / 0 > 1)
    assert till.board.waiting == 0


async def test_what_did_not_come_is_named(autojump_clock: MockClock, till: TillRef) -> None:
    with pytest.raises(OutcomeTimeout, match=r"no Noted or Wrong came of Do\(effects=\(\)\)"):
        await till.ask_for(Do(), (Noted, Wrong), timeout=2)
    with pytest.raises(AskTimeout) as caught:
        await till.ask_for(Do(), Noted, timeout=2)
    assert isinstance(caught.value, OutcomeTimeout)
    assert (caught.value.outcome, caught.value.waited) == ("Noted", 2)


async def test_who_waits_for_an_outcome_hears_of_a_crash_at_once(
    autojump_clock: MockClock, till: TillRef
) -> None:
    began = trio.current_time()

    async def ask() -> None:
        with pytest.raises(ActorCrashed, match="the till is broken"):
            await till.ask_for(Do((note("a", 60),)), Noted, timeout=100)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        with captured():
            till.tell(Crash())
    assert trio.current_time() == began
    assert till.board.waiting == 0


async def test_an_outcome_is_applied_before_it_is_seen(
    autojump_clock: MockClock, till: TillRef
) -> None:  # CORE-22
    async with till.subscribe() as applied:
        for text in ("a", "b", "c"):
            found = await till.ask_for(Do((note(text),)), Noted)
            assert (await till.state(last)) == found.text
        seen: list[object] = []
        async for one in applied:
            assert isinstance(one, Applied)
            seen.append(one.action)
            if one.action == Noted("c"):
                break
        assert Noted("a") in seen


def last(state: Till) -> str:
    return state.done[-1]


async def test_a_reducer_that_raises_shows_its_action_to_nobody(
    autojump_clock: MockClock, till: TillRef
) -> None:  # CORE-22
    async with till.subscribe() as applied:
        with captured():
            till.tell(Noted("a"))
            till.tell(Crash())
            await trio.testing.wait_all_tasks_blocked()
        # It has ended for good: nobody restarts it.
        assert [getattr(one, "action", None) async for one in applied] == [Noted("a")]


def answered(total: object) -> Noted:
    return Noted(f"ok {total}")


async def test_actions_of_every_kind_of_effect_are_seen(
    autojump_clock: MockClock, till: TillRef, system: System, env: Environment
) -> None:  # CORE-23
    other = await start_reducer(system, TillActor, env)
    gone = await start_reducer(system, TillActor, env)
    await gone.stop()
    kinds = {
        "future": note("future"),
        "stream": Stream(Each(("stream",))),
        "delay": Delay(1, Noted("delay")),
        "ok 0": Dispatch(other, Total(), ok=answered),
        "in parallel": Parallel(note("in parallel")),
        "in sequence": Sequential(Delay(0, Noted("in sequence"))),
    }
    failing = (
        Future(Break(), failed=wrong),
        Stream(Each(("x",)), failed=wrong).map(unable),
        Dispatch(gone, Total(), ok=answered, failed=wrong),
    )
    async with till.subscribe(capacity=100) as applied:
        for text, one in kinds.items():
            assert await till.ask_for(Do((one,)), Noted) == Noted(text)
        for one, kind in zip(failing, ("OSError", "ValueError", "NoProc"), strict=True):
            assert await till.ask_for(Do((one,)), Wrong) == Wrong(kind)
        await till.stop()
        actions = [one.action async for one in applied if isinstance(one, Applied)]
    assert [one for one in actions if not isinstance(one, Do)] == [
        *(Noted(text) for text in kinds),
        *(Wrong(kind) for kind in ("OSError", "ValueError", "NoProc")),
    ]


def unable(action: object) -> object:
    if isinstance(action, Wrong):
        return action
    raise ValueError("not this one")


async def test_an_ask_that_is_given_up_leaves_nothing_behind(
    autojump_clock: MockClock, till: TillRef
) -> None:  # CORE-24
    life = cell_of(till).life
    assert isinstance(life, Life)
    for number in range(10_000):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(till.ask_for, Do(), Noted)
                await trio.lowlevel.checkpoint()
                if number % 100 == 0:
                    await trio.testing.wait_all_tasks_blocked()
                    assert till.board.waiting == 1
                scope.cancel()
    with pytest.raises(OutcomeTimeout):
        await till.ask_for(Do(), Noted, timeout=1)
    assert till.board.waiting == 0
    assert not life.owed
    assert till.health().pending == 0


# The state


async def test_the_state_is_that_after_all_earlier_messages(
    autojump_clock: MockClock, till: TillRef
) -> None:
    for number in range(100):
        till.tell(Noted(str(number)))
    assert await till.state(last) == "99"
    assert len((await till.state()).done) == 100
    with pytest.raises(AttributeError):
        await till.state(broken)
    assert await till.state(last) == "99"  # It lives on.


# Subscribers


async def test_a_subscriber_sees_actions_in_order_with_where_they_came_from(
    autojump_clock: MockClock, till: TillRef
) -> None:
    async with till.subscribe() as applied:
        with edge_context(Context("corr-1", user_id="ada", tenant="t1")):
            await till.run(Do((note("a"),)))
        first, second = await anext(applied), await anext(applied)
        assert isinstance(first, Applied)
        assert isinstance(second, Applied)
    assert (first.seq, second.seq) == (1, 2)
    assert second.action == Noted("a")
    assert first.metadata.correlation_id == second.metadata.correlation_id == "corr-1"
    assert (second.metadata.user_id, second.metadata.tenant) == ("ada", "t1")
    assert second.metadata.sender == till.path


async def test_who_is_slow_is_told_how_many_were_missed(
    autojump_clock: MockClock, till: TillRef
) -> None:
    async with till.subscribe(capacity=3) as applied:
        for number in range(10):
            till.tell(Noted(str(number)))
        await till.state()
        seen = [await anext(applied) for _ in range(2)]
        # There is room again: what was missed is told where it is missing, and it goes on.
        till.tell(Noted("10"))
        await till.state()
        seen += [await anext(applied) for _ in range(3)]
    texts = [one.action if isinstance(one, Applied) else one for one in seen]
    assert texts == [Noted("0"), Noted("1"), Noted("2"), Lagged(7), Noted("10")]


async def test_the_last_ones_missed_are_told_too(autojump_clock: MockClock, till: TillRef) -> None:
    async with till.subscribe(capacity=1) as applied:
        for text in "abc":
            till.tell(Noted(text))
        await till.stop(drain=True)
        seen = [one async for one in applied]
    assert [getattr(one, "action", one) for one in seen] == [Noted("a"), Lagged(2)]


@pytest.mark.parametrize("capacity", [0, -1, 1.5, True, None])
async def test_a_subscription_has_room_for_one_at_least(
    autojump_clock: MockClock, till: TillRef, capacity: int
) -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        till.subscribe(capacity=capacity)


async def test_a_subscription_ends_with_its_reader_or_its_actor(
    autojump_clock: MockClock, till: TillRef
) -> None:
    async with till.subscribe():
        assert is_followed(till)
    assert not is_followed(till)
    forgotten = till.subscribe()
    del forgotten
    gc.collect()
    till.tell(Noted("a"))
    await till.state()
    assert not is_followed(till)
    async with till.subscribe() as applied:
        with trio.move_on_after(1) as limit:
            await anext(applied)
        assert limit.cancelled_caught
        async with trio.open_nursery() as nursery:
            nursery.start_soon(till.stop)
            assert [one async for one in applied] == []
    # Nor is there anything to hear of one that is gone.
    assert [one async for one in till.subscribe()] == []


async def test_one_task_reads_a_subscription(autojump_clock: MockClock, till: TillRef) -> None:
    applied = till.subscribe()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(anext, applied)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(RuntimeError, match="another task"):
            await anext(applied)
        till.tell(Noted("a"))


# Draining


async def test_drain_refuses_at_once_and_finishes_what_runs(
    autojump_clock: MockClock, till: TillRef, system: System
) -> None:
    await till.run(Do((CHAIN, note("b", 1))))
    till.tell(Noted("before"))
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        drained = []

        async def drain() -> None:
            drained.append(await till.drain())

        nursery.start_soon(drain)
        await trio.testing.wait_all_tasks_blocked()
        for refused in (
            till.run(Noted("x")),
            till.ask_for(Noted("x"), Noted),
            till.ask(Total()),
        ):
            with pytest.raises(Draining, match="was not reduced"):
                await refused
        till.tell(Noted("too late"))
        assert till.health().status == "degraded"
        await till.state()  # Can still be read.
    assert trio.current_time() - began == 3
    [letter] = list(system.dead_letters)
    assert letter.reason == "stopped"
    assert "too late" in letter.message
    state = await till.state()
    assert sorted(state.done) == ["b", "before", "one", "three", "two"]
    assert (drained[0].handled, drained[0].effects) == (4, 4)


async def test_a_drain_that_takes_too_long_names_what_is_left(
    autojump_clock: MockClock, till: TillRef
) -> None:
    await till.run(Do((Delay(100, Noted("a"), key="k"), note("b", 20))))
    with pytest.raises(DrainTimeout, match="Delay 'k'") as caught:
        await till.drain(timeout=5)
    assert (caught.value.pending, sorted(caught.value.names)) == (2, ["Delay 'k'", "Future"])
    assert (await till.drain(timeout=None)).effects == 2


# Health


async def test_health_says_how_it_is(autojump_clock: MockClock, till: TillRef) -> None:
    assert till.health().status == "healthy"
    with captured():
        handle = await till.run(Do((Future(Break()),)))
        assert await handle.wait()
    assert (till.health().status, till.health().failed) == ("healthy", 1)
    await till.stop()
    health = till.health()
    assert health.status == "unhealthy"
    assert "stopped" in health.message


# In whose name


@pytest.mark.parametrize("given", ["", "a" * 65, "spaces in it", "ümlaut", "a\n", 7])
async def test_a_correlation_that_could_not_be_stored_is_refused(given: str) -> None:  # CORE-32
    with pytest.raises(ValueError, match="must be 1 to 64"):
        Metadata(correlation_id=given)
    assert Metadata(correlation_id="A-z_0.9" * 9).correlation_id


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("traceparent", "nonsense"),
        ("traceparent", f"00-{'A' * 32}-{'b' * 16}-01"),
        ("traceparent", 7),
        ("user_id", " "),
        ("user_id", 7),
        ("tenant", ""),
    ],
)
def test_what_could_not_be_told_on_is_refused(name: str, given: object) -> None:  # CORE-32
    with pytest.raises(ValueError, match=rf"{name} is .*test_reducer_ref\.py:\d+"):
        Metadata(**{name: given})  # type: ignore[arg-type]


async def test_what_is_given_wins_field_by_field(
    autojump_clock: MockClock, till: TillRef
) -> None:  # CORE-30
    async with till.subscribe() as applied:
        with edge_context(Context("outer", user_id="ada", tenant="t1")):
            await till.run(Noted("a"), metadata=Metadata(user_id="bo"))
        await till.run(Noted("b"), metadata=Metadata(correlation_id="mine"))
        await till.run(Noted("c"), metadata=Metadata(tenant="t2"))
        seen = [await anext(applied) for _ in range(3)]
    found = [one.metadata for one in seen if isinstance(one, Applied)]
    assert (found[0].correlation_id, found[0].user_id, found[0].tenant) == ("outer", "bo", "t1")
    assert (found[1].correlation_id, found[1].user_id) == ("mine", None)
    assert found[2].tenant == "t2"
    # CORE-32: one of our own can be given too.
    assert Metadata(correlation_id=found[2].correlation_id).correlation_id


async def test_what_is_given_wins_in_a_handler_too(
    autojump_clock: MockClock, system: System, till: TillRef
) -> None:  # CORE-30
    class Caller(Actor[Noted]):
        async def on_noted(self, message: Noted) -> None:
            await till.run(message, metadata=Metadata(user_id="bo"))
            await till.run(message)

    caller = await system.start(Caller)
    async with till.subscribe() as applied:
        with edge_context(Context("outer", user_id="ada")):
            caller.tell(Noted("a"))
        seen = [await anext(applied) for _ in range(2)]
    found = [one.metadata for one in seen if isinstance(one, Applied)]
    assert [one.user_id for one in found] == ["bo", "ada"]
    assert {one.correlation_id for one in found} == {"outer"}
    assert {one.sender for one in found} == {caller.path}


@dataclass(frozen=True)
class WhoAmI:
    async def run(self, env: Environment) -> Noted:
        context = current_context()
        assert context is not None
        return Noted(f"{context.correlation_id}/{context.user_id}/{context.causation_id}")


async def test_feedback_is_caused_by_the_message_that_had_the_effect(
    autojump_clock: MockClock, till: TillRef
) -> None:  # CORE-30
    kinds = (
        Future(WhoAmI()),
        Delay(1, Noted("a")),
        Stream(Each(("b",))),
        Sequential(Future(WhoAmI()), Parallel(Delay(1, Noted("c")))),
        Future(Break(), failed=wrong),
    )
    async with till.subscribe(100) as applied:
        with edge_context(Context("corr", user_id="ada", traceparent=TRACE)):
            handle = await till.run(Do(kinds), track="cascade")
        assert await handle.wait()
        await till.stop()
        seen = [one async for one in applied if isinstance(one, Applied)]
    causes = {one.metadata.causation_id for one in seen[1:]}
    assert len(causes) == 1
    assert None not in causes
    for one in seen:
        assert one.metadata.correlation_id == "corr"
        assert one.metadata.user_id == "ada"
    # A span under that of who asked, the same for all that this message has led to.
    first, *fed = [one.metadata.traceparent or "" for one in seen]
    assert first == TRACE
    assert len(set(fed)) == 1
    assert fed[0] != TRACE
    assert (fed[0][:36], fed[0][52:]) == (TRACE[:36], TRACE[52:])
    told = {one.action.text for one in seen if isinstance(one.action, Noted)}
    assert f"corr/ada/{causes.pop()}" in told


async def test_a_chain_of_causes_goes_from_message_to_message(
    autojump_clock: MockClock, till: TillRef
) -> None:  # CORE-30
    async with till.subscribe(100) as applied:
        handle = await till.run(Do((CHAIN,)), track="cascade")
        assert await handle.wait()
        await till.stop()
        seen = [one async for one in applied if isinstance(one, Applied)]
    causes = [one.metadata.causation_id for one in seen[1:]]
    assert len(set(causes)) == 3
    assert causes == sorted(causes, key=lambda one: -1 if one is None else one)


# Holding it


def broken(state: Till) -> object:
    raise AttributeError("nothing of the kind")


async def test_a_ref_of_another_actor_is_no_reducers(
    autojump_clock: MockClock, system: System, till: TillRef
) -> None:
    assert as_reducer(TillActor, till) is till
    puppet = await system.start(Puppet)
    with pytest.raises(TypeError, match="is no ref of a reducer actor"):
        as_reducer(TillActor, cast("TillRef", puppet))


def is_followed(till: TillRef) -> bool:
    return till.board.has_listeners
