"""Cases of decisions, told in one line: an aggregate's, and a reducer's.

    given(Account(), Deposited(5)).when(Withdraw(3)).then(Withdrawn(3))
    given(Account()).when(Withdraw(3)).then_refused("too_little")

    ReducerTest(count).given_state(Count(1)).when(Increment()).then_state(Count(2)).run()

Rule: a case that was begun and expects nothing proves nothing. It is kept among the unfinished
ones: by the plugin `actors.unfinished`, which pytest loads where greenroom is installed, it fails
its test, and a run in which one was made while tests were collected does not begin.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Generic, Never, Self, TypeAlias, TypeVar, cast

from actors.persistence import (
    Aggregate,
    Append,
    Beside,
    Decision,
    OutboxMessage,
    Refusal,
    Reply,
    TimerChange,
)
from actors.reducers import (
    Effect,
    Environment,
    Next,
    Parallel,
    Publish,
    Reducer,
    Sequential,
)
from actors.reducers.reducer import check_reducer
from actors.testing.cases.differing import difference
from actors.testing.cases.fixed import fixed_environment

S = TypeVar("S")
C = TypeVar("C")
E = TypeVar("E")
A = TypeVar("A")

# What an aggregate has done beside its events, in their transaction.
AggregateEffect: TypeAlias = OutboxMessage | TimerChange

# Looks at what came: raises AssertionError, or returns False, when it is not as expected.
Check: TypeAlias = Callable[[S], object]

# More begun cases than any test has; a run without the plugin keeps no more of them.
_KEPT: Final = 1000
_unfinished: deque[Unfinished] = deque(maxlen=_KEPT)


class Unfinished:
    """A case that was begun, and where."""

    def __init__(self, what: str) -> None:
        frame = sys._getframe(2)
        self.text = f"{frame.f_code.co_filename}:{frame.f_lineno}: {what}"
        _unfinished.append(self)

    def finish(self) -> None:
        """Called when it has been told to its end."""
        if self in _unfinished:
            _unfinished.remove(self)


def take_unfinished() -> list[str]:
    """Call this for the cases that were begun and expect nothing, with their places; once each."""
    found = [one.text for one in _unfinished]
    _unfinished.clear()
    return found


# Aggregates


def given(aggregate: Aggregate[S, C, E], *events: E) -> Given[S, C, E]:
    """Call this to begin with an aggregate whose stream has these events."""
    return Given(aggregate, events)


class Given(Generic[S, C, E]):
    """An aggregate, and what has happened to it."""

    def __init__(self, aggregate: Aggregate[S, C, E], events: Sequence[E]) -> None:
        self._aggregate, self._env = aggregate, fixed_environment()
        self._state = aggregate.initial()
        for event in events:
            self._state = aggregate.apply(self._state, event)

    def with_env(self, env: Environment) -> Self:
        """Call this to decide in another environment than a fixed one."""
        self._env = env
        return self

    def when(self, command: C) -> When[S, C, E]:
        """Call this with the command that is decided."""
        case = Unfinished(f"given(...).when({command!r}) has no then")
        decided = self._aggregate.decide(self._state, command, self._env)
        return When(self._aggregate, self._state, decided, case)


class When(Generic[S, C, E]):
    """What was decided; each `then...` raises AssertionError unless it is as expected."""

    def __init__(
        self,
        aggregate: Aggregate[S, C, E],
        before: S,
        decided: Decision[E],
        case: Unfinished,
    ) -> None:
        self._decided, self._case = decided, case
        self._events: tuple[E, ...] = ()
        beside = Beside()
        if not isinstance(decided, Reply | Refusal):
            self._events = tuple(decided)
            if self._events:
                beside = aggregate.beside(before, self._events, {})
        self._effects = (*beside.outbox, *beside.timers)
        self._state = before
        for event in self._events:
            self._state = aggregate.apply(self._state, event)

    def then(self, *events: E) -> Self:
        """Call this with the events that must come, in order; with none if nothing may change."""
        self._case.finish()
        if isinstance(self._decided, Refusal):
            raise AssertionError(f"it was refused: {self._decided!r}")
        _same(events, self._events, "events")
        return self

    def then_refused(self, code: str) -> Self:
        """Call this with the code of the refusal that must come."""
        self._case.finish()
        if not isinstance(self._decided, Refusal):
            raise AssertionError(f"expected a refusal {code!r}, got {self._decided!r}")
        _same(code, self._decided.code, "code")
        return self

    def then_reply(self, value: object) -> Self:
        """Call this with the answer that must come, which changes nothing."""
        self._case.finish()
        if not isinstance(self._decided, Reply):
            raise AssertionError(f"expected a reply {value!r}, got {self._decided!r}")
        _same(value, self._decided.value, "reply")
        return self

    def then_state(self, check: S | Check[S]) -> Self:
        """Call this with the state that must be behind the events, or a look at it."""
        self._case.finish()
        _looked_at(check, self._state, "state")
        return self

    def then_effects(
        self, check: tuple[AggregateEffect, ...] | Check[tuple[AggregateEffect, ...]]
    ) -> Self:
        """Call this with what must go beside the events, or a look at it; `no_effects` for one.

        It is what `beside` gives: messages of the outbox, then timers that are set and closed.
        """
        self._case.finish()
        _looked_at(check, self._effects, "effects")
        return self


# Reducers


class ReducerTest(Generic[S, A]):
    """A case of a reducer; nothing is looked at before `run`."""

    def __init__(self, reducer: Reducer[S, A, Never]) -> None:
        check_reducer(reducer, "ReducerTest(...)")
        self._reducer, self._env = reducer, fixed_environment()
        self._checks: list[Callable[[Next[S]], None]] = []
        self._given: list[S] = []
        self._when: list[A] = []
        self._case = Unfinished(f"ReducerTest({reducer.name}) was never run")

    def with_env(self, env: Environment) -> Self:
        """Call this to reduce in another environment than a fixed one."""
        self._env = env
        return self

    def given_state(self, state: S) -> Self:
        """Call this with the state to begin with."""
        self._given = [state]
        return self

    def when(self, *actions: A) -> Self:
        """Call this with the action that is reduced; of several the effects add up."""
        self._when += actions
        return self

    def then_state(self, check: S | Check[S]) -> Self:
        """Call this with the state that must come, or a look at it."""
        self._checks.append(lambda after: _looked_at(check, after.state, "state"))
        return self

    def then_effects(self, check: tuple[Effect, ...] | Check[tuple[Effect, ...]]) -> Self:
        """Call this with the effects that must come, or a look at them, `no_effects` for one."""
        self._checks.append(lambda after: _looked_at(check, after.effects, "effects"))
        return self

    def run(self) -> Next[S]:
        """Call this to reduce and to look; gives what came. ValueError when a part is missing."""
        self._case.finish()
        if not self._given or not self._when or not self._checks:
            raise ValueError("a case needs given_state(...), when(...) and a then_...(...)")
        state, effects = self._given[0], list[Effect]()
        for action in self._when:
            after = self._reducer.reduce(state, action, cast("Never", self._env))
            state = after.state
            effects += after.effects
        whole = Next(state, *effects)
        for check in self._checks:
            check(whole)
        return whole


def no_effects(effects: Sequence[object]) -> None:
    """Call this in `then_effects`: there must be none."""
    _same((), tuple(effects), "effects")


def effects_count(count: int) -> Check[Sequence[object]]:
    """Call this for a look: as many must have been returned, each with all that is inside."""

    def look(effects: Sequence[object]) -> None:
        if len(effects) != count:
            raise AssertionError(f"expected {count} effects, got {len(effects)}: {effects!r}")

    return look


def has_effect(kind: type[Effect]) -> Check[Sequence[Effect]]:
    """Call this for a look: one of a class must be there, also inside others.

    TypeError for what is no class of effects.
    """
    given: object = kind
    if not (isinstance(given, type) and issubclass(given, Effect)):
        raise TypeError(f"has_effect takes a class of effects, not {kind!r}")
    return _has(lambda one: isinstance(one, kind), kind.__name__)


def has_append(stream_id: str) -> Check[Sequence[Effect]]:
    """Call this for a look: an `Append` to a stream must be there, also inside others."""
    return _has(
        lambda one: isinstance(one, Append) and one.stream_id == stream_id,
        f"Append to {stream_id!r}",
    )


def has_publish(topic: str) -> Check[Sequence[Effect]]:
    """Call this for a look: a `Publish` on a topic must be there, also inside others."""
    return _has(
        lambda one: isinstance(one, Publish) and one.topic == topic, f"Publish on {topic!r}"
    )


def _has(matches: Callable[[Effect], bool], name: str) -> Check[Sequence[Effect]]:
    def look(effects: Sequence[Effect]) -> None:
        if not any(map(matches, _all(effects))):
            raise AssertionError(f"expected {name}, got {tuple(effects)!r}")

    return look


def _all(effects: Sequence[Effect]) -> Iterator[Effect]:
    for one in effects:
        yield one
        if isinstance(one, Parallel | Sequential):
            yield from _all(one.effects)


def _looked_at(check: S | Check[S], got: S, name: str) -> None:
    if not callable(check):
        _same(check, got, name)
    elif check(got) is False:
        raise AssertionError(f"{name} is not as expected: {got!r}")


def _same(wanted: object, got: object, name: str) -> None:
    if wanted != got:
        raise AssertionError(difference(wanted, got, name))
