"""Calls served between two attempts to restart, which no caller could time from outside.

Erlang's side puts them into the supervisor's mailbox while the start that fails is running; here
they are posted when that failure is reported, so they are the next thing the supervisor sees.
"""

from actors.runtime import System
from actors.runtime.life.cell import cell_of
from supervision import Report, Supervising
from supervision.deciding.dynamic import DynamicMachine
from supervision.deciding.moves import Answer, Move, RefuseEnding
from supervision.deciding.static import StaticMachine
from supervision.doing.hands import Event, Hands
from supervision.doing.tickets import Ticket
from tests.conformance.players import Stage, kid_spec
from tests.conformance.scenario import Call
from tests.conformance.wording import answer_words, error_words


class Told(Ticket):
    """A call whose answer is put into words as it is given: later its refs say other things."""

    __slots__ = ("stage", "words")

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.stage = stage
        self.words = "never_answered"

    def answer(self, value: object, error: Exception | None = None) -> None:
        super().answer(value, error)
        words = answer_words(value, self.stage) if error is None else error_words(error, self.stage)
        self.words = words


class Desk:
    """Hands in what is to be asked between attempts, and keeps the answers in that order."""

    def __init__(self, stage: Stage, system: System) -> None:
        self._stage, self._system = stage, system
        self._asked: list[Told] = []

    def deliver(self, report: object, /) -> None:
        """Called with each report of the system: a failed start lets the next call in."""
        if not isinstance(report, Report) or report.context != "start_error":
            return
        if self._stage.between:
            self._ask(self._stage.between.popleft(), report.supervisor)

    def answers(self) -> tuple[str, ...]:
        """Call this for the answers since the last time; a call nobody serves is `noproc`."""
        asked, self._asked = self._asked, []
        return tuple(told.words for told in asked)

    def _ask(self, call: Call, path: str) -> None:
        cell = self._system.at(path)
        life = None if cell is None else cell.life
        supervisor = None if life is None else life.instance
        assert isinstance(supervisor, Supervising), f"{path} reported, so it is there"
        hands = supervisor._hands
        assert hands is not None
        told = Told(self._stage)
        self._asked.append(told)
        hands.tickets._open.add(told)
        hands.post(self._event(call, hands, told))

    def _event(self, call: Call, hands: Hands, ticket: Told) -> Event:
        machine = hands.machine
        if call.name in ("which_children", "count_children"):
            is_list = call.name == "which_children"

            def look(now: float) -> list[Move]:
                found = machine.which_children() if is_list else machine.count_children()
                # Nobody is asked any more while a supervisor ends.
                return [RefuseEnding(ticket) if machine.is_ending else Answer(ticket, found)]

            return look
        if isinstance(machine, DynamicMachine):
            cell = cell_of(self._stage.refs[call.target])
            slot = hands.cells.slot_of(cell)
            return lambda now: machine.terminate_child(ticket, slot, now)
        assert isinstance(machine, StaticMachine)
        if call.kid is not None:
            spec = kid_spec(self._stage, call.kid)
            return lambda now: machine.start_child(ticket, spec, now)
        acts = {
            "terminate_child": machine.terminate_child,
            "restart_child": machine.restart_child,
            "delete_child": machine.delete_child,
        }
        act = acts[call.name]
        return lambda now: act(ticket, call.target, now)
