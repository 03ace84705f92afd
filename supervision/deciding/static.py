"""What a static supervisor does about each event: the order, the strategy, the budget.

A state machine without clock, task or randomness of its own: each public method takes what
happened and `now`, and returns the moves `supervisor.py` carries out. Group restarts are in
`groups.py`, calls of administration in `administration.py`; both are part of this machine.

Rule 1: a need for a restart is noted in the budget before anything is tried.
Rule 2: nothing starts once the phase is `ending`.
Rule 3: children start one by one, each when the one before is ready, and stop in reverse.
"""

from collections.abc import Callable, Iterable

from actors.runtime import Crashed, Exit, Shutdown, StopActor
from actors.runtime.words.exits import leaves_of
from supervision.deciding.administration import Administration
from supervision.deciding.budget import Attempts, RestartWindow
from supervision.deciding.groups import Group
from supervision.deciding.moves import Decided, Hold, Move, Ready, Up
from supervision.deciding.policy import Verdict, is_reported, judge, judge_start, triggers
from supervision.deciding.slots import LIVE, WAITING, Slot, ended_as
from supervision.specs.errors import FailedToStart, IntensityReached
from supervision.specs.plans import Flags, Plan
from supervision.specs.specs import without_arguments


class StaticDecisions(Administration):
    """A supervisor of named children in a fixed order."""

    def __init__(self, plan: Plan, path: str, random: Callable[[], float]) -> None:
        if not isinstance(plan.flags, Flags):
            raise TypeError("a plan with DynamicFlags is for a dynamic supervisor")
        slots = {spec.id: Slot(spec, spec.id) for spec in plan.specs}
        super().__init__(plan.flags, slots, path, random)
        self.window = RestartWindow()
        self._postponed: list[tuple[Slot, Exit]] = []
        self._todo: list[Slot] = []
        self._because = ""

    # -- events ----------------------------------------------------------------------------

    def begin(self, now: float) -> list[Move]:
        """Call this once, first: starts the children in order."""
        self._now = now
        self.group = Group.first_start(list(self.slots.values()))
        return self._advanced()

    def stop(self, now: float, because: str = "its supervisor stopped") -> list[Move]:
        """Call this when the supervisor is asked to end: stops all, last started first."""
        self._now = now
        self._end(Shutdown(), because)
        return self._advanced()

    def started(self, slot: Slot, info: object, now: float) -> list[Move]:
        """Call this when a start succeeded."""
        self._now = now
        if slot.call is not None and slot.status in LIVE:
            self._out.append(Up(slot.call, slot, info))
            slot.call = None
        if slot.status == "starting":
            slot.status = "running"
            slot.because = None
            if slot.spec.restart == "temporary":
                slot.spec = without_arguments(slot.spec)
        return self._advanced()

    def ignored(self, slot: Slot, now: float) -> list[Move]:
        """Call this when a start answered IGNORE: no failure, and no ref."""
        self._now = now
        if slot.status not in LIVE:
            return self._advanced()
        call, slot.call = slot.call, None
        was_asked_to_stop = slot.is_asked
        if call is not None:
            self._out.append(Up(call, None, None))
        self._leave(slot)
        if was_asked_to_stop:
            self._serve_queue(slot)
        return self._advanced()

    def start_failed(self, slot: Slot, error: BaseException, now: float) -> list[Move]:
        """Call this when a start raised; what follows depends on who had asked for it."""
        self._now = now
        if slot.status not in LIVE:
            return self._advanced()
        self._cancel(slot)
        if slot.is_asked and self._is_started_again(slot):
            # Its caller waits on: the group's own start of it is the answer.
            self._stopped(slot)
            return self._advanced()
        call, slot.call = slot.call, None
        if call is not None:
            self._refuse_start(slot, call, error, slot.spec)
        if slot.is_asked:  # it was asked to stop meanwhile
            self._stopped(slot)
        elif call is not None:
            if slot.is_new:
                self._drop(slot, error)
            else:
                self._leave(slot, error)
        elif self.phase == "starting":
            self._report("start_error", error, slot)
            self._leave(slot, error)
            self._end(Shutdown(FailedToStart(slot.id or "", error)), f"{slot.id} did not start")
        else:
            self._attempt_failed(slot, error)
        return self._advanced()

    def exited(self, slot: Slot, exit_: Exit, now: float) -> list[Move]:
        """Call this when an incarnation is wholly over."""
        self._now = now
        if slot.status not in LIVE:
            return self._advanced()
        asked = slot.is_stopping
        self._cancel(slot)
        if slot.call is not None:  # stopped before its start was over
            self._refuse_start(slot, slot.call, StopActor(exit_), slot.spec)
            slot.call = None
        if asked:
            self._report_stop(slot, exit_)
            self._stopped(slot)
        elif self.phase == "ending":
            self._report_stop(slot, exit_)
            self._retire(slot)
        elif self.group is not None and self.group.is_stopping(slot):
            # It went before the group's stop reached it: the same as being stopped.
            self._report_stop(slot, exit_)
            slot.after = "group"
            self._stopped(slot)
        elif self.phase == "starting":
            # As if its end were noticed when all have started: the order stays simple.
            slot.status = "restarting"
            self._out.append(Hold(slot, "restarting", None))
            self._postponed.append((slot, exit_))
        else:
            self._ended_by_itself(slot, exit_)
        return self._advanced()

    # -- one child's end ---------------------------------------------------------------------

    def _ended_by_itself(self, slot: Slot, exit_: Exit) -> None:
        verdict = judge(slot.spec, exit_)
        if is_reported(slot.spec, exit_):
            self._report("child_terminated", exit_, slot)
        cause = exit_.error if isinstance(exit_, Crashed) else None
        if verdict is Verdict.ESCALATE:
            self._give_up(slot, "escalate_on", cause)
        elif verdict is Verdict.RESTART:
            self._need_restart(slot, f"{slot.id} {ended_as(exit_)}", cause, is_crash=True)
        else:
            self._out.append(Decided(slot, "stop", (slot,), None))
            self._leave(slot)
            if self.flags.auto_shutdown != "never" and triggers(slot.spec, exit_):
                self._significant_end(slot)

    def _attempt_failed(self, slot: Slot, error: BaseException) -> None:
        self._report("start_error", error, slot)
        verdict = judge_start(slot.spec, error, leaves_of(error))
        if verdict is Verdict.ESCALATE:
            self._give_up(slot, "escalate_on", error)
        elif verdict is Verdict.LEAVE:
            self._leave(slot, error)
        else:
            self._need_restart(slot, f"{slot.id} did not start", error, is_crash=False)

    def _need_restart(
        self, slot: Slot, because: str, cause: BaseException | None, *, is_crash: bool
    ) -> None:
        flags = self.flags
        if not self.window.note(self._now, flags.intensity, flags.period):
            self._give_up(slot, "reached_max_restart_intensity", cause)
            return
        delay = None
        if slot.spec.backoff is not None:
            slot.attempts = slot.attempts or Attempts()
            slot.attempts.note(self._now, slot.spec.backoff)
            if slot.attempts.exhausted(slot.spec.backoff):
                self._give_up(slot, "give_up_after", cause)
                return
            delay = slot.attempts.wait(slot.spec.backoff, self._random)
        slot.restarts += 1
        slot.status = "restarting"
        slot.because = because
        if flags.strategy == "one_for_one":
            self._out.append(Decided(slot, "restart", (slot,), delay))
            self._restart_alone(slot, delay, is_crash=is_crash)
        else:
            self._restart_group(slot, delay, because, is_crash=is_crash)

    def _restart_alone(self, slot: Slot, delay: float | None, *, is_crash: bool) -> None:
        if delay is not None:
            slot.status = "backing_off"
            self._wake(slot, self._now + delay, self._attempt)
            slot.next_at = self._now + delay
            self._out.append(Hold(slot, "backing_off", slot.next_at))
        elif is_crash:
            self._out.append(Hold(slot, "restarting", None))
            self._attempt(slot)
        else:
            # By way of a wake: between two attempts the mailbox is served.
            self._out.append(Hold(slot, "restarting", None))
            self._wake(slot, self._now, self._attempt)

    def _stopped(self, slot: Slot) -> None:
        """An asked-for stop is over; do what it was for."""
        if slot.after == "end" or self.phase == "ending":
            self._retire(slot)
        elif slot.after == "group" and slot.spec.restart == "temporary":
            self._drop(slot)
        elif slot.after == "group":
            slot.status = "restarting"
            slot.because = None if self.group is None else self.group.because
            self._out.append(Hold(slot, "restarting", None))
        else:
            self._leave(slot)
        self._serve_queue(slot)

    def _is_started_again(self, slot: Slot) -> bool:
        """Whether a child that was stopped with its group comes up again with it."""
        return (
            slot.after == "group" and slot.spec.restart != "temporary" and self.phase == "running"
        )

    def _significant_end(self, slot: Slot) -> None:
        if self.flags.auto_shutdown == "all" and any(
            one.spec.significant and (one.status in LIVE or one.status in WAITING)
            for one in self.slots.values()
        ):
            return
        self._end(
            Shutdown(because=f"auto_shutdown: significant child {slot.id} ended"),
            f"auto_shutdown: {slot.id} ended",
        )

    # -- the supervisor's own end ----------------------------------------------------------

    def _give_up(self, slot: Slot, reason: str, cause: BaseException | None) -> None:
        info = IntensityReached(slot.id, self.flags.intensity, self.flags.period, reason, cause)
        self._report("shutdown", reason, slot)
        self._out.append(Decided(slot, "give_up", tuple(self.slots.values()), None))
        self._leave(slot)
        self._end(Shutdown(info), f"{reason}: {slot.id}")

    def _end(self, final: Exit, because: str) -> None:
        if self.phase in ("ending", "over"):
            return
        self.phase = "ending"
        self.final = final
        self.group = None
        self._because = because
        self._todo = list(self.slots.values())
        self._postponed.clear()

    def _all_slots(self) -> Iterable[Slot]:
        return list(self.slots.values())

    def _advanced(self) -> list[Move]:
        """Go on with whatever order is being worked through, then hand out the moves."""
        self._work_on()
        return self._taken()

    def _work_on(self) -> None:
        if self.phase == "ending":
            self._advance_end()
        elif self.phase in ("starting", "running"):
            self._advance_group()
            if self.phase == "starting" and self.group is None:
                self._all_started()

    def _all_started(self) -> None:
        self.phase = "running"
        self._out.append(Ready())
        postponed, self._postponed = self._postponed, []
        for slot, exit_ in postponed:
            if slot.is_listed and slot.status == "restarting" and not self.is_ending:
                self._ended_by_itself(slot, exit_)
        if postponed:
            self._work_on()

    def _advance_end(self) -> None:
        while self._todo:
            slot = self._todo[-1]
            if slot.status in LIVE:
                self._halt(slot, "end", self._because)
                return
            self._todo.pop()
            self._retire(slot)
        self._finish()
