"""From the backups and the archived files of the log to what can be restored.

Pure decisions. A *place* in the log is a number of bytes (an LSN); its files, *segments*, have a
number, and are named with the timeline they are of. A *road* is the timelines that a recovery goes
through, oldest first, each with the place where the next one leaves it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import msgspec

from storage.postgres.embedded.archiving import SEGMENT_BYTES, is_segment

_SEGMENTS_PER_NAME = (1 << 32) // SEGMENT_BYTES

Kind = Literal["base", "incremental"]


class Backup(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One backup, as its own file tells of it."""

    number: int
    kind: Kind
    # Of an incremental one: the backup that it needs beneath it.
    parent: int | None
    timeline: int
    # Recovery begins at the first place, and what was written up to the second must be there.
    start: int
    stop: int
    began_at: datetime
    # By the server's clock, when it was complete: any moment from then on can be reached, with the
    # log up to the place `sealed`, where the log stood then.
    ended_at: datetime
    sealed: int
    size_bytes: int
    server: str

    @property
    def name(self) -> str:
        """Call this for the name of its folder."""
        return f"{self.number:04}-{self.kind}"


@dataclass(frozen=True, slots=True)
class Fork:
    """Where a timeline was left for the next one."""

    timeline: int
    at: int


# timeline -> what it came from, oldest first; the first timeline came from nothing.
Histories = Mapping[int, Sequence[Fork]]


@dataclass(frozen=True, slots=True)
class Reach:
    """How far recovery comes from one backup on one road.

    `last` is the segment after which there is none, and `missing` the one that would follow, when
    later ones are there.
    """

    backup: Backup
    last: int | None
    missing: str | None


@dataclass(frozen=True, slots=True)
class Span:
    """What can be restored without a hole between, from one moment to another."""

    first: datetime
    last: datetime


def parse_place(text: str) -> int:
    """Call this with a place as the server writes it, such as `0/3000148`."""
    high, low = text.split("/")
    return (int(high, 16) << 32) | int(low, 16)


def segment_of(place: int) -> int:
    """Call this for the number of the segment that a place lies in."""
    return place // SEGMENT_BYTES


def segment_name(timeline: int, number: int) -> str:
    """Call this for the name of a segment."""
    high, low = divmod(number, _SEGMENTS_PER_NAME)
    return f"{timeline:08X}{high:08X}{low:08X}"


def parse_segment(name: str) -> tuple[int, int] | None:
    """Call this for timeline and number of a segment; None for another file."""
    if not is_segment(name):
        return None
    return int(name[:8], 16), int(name[8:16], 16) * _SEGMENTS_PER_NAME + int(name[16:], 16)


def parse_history(text: str) -> Sequence[Fork]:
    """Call this with a timeline's own file for the timelines that it came from."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0].isdecimal() and "/" in words[1]:
            found.append(Fork(int(words[0]), parse_place(words[1])))
    return found


def newest_timeline(
    histories: Histories, segments: Iterable[str], backups: Sequence[Backup]
) -> int:
    """Call this for the timeline that was begun last."""
    named = (parsed[0] for name in segments if (parsed := parse_segment(name)) is not None)
    return max([1, *histories, *named, *(backup.timeline for backup in backups)])


def road_to(timeline: int, histories: Histories) -> Sequence[Fork]:
    """Call this for the timelines through which one is reached, itself at the end, left nowhere."""
    return [*histories.get(timeline, ()), Fork(timeline, 1 << 64)]


def is_on(road: Sequence[Fork], backup: Backup) -> bool:
    """Call this to ask whether recovery from a backup can take a road."""
    return any(fork.timeline == backup.timeline and backup.stop <= fork.at for fork in road)


def reach(backup: Backup, road: Sequence[Fork], there: frozenset[str]) -> Reach:
    """Call this for how far recovery from a backup comes, with the segments that are there."""
    last_there = _last_segment(road, there)
    number = segment_of(backup.start)
    last = None
    while (name := segment_name(_timeline_of(road, number), number)) in there:
        last, number = number, number + 1
    return Reach(backup, last, name if number < last_there else None)


def _timeline_of(road: Sequence[Fork], number: int) -> int:
    """Of the segment in which a timeline is left, the one of the next timeline has all of it."""
    return next(fork.timeline for fork in road if number < segment_of(fork.at))


def _last_segment(road: Sequence[Fork], there: frozenset[str]) -> int:
    parsed = (parse_segment(name) for name in there)
    return max(
        (one[1] for one in parsed if one and _timeline_of(road, one[1]) == one[0]), default=0
    )


def holes(backups: Sequence[Backup], road: Sequence[Fork], there: frozenset[str]) -> Sequence[str]:
    """Call this for the segments that are missing between the first backup and the last segment.

    The last is that which a backup closed at least: an archive that is gone has no last one.
    """
    ours = [one for one in backups if is_on(road, one)]
    if not ours:
        return []
    first = min(segment_of(one.start) for one in ours)
    last = max(_last_segment(road, there), *(segment_of(one.sealed - 1) for one in ours))
    numbers = range(first, last + 1)
    names = (segment_name(_timeline_of(road, number), number) for number in numbers)
    return [name for name in names if name not in there]


def chain(backup: Backup, backups: Sequence[Backup]) -> Sequence[Backup] | None:
    """Call this for a backup and all beneath it, the base first; None when one of them is gone."""
    by_number = {one.number: one for one in backups}
    found = [backup]
    while (parent := found[0].parent) is not None:
        if parent not in by_number:
            return None
        found.insert(0, by_number[parent])
    return found


def broken(backups: Sequence[Backup]) -> Sequence[Backup]:
    """Call this for the backups that cannot be used: what they stand on is gone."""
    return [one for one in backups if chain(one, backups) is None]


def joined(spans: Iterable[Span]) -> Sequence[Span]:
    """Call this for the same spans, those that meet as one."""
    found: list[Span] = []
    for span in sorted(spans, key=lambda one: one.first):
        if found and span.first <= found[-1].last:
            found[-1] = Span(found[-1].first, max(found[-1].last, span.last))
        else:
            found.append(span)
    return found


def before(moment: datetime, backups: Sequence[Backup]) -> Sequence[Backup]:
    """Call this for the backups from which a moment may be reached, the latest first.

    A clock that was set back makes a later backup look older: then none from there on counts, as
    what it holds may have been written after the moment.
    """
    found: list[Backup] = []
    for backup in sorted(backups, key=lambda one: one.number):
        if backup.ended_at > moment:
            break
        found.insert(0, backup)
    return found
