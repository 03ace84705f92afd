"""A stretch of work of an actor, or of a task that it has started, told as a span of its trace.

    with span("store.append", stream=str(stream_id), events=3) as told:
        ...
        told.note(version=7)

What is sent inside has this span as its cause, in this process and behind whatever it is sent by.
Outside of a trace, and where nobody records, it is nothing and costs a look.

Rule 1: it changes the context of what is sent, and nothing else: the message in hand, its deadline
and who waits for it stay.
Rule 2: the name and the fields are ours, as for a log line: no text that somebody sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextvars import Token
from itertools import islice
from types import TracebackType
from typing import Final, Self, TypeAlias

import trio

from actors.runtime.delivery.envelope import (
    Activity,
    Context,
    Envelope,
    child_of,
    current_activity,
    edge,
)
from actors.runtime.telling.spans import TRACEPARENT_CHARS, Spans, Value

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


class Span:
    """A stretch that is told when it is left, also by an error."""

    __slots__ = ("_before", "_began", "_envelope", "_error", "_fields", "_id", "_name", "_parent",
                 "_set", "_spans", "_was")  # fmt: skip
    is_told: Final = True

    def __init__(
        self, spans: Spans, name: str, parent: Context, fields: Mapping[str, Value] | None
    ) -> None:
        self._spans, self._name, self._parent = spans, name, parent
        self._fields = fields
        self._error = ""

    def __enter__(self) -> Self:
        before, spans = self._parent, self._spans
        trace = before.traceparent
        assert trace is not None
        self._id = own = spans.new_id()
        context = Context(
            before.correlation_id,
            before.causation_id,
            child_of(trace, own),
            before.sender,
            before.user_id,
            before.tenant,
            before.sender_id,
        )
        self._put(context)
        self._began = spans.clock()
        return self

    def _put(self, context: Context) -> None:
        self._before = activity = current_activity.get()
        self._set: Token[Activity] | Token[Context | None] | None = None
        cell = activity.cell
        if cell is None:
            self._set = edge.set(context)
        elif activity.task is None:
            # One that others may share: this task has another one for as long.
            inside = Activity(cell)
            inside.out, inside.origin = context, activity.origin
            self._set = current_activity.set(inside)
        else:
            self._envelope: Envelope | None = activity.envelope
            self._was, activity.out = activity.out, context

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        before, token = self._before, self._set
        if token is not None:
            if before.cell is None:
                edge.reset(token)  # type: ignore[arg-type]  # set in the same branch
            else:
                current_activity.reset(token)  # type: ignore[arg-type]  # set in the same branch
        elif before.envelope is self._envelope:
            before.out = self._was
        if kind is not None and not self._error:
            # Its class alone: what an error was made with may be anything.
            self._error = "cancelled" if issubclass(kind, trio.Cancelled) else kind.__name__
        parent, cell = self._parent, before.cell
        self._spans.add(
            (
                self._name,
                parent.traceparent or "",
                self._id,
                self._began,
                self._spans.clock(),
                parent.sender or "" if cell is None else cell.path,
                parent.correlation_id,
                self._error,
                self._fields,
            )
        )

    def note(self, **fields: Value) -> None:
        """Call this to tell more of it."""
        self._fields = {**(self._fields or {}), **fields}

    def fail(self, what: str) -> None:
        """Call this when it went wrong without an error: a name, no sentence."""
        self._error = what


AnySpan: TypeAlias = Span | NoSpan
"""What `span` gives, for a `with`; `note` tells more of it, `fail` that it went wrong."""


def current_spans() -> Spans | None:
    """Call this for who records what the code of this actor does; None where nobody does."""
    cell = current_activity.get().cell
    return None if cell is None else cell.system.spans


def span(name: str, **fields: Value) -> AnySpan:
    """Call this around a stretch of work; see the module."""
    activity = current_activity.get()
    cell = activity.cell
    if cell is None:
        return NO_SPAN
    spans = cell.system.spans
    if spans is None:
        return NO_SPAN
    context = activity.sending()
    if context is None or not _is_traced(context):
        return NO_SPAN
    return Span(spans, name, context, fields)


def span_of(name: str, kept: Mapping[str, str], **fields: Value) -> AnySpan:
    """Call this around work for what was stored or sent with the metadata `kept`.

    It goes on with the trace that is named there, in the name of whoever caused it.
    """
    cell = current_activity.get().cell
    spans = None if cell is None else cell.system.spans
    if cell is None or spans is None:
        return NO_SPAN
    cause = kept.get("causation_id", "")
    context = Context(
        kept.get("correlation_id", ""),
        int(cause) if cause.isdecimal() and len(cause) < TRACEPARENT_CHARS else None,
        kept.get("traceparent"),
        cell.path,
        kept.get("user_id"),
        kept.get("tenant"),
        cell.id,
    )
    return Span(spans, name, context, fields) if _is_traced(context) else NO_SPAN


def tell_past(
    name: str, causes: Iterable[Mapping[str, str]], began: float, **fields: Value
) -> None:
    """Call this with what was done at once for all of `causes`, metadata as it is stored.

    From `began`, by trio's clock, until now; once in each trace, and in `TOLD_AT_ONCE_MAX` at most.
    """
    cell = current_activity.get().cell
    spans = None if cell is None else cell.system.spans
    if cell is None or spans is None:
        return
    named = {one.get("traceparent"): one.get("correlation_id", "") for one in causes}
    ended = spans.clock()
    for trace, correlation in islice(named.items(), TOLD_AT_ONCE_MAX):
        if trace is not None and len(trace) == TRACEPARENT_CHARS:
            own = spans.new_id()
            spans.add((name, trace, own, began, ended, cell.path, correlation, "", fields))


def _is_traced(context: Context) -> bool:
    trace = context.traceparent
    return trace is not None and len(trace) == TRACEPARENT_CHARS
