"""One correlation, from a request to a socket: through mailbox, store, outbox, timers and effects.

The program here is as small as its parts allow: an event-sourced order behind a route, a relay that
brings what the outbox holds to a socket, and a service that brings its durable delay back.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeAlias, assert_never

import msgspec
import pytest
import trio
from quart import Response
from trio_websocket import open_websocket_url

from actors.persistence import (
    DelayDelivery,
    DurableTimers,
    EventSourcedReducerActor,
    EventStore,
    EventTypes,
    Outbox,
    OutboxEntry,
    OutboxMessage,
    OutboxRelay,
    Record,
    StreamId,
    TimerDelays,
    TimerService,
)
from actors.reducers import (
    Applied,
    Delay,
    Dispatch,
    Environment,
    Future,
    Lagged,
    Next,
    ReducerRef,
    Reply,
    Stream,
    as_reducer,
    command,
    reducer,
)
from actors.runtime import Actor, Ask, Context, System, current_context, message, open_actors
from storage.memory import MemoryDatabase, MemoryEventStore, MemoryOutbox, MemoryTimers
from storage.postgres import Database, PostgresEventStore, PostgresOutbox, PostgresTimers
from tests.logged import captured
from tests.patience import PATIENCE_S
from tests.web.api.api_kit import RING
from tests.web.server.edge_kit import Reply as Answered
from tests.web.server.serving_kit import Client
from web.api import add_errors, ok
from web.server import (
    Checks,
    EdgeSettings,
    ErrorTable,
    ServerSettings,
    TransportSettings,
    WebApp,
    open_listeners,
    serve,
)
from web.wiring.environment import SystemClock, SystemIds

if TYPE_CHECKING:
    from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope

TYPES = EventTypes()
CORRELATION = "0123abcd-0123-4123-8123-0123456789ab"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@TYPES.event()
@dataclass(frozen=True)
class Ordered:
    """The order was taken; what comes of it is each kind of effect."""


@command
class Order(Ask[str]):
    """Asks for the order."""


@command
class Fed:
    """What an effect fed back; `by` is its kind."""

    by: str


@dataclass(frozen=True)
class Once:
    async def run(self, env: Environment) -> Fed:
        return Fed("Future")


@dataclass(frozen=True)
class Twice:
    async def run(self, env: Environment) -> AsyncIterator[Fed]:
        yield Fed("Stream")


@dataclass(frozen=True)
class Fails:
    async def run(self, env: Environment) -> Fed:
        raise OSError("nobody makes an action of this")


def failed(error: Exception) -> Fed:
    return Fed(f"failed {type(error).__name__}")


def asked(reply: str) -> Fed:
    return Fed(f"Dispatch {reply}")


@message
class Look(Ask[str]):
    """Asks another actor in whose name it is asked."""


class Other(Actor[Look]):
    """Says in whose name it was asked."""

    def on_look(self, message: Look) -> str:
        context = current_context()
        return "" if context is None else context.correlation_id


@dataclass(frozen=True)
class Env(Environment):
    other: ReducerRef[object, Look] | None = None


Action: TypeAlias = Order | Ordered | Fed


@reducer
def order(state: int, action: Action, env: Env) -> Next[int]:
    match action:
        case Order():
            leaves = OutboxMessage(env.ids.new_id(), "hook", "socket", "order-1", b"ordered")
            return Next(state, Record(Ordered(), outbox=(leaves,)), Reply("taken"))
        case Ordered():
            assert env.other is not None
            return Next(
                state + 1,
                Future(Once()),
                Stream(Twice()),
                Future(Fails(), failed=failed),
                Future(Fails()),
                Delay(0, Fed("Delay")),
                Delay(0, Fed("durable Delay"), durable=True),
                Dispatch(env.other, Look(), ok=asked),
            )
        case Fed():
            return Next(state)
    assert_never(action)


class OrderActor(EventSourcedReducerActor[int, Action]):
    reducer = order
    category = "order"
    types = TYPES

    def initial(self) -> int:
        return 0


FED = {
    "Future",
    "Stream",
    "Delay",
    "durable Delay",
    "failed OSError",
    f"Dispatch {CORRELATION}",
}


class Socket:
    """An endpoint that sends every client what is put; one client is enough here."""

    def __init__(self) -> None:
        self.is_open = trio.Event()
        self._send, self._receive = trio.open_memory_channel[Mapping[str, str]](10)

    async def put(self, entry: OutboxEntry) -> None:
        """What the relay hands what leaves: a socket carries the headers on."""
        await self._send.send({**entry.headers, "body": entry.payload.decode()})

    async def __call__(
        self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        await receive()
        await send({"type": "websocket.accept", "subprotocol": None, "headers": []})
        self.is_open.set()
        text = msgspec.json.encode(await self._receive.receive()).decode()
        await send({"type": "websocket.send", "bytes": None, "text": text})
        await receive()


@dataclass
class Ports:
    """One database: its log, its outbox and its timers."""

    store: EventStore
    outbox: Outbox
    timers: DurableTimers


@pytest.fixture(params=["memory", "postgres"])
async def ports(request: pytest.FixtureRequest, database: Database) -> Ports:
    if request.param == "memory":
        memory = MemoryDatabase()
        store = MemoryEventStore(memory, event_types=TYPES)
        return Ports(store, MemoryOutbox(memory), MemoryTimers(memory))
    return Ports(
        PostgresEventStore(database, event_types=TYPES),
        PostgresOutbox(database),
        PostgresTimers(database),
    )


@dataclass
class Site:
    """The running program."""

    port: int
    order: ReducerRef[int, Action]
    socket: Socket
    system: System
    app: WebApp

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def post(self, trace: str) -> Answered:
        head = (
            f"POST /api/orders HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nConnection: close\r\n"
            f"X-Correlation-ID: {CORRELATION}\r\ntraceparent: {trace}\r\nContent-Length: 0\r\n\r\n"
        )
        async with Client(await trio.open_tcp_stream("127.0.0.1", self.port)) as client:
            await client.send(head.encode())
            return Answered(await client.read_to_end())


@asynccontextmanager
async def open_site(ports: Ports) -> AsyncIterator[Site]:
    env = Environment(SystemClock(), SystemIds())
    sockets = open_listeners("127.0.0.1", 0)
    port, socket = sockets[0].getsockname()[1], Socket()
    table = ErrorTable()
    add_errors(table)
    checks = Checks(own_origin=f"http://127.0.0.1:{port}")
    app = WebApp(__name__, EdgeSettings(checks=checks, ring=RING), table, sockets={"/ws": socket})
    async with open_actors() as system, trio.open_nursery() as nursery:
        other = await system.start(Other)
        own = Env(env.clock, env.ids, other=other)  # type: ignore[arg-type]
        delays = TimerDelays(ports.timers, env)
        made = partial(OrderActor, own, "1", ports.store, delays=delays)
        ref = as_reducer(OrderActor, await system.start(made, name="order-1"))
        await system.start(OutboxRelay, ports.outbox, socket.put, env, "one")
        await system.start(TimerService, ports.timers, DelayDelivery(system).deliver, env, "one")

        @app.post("/api/orders")
        async def take() -> Response:
            return ok({"order": await ref.ask(Order())})

        transport = TransportSettings(error_response=app.edge.protocol_error)
        settings = ServerSettings(transport=transport)
        server = await nursery.start(partial(serve, app, settings, sockets=sockets))
        yield Site(port, ref, socket, system, app)
        await server.drain()


async def test_one_correlation_goes_from_a_request_to_a_socket(ports: Ports) -> None:
    # CORE-31
    async with open_site(ports) as site:
        found: dict[str, Context] = {}
        url = site.origin.replace("http", "ws") + "/ws"
        headers = [(b"Origin", site.origin.encode())]
        with captured() as lines, trio.fail_after(PATIENCE_S):
            async with open_websocket_url(url, extra_headers=headers) as client:
                async with site.order.subscribe(100) as applied:
                    answer = await site.post(TRACE)
                    assert (answer.status, answer.headers["x-correlation-id"]) == (200, CORRELATION)
                    async for one in applied:
                        assert not isinstance(one, Lagged)
                        found[_name(one)] = one.metadata
                        if set(found) >= FED:
                            break
                told = msgspec.json.decode(await client.get_message(), type=dict[str, str])
        # Mailbox, and the feedback of each kind of effect, a durable delay among them.
        assert set(found) == {"Order", "Ordered", *FED}
        for name, context in found.items():
            assert context.correlation_id == CORRELATION, name
            assert name == "Order" or context.causation_id is not None
        # CORE-30: the client's span is that of the request alone; what comes of it has its own.
        assert found["Order"].traceparent == TRACE
        for name in FED:
            trace = found[name].traceparent or ""
            assert is_of_the_trace(trace), name
            assert trace != TRACE, name
        # The store, what left by the outbox, and the socket behind it.
        [event] = [one async for one in ports.store.load(StreamId("order-1"))]
        assert event.metadata["correlation_id"] == CORRELATION
        assert is_of_the_trace(event.metadata["traceparent"])
        assert told["body"] == "ordered"
        assert told["correlation_id"] == CORRELATION
        assert told["traceparent"] == event.metadata["traceparent"]
        # The effect that failed: its dead letter and its line.
        [letter] = site.system.dead_letters
        assert letter.correlation_id == CORRELATION
        [line] = [one for one in lines if one["event"] == "effect_failed"]
        assert line["correlation_id"] == CORRELATION


def is_of_the_trace(given: str) -> bool:
    return given.startswith(TRACE[:36]) and given.endswith(TRACE[52:])


def _name(one: Applied[Action]) -> str:
    return one.action.by if isinstance(one.action, Fed) else type(one.action).__name__


@pytest.mark.parametrize(
    "given", ["nonsense", TRACE.upper(), f"00-{'0' * 32}-{'a' * 16}-01", TRACE + "-more"]
)
async def test_a_malformed_trace_is_replaced_by_a_new_one_and_counted(given: str) -> None:
    # CORE-32
    memory = MemoryDatabase()
    store = MemoryEventStore(memory, event_types=TYPES)
    async with open_site(Ports(store, MemoryOutbox(memory), MemoryTimers(memory))) as site:
        with captured():
            for _ in range(2):
                assert (await site.post(given)).status == 200
            events = [one async for one in store.load(StreamId("order-1"))]
        traces = [one.metadata["traceparent"] for one in events]
        assert len(set(traces)) == 2
        for trace in traces:
            version, whole, span, flags = trace.split("-")
            assert (version, len(whole), len(span), flags) == ("00", 32, 16, "00")
            assert int(whole, 16)
            assert whole not in given.lower()
        assert site.app.edge.traces_replaced == 2
        # One that is well formed is left alone.
        assert (await site.post(TRACE)).status == 200
        assert site.app.edge.traces_replaced == 2
