"""A WebSocket as hypercorn speaks it, with the ends and limits it leaves out.

What lives here: the size and fragment limits in bytes (SEC-45), close codes for broken frames
(1002, 1007, 1009), the wait for the peer's close reply (REL-43), and `Wire`, the handle a
handler finds in its scope: the fast lane of the socket, when the peer was last heard, and a gate
for every inbound frame. The JSON protocol is in `web.realtime.socket.protocol`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import trio
from hypercorn.config import Config
from hypercorn.protocol.events import Data, Event, StreamClosed
from hypercorn.protocol.ws_stream import ASGIWebsocketState, WSStream
from hypercorn.typing import AppWrapper, ASGISendEvent, TaskGroup, WorkerContext
from wsproto.connection import ConnectionState
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage
from wsproto.events import Event as WsEvent
from wsproto.frame_protocol import CloseReason

from web.server.connection.framing import Framing
from web.server.connection.lanes import PipeLane
from web.server.connection.pipe import WritePipe
from web.server.connection.settings import TransportSettings

# Turns of the loop that a handler has for what came before a broken frame.
ANSWER_TURNS = 3

# Where a WebSocket handler finds its `Wire` in the scope's `state`.
WIRE_KEY = "greenroom.wire"

# RFC 6455 5.5: a control frame holds 125 bytes, of which two are the code. Ours are ASCII.
REASON_LENGTH_MAX = 123
# WEB-46: a close tells its reader what to change. What is not here is told by the library.
_REASONS: dict[int, str] = {CloseReason.INVALID_FRAME_PAYLOAD_DATA: "text that is not UTF-8"}
_BUG = "a bug here ended this connection"


@dataclass(slots=True, eq=False)
class Wire:
    """Holds what a handler may use of its socket beside ASGI's receive and send."""

    lane: PipeLane
    heard_at: float
    # Called for every inbound frame of any kind before it is looked at; False drops it.
    admit_frame: Callable[[], bool] = field(default=lambda: True)


class WebSocketStream(WSStream):
    """One WebSocket on an HTTP/1.1 connection."""

    def __init__(
        self,
        app: AppWrapper,
        config: Config,
        context: WorkerContext,
        task_group: TaskGroup,
        ssl: bool,
        client: tuple[str, int] | None,
        server: tuple[str, int] | None,
        send: Callable[[Event], Awaitable[None]],
        stream_id: int,
        *,
        pipe: WritePipe,
        settings: TransportSettings,
    ) -> None:
        super().__init__(app, config, context, task_group, ssl, client, server, send, stream_id)
        self.wire = Wire(PipeLane(pipe, Framing.SOCKET), trio.current_time())
        self._settings = settings
        self._parts: list[str | bytes | bytearray] = []
        self._part_bytes = 0
        # After a close frame, theirs or ours for a broken one: whatever still comes is ignored.
        self._is_deaf = False
        # A frame of the message in hand was refused by the gate: the rest of it goes too.
        self._is_dropping = False
        self._peer_is_done = trio.Event()
        # The handshake was accepted, refused, or left.
        self._is_decided = trio.Event()

    @property
    def peer_has_closed(self) -> bool:
        """Tell whether the peer said that nothing more comes."""
        return hasattr(self, "connection") and self.connection.state in {
            ConnectionState.CLOSED,
            ConnectionState.REMOTE_CLOSING,
        }

    @property
    def awaits_close_reply(self) -> bool:
        """Tell whether we have closed and the peer has not answered that."""
        return hasattr(self, "connection") and self._we_closed_first()

    async def handle(self, event: Event) -> None:
        """Take bytes or news of the connection; bytes after a broken frame are ignored."""
        if isinstance(event, Data):
            self.wire.heard_at = trio.current_time()
            if not self.handshake.accepted:
                await self._wait_decided()
            if self._is_deaf:
                return
        if isinstance(event, StreamClosed):
            self.wire.lane.close()
            self._peer_is_done.set()
            self._is_decided.set()
        await super().handle(event)

    async def app_send(self, message: ASGISendEvent | None) -> None:
        """Send for the handler; at its end, wait for the peer's close reply, not for ever."""
        if message is None and not self.closed and self._is_left_open():
            # REL-34: by an exception, or by a handler that forgot it. The library would say no why.
            await self._send_wsproto_event(
                CloseConnection(code=CloseReason.INTERNAL_ERROR, reason=_BUG)
            )
            self.state = ASGIWebsocketState.CLOSED
        # The handler is done (`None`), the closing handshake is not: until the peer has answered
        # our close frame it may be sending, and hypercorn would end the connection under it.
        if message is None and not self.closed and self._we_closed_first():
            limit = self._settings.close_reply_s
            if self.context.terminated.is_set():
                limit = min(limit, self._settings.write_stall_draining_s)
            with trio.move_on_after(limit):
                await self._peer_is_done.wait()
        await super().app_send(message)
        if self.handshake.accepted or self.state is not ASGIWebsocketState.HANDSHAKE:
            self._is_decided.set()

    async def _wait_decided(self) -> None:
        """Hold frames that a client sent before it was let in; of a refused one they are dropped.

        It should have waited (RFC 6455 4.1), so nothing more of it is read meanwhile.
        """
        with trio.move_on_after(self._settings.handshake_s):
            await self._is_decided.wait()
        if not self.handshake.accepted:
            self._is_deaf = True

    def _is_left_open(self) -> bool:
        is_connected = self.state is ASGIWebsocketState.CONNECTED
        return is_connected and self.connection.state is ConnectionState.OPEN

    def _we_closed_first(self) -> bool:
        return (
            self.state in {ASGIWebsocketState.CONNECTED, ASGIWebsocketState.CLOSED}
            and self.connection.state is ConnectionState.LOCAL_CLOSING
        )

    async def _handle_events(self) -> None:
        for event in self.connection.events():
            if not self._admits(event):
                continue
            if isinstance(event, (TextMessage, BytesMessage)):
                await self._take_part(event)
            elif isinstance(event, Ping):
                await self._send_wsproto_event(event.response())
            elif isinstance(event, CloseConnection):
                await self._take_close(event)
            if self._is_deaf:
                break

    def _admits(self, event: WsEvent) -> bool:
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

    async def _take_close(self, event: CloseConnection) -> None:
        """Answer the peer's close, finish ours, or refuse a frame that broke the rules."""
        if self.connection.state is ConnectionState.REMOTE_CLOSING:
            await self._send_wsproto_event(event.response())
        elif self.connection.state is not ConnectionState.CLOSED:
            await self._refuse(event.code, event.reason or "")
            return
        self._is_deaf = True
        self._peer_is_done.set()
        await self.send(StreamClosed(stream_id=self.stream_id))

    async def _take_part(self, event: TextMessage | BytesMessage) -> None:
        if self.connection.state is not ConnectionState.OPEN:
            return
        data = event.data
        self._part_bytes += len(data.encode()) if isinstance(data, str) else len(data)
        self._parts.append(data)
        if (
            self._part_bytes > self._settings.message_bytes_max
            or len(self._parts) > self._settings.fragments_max
        ):
            settings = self._settings
            await self._refuse(
                CloseReason.MESSAGE_TOO_BIG,
                f"a message has at most {settings.message_bytes_max} bytes "
                f"in {settings.fragments_max} fragments",
            )
            return
        if event.message_finished:
            message = self._whole(event)
            self._forget_parts()
            assert self.app_put is not None
            await self.app_put(message)

    def _whole(self, event: TextMessage | BytesMessage) -> dict[str, str | bytes | None]:
        text: str | None = None
        data: bytes | None = None
        if isinstance(event, TextMessage):
            text = "".join(part for part in self._parts if isinstance(part, str))
        elif isinstance(event, BytesMessage):
            data = b"".join(part for part in self._parts if not isinstance(part, str))
        return {"type": "websocket.receive", "bytes": data, "text": text}

    def _forget_parts(self) -> None:
        self._parts, self._part_bytes = [], 0

    async def _refuse(self, code: int, reason: str) -> None:
        """Close for the peer's mistake and tell the handler; nothing more is read."""
        # What the library says of a broken frame may quote none of it: cut to what a frame holds.
        told = (_REASONS.get(code) or reason or "a broken frame")[:REASON_LENGTH_MAX]
        # Deaf first: sending is a checkpoint, and the reader may come with the next bytes.
        self._is_deaf = True
        self._forget_parts()
        # What came whole before the broken frame, perhaps in the same packet, is answered first by
        # a handler that has its answer at once: a turn to take it, and one to speak.
        for _ in range(ANSWER_TURNS):
            await trio.lowlevel.checkpoint()
        if self.connection.state is ConnectionState.OPEN:  # else it ended meanwhile, by itself
            await self._send_wsproto_event(CloseConnection(code=code, reason=told))
        self.state = ASGIWebsocketState.CLOSED
        self._peer_is_done.set()
        if self.app_put is not None:
            await self.app_put({"type": "websocket.disconnect", "code": code})

    async def _send_wsproto_event(self, event: WsEvent) -> None:
        if isinstance(event, CloseConnection):
            # No data frame may follow a close frame, and the fast lane does not ask wsproto.
            self.wire.lane.close()
        await super()._send_wsproto_event(event)
