"""One request and its answer: what an ASGI application gets for `receive` and `send`.

Rule 1: nobody but `receive` and the watch reads the socket, and never both at once.
Rule 2: a head is written once, with the body where its length is known; then what was announced is
        kept, or the connection ends.
Rule 3: a client that left is known within two rounds of the `Watchman`; the application hears
        `http.disconnect` and is cancelled when `gone_grace_s` is over (REL-30).

There is no task for a request. The body is read when the application asks for it, so a slow one
holds its client back in the kernel. Who is long at it is watched: its socket is looked at a few
times, and then a task reads ahead, within a limit, to see the client's end.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Iterable
from http import HTTPStatus
from typing import Protocol

import trio
from hypercorn.typing import (
    ASGIFramework,
    ASGIReceiveCallable,
    ASGIReceiveEvent,
    ASGISendCallable,
    ASGISendEvent,
    HTTPResponseStartEvent,
    HTTPScope,
)

from actors.runtime import Log
from web.server.connection.framing import chunk
from web.server.connection.http.answers import (
    CONTINUE,
    NO_HEADERS,
    FixedHeaders,
    head_bytes,
    refusal_bytes,
)
from web.server.connection.http.keeping import Kept
from web.server.connection.http.shedding import Shed
from web.server.connection.pipe import WritePipe
from web.server.connection.settings import Phase, TransportSettings
from web.server.reading.heads import Head, HeaderList, Refusal
from web.server.reading.requests import RequestReader

log = Log(__name__)

# How long a request may take before somebody looks whether its client is still there. Quick ones
# never pay for it; REL-30 gives a second.
WATCH_AFTER_S = 0.1
# So often a silent client is only looked at: a system call of a few microseconds, where the task
# that watches takes a tenth of a request. What is longer still would be dearer to look at for ever.
LOOKS_FIRST = 5
LATE = Refusal(HTTPStatus.REQUEST_TIMEOUT, "The request took too long to arrive.")
STOPPING = Refusal(
    HTTPStatus.SERVICE_UNAVAILABLE, "The server stops, and the request was not all here yet."
)
FAILED = Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "An internal error occurred")
# Written here, whatever the application says of them.
_OURS = frozenset({b"connection", b"transfer-encoding", b"date", b"keep-alive"})


class Link(Protocol):
    """What an exchange needs of its connection."""

    @property
    def pipe(self) -> WritePipe:
        """The only writer."""

    @property
    def peer(self) -> str:
        """The address of whoever is at the other end; empty where it has none."""

    @property
    def is_draining(self) -> bool:
        """Whether the connection ends with this answer."""

    async def receive(
        self, phase: Phase, deadline: float, shed: Shed | None = None
    ) -> bytes | None:
        """Bytes; empty ones when the client left; None at the deadline, or when a drain ends it.

        Bytes may have been shown to `shed` before, which then said that they are not all answered.
        """

    async def wait_left(self) -> bool:
        """Wait for the client's end and read nothing; False when `stop_waiting` was called."""

    def is_silent(self) -> bool:
        """Look whether the client is there and has sent nothing; False where that is not known."""

    def stop_waiting(self) -> None:
        """Have `receive` give None now, if it waits."""

    def enter(self, phase: Phase) -> None:
        """Say what the connection waits for."""

    def spawn(self, task: Callable[[], Awaitable[None]]) -> None:
        """Start a task that ends with the connection."""


class _At(enum.Enum):
    NOTHING = enum.auto()
    HEAD = enum.auto()  # known and held back until the first bytes of the body come
    BODY = enum.auto()
    KEPT = enum.auto()  # a stream that was handed over writes the rest
    DONE = enum.auto()


async def run_application(
    app: ASGIFramework,
    scope: HTTPScope,
    receive: ASGIReceiveCallable,
    send: ASGISendCallable,
) -> bool:
    """Call this to have an application serve a request; whether it failed, which is logged."""
    try:
        await app(scope, receive, send)
    except Exception as error:
        log.error("server.application_failed", exc_info=error)
        return True
    except BaseExceptionGroup as group:
        cancelled, others = group.split(trio.Cancelled)
        if cancelled is None or not isinstance(others, ExceptionGroup):
            raise
        log.error("server.application_failed", exc_info=others)
        raise cancelled from None
    return False


async def write_last(pipe: WritePipe, data: bytes) -> None:
    """Call this for the end of an answer: no checkpoint where the kernel takes all.

    The read of the next request is one. Raises `trio.BrokenResourceError` as `WritePipe.write`.
    """
    if not data:
        return
    if not pipe.offer(data):
        await pipe.write(data)
    elif not pipe.is_idle:
        await pipe.wait_idle()


class SendWhole(Protocol):
    """Sends an answer that is here from beginning to end; raises as ASGI's `send` does."""

    async def __call__(
        self, status: int, headers: HeaderList, body: bytes, fixed: FixedHeaders = NO_HEADERS
    ) -> None:
        """Send head and body."""


def maybe_whole(send: ASGISendCallable) -> SendWhole | None:
    """Call this to send a whole answer at once, where `send` belongs to somebody who can.

    None for every other, one that stands before it to see or change what is sent, too.
    """
    whole: SendWhole | None = getattr(getattr(send, "__self__", None), "send_whole", None)
    return whole


class Watchman:
    """Has the clients of long requests watched; one for all connections of a server."""

    def __init__(self) -> None:
        self._new: set[Exchange] = set()
        self._old: set[Exchange] = set()
        self._wake: trio.Event | None = None

    def __repr__(self) -> str:
        return f"<Watchman of {len(self._new) + len(self._old)}>"

    def add(self, exchange: Exchange) -> None:
        """Call this when a request begins."""
        self._new.add(exchange)
        if self._wake is not None:
            self._wake.set()
            self._wake = None

    def discard(self, exchange: Exchange) -> None:
        """Call this when it is over."""
        self._new.discard(exchange)
        self._old.discard(exchange)

    async def run(self) -> None:
        """Call this in a task beside the connections; ends by cancellation."""
        while True:
            if not self._new and not self._old:
                # With nothing to look at nobody wakes ten times a second.
                self._wake = trio.Event()
                await self._wake.wait()
            await trio.sleep(WATCH_AFTER_S)
            late = {exchange for exchange in self._old if not exchange.look()}
            self._old, self._new = late | self._new, set()


class Exchange:
    """One request on its way through an application."""

    __slots__ = (
        "_at",
        "_body_left_s",
        "_ended",
        "_head",
        "_held",
        "_is_bodyless",
        "_is_chunked",
        "_is_lost",
        "_is_over",
        "_is_read",
        "_is_receiving",
        "_keeps",
        "_left",
        "_link",
        "_looks_left",
        "_reader",
        "_scope",
        "_settings",
        "_watch_over",
        "_watching",
        "_watchman",
        "kept",
    )

    def __init__(
        self,
        head: Head,
        reader: RequestReader,
        link: Link,
        settings: TransportSettings,
        watchman: Watchman,
        *,
        may_stay: bool,
    ) -> None:
        self._watchman = watchman
        self._is_receiving = False
        self._looks_left = LOOKS_FIRST
        self._head, self._reader, self._link, self._settings = head, reader, link, settings
        self._keeps = may_stay and head.keeps_open
        self._body_left_s = settings.body_s
        self._at = _At.NOTHING
        self._held = b""
        self._left: int | None = None
        self._is_bodyless = head.method == b"HEAD"
        self._is_chunked = False
        self._is_read = False
        self._is_lost = False
        # When nothing more will come of it: answered, or its client gone; and who waits for that.
        self._is_over = False
        self._ended: trio.Event | None = None
        self._watching: trio.CancelScope | None = None
        self._watch_over: trio.Event | None = None
        # What ends the application when the client has left.
        self._scope: trio.CancelScope | None = None
        # The stream that goes on when the application returns.
        self.kept: Kept | None = None

    @property
    def is_lost(self) -> bool:
        """Tell whether the client is gone."""
        return self._is_lost

    def ends(self, scope: trio.CancelScope) -> None:
        """Call this with the scope that is cancelled when the client has left; enter it then.

        It may have a deadline of its own, which is put off only while the client is there.
        """
        self._scope = scope
        if self._is_lost:
            self._end_soon(scope)

    # -- what comes in ---------------------------------------------------------------------------

    async def receive(self) -> ASGIReceiveEvent:
        """ASGI's `receive`: the body piece by piece, then the client's end."""
        if self._is_read or self._is_lost or self._at is _At.DONE:
            if not self._is_over:
                self._watch_on()
                if self._ended is None:
                    self._ended = trio.Event()
                await self._ended.wait()
            await trio.lowlevel.checkpoint()
            return {"type": "http.disconnect"}
        if self._watching is not None:
            await self._end_watch()
            self._watchman.add(self)
        found = self._reader.next_body()
        if found is None and self._head.expects_continue and self._at is _At.NOTHING:
            # REL-52: only now is it known that the body is wanted.
            self._head.expects_continue = False
            await self._write(CONTINUE)
        while found is None:
            found = await self._more()
        if isinstance(found, Refusal):
            await self.refuse(found)
            return {"type": "http.disconnect"}
        if not self._reader.is_in_body:
            self._is_read = True
            self._link.enter(Phase.ANSWERING)
        return {"type": "http.request", "body": found, "more_body": not self._is_read}

    async def _more(self) -> bytes | Refusal | None:
        """Read once; bytes of a body, a refusal, or None: not yet enough."""
        began = trio.current_time()
        if self._link.is_draining:
            self._body_left_s = min(self._body_left_s, self._settings.body_draining_s)
        self._is_receiving = True
        try:
            data = await self._link.receive(Phase.BODY, began + self._body_left_s)
        finally:
            self._is_receiving = False
        # Only the time that the client is waited for counts against it.
        self._body_left_s -= trio.current_time() - began
        if data is None:
            return STOPPING if self._link.is_draining else LATE
        if not data:
            self._lose()
            return LATE
        self._reader.feed(data)
        return self._reader.next_body()

    def look(self) -> bool:
        """Call this in each round, until it says that the client is watched from now on.

        Not while `receive` reads and sees its end, nor while looking now and then is enough.
        """
        if self._is_receiving:
            return False
        if self._looks_left and self._link.is_silent():
            self._looks_left -= 1
            return False
        self._watch_on()
        return True

    def _watch_on(self) -> None:
        if self._watching is None and not self._is_over:
            self._watching = trio.CancelScope()
            self._watch_over = trio.Event()
            self._link.spawn(self._watch)

    async def _watch(self) -> None:
        assert self._watching is not None
        assert self._watch_over is not None
        limit = self._settings.head_limits.whole
        try:
            with self._watching:
                # What comes meanwhile is the next request; past a head of it nobody reads on, so
                # that the kernel holds the client back.
                while len(self._reader) < limit:
                    is_here = self._reader.is_whole_body_here
                    phase = Phase.ANSWERING if is_here else Phase.BODY
                    data = await self._link.receive(phase, float("inf"))
                    if data is None:
                        continue  # a drain hurries who sends a body; nobody asks for this one
                    if not data:
                        self._lose()
                        return
                    self._reader.feed(data)
                if await self._link.wait_left():
                    self._lose()
        finally:
            self._watch_over.set()

    async def _end_watch(self) -> None:
        if self._watching is None or self._watch_over is None:
            return
        self._watching.cancel()
        await self._watch_over.wait()
        self._watching = self._watch_over = None

    def _lose(self) -> None:
        """Note that the client is gone: the application has a moment to see it."""
        self._is_lost = True
        self._keeps = False
        self._end()
        if self._scope is not None:
            self._end_soon(self._scope)

    def _end(self) -> None:
        self._is_over = True
        if self._ended is not None:
            self._ended.set()

    def _end_soon(self, scope: trio.CancelScope) -> None:
        scope.deadline = min(scope.deadline, trio.current_time() + self._settings.gone_grace_s)

    # -- what goes out ---------------------------------------------------------------------------

    async def send(self, message: ASGISendEvent) -> None:
        """ASGI's `send`; of a client that is gone it takes everything and does nothing."""
        if self._is_lost or self._at is _At.DONE or self._at is _At.KEPT:
            await trio.lowlevel.checkpoint()
        elif message["type"] == "http.response.start" and self._at is _At.NOTHING:
            await self._begin(message)
        elif message["type"] == "http.response.body" and self._at is not _At.NOTHING:
            body = bytes(message.get("body", b""))
            await self._go_on(body, is_last=not message.get("more_body", False))
        else:
            raise RuntimeError(f"{message['type']} has no place here ({self._at.name.lower()})")

    @property
    def may_hand_over(self) -> bool:
        """Tell whether the rest of the answer may be left to a stream: it has no end of its own."""
        return self._left is None and not self._is_bodyless and self._reader.is_whole_body_here

    @property
    def is_chunked(self) -> bool:
        """Tell whether the body is sent in chunks."""
        return self._is_chunked

    def hand_over(self, kept: Kept) -> None:
        """Call this when the answer's first bytes are out: `kept` goes on when you have returned.

        Where you do not return, it is told that its client is gone.
        """
        if self._at is not _At.BODY or not self.may_hand_over:
            raise RuntimeError("only the rest of an answer that has begun can be handed over")
        self._at, self.kept = _At.KEPT, kept

    async def send_whole(
        self, status: int, headers: HeaderList, body: bytes, fixed: FixedHeaders = NO_HEADERS
    ) -> None:
        """Both of ASGI's messages in one, for an answer that is here from beginning to end.

        `headers` are judged as ever, `fixed` ones were.
        """
        if self._is_lost or self._at is not _At.NOTHING:
            await self.send({"type": "http.response.start", "status": status, "headers": headers})
            return
        self._open(status, headers, fixed)
        await self._go_on(body, is_last=True)

    async def _begin(self, message: HTTPResponseStartEvent) -> None:
        self._open(int(message["status"]), message.get("headers", []), NO_HEADERS)
        if self._left is None and not self._is_bodyless:
            # A stream: its head says that it is open, whenever its first event comes.
            held, self._held, self._at = self._held, b"", _At.BODY
            await self._write(held)

    def _open(self, status: int, given: Iterable[tuple[bytes, bytes]], fixed: FixedHeaders) -> None:
        """Judge a head, and hold it back until there is something of the body."""
        if not 200 <= status <= 999:
            raise ValueError(f"an answer's status is from 200 to 999, not {status}")
        headers: HeaderList = []
        for raw_name, value in given:
            name = raw_name.lower()
            if name == b"connection" and b"close" in value.lower():
                self._keeps = False
            if name == b"content-length":
                self._left = int(value)
            if name not in _OURS:
                headers.append((name, value))
        if status in (204, 304):
            self._is_bodyless = True
        if self._left is None and not self._is_bodyless:
            # HTTP/1.0 has no chunks: there the body ends with the connection.
            self._is_chunked = self._head.version == b"1.1"
            if self._is_chunked:
                headers.append((b"transfer-encoding", b"chunked"))
        if self._link.is_draining or not self._reader.is_whole_body_here:
            self._keeps = False
        if not self._keeps:
            headers.append((b"connection", b"close"))
        self._held = head_bytes(status, headers, fixed)
        self._at = _At.HEAD

    async def _go_on(self, body: bytes, *, is_last: bool) -> None:
        data = b"" if self._is_bodyless else body
        if self._left is not None and not self._is_bodyless:
            self._left -= len(body)
            if self._left < 0:
                raise RuntimeError("an answer's body is longer than its content-length")
        elif self._is_chunked:
            data = chunk(body) if body else b""
            if is_last:
                data += b"0\r\n\r\n"
        if self._at is _At.HEAD:
            held, self._held, self._at = self._held, b"", _At.BODY
            data = held + data
        if not is_last:
            await self._write(data)
            return
        if self._left and not self._is_bodyless:
            raise RuntimeError("an answer's body is shorter than its content-length")
        self._at = _At.DONE
        self._end()
        try:
            await write_last(self._link.pipe, data)
        except trio.BrokenResourceError:
            self._lose()

    async def _write(self, data: bytes) -> None:
        try:
            await self._link.pipe.write(data)
        except trio.BrokenResourceError:
            self._lose()

    async def refuse(self, refusal: Refusal) -> None:
        """Call this to end the request by our own answer, if none has begun; nothing follows it."""
        is_first = self._at in (_At.NOTHING, _At.HEAD) and not self._is_lost
        self._at = _At.DONE
        self._keeps = False
        self._end()
        log.debug("server.request_refused", status=int(refusal.status), rule=refusal.rule)
        if is_first:
            await self._write(
                refusal_bytes(
                    refusal,
                    self._settings,
                    self._link.peer,
                    is_head=self._head.method == b"HEAD",
                )
            )

    # -- its end ---------------------------------------------------------------------------------

    async def finish(self, *, has_failed: bool) -> bool:
        """Call this when the application returned: whether another request may follow.

        With a stream in `kept`, that may follow when the stream is over.
        """
        await self._end_watch()
        if self._at in (_At.NOTHING, _At.HEAD) and not self._is_lost:
            if not has_failed:
                log.error("server.request_not_answered", path=self._head.target.partition(b"?")[0])
            await self.refuse(FAILED)
        if self.kept is not None and (has_failed or self._is_lost):
            self.kept.hang_up()
            self.kept = None
            return False
        if self._at not in (_At.DONE, _At.KEPT) or self._is_lost:
            return False  # cut off: its reader sees that the length is wrong or the end missing
        while self._reader.is_in_body:
            # What the application did not want; only what is here, for nobody waits for more.
            found = self._reader.next_body()
            if found is None or isinstance(found, Refusal):
                return False
        return self._keeps and not self._link.is_draining
