"""How messages are declared, and what `on_start` may return.

What the runtime itself sends stands beside who sends it: `Down` and `Exited` in
`actor/relations.py`, `IdleTimeout` in `actor/timers.py`. What travels around a message is in
`delivery/envelope.py`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar, dataclass_transform, final

R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")


class Ask(Generic[R_co]):
    """Base of a message that is answered with an `R`: `class Total(Ask[int]): ...`.

    `await ref.ask(Total())` is an int then. One that is told is handled too; its reply is dropped.
    """

    __slots__ = ()


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def message(cls: type[T]) -> type[T]:
    """Call this (as a decorator) to make a message class: a dataclass with slots.

    Type checkers treat it as frozen. At run time it is not: freezing costs 0.2 us a message,
    and a receiver that writes to a message is refused by the checker already.
    """
    return dataclass(slots=True, unsafe_hash=True)(cls)


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
