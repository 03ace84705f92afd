"""What a supervisor tells a person: one report for each crash, failed start and giving up.

A report prints in full (for a terminal) and in one line (for a log). Both are redacted and cut;
a cut is marked, and no more is looked at than is shown. Who receives reports is decided by the
system (topic `REPORTS`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from actors.runtime import Crashed, Exit, Killed, Log, Normal, Shutdown, System
from actors.runtime.telling.log import traceback_of
from actors.runtime.words.exits import exit_text
from actors.runtime.words.places import place_of, told
from actors.runtime.words.showing import CUT, Bounds, fields_shown, redact_text, shown
from supervision.specs.errors import IntensityReached
from supervision.specs.words import ChildType, RestartType, ShutdownTime

# Topic on which every report is published.
REPORTS: Final = "supervision.reports"
# A value longer than this fills a screen.
VALUE_TEXT_MAX: Final = 2_000
VALUE_BOUNDS: Final = Bounds(VALUE_TEXT_MAX, text=VALUE_TEXT_MAX)
# Of one group of errors; more of them are the same error again.
LEAVES_MAX: Final = 20
# One log line, as in the runtime's exits.
LINE_MAX: Final = 500

# A human should look: its restarts are used up.
_GAVE_UP: Final = frozenset({"shutdown", "child_gave_up"})

_log = Log("supervision")

# What went wrong: a start or restart, a child that ended, one that ended badly while it was
# stopped, the supervisor that gave up, a dynamic child that did, a child that cannot be killed.
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
    `stack` is where an unkillable child stands; None otherwise. `cause` is the error at the bottom
    of it and `source` the actor that raised it: the offender, or one below when the offender is a
    supervisor that could not start or gave up.
    """

    supervisor: str
    context: ReportContext
    reason: object
    offender: Offender
    at: float
    correlation_id: str | None = None
    stack: str | None = None
    source: str | None = None
    cause: BaseException | None = None

    def one_line(self) -> str:
        """Call this for a log: at most 500 characters."""
        offender = self.offender
        text = (
            f"{self.context} {offender.path}#{offender.incarnation} under {self.supervisor}: "
            f"{show(self.reason)}"
        )
        if self.cause is not None and self.cause is not _error_in(self.reason):
            text += f"; {self.source}: {show(self.cause)}"
        if (place := self.place) is not None:
            text += f" ({place})"
        flat = " ".join(text.split())
        return flat if len(flat) <= LINE_MAX else flat[: LINE_MAX - len(CUT)] + CUT

    @property
    def place(self) -> str | None:
        """The innermost line of user code behind it, `first.py:12 in on_go`, if one is known."""
        error = self._error
        return None if error is None else place_of(error)

    @property
    def _error(self) -> BaseException | None:
        """The error at the bottom of it, or else the one it was made with."""
        error = self.cause if self.cause is not None else _error_in(self.reason)
        return error if isinstance(error, BaseException) else None

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
        error = self._error
        if error is not None:
            leaves = Crashed(error).leaves()
            lines.extend(f"  leaf        {show(leaf)}" for leaf in leaves[:LEAVES_MAX])
            if len(leaves) > LEAVES_MAX:
                lines.append(f"  leaf        {len(leaves) - LEAVES_MAX} more {CUT}")
            lines.append(f"  raised by   {self.source or offender.path}")
        if (place := self.place) is not None:
            lines.append(f"  at          {place}")
        if self.stack is not None:
            lines.append(f"  stack\n{self.stack}")
        return "\n".join(lines)


def _error_in(reason: object) -> object:
    return getattr(reason, "error", reason)


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


def log_report(report: Report, *, is_quiet: bool = False, development: bool = False) -> None:
    """Write a report to the log: an event name and plain fields, with text and place of the error.

    One failure is one line. Where another line or an error tells it already, this one is for the
    level debug: a crash stands in the line of the runtime, what a supervisor gave up for in its
    own. That somebody gave up is an error, which restarts did not mend; what is tried again is a
    warning. With `development` a failed start has its traceback.
    """
    if is_quiet or _is_told(report):
        if _log.has_debug:
            _log.debug("supervision_report", **_fields(report))
        return
    fields = _fields(report)
    cause = report.cause
    if report.context == "start_error" and cause is not None and (development or _log.has_debug):
        fields["exception"] = traceback_of(cause)
    put = _log.error if report.context in _GAVE_UP else _log.warning
    put("supervision_report", **fields)


def _is_told(report: Report) -> bool:
    match report.reason:
        case Crashed():
            return True
        case Shutdown(info=IntensityReached()):
            return report.context == "child_terminated"
        case _:
            return False


def _fields(report: Report) -> dict[str, object]:
    offender, cause, reason = report.offender, report.cause, report.reason
    fields: dict[str, object] = {
        "context": report.context,
        "supervisor": report.supervisor,
        "offender": offender.path,
        "incarnation": offender.incarnation,
    }
    if isinstance(reason, Exit):
        fields["reason"] = redact_text(exit_text(reason))
    elif not isinstance(reason, BaseException):
        fields["reason"] = reason
    if cause is not None:
        fields["error"] = redact_text(told(cause))
        fields["where"] = report.place
        fields["source"] = None if report.source == offender.path else report.source
    fields["correlation_id"] = report.correlation_id
    fields["stack"] = report.stack
    return {name: one for name, one in fields.items() if one is not None}


def show(value: object) -> str:
    """Any value as text, redacted, at most 4 deep and 2,000 characters long."""
    match value:
        case Normal() | Killed():
            return f"{type(value).__name__}()"
        case Shutdown():
            return fields_shown("Shutdown", {"info": value.info}, VALUE_BOUNDS)
        case Crashed():
            return fields_shown("Crashed", {"error": value.error}, VALUE_BOUNDS)
        case _:
            return shown(value, VALUE_BOUNDS)
