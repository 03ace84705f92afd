"""What can be put into a mailbox: how messages are declared, and those the runtime sends.

The errors an ask can end with are in `errors.py`, what travels around a message in `envelope.py`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Generic, TypeVar, dataclass_transform

if TYPE_CHECKING:
    from actors.runtime.errors import NoProc
    from actors.runtime.exits import Exit
    from actors.runtime.ref import AnyRef

R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")


class Ask(Generic[R_co]):
    """Base of a message that is answered with an `R`: `class Total(Ask[int]): ...`."""

    __slots__ = ()


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def message(cls: type[T]) -> type[T]:
    """Call this (as a decorator) to make a message class: a dataclass with slots.

    Type checkers treat it as frozen. At run time it is not: freezing costs 0.2 us a message,
    and a receiver that writes to a message is refused by the checker already.
    """
    return dataclass(slots=True, unsafe_hash=True)(cls)


@message
class Down:
    """An actor you monitor ended; `exit` is `NoProc` when it was gone before you looked."""

    ref: AnyRef
    incarnation: int
    exit: Exit | NoProc


@message
class Exited:
    """A linked actor ended, told to an actor with `trap_exits = True`."""

    ref: AnyRef
    incarnation: int
    exit: Exit | NoProc


@message
class IdleTimeout:
    """No user message came for the time asked for with `idle_after`."""


# Sent by the runtime to whoever asked for them, so they need not stand in `Actor[...]`.
RUNTIME_MESSAGES: Final[frozenset[type]] = frozenset({Down, Exited, IdleTimeout})


@dataclass(frozen=True, slots=True)
class Started:
    """Returned by `on_start` to hand `info` to whoever started the actor."""

    info: object


class Ignore(enum.Enum):
    """The type of `IGNORE`."""

    IGNORE = "ignore"


# Returned by `on_start`: there is nothing to do here, and that is no failure.
IGNORE: Final = Ignore.IGNORE
