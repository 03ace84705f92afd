"""HTTP/1.1 as hypercorn speaks it, given nothing but requests that were judged before.

Rule 1: no byte reaches h11 that our own grammar did not read: heads and bodies are cut by
        `reading/requests.py`, and h11 gets them one request at a time, spelled anew.
Rule 2: what the grammar refuses ends the connection: one answer with our headers, no handler for
        it, nothing behind it is looked at.

What else lives here: `connection: close` while draining. A WebSocket's handshake is left to
`websocket.py`, with what came behind it. Deadlines are kept by `transport.py`. HTTP/2 exists over
TLS only, so upgrades to it on a plain connection are not offered.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import h11
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.events import Request, Response
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ConnectionState
from hypercorn.typing import TaskGroup as TaskGroupPort
from hypercorn.typing import WorkerContext as WorkerContextPort

from actors.runtime import Log
from web.server.connection.framing import chunk
from web.server.connection.http.answers import refusal_bytes
from web.server.connection.settings import SURPLUS_KEY, TransportSettings
from web.server.reading.heads import Head, Refusal
from web.server.reading.requests import RequestReader

log = Log(__name__)

Address = tuple[str, int] | None
StreamArguments = tuple[
    AppWrapper,
    Config,
    WorkerContextPort,
    TaskGroupPort,
    bool,
    Address,
    Address,
    Callable[[StreamEvent], Awaitable[None]],
    int,
]


class Http1(H11Protocol):
    """One HTTP/1.1 connection; `Transport` feeds it."""

    def __init__(
        self,
        app: AppWrapper,
        config: Config,
        context: WorkerContext,
        task_group: TaskGroup,
        state: ConnectionState,
        addresses: tuple[Address, Address],
        send: Callable[[Event], Awaitable[None]],
        *,
        is_tls: bool,
        settings: TransportSettings,
    ) -> None:
        client, server = addresses
        super().__init__(app, config, context, task_group, state, is_tls, client, server, send)
        self._settings = settings
        self._reader = RequestReader(settings.head_limits)
        self._head: Head | None = None
        # An answer of ours ended HTTP here; what a handler still says is for nobody.
        self._is_over = False
        # With it the connection leaves HTTP for good.
        self.handshake: Head | None = None

    @property
    def has_started_head(self) -> bool:
        """Tell whether bytes that were not taken yet lie in the reader."""
        return len(self._reader) > 0

    @property
    def is_reading_body(self) -> bool:
        """Tell whether a head is complete and its body is not."""
        return self.connection.their_state is h11.SEND_BODY

    @property
    def is_between_requests(self) -> bool:
        """Tell whether the next byte would begin a request."""
        return self.connection.their_state is h11.IDLE

    @property
    def may_still_receive(self) -> bool:
        """Tell whether the client may be writing while our answer is on its way."""
        return self.is_reading_body or self.has_started_head

    @property
    def _is_surplus(self) -> bool:
        return SURPLUS_KEY in self.connection_state

    async def handle(self, event: Event) -> None:
        """Take bytes or news of the connection; empty bytes are its client's end."""
        if not isinstance(event, RawData):
            await super().handle(event)
        elif event.data and not self._is_over:
            self._reader.feed(event.data)
            await self._take_requests()

    async def answer_late(self, refusal: Refusal) -> None:
        """Call this when a head or body did not come in time: the refusal, if nothing was sent."""
        await self._refuse(refusal)

    def take_all(self) -> bytes:
        """Call this to get what came behind the handshake."""
        return self._reader.take_all()

    async def _take_requests(self) -> None:
        """Give h11 what is complete, request by request; returns when more must come."""
        while not self._is_over and await self._take_next():
            pass

    async def _take_next(self) -> bool:
        """Pass on a head or a piece of a body; False when more must come, or nothing may."""
        found: Head | bytes | Refusal | None
        if self.is_between_requests:
            found = self._reader.next_head()
        elif self._reader.is_in_body:
            found = self._reader.next_body()
        elif len(self._reader):
            # Pipelined: it waits for the answer before, and so does whoever reads for us.
            await self.can_read.clear()
            await self.can_read.wait()
            return self.is_between_requests
        else:
            return False
        if isinstance(found, Head) and found.is_websocket:
            self.handshake = found
            return False
        if isinstance(found, Head):
            self._head = found
            await self._pass(found.wire())
            return True
        if isinstance(found, bytes):
            await self._pass(self._spelled(found))
            return True
        if found is not None:
            await self._refuse(found)
            await self.send(Closed())
        return False

    def _spelled(self, piece: bytes) -> bytes:
        assert self._head is not None, "a body follows its head"
        if self._head.length is not None:
            return piece
        return chunk(piece) if piece else b"0\r\n\r\n"

    async def _pass(self, data: bytes) -> None:
        if data:
            self.connection.receive_data(data)
            await self._handle_events()

    async def stream_send(self, event: StreamEvent) -> None:
        """Pass an answer on; while draining it also ends the connection (REL-20, step 2)."""
        if self._is_over:
            return
        if (
            isinstance(event, Response)
            and event.status_code >= 200
            and (self.context.terminated.is_set() or self._is_surplus)
        ):
            headers = [pair for pair in event.headers if pair[0].lower() != b"connection"]
            event = Response(
                stream_id=event.stream_id,
                headers=[*headers, (b"connection", b"close")],
                status_code=event.status_code,
            )
        await super().stream_send(event)

    async def _create_stream(self, request: h11.Request) -> None:
        # Not the library's own choice, which makes a WebSocket of any upgrade.
        self.stream = HTTPStream(*self._stream_arguments())
        await self.stream.handle(
            Request(
                stream_id=STREAM_ID,
                headers=list(request.headers),
                http_version=request.http_version.decode(),
                method=request.method.decode("ascii"),
                raw_path=request.target,
                state=self.connection_state,
            )
        )
        self.keep_alive_requests += 1

    def _stream_arguments(self) -> StreamArguments:
        return (
            self.app,
            self.config,
            self.context,
            self.task_group,
            self.ssl,
            self.client,
            self.server,
            self.stream_send,
            STREAM_ID,
        )

    async def _check_protocol(self, event: h11.Request) -> None:
        """Do nothing: HTTP/2 is spoken over TLS only, whatever the client offers here."""

    async def _refuse(self, refusal: Refusal) -> None:
        """Answer a request that is none, unless an answer has begun; HTTP ends here."""
        if self._is_over:
            return
        self._is_over = True
        log.debug("server.request_refused", status=int(refusal.status), rule=refusal.rule)
        # In every other state a second head would stand in the body of the first.
        if self.connection.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            return
        # Not by h11: it saw nothing of the request, and would not know a HEAD.
        peer = "" if self.client is None else self.client[0]
        data = refusal_bytes(refusal, self._settings, peer, is_head=self._is_head())
        await self.send(RawData(data))

    def _is_head(self) -> bool:
        if self._reader.is_in_body and self._head is not None:
            return self._head.method == b"HEAD"
        return self._reader.was_begun_by(b"HEAD ")
