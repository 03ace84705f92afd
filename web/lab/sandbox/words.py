"""The places of a sandbox, and what its actors count together. Nothing here runs.

Rule: each count is changed by one place only, so that what a place counts survives its crash.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NewType

Place = NewType("Place", str)

# The table of LAB-2, in the order it is drawn; the path of each is below the sandbox's own.
DESK = Place("desk")
FEED, SOURCE, ROUTER, SINK = map(Place, ("feed", "feed-source", "feed-router", "feed-sink"))
CREW = Place("crew")
CREW_MEMBERS = tuple(Place(f"crew-{name}") for name in ("alpha", "beta", "gamma"))
ROOMS = Place("rooms")
ROOM_NAMES = ("room-1", "room-2", "room-3")
ROOM_PLACES = tuple(Place(f"rooms-{name}") for name in ROOM_NAMES)
PLACES: tuple[Place, ...] = (
    DESK, FEED, SOURCE, ROUTER, SINK, CREW, *CREW_MEMBERS, ROOMS, *ROOM_PLACES,
)  # fmt: skip
# Who stands above whom.
ABOVE: Mapping[Place, Place | None] = {
    DESK: None,
    **dict.fromkeys((FEED, CREW, ROOMS), DESK),
    **dict.fromkeys((SOURCE, ROUTER, SINK), FEED),
    **dict.fromkeys(CREW_MEMBERS, CREW),
    **dict.fromkeys(ROOM_PLACES, ROOMS),
}
SUPERVISORS = frozenset({DESK, FEED, CREW, ROOMS})

# How many restarts in how many seconds each supervisor bears; `rooms` of each room.
BUDGETS: Mapping[Place, tuple[int, float]] = {
    DESK: (5, 10.0), FEED: (3, 5.0), CREW: (3, 5.0), ROOMS: (5, 5.0),
}  # fmt: skip

# LAB-2: ten numbered messages a second from the source to the sink.
BEAT_S = 0.1
# LAB-20: long enough that 500 of them can be watched while they wait: ten seconds.
WORK_S = 0.02
# LAB-3: what all mailboxes of a sandbox may hold together, and the floods that are offered.
QUEUED_MAX = 5000
FLOOD_MIN, FLOOD_MAX = 1, 1000
# LAB-95: of all sandboxes. A letter costs the loop some 60 microseconds, so together they have a
# sixteenth of it. Alone a sandbox is never held back: nine flooded actors handle 450.
LETTERS_PER_S = 1000


def name_of(place: Place) -> str:
    """Call this for the name of the actor at a place, as its supervisor knows it."""
    above = ABOVE[place]
    return place if above is None or above == DESK else place.removeprefix(f"{above}-")


def below(root: str, place: Place) -> str:
    """Call this for the path of a place in the sandbox whose desk is at `root`."""
    above = ABOVE[place]
    return root if above is None else f"{below(root, above)}/{name_of(place)}"


def place_at(root: str, path: str) -> Place | None:
    """Call this for the place at a path of that sandbox; None when it is none."""
    if path == root:
        return DESK
    if not path.startswith(root + "/"):
        return None
    place = Place(path[len(root) + 1 :].replace("/", "-"))
    return place if place in ABOVE else None


class Pace:
    """How fast all sandboxes together may work: hands out moments, so many within a second.

    Each letter is told when it is done, so whoever waits has a timer and nobody has to be woken;
    in a crowd everybody's letters take longer, one after the other in turn (LAB-95).
    """

    def __init__(self, letters_per_s: int = LETTERS_PER_S) -> None:
        self._gap, self._last = 1 / letters_per_s, float("-inf")

    def done_at(self, now: float) -> float:
        """Call this when the work on a letter begins: when it is done, by the same clock.

        A letter is worked on for `WORK_S` at least. Who is stopped meanwhile leaves a gap.
        """
        self._last = max(now + WORK_S, self._last + self._gap)
        return self._last


@dataclass(slots=True)
class Props:
    """What the actors of one sandbox share: its counts, and the wishes of who breaks it."""

    # The same for all sandboxes.
    pace: Pace = field(default_factory=Pace)
    # By the source: how many it sent. By the sink: how many came, were missing, came twice.
    sent: int = 0
    received: int = 0
    expected: int = 1
    lost: int = 0
    doubled: int = 0
    # Without viewers the source rests (LAB-5).
    is_watched: bool = False
    # Places that shall crash with the next thing they do, and the flow of who wanted it first.
    cracks: dict[Place, str | None] = field(default_factory=dict)
    # Of the newest incarnation of a place: when it was made, and when its start began.
    made: dict[Place, float] = field(default_factory=dict)
    began: dict[Place, float] = field(default_factory=dict)

    def count_anew(self) -> None:
        """Called between two lives of the sandbox, when nothing is under way in it."""
        self.sent = self.received = self.lost = self.doubled = 0
        self.expected = 1

    def came(self, number: int) -> None:
        """Called by the sink for each message."""
        self.received += 1
        if number < self.expected:
            self.doubled += 1
            return
        self.lost += number - self.expected
        self.expected = number + 1
