"""Watching actors live: a snapshot, then what changes.

Rule 1: with nobody watching nothing is built: cells without `watches` make no event.
Rule 2: an observer that does not keep up is given a new snapshot instead of a longer queue.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Literal, Self, TypeAlias

import trio

from actors.runtime.delivery.envelope import Envelope
from actors.runtime.life.cell import Cell, Observer
from actors.runtime.telling.log import Log, failure_of
from actors.runtime.watching.stats import ActorStats, actor_stats
from actors.runtime.words.exits import ExitSummary, Normal, Shutdown
from actors.runtime.words.showing import class_name, shown

_log = Log("actors.changes")

# A lab page that is this far behind is better served by the present than by the past.
BEHIND_MAX: Final = 4096
# Long enough to see what happened to the one that has just vanished.
ENDED_KEPT_S: Final = 60.0
ENDED_KEPT_MAX: Final = 4096
# Pages reload: the level stays up for a moment, so that nothing is lost in between.
LEVEL_LINGER_S: Final = 1.0

# What a delta tells: another status, a message that was handled, an actor that is gone.
Kind: TypeAlias = Literal["status", "message", "ended"]
# at, id, path, incarnation, how it ended
_Record: TypeAlias = tuple[float, int, str, int, Normal | Shutdown | ExitSummary | None]


@dataclass(frozen=True, slots=True)
class Ended:
    """An actor that is gone, kept for a minute."""

    id: int
    path: str
    at: float
    incarnation: int
    exit: ExitSummary | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How everything watched stands at `seq`; `resync` when deltas were left out before it."""

    seq: int
    at: float
    actors: tuple[ActorStats, ...]
    ended: tuple[Ended, ...]
    resync: bool = False


@dataclass(frozen=True, slots=True)
class Delta:
    """One change. What is in `data` depends on `kind`; all of it is plain data.

    `status`: id, status, because, incarnation, next_restart_at, last_exit. `message`, one that was
    handled: id, message, message_id, was_ask, correlation_id, causation_id, sender, handling_us.
    `ended`, gone for good: id, exit.
    """

    seq: int
    at: float
    kind: Kind
    path: str
    data: Mapping[str, object]


# What an observer gets: a snapshot first, and again when it was left behind; else deltas.
Change: TypeAlias = Snapshot | Delta


class Changes:
    """What one observer is told of a path and everything below; made by `system.changes(path)`.

    ```python
    with system.changes("shop/rooms") as changes:
        async for change in changes:  # a Snapshot, then Deltas
            ...
    ```
    """

    def __init__(self, log: ChangesLog, path: str) -> None:
        self._log, self.path = log, path
        self._queue: deque[Delta] = deque()
        self._waiting: trio.lowlevel.Task | None = None
        self._snapshot_due: Literal["first", "resync", "no"] = "first"
        self.seq = 0

    def __enter__(self) -> Self:
        self._log.add(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._log.remove(self)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Change:
        """Wait for the next change; cancelled while waiting, nothing is lost."""
        if self._snapshot_due == "no" and not self._queue:
            self._waiting = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abort)
        else:
            await trio.lowlevel.checkpoint()
        if self._snapshot_due != "no":
            resync = self._snapshot_due == "resync"
            self._snapshot_due = "no"
            # Nobody else runs from here to the snapshot: it holds all of these, and no more.
            self._queue.clear()
            self.seq += 1
            return self._log.snapshot(self.path, self.seq, resync=resync)
        return self._queue.popleft()

    def covers(self, path: str) -> bool:
        """Whether an actor at `path` is watched."""
        return not self.path or path == self.path or path.startswith(f"{self.path}/")

    def put(
        self, at: float, kind: Kind, path: str, data: Mapping[str, object],
    ) -> None:  # fmt: skip
        """Called with each change; beyond BEHIND_MAX they become a new snapshot."""
        if self._snapshot_due != "no":
            return  # The snapshot is taken when it is read, and will hold this.
        if len(self._queue) >= BEHIND_MAX:
            self._queue.clear()
            self._snapshot_due = "resync"
        else:
            self.seq += 1
            self._queue.append(Delta(self.seq, at, kind, path, data))
        if self._waiting is not None:
            task, self._waiting = self._waiting, None
            trio.lowlevel.reschedule(task)

    def _abort(self, _: object) -> trio.lowlevel.Abort:
        self._waiting = None
        return trio.lowlevel.Abort.SUCCEEDED


class ChangesLog:
    """Who watches what in a system, and who has ended lately."""

    def __init__(
        self,
        cells: Callable[[], Iterable[Cell]],
        apply_level: Callable[[Cell], None],
        call_after: Callable[[float, Callable[[], None]], object],
    ) -> None:
        self._cells, self._apply_level, self._call_after = cells, apply_level, call_after
        self._observers: dict[Observer, None] = {}
        # A simulation is asked before each message that is handled, and may do something first.
        self.before: Callable[[Cell, Envelope], bool] | None = None
        self._ended: deque[_Record] = deque(maxlen=ENDED_KEPT_MAX)

    @property
    def is_watched(self) -> bool:
        """Whether anybody watches anything."""
        return bool(self._observers)

    def add(self, observer: Observer) -> None:
        """Called when somebody begins to watch."""
        self._observers[observer] = None
        self._spread()

    def remove(self, observer: Observer) -> None:
        """Called when somebody ends; the level follows a moment later."""
        self._observers.pop(observer, None)
        # Events stop at once, figures do not: somebody who comes back soon finds them whole.
        for cell in self._cells():
            self.match(cell, level=False)
        self._call_after(LEVEL_LINGER_S, self._spread)

    def match(self, cell: Cell, *, level: bool = True) -> None:
        """Called when a cell is new, or somebody has come or gone: finds who watches it."""
        found: list[Observer] = []
        for observer in list(self._observers):
            try:
                if observer.covers(cell.path):
                    found.append(observer)
            except Exception as error:  # noqa: BLE001 - who looks on must not hurt who starts an actor
                self._observers.pop(observer, None)
                _log.warning("observer_failed", observer=shown(observer), error=shown(error))
        cell.observers = tuple(found) or None
        if level:
            self._apply_level(cell)

    def _spread(self) -> None:
        for cell in self._cells():
            self.match(cell)

    def status(self, cell: Cell, because: str | None) -> None:
        """Called when the status of a watched cell has changed."""
        data: dict[str, object] = {
            "id": cell.id,
            "status": cell.status,
            "because": because,
            "incarnation": cell.incarnation,
            "next_restart_at": cell.next_restart_at,
            "last_exit": cell.last_exits[-1].to_json() if cell.last_exits else None,
        }
        self._put(cell, cell.status_since, "status", data)

    def handled(self, cell: Cell, envelope: Envelope, spent: float) -> None:
        """Called when a watched cell has handled a message."""
        message, message_id, reply, _, _, context = envelope
        data: dict[str, object] = {
            "id": cell.id,
            "message": class_name(type(message)),
            "message_id": message_id,
            "was_ask": reply is not None,
            "correlation_id": None if context is None else context.correlation_id,
            "causation_id": None if context is None else context.causation_id,
            "sender": None if context is None else context.sender,
            "handling_us": int(spent * 1_000_000),
        }
        self._put(cell, trio.current_time(), "message", data)

    def gone(self, cell: Cell, at: float) -> None:
        """Called when an actor is gone for good."""
        exit_: Normal | Shutdown | ExitSummary | None = None
        if cell.last_exits:
            last = cell.last_exits[-1]
            # What an exit holds (errors, their frames) must not live on for being listed.
            exit_ = last if isinstance(last, Normal) or last == Shutdown() else last.summary()
        self._ended.append((at, cell.id, cell.path, cell.incarnation, exit_))
        if cell.observers is not None:
            told = None if exit_ is None else exit_.to_json()
            self._put(cell, at, "ended", {"id": cell.id, "exit": told})

    def _put(self, cell: Cell, at: float, kind: Kind, data: Mapping[str, object]) -> None:
        for observer in cell.observers or ():
            error = failure_of(observer.put, at, kind, cell.path, data)
            if error is not None:
                _log.warning("observer_failed", observer=shown(observer), error=shown(error))
                self.remove(observer)

    def snapshot(self, path: str, seq: int, *, resync: bool) -> Snapshot:
        """Everything at and below `path`, as it stands now."""
        now = trio.current_time()
        while self._ended and self._ended[0][0] < now - ENDED_KEPT_S:
            self._ended.popleft()
        view = Changes(self, path)
        return Snapshot(
            seq,
            now,
            tuple(actor_stats(cell) for cell in self._cells() if view.covers(cell.path)),
            tuple(
                Ended(id_, ended, at, incarnation, _summary(exit_))
                for at, id_, ended, incarnation, exit_ in self._ended
                if view.covers(ended)
            ),
            resync,
        )


def _summary(exit_: Normal | Shutdown | ExitSummary | None) -> ExitSummary | None:
    match exit_:
        case Normal() | Shutdown():
            return exit_.summary()
        case _:
            return exit_
