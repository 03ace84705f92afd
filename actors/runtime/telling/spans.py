"""What took how long in one trace: the spans of the last seconds, kept as they come.

A `Spans` belongs to a system, or to none: without one nothing is recorded, and asking costs a look.
What records says what it was at once, as a plain tuple; `read` makes words of it for whoever shows
or exports it (`web/observability/operating/traces`), which is far dearer and happens for few.

Rule 1: a record holds no message, no text of a person and no secret: names, numbers, and paths.
Rule 2: nobody waits for room. What is pushed out before it was old enough is counted.
Rule 3: an id that stands in a path or a field is cut when it is read: it may be a person's.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from time import perf_counter
from typing import Final, TypeAlias

import trio

from actors.runtime.words.showing import class_name

# OBS-4: so long, so many.
KEPT_S: Final = 10.0
KEPT_MAX: Final = 20_000
# One of so many traces is kept whatever happens in it.
SAMPLED_ONE_IN: Final = 10
# And each with a span of more than this.
SLOW_S: Final = 1.0
# Of version 00: version, trace, span and flags, of 2, 32, 16 and 2 digits.
TRACEPARENT_CHARS: Final = 55
HANDLED: Final = "actor.handle"
DEAD: Final = "dead.letter"
# What went wrong, where no error was raised.
DEADLINE_MISSED: Final = "deadline"
# A field's text is a name, not a page.
FIELD_CHARS_MAX: Final = 120

Value: TypeAlias = str | int | float | bool | None
"""A field of a span: a name or a number; None is left out."""
# The name; the trace and the span above, as W3C Trace Context writes them, or whatever came for
# them; its own span, or the number of a message or of a stretch that makes one; the number of what
# it stands below where that is not the span above, and the number of its actor; from when until
# when, by the clock of the ring; the path of its actor; the correlation id; what went wrong, or "";
# further fields, or the class of a message, with how long it was queued where that was measured.
Record: TypeAlias = tuple[
    str,
    str,
    str | int,
    int | None,
    int,
    float,
    float,
    str,
    str,
    str,
    Mapping[str, Value] | type | tuple[type, float] | None,
]
NAME: Final = 0
TRACE: Final = 1
BEGAN: Final = 5
ENDED: Final = 6
PATH: Final = 7
CORRELATION: Final = 8
ERROR: Final = 9
FIELDS: Final = 10

# Fields that name one thing among many of its kind, and how much of such a name is told.
_NAMES_OF_ONE: Final = frozenset({"stream", "saga"})
NAME_CHARS_MAX: Final = 8

_ID = re.compile(
    r"([0-9a-f]{8})(?:-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-f]{4,})", re.I
)
_NO_SPAN: Final = "0" * 16
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


@dataclass(frozen=True, slots=True)
class SpanRead:
    """One span in words; `parent` is "" at a root."""

    name: str
    trace: str
    span: str
    parent: str
    # By the clock of the ring.
    began: float
    ended: float
    path: str
    correlation_id: str
    error: str
    fields: tuple[tuple[str, Value], ...] = ()

    @property
    def took_s(self) -> float:
        """From when to when."""
        return self.ended - self.began


class Spans:
    """The ring of a system; `add` from the loop's thread alone."""

    __slots__ = ("_span_id", "lost", "number", "offset", "ring", "tick")

    def __init__(
        self, span_id: Callable[[int, int], str], tick: Callable[[], float], offset: float = 0.0
    ) -> None:
        # What is recorded has the time of `tick`, which is that of trio less the offset: an
        # addition at each end of a span would be a twentieth of what it costs.
        self.tick, self.offset, self._span_id = tick, offset, span_id
        self.ring: deque[Record] = deque(maxlen=KEPT_MAX)
        self.lost = 0
        """How many were pushed out before they were `KEPT_S` old."""
        self.number = 0
        """That of the last span that no actor's message has; they count downwards."""

    def __repr__(self) -> str:
        return f"<Spans: {len(self.ring)} kept, {self.lost} lost>"

    def time_of(self, at: float) -> float:
        """Call this for the time of the ring at a time of trio's clock."""
        return at - self.offset

    def new_id(self) -> str:
        """Call this for a span that no actor's message has."""
        self.number = number = self.number - 1  # Those of messages count upwards.
        return self._span_id(number, 0)

    def add(self, record: Record) -> None:
        """Call this when something is over."""
        ring = self.ring
        if len(ring) == KEPT_MAX:
            self.lost += 1
        ring.append(record)

    def forget_old(self, now: float) -> None:
        """Call this, by the clock of the ring, to let go of what has been kept long enough."""
        ring, until = self.ring, now - KEPT_S
        while ring and ring[0][ENDED] < until:
            ring.popleft()

    def since(self, last: Record | None) -> list[Record]:
        """Call this for what has come behind `last`, oldest first; all when that is gone."""
        found: list[Record] = []
        for one in reversed(self.ring):
            if one is last:
                break
            found.append(one)
        found.reverse()
        return found

    def read(self, record: Record) -> SpanRead:
        """Call this to have a record in words."""
        name, trace, span, above, actor, began, ended, path, correlation, error, fields = record
        parent = trace[36:52] if above is None else self._numbered(above, actor)
        if isinstance(span, int):
            span = self._numbered(span, actor)
        return SpanRead(
            name,
            trace[3:35],
            span,
            "" if parent == _NO_SPAN else parent,
            began,
            ended,
            without_ids(path),
            correlation,
            without_ids(error),
            tuple(_fields(fields)),
        )

    def _numbered(self, number: int, actor: int) -> str:
        # The number of a message is one for all who handle it, that of a stretch is its own.
        return self._span_id(number, actor if number > 0 else 0)


def ticks_of(clock: trio.abc.Clock) -> tuple[Callable[[], float], float]:
    """Call this for what to ask for the time of `clock`, and what to add to that.

    Of trio's own clock it is what that does itself, without its call; others are asked.
    """
    offset = getattr(clock, "offset", None)
    if type(clock).__name__ == "SystemClock" and type(offset) is float:
        return perf_counter, offset
    return clock.current_time, 0.0


def trace_of_record(record: Record) -> str:
    """Call this for the trace of a record, of 32 hexadecimal digits; "" where none can be read."""
    return trace_in(record[TRACE])


@lru_cache(4096)
def trace_in(traceparent: str | None) -> str:
    """Call this for the trace that a `traceparent` names; "" where none can be read."""
    # Whoever records does not look: it may have come from another program, and said anything.
    return traceparent[3:35] if traceparent and _TRACEPARENT.fullmatch(traceparent) else ""


def is_traceparent(text: str) -> bool:
    """Call this to ask whether a text is a place in a trace, as W3C Trace Context writes it."""
    return _TRACEPARENT.fullmatch(text) is not None


def is_sampled(trace: str) -> bool:
    """Call this to ask whether a trace is kept by its id alone; every node says the same."""
    return int(trace[-8:], 16) % SAMPLED_ONE_IN == 0


def root_of(trace: str) -> str:
    """Call this for the `traceparent` of a trace that begins here, above its first span."""
    return f"00-{trace}-{_NO_SPAN}-{'01' if is_sampled(trace) else '00'}"


def without_ids(text: str) -> str:
    """Call this for a text in which every id is cut to its first digits, and of a bounded length.

    Enough to tell two apart on a page, and nothing to act with.
    """
    return _ID.sub(r"\1…", text)[:FIELD_CHARS_MAX]


def _cut_name(text: str) -> str:
    """Of `kind-name` the kind and the beginning: a stream may be named by whom it is about."""
    kind, dash, name = text.rpartition("@")[2].partition("-")
    return f"{kind}{dash}{name[:NAME_CHARS_MAX]}{'…' if len(name) > NAME_CHARS_MAX else ''}"


def _fields(
    fields: Mapping[str, Value] | type | tuple[type, float] | None,
) -> Iterator[tuple[str, Value]]:
    if fields is None:
        return
    if isinstance(fields, Mapping):
        for name, value in fields.items():
            if isinstance(value, str):
                yield name, _cut_name(value) if name in _NAMES_OF_ONE else without_ids(value)
            elif value is not None:
                yield name, value
        return
    kind, queued = fields if isinstance(fields, tuple) else (fields, None)
    yield "message", class_name(kind)[:FIELD_CHARS_MAX]
    if queued is not None:
        yield "queued_ms", round(1000 * queued, 3)
