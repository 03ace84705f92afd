"""What can be asked of a running system: state, figures, levels, changes.

`System` inherits this; it is apart because nothing here is needed to run actors.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, TypeVar

from actors.runtime import inspection
from actors.runtime.actor import AnyActor
from actors.runtime.changes import Changes, ChangesLog
from actors.runtime.groups import ask_all, tell_all
from actors.runtime.ref import ASK_TIMEOUT_S, AnyRef, Ref
from actors.runtime.stats import ActorStats, ActorStatus, actor_stats, actor_status, set_level
from actors.runtime.words.counting import Level
from actors.runtime.words.messages import Ask

if TYPE_CHECKING:
    from actors.runtime.cell import Cell

M = TypeVar("M")
R = TypeVar("R")


class Administration(ABC):
    """Looking into actors, and holding them still."""

    changes_log: ChangesLog
    levels: dict[type[AnyActor], Level]

    @abstractmethod
    def cells(self) -> Iterable[Cell]:
        """Call this to get every actor that is not gone, oldest first."""

    # Many at once

    async def ask_all(
        self, refs: Iterable[Ref[M]], message: Ask[R], timeout: float | None = ASK_TIMEOUT_S
    ) -> tuple[dict[Ref[M], R], list[Ref[M]]]:
        """Call this to ask several actors the same; gives the replies, and who gave none.

        Raises nothing for an actor that is dead, slow or crashes. Cancelled while waiting, all
        asks are withdrawn.
        """
        return await ask_all(refs, message, timeout)

    def tell_all(self, refs: Iterable[Ref[M]], message: M) -> None:
        """Call this to tell several actors the same message object."""
        tell_all(refs, message)

    # State

    async def get_state(self, ref: AnyRef) -> dict[str, object]:
        """Call this to get a copy of an actor's attributes, taken between two messages.

        Raises NoProc when it is gone or ends first.
        """
        state = await inspection.inspect(ref, inspection.copy_state)
        assert isinstance(state, dict)
        return state

    async def replace_state(
        self, ref: AnyRef, fn: Callable[[dict[str, object]], Mapping[str, object]]
    ) -> None:
        """Call this to store `fn(state)` as the actor's attributes, between two messages.

        Raises CallbackFailed when `fn` raises; the state is as before then.
        """
        await inspection.inspect(
            ref, lambda life: inspection.store_state(life, fn(inspection.copy_state(life)))
        )

    async def suspend(self, ref: AnyRef) -> None:
        """Call this to keep an actor's user messages waiting; returns when it stands still.

        Stop, Down and inspection are served meanwhile. A restart ends it.
        """
        await inspection.inspect(ref, inspection.suspend)

    async def resume(self, ref: AnyRef) -> None:
        """Call this to let a suspended actor go on; harmless when it is not."""
        await inspection.inspect(ref, inspection.resume)

    # Figures

    def stats(self, ref: AnyRef) -> ActorStats:
        """Call this to read an actor's figures."""
        return actor_stats(ref._cell)

    def status(self, ref: AnyRef) -> ActorStatus:
        """Call this to read an actor's figures and its state, redacted, cut, ready for JSON."""
        return actor_status(ref._cell)

    def set_level(self, cls: type[AnyActor], level: Level) -> None:
        """Call this to change what is measured of all actors of a class, while they run."""
        self.levels[cls] = level
        for cell in self.cells():
            if cell.actor_class is cls:
                self.apply_level(cell)

    def apply_level(self, cell: Cell) -> None:
        """Call this when a cell has learned its class, or is watched, or no longer."""
        cls = cell.actor_class
        level: Level = "counters" if cls is None else self.levels.get(cls, cls.level)
        set_level(cell, "full" if cell.watches is not None else level)

    def changes(self, path: str = "") -> Changes:
        """Call this to watch an actor and all below it (`""`: everything).

        `with system.changes(path) as changes: async for change in changes`: first a Snapshot, then
        Deltas. What is watched is measured at level `full`.
        """
        return Changes(self.changes_log, path)
