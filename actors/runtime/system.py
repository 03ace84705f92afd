"""One running system: its names, its clock, its dispatcher, and where everything is counted.

`keeper.py` opens one. Actors are made here and started by their owners.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable
from itertools import count
from threading import get_ident
from typing import TYPE_CHECKING, TypeVar, TypeVarTuple

import trio

from actors.runtime import lifecycle
from actors.runtime.actor import Actor, AnyActor
from actors.runtime.administration import Administration
from actors.runtime.burial import abandon
from actors.runtime.by_name import set_current
from actors.runtime.cell import Cell
from actors.runtime.changes import ChangesLog
from actors.runtime.conditions import current_conditions
from actors.runtime.dead_letters import DeadLetters
from actors.runtime.dispatcher import Dispatcher
from actors.runtime.port import SHUTDOWN_S, START_TIMEOUT_S, Nobody, Owner, no_start
from actors.runtime.portal import Portal
from actors.runtime.ref import STOP_TIMEOUT_S, AnyRef, EndOf, Ref
from actors.runtime.reports import Reports
from actors.runtime.stats import SystemStats, system_stats
from actors.runtime.topics import Topics
from actors.runtime.watchdog import BlockListener, Watchdog, new_lag_histogram
from actors.runtime.wheel import Wheel
from actors.runtime.words.counting import Level, Totals
from actors.runtime.words.errors import ActorError, NoProc
from actors.runtime.words.exits import Exit

if TYPE_CHECKING:
    from actors.runtime.keeper import Keeper

M = TypeVar("M")
Ts = TypeVarTuple("Ts")

# A name stands in a table cell and in a path of several.
NAME_LENGTH_MAX = 200
# Control characters, halves of surrogate pairs, and what breaks a line.
_CONTROL = frozenset({"Cc", "Cs", "Zl", "Zp"})


class AlreadyStarted(ActorError):
    """The name is taken; its holder, `ref`, was not touched and nothing was started."""

    def __init__(self, ref: AnyRef) -> None:
        super().__init__(f"{ref.path} is already running under that name; nothing was started.")
        self.ref = ref


class System(Administration):
    """All actors of one `open_actors()` or `open_system()`."""

    def __init__(self, *, check_replies: bool = False) -> None:
        conditions = current_conditions()
        self.id = conditions.new_id()
        self.random = conditions.random
        self.thread_id = get_ident()
        self.check_replies = check_replies or conditions.check_replies
        # Real time, for budgets; the simulation stops it.
        self.clock: Callable[[], float] = conditions.clock
        self.counts = Totals()
        self.next_id: Callable[[], int] = count(1).__next__
        self.next_cell_id: Callable[[], int] = count(1).__next__
        self.wheel = Wheel()
        self.dispatcher = Dispatcher(lifecycle.turn, conditions)
        self.topics = Topics(self.next_id, self.dispatcher.enqueue_all)
        self.dead_letters = DeadLetters(self.text_id, self.topics.publish)
        self.reports = Reports(self.topics.publish)
        self.keeper: Keeper | None = None
        self.nobody = Nobody()
        self.portal = Portal()
        self.loop_lag_us = new_lag_histogram()
        self.block_listeners: list[BlockListener] = []
        self.watchdog: Watchdog | None = None
        self.levels: dict[type[AnyActor], Level] = {}
        self._names: dict[str, Cell] = {}
        self._cells: dict[int, Cell] = {}
        self._paths: dict[str, Cell] = {}
        self.changes_log = ChangesLog(self.cells, self.apply_level, self.wheel.call_after)
        set_current(self)
        conditions.opened(self)

    def __repr__(self) -> str:
        return f"<System {self.id}: {len(self._cells)} actors>"

    def text_id(self, number: int) -> str:
        """Call this to get a message id as text that is unique among systems."""
        return f"{self.id}:{number}"

    # Actors without a supervisor

    async def start(
        self, actor: Callable[[*Ts], Actor[M]], *args: *Ts, name: str | None = None
    ) -> Ref[M]:
        """Call this to start an actor that is never restarted; waits until it is ready.

        Raises StartError (StartTimeout), StartIgnored, AlreadyStarted when the name is taken,
        ValueError when it cannot be one. Whatever is raised, nothing of it is left.
        """
        return await self._keeper().start(actor, args, name)

    def begin(
        self, actor: Callable[[*Ts], Actor[M]], *args: *Ts, name: str | None = None
    ) -> Ref[M]:
        """Call this to start an actor without waiting; messages wait until it is ready."""
        return self._keeper().begin(actor, args, name)

    async def maybe_start(
        self, actor: Callable[[*Ts], Actor[M]], *args: *Ts, name: str | None = None
    ) -> Ref[M] | None:
        """Call this as `start`, to get None when the actor chose not to run (IGNORE)."""
        return await self._keeper().maybe_start(actor, args, name)

    async def stop(self, name: str, timeout: float | None = STOP_TIMEOUT_S) -> None:
        """Call this to stop the actor of that name; NoProc when there is none. See `Ref.stop`."""
        cell = self._names.get(name)
        if cell is None:
            await trio.lowlevel.checkpoint()
            raise NoProc(name)
        await cell.ref.stop(timeout=timeout)

    async def wait_down(self, ref: AnyRef, *, final: bool = False) -> Exit | NoProc:
        """Call this to wait for the end of the incarnation (final: of the actor)."""
        cell = ref._cell
        if cell.gone:
            await trio.lowlevel.checkpoint()
            return NoProc(cell.path)
        wait = EndOf(cell, trio.lowlevel.current_task(), final=final)
        cell.watch(wait)
        await trio.lowlevel.wait_task_rescheduled(wait.abort)
        assert wait.exit is not None
        return wait.exit

    def whereis(self, name: str) -> AnyRef | None:
        """Call this to get the ref registered under `name`, or None."""
        cell = self._names.get(name)
        return None if cell is None else cell.ref

    def at(self, path: str) -> Cell | None:
        """Call this to get the actor at a path, or None."""
        return self._paths.get(path)

    def cells(self) -> Iterable[Cell]:
        """Call this to get every actor that is not gone, oldest first."""
        return list(self._cells.values())

    def cell_named(self, name: str) -> Cell:
        """Call this to get who holds a name; a cell that is gone when nobody does."""
        cell = self._names.get(name)
        if cell is None:
            cell = Cell(self, self.nobody, no_start, name, None)
            abandon(cell)
        return cell

    # For owners

    def new_cell(
        self,
        owner: Owner,
        start: Callable[[], AnyActor],
        *,
        key: str,
        parent_path: str = "",
        name: str | None = None,
        actor_class: type[AnyActor] | None = None,
        shutdown: float = SHUTDOWN_S,
        start_timeout: float = START_TIMEOUT_S,
    ) -> Cell:
        """Call this to make an actor's identity; `begin_incarnation` starts it.

        Its path is `parent_path/key`; `name` registers it system-wide. Raises AlreadyStarted when
        the name is taken and ValueError when key or name cannot be one; nothing is made then.
        """
        checked_name(key)
        if name is not None:
            holder = self._names.get(checked_name(name))
            if holder is not None:
                raise AlreadyStarted(holder.ref)
        path = f"{parent_path}/{key}" if parent_path else key
        cell = Cell(self, owner, start, path, name)
        cell.shutdown, cell.start_timeout = shutdown, start_timeout
        if name is not None:
            self._names[name] = cell
        if actor_class is not None:
            cell.adopt(actor_class)
        self._cells[cell.id] = cell
        self._paths[path] = cell
        self.counts.spawned += 1
        if self.changes_log.is_watched:
            self.changes_log.match(cell)
        return cell

    def forget(self, cell: Cell) -> None:
        """Call this when an actor is gone for good: name, path and subscriptions are free."""
        if self._cells.pop(cell.id, None) is None:
            return
        if cell.name is not None and self._names.get(cell.name) is cell:
            del self._names[cell.name]
        if self._paths.get(cell.path) is cell:
            del self._paths[cell.path]
        self.topics.forget(cell)
        self.counts.stopped += 1
        self.changes_log.gone(cell, trio.current_time())

    def close(self) -> None:
        """Call this as the last step: whoever still waits for an actor is told there is none."""
        self.keeper = None
        for cell in list(self._cells.values()):
            abandon(cell)
        for reply in self.wheel.open_replies():
            reply.fail(reply.cell.no_proc(reply.message))

    def totals(self) -> SystemStats:
        """Call this to read the sums of the system."""
        return system_stats(self)

    def _keeper(self) -> Keeper:
        if self.keeper is None:
            raise RuntimeError(f"{self!r} is closed; nothing was started")
        return self.keeper


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def checked_name(name: str) -> str:
    """Call this to check a name or key; ValueError unless 1-200 characters, no `/`, no control."""
    if not _is_text(name) or not 0 < len(name) <= NAME_LENGTH_MAX:
        raise ValueError(f"the name {name!r} must be a text of 1 to {NAME_LENGTH_MAX} characters")
    if "/" in name or any(unicodedata.category(letter) in _CONTROL for letter in name):
        raise ValueError(f"the name {name!r} must not contain `/` or control characters")
    return name
