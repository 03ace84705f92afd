"""Where an error came from: taken at once, in a bounded time, and written when it is read.

`traceback.format_exception` reads source files, writes out whatever an error was made with, and
walks every frame of a recursion. Here a crash only notes file, line and function of a bounded
number of frames; the lines of the source are looked up by whoever reads the text.
"""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from types import FrameType, TracebackType
from typing import Final

from actors.runtime.words.exits import readable
from actors.runtime.words.showing import CUT, redact_text, text_of

# Of one error, from its outer and from its inner end; a recursion without end has a thousand, and
# its middle says nothing.
FRAMES_MAX: Final = 20
# An error with its causes, contexts and members of groups.
ERRORS_MAX: Final = 20

_CAUSE: Final = "\nThe above exception was the direct cause of the following exception:\n\n"
_CONTEXT: Final = "\nDuring handling of the above exception, another exception occurred:\n\n"


@dataclass(frozen=True, slots=True)
class Frame:
    """One line of a stack: where, and in which function."""

    file: str
    line: int
    function: str


@dataclass(slots=True)
class Trace:
    """One error: its class and text, its frames (innermost last), and what was before it."""

    name: str
    text: str
    frames: list[Frame]
    # How many frames between the outer and the inner ones were not taken.
    left_out: int
    before: Trace | None = None
    before_is_cause: bool = False
    members: tuple[Trace, ...] = ()

    def __str__(self) -> str:
        return redact_text("".join(self._lines()))

    def _lines(self) -> Iterator[str]:
        if self.before is not None:
            yield from self.before._lines()
            yield _CAUSE if self.before_is_cause else _CONTEXT
        if self.frames:
            yield "Traceback (most recent call last):\n"
            yield from self._frame_lines()
        yield f"{self.name}: {self.text}\n" if self.text else f"{self.name}\n"
        for number, member in enumerate(self.members, 1):
            yield f"  +---------------- {number} ----------------\n"
            for line in "".join(member._lines()).splitlines():
                yield f"  | {line}\n"

    def _frame_lines(self) -> Iterator[str]:
        written = traceback.StackSummary.from_list(
            [
                traceback.FrameSummary(one.file, one.line, one.function, lookup_line=False)
                for one in self.frames
            ]
        )
        for number, line in enumerate(written):
            if self.left_out and number == FRAMES_MAX:
                yield f"  {self.left_out} more frames {CUT}\n"
            yield from traceback.StackSummary.from_list([line]).format()


def trace_of(error: BaseException) -> Trace:
    """Call this where an error is at hand, to keep where it came from without its frames."""
    return _Taking().take(error)


class _Taking:
    def __init__(self) -> None:
        self._seen: set[int] = set()

    def take(self, error: BaseException) -> Trace:
        # Along the causes by a loop: a chain may be as long as it likes.
        first = last = self._one(error)
        while (before := _before(error)) is not None and self._is_new(before):
            last.before_is_cause = error.__cause__ is not None
            last.before = self._one(before)
            error, last = before, last.before
        return first

    def _one(self, error: BaseException) -> Trace:
        self._seen.add(id(error))
        kind = type(error)
        module = "" if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}."
        frames, left_out = _frames_of(error.__traceback__)
        trace = Trace(f"{module}{kind.__qualname__}", text_of(error), frames, left_out)
        if isinstance(error, BaseExceptionGroup):
            trace.members = tuple(self.take(one) for one in error.exceptions if self._is_new(one))
        return trace

    def _is_new(self, error: BaseException) -> bool:
        return len(self._seen) < ERRORS_MAX and id(error) not in self._seen


def _before(error: BaseException) -> BaseException | None:
    before = error.__cause__
    if before is None and not error.__suppress_context__:
        before = error.__context__
    return None if before is None else readable(before)


def _frames_of(trace: TracebackType | None) -> tuple[list[Frame], int]:
    walk = traceback.walk_tb(trace)
    outer = list(islice(walk, FRAMES_MAX))
    # Only what is kept of the rest is made into frames.
    inner: deque[tuple[FrameType, int]] = deque(maxlen=FRAMES_MAX)
    count = 0
    for one in walk:
        inner.append(one)
        count += 1
    return [_frame(*one) for one in (*outer, *inner)], count - len(inner)


def _frame(frame: FrameType, line: int) -> Frame:
    return Frame(frame.f_code.co_filename, line, frame.f_code.co_name)
