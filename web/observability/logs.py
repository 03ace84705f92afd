"""Log lines: structlog, sync, one record a line, on standard error or where it is told.

Values cannot forge lines or colour a terminal: control characters are escaped in every
field (SITE-132). Bodies, tokens and addresses are not fields; nobody passes them.
"""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import TextIO

import structlog

from web.settings import LogFormat, LogLevel

_LEVELS = {
    LogLevel.DEBUG: logging.DEBUG,
    LogLevel.INFO: logging.INFO,
    LogLevel.WARNING: logging.WARNING,
    LogLevel.ERROR: logging.ERROR,
}

# C0 and C1 controls, line and paragraph separators, bidirectional overrides.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def one_line(text: str) -> str:
    """Call this to show a text on one line, whatever characters it holds."""
    return _UNSAFE.sub(lambda match: f"\\u{ord(match.group()):04x}", text)


def _neutralise(
    _logger: object, _method: str, record: MutableMapping[str, object]
) -> MutableMapping[str, object]:
    for key, value in record.items():
        if isinstance(value, str) and key != "exception":
            record[key] = one_line(value)
    return record


def configure_logging(log_format: LogFormat, level: LogLevel, stream: TextIO | None = None) -> None:
    """Call this once at start; until then log lines are dropped into structlog's default."""
    output = sys.stderr if stream is None else stream
    renderer: structlog.types.Processor
    if log_format is LogFormat.JSON:
        renderer = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=output.isatty())
    exceptions: list[structlog.types.Processor] = (
        [structlog.processors.format_exc_info] if log_format is LogFormat.JSON else []
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *exceptions,
            _neutralise,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        # A line and its end in one write: the watchdog's thread logs between two of the loop's.
        logger_factory=structlog.WriteLoggerFactory(output),
        cache_logger_on_first_use=False,
    )
