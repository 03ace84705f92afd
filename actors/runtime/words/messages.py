"""How messages are declared, and what `on_start` may return.

What the runtime itself sends stands beside who sends it: `Down` and `Exited` in
`actor/relations.py`, `IdleTimeout` in `actor/timers.py`. What travels around a message is in
`delivery/envelope.py`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar, dataclass_transform, final, overload

R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")


class Ask(Generic[R_co]):
    """Base of a message that is answered with an `R`: `class Total(Ask[int]): ...`.

    `await ref.ask(Total())` is an int then. One that is told is handled too; its reply is dropped.
    """

    __slots__ = ()


# The classes that may cross to other nodes, by name and version. Nothing is ever imported by a
# name that came from outside: what is not here is unknown.
REMOTE: Final[dict[tuple[str, int], type]] = {}
REMOTE_NAME_LENGTH_MAX: Final = 128
REMOTE_VERSION_MAX: Final = 65_535


@overload
@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def message(cls: type[T], /) -> type[T]: ...
@overload
@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def message(
    *, remote: bool, name: str | None = None, version: int = 1
) -> Callable[[type[T]], type[T]]: ...
def message(
    cls: type[T] | None = None, /, *, remote: bool = False, name: str | None = None,
    version: int = 1,
) -> type[T] | Callable[[type[T]], type[T]]:  # fmt: skip
    """Call this (as a decorator) to make a message class: a dataclass with slots.

    Type checkers treat it as frozen. At run time it is not: freezing costs 0.2 us a message,
    and a receiver that writes to a message is refused by the checker already.

    `@message(remote=True)` lets it cross to other nodes of a cluster, under its own name or
    another, in a version. Raises ValueError when another class has that name and version.
    """

    def make(cls: type[T]) -> type[T]:
        made = dataclass(slots=True, unsafe_hash=True)(cls)
        if remote:
            _register(made, name or made.__name__, version)
        return made

    return make if cls is None else make(cls)


def _register(cls: type, name: str, version: int) -> None:
    if len(name) > REMOTE_NAME_LENGTH_MAX or not 1 <= version <= REMOTE_VERSION_MAX:
        raise ValueError(
            f"{name!r} in version {version} cannot cross: at most {REMOTE_NAME_LENGTH_MAX} "
            f"characters, and a version from 1 to {REMOTE_VERSION_MAX}"
        )
    known = REMOTE.get((name, version))
    # The same class once more is its module run again.
    if known is not None and (known.__module__, known.__qualname__) != (
        cls.__module__, cls.__qualname__
    ):  # fmt: skip
        raise ValueError(
            f"{known.__module__}.{known.__qualname__} crosses as {name!r} in version {version} "
            "already; give the other one a name of its own"
        )
    REMOTE[name, version] = cls


class FromRuntime:
    """Base of what the runtime sends to whoever asked for it.

    Any actor may have a handler for one, without naming it in `Actor[...]`.
    """

    __slots__ = ()


@final
@dataclass(frozen=True, slots=True)
class Started:
    """Returned by `on_start` to hand `info` to whoever started the actor."""

    info: object


class Ignore(enum.Enum):
    """The type of `IGNORE`."""

    IGNORE = "ignore"


# Returned by `on_start`: there is nothing to do here, and that is no failure.
IGNORE: Final = Ignore.IGNORE
