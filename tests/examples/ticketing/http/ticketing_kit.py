"""The ticketing example on a free port, on either engine, and programs that speak to it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
import trio
import trio_websocket

from actors.accounts import Role
from actors.persistence import Projection, ProjectionStore, begin_rebuild, live_collection
from actors.runtime import Secret
from docs.examples.ticketing.http import PLAN
from docs.examples.ticketing.http.options import BUS, LINKS
from storage.memory import MemoryDatabase
from tests.examples.orders.orders_kit import ask, text, told
from tests.patience import PATIENCE_S
from tests.web.server.edge_kit import Reply
from web.accounts.identity import digest_of
from web.app import OwnSite, open_site
from web.settings import MailSender, Settings

# Of many at once none is turned away, however slow the machine is.
PATIENT = Settings(
    port=0,
    overload_late_ms=60_000,
    overload_after_ms=60_000,
    requests_per_address=1000,
    mail_sender=MailSender.OFF,
)
CARD = {"type": "credit_card", "token": "tok_visa", "last_four": "4242"}


@asynccontextmanager
async def open_ticketing(
    database_url: str | None,
    folder: Path,
    *,
    memory: MemoryDatabase | None = None,
    settings: Settings = PATIENT,
    bus: str = "memory",
) -> AsyncIterator[OwnSite]:
    """Have the example served, in PostgreSQL or in memory, with the links of tests told."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(LINKS, "on")
        patch.setenv(BUS, bus)
        if database_url is None:
            async with open_site(PLAN, settings, store=memory or MemoryDatabase()) as site:
                yield site
            return
        settings = replace(settings, database_url=Secret(database_url), state_dir=folder / "state")
        async with open_site(PLAN, settings) as site:
            yield site


@dataclass
class User:
    """A program that is signed in at a port."""

    port: int
    token: str
    id: str
    headers: dict[str, str] = field(default_factory=dict)

    async def ask(
        self, line: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        mine = {"Authorization": f"Bearer {self.token}", **self.headers, **(headers or {})}
        return await ask(self.port, line, body, mine)

    def at(self, port: int) -> User:
        """The same user at another server."""
        return replace(self, port=port)

    async def get(self, path: str) -> dict[str, object]:
        reply = await self.ask(f"GET {path}")
        assert reply.status == 200, (reply.status, reply.body)
        return told(reply)

    async def reserve(self, event: str, quantity: int = 1, **more: object) -> Reply:
        body = {"event_id": event, "section": "General", "quantity": quantity, **more}
        return await self.ask("POST /api/reservations", body)

    async def reserved(self, event: str, quantity: int = 1, **more: object) -> str:
        reply = await self.reserve(event, quantity, **more)
        assert reply.status in (201, 202), (reply.status, reply.body)
        name = text(told(reply), "reservation_id")
        # On a starved machine it is not decided in five seconds, and that is what was answered.
        assert await self.decided(reply) == 201
        return name

    async def decided(self, reply: Reply) -> int:
        """What became of a reservation: 201 or 409, also of one that was undecided at first."""
        if reply.status != 202:
            return reply.status
        path = f"/api/reservations/{text(told(reply), 'reservation_id')}"
        with trio.fail_after(PATIENCE_S):
            while True:
                status = (await self.get(path))["status"]
                if status not in ("Initiated", "SeatsReserved"):
                    return 201 if status == "PaymentPending" else 409
                await trio.sleep(0.05)

    async def pay(self, reservation: str, card: str = "tok_visa", key: str = "") -> Reply:
        body = {"reservation_id": reservation, "payment_method": {**CARD, "token": card}}
        keys = {"Idempotency-Key": key or str(uuid4())}
        return await self.ask("POST /api/payments", body, keys)

    async def bought(self, event: str, quantity: int = 1, **more: object) -> str:
        """Reserve and pay, and wait for the tickets."""
        name = await self.reserved(event, quantity, **more)
        reply = await self.pay(name)
        assert reply.status == 201, (reply.status, reply.body)
        await self.until(f"/api/reservations/{name}", "status", "Completed")
        return name

    async def until(self, path: str, name: str, wanted: object) -> dict[str, object]:
        """Ask until something is told; what is behind an answer takes the others' turns."""
        with trio.fail_after(PATIENCE_S):
            while True:
                found = await self.get(path)
                if found[name] == wanted:
                    return found
                await trio.sleep(0.02)


async def sign_in(port: int, email: str) -> User:
    """Become a user by a link."""
    asked = await ask(port, "POST /auth/magic-link/request", {"email": email})
    assert asked.status == 200, asked.body
    token = text(told(asked), "magic_link_token")
    entered = await ask(port, "POST /auth/magic-link/verify", {"token": token})
    assert entered.status == 200, entered.body
    return User(port, text(told(entered), "session_token"), text(told(entered), "user_id"))


def event_body(days: float = 40, **changed: object) -> dict[str, object]:
    starts = datetime.now(UTC) + timedelta(days=days)
    return {
        "title": "Jazz",
        "description": "All night",
        "start_time": starts.isoformat(),
        "end_time": (starts + timedelta(hours=3)).isoformat(),
        "venue_name": "Hall",
        "venue_address": "Street 1",
        "capacity": 3,
        "price": 50.0,
        **changed,
    }


async def planned(owner: User, capacity: int = 3, days: float = 40, **changed: object) -> str:
    """Plan an event whose sales are open, and give its id."""
    reply = await owner.ask(
        "POST /api/events", event_body(days) | {"capacity": capacity, **changed}
    )
    assert reply.status == 201, (reply.status, reply.body)
    return text(told(reply), "event_id")


async def made_admin(site: OwnSite, user: User) -> User:
    """Have a user run the site."""
    member = await site.members.accounts.who(digest_of(user.token))
    assert member is not None
    await site.members.accounts.grant(member.username, Role.ADMIN)
    return user


async def refused(port: int, path: str) -> int:
    """Ask for a socket that is not opened, and give the status."""
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    reply = await ask(port, f"GET {path}", None, {**upgrade, "Sec-WebSocket-Key": "A" * 22 + "=="})
    return reply.status


async def rebuilt(
    store: ProjectionStore, projections: Sequence[Projection]
) -> dict[str, tuple[Mapping[str, object], Mapping[str, object]]]:
    """Build projections anew, all at once, and give the rows of each before and after."""
    names = [one.name for one in projections]
    serving = {name: await live_collection(store, name) for name in names}
    before = {name: await _rows(store, name) for name in names}
    for one in projections:
        await begin_rebuild(store, one)
    with trio.fail_after(PATIENCE_S):
        while any([await live_collection(store, name) == serving[name] for name in names]):
            await store.changed(0.05)
    return {name: (before[name], await _rows(store, name)) for name in names}


async def _rows(store: ProjectionStore, name: str) -> Mapping[str, object]:
    collection = await live_collection(store, name)
    assert collection is not None
    found, after = dict[str, object](), None
    while page := await store.query(collection, after=after, limit=1000):
        found |= dict(page)
        after = page[-1][0]
    return found


class Heard:
    """One open socket of a program."""

    def __init__(self, socket: trio_websocket.WebSocketConnection) -> None:
        self._socket = socket

    async def send(self, message: str | bytes) -> None:
        await self._socket.send_message(message)

    async def read(self) -> dict[str, object]:
        with trio.fail_after(PATIENCE_S):
            found: dict[str, object] = json.loads(await self._socket.get_message())
        return found

    async def is_quiet(self) -> bool:
        """Whether nothing was sent: what comes before the pong was."""
        await self.send('{"type":"ping"}')
        return await self.read() == {"type": "pong"}

    async def closed(self) -> int:
        """Hear until it is closed, and give the code."""
        with suppress(trio_websocket.ConnectionClosed):
            while True:
                await self.read()
        assert self._socket.closed is not None
        code: int = self._socket.closed.code
        return code


@asynccontextmanager
async def listening(port: int, path: str, user: User | None = None) -> AsyncIterator[Heard]:
    """Have a socket open."""
    headers = [] if user is None else [("Authorization", f"Bearer {user.token}")]
    async with (
        await trio.open_tcp_stream("127.0.0.1", port) as stream,
        trio.open_nursery() as nursery,
    ):
        socket = await trio_websocket.wrap_client_stream(
            nursery,
            stream,
            f"127.0.0.1:{port}",
            path,
            extra_headers=[(one.encode(), value.encode()) for one, value in headers],
        )
        yield Heard(socket)
        nursery.cancel_scope.cancel()
