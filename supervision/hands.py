"""Carrying out what was decided: the only file that touches the cells of children.

A `Hands` belongs to one incarnation of a supervisor. It is the owner of the children's cells:
what happens to them comes in as calls, goes to the machine as events, and the machine's moves
are carried out before anything else is looked at. Calls of people come through `desk.py`.

Rule 1: nothing here waits. A start, a stop, a backoff is a state of the machine, never an await.
Rule 2: events are worked off in order; one that comes while moves are carried out waits its turn.
Rule 3: a call is answered exactly once; what is open when the supervisor ends is `NoProc`.
"""

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final, assert_never

import trio

from actors.runtime import (
    Actor,
    Alarm,
    AnyActor,
    BadReturn,
    Cell,
    Crashed,
    Exit,
    Failed,
    Ignored,
    Killed,
    NoProc,
    Ready,
    Shutdown,
    StartOutcome,
)

from . import moves
from .checks import class_of
from .decisions import StaticDecisions
from .dynamic_administration import DynamicAdministration
from .reports import REPORTS, Report, log_report
from .slots import Slot
from .words import StartResult

if TYPE_CHECKING:
    from .supervising import Supervising

__all__ = ["AnyMachine", "Event", "Hands", "Ticket"]

AnyMachine = StaticDecisions | DynamicAdministration
Event = Callable[[float], list[moves.Move]]

# Keys that were looked up or went idle and have no child now. Past this many the oldest lose
# their ref: whoever still holds one takes a new one by its key.
DORMANT_MAX: Final = 10_000


class Ticket(moves.Call):
    """A call of administration that waits for its answer."""

    __slots__ = ("error", "is_answered", "task", "value")

    def __init__(self) -> None:
        self.task: trio.lowlevel.Task | None = None
        self.is_answered = False
        self.value: object = None
        self.error: Exception | None = None

    def answer(self, value: object, error: Exception | None = None) -> None:
        """Call this once; the caller goes on in its next turn."""
        self.is_answered, self.value, self.error = True, value, error
        if self.task is not None:
            task, self.task = self.task, None
            trio.lowlevel.reschedule(task)


class Hands:
    """The owner (`actors.runtime.Owner`) of a supervisor's children."""

    def __init__(self, supervisor: "Supervising", machine: AnyMachine) -> None:
        self.machine = machine
        self.settled = trio.Event()
        self.over = trio.Event()
        self._supervisor = supervisor
        self._system = supervisor.system
        self._path = supervisor.path
        self._events: deque[Event] = deque()
        self._is_busy = False
        self._slots: dict[Cell, Slot] = {}
        self._dormant: dict[str, Cell] = {}
        self._alarms: dict[int, Alarm] = {}
        self._open: set[Ticket] = set()
        self._serial = 0

    def __repr__(self) -> str:
        return f"<Hands of {self._path}: {len(self._slots)} children>"

    # -- what comes in -----------------------------------------------------------------------

    @property
    def nursery(self) -> trio.Nursery:
        """Where the tasks of the children run."""
        return self._supervisor.nursery

    def post(self, event: Event) -> None:
        """Call this with something that happened; its moves are carried out in order."""
        self._events.append(event)
        if self._is_busy:
            return
        self._is_busy = True
        try:
            while self._events:
                for move in self._events.popleft()(trio.current_time()):
                    self._carry_out(move)
        finally:
            self._is_busy = False

    def child_started(self, cell: Cell, outcome: StartOutcome) -> None:
        """Called by the runtime when a start is over."""
        slot = self._slots.get(cell)
        if slot is None:
            return
        match outcome:
            case Ready():
                self.post(lambda now: self.machine.started(slot, outcome.info, now))
            case Ignored():
                self.post(lambda now: self.machine.ignored(slot, now))
            case Failed():
                self.post(lambda now: self.machine.start_failed(slot, outcome.error, now))

    def child_exited(self, cell: Cell, exit_: Exit) -> None:
        """Called by the runtime when an incarnation is wholly over."""
        slot = self._slots.get(cell)
        if slot is not None:
            slot.exit = exit_
            self.post(lambda now: self.machine.exited(slot, exit_, now))

    def child_unkillable(self, cell: Cell, stack: str) -> None:
        """Called by the runtime when a kill has not worked for a second."""
        slot = self._slots.get(cell)
        if slot is not None:
            self.post(lambda now: self.machine.unkillable(slot, stack, now))

    def child_wanted(self, cell: Cell) -> None:
        """Called by the runtime when a message came for a key without child."""
        self.post(partial(self._wanted, cell))

    def _wanted(self, cell: Cell, now: float) -> list[moves.Move]:
        machine = self.machine
        key = cell.path.rpartition("/")[2]
        if not isinstance(machine, DynamicAdministration) or self._dormant.get(key) is not cell:
            return []
        slot, refusal, made = machine.wanted(key, now)
        if slot is None:
            del self._dormant[key]
            cell.refuse(f"{self._path} is ending" if refusal is None else str(refusal))
        return made

    # -- keys and refs ------------------------------------------------------------------------

    def slot_of(self, cell: Cell) -> Slot | None:
        """Call this to find the place of a child by its cell."""
        return self._slots.get(cell)

    def cell_for_key(self, machine: DynamicAdministration, key: str) -> Cell:
        """Call this for the cell behind `rooms[key]`: the child's, or one that waits for mail."""
        slot = machine.by_key.get(key)
        if slot is not None and isinstance(slot.cell, Cell):
            return slot.cell
        cell = self._dormant.get(key)
        if cell is None:
            cell = self._new_cell(Slot(machine.template, None), key)
            self._sleep(key, cell)
        return cell

    def _sleep(self, key: str, cell: Cell) -> None:
        self._dormant[key] = cell
        if len(self._dormant) > DORMANT_MAX:
            oldest = next(iter(self._dormant))
            self._dormant.pop(oldest).retire(Shutdown(because="not used for long"))
        cell.await_first_message()

    # -- what goes out -----------------------------------------------------------------------

    def _carry_out(self, move: moves.Move) -> None:
        match move:
            case moves.Start():
                self._start(move.slot)
            case moves.Stop():
                exit_ = Shutdown(move.info, because=move.because, by=self._path)
                self._cell(move.slot).request_stop(exit_, within=move.within)
            case moves.Kill():
                self._cell(move.slot).kill(Killed(because=move.because, by=self._path))
            case moves.Hold():
                self._hold(move)
            case moves.Retire():
                self._retire(move.slot, move.cause)
            case moves.Park():
                self._park(move.slot)
            case moves.Forget():
                pass  # `Retire` and `Park` have let go of the cell; nothing else is kept here
            case moves.Wake():
                due = partial(self._due, move.token)
                self._alarms[move.token] = self._system.wheel.call_at(move.at, due)
            case moves.Unwake():
                self._alarms.pop(move.token).cancel()
            case moves.Note():
                self._publish(move.report)
            case moves.Answer():
                self._answer(move.call, move.value)
            case moves.Up():
                ref = None if move.slot is None else self._cell(move.slot).ref
                self._answer(move.call, StartResult(ref, move.info))
            case moves.Refuse():
                self._answer(move.call, None, move.error)
            case moves.Ended():
                self._answer(move.call, None, self.no_proc())
            case moves.Ready():
                self.settled.set()
            case moves.Finish():
                self._finish(move.exit)
            case _:
                assert_never(move)

    def _start(self, slot: Slot) -> None:
        if slot.cell is None:
            try:
                slot.cell = self._cell_to_start(slot)
            except Exception as error:  # noqa: BLE001  a taken or bad name is a failed start
                failure = error
                self._events.append(lambda now: self.machine.start_failed(slot, failure, now))
                return
            self._slots[slot.cell] = slot
        slot.exit = None
        cell = self._cell(slot)
        self._note_budget(slot, cell)
        cell.begin_incarnation(slot.because)

    def _cell_to_start(self, slot: Slot) -> Cell:
        if slot.key is not None:
            dormant = self._dormant.pop(slot.key, None)
            if dormant is not None:
                dormant.start = partial(self._make, slot)
                return dormant
            return self._new_cell(slot, slot.key)
        if slot.id is not None:
            return self._new_cell(slot, slot.id)
        self._serial += 1
        return self._new_cell(slot, str(self._serial))

    def _new_cell(self, slot: Slot, key: str) -> Cell:
        spec = slot.spec
        made = class_of(spec.start)
        is_supervisor = spec.type == "supervisor"
        return self._system.new_cell(
            self,
            partial(self._make, slot),
            key=key,
            parent_path=self._path,
            name=slot.name,
            actor_class=made if made is not None and issubclass(made, Actor) else None,
            shutdown=spec.shutdown if isinstance(spec.shutdown, float | int) else 0.0,
            # A supervisor is ready when its children are; each of them has its own limit.
            start_timeout=float("inf") if is_supervisor else self._system_start_timeout(made),
        )

    @staticmethod
    def _system_start_timeout(made: type | None) -> float:
        found = getattr(made, "start_timeout", 10.0)
        return found if isinstance(found, float | int) else 10.0

    def _make(self, slot: Slot) -> AnyActor:
        machine = self.machine
        if slot.key is not None and isinstance(machine, DynamicAdministration):
            keyword = {machine.flags.key or "key": slot.key}
            made = slot.spec.start(*slot.args, **keyword)
        else:
            made = slot.spec.start(*slot.args)
        if not isinstance(made, Actor):
            raise BadReturn(made)
        return made

    def _hold(self, move: moves.Hold) -> None:
        cell = self._cell(move.slot)
        move.slot.exit = None
        self._note_budget(move.slot, cell)
        if move.status == "backing_off":
            cell.await_restart("backing_off", move.at, move.slot.because)
        else:
            cell.await_restart("restarting", None, move.slot.because)

    def _note_budget(self, slot: Slot, cell: Cell) -> None:
        flags, window = self.machine.flags, slot.window or self.machine.window
        used = window.used(trio.current_time(), flags.period)
        cell.restart_window = (used, flags.intensity, flags.period)

    def _retire(self, slot: Slot, cause: BaseException | None) -> None:
        cell = self._cell(slot)
        last = slot.exit
        if last is None:
            last = Crashed(cause) if cause is not None else Shutdown(because="no restart follows")
        slot.cell = slot.exit = None
        del self._slots[cell]
        cell.retire(last)

    def _park(self, slot: Slot) -> None:
        cell = self._cell(slot)
        slot.cell = slot.exit = None
        del self._slots[cell]
        self._system.counts.passivated += 1
        assert slot.key is not None, "only a child with a key can be found again"
        self._sleep(slot.key, cell)

    def _cell(self, slot: Slot) -> Cell:
        assert isinstance(slot.cell, Cell), f"{slot!r} has no cell"
        return slot.cell

    def _due(self, token: int) -> None:
        self._alarms.pop(token, None)
        self.post(lambda now: self.machine.due(token, now))

    def _publish(self, report: Report) -> None:
        log_report(report)
        self._system.topics.publish(REPORTS, report)

    def _finish(self, exit_: Exit) -> None:
        for alarm in self._alarms.values():
            alarm.cancel()
        self._alarms.clear()
        for cell in list(self._dormant.values()):
            cell.retire(Shutdown(because=f"{self._path} ended"))
        self._dormant.clear()
        for ticket in list(self._open):
            self._answer(ticket, None, self.no_proc())
        self.over.set()
        self.settled.set()
        self._supervisor.children_gone(exit_)

    # -- answers -----------------------------------------------------------------------------

    def open_ticket(self) -> Ticket:
        """Call this for the ticket of a new call."""
        ticket = Ticket()
        self._open.add(ticket)
        return ticket

    def withdraw(self, ticket: Ticket) -> None:
        """Call this when the caller was cancelled: nobody waits for the answer any more."""
        ticket.task = None
        self._open.discard(ticket)

    def _answer(self, call: moves.Call, value: object, error: Exception | None = None) -> None:
        assert isinstance(call, Ticket)
        if call in self._open:
            self._open.discard(call)
            call.answer(value, error)

    def no_proc(self) -> NoProc:
        """Call this for the error of a call that a dead or ending supervisor cannot serve."""
        return NoProc(self._path)
