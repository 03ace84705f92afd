"""What became of each crash: its steps with their times, told from the changes of the tree.

Pure: changes in, stories out. All times are trio's, in seconds. The newest twenty are kept.
"""

from collections import deque
from dataclasses import dataclass, field

from actors.runtime import ExitSummary
from supervision import Decision, TreeChange, Window
from web.lab.sandbox.words import ABOVE, BUDGETS, PLACES, SUPERVISORS, Place, Props, name_of

# LAB-12.
STORIES_MAX = 20
# LAB-11: of one place.
EXITS_MAX = 8
# What a supervisor that gives up says first in its exit (SUP-42).
GAVE_UP = "reached_max_restart_intensity"
# What the exit says of who was killed by its ref, and not by a supervisor that lost patience.
KILLED_BY_REF = "kill() was called"


@dataclass(slots=True)
class Story:
    """One ending and all that followed. A time is None until that step has come."""

    number: int
    place: Place
    incarnation: int
    kind: str
    cause: str
    leaves: tuple[str, ...]
    exit_at: float
    told_at: float
    # How many letters waited, and whether one was in hand; it is lost with the crash.
    waited: int
    in_hand: int
    # Letters that found a full mailbox meanwhile.
    lost: int = 0
    has_given_up: bool = False
    # Of a give-up: how many restarts in how many seconds were too many.
    window: Window | None = None
    decision: Decision | None = None
    decided_at: float | None = None
    affected: tuple[Place, ...] = ()
    made_at: float | None = None
    began_at: float | None = None
    running_at: float | None = None
    # When those restarted with it were back, and when all were.
    back_at: dict[Place, float] = field(default_factory=dict)

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to be told."""
        if self.decision is not None and self.decision.decision in {"give_up", "stop"}:
            return True
        return self.running_at is not None and set(self.affected) <= self.back_at.keys()

    @property
    def restart_us(self) -> int | None:
        """From the exit to running, in microseconds."""
        return None if self.running_at is None else round((self.running_at - self.exit_at) * 1e6)


@dataclass(frozen=True, slots=True)
class ExitNote:
    """One of the last exits of a place, with the leaves of a group."""

    exit: ExitSummary
    leaves: tuple[str, ...]


class Stories:
    """The stories of one sandbox."""

    def __init__(self, props: Props) -> None:
        self._props = props
        self._count = 0
        self.kept: deque[Story] = deque(maxlen=STORIES_MAX)
        self.exits: dict[Place, deque[ExitNote]] = {
            place: deque(maxlen=EXITS_MAX) for place in PLACES
        }

    def told(
        self, place: Place, change: TreeChange, leaves: tuple[str, ...], in_hand: int
    ) -> Story | None:
        """Call this with each change of the sandbox; gives the story that it went on with."""
        match change.kind:
            case "exited" if change.exit is not None:
                return self._exited(place, change, change.exit, leaves, in_hand)
            case "decided":
                return self._decided(place, change)
            case "started":
                return self._started(place, change)
            case _:
                return None

    def _exited(
        self,
        place: Place,
        change: TreeChange,
        exit_: ExitSummary,
        leaves: tuple[str, ...],
        in_hand: int,
    ) -> Story | None:
        self.exits[place].append(ExitNote(exit_, leaves))
        has_given_up = exit_.kind == "shutdown" and (exit_.info or "").startswith(GAVE_UP)
        by_force = exit_.kind == "killed" and exit_.because == KILLED_BY_REF
        if not (exit_.kind == "crashed" or has_given_up or by_force):
            return None  # stopped for another's sake: a part of that one's story
        self._count += 1
        node = change.node
        story = Story(
            number=self._count,
            place=place,
            incarnation=exit_.incarnation,
            kind=exit_.kind,
            cause=_cause(exit_),
            leaves=leaves,
            exit_at=min(exit_.at, change.at),
            told_at=change.at,
            waited=0 if node is None else node.queued,
            in_hand=in_hand,
            has_given_up=has_given_up,
            # Its own is gone with it; what its node shows is that of the one above.
            window=Window(0, *BUDGETS[place]) if has_given_up else None,
        )
        self.kept.append(story)
        return story

    def _decided(self, place: Place, change: TreeChange) -> Story | None:
        story = self._open(place)
        if story is None or story.decision is not None or change.decision is None:
            return None
        story.decision, story.decided_at = change.decision, change.at
        names = {path.rpartition("/")[2] for path in change.decision.affected}
        story.affected = tuple(
            other
            for other in PLACES
            if other != place and ABOVE[other] == ABOVE[place] and name_of(other) in names
        )
        return story

    def _started(self, place: Place, change: TreeChange) -> Story | None:
        story = self._open(place)
        if story is not None and story.decision is not None and story.running_at is None:
            if place not in SUPERVISORS:
                story.made_at = self._props.made.get(place)
                story.began_at = self._props.began.get(place)
            story.running_at = change.at
            return story
        for other in reversed(self.kept):
            if place in other.affected and not other.is_over:
                other.back_at[place] = change.at
                return other
        return None

    def _open(self, place: Place) -> Story | None:
        found = (story for story in reversed(self.kept) if story.place == place)
        story = next(found, None)
        return None if story is None or story.is_over else story


def _cause(exit_: ExitSummary) -> str:
    if exit_.kind == "killed":
        return "killed"
    words = [text for text in (exit_.error, exit_.message) if text]
    return ": ".join(words) or (exit_.info or exit_.kind)
