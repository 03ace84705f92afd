"""What is counted and measured: sums of an actor, sums of a system, and the times of messages.

Plain integers in plain lists, written in place: counting costs nothing worth measuring.
`watching/stats.py` reads them.
"""

from __future__ import annotations

from operator import itemgetter
from time import perf_counter
from typing import Final, Literal, TypeAlias

# off: losses, restarts and queues only. counters: the sums. sampled: times of one message in 16.
# full: times of all, and who sent them.
Level: TypeAlias = Literal["off", "counters", "sampled", "full"]
# Of how many messages one is timed; 0: none.
LEVELS: Final[dict[Level, int]] = {"off": 0, "counters": 0, "sampled": 16, "full": 1}


def check_level(level: object) -> None:
    """Call this before a level is used; ValueError unless it is one of the four."""
    if not isinstance(level, str) or level not in LEVELS:
        raise ValueError(f"the level is {level!r}; choose {', '.join(LEVELS)}")


# Counter i counts values of bit length i in microseconds: up to 2**30 us, 18 minutes.
COUNTERS: Final = 32
MICRO: Final = 1_000_000
MICROSECOND: Final = 1e-6


# Who talks to whom is asked about now, not about last week.
SENDERS_WINDOW_S: Final = 60.0
# Of a room with 100,000 members not all are kept; twice as many at times.
SENDERS_MAX: Final = 1000


def forget_senders(senders: dict[str, float], oldest: float) -> None:
    """Call this to keep only those seen since `oldest`, and of those at most the newest 1,000."""
    # A stable order for those of one instant: whoever came first goes first.
    newest = sorted(senders.items(), key=itemgetter(1))[-SENDERS_MAX:]
    senders.clear()
    senders.update((path, seen) for path, seen in newest if seen >= oldest)


def forget_some(senders: dict[str, float]) -> None:
    """Called by the loop when some may have been added."""
    if len(senders) > 2 * SENDERS_MAX:
        forget_senders(senders, perf_counter() - SENDERS_WINDOW_S)


class Counts:
    """What one actor has done and lost since it was created; it outlives its incarnations."""

    __slots__ = (
        "coalesced", "crashes", "dead_letters", "expired", "handled", "late_replies", "overflowed",
        "reductions", "restarts", "timed_out", "unhandled", "withdrawn",
    )  # fmt: skip

    def __init__(self) -> None:
        self.handled = self.reductions = 0
        self.overflowed = self.coalesced = self.expired = self.unhandled = 0
        self.withdrawn = self.timed_out = self.late_replies = self.dead_letters = 0
        self.crashes = self.restarts = 0


class Totals:
    """The running sums of a system."""

    __slots__ = ("passivated", "restarts", "spawned", "stopped")

    def __init__(self) -> None:
        self.spawned = self.stopped = self.passivated = self.restarts = 0


class Meter:
    """The times of an actor whose level is `sampled` or `full`; below, it has none.

    Two histograms and their sums. The loop writes them in place.
    """

    __slots__ = ("busy_seconds", "handling_us", "queue_us", "waited_seconds")

    def __init__(self) -> None:
        self.handling_us = [0] * COUNTERS
        self.queue_us = [0] * COUNTERS
        self.busy_seconds = self.waited_seconds = 0.0

    def add_up(self, busy: float, waited: float) -> None:
        """Call this with the sums of a batch whose counters are written."""
        self.busy_seconds += busy
        self.waited_seconds += waited

    def note(self, enqueued_at: float, began: float, ended: float) -> None:
        """Call this after a message was handled; all three are readings of `perf_counter`."""
        self.busy_seconds += ended - began
        self.waited_seconds += began - enqueued_at
        self.handling_us[bucket((ended - began) * MICRO)] += 1
        self.queue_us[bucket((began - enqueued_at) * MICRO)] += 1


class KindSums:
    """The sums of all actors of a kind, those that are gone and, once added, those that are not."""

    __slots__ = (
        "actors", "busy_seconds", "crashes", "handled", "handling_us", "queue_us", "queued",
        "restarts", "timed_out", "waited_seconds",
    )  # fmt: skip

    def __init__(self) -> None:
        self.actors = self.queued = 0
        self.handled = self.crashes = self.restarts = self.timed_out = 0
        self.busy_seconds = self.waited_seconds = 0.0
        self.handling_us = [0] * COUNTERS
        self.queue_us = [0] * COUNTERS

    def add(self, counts: Counts, meter: Meter | None) -> None:
        """Call this with what an actor has counted and measured."""
        self.handled += counts.handled
        self.crashes += counts.crashes
        self.restarts += counts.restarts
        self.timed_out += counts.timed_out
        self.add_times(meter)

    def add_times(self, meter: Meter | None) -> None:
        """Call this with the times of an actor that is measured no longer."""
        if meter is not None and meter.busy_seconds + meter.waited_seconds:
            self.busy_seconds += meter.busy_seconds
            self.waited_seconds += meter.waited_seconds
            _add_up(self.handling_us, meter.handling_us)
            _add_up(self.queue_us, meter.queue_us)

    def copy(self) -> KindSums:
        """Call this for sums that do not change."""
        made = KindSums()
        for name in self.__slots__:
            value = getattr(self, name)
            setattr(made, name, list(value) if type(value) is list else value)
        return made


def _add_up(sums: list[int], counters: list[int]) -> None:
    for at, number in enumerate(counters):
        if number:
            sums[at] += number


def bucket(microseconds: float) -> int:
    """Call this to get the counter of a value: its bit length; the last one is open."""
    length = int(microseconds).bit_length()
    return length if length < COUNTERS else COUNTERS - 1
