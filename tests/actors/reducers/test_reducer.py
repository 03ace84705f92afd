"""Reducers: what they are made of, what they take, and whether they are pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Never, TypeAlias, cast

import pytest

from actors.reducers import (
    Case,
    Delay,
    Environment,
    Future,
    Next,
    NotPure,
    Reducer,
    ReducerActor,
    ReducerContractError,
    check_pure,
    combine,
    command,
    reducer,
    scope,
    start_reducer,
)
from actors.runtime import ActorCrashed, System, UnhandledMessage
from actors.testing.cases.fixed import FixedClock, FixedIds, fixed_environment
from actors.testing.cases.step_store import StepStore
from tests.actors.reducers.kit import Do, Note, Noted, Till, TillActor, note, till
from tests.logged import captured


@command
class Add:
    by: int = 1


@command
class Clear:
    """Back to nothing."""


@dataclass(frozen=True, slots=True)
class Count:
    value: int = 0


@reducer
def count(state: Count, action: Add | Clear, env: Environment) -> Next[Count]:
    match action:
        case Add(by):
            return Next(Count(state.value + by))
        case Clear():
            return Next(Count())


@reducer
def mirror(state: Count, action: Add, env: Environment) -> Next[Count]:
    return Next(Count(state.value * 10), Delay(action.by, Clear()))


class Counter(ReducerActor[Count, Add | Clear]):
    reducer = count

    def initial(self) -> Count:
        return Count()


# What is refused when it is defined


def test_a_coroutine_function_is_refused_with_its_name_and_place() -> None:  # CORE-2
    async def later(state: Count, action: Add, env: Environment) -> Next[Count]:
        return Next(state)

    def bit_by_bit(state: Count, action: Add, env: Environment) -> Iterator[Next[Count]]:
        yield Next(state)

    for function in (later, bit_by_bit):
        with pytest.raises(TypeError, match=rf"{function.__name__} \(.*test_reducer\.py:\d+\)"):
            reducer(function)  # type: ignore[arg-type]


def test_a_reducer_takes_three_things_and_names_its_actions() -> None:
    def two(state: Count, action: Add) -> Next[Count]:
        return Next(state)

    def anything(state: Count, action, env: Environment) -> Next[Count]:  # type: ignore[no-untyped-def]
        return Next(state)

    def objects(state: Count, action: object, env: Environment) -> Next[Count]:
        return Next(state)

    def unknown(state: Count, action: Missing, env: Environment) -> Next[Count]:  # type: ignore[name-defined]  # noqa: F821
        return Next(state)

    for function, why in (
        (two, "must take state, action and environment"),
        (anything, "must annotate `action`"),
        (objects, "must annotate `action`"),
        (unknown, "cannot be resolved"),
    ):
        with pytest.raises(TypeError, match=rf"{function.__name__} \(.*:\d+\).*{why}"):
            reducer(function)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="3 is no reducer"):
        reducer(3)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=r"Times'> is no reducer.*test_reducer\.py:\d+"):
        reducer(cast("Times", Times))

    def more(state: Count, action: Add, env: Environment, *, by: int) -> Next[Count]:
        return Next(state)

    with pytest.raises(TypeError, match=r"more \(.*must take state, action and environment"):
        reducer(more)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"classes of effects, not 5 \(.*test_reducer\.py:\d+\)"):
        reducer(effects=[5])  # type: ignore[list-item]
    with pytest.raises(TypeError, match=r"in_place is 'yes'.*test_reducer\.py:\d+"):
        reducer(in_place="yes")  # type: ignore[call-overload]


@dataclass(frozen=True)
class Times:
    """A value that can be called, as a function with something bound to it."""

    factor: int

    def __call__(self, state: Count, action: Add, env: Environment) -> Next[Count]:
        return Next(Count(state.value + action.by * self.factor))


def test_a_value_that_can_be_called_is_a_reducer_too() -> None:  # CORE-2
    triple = reducer(Times(3))
    assert triple(Count(1), Add(2), fixed_environment()) == Next(Count(7))
    assert triple.name == "Times"
    assert triple.handled == {Add}

    class Later:
        async def __call__(self, state: Count, action: Add, env: Environment) -> Next[Count]:
            return Next(state)

    with pytest.raises(TypeError, match=r"Later \(.*test_reducer\.py:\d+\) cannot be a reducer"):
        reducer(Later())  # type: ignore[arg-type]


async def _later(self: object) -> Count:
    return Count()


def test_each_action_of_the_union_must_be_handled() -> None:  # CORE-5
    with pytest.raises(TypeError, match=r"Lacking \(.*test_reducer\.py:\d+\).*mirror.*take Clear"):

        class Lacking(ReducerActor[Count, Add | Clear]):
            reducer = mirror  # type: ignore[assignment]

    with pytest.raises(
        TypeError, match=r"count takes Clear, which ReducerActor\[\.\.\.\] does not"
    ):

        class Beyond(ReducerActor[Count, Add]):
            reducer = count

    with pytest.raises(TypeError, match=r"Bare .* has no reducer"):

        class Bare(ReducerActor[Count, Add]):
            """Has none."""

    for named in ({}, {"initial": _later}):
        with pytest.raises(TypeError, match=r"Begun \(.*test_reducer\.py:\d+\) has no initial"):

            class Begun(ReducerActor[Count, Add | Clear]):
                reducer = count
                locals().update(named)

    with pytest.raises(TypeError, match=r"Loose \(.*test_reducer\.py:\d+\) names no actions"):

        class Loose(ReducerActor):  # type: ignore[type-arg]
            reducer = count

            def initial(self) -> Count:
                return Count()

    assert count.handled == {Add, Clear}


async def test_an_action_outside_the_union_is_unhandled_and_disturbs_nobody(
    system: System, env: Environment
) -> None:  # CORE-5
    ref = await start_reducer(system, Counter, env)
    ref.tell(Add(2))
    ref.tell(Noted("a"))  # type: ignore[arg-type]
    assert await ref.state() == Count(2)
    letters = list(system.dead_letters)
    assert [(one.reason, one.message_type) for one in letters] == [("unhandled", "Noted")]
    with pytest.raises(UnhandledMessage):
        await ref.ask(Noted("a"))  # type: ignore[arg-type]
    assert await ref.state() == Count(2)


# What it returns


def test_next_is_state_and_effects() -> None:  # CORE-3
    assert Next(Count(1)) == Next(Count(1))
    assert Next(Count(1), note("a")).effects == (note("a"),)
    assert Next(Count(1)) != Next(Count(1), note("a"))
    assert Next(Count(1)) != Count(1)
    assert len({Next(Count(1)), Next(Count(1)), Next(Count(2))}) == 2
    assert repr(Next(Count(1), Delay(1, "a"))) == (
        "Next(Count(value=1), Delay(seconds=1, action='a', key=None, durable=False))"
    )
    with pytest.raises(TypeError, match="takes effects, not 'send'"):
        Next(Count(1), "send")  # type: ignore[arg-type]


@reducer
def sloppy(state: Count, action: Add, env: Environment) -> Next[Count]:
    return cast("Next[Count]", Count(state.value + action.by))


class Sloppy(ReducerActor[Count, Add]):
    reducer = sloppy

    def initial(self) -> Count:
        return Count()


async def test_a_reducer_that_returns_no_next_crashes_its_actor(
    system: System, env: Environment
) -> None:  # CORE-3
    ref = await start_reducer(system, Sloppy, env)
    with captured() as lines, pytest.raises(ActorCrashed) as caught:
        await ref.run(Add(3))
    error = caught.value.error
    assert isinstance(error, ReducerContractError)
    assert (error.reducer, error.action, error.got) == ("sloppy", Add(3), Count(3))
    assert lines
    ref.tell(Add(1))
    [letter] = [one for one in system.dead_letters if one.reason == "crashed"]
    assert "Add" in letter.message


# Reducers made of reducers

Both: TypeAlias = Reducer[Count, Add | Clear, Environment]


def test_combine_goes_through_each_in_order() -> None:  # CORE-7
    both: Both = combine(count, mirror)
    env = fixed_environment()
    assert both(Count(1), Add(2), env) == Next(Count(30), Delay(2, Clear()))
    other: Both = combine(mirror, count)
    assert other(Count(1), Add(2), env) == Next(Count(12), Delay(2, Clear()))
    # An action that one of them does not take passes it by.
    assert both(Count(1), Clear(), env) == Next(Count(0))
    assert both.handled == {Add, Clear}
    assert check_pure(both, [Case(Count(1), Add(2), env), Case(Count(1), Clear(), env)]) == 2
    with pytest.raises(ValueError, match="at least one"):
        combine()
    with pytest.raises(
        TypeError, match=r"not 5; make one .*by @reducer \(.*test_reducer\.py:\d+\)"
    ):
        combine(count, 5)  # type: ignore[arg-type]


@command
class InLeft:
    action: Add | Clear


@dataclass(frozen=True, slots=True)
class Pair:
    left: Count = field(default_factory=Count)
    right: int = 0


def _left(pair: Pair) -> Count:
    return pair.left


def unwrapped(action: InLeft) -> Add | None:
    return action.action if isinstance(action.action, Add) else None


def test_scope_shows_a_child_its_part_and_wraps_what_comes_of_its_effects() -> None:  # CORE-7
    left: Reducer[Pair, InLeft, Environment] = scope(
        mirror,
        get=lambda pair: pair.left,
        put=lambda pair, part: Pair(part, pair.right),
        wrap=InLeft,
        unwrap=unwrapped,
        handled=[InLeft],
    )
    env = fixed_environment()
    after = left(Pair(Count(2), 7), InLeft(Add(3)), env)
    assert after == Next(Pair(Count(20), 7), Delay(3, InLeft(Clear())))
    # Not for the child: neither state nor effects.
    pair = Pair(Count(2), 7)
    untouched = left(pair, InLeft(Clear()), env)
    assert untouched.state is pair
    assert untouched.effects == ()
    cases = [Case(Pair(), InLeft(Add(1)), env), Case(Pair(), InLeft(Clear()), env)]
    assert check_pure(left, cases) == 2
    wrongs: tuple[tuple[dict[str, object], str], ...] = (
        ({"wrap": lambda action: action}, "wrap is .*lambda"),
        ({"get": _later}, "scope.get is "),
        ({"put": None}, "scope.put is None"),
        ({"unwrap": 3}, "scope.unwrap is 3"),
        ({"handled": []}, "scope.handled is "),
        ({"handled": ["Add"]}, "scope.handled is "),
    )
    given: dict[str, object] = {}
    for wrong, why in wrongs:
        given = {
            "get": _left,
            "put": Pair,
            "wrap": InLeft,
            "unwrap": unwrapped,
            "handled": [InLeft],
            **wrong,
        }
        with pytest.raises(TypeError, match=rf"{why}.*test_reducer\.py:\d+"):
            scope(mirror, **cast("dict[str, Never]", given))
    with pytest.raises(TypeError, match=r"takes a reducer, not .*test_reducer\.py:\d+"):
        scope(cast("Reducer[Count, Add, Environment]", 3), **cast("dict[str, Never]", given))


# Purity


@dataclass
class Source:
    """A clock, ids and random numbers, all of them the same."""

    at: int = 0


@dataclass
class Loose:
    """An environment in which things can be exchanged."""

    clock: Source = field(default_factory=Source)
    ids: Source = field(default_factory=Source)
    random: Source = field(default_factory=Source)


_calls = itertools.count()


@reducer
def counts_its_calls(state: Count, action: Add, env: Loose) -> Next[Count]:
    return Next(Count(next(_calls)))


@reducer
def differs_in_effects(state: Count, action: Add, env: Loose) -> Next[Count]:
    return Next(state, Delay(next(_calls), Clear()))


@dataclass
class Tally:
    values: list[int] = field(default_factory=list)


@reducer
def changes_its_state(state: Tally, action: Add, env: Loose) -> Next[Tally]:
    state.values.append(action.by)
    return Next(Tally([0]))


@reducer(in_place=True)
def changes_in_place(state: Tally, action: Add, env: Environment) -> Next[Tally]:
    state.values.append(action.by)
    if action.by < 0:
        raise ValueError("half changed")
    return Next(state)


@reducer
def exchanges_the_clock(state: Count, action: Add, env: Loose) -> Next[Count]:
    env.clock = Source()
    return Next(state)


@reducer
def exchanges_the_ids(state: Count, action: Add, env: Loose) -> Next[Count]:
    env.ids = Source()
    return Next(state)


@reducer
def exchanges_the_random(state: Count, action: Add, env: Loose) -> Next[Count]:
    env.random = Source()
    return Next(state)


@pytest.mark.parametrize(
    ("impure", "state", "why"),
    [
        (counts_its_calls, Count(), "it gave"),
        (differs_in_effects, Count(), "it gave"),
        (changes_its_state, Tally(), "changed the state"),
        (exchanges_the_clock, Count(), "exchanged the clock"),
        (exchanges_the_ids, Count(), "exchanged the ids"),
        (exchanges_the_random, Count(), "exchanged the random"),
    ],
)
def test_a_reducer_that_is_not_pure_is_found(
    impure: Reducer[object, Add, Loose], state: object, why: str
) -> None:  # CORE-2
    with pytest.raises(NotPure, match=rf"{impure.name} is not pure for Add\(by=1\).*{why}"):
        check_pure(impure, [Case(state, Add(), Loose())])


@reducer
def draws(state: Count, action: Add, env: Environment) -> Next[Count]:
    drawn = int(env.random.random() * 10) + env.ids.new_id().int % 7 + env.clock.now().second
    return Next(Count(state.value + drawn), Future(Note(str(drawn))))


def test_a_pure_reducer_may_use_its_environment() -> None:  # CORE-2
    env = Environment(FixedClock(), FixedIds())
    assert check_pure(draws, [Case(Count(), Add(), env), Case(Count(3), Add(), env)]) == 2
    # Nothing of it was used up.
    assert env.ids.new_id() == FixedIds().new_id()


# In place


class Tallies(ReducerActor[Tally, Add]):
    reducer = changes_in_place

    def initial(self) -> Tally:
        return Tally()


async def test_nobody_gets_a_state_that_is_changed_in_place(
    system: System, env: Environment
) -> None:  # CORE-8
    ref = await start_reducer(system, Tallies, env)
    await ref.run(Add(1))
    seen = await ref.state()
    seen.values.append(99)
    part = await ref.state(values_of)
    part.append(98)
    await ref.run(Add(2))
    assert (await ref.state()).values == [1, 2]


def values_of(tally: Tally) -> list[int]:
    return tally.values


async def test_what_cannot_be_copied_is_the_askers_trouble(
    system: System, env: Environment
) -> None:  # CORE-8: it cost the actor its state
    ref = await start_reducer(system, Tallies, env)
    await ref.run(Add(1))
    with pytest.raises(TypeError, match="generator"):
        await ref.state(each_of)
    assert (await ref.state()).values == [1]


def each_of(tally: Tally) -> Iterator[int]:
    return (one for one in tally.values)


class Lent(Tallies):
    """One that begins each time with the same object."""

    first = Tally()

    def initial(self) -> Tally:
        return self.first


async def test_an_initial_state_that_is_lent_stays_as_it_was(
    system: System, env: Environment
) -> None:  # CORE-8: a next incarnation would begin with what is half changed, and so would others
    one, other = [await start_reducer(system, Lent, env) for _ in range(2)]
    await one.run(Add(1))
    assert [(await ref.state()).values for ref in (one, other)] == [[1], []]
    assert Lent.first.values == []


async def test_a_step_store_hands_out_no_state_that_changes(
    env: Environment,
) -> None:  # CORE-8, TEST-3
    given = Tally()
    async with StepStore(changes_in_place, env, given) as store:
        before = store.state()
        await store.send(Add(1))
        assert (given.values, before.values, store.state().values) == ([], [], [1])


def test_a_state_in_place_may_change_where_purity_is_looked_at() -> None:  # CORE-8
    env = fixed_environment()
    assert check_pure(changes_in_place, [Case(Tally(), Add(), env)]) == 1


def test_the_kit_of_these_tests_is_sound() -> None:
    assert till(Till(), Do((note("a"),)), fixed_environment()) == Next(Till(), note("a"))
    assert TillActor.initial(cast("Never", None)) == Till()


@pytest.mark.parametrize("name", ["clock", "ids", "random"])
def test_an_environment_has_all_its_sources(name: str) -> None:  # CORE-6
    with pytest.raises(TypeError, match=rf"Environment\.{name} is 5; it has no "):
        replace(fixed_environment(), **cast("dict[str, Never]", {name: 5}))
