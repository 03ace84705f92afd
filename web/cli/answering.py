"""How a command answers: lines for people, JSON for programs, one sentence and a code for an error.

The codes are the house's (`Code`), those of a site that is asked too. A command never shows a
traceback unless `--debug` asks for it.
"""

import argparse
import select
import signal
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime

import msgspec
import trio

from actors.persistence import StoreMisuse, StoreUnavailable
from actors.persistence.bus import BusRejected, BusUnavailable, InvalidTopic
from actors.runtime.words.showing import shown
from storage.errors import (
    BackupRefused,
    CursorOutdated,
    EmbeddedFailed,
    EmbeddedOutdated,
    InvalidField,
    MigrationChanged,
    MigrationGap,
    MigrationPending,
    MigrationRefused,
    OutsideBackups,
    RewindNotLossless,
    SchemaNewer,
    StateDirInUse,
    StoreError,
    StoreInUse,
    StoreMoved,
    StoreRejected,
    StoreRewound,
)
from web.observability import Code, CommandFailed, complain, configure_logging, first_leaf, tell
from web.settings import BadSettings, LogFormat, LogLevel

# A cell of a table for people; `--json` has the whole.
CELL_CHARS_MAX = 60


# What ends a command beside Ctrl-C: whoever stops a job, and a terminal that was closed.
_ENDS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


class ReaderGone(Exception):
    """Raised by `Teller.at_once` when nobody reads any more: there is nothing left to do."""


# The first that fits; what is not among them has failed.
_CODES: Sequence[tuple[tuple[type[Exception], ...], Code]] = (
    ((InvalidField, InvalidTopic, OutsideBackups), Code.USAGE),
    ((LookupError,), Code.UNKNOWN),
    ((EmbeddedOutdated, BackupRefused), Code.REFUSED),
    (
        (
            BusRejected,
            BusUnavailable,
            EmbeddedFailed,
            StateDirInUse,
            StoreRejected,
            StoreUnavailable,
        ),
        Code.UNREACHABLE,
    ),
    (
        (
            CursorOutdated,
            MigrationChanged,
            MigrationGap,
            MigrationPending,
            MigrationRefused,
            RewindNotLossless,
            SchemaNewer,
            StoreInUse,
            StoreMisuse,
            StoreMoved,
            StoreRewound,
        ),
        Code.REFUSED,
    ),
)


class Teller:
    """Where a command puts what it found: one object a line as JSON, or a table for people.

    It is written when the command has ended: a pager may take its time, and no loop, connection or
    lock waits for it.
    """

    def __init__(self, *, is_json: bool, ends: Sequence[signal.Signals] = ()) -> None:
        self.is_json = is_json
        # The signals that a command feels where it waits.
        self._ends = ends
        self._lines: list[str] = []
        # Where in those lines a patch is.
        self._patched: set[int] = set()
        self._is_watched = not is_json and sys.stderr is not None and sys.stderr.isatty()

    def rows(self, rows: Sequence[Mapping[str, object]], none: str) -> None:
        """Call this with a list; `none` is what people are told when there is nothing in it."""
        if self.is_json:
            for row in rows:
                self._lines.append(msgspec.json.encode(row, enc_hook=str).decode())
        elif not rows:
            self._lines.append(none)
        else:
            self._lines.extend(_table(rows))

    def one(self, row: Mapping[str, object]) -> None:
        """Call this with one thing and all that is known of it."""
        if self.is_json:
            self.rows([row], "")
            return
        width = max(len(name) for name in row)
        for name, value in row.items():
            self._lines.append(f"{name:<{width}}  {_cell(value)}".rstrip())

    def text(self, text: str) -> None:
        """Call this with what is the same for people and programs, such as a picture as text."""
        self._lines.extend(text.splitlines())

    def patch(self, text: str) -> None:
        """Call this with what `git apply` takes: it comes out as it is, tabs and all."""
        begin = len(self._lines)
        # Not `splitlines`: a patch has a line where its files have one.
        self._lines.extend(text.removesuffix("\n").split("\n"))
        self._patched.update(range(begin, len(self._lines)))

    def at_once(self, row: Mapping[str, object], lines: Sequence[str]) -> None:
        """Call this with a part of a long answer, as JSON and as lines: it is read before the next.

        Raises `ReaderGone`, and `CommandFailed` when it cannot be written.
        """
        told = [msgspec.json.encode(row, enc_hook=str).decode()] if self.is_json else lines
        for line in told:
            try:
                with self._interruptibly():
                    is_told = tell(line)
            except OSError as error:
                raise CommandFailed(
                    Code.FAILED,
                    f"the rest of the answer could not be written ({error.strerror or error})",
                ) from error
            if not is_told:
                raise ReaderGone

    @contextmanager
    def _interruptibly(self) -> Iterator[None]:
        """Let a signal end a write to a pager that reads no more: trio would wait for its end."""
        with ExitStack() as stack:
            for number in self._ends:
                is_ctrl_c = number is signal.SIGINT
                usual = signal.default_int_handler if is_ctrl_c else signal.SIG_DFL
                stack.callback(signal.signal, number, signal.signal(number, usual))
            yield

    def check_reader(self) -> None:
        """Call this now and then while nothing comes: raises `ReaderGone` where a pipe has none.

        A write would find that out, and the next one may be hours away.
        """
        try:
            output = select.poll()
            # For nothing: an error, which is a pipe without a reader, is told unasked.
            output.register(sys.stdout.fileno(), 0)
            is_gone = bool(output.poll(0))
        except (AttributeError, OSError, ValueError):
            return  # closed, or none
        if is_gone:
            raise ReaderGone

    def write(self) -> None:
        """Call this at the end: raises `CommandFailed` when not all of it can be written."""
        try:
            for number, line in enumerate(self._lines):
                tell(line, is_patch=number in self._patched)
        except OSError as error:
            raise CommandFailed(
                Code.FAILED,
                f"the answer could not be written ({error.strerror or error}); what the command "
                "has changed is changed",
            ) from error

    def progress(self, line: str) -> None:
        """Call this with how far a long command is; shown on a terminal only, on one line."""
        if self._is_watched:
            sys.stderr.write(f"\r\x1b[K{line}")
            sys.stderr.flush()

    def end_progress(self) -> None:
        """Call this when there will be no more of it."""
        if self._is_watched:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def note(self, line: str) -> None:
        """Call this with what only a person wants to know."""
        if not self.is_json:
            complain(line)


def _cell(value: object) -> str:
    match value:
        case None:
            return ""
        case float():
            return f"{value:.1f}"
        case datetime():
            return value.isoformat(" ", "seconds")
        case dict():
            return ", ".join(f"{name} {_cell(one)}" for name, one in value.items())
    return str(value)


def _table(rows: Sequence[Mapping[str, object]]) -> list[str]:
    heads = list(rows[0])
    cells = [[_short(_cell(row.get(head))) for head in heads] for row in rows]
    widths = [max(len(head), *(len(line[i]) for line in cells)) for i, head in enumerate(heads)]
    return [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in [[head.upper() for head in heads], *cells]
    ]


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= CELL_CHARS_MAX else f"{text[: CELL_CHARS_MAX - 3]}..."


Command = Callable[[argparse.Namespace, Mapping[str, str], Teller], Awaitable[int]]


def answer(command: Command, parsed: argparse.Namespace, environment: Mapping[str, str]) -> int:
    """Call this to run a command to its exit code; whatever it raises is told in one sentence.

    Ctrl-C is felt where the command waits: anywhere else it could leave a nursery that was opened
    and never closed. So are SIGTERM and SIGHUP, which end it with what it has opened closed.
    """
    # The answer is what the command says; of the log only what nobody expected.
    configure_logging(LogFormat.PRETTY, LogLevel.ERROR)
    ends = _taken_over()
    ctrl_c = (
        [signal.SIGINT] if signal.getsignal(signal.SIGINT) is signal.default_int_handler else []
    )
    teller = Teller(is_json=parsed.json, ends=[*ctrl_c, *ends])
    try:
        try:
            return trio.run(
                _until_told,
                command,
                (parsed, environment, teller),
                ends,
                restrict_keyboard_interrupt_to_checkpoints=True,
            )
        finally:
            teller.write()
    except BaseException as raised:
        error = first_leaf(raised)
        if isinstance(error, KeyboardInterrupt | _ToldToEnd):
            if hasattr(parsed, "yes"):
                is_asking = getattr(parsed, "is_asking", False)
                told = "nothing was done" if is_asking else "what was asked for may be done or not"
                complain(f"greenroom: interrupted; {told}")
            return Code.INTERRUPTED if isinstance(error, KeyboardInterrupt) else error.code
        if isinstance(error, ReaderGone):
            return Code.DONE
        if not isinstance(error, Exception):
            raise
        if parsed.debug:
            for line in traceback.format_exception(raised):
                complain(line.rstrip("\n"))
        code, words = _told(error)
        complain(f"greenroom: {words}")
        return code


class _ToldToEnd(BaseException):
    """Raised when a signal has ended a command, and what it had opened is closed."""

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {number}")
        self.code = 128 + number


def _taken_over() -> Sequence[signal.Signals]:
    """Those of the signals that nobody else has taken, or has us pass over."""
    if threading.current_thread() is not threading.main_thread():
        return []
    return [number for number in _ENDS if signal.getsignal(number) is signal.SIG_DFL]


async def _until_told(
    command: Command,
    given: tuple[argparse.Namespace, Mapping[str, str], Teller],
    ends: Sequence[signal.Signals],
) -> int:
    """Run a command; a signal cancels it. A second one ends the process at once."""
    if not ends:
        return await command(*given)
    told: list[int] = []
    with trio.open_signal_receiver(*ends) as signals:
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                async for number in signals:
                    told.append(number)
                    for one in ends:
                        signal.signal(one, signal.SIG_DFL)
                    nursery.cancel_scope.cancel()

            nursery.start_soon(watch)
            code = await command(*given)
            nursery.cancel_scope.cancel()
            return code
    raise _ToldToEnd(told[0])


def moment_of(text: str | None) -> datetime | None:
    """Call this for a time that was typed, of UTC where it names no zone; `CommandFailed`."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise CommandFailed(
            Code.USAGE, f"{text!r:.40} is no time", "Write it as 2026-01-31 or 2026-01-31T12:00:00Z"
        ) from error
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _told(error: Exception) -> tuple[Code, str]:
    if isinstance(error, CommandFailed):
        return error.code, str(error)
    if isinstance(error, BadSettings):
        return Code.USAGE, "; ".join(error.problems)
    if isinstance(error, OSError) and isinstance(error.filename, str) and error.strerror:
        # Of a command of this machine: whoever typed it knows the path, or has to.
        words = f"{error.filename}: {error.strerror}"
        if isinstance(error, PermissionError):
            return Code.REFUSED, f"{words}. Run it as the user whose that is, or name another."
        return Code.FAILED, f"{words}. Name another, or see what is wrong with it."
    if not isinstance(error, StoreError):
        return Code.FAILED, f"failed because of {shown(error)}; --debug shows where"
    codes = (code for classes, code in _CODES if isinstance(error, classes))
    return next(codes, Code.FAILED), str(error)
