"""What decisions may lean on from outside: time, ids and chance, passed in, never called for.

No file below `actors/` reads the wall clock or makes random ids. The composition root
builds an environment with real ones, a test one with fixed ones.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol, TypeVar, cast
from uuid import UUID, SafeUUID

T = TypeVar("T")


class Clock(Protocol):
    """Tells the time of day."""

    def now(self) -> datetime:
        """Call this to get the present moment, aware, in UTC."""
        ...


class Ids(Protocol):
    """Makes ids for new things."""

    def new_id(self) -> UUID:
        """Call this to get a fresh UUIDv7; later ones sort behind earlier ones."""
        ...


def uuid_of(value: int) -> UUID:
    """Call this for the UUID of a number that is known to be one: a fifth of `UUID(int=value)`."""
    made = object.__new__(UUID)
    # As its own `__init__` ends, behind the checks of what it might have been given instead.
    object.__setattr__(made, "int", value)
    object.__setattr__(made, "is_safe", SafeUUID.unknown)
    return made


class Random(Protocol):
    """Gives numbers that nobody can foresee; `random.Random` is one."""

    def random(self) -> float:
        """Call this to get a number, 0.0 <= x < 1.0."""
        ...


# The last bits of a UUIDv7 are random; a float holds 53 of them exactly.
_BITS = 53


class RandomOfIds:
    """Chance out of the random part of fresh ids: fixed ids give fixed numbers."""

    def __init__(self, ids: Ids) -> None:
        self._ids = ids

    def random(self) -> float:
        """Call this to get a number, 0.0 <= x < 1.0; uses one id up."""
        return (self._ids.new_id().int & ((1 << _BITS) - 1)) / (1 << _BITS)


# Stands for those of the environment's own ids, until they are known.
_OF_IDS: Final = cast("Random", object())


class Guarded(Protocol):
    """Something outside of the process, behind what guards calls of it."""

    async def call(self, make: Callable[[], Awaitable[T]], *, deadline: float | None = None) -> T:
        """Make a call, or raise without; `make` may be called again. `deadline` is absolute."""
        ...


class Outside(Protocol):
    """All that a program calls outside of itself, by name; `supervision.Dependencies` is one."""

    def dependency(self, name: str) -> Guarded:
        """Call this for one of them; raises an error that tells those there are."""
        ...


@dataclass(frozen=True, slots=True)
class Environment:
    """What every actor of the domain is handed; a feature's own environment adds its ports.

    Without a `random` of its own it has one that is made of its ids. Operations that name a
    `dependency` are run through `outside`. TypeError for a source that gives nothing.
    """

    clock: Clock
    ids: Ids
    random: Random = field(kw_only=True, default=_OF_IDS)
    outside: Outside | None = field(kw_only=True, default=None)

    def __post_init__(self) -> None:
        if self.random is _OF_IDS:
            object.__setattr__(self, "random", RandomOfIds(self.ids))
        sources = (("clock", "now"), ("ids", "new_id"), ("random", "random"))
        for name, call in sources:
            given = getattr(self, name)
            if not callable(getattr(given, call, None)):
                raise TypeError(f"Environment.{name} is {given!r}; it has no {call}()")
