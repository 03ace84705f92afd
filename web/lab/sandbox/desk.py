"""The supervisors of a sandbox: the table of LAB-2, as it is written there.

desk      one_for_one    5 in 10 s
  feed    rest_for_one   3 in 5 s    source, router, sink
  crew    one_for_all    3 in 5 s    alpha, beta, gamma
  rooms   dynamic        5 in 5 s a child, with a backoff of 0.2 s doubling to 5 s
"""

from collections.abc import Callable
from functools import partial

from supervision import Backoff, ChildSpec, Dynamic, DynamicFlags, Flags, Plan, Supervisor
from web.lab.sandbox.cast import Member, Room, Router, Sink, Source
from web.lab.sandbox.words import (
    BUDGETS,
    CREW,
    CREW_MEMBERS,
    DESK,
    FEED,
    ROOMS,
    Place,
    Props,
    name_of,
)
from web.lab.sandbox.words import ROUTER as ROUTER_PLACE
from web.lab.sandbox.words import SINK as SINK_PLACE
from web.lab.sandbox.words import SOURCE as SOURCE_PLACE

# LAB-2: of `rooms`; more of them than the table has are for a later day.
ROOMS_MAX = 16
# A visitor may have 200 sandboxes beside theirs, and the one that all see.
SANDBOXES_MAX = 200
ROOM_BACKOFF = Backoff(first=0.2, max=5.0, jitter=0.0)


class FeedSupervisor(Supervisor):
    """Restarts who crashed and all that come after it: they work on what it sends."""

    def __init__(self, props: Props) -> None:
        self._props = props

    def plan(self) -> Plan:
        """From first to last."""
        router = partial(self.ref_of, name_of(ROUTER_PLACE))
        sink = partial(self.ref_of, name_of(SINK_PLACE))
        specs = [
            ChildSpec(name_of(SOURCE_PLACE), partial(Source, self._props, SOURCE_PLACE, router)),
            ChildSpec(name_of(ROUTER_PLACE), partial(Router, self._props, ROUTER_PLACE, sink)),
            ChildSpec(name_of(SINK_PLACE), partial(Sink, self._props, SINK_PLACE)),
        ]
        return Plan(Flags("rest_for_one", *BUDGETS[FEED]), specs)


class CrewSupervisor(Supervisor):
    """Restarts all of them when one crashed."""

    def __init__(self, props: Props) -> None:
        self._props = props

    def plan(self) -> Plan:
        """Three of a kind."""
        specs = [
            ChildSpec(name_of(place), partial(Member, self._props, place)) for place in CREW_MEMBERS
        ]
        return Plan(Flags("one_for_all", *BUDGETS[CREW]), specs)


class Desk(Supervisor):
    """The top of a sandbox. When it gives up, the sandbox is over, and made anew."""

    def __init__(self, props_of: Callable[[str], Props], sandbox: str) -> None:
        self._props = props_of(sandbox)

    def plan(self) -> Plan:
        """Restart each alone."""
        specs = [
            ChildSpec(FEED, partial(FeedSupervisor, self._props)),
            ChildSpec(CREW, partial(CrewSupervisor, self._props)),
            ChildSpec(ROOMS, partial(_rooms, self._props), type="supervisor"),
        ]
        return Plan(Flags("one_for_one", *BUDGETS[DESK]), specs)


def _rooms(props: Props) -> Dynamic[object]:
    intensity, period = BUDGETS[ROOMS]
    flags = DynamicFlags(key="name", intensity=intensity, period=period, max_children=ROOMS_MAX)
    template = ChildSpec("room", partial(_room, props), backoff=ROOM_BACKOFF)
    return Dynamic(flags, template)


def _room(props: Props, name: str) -> Room:
    return Room(props, Place(f"{ROOMS}-{name}"))


def sandboxes_supervisor(props_of: Callable[[str], Props]) -> Dynamic[object]:
    """Call this to make what stands above all sandboxes; none of them is restarted by it.

    A sandbox whose desk gave up is made anew by the keeper, under another name, so the site's own
    budget of restarts is not touched by what visitors do.
    """
    template = ChildSpec("sandbox", partial(Desk, props_of), restart="temporary")
    return Dynamic(DynamicFlags(key="sandbox", max_children=SANDBOXES_MAX + 1), template)
