"""How far the groups of the event bus are behind, as a figure: for health, the lab and metrics.

`lags_of` asks the bus; `BusLags` keeps its last answer, so that whoever shows the figures asks
nothing: `newest` is read as often as one likes, and `LagWatch` looks again while somebody does.

Rule 1: what nobody reads is not asked for (LAB-1).
Rule 2: a figure that is older than `STALE_S` is no figure any more.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import trio

from actors.persistence import StoreError
from actors.persistence.bus import EventBus, PartLag, UnknownGroup
from actors.runtime import Actor, Log, message

# Of so many groups it is looked how far they are behind; each is a question to the bus.
GROUPS_MAX = 20
# Somebody who looks sees a change as soon as with the eye; and it is a question a group.
LOOK_EVERY_S = 2.0
# A database that is frozen is told as soon as pages tell it (SITE-155).
LOOK_S_MAX = 2.0
# A scraper comes every 15 to 60 s; who comes more rarely finds the figures of the look before.
WANTED_S = 60.0
# Some looks that failed, one after the other.
STALE_S = 15.0

_log = Log(__name__)


@dataclass(frozen=True, slots=True)
class GroupLag:
    """How far a group is behind: by topic and partition, and all of it together."""

    group: str
    members: int
    parts: Sequence[PartLag]

    @property
    def records(self) -> int:
        """How many records it has not handled."""
        return sum(part.records for part in self.parts)

    @property
    def seconds(self) -> float:
        """The age of the oldest of them."""
        return max((part.seconds for part in self.parts), default=0.0)

    @property
    def handled_at(self) -> datetime | None:
        """When it last handled one; None where the bus does not know."""
        times = [part.handled_at for part in self.parts if part.handled_at is not None]
        return max(times, default=None)

    def by_topic(self) -> Mapping[str, tuple[int, float]]:
        """Call this for records and seconds of each topic: partitions would be many labels."""
        found: defaultdict[str, tuple[int, float]] = defaultdict(lambda: (0, 0.0))
        for part in self.parts:
            records, seconds = found[part.topic]
            found[part.topic] = records + part.records, max(seconds, part.seconds)
        return dict(found)


async def lags_of(bus: EventBus) -> Sequence[GroupLag]:
    """Call this for how far behind the first 20 groups are that are counted.

    Raises `BusUnavailable`. A group that has joined and never noted an offset has no lag yet.
    """
    found = []
    for group in [one for one in await bus.groups() if one.is_counted][:GROUPS_MAX]:
        try:
            parts = await bus.lag(group.name)
        except UnknownGroup:
            continue
        found.append(GroupLag(group.name, group.members, parts))
    return found


class BusLags:
    """Keeps how far the groups of a bus are behind; see the module's docstring."""

    def __init__(self, bus: EventBus) -> None:
        self._bus = bus
        self._newest: Sequence[GroupLag] = ()
        self._looked_at = self._wanted_at = -WANTED_S

    @property
    def is_wanted(self) -> bool:
        """Whether somebody has read the figures of late."""
        return trio.current_time() - self._wanted_at < WANTED_S

    def newest(self) -> Sequence[GroupLag]:
        """Call this for the figures as they are known; none before the first look, or when old."""
        self._wanted_at = trio.current_time()
        is_known = trio.current_time() - self._looked_at < STALE_S
        return self._newest if is_known else ()

    async def look(self) -> Sequence[GroupLag]:
        """Call this to ask the bus; raises `StoreError`, and `trio.TooSlowError` after 2 s."""
        with trio.fail_after(LOOK_S_MAX):
            found = await lags_of(self._bus)
        self._newest, self._looked_at = found, trio.current_time()
        return found


@message
class Look:
    """Time to see whether somebody reads the figures."""


class LagWatch(Actor[Look]):
    """Looks how far groups are behind, every 2 s while somebody reads it."""

    def __init__(self, lags: BusLags) -> None:
        self._lags = lags

    def on_start(self) -> None:
        """Look when it is wanted."""
        self.every(LOOK_EVERY_S, Look())

    async def on_look(self, _: Look) -> None:
        """Ask the bus; one that is away is told by its health."""
        if not self._lags.is_wanted:
            return
        try:
            await self._lags.look()
        except (StoreError, trio.TooSlowError) as error:
            _log.info("bus.lag_not_known", error=type(error).__name__)
