"""Which method handles which message class: read from annotations when the class is made.

Pure inspection; `loop.py` calls what is found here. Every mistake is a TypeError at import time
that names class, method and message.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, ParamSpec, TypeAlias, TypeVar, Union, get_args, get_origin

from actors.runtime.delivery.envelope import Later
from actors.runtime.words.messages import Ask, FromRuntime

Handler: TypeAlias = Callable[[object, object], object]

_HOOKS: Final = frozenset({"on_start", "on_stop", "on_system"})
_LATE_MARK: Final = "__cancel_late__"

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(slots=True)
class Table:
    """What a class answers to. `handlers` grows at run time where `receive` takes everything."""

    handlers: dict[type, Handler] = field(default_factory=dict)
    replies: dict[type, object] = field(default_factory=dict)
    asynchronous: set[type] = field(default_factory=set)
    cancel_late: set[type] = field(default_factory=set)
    has_receive: bool = False
    receive_is_async: bool = False
    is_task: bool = False

    def fits(self, kind: type, reply: object) -> bool:
        """Whether a reply is of the R of `Ask[R]`, as far as `isinstance` can tell."""
        promised = self.replies.get(kind, object)
        if promised is None:
            promised = type(None)
        parts = (
            get_args(promised) if get_origin(promised) in (Union, types.UnionType) else (promised,)
        )
        plain = [get_origin(part) or part for part in parts]
        if not all(isinstance(part, type) for part in plain):
            return True
        return isinstance(reply, tuple(part for part in plain if isinstance(part, type)))


def handler(*, cancel_late: bool) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Call this (as a decorator) on an `async def` handler to cancel it when its deadline passes.

    The asker has had its AskTimeout by then; the actor lives on and the cancellation is counted.
    """

    def mark(function: Callable[P, T]) -> Callable[P, T]:
        if cancel_late and not inspect.iscoroutinefunction(function):
            raise TypeError(
                f"{function.__qualname__} is not `async def`: nothing can interrupt it, "
                "so cancel_late=True has no meaning"
            )
        setattr(function, _LATE_MARK, cancel_late)
        return function

    return mark


def compile_table(cls: type, root: type, protocol: object, receive: object) -> Table:
    """Called when an actor class is made, with `protocol` the M of its `Actor[M]` (or None).

    Raises TypeError when a member has no handler or two, when a handler is for a foreign message,
    when its return annotation is not the R of `Ask[R]`, or when an annotation is unresolvable.
    """
    table = Table(has_receive=receive is not None)
    # A hook that may wait needs a task as well. Only where it is overridden: the root's own
    # `wind_down` is async, and says nothing about the class.
    table.is_task = any(
        inspect.iscoroutinefunction(getattr(cls, name, None))
        for name in ("on_start", "on_stop", "receive", "wind_down")
        if getattr(cls, name) is not getattr(root, name)
    )
    members = None if protocol is None else frozenset(_members(protocol))
    for kind in members or ():
        table.replies[kind] = reply_type(kind)
    if receive is not None:
        table.receive_is_async = inspect.iscoroutinefunction(receive)
        return table
    owners: dict[type, str] = {}
    for name, function in _handler_methods(cls, root):
        for kind in _handled_by(cls, name, function):
            where = f"{cls.__qualname__}.{name}"
            if kind in owners:
                raise TypeError(
                    f"{where} and {owners[kind]} both handle {kind.__name__}; keep one of them"
                )
            if members is not None and kind not in members and not issubclass(kind, FromRuntime):
                raise TypeError(
                    f"{where} handles {kind.__name__}, which Actor[...] does not name; "
                    "add it there or remove the method"
                )
            _check_return(where, function, kind)
            owners[kind] = name
            table.handlers[kind] = function
            table.replies[kind] = reply_type(kind)
            if inspect.iscoroutinefunction(function):
                table.is_task = True
                table.asynchronous.add(kind)
                if getattr(function, _LATE_MARK, False):
                    table.cancel_late.add(kind)
    _check_complete(cls, members, owners)
    return table


def _check_complete(cls: type, members: frozenset[type] | None, owners: dict[type, str]) -> None:
    missing = sorted(kind.__name__ for kind in (members or frozenset()) - owners.keys())
    if missing:
        raise TypeError(
            f"{cls.__qualname__} names {', '.join(missing)} in Actor[...] but has no method "
            f"on_...(self, message: {missing[0]})"
        )


def protocol_of(cls: type, root: type) -> object:
    """The M of `Actor[M]` for a class; None when it is open (a TypeVar)."""
    return _argument_for(cls, root, {})


def reply_type(kind: type) -> object:
    """The R of a message class deriving from `Ask[R]`; None for a tell."""
    if not issubclass(kind, Ask):
        return None
    found = _argument_for(kind, Ask, {})
    return object if found is None else found


def _argument_for(cls: type, root: type, known: dict[object, object]) -> object:
    """What `cls` gives to `root` as its argument, found upwards through the bases.

    A base in between may pass on a type variable of its own (`class Base(Actor[T])`, then
    `Base[Add]`): `known` holds what those stand for on this way.
    """
    for base in (
        # Both see `Base[Add]`, where `__bases__` has only `Base`; the first came with 3.12.
        types.get_original_bases(cls)
        if hasattr(types, "get_original_bases")
        else cls.__dict__.get("__orig_bases__", cls.__bases__)
    ):
        origin = get_origin(base) or base
        if not (isinstance(origin, type) and issubclass(origin, root)):
            continue
        arguments = [known.get(argument, argument) for argument in get_args(base)]
        if origin is root:
            found = arguments[0] if arguments else None
        else:
            parameters = getattr(origin, "__parameters__", ())
            found = _argument_for(origin, root, dict(zip(parameters, arguments, strict=False)))
        if found is not None:
            return None if isinstance(found, TypeVar) else found
    return None


def _members(protocol: object) -> Iterator[type]:
    if protocol in (typing.Never, typing.NoReturn):
        return
    if get_origin(protocol) in (Union, types.UnionType):
        for part in get_args(protocol):
            yield from _members(part)
    elif isinstance(value := getattr(protocol, "__value__", None), object) and value is not None:
        yield from _members(value)  # `type X = A | B` of Python 3.12
    else:
        origin = get_origin(protocol) or protocol
        if isinstance(origin, type):
            yield origin
        else:
            raise TypeError(f"{protocol!r} is not a message class, nor a union of them")


def _handler_methods(cls: type, root: type) -> Iterator[tuple[str, Handler]]:
    for name in dir(cls):
        if name.startswith("on_") and name not in _HOOKS and not hasattr(root, name):
            # Statically: a descriptor must not run while the class is being made.
            function = inspect.getattr_static(cls, name)
            if not inspect.isfunction(function):
                raise TypeError(f"{cls.__qualname__}.{name} must be a plain method")
            yield name, function


def _handled_by(cls: type, name: str, function: Handler) -> list[type]:
    where = f"{cls.__qualname__}.{name}"
    parameters = list(inspect.signature(function).parameters.values())
    if len(parameters) != 2 or parameters[1].kind not in (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
    ):
        raise TypeError(f"{where} must take exactly one parameter, the message")
    annotation = _hints(where, function).get(parameters[1].name)
    if annotation is None:
        raise TypeError(f"{where} must annotate its parameter with a message class")
    try:
        return list(_members(annotation))
    except TypeError as error:
        raise TypeError(f"{where}: {error}") from error


def _check_return(where: str, function: Handler, kind: type) -> None:
    hints = _hints(where, function)
    if "return" not in hints:
        return
    given, promised = hints["return"], reply_type(kind)
    promised = type(None) if promised is None else promised
    if given == promised or promised is object:
        return
    if issubclass(kind, Ask) and _is_later(given, promised):
        return
    raise TypeError(
        f"{where} returns {_named(given)}, but {kind.__name__} is answered with {_named(promised)}"
    )


def _is_later(given: object, promised: object) -> bool:
    parts = get_args(given) if get_origin(given) in (Union, types.UnionType) else (given,)
    laters = [part for part in parts if get_origin(part) is Later and get_args(part)[0] == promised]
    rest = [part for part in parts if part not in laters]
    if not laters:
        return False
    # What may be returned besides a Later must be the reply itself: `Later[int] | int`.
    return not rest or Union[tuple(rest)] == promised  # noqa: UP007 - built from a list


def _named(annotation: object) -> str:
    return getattr(annotation, "__name__", None) or str(annotation)


def _hints(where: str, function: Handler) -> dict[str, object]:
    try:
        return typing.get_type_hints(function)
    except (NameError, TypeError, AttributeError, SyntaxError) as error:
        raise TypeError(
            f"{where} has an annotation that cannot be resolved ({error}); message classes must "
            "be importable at run time, at the top of a module"
        ) from error
