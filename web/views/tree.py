"""What the tree panel shows: actors, who supervises whom, and what became of a crash.

View models only. Templates: `templates/macros/tree.html`, `templates/fragments/`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from web.views.nodes import NodesView
from web.views.words import (
    ElementId,
    ImpossibleView,
    check_count,
    check_milliseconds,
    check_text,
    check_utc,
    element_id,
    mark_of,
)

# Of a tree that nobody keeps: who says it shows this one is sent the whole.
UNKNOWN_MARK = element_id("unknown")


class ActorStatus(StrEnum):
    """The eight words an actor's status is told in."""

    STARTING = "starting"
    RUNNING = "running"
    SUSPENDED = "suspended"
    RESTARTING = "restarting"
    BACKING_OFF = "backing_off"
    STOPPING = "stopping"
    STOPPED = "stopped"
    UNKILLABLE = "unkillable"


class StrategyBadge(StrEnum):
    """Whom a supervisor restarts when one child crashed."""

    ONE_FOR_ONE = "one_for_one"
    REST_FOR_ONE = "rest_for_one"
    ONE_FOR_ALL = "one_for_all"
    DYNAMIC = "dynamic"


class Decision(StrEnum):
    """What a supervisor decided after an exit."""

    RESTART = "restart"
    RESTART_REST = "restart_rest"
    RESTART_ALL = "restart_all"
    STOP = "stop"
    GIVE_UP = "give_up"


_TONES = {
    ActorStatus.STARTING: "busy",
    ActorStatus.RUNNING: "good",
    ActorStatus.SUSPENDED: "idle",
    ActorStatus.RESTARTING: "busy",
    ActorStatus.BACKING_OFF: "busy",
    ActorStatus.STOPPING: "idle",
    ActorStatus.STOPPED: "idle",
    ActorStatus.UNKILLABLE: "bad",
}

_DECISION_TEXTS = {
    Decision.RESTART: "restart it",
    Decision.RESTART_REST: "restart it and those started after it",
    Decision.RESTART_ALL: "restart all of them",
    Decision.STOP: "let it rest",
    Decision.GIVE_UP: "give up and escalate",
}


@dataclass(frozen=True, slots=True)
class RestartWindow:
    """How much of a supervisor's restart budget is used: `used` of `most` in `period_s`."""

    used: int
    most: int
    period_s: float

    def __post_init__(self) -> None:
        check_count("used", self.used)
        check_count("most", self.most)
        check_milliseconds("period_s", self.period_s)


@dataclass(frozen=True, slots=True)
class NodeView:
    """One actor's row. Supervisors have a `strategy`; `capacity` None means without limit.

    One that `holds` others is no supervisor of theirs: they work for it, as nested sagas do.
    `name`, `kind` and `last_exit` are for text nodes only.
    """

    id: ElementId
    name: str
    kind: str
    status: ActorStatus
    incarnation: int
    restarts: int
    queued: int
    capacity: int | None = None
    strategy: StrategyBadge | None = None
    window: RestartWindow | None = None
    last_exit: str | None = None
    holds: bool = False

    def __post_init__(self) -> None:
        element_id(f"node-{self.id}")
        check_text("name", self.name)
        check_text("kind", self.kind)
        check_count("incarnation", self.incarnation, least=1)
        check_count("restarts", self.restarts)
        check_count("queued", self.queued)
        if self.capacity is not None:
            check_count("capacity", self.capacity, least=1)

    @property
    def has_kids(self) -> bool:
        """Whether rows may hang below it, also where there is none yet."""
        return self.holds or self.strategy is not None

    @property
    def tone(self) -> str:
        """Call this to get the colour family of the status: good, busy, idle or bad."""
        return _TONES[self.status]

    @property
    def status_word(self) -> str:
        """Call this to get the status as a reader says it."""
        return self.status.value.replace("_", " ")

    @property
    def rebirth(self) -> str:
        """Call this to get the class that makes a new incarnation glow once.

        Two names by turns: an animation starts again only when its name changes.
        """
        if self.incarnation == 1:
            return "first-life"
        return "reborn-even" if self.incarnation % 2 == 0 else "reborn-odd"


@dataclass(frozen=True, slots=True)
class CountView:
    """Many children of one kind, shown as a number."""

    id: ElementId
    kind: str
    count: int

    def __post_init__(self) -> None:
        element_id(f"node-{self.id}")
        check_text("kind", self.kind)
        check_count("count", self.count)


@dataclass(frozen=True, slots=True)
class Branch:
    """A row and what hangs below it: of a supervisor, or of one that `holds` others."""

    node: NodeView
    children: tuple[Branch | CountView, ...] = ()

    def __post_init__(self) -> None:
        if self.children and not self.node.has_kids:
            raise ImpossibleView("children", self.node.name, "empty below a row without a strategy")


@dataclass(frozen=True, slots=True)
class CrashTarget:
    """The actor the crash button is for; offered only where crashing the site is allowed.

    While it does not run the button says so: the actor has no id, or one that soon is another's.
    """

    id: ElementId
    label: str
    is_running: bool = True

    def __post_init__(self) -> None:
        element_id(self.id)
        check_text("label", self.label)

    @property
    def mark(self) -> ElementId:
        """Call this to name what the button shows: another actor or state, another mark."""
        return mark_of(repr(self))


@dataclass(frozen=True, slots=True)
class CrashView:
    """A crash and what followed. `incarnation` and `restart_ms` are None until it is back.

    `has_given_up` tells that it was a supervisor whose children crashed too often: it ended, and
    the one above it decided; `children_back` is how many run again below it.
    """

    name: str
    cause: str
    supervisor: str
    strategy: StrategyBadge
    decision: Decision
    at: datetime
    affected: tuple[str, ...] = ()
    backoff_ms: float | None = None
    restart_ms: float | None = None
    incarnation: int | None = None
    has_given_up: bool = False
    children_back: int | None = None

    def __post_init__(self) -> None:
        for field, text in (("name", self.name), ("cause", self.cause), ("by", self.supervisor)):
            check_text(field, text)
        check_utc("at", self.at)
        check_milliseconds("backoff_ms", self.backoff_ms)
        check_milliseconds("restart_ms", self.restart_ms)
        if self.incarnation is not None:
            check_count("incarnation", self.incarnation, least=2)
        if self.children_back is not None:
            check_count("children_back", self.children_back)

    @property
    def mark(self) -> ElementId:
        """Call this to name what is told here: another word, another mark."""
        return mark_of(repr(self))

    @property
    def decision_text(self) -> str:
        """Call this to get the decision as a sentence's end."""
        return _DECISION_TEXTS[self.decision]


@dataclass(frozen=True, slots=True)
class LastedView:
    """What was survived over all runs: crashes of rooms, of other actors; letters rooms lost."""

    rooms: int
    others: int
    lost: int

    def __post_init__(self) -> None:
        check_count("rooms", self.rooms)
        check_count("others", self.others)
        check_count("lost", self.lost)

    @property
    def mark(self) -> ElementId:
        """Call this for what a page says it shows of it."""
        return element_id(f"{self.rooms}-{self.others}-{self.lost}")


@dataclass(frozen=True, slots=True)
class TreeView:
    """The whole tree panel, taken `at` one moment."""

    root: Branch
    at: datetime
    target: CrashTarget | None = None
    crash: CrashView | None = None
    # What the tree is called when the page asks for what has changed since.
    mark: ElementId = UNKNOWN_MARK
    # None while the store was not asked yet.
    lasted: LastedView | None = None
    # None where the site is served by one process.
    nodes: NodesView | None = None

    def __post_init__(self) -> None:
        check_utc("at", self.at)
