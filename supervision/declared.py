"""Children declared in the body of a `Supervisor`: how they compile, and what they read as.

`child` and `dynamic` take a class with its arguments; `child_method` and `dynamic_method`
decorate a method that makes the actor, for arguments that come from the supervisor's own
`__init__`. Read on a handle (`shop.front`) a declared child is its ref, a declared supervisor
its handle.
"""

from __future__ import annotations

import functools
import typing
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import (
    Generic,
    Never,
    ParamSpec,
    TypedDict,
    TypeVar,
    TypeVarTuple,
    Unpack,
    cast,
    overload,
)

from actors.runtime import Actor, AnyActor, Ref
from supervision.doing.supervising import Supervising
from supervision.dynamic_supervisor import Dynamic
from supervision.specs.arguments import (
    CHILD_OPTIONS,
    DYNAMIC_OPTIONS,
    check_arguments,
    check_key,
    check_template,
    split,
)
from supervision.specs.errors import SpecError
from supervision.specs.specs import (
    MISSING,
    Backoff,
    ChildSpec,
    DynamicFlags,
    ErrorClasses,
    Maker,
    class_of,
)
from supervision.specs.words import Budget, RestartType, ShutdownTime

A = TypeVar("A", bound=AnyActor)
A_co = TypeVar("A_co", bound=AnyActor, covariant=True)
M = TypeVar("M")
O = TypeVar("O", bound=Supervising)  # noqa: E741  the owner
S = TypeVar("S", bound=Supervising)
Ts = TypeVarTuple("Ts")
P = ParamSpec("P")


class ChildOptions(TypedDict, total=False):
    """The options of a child: the fields of `ChildSpec` but `id` and `start`."""

    restart: RestartType
    shutdown: ShutdownTime
    significant: bool
    backoff: Backoff
    restart_on: ErrorClasses
    stop_on: ErrorClasses
    escalate_on: ErrorClasses
    name: str


class DynamicOptions(ChildOptions, total=False):
    """The options of a template and of the dynamic supervisor around it."""

    intensity: int
    period: float
    budget: Budget
    max_children: int
    cooldown: float
    passivate_after: float


class Declared(ABC):
    """What a supervisor's class needs of everything declared in its body."""

    def __init__(self, start: Maker, *, is_method: bool) -> None:
        self._start, self._is_method = start, is_method
        self._id = ""
        # What a method says that it makes, where that is held by a ref of its own: before one is
        # made there is nothing else to tell it by.
        made = class_of(_returned_by(start)) if is_method else None
        self._held = made if getattr(made, "ref_class", Ref) is not Ref else None

    def bound_to(self, supervisor: Supervising | None) -> Maker:
        """Called to compile: what makes an actor, a method bound to its supervisor.

        When the class is made there is none to bind it to; that spec is only checked, never
        started.
        """
        if self._is_method and supervisor is not None:
            bound = functools.partial(self._start, supervisor)
            if self._held is not None:
                bound.actor_class = self._held  # type: ignore[attr-defined]
            return bound
        return self._start

    @abstractmethod
    def spec(self, name: str, supervisor: Supervising | None) -> ChildSpec:
        """Call this to compile; without a supervisor only to check that it makes sense."""


class DeclaredChild(Declared, Generic[A_co]):
    """A child declared in a class body.

    On a handle a worker reads as `Ref` of what it takes, a supervisor as its own handle.
    """

    def __init__(self, start: Maker, options: Mapping[str, object], *, is_method: bool) -> None:
        super().__init__(start, is_method=is_method)
        made = class_of(_returned_by(start) if is_method else start)
        self._is_supervisor = getattr(made, "child_type", "worker") == "supervisor"
        self._options = {"type": "supervisor" if self._is_supervisor else "worker", **options}
        _check_options(start, self._options)

    def options(self, **options: Unpack[ChildOptions]) -> DeclaredChild[A_co]:
        """Call this for the same child with these options: `child(Stock, n=5).options(...)`."""
        changed = {**self._options, **options}
        return DeclaredChild(self._start, changed, is_method=self._is_method)

    def spec(self, name: str, supervisor: Supervising | None) -> ChildSpec:
        """Call this to compile the declaration to a spec of that id."""
        self._id = name
        start = self.bound_to(supervisor)
        return ChildSpec(name, start, **cast("dict[str, Never]", self._options))

    @overload
    def __get__(self, instance: None, owner: type) -> DeclaredChild[A_co]: ...
    @overload
    def __get__(self: DeclaredChild[S], instance: Supervising, owner: type) -> S: ...
    @overload
    def __get__(self: DeclaredChild[Actor[M]], instance: Supervising, owner: type) -> Ref[M]: ...
    def __get__(self, instance: Supervising | None, owner: type) -> object:
        if instance is None:
            return self
        if self._is_supervisor:
            return instance.handle_of_child(self._id)
        return instance.ref_of(self._id)


@overload
def child(
    start: Callable[[Unpack[Ts]], A], /, *args: *Ts, **options: Unpack[ChildOptions]
) -> DeclaredChild[A]: ...
@overload
def child(start: Callable[P, A], /, *args: P.args, **kwargs: P.kwargs) -> DeclaredChild[A]: ...
def child(start: object, /, *args: object, **given: object) -> DeclaredChild[AnyActor]:
    """Call this in a class body to declare a child: a class and its arguments, then options.

    `front = child(Stock, "front", restart="transient")`; `front = child(Stock, shelf="front")`.

    The options are those of `ChildSpec`; every other name is an argument of the class. Both at once
    work, but Python has no type for it: for the checkers write `child(Stock, shelf="front")
    .options(restart="transient")`, or `child(partial(Stock, shelf="front"), restart="transient")`.
    Raises `SpecError`, when the class is made: `unknown_option` for a name that is neither,
    `ambiguous_option` for one that is both, `bad_arguments` when the class cannot be called so.
    """
    made, options = split(start, args, given, CHILD_OPTIONS)
    check_arguments(made)
    return DeclaredChild(made, options, is_method=False)


def child_method(
    **options: Unpack[ChildOptions],
) -> _ChildMethod:
    """Call this as a decorator of a method that makes a child, called anew per incarnation.

    ```python
    @child_method(restart="transient")
    def front(self) -> Stock:
        return Stock(self.settings.shelf)
    ```
    """
    return _ChildMethod(options)


class _ChildMethod:
    """The decorator made by `child_method`."""

    def __init__(self, options: ChildOptions) -> None:
        self._options = options

    def __call__(self, method: Callable[[O], A]) -> DeclaredChild[A]:
        return DeclaredChild(cast("Maker", method), dict(self._options), is_method=True)


class DeclaredDynamic(Declared, Generic[M]):
    """A dynamic supervisor declared in a class body; on a handle it reads as `Dynamic[M]`."""

    def __init__(self, start: Maker, options: Mapping[str, object], *, is_method: bool) -> None:
        super().__init__(start, is_method=is_method)
        self._given = options
        key = _text(options.get("key"))
        if is_method:
            check_key(start, key)
        else:
            assert isinstance(start, functools.partial)
            check_template(start, key)
        # One list of options for the person; which are the supervisor's own, its flags know.
        rest = dict(options)
        names = [name for name in rest if name in DynamicFlags.__dataclass_fields__]
        flags = cast("dict[str, Never]", {name: rest.pop(name) for name in names})
        self._flags = DynamicFlags(**flags)
        self._options = cast("dict[str, Never]", rest)
        _check_options(start, rest)

    def options(
        self, *, key: str | None = None, **options: Unpack[DynamicOptions]
    ) -> DeclaredDynamic[M]:
        """Call this for the same with these options: `dynamic(Stock, n=5).options(key="shelf")`."""
        keyed = {} if key is None else {"key": key}
        changed = {**self._given, **keyed, **options}
        return DeclaredDynamic(self._start, changed, is_method=self._is_method)

    def spec(self, name: str, supervisor: Supervising | None) -> ChildSpec:
        """Call this to compile the declaration to the spec of a dynamic supervisor."""
        self._id = name
        template = ChildSpec(name, self.bound_to(supervisor), **self._options)
        return ChildSpec(name, functools.partial(Dynamic, self._flags, template))

    @overload
    def __get__(self, instance: None, owner: type) -> DeclaredDynamic[M]: ...
    @overload
    def __get__(self, instance: Supervising, owner: type) -> Dynamic[M]: ...
    def __get__(self, instance: Supervising | None, owner: type) -> DeclaredDynamic[M] | Dynamic[M]:
        if instance is None:
            return self
        return cast(Dynamic[M], instance.handle_of_child(self._id))


@overload
def dynamic(
    start: Callable[P, Actor[M]],
    /,
    *args: object,
    key: str | None = None,
    **options: Unpack[DynamicOptions],
) -> DeclaredDynamic[M]: ...
@overload
def dynamic(
    start: Callable[P, Actor[M]], /, *args: P.args, **kwargs: P.kwargs
) -> DeclaredDynamic[M]: ...
def dynamic(start: object = MISSING, /, *args: object, **given: object) -> object:
    """Call this in a class body to declare a dynamic supervisor with its one template.

    `shelves = dynamic(Stock, key="shelf", restart="transient", passivate_after=300.0)`: `args`
    are the template's own, `key` names the parameter of the class that takes the key.

    Names that are no options are arguments of the class, as with `child`, and raise as there. For
    the checkers: `dynamic(partial(Stock, size=5), key="shelf")`, since the class is not called
    whole here.
    """
    # A class among the arguments is a second template, and never meant: one pool, one kind.
    if start is MISSING or any(isinstance(one, type) and issubclass(one, Actor) for one in args):
        raise SpecError("bad_template", "dynamic", 0 if start is MISSING else 2)
    made, options = split(start, args, given, DYNAMIC_OPTIONS)
    return DeclaredDynamic(made, options, is_method=False)


def dynamic_method(*, key: str | None = None, **options: Unpack[DynamicOptions]) -> _DynamicMethod:
    """Call this as a decorator of a method that makes one of many children.

    ```python
    @dynamic_method(key="name", max_children=1000)
    def rooms(self, name: str) -> Room:
        return Room(name, self.store)
    ```
    """
    return _DynamicMethod(key, options)


class _DynamicMethod:
    """The decorator made by `dynamic_method`."""

    def __init__(self, key: str | None, options: DynamicOptions) -> None:
        self._key, self._options = key, options

    def __call__(self, method: Callable[P, Actor[M]]) -> DeclaredDynamic[M]:
        keyed = {} if self._key is None else {"key": self._key}
        return DeclaredDynamic(cast("Maker", method), {**keyed, **self._options}, is_method=True)


def declared_in(cls: type) -> dict[str, Declared]:
    """Call this for what a class body itself declares, in its order."""
    return {name: one for name, one in vars(cls).items() if isinstance(one, Declared)}


def _check_options(start: Maker, options: Mapping[str, object]) -> None:
    """Refuse an option where it is written; when the class is made, its line is all there is."""
    try:
        ChildSpec("child", start, **cast("dict[str, Never]", options))
    except SpecError as error:
        # What goes with what is known when the class is made: `.options()` may add the other one.
        if error.code != "bad_combination":
            raise


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _returned_by(method: object) -> object:
    """The class a method says it makes; unknown names mean a worker."""
    try:
        return typing.get_type_hints(cast("Maker", method)).get("return")
    except NameError:
        return None
