"""One connection: hypercorn's trio `TCPServer` with our hands on the socket (REL-10).

Rule 1: bytes leave through the connection's `WritePipe` only.
Rule 2: every wait for the client has a deadline: the handshake, a head, a body, a write, the
        time after it left, and the lingering read after an early answer.
Rule 3: a connection that failed is reset, and its tasks are cancelled at once.

A handler finds its `Transport` in the ASGI scope (`transport_of(scope)`) and asks it for a lane
once the response head is out. The accept loop and draining are in `serving.py`.

HTTP/1.1 is spoken by `http/plain.py` and HTTP/2 by `http/http2.py`, which read and write through
`receive` and the pipe, and so does `http/websocket.py`, from a handshake on. Where the library is
asked for, requests are hypercorn's: its `TCPServer` reads, and gives bytes to a protocol; the
protocol parses and starts the application in the connection's nursery; what the application sends
comes back as events through `protocol_send`. Overridden here are the ends of that road: `run` and
`_read_data` (to have a deadline for every phase, where hypercorn has one for idle connections only)
and `protocol_send` (to write through the pipe, where hypercorn writes under a lock in a shield
without a limit, which a client that reads nothing holds for ever).
"""

from __future__ import annotations

import math
import os
import select
import socket as stdlib_socket
import struct
from collections.abc import Awaitable, Callable, Mapping

import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol import ProtocolWrapper
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ASGIFramework, ConnectionState, LifespanState
from hypercorn.utils import parse_socket_addr

from actors.runtime import Log
from actors.runtime.telling.log import failure_of
from web.server.connection.framing import Framing
from web.server.connection.http.exchange import LATE, STOPPING, Watchman
from web.server.connection.http.http2 import Http2
from web.server.connection.http.library import Http1
from web.server.connection.http.plain import Address, PlainHttp
from web.server.connection.http.shedding import Shed, Shedder
from web.server.connection.http.websocket import WebSocket, websocket_scope
from web.server.connection.lanes import PipeLane
from web.server.connection.pipe import STALLED, WritePipe
from web.server.connection.settings import Phase, TransportSettings, allowed_s
from web.server.reading.heads import Head

log = Log(__name__)

TRANSPORT_KEY = "greenroom.transport"
# REL-52: a head that is too large is known to be by the second of these.
RECEIVE_BYTES = 16 * 1024
_GONE = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)
ByteStream = trio.SocketStream | trio.SSLStream[trio.SocketStream]


class Transport(TCPServer):
    """Serves one accepted connection until either side ends it.

    `on_cut(transport, reason)` is told when a client was cut off for not reading.
    """

    def __init__(
        self,
        app: AppWrapper,
        config: Config,
        context: WorkerContext,
        state: LifespanState,
        stream: ByteStream,
        *,
        plain_app: ASGIFramework,
        settings: TransportSettings,
        watchman: Watchman,
        shedder: Shedder,
        on_cut: Callable[[Transport, str], None],
    ) -> None:
        super().__init__(app, config, context, state, stream)  # type: ignore[arg-type]  # reason: hypercorn takes plain streams too and annotates only the encrypted one
        self._settings = settings
        self._plain_app, self._watchman, self._shedder = plain_app, watchman, shedder
        self._plain: PlainHttp | None = None
        self._http2: Http2 | None = None
        self._socket: WebSocket | None = None
        self._addresses: tuple[Address, Address] = (None, None)
        self._on_cut = on_cut
        self._tls = stream if isinstance(stream, trio.SSLStream) else None
        self._raw = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
        self._nursery: trio.Nursery | None = None
        # Of the wait for bytes that is going on; its deadline moves with the phase, from whatever
        # task changes it.
        self._read_scope = trio.CancelScope()
        self._phase = Phase.HEAD
        self._phase_began = trio.current_time()
        self._is_closed = False
        self.pipe = WritePipe(
            self._raw.socket.fileno(),
            settings,
            spawn=self._spawn,
            on_broken=self._reset,
            send=self._raw.socket._sock.send,  # type: ignore[attr-defined]  # reason: trio's own is a checkpoint, and it shows no other
            send_tls=None if self._tls is None else self._send_tls,
        )

    def __repr__(self) -> str:
        return f"<Transport {self._phase.value} {self.pipe!r}>"

    @property
    def phase(self) -> Phase:
        """Tell what the connection waits for."""
        return self._phase

    @property
    def waits_for_client(self) -> bool:
        """Tell whether nothing but the client holds the connection: it does not read, or answer."""
        if self._phase is not Phase.ANSWERING or not self.pipe.is_idle:
            return True
        if self._http2 is not None:
            return self._http2.waits_for_client
        return self._socket is not None and self._socket.waits_for_client

    def lane(self, framing: Framing) -> PipeLane | None:
        """Call this after the response head is out: the fast lane, or None where it may not be.

        HTTP/2 multiplexes, so only `http/http2.py` may write there.
        """
        return None if self._http() is None else PipeLane(self.pipe, framing)

    def begin_drain(self) -> None:
        """Call this when the server stops: idle connections end, stalled ones hurry."""
        self.pipe.hurry()
        if self._nursery is None:
            return  # accepted a moment ago, or shaking hands: the drain's last step ends it
        if self._phase is Phase.IDLE or (self._phase is Phase.HEAD and not self._has_bytes()):
            self._read_scope.cancel()
        elif self._phase is Phase.BODY:
            soon = trio.current_time() + self._settings.body_draining_s
            self._read_scope.deadline = min(self._read_scope.deadline, soon)
        elif self._http2 is not None:
            self._http2.drain()

    def reset(self, reason: str) -> None:
        """Call this to cut the client off at once; its tasks are cancelled."""
        self.pipe.fail(reason)

    async def run(self) -> None:
        """Serve until the connection is over; the descriptor is free on return."""
        try:
            alpn = await self._handshake()
            if alpn is None:
                return
            # Before the nursery: of a peer that vanished since it was accepted nobody knows it.
            raw = self._raw.socket
            self._addresses = (
                parse_socket_addr(raw.family, raw.getpeername()),
                parse_socket_addr(raw.family, raw.getsockname()),
            )
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                if alpn == "h2":
                    await self._serve_http2(nursery)
                    return
                if self._settings.uses_library:
                    is_upgraded = await self._serve_by_library(nursery)
                    if not is_upgraded:
                        return
                else:
                    is_upgraded = await self._serve_plain()
                if is_upgraded and self._socket is not None:
                    await self._socket.serve()
                await self._close()
                while self._phase is Phase.LINGERING and await self._receive_late():
                    pass
        except OSError:
            pass  # the peer vanished between accept and the first call
        finally:
            self._close_now()
            # They hold it, and would be freed by a collection only.
            self._plain = self._http2 = self._socket = self._nursery = None

    async def receive(
        self, phase: Phase, deadline: float, shed: Shed | None = None
    ) -> bytes | None:
        """Read once: bytes, empty ones of a client that left, None when the time is over.

        Bytes may have been shown to `shed` before, and are not all answered then.
        """
        self._enter(phase, keep_time=True)
        is_shed = shed is not None and self._shedder.is_on and self._tls is None
        # Where the shedder reads it keeps the deadline too.
        until = math.inf if is_shed else deadline
        with trio.CancelScope(deadline=until) as self._read_scope:
            try:
                if self._tls is not None:
                    return bytes(await self._tls.receive_some(RECEIVE_BYTES))
                number = self._raw.socket.fileno()
                if is_shed and shed is not None:
                    return await self._shedder.receive(number, shed, deadline)
                while number >= 0:
                    # Not `receive_some`: it asks the kernel before it waits, and the next request
                    # of a client that waits for our answer is never there yet.
                    await trio.lowlevel.wait_readable(number)
                    if self._raw.socket.fileno() != number:
                        break  # closed meanwhile; by now the number may be another socket's
                    try:
                        return os.read(number, RECEIVE_BYTES)
                    except BlockingIOError:
                        continue
            except _GONE:
                pass
            return b""
        return None

    async def wait_left(self) -> bool:
        """Wait until the client shut its side or reset it, whatever lies unread before that."""
        with trio.CancelScope() as self._read_scope:
            try:
                # One of its own: trio's would tell of the unread bytes, again and again.
                with select.epoll(1) as end:
                    end.register(self._raw.socket.fileno(), select.EPOLLRDHUP)
                    await trio.lowlevel.wait_readable(end.fileno())
                return True
            except (AttributeError, OSError):
                # Linux only, and only with a free descriptor; else the answer's write finds it.
                await trio.sleep_forever()
        return False

    def is_silent(self) -> bool:
        """Look whether the client is there and has sent nothing; False where that is not known."""
        number = self._raw.socket.fileno()
        if self._tls is not None or number < 0:
            return False
        look = select.poll()
        look.register(number, select.POLLIN)
        # An error and a hang-up are told unasked.
        return not look.poll(0)

    def enter(self, phase: Phase) -> None:
        """Say what the connection waits for, for whoever speaks HTTP on it."""
        self._enter(phase)

    def spawn(self, task: Callable[[], Awaitable[None]]) -> None:
        """Start a task that ends with the connection, for whoever speaks HTTP on it."""
        self._spawn(task)

    def stop_waiting(self) -> None:
        """Have a `receive` that waits give None, for whoever speaks HTTP on it."""
        self._read_scope.cancel()

    def count_stalled(self) -> None:
        """Note that a client was cut off on a part of this connection."""
        self._on_cut(self, STALLED)

    @property
    def peer(self) -> str:
        """Tell the address of whoever is at the other end; empty where it has none."""
        client, _ = self._addresses
        return "" if client is None else client[0]

    @property
    def is_draining(self) -> bool:
        """Tell whether the server stops, so that the answer in hand is the last here."""
        return self.context.terminated.is_set()

    async def protocol_send(self, event: Event) -> None:
        """Write, end or re-time the connection for hypercorn's protocols."""
        if isinstance(event, RawData):
            # Two tasks come here, the reader (answers to pings, errors) and the handler's; the
            # pipe puts them, and the fast lane, into one order.
            try:
                await self.pipe.write(event.data)
            except trio.BrokenResourceError:
                await self.protocol.handle(Closed())
        elif isinstance(event, Closed):
            await self._close()
            await self.protocol.handle(Closed())
        elif isinstance(event, Updated):
            self._enter(Phase.IDLE if event.idle else Phase.ANSWERING)

    async def _handshake(self) -> str | None:
        if self._tls is None:
            return "http/1.1"
        try:
            with trio.fail_after(self._settings.handshake_s):
                await self._tls.do_handshake()
        except (trio.BrokenResourceError, trio.TooSlowError):
            return None
        return self._tls.selected_alpn_protocol() or "http/1.1"

    async def _serve_http2(self, nursery: trio.Nursery) -> None:
        self._http2 = http2 = Http2(
            self._plain_app,
            self,
            self._settings,
            ConnectionState({**self.state, TRANSPORT_KEY: self}),
            self._addresses,
        )
        await http2.serve()
        await self._close()
        nursery.cancel_scope.cancel()

    async def _serve_plain(self) -> bool:
        """Serve requests until the connection is to end; whether it goes on as a WebSocket."""
        plain = self._plain = self._make_plain()
        handshake = await plain.serve()
        if handshake is None:
            return False
        self._upgrade(handshake, plain.reader.take_all())
        self._plain = None
        return True

    async def _serve_by_library(self, nursery: trio.Nursery) -> bool:
        # Made here: `TaskGroup` would let its own cancellation escape to its parent.
        self._task_group = task_group = TaskGroup()
        task_group._nursery = nursery
        self.protocol = self._make_protocol(task_group)
        await self.protocol.initiate()
        await self._read_data()
        http = self.protocol.protocol
        if isinstance(http, Http1) and http.handshake is not None:
            self._upgrade(http.handshake, http.take_all())
            return True
        # The client has left or was sent away. The handler hears `http.disconnect`; one that never
        # listens has this long (REL-30). Set before the protocol is told: telling may wait for
        # room in the handler's queue.
        nursery.cancel_scope.deadline = trio.current_time() + self._settings.gone_grace_s
        await self.protocol.handle(Closed())
        return False

    def _upgrade(self, handshake: Head, first: bytes) -> None:
        scope = websocket_scope(
            handshake,
            ConnectionState({**self.state, TRANSPORT_KEY: self}),
            self._addresses,
            is_tls=self._tls is not None,
            tells_extensions=self._settings.agrees_to_deflate,
        )
        self._socket = WebSocket(self._plain_app, handshake, scope, first, self, self._settings)

    async def _receive_late(self) -> bytes | None:
        """Read what a client still sends that was answered already; its bytes are thrown away."""
        return await self.receive(Phase.LINGERING, self._read_deadline())

    def _http(self) -> Http1 | PlainHttp | WebSocket | None:
        """Tell who speaks HTTP/1.1 here; nobody where it is HTTP/2, or no byte was read."""
        if self._socket is not None:
            return self._socket
        if self._plain is not None:
            return self._plain
        protocol = getattr(self, "protocol", None)
        found = None if protocol is None else protocol.protocol
        return found if isinstance(found, Http1) else None

    def _make_plain(self) -> PlainHttp:
        return PlainHttp(
            self._plain_app,
            self,
            self._settings,
            self._watchman,
            ConnectionState({**self.state, TRANSPORT_KEY: self}),
            self._addresses,
            is_tls=self._tls is not None,
        )

    def _make_protocol(self, task_group: TaskGroup) -> ProtocolWrapper:
        client, server = self._addresses
        state = ConnectionState({**self.state, TRANSPORT_KEY: self})
        is_tls = self._tls is not None
        wrapper = ProtocolWrapper(
            self.app,
            self.config,
            self.context,
            task_group,
            state,
            is_tls,
            client,
            server,
            self.protocol_send,
            "http/1.1",
        )
        # The wrapper has made hypercorn's own; it is replaced before a byte was read.
        wrapper.protocol = Http1(
            self.app,
            self.config,
            self.context,
            task_group,
            state,
            (client, server),
            self.protocol_send,
            is_tls=is_tls,
            settings=self._settings,
        )
        self._enter(Phase.HEAD)
        return wrapper

    async def _read_data(self) -> None:
        # One scope a read, never one for all: a phase that ended its wait (408, the drain of an
        # idle connection) must not have cancelled the next one.
        while True:
            with trio.CancelScope(deadline=self._read_deadline()) as self._read_scope:
                try:
                    data = await self.stream.receive_some(RECEIVE_BYTES)
                except _GONE:
                    return
            if self._read_scope.cancelled_caught:
                if self._phase is Phase.LINGERING:
                    return
                await self._end_of_patience()
                if self._is_closed:
                    return
                continue  # our side is shut, theirs is not: read on, to the end of lingering
            # Half-closed: what a lingering client still sends is read and thrown away, so that the
            # kernel does not answer it with a reset that destroys our answer on its way.
            if self._phase is not Phase.LINGERING:
                await self.protocol.handle(RawData(bytes(data)))
                self._follow_request()
                http = self.protocol.protocol
                if isinstance(http, Http1) and http.handshake is not None:
                    return
            if not data:
                # Their half is closed. The parser heard it (an empty `RawData`), and browsers do
                # not half-close and wait: a client that shuts its side has left.
                return

    def _read_deadline(self) -> float:
        return self._phase_began + allowed_s(self._phase, self._settings)

    def _follow_request(self) -> None:
        """Move the phase after bytes were parsed; the parser knows what it lacks."""
        http = self.protocol.protocol
        if self._phase is Phase.LINGERING or not isinstance(http, Http1):
            return
        if http.handshake is not None or self._is_closed:
            return
        if http.is_reading_body:
            self._enter(Phase.BODY, keep_time=True)
        elif http.is_between_requests and http.has_started_head:
            self._enter(Phase.HEAD, keep_time=True)
        elif not http.is_between_requests:
            self._enter(Phase.ANSWERING)

    def _enter(self, phase: Phase, *, keep_time: bool = False) -> None:
        # `keep_time`: a head or body that comes byte by byte has one deadline, not one a byte.
        if self._phase is Phase.LINGERING or (keep_time and phase is self._phase):
            return
        self._phase = phase
        self._phase_began = trio.current_time()
        if self._plain is None and self._socket is None:  # which tell theirs at each read
            self._read_scope.deadline = self._read_deadline()

    def _has_bytes(self) -> bool:
        http = self._http()
        return http is not None and http.has_started_head

    async def _end_of_patience(self) -> None:
        """Answer 408 where a request was due (REL-14); a connection at rest just ends."""
        http = self.protocol.protocol
        is_due = self._phase is Phase.BODY or (self._phase is Phase.HEAD and not self.is_draining)
        if is_due and isinstance(http, Http1):
            await http.answer_late(STOPPING if self.is_draining else LATE)
        await self._close()

    async def _close(self) -> None:
        """End our side after what is pending; linger only while the client still writes."""
        # After an answer to a request that was not read to its end (408, 413, 431) a plain `close`
        # would make the kernel reset the connection, and the client might never see the answer.
        # So: everything out, our half shut, and read on for a second (RFC 9112, 9.6).
        if self._is_closed or self._phase is Phase.LINGERING:
            return
        await self.pipe.wait_idle()
        http = self._http()
        may_still_write = http is not None and http.may_still_receive
        if self._tls is not None:
            with trio.move_on_after(self._settings.linger_s):
                await self._say_goodbye(self._tls)
        if not may_still_write or self.pipe.broken or self._tls is not None:
            self._close_now()
            return
        try:
            self._raw.socket.shutdown(trio.socket.SHUT_WR)
        except OSError:
            self._close_now()
            return
        self._enter(Phase.LINGERING)

    def _close_now(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        self.pipe.close()
        self._raw.socket.close()

    @staticmethod
    async def _say_goodbye(tls: trio.SSLStream[trio.SocketStream]) -> None:
        try:
            await tls.aclose()
        except _GONE:
            pass  # the peer left first
        except trio.BusyResourceError:
            pass  # the reader still waits; it wakes when the socket closes

    def _reset(self, reason: str) -> None:
        """Free the descriptor without waiting for anyone, and end every task of the connection."""
        if not self._is_closed:
            self._is_closed = True
            # Linger of no seconds: the kernel forgets what it still holds for this client and
            # sends a reset, so nothing of a stalled connection outlives it (REL-11).
            linger = struct.pack("ii", 1, 0)
            try:
                self._raw.socket.setsockopt(
                    stdlib_socket.SOL_SOCKET, stdlib_socket.SO_LINGER, linger
                )
            except OSError:
                pass  # closed already: TLS closes it itself, and `_close` goes on a turn later
            self._raw.socket.close()
            error = failure_of(self._on_cut, self, reason)
            if error is not None:
                log.error("server.cut_not_told", exc_info=error)
        # Called by the pipe, so perhaps from a task of this nursery: it is cancelled at its next
        # checkpoint and may not wait here.
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    def _spawn(self, task: Callable[[], Awaitable[None]]) -> None:
        assert self._nursery is not None, "nothing is written before the connection runs"
        self._nursery.start_soon(task)

    async def _send_tls(self, piece: memoryview) -> None:
        assert self._tls is not None
        await self._tls.send_all(piece)


def transport_of(scope: Mapping[str, object]) -> Transport | None:
    """Call this with an ASGI scope to get its connection; None under another server."""
    state = scope.get("state")
    found = state.get(TRANSPORT_KEY) if isinstance(state, Mapping) else None
    return found if isinstance(found, Transport) else None
