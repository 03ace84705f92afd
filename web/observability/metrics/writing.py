"""The text that scrapers read; `prometheus_client` writes it, a few figures at a time.

Written at once, what a system of some hundred kinds tells would hold the loop for 20 ms.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, TypeVar

import trio
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.metrics_core import (
    Metric as Family,
)
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST as OPENMETRICS
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.samples import Exemplar

from actors.runtime.words.tallies import SECONDS
from web.observability.metrics.scraping import Buckets, Scrape
from web.observability.metrics.words import METRICS, Metric, MetricKind

T = TypeVar("T")

PLAIN: Final = CONTENT_TYPE_PLAIN_0_0_4
# Lines that are written before others have their turn: a millisecond.
LINES_AT_ONCE: Final = 200
_END = b"# EOF\n"


class _Only:
    """A registry with one family in it, as the writers ask for it."""

    def __init__(self, family: Family) -> None:
        self._family = family

    def collect(self) -> Iterator[Family]:
        yield self._family


def wants_openmetrics(accept: str) -> bool:
    """Call this with an `Accept` for whether the newer format is read."""
    return "application/openmetrics-text" in accept.lower()


async def written(
    scrape: Scrape, labels: Mapping[str, str] | None = None, *, is_openmetrics: bool = False
) -> tuple[bytes, str]:
    """Call this for the text of a scrape and its content type; every figure carries `labels`.

    Each metric of the table is in it: a counter or histogram without labels as 0 where nobody told
    it, all others by their name alone. A gauge that is not known is none: told as 0 while the
    database is away, it would say that nothing waits, and end its alert.
    """
    parts: list[bytes] = []
    write = generate_openmetrics if is_openmetrics else generate_latest
    for metric in METRICS.values():
        is_first = True
        for family in _families(metric, scrape, labels or {}):
            text = write(_Only(family)).removesuffix(_END)
            parts.append(text if is_first else _without_head(text))
            is_first = False
            await trio.lowlevel.checkpoint()
    if is_openmetrics:
        parts.append(_END)
    return b"".join(parts), OPENMETRICS if is_openmetrics else PLAIN


def _without_head(text: bytes) -> bytes:
    return b"".join([line for line in text.splitlines(keepends=True) if not line.startswith(b"#")])


def _families(metric: Metric, scrape: Scrape, given: Mapping[str, str]) -> Iterator[Family]:
    """The metric with its figures, in as many parts as take a millisecond each to write."""
    names, values = [*given, *metric.labels], tuple(given.values())
    if metric.kind is MetricKind.HISTOGRAM:
        told = dict(scrape.buckets.get(metric.name, {}))
        if not told and not metric.labels:
            told = {(): Buckets(SECONDS, [0] * (len(SECONDS) + 1), 0.0)}
        for part in _parts(list(told.items()), 1 + max(map(_lines, told.values()), default=1)):
            histogram = HistogramMetricFamily(metric.full_name, metric.words, labels=names)
            for labels, one in part:
                found = [_bucket(*bucket) for bucket in one.cumulative()]
                histogram.add_metric((*values, *labels), found, one.total)
            yield histogram
        return
    numbers = dict(scrape.numbers.get(metric.name, {}))
    if not numbers and not metric.labels and metric.kind is MetricKind.COUNTER:
        numbers = {(): 0.0}
    kind = CounterMetricFamily if metric.kind is MetricKind.COUNTER else GaugeMetricFamily
    for rows in _parts(list(numbers.items()), 1):
        family = kind(metric.full_name, metric.words, labels=names)
        for labels, number in rows:
            family.add_metric((*values, *labels), number)
        yield family


def _bucket(
    name: str, count: float, example: tuple[float, str] | None
) -> tuple[str, float] | tuple[str, float, Exemplar]:
    if example is None:
        return name, count
    value, trace = example
    return name, count, Exemplar({"trace_id": trace}, value)


def _lines(one: Buckets) -> int:
    return len(one.counts) + 2


def _parts(rows: Sequence[T], lines: int) -> Iterator[Sequence[T]]:
    """At least one, for the name is told where there is nothing, too."""
    step = max(1, LINES_AT_ONCE // lines)
    for at in range(0, max(1, len(rows)), step):
        yield rows[at : at + step]
