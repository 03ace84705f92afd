"""The machine of a static supervisor: named children in a fixed order, under one strategy.

It takes what happened and `now`, and returns moves; `doing/hands.py` carries them out. Told here
in this order: events, what an end means, restarts of several children (groups), the calls of
administration, the supervisor's own end. The twin for children of one template is `dynamic.py`,
told in the same order; what both do alike stands in `machine.py`.

A group is one start or restart of several children, under way: a list of steps (`stopping`,
`waiting`, `starting`) worked through one child at a time. OTP does the same inside one call and
hears nobody meanwhile; here each child's answer is an event, calls are served between any two of
them, and what they may meet on the way is most of this file.

Rule 1: nothing starts once the phase is `ending`.
Rule 2: children start one by one, each when the one before is ready, and stop in reverse.
Rule 3: there is one group at a time; a failure while one is under way begins a new one that
covers what the old one had left to do.
Rule 4: between two attempts children that came up again live on; they are stopped by the next
attempt itself (`one_for_all`), as under OTP.
Rule 5: while a child is stopping, a change of it waits for its end and is looked at again then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from actors.runtime import Exit, Shutdown, StopActor
from supervision.deciding.machine import Machine, gave_up_with
from supervision.deciding.moves import (
    Answer,
    AnswerStart,
    AwaitRestart,
    Decided,
    Move,
    Ready,
    Refuse,
)
from supervision.deciding.policy import (
    Verdict,
    ended_as,
    is_reported,
    is_restarted_after,
    judge,
    judge_start,
    triggers,
)
from supervision.deciding.slots import LIVE, WAITING, Call, Slot, child_of, count_slots
from supervision.specs.errors import (
    AlreadyPresent,
    AlreadyStarted,
    FailedToStart,
    NotBackingOff,
    NotFound,
    SpecError,
    StillRestarting,
    StillRunning,
)
from supervision.specs.specs import ChildSpec, Flags, Plan, check_together
from supervision.specs.words import AnyChild, Counts
from supervision.tree.tree import DecisionWord

Step = Literal["stopping", "waiting", "starting"]


class Group:
    """One start or restart of several children, under way."""

    __slots__ = (
        *("culprit", "because", "steps", "members"),
        *("todo", "current", "skipped"),
        *("covered", "left", "newcomers"),
    )

    def __init__(
        self, culprit: Slot | None, members: list[Slot], steps: list[Step], because: str
    ) -> None:
        # Whose failure it is (None: the supervisor's own start), what is to be done, and to whom.
        self.culprit = culprit
        self.because = because
        self.steps = steps
        self.members = members
        # Of this step: who has not had a turn, the next one last; the child whose start is
        # awaited; and who is passed over, because a call has ended its wait.
        self.todo: list[Slot] = []
        self.current: Slot | None = None
        self.skipped: set[Slot] = set()
        # Who is started with it wherever it stands in the list: children that failed too while
        # the group was under way, and whom the group before it had left to start.
        self.covered: list[Slot] = []
        self.left: list[Slot] = []
        # Calls of start_child that came while the group was being stopped.
        self.newcomers: list[Callable[[], None]] = []

    @classmethod
    def first_start(cls, members: list[Slot]) -> Group:
        """The supervisor's own start: nothing to stop, nobody to blame."""
        group = cls(None, members, ["starting"], "start")
        group.todo = members[::-1]
        return group

    @property
    def step(self) -> Step:
        """What is being done now."""
        return self.steps[0]

    def is_stopping(self, slot: Slot) -> bool:
        """Whether the group is about to stop this child anyway."""
        return self.step == "stopping" and slot in self.members


class StaticMachine(Machine[Flags]):
    """A supervisor of named children in a fixed order."""

    def __init__(self, plan: Plan, path: str, random: Callable[[], float]) -> None:
        if not isinstance(plan.flags, Flags):
            raise TypeError("a plan with DynamicFlags is for a dynamic supervisor")
        super().__init__(plan.flags, path, random)
        self.slots = {spec.id: Slot(spec, spec.id) for spec in plan.specs}
        self.group: Group | None = None
        # Children that ended during the supervisor's own start.
        self._postponed: list[tuple[Slot, Exit]] = []
        # Of its own end: who is still to be stopped, the next one last, and why.
        self._todo: list[Slot] = []
        self._because = ""

    # -- events ----------------------------------------------------------------------------

    def begin(self, now: float) -> list[Move]:
        """The first event, once: start the children in order."""
        self._now = now
        self.group = Group.first_start(list(self.slots.values()))
        return self._advanced()

    def stop(self, now: float, because: str = "its supervisor stopped") -> list[Move]:
        """The supervisor is to end: stop all, last started first."""
        self._now = now
        self._end(Shutdown(), because)
        return self._advanced()

    def ignored(self, slot: Slot, now: float) -> list[Move]:
        """A start answered IGNORE: no failure, and no ref."""
        self._now = now
        if slot.status not in LIVE:
            return self._advanced()
        call, slot.call = slot.call, None
        was_asked_to_stop = slot.is_asked
        if call is not None:
            self._out.append(AnswerStart(call, None, None))
        self._leave(slot)
        if was_asked_to_stop:
            self._serve_queue(slot)
        return self._advanced()

    def start_failed(
        self, slot: Slot, error: BaseException, now: float, *, stop: Exit | None = None
    ) -> list[Move]:
        """A start raised; what follows depends on who had asked for it.

        `stop`: somebody has stopped or killed the child by its ref meanwhile.
        """
        self._now = now
        if slot.status not in LIVE:
            return self._advanced()
        self._cancel(slot)
        if slot.is_asked and self._is_started_again(slot):
            # The group cut the start off, and starts the child itself: that is what its caller
            # is told, so the call stays open.
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
            # Whoever starts this supervisor is told: by an error, or a report of its own.
            self._report("start_error", error, slot, is_quiet=True)
            self._leave(slot, error)
            self._end(Shutdown(FailedToStart(slot.id or "", error)), f"{slot.id} did not start")
        elif stop is not None and not is_restarted_after(slot.spec, stop):
            self._report("start_error", error, slot)
            self._end_unborn(slot, stop)
        else:
            self._attempt_failed(slot, error)
        return self._advanced()

    def exited(self, slot: Slot, exit_: Exit, now: float) -> list[Move]:
        """An incarnation is wholly over."""
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
            # It went before the group's stop reached it: the same as being stopped, and no need
            # for a restart of its own.
            self._report_stop(slot, exit_)
            slot.after = "group"
            self._stopped(slot)
        elif self.phase == "starting":
            # As if its end were noticed when all have started: the order stays simple. Under OTP
            # the exit waits in the mailbox until `init` has returned.
            slot.status = "restarting"
            self._out.append(AwaitRestart(slot, "restarting", None))
            self._postponed.append((slot, exit_))
        else:
            self._ended_by_itself(slot, exit_)
        return self._advanced()

    # -- what an end means ---------------------------------------------------------------------

    def _ended_by_itself(self, slot: Slot, exit_: Exit) -> None:
        if is_reported(slot.spec, exit_):
            self._report("child_terminated", exit_, slot)
        match self._verdict(lambda: judge(slot.spec, exit_)):
            case Verdict.ESCALATE:
                self._give_up(slot, "escalate_on", exit_)
            case Verdict.RESTART:
                because = f"{slot.id} {ended_as(exit_)}"
                self._need_restart(slot, because, exit_, is_crash=True)
            case Verdict.LEAVE:
                self._out.append(Decided(slot, "stop", (slot,), None))
                self._leave(slot)
                if self.flags.auto_shutdown != "never" and triggers(slot.spec, exit_):
                    self._significant_end(slot)
        # Last: also one that is left listed, and that nobody restarts, is missed.
        slot.gave_up = gave_up_with(exit_) is not None

    def _attempt_failed(self, slot: Slot, error: BaseException) -> None:
        self._report("start_error", error, slot)
        match self._verdict(lambda: judge_start(slot.spec, error)):
            case Verdict.ESCALATE:
                self._give_up(slot, "escalate_on", error)
            case Verdict.RESTART:
                self._need_restart(slot, f"{slot.id} did not start", error, is_crash=False)
            case Verdict.LEAVE:
                self._leave(slot, error)

    def _need_restart(
        self, slot: Slot, because: str, ending: Exit | BaseException, *, is_crash: bool
    ) -> None:
        spent = self._budget_spent(slot, self.window)
        if spent is not None:
            self._give_up(slot, spent, ending)
            return
        slot.restarts += 1
        slot.because = because
        slot.status = "restarting"
        delay = self._wait_of(slot)
        if self.flags.strategy == "one_for_one":
            self._restart_alone(slot, delay, is_crash=is_crash)
        else:
            self._restart_group(slot, delay, because, is_crash=is_crash)

    def _stopped(self, slot: Slot) -> None:
        """An asked-for stop is over; do what it was for."""
        if slot.after == "end" or self.phase == "ending":
            self._retire(slot)
        elif slot.after == "group" and slot.spec.restart == "temporary":
            self._drop(slot)
        elif slot.after == "group":
            slot.status = "restarting"
            slot.because = None if self.group is None else self.group.because
            self._out.append(AwaitRestart(slot, "restarting", None))
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

    def _leave(self, slot: Slot, cause: BaseException | None = None) -> None:
        """No restart follows: the spec stays listed without ref, a temporary one goes."""
        if slot.spec.restart == "temporary":
            self._drop(slot, cause)
        else:
            self._retire(slot, cause)

    def _drop(self, slot: Slot, cause: BaseException | None = None) -> None:
        """Take a child off the list; another one may have its id by now, and stays."""
        if self.slots.get(slot.id or "") is slot:
            del self.slots[slot.id or ""]
        self._retire(slot, cause)
        slot.is_listed = False

    # -- groups --------------------------------------------------------------------------------

    def _restart_group(
        self, slot: Slot, delay: float | None, because: str, *, is_crash: bool
    ) -> None:
        """Begin a group restart for a failed child, or let the one under way cover it."""
        members = self._members_from(slot)
        word: DecisionWord = "restart_rest"
        if self.flags.strategy == "one_for_all":
            word = "restart_all"
        self._out.append(Decided(slot, word, tuple(members), delay))
        self._out.append(AwaitRestart(slot, "restarting", None))
        if self.group is not None and self._is_covered(slot):
            self.group.covered.append(slot)
            return
        # Zero seconds after a failed attempt still go by way of a wake: the mailbox is served.
        # The others live on until it fires, and are stopped then (Rule 4). With a backoff they
        # are down while it waits.
        steps: list[Step] = ["waiting", "stopping", "starting"]
        if delay is not None:
            steps = ["stopping", "waiting", "starting"]
        elif is_crash:
            steps = ["stopping", "starting"]
        group = Group(slot, members, steps, f"{self.flags.strategy}: {because}")
        if self.group is not None:
            group.newcomers = self.group.newcomers
            group.left = [*self.group.members, *self.group.covered, *self.group.left]
        self.group = group
        if delay is not None:
            slot.status = "backing_off"
            slot.next_at = self._now + delay
            self._out.append(AwaitRestart(slot, "backing_off", slot.next_at))
        self._enter_step(group)

    def _is_covered(self, slot: Slot) -> bool:
        """Whether the group under way will come to start this child anyway."""
        group = self.group
        if group is None or group.culprit is slot:
            return False
        if group.step != "starting":
            return slot in self._members_from(group.culprit)
        # Starting already: it comes to those after the one that is starting now, unless that one
        # has ended too.
        if self.flags.strategy == "one_for_all" or group.current is None:
            return False
        after_current = self._members_from(group.current)[1:]
        if slot not in after_current or not group.current.is_live:
            return False
        if slot not in group.todo:
            group.todo.insert(0, slot)
        return True

    def _members_from(self, slot: Slot | None) -> list[Slot]:
        """Whom the end of a child concerns: all, or those from it on, as they are listed now."""
        members = list(self.slots.values())
        if self.flags.strategy == "one_for_all" or slot is None or slot not in members:
            return members
        return members[members.index(slot) :]

    def _enter_step(self, group: Group) -> None:
        # Listed anew at each step: children may have been added, removed or put in another order
        # since the last one. Who waits for this group is in it wherever it stands by now.
        culprit = group.culprit
        group.current = None
        awaiting = (*group.members, *group.covered, *group.left)
        wanted = {member for member in awaiting if member.status in WAITING}
        if culprit is None or culprit.is_listed:
            wanted.update(self._members_from(culprit))
        else:
            wanted.update(group.members)
        group.members = [slot for slot in self.slots.values() if slot in wanted]
        match group.step:
            case "stopping":
                group.todo = list(group.members)
            case "starting":
                group.todo = group.members[::-1]
            case "waiting":
                assert culprit is not None, "only a failure waits"
                next_at = culprit.next_at
                at = self._now if next_at is None else max(self._now, next_at)
                self._wake(culprit, at, self._wait_is_over)
                # Setting a wake forgets the time; here it is what the waiting is shown until.
                culprit.next_at = next_at

    def _wait_is_over(self, slot: Slot) -> None:
        # Another group may have taken the place of the one that set this wake.
        group = self.group
        if group is not None and group.culprit is slot and group.step == "waiting":
            slot.next_at = None
            if slot.status == "backing_off":
                slot.status = "restarting"
            self._next_step(group)
            self._advance_group()

    def _next_step(self, group: Group) -> None:
        group.steps.pop(0)
        if group.steps:
            self._enter_step(group)
        else:
            self.group = None
        newcomers, group.newcomers = group.newcomers, []
        for start in newcomers:
            start()

    def _advance_group(self) -> None:
        """Do what can be done now; returns when a child has to answer first."""
        # Read anew in each turn of the loop: a step's end may begin another group.
        while self.group is not None:
            group = self.group
            if group.step == "waiting":
                return
            current = group.current
            if current is not None and current.status in LIVE and current.status != "running":
                return
            if not group.todo:
                self._next_step(group)
                continue
            slot = group.todo[-1]
            if group.step == "stopping":
                if slot.status in LIVE:
                    self._halt(slot, "group", group.because)
                    return
            elif slot.status in LIVE:
                group.current = slot
            elif slot.is_listed and slot not in group.skipped:
                self._cancel(slot)
                self._start(slot, slot.call, is_attempt=group.culprit is not None)
                group.current = slot
            group.todo.pop()

    def _end_waiting(self, slot: Slot) -> None:
        """`terminate_child` of a child that waits for its restart: no attempt follows.

        When it is the one the group waits for, the group ends with it: members that are not up
        stay down, as under OTP. In the other steps the group goes on without it.
        """
        group = self.group
        self._leave(slot)
        if group is None:
            return
        if group.step != "waiting":
            group.skipped.add(slot)
        elif group.culprit is slot:
            self.group = None
            failed = [one for one in self.slots.values() if one in group.covered]
            still = next((one for one in failed if one.status in WAITING), None)
            if still is not None:
                self._restart_group(still, None, f"{still.id} failed too", is_crash=True)
            for member in list(self.slots.values()):
                if member.status in WAITING and not self._is_in_group(member):
                    self._leave(member)

    def _end_unborn(self, slot: Slot, exit_: Exit) -> None:
        # Unlike `terminate_child` this is no wish about the others: the group goes on without it.
        group = self.group
        self._leave(slot)
        if group is not None:
            group.skipped.add(slot)
            if group.step == "waiting" and group.culprit is slot:
                self._next_step(group)
        if self.flags.auto_shutdown != "never" and triggers(slot.spec, exit_):
            self._significant_end(slot)

    def _is_in_group(self, slot: Slot) -> bool:
        return self.group is not None and slot in self.group.members

    # -- questions: answered at once in every state ------------------------------------------

    def which_children(self) -> list[AnyChild]:
        """The children in start order."""
        return [child_of(slot, slot.id) for slot in self.slots.values()]

    def which_child(self, child_id: object) -> AnyChild:
        """One line of the list. Raises `NotFound`."""
        slot = self._find(child_id)
        return child_of(slot, slot.id)

    def count_children(self) -> Counts:
        """How many children there are."""
        return count_slots(self.slots.values(), len(self.slots))

    def get_spec(self, child_id: object) -> ChildSpec:
        """The spec of one child. Raises `NotFound`."""
        return self._find(child_id).spec

    # -- calls: answered at once, or when the child has ended or started -----------------------

    def start_child(self, call: Call, value: object, now: float) -> list[Move]:
        """Add a child at the end and start it."""
        self._now = now
        try:
            spec = ChildSpec.parse(value)
            check_together(spec, self.flags)
        except SpecError as error:
            self._out.append(Refuse(call, error))
        else:
            self._start_child(call, spec)
        return self._advanced()

    def terminate_child(self, call: Call, child_id: object, now: float) -> list[Move]:
        """Stop a child; its spec stays unless it is temporary."""
        return self._on_slot(call, child_id, now, self._terminate)

    def restart_child(self, call: Call, child_id: object, now: float) -> list[Move]:
        """Start a child that is listed without running."""
        return self._on_slot(call, child_id, now, self._restart_child)

    def delete_child(self, call: Call, child_id: object, now: float) -> list[Move]:
        """Remove the spec of a child that does not run."""
        return self._on_slot(call, child_id, now, self._delete)

    def restart_now(self, call: Call, child_id: object, now: float) -> list[Move]:
        """End the wait before a child's next restart attempt."""
        return self._on_slot(call, child_id, now, self._restart_now)

    def reconfigure(self, call: Call, plan: Plan, now: float) -> list[Move]:
        """Replace flags and specs without touching what runs.

        Changed specs rule from now on, their start from the next start. Added ones are listed
        without running, removed ones keep running and stand last.
        """
        self._now = now
        if self._is_closed_to(call):
            return self._taken()
        if not isinstance(plan.flags, Flags):
            self._out.append(Refuse(call, SpecError("bad_template", "flags", plan.flags)))
            return self._taken()
        self.flags = plan.flags
        kept = dict(self.slots)
        self.slots.clear()
        for spec in plan.specs:
            slot = kept.pop(spec.id, None)
            if slot is None:
                slot = Slot(spec, spec.id)
            slot.spec = spec
            self.slots[spec.id] = slot
        self.slots.update(kept)
        self._out.append(Answer(call, None))
        return self._advanced()

    # -- one change, when its child is in a state to be looked at ---------------------------

    def _on_slot(
        self, call: Call, child_id: object, now: float, act: Callable[[Call, Slot], None]
    ) -> list[Move]:
        self._now = now
        self._look_at(call, child_id, act)
        return self._advanced()

    def _look_at(self, call: Call, child_id: object, act: Callable[[Call, Slot], None]) -> None:
        if self._is_closed_to(call):
            return
        try:
            slot = self._find(child_id)
        except NotFound as error:
            self._out.append(Refuse(call, error))
            return
        if slot.is_stopping:
            # By its id: after the end the slot may be gone, or another one have the id.
            self._wait_for_end(slot, lambda: self._look_at(call, child_id, act))
        else:
            act(call, slot)

    def _find(self, child_id: object) -> Slot:
        # A ref in place of an id is NotFound: on a static supervisor children have ids.
        # A plain text: the `__hash__` of a subclass is a person's, and would raise in here.
        slot = self.slots.get(str.__str__(child_id)) if isinstance(child_id, str) else None
        if slot is None:
            raise NotFound(child_id)
        return slot

    def _start_child(self, call: Call, spec: ChildSpec) -> None:
        if self._is_closed_to(call):
            return
        slot = self.slots.get(spec.id)
        if slot is not None and slot.is_stopping:
            self._wait_for_end(slot, lambda: self._start_child(call, spec))
        elif slot is not None and slot.is_up and slot.cell is not None:
            self._out.append(Refuse(call, AlreadyStarted(slot.cell.ref)))
        elif slot is not None:
            self._out.append(Refuse(call, AlreadyPresent(spec.id)))
        elif self.group is not None and self.group.step == "stopping":
            # Between the stop of a group and its start: the newcomer waits for its turn.
            self.group.newcomers.append(lambda: self._start_child(call, spec))
        else:
            slot = self.slots[spec.id] = Slot(spec, spec.id)
            slot.is_new = True
            self._start(slot, call)

    def _terminate(self, call: Call, slot: Slot) -> None:
        if slot.status in LIVE:
            self._halt(slot, "call", "terminate_child")
            self._wait_for_end(slot, lambda: self._out.append(Answer(call, None)))
            return
        if slot.status in WAITING:
            self._end_waiting(slot)
        else:
            self._leave(slot)  # a temporary one that never ran goes
        self._out.append(Answer(call, None))

    def _restart_child(self, call: Call, slot: Slot) -> None:
        if slot.is_up:
            self._out.append(Refuse(call, StillRunning(slot.id)))
        elif slot.is_restarting:
            self._out.append(Refuse(call, StillRestarting(slot.id)))
        else:
            slot.is_new = False
            if self.group is not None:
                # It is up again: whom the group stops it starts.
                self.group.skipped.discard(slot)
            self._start(slot, call)

    def _delete(self, call: Call, slot: Slot) -> None:
        if slot.is_up:
            self._out.append(Refuse(call, StillRunning(slot.id)))
        elif slot.is_restarting:
            self._out.append(Refuse(call, StillRestarting(slot.id)))
        else:
            self._drop(slot)
            self._out.append(Answer(call, None))

    def _restart_now(self, call: Call, slot: Slot) -> None:
        if slot.status in LIVE:
            self._out.append(Refuse(call, StillRunning(slot.id)))
        elif slot.wake is None or slot.status not in WAITING:
            self._out.append(Refuse(call, NotBackingOff(slot.id, slot.status)))
        else:
            self._wake_now(slot)
            self._out.append(Answer(call, None))

    # -- the supervisor's own end --------------------------------------------------------------

    def _end(self, final: Exit, because: str) -> None:
        if self.is_ending:
            return  # the first reason to end stands
        self.phase = "ending"
        self.final = final
        self.group = None
        self._because = because
        self._todo = list(self.slots.values())
        self._postponed.clear()

    def _all_slots(self) -> Sequence[Slot]:
        return list(self.slots.values())

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
            # An earlier one of them may have ended the supervisor, or a call this child's wait.
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
