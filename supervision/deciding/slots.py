"""One child's place under its supervisor, and the lists that are read from the places.

A slot outlives the incarnations of its child, and its cell too: a child that was terminated
keeps its slot and has no cell. Only decisions change a slot; only the supervisor sets `cell`.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias

from supervision.deciding.budget import Attempts, RestartWindow
from supervision.specs.specs import ChildSpec
from supervision.specs.words import Child, Counts

if TYPE_CHECKING:
    from actors.runtime import AnyRef, Exit
    from supervision.deciding.moves import Call


SlotStatus: TypeAlias = Literal[
    "stopped", "starting", "running", "stopping", "unkillable", "restarting", "backing_off"
]

# An incarnation exists, or is being made.
LIVE: Final = frozenset({"starting", "running", "stopping", "unkillable"})
# A restart will follow; the mailbox is kept.
WAITING: Final = frozenset({"restarting", "backing_off"})


class Occupant(Protocol):
    """What decisions read of a child's cell."""

    @property
    def ref(self) -> "AnyRef":
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
        "after",
        "args",
        "attempts",
        "because",
        "call",
        "cell",
        "exit",
        "exited_at",
        "handled",
        "has_cell",
        "id",
        "idle_since",
        "is_asked",
        "is_attempt",
        "is_listed",
        "is_new",
        "key",
        "name",
        "next_at",
        "queue",
        "restart_s",
        "restarts",
        "spec",
        "status",
        "wake",
        "window",
    )

    def __init__(self, spec: ChildSpec, child_id: str | None) -> None:
        self.id = child_id
        self.spec = spec
        self.status: SlotStatus = "stopped"
        self.cell: Occupant | None = None
        # How the last incarnation ended, until it is known what follows; and why it restarts.
        self.exit: Exit | None = None
        self.exited_at: float | None = None
        self.restart_s: float | None = None
        self.because: str | None = None
        # Whether a cell was asked for and not yet let go: decisions do not look at `cell`.
        self.has_cell = False
        # Dynamic children: what they were started with, and under which key or name.
        self.args: tuple[object, ...] = ()
        self.key: str | None = None
        self.name: str | None = spec.name
        self.after: Literal["call", "group", "end", "park"] = "call"
        # Whether the supervisor asked it to stop: an outsider's kill can make it unkillable too.
        self.is_asked = False
        self.call: Call | None = None
        self.is_new = False
        # Whether the start under way is an automatic one: to callers it is still restarting.
        self.is_attempt = False
        self.is_listed = True
        # What waits for the end of a stop that is under way.
        self.queue: list[Callable[[], None]] | None = None
        self.wake: int | None = None
        self.next_at: float | None = None
        # Of the sweeps for idle children: the counter and the time when it was last seen to move.
        self.handled = 0
        self.idle_since: float | None = None
        self.window: RestartWindow | None = None
        self.attempts: Attempts | None = None
        self.restarts = 0

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


def child_of(slot: Slot, child_id: str | None) -> Child:
    """Call this to get the line of `which_children` for a slot."""
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
    """Call this to count children by type; only those with an incarnation are active."""
    active = supervisors = workers = 0
    for slot in slots:
        active += slot.is_up
        if slot.spec.type == "supervisor":
            supervisors += 1
        else:
            workers += 1
    return Counts(specs, active, supervisors, workers)


def ended_as(exit_: "Exit") -> str:
    """Call this to say in one word how a child ended, for the cause of its siblings' stop."""
    return {"Normal": "ended", "Shutdown": "shut down", "Killed": "was killed"}.get(
        type(exit_).__name__, "crashed"
    )
