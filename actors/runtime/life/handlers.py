"""Which method handles which message class: read from annotations when the class is made.

Pure inspection; `loop.py` calls what is found here. Every mistake is a TypeError at import time
that names class, method and message.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import (
    Final,
    ParamSpec,
    Protocol,
    TypeAlias,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
)

from actors.runtime.delivery.batch import Batch
from actors.runtime.delivery.envelope import Later
from actors.runtime.words.exits import without_cancelled
from actors.runtime.words.messages import Ask, FromRuntime

Handler: TypeAlias = Callable[[object, object], object]
# Makes a handler of single messages out of one that takes them together, of these classes.
Gathering: TypeAlias = Callable[[Handler, tuple[type, ...]], Handler]

_HOOKS: Final = frozenset({"on_start", "on_stop", "on_system"})
_LATE_MARK: Final = "__cancel_late__"

P = ParamSpec("P")
T = TypeVar("T")
D = TypeVar("D")


class _Alias(Protocol):
    """A union or generic with variables in it, as far as one puts something in their place."""

    def __getitem__(self, arguments: tuple[object, ...]) -> object: ...


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
    # Whether the loop hands over one message at a time: an `async def` handler leaves it each time,
    # one that takes a `Batch` changes what comes next.
    one_by_one: bool = False
    # Whether an instance has started without taking a name of the runtime's.
    names_are_free: bool = False

    def is_async(self, kind: type) -> bool:
        """Whether the handler of a class of messages may wait."""
        return _is_in(self.asynchronous, kind)

    def is_cut_late(self, kind: type) -> bool:
        """Whether the handler of a class of messages is cancelled at its deadline."""
        return _is_in(self.cancel_late, kind)

    def fits(self, kind: type, reply: object) -> bool:
        """Whether a reply is of the R of `Ask[R]`, as far as `isinstance` can tell."""
        promised = entry_for(self.replies, kind, object)
        if promised is None:
            promised = type(None)
        parts = (
            get_args(promised) if get_origin(promised) in (Union, types.UnionType) else (promised,)
        )
        plain = [get_origin(part) or part for part in parts]
        if not all(isinstance(part, type) for part in plain):
            return True
        try:
            return isinstance(reply, tuple(part for part in plain if isinstance(part, type)))
        except BaseException as error:  # noqa: BLE001 - a Protocol, or a user's class, refuses
            without_cancelled(error)
            return True


def entry_for(table: Mapping[type, T], kind: type, default: D) -> T | D:
    """Look a class of messages up; one whose metaclass cannot be hashed has no entry."""
    try:
        return table.get(kind, default)
    except BaseException as error:  # noqa: BLE001 - a metaclass's `__hash__`, or `__eq__`
        without_cancelled(error)
        return default


def _is_in(kinds: set[type], kind: type) -> bool:
    try:
        return kind in kinds
    except BaseException as error:  # noqa: BLE001 - a metaclass's `__hash__`, or `__eq__`
        without_cancelled(error)
        return False


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


def compile_table(
    cls: type,
    root: type,
    protocol: tuple[object, ...] | None,
    receive: object,
    gathering: Gathering,
) -> Table:
    """Called when an actor class is made, with what `protocol_of` found.

    Raises TypeError when a member has no handler or two, when a handler is for a foreign message,
    when its return annotation is not the R of `Ask[R]`, or when an annotation is unresolvable.
    `gathering` is asked for the handler of a `Batch`.
    """
    table = Table(has_receive=receive is not None)
    # A hook that may wait needs a task as well. Only where it is overridden: the root's own
    # `wind_down` is async, and says nothing about the class.
    table.is_task = any(
        inspect.iscoroutinefunction(getattr(cls, name, None))
        for name in ("on_start", "on_stop", "receive", "wind_down")
        if getattr(cls, name) is not getattr(root, name)
    )
    members = None
    if protocol is not None:
        members = frozenset(kind for named in protocol for kind in _members(named))
    local = _local_names(members or ())
    for kind in members or ():
        table.replies[kind] = reply_type(kind)
    if receive is not None:
        table.receive_is_async = inspect.iscoroutinefunction(receive)
        return table
    owners: dict[type, str] = {}
    for name, function in _handler_methods(cls, root):
        where = f"{cls.__qualname__}.{name}"
        hints = _hints(where, function, local)
        kinds, takes_batch = _handled_by(where, function, hints)
        call = gathering(function, tuple(kinds)) if takes_batch else function
        for kind in kinds:
            if kind in owners:
                raise TypeError(
                    f"{where} and {owners[kind]} both handle {kind.__name__}; keep one of them"
                )
            if members is not None and kind not in members and not issubclass(kind, FromRuntime):
                raise TypeError(
                    f"{where} handles {kind.__name__}, which Actor[...] does not name; "
                    "add it there or remove the method"
                )
            _check_return(where, hints, kind)
            owners[kind] = name
            table.handlers[kind] = call
            table.replies[kind] = reply_type(kind)
            table.one_by_one |= takes_batch
            if inspect.iscoroutinefunction(function):
                table.one_by_one = True
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


def protocol_of(cls: type, root: type) -> tuple[object, ...] | None:
    """What a class names in `Actor[...]`, all bases taken together; None when it is open.

    `class Both(Notes, Actor[Note | Ping])` names what `Notes` does and Ping. Open is a class whose
    bases leave a type variable over: whoever derives from it says what that stands for.
    """
    found = list(_arguments_for(cls, root, {}))
    if all(_is_open(argument) for argument in found):
        return None
    return tuple(named for argument in found for named in _without_variables(argument))


def reply_type(kind: type) -> object:
    """The R of a message class deriving from `Ask[R]`; None for a tell."""
    if not issubclass(kind, Ask):
        return None
    found = next(_arguments_for(kind, Ask, {}), None)
    return object if isinstance(found, TypeVar) or found is None else found


def _arguments_for(cls: type, root: type, known: Mapping[object, object]) -> Iterator[object]:
    """What `cls` gives to `root` as its argument, found upwards through all bases.

    A base in between may pass on a type variable of its own (`class Base(Actor[T | Note])`, then
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
        arguments = [_resolved(argument, known) for argument in get_args(base)]
        if origin is root:
            yield from arguments[:1]
        else:
            parameters = getattr(origin, "__parameters__", ())
            yield from _arguments_for(origin, root, dict(zip(parameters, arguments, strict=False)))


def _resolved(argument: object, known: Mapping[object, object]) -> object:
    """An argument with its type variables replaced by what they stand for."""
    if isinstance(argument, TypeVar):
        return known.get(argument, argument)
    variables = getattr(argument, "__parameters__", ())
    # A class that is itself generic lists its own variables; nobody gave it arguments here.
    if not variables or isinstance(argument, type):
        return argument
    alias = cast(_Alias, argument)
    return alias[tuple(known.get(variable, variable) for variable in variables)]


def _without_variables(argument: object) -> Iterator[object]:
    # `Actor[Note | T]` beside a base that says all: the T left over names nothing more.
    if get_origin(argument) in (Union, types.UnionType):
        for part in get_args(argument):
            yield from _without_variables(part)
    elif not isinstance(argument, TypeVar):
        yield argument


def _is_open(argument: object) -> bool:
    if isinstance(argument, TypeVar):
        return True
    return bool(getattr(argument, "__parameters__", ())) and not isinstance(argument, type)


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


def _handled_by(
    where: str, function: Handler, hints: Mapping[str, object]
) -> tuple[list[type], bool]:
    """Which classes of messages a handler takes, and whether it takes them together."""
    parameters = list(inspect.signature(function).parameters.values())
    if len(parameters) != 2 or parameters[1].kind not in (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
    ):
        raise TypeError(f"{where} must take exactly one parameter, the message")
    annotation = hints.get(parameters[1].name)
    if annotation is None:
        raise TypeError(f"{where} must annotate its parameter with a message class")
    takes_batch = get_origin(annotation) is Batch
    named = get_args(annotation)[0] if takes_batch else annotation
    try:
        kinds = list(_members(named))
    except TypeError as error:
        raise TypeError(f"{where}: {error}") from error
    if Batch in kinds:
        raise TypeError(f"{where} takes messages or a Batch of some, `Batch[A | B]`, not both")
    if takes_batch:
        _check_of_batch(where, function, hints)
    return kinds, takes_batch


def _check_of_batch(where: str, function: Handler, hints: Mapping[str, object]) -> None:
    if hints.get("return") not in (None, type(None)):
        raise TypeError(
            f"{where} returns nothing: each message of a Batch has a `reply` of its own"
        )
    if getattr(function, _LATE_MARK, False):
        raise TypeError(
            f"{where} takes a Batch, whose messages have a deadline each: no cancel_late"
        )


def _check_return(where: str, hints: Mapping[str, object], kind: type) -> None:
    if "return" not in hints or Batch in map(get_origin, hints.values()):
        return  # Of a batch that is looked at in `_check_of_batch`.
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


def _hints(where: str, function: Handler, local: Mapping[str, object]) -> dict[str, object]:
    try:
        return typing.get_type_hints(function, localns=dict(local))
    except (NameError, TypeError, AttributeError, SyntaxError) as error:
        raise TypeError(
            f"{where} has an annotation that cannot be resolved ({error}); message classes must "
            "be found at the top of a module, or be named in Actor[...]"
        ) from error


def _local_names(members: Iterable[type]) -> dict[str, object]:
    """Classes made within a function, by name: an annotation that is a text cannot see them.

    They are at hand only through `Actor[A | B]` and the replies of its members. A name that two of
    them have is left out.
    """
    found: dict[str, object] = {}
    twice: set[str] = set()
    replies = {one for kind in members for one in _classes_in(reply_type(kind))}
    for kind in {*members, *replies}:
        if "<locals>" not in kind.__qualname__:
            continue
        if kind.__name__ in found:
            twice.add(kind.__name__)
        found[kind.__name__] = kind
    return {name: kind for name, kind in found.items() if name not in twice}


def _classes_in(annotation: object) -> Iterator[type]:
    if isinstance(annotation, type):
        yield annotation
    for part in get_args(annotation):
        yield from _classes_in(part)
