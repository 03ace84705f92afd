"""The calls a person or program makes on a dynamic supervisor: by ref, or by key.

The twin of `administration.py`. The supervisor resolves a ref to its slot first: these calls
get the slot, None for an actor that has ended, or `NotFound`.
"""

from collections.abc import Callable
from itertools import islice

from supervision.deciding.dynamic import DynamicDecisions
from supervision.deciding.moves import Answer, Call, Move, Refuse
from supervision.deciding.slots import LIVE, WAITING, Slot, child_of, count_slots
from supervision.specs.errors import (
    AlreadyPresent,
    AlreadyStarted,
    KeyRefused,
    NotBackingOff,
    SpecError,
    StillRunning,
    TooManyChildren,
)
from supervision.specs.plans import DynamicFlags, Plan
from supervision.specs.specs import ChildSpec
from supervision.specs.words import Child, Counts


class DynamicAdministration(DynamicDecisions):
    """The calls of a dynamic supervisor."""

    # -- questions --------------------------------------------------------------------------

    def which_children(self, offset: int = 0, limit: int | None = None) -> list[Child]:
        """Call this to list the children in start order, page by page if need be."""
        end = None if limit is None else offset + limit
        return [child_of(slot, None) for slot in islice(self.slots, offset, end)]

    def count_children(self) -> Counts:
        """Call this to count the children; there is one spec."""
        return count_slots(self.slots, 1)

    def get_spec(self) -> ChildSpec:
        """Call this for the template with its defaults."""
        return self.template

    def refusal(self, key: str | None, now: float) -> Exception | None:
        """Call this to know why no child of this key may be started now; None if it may."""
        limit = self.flags.max_children
        if limit is not None and len(self.slots) >= limit:
            return TooManyChildren(self.path, limit)
        if key is not None and key in self._refused_until:
            until = self._refused_until[key]
            if now < until:
                return KeyRefused(self.path, key, until - now)
            del self._refused_until[key]
        return None

    # -- changes ----------------------------------------------------------------------------

    def start_child(
        self,
        call: Call,
        args: tuple[object, ...],
        key: str | None,
        name: str | None,
        now: float,
    ) -> list[Move]:
        """Call this to start one more child."""
        self._now = now
        self._start_child(call, args, key, name)
        return self._taken()

    def _start_child(
        self, call: Call, args: tuple[object, ...], key: str | None, name: str | None
    ) -> None:
        if self._is_closed_to(call):
            return
        slot = None if key is None else self.by_key.get(key)
        if slot is not None:
            self._refuse_key(call, slot, lambda: self._start_child(call, args, key, name))
            return
        refusal = self.refusal(key, self._now)
        if refusal is not None:
            self._out.append(Refuse(call, refusal))
            return
        self._start(self._new_slot(args, key, name), call)

    def wanted(self, key: str, now: float) -> tuple[Slot | None, Exception | None, list[Move]]:
        """Call this when a message came for a key without child: a slot to start, or why not."""
        self._now = now
        refusal = self.refusal(key, now)
        if refusal is not None or self.phase != "running":
            return None, refusal, []
        slot = self._new_slot((), key, None)
        self._start(slot)
        return slot, None, self._taken()

    def terminate_child(self, call: Call, slot: Slot | None, now: float) -> list[Move]:
        """Call this to stop a child for good; None, one that has ended, is fine."""
        self._now = now
        if self._is_closed_to(call):
            return self._taken()
        if slot is None or not slot.is_listed:
            self._out.append(Answer(call, None))
        elif slot.status in LIVE:
            self._halt(slot, "call", "terminate_child")
            slot.queue = [*(slot.queue or ()), lambda: self._out.append(Answer(call, None))]
        else:
            self._gone(slot)
            self._out.append(Answer(call, None))
        return self._taken()

    def restart_now(self, call: Call, slot: Slot | None, now: float) -> list[Move]:
        """Call this to end the wait before a child's next restart attempt."""
        self._now = now
        if slot is not None and slot.status in LIVE:
            self._out.append(Refuse(call, StillRunning(slot.key or slot.cell)))
        elif slot is None or slot.wake is None or slot.status not in WAITING:
            self._out.append(Refuse(call, NotBackingOff(slot and slot.key, "stopped")))
        else:
            self._wake_now(slot)
            self._out.append(Answer(call, None))
        return self._taken()

    def passivate(self, slot: Slot, now: float) -> list[Move]:
        """Call this for a child that has been idle for `passivate_after`."""
        self._now = now
        if slot.status == "running" and self.phase == "running":
            self._halt(slot, "park", "idle")
        return self._taken()

    def reconfigure(self, call: Call, plan: Plan, now: float) -> list[Move]:
        """Call this to replace flags and template; the template serves later starts."""
        self._now = now
        if self._is_closed_to(call):
            return self._taken()
        if isinstance(plan.flags, DynamicFlags):
            self.flags, self.template = plan.flags, plan.specs[0]
            self._out.append(Answer(call, None))
        else:
            self._out.append(Refuse(call, SpecError("bad_template", "flags", plan.flags)))
        return self._taken()

    # -- inside -----------------------------------------------------------------------------

    def _new_slot(self, args: tuple[object, ...], key: str | None, name: str | None) -> Slot:
        slot = Slot(self.template, None)
        slot.is_new = True
        slot.args = args
        slot.key = key
        slot.name = name
        self.slots[slot] = None
        if key is not None:
            self.by_key[key] = slot
        return slot

    def _refuse_key(self, call: Call, slot: Slot, again: Callable[[], None]) -> None:
        if slot.is_stopping:
            slot.queue = [*(slot.queue or ()), again]
        elif slot.is_up and slot.cell is not None:
            self._out.append(Refuse(call, AlreadyStarted(slot.cell.ref)))
        else:
            self._out.append(Refuse(call, AlreadyPresent(slot.key or "")))
