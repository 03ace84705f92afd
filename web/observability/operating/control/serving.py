"""The site's end of the control socket: a part of its tree, which answers one question at a time
on each of a few connections.

Rule 1: nobody who asks holds the site up: a question has seconds to come, each line of an answer
        has seconds to be taken, and there are only so many connections.
Rule 2: what is wrong with a question is told to whoever asked, and changes nothing else. What a
        command raises is its own end, in the log too.
Rule 3: it starts first and stops last, so it can be asked what an end waits for. Whoever is still
        being told something then is told that the site has stopped.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, Never, TypeAlias

import trio

from actors.runtime import Actor, Exit, Log
from web.observability.ending import Code, CommandFailed
from web.observability.operating.control.place import HeldPlace, PlaceTaken, hold, is_ours
from web.observability.operating.control.words import (
    QUESTION_BYTES_MAX,
    Ended,
    Question,
    Row,
    parse_question,
    to_line,
)

log = Log("web.control")

CONNECTIONS_MAX: Final = 8
QUESTION_S_MAX: Final = 10.0
LINE_S_MAX: Final = 5.0
# How long those who are being told something have at the end of the site.
END_S_MAX: Final = 1.0
# While another process answers, or the socket cannot be made.
AGAIN_S: Final = 2.0

Tell: TypeAlias = Callable[[object], Awaitable[None]]
# Tells rows; raises `CommandFailed`.
Command: TypeAlias = Callable[[Mapping[str, object], Tell], Awaitable[None]]


class _ReaderGone(Exception):
    """Raised when who asked does not take what it is told."""


class _Asker:
    """Who asked, and whether half a line is on the way to them."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream, self.is_torn = stream, False

    async def tell(self, row: object) -> None:
        line, self.is_torn = to_line(Row(row)), True
        with trio.move_on_after(LINE_S_MAX):
            await self.stream.send_all(line)
            self.is_torn = False
        if self.is_torn:
            raise _ReaderGone

    async def end(self, ended: Ended) -> None:
        if self.is_torn:
            return  # Nothing that follows half a line could be read.
        with trio.move_on_after(END_S_MAX):
            await self.stream.send_all(to_line(ended))


class ControlServer(Actor[Never]):
    """Answers on the control socket of a state folder; without a place for it it tries again."""

    def __init__(self, folder: Path, commands: Mapping[str, Command]) -> None:
        self._folder, self._commands = folder, commands
        self._limit = trio.CapacityLimiter(CONNECTIONS_MAX)
        self._ending, self._left = trio.Event(), trio.Event()

    async def on_start(self) -> None:
        """Listen, as soon as there is a place; the site starts without."""
        self.start_soon(self._run)

    async def on_stop(self, exit: Exit) -> None:  # noqa: A002 - the runtime's word
        """Tell whoever is being told something that this is the end, and remove the socket."""
        self._ending.set()
        with trio.move_on_after(END_S_MAX):
            while self._limit.borrowed_tokens:
                self._left = trio.Event()
                await self._left.wait()

    async def _run(self) -> None:
        place = await self._held()
        try:
            listener = trio.SocketListener(trio.socket.from_stdlib_socket(place.listener))
            await trio.serve_listeners(self._serve, [listener])
        finally:
            place.close()

    async def _held(self) -> HeldPlace:
        told = ""
        while True:
            try:
                return hold(self._folder)
            except PlaceTaken:
                trouble = "another process answers"
            except OSError as error:
                trouble = error.strerror or str(error)
            if trouble != told:
                told = trouble
                log.warning("control.not_there", folder=str(self._folder), error=trouble)
            await trio.sleep(AGAIN_S)

    async def _serve(self, stream: trio.SocketStream) -> None:
        who = object()
        async with stream:
            asker = _Asker(stream)
            try:
                self._limit.acquire_on_behalf_of_nowait(who)
            except trio.WouldBlock:
                with suppress(trio.BrokenResourceError):
                    await asker.end(Ended(Code.REFUSED, "too many ask at once", "Try again"))
                return
            try:
                if is_ours(stream.socket):
                    await self._converse(asker)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return
            finally:
                self._limit.release_on_behalf_of(who)
                self._left.set()

    async def _converse(self, asker: _Asker) -> None:
        try:
            question = await _question_of(asker.stream)
            if question is None:
                return
            ended = await self._answered(question, asker)
        except CommandFailed as refused:
            ended = Ended(refused.code, refused.words, refused.hint)
        if ended is not None:
            await asker.end(ended)

    async def _answered(self, question: Question, asker: _Asker) -> Ended | None:
        """Answer until it is done, who asked is gone, or the site stops; None: nobody listens."""
        command = self._commands.get(question.ask)
        if command is None:
            there = ", ".join(sorted(self._commands))
            raise CommandFailed(Code.UNKNOWN, f"nothing is called {question.ask!r:.60}", there)
        ended: Ended | None = Ended(Code.DONE)
        async with trio.open_nursery() as nursery:

            async def until_gone() -> None:
                nonlocal ended
                await _until_closed(asker.stream)
                ended = None
                nursery.cancel_scope.cancel()

            async def until_stopped() -> None:
                nonlocal ended
                await self._ending.wait()
                ended = Ended(Code.UNREACHABLE, "the site has stopped")
                nursery.cancel_scope.cancel()

            nursery.start_soon(until_gone)
            nursery.start_soon(until_stopped)
            try:
                await command(question.words, asker.tell)
            except CommandFailed as refused:
                ended = Ended(refused.code, refused.words, refused.hint)
            except (_ReaderGone, trio.BrokenResourceError, trio.ClosedResourceError):
                ended = None
            except Exception as error:
                log.error("control.failed", ask=question.ask, exc_info=error)
                words = f"it failed because of {type(error).__name__}"
                ended = Ended(Code.FAILED, words, "The log of the site has more")
            nursery.cancel_scope.cancel()
        return ended


async def _question_of(stream: trio.SocketStream) -> Question | None:
    """Read the line; None when it does not come whole. Raises `CommandFailed`."""
    read = bytearray()
    with trio.move_on_after(QUESTION_S_MAX) as scope:
        while b"\n" not in read:
            if len(read) > QUESTION_BYTES_MAX:
                raise CommandFailed(
                    Code.USAGE, f"a question takes {QUESTION_BYTES_MAX} bytes at most"
                )
            data = await stream.receive_some(4096)
            if not data:
                return None
            read += data
    if scope.cancelled_caught:
        raise CommandFailed(Code.USAGE, f"no question came within {QUESTION_S_MAX:.0f} s")
    return parse_question(bytes(read.partition(b"\n")[0]))


async def _until_closed(stream: trio.SocketStream) -> None:
    try:
        while await stream.receive_some(4096):
            pass  # It asks once; what else it says is for nobody.
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return
