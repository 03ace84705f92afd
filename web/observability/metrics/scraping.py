"""How figures are gathered: collectors are asked one after the other, and fill a `Scrape`.

Rule 1: nobody who counts is asked to do anything before a scrape; without one all this sleeps.
Rule 2: a collector that walks over many gives others their turn (`Scrape.rest`).
Rule 3: one that fails takes its own figures away and no others, and says so in the log.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final, TypeAlias

import trio

from actors.runtime import Log
from actors.runtime.words.tallies import Tallies, bounded
from web.observability.metrics.words import METRICS

log = Log(__name__)

# Everything there is, within what a scraper waits by default (10 s).
COLLECT_S_MAX: Final = 8.0
# So long a trace is kept; an example that leads to one that is gone leads nowhere (OBS-7).
EXAMPLE_S: Final = 900.0


@dataclass(slots=True)
class Buckets:
    """A histogram as it is told: how many in each, not yet added up, and their sum."""

    bounds: Sequence[float]
    counts: list[int]
    total: float
    # By bucket a value of it and its trace.
    examples: dict[int, tuple[float, str]] = field(default_factory=dict)

    def cumulative(self) -> list[tuple[str, float, tuple[float, str] | None]]:
        """Call this for what a scraper is told: up to each bound, all that is not more.

        With each bucket goes the example of that one alone, where there is one.
        """
        names = [*map(repr, map(float, self.bounds)), "+Inf"]
        sums = enumerate(zip(names, accumulate(self.counts), strict=True))
        return [(name, count, self.examples.get(at)) for at, (name, count) in sums]


@dataclass(slots=True)
class Scrape:
    """The figures of one scrape, by metric and labels; what is given twice is added up."""

    numbers: dict[str, dict[tuple[str, ...], float]] = field(default_factory=dict)
    buckets: dict[str, dict[tuple[str, ...], Buckets]] = field(default_factory=dict)

    def put(self, name: str, value: float, *labels: str) -> None:
        """Call this with a count or a gauge; raises ValueError for one that is in no table."""
        known = self.numbers.setdefault(name, {})
        found = bounded(_checked(name, labels), known)
        known[found] = known.get(found, 0.0) + value

    def put_buckets(
        self,
        name: str,
        bounds: Sequence[float],
        counts: Sequence[int],
        total: float,
        *labels: str,
        examples: Mapping[int, tuple[float, str]] | None = None,
    ) -> None:
        """Call this with a histogram: of each bucket how many, then those above all bounds."""
        known = self.buckets.setdefault(name, {})
        found = bounded(_checked(name, labels), known)
        here = known.get(found)
        if here is None:
            known[found] = Buckets(bounds, list(counts), total, dict(examples or {}))
            return
        here.examples.update(examples or {})
        here.counts = [one + other for one, other in zip(here.counts, counts, strict=True)]
        here.total += total

    def put_tallies(self, tallies: Tallies) -> None:
        """Call this with all that an owner keeps."""
        for name, labels, number in tallies.counts():
            self.put(name, number, *labels)
        since = trio.current_time() - EXAMPLE_S
        for name, labels, one in tallies.histograms():
            examples = one.examples_since(since) if one.examples else None
            self.put_buckets(name, one.bounds, one.counts, one.total, *labels, examples=examples)

    async def rest(self) -> None:
        """Call this after half a millisecond of work."""
        await trio.lowlevel.checkpoint()


Collector: TypeAlias = Callable[[Scrape], Awaitable[None]]


class Metrics:
    """All collectors of a program, and the label that every figure of it carries."""

    def __init__(
        self, collectors: Iterable[Collector] = (), labels: Mapping[str, str] | None = None
    ) -> None:
        self._collectors = list(collectors)
        # Looks at the figures when all are there; see `operating/traces/examples.py`.
        self.put_examples: Callable[[Scrape], None] = _no_examples
        self.labels = dict(labels or {})

    def __repr__(self) -> str:
        return f"<Metrics of {len(self._collectors)} collectors>"

    def register(self, collector: Collector) -> None:
        """Call this from a composition root, before anybody scrapes."""
        self._collectors.append(collector)

    async def collect(self) -> Scrape:
        """Call this for all figures as they are; 8 s at most; raises nothing of theirs."""
        scrape = Scrape()
        with trio.move_on_after(COLLECT_S_MAX):
            for collector in self._collectors:
                try:
                    await collector(scrape)
                except Exception as error:  # noqa: BLE001 - rule 3
                    log.error(
                        "metrics.collector_failed",
                        collector=getattr(collector, "__qualname__", type(collector).__name__),
                        error=type(error).__name__,
                    )
                await scrape.rest()
            self.put_examples(scrape)
        return scrape


def _no_examples(_: Scrape) -> None:
    return None


def _checked(name: str, labels: tuple[str, ...]) -> tuple[str, ...]:
    metric = METRICS.get(name)
    if metric is None or len(metric.labels) != len(labels):
        known = "no metric" if metric is None else f"of labels {metric.labels}"
        raise ValueError(f"{name}{labels} is {known}")
    return labels
