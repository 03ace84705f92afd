"""A WebSocket endpoint as an ASGI application: handshake, caps, messages in, the end.

The origin was judged by the edge (SEC-40). Each accepted socket gets a `Connection` actor and an
`Outlet`, and is handed to its connection as an `OpenSocket`: it passes messages in and tells when
either side wants the end. Nothing of the handshake stays (PERF-23).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import blake2b
from math import inf
from os import urandom
from typing import Generic, TypeVar
from urllib.parse import parse_qs
from uuid import UUID, uuid4

import trio
from hypercorn.typing import (
    ASGIReceiveCallable,
    ASGISendCallable,
    HTTPScope,
    Scope,
    WebsocketScope,
)

from actors.runtime import Context, NoProc, Ref, current_spans, edge_context
from actors.runtime.telling.spans import root_of
from web.realtime.errors import BadClientId, StreamsFull, TooManyStreams
from web.realtime.socket.connection import (
    BytesCame,
    Caller,
    Connection,
    EndpointSettings,
    HangUp,
    Messages,
    TextCame,
)
from web.realtime.socket.messages import V1, Form
from web.realtime.socket.outlet import FLUSH_S, Outlet
from web.realtime.socket.protocol import CloseCode
from web.server import (
    CLOSE_BATCH,
    CLOSE_PAUSE_S,
    WIRE_KEY,
    Answer,
    ErrorRow,
    Rendering,
    Wire,
    counted_as,
    render_error,
    request_state,
)

P = TypeVar("P")
ConnectionRef = Ref[Messages]
MakeConnection = Callable[[], Connection[P]]

# So many messages of a client not dealt with, and another may have to wait for room: half of what
# the actor's mailbox holds, for timers take places in it too.
BUSY_FROM = Connection.capacity // 2
# SEC-48: who has too many sockets must close one first.
FULL_RETRY_S = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketCaps:
    """Holds how many sockets may be open (SEC-48)."""

    total: int = 10_000
    per_user: int = 10
    per_address: int = 50


def client_of(scope: WebsocketScope | HTTPScope) -> UUID | None:
    """Call this for the id a client program gave itself with `?client=<uuid>`; None without one.

    Raises `BadClientId` for what is no UUID, or for two of them.
    """
    query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    given = query.get("client")
    if given is None:
        return None
    try:
        (text,) = given
        return UUID(text)
    except ValueError:
        raise BadClientId from None


def guest_of(client: UUID) -> UUID:
    """Call this for the guest that a program without a cookie is each time it names itself.

    Its id is random and its own, so nobody else becomes that guest by accident.
    """
    digest = blake2b(client.bytes, digest_size=16, person=b"gr-client").digest()
    return UUID(bytes=digest, version=4)


@dataclass(slots=True)
class Hold:
    """A place among the open connections; `release` gives it back and may be repeated."""

    user: str
    address: str
    release: Callable[[], None] = field(default=lambda: None)
    # Names it to its own user, and tells them since when it is open.
    number: int = 0
    opened_at: float = 0.0


@dataclass(frozen=True, slots=True)
class SocketStatistics:
    """What became of the messages for one open connection, as its own user may see it."""

    number: int
    opened_at: float
    waiting: int
    replaced: int
    dropped: int


@dataclass(slots=True)
class SocketSums:
    """What became of the messages of sockets, and how many were refused; sums never fall.

    Handed from one endpoint to the next, when the server is restarted alone.
    """

    sent: int = 0
    dropped: int = 0
    refused: int = 0

    def add(self, outlet: Outlet) -> None:
        """Call this with one that is over, or to count an open one in."""
        told = outlet.statistics()
        self.sent += told.delivered
        self.dropped += told.dropped + told.replaced


class SocketEndpoint(Generic[P]):
    """Serves one WebSocket path.

    `caller_of(scope)` tells who it is, None refuses with 401 and an `Answer` with itself;
    `start(make)` starts the actor that `make()` builds under its supervisor and gives its ref.
    """

    def __init__(
        self,
        settings: EndpointSettings[P],
        *,
        caller_of: Callable[[WebsocketScope], Awaitable[Caller[P] | Answer | None]],
        start: Callable[[MakeConnection[P]], Awaitable[ConnectionRef]],
        caps: SocketCaps | None = None,
        gone: SocketSums | None = None,
    ) -> None:
        self.gone = SocketSums() if gone is None else gone
        self._settings = settings
        self._caller_of = caller_of
        self._start = start
        self._caps = caps or SocketCaps()
        self._open: dict[Outlet, Hold] = {}
        self._counted = 0
        # The same, by whose they are, oldest first.
        self._by_user: dict[str, dict[Outlet, Hold]] = {}
        self._per_address: dict[str, int] = {}
        self.is_draining = False

    def __repr__(self) -> str:
        return f"<SocketEndpoint open={len(self._open)}>"

    def __len__(self) -> int:
        return len(self._open)

    @property
    def queued(self) -> int:
        """Count the messages that wait for readers."""
        return sum(outlet.queued for outlet in self._open)

    def outlets(self) -> list[Outlet]:
        """Call this for every open connection."""
        return [*self._open]

    async def __call__(
        self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        """Serve one socket from handshake to close."""
        assert scope["type"] == "websocket", "only WebSocket paths are given to an endpoint"
        await receive()
        wire = wire_of(scope.get("state"))
        address = counted_as(request_state(scope).address)
        try:
            client_of(scope)
        except BadClientId as error:
            await deny(scope, send, replace(Answer.INVALID.value, text=str(error)))
            return
        caller = await self._caller_of(scope)
        refused = (caller if isinstance(caller, Answer) else Answer.UNAUTHENTICATED).value
        if isinstance(caller, Caller):
            refusal = self._over_caps(caller.user, address)
            # HTTP/2 sockets have no lane of their own; clients fall back to HTTP/1.1.
            if refusal is None and wire is not None:
                form = Form.V1 if V1 in scope["subprotocols"] else Form.PLAIN
                await self._accept(caller, address, wire, form, send)
                return
            refused = refusal or Answer.UNAVAILABLE.value
            self.gone.refused += 1
        await deny(scope, send, refused)

    def users(self) -> set[str]:
        """Call this for those who have a socket open."""
        return set(self._by_user)

    def close_user(self, user: str, code: CloseCode, reason: str = "") -> int:
        """Call this when a session ends (4401), a user is banned (4403): their sockets close."""
        found = [*self._by_user.get(user, ())]
        for outlet in found:
            outlet.close(code, reason)
        return len(found)

    def statistics_of(self, user: str) -> list[SocketStatistics]:
        """Call this for the connections of a user, oldest first."""
        found = []
        for outlet, known in self._by_user.get(user, {}).items():
            told = outlet.statistics()
            found.append(
                SocketStatistics(
                    known.number, known.opened_at, told.waiting, told.replaced, told.dropped
                )
            )
        return found

    def drop(self, user: str, number: int, reason: str) -> bool:
        """Call this to close one connection of a user; False when they have none of that number."""
        for outlet, known in self._by_user.get(user, {}).items():
            if known.number == number:
                outlet.close(CloseCode.GOING_AWAY, reason)
                return True
        return False

    def check_caps(self, user: str, address: str) -> None:
        """Call this before `hold`; raises `TooManyStreams` or `StreamsFull` at a cap (SEC-48)."""
        row = self._over_caps(user, counted_as(address))
        if row is None:
            return
        self.gone.refused += 1
        if row.status == Answer.UNAVAILABLE.value.status:
            raise StreamsFull(self._caps.total)
        is_user = len(self._by_user.get(user, ())) >= self._caps.per_user
        raise TooManyStreams(
            *(("user", self._caps.per_user) if is_user else ("address", self._caps.per_address))
        )

    def hold(self, outlet: Outlet, user: str, address: str) -> Hold:
        """Call this to count a connection that is no WebSocket, and to have it drained too."""
        return self._count(outlet, user, counted_as(address))

    def begin_drain(self) -> None:
        """Call this when the server begins to stop: no new sockets, no new commands."""
        self.is_draining = True

    async def wait_answered(self) -> None:
        """Call this in a drain: waits until commands that came before it are answered."""
        self.begin_drain()
        for outlet in [*self._open]:
            await outlet.wait_answered()

    async def close_all(self, reason: str = "the server restarts") -> None:
        """Call this as step 5 of a drain: 200 sockets per 100 ms get 1001."""
        self.is_draining = True
        outlets = [*self._open]
        for at in range(0, len(outlets), CLOSE_BATCH):
            if at:
                await trio.sleep(CLOSE_PAUSE_S)
            for outlet in outlets[at : at + CLOSE_BATCH]:
                outlet.close(CloseCode.GOING_AWAY, reason)

    async def _accept(
        self, caller: Caller[P], address: str, wire: Wire, form: Form, send: ASGISendCallable
    ) -> None:
        outlet, chosen = Outlet(wire.lane, form), None if form is Form.PLAIN else form.value
        # Counted before the first checkpoint: a burst does not pass the caps either.
        self._count(outlet, caller.user, address)
        socket = OpenSocket(self, outlet)
        is_kept = False
        try:
            await send({"type": "websocket.accept", "subprotocol": chosen, "headers": []})
            make = partial(Connection, self._settings, caller, outlet, wire)
            socket.ref = await self._start(make)
            wire.hand_over(socket)
            is_kept = True
        finally:
            if not is_kept:
                socket.hang_up()

    def _over_caps(self, user: str, address: str) -> ErrorRow | None:
        if self.is_draining:
            return Answer.UNAVAILABLE.value
        caps = self._caps
        if len(self._open) >= caps.total:
            return _full(Answer.UNAVAILABLE, f"all {caps.total} sockets are in use")
        for whose, count, limit in (
            ("you have", len(self._by_user.get(user, ())), caps.per_user),
            ("your address has", self._per_address.get(address, 0), caps.per_address),
        ):
            if count >= limit:
                return _full(
                    Answer.RATE_LIMITED, f"{whose} {count} open sockets, and may have no more"
                )
        return None

    def _count(self, outlet: Outlet, user: str, address: str) -> Hold:
        self._counted += 1
        release, now = partial(self.release, outlet), trio.current_time()
        known = self._open[outlet] = Hold(user, address, release, self._counted, now)
        self._by_user.setdefault(user, {})[outlet] = known
        self._per_address[address] = self._per_address.get(address, 0) + 1
        return known

    def release(self, outlet: Outlet) -> None:
        """Call this when a connection is over; may be repeated."""
        known = self._open.pop(outlet, None)
        if known is None:
            return
        self.gone.add(outlet)
        of_user = self._by_user[known.user]
        del of_user[outlet]
        if not of_user:
            del self._by_user[known.user]
        self._per_address[known.address] -= 1
        if not self._per_address[known.address]:
            del self._per_address[known.address]


class OpenSocket:
    """One accepted socket, as its connection keeps it."""

    __slots__ = ("_due", "_endpoint", "_outlet", "ref")

    def __init__(self, endpoint: SocketEndpoint[P], outlet: Outlet) -> None:
        self._endpoint, self._outlet = endpoint, outlet
        # When the close frame is due, since it is wanted.
        self._due = inf
        # Its actor; None until that has started.
        self.ref: ConnectionRef | None = None

    def __repr__(self) -> str:
        return f"<OpenSocket {self._outlet!r}>"

    @property
    def ends_by(self) -> float:
        """Tell when our close frame is due: never (inf) while it goes on."""
        if not self._outlet.closing.is_set():
            return inf
        if self._due == inf:
            self._due = trio.current_time() + FLUSH_S
        return self._due if self._outlet.queued else 0.0

    @property
    def end(self) -> tuple[int, str]:
        """Tell the code and reason of our close."""
        return int(self._outlet.close_code), self._outlet.close_reason

    @property
    def is_busy(self) -> bool:
        """Tell whether `take` may wait long."""
        return self._outlet.unanswered >= BUSY_FROM

    def wake_by(self, wake: Callable[[], None]) -> None:
        """Have `wake` called when our side wants the end, and when all before it is written."""
        self._outlet.on_closing = wake

    async def take(self, text: str | None) -> None:
        """Pass a message to the actor, a binary one as None; waits while its mailbox is full.

        That wait is the backpressure on who sends too much: nothing more is read meanwhile, and the
        client's TCP window closes.
        """
        assert self.ref is not None, "handed over with its actor"
        self._outlet.ask()
        try:
            # What a frame leads to is told apart from what the ones before it did.
            trace = None if current_spans() is None else root_of(urandom(16).hex())
            with edge_context(Context(str(uuid4()), traceparent=trace)):
                is_late = self._endpoint.is_draining
                await self.ref.send(BytesCame() if text is None else TextCame(text, is_late))
        except NoProc:
            # It is ending and has closed the socket, or it was killed and could not.
            self._outlet.close(CloseCode.BUG, "its actor ended")

    def hang_up(self) -> None:
        """Give everything back: the client is gone, or was never let in."""
        self._endpoint.release(self._outlet)
        self._outlet.on_closing = None
        self._outlet.close(CloseCode.NORMAL, "the client left")
        self._outlet.end()
        if self.ref is not None:
            self.ref.tell(HangUp())


def _full(answer: Answer, what: str) -> ErrorRow:
    # Not a matter of speed, as the row says: a second later it is the same.
    text = f"No socket was opened: {what}. Close one, or come back later."
    return replace(answer.value, text=text, retry_after_s=FULL_RETRY_S)


async def deny(scope: WebsocketScope, send: ASGISendCallable, row: ErrorRow) -> None:
    """Call this behind the first `receive` to answer a handshake that opens nothing."""
    state = request_state(scope)
    headers, body = render_error(row, Rendering.API, request_id=state.request_id, nonce=state.nonce)
    await send({"type": "websocket.http.response.start", "status": row.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body, "more_body": False})


def wire_of(state: Mapping[str, object] | None) -> Wire | None:
    """Call this for what a handler may use of its socket; None where it has no lane of its own."""
    found = None if state is None else state.get(WIRE_KEY)
    return found if isinstance(found, Wire) else None
