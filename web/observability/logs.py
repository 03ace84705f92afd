"""Log lines: structlog, sync, one record a line, on standard error or where it is told.

Rule 1: a log line never changes what the program does. What cannot be rendered or written is
counted, and the number is told in a line of its own once writing works again.
Rule 2: values cannot forge lines or colour a terminal: control characters are escaped in every
field, key and traceback (SITE-132). Lines below a record, of a traceback, are indented.
Rule 3: how a line looks depends on nothing else that is installed: structlog would print
tracebacks with all local variables, secrets among them, as soon as it finds `rich`.

Bodies, tokens and addresses are not fields; nobody passes them. Values under a name such as
`password` are hidden all the same, and passwords in addresses (SEC-131).
"""

import json
import logging
import os
import sys
from collections.abc import Mapping, MutableMapping
from functools import partial
from typing import TextIO

import structlog

from actors.runtime import Log, current_context
from actors.runtime.telling.lines import LineWriter
from actors.runtime.telling.log import LOST, indented, lost, one_line, traceback_of
from actors.runtime.telling.spans import TRACEPARENT_CHARS
from actors.runtime.words.showing import Bounds, plain, redact_names, redact_text, shown
from web.observability.operating.recent import RecentLines
from web.settings import LogFormat, LogLevel

_LEVELS = {
    LogLevel.DEBUG: logging.DEBUG,
    LogLevel.INFO: logging.INFO,
    LogLevel.WARNING: logging.WARNING,
    LogLevel.ERROR: logging.ERROR,
}
# Fields of several lines: shown below the record, where they are told from records.
_BELOW = ("exception", "stack")

# What of one value goes into a record; who needs more has the reports.
_VALUE = Bounds(4000, text=2000, items=100)

Record = MutableMapping[str, object]


def configure_logging(
    log_format: LogFormat,
    level: LogLevel,
    stream: TextIO | None = None,
    *,
    node: str = "",
    recent: RecentLines | None = None,
) -> None:
    """Call this once at start: from then on structlog and the standard library's logging, which
    foreign packages use, write lines of one look to `stream`, by default standard error.

    Of a process that is a node of a cluster each line says which `node`. The newest lines are kept
    in `recent`, too.
    """
    output = sys.stderr if stream is None else stream
    is_json = log_format is LogFormat.JSON
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _add_correlation,
            *([partial(_add_node, node)] if node else []),
            _show_traceback,
            _hide_secrets,
            _as_json if is_json else _as_text,
            _dumped if is_json else _console(has_colors=_has_colors(output)),
        ],
        wrapper_class=_guarded(structlog.make_filtering_bound_logger(_LEVELS[level])),
        logger_factory=_Lines(LineWriter(output), recent),
        cache_logger_on_first_use=False,
    )
    _take_over_library()


# -- what a record becomes ------------------------------------------------------------------


def _add_correlation(_logger: object, _method: str, record: Record) -> Record:
    # WEB-10: what is said while a message or request is in hand names what it belongs to.
    context = current_context()
    if context is None:
        return record
    if record.get("correlation_id") is None:
        record["correlation_id"] = context.correlation_id
    trace = context.traceparent
    if trace is not None and len(trace) == TRACEPARENT_CHARS:
        record.setdefault("trace_id", trace[3:35])
    return record


def _add_node(node: str, _logger: object, _method: str, record: Record) -> Record:
    # CLU-40: lines of several nodes are read together. What a line says of a node itself stands.
    record.setdefault("node", node)
    return record


def _show_traceback(_logger: object, _method: str, record: Record) -> Record:
    exc_info = record.pop("exc_info", None)
    if exc_info and (text := traceback_of(exc_info)):
        record["exception"] = text
    return record


def _hide_secrets(_logger: object, _method: str, record: Record) -> Record:
    # By their names first, then what stands in a text.
    return {
        key: redact_text(value) if isinstance(value, str) else value
        for key, value in redact_names(dict(record)).items()
    }


class _Shown:
    """A text that is printed as it is, without quotes around it."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _as_text(_logger: object, _method: str, record: Record) -> Record:
    return {one_line(str(key)): _plain_text(str(key), value) for key, value in record.items()}


def _plain_text(key: str, value: object) -> object:
    if isinstance(value, str):
        return indented(value) if key in _BELOW else one_line(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    return _Shown(one_line(redact_text(shown(value))))


def _as_json(_logger: object, _method: str, record: Record) -> Record:
    return {one_line(str(key)): _plain_json(str(key), value) for key, value in record.items()}


def _plain_json(key: str, value: object) -> object:
    if isinstance(value, str):
        return value if key in _BELOW else one_line(value)
    return plain(value, _VALUE)


def _dumped(_logger: object, _method: str, record: Record) -> str:
    return json.dumps(record)


def _console(*, has_colors: bool) -> structlog.dev.ConsoleRenderer:
    return structlog.dev.ConsoleRenderer(
        colors=has_colors, exception_formatter=structlog.dev.plain_traceback
    )


def _has_colors(output: TextIO | None) -> bool:
    # On Windows they would need colorama: nothing may depend on whether that is installed.
    try:
        is_wanted = sys.platform != "win32" and not os.environ.get("NO_COLOR")
        return is_wanted and output is not None and output.isatty()
    except ValueError:
        return False  # it is closed


# -- how it is written ----------------------------------------------------------------------


class _Lines:
    """What structlog gives a rendered line to: each method writes it, and raises when it cannot."""

    def __init__(self, writer: LineWriter, recent: RecentLines | None = None) -> None:
        self._writer, self._recent = writer, recent

    def __call__(self, *_: object) -> "_Lines":
        return self

    def msg(self, line: str) -> None:
        """Write a rendered line."""
        if self._recent is not None:
            # First: what nobody could read any more is what is asked for.
            self._recent.add(line)
        self._writer.write(line)

    log = debug = info = warn = warning = error = critical = exception = msg


def _guarded(
    kind: type[structlog.typing.FilteringBoundLogger],
) -> type[structlog.typing.FilteringBoundLogger]:
    """Give the same class of loggers, but what they raise is counted."""

    def proxy(
        self: structlog.BoundLoggerBase, method: str, event: str | None = None, /, **fields: object
    ) -> None:
        original = structlog.BoundLoggerBase._proxy_to_logger
        lost.guard(lambda: original(self, method, event, **fields), tell_lost)

    # structlog's documented place for wrappers: all of its methods end here.
    return type("GuardedLogger", (kind,), {"_proxy_to_logger": proxy})


def tell_lost(fields: Mapping[str, object]) -> None:
    """Call this to tell, as a line of the log, how many lines could not be written."""
    structlog.get_logger().error(LOST, **fields)


class _FromLibrary(logging.Handler):
    """Passes what foreign packages log by `logging` on, so that it looks like all the rest."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record of the standard library as one of ours."""
        if not isinstance(structlog.get_config()["logger_factory"], _Lines):
            return  # Somebody has configured structlog anew: it may end here again.
        try:
            event = record.getMessage()
        except Exception as error:  # noqa: BLE001 - its arguments do not fit, or cannot be shown
            event = f"{shown(record.msg)} ({type(error).__name__} while it was put together)"
        fields: dict[str, object] = {"logger": record.name}
        if record.exc_info:
            fields["exc_info"] = record.exc_info
        log = Log(record.name)
        if record.levelno >= logging.ERROR:
            log.error(event, **fields)
        elif record.levelno >= logging.WARNING:
            log.warning(event, **fields)
        elif record.levelno >= logging.INFO:
            log.info(event, **fields)
        else:
            log.debug(event, **fields)


def _take_over_library() -> None:
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, _FromLibrary):
            return
    root.addHandler(_FromLibrary())
