"""What the stage of the lab shows: a visitor's sandbox, its crashes, one actor in detail.

View models only. Templates: `templates/macros/stage.html`, `templates/fragments/stage_*.html`.
Places (`feed-sink`) are words of ours; what actors say of themselves is for text nodes only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from math import ceil

from web.views.tree import ActorStatus, Decision, RestartWindow, StrategyBadge
from web.views.words import ElementId, ImpossibleView, check_count, check_text, element_id

# LAB-20: from four fifths of its capacity on a mailbox is said to be filling.
FILLING_PART = 0.8
# LAB-12: of so many crashes the steps are kept; each has a place of its own on the page.
STORY_SLOTS = 20

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


class StageAccess(StrEnum):
    """Why the buttons of the stage work, or why not."""

    OPEN = "open"
    SHARED = "shared"
    FULL = "full"
    READONLY = "readonly"
    BUSY = "busy"
    OFF = "off"


_ACCESS_TEXTS = {
    StageAccess.OPEN: "Real actors, and yours alone: nobody else can see them break.",
    StageAccess.SHARED: "The shared sandbox. Yours is made before your first crash.",
    StageAccess.FULL: "All 200 sandboxes are taken: this is the shared one, to look at.",
    StageAccess.READONLY: "Read-only: the operator has closed the lab for actions.",
    StageAccess.BUSY: "Read-only for a moment: the site has much to do.",
    StageAccess.OFF: "The lab is off. Chat stays open.",
}


@dataclass(frozen=True, slots=True)
class ChipView:
    """One actor of the stage. `status` None: it is gone for now. Supervisors have a `strategy`."""

    place: ElementId
    above: ElementId | None
    name: str
    kind: str
    status: ActorStatus | None
    incarnation: int = 1
    queued: int = 0
    capacity: int = 1
    strategy: StrategyBadge | None = None
    window: RestartWindow | None = None
    # While it waits for its restart: how long, from the exit on.
    backoff_ms: int | None = None

    def __post_init__(self) -> None:
        element_id(f"chip-{self.place}")
        check_text("name", self.name)
        check_text("kind", self.kind)
        check_count("incarnation", self.incarnation, least=1)
        check_count("queued", self.queued)
        check_count("capacity", self.capacity, least=1)

    @property
    def tone(self) -> str:
        """Call this to get the colour family of the status: good, busy, idle, bad or gone."""
        return "gone" if self.status is None else _TONES[self.status]

    @property
    def status_word(self) -> str:
        """Call this to get the status as a reader says it."""
        return "gone" if self.status is None else self.status.value.replace("_", " ")

    @property
    def status_id(self) -> ElementId:
        """Call this to get the status as scripts read it."""
        return element_id("gone" if self.status is None else self.status.value)

    @property
    def is_filling(self) -> bool:
        """Whether its mailbox is nearly full."""
        return self.queued >= FILLING_PART * self.capacity

    @property
    def pips(self) -> tuple[bool, ...]:
        """Call this for the restart budget, a pip for each restart allowed: used or not."""
        if self.window is None:
            return ()
        return tuple(number < self.window.used for number in range(self.window.most))

    @property
    def is_spent(self) -> bool:
        """Whether one more crash is too much for its supervisor."""
        return self.window is not None and self.window.used >= self.window.most


@dataclass(frozen=True, slots=True)
class StepView:
    """One step of a crash: when it came, in microseconds from the exit."""

    word: str
    at_us: int

    def __post_init__(self) -> None:
        check_text("word", self.word)
        check_count("at_us", self.at_us)


@dataclass(frozen=True, slots=True)
class StoryView:
    """A crash and what followed, up to now. `restart_us` is None until it runs again.

    `line` says it in a sentence, for the tape, for readers, and for a give-up on the stage.
    """

    number: int
    place: ElementId
    name: str
    cause: str
    by: str
    leaves: tuple[str, ...] = ()
    strategy: StrategyBadge | None = None
    decision: Decision | None = None
    affected: tuple[ElementId, ...] = ()
    steps: tuple[StepView, ...] = ()
    waited: int = 0
    in_hand: int = 0
    lost: int = 0
    backoff_ms: int | None = None
    restart_us: int | None = None
    has_given_up: bool = False
    line: str = ""

    def __post_init__(self) -> None:
        element_id(f"story-{self.number}")
        element_id(self.place)
        for place in self.affected:
            element_id(place)
        check_text("name", self.name)
        check_text("cause", self.cause)

    @property
    def slot(self) -> int:
        """Call this for the place on the page where it is shown, until a later one takes it."""
        return self.number % STORY_SLOTS

    @property
    def bars(self) -> tuple[tuple[StepView, float, float], ...]:
        """Call this for the waterfall: each step, where its bar begins and how long it is, in %.

        A wait of a backoff would leave nothing of all else: a bar is never thinner than can be
        seen.
        """
        whole = max([step.at_us for step in self.steps] + [1])
        bars, began = [], 0
        for step in self.steps:
            left, width = 100 * began / whole, max(0.6, 100 * (step.at_us - began) / whole)
            bars.append((step, round(min(left, 99.4), 2), round(min(width, 100 - left), 2)))
            began = step.at_us
        return tuple(bars)


@dataclass(frozen=True, slots=True)
class ExitView:
    """One of the last exits of an actor."""

    kind: str
    cause: str
    incarnation: int
    ago_s: int
    because: str | None = None
    by: str | None = None
    leaves: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class InspectorView:
    """One actor in detail. `fields` are names and values of its state, redacted and cut."""

    chip: ChipView
    path: str
    uptime_s: int
    fields: tuple[tuple[str, str], ...] = ()
    figures: tuple[tuple[str, str], ...] = ()
    relations: tuple[tuple[str, str], ...] = ()
    exits: tuple[ExitView, ...] = ()


@dataclass(frozen=True, slots=True)
class SampleView:
    """Half a second: how many messages came, and where some wait."""

    came: int
    queued: tuple[tuple[ElementId, int], ...] = ()

    def __str__(self) -> str:
        waiting = ",".join(f"{place} {count}" for place, count in self.queued)
        return f"{self.came}:{waiting}"


@dataclass(frozen=True, slots=True)
class PulseView:
    """What the newest half second showed; `past` are those before, for who has just come."""

    number: int
    sample: SampleView
    lost: int
    doubled: int
    streams: int
    past: tuple[SampleView, ...] | None = None


@dataclass(frozen=True, slots=True)
class StageState:
    """What a visitor may do on the stage, and how often they still may."""

    access: StageAccess
    left: int
    most: int
    # When none is left: seconds until there is one.
    wait_s: float = 0.0
    # How often the sandbox was made anew because its desk had ended.
    remade: int = 0
    # When the sandbox heals itself, by the loop's clock; None: nobody has acted since it was whole.
    healed_at: float | None = None
    # The seconds until then, when this was made.
    heals_in_s: float = field(default=0.0, compare=False)

    def __post_init__(self) -> None:
        check_count("left", self.left)
        check_count("remade", self.remade)

    @property
    def heals(self) -> int:
        """Call this for the seconds until it heals itself; 0: it has nothing to heal."""
        return 0 if self.healed_at is None else max(1, ceil(self.heals_in_s))

    @property
    def text(self) -> str:
        """Call this for the reason in words."""
        return _ACCESS_TEXTS[self.access]

    @property
    def wait(self) -> int:
        """Call this for the wait in whole seconds."""
        return ceil(self.wait_s)


@dataclass(frozen=True, slots=True)
class StageView:
    """The whole stage: every place of the sandbox in the order it is drawn."""

    chips: tuple[ChipView, ...]
    state: StageState

    def __post_init__(self) -> None:
        if not self.chips or self.chips[0].above is not None:
            raise ImpossibleView("chips", len(self.chips), "at least a root")

    def below(self, place: str) -> tuple[ChipView, ...]:
        """Call this for who stands directly under a supervisor."""
        return tuple(chip for chip in self.chips if chip.above == place)
