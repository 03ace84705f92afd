"""What both kinds of supervisor do alike: stopping a child, waiting for times, reporting.

No clock, no tasks: every method gets `now` through the public entry it was called from, and
leaves its moves in `_out`. `decisions.py` and `dynamic_decisions.py` are the two kinds.

Rule 1: a live child is only ever asked to stop here, so each one has its deadline.
Rule 2: one wake a slot; setting a new one makes the old one void.
"""

from collections.abc import Callable, Iterable
from typing import Literal

from actors.runtime import AlreadyStarted as NameTaken
from actors.runtime import Exit, Killed, Shutdown, StopActor
from supervision.deciding.moves import (
    Call,
    Ended,
    Finish,
    Forget,
    Kill,
    Move,
    Note,
    Refuse,
    Retire,
    Start,
    Stop,
    Unwake,
    Wake,
)
from supervision.deciding.policy import is_expected_stop
from supervision.deciding.slots import LIVE, Slot
from supervision.specs.errors import AlreadyStarted, Passivated, StartFailed
from supervision.tree.reports import Offender, Report, ReportContext

Phase = Literal["starting", "running", "ending", "over"]
Due = Callable[[Slot], None]


class Machine:
    """The common half of a supervisor's decisions."""

    def __init__(self, path: str, random: Callable[[], float]) -> None:
        self.path = path
        self.phase: Phase = "starting"
        self.final: Exit | None = None
        self._random = random
        self._now = 0.0
        self._out: list[Move] = []
        self._token = 0
        self._dues: dict[int, tuple[Due, Slot]] = {}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path} {self.phase}>"

    @property
    def is_ending(self) -> bool:
        """Whether nothing starts any more."""
        return self.phase in ("ending", "over")

    # -- times ------------------------------------------------------------------------------

    def due(self, token: int, now: float) -> list[Move]:
        """Call this when the time of a `Wake` has come; void tokens do nothing."""
        self._now = now
        found = self._dues.pop(token, None)
        if found is not None:
            todo, slot = found
            slot.wake = None
            todo(slot)
        return self._advanced()

    def _wake_now(self, slot: Slot) -> None:
        """End the wait of a slot before its time."""
        if slot.wake is not None:
            todo, _ = self._dues.pop(slot.wake)
            self._out.append(Unwake(slot.wake))
            slot.wake = None
            todo(slot)

    def _wake(self, slot: Slot, at: float, todo: Due) -> None:
        self._cancel(slot)
        self._token += 1
        slot.wake = self._token
        self._dues[self._token] = (todo, slot)
        self._out.append(Wake(at, self._token))

    def _cancel(self, slot: Slot) -> None:
        if slot.wake is not None:
            del self._dues[slot.wake]
            self._out.append(Unwake(slot.wake))
            slot.wake = None
        slot.next_at = None

    def _advanced(self) -> list[Move]:
        """Hand out the moves; a machine that works through an order goes on with it first."""
        return self._taken()

    def _taken(self) -> list[Move]:
        out, self._out = self._out, []
        return out

    def abandon(self, now: float, because: str) -> list[Move]:
        """Call this when the supervisor is killed: every child is killed, in no order."""
        self._now = now
        if self.phase == "over":
            return self._taken()
        self._end(Killed(because=because), because)
        for slot in self._all_slots():
            if slot.status in LIVE:
                slot.status, slot.after, slot.is_asked = "stopping", "end", True
                self._kill(slot, because)
        return self._advanced()

    def _end(self, final: Exit, because: str) -> None:
        """Begin to end as `final`: nothing starts any more."""
        raise TypeError("each kind of supervisor ends in its own order")

    def _all_slots(self) -> Iterable[Slot]:
        raise TypeError("each kind of supervisor keeps its own list")

    # -- starting and stopping one child --------------------------------------------------

    def _start(self, slot: Slot, call: Call | None = None, *, is_attempt: bool = False) -> None:
        slot.status = "starting"
        slot.is_asked = False
        slot.has_cell = True
        slot.is_attempt = is_attempt
        slot.call = call
        self._out.append(Start(slot))

    def _attempt(self, slot: Slot) -> None:
        """Start a child again, by the supervisor's own decision."""
        self._start(slot, is_attempt=True)

    def _halt(
        self,
        slot: Slot,
        after: Literal["call", "group", "end", "park"],
        because: str,
        *,
        is_shared: bool = False,
    ) -> None:
        """Ask a live child to stop; when it has ended, `slot.after` says what follows.

        With `is_shared` the deadline is the caller's, one for many children.
        """
        if slot.is_stopping:
            # What was asked for first stands, but an end or a call outranks an idle stop.
            if after == "end" or slot.after == "park":
                slot.after = after
            return
        slot.after, slot.is_asked = after, True
        if slot.status == "unkillable":
            return  # an outsider killed it already: there is nothing harder to ask for
        slot.status = "stopping"
        shutdown = slot.spec.shutdown
        if shutdown == "kill":
            if after != "park":
                self._kill(slot, "shutdown='kill'")
                return
            shutdown = float("inf")
        info = Passivated() if after == "park" else None
        within = float("inf") if is_shared else shutdown
        self._out.append(Stop(slot, because, within, info))

    def _kill(self, slot: Slot, because: str) -> None:
        self._out.append(Kill(slot, because))

    def unkillable(self, slot: Slot, stack: str, now: float) -> list[Move]:
        """Call this when a kill has not worked for a second; its end is still waited for."""
        self._now = now
        if slot.status in LIVE:
            slot.status = "unkillable"
            self._report("unkillable", "still alive a second after its kill", slot, stack)
        return self._taken()

    def _report_stop(self, slot: Slot, exit_: Exit) -> None:
        if not is_expected_stop(slot.spec, exit_):
            self._report("shutdown_error", exit_, slot)

    def _retire(self, slot: Slot, cause: BaseException | None = None) -> None:
        self._cancel(slot)
        slot.status = "stopped"
        if slot.call is not None:  # stopped with its group while it was being started for somebody
            call, slot.call = slot.call, None
            never_up = StopActor(Shutdown(because="terminated before it was up"))
            self._out.append(
                Ended(call) if self.is_ending else Refuse(call, StartFailed(never_up, slot.spec))
            )
        if slot.has_cell:
            slot.has_cell = False
            self._out.append(Retire(slot, cause))

    def _forget(self, slot: Slot, cause: BaseException | None = None) -> None:
        self._retire(slot, cause)
        slot.is_listed = False
        self._out.append(Forget(slot))

    # -- answers ---------------------------------------------------------------------------

    def _refuse_start(self, slot: Slot, call: Call, error: BaseException, spec: object) -> None:
        """Tell the caller why nothing runs: a taken name is not a failure of the child."""
        if isinstance(error, NameTaken):
            self._out.append(Refuse(call, AlreadyStarted(error.ref)))
        else:
            self._out.append(Refuse(call, StartFailed(error, spec)))

    def _is_closed_to(self, call: Call) -> bool:
        """Refuse a change while the supervisor ends: nobody will carry it out."""
        if self.is_ending:
            self._out.append(Ended(call))
            return True
        return False

    def _finish(self) -> None:
        self.phase = "over"
        self._out.append(Finish(self.final if self.final is not None else Shutdown()))

    def _report(
        self, context: ReportContext, reason: object, slot: Slot, stack: str | None = None
    ) -> None:
        spec, cell = slot.spec, slot.cell
        offender = Offender(
            id=slot.id,
            path=f"{self.path}/{slot.id or slot.key or '?'}" if cell is None else cell.path,
            incarnation=0 if cell is None else cell.incarnation,
            restart=spec.restart,
            shutdown=spec.shutdown,
            type=spec.type,
        )
        self._out.append(Note(Report(self.path, context, reason, offender, self._now, stack=stack)))
