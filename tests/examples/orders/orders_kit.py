"""The orders example on a free port, on either engine, and a program that speaks to it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import msgspec
import trio
import trio_websocket

from actors.runtime import Secret
from docs.examples.orders import PLAN
from storage.memory import MemoryDatabase
from tests.patience import PATIENCE_S
from tests.web.server.edge_kit import Reply
from tests.web.server.serving_kit import Client
from web.app import OwnSite, open_site
from web.settings import Settings

ORDERS = "/api/v1/orders"
# Of many at once none is turned away, however slow the machine is.
PATIENT = Settings(port=0, overload_late_ms=60_000, overload_after_ms=60_000)
WIDGETS = {"product_id": "prod-1", "name": "Widget", "quantity": 2, "unit_price_cents": 1000}
ORDER = {"customer_id": "cust-123", "items": [WIDGETS]}


class Keeping:
    """Where a test's orders are kept; sites that are opened on it one after the other share it."""

    def __init__(self, database_url: str | None, folder: Path) -> None:
        self._url, self._folder = database_url, folder
        self._memory = MemoryDatabase()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[OwnSite]:
        if self._url is None:
            async with open_site(PLAN, PATIENT, store=self._memory) as site:
                yield site
            return
        settings = replace(
            PATIENT, database_url=Secret(self._url), state_dir=self._folder / "state"
        )
        async with open_site(PLAN, settings) as site:
            yield site


async def ask(
    port: int, line: str, body: object = None, headers: Mapping[str, str] | None = None
) -> Reply:
    """Send one request; a body that is no bytes goes as JSON."""
    raw = body if isinstance(body, bytes) else b"" if body is None else msgspec.json.encode(body)
    fields = {
        "Host": f"127.0.0.1:{port}",
        "Connection": "close",
        "Content-Length": str(len(raw)),
        **({} if body is None else {"Content-Type": "application/json"}),
        **(headers or {}),
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    async with Client(await trio.open_tcp_stream("127.0.0.1", port)) as client:
        await client.send(f"{line} HTTP/1.1\r\n{head}\r\n".encode() + raw)
        return Reply(await client.read_to_end())


def told(reply: Reply) -> dict[str, object]:
    """What an answer says, as plain values."""
    assert reply.headers["content-type"] == "application/json"
    return msgspec.json.decode(reply.body, type=dict[str, object])


def fields_at(value: object, *path: str | int) -> dict[str, object]:
    """The fields that stand somewhere in what was told."""
    for step in path:
        if isinstance(step, int):
            value = msgspec.convert(value, list[object])[step]
        else:
            value = msgspec.convert(value, dict[str, object])[step]
    return msgspec.convert(value, dict[str, object])


def text(fields: Mapping[str, object], name: str) -> str:
    return msgspec.convert(fields[name], str)


async def placed(port: int, **changed: object) -> str:
    """Place an order and give its id."""
    reply = await ask(port, f"POST {ORDERS}", {**ORDER, **changed})
    assert reply.status == 201, reply.body
    return text(told(reply), "order_id")


class Socket:
    """A WebSocket in either form."""

    def __init__(self, socket: trio_websocket.WebSocketConnection) -> None:
        self._socket = socket

    async def send(self, message: object) -> None:
        await self._socket.send_message(json.dumps(message))

    async def command(self, action: object, **added: object) -> None:
        await self.send({"type": "command", "action": action, **added})

    async def read(self) -> dict[str, object]:
        with trio.fail_after(PATIENCE_S):
            found: dict[str, object] = json.loads(await self._socket.get_message())
        return found

    async def event(self) -> tuple[str, dict[str, object]]:
        """The next message, which is an event: its name and fields."""
        found = await self.read()
        assert found["type"] == "event", found
        [(name, fields)] = fields_at(found, "action").items()
        return name, fields_at(fields)

    async def is_quiet(self) -> bool:
        """Whether nothing was sent: what comes before the pong was."""
        await self.send({"type": "ping"})
        return await self.read() == {"type": "pong"}


@asynccontextmanager
async def listening(
    port: int, path: str = "/api/v1/ws", subprotocol: str | None = None
) -> AsyncIterator[Socket]:
    """Have a socket open that hears from now on."""
    async with trio_websocket.open_websocket_url(
        f"ws://127.0.0.1:{port}{path}", subprotocols=[subprotocol] if subprotocol else None
    ) as socket:
        heard = Socket(socket)
        assert await heard.is_quiet()
        yield heard
