"""The nouns of the tree: one node an actor, one change a step of its life.

Frozen data, ready to be turned into JSON. How they are made stands in `snapshot.py`.
"""

from dataclasses import asdict, dataclass
from typing import Literal, TypeAlias

from actors.runtime import ExitJson

ChangeKind: TypeAlias = Literal[
    "starting",
    "started",
    "stopping",
    "exited",
    "decided",
    "restarting",
    "backing_off",
    "gone",
]
DecisionWord: TypeAlias = Literal["restart", "restart_rest", "restart_all", "stop", "give_up"]


@dataclass(frozen=True, slots=True)
class Window:
    """How much of a restart budget is used: `used` of `max` restarts in `period` seconds."""

    used: int
    max: int
    period: float


@dataclass(frozen=True, slots=True)
class Node:
    """One actor of the tree.

    `strategy` is the badge of a supervisor (`one_for_one`, ..., `dynamic`), None for a worker;
    `restart` is its restart type under its parent, None for the root. `restart_s` is the time
    the last restart took, from the exit to running. `last_exits` are the 8 newest with causes.
    """

    id: int
    path: str
    name: str
    parent: str | None
    type: Literal["worker", "supervisor"]
    kind: Literal["task", "dispatched"]
    class_name: str
    status: str
    status_since: float
    incarnation: int
    restarts: int
    crashes: int
    queued: int
    capacity: int
    strategy: str | None
    restart: str | None
    window: Window | None
    next_restart_at: float | None
    restart_s: float | None
    last_exits: tuple[ExitJson, ...]
    children: int

    def to_json(self) -> dict[str, object]:
        """Call this for plain data, all keys always present."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Decision:
    """What a supervisor decided about an ending: for which children, after how many seconds."""

    decision: DecisionWord
    affected: tuple[str, ...]
    backoff: float | None


@dataclass(frozen=True, slots=True)
class TreeChange:
    """One step: what happened to the actor at `path`, and its node afterwards (None: gone).

    A change of kind `decided` follows each `exited` that calls for something.
    """

    seq: int
    at: float
    path: str
    kind: ChangeKind
    node: Node | None
    exit: ExitJson | None
    because: str | None
    decision: Decision | None = None

    def to_json(self) -> dict[str, object]:
        """Call this for plain data, all keys always present."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class TreeSnapshot:
    """The whole tree at one moment, parents before their children, in start order.

    `epoch` names the system, `seq` the last change it holds.
    """

    epoch: str
    seq: int
    at: float
    actors: tuple[Node, ...]

    def to_json(self) -> dict[str, object]:
        """Call this for plain data, all keys always present."""
        return asdict(self)
