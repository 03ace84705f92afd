"""The keys of `replay --step`: n next, p previous, g and a number, / and a filter, q.

A filter is a text that an event's line must have, whatever its case; n and p then go to the next
one that has it. An empty one is none.
"""

from __future__ import annotations

import codecs
import os
import sys
import termios
import tty
from contextlib import aclosing
from types import TracebackType
from typing import Protocol

import trio

from web.cli.answering import Teller
from web.cli.reading.folding import Step
from web.cli.reading.showing import event_line
from web.cli.reading.tape import Shower, Tape
from web.observability import Code, CommandFailed

HELP = "n next, p previous, g N go to, / filter, q quit"
_ENTER, _DELETE, _END = "\r\n", "\x7f\x08", "\x04"


class Typed(Protocol):
    """Where keys come from."""

    async def key(self) -> str:
        """Call this for the next key; empty when there will be none."""

    async def line(self, prompt: str) -> str:
        """Call this for a line that is typed behind a prompt."""


def check_terminal(*, is_json: bool) -> None:
    """Call this first; `CommandFailed` where nobody can press a key."""
    is_there = sys.stdin is not None and sys.stdin.isatty()
    if is_json or not is_there or sys.stdout is None or not sys.stdout.isatty():
        raise CommandFailed(
            Code.USAGE, "--step needs a terminal", "Use --show-state or --diff elsewhere"
        )


class Keys:
    """The keys of the terminal, one by one; it is left as it was."""

    def __init__(self, descriptor: int | None = None) -> None:
        self._from = sys.stdin.fileno() if descriptor is None else descriptor
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._ahead = ""

    def __enter__(self) -> Keys:
        self._before = termios.tcgetattr(self._from)
        tty.setcbreak(self._from)
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        termios.tcsetattr(self._from, termios.TCSADRAIN, self._before)

    async def key(self) -> str:
        """See `Typed.key`."""
        while not self._ahead:
            await trio.lowlevel.wait_readable(self._from)
            try:
                data = os.read(self._from, 1024)
            except OSError:
                return ""  # the terminal is gone
            if not data:
                return ""
            self._ahead = self._decoder.decode(data)
        found, self._ahead = self._ahead[0], self._ahead[1:]
        return "" if found == _END else found

    async def line(self, prompt: str) -> str:
        """See `Typed.line`."""
        typed = ""
        while True:
            sys.stderr.write(f"\r\x1b[K{prompt}{typed}")
            sys.stderr.flush()
            key = await self.key()
            if not key or key in _ENTER:
                sys.stderr.write("\r\x1b[K")
                sys.stderr.flush()
                return typed.strip()
            if key in _DELETE:
                typed = typed[:-1]
            elif key.isprintable():
                typed += key


async def walk(tape: Tape, shower: Shower, keys: Typed, teller: Teller, *, begin: int = 1) -> int:
    """Call this to go from step to step by keys, until q; returns the exit code."""
    wanted, now = "", await tape.at(begin)
    if now is None:
        teller.note("there is no such version")
        return Code.UNKNOWN
    _show(now, shower, teller)
    teller.note(HELP)
    while True:
        match await keys.key():
            case "q" | "":
                return Code.DONE
            case "n":
                found = await _search(tape, now.stored.version + 1, 1, wanted)
            case "p":
                found = await _search(tape, now.stored.version - 1, -1, wanted)
            case "g":
                typed = await keys.line("go to version: ")
                if not (typed.isascii() and typed.isdigit()):
                    teller.note(f"{typed!r:.40} is no version")
                    continue
                found = await tape.at(int(typed[:19]))
            case "/":
                wanted = (await keys.line("filter: ")).casefold()
                teller.note(f"n and p go to events with {wanted!r:.40}" if wanted else "no filter")
                continue
            case _:
                teller.note(HELP)
                continue
        if found is None:
            teller.note("there is none")
            continue
        now = found
        _show(now, shower, teller)


async def _search(tape: Tape, version: int, by: int, wanted: str) -> Step | None:
    """The next step in a direction that has a text."""
    if by < 0 and wanted:
        return await _last_before(tape, version, wanted)
    while (found := await tape.at(version)) is not None:
        if wanted in event_line(found.stored).casefold():
            return found
        version += by
    return None


async def _last_before(tape: Tape, version: int, wanted: str) -> Step | None:
    """The last step up to a version that has a text: from the begin once, not for each step."""
    found = None
    async with aclosing(tape.anew()) as another:
        for at in range(1, version + 1):
            if (one := await another.at(at)) is None:
                break
            if wanted in event_line(one.stored).casefold():
                found = one
    return found


def _show(one: Step, shower: Shower, teller: Teller) -> None:
    teller.at_once(shower.row(one), shower.lines(one))
