"""What makes an end come in time: the kill after a stop, and the look after a kill."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import trio

from actors.runtime.port import UNKILLABLE_AFTER_S
from actors.runtime.words.exits import Killed

if TYPE_CHECKING:
    from actors.runtime.cell import Cell
    from actors.runtime.wheel import Alarm


class Force:
    """The two alarms of an incarnation that has been asked to end."""

    __slots__ = ("_cell", "_kill", "_look")

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._kill: Alarm | None = None
        self._look: Alarm | None = None

    def kill_within(self, seconds: float) -> None:
        """Call this to have it killed; an earlier kill that is due already stays."""
        due = trio.current_time() + seconds
        if due == math.inf or (self._kill is not None and self._kill.due <= due):
            return
        if self._kill is not None:
            self._kill.cancel()
        self._kill = self._cell.system.wheel.call_at(due, self._stop_is_late)

    def look_soon(self) -> None:
        """Call this after a kill, to notice one that does not work."""
        if self._look is None:
            wheel = self._cell.system.wheel
            self._look = wheel.call_after(UNKILLABLE_AFTER_S, self._is_unkillable)

    def cancel(self) -> None:
        """Call this when it has ended."""
        for alarm in (self._kill, self._look):
            if alarm is not None:
                alarm.cancel()

    def _stop_is_late(self) -> None:
        self._cell.kill(Killed(because="the shutdown deadline passed"))

    def _is_unkillable(self) -> None:
        cell = self._cell
        if cell.life is not None:
            cell.set_status("unkillable", "a kill has not worked for a second")
            cell.owner.child_unkillable(cell, cell.life.stack())
