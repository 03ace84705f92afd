"""Reading the tree: the whole of it now, every change from now on.

`tree_of(system).snapshot()` is the tree as data (`tree.py`); `watch(sink)` gives every change
from then on, numbered without gaps. What happened earlier is kept by `history.py`.

Rule 1: with nobody watching nothing is built: the hands look at one flag and go on.
Rule 2: a change carries the node as it is after it, so applying changes in order is all it takes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, Protocol
from weakref import WeakKeyDictionary

import trio

from actors.runtime import Cell, Exit, System
from supervision.tree.tree import ChangeKind, Decision, Node, TreeChange, TreeSnapshot, Window


class ChangeSink(Protocol):
    """Somebody who follows the tree; `changed` returns at once and does not raise."""

    def changed(self, change: TreeChange) -> None:
        """Take one change."""


class Overseer(Protocol):
    """What a supervisor tells about its children and itself."""

    @property
    def badge(self) -> str:
        """The strategy, or `dynamic`."""

    def own_window(self) -> Window:
        """The supervisor's own restart budget."""

    def child_count(self) -> int:
        """How many children have a cell."""

    def restart_type(self, cell: Cell) -> str | None:
        """The restart type of a child."""

    def restart_time(self, cell: Cell) -> float | None:
        """How long a child's last restart took."""


class Tree:
    """The tree of one system. Get it with `tree_of(system)`."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._sinks: dict[ChangeSink, None] = {}
        self._overseers: dict[int, Overseer] = {}
        # The same objects by identity, as the cells of their children name them.
        self._owners: dict[int, Overseer] = {}
        self.seq = 0
        self.is_watched = False

    def __repr__(self) -> str:
        return f"<Tree of {self._system.id}: seq {self.seq}, {len(self._sinks)} watching>"

    def snapshot(self, under: str | None = None) -> TreeSnapshot:
        """Call this for the whole tree, or the part at and below the path `under`."""
        # A key without child is a ref that waits for mail, not an actor of the tree.
        cells = [cell for cell in self._system.cells() if not cell.dormant]
        if under is not None:
            below = under + "/"
            cells = [cell for cell in cells if cell.path == under or cell.path.startswith(below)]
        nodes = tuple(self.node(cell) for cell in cells)
        return TreeSnapshot(self._system.id, self.seq, trio.current_time(), nodes)

    @contextmanager
    def watch(self, sink: ChangeSink) -> Iterator[TreeSnapshot]:
        """Call this to follow the tree: gives a snapshot; `sink` gets every change after it."""
        self._sinks[sink] = None
        self.is_watched = True
        try:
            yield self.snapshot()
        finally:
            self._sinks.pop(sink, None)
            self.is_watched = bool(self._sinks)

    def node(self, cell: Cell) -> Node:
        """Call this for one actor as data."""
        parent, _, name = cell.path.rpartition("/")
        above = self._owners.get(id(cell.owner))
        own = self._overseers.get(cell.id)
        cls = cell.actor_class
        is_supervisor = own is not None or getattr(cls, "child_type", "") == "supervisor"
        window = own.own_window() if own is not None else None
        if window is None and cell.restart_window is not None:
            window = Window(*cell.restart_window)
        kind: Literal["task", "dispatched"] = "dispatched"
        if cls is not None and cls.__table__.is_task:
            kind = "task"
        return Node(
            id=cell.id,
            path=cell.path,
            name=name,
            parent=parent or None,
            type="supervisor" if is_supervisor else "worker",
            kind=kind,
            class_name="" if cls is None else cls.__name__,
            status=cell.status,
            status_since=cell.status_since,
            incarnation=cell.incarnation,
            restarts=cell.counts.restarts,
            crashes=cell.counts.crashes,
            queued=cell.mailbox.queued,
            capacity=cell.mailbox.capacity,
            strategy=None if own is None else own.badge,
            restart=None if above is None else above.restart_type(cell),
            window=window,
            next_restart_at=cell.next_restart_at,
            restart_s=None if above is None else above.restart_time(cell),
            last_exits=tuple(exit_.to_json() for exit_ in cell.last_exits),
            children=0 if own is None else own.child_count(),
        )

    # -- called by supervisors ---------------------------------------------------------------

    def joined(self, cell: Cell, owner: object, overseer: Overseer) -> None:
        """Called when a supervisor begins an incarnation; `owner` is that of its children."""
        self._overseers[cell.id] = overseer
        self._owners[id(owner)] = overseer

    def left(self, cell: Cell, owner: object) -> None:
        """Called when that incarnation has no children any more."""
        overseer = self._owners.pop(id(owner), None)
        if self._overseers.get(cell.id) is overseer:
            del self._overseers[cell.id]

    def note(
        self,
        cell: Cell,
        kind: ChangeKind,
        exit_: Exit | None = None,
        because: str | None = None,
        decision: Decision | None = None,
    ) -> None:
        """Called for each step of a child's life, only while `is_watched`."""
        self.seq += 1
        change = TreeChange(
            seq=self.seq,
            at=trio.current_time(),
            path=cell.path,
            kind=kind,
            node=None if kind == "gone" else self.node(cell),
            exit=None if exit_ is None else exit_.to_json(),
            because=because if because is not None else (exit_ and exit_.because),
            decision=decision,
        )
        for sink in list(self._sinks):
            sink.changed(change)


_trees: WeakKeyDictionary[System, Tree] = WeakKeyDictionary()


def tree_of(system: System) -> Tree:
    """Call this for the tree of a system; there is one each."""
    tree = _trees.get(system)
    if tree is None:
        tree = _trees[system] = Tree(system)
    return tree
