"""One WebSocket, from its handshake to its last byte: read in the task of its connection.

The application runs in a task of its own until it has decided: it refuses, or accepts and serves
the socket itself by ASGI's `receive` and `send`, or accepts and hands a `KeptSocket` over, and
returns. Then nothing of the handshake stays: one task reads, and gives it each message (PERF-23).

Rule 1: nobody but `serve` reads, or answers what the protocol itself asks: pings, closes.
Rule 2: no data frame follows a close frame: the fast lane is closed before one is written.
Rule 3: a `KeptSocket` that was handed over is told of its end here, however that comes.

What lives here beside that: the size and fragment limits in bytes (SEC-45), close codes for broken
frames (1002, 1007, 1009), the wait for the peer's close reply (REL-43), and `Wire`, the handle a
handler finds in its scope: the fast lane of the socket, when the peer was last heard, and a gate
for every inbound frame. Frames are read and checked by wsproto. The JSON protocol is in
`web.realtime.socket.protocol`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from http import HTTPStatus
from math import inf
from typing import Protocol, cast
from urllib.parse import unquote

import trio
from hypercorn.typing import (
    ASGIFramework,
    ASGIReceiveEvent,
    ASGISendEvent,
    ConnectionState,
    HTTPScope,
    WebsocketAcceptEvent,
    WebsocketResponseStartEvent,
    WebsocketScope,
)
from wsproto.connection import Connection, ConnectionType
from wsproto.connection import ConnectionState as State
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, TextMessage
from wsproto.extensions import Extension, PerMessageDeflate
from wsproto.frame_protocol import CloseReason
from wsproto.handshake import server_extensions_handshake
from wsproto.utilities import LocalProtocolError, generate_accept_token, split_comma_header

from actors.runtime import Log
from web.server.connection.framing import Framing, chunk
from web.server.connection.http.answers import head_bytes, refusal_bytes
from web.server.connection.http.exchange import FAILED, Link, run_application
from web.server.connection.lanes import PipeLane
from web.server.connection.settings import Phase, TransportSettings
from web.server.reading.heads import Head, Refusal

log = Log(__name__)

# Turns of the loop that a handler has for what came before a broken frame.
ANSWER_TURNS = 3
# Messages that wait for a handler to receive them; behind them the client waits, in the kernel.
INBOX_MAX = 10

# Where a WebSocket handler finds its `Wire` in the scope's `state`.
WIRE_KEY = "greenroom.wire"

# RFC 6455 5.5: a control frame holds 125 bytes, of which two are the code. Ours are ASCII.
REASON_LENGTH_MAX = 123
# WEB-46: a close tells its reader what to change. What is not here is told by the library.
_REASONS: dict[int, str] = {CloseReason.INVALID_FRAME_PAYLOAD_DATA: "text that is not UTF-8"}
_BUG = "a bug here ended this connection"
_FORBIDDEN = Refusal(HTTPStatus.FORBIDDEN, "This WebSocket was refused.")
_EXTENSIONS, _SUBPROTOCOL = b"sec-websocket-extensions", b"sec-websocket-protocol"
# Answers that never have a body (RFC 9110 6.4.1).
_BODILESS = frozenset({204, 304})
Address = tuple[str, int] | None
Message = str | bytes
_PEER_IS_DONE = frozenset({State.CLOSED, State.REMOTE_CLOSING})


class KeptSocket(Protocol):
    """What a connection must know of a socket that was handed to it."""

    @property
    def ends_by(self) -> float:
        """Tell when our close frame is due: never (inf) while it goes on."""

    @property
    def end(self) -> tuple[int, str]:
        """Tell the code and reason of our close; asked when it is due."""

    @property
    def is_busy(self) -> bool:
        """Tell whether `take` may wait long."""

    def wake_by(self, wake: Callable[[], None]) -> None:
        """Call `wake` whenever `ends_by` has changed."""

    async def take(self, text: str | None) -> None:
        """Take a message, a text or a binary one (None); waits while there is no room."""

    def hang_up(self) -> None:
        """Be told that the client is gone, or the connection; returns at once, may be repeated."""


def _text(message: Message) -> str | None:
    return message if isinstance(message, str) else None


def _keeps_nothing(kept: KeptSocket) -> None:
    raise RuntimeError("this socket cannot be handed over, or was already")


@dataclass(slots=True, eq=False)
class Wire:
    """Holds what a handler may use of its socket beside ASGI's receive and send."""

    lane: PipeLane
    heard_at: float
    # Called for every inbound frame of any kind before it is looked at; False drops it.
    admit_frame: Callable[[], bool] = field(default=lambda: True)
    # Called once, behind the accept, by who leaves the socket to its connection and returns.
    hand_over: Callable[[KeptSocket], None] = field(default=_keeps_nothing)


class _Stage(Enum):
    HANDSHAKE = auto()
    REFUSED = auto()  # the answer has begun, and its body is on the way
    OPEN = auto()
    DONE = auto()  # the whole refusal is out


class WebSocket:
    """Serves one WebSocket; `serve` is its whole life."""

    __slots__ = (
        "_connection",
        "_deadline",
        "_early",
        "_handler",
        "_inbox",
        "_is_dropping",
        "_is_ended",
        "_is_gone",
        "_is_over",
        "_kept",
        "_link",
        "_moved",
        "_part_bytes",
        "_parts",
        "_settings",
        "end_code",
        "wire",
    )

    def __init__(
        self,
        app: ASGIFramework,
        handshake: Head,
        scope: WebsocketScope,
        first: bytes,
        link: Link,
        settings: TransportSettings,
    ) -> None:
        self._link, self._settings = link, settings
        self.wire = Wire(PipeLane(link.pipe, Framing.SOCKET), trio.current_time())
        self.wire.hand_over = self._hand_over
        self._connection: Connection | None = None
        # What came and was not looked at: before the handshake was decided (its client should have
        # waited, RFC 6455 4.1), or while a message before it waits for room.
        self._early = first
        # The fragments of the message in hand, and messages that wait for their handler. Lists:
        # they are short, and mostly empty.
        self._parts: list[str | bytes | bytearray] = []
        self._part_bytes = 0
        self._inbox: list[Message] = []
        # A frame of the message in hand was refused by the gate: the rest of it goes too.
        self._is_dropping = False
        # Its connection has ended; nobody reads any more, whatever comes.
        self._is_gone = self._is_over = False
        # `serve` is through: a socket that is handed over now gets nothing of it.
        self._is_ended = False
        # What a handler is told of the end: as RFC 6455 7.1.5 has it of a peer that vanished.
        self.end_code = int(CloseReason.ABNORMAL_CLOSURE)
        # When the peer's answer to our close is no longer waited for.
        self._deadline = inf
        # Set when the reader, which waits for something else than bytes, may go on.
        self._moved: trio.Event | None = None
        self._kept: KeptSocket | None = None
        # Until a socket is handed over, or its handler is through.
        self._handler: Handler | None = Handler(app, handshake, scope, self)

    def __repr__(self) -> str:
        kind = "kept" if self._handler is None else "served"
        return f"<WebSocket {kind} parts={len(self._parts)} inbox={len(self._inbox)}>"

    @property
    def has_started_head(self) -> bool:
        """Tell that no request is begun here any more."""
        return False

    @property
    def may_still_receive(self) -> bool:
        """Tell whether the client may be writing while our last bytes are on their way."""
        connection = self._connection
        is_done = connection is not None and connection.state in _PEER_IS_DONE
        return not self._is_gone and not is_done

    @property
    def waits_for_client(self) -> bool:
        """Tell whether we have closed and the peer has not answered that."""
        return self._connection is not None and self._connection.state is State.LOCAL_CLOSING

    # -- the connection's task -------------------------------------------------------------------

    async def serve(self) -> None:
        """Serve until nothing more is to be read; a handler that still runs has a moment then."""
        self._link.enter(Phase.ANSWERING)
        assert self._handler is not None, "served once"
        self._link.spawn(self._handler.run)
        try:
            await self._read()
            await self._give_rest()
        except trio.BrokenResourceError:
            self._is_gone = True
        finally:
            self._is_over = self._is_ended = True
            self.wire.lane.close()
            if self._kept is not None:
                self._kept.hang_up()
            if self._handler is not None:
                self._handler.leave(trio.current_time() + self._settings.gone_grace_s)

    async def _give_rest(self) -> None:
        """Give away what came whole before the end, also when nobody was there to take it yet.

        Who says one thing and closes is done before the socket has changed hands.
        """
        if self._inbox and self._handler is not None:
            self._handler.leave(trio.current_time() + self._settings.gone_grace_s)
        with trio.move_on_after(self._settings.gone_grace_s):
            while self._inbox and self._kept is None and self._handler is not None:
                await self._wait_moved()
            while self._inbox and self._kept is not None and self._kept.ends_by == inf:
                await self._kept.take(_text(self._inbox.pop(0)))

    async def _read(self) -> None:
        while not self._is_over:
            kept, due = self._kept, self._deadline
            if kept is not None:
                while self._inbox:
                    await self._hand(kept, self._inbox.pop(0))
                if self.is_open and kept.ends_by <= trio.current_time():
                    await self.close(*kept.end)
                    self.await_reply()
                    continue
                due = min(due, kept.ends_by) if self.is_open else due
            if self._early and self._connection is not None:
                data, self._early = self._early, b""
                await self._take(self._connection, data)
            elif len(self._early) > self._settings.message_bytes_max:
                await self._wait_moved()
            else:
                await self._receive(due)

    async def _receive(self, due: float) -> None:
        data = await self._link.receive(Phase.ANSWERING, due)
        if data:
            self.wire.heard_at = trio.current_time()
            self._early += data
        elif data is not None:
            self._is_gone = self._is_over = True
        elif trio.current_time() >= self._deadline:
            self._is_over = True

    async def _wait_moved(self) -> None:
        self._moved = trio.Event()
        await self._moved.wait()

    def wake(self) -> None:
        """Call this when the reader may have something else to do than to wait for bytes."""
        # A handshake comes by three times, mostly with nothing to do: a wait that is ended to begin
        # anew costs as much as a small message.
        if self._has_more():
            self._link.stop_waiting()
        if self._moved is not None:
            self._moved.set()
            self._moved = None

    def _has_more(self) -> bool:
        """Tell whether `_read` would do something now, or wait for something else."""
        kept = self._kept
        is_ending = self._is_over or self._deadline < inf
        is_ending = is_ending or (kept is not None and kept.ends_by < inf)
        return is_ending or bool(self._early or self._inbox)

    async def _take(self, connection: Connection, data: bytes) -> None:
        connection.receive_data(data)
        for event in connection.events():
            if not self._admits(event):
                continue
            if isinstance(event, (TextMessage, BytesMessage)):
                await self._take_part(event)
            elif isinstance(event, Ping):
                await self.tell(event.response())
            elif isinstance(event, CloseConnection):
                await self._take_close(connection, event)
            if self._is_over:
                break

    def _admits(self, event: Event) -> bool:
        """Ask the gate once a frame; a message with one refused frame is dropped whole."""
        if isinstance(event, CloseConnection):
            return True
        if not isinstance(event, (TextMessage, BytesMessage)):
            return self.wire.admit_frame()
        if event.frame_finished and not self.wire.admit_frame():
            self._is_dropping = True
        if self._is_dropping:
            self._forget_parts()
            self._is_dropping = not event.message_finished
            return False
        return True

    async def _take_close(self, connection: Connection, event: CloseConnection) -> None:
        """Answer the peer's close, finish ours, or refuse a frame that broke the rules."""
        if connection.state is State.REMOTE_CLOSING:
            self.wire.lane.close()
            await self.tell(event.response())
        elif connection.state is not State.CLOSED:
            await self._refuse(event.code, event.reason or "")
            return
        self.end_code = event.code
        self._is_over = True

    async def _take_part(self, event: TextMessage | BytesMessage) -> None:
        if not self.is_open:
            return
        data, settings = event.data, self._settings
        self._part_bytes += len(data.encode()) if isinstance(data, str) else len(data)
        self._parts.append(data)
        if (
            self._part_bytes > settings.message_bytes_max
            or len(self._parts) > settings.fragments_max
        ):
            await self._refuse(
                CloseReason.MESSAGE_TOO_BIG,
                f"a message has at most {settings.message_bytes_max} bytes "
                f"in {settings.fragments_max} fragments",
            )
        elif event.message_finished:
            message: Message
            if isinstance(event, TextMessage):
                message = "".join([part for part in self._parts if isinstance(part, str)])
            else:
                message = b"".join([part for part in self._parts if not isinstance(part, str)])
            self._forget_parts()
            await self._give(message)

    def _forget_parts(self) -> None:
        self._parts, self._part_bytes = [], 0

    async def _give(self, message: Message) -> None:
        while self._kept is None and len(self._inbox) >= INBOX_MAX and self._handler is not None:
            await self._wait_moved()
        if self._kept is not None and not self._inbox:
            await self._hand(self._kept, message)
            return
        # What was received before a socket was handed over goes first; `_read` sees to it.
        self._inbox.append(message)
        if self._handler is not None:
            self._handler.wake()

    async def _hand(self, kept: KeptSocket, message: Message) -> None:
        text = _text(message)
        if kept.ends_by < inf:
            return  # it ends, and answers nothing more
        if not kept.is_busy:
            await kept.take(text)
            return
        # REL-30: also while it has no room for more the client's end is seen.
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch, kept, nursery.cancel_scope)
            await kept.take(text)
            nursery.cancel_scope.cancel()

    async def _watch(self, kept: KeptSocket, waiting: trio.CancelScope) -> None:
        while kept.ends_by == inf and not self._is_over:
            if len(self._early) > self._settings.message_bytes_max:
                await self._wait_moved()
            else:
                await self._receive(inf)
        waiting.cancel()

    async def _refuse(self, code: int, reason: str) -> None:
        """Close for the peer's mistake and tell the handler; nothing more is read."""
        # What the library says of a broken frame may quote none of it: cut to what a frame holds.
        told = (_REASONS.get(code) or reason or "a broken frame")[:REASON_LENGTH_MAX]
        self._forget_parts()
        # What came whole before the broken frame, perhaps in the same packet, is answered first by
        # a handler that has its answer at once: a turn to take it, and one to speak.
        for _ in range(ANSWER_TURNS):
            await trio.lowlevel.checkpoint()
        await self.close(code, told)  # unless it ended meanwhile, by itself
        self.end_code = code
        self._is_over = True

    # -- for the handler -------------------------------------------------------------------------

    @property
    def is_over(self) -> bool:
        """Tell whether nobody reads any more."""
        return self._is_over

    @property
    def is_open(self) -> bool:
        """Tell whether it was accepted, and neither side has closed it."""
        return self._connection is not None and self._connection.state is State.OPEN

    @property
    def is_kept(self) -> bool:
        """Tell whether it was handed over."""
        return self._kept is not None

    @property
    def link(self) -> Link:
        """The connection it is on."""
        return self._link

    @property
    def settings(self) -> TransportSettings:
        """The limits of the connection."""
        return self._settings

    def open(self, connection: Connection) -> None:
        """Call this when the handshake was accepted, in the turn in which that is written."""
        self._connection = connection

    def next_message(self) -> Message | None:
        """Call this to take what came, the oldest first."""
        if not self._inbox:
            return None
        if self._moved is not None:
            self.wake()
        return self._inbox.pop(0)

    async def tell(self, event: Event) -> None:
        """Call this to send what the library makes of an event; nothing where it is too late."""
        assert self._connection is not None, "nothing is sent before the accept"
        try:
            data = self._connection.send(event)
        except LocalProtocolError:
            await trio.lowlevel.checkpoint()
        else:
            await self._link.pipe.write(data)

    async def close(self, code: int, reason: str) -> None:
        """Call this to close from our side; nothing where it is closed already."""
        # No data frame may follow a close frame, and the fast lane does not ask wsproto.
        self.wire.lane.close()
        await self.tell(CloseConnection(code=code, reason=reason))

    def await_reply(self) -> None:
        """Call this when we have closed and have nothing more to do; has a limit (REL-43)."""
        limit = self._settings.close_reply_s
        if self._link.is_draining:
            limit = min(limit, self._settings.write_stall_draining_s)
        self._deadline = trio.current_time() + limit

    def end_handler(self, *, is_refused: bool, has_failed: bool) -> None:
        """Call this when the handler is through: it has closed, refused or handed over."""
        self._handler = None
        if self._kept is not None and has_failed:
            self._kept.hang_up()
        if is_refused:
            self._is_over = True
        elif self._kept is None or has_failed:
            self.await_reply()
        self.wake()

    def _hand_over(self, kept: KeptSocket) -> None:
        if self._kept is not None or (self._connection is None and not self._is_over):
            raise RuntimeError("a socket is handed over once, when it was accepted")
        self._kept = kept
        kept.wake_by(self.wake)
        self.wire.hand_over = _keeps_nothing
        if self._is_ended or (self._is_over and not self._inbox):
            kept.hang_up()
        self.wake()


class Handler:
    """The application's side of a WebSocket, as ASGI has it; `run` is its task."""

    def __init__(
        self, app: ASGIFramework, head: Head, scope: WebsocketScope, socket: WebSocket
    ) -> None:
        self._app, self._socket = app, socket
        self._fields = dict(head.headers)
        self._asgi = scope
        scope["state"][WIRE_KEY] = socket.wire
        self._stage = _Stage.HANDSHAKE
        self._scope = trio.CancelScope()
        self._news: trio.Event | None = None
        self._is_told = self._is_chunked = False

    def wake(self) -> None:
        """Call this when there is something to receive."""
        if self._news is not None:
            self._news.set()
            self._news = None

    def leave(self, deadline: float) -> None:
        """Call this when nobody reads any more: it is told so, and has until then to end."""
        self._scope.deadline = min(self._scope.deadline, deadline)
        self.wake()

    async def run(self) -> None:
        """Run the application until it is through with this socket."""
        socket, has_failed = self._socket, True
        with self._scope:
            has_failed = await run_application(
                self._app, cast("HTTPScope", self._asgi), self.receive, self.send
            )
        try:
            if socket.is_over:
                pass
            elif self._stage is _Stage.HANDSHAKE:
                await self._refuse(FAILED)
            elif self._stage is _Stage.OPEN and (has_failed or not socket.is_kept):
                # REL-34: by an exception, or by a handler that forgot it. Nothing where it closed.
                await socket.close(CloseReason.INTERNAL_ERROR, _BUG)
        except trio.BrokenResourceError:
            pass  # nobody is there to be told
        is_refused = self._stage is not _Stage.OPEN
        socket.end_handler(is_refused=is_refused, has_failed=has_failed)

    async def receive(self) -> ASGIReceiveEvent:
        """ASGI's `receive`: the handshake, each message, the end."""
        if not self._is_told:
            self._is_told = True
            await trio.lowlevel.checkpoint()
            return cast("ASGIReceiveEvent", {"type": "websocket.connect"})
        while (message := self._socket.next_message()) is None:
            if self._socket.is_over:
                await trio.lowlevel.checkpoint()
                code = self._socket.end_code
                return cast("ASGIReceiveEvent", {"type": "websocket.disconnect", "code": code})
            self._news = trio.Event()
            await self._news.wait()
        await trio.lowlevel.checkpoint()
        text, data = (message, None) if isinstance(message, str) else (None, message)
        found = {"type": "websocket.receive", "text": text, "bytes": data}
        return cast("ASGIReceiveEvent", found)

    async def send(self, message: ASGISendEvent) -> None:
        """ASGI's `send`; of a client that is gone it takes everything and does nothing."""
        socket, kind, stage = self._socket, message["type"], self._stage
        try:
            if socket.is_over or socket.is_kept or stage is _Stage.DONE:
                await trio.lowlevel.checkpoint()
            elif message["type"] == "websocket.accept" and stage is _Stage.HANDSHAKE:
                await self._accept(message)
            elif message["type"] == "websocket.http.response.start" and stage is _Stage.HANDSHAKE:
                await self._begin_refusal(message)
            elif message["type"] == "websocket.http.response.body" and stage is _Stage.REFUSED:
                body = bytes(message.get("body", b""))
                await self._go_on(body, is_last=not message.get("more_body", False))
            elif message["type"] == "websocket.close" and stage is _Stage.HANDSHAKE:
                await self._refuse(_FORBIDDEN)
            elif message["type"] == "websocket.close" and stage is _Stage.OPEN:
                code = int(message.get("code", CloseReason.NORMAL_CLOSURE))
                await socket.close(code, message.get("reason") or "")
            elif message["type"] == "websocket.send" and stage is _Stage.OPEN:
                data, text = message.get("bytes"), message.get("text")
                if data is not None:
                    await socket.tell(BytesMessage(bytes(data)))
                elif isinstance(text, str):
                    await socket.tell(TextMessage(text))
                else:
                    raise TypeError("a message is a text or bytes")
            else:
                raise RuntimeError(f"{kind} has no place here ({stage.name.lower()})")
        except trio.BrokenResourceError:
            pass  # the reader sees it too

    async def _accept(self, message: WebsocketAcceptEvent) -> None:
        chosen, headers = message.get("subprotocol"), []
        if chosen is not None:
            if chosen not in self._asgi["subprotocols"]:
                raise RuntimeError(f"the subprotocol {chosen} was not offered")
            headers.append((_SUBPROTOCOL, chosen.encode("ascii")))
        extensions: list[Extension] = []
        agreed: bytes | None = None
        if self._socket.settings.agrees_to_deflate and _EXTENSIONS in self._fields:
            extensions = [PerMessageDeflate()]
            offered = split_comma_header(self._fields[_EXTENSIONS])
            agreed = server_extensions_handshake(offered, extensions) or None
        if agreed is not None:
            headers.append((_EXTENSIONS, agreed))
        token = generate_accept_token(self._fields[b"sec-websocket-key"])
        headers += [
            (b"sec-websocket-accept", token),
            (b"upgrade", b"WebSocket"),
            (b"connection", b"Upgrade"),
        ]
        more = message.get("headers", [])
        if any(name.lower() == _SUBPROTOCOL for name, _ in more):
            raise RuntimeError("the subprotocol is told by itself, not among the headers")
        data = head_bytes(HTTPStatus.SWITCHING_PROTOCOLS, [*headers, *more])
        # In one turn with the beginning of the write: what others then write comes behind it.
        self._stage = _Stage.OPEN
        self._socket.open(Connection(ConnectionType.SERVER, extensions if agreed else []))
        await self._socket.link.pipe.write(data)
        self._socket.wake()

    async def _begin_refusal(self, message: WebsocketResponseStartEvent) -> None:
        status = int(message["status"])
        if not 200 <= status <= 999:
            raise ValueError(f"a refusal's status is from 200 to 999, not {status}")
        # Its client may have sent frames: it is no connection for requests any more.
        headers = [pair for pair in message["headers"] if pair[0].lower() != b"connection"]
        names = {name.lower() for name, _ in headers}
        self._is_chunked = b"content-length" not in names and status not in _BODILESS
        if self._is_chunked:
            headers.append((b"transfer-encoding", b"chunked"))
        data = head_bytes(status, [*headers, (b"connection", b"close")])
        self._stage = _Stage.REFUSED
        await self._socket.link.pipe.write(data)

    async def _go_on(self, body: bytes, *, is_last: bool) -> None:
        data = (chunk(body) if body else b"") if self._is_chunked else body
        if is_last:
            data += b"0\r\n\r\n" if self._is_chunked else b""
            self._stage = _Stage.DONE
        await self._socket.link.pipe.write(data)

    async def _refuse(self, refusal: Refusal) -> None:
        self._stage = _Stage.DONE
        data = refusal_bytes(refusal, self._socket.settings, self._socket.link.peer, is_head=False)
        await self._socket.link.pipe.write(data)


def websocket_scope(
    head: Head,
    state: ConnectionState,
    addresses: tuple[Address, Address],
    *,
    is_tls: bool,
    tells_extensions: bool,
) -> WebsocketScope:
    """Call this for what ASGI tells of a handshake.

    Where permessage-deflate is off (SEC-45) nobody is told that it was offered.
    """
    raw_path, _, query = head.target.partition(b"?")
    fields = dict(head.headers)
    client, server = addresses
    offered = fields.get(_SUBPROTOCOL)
    return cast(
        "WebsocketScope",
        {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": head.version.decode("ascii"),
            "scheme": "wss" if is_tls else "ws",
            "path": unquote(raw_path.decode("ascii")),
            "raw_path": raw_path,
            "query_string": query,
            "root_path": "",
            "headers": [
                pair for pair in head.headers if tells_extensions or pair[0] != _EXTENSIONS
            ],
            "client": client,
            "server": server,
            "state": ConnectionState(state.copy()),
            "subprotocols": [] if offered is None else split_comma_header(offered),
            "extensions": {"websocket.http.response": {}},
        },
    )
