"""One child's place under its supervisor (a slot), and the lists that are read from the places.

A slot outlives the incarnations of its child, and its cell too: a child that was terminated
keeps its slot and has no cell.

Rule: only decisions change a slot. The hands set `cell`, what they saw of the last incarnation
(`exit`, `exited_at`, `restart_s`) and the two marks of the sweeps, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, Literal, Protocol, TypeAlias

from actors.runtime import AnyRef, Exit
from supervision.deciding.policy import Attempts, RestartWindow
from supervision.specs.specs import ChildSpec
from supervision.specs.words import AnyChild, Child, Counts

SlotStatus: TypeAlias = Literal[
    "stopped", "starting", "running", "stopping", "unkillable", "restarting", "backing_off"
]

# An incarnation exists, or is being made.
LIVE: Final = frozenset({"starting", "running", "stopping", "unkillable"})
# A restart will follow; the mailbox is kept.
WAITING: Final = frozenset({"restarting", "backing_off"})


class Call:
    """Who waits for an answer; decisions only hand it back."""

    __slots__ = ()


class Occupant(Protocol):
    """What decisions read of a child's cell."""

    @property
    def ref(self) -> AnyRef:
        """The child's ref."""

    @property
    def path(self) -> str:
        """Names from the root, joined by `/`."""

    @property
    def incarnation(self) -> int:
        """Counts from 1."""

    @property
    def status(self) -> str:
        """What the runtime says it is doing."""


class Slot:
    """The place of one child."""

    __slots__ = (
        *("id", "key", "name", "spec", "args", "named"),
        *("status", "is_listed", "has_cell", "cell"),
        *("call", "is_new", "is_attempt"),
        *("is_asked", "after", "queue"),
        *("restarts", "window", "attempts", "because", "wake", "next_at", "gave_up"),
        *("exit", "exited_at", "restart_s"),
        *("handled", "idle_since"),
    )

    def __init__(self, spec: ChildSpec, child_id: str | None) -> None:
        # Who it is. Dynamic children have no id, but what they were started with, and perhaps a
        # key or a name of their own.
        self.id = child_id
        self.key: str | None = None
        self.name: str | None = spec.name
        self.spec = spec
        # Of one child of a template: its own arguments, by position and by name.
        self.args: tuple[object, ...] = ()
        self.named: Mapping[str, object] | None = None
        # What it is doing, and whether it is still in its supervisor's list.
        self.status: SlotStatus = "stopped"
        self.is_listed = True
        # Whether a cell was asked for and not yet let go: decisions do not look at `cell`.
        self.has_cell = False
        self.cell: Occupant | None = None
        # A start under way: who waits for it, whether the child is gone if it fails, and whether
        # it is an automatic one (to callers the child is then still restarting).
        self.call: Call | None = None
        self.is_new = False
        self.is_attempt = False
        # A stop under way. Asked for by the supervisor: an outsider's kill can make a child
        # unkillable too. What follows its end, and what else waits for it.
        self.is_asked = False
        self.after: Literal["call", "group", "end", "park"] = "call"
        self.queue: list[Callable[[], None]] | None = None
        # Its restarts: how many, from which budget, why the one under way, and when.
        self.restarts = 0
        self.window: RestartWindow | None = None
        self.attempts: Attempts | None = None
        self.because: str | None = None
        self.wake: int | None = None
        self.next_at: float | None = None
        # A supervisor that used up its own budget, and is not back since.
        self.gave_up = False
        # How the last incarnation ended, until it is known what follows.
        self.exit: Exit | None = None
        self.exited_at: float | None = None
        self.restart_s: float | None = None
        # Of the sweeps for idle children: the counter, and when it was last seen to move.
        self.handled = 0
        self.idle_since: float | None = None

    def __repr__(self) -> str:
        return f"<Slot {self.id or self.key} {self.status}>"

    @property
    def is_live(self) -> bool:
        """Whether an incarnation exists or is being made."""
        return self.status in LIVE

    @property
    def is_stopping(self) -> bool:
        """Whether it was asked to stop and has not ended."""
        return self.is_asked and self.status in LIVE

    @property
    def is_up(self) -> bool:
        """Whether callers see a running child: an attempt to restart it is none yet."""
        return self.status in LIVE and not (self.status == "starting" and self.is_attempt)

    @property
    def is_restarting(self) -> bool:
        """Whether callers see a child that is being restarted."""
        return self.status in WAITING or (self.status == "starting" and self.is_attempt)


def child_of(slot: Slot, child_id: str | None) -> AnyChild:
    """The line of `which_children` for a slot."""
    cell = slot.cell if slot.is_up else None
    status: str = slot.status
    if slot.is_restarting and status == "starting":
        status = "restarting"
    if cell is not None and status == "running":
        status = cell.status  # suspended is the runtime's word, not ours
    return Child(
        id=child_id,
        ref=None if cell is None else cell.ref,
        status=status,
        type=slot.spec.type,
        restart=slot.spec.restart,
        incarnation=0 if slot.cell is None else slot.cell.incarnation,
    )


def count_slots(slots: Iterable[Slot], specs: int) -> Counts:
    """Count children by type; only those with an incarnation are active."""
    active = supervisors = workers = 0
    for slot in slots:
        active += slot.is_up
        if slot.spec.type == "supervisor":
            supervisors += 1
        else:
            workers += 1
    return Counts(specs, active, supervisors, workers)
