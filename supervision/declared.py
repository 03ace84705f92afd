"""Children declared in the body of a `Supervisor`: how they compile, and what they read as.

`child` and `dynamic` take a class with its arguments; `child_method` and `dynamic_method`
decorate a method that makes the actor, for arguments that come from the supervisor's own
`__init__`. Read on a handle (`shop.front`) a declared child is its ref, a declared supervisor
its handle.
"""

from __future__ import annotations

import functools
import typing
from collections.abc import Callable
from typing import (
    Generic,
    Never,
    ParamSpec,
    Protocol,
    TypedDict,
    TypeVar,
    TypeVarTuple,
    Unpack,
    cast,
    overload,
)

from actors.runtime import Actor, Ref
from supervision.doing.supervising import Supervising
from supervision.dynamic_supervisor import Dynamic
from supervision.specs.errors import SpecError
from supervision.specs.specs import (
    Backoff,
    ChildSpec,
    DynamicFlags,
    ErrorClasses,
    Maker,
    check_start,
    class_of,
)
from supervision.specs.words import Budget, RestartType, ShutdownTime

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


class Declared(Protocol):
    """What a supervisor's class needs of everything declared in its body."""

    def spec(self, name: str, supervisor: Supervising | None) -> ChildSpec:
        """Call this to compile; without a supervisor only to check that it makes sense."""


class DeclaredChild(Generic[M]):
    """A worker declared in a class body; on a handle it reads as `Ref[M]`."""

    def __init__(self, start: Maker, options: ChildOptions, *, is_method: bool) -> None:
        self._start, self._options, self._is_method = start, options, is_method
        self._id = ""

    def spec(self, name: str, supervisor: Supervising | None) -> ChildSpec:
        """Call this to compile the declaration to a spec of that id."""
        self._id = name
        start = self._start
        # When the class is made there is no supervisor to bind the method to; that spec is only
        # checked, never started.
        if self._is_method and supervisor is not None:
            start = functools.partial(start, supervisor)
        options = cast("dict[str, Never]", self._options)
        return ChildSpec(name, start, **options)

    @overload
    def __get__(self, instance: None, owner: type) -> DeclaredChild[M]: ...
    @overload
    def __get__(self, instance: Supervising, owner: type) -> Ref[M]: ...
    def __get__(self, instance: Supervising | None, owner: type) -> DeclaredChild[M] | Ref[M]:
        if instance is None:
            return self
        return cast("Ref[M]", instance.ref_of(self._id))


class DeclaredSupervisor(DeclaredChild[Never], Generic[S]):
    """A supervisor declared in a class body; on a handle it reads as its own handle."""

    @overload  # type: ignore[override]
    def __get__(self, instance: None, owner: type) -> DeclaredSupervisor[S]: ...
    @overload
    def __get__(self, instance: Supervising, owner: type) -> S: ...
    def __get__(self, instance: Supervising | None, owner: type) -> DeclaredSupervisor[S] | S:
        if instance is None:
            return self
        return cast("S", instance.handle_of_child(self._id))


@overload
def child(
    start: Callable[[Unpack[Ts]], S], *args: *Ts, **options: Unpack[ChildOptions]
) -> DeclaredSupervisor[S]: ...
@overload
def child(
    start: Callable[[Unpack[Ts]], Actor[M]], *args: *Ts, **options: Unpack[ChildOptions]
) -> DeclaredChild[M]: ...
def child(start: object, *args: object, **options: Unpack[ChildOptions]) -> object:
    """Call this in a class body to declare a child: a class and its arguments, then options.

    `front = child(Stock, "front", restart="transient")`
    """
    check_start(start)
    made = functools.partial(cast("Maker", start), *args)
    return _declared(start, made, options, is_method=False)


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

    @overload
    def __call__(self, method: Callable[[O], S]) -> DeclaredSupervisor[S]: ...
    @overload
    def __call__(self, method: Callable[[O], Actor[M]]) -> DeclaredChild[M]: ...
    def __call__(self, method: object) -> object:
        made = class_of(_returned_by(method))
        return _declared(made, cast("Maker", method), self._options, is_method=True)


class DeclaredDynamic(Generic[M]):
    """A dynamic supervisor declared in a class body; on a handle it reads as `Dynamic[M]`."""

    def __init__(
        self, start: Maker, key: str | None, options: DynamicOptions, *, is_method: bool
    ) -> None:
        self._start, self._is_method = start, is_method
        # One list of options for the person; which are the supervisor's own, its flags know.
        rest: dict[str, object] = dict(options)
        names = [name for name in rest if name in DynamicFlags.__dataclass_fields__]
        flags = cast("dict[str, Never]", {name: rest.pop(name) for name in names})
        self._flags = DynamicFlags(key=key, **flags)
        self._options = cast("dict[str, Never]", rest)
        self._id = ""

    def spec(self, name: str, supervisor: Supervising | None) -> ChildSpec:
        """Call this to compile the declaration to the spec of a dynamic supervisor."""
        self._id = name
        start = self._start
        if self._is_method and supervisor is not None:
            start = functools.partial(start, supervisor)
        template = ChildSpec(name, start, **self._options)
        return ChildSpec(name, functools.partial(Dynamic, self._flags, template))

    @overload
    def __get__(self, instance: None, owner: type) -> DeclaredDynamic[M]: ...
    @overload
    def __get__(self, instance: Supervising, owner: type) -> Dynamic[M]: ...
    def __get__(self, instance: Supervising | None, owner: type) -> DeclaredDynamic[M] | Dynamic[M]:
        if instance is None:
            return self
        return cast(Dynamic[M], instance.handle_of_child(self._id))


def dynamic(
    start: Callable[P, Actor[M]] | None = None,
    *args: object,
    key: str | None = None,
    **options: Unpack[DynamicOptions],
) -> DeclaredDynamic[M]:
    """Call this in a class body to declare a dynamic supervisor with its one template.

    `shelves = dynamic(Stock, key="shelf", restart="transient", passivate_after=300.0)`: `args`
    are the template's own, `key` names the parameter of the class that takes the key.
    """
    # A class among the arguments is a second template, and never meant: one pool, one kind.
    if start is None or any(isinstance(one, type) and issubclass(one, Actor) for one in args):
        raise SpecError("bad_template", "dynamic", 0 if start is None else 2)
    check_start(start)
    made = functools.partial(cast("Maker", start), *args)
    return DeclaredDynamic(made, key, options, is_method=False)


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
        return DeclaredDynamic(cast("Maker", method), self._key, self._options, is_method=True)


def declared_in(cls: type) -> dict[str, Declared]:
    """Call this for what a class body itself declares, in its order."""
    kinds = (DeclaredChild, DeclaredDynamic)
    return {name: one for name, one in vars(cls).items() if isinstance(one, kinds)}


def _declared(
    made: object, start: Maker, options: ChildOptions, *, is_method: bool
) -> DeclaredChild[Never]:
    found = class_of(made)
    if getattr(found, "child_type", "worker") == "supervisor":
        typed = cast("ChildOptions", {"type": "supervisor", **options})
        return DeclaredSupervisor(start, typed, is_method=is_method)
    return DeclaredChild(start, options, is_method=is_method)


def _returned_by(method: object) -> object:
    """The class a method says it makes; unknown names mean a worker."""
    try:
        return typing.get_type_hints(cast("Maker", method)).get("return")
    except NameError:
        return None
