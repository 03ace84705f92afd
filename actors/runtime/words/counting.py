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
        "reductions", "restarts", "unhandled", "withdrawn",
    )  # fmt: skip

    def __init__(self) -> None:
        self.handled = self.reductions = 0
        self.overflowed = self.coalesced = self.expired = self.unhandled = 0
        self.withdrawn = self.late_replies = self.dead_letters = 0
        self.crashes = self.restarts = 0


class Totals:
    """The running sums of a system."""

    __slots__ = ("passivated", "restarts", "spawned", "stopped")

    def __init__(self) -> None:
        self.spawned = self.stopped = self.passivated = self.restarts = 0


class Meter:
    """The times of an actor whose level is `sampled` or `full`; below, it has none.

    Two histograms and a sum. The loop writes them in place.
    """

    __slots__ = ("busy_seconds", "handling_us", "queue_us")

    def __init__(self) -> None:
        self.handling_us = [0] * COUNTERS
        self.queue_us = [0] * COUNTERS
        self.busy_seconds = 0.0

    def note(self, enqueued_at: float, began: float, ended: float) -> None:
        """Call this after a message was handled; all three are readings of `perf_counter`."""
        self.busy_seconds += ended - began
        self.handling_us[bucket((ended - began) * MICRO)] += 1
        self.queue_us[bucket((began - enqueued_at) * MICRO)] += 1


def bucket(microseconds: float) -> int:
    """Call this to get the counter of a value: its bit length; the last one is open."""
    length = int(microseconds).bit_length()
    return length if length < COUNTERS else COUNTERS - 1
