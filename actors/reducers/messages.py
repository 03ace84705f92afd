"""What an actor of the domain is told, and its no: commands, events, refusals.

A command asks for a change, an event is a fact that is recorded. `@command` makes the class of
one; `@event` (`actors.persistence`) names the class of the other and tells it to `mark_event`.

Rule 1: a class is one or the other, and what it holds never changes; both are seen when its module
is imported.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import FrameType
from typing import Final, TypeVar, dataclass_transform, get_args, get_origin, get_type_hints
from weakref import WeakKeyDictionary, WeakSet

T = TypeVar("T")

_MUTABLE: Final = (list, dict, set, bytearray)

# Classes that are marked, and the stored names of those that are events.
_COMMANDS: Final[WeakSet[type]] = WeakSet()
_EVENTS: Final[WeakKeyDictionary[type, str]] = WeakKeyDictionary()

# Where an error is looked for is not in here, nor in what makes classes for us.
_INNER: Final = (
    "actors.reducers",
    "actors.persistence.aggregate",
    "actors.persistence.event_types",
    "actors.persistence.folding",
    "actors.persistence.projections.projection",
    "actors.persistence.reducing",
    "actors.sagas.words",
    "actors.testing",
    "dataclasses",
    "typing",
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A command's no, for a reason of the domain: nothing is written, nothing restarts.

    ValueError for a code or a message that is empty: somebody is to read it.
    """

    code: str
    message: str
    detail: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        texts: tuple[tuple[str, object], ...] = (("code", self.code), ("message", self.message))
        for name, value in texts:
            if not isinstance(value, str) or not value.strip():
                raise ValueError(f"Refusal.{name} is {value!r}; it must be a text ({here()})")
        if not isinstance(self.detail, Mapping):
            raise ValueError(f"Refusal.detail is {self.detail!r}; it is a Mapping ({here()})")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def command(cls: type[T]) -> type[T]:
    """Call this (as a decorator) to make the class of a command: a frozen dataclass.

    ```python
    @command
    class Deposit:
        account: str
        cents: int
    ```

    TypeError, with both places, for a field that is a list, dict or set, and for a class that is
    an event. Where the hints of a field cannot be resolved yet, they are not looked at.
    """
    if not isinstance(cls, type):
        raise TypeError(f"@command makes a class of commands, not {cls!r} ({here()})")
    # What is made is another class, for its slots; the mark belongs to that one.
    if cls in _EVENTS:
        raise TypeError(
            f"{place_of(cls)} is an event already, {_EVENTS[cls]}; it is no command ({here()})"
        )
    check_immutable(cls)
    made: type[T] = dataclass(frozen=True, slots=True)(cls)
    _COMMANDS.add(made)
    return made


def mark_event(cls: type, name: str) -> None:
    """Called by `@event` with the stored name; TypeError when the class is a command."""
    if cls in _COMMANDS:
        raise TypeError(
            f"{place_of(cls)} is a command already; it cannot be the event {name} ({here()})"
        )
    _EVENTS[cls] = name


def is_command(message: object) -> bool:
    """Call this to ask whether a message, or a class, was made by `@command`."""
    return _class_of(message) in _COMMANDS


def is_event(message: object) -> bool:
    """Call this to ask whether a message, or a class, is marked as an event."""
    return _class_of(message) in _EVENTS


def event_type(message: object) -> str:
    """Call this for the stored name of an event or its class, `OrderPlaced.v1`; else TypeError."""
    cls = _class_of(message)
    if cls not in _EVENTS:
        raise TypeError(f"{place_of(cls)} is no event; mark its class with @event()")
    return _EVENTS[cls]


def check_immutable(cls: type) -> None:
    """Called when a message class is made; TypeError for a field that can be changed."""
    try:
        hints = get_type_hints(cls)
    except (NameError, AttributeError):
        return  # A name that comes further down in the module; a checker knows it.
    for name, hint in hints.items():
        if is_mutable(hint):
            raise TypeError(
                f"{place_of(cls)}.{name} is mutable; a message never changes: take a tuple, a "
                f"Mapping or a frozenset ({here()})"
            )


def is_mutable(hint: object) -> bool:
    """Whether a field of this type, or what it may hold, is a list, dict or set."""
    return (get_origin(hint) or hint) in _MUTABLE or any(map(is_mutable, get_args(hint)))


def place_of(cls: type) -> str:
    """The name of a class with its module, for an error."""
    return f"{cls.__module__}.{cls.__qualname__}"


def here() -> str:
    """File and line of whoever calls into this package, for an error; "?" when nobody does."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if not str(frame.f_globals.get("__name__", "")).startswith(_INNER):
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return "?"


def _class_of(message: object) -> type:
    return message if isinstance(message, type) else type(message)
