"""The ticketing example on a free port, on either engine, and programs that speak to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
import trio

from actors.runtime import Secret
from docs.examples.ticketing.http import PLAN
from docs.examples.ticketing.http.options import LINKS
from storage.memory import MemoryDatabase
from tests.examples.orders.orders_kit import ask, text, told
from tests.patience import PATIENCE_S
from tests.web.server.edge_kit import Reply
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
    database_url: str | None, folder: Path, *, memory: MemoryDatabase | None = None
) -> AsyncIterator[OwnSite]:
    """Have the example served, in PostgreSQL or in memory, with the links of tests told."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(LINKS, "on")
        if database_url is None:
            async with open_site(PLAN, PATIENT, store=memory or MemoryDatabase()) as site:
                yield site
            return
        settings = replace(PATIENT, database_url=Secret(database_url), state_dir=folder / "state")
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

    async def get(self, path: str) -> dict[str, object]:
        reply = await self.ask(f"GET {path}")
        assert reply.status == 200, (reply.status, reply.body)
        return told(reply)

    async def reserve(self, event: str, quantity: int = 1, **more: object) -> Reply:
        body = {"event_id": event, "section": "General", "quantity": quantity, **more}
        return await self.ask("POST /api/reservations", body)

    async def reserved(self, event: str, quantity: int = 1, **more: object) -> str:
        reply = await self.reserve(event, quantity, **more)
        assert reply.status == 201, (reply.status, reply.body)
        return text(told(reply), "reservation_id")

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
