"""The machine of a dynamic supervisor: any number of children of one template, each for itself.

The twin of `static.py`, told in the same order: events, what an end means, the calls of
administration, the supervisor's own end. There is no order and no group; in their place stand a
budget for each child, keys, a limit, and stopping the idle (passivation). The handle resolves a
ref to its slot first: a call gets the slot, or None for an actor that has ended.

Rule 1: a child is in `slots` from its start until no restart will follow; nothing is kept after.
Rule 2: nothing starts once the phase is `ending`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from actors.runtime import Exit, Shutdown, StopActor
from supervision.deciding.machine import Machine
from supervision.deciding.moves import (
    Answer,
    AnswerStart,
    Decided,
    Move,
    Park,
    Ready,
    Refuse,
)
from supervision.deciding.policy import (
    RestartWindow,
    Verdict,
    is_reported,
    is_restarted_after,
    judge,
    judge_start,
)
from supervision.deciding.slots import LIVE, WAITING, Call, Slot, child_of, count_slots
from supervision.specs.errors import (
    AlreadyPresent,
    AlreadyStarted,
    KeyRefused,
    NotBackingOff,
    Passivated,
    SpecError,
    StillRunning,
    TooManyChildren,
    source_of,
)
from supervision.specs.specs import ChildSpec, DynamicFlags, Plan
from supervision.specs.words import AnyChild, Counts


class Wish(NamedTuple):
    """What one child shall be: its own arguments by position and by name, its key, its name."""

    args: tuple[object, ...]
    named: Mapping[str, object] | None
    key: str | None
    name: str | None


class DynamicMachine(Machine[DynamicFlags]):
    """A supervisor of any number of children made from one template."""

    def __init__(self, plan: Plan, path: str, random: Callable[[], float]) -> None:
        if not isinstance(plan.flags, DynamicFlags):
            raise TypeError("a plan without DynamicFlags is for a static supervisor")
        super().__init__(plan.flags, path, random)
        self.template = plan.specs[0]
        # In start order; a dict, so that one of 100,000 leaves as fast as one of ten.
        self.slots: dict[Slot, None] = {}
        self.by_key: dict[str, Slot] = {}
        # Keys whose child gave up, and until when nothing is started for them.
        self._refused_until: dict[str, float] = {}
        # Of its own end: the children by their shutdown time, each time with one wake.
        self._stop_ends: dict[float, list[Slot]] = {}

    # -- events ----------------------------------------------------------------------------

    def begin(self, now: float) -> list[Move]:
        """The first event, once: there is nothing to start."""
        self._now = now
        self.phase = "running"
        return [Ready()]

    def stop(self, now: float, because: str = "its supervisor stopped") -> list[Move]:
        """The supervisor is to end: stop all at once."""
        self._now = now
        self._end(Shutdown(), because)
        return self._advanced()

    def ignored(self, slot: Slot, now: float) -> list[Move]:
        """A start answered IGNORE: the child is not listed, at a restart too."""
        self._now = now
        if slot.is_listed:
            call, slot.call = slot.call, None
            if call is not None:
                self._out.append(AnswerStart(call, None, None))
            self._leave(slot)
        return self._advanced()

    def start_failed(
        self, slot: Slot, error: BaseException, now: float, *, stop: Exit | None = None
    ) -> list[Move]:
        """A start raised: the first discards the child, a later one counts.

        `stop`: somebody has stopped or killed the child by its ref meanwhile.
        """
        self._now = now
        if not slot.is_listed:
            return self._advanced()
        call, slot.call = slot.call, None
        if call is not None:
            self._refuse_start(slot, call, error, None)
        is_unwanted = stop is not None and not is_restarted_after(slot.spec, stop)
        if slot.is_asked or slot.is_new or is_unwanted:
            if call is None and not slot.is_asked:
                # A message started it, or it was a restart: there is no caller to tell.
                self._report("start_error", error, slot)
            self._leave(slot, error)
        else:
            self._attempt_failed(slot, error)
        return self._advanced()

    def exited(self, slot: Slot, exit_: Exit, now: float) -> list[Move]:
        """An incarnation is wholly over."""
        self._now = now
        if not slot.is_listed:
            return self._advanced()
        if slot.call is not None:  # stopped before its start was over
            self._refuse_start(slot, slot.call, StopActor(exit_), None)
            slot.call = None
        if not slot.is_stopping and self.phase != "ending":
            self._ended_by_itself(slot, exit_)
            return self._advanced()
        self._report_stop(slot, exit_)
        if slot.after == "park" and self.phase == "running":
            self._park(slot)
        else:
            self._leave(slot)
        return self._advanced()

    # -- what an end means ---------------------------------------------------------------------

    def _ended_by_itself(self, slot: Slot, exit_: Exit) -> None:
        if isinstance(exit_, Shutdown) and isinstance(exit_.info, Passivated):
            self._park(slot)
            return
        if is_reported(slot.spec, exit_):
            self._report("child_terminated", exit_, slot)
        match self._verdict(lambda: judge(slot.spec, exit_)):
            case Verdict.ESCALATE:
                self._give_up(slot, "escalate_on", exit_)
            case Verdict.RESTART:
                self._need_restart(slot, "ended", exit_, is_crash=True)
            case Verdict.LEAVE:
                self._out.append(Decided(slot, "stop", (slot,), None))
                self._leave(slot)

    def _attempt_failed(self, slot: Slot, error: BaseException) -> None:
        self._report("start_error", error, slot)
        match self._verdict(lambda: judge_start(slot.spec, error)):
            case Verdict.ESCALATE:
                self._give_up(slot, "escalate_on", error)
            case Verdict.RESTART:
                self._need_restart(slot, "did not start", error, is_crash=False)
            case Verdict.LEAVE:
                self._leave(slot, error)

    def _need_restart(
        self, slot: Slot, why: str, ending: Exit | BaseException, *, is_crash: bool
    ) -> None:
        if self.flags.budget == "shared":
            window = self.window
        else:
            window = slot.window = slot.window or RestartWindow()
        spent = self._budget_spent(slot, window)
        if spent is not None:
            self._budget_used_up(slot, spent, ending)
            return
        slot.restarts += 1
        slot.because = f"{slot.key or 'the child'} {why}"
        self._restart_alone(slot, self._wait_of(slot), is_crash=is_crash)

    def _budget_used_up(self, slot: Slot, reason: str, ending: Exit | BaseException) -> None:
        """OTP's simple_one_for_one has one budget for all and ends here; ours need not."""
        if self.flags.budget != "child":
            self._give_up(slot, reason, ending)
            return
        self._report("child_gave_up", reason, slot, ending=ending)
        self._out.append(Decided(slot, "give_up", (slot,), None))
        if slot.key is not None:
            # Else its next message would start it at once, and so without end.
            self._refused_until[slot.key] = self._now + self.flags.cooldown
        self._leave(slot, source_of(self._path_of(slot), ending)[1])

    def _leave(self, slot: Slot, cause: BaseException | None = None) -> None:
        """No restart follows: nothing of the child is kept."""
        self._unlist(slot)
        self._retire(slot, cause)
        self._serve_queue(slot)

    def _park(self, slot: Slot) -> None:
        """It was idle: its ref stays valid, and the next message to its key starts another."""
        if slot.key is None:
            self._leave(slot)  # nobody could find it again
            return
        self._unlist(slot)
        self._cancel(slot)
        slot.status = "stopped"
        slot.has_cell = False
        self._out.append(Park(slot))
        self._serve_queue(slot)

    def _end_unborn(self, slot: Slot, exit_: Exit) -> None:
        self._leave(slot)

    def _unlist(self, slot: Slot) -> None:
        slot.is_listed = False
        self.slots.pop(slot, None)
        if slot.key is not None and self.by_key.get(slot.key) is slot:
            del self.by_key[slot.key]

    # -- questions: answered at once in every state ------------------------------------------

    def which_children(self, offset: int = 0, limit: int | None = None) -> list[AnyChild]:
        """The children in start order, page by page if need be."""
        end = None if limit is None else offset + limit
        return [child_of(slot, None) for slot in islice(self.slots, offset, end)]

    def count_children(self) -> Counts:
        """How many children there are, of one spec."""
        return count_slots(self.slots, 1)

    def get_spec(self) -> ChildSpec:
        """The template with its defaults."""
        return self.template

    def refusal(self, key: str | None, now: float) -> Exception | None:
        """Why no child of this key may be started now; None if it may."""
        limit = self.flags.max_children
        if limit is not None and len(self.slots) >= limit:
            return TooManyChildren(self.path, limit)
        if key is not None and key in self._refused_until:
            until = self._refused_until[key]
            if now < until:
                return KeyRefused(self.path, key, until - now)
            del self._refused_until[key]
        return None

    # -- calls: answered at once, or when the child has ended or started -----------------------

    def start_child(
        self,
        call: Call,
        args: tuple[object, ...],
        key: str | None,
        name: str | None,
        now: float,
        named: Mapping[str, object] | None = None,
    ) -> list[Move]:
        """Start one more child; `named` are arguments by name."""
        self._now = now
        self._start_child(call, Wish(args, named, key, name))
        return self._advanced()

    def wanted(self, key: str, now: float) -> tuple[Slot | None, Exception | None, list[Move]]:
        """A message came for a key without child: a slot to start, or why not."""
        self._now = now
        refusal = self.refusal(key, now)
        if refusal is not None or self.phase != "running":
            return None, refusal, []
        slot = self._new_slot(Wish((), None, key, None))
        self._start(slot)
        return slot, None, self._advanced()

    def terminate_child(self, call: Call, slot: Slot | None, now: float) -> list[Move]:
        """Stop a child for good; None, one that has ended, is fine."""
        self._now = now
        if self._is_closed_to(call):
            return self._taken()
        if slot is None or not slot.is_listed:
            self._out.append(Answer(call, None))
        elif slot.status in LIVE:
            self._halt(slot, "call", "terminate_child")
            self._wait_for_end(slot, lambda: self._out.append(Answer(call, None)))
        else:
            self._leave(slot)
            self._out.append(Answer(call, None))
        return self._advanced()

    def restart_now(self, call: Call, slot: Slot | None, now: float) -> list[Move]:
        """End the wait before a child's next restart attempt."""
        self._now = now
        if slot is not None and slot.status in LIVE:
            self._out.append(Refuse(call, StillRunning(slot.key or slot.cell)))
        elif slot is None or slot.wake is None or slot.status not in WAITING:
            self._out.append(Refuse(call, NotBackingOff(slot and slot.key, "stopped")))
        else:
            self._wake_now(slot)
            self._out.append(Answer(call, None))
        return self._advanced()

    def passivate(self, slot: Slot, now: float) -> list[Move]:
        """A child has been idle for `passivate_after`: stop it, but keep its key."""
        self._now = now
        if slot.status == "running" and self.phase == "running":
            self._halt(slot, "park", "idle")
        return self._advanced()

    def reconfigure(self, call: Call, plan: Plan, now: float) -> list[Move]:
        """Replace flags and template; the template serves later starts."""
        self._now = now
        if self._is_closed_to(call):
            return self._taken()
        if isinstance(plan.flags, DynamicFlags):
            self.flags, self.template = plan.flags, plan.specs[0]
            self._out.append(Answer(call, None))
        else:
            self._out.append(Refuse(call, SpecError("bad_template", "flags", plan.flags)))
        return self._advanced()

    # -- starting one more ---------------------------------------------------------------------

    def _start_child(self, call: Call, wish: Wish) -> None:
        if self._is_closed_to(call):
            return
        slot = None if wish.key is None else self.by_key.get(wish.key)
        if slot is not None:
            self._refuse_key(call, slot, lambda: self._start_child(call, wish))
            return
        refusal = self.refusal(wish.key, self._now)
        if refusal is not None:
            self._out.append(Refuse(call, refusal))
            return
        self._start(self._new_slot(wish), call)

    def _new_slot(self, wish: Wish) -> Slot:
        slot = Slot(self.template, None)
        slot.is_new = True
        slot.args, slot.named, slot.key, slot.name = wish
        self.slots[slot] = None
        if slot.key is not None:
            self.by_key[slot.key] = slot
        return slot

    def _refuse_key(self, call: Call, slot: Slot, again: Callable[[], None]) -> None:
        if slot.is_stopping:
            self._wait_for_end(slot, again)
        elif slot.is_up and slot.cell is not None:
            self._out.append(Refuse(call, AlreadyStarted(slot.cell.ref)))
        else:
            self._out.append(Refuse(call, AlreadyPresent(slot.key or "")))

    # -- the supervisor's own end --------------------------------------------------------------

    def _end(self, final: Exit, because: str) -> None:
        if self.is_ending:
            return  # the first reason to end stands
        self.phase = "ending"
        self.final = final
        for slot in list(self.slots):
            if slot.status in LIVE:
                self._halt_with_others(slot, because)
            else:
                self._leave(slot)
        for seconds, slots in self._stop_ends.items():
            self._wake_all(self._now + seconds, slots)

    def _all_slots(self) -> Sequence[Slot]:
        return list(self.slots)

    def _work_on(self) -> None:
        if self.phase == "ending" and not self.slots:
            self._finish()

    def _halt_with_others(self, slot: Slot, because: str) -> None:
        """Stop one of many: the kill comes from one shared wake, not from a timer each.

        OTP ends its dynamic children in the same way: all are asked, and one timer kills the rest.
        """
        seconds = slot.spec.shutdown
        was_stopping = slot.is_stopping
        self._halt(slot, "end", because, is_shared=True)
        if seconds != "kill" and seconds != float("inf") and not was_stopping:
            self._stop_ends.setdefault(seconds, []).append(slot)

    def _wake_all(self, at: float, slots: list[Slot]) -> None:
        # A wake belongs to a slot; this one is nobody's place.
        nobody = Slot(self.template, None)
        self._wake(nobody, at, lambda _: self._kill_late(slots))

    def _kill_late(self, slots: list[Slot]) -> None:
        for slot in slots:
            if slot.is_listed and slot.is_stopping:
                self._kill(slot, "not ended before the shared shutdown deadline")
