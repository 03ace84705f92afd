"""The traces that are kept: some by their id, and whole ones in which something went wrong.

Plain data and decisions; `sweeping.py` calls `look` once in a while.

Rule 1: of 15 minutes and of 64 MiB, whatever is less; the oldest goes first.
Rule 2: of a trace that is kept all later spans are kept too, wherever they come from.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from actors.runtime.telling.spans import (
    BEGAN,
    DEAD,
    ENDED,
    ERROR,
    FIELDS,
    NAME,
    SLOW_S,
    Record,
    Spans,
    is_sampled,
    trace_of_record,
)

KEPT_FOR_S: Final = 900.0
KEPT_BYTES_MAX: Final = 64 * 2**20
# With its fields and texts; measured, and rounded up.
RECORD_BYTES: Final = 1200
# One that never ends, as of a task that works for ever because of one request.
SPANS_OF_ONE_MAX: Final = 1000
# How a stretch ends that was cut because nobody wants it any more.
CUT: Final = "cancelled"

REQUEST: Final = "http.request"
# In the fields of a request: whose it is, for nobody's eyes.
OWNER: Final = "session"


@dataclass(slots=True)
class Kept:
    """One trace; `why` is what it is kept for."""

    trace: str
    at: float
    why: str
    records: list[Record] = field(default_factory=list)
    # What came when it was full.
    left_out: int = 0
    owner: str = ""
    route: str = ""
    has_error: bool = False

    @property
    def began(self) -> float:
        """When its first span began."""
        return min(one[BEGAN] for one in self.records)

    @property
    def took_s(self) -> float:
        """From the begin of its first span to the end of its last."""
        return max(one[ENDED] for one in self.records) - self.began


class KeptTraces:
    """What is kept, by trace, in the order it was first kept."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._spans = 0
        self._last: Record | None = None
        self.forgotten = 0
        """How many left before their time, for want of room."""

    def __repr__(self) -> str:
        return f"<KeptTraces: {len(self._kept)} of {self._spans} spans>"

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def span_count(self) -> int:
        """How many spans all of them have."""
        return self._spans

    def look(self, spans: Spans, now: float) -> list[Record]:
        """Call this to go through what is new; gives the spans that are kept since."""
        fresh = spans.since(self._last)
        if fresh:
            self._last = fresh[-1]
        added: list[Record] = []
        tails: dict[str, str] = {}
        for record in fresh:
            trace = trace_of_record(record)
            if not trace:
                continue
            if trace in self._kept or is_sampled(trace):
                self._add(trace, record, now, "chance", added)
            elif why := wrong_with(record):
                tails.setdefault(trace, why)
        if tails:
            # From the ring with all that came before: what led there is what one wants to see.
            for record in list(spans.ring):
                trace = trace_of_record(record)
                if trace in tails:
                    self._add(trace, record, now, tails[trace], added)
        spans.forget_old(now)
        self._forget(now)
        return added

    def _add(self, trace: str, record: Record, now: float, why: str, added: list[Record]) -> None:
        kept = self._kept.get(trace)
        if kept is None:
            kept = self._kept[trace] = Kept(trace, now, why)
        if len(kept.records) >= SPANS_OF_ONE_MAX:
            kept.left_out += 1
            return
        kept.records.append(record)
        self._spans += 1
        added.append(record)
        if wrong := wrong_with(record):
            kept.has_error = kept.has_error or wrong == "error"
            if kept.why == "chance":
                kept.why = wrong
        fields = record[FIELDS]
        if record[NAME] == REQUEST and isinstance(fields, dict):
            kept.route = kept.route or str(fields.get("route") or "")
            kept.owner = kept.owner or str(fields.get(OWNER) or "")

    def _forget(self, now: float) -> None:
        kept = self._kept
        while kept:
            oldest = next(iter(kept.values()))
            is_old = oldest.at < now - KEPT_FOR_S
            if not is_old and self._spans * RECORD_BYTES <= KEPT_BYTES_MAX:
                return
            self.forgotten += not is_old
            del kept[oldest.trace]
            self._spans -= len(oldest.records)

    def maybe(self, trace: str) -> Kept | None:
        """Call this for one trace by its id."""
        return self._kept.get(trace)

    def newest(self) -> Iterator[Kept]:
        """Call this for all of them, the newest first."""
        return reversed(self._kept.values())


def wrong_with(record: Record) -> str:
    """Call this for why a span has its whole trace kept; "" for one that does not."""
    if record[ERROR] and record[ERROR] != CUT:
        return "error"
    if record[NAME] == DEAD:
        return "error"
    return "slow" if record[ENDED] - record[BEGAN] > SLOW_S else ""


def matching(
    found: Iterable[Kept],
    *,
    least_s: float = 0.0,
    has_error: bool | None = None,
    route: str = "",
    owner: str = "",
) -> Iterator[Kept]:
    """Call this for those of a search: at least so long, failed or not, of a route, of somebody."""
    for one in found:
        if owner and one.owner != owner:
            continue
        if has_error is not None and one.has_error is not has_error:
            continue
        if route and route not in one.route:
            continue
        if one.took_s >= least_s:
            yield one
