"""What is told of a crash: the last message, the state, the stack, secrets hidden.

A report is made on the loop, for every crash of a storm, while the instance is at hand: it takes a
bounded amount of everything, and leaves the text of the stack to whoever reads it (`traces.py`).
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final

from actors.runtime.delivery.envelope import Context
from actors.runtime.life.cell import Life
from actors.runtime.life.handlers import entry_for
from actors.runtime.telling.log import Log
from actors.runtime.telling.spans import trace_in
from actors.runtime.watching.presenting import redacted_message, redacted_state
from actors.runtime.watching.traces import Trace, trace_of
from actors.runtime.words.errors import BadReply
from actors.runtime.words.exits import Crashed, readable
from actors.runtime.words.places import place_of, place_of_code, told
from actors.runtime.words.showing import class_name, redact_text
from actors.runtime.words.weighing import weight_of

# A restart storm of one actor shall not push out the report that explains it.
REPORTS_KEPT: Final = 200
# A report is a few kilobytes; the error in it may hold anything. By estimate, the newest always.
BYTES_KEPT: Final = 16 * 1024 * 1024
TOPIC: Final = "crash_reports"

_MAY_WAIT: Final = inspect.CO_COROUTINE | inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR

_log = Log("actors.crashes")


@dataclass(frozen=True, slots=True)
class CrashReport:
    """One crash. `state` is plain data, redacted and cut, or why it cannot be shown.

    `stack` is the text of the error with its causes; source files are read when it is.
    """

    path: str
    incarnation: int
    at: float
    exit: Crashed
    last_message: str | None
    message_id: int | None
    context: Context | None
    state: object
    trace: Trace = field(repr=False, compare=False)

    @property
    def stack(self) -> str:
        """Where it came from, with its causes, as Python writes it; secrets hidden."""
        return str(self.trace)


class Reports:
    """The newest crash reports of a system; topic `crash_reports` has each as it is made."""

    def __init__(
        self,
        publish: Callable[[str, object], int],
        text_id: Callable[[int], str],
        *,
        development: bool = False,
    ) -> None:
        self._publish, self._text_id, self._development = publish, text_id, development
        self.kept: deque[CrashReport] = deque()
        # Of each of them, in the same order.
        self._weights: deque[int] = deque()
        self._weight = 0

    def crashed(self, life: Life, exit_: Crashed) -> None:
        """Called once for each incarnation that crashed, while its instance is at hand."""
        cell = life.cell
        message: object = None
        message_id = context = None
        if life.last_in_hand is not None:
            message, message_id, _, _, _, context = life.last_in_hand
        report = CrashReport(
            path=cell.path,
            incarnation=life.number,
            at=exit_.at,
            exit=exit_,
            last_message=None if message_id is None else redacted_message(cell, message),
            message_id=message_id,
            context=context,
            state=redacted_state(cell, life.instance),
            trace=trace_of(exit_.error),
        )
        _forget_frames(exit_.error, life.instance)
        self._keep(report)
        self._log(report, _where(life, exit_.error, message), class_name(type(message)))
        self._publish(TOPIC, report)

    def _log(self, report: CrashReport, where: str | None, message_type: str) -> None:
        """The one line of a crash: what, where, in which message; with the stack for who develops.

        The message in hand is a dead letter and the supervisor makes a report; neither of them is
        a line of its own.
        """
        fields: dict[str, object] = {
            "path": report.path,
            "incarnation": report.incarnation,
            "error": redact_text(told(report.exit.error)),
            "where": where,
            "because": report.exit.because,
        }
        context, message_id = report.context, report.message_id
        if message_id is not None:
            # A message from outside any flow began one of its own id.
            flow = self._text_id(message_id) if context is None else context.correlation_id
            fields |= {"message_type": message_type, "correlation_id": flow}
        if context is not None and (trace := trace_in(context.traceparent)):
            # Whoever writes the line adds it where there is a message in hand; here is none more.
            fields["trace_id"] = trace
        if self._development or _log.has_debug:
            fields["exception"] = report.stack
        _log.error(
            "actor_crashed", **{name: one for name, one in fields.items() if one is not None}
        )

    def _keep(self, report: CrashReport) -> None:
        weight = weight_of(report.exit.error) + weight_of(report.state)
        self.kept.append(report)
        self._weights.append(weight)
        self._weight += weight
        while len(self.kept) > 1 and (len(self.kept) > REPORTS_KEPT or self._weight > BYTES_KEPT):
            self.kept.popleft()
            self._weight -= self._weights.popleft()


def _where(life: Life, error: BaseException, message: object) -> str | None:
    if isinstance(error, BadReply):
        # Never raised, so without a traceback; the handler that returned it is at fault.
        return place_of_code(entry_for(life.handlers, type(message), None))
    return place_of(error)


def _forget_frames(error: BaseException, actor: object) -> None:
    """Empty the frames of an error already shown: the actor they hold must not live on."""
    seen: set[int] = set()
    left = [error]
    while left:
        one = left.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        _empty_frames(one.__traceback__, actor)
        left += [
            readable(before) for before in (one.__cause__, one.__context__) if before is not None
        ]
        if isinstance(one, BaseExceptionGroup):
            left += one.exceptions


def _empty_frames(trace: TracebackType | None, actor: object) -> None:
    while trace is not None:
        frame, trace = trace.tb_frame, trace.tb_next
        # An error may have come from elsewhere, with frames of a task that still waits: clearing
        # would end that task's coroutine. Of this actor's own nothing runs any more.
        if frame.f_code.co_flags & _MAY_WAIT and frame.f_locals.get("self") is not actor:
            continue
        with suppress(RuntimeError):  # It runs: a frame of the runtime itself.
            frame.clear()
            # The look above has left a copy of the variables in the frame; this one empties it.
            _ = frame.f_locals
