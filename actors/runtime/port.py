"""The port between the runtime and whoever owns actors: who is told what of a child's life.

`cell.py` has the operations an owner calls, `keeper.py` is the smallest owner, `supervision` the
real one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

import trio

from actors.runtime.words.exits import Exit, StartOutcome

if TYPE_CHECKING:
    from actors.runtime.actor import AnyActor
    from actors.runtime.cell import Cell

Status: TypeAlias = Literal[
    "starting",
    "running",
    "suspended",
    "restarting",
    "backing_off",
    "stopping",
    "stopped",
    "unkillable",
]

# Long enough to close a few connections, short enough for a deploy; OTP's default too.
SHUTDOWN_S: float = 5.0
START_TIMEOUT_S: float = 10.0
# A killed task that needs longer than this is shielded or blocked; someone has to look at it.
UNKILLABLE_AFTER_S: float = 1.0
# Enough to see a pattern in an actor's endings, little enough to keep for each.
LAST_EXITS_MAX = 8


class Owner(Protocol):
    """Who is told about a child's life. Calls are synchronous and must neither raise nor wait."""

    @property
    def nursery(self) -> trio.Nursery:
        """Where the tasks of incarnations run."""

    def child_started(self, cell: Cell, outcome: StartOutcome) -> None:
        """The start that `begin_incarnation` began is over."""

    def child_exited(self, cell: Cell, exit_: Exit) -> None:
        """The incarnation is wholly over: `on_stop`, sub-tasks and its task."""

    def child_unkillable(self, cell: Cell, stack: str) -> None:
        """A kill has not worked for a second; `child_exited` comes if it ever ends."""

    def child_wanted(self, cell: Cell) -> None:
        """A message came for a cell that was left dormant."""


class Watch(Protocol):
    """Somebody who waits for the end of an incarnation, or (final) of the actor."""

    final: bool

    def ended(self, cell: Cell, exit_: Exit) -> None:
        """Called once; the watch has been taken off the cell before."""


class Nobody:
    """The owner of cells that never had an actor: what `ByName` finds under a free name."""

    @property
    def nursery(self) -> trio.Nursery:
        """Never asked for: nothing is started here."""
        raise AssertionError("nobody has no nursery")

    def child_started(self, cell: Cell, outcome: StartOutcome) -> None:
        """Never called."""

    def child_exited(self, cell: Cell, exit_: Exit) -> None:
        """Never called."""

    def child_unkillable(self, cell: Cell, stack: str) -> None:
        """Never called."""

    def child_wanted(self, cell: Cell) -> None:
        """Never called: the cells are gone from the beginning."""


def no_start() -> AnyActor:
    """The `start` of a cell that is gone: what it was started with must not live on."""
    raise AssertionError("a cell that is gone was started")
