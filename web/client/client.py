"""A connection that is kept: it comes back by itself, and nothing is lost on the way.

`connect` gives a `Client` as long as its block runs. What is said and what it means is decided in
`session.py`; here are the socket, the times, and who waits for what.
"""

from __future__ import annotations

import enum
import logging
import random
import uuid
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import TypeAlias
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import msgspec
import trio
import trio_websocket

from web.client.errors import ClientClosed, CommandOverdue, QueueFull
from web.client.session import Acknowledged, Gap, Session, TopicEvent
from web.realtime import V1, Action, Ping, action_of, encode_client

_log = logging.getLogger("web.client")

# Misuse, a session that ended, a ban: coming back would change nothing.
_FINAL = frozenset({1008, 4401, 4403})
_RESTARTS = frozenset({1001, 1012})


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSettings:
    """Times in seconds, and how much may wait."""

    # Doubled with each try, with full jitter; from the start after a connection lived `steady_s`.
    delay_s_first: float = 1.0
    delay_s_max: float = 30.0
    steady_s: float = 10.0
    # All clients of a server that restarts must not come back in the same moment.
    restart_spread_s: float = 5.0
    ask_after_s: float = 20.0
    silence_s_max: float = 45.0
    connect_s_max: float = 10.0
    queue_max: int = 100
    # Of a subscription whose reader is behind; more is a `Gap`.
    events_max: int = 1000
    message_bytes_max: int = 2**20


class State(enum.Enum):
    """How a client is connected just now."""

    CONNECTING = "connecting"
    OPEN = "open"
    WAITING = "waiting"
    CLOSED = "closed"


Line: TypeAlias = "trio.SocketStream | trio.SSLStream[trio.SocketStream]"
Ticket = Callable[[], Awaitable[str | None]]


@asynccontextmanager
async def connect(
    url: str,
    *,
    client: str | None = None,
    ticket: Ticket | None = None,
    settings: ClientSettings | None = None,
) -> AsyncIterator[Client]:
    """Call this to speak with a greenroom server for as long as the block runs.

    `url` is `ws://` or `wss://`; `client` names this program across connections, `ticket` gets a
    one-time ticket for each. The block begins at once: what is said before the connection is open
    waits for it. Leaving the block closes the connection; what has no answer then raises
    `ClientClosed`. Cancellation leaves it as well.
    """
    made = Client(url, client or str(uuid.uuid4()), ticket, settings or ClientSettings())
    wrong: Exception | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.keep)
        try:
            yield made
        except Exception as error:  # noqa: BLE001 - raised below
            # Raised behind the nursery, which would put the caller's own error into a group.
            wrong = error
        finally:
            made.end(ClientClosed(1000, "the client was left"))
            nursery.cancel_scope.cancel()
    if wrong is not None:
        raise wrong


class Subscription:
    """Events of one topic, in order: iterate it within its `async with` block.

    Gives `TopicEvent`s, and a `Gap` where some were lost for good. Ends by `ClientClosed`.
    """

    def __init__(self, client: Client, topic: str, events_max: int) -> None:
        self._client, self._topic, self._most = client, topic, events_max
        self._waiting: deque[TopicEvent | Gap] = deque()
        self._came = trio.Event()

    async def __aenter__(self) -> Subscription:
        self._client.listen(self._topic, self._tell, self._wake)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.unlisten(self._topic, self._tell, self._wake)

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> TopicEvent | Gap:
        await trio.lowlevel.checkpoint()
        while not self._waiting:
            if self._client.ended is not None:
                raise self._client.ended
            await self._came.wait()
        return self._waiting.popleft()

    def _tell(self, what: TopicEvent | Gap) -> None:
        if len(self._waiting) >= self._most:
            # What is gone is gone: one word for all of it, and then what is new.
            self._waiting.clear()
            self._waiting.append(Gap(self._topic))
        self._waiting.append(what)
        self._wake()

    def _wake(self) -> None:
        self._came.set()
        self._came = trio.Event()


class Client:
    """What `connect` gives."""

    def __init__(
        self, url: str, name: str, ticket: Ticket | None, settings: ClientSettings
    ) -> None:
        self._url, self._name, self._ticket, self._settings = url, name, ticket, settings
        self._session = Session(trio.current_time, self._complain)
        self._outgoing: deque[bytes] = deque()
        self._has_outgoing = trio.Event()
        self._changed = trio.Event()
        self._wakes: list[Callable[[], None]] = []
        self._heard_at = 0.0
        self._is_plain_next = self._was_versioned = False
        self.state = State.CONNECTING
        # Why there will be no other connection; None while there may be one.
        self.ended: ClientClosed | None = None

    def __repr__(self) -> str:
        return f"<Client {urlsplit(self._url).netloc} {self.state.value}>"

    @property
    def has_ids(self) -> bool:
        """Tell whether the server acknowledges commands and resumes subscriptions."""
        return self._session.is_versioned

    async def wait_open(self) -> None:
        """Call this to wait for an open connection; raises `ClientClosed` if none will be."""
        while self.state is not State.OPEN:
            if self.ended is not None:
                raise self.ended
            await self._changed.wait()

    async def command(
        self,
        action: str | Mapping[str, object] | msgspec.Struct,
        *,
        topic: str | None = None,
        timeout_s: float = 10.0,
    ) -> Acknowledged:
        """Call this to ask for a change; returns when the server has committed it.

        `action` is a name, `{name: fields}`, or a struct. `timeout_s` counts from sending; while
        there is no connection the command waits. Raises `CommandRefused`, `CommandOverdue`,
        `QueueFull`, `ClientClosed`. Cancelled, it is not sent again; it may have been carried out.
        """
        if self.ended is not None:
            raise self.ended
        if self._session.unsent >= self._settings.queue_max:
            raise QueueFull(self._settings.queue_max)
        found: list[Acknowledged | Exception] = []
        is_settled = trio.Event()

        def settle(how: Acknowledged | Exception) -> None:
            found.append(how)
            is_settled.set()

        message_id, frames = self._session.command(_written(action), topic, settle)
        self._send(frames)
        try:
            while not found:
                if not self._session.is_under_way(message_id):
                    await self._either(is_settled, self._changed)
                    continue
                changed = self._changed
                with trio.move_on_after(timeout_s) as scope:
                    await self._either(is_settled, changed)
                if scope.cancelled_caught:
                    raise CommandOverdue
        finally:
            self._session.withdraw(message_id)
        if isinstance(found[0], Exception):
            raise found[0]
        return found[0]

    def subscribe(self, topic: str) -> Subscription:
        """Call this to hear a topic: `async with client.subscribe(...) as heard`."""
        return Subscription(self, topic, self._settings.events_max)

    def listen(
        self, topic: str, tell: Callable[[TopicEvent | Gap], None], wake: Callable[[], None]
    ) -> None:
        """Call this to have `tell` called with each event; `wake` when there will be no more."""
        self._wakes.append(wake)
        self._send(self._session.subscribe(topic, tell))

    def unlisten(
        self, topic: str, tell: Callable[[TopicEvent | Gap], None], wake: Callable[[], None]
    ) -> None:
        """Call this to end that."""
        self._wakes.remove(wake)
        self._send(self._session.unsubscribe(topic, tell))

    def end(self, reason: ClientClosed) -> None:
        """Call this to tell everybody that there will be no other connection."""
        if self.ended is None:
            self.ended = reason
            self._become(State.CLOSED)
            self._session.end(reason)
            for wake in self._wakes:
                wake()

    async def keep(self) -> None:
        """Call this as a task: connect, come back, until the server says that it must not."""
        attempt = 0
        while self.ended is None:
            self._become(State.CONNECTING)
            began = trio.current_time()
            code, reason = await self._connection()
            was_open = self.state is State.OPEN
            self._session.lost()
            self._outgoing.clear()
            if code in _FINAL:
                self.end(ClientClosed(code, reason))
                return
            # A server without the subprotocol may refuse, and then looks like any other failure:
            # the other form is tried at once.
            self._is_plain_next = not was_open and not self._is_plain_next
            self._is_plain_next = self._is_plain_next and not self._was_versioned
            if self._is_plain_next:
                continue
            if was_open and trio.current_time() - began >= self._settings.steady_s:
                attempt = 0
            most = min(self._settings.delay_s_max, self._settings.delay_s_first * 2**attempt)
            attempt = min(attempt + 1, 10)
            self._become(State.WAITING)
            wait_s = self._settings.restart_spread_s if code in _RESTARTS else most
            await trio.sleep(random.uniform(0, wait_s))

    async def _connection(self) -> tuple[int, str]:
        """Be connected once; returns how that ended, 1006 without a word."""
        protocols = [] if self._is_plain_next else [V1]
        try:
            with trio.fail_after(self._settings.connect_s_max):
                address = await self._address()
        except trio.TooSlowError:
            return 1006, "no ticket in time"
        except OSError as error:
            return 1006, str(error)
        ended = (1006, "no connection")
        try:
            with trio.fail_after(self._settings.connect_s_max):
                stream = await _reach(address)
        except (OSError, trio.TooSlowError, trio.BrokenResourceError) as error:
            _log.debug("no connection: %r", error)
            return ended
        try:
            async with trio.open_nursery() as nursery:
                with trio.fail_after(self._settings.connect_s_max):
                    socket = await self._shake_hands(nursery, stream, address, protocols)
                ended = await self._speak(socket)
                nursery.cancel_scope.cancel()
        except* (OSError, trio.TooSlowError, trio_websocket.HandshakeError) as group:
            _log.debug("no connection: %r", group)
        finally:
            # The library leaves a stream open that was lost or cancelled.
            await trio.aclose_forcefully(stream)
        return ended

    async def _shake_hands(
        self, nursery: trio.Nursery, stream: Line, address: str, protocols: list[str]
    ) -> trio_websocket.WebSocketConnection:
        parts = urlsplit(address)
        return await trio_websocket.wrap_client_stream(
            nursery,
            stream,
            parts.netloc.rpartition("@")[2],
            urlunsplit(("", "", parts.path or "/", parts.query, "")),
            subprotocols=protocols,
            max_message_size=self._settings.message_bytes_max,
        )

    async def _speak(self, socket: trio_websocket.WebSocketConnection) -> tuple[int, str]:
        self._heard_at = trio.current_time()
        is_versioned = socket.subprotocol == V1
        self._was_versioned = self._was_versioned or is_versioned
        self._outgoing.clear()
        self._become(State.OPEN)
        self._send(self._session.opened(is_versioned=is_versioned))
        ended = (1006, "the connection was lost")
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write, socket)
                nursery.start_soon(self._watch, socket)
                while True:
                    data = await socket.get_message()
                    self._heard_at = trio.current_time()
                    self._send(self._session.heard(data))
        except* trio_websocket.ConnectionClosed:
            closed = socket.closed
            if closed is not None and closed.code is not None:
                ended = closed.code, closed.reason or ""
        return ended

    async def _write(self, socket: trio_websocket.WebSocketConnection) -> None:
        while True:
            while self._outgoing:
                await socket.send_message(self._outgoing.popleft().decode())
            await self._has_outgoing.wait()

    async def _watch(self, socket: trio_websocket.WebSocketConnection) -> None:
        ask_s, most_s = self._settings.ask_after_s, self._settings.silence_s_max
        while True:
            silent_s = trio.current_time() - self._heard_at
            if silent_s >= most_s:
                # Nobody is there to say goodbye to.
                with trio.move_on_after(1.0):
                    await socket.aclose(1000, "silence")
                raise trio_websocket.ConnectionClosed(None)
            if silent_s >= ask_s:
                self._send([encode_client(Ping())])
            await trio.sleep(1.0)

    async def _address(self) -> str:
        parts = urlsplit(self._url)
        query = [*parse_qsl(parts.query), ("client", self._name)]
        ticket = None if self._ticket is None else await self._ticket()
        if ticket is not None:
            query.append(("ticket", ticket))
        return urlunsplit(parts._replace(query=urlencode(query)))

    def _send(self, frames: list[bytes]) -> None:
        if frames:
            self._outgoing.extend(frames)
            self._has_outgoing.set()
            self._has_outgoing = trio.Event()
        self._tell_change()

    def _become(self, state: State) -> None:
        self.state = state
        self._tell_change()

    def _tell_change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def _complain(self, error: Exception) -> None:
        _log.warning("the server told: %s", error)

    @staticmethod
    async def _either(one: trio.Event, other: trio.Event) -> None:
        async with trio.open_nursery() as nursery:

            async def wait(event: trio.Event) -> None:
                await event.wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(wait, one)
            nursery.start_soon(wait, other)


async def _reach(address: str) -> Line:
    parts = urlsplit(address)
    if parts.hostname is None or parts.scheme not in {"ws", "wss"}:
        raise ValueError(f"a WebSocket's address begins with ws:// or wss://, not {address!r}")
    if parts.scheme == "ws":
        return await trio.open_tcp_stream(parts.hostname, parts.port or 80)
    stream = await trio.open_ssl_over_tcp_stream(parts.hostname, parts.port or 443)
    await stream.do_handshake()
    return stream


def _written(action: str | Mapping[str, object] | msgspec.Struct) -> Action:
    if isinstance(action, msgspec.Struct):
        return action_of(action)
    if isinstance(action, str):
        return Action(action)
    ((name, fields),) = action.items()
    return Action(name, msgspec.json.encode(fields))
