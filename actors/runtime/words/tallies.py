"""Figures for operators, as their owners keep them: plain counts, and times in fixed buckets.

A `Tallies` belongs to whoever counts: a system, a database, the web half. Nobody asks for a figure
while work is done; whoever scrapes reads them all (`web/observability/metrics`).

    handled = tallies.count("bus_handled_total", topic, group, "ok")     # once, and kept
    handled.number += 1
    took = tallies.histogram("bus_handle_seconds", topic, group)
    took.note(ended - began)

Rule 1: a label says a kind, never whose: a class, a route's pattern, a result; no id, no user.
Rule 2: a figure has 100 sets of labels; what comes beyond is counted together, as `other`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

# OBS-2: in seconds. Prometheus interpolates within a bucket, so they lie about half apart.
SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
                  10.0)  # fmt: skip
# How many were in one: events of an append, appends of a statement.
SIZES: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)
LABEL_SETS_MAX: Final = 100
OTHER: Final = "other"
# A label is a word; a name made of what somebody sent would be a page.
LABEL_CHARS_MAX: Final = 100


class Count:
    """A number that only grows; its owner writes it in place."""

    __slots__ = ("number",)

    def __init__(self) -> None:
        self.number = 0


class Histogram:
    """How often a value was how large: counter `i` is of those up to `bounds[i]`, the last of more.

    To be noted from one thread.
    """

    __slots__ = ("bounds", "counts", "examples", "total")

    def __init__(self, bounds: Sequence[float] = SECONDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0
        # By bucket the newest value of it that was told with its trace, that trace, and when.
        self.examples: dict[int, tuple[float, str, float]] = {}

    def note(self, value: float) -> None:
        """Call this with each value; costs 0.2 us."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def note_example(self, value: float, trace: str, at: float) -> None:
        """Call this beside `note` with a value whose trace is kept: one leads to the other."""
        self.examples[bisect_left(self.bounds, value)] = value, trace, at

    def examples_since(self, at: float) -> dict[int, tuple[float, str]]:
        """Call this for those that were not told before a time: older traces are kept no more."""
        # Those of a pool are told on its own thread.
        found = tuple(self.examples.items())
        return {bucket: (value, trace) for bucket, (value, trace, when) in found if when >= at}


class Tallies:
    """The figures of one owner, by name and labels; they last as long as it does."""

    def __init__(self) -> None:
        self._counts: dict[str, dict[tuple[str, ...], Count]] = {}
        self._histograms: dict[str, dict[tuple[str, ...], Histogram]] = {}

    def __repr__(self) -> str:
        return f"<Tallies of {len(self._counts)} counts, {len(self._histograms)} histograms>"

    def count(self, name: str, *labels: str) -> Count:
        """Call this for the count of a name and labels, made at the first call."""
        kept = self._counts.get(name)
        if kept is None:
            kept = self._counts[name] = {}
        found = kept.get(labels)
        if found is None:
            labels = bounded(labels, kept)
            found = kept.setdefault(labels, Count())
        return found

    def add(self, name: str, *labels: str) -> None:
        """Call this to count one, where it is not worth keeping what `count` gives."""
        self.count(name, *labels).number += 1

    def histogram(self, name: str, *labels: str, bounds: Sequence[float] = SECONDS) -> Histogram:
        """Call this for the histogram of a name and labels, made at the first call."""
        kept = self._histograms.get(name)
        if kept is None:
            kept = self._histograms[name] = {}
        found = kept.get(labels)
        if found is None:
            labels = bounded(labels, kept)
            found = kept.setdefault(labels, Histogram(bounds))
        return found

    def counts(self) -> Iterator[tuple[str, tuple[str, ...], int]]:
        """Call this to read all counts: name, labels, number."""
        for name, kept in tuple(self._counts.items()):
            for labels, count in tuple(kept.items()):
                yield name, labels, count.number

    def histograms(self) -> Iterator[tuple[str, tuple[str, ...], Histogram]]:
        """Call this to read all histograms: name, labels, and the histogram itself."""
        for name, kept in tuple(self._histograms.items()):
            for labels, histogram in tuple(kept.items()):
                yield name, labels, histogram


def bounded(labels: tuple[str, ...], known: Mapping[tuple[str, ...], object]) -> tuple[str, ...]:
    """Call this for the labels to count under: `other` once there are as many as may be.

    The first label goes first, of a route its path: what its answer was is still told apart.
    """
    labels = tuple([label[:LABEL_CHARS_MAX] for label in labels])
    if labels in known or len(known) < LABEL_SETS_MAX or not labels:
        return labels
    coarser = (OTHER, *labels[1:])
    if coarser in known or len(known) < 2 * LABEL_SETS_MAX - 1:
        return coarser
    return (OTHER,) * len(labels)
