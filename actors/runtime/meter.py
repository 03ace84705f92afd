"""What is measured of an actor whose level is `sampled` or `full`; nothing exists of it below."""

from __future__ import annotations

from typing import Final

# Counter i counts values of bit length i in microseconds: up to 2**30 us, 18 minutes.
COUNTERS: Final = 32
MICRO: Final = 1_000_000
MICROSECOND: Final = 1e-6


class Meter:
    """Two histograms and a sum. The loop writes them in place."""

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
