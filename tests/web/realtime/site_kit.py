"""A real server with streams and a socket endpoint, on a free loopback port."""

from __future__ import annotations

import ssl
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import msgspec
import trio
import trio_websocket
from hypercorn.typing import WebsocketScope
from quart import Response, request

from actors.runtime import Secret, System, open_actors
from tests.patience import PATIENCE_S
from web.realtime import (
    Action,
    Caller,
    CommandTable,
    Done,
    EndpointSettings,
    Heard,
    HistoryLimits,
    Hub,
    Place,
    Refused,
    Request,
    SocketCaps,
    SocketEncoding,
    SocketEndpoint,
    Stream,
    StreamActor,
    StreamCaps,
    StreamKey,
    Streams,
    TooManyStreams,
    action_of,
    client_of,
    encode_event,
    open_stream,
    patch_signals,
    stream_response,
)
from web.server import (
    Answer,
    Checks,
    DrainStep,
    EdgeSettings,
    ErrorTable,
    Frame,
    KeyRing,
    Server,
    ServerSettings,
    TransportSettings,
    WebApp,
    open_listeners,
    serve,
)


class Said(msgspec.Struct, frozen=True):
    n: int
    body: str


class Say(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    body: str


class SseEncoding:
    def __init__(self) -> None:
        self.encoded = 0

    def encode(self, message: object, viewer: str, place: Place, /) -> Frame | None:
        assert isinstance(message, Said)
        self.encoded += 1
        return Frame(encode_event(message.body, event_id=str(message.n)))

    def position(self, message: object) -> int:
        assert isinstance(message, Said)
        return message.n


class RoomTells:
    def action(self, message: object, /) -> Action | None:
        assert isinstance(message, Said)
        return action_of(message)

    def position(self, message: object, /) -> int | None:
        assert isinstance(message, Said)
        return message.n


class Room:
    """Says everything that is said to everybody; numbers rise by one."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.n = 0
        self.keys: list[str | None] = []
        # What the command "slow" waits for.
        self.go_on = trio.Event()

    async def may_stay(self, principal: str) -> None:
        return None

    async def may_hear(self, principal: str, topic: str) -> bool:
        return topic.startswith("room:")

    async def may_publish(self, principal: str, topic: str | None) -> bool:
        return topic in {None, "room:lobby"}

    async def dispatch(self, command: msgspec.Struct, request: Request[str], /) -> Done:
        assert isinstance(command, Say)
        self.keys.append(request.key)
        if command.body == "slow":
            await self.go_on.wait()
        if command.body == "forbidden":
            raise Refused("That word is not said here.")
        if command.body == "bug":
            raise ValueError("a bug")
        if command.body == "pending":
            return Done(Said(0, "pending"))
        self.say(command.body)
        return Done(Said(self.n, command.body), heard_on="room:lobby")

    def say(self, body: str) -> None:
        self.n += 1
        self.system.topics.publish("room:lobby", Said(self.n, body))


@dataclass
class Site:
    """Everything a test wants to look at."""

    server: Server
    system: System
    streams: Streams
    endpoint: SocketEndpoint[str]
    room: Room
    encoding: SseEncoding
    hub: Hub[object, str]
    windows: list[Stream] = field(default_factory=list)
    # Clients of a test, closed with the site.
    clients: list[trio.SocketStream] = field(default_factory=list)

    @property
    def steps(self) -> list[DrainStep]:
        async def tell() -> None:
            self.streams.tell_draining()

        return [
            DrainStep("tell streams", PATIENCE_S, tell),
            DrainStep("finish commands", PATIENCE_S, self.endpoint.wait_answered),
            DrainStep("close streams", PATIENCE_S, self.streams.close_all),
            DrainStep("close sockets", PATIENCE_S, self.endpoint.close_all),
        ]


def make_app(
    port: int, streams: Streams, endpoint: SocketEndpoint[str], hub: Hub[object, str]
) -> WebApp:
    table = ErrorTable()
    table.add(TooManyStreams, Answer.RATE_LIMITED)
    checks = Checks(
        own_origin=f"http://127.0.0.1:{port}",
        public_sockets=frozenset({"/ws"}),
    )
    settings = EdgeSettings(checks=checks, ring=KeyRing(Secret(b"k" * 64)))
    app = WebApp(__name__, settings, table, sockets={"/ws": endpoint})

    @app.get("/events")
    async def events() -> Response:
        session = uuid.UUID(request.args["session"])
        key = StreamKey(session, request.args["tab"])
        stream = await open_stream(streams, key, request.scope)
        membership = hub.join("room:lobby", "public", stream.put_chat)
        stream.when_closed(lambda _: membership.leave())
        return stream_response(stream, request.scope, first=patch_signals({"sseConnected": True}))

    @app.get("/page")
    async def page() -> str:
        return "<p>page</p>"

    return app


@asynccontextmanager
async def opened(
    transport: TransportSettings | None = None,
    stream_caps: StreamCaps | None = None,
    socket_caps: SocketCaps | None = None,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Site]:
    """Serve until the block ends, then drain."""
    async with open_actors() as system, trio.open_nursery() as nursery:
        room, encoding = Room(system), SseEncoding()
        topics = system.topics
        hub: Hub[object, str] = Hub(
            encoding, subscribe=topics.subscribe, unsubscribe=topics.unsubscribe
        )
        socket_hub: Hub[object, Heard] = Hub(
            SocketEncoding(RoomTells()),
            subscribe=topics.subscribe,
            unsubscribe=topics.unsubscribe,
            history=HistoryLimits(),
        )
        windows: list[Stream] = []

        async def start_stream(stream: Stream) -> None:
            await system.start(StreamActor, stream, windows.append)

        streams = Streams(caps=stream_caps, start_actor=start_stream)

        async def caller_of(scope: WebsocketScope) -> Caller[str] | None:
            client = client_of(scope)
            if client is None:
                return Caller("somebody", "somebody")
            return Caller("somebody", "somebody", str(client))

        settings = EndpointSettings[str](
            commands=CommandTable([Say], events=[Said]),
            service=room,
            hub=socket_hub,
            aliases={"default": "room:lobby"},
        )
        endpoint = SocketEndpoint[str](
            settings,
            caller_of=caller_of,
            start=system.start,
            caps=socket_caps,
        )
        sockets = open_listeners("127.0.0.1", 0)
        app = make_app(sockets[0].getsockname()[1], streams, endpoint, hub)
        chosen = ServerSettings(transport=transport or TransportSettings(), tls=tls)
        server = await nursery.start(partial(serve, app, chosen, sockets=sockets))
        site = Site(server, system, streams, endpoint, room, encoding, hub, windows)
        try:
            yield site
        finally:
            for client in site.clients:
                client.socket.close()
            if not server.is_draining:
                await server.drain(site.steps)


@asynccontextmanager
async def socket_client(
    site: Site, *headers: tuple[bytes, bytes], path: str = "/ws", subprotocols: Sequence[str] = ()
) -> AsyncIterator[trio_websocket.WebSocketConnection]:
    """Connect to /ws. Unlike the library's own helper it closes the TCP socket in every case."""
    port = site.server.port
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    try:
        async with trio.open_nursery() as nursery:
            ws = await trio_websocket.wrap_client_stream(
                nursery,
                stream,
                f"127.0.0.1:{port}",
                path,
                subprotocols=list(subprotocols),
                extra_headers=list(headers),
            )
            async with ws:
                yield ws
            nursery.cancel_scope.cancel()
    finally:
        stream.socket.close()


async def refusal(
    site: Site, *headers: tuple[bytes, bytes], path: str = "/ws"
) -> trio_websocket.ConnectionRejected:
    """Connect, and return how that was refused."""
    rejected: list[trio_websocket.ConnectionRejected] = []

    try:
        async with socket_client(site, *headers, path=path):
            pass
    except* trio_websocket.ConnectionRejected as group:
        while isinstance(group.exceptions[0], BaseExceptionGroup):
            group = group.exceptions[0]
        rejected.append(group.exceptions[0])
    (found,) = rejected
    return found
