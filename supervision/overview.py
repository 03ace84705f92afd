"""What the tree shows of one supervisor: its badge, its budget, its children.

The supervisor's side of `snapshot.Overseer`.
"""

import trio

from actors.runtime import Cell
from supervision.doing.cells import AnyMachine, Cells
from supervision.specs.plans import Flags
from supervision.tree.tree import Window


class Overview:
    """One incarnation of a supervisor, read only."""

    def __init__(self, machine: AnyMachine, cells: Cells) -> None:
        self._machine, self._cells = machine, cells

    @property
    def badge(self) -> str:
        """The strategy, or `dynamic`."""
        flags = self._machine.flags
        return flags.strategy if isinstance(flags, Flags) else "dynamic"

    def own_window(self) -> Window:
        """The supervisor's own restart budget."""
        flags, now = self._machine.flags, trio.current_time()
        used = self._machine.window.used(now, flags.period)
        return Window(used, flags.intensity, flags.period)

    def child_count(self) -> int:
        """How many children have a cell."""
        return len(self._cells)

    def restart_type(self, cell: Cell) -> str | None:
        """The restart type of a child."""
        slot = self._cells.slot_of(cell)
        return None if slot is None else slot.spec.restart

    def restart_time(self, cell: Cell) -> float | None:
        """How long a child's last restart took."""
        slot = self._cells.slot_of(cell)
        return None if slot is None else slot.restart_s
