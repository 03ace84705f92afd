"""What a dynamic supervisor does about each event: many children of one template, each for itself.

The twin of `decisions.py`: the same entries, the same moves. There is no order and no group; in
their place stand a budget for each child, keys, a limit and passivation.

Rule 1: a child is in `slots` from its start until no restart will follow; nothing is kept after.
Rule 2: nothing starts once the phase is `ending`.
"""

from collections.abc import Callable, Iterable

from actors.runtime import Crashed, Exit, Shutdown, StopActor
from actors.runtime.words.exits import leaves_of
from supervision.deciding.budget import Attempts, RestartWindow
from supervision.deciding.machine import Machine
from supervision.deciding.moves import Decided, Hold, Move, Park, Ready, Up
from supervision.deciding.policy import Verdict, is_reported, judge, judge_start
from supervision.deciding.slots import LIVE, Slot
from supervision.specs.errors import IntensityReached, Passivated
from supervision.specs.plans import DynamicFlags, Plan


class DynamicDecisions(Machine):
    """A supervisor of any number of children made from one template."""

    def __init__(self, plan: Plan, path: str, random: Callable[[], float]) -> None:
        super().__init__(path, random)
        if not isinstance(plan.flags, DynamicFlags):
            raise TypeError("a plan without DynamicFlags is for a static supervisor")
        self.flags: DynamicFlags = plan.flags
        self.template = plan.specs[0]
        self.slots: dict[Slot, None] = {}
        self.by_key: dict[str, Slot] = {}
        self.window = RestartWindow()
        self._refused_until: dict[str, float] = {}
        self._stop_ends: dict[float, list[Slot]] = {}

    # -- events ----------------------------------------------------------------------------

    def begin(self, now: float) -> list[Move]:
        """Call this once, first: there is nothing to start."""
        self._now = now
        self.phase = "running"
        return [Ready()]

    def stop(self, now: float, because: str = "its supervisor stopped") -> list[Move]:
        """Call this when the supervisor is asked to end: stops all at once."""
        self._now = now
        self._end(Shutdown(), because)
        return self._taken()

    def started(self, slot: Slot, info: object, now: float) -> list[Move]:
        """Call this when a start succeeded."""
        self._now = now
        if slot.call is not None and slot.status in LIVE:
            self._out.append(Up(slot.call, slot, info))
            slot.call = None
        if slot.status == "starting":
            slot.status = "running"
            slot.is_new = False
            slot.because = None
            if slot.spec.restart == "temporary":
                slot.args = ()
        return self._taken()

    def ignored(self, slot: Slot, now: float) -> list[Move]:
        """Call this when a start answered IGNORE: the child is not listed, at a restart too."""
        self._now = now
        if slot.is_listed:
            call, slot.call = slot.call, None
            if call is not None:
                self._out.append(Up(call, None, None))
            self._gone(slot)
        return self._taken()

    def start_failed(self, slot: Slot, error: BaseException, now: float) -> list[Move]:
        """Call this when a start raised: the first discards the child, a later one counts."""
        self._now = now
        if not slot.is_listed:
            return self._taken()
        call, slot.call = slot.call, None
        if call is not None:
            self._refuse_start(slot, call, error, None)
        if slot.is_asked or slot.is_new:
            if slot.is_new and call is None and not slot.is_asked:
                self._report("start_error", error, slot)
            self._gone(slot, error)
            return self._taken()
        self._report("start_error", error, slot)
        verdict = judge_start(slot.spec, error, leaves_of(error))
        if verdict is Verdict.ESCALATE:
            self._give_up(slot, "escalate_on", error)
        elif verdict is Verdict.LEAVE:
            self._gone(slot, error)
        else:
            self._need_restart(slot, error, is_crash=False)
        return self._taken()

    def exited(self, slot: Slot, exit_: Exit, now: float) -> list[Move]:
        """Call this when an incarnation is wholly over."""
        self._now = now
        if not slot.is_listed:
            return self._taken()
        if slot.call is not None:  # stopped before its start was over
            self._refuse_start(slot, slot.call, StopActor(exit_), None)
            slot.call = None
        if slot.is_stopping or self.phase == "ending":
            self._report_stop(slot, exit_)
            if slot.after == "park" and self.phase == "running":
                self._park(slot)
            else:
                self._gone(slot)
            return self._taken()
        self._ended_by_itself(slot, exit_)
        return self._taken()

    def _ended_by_itself(self, slot: Slot, exit_: Exit) -> None:
        if isinstance(exit_, Shutdown) and isinstance(exit_.info, Passivated):
            self._park(slot)
            return
        verdict = judge(slot.spec, exit_)
        if is_reported(slot.spec, exit_):
            self._report("child_terminated", exit_, slot)
        cause = exit_.error if isinstance(exit_, Crashed) else None
        if verdict is Verdict.ESCALATE:
            self._give_up(slot, "escalate_on", cause)
        elif verdict is Verdict.RESTART:
            self._need_restart(slot, cause, is_crash=True)
        else:
            self._out.append(Decided(slot, "stop", (slot,), None))
            self._gone(slot)

    # -- restarting -----------------------------------------------------------------------

    def _need_restart(self, slot: Slot, cause: BaseException | None, *, is_crash: bool) -> None:
        flags = self.flags
        if flags.budget == "shared":
            window = self.window
        else:
            window = slot.window = slot.window or RestartWindow()
        if not window.note(self._now, flags.intensity, flags.period):
            self._budget_used_up(slot, "reached_max_restart_intensity", cause)
            return
        backoff = slot.spec.backoff
        delay = 0.0
        if backoff is not None:
            slot.attempts = slot.attempts or Attempts()
            slot.attempts.note(self._now, backoff)
            if slot.attempts.exhausted(backoff):
                self._budget_used_up(slot, "give_up_after", cause)
                return
            delay = slot.attempts.wait(backoff, self._random)
        slot.restarts += 1
        slot.because = f"{slot.key or 'the child'} {'ended' if is_crash else 'did not start'}"
        self._out.append(Decided(slot, "restart", (slot,), delay or None))
        if delay > 0:
            slot.status = "backing_off"
            self._wake(slot, self._now + delay, self._attempt)
            slot.next_at = self._now + delay
            self._out.append(Hold(slot, "backing_off", slot.next_at))
            return
        slot.status = "restarting"
        self._out.append(Hold(slot, "restarting", None))
        if is_crash:
            self._attempt(slot)
        else:
            # By way of a wake: between two attempts the mailbox is served.
            self._wake(slot, self._now, self._attempt)

    def _budget_used_up(self, slot: Slot, reason: str, cause: BaseException | None) -> None:
        if self.flags.budget != "child":
            self._give_up(slot, reason, cause)
            return
        self._report("child_gave_up", reason, slot)
        self._out.append(Decided(slot, "give_up", (slot,), None))
        if slot.key is not None:
            self._refused_until[slot.key] = self._now + self.flags.cooldown
        self._gone(slot, cause)

    def _give_up(self, slot: Slot, reason: str, cause: BaseException | None) -> None:
        info = IntensityReached(slot.id, self.flags.intensity, self.flags.period, reason, cause)
        self._report("shutdown", reason, slot)
        self._out.append(Decided(slot, "give_up", tuple(self.slots), None))
        self._gone(slot)
        self._end(Shutdown(info), f"{reason}: a child failed")

    # -- leaving the list ------------------------------------------------------------------

    def _gone(self, slot: Slot, cause: BaseException | None = None) -> None:
        self._unlist(slot)
        self._forget(slot, cause)
        self._serve_queue(slot)
        self._finish_if_empty()

    def _park(self, slot: Slot) -> None:
        if slot.key is None:
            self._gone(slot)
            return
        self._unlist(slot)
        self._cancel(slot)
        slot.status = "stopped"
        slot.is_listed = slot.has_cell = False
        self._out.append(Park(slot))
        self._serve_queue(slot)

    def _unlist(self, slot: Slot) -> None:
        self.slots.pop(slot, None)
        if slot.key is not None and self.by_key.get(slot.key) is slot:
            del self.by_key[slot.key]

    def _serve_queue(self, slot: Slot) -> None:
        queue, slot.queue = slot.queue, None
        for again in queue or ():
            again()

    # -- the supervisor's own end ----------------------------------------------------------

    def _end(self, final: Exit, because: str) -> None:
        if self.phase in ("ending", "over"):
            return
        self.phase = "ending"
        self.final = final
        for slot in list(self.slots):
            if slot.status in LIVE:
                self._halt_with_others(slot, because)
            else:
                self._gone(slot)
        for seconds, slots in self._stop_ends.items():
            self._wake_all(self._now + seconds, slots)
        self._finish_if_empty()

    def _all_slots(self) -> Iterable[Slot]:
        return list(self.slots)

    def _halt_with_others(self, slot: Slot, because: str) -> None:
        """Stop one of many: the kill comes from one shared wake, not from a timer each."""
        seconds = slot.spec.shutdown
        was_stopping = slot.is_stopping
        self._halt(slot, "end", because, is_shared=True)
        if seconds != "kill" and seconds != float("inf") and not was_stopping:
            self._stop_ends.setdefault(seconds, []).append(slot)

    def _wake_all(self, at: float, slots: list[Slot]) -> None:
        first = Slot(self.template, None)
        self._wake(first, at, lambda _: self._kill_late(slots))

    def _kill_late(self, slots: list[Slot]) -> None:
        for slot in slots:
            if slot.is_listed and slot.is_stopping:
                self._kill(slot, "not ended before the shared shutdown deadline")

    def _finish_if_empty(self) -> None:
        if self.phase == "ending" and not self.slots:
            self._finish()
