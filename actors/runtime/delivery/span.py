"""A stretch of work of an actor, or of a task that it has started, told as a span of its trace.

    with span("store.append", stream=str(stream_id), events=3) as told:
        ...
        told.note(version=7)

What is sent inside has this span as its cause, in this process and behind whatever it is sent by.
Outside of a trace, and where nobody records, it is nothing and costs a look.

Rule 1: it changes the context of what is sent, and nothing else: the message in hand, its deadline
and who waits for it stay.
Rule 2: the name and the fields are ours, as for a log line: no text that somebody sent.
Rule 3: a refusal is an answer. An error whose `is_refusal` is true is told as a field, `refused`;
whoever guesses passwords would else have each try kept as something that went wrong.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextvars import Token
from functools import wraps
from itertools import islice, repeat
from types import TracebackType
from typing import Final, ParamSpec, Self, TypeAlias, TypeVar

import trio

from actors.runtime.delivery.envelope import (
    CONTEXT,
    MESSAGE_ID,
    Activity,
    Context,
    Envelope,
    Inside,
    Party,
    caused_by,
    child_of,
    current_activity,
    current_context,
    edge,
    is_correlation,
)
from actors.runtime.telling.spans import (
    KEPT_MAX,
    TRACEPARENT_CHARS,
    Spans,
    Value,
    is_sampled,
    is_traceparent,
)
from actors.runtime.words.tallies import Histogram

P = ParamSpec("P")
T = TypeVar("T")

# Of a batch of thousands all the same: the ring is for others too.
TOLD_AT_ONCE_MAX: Final = 64


class NoSpan:
    """Where nobody records."""

    __slots__ = ()
    is_told: Final = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    def note(self, **fields: Value) -> None:
        """See `Span.note`."""

    def fail(self, what: str) -> None:
        """See `Span.fail`."""


NO_SPAN: Final = NoSpan()
"""What `span` gives where nobody records; who looks for that first saves the call, and its fields.

    with NO_SPAN if self.cell.spans is None else span("store.append", stream=str(stream_id)):
"""
# Entered and left at every stretch of a system that records nothing: two calls of C that do the
# same take a third of the time. The text is empty, whatever it is called with.
NoSpan.__enter__ = repeat(NO_SPAN).__next__  # type: ignore[method-assign, assignment]
NoSpan.__exit__ = "".format  # type: ignore[method-assign, assignment]


class Span:
    """A stretch that is told when it is left, also by an error.

    What is sent inside has it as its cause. That context is made when something is sent, for it
    is dearer than all the rest, and most stretches send nothing.
    """

    __slots__ = ("_began", "_kept", "_outer", "_was", "above", "activity", "before", "cell",
                 "envelope", "error", "fields", "name", "number", "spans")  # fmt: skip
    is_told: Final = True

    # Set by who makes one, in `span` and `span_of`: an `__init__` would be a tenth of all this.
    name: str
    spans: Spans
    cell: Party
    activity: Activity
    before: Context
    """Of its trace, which ends with the span above unless `above` is the number of that."""
    above: int | None
    fields: Mapping[str, Value] | None
    error: str
    envelope: Envelope | None
    number: int
    _was: Context | Token[Activity] | None
    """What was there before: the context of what is sent, or the activity of the task."""
    _outer: Inside | None
    _kept: Context | None

    def __enter__(self) -> Self:
        activity = self.activity
        if activity.task is None or self.envelope is None:
            self._put_at_once(activity)
        else:
            activity.out, activity.inside = None, self
        tick = self.spans.tick  # What a slot holds is called the quicker by a name.
        self._began = tick()
        return self

    def _put_at_once(self, activity: Activity) -> None:
        if activity.task is None:
            # One that others may share: this task has another one for as long.
            inner = Activity(self.cell)
            inner.out, inner.origin = self.context(), activity.origin
            self._was = current_activity.set(inner)
        else:
            activity.out = self.context()

    def context(self) -> Context:
        """Called when something is sent inside; the same each time."""
        if self._kept is None:
            before = self._sent_outside()
            self._kept = Context(
                before.correlation_id,
                before.causation_id,
                child_of(before.traceparent or "", self.cell.system.span_id(self.number, 0)),
                before.sender,
                before.user_id,
                before.tenant,
                before.sender_id,
            )
        return self._kept

    def _sent_outside(self) -> Context:
        if self.above is None:
            return self.before
        outer = self._outer
        if outer is not None and outer.envelope is self.envelope:
            return outer.context()
        return caused_by(self.envelope, self.cell)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        activity = self.activity
        was = self._was
        if type(was) is Token:
            current_activity.reset(was)
        elif activity.inside is self:
            activity.inside = self._outer
            if activity.envelope is self.envelope:
                activity.out = was
        elif activity.envelope is None:
            activity.out = was
        if kind is not None and not self.error:
            # Its class alone: what an error was made with may be anything.
            if getattr(error, "is_refusal", False):
                self.note(refused=kind.__name__)
            else:
                self.error = "cancelled" if issubclass(kind, trio.Cancelled) else kind.__name__
        before, spans, cell = self.before, self.spans, self.cell
        ring, tick = spans.ring, spans.tick
        if len(ring) == KEPT_MAX:
            spans.lost += 1
        # As `Spans.add`, whose call would be a tenth of all this.
        ring.append(
            (
                self.name,
                before.traceparent,  # type: ignore[arg-type]  # it was looked at by `span`
                self.number,
                self.above,
                cell.id,
                self._began,
                tick(),
                cell.path,
                before.correlation_id,
                self.error,
                self.fields,
            )
        )

    def note(self, **fields: Value) -> None:
        """Call this to tell more of it."""
        self.fields = {**(self.fields or {}), **fields}

    def fail(self, what: str) -> None:
        """Call this when it went wrong without an error: a name, no sentence."""
        self.error = what


AnySpan: TypeAlias = Span | NoSpan
"""What `span` gives, for a `with`; `note` tells more of it, `fail` that it went wrong."""


def current_spans() -> Spans | None:
    """Call this for who records what the code of this actor does; None where nobody does."""
    cell = current_activity.get().cell
    return None if cell is None else cell.spans


def span(name: str, **fields: Value) -> AnySpan:
    """Call this around a stretch of work; see the module."""
    activity = current_activity.get()
    cell = activity.cell
    if cell is None:
        return NO_SPAN
    spans = cell.spans
    if spans is None:
        return NO_SPAN
    out, envelope, inside = activity.out, activity.envelope, activity.inside
    before: Context | None
    above: int | None = None
    if out is not None:
        before = out
    elif envelope is None:
        return NO_SPAN
    elif inside is not None and inside.envelope is envelope:
        # Nothing was sent yet: it need not be made for this either.
        before, above = inside.before, inside.number
    else:
        before, above = envelope[CONTEXT], envelope[MESSAGE_ID]
    if before is None or before.traceparent is None:
        return NO_SPAN
    told = Span()
    told.name, told.fields, told.error = name, fields, ""
    told.spans, told.cell, told.activity = spans, cell, activity
    told.before, told.above, told._kept = before, above, None
    told.envelope, told._was, told._outer = envelope, out, inside
    spans.number = told.number = spans.number - 1  # Those of messages count upwards.
    return told


def sampled_trace() -> str | None:
    """Call this beside a measure for the trace it belongs to, where that is kept by its id (OBS-7).

    None where nobody records, and in a trace that is kept only if it goes wrong: that is not known
    yet.
    """
    activity = current_activity.get()
    if activity.cell is None or activity.cell.spans is None:
        return None
    context = current_context()
    trace = "" if context is None else (context.traceparent or "")[3:35]
    return trace if trace and is_sampled(trace) else None


def note_in_trace(took: Histogram, value: float) -> None:
    """Call this as `took.note(value)`, to give its bucket an example as `sampled_trace` has one."""
    took.note(value)
    trace = sampled_trace()
    if trace is not None:
        took.note_example(value, trace, trio.current_time())


def spanned(name: str) -> Callable[[Callable[P, Awaitable[T]]], Callable[P, Awaitable[T]]]:
    """Call this, as a decorator, for an `async def` that is such a stretch from end to end."""

    def around(work: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
        @wraps(work)
        async def told(*args: P.args, **kwargs: P.kwargs) -> T:
            with span(name):
                return await work(*args, **kwargs)

        return told

    return around


def span_of(name: str, kept: Mapping[str, str], **fields: Value) -> Span | Carried | NoSpan:
    """Call this around work for what was stored or sent with the metadata `kept`.

    It goes on with the trace that is named there, in the name of whoever caused it; where nobody
    records it is `carried` all the same.
    """
    activity = current_activity.get()
    cell = activity.cell
    context = _context_of(kept, cell)
    if context is None:
        return NO_SPAN
    spans = None if cell is None else cell.spans
    if cell is None or spans is None or context.traceparent is None:
        return Carried(context, activity)
    told = Span()
    told.name, told.fields, told.error = name, fields, ""
    told.spans, told.cell, told.activity = spans, cell, activity
    told.before, told.above, told._kept = context, None, None
    told.envelope, told._was, told._outer = activity.envelope, activity.out, activity.inside
    spans.number = told.number = spans.number - 1
    return told


def carried(kept: Mapping[str, str]) -> Carried | NoSpan:
    """Call this as `span_of` where nothing is recorded: of what was kept for later, say.

    For a task that an actor has started, and not in a handler: there the message in hand is the
    cause.
    """
    activity = current_activity.get()
    context = _context_of(kept, activity.cell)
    return NO_SPAN if context is None else Carried(context, activity)


def _context_of(kept: Mapping[str, str], cell: Party | None) -> Context | None:
    """What is sent in the name of whoever kept this; None where nobody is told of there.

    It may have come from another program, and say anything.
    """
    correlation, trace = kept.get("correlation_id", ""), kept.get("traceparent", "")
    if not is_traceparent(trace):
        trace = ""
    if not is_correlation(correlation):
        if not trace or cell is None:
            return None
        correlation = cell.system.text_id(cell.system.next_id())
    return Context(
        correlation,
        kept.get("causation_id"),
        trace or None,
        None if cell is None else cell.path,
        kept.get("user_id"),
        kept.get("tenant"),
        0 if cell is None else cell.id,
    )


class Carried:
    """A stretch whose messages are in the name of others, and that nobody is told of."""

    __slots__ = ("_activity", "_context", "_edge", "_token", "_was")
    is_told: Final = False

    def __init__(self, context: Context, activity: Activity) -> None:
        self._context, self._activity = context, activity
        self._token: Token[Activity] | None = None
        self._edge: Token[Context | None] | None = None
        self._was: Context | None = None

    def __enter__(self) -> Self:
        activity = self._activity
        if activity.cell is None:
            # Outside of all actors: what comes in here begins here.
            self._edge = edge.set(self._context)
        elif activity.task is None:
            # One that others may share: this task has another one for as long.
            inner = Activity(activity.cell)
            inner.out, inner.origin = self._context, activity.origin
            self._token = current_activity.set(inner)
        else:
            self._was, activity.out = activity.out, self._context
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._edge is not None:
            edge.reset(self._edge)
        elif self._token is not None:
            current_activity.reset(self._token)
        else:
            self._activity.out = self._was

    def note(self, **fields: Value) -> None:
        """See `Span.note`."""

    def fail(self, what: str) -> None:
        """See `Span.fail`."""


def tell_past(
    name: str, causes: Iterable[Mapping[str, str]], began: float, **fields: Value
) -> None:
    """Call this with what was done at once for all of `causes`, metadata as it is stored.

    From `began`, by trio's clock, until now; once in each trace, and in `TOLD_AT_ONCE_MAX` at most.
    """
    cell = current_activity.get().cell
    spans = None if cell is None else cell.spans
    if cell is None or spans is None:
        return
    named = {one.get("traceparent"): one.get("correlation_id", "") for one in causes}
    since, until = spans.time_of(began), spans.tick()
    for trace, correlation in islice(named.items(), TOLD_AT_ONCE_MAX):
        if trace is not None and len(trace) == TRACEPARENT_CHARS:
            spans.number = number = spans.number - 1
            spans.add(
                (name, trace, number, None, 0, since, until, cell.path, correlation, "", fields)
            )
