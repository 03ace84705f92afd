"""Ticketing under those who want too much, and on a store that fails in the middle of anything."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import uuid4

import pytest
import trio

from actors.persistence.errors import StoreUnavailable
from storage.memory import MemoryDatabase
from tests.examples.orders.orders_kit import text, told
from tests.examples.ticketing.http.ticketing_kit import (
    CARD,
    User,
    event_body,
    open_ticketing,
    planned,
    sign_in,
)
from tests.web.server.edge_kit import Reply
from web.app import OwnSite


async def at_once(ask: Callable[[], Awaitable[Reply]], times: int) -> list[Reply]:
    found: list[Reply] = []

    async def one() -> None:
        found.append(await ask())

    async with trio.open_nursery() as nursery:
        for _ in range(times):
            nursery.start_soon(one)
    return found


async def test_nobody_holds_a_hall_without_paying(memory_site: OwnSite) -> None:
    # EX-48: a hundred requests at once, and three buyers in rotation
    port = memory_site.port
    owner, *buyers = [await sign_in(port, f"{who}@example.com") for who in ("o", "a", "b", "c")]
    event = await planned(owner, 40)
    ann, *_ = buyers
    found = await at_once(lambda: ann.reserve(event), 100)
    assert Counter([await ann.decided(reply) for reply in found]) == {201: 2, 409: 8, 429: 90}
    for _ in range(4):
        for buyer in buyers:
            await buyer.reserve(event, 4)
    seats = await owner.until(f"/api/events/{event}/total-available", "total_available", 22)
    assert seats["total_available"] == 40 - 2 - 8 - 8


async def test_a_key_is_one_reservation_and_one_payment(memory_site: OwnSite) -> None:
    # EX-42, EX-44: many posts with one key
    port = memory_site.port
    owner, ann = [await sign_in(port, f"{who}@example.com") for who in ("o", "ann")]
    event, key = await planned(owner), {"Idempotency-Key": "k" * 20}
    body = {"event_id": event, "section": "General", "quantity": 1}
    found = await at_once(lambda: ann.ask("POST /api/reservations", body, key), 20)
    assert {reply.body for reply in found} == {found[0].body}
    assert await ann.decided(found[0]) == 201
    name = text(told(found[0]), "reservation_id")
    payments = await at_once(lambda: ann.pay(name, key="p" * 20), 20)
    assert {(reply.status, reply.body) for reply in payments} == {(201, payments[0].body)}
    await ann.until(f"/api/events/{event}/total-available", "total_available", 2)


class FailsAt:
    """Has the operation of some number of the store fail, and all others pass."""

    def __init__(self, database: MemoryDatabase) -> None:
        self.left = math.inf
        database.faults.pass_by = self.pass_by  # type: ignore[method-assign]

    def pass_by(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise StoreUnavailable("made to fail by a test")


@pytest.mark.slow
async def test_a_store_that_fails_in_the_middle_is_told_as_such(tmp_path: Path) -> None:
    # EX-42: done, refused for what is done, or not available; never a failure of ours
    database = MemoryDatabase()
    async with open_ticketing(None, tmp_path, memory=database) as site:
        owner, ann, bob = [
            await sign_in(site.port, f"{who}@example.com") for who in ("o", "ann", "bob")
        ]
        event = await planned(owner, 50)
        name = await ann.bought(event)
        hold = {"event_id": event, "section": "General", "quantity": 1}
        pay = {"reservation_id": name, "payment_method": CARD}
        asked: list[tuple[User, str, object]] = [
            (bob, "POST /api/events", event_body()),
            (bob, "POST /api/reservations", hold),
            (bob, f"GET /api/events/{event}/availability", None),
            (bob, f"GET /api/analytics/events/{event}/sales", None),
            (ann, f"GET /api/reservations/{name}", None),
            (ann, f"GET /api/payments/{name}", None),
            (ann, f"GET /api/tickets/{name}-1", None),
            (ann, "POST /api/payments", pay),
            (ann, f"POST /api/payments/{name}/refund", {"reason": "ill", "amount": 0.01}),
        ]
        fails, told_of = FailsAt(database), Counter[int]()
        for number in range(1, 6):
            for user, line, body in asked:
                fails.left = number
                reply = await user.ask(line, body, {"Idempotency-Key": str(uuid4())})
                fails.left = math.inf
                told_of[reply.status] += 1
        assert told_of[503] >= len(asked)
        assert told_of.keys() <= {200, 201, 202, 408, 409, 503}
