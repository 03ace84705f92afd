"""Carrying out what was decided: moves become calls of the children's cells.

A `Hands` belongs to one incarnation of a supervisor. It is the owner of the children's cells:
what happens to them comes in as calls of the runtime, goes to the machine as events, and the
machine's moves are carried out before anything else is looked at. Calls of people come in by
`post` too (`Supervising._call`), each with a ticket.

Rule 1: nothing here waits. A start, a stop, a backoff is a state of the machine, never an await.
Rule 2: events are worked off in order; one that comes while moves are carried out waits its turn.
Rule 3: a call is answered exactly once; what is open when the supervisor ends is `NoProc`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Never, Protocol, assert_never

import trio

from actors.runtime import (
    Alarm,
    AlreadyStarted,
    Cell,
    Crashed,
    Exit,
    Failed,
    Ignored,
    Killed,
    Log,
    NoProc,
    Ready,
    Shutdown,
    StartOutcome,
    System,
)
from supervision.deciding import moves
from supervision.deciding.dynamic import DynamicMachine
from supervision.deciding.slots import WAITING, Slot
from supervision.deciding.static import StaticMachine
from supervision.doing.cells import AnyMachine, Cells
from supervision.doing.passivation import Passivation
from supervision.doing.tickets import Ticket, Tickets
from supervision.specs.specs import Flags
from supervision.specs.words import StartResult
from supervision.tree.reports import REPORTS, Report, correlation_of, log_report
from supervision.tree.tree import Absent, ChangeKind, Decision, Window, tree_of

_log = Log("supervision")

Event = Callable[[float], list[moves.Move]]


class Principal(Protocol):
    """Whom the hands work for: one incarnation of a supervisor."""

    @property
    def cell(self) -> Cell:
        """The supervisor's own cell."""

    @property
    def system(self) -> System:
        """The system it runs in."""

    @property
    def nursery(self) -> trio.Nursery:
        """Where the tasks of the children run."""

    def children_gone(self, exit_: Exit) -> None:
        """No child is left: the supervisor ends so, unless it is ending already."""

    def crashed(self, error: BaseException) -> None:
        """Code of the supervisor's author has raised `error`: it crashes so."""


class Hands:
    """The owner (`actors.runtime.Owner`) of a supervisor's children."""

    def __init__(self, principal: Principal, machine: AnyMachine) -> None:
        self.machine = machine
        # Set when the first start is over, well or not; and when no child is left.
        self.settled = trio.Event()
        self.over = trio.Event()
        self._principal = principal
        self._system = principal.system
        self._path = principal.cell.path
        self._events: deque[Event] = deque()
        self._is_busy = False
        self.cells = Cells(self, self._system, self._path, machine)
        self.tickets = Tickets()
        self._alarms: dict[int, Alarm] = {}
        self._unused: tuple[int, int, float] = (0, 0, 0.0)
        self._passivation: Passivation | None = None
        if isinstance(machine, DynamicMachine):
            self._passivation = Passivation(self.post, self._system.wheel.call_after, machine)
        self._tree = tree_of(self._system)
        self._tree.joined(principal.cell, self)

    def __repr__(self) -> str:
        return f"<Hands of {self._path}: {len(self.cells)} children>"

    def __reduce__(self) -> Never:
        # A copy would own the same children.
        raise TypeError("the hands of a supervisor cannot be copied")

    # -- what comes in -----------------------------------------------------------------------

    def post(self, event: Event) -> None:
        """Take something that happened; its moves are carried out in order."""
        self._events.append(event)
        # A move may bring the next event at once: a key that is parked with mail is wanted here
        # and now, and whoever is told a report may call. Answered now, the moves of that event
        # would overtake those that are still to be carried out for this one.
        if self._is_busy:
            return
        self._is_busy = True
        try:
            while self._events:
                for move in self._events.popleft()(trio.current_time()):
                    self._carry_out(move)
        finally:
            self._is_busy = False

    @property
    def nursery(self) -> trio.Nursery:
        """Where the tasks of the children run."""
        return self._principal.nursery

    def child_started(self, cell: Cell, outcome: StartOutcome) -> None:
        """Called by the runtime when a start is over."""
        slot = self.cells.slot_of(cell)
        if slot is None:
            return
        match outcome:
            case Ready():
                if slot.exited_at is not None:
                    slot.restart_s = trio.current_time() - slot.exited_at
                    slot.exited_at = None
                slot.idle_since = trio.current_time()
                if self._passivation is not None:
                    self._passivation.ensure()
                if self._tree.is_watched:
                    self._tree.note(cell, "started")
                self.post(lambda now: self.machine.started(slot, outcome.info, now))
            case Ignored():
                self.post(lambda now: self.machine.ignored(slot, now))
            case Failed(error=error):
                stop = cell.take_stop()
                if stop is None:
                    self.post(lambda now: self.machine.start_failed(slot, error, now))
                else:
                    self.post(partial(self._stopped_in_start, cell, error, stop))

    def _stopped_in_start(
        self, cell: Cell, error: BaseException, stop: Exit, now: float
    ) -> list[moves.Move]:
        slot = self.cells.slot_of(cell)
        if slot is None:
            return []
        slot.exit = stop
        made = self.machine.start_failed(slot, error, now, stop=stop)
        if slot.has_cell:
            cell.goes_on(stop)
        return made

    def child_exited(self, cell: Cell, exit_: Exit) -> None:
        """Called by the runtime when an incarnation is wholly over."""
        slot = self.cells.slot_of(cell)
        if slot is not None:
            slot.exit = exit_
            slot.exited_at = trio.current_time()
            if self._tree.is_watched:
                self._tree.note(cell, "exited", exit_)
            self.post(lambda now: self.machine.exited(slot, exit_, now))

    def child_unkillable(self, cell: Cell, stack: str) -> None:
        """Called by the runtime when what was cut short has not ended for a second."""
        # The stack stands in the log, not only in the report: who looks for what hangs looks there.
        _log.error("actor_unkillable", path=cell.path, stack=stack)
        slot = self.cells.slot_of(cell)
        if slot is not None:
            self.post(lambda now: self.machine.unkillable(slot, stack, now))

    def child_wanted(self, cell: Cell) -> None:
        """Called by the runtime when a message came for a key without child."""
        self.post(partial(self._wanted, cell))

    def child_unwanted(self, cell: Cell, exit_: Exit) -> None:
        """Called by the runtime when somebody stopped or killed a child that has no incarnation."""
        self.post(partial(self._unwanted, cell, exit_))

    def _unwanted(self, cell: Cell, exit_: Exit, now: float) -> list[moves.Move]:
        slot = self.cells.slot_of(cell)
        if slot is None or slot.status not in WAITING:
            return []
        slot.exit = exit_
        made = self.machine.unwanted(slot, exit_, now)
        if slot.has_cell:
            slot.exit = None
            cell.goes_on(exit_)
        return made

    def _wanted(self, cell: Cell, now: float) -> list[moves.Move]:
        # Asked when its turn comes: an event before it may have started a child of that key.
        machine, key = self.machine, self.cells.key_of_dormant(cell)
        if key is None or not isinstance(machine, DynamicMachine):
            return []
        slot, refusal, made = machine.wanted(key, now)
        if slot is None:
            self.cells.refuse(key, f"{self._path} is ending" if refusal is None else str(refusal))
        return made

    def _due(self, token: int) -> None:
        self._alarms.pop(token, None)
        self.post(lambda now: self.machine.due(token, now))

    # -- what goes out -----------------------------------------------------------------------

    def _carry_out(self, move: moves.Move) -> None:
        match move:
            case moves.Start():
                self._start(move.slot)
            case moves.Stop():
                exit_ = Shutdown(move.info, because=move.because, by=self._path)
                self._stop(self.cells.of(move.slot), exit_, move.within)
            case moves.Kill():
                cell = self.cells.of(move.slot)
                if cell.life is not None:  # Else it has just ended, and its exit is on the way.
                    cell.kill(Killed(because=move.because, by=self._path))
            case moves.AwaitRestart():
                self._await_restart(move)
            case moves.Retire():
                self._retire(move.slot, move.cause)
            case moves.Park():
                self._park(move.slot)
            case moves.Answer():
                self.tickets.answer(move.call, move.value)
            case moves.AnswerStart():
                ref = None if move.slot is None else self.cells.of(move.slot).ref
                self.tickets.answer(move.call, StartResult(ref, move.info))
            case moves.Refuse():
                self.tickets.answer(move.call, None, move.error)
            case moves.RefuseEnding():
                self.tickets.answer(move.call, None, NoProc(self._path))
            case moves.Ready():
                self.settled.set()
            case moves.Finish():
                self._finish(move.exit)
            case moves.Crash():
                self._principal.crashed(move.error)
            case moves.Wake():
                due = partial(self._due, move.token)
                self._alarms[move.token] = self._system.wheel.call_at(move.at, due)
            case moves.Unwake():
                self._alarms.pop(move.token).cancel()
            case moves.Publish():
                self._publish(move.report, is_quiet=move.is_quiet)
            case moves.Decided():
                if self._tree.is_watched:
                    self._note_decision(move)
            case _:
                assert_never(move)

    def _start(self, slot: Slot) -> None:
        try:
            cell = self.cells.for_start(slot)
        except (AlreadyStarted, ValueError) as error:
            # Its name is taken, or is none. An event like any other start that failed, and after
            # the moves that are still to be carried out.
            failure = error
            self._events.append(lambda now: self.machine.start_failed(slot, failure, now))
            return
        self._note_budget(slot, cell)
        if isinstance(slot.call, Ticket):
            self.tickets.wait_for(slot.call, cell)
        cell.begin_incarnation(slot.because)
        if self._tree.is_watched:
            self._tree.note(cell, "starting", because=slot.because)

    def _stop(self, cell: Cell, exit_: Exit, within: float) -> None:
        if cell.life is not None:  # Else it has just ended, and its exit is on the way.
            cell.request_stop(exit_, within=within)
        if self._tree.is_watched:
            self._tree.note(cell, "stopping", because=exit_.because)

    def _await_restart(self, move: moves.AwaitRestart) -> None:
        cell = self.cells.of(move.slot)
        move.slot.exit = None
        self._note_budget(move.slot, cell)
        if move.status == "backing_off":
            cell.await_restart("backing_off", move.at, move.slot.because)
        else:
            cell.await_restart("restarting", None, move.slot.because)
        if self._tree.is_watched:
            kind: ChangeKind = "backing_off" if move.status == "backing_off" else "restarting"
            self._tree.note(cell, kind, because=move.slot.because)

    def _note_budget(self, slot: Slot, cell: Cell) -> None:
        flags = self.machine.flags
        if not slot.restarts and slot.window is None:
            # Shared by all that never failed: nothing is made for a child that just starts.
            if self._unused[1:] != (flags.intensity, flags.period):
                self._unused = (0, flags.intensity, flags.period)
            cell.restart_window = self._unused
            return
        window = slot.window or self.machine.window
        used = window.used(trio.current_time(), flags.period)
        cell.restart_window = (used, flags.intensity, flags.period)

    def _retire(self, slot: Slot, cause: BaseException | None) -> None:
        if slot.cell is None:
            return  # its name was taken: it never had a cell
        last = slot.exit
        if last is None:
            last = Crashed(cause) if cause is not None else Shutdown(because="no restart follows")
        cell = self.cells.release(slot)
        cell.retire(last)
        if self._tree.is_watched:
            self._tree.note(cell, "gone", last)

    def _park(self, slot: Slot) -> None:
        assert slot.key is not None, "only a child with a key can be found again"
        self._system.counts.passivated += 1
        cell = self.cells.release(slot)
        if self._tree.is_watched:
            self._tree.note(cell, "gone", because="passivated")
        # Last: mail that came while it was stopping wakes it here and now, as the next event.
        self.cells.sleep(slot.key, cell)

    def _publish(self, report: Report, *, is_quiet: bool) -> None:
        if isinstance(report.reason, Crashed):
            report = replace(report, correlation_id=correlation_of(report, self._system))
        log_report(report, is_quiet=is_quiet, development=self._system.development)
        self._system.topics.publish(REPORTS, report)

    def _note_decision(self, move: moves.Decided) -> None:
        affected = tuple(one.cell.path for one in move.affected if isinstance(one.cell, Cell))
        decision = Decision(move.decision, affected, move.backoff)
        self._tree.note(
            self.cells.of(move.slot), "decided", because=move.slot.because, decision=decision
        )

    def _finish(self, exit_: Exit) -> None:
        for alarm in self._alarms.values():
            alarm.cancel()
        self._alarms.clear()
        if self._passivation is not None:
            self._passivation.close()
        self.cells.retire_dormant()
        self.tickets.refuse_all(NoProc(self._path))
        self._tree.left(self._principal.cell, self)
        # `over` first: who wakes by `settled` must find a supervisor that does not run.
        self.over.set()
        self.settled.set()
        self._principal.children_gone(exit_)

    # -- what the tree shows of it (`Overseer` in `tree/tree.py`) ------------------------------

    @property
    def badge(self) -> str:
        """The strategy, or `dynamic`."""
        flags = self.machine.flags
        return flags.strategy if isinstance(flags, Flags) else "dynamic"

    def own_window(self) -> Window:
        """The supervisor's own restart budget."""
        flags, now = self.machine.flags, trio.current_time()
        used = self.machine.window.used(now, flags.period)
        return Window(used, flags.intensity, flags.period)

    def child_count(self) -> int:
        """How many children have a cell."""
        return len(self.cells)

    @property
    def cell(self) -> Cell:
        """The supervisor's own cell."""
        return self._principal.cell

    def child_cells(self) -> Iterable[Cell]:
        """Their cells."""
        return self.cells.all()

    def absent(self) -> Absent:
        """Children with ids that should run and do not: supervisors that gave up, and who waits."""
        machine = self.machine
        if not isinstance(machine, StaticMachine):
            return Absent()
        slots = machine.slots.values()
        return Absent(
            tuple(f"{self._path}/{slot.id}" for slot in slots if slot.gave_up),
            tuple(
                f"{self._path}/{slot.id}"
                for slot in slots
                if slot.status == "backing_off" and not slot.gave_up
            ),
        )

    def restart_type(self, cell: Cell) -> str | None:
        """The restart type of a child."""
        slot = self.cells.slot_of(cell)
        return None if slot is None else slot.spec.restart

    def restart_time(self, cell: Cell) -> float | None:
        """How long a child's last restart took."""
        slot = self.cells.slot_of(cell)
        return None if slot is None else slot.restart_s
