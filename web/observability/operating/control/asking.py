"""A command's end of the control socket."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import trio

from web.observability.ending import Code, CommandFailed
from web.observability.operating.control.place import connect
from web.observability.operating.control.words import (
    ROW_BYTES_MAX,
    Ended,
    Question,
    parse_answer,
    to_line,
)

# A site that holds its loop for so long answers nobody. Between rows of what is watched there
# is as much time as there are changes.
FIRST_S_MAX: Final = 15.0
# How often `while_silent` is called: whoever left is not waited for longer than a prompt may take.
SILENT_S: Final = 1.0


async def ask(
    folder: Path,
    question: Question,
    take: Callable[[object], Awaitable[None]],
    while_silent: Callable[[], None] = lambda: None,
) -> None:
    """Call this to ask the site of a state folder; `take` gets each row of the answer.

    `while_silent` is called now and then while none comes; what it raises ends it. Raises
    `CommandFailed` when there is no such site, or it does not answer to the end.
    """
    asked = connect(folder)
    asked.setblocking(False)
    async with trio.SocketStream(trio.socket.from_stdlib_socket(asked)) as stream:
        try:
            await stream.send_all(to_line(question))
            await _take_all(stream, take, while_silent)
        except trio.BrokenResourceError as error:
            raise _cut_off() from error


async def _take_all(
    stream: trio.SocketStream,
    take: Callable[[object], Awaitable[None]],
    while_silent: Callable[[], None],
) -> None:
    read, is_first = bytearray(), True
    while True:
        line, found, rest = read.partition(b"\n")
        if found:
            read = bytearray(rest)
            said = parse_answer(bytes(line))
            if isinstance(said, Ended):
                if said.end != Code.DONE:
                    raise CommandFailed(_code_of(said), said.words, said.hint)
                return
            await take(said.row)
            continue
        if len(read) > ROW_BYTES_MAX:
            raise CommandFailed(Code.FAILED, "the site answered with a line without an end")
        with trio.move_on_after(FIRST_S_MAX if is_first else SILENT_S) as scope:
            data = await stream.receive_some(64 * 1024)
        if scope.cancelled_caught and not is_first:
            while_silent()
            continue
        if scope.cancelled_caught:
            raise CommandFailed(
                Code.UNREACHABLE, f"the site did not answer within {FIRST_S_MAX:.0f} s"
            )
        if not data:
            raise _cut_off()
        read += data
        is_first = False


def _code_of(said: Ended) -> Code:
    try:
        return Code(said.end)
    except ValueError:
        return Code.FAILED  # of a site of another version


def _cut_off() -> CommandFailed:
    return CommandFailed(
        Code.UNREACHABLE, "the site ended, or left off, in the middle of its answer"
    )
