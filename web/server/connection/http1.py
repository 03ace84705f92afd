"""HTTP/1.1 as hypercorn speaks it, with our limits on heads and our answers to broken requests.

What lives here: the size limits of a request head, the full answer to a request that is not one
(hypercorn's has no headers), `connection: close` while draining, and the choice of
`WebSocketStream`. Deadlines are kept by `transport.py`. HTTP/2 exists over TLS only, so upgrades
to it on a plain connection are not offered.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import h11
from hypercorn.config import Config
from hypercorn.events import Closed, Event
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.events import Request, Response
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol, H11WSConnection
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.protocol.ws_stream import WSStream
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ConnectionState
from hypercorn.typing import TaskGroup as TaskGroupPort
from hypercorn.typing import WorkerContext as WorkerContextPort

from web.server.connection.pipe import WritePipe
from web.server.connection.settings import TransportSettings
from web.server.connection.websocket import WIRE_KEY, WebSocketStream

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
# permessage-deflate is off (SEC-45), and hypercorn would agree to it when offered.
_DROPPED_HEADERS = frozenset({b"sec-websocket-extensions"})


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
        pipe: WritePipe,
        settings: TransportSettings,
    ) -> None:
        client, server = addresses
        super().__init__(app, config, context, task_group, state, is_tls, client, server, send)
        self._pipe = pipe
        self._settings = settings
        self._websocket: WebSocketStream | None = None

    @property
    def is_websocket(self) -> bool:
        """Tell whether the connection left HTTP for good."""
        return isinstance(self.connection, H11WSConnection)

    @property
    def has_started_head(self) -> bool:
        """Tell whether bytes of an unfinished head lie in the parser."""
        return bool(self.connection.trailing_data[0])

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
        # h11 is out of the way once a WebSocket is open: its own states say nothing any more.
        if self._websocket is not None:
            return not self._websocket.peer_has_closed
        return self.is_reading_body or self.has_started_head

    async def answer_late(self) -> None:
        """Call this when a head or body did not come in time: 408, if nothing was answered."""
        # In every other state an answer has begun, and a second head would stand in its body.
        if not self.is_websocket and self.connection.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            await self._send_error_response(408)

    async def stream_send(self, event: StreamEvent) -> None:
        """Pass an answer on; while draining it also ends the connection (REL-20, step 2)."""
        if (
            isinstance(event, Response)
            and event.status_code >= 200
            and self.context.terminated.is_set()
        ):
            headers = [pair for pair in event.headers if pair[0].lower() != b"connection"]
            event = Response(
                stream_id=event.stream_id,
                headers=[*headers, (b"connection", b"close")],
                status_code=event.status_code,
            )
        await super().stream_send(event)

    async def _create_stream(self, request: h11.Request) -> None:
        status = self._refusal(request)
        if status is not None:
            # No stream was made, so nobody else will end this: the body is not read.
            await self._send_error_response(status)
            await self.send(Closed())
            return
        headers = [pair for pair in request.headers if pair[0] not in _DROPPED_HEADERS]
        stream: WSStream | HTTPStream
        state = self.connection_state
        if _is_websocket(request):
            # Before the stream exists: bytes the client sent behind its handshake lie in h11, and
            # move on to the WebSocket with this.
            self.connection = H11WSConnection(_http(self.connection))
            websocket = WebSocketStream(
                *self._stream_arguments(), pipe=self._pipe, settings=self._settings
            )
            state = ConnectionState({**state, WIRE_KEY: websocket.wire})
            stream = self._websocket = websocket
        else:
            stream = HTTPStream(*self._stream_arguments())
        self.stream = stream
        await stream.handle(
            Request(
                stream_id=STREAM_ID,
                headers=headers,
                http_version=request.http_version.decode(),
                method=request.method.decode("ascii").upper(),
                raw_path=request.target,
                state=state,
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

    def _refusal(self, request: h11.Request) -> int | None:
        if request.http_version not in (b"1.0", b"1.1"):
            return 505
        if len(request.target) > self._settings.url_bytes_max:
            return 414
        size = sum(len(name) + len(value) + 4 for name, value in request.headers)
        if size > self._settings.header_bytes_max:
            return 431
        return None

    async def _send_error_response(self, status_code: int) -> None:
        answer = self._settings.error_response(status_code)
        own = {name.lower() for name, _ in answer.headers}
        headers = [*answer.headers, (b"connection", b"close")]
        headers += [pair for pair in self.config.response_headers("h11") if pair[0] not in own]
        await self._send_h11_event(h11.Response(status_code=status_code, headers=headers))
        if answer.body:
            await self._send_h11_event(h11.Data(data=answer.body))
        await self._send_h11_event(h11.EndOfMessage())


def _is_websocket(request: h11.Request) -> bool:
    values: dict[bytes, bytes] = {}
    for name, value in request.headers:
        values[name] = value.lower()
    tokens = [token.strip() for token in values.get(b"connection", b"").split(b",")]
    return (
        b"upgrade" in tokens
        and values.get(b"upgrade", b"").strip() == b"websocket"
        and request.method == b"GET"
    )


def _http(connection: h11.Connection | H11WSConnection) -> h11.Connection:
    assert isinstance(connection, h11.Connection), "a WebSocket is upgraded once"
    return connection
