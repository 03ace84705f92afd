"""The tree as data: the whole of it now, and every change from now on.

First the nouns, frozen data ready to be turned into JSON: one node an actor, one change a step of
its life. Then `Tree`: `tree_of(system).snapshot()` is the tree as it stands, `watch(sink)` gives
every change from then on, numbered without gaps. What happened earlier is kept by `history.py`.

Rule 1: with nobody watching nothing is built: supervisors look at one flag and go on.
Rule 2: a change carries the node as it is after it, so applying changes in order is all it takes.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import trio

from actors.runtime import Cell, Exit, ExitSummary, Log, System
from actors.runtime.telling.log import failure_of
from actors.runtime.words.showing import shown

_log = Log("supervision.tree")

# What has become of an actor.
ChangeKind: TypeAlias = Literal[
    "starting",
    "started",
    "stopping",
    "exited",
    "decided",
    "restarting",
    "backing_off",
    "gone",
]
# Restart the child, with those after it, with all; leave it stopped; give up.
DecisionWord: TypeAlias = Literal["restart", "restart_rest", "restart_all", "stop", "give_up"]


@dataclass(frozen=True, slots=True)
class Window:
    """How much of a restart budget is used: `used` of `max` restarts in `period` seconds."""

    used: int
    max: int
    period: float


@runtime_checkable
class TellsOfItself(Protocol):
    """An actor with more to show than its life: what it is at, and for whom.

    It is asked without a message, between two of its turns, whenever somebody looks at the tree: it
    answers at once, from what it has, with plain data that anybody may see. `below` among it names
    another child of its supervisor, below which people see it (`Node.shown_below`).
    """

    def tell_of_itself(self) -> Mapping[str, object]:
        """Say what you are at; what is raised is shown as not told."""


@dataclass(frozen=True, slots=True)
class Node:
    """One actor of the tree.

    `strategy` is the badge of a supervisor (`one_for_one`, ..., `dynamic`), None for a worker;
    `restart` is its restart type under its parent, None for the root. `restart_s` is the time
    the last restart took, from the exit to running. `last_exits` are the 8 newest with causes.
    `about` is what an actor that is a `TellsOfItself` tells, None of all others.
    """

    id: int
    path: str
    name: str
    parent: str | None
    type: Literal["worker", "supervisor"]
    kind: Literal["task", "dispatched"]
    class_name: str
    status: str
    status_since: float
    incarnation: int
    restarts: int
    crashes: int
    queued: int
    capacity: int
    strategy: str | None
    restart: str | None
    window: Window | None
    next_restart_at: float | None
    restart_s: float | None
    last_exits: tuple[ExitSummary, ...]
    children: int
    about: Mapping[str, object] | None = None

    @property
    def shown_below(self) -> str | None:
        """The path below which people see it: its supervisor's, or that of whom it works for.

        Where nobody is at that path, or somebody who works for it, it is its supervisor's.
        """
        named = None if self.about is None else self.about.get("below")
        if self.parent is None or not isinstance(named, str) or not named:
            return self.parent
        return f"{self.parent}/{named}"

    def to_json(self) -> dict[str, object]:
        """Call this for plain data, all keys always present."""
        return {**asdict(self), "shown_below": self.shown_below}


@dataclass(frozen=True, slots=True)
class Decision:
    """What a supervisor decided about an ending: for which children, after how many seconds."""

    decision: DecisionWord
    affected: tuple[str, ...]
    backoff: float | None


@dataclass(frozen=True, slots=True)
class TreeChange:
    """One step: what happened to the actor at `path`, and its node afterwards (None: gone).

    A change of kind `decided` follows each `exited` that calls for something.
    """

    seq: int
    at: float
    path: str
    kind: ChangeKind
    node: Node | None
    exit: ExitSummary | None
    because: str | None
    decision: Decision | None = None

    def to_json(self) -> dict[str, object]:
        """Call this for plain data, all keys always present."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class TreeSnapshot:
    """The whole tree at one moment, parents before their children, in start order.

    `epoch` names the system, `seq` the last change it holds.
    """

    epoch: str
    seq: int
    at: float
    actors: tuple[Node, ...]

    def to_json(self) -> dict[str, object]:
        """Call this for plain data, all keys always present."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Absent:
    """Children with ids that should run and do not, by their paths.

    `gave_up` are supervisors that used up their restarts and are not back, whether somebody starts
    them again or not; `waiting` is who waits out a backoff for another reason.
    """

    gave_up: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()


class ChangeSink(Protocol):
    """Somebody who follows the tree; `changed` returns at once. One that raises is removed."""

    def changed(self, change: TreeChange) -> None:
        """Take one change."""


class Overseer(Protocol):
    """The owner of a supervisor's children, as far as the tree asks it about them and itself."""

    @property
    def badge(self) -> str:
        """The strategy, or `dynamic`."""

    def own_window(self) -> Window:
        """The supervisor's own restart budget."""

    @property
    def cell(self) -> Cell:
        """The supervisor's own cell."""

    def child_count(self) -> int:
        """How many children have a cell."""

    def child_cells(self) -> Iterable[Cell]:
        """Their cells."""

    def absent(self) -> Absent:
        """Which of its children with ids are missed; none of a dynamic supervisor."""

    def restart_type(self, cell: Cell) -> str | None:
        """The restart type of a child."""

    def restart_time(self, cell: Cell) -> float | None:
        """How long a child's last restart took."""


class Tree:
    """The tree of one system. Get it with `tree_of(system)`."""

    def __init__(self, system: System) -> None:
        self._system = system
        # And the path below which each follows; None: everywhere.
        self._sinks: dict[ChangeSink, str | None] = {}
        # Every supervisor's overseer twice: under the supervisor's own id, and under itself, as
        # the cells of its children name it. To the runtime it is only their owner.
        self._overseers: dict[int, Overseer] = {}
        self._owners: dict[object, Overseer] = {}
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
        return TreeSnapshot(self._system.id, self.seq, self._system.now(), nodes)

    def cells(self, closed: Container[str] = (), *, under: Cell | None = None) -> list[Cell]:
        """Call this for the actors of all supervisors, or of one, parents before their children.

        Whoever is below a supervisor whose path is in `closed` is left out, and costs nothing,
        however many they are; nor do those cost that are not below `under`.
        """
        left = self._roots() if under is None else [under]
        found: dict[int, Cell] = {}
        while left:
            cell = left.pop()
            found[cell.id] = cell
            overseer = self._overseers.get(cell.id)
            if overseer is not None and cell.path not in closed:
                left += overseer.child_cells()
        # In the order they were made, as those of the system are.
        return [found[number] for number in sorted(found)]

    def absent(self) -> Absent:
        """Call this for who should run and does not, however long the tree has not been watched.

        Those below dynamic supervisors are not looked at, and cost nothing: of many such children
        one is missed by whoever asked for it.
        """
        gave_up: list[str] = []
        waiting: list[str] = []
        left = self._roots()
        while left:
            overseer = self._overseers.get(left.pop().id)
            if overseer is None or overseer.badge == "dynamic":
                continue
            missed = overseer.absent()
            gave_up += missed.gave_up
            waiting += missed.waiting
            left += overseer.child_cells()
        return Absent(tuple(sorted(gave_up)), tuple(sorted(waiting)))

    def _roots(self) -> list[Cell]:
        # Of a root nobody here is the owner; most trees have one.
        return [one.cell for one in self._owners.values() if one.cell.owner not in self._owners]

    @contextmanager
    def watch(self, sink: ChangeSink, under: str | None = None) -> Iterator[TreeSnapshot]:
        """Call this to follow the tree: gives a snapshot; `sink` gets every change after it.

        With `under` only of what is at and below that path; the numbers of such changes have gaps,
        and of changes that nobody follows nothing is built.
        """
        # No await between joining and the snapshot: what it does not hold comes as a change.
        self._sinks[sink] = under
        self.is_watched = True
        try:
            yield self.snapshot(under)
        finally:
            self._leave(sink)

    def node(self, cell: Cell) -> Node:
        """One actor as data."""
        parent, _, name = cell.path.rpartition("/")
        above = self._owners.get(cell.owner)
        own = self._overseers.get(cell.id)
        cls = cell.actor_class
        is_supervisor = own is not None or getattr(cls, "child_type", "") == "supervisor"
        # A supervisor shows its own budget, a worker what it has used of its supervisor's.
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
            last_exits=tuple(exit_.summary() for exit_ in cell.last_exits),
            children=0 if own is None else own.child_count(),
            about=_told(cell),
        )

    # -- called by supervisors ---------------------------------------------------------------

    def joined(self, cell: Cell, overseer: Overseer) -> None:
        """Called when a supervisor begins an incarnation; `cell` is its own."""
        self._overseers[cell.id] = overseer
        self._owners[overseer] = overseer

    def left(self, cell: Cell, overseer: Overseer) -> None:
        """Called when that incarnation has no children any more."""
        self._owners.pop(overseer, None)
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
        path = cell.path
        sinks = [
            sink
            for sink, under in self._sinks.items()
            if under is None or path == under or path.startswith(under + "/")
        ]
        if not sinks:
            return
        change = TreeChange(
            seq=self.seq,
            at=trio.current_time(),
            path=cell.path,
            kind=kind,
            node=None if kind == "gone" else self.node(cell),
            exit=None if exit_ is None else exit_.summary(),
            because=because if because is not None else (exit_ and exit_.because),
            decision=decision,
        )
        for sink in sinks:
            error = failure_of(sink.changed, change)
            if error is not None:
                self._leave(sink)
                _log.warning("tree_sink_failed", sink=shown(sink), error=shown(error))

    def _leave(self, sink: ChangeSink) -> None:
        self._sinks.pop(sink, None)
        self.is_watched = bool(self._sinks)


def tree_of(system: System) -> Tree:
    """Call this for the tree of a system; there is one each."""
    found = system.kept_above.get(Tree)
    if isinstance(found, Tree):
        return found
    tree = system.kept_above[Tree] = Tree(system)
    return tree


def _told(cell: Cell) -> Mapping[str, object] | None:
    # By its class first: of nearly all there is nothing to ask.
    if not hasattr(cell.actor_class, "tell_of_itself") or cell.life is None:
        return None
    instance: object = cell.life.instance
    if not isinstance(instance, TellsOfItself):
        return None
    try:
        return instance.tell_of_itself()
    except Exception as error:  # noqa: BLE001  (whoever looks at a tree must see the rest of it)
        _log.error("tree.not_told", path=cell.path, code=type(error).__name__)
        return None
