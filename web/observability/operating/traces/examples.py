"""From a slow bucket of a figure to a trace: the spans that are kept, as examples (OBS-7).

Whoever measures does no more for it: what is kept is known a moment later, by who looks through the
spans. `http_request_seconds` has its own, told as a request is answered (`metrics/collectors.py`),
and what is no span of its own has them where it is measured, of traces kept by their ids: the steps
of sagas, what waits for a connection, timers that are late. How long a message was queued stands in
the span of its handler, where times are taken. None has what no trace is known of: how many appends
shared a statement.

Rule 1: each leads to a trace that is kept, and stands where something was counted.
Rule 2: of a figure no more sets of labels than it has itself, and one example a bucket.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from actors.runtime.telling.spans import (
    BEGAN,
    ENDED,
    ERROR,
    FIELDS,
    HANDLED,
    NAME,
    PATH,
    Record,
    Value,
    trace_of_record,
)
from actors.runtime.words.tallies import LABEL_SETS_MAX, SECONDS, SIZES
from web.observability.metrics.scraping import EXAMPLE_S, Scrape

EFFECT: Final = "effect."
APPENDED: Final = "store.append"
LOADED: Final = "store.load"
# The figure of a span, and the fields that are its labels.
_BY_FIELDS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "bus.publish": ("bus_publish_seconds", ("topic",)),
    "bus.handle": ("bus_handle_seconds", ("topic", "group")),
    "projection.apply": ("projection_apply_seconds", ("projection",)),
}
# And of those whose label is the class of their actor.
_BY_KIND: Final[Mapping[str, str]] = {
    HANDLED: "handle_seconds",
    "reducer.reduce": "reducer_seconds",
}
_CONFLICTS: Final = frozenset({"ConcurrencyConflict", "ConditionFailed"})


class Examples:
    """The newest span of each bucket of each figure; `class_at` knows who lives at a path."""

    def __init__(self, class_at: Callable[[str], type | None]) -> None:
        self._class_at = class_at
        # By figure and labels, by bucket: how long or how many, whose, and when it was over.
        self._found: dict[str, dict[tuple[str, ...], dict[int, tuple[float, str, float]]]] = {}

    def note(self, kept: Iterable[Record]) -> None:
        """Call this with spans of traces that are kept."""
        for record in kept:
            figure = self._figure_of(record)
            if figure is not None:
                took, told = record[ENDED] - record[BEGAN], record[FIELDS]
                self._note(record, *figure, took, bisect_left(SECONDS, took))
                if isinstance(told, tuple):
                    _, queued = told
                    bucket = bisect_left(SECONDS, queued)
                    self._note(record, "queue_seconds", figure[1], queued, bucket)
            if record[NAME] == APPENDED and not record[ERROR]:
                self._note_size(record)

    def _note_size(self, record: Record) -> None:
        told = record[FIELDS]
        count = told.get("events") if isinstance(told, Mapping) else None
        if isinstance(told, Mapping) and isinstance(count, int):
            labels = (_category_of(told),)
            self._note(record, "store_append_events", labels, count, bisect_left(SIZES, count))

    def _note(
        self, record: Record, name: str, labels: tuple[str, ...], value: float, bucket: int
    ) -> None:
        of_name = self._found.setdefault(name, {})
        if labels in of_name or len(of_name) < LABEL_SETS_MAX:
            buckets = of_name.setdefault(labels, {})
            buckets[bucket] = value, trace_of_record(record), record[ENDED]

    def _figure_of(self, record: Record) -> tuple[str, tuple[str, ...]] | None:
        name, fields = record[NAME], record[FIELDS]
        told = fields if isinstance(fields, Mapping) else {}
        if name in _BY_FIELDS:
            figure, labels = _BY_FIELDS[name]
            return figure, tuple(str(told.get(label)) for label in labels)
        if name == APPENDED:
            return "store_append_seconds", (_result_of(record[ERROR]),)
        if name == LOADED:
            return "store_load_seconds", (_category_of(told),)
        is_effect = name.startswith(EFFECT)
        if not is_effect and name not in _BY_KIND:
            return None
        cls = self._class_at(record[PATH])
        if cls is None:
            return None
        if is_effect:
            return "effect_seconds", (cls.__name__, name.removeprefix(EFFECT))
        # As `kind_of` of the runtime says it, and as a reducer does of itself.
        return _BY_KIND[name], (cls.__qualname__ if name == HANDLED else cls.__name__,)

    def put(self, scrape: Scrape, now: float) -> None:
        """Call this, by the clock of the spans, when the figures of a scrape are there."""
        for name, of_name in self._found.items():
            figures = scrape.buckets.get(name, {})
            for labels, buckets in of_name.items():
                here = figures.get(labels)
                if here is None:
                    continue
                for took, trace, at in buckets.values():
                    bucket = bisect_left(here.bounds, took)
                    if at >= now - EXAMPLE_S and here.counts[bucket]:
                        here.examples[bucket] = took, trace


def _category_of(told: Mapping[str, Value]) -> str:
    # The name of a stream is `category-...`, behind that of a tenant.
    return str(told.get("stream") or "").rpartition("/")[2].partition("-")[0]


def _result_of(error: str) -> str:
    return "ok" if not error else "conflict" if error in _CONFLICTS else "error"
