"""Supervisors on paper: a machine of either kind, its moves carried out in a log, in virtual time.

Each child answers its start and stop at once, as its script says; what happens is written to a
log that tests compare. Real supervisors are tested in the other files of this folder.
"""

import heapq
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar, cast

from actors.runtime import AnyRef, Crashed, Exit, Killed, Shutdown
from supervision.deciding.dynamic import DynamicMachine
from supervision.deciding.moves import (
    Answer,
    AnswerStart,
    AwaitRestart,
    Crash,
    Decided,
    Finish,
    Kill,
    Move,
    Park,
    Publish,
    Ready,
    Refuse,
    RefuseEnding,
    Retire,
    Start,
    Stop,
    Unwake,
    Wake,
)
from supervision.deciding.policy import is_restarted_after
from supervision.deciding.slots import WAITING, Call, Slot
from supervision.deciding.static import StaticMachine
from supervision.specs.specs import Backoff, ChildSpec, DynamicFlags, Flags, Plan
from supervision.specs.words import AnyChild, RestartType
from supervision.tree.reports import Report

M = TypeVar("M", bound=StaticMachine | DynamicMachine)


class PaperRef:
    """A ref that only has a path."""

    def __init__(self, path: str) -> None:
        self.path = path


@dataclass
class PaperCell:
    """A cell that only counts incarnations."""

    path: str
    incarnation: int = 0
    status: str = "running"

    def __post_init__(self) -> None:
        self.ref = cast("AnyRef", PaperRef(self.path))


@dataclass
class Script:
    """How one child behaves: the outcomes of its next starts, then `ok`; its answer to a stop."""

    starts: deque[str] = field(default_factory=deque)
    on_stop: Callable[[], Exit] | None = Shutdown


class Unwanted(OSError):
    """A start that failed while its child had been stopped: no need for a restart."""


class Ticket(Call):
    """One call and its answer."""

    __slots__ = ("answer",)

    def __init__(self) -> None:
        self.answer: object = None


def spec(
    child_id: str,
    restart: RestartType = "permanent",
    *,
    backoff: Backoff | None = None,
    significant: bool = False,
) -> ChildSpec:
    return ChildSpec(child_id, dict, restart=restart, backoff=backoff, significant=significant)


class Paper(Generic[M]):
    """What both benches do alike; children go by their ids or keys."""

    def __init__(self, machine: M) -> None:
        self.machine: M = machine
        self.now = 0.0
        self.log: list[str] = []
        self.reports: list[Report] = []
        self.final: Exit | None = None
        self.scripts: dict[str, Script] = {}
        self._wakes: list[tuple[float, int]] = []
        self._events: deque[Callable[[], list[Move]]] = deque()
        # Which incarnations exist on paper: nothing may start twice, nor end twice.
        self.alive: set[Slot] = set()
        self._was_ending = False

    def begin(self) -> None:
        self._run(self.machine.begin(self.now))
        self.log.clear()

    def script(self, child_id: str) -> Script:
        return self.scripts.setdefault(child_id, Script())

    def find(self, child_id: str) -> Slot | None:
        """The place of a child that is listed."""
        slots = (
            self.machine.slots if isinstance(self.machine, StaticMachine) else self.machine.by_key
        )
        return slots.get(child_id)

    def slot(self, child_id: str) -> Slot:
        slot = self.find(child_id)
        assert slot is not None, f"{child_id} is not listed"
        return slot

    # -- what can happen ----------------------------------------------------------------

    def end(self, child_id: str, exit_: Exit) -> None:
        """One incarnation ends, by itself or after a stop that was left hanging."""
        slot = self.slot(child_id)
        self.alive.remove(slot)
        self._run(self.machine.exited(slot, exit_, self.now))

    def crash(self, child_id: str, error: Exception | None = None) -> None:
        self.end(child_id, Crashed(error or ValueError("boom")))

    def started(self, child_id: str) -> None:
        """A start that was hanging succeeds."""
        self._begin_incarnation(self.slot(child_id))
        self._run(self.machine.started(self.slot(child_id), None, self.now))

    def release(self, child_id: str) -> None:
        """A stop that was left hanging is over."""
        slot = self.find(child_id)
        if slot is None or slot.status not in ("stopping", "unkillable"):
            return
        if slot in self.alive:
            self.end(child_id, Killed())
        else:
            self._run(self.machine.start_failed(slot, InterruptedError(), self.now))

    def stopped_by_ref(self, child_id: str, exit_: Exit) -> None:
        """Somebody outside stops a child that waits for its restart, or whose start hangs."""
        slot = self.find(child_id)
        if slot is None:
            return
        if slot.status in WAITING:
            self._run(self.machine.unwanted(slot, exit_, self.now))
        elif slot.status == "starting" and slot not in self.alive:
            is_back = is_restarted_after(slot.spec, exit_)
            error = OSError("no") if is_back else Unwanted()
            self._run(self.machine.start_failed(slot, error, self.now, stop=exit_))

    def stop(self) -> None:
        self._run(self.machine.stop(self.now))

    def advance(self, seconds: float) -> None:
        """Let time pass; due wakes are served in order."""
        until = self.now + seconds
        while self._wakes and self._wakes[0][0] <= until:
            at, token = heapq.heappop(self._wakes)
            self.now = max(self.now, at)
            self._run(self.machine.due(token, self.now))
        self.now = until

    # -- what can be seen ----------------------------------------------------------------

    @property
    def counts(self) -> list[int]:
        counts = self.machine.count_children()
        return [counts.specs, counts.active, counts.supervisors, counts.workers]

    @property
    def wakes(self) -> list[float]:
        """The times that are set and not void."""
        return [at for at, token in self._wakes if token in self.machine._dues]

    def contexts(self) -> list[str]:
        return [report.context for report in self.reports]

    # -- carrying out on paper -------------------------------------------------------------

    def _run(self, moves: list[Move]) -> None:
        self._carry_out_all(moves)
        while self._events:
            self._carry_out_all(self._events.popleft()())

    def _carry_out_all(self, moves: list[Move]) -> None:
        if self._was_ending:
            assert not any(isinstance(move, Start) for move in moves), "started in an ending"
        self._was_ending = self.machine.is_ending
        for move in moves:
            self._carry_out(move)

    def _carry_out(self, move: Move) -> None:
        match move:
            case Start():
                self._start(move.slot)
            case Stop():
                self.log.append(f"stop {_name(move.slot)}")
                assert move.slot.cell is not None
                answer = self.script(_name(move.slot)).on_stop
                if answer is not None:
                    self._later_exit(move.slot, answer())
            case Kill():
                self.log.append(f"kill {_name(move.slot)}")
                self._later_exit(move.slot, Killed())
            case Retire():
                assert move.slot not in self.alive, "retired alive"
                move.slot.cell = None
            case Wake():
                heapq.heappush(self._wakes, (move.at, move.token))
            case Publish():
                self.reports.append(move.report)
            case Answer():
                cast("Ticket", move.call).answer = "ok" if move.value is None else move.value
            case AnswerStart():
                cast("Ticket", move.call).answer = "ignored" if move.slot is None else "up"
            case Refuse():
                cast("Ticket", move.call).answer = move.error
            case RefuseEnding():
                cast("Ticket", move.call).answer = "ended"
            case Finish():
                self.final = move.exit
                self.log.append("finish")
            case Ready():
                self.log.append("ready")
            case Park():
                assert move.slot not in self.alive, "parked alive"
                self.log.append(f"park {_name(move.slot)}")
                move.slot.cell = None
            case Crash():
                self.log.append(f"crash {type(move.error).__name__}")
            case AwaitRestart() | Decided() | Unwake():
                pass

    def _start(self, slot: Slot) -> None:
        self.log.append(f"start {_name(slot)}")
        assert slot not in self.alive, "started twice"
        if slot.cell is None:
            slot.cell = PaperCell(f"sup/{_name(slot)}")
        starts = self.script(_name(slot)).starts
        outcome = starts.popleft() if starts else "ok"
        machine = self.machine
        if outcome == "ok":
            self._begin_incarnation(slot)
            self._events.append(lambda: machine.started(slot, None, self.now))
        elif outcome == "ignore":
            self._events.append(lambda: machine.ignored(slot, self.now))
        elif outcome == "fail":
            self._events.append(lambda: machine.start_failed(slot, OSError("no"), self.now))

    def _begin_incarnation(self, slot: Slot) -> None:
        assert isinstance(slot.cell, PaperCell)
        slot.cell.incarnation += 1
        self.alive.add(slot)

    def _later_exit(self, slot: Slot, exit_: Exit) -> None:
        def ended() -> list[Move]:
            if slot in self.alive:
                self.alive.remove(slot)
                return self.machine.exited(slot, exit_, self.now)
            # Stopped before its start was over: the start that was hanging fails.
            return self.machine.start_failed(slot, InterruptedError(), self.now)

        self._events.append(ended)


def _name(slot: Slot) -> str:
    return slot.id or slot.key or "?"


class Bench(Paper[StaticMachine]):
    """A static supervisor on paper: `bench.crash("b")`, then look at `bench.log`."""

    def __init__(self, flags: Flags, specs: Iterable[ChildSpec], *, begin: bool = True) -> None:
        super().__init__(StaticMachine(Plan(flags, specs), "sup", lambda: 0.5))
        if begin:
            self.begin()

    def call(self, name: str, argument: object) -> object:
        """Make a call of administration; returns its answer so far."""
        ticket = Ticket()
        moves = {
            "start_child": self.machine.start_child,
            "terminate_child": self.machine.terminate_child,
            "restart_child": self.machine.restart_child,
            "delete_child": self.machine.delete_child,
            "restart_now": self.machine.restart_now,
        }[name](ticket, argument, self.now)
        self._run(moves)
        return ticket.answer

    def reconfigure(self, flags: Flags, specs: Iterable[ChildSpec]) -> None:
        self._run(self.machine.reconfigure(Ticket(), Plan(flags, specs), self.now))

    def child(self, child_id: str) -> AnyChild:
        return self.machine.which_child(child_id)

    def incarnations(self) -> dict[str, int]:
        return {one.id or "": one.incarnation for one in self.machine.which_children() if one.ref}

    def statuses(self) -> dict[str, str]:
        return {one.id or "": one.status for one in self.machine.which_children()}


class DynamicBench(Paper[DynamicMachine]):
    """A dynamic supervisor on paper, whose children have keys."""

    def __init__(self, flags: DynamicFlags, template: ChildSpec) -> None:
        super().__init__(DynamicMachine(Plan(flags, [template]), "sup", lambda: 0.5))
        self.begin()

    def wanted(self, key: str) -> str:
        """A message comes for a key without child; returns what becomes of it."""
        if key in self.machine.by_key:
            return "delivered"
        slot, refusal, moves = self.machine.wanted(key, self.now)
        self._run(moves)
        if slot is None:
            return "ending" if refusal is None else type(refusal).__name__
        return "wanted"

    def start_child(self, key: str) -> object:
        ticket = Ticket()
        self._run(self.machine.start_child(ticket, (), key, None, self.now))
        return ticket.answer

    def terminate_child(self, key: str) -> object:
        ticket = Ticket()
        self._run(self.machine.terminate_child(ticket, self.find(key), self.now))
        return ticket.answer

    def restart_now(self, key: str) -> object:
        ticket = Ticket()
        self._run(self.machine.restart_now(ticket, self.find(key), self.now))
        return ticket.answer

    def passivate(self, key: str) -> None:
        """The child of a key has been idle for long."""
        self._run(self.machine.passivate(self.slot(key), self.now))

    def statuses(self) -> dict[str, str]:
        return {key: slot.status for key, slot in self.machine.by_key.items()}
