"""The parcel desk of the documents behind a real server, and a client that asks it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import msgspec
import pytest
import trio

from actors.persistence import Done, EventStore, execute
from actors.persistence.beside_log.idempotency import Idempotency
from actors.reducers import Environment
from actors.runtime import Secret
from docs.examples.parcels import Desk, Register, parcel_routes
from storage.memory import MemoryDatabase, MemoryEventStore, MemoryIdempotency
from storage.postgres import PostgresEventStore, PostgresIdempotency, open_database
from supervision import open_system
from tests.patience import PATIENT_POOL
from tests.web.server.edge_kit import Reply
from tests.web.server.serving_kit import Client
from web.api import IdempotencyKeys, Pages, add_errors
from web.server import (
    Answer,
    Checks,
    EdgeSettings,
    ErrorTable,
    KeyRing,
    RequestSpan,
    Server,
    ServerSettings,
    SignedIn,
    TransportSettings,
    WebApp,
    open_listeners,
    serve,
)
from web.server.edge.request_state import RequestState
from web.wiring.environment import SystemClock, SystemIds

RING = KeyRing(Secret(b"k" * 64))
KEY = "key-of-sixteen-or-more"


@dataclass
class Stores:
    """Where parcels and keys are kept; both of one database."""

    events: EventStore
    keys: Idempotency


class Walk:
    """How long the courier is on his way: not at all, or until somebody says so."""

    def __init__(self) -> None:
        self.is_open = trio.Event()
        self.is_open.set()
        self.began = trio.Event()

    async def __call__(self) -> None:
        self.began.set()
        await self.is_open.wait()


class Api:
    """A running desk; `ask` sends one request a connection."""

    def __init__(self, port: int, app: WebApp, desk: Desk, keys: IdempotencyKeys) -> None:
        self.port, self.app, self.desk, self.keys = port, app, desk, keys
        self.walk = Walk()
        self.spans: list[RequestSpan] = []
        self.signed_in: SignedIn | None = None
        self.server: Server | None = None

    async def identify(self, state: RequestState, scope: object) -> None:
        state.signed_in = self.signed_in

    def request(
        self, line: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> bytes:
        raw = body if isinstance(body, bytes) else msgspec.json.encode(body) if body else b""
        fields = {
            "Host": f"127.0.0.1:{self.port}",
            "Connection": "close",
            "Content-Length": str(len(raw)),
            **({"Content-Type": "application/json"} if raw else {}),
            **(headers or {}),
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value != "-")
        return f"{line} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + raw

    async def ask(
        self,
        line: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        *,
        key: str | None = None,
    ) -> Reply:
        named = dict(headers or {})
        if key is not None:
            named["Idempotency-Key"] = key
        async with Client(await trio.open_tcp_stream("127.0.0.1", self.port)) as client:
            await client.send(self.request(line, body, named))
            return Reply(await client.read_to_end())


def told(reply: Reply) -> dict[str, object]:
    """What an answer says, as plain values."""
    assert reply.headers["content-type"] == "application/json"
    return msgspec.json.decode(reply.body, type=dict[str, object])


def error(reply: Reply) -> tuple[int, object]:
    """Status and code of an error, which has the one shape there is."""
    found = told(reply)
    assert set(found) in ({"code", "message"}, {"code", "message", "details"})
    assert "content-security-policy" in reply.headers
    assert "x-correlation-id" in reply.headers
    return reply.status, found["code"]


def memory() -> Stores:
    database = MemoryDatabase()
    return Stores(MemoryEventStore(database), MemoryIdempotency(database))


@pytest.fixture(params=["memory", "postgres"])
def engine(request: pytest.FixtureRequest) -> str | None:
    """The address of a database, or None for memory."""
    if request.param == "memory":
        return None
    url: str = request.getfixturevalue("database_url")
    return url


@pytest.fixture
async def stores(engine: str | None) -> AsyncIterator[Stores]:
    if engine is None:
        yield memory()
        return
    async with open_database(engine, part="test", settings=PATIENT_POOL) as database:
        yield Stores(PostgresEventStore(database), PostgresIdempotency(database))


@asynccontextmanager
async def open_api(
    stores: Stores | None = None,
    more: Callable[[Api], None] = lambda api: None,
    *,
    request_s: float = 10.0,
    per_address: int = 8,
) -> AsyncIterator[Api]:
    """Serve the desk on a free port; `more` adds routes to it."""
    kept = stores or memory()
    env = Environment(SystemClock(), SystemIds())
    sockets = open_listeners("127.0.0.1", 0)
    port = sockets[0].getsockname()[1]
    walk = Walk()
    async with open_system(Desk, kept.events, env, walk, name="desk") as desk:
        keys = IdempotencyKeys(kept.keys, RING)
        table = ErrorTable()
        add_errors(table)
        table.add(ZeroDivisionError, Answer.CONFLICT)
        spans: list[RequestSpan] = []
        settings = EdgeSettings(
            checks=Checks(own_origin=f"http://127.0.0.1:{port}"),
            ring=RING,
            request_s=request_s,
            requests_per_address=per_address,
            tell_span=spans.append,
        )
        found: list[Api] = []

        async def identify(state: RequestState, scope: object) -> None:
            await found[0].identify(state, scope)

        app = WebApp(__name__, settings, table, identify=identify)
        api = Api(port, app, desk, keys)
        api.walk, api.spans = walk, spans
        found.append(api)
        app.register_blueprint(parcel_routes(lambda: desk, kept.events, keys, Pages(RING, str)))
        more(api)
        transport = TransportSettings(error_response=app.edge.protocol_error)
        async with trio.open_nursery() as nursery:
            api.server = await nursery.start(
                partial(serve, app, ServerSettings(transport=transport), sockets=sockets)
            )
            yield api
            await api.server.drain()


async def gather(asks: list[Callable[[], Awaitable[Reply]]]) -> list[Reply]:
    """Ask all at once; the answers in the order of the asks."""
    found: list[Reply | None] = [None] * len(asks)

    async def one(number: int) -> None:
        found[number] = await asks[number]()

    async with trio.open_nursery() as nursery:
        for number in range(len(asks)):
            nursery.start_soon(one, number)
    return [reply for reply in found if reply is not None]


async def register(api: Api, parcel_id: str = "abcd") -> None:
    """Have a parcel of Ada's at the desk."""
    done = await execute(api.desk.by_id[parcel_id], Register(parcel_id, "Ada", [200, 300]))
    assert isinstance(done, Done)


REGISTER = {"parcel_id": "abcd", "receiver": "Ada", "weights": [200, 300]}
