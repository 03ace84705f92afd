"""The program's own voice: what it says to the person who started it, and who may have gone.

Rule: nothing here but `tell` raises, and nothing is left behind that fails when Python ends: it
would leave with exit code 120 for a stream that nobody reads.
"""

import os
import sys
from typing import TextIO

from actors.runtime import Log
from actors.runtime.telling.lines import LineWriter
from actors.runtime.telling.log import one_line
from actors.runtime.words.showing import without_passwords

log = Log(__name__)


def say(line: str) -> None:
    """Call this to print a line on standard output, past any buffer."""
    _put(sys.stdout, line)


def complain(line: str) -> None:
    """Call this to print a line on standard error, past any buffer."""
    _put(sys.stderr, line)


def tell(line: str, *, is_patch: bool = False) -> bool:
    """Call this to print a line that somebody asked for: waits until it is read, and all is.

    A patch is of files that whoever asks has: with a tab or an address told otherwise it would not
    apply.
    Raises OSError when it cannot be written, on a full disk for one; not when who read has gone,
    which it answers with False.
    """
    try:
        shown = "\t".join(map(one_line, line.split("\t"))) if is_patch else _shown(line)
        LineWriter(sys.stdout, is_patient=True).write(shown)
    except (BrokenPipeError, ValueError):
        return False
    except OSError:
        if sys.stdout is not None:
            raise
        return False
    return True


def _put(stream: TextIO | None, line: str) -> None:
    try:
        LineWriter(stream).write(_shown(line))
    except (OSError, ValueError) as error:
        log.info("line_not_shown", error=type(error).__name__)


def _shown(line: str) -> str:
    # What comes from elsewhere may hold anything; some of it is of several lines.
    return "\n".join(one_line(part) for part in without_passwords(line).split("\n"))


def first_leaf(error: BaseException) -> BaseException:
    """Call this to get the first error itself out of groups of one."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def open_missing_streams() -> None:
    """Call this first of all: gives a program that was started without them its three streams.

    Without it the next file or socket gets the number of standard output or error, and what a
    library or a child process prints there is written into it.
    """
    for number, flags in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free is this one: those below it are taken by now.
            os.set_inheritable(os.open(os.devnull, flags), True)


def let_go_of_streams() -> None:
    """Call this last of all: what standard output and error still hold is written or dropped."""
    for stream in (sys.stdout, sys.stderr):
        if stream is None:
            continue
        try:
            stream.flush()
        except (OSError, ValueError):
            _drop(stream)


def _drop(stream: TextIO) -> None:
    # Python's own advice for a broken pipe: what is left goes where everything fits.
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    except (OSError, ValueError):
        pass  # it is closed: nothing will be flushed either
