"""The calls a person or program makes on a static supervisor, in each state of the child.

Part of the static supervisor's machine. Each call is answered by a move: at once, or when the
child it waits for has ended or started.

Rule: while a child is stopping, a change of it waits for its end and is looked at again then.
"""

from collections.abc import Callable

from supervision.deciding.groups import Groups
from supervision.deciding.moves import Answer, Call, Move, Refuse
from supervision.deciding.slots import LIVE, WAITING, Slot, child_of, count_slots
from supervision.specs.errors import (
    AlreadyPresent,
    AlreadyStarted,
    NotBackingOff,
    NotFound,
    SpecError,
    StillRestarting,
    StillRunning,
)
from supervision.specs.plans import Flags, Plan, check_together
from supervision.specs.specs import ChildSpec
from supervision.specs.words import Child, Counts

Again = Callable[[], None]


class Administration(Groups):
    """The calls; `StaticDecisions` adds the events."""

    # -- questions: answered at once in every state ------------------------------------------

    def which_children(self) -> list[Child]:
        """Call this to list the children in start order."""
        return [child_of(slot, slot.id) for slot in self.slots.values()]

    def which_child(self, child_id: object) -> Child:
        """Call this for one line of the list. Raises `NotFound`."""
        slot = self._find(child_id)
        return child_of(slot, slot.id)

    def count_children(self) -> Counts:
        """Call this to count the children."""
        return count_slots(self.slots.values(), len(self.slots))

    def get_spec(self, child_id: object) -> ChildSpec:
        """Call this for the spec of one child. Raises `NotFound`."""
        return self._find(child_id).spec

    # -- changes -------------------------------------------------------------------------------

    def start_child(self, call: Call, value: object, now: float) -> list[Move]:
        """Call this to add a child at the end and start it."""
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
        """Call this to stop a child; its spec stays unless it is temporary."""
        self._now = now
        self._on_slot(call, child_id, self._terminate)
        return self._advanced()

    def restart_child(self, call: Call, child_id: object, now: float) -> list[Move]:
        """Call this to start a child that is listed without running."""
        self._now = now
        self._on_slot(call, child_id, self._restart_child)
        return self._advanced()

    def delete_child(self, call: Call, child_id: object, now: float) -> list[Move]:
        """Call this to remove the spec of a child that does not run."""
        self._now = now
        self._on_slot(call, child_id, self._delete)
        return self._advanced()

    def restart_now(self, call: Call, child_id: object, now: float) -> list[Move]:
        """Call this to end the wait before a child's next restart attempt."""
        self._now = now
        self._on_slot(call, child_id, self._restart_now)
        return self._advanced()

    def reconfigure(self, call: Call, plan: Plan, now: float) -> list[Move]:
        """Call this to replace flags and specs without touching what runs.

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

    # -- waiting for an end ------------------------------------------------------------------

    def _on_slot(self, call: Call, child_id: object, act: Callable[[Call, Slot], None]) -> None:
        if self._is_closed_to(call):
            return
        try:
            slot = self._find(child_id)
        except NotFound as error:
            self._out.append(Refuse(call, error))
            return
        if slot.is_stopping:
            self._wait_for_end(slot, lambda: self._on_slot(call, child_id, act))
        else:
            act(call, slot)

    def _wait_for_end(self, slot: Slot, again: Again) -> None:
        slot.queue = [*(slot.queue or ()), again]

    def _serve_queue(self, slot: Slot) -> None:
        queue, slot.queue = slot.queue, None
        for again in queue or ():
            again()

    def _find(self, child_id: object) -> Slot:
        # A ref in place of an id is NotFound: on a static supervisor children have ids.
        slot = self.slots.get(child_id) if isinstance(child_id, str) else None
        if slot is None:
            raise NotFound(child_id)
        return slot
