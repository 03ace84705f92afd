"""How a trace is shown: its spans as a tree, each with its place in the whole.

Rule 1: what a span's field says was cut when it was read; whose it is is shown to nobody.
Rule 2: a span whose parent is not there stands at the top: its parent is on another node, in the
client, or was dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from actors.runtime.telling.spans import SpanRead, Spans
from web.observability.operating.traces.kept import CUT, OWNER, Kept
from web.routing import paths
from web.views import SpanView, TraceView, local_path

# The width of a bar's ground, in steps.
WIDTH: Final = 1000
# Further down the names would have no room on a telephone; they stand there all the same.
DEPTH_MAX: Final = 8


def trace_view(kept: Kept, time_of: Callable[[float], datetime]) -> TraceView:
    """Call this for one line of a list."""
    return TraceView(
        kept.trace,
        local_path(paths.LAB_TRACE.replace("<trace>", kept.trace)),
        time_of(kept.began),
        kept.route or "no known route",
        round(1000 * kept.took_s, 1),
        len(kept.records),
        kept.left_out,
        kept.why,
        kept.has_error,
    )


def span_views(kept: Kept, spans: Spans) -> tuple[SpanView, ...]:
    """Call this for all spans of a trace, each below what caused it, by the time they began."""
    read = sorted((spans.read(one) for one in kept.records), key=lambda one: one.began)
    began, whole = kept.began, max(kept.took_s, 1e-6)
    return tuple(_view(one, depth, one.began - began, whole) for depth, one in in_order(read))


def in_order(spans: Sequence[SpanRead]) -> list[tuple[int, SpanRead]]:
    """Call this for the spans as they stand under each other, with how deep each stands."""
    known = {one.span for one in spans}
    below: dict[str, list[SpanRead]] = {}
    tops: list[SpanRead] = []
    for one in spans:
        if one.parent in known and one.parent != one.span:
            below.setdefault(one.parent, []).append(one)
        else:
            tops.append(one)
    found: list[tuple[int, SpanRead]] = []
    seen: set[str] = set()
    waiting = [(0, one) for one in reversed(tops)]
    while waiting:
        depth, one = waiting.pop()
        found.append((depth, one))
        if one.span not in seen:
            # A client may have said anything: what goes in a circle is not followed.
            seen.add(one.span)
            waiting += [(depth + 1, each) for each in reversed(below.get(one.span, ()))]
    return found


def _view(span: SpanRead, depth: int, after_s: float, whole_s: float) -> SpanView:
    left = min(WIDTH - 1, max(0, int(WIDTH * after_s / whole_s)))
    fields = [f"{name} {value}" for name, value in span.fields if name != OWNER]
    return SpanView(
        min(depth, DEPTH_MAX),
        span.name,
        span.path,
        ", ".join(fields),
        round(1000 * after_s, 2),
        round(1000 * span.took_s, 2),
        left,
        max(1, min(WIDTH - left, int(WIDTH * span.took_s / whole_s))),
        "" if span.error == CUT else span.error,
    )
