"""What an error says and where it began, on one line: `OSError: gone (first.py:12 in on_go)`.

Whoever reads a failure looks for a line of their own. So a place is the innermost frame of user
code: not of the runtime, of supervision, of trio or of Python itself, and of an installed package
only when there is no other.

Rule 1: nothing here fails, and nothing reads a file; it is done for each crash, on the loop.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from traceback import walk_tb
from types import CodeType, FrameType, TracebackType
from typing import Final

from actors.runtime.words.showing import class_name, text_of

# One error fills one line of a log; its traceback holds the rest.
TOLD_MAX: Final = 300
# Whoever lets a hundred tasks fail together wants to know of the first few.
LEAVES_TOLD_MAX: Final = 3
# A recursion that ended in RecursionError has a thousand frames, and the last ones tell all.
FRAMES_MAX: Final = 2000

# By the module's name, for a frame has it at hand.
_OURS: Final = ("actors.runtime.", "actors.testing.", "supervision.")
_LIBRARIES: Final = sys.stdlib_module_names | {"trio", "outcome"}
_INSTALLED: Final = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


def told(error: BaseException) -> str:
    """Call this for the class and text of an error on one line; of a group, of what is in it."""
    leaves = list(leaves_in(error))
    if isinstance(error, BaseExceptionGroup) and len(leaves) > 1:
        some = "; ".join(_one(leaf) for leaf in leaves[:LEAVES_TOLD_MAX])
        more = "; ..." if len(leaves) > LEAVES_TOLD_MAX else ""
        return _cut(f"{len(leaves)} errors together: {some}{more}")
    return _cut(_one(leaves[0] if leaves else error))


def place_of(error: BaseException) -> str | None:
    """Call this for the innermost frame of user code behind an error, `first.py:12 in on_go`.

    None when it was never raised, or no user code was there. Of a group it is the first leaf's
    that has one.
    """
    for leaf in leaves_in(error):
        place = place_in(_frames(leaf.__traceback__))
        if place is not None:
            return place
    return place_in(_frames(error.__traceback__))


def told_in_place(error: BaseException) -> str:
    """Call this for `told`, with the place in brackets behind it if there is one."""
    place = place_of(error)
    text = told(error)
    if place is None:
        return text
    if text.endswith(".") and not text.endswith("..."):
        text = text[:-1]  # It is said further on where that was.
    return f"{text} ({place})"


def in_place(text: str) -> str:
    """Call this for a text with the place of the user code that runs now in brackets behind it.

    For the error of a value that makes no sense: its maker need not look for the line.
    """
    frame: FrameType | None = sys._getframe(1)
    frames: list[tuple[FrameType, int]] = []
    while frame is not None and len(frames) < FRAMES_MAX:
        frames.append((frame, frame.f_lineno))
        frame = frame.f_back
    place = place_in(reversed(frames))
    return text if place is None else f"{text} ({place})"


def place_in(frames: Iterable[tuple[FrameType, int]]) -> str | None:
    """Call this for the innermost user code among frames with their lines, outermost first."""
    own = installed = None
    for frame, line in frames:
        module = frame.f_globals.get("__name__")
        if not isinstance(module, str) or _is_library(module):
            continue
        if any(part in frame.f_code.co_filename for part in _INSTALLED):
            installed = frame.f_code, line
        else:
            own = frame.f_code, line
    found = own or installed
    return None if found is None else _place(*found)


def place_of_code(function: object) -> str | None:
    """Call this for where a function begins, when all that is known is that it was at fault."""
    code = getattr(function, "__code__", None)
    return _place(code, code.co_firstlineno) if isinstance(code, CodeType) else None


def _is_library(module: str) -> bool:
    return module.startswith(_OURS) or module.partition(".")[0] in _LIBRARIES


def _place(code: CodeType, line: int) -> str:
    return f"{_short(code.co_filename)}:{line} in {code.co_name}"


def _short(file: str) -> str:
    """The path from where the program was started, or only the file's name when it is elsewhere."""
    if not os.path.isabs(file):  # noqa: PTH117 - made for each crash, as below
        return file
    try:
        here = os.getcwd() + os.sep  # noqa: PTH109 - made for each crash; a Path is ten times dearer
    except OSError:
        here = os.sep  # The folder has been removed since.
    return file.removeprefix(here) if file.startswith(here) else file.rpartition(os.sep)[2]


def _frames(trace: TracebackType | None) -> Iterator[tuple[FrameType, int]]:
    return islice(walk_tb(trace), FRAMES_MAX)


def leaves_in(error: BaseException) -> Iterator[BaseException]:
    """Call this to walk through the single errors of (nested) groups, in order."""
    left = [error]
    # By a list, not by calls: groups may be nested as deep as they like.
    while left:
        one = left.pop()
        if isinstance(one, BaseExceptionGroup):
            left += reversed(one.exceptions)
        else:
            yield one


def _one(error: BaseException) -> str:
    text = " ".join(text_of(error).split())
    return f"{class_name(type(error))}: {text}" if text else class_name(type(error))


def _cut(text: str) -> str:
    return text if len(text) <= TOLD_MAX else text[: TOLD_MAX - 3] + "..."
