"""Reducers: pure functions from state and action to the next state and what is to be done.

    @reducer
    def count(state: Count, action: Increment | Reset, env: Environment) -> Next[Count]:
        match action:
            case Increment(by):
                return Next(Count(state.value + by))
            case Reset():
                return Next(Count(0))
        assert_never(action)

Rule 1: a reducer calls no clock and makes no ids: those are in its environment. It does nothing,
it says what is to be done. `check_pure` looks whether that is so.
Rule 2: what it can take stands in its annotations, and is read when it is defined.
"""

from __future__ import annotations

import copy
import inspect
import types
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import (
    Final,
    Generic,
    Never,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
    overload,
)

from actors.reducers.effects import Callback, Effect, check_callback, check_effect
from actors.reducers.messages import here

S = TypeVar("S")
S_co = TypeVar("S_co", covariant=True)
A = TypeVar("A")
E = TypeVar("E")
A_contra = TypeVar("A_contra", contravariant=True)
E_contra = TypeVar("E_contra", contravariant=True)
P = TypeVar("P")
B = TypeVar("B")


class Next(Generic[S_co]):
    """What a reducer returns: the new state, then what is to be done, in any number.

    Two are equal when state and effects are.
    """

    __slots__ = ("effects", "state")

    def __init__(self, state: S_co, *effects: Effect) -> None:
        if effects:
            for one in effects:
                check_effect(one, "Next(state, ...)")
        self.state = state
        self.effects = effects

    def __eq__(self, other: object) -> bool:
        if type(other) is not Next:
            return NotImplemented
        return bool(self.state == other.state) and self.effects == other.effects

    def __hash__(self) -> int:
        return hash((self.state, self.effects))

    def __repr__(self) -> str:
        return f"Next({', '.join(map(repr, (self.state, *self.effects)))})"


class ReducerContractError(TypeError):
    """Raised when a reducer returned no `Next`; nothing of what it returned was used.

    So is a `Next` that this kind of actor cannot carry out; `rule` says why. The action is a dead
    letter, and its actor crashes: correct the reducer.
    """

    def __init__(
        self,
        reducer: str,
        action: object,
        got: object,
        rule: str = "it must return Next(state, *effects)",
    ) -> None:
        super().__init__(f"{reducer} returned {got!r} for {action!r}; {rule}")
        self.reducer, self.action, self.got = reducer, action, got


class NotPure(AssertionError):
    """Raised by `check_pure`: this reducer, called twice, is not a function of what it is given."""

    def __init__(self, reducer: str, action: object, why: str) -> None:
        super().__init__(f"{reducer} is not pure for {action!r}: {why}")
        self.reducer, self.action = reducer, action


# The function itself: nothing is looked at, it is what `@reducer` was given.
Function = Callable[[S, A, E], Next[S]]


class Reducer(Generic[S, A_contra, E_contra]):
    """A reducer: call it as the function it was made of.

    `handled` are the classes of actions that it takes, read from its annotation. With `in_place`
    the state is one that the reducer itself changes; nobody else ever gets it, only copies.
    """

    __slots__ = ("__wrapped__", "effects", "handled", "in_place", "name")

    def __init__(
        self,
        function: Function[S, A_contra, E_contra],
        handled: frozenset[type],
        name: str,
        *,
        in_place: bool = False,
        effects: frozenset[type[Effect]] = frozenset(),
    ) -> None:
        self.__wrapped__ = function
        self.handled, self.name, self.in_place = handled, name, in_place
        # Effects of one's own that it may return: an actor without their interpreters is refused.
        self.effects = effects

    def __call__(self, state: S, action: A_contra, env: E_contra) -> Next[S]:
        """Call this for what comes of an action; pure."""
        return self.__wrapped__(state, action, env)

    def reduce(self, state: S, action: A_contra, env: E_contra) -> Next[S]:
        """Call this as an actor does: ReducerContractError when it returns no `Next`."""
        after = self.__wrapped__(state, action, env)
        if type(after) is not Next:
            raise ReducerContractError(self.name, action, after)
        return after

    def __repr__(self) -> str:
        handled = ", ".join(sorted(one.__name__ for one in self.handled))
        return f"<Reducer {self.name} of {handled}>"


@overload
def reducer(function: Function[S, A, E], /) -> Reducer[S, A, E]: ...
@overload
def reducer(
    *, in_place: bool = False, effects: Iterable[type[Effect]] = ()
) -> Callable[[Function[S, A, E]], Reducer[S, A, E]]: ...
def reducer(
    function: Function[S, A, E] | None = None,
    /,
    *,
    in_place: bool = False,
    effects: Iterable[type[Effect]] = (),
) -> Reducer[S, A, E] | Callable[[Function[S, A, E]], Reducer[S, A, E]]:
    """Call this (as a decorator) on a function `(state, action, env) -> Next`.

    A value that can be called as one will do too. `effects` are effects of your own that it may
    return and that somebody has to interpret. `in_place` is for a state that is costly to copy.
    TypeError, with file and line, for a coroutine function, other parameters, or an action without
    classes in its annotation.
    """
    if not isinstance(cast("object", in_place), bool):
        raise TypeError(f"in_place is {in_place!r}; it is True or False ({here()})")
    named = frozenset(effects)
    for kind in cast("frozenset[object]", named):
        if not (isinstance(kind, type) and issubclass(kind, Effect)):
            raise TypeError(f"effects are classes of effects, not {kind!r} ({here()})")

    def make(given: Function[S, A, E]) -> Reducer[S, A, E]:
        name, handled = _read(given)
        return Reducer(given, handled, name, in_place=in_place, effects=named)

    return make if function is None else make(function)


def _read(given: Callable[[Never, Never, Never], object]) -> tuple[str, frozenset[type]]:
    """The name of a reducer's function, and which actions it takes; TypeError for any nonsense."""
    value: object = given
    if not callable(value) or isinstance(value, type):
        raise TypeError(f"{given!r} is no reducer; give a function ({here()})")
    function = given if inspect.isroutine(given) else type(given).__call__
    code = getattr(function, "__code__", None)
    name = getattr(given, "__qualname__", type(given).__qualname__)
    where = here() if code is None else f"{code.co_filename}:{code.co_firstlineno}"
    if (
        inspect.iscoroutinefunction(function)
        or inspect.isgeneratorfunction(function)
        or inspect.isasyncgenfunction(function)
    ):
        raise TypeError(
            f"{name} ({where}) cannot be a reducer: it is a coroutine or generator function; "
            "a reducer returns at once and describes what waits as an effect"
        )
    taken = inspect.signature(given).parameters.values()
    parameters = [
        one.name for one in taken if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)
    ]
    is_more = any(one.kind is one.KEYWORD_ONLY and one.default is one.empty for one in taken)
    if len(parameters) != 3 or is_more:
        raise TypeError(f"{name} ({where}) must take state, action and environment")
    try:
        hint = get_type_hints(function).get(parameters[1])
    except (NameError, AttributeError) as error:
        raise TypeError(
            f"{name} ({where}) has an annotation that cannot be resolved ({error}); classes of "
            "actions must be found at the top of a module"
        ) from error
    handled = frozenset(members(hint))
    if not handled:
        raise TypeError(
            f"{name} ({where}) must annotate `{parameters[1]}` with the classes of its actions"
        )
    return name, handled


def check_reducer(value: object, where: str) -> None:
    """Called where a reducer is taken; TypeError for a function without its mark, or any other."""
    if not isinstance(value, Reducer):
        raise TypeError(
            f"{where} takes a reducer, not {value!r}; make one of a function by @reducer ({here()})"
        )


def members(hint: object) -> Iterator[type]:
    """The classes of a union, or of a class alone; what is neither gives none."""
    if get_origin(hint) in (Union, types.UnionType):
        for part in get_args(hint):
            yield from members(part)
    elif (value := getattr(hint, "__value__", None)) is not None:
        yield from members(value)  # `type X = A | B` of Python 3.12
    else:
        origin = get_origin(hint) or hint
        if isinstance(origin, type) and origin not in (object, type(None)):
            yield origin


# Reducers made of reducers


def combine(*reducers: Reducer[S, Never, E]) -> Reducer[S, A, E]:
    """Call this for a reducer that puts an action through each in turn; their effects add up.

    Each gets the state that the one before gave, if the action is one of its own. A type checker
    is told by an annotation which actions they take together. ValueError without any.
    """
    if not reducers:
        raise ValueError(f"combine() needs at least one reducer ({here()})")
    for one in reducers:
        check_reducer(one, "combine(...)")
    parts = tuple(reducers)

    def all_of(state: S, action: A, env: E) -> Next[S]:
        effects: list[Effect] = []
        for one in parts:
            if type(action) in one.handled:
                after = one.reduce(state, cast("Never", action), env)
                state = after.state
                effects += after.effects
        return Next(state, *effects)

    return Reducer(
        all_of,
        frozenset().union(*(one.handled for one in parts)),
        f"combine({', '.join(one.name for one in parts)})",
        in_place=any(one.in_place for one in parts),
        effects=frozenset().union(*(one.effects for one in parts)),
    )


def scope(
    child: Reducer[P, B, E],
    *,
    get: Callable[[S], P],
    put: Callable[[S, P], S],
    wrap: Callable[[B], A],
    unwrap: Callable[[A], B | None],
    handled: Iterable[type],
) -> Reducer[S, A, E]:
    """Call this to let a reducer work on a part of a larger state, with actions of its own.

    `unwrap` gives the child's action, or None: then nothing happens. Actions that come of its
    effects are put through `wrap`, a function at the top of a module or a class. `handled` are the
    classes of actions that can be unwrapped. All are pure. TypeError for anything else.
    """
    check_reducer(child, "scope(...)")
    check_callback(cast("Callback", wrap), "scope.wrap")
    plain: tuple[tuple[str, object], ...] = (("get", get), ("put", put), ("unwrap", unwrap))
    for name, function in plain:
        if not callable(function) or inspect.iscoroutinefunction(function):
            raise TypeError(f"scope.{name} is {function!r}; give a plain function ({here()})")
    classes = frozenset(handled)
    if not classes or not all(isinstance(one, type) for one in classes):
        raise TypeError(f"scope.handled is {handled!r}; name classes of actions ({here()})")

    def scoped(state: S, action: A, env: E) -> Next[S]:
        inner = unwrap(action)
        if inner is None:
            return Next(state)
        after = child.reduce(get(state), inner, env)
        mapped = (one.map(cast("Callback", wrap)) for one in after.effects)
        return Next(put(state, after.state), *mapped)

    return Reducer(
        scoped,
        classes,
        f"scope({child.name})",
        in_place=child.in_place,
        effects=child.effects,
    )


# Whether it is one


@dataclass(frozen=True, slots=True)
class Case(Generic[S, A, E]):
    """What `check_pure` tries: a state, an action and an environment."""

    state: S
    action: A
    env: E


_SOURCES: Final = ("clock", "ids", "random")


def check_pure(of: Reducer[S, A, E], cases: Iterable[Case[S, A, E]]) -> int:
    """Call this in a test to run each case twice; gives how many there were.

    Raises NotPure when both results differ, when the state given was changed (not with
    `in_place`), and when a clock, ids or random source of the environment was exchanged. Each run
    gets a copy of state and environment, so sources must be copyable, as those of the testing kit
    are.
    """
    count = 0
    for case in cases:
        count += 1
        first, second = (_tried(of, case) for _ in range(2))
        if first != second:
            raise NotPure(of.name, case.action, f"it gave {first!r}, then {second!r}")
    return count


def _tried(of: Reducer[S, A, E], case: Case[S, A, E]) -> Next[S]:
    state, action, env = copy.deepcopy((case.state, case.action, case.env))
    before = {name: getattr(env, name, None) for name in _SOURCES}
    after = of.reduce(state, action, env)
    if not of.in_place and state != case.state:
        raise NotPure(of.name, case.action, f"it changed the state it was given to {state!r}")
    if action != case.action:
        raise NotPure(of.name, case.action, f"it changed the action to {action!r}")
    for name, source in before.items():
        if getattr(env, name, None) is not source:
            raise NotPure(of.name, case.action, f"it exchanged the {name} of its environment")
    return after
