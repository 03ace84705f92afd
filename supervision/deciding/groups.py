"""Starting or restarting several children in order: the first start and both group strategies.

Part of the static supervisor's machine. A group is a list of steps (`stopping`, `waiting`,
`starting`) worked through one child at a time; every event moves it on by `_advance_group`.

Rule 1: there is one group at a time; a failure while one is under way begins a new one that
covers what the old one had left to do.
Rule 2: between two attempts children that came up again live on; they are stopped by the next
attempt itself (`one_for_all`), as Erlang does it.
"""

from collections.abc import Callable
from typing import Literal

from supervision.deciding.machine import Machine
from supervision.deciding.moves import Decided, Hold
from supervision.deciding.slots import LIVE, WAITING, Slot
from supervision.specs.plans import Flags
from supervision.tree.tree import DecisionWord

Step = Literal["stopping", "waiting", "starting"]


class Group:
    """One start or restart of several children, under way."""

    __slots__ = (
        "because",
        "covered",
        "culprit",
        "current",
        "members",
        "newcomers",
        "skipped",
        "steps",
        "todo",
    )

    def __init__(
        self, culprit: Slot | None, members: list[Slot], steps: list[Step], because: str
    ) -> None:
        self.culprit = culprit
        self.members = members
        self.steps = steps
        self.because = because
        # Calls of start_child that came while the group was being stopped.
        self.newcomers: list[Callable[[], None]] = []
        # Children that failed too while the group was under way; it starts them as well.
        self.covered: list[Slot] = []
        self.todo: list[Slot] = []
        # The child whose start is awaited.
        self.current: Slot | None = None
        self.skipped: set[Slot] = set()

    @classmethod
    def first_start(cls, members: list[Slot]) -> "Group":
        """Call this for the supervisor's own start: nothing to stop, nobody to blame."""
        group = cls(None, members, ["starting"], "start")
        group.todo = members[::-1]
        return group

    @property
    def step(self) -> Step:
        """What is being done now."""
        return self.steps[0]

    def is_stopping(self, slot: Slot) -> bool:
        """Call this to know whether the group is about to stop this child anyway."""
        return self.step == "stopping" and slot in self.members


class Groups(Machine):
    """The part of a static supervisor that works through groups."""

    def __init__(
        self, flags: Flags, slots: dict[str, Slot], path: str, random: Callable[[], float]
    ) -> None:
        super().__init__(path, random)
        self.flags = flags
        self.slots = slots
        self.group: Group | None = None

    def _leave(self, slot: Slot, cause: BaseException | None = None) -> None:
        """No restart follows: the spec stays listed without ref, a temporary one goes."""
        if slot.spec.restart == "temporary":
            self._drop(slot, cause)
        else:
            self._retire(slot, cause)

    def _drop(self, slot: Slot, cause: BaseException | None = None) -> None:
        if self.slots.get(slot.id or "") is slot:
            del self.slots[slot.id or ""]
        self._forget(slot, cause)

    def _restart_group(
        self, slot: Slot, delay: float | None, because: str, *, is_crash: bool
    ) -> None:
        """Begin a group restart for a failed child, or let the one under way cover it."""
        members = self._members_from(slot)
        word: DecisionWord = "restart_rest"
        if self.flags.strategy == "one_for_all":
            word = "restart_all"
        self._out.append(Decided(slot, word, tuple(members), delay))
        self._out.append(Hold(slot, "restarting", None))
        if self.group is not None and self._is_covered(slot):
            self.group.covered.append(slot)
            return
        # Zero seconds after a failed attempt still go by way of a wake: the mailbox is served.
        steps: list[Step] = ["waiting", "stopping", "starting"]
        if delay is not None:
            steps = ["stopping", "waiting", "starting"]
        elif is_crash:
            steps = ["stopping", "starting"]
        group = Group(slot, members, steps, f"{self.flags.strategy}: {because}")
        if self.group is not None:
            group.newcomers = self.group.newcomers
        self.group = group
        if delay is not None:
            slot.status = "backing_off"
            slot.next_at = self._now + delay
            self._out.append(Hold(slot, "backing_off", slot.next_at))
        self._enter_step(group)

    def _is_covered(self, slot: Slot) -> bool:
        """Whether the group under way will come to start this child anyway."""
        group = self.group
        if group is None or group.culprit is slot:
            return False
        if group.step != "starting":
            return slot in self._members_from(group.culprit)
        if self.flags.strategy == "one_for_all" or group.current is None:
            return False
        after_current = self._members_from(group.current)[1:]
        if slot not in after_current or not group.current.is_live:
            return False
        if slot not in group.todo:
            group.todo.insert(0, slot)
        return True

    def _members_from(self, slot: Slot | None) -> list[Slot]:
        members = list(self.slots.values())
        if self.flags.strategy == "one_for_all" or slot is None or slot not in members:
            return members
        return members[members.index(slot) :]

    def _enter_step(self, group: Group) -> None:
        # Listed anew at each step: children may have been added or removed since the last one.
        culprit = group.culprit
        group.current = None
        wanted = {member for member in group.members if member.status in WAITING}
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
                culprit.next_at = next_at

    def _wait_is_over(self, slot: Slot) -> None:
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
        stay down, as under Erlang. In the other steps the group goes on without it.
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

    def _is_in_group(self, slot: Slot) -> bool:
        return self.group is not None and slot in self.group.members
