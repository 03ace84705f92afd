"""A WebSocket endpoint as an ASGI application: handshake, caps, reading, closing.

The origin was judged by the edge (SEC-40). Each accepted socket gets a `Connection` actor and an
`Outlet`; this file only passes messages in and ends the socket when either side wants it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Generic, TypeVar
from urllib.parse import parse_qs
from uuid import UUID

import trio
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope, WebsocketScope

from actors.runtime import NoProc, Ref
from web.realtime.errors import BadClientId
from web.realtime.socket.connection import (
    BytesCame,
    Caller,
    Connection,
    EndpointSettings,
    HangUp,
    LookAlive,
    TextCame,
)
from web.realtime.socket.messages import V1, Form
from web.realtime.socket.outlet import Outlet
from web.realtime.socket.protocol import CloseCode
from web.server import (
    CLOSE_BATCH,
    CLOSE_PAUSE_S,
    WIRE_KEY,
    Answer,
    ErrorRow,
    Rendering,
    Wire,
    render_error,
    request_state,
)

P = TypeVar("P")
ConnectionRef = Ref[TextCame | BytesCame | LookAlive | HangUp]
MakeConnection = Callable[[], Connection[P]]

# What was taken before a close is written in this time, or not at all.
_FLUSH_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketCaps:
    """Holds how many sockets may be open (SEC-48)."""

    total: int = 10_000
    per_user: int = 10
    per_address: int = 50


def client_of(scope: WebsocketScope) -> UUID | None:
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


class SocketEndpoint(Generic[P]):
    """Serves one WebSocket path.

    `caller_of(scope)` tells who it is, None refuses with 401; `start(make)` starts the actor that
    `make()` builds under its supervisor and gives its ref.
    """

    def __init__(
        self,
        settings: EndpointSettings[P],
        *,
        caller_of: Callable[[WebsocketScope], Awaitable[Caller[P] | None]],
        start: Callable[[MakeConnection[P]], Awaitable[ConnectionRef]],
        caps: SocketCaps | None = None,
    ) -> None:
        self._settings = settings
        self._caller_of = caller_of
        self._start = start
        self._caps = caps or SocketCaps()
        self._open: dict[Outlet, tuple[str, str]] = {}
        self._per_user: dict[str, int] = {}
        self._per_address: dict[str, int] = {}
        self.is_draining = False

    def __repr__(self) -> str:
        return f"<SocketEndpoint open={len(self._open)}>"

    def __len__(self) -> int:
        return len(self._open)

    async def __call__(
        self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        """Serve one socket from handshake to close."""
        assert scope["type"] == "websocket", "only WebSocket paths are given to an endpoint"
        await receive()
        wire = _wire(scope.get("state"))
        address = request_state(scope).address
        try:
            client_of(scope)
        except BadClientId as error:
            await _deny(scope, send, replace(Answer.INVALID.value, text=str(error)))
            return
        caller = await self._caller_of(scope)
        refused = Answer.UNAUTHENTICATED.value
        if caller is not None:
            # Counted in `_serve`, behind the checkpoint of `accept`: a burst may pass the caps by
            # as many as are being accepted at once, and none is counted that was never open.
            refusal = self._over_caps(caller.user, address)
            # HTTP/2 sockets have no lane of their own; clients fall back to HTTP/1.1.
            if refusal is None and wire is not None:
                form = Form.V1 if V1 in scope["subprotocols"] else Form.PLAIN
                chosen = None if form is Form.PLAIN else form.value
                await send({"type": "websocket.accept", "subprotocol": chosen, "headers": []})
                await self._serve(caller, address, wire, form, receive, send)
                return
            refused = refusal or Answer.UNAVAILABLE.value
        await _deny(scope, send, refused)

    def close_user(self, user: str, code: CloseCode, reason: str = "") -> int:
        """Call this when a session ends, a user is banned: their sockets close at once."""
        found = [outlet for outlet, (owner, _) in self._open.items() if owner == user]
        for outlet in found:
            outlet.close(code, reason)
        return len(found)

    async def close_all(self, reason: str = "the server restarts") -> None:
        """Call this as step 5 of a drain: 200 sockets per 100 ms get 1001."""
        self.is_draining = True
        outlets = [*self._open]
        for at in range(0, len(outlets), CLOSE_BATCH):
            if at:
                await trio.sleep(CLOSE_PAUSE_S)
            for outlet in outlets[at : at + CLOSE_BATCH]:
                outlet.close(CloseCode.GOING_AWAY, reason)

    async def _serve(
        self,
        caller: Caller[P],
        address: str,
        wire: Wire,
        form: Form,
        receive: ASGIReceiveCallable,
        send: ASGISendCallable,
    ) -> None:
        outlet = Outlet(wire.lane, form)
        self._count(outlet, caller.user, address)
        ref: ConnectionRef | None = None
        try:
            make = partial(Connection, self._settings, caller, outlet, wire)
            ref = await self._start(make)
            # Whoever is first ends it: the client (`_read` cancels), or our side (`closing`).
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_read, receive, ref, outlet, nursery.cancel_scope)
                await outlet.closing.wait()
                nursery.cancel_scope.cancel()
            if outlet.closing.is_set():
                await outlet.wait_flushed(_FLUSH_S)
                await send(
                    {
                        "type": "websocket.close",
                        "code": int(outlet.close_code),
                        "reason": outlet.close_reason,
                    }
                )
        finally:
            self._uncount(outlet)
            outlet.close(CloseCode.NORMAL, "the client left")
            if ref is not None:
                ref.tell(HangUp())

    def _over_caps(self, user: str, address: str) -> ErrorRow | None:
        if self.is_draining or len(self._open) >= self._caps.total:
            return Answer.UNAVAILABLE.value
        if self._per_user.get(user, 0) >= self._caps.per_user:
            return Answer.RATE_LIMITED.value
        if self._per_address.get(address, 0) >= self._caps.per_address:
            return Answer.RATE_LIMITED.value
        return None

    def _count(self, outlet: Outlet, user: str, address: str) -> None:
        self._open[outlet] = (user, address)
        self._per_user[user] = self._per_user.get(user, 0) + 1
        self._per_address[address] = self._per_address.get(address, 0) + 1

    def _uncount(self, outlet: Outlet) -> None:
        user, address = self._open.pop(outlet)
        for counts, key in ((self._per_user, user), (self._per_address, address)):
            counts[key] -= 1
            if not counts[key]:
                del counts[key]


async def _read(
    receive: ASGIReceiveCallable, ref: ConnectionRef, outlet: Outlet, scope: trio.CancelScope
) -> None:
    """Pass messages to the actor until the socket is gone; waits while its mailbox is full.

    That wait is the backpressure on who sends too much: nothing is received meanwhile, hypercorn's
    queue fills, its reader waits, and the client's TCP window closes.
    """
    while True:
        message = await receive()
        if message["type"] != "websocket.receive":
            scope.cancel()
            return
        text = message.get("text")
        try:
            await ref.send(BytesCame() if text is None else TextCame(text))
        except NoProc:
            # It is ending and has closed the socket, or it was killed and could not.
            outlet.close(CloseCode.BUG, "its actor ended")
            return


async def _deny(scope: WebsocketScope, send: ASGISendCallable, row: ErrorRow) -> None:
    state = request_state(scope)
    headers, body = render_error(row, Rendering.API, request_id=state.request_id, nonce=state.nonce)
    await send({"type": "websocket.http.response.start", "status": row.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body, "more_body": False})


def _wire(state: Mapping[str, object] | None) -> Wire | None:
    found = None if state is None else state.get(WIRE_KEY)
    return found if isinstance(found, Wire) else None
