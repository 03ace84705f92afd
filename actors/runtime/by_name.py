"""A ref that finds its actor by name at each call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

import trio

from actors.runtime.cell import Cell
from actors.runtime.ref import Ref

if TYPE_CHECKING:
    from actors.runtime.system import System

M_contra = TypeVar("M_contra", contravariant=True)

_current: trio.lowlevel.RunVar[System] = trio.lowlevel.RunVar("actors_system")


class ByName(Ref[M_contra], Generic[M_contra]):
    """A ref to whoever holds `name` at the time of the call; nobody there is as a dead actor.

    Without `system` it means the one opened last in this trio run.
    """

    __slots__ = ("_name", "_system")

    def __init__(self, name: str, system: System | None = None) -> None:
        self._name, self._system = name, system

    @property
    def _cell(self) -> Cell:  # type: ignore[override]  # found at each call, never stored
        system = _current.get() if self._system is None else self._system
        return system.cell_named(self._name)

    def __repr__(self) -> str:
        return f"ByName({self._name!r})"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, ByName):
            return (self._name, self._system) == (other._name, other._system)
        return NotImplemented

    def __hash__(self) -> int:
        return hash((self._name, self._system))


def set_current(system: System) -> None:
    """Call this when a system is opened."""
    _current.set(system)
