"""The packages' own log lines: observing never acts.

A log whose reader is gone, a full disk, a closed stream, a processor that raises: the line is
counted, and the number is told when writing works again. Nothing of it reaches whoever logs, for
that is a supervisor, a reporter, a drain or the watchdog's thread, which must go on.

Where a line goes is the program's choice. It is structlog's affair when the program has configured
that, else the standard library's when that has a handler. A program that has set up neither gets
warnings and errors on standard error, and nothing else.

Rule 1: nothing in the packages but this file calls structlog, so that all of it is guarded.
Rule 2: KeyboardInterrupt and SystemExit are no failures of a log and pass through.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from typing import Final, Literal, TypeAlias, TypeVarTuple

import structlog

from actors.runtime.telling.lines import LineWriter
from actors.runtime.words.showing import class_name, redact_text, text_of

Ts = TypeVarTuple("Ts")
Level: TypeAlias = Literal["debug", "info", "warning", "error", "critical"]
# Writes the line that tells of lost ones, given its fields.
Tell: TypeAlias = Callable[[Mapping[str, object]], object]

_NUMBER: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}
# An error group of hundreds is not read to its end; who reads on has the reports.
TRACEBACK_MAX: Final = 32_000
# What tells of lost lines, once one can be written again.
LOST: Final = "log_lines_lost"

# C0 and C1 controls, line and paragraph separators, bidirectional overrides, and halves of
# surrogate pairs, which no encoding can write.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def one_line(text: str) -> str:
    """Call this to show a text on one line, whatever characters it holds."""
    return _UNSAFE.sub(lambda match: f"\\u{ord(match.group()):04x}", text)


def indented(text: str) -> str:
    """Call this to show a text of several lines below a log line; none can pass for one."""
    return "\n".join(f"    {one_line(line)}" for line in text.rstrip().split("\n"))


class LostLines:
    """How many log lines of this process could not be written, and why the last could not."""

    def __init__(self) -> None:
        # Reentrant: an object that is collected while the lock is held may log in its `__del__`.
        self._lock = threading.RLock()
        self._inside = threading.local()
        self._untold = 0
        self.total = 0
        self.last_error = ""

    def guard(self, write: Callable[[], object], tell: Tell) -> None:
        """Call this to run `write`, which may fail; what it raises is counted.

        When it works again, `tell` is called with how many were lost. Guards may stand in each
        other: the outermost counts.
        """
        if getattr(self._inside, "is_on", False):
            write()
            return
        self._inside.is_on = True
        try:
            self._run(write, tell)
        finally:
            self._inside.is_on = False

    def _run(self, write: Callable[[], object], tell: Tell) -> None:
        try:
            write()
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - whatever a log of the user's raises
            self.last_error = class_name(type(error))
            self._note(1)
            return
        if self._untold:
            self._tell(tell)

    def _tell(self, tell: Tell) -> None:
        with self._lock:
            count, self._untold = self._untold, 0
        is_told = False
        try:
            tell({"count": count, "error": self.last_error})
            is_told = True
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - it broke again; the number is kept
            self.last_error = class_name(type(error))
        finally:
            if not is_told:
                with self._lock:
                    self._untold += count

    def _note(self, count: int) -> None:
        with self._lock:
            self._untold += count
            self.total += count


def failure_of(listener: Callable[[*Ts], object], *args: *Ts) -> BaseException | None:
    """Call this to tell a listener of somebody else's: gives what it raised, or None.

    Whoever calls it takes the listener out then, and logs; the others are told all the same.
    """
    try:
        listener(*args)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - who looks on must not hurt who works
        return error
    return None


class CriticalLines:
    """How many lines of this process told what cannot be by itself."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.total = 0

    def note(self) -> None:
        """Call this for each, in whatever thread."""
        with self._lock:
            self.total += 1


# Of the whole process, as standard error is.
lost: Final = LostLines()
criticals: Final = CriticalLines()


class Log:
    """Writes the log lines of one part of the packages. Make one a module; no call ever raises."""

    __slots__ = ("_structlog", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self._structlog = structlog.get_logger(name)

    def __repr__(self) -> str:
        return f"<Log {self.name}>"

    @property
    def has_debug(self) -> bool:
        """Whether `debug` would be written: ask before making a text that is dear."""
        try:
            return self._has_debug()
        except Exception:  # noqa: BLE001 - a log of the user's may be built in any way
            return False

    def _has_debug(self) -> bool:
        if not structlog.is_configured():
            library = logging.getLogger(self.name)
            return library.hasHandlers() and library.isEnabledFor(logging.DEBUG)
        logger = self._structlog.bind()
        # Of its class: some wrappers answer to every name, by logging it.
        for name in ("is_enabled_for", "isEnabledFor"):
            if hasattr(type(logger), name):
                return bool(getattr(logger, name)(logging.DEBUG))
        return False

    def debug(self, event: str, **fields: object) -> None:
        """Call this for what helps to find a bug."""
        self._put("debug", event, fields)

    def info(self, event: str, **fields: object) -> None:
        """Call this for what an operator may like to know."""
        self._put("info", event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Call this for what went wrong and was dealt with."""
        self._put("warning", event, fields)

    def error(self, event: str, **fields: object) -> None:
        """Call this for what somebody must look at; `exc_info` adds the traceback of an error."""
        self._put("error", event, fields)

    def critical(self, event: str, **fields: object) -> None:
        """Call this for what cannot be by itself: a fault of the program, or an attack.

        It is counted, also where it is not written: operators have a figure of it (SEC-137).
        """
        criticals.note()
        self._put("critical", event, fields)

    def exception(self, event: str, **fields: object) -> None:
        """Call this while an error is handled: `error` with its traceback."""
        self._put("error", event, {"exc_info": True, **fields})

    def _put(self, level: Level, event: str, fields: Mapping[str, object]) -> None:
        lost.guard(lambda: self._write(level, event, fields), self._tell_lost)

    def _tell_lost(self, fields: Mapping[str, object]) -> None:
        # As an error: whatever level is set, this is seen.
        self._write("error", LOST, fields)

    def _write(self, level: Level, event: str, fields: Mapping[str, object]) -> None:
        if structlog.is_configured():
            getattr(self._structlog, level)(event, **fields)
            return
        number = _NUMBER[level]
        library = logging.getLogger(self.name)
        if library.hasHandlers():
            if library.isEnabledFor(number):
                library.log(number, "%s", _plain(event, fields))
        elif number >= logging.WARNING:
            _standard_error().write(f"[{level}] {_plain(event, fields)}")


def _plain(event: str, fields: Mapping[str, object]) -> str:
    """A record as text: one line, and texts of several lines below it."""
    words, below = [event], []
    for name, value in fields.items():
        if name == "exc_info":
            below.append(traceback_of(value))
        elif isinstance(value, str) and "\n" in value:
            below.append(f"{name}:\n{value}")
        elif value is not None:
            words.append(f"{name}={text_of(value)}")
    return "\n".join([one_line(" ".join(words)), *(indented(text) for text in below if text)])


def traceback_of(exc_info: object) -> str:
    """Call this with what was given as `exc_info`, to get the traceback as text, without locals."""
    error: object = exc_info
    if exc_info is True:
        error = sys.exception()
    elif isinstance(exc_info, tuple):
        error = exc_info[1]
    if not isinstance(error, BaseException):
        return ""
    text = "".join(traceback.format_exception(error))
    if len(text) > TRACEBACK_MAX:
        # The cause stands at its end, where it began at its beginning.
        half = TRACEBACK_MAX // 2
        text = f"{text[:half]}\n... [cut]\n{text[-half:]}"
    return redact_text(text)


_written: list[LineWriter] = []


def _standard_error() -> LineWriter:
    # Looked up each time: a program, or the test of one, may put another in its place.
    if not _written or _written[-1].stream is not sys.stderr:
        _written[:] = [LineWriter(sys.stderr)]
    return _written[-1]
