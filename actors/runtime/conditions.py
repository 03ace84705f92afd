"""What a system takes from its surroundings, and a simulation replaces."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random, SystemRandom
from time import perf_counter
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from actors.runtime.cell import Cell
    from actors.runtime.system import System


def _new_id() -> str:
    return secrets.token_hex(4)


def _nothing(_: System) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Conditions:
    """The surroundings of every system opened in one trio run."""

    # The id of a system, part of every correlation id it mints.
    new_id: Callable[[], str] = _new_id
    # Real time, for the budget of a turn; virtual time stands still within one.
    clock: Callable[[], float] = perf_counter
    # Jitter and the like; whoever wants repeatable chance takes it from here.
    random: Random = field(default_factory=SystemRandom)
    # What to do with the run queue before a round; None keeps the order of arrival.
    shuffle: Callable[[deque[Cell]], None] | None = None
    check_replies: bool = False
    opened: Callable[[System], None] = _nothing


_REAL = Conditions()
_current: trio.lowlevel.RunVar[Conditions] = trio.lowlevel.RunVar("actors_conditions", _REAL)


def current_conditions() -> Conditions:
    """Call this to get the surroundings of this trio run."""
    return _current.get()


def set_conditions(conditions: Conditions) -> None:
    """Call this before a system is opened, to replace its surroundings."""
    _current.set(conditions)
