"""What is told of a crash: the last message, the state, the stack, secrets hidden."""

from __future__ import annotations

import inspect
import traceback
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Final

import structlog

from actors.runtime.delivery.envelope import Context
from actors.runtime.life.cell import Life
from actors.runtime.watching.presenting import presentable, redacted, redacted_message
from actors.runtime.words.exits import Crashed
from actors.runtime.words.showing import fields_of, redact_text

# A restart storm of one actor shall not push out the report that explains it.
REPORTS_KEPT: Final = 200
TOPIC: Final = "crash_reports"

_MAY_WAIT: Final = inspect.CO_COROUTINE | inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR

_log = structlog.get_logger("actors.crashes")


@dataclass(frozen=True, slots=True)
class CrashReport:
    """One crash. `state` is plain data, redacted and cut, or why it cannot be shown."""

    path: str
    incarnation: int
    at: float
    exit: Crashed
    last_message: str | None
    message_id: int | None
    context: Context | None
    state: object
    stack: str


class Reports:
    """The newest crash reports of a system; topic `crash_reports` has each as it is made."""

    def __init__(self, publish: Callable[[str, object], int]) -> None:
        self._publish = publish
        self.kept: deque[CrashReport] = deque(maxlen=REPORTS_KEPT)

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
            state=presentable(redacted(cell, fields_of(life.instance))),
            stack=redact_text("".join(traceback.format_exception(exit_.error))),
        )
        _forget_frames(exit_.error, life.instance)
        self.kept.append(report)
        _log.error(
            "actor_crashed",
            path=report.path,
            incarnation=report.incarnation,
            error=type(exit_.error).__name__,
            because=exit_.because,
            message_type=None if message_id is None else type(message).__name__,
            correlation_id=None if context is None else context.correlation_id,
        )
        self._publish(TOPIC, report)


def _forget_frames(error: BaseException, actor: object) -> None:
    """Empty the frames of an error already shown: the actor they hold must not live on."""
    seen: set[int] = set()
    left: list[BaseException | None] = [error]
    while left:
        one = left.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        _empty_frames(one.__traceback__, actor)
        left += [one.__cause__, one.__context__]
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
