"""Finding dynamic children that have been idle long enough to be stopped.

A sweep looks at the children a few times in `passivate_after`; it reads counters the runtime
keeps anyway, so a child pays nothing for being watched. A child is stopped between
`passivate_after` and a sixteenth more after its last activity.

Rule: idle means no message handled or queued, none in hand, no open reply, timer or child task.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from actors.runtime import Alarm, Cell
from supervision.deciding.dynamic import DynamicMachine
from supervision.deciding.moves import Move
from supervision.deciding.slots import Slot

# Sweeps in one `passivate_after`: more are more exact and cost more.
SWEEPS: Final = 16
# Children looked at in one go, about half a millisecond: the loop is not held up longer.
SLICE: Final = 1_000
# However short `passivate_after` is, there is no point in looking more often.
INTERVAL_MIN: Final = 0.01


class Passivation:
    """The sweeps of one incarnation of a dynamic supervisor.

    It is handed `post`, which takes an event for the machine, and `call_after`, which sets an
    alarm.
    """

    def __init__(
        self,
        post: Callable[[Callable[[float], list[Move]]], None],
        call_after: Callable[[float, Callable[[], None]], Alarm],
        machine: DynamicMachine,
    ) -> None:
        self._post, self._call_after, self._machine = post, call_after, machine
        self._alarm: Alarm | None = None
        # Of the round under way: who is still to be looked at.
        self._left: list[Slot] = []

    def __repr__(self) -> str:
        return f"<Passivation of {self._machine.path}>"

    def ensure(self) -> None:
        """Called when a child has started: sweeps go on while there are children."""
        if self._alarm is None and self._machine.flags.passivate_after is not None:
            self._set(self._interval())

    def close(self) -> None:
        """Called when the supervisor ends."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _interval(self) -> float:
        after = self._machine.flags.passivate_after or 0.0
        return max(after / SWEEPS, INTERVAL_MIN)

    def _set(self, delay: float) -> None:
        self._alarm = self._call_after(delay, self._sweep)

    def _sweep(self) -> None:
        self._alarm = None
        machine, after = self._machine, self._machine.flags.passivate_after
        if after is None:
            return  # a new plan has switched it off
        if not self._left:
            self._left = list(machine.slots)
        now = trio.current_time()
        some, self._left = self._left[-SLICE:], self._left[:-SLICE]
        for slot in some:
            # The list is as old as the round: who has ended since is not running any more.
            if slot.status == "running" and self._is_due(slot, now, after):
                self._stop(slot)
        if self._left or machine.slots:
            # The slices of a round share its interval.
            rounds = max(1, len(machine.slots) // SLICE)
            self._set(self._interval() / rounds)

    def _is_due(self, slot: Slot, now: float, after: float) -> bool:
        cell = slot.cell
        if not isinstance(cell, Cell):
            return False
        handled = cell.counts.handled
        if handled != slot.handled or slot.idle_since is None or is_busy(cell):
            slot.handled, slot.idle_since = handled, now
            return False
        return now - slot.idle_since >= after

    def _stop(self, slot: Slot) -> None:
        # A message may come between this look and the stop, or while it stops. It is not lost:
        # the cell is parked, not retired, and mail that waits starts the next incarnation.
        slot.idle_since = None
        self._post(lambda now: self._machine.passivate(slot, now))


def is_busy(cell: Cell) -> bool:
    """Whether an actor has anything to do, or to wait for."""
    life = cell.life
    if life is None or cell.mailbox.held or life.owed or life.timers or life.idle_timer:
        return True
    if life.child_tasks is not None and life.child_tasks.running:
        return True
    activity = life.activity
    return activity.cell is cell and activity.envelope is not None
