"""HTTP/2 on one connection: many requests at once, each at its own pace.

Frames and their states are the library h2's; what is here is who waits for whom.

Rule 1: the reader never waits for an application: what it has not taken of a body is held, within
        the window that the client was given for it, and the window opens as it is taken.
Rule 2: one task writes the answers, a frame of each in turn, so that none waits for another's
        client; what an application may be ahead of its client is `AHEAD_BYTES`.
Rule 3: a stream that has something to say and no window for `write_stall_s` is reset (REL-12).
Rule 4: a request is an application's task with a scope of its own. A client that resets it or
        leaves is told as `http.disconnect`, and ends the task after `gone_grace_s` (REL-30).

A request's head is spelled as HTTP/1.1 would have it and judged by the same grammar. WebSockets are
not offered here: clients take HTTP/1.1 for them.
"""

from __future__ import annotations

import math
import struct
from typing import Protocol, cast
from urllib.parse import unquote

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import hpack
import trio
from hypercorn.typing import (
    ASGIFramework,
    ASGIReceiveEvent,
    ASGISendEvent,
    ConnectionState,
    HTTPResponseStartEvent,
    HTTPScope,
)

from actors.runtime import Log
from web.server.connection.http.answers import date_header
from web.server.connection.http.exchange import FAILED, LATE, STOPPING, run_application
from web.server.connection.http.exchange import Link as ExchangeLink
from web.server.connection.http.plain import WATCHED, Address
from web.server.connection.settings import Phase, TransportSettings, allowed_s
from web.server.reading.heads import Head, HeaderList, Refusal
from web.server.reading.http2_heads import (
    announced_length,
    hide_length,
    is_http2_trailer,
    read_http2_head,
)

log = Log(__name__)

# What browsers open at once on a page with many parts; the number that the standard advises.
STREAMS_MAX = 100
# Of one body that no application has taken: what the standard begins with.
BODY_WINDOW = 65_535
# Two frames: the next one is at hand while the first is on its way.
AHEAD_BYTES = 32 * 1024
# A client that sends requests and resets them at once makes work for nothing. Whoever leaves a
# page resets what it had open, which is `STREAMS_MAX` at most.
RESETS_MAX = 200
RESETS_PER_S = 1.0
_GOAWAY = 7
# Of HTTP/1.1 alone, or written here.
_DROPPED = frozenset(
    {b"connection", b"transfer-encoding", b"date", b"keep-alive", b"upgrade", b"proxy-connection"}
)
_Code = h2.errors.ErrorCodes


class Link(ExchangeLink, Protocol):
    """What it needs of its connection; a phase that is entered again has its time anew."""

    def stop_waiting(self) -> None:
        """Have `receive` give None now, if it waits."""

    def count_stalled(self) -> None:
        """Note that a client was cut off for not reading."""


class Http2:
    """Speaks HTTP/2 on one connection; `serve` is its whole life."""

    def __init__(
        self,
        app: ASGIFramework,
        link: Link,
        settings: TransportSettings,
        state: ConnectionState,
        addresses: tuple[Address, Address],
    ) -> None:
        self.app, self.link, self.settings, self.state = app, link, settings, state
        self.client, self.server = addresses
        # Heads are looked at in `reading/http2_heads.py`: a bad one ends its stream, not all.
        config = h2.config.H2Configuration(
            client_side=False,
            header_encoding=None,
            validate_inbound_headers=False,
            normalize_inbound_headers=False,
        )
        self.frames = h2.connection.H2Connection(config)
        self.frames.decoder = _Decoder()
        self._streams: dict[int, Request] = {}
        self._begun = 0
        # Something to write, and something for the watch to look at.
        self._work = trio.Event()
        self._look = trio.Event()
        self._look_due = math.inf
        self._stall_s = settings.write_stall_s
        self._has_said_goodbye, self._goodbye = False, b""
        self._is_over = False
        self._at_rest = trio.Event()
        self._rest_began = trio.current_time()
        self._resets, self._resets_since = 0, -math.inf

    # -- the connection's life -------------------------------------------------------------------

    async def serve(self) -> None:
        """Serve until the connection is to end; what it had in hand is over on return."""
        self._greet()
        await self.flush()
        self.link.spawn(self._write)
        self.link.spawn(self._watch)
        while not self._is_over:
            phase = self._phase
            # One time for a head that comes byte by byte, not one a byte.
            limit = self._rest_began + allowed_s(phase, self.settings)
            data = await self.link.receive(phase, limit)
            if data is None:
                break
            if not data:
                self._lose_all()
                break
            self._take(data)
            await self.flush()
        self.say_goodbye()
        await self.flush()
        while self._streams:
            self._at_rest = trio.Event()
            await self._at_rest.wait()

    @property
    def waits_for_client(self) -> bool:
        """Tell whether every answer in hand has no window: its client does not read."""
        return all(request.blocked_at is not None for request in self._streams.values())

    def drain(self) -> None:
        """Call this when the server stops: no further request, and whoever stalls has to hurry."""
        self._stall_s = min(self._stall_s, self.settings.write_stall_draining_s)
        for request in self._streams.values():
            request.hurry()
        self._look.set()
        self.say_goodbye()
        self.link.spawn(self.flush)

    def say_goodbye(self, code: int = _Code.NO_ERROR) -> None:
        """Call this to tell the client that no further request will be taken; flush after it."""
        if self._has_said_goodbye:
            return
        self._has_said_goodbye = True
        # Not by h2, for which the connection would be over: answers in hand still go out.
        payload = struct.pack(">II", self.frames.highest_inbound_stream_id, code)
        head = struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", _GOAWAY, 0, 0)
        self._goodbye = head + payload

    async def flush(self) -> None:
        """Call this after frames were made, to write them; a client that is gone is no error."""
        data, self._goodbye = self.frames.data_to_send() + self._goodbye, b""
        try:
            await self.link.pipe.write(data)
        except trio.BrokenResourceError:
            self._lose_all()

    def _greet(self) -> None:
        codes = h2.settings.SettingCodes
        self.frames.local_settings = h2.settings.Settings(
            client=False,
            initial_values={
                codes.MAX_CONCURRENT_STREAMS: STREAMS_MAX,
                codes.MAX_HEADER_LIST_SIZE: self.settings.header_bytes_max,
            },
        )
        self.frames.initiate_connection()
        # Of the connection as a whole as much as of all requests together, so that one that is
        # not read holds up no other.
        self.frames.increment_flow_control_window(STREAMS_MAX * BODY_WINDOW)

    @property
    def _phase(self) -> Phase:
        if self._streams:
            return Phase.ANSWERING
        return Phase.IDLE if self._begun else Phase.HEAD

    def _lose_all(self) -> None:
        self._is_over = True
        for request in list(self._streams.values()):
            request.lose()

    # -- what comes in ---------------------------------------------------------------------------

    def _take(self, data: bytes) -> None:
        try:
            events = self.frames.receive_data(data)
        except h2.exceptions.ProtocolError as error:
            # Its goodbye, with the code of the error, waits to be flushed.
            log.debug("server.http2_broken", error=type(error).__name__)
            self._has_said_goodbye = True
            self._lose_all()
            return
        for event in events:
            self._take_event(event)

    def _take_event(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.RequestReceived():
                self._begin(event)
            case h2.events.DataReceived(stream_id=number, data=data):
                padding = event.flow_controlled_length - len(data)
                request = self._streams.get(number)
                if request is None or not request.feed(data):
                    padding += len(data)
                self.taken(padding, number)
                if request is not None and request.is_overlong:
                    self._refuse_malformed(number)
            case h2.events.TrailersReceived(stream_id=number, headers=headers):
                if not is_http2_trailer(headers):
                    self._refuse_malformed(number)
            case h2.events.StreamEnded(stream_id=number):
                request = self._streams.get(number)
                if request is not None and not request.end_body():
                    self._refuse_malformed(number)
            case h2.events.StreamReset(stream_id=number):
                if number in self._streams:
                    self._streams[number].lose()
                self._count_reset()
            case h2.events.WindowUpdated() | h2.events.RemoteSettingsChanged():
                self._work.set()
            case h2.events.ConnectionTerminated():
                # For h2 the connection is over with it: no answer in hand could be written.
                self._lose_all()

    def _begin(self, event: h2.events.RequestReceived) -> None:
        number = event.stream_id
        # Those that were reset end a moment later.
        is_full = len(self._streams) >= 2 * STREAMS_MAX
        if is_full or self._has_said_goodbye:
            self.reset(number, _Code.REFUSED_STREAM)
            return
        self._begun += 1
        if self._begun >= self.settings.requests_max:
            self.say_goodbye()
        head = read_http2_head(event.headers, self.settings.head_limits)
        length = announced_length(event.headers)
        # RFC 9113 8.1.1: a handler would take it for an empty body.
        is_cut = event.stream_ended is not None and bool(length)
        if head is None or is_cut:
            self._refuse_malformed(number)
            return
        if not self._streams:
            self.link.enter(Phase.ANSWERING)
        request = self._streams[number] = Request(self, number, head, length)
        self.link.spawn(request.run)

    def _refuse_malformed(self, number: int) -> None:
        self.reset(number, _Code.PROTOCOL_ERROR)
        if number in self._streams:
            self._streams[number].lose()
        # As if the client had reset it: it costs the same, and may come as often.
        self._count_reset()

    def _count_reset(self) -> None:
        now = trio.current_time()
        if now - self._resets_since > RESETS_PER_S:
            self._resets, self._resets_since = 0, now
        self._resets += 1
        if self._resets >= RESETS_MAX and not self._is_over:
            log.warning("server.http2_resets", resets=self._resets)
            self._has_said_goodbye = False
            self.say_goodbye(_Code.ENHANCE_YOUR_CALM)
            self._lose_all()

    # -- what requests ask for -------------------------------------------------------------------

    def taken(self, count: int, number: int) -> None:
        """Call this when so many bytes of a body are held no more."""
        if count:
            try:
                self.frames.acknowledge_received_data(count, number)
            except h2.exceptions.ProtocolError:
                pass  # the connection is over

    def reset(self, number: int, code: int) -> None:
        """Call this to end a stream before its time; flush after it."""
        try:
            self.frames.reset_stream(number, code)
        except h2.exceptions.ProtocolError:
            pass  # it is over already, or the connection is

    def wake_writer(self) -> None:
        """Call this when a request has something to write."""
        self._work.set()

    def ended(self, number: int) -> None:
        """Call this when a request's task is over."""
        del self._streams[number]
        if self._streams:
            return
        self._at_rest.set()
        # The reader waits already: its time begins now, or is over.
        if self._has_said_goodbye:
            self._is_over = True
            self.link.stop_waiting()
        else:
            self._rest_began = trio.current_time()
            self.link.enter(Phase.IDLE)

    # -- what goes out ---------------------------------------------------------------------------

    async def _write(self) -> None:
        """Write the answers, a frame of each in turn; ends by cancellation."""
        while True:
            await self._work.wait()
            self._work = trio.Event()
            while [request for request in list(self._streams.values()) if self._put(request)]:
                await self.flush()

    def _put(self, request: Request) -> bool:
        """Give h2 a frame of an answer; False when there is none, or no window for it."""
        if not request.has_frame:
            return False
        try:
            window = self.frames.local_flow_control_window(request.number)
            size = max(0, min(window, self.frames.max_outbound_frame_size, len(request.ahead)))
            if not size and request.ahead:
                if request.blocked_at is None:
                    request.blocked_at = trio.current_time()
                    if math.isinf(self._look_due):
                        self._look.set()
                return False
            is_last = request.is_complete and size == len(request.ahead)
            self.frames.send_data(request.number, bytes(request.ahead[:size]), end_stream=is_last)
        except h2.exceptions.ProtocolError:
            request.lose()
            return False
        request.written(size, is_last=is_last)
        return True

    async def _watch(self) -> None:
        """Reset who has no window for too long; ends by cancellation."""
        while True:
            since = [one.blocked_at for one in self._streams.values() if one.blocked_at is not None]
            self._look_due = min(since, default=math.inf) + self._stall_s
            with trio.move_on_at(self._look_due):
                await self._look.wait()
            self._look = trio.Event()
            limit = trio.current_time() - self._stall_s
            for request in list(self._streams.values()):
                if request.blocked_at is not None and request.blocked_at <= limit:
                    self.reset(request.number, _Code.CANCEL)
                    self.link.count_stalled()
                    request.lose()
            await self.flush()


class Request:
    """One request on its way through an application, and its answer."""

    __slots__ = (
        "_answer_left",
        "_body",
        "_body_left",
        "_body_left_s",
        "_connection",
        "_fed",
        "_has_answered",
        "_head",
        "_is_body_over",
        "_is_bodyless",
        "_is_lost",
        "_is_read",
        "_is_written",
        "_patience",
        "_room",
        "_written",
        "ahead",
        "blocked_at",
        "is_complete",
        "number",
        "scope",
    )

    def __init__(
        self, connection: Http2, number: int, head: Head | Refusal, length: int | None
    ) -> None:
        self._connection, self.number, self._head = connection, number, head
        self.scope = trio.CancelScope()
        # Of the body: what came and was not taken, and whether there is more to come.
        self._body = bytearray()
        self._fed = trio.Event()
        self._is_body_over = self._is_read = False
        self._body_left_s = connection.settings.body_s
        # While the body is waited for.
        self._patience = trio.CancelScope()
        # Announced, and not here yet; None when its end says how long it is.
        self._body_left = length
        # Of the answer: what is not written yet, and whether that is all of it.
        self.ahead = bytearray()
        self.is_complete = self._is_written = False
        self.blocked_at: float | None = None
        self._room, self._written = trio.Event(), trio.Event()
        self._has_answered = self._is_bodyless = False
        self._answer_left: int | None = None
        self._is_lost = False

    async def run(self) -> None:
        """Serve it; a task of the connection."""
        try:
            with self.scope:
                await self._run()
        finally:
            self._connection.taken(len(self._body), self.number)
            self._connection.ended(self.number)
        await self._connection.flush()

    async def _run(self) -> None:
        has_failed = False
        if isinstance(self._head, Refusal):
            await self._refuse(self._head)
        else:
            scope = _scope(self._head, self._connection)
            has_failed = await run_application(self._connection.app, scope, self.receive, self.send)
        if self._is_lost:
            return
        if not self._has_answered:
            if not has_failed and isinstance(self._head, Head):
                path = self._head.target.partition(b"?")[0]
                log.error("server.request_not_answered", path=path)
            await self._refuse(FAILED)
        if not self._is_written:
            self._connection.reset(self.number, _Code.INTERNAL_ERROR)
        elif not self._is_body_over:
            # RFC 9113 8.1: answered already, so the rest of the body may stay where it is.
            self._connection.reset(self.number, _Code.NO_ERROR)

    # -- what comes in ---------------------------------------------------------------------------

    def feed(self, data: bytes) -> bool:
        """Take a piece of the body; False when nobody will ask for it."""
        if self._body_left is not None:
            self._body_left -= len(data)
        if self._has_ended() or self.is_overlong:
            return False
        self._body += data
        self._fed.set()
        return True

    @property
    def is_overlong(self) -> bool:
        """Tell whether more of the body came than was announced."""
        return self._body_left is not None and self._body_left < 0

    def end_body(self) -> bool:
        """Note that the body is here; False when it is another one than was announced."""
        if self._body_left:
            return False
        self._is_body_over = True
        self._fed.set()
        return True

    def lose(self) -> None:
        """Note that its client is gone: the application has a moment to see it."""
        if self._is_lost:
            return
        self._is_lost = True
        self.blocked_at = None
        self.ahead.clear()
        for event in (self._fed, self._room, self._written):
            event.set()
        self.scope.deadline = min(
            self.scope.deadline,
            trio.current_time() + self._connection.settings.gone_grace_s,
        )

    def hurry(self) -> None:
        """Call this when the server stops: what is not here of the body has a moment to come."""
        self._hurry_body()
        soon = trio.current_time() + self._body_left_s
        self._patience.deadline = min(self._patience.deadline, soon)

    def _hurry_body(self) -> None:
        limit = self._connection.settings.body_draining_s
        self._body_left_s = min(self._body_left_s, limit)

    async def receive(self) -> ASGIReceiveEvent:
        """ASGI's `receive`: the body piece by piece, then the client's end."""
        if self._is_read or self._has_ended():
            while not self._has_ended():
                self._fed = trio.Event()
                await self._fed.wait()
            await trio.lowlevel.checkpoint()
            return {"type": "http.disconnect"}
        await self._say_continue()
        began = trio.current_time()
        if self._connection.link.is_draining:
            self._hurry_body()
        # A loop that is late gives a piece whose time was over: there is none left for the next.
        with trio.move_on_after(max(0.0, self._body_left_s)) as self._patience:
            while not self._body and not self._is_body_over and not self._is_lost:
                self._fed = trio.Event()
                await self._fed.wait()
        self._body_left_s -= trio.current_time() - began
        if self._patience.cancelled_caught:
            await self._refuse(STOPPING if self._connection.link.is_draining else LATE)
        if self._has_ended():
            return {"type": "http.disconnect"}
        body = bytes(self._body)
        self._body.clear()
        self._is_read = self._is_body_over
        self._connection.taken(len(body), self.number)
        await self._connection.flush()
        return {"type": "http.request", "body": body, "more_body": not self._is_read}

    def _has_ended(self) -> bool:
        return self._is_lost or self._is_written

    async def _say_continue(self) -> None:
        head = self._head
        if isinstance(head, Head) and head.expects_continue and not self._has_answered:
            # REL-52: only now is it known that the body is wanted.
            head.expects_continue = False
            if not self._is_body_over:
                self._send_headers([(b":status", b"100")])
                await self._connection.flush()

    # -- what goes out ---------------------------------------------------------------------------

    @property
    def has_frame(self) -> bool:
        """Tell whether there is anything to write, be it the end."""
        return bool(self.ahead) or (self.is_complete and not self._is_written)

    def written(self, size: int, *, is_last: bool) -> None:
        """Note that a frame of the answer is on its way."""
        del self.ahead[:size]
        self.blocked_at = None
        if len(self.ahead) < AHEAD_BYTES:
            self._room.set()
        if is_last:
            self._is_written = True
            self._written.set()
            self._fed.set()

    async def send(self, message: ASGISendEvent) -> None:
        """ASGI's `send`; of a client that is gone it takes everything and does nothing."""
        if self._is_lost or self.is_complete:
            await trio.lowlevel.checkpoint()
        elif message["type"] == "http.response.start" and not self._has_answered:
            await self._begin(message)
        elif message["type"] == "http.response.body" and self._has_answered:
            body = bytes(message.get("body", b""))
            await self._go_on(body, is_last=not message.get("more_body", False))
        else:
            raise RuntimeError(f"{message['type']} has no place here")

    async def _begin(self, message: HTTPResponseStartEvent) -> None:
        status = int(message["status"])
        if not 200 <= status <= 999:
            raise ValueError(f"an answer's status is from 200 to 999, not {status}")
        headers: HeaderList = []
        for raw_name, value in message.get("headers", []):
            name = raw_name.lower()
            if name == b"content-length":
                self._answer_left = int(value)
            if name not in _DROPPED:
                headers.append((name, value))
        is_head = isinstance(self._head, Head) and self._head.method == b"HEAD"
        self._is_bodyless = is_head or status in (204, 304)
        self._send_headers([(b":status", b"%d" % status), *headers, date_header()])
        self._has_answered = True
        if self._answer_left is None and not self._is_bodyless:
            # A stream: its head says that it is open, whenever its first event comes.
            await self._connection.flush()

    def _send_headers(self, pairs: HeaderList) -> None:
        for pair in pairs:
            if any(mark in part for mark in b"\r\n\0" for part in pair):
                raise ValueError("an answer's header holds a control character; nothing was sent")
        try:
            self._connection.frames.send_headers(self.number, pairs)
        except h2.exceptions.ProtocolError:
            self.lose()  # the stream or the connection is over

    async def _go_on(self, body: bytes, *, is_last: bool) -> None:
        if not self._is_bodyless:
            if self._answer_left is not None:
                self._answer_left -= len(body)
                if self._answer_left < 0:
                    raise RuntimeError("an answer's body is longer than its content-length")
                if is_last and self._answer_left:
                    raise RuntimeError("an answer's body is shorter than its content-length")
            self.ahead += body
        self.is_complete = is_last
        self._connection.wake_writer()
        if is_last:
            await self._written.wait()
            return
        while len(self.ahead) >= AHEAD_BYTES and not self._is_lost:
            self._room = trio.Event()
            await self._room.wait()
        await trio.lowlevel.checkpoint()

    async def _refuse(self, refusal: Refusal) -> None:
        """End the request by our own answer, if none has begun."""
        if self._is_lost or self._has_answered:
            return
        log.debug("server.request_refused", status=int(refusal.status), rule=refusal.rule)
        settings = self._connection.settings
        peer = self._connection.link.peer
        answer = settings.error_response(refusal.status, refusal.rule, settings.is_tls, peer)
        start = {"type": "http.response.start", "status": answer.status, "headers": answer.headers}
        await self.send(cast("ASGISendEvent", start))
        await self.send({"type": "http.response.body", "body": answer.body, "more_body": False})


class _Decoder(hpack.Decoder):
    """Reads header blocks for h2, and hides from it what it would end the connection for."""

    def decode(self, data: bytes, raw: bool = False) -> list[hpack.HeaderTuple]:
        hidden = hide_length(super().decode(data, raw))
        return [hpack.HeaderTuple(name, value) for name, value in hidden]


def _scope(head: Head, connection: Http2) -> HTTPScope:
    raw_path, _, query = head.target.partition(b"?")
    path = raw_path.decode("ascii")
    return cast(
        "HTTPScope",
        {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.1"},
            "http_version": "2",
            "method": head.method.decode("ascii"),
            "scheme": "https",
            "path": unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "query_string": query,
            "root_path": "",
            "headers": head.headers,
            "client": connection.client,
            "server": connection.server,
            "state": ConnectionState(connection.state.copy()),
            "extensions": {WATCHED: {}},
        },
    )
