"""What a supervisor tells a person: one report for each crash, failed start and giving up.

A report prints in full (for a terminal) and in one line (for a log). Both are redacted and cut;
a cut is marked. Who receives reports is decided by the system (topic `REPORTS`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, fields, is_dataclass
from typing import Final, Literal, TypeAlias

import structlog

from actors.runtime import Crashed, System
from actors.runtime.words.showing import redact_text
from supervision.specs.words import ChildType, RestartType, ShutdownTime

# Topic on which every report is published.
REPORTS: Final = "supervision.reports"
# Deeper than this nobody reads; longer than this one value fills a screen.
DEPTH_MAX: Final = 4
VALUE_TEXT_MAX: Final = 2_000
# One log line, as in the runtime's exits.
LINE_MAX: Final = 500
CUT: Final = "... [cut]"
SECRET_NAMES: Final = ("password", "passwd", "token", "secret", "cookie", "authorization")

_log = structlog.get_logger("supervision")

ReportContext: TypeAlias = Literal[
    "start_error", "child_terminated", "shutdown_error", "shutdown", "child_gave_up", "unkillable"
]


@dataclass(frozen=True, slots=True)
class Offender:
    """The child a report is about."""

    id: str | None
    path: str
    incarnation: int
    restart: RestartType
    shutdown: ShutdownTime
    type: ChildType


@dataclass(frozen=True, slots=True)
class Report:
    """One thing that went wrong under `supervisor`, and which child it was.

    `reason` is the exit or the error; when somebody gave up, the word for what ran out.
    `stack` is where an unkillable child stands; None otherwise.
    """

    supervisor: str
    context: ReportContext
    reason: object
    offender: Offender
    at: float
    correlation_id: str | None = None
    stack: str | None = None

    def one_line(self) -> str:
        """Call this for a log: at most 500 characters."""
        offender = self.offender
        text = (
            f"{self.context} {offender.path}#{offender.incarnation} under {self.supervisor}: "
            f"{show(self.reason)}"
        )
        flat = " ".join(text.split())
        return flat if len(flat) <= LINE_MAX else flat[: LINE_MAX - len(CUT)] + CUT

    def __str__(self) -> str:
        offender = self.offender
        lines = [
            f"{self.context} under {self.supervisor} at {self.at:.3f}",
            f"  child       {offender.id or '(dynamic)'}  {offender.path}",
            f"  incarnation {offender.incarnation}",
            f"  restart     {offender.restart}, shutdown {offender.shutdown}, {offender.type}",
            f"  reason      {show(self.reason)}",
        ]
        if self.correlation_id is not None:
            lines.append(f"  correlation {self.correlation_id}")
        error = getattr(self.reason, "error", self.reason)
        if isinstance(error, BaseException):
            lines.extend(f"  leaf        {show(leaf)}" for leaf in Crashed(error).leaves())
        if self.stack is not None:
            lines.append(f"  stack\n{self.stack}")
        return "\n".join(lines)


def correlation_of(report: Report, system: System) -> str | None:
    """The flow of the message that crashed a child, asked right after the crash.

    The runtime has just made its own report of it. A message from outside any flow began one of
    its own id.
    """
    kept = system.reports.kept
    offender = report.offender
    if not kept or kept[-1].path != offender.path:
        return None
    last = kept[-1]
    if last.incarnation != offender.incarnation or last.message_id is None:
        return None
    return system.text_id(last.message_id) if last.context is None else last.context.correlation_id


def log_report(report: Report) -> None:
    """Write a report to the log: an event name and plain fields.

    The line itself is not made here: a storm of restarts would spend its time on text.
    """
    _log.warning(
        "supervision_report",
        context=report.context,
        supervisor=report.supervisor,
        offender=report.offender.path,
        incarnation=report.offender.incarnation,
        reason=type(report.reason).__name__,
        correlation_id=report.correlation_id,
    )


def show(value: object) -> str:
    """Any value as text, redacted, at most 4 deep and 2,000 characters long."""
    text = _show(value, 0)
    return text if len(text) <= VALUE_TEXT_MAX else text[: VALUE_TEXT_MAX - len(CUT)] + CUT


def _show(value: object, depth: int) -> str:
    if depth > DEPTH_MAX:
        return CUT
    match value:
        case str() | bytes():
            return redact_text(repr(value[: VALUE_TEXT_MAX + 1]))
        case BaseException():
            inner = ", ".join(_show(one, depth + 1) for one in _some(value.args))
            return f"{type(value).__name__}({inner})"
        case Mapping():
            pairs = (f"{_show(k, depth + 1)}: {_field(str(k), v, depth)}" for k, v in _items(value))
            return "{" + ", ".join(pairs) + "}"
        case list() | tuple() | Set():
            return "[" + ", ".join(_show(one, depth + 1) for one in _some(value)) + "]"
        case _ if is_dataclass(value) and not isinstance(value, type):
            pairs = (
                f"{one.name}={_field(one.name, getattr(value, one.name, None), depth)}"
                for one in fields(value)
                if one.repr and one.compare
            )
            return f"{type(value).__name__}(" + ", ".join(pairs) + ")"
        case _:
            return _safe_repr(value)


def _field(name: str, value: object, depth: int) -> str:
    if any(secret in name.lower() for secret in SECRET_NAMES):
        return "***"
    return _show(value, depth + 1)


def _items(value: Mapping[object, object]) -> list[tuple[object, object]]:
    # More entries than characters can never be printed; a huge state must not be walked.
    return [pair for pair, _ in zip(value.items(), range(VALUE_TEXT_MAX), strict=False)]


def _some(value: Sequence[object] | Set[object]) -> list[object]:
    return [one for one, _ in zip(value, range(VALUE_TEXT_MAX), strict=False)]


def _safe_repr(value: object) -> str:
    # Trap: a report is made about objects that are already broken; their repr may be too.
    try:
        return redact_text(repr(value)[: VALUE_TEXT_MAX + 1])
    except Exception as error:  # noqa: BLE001  anything at all may come out of foreign code
        return f"<{type(value).__name__}: repr failed: {type(error).__name__}>"
