"""How commands reach orders, from HTTP and from the WebSocket alike, each carried out once.

A command that comes again with its key is the same command: over HTTP the `Idempotency-Key`, on
`greenroom.v1` the id. So an order that is placed without an id of its own gets one that follows
from the key, and what was stored by a try that was killed is read back and answered.
"""

from __future__ import annotations

import re
from hashlib import sha256
from uuid import UUID

from actors.persistence import AggregateRef, Done, Idempotent, Refusal, execute
from actors.persistence.event_types import EVENTS
from docs.examples.orders.deciding import (
    UNKNOWN,
    Cancel,
    Cancelled,
    Command,
    Happened,
    Order,
    Orders,
    Place,
    Placed,
    Ship,
    Shipped,
)
from docs.examples.orders.desk import OrderDesk
from docs.examples.orders.shapes import ID_PATTERN
from supervision import handle_of
from web.api import OUTCOME_S_MAX, Refusals, carry_out, maybe_done, not_found, read_state
from web.app import OwnSite, Speaker
from web.server import Answer

DESK = "desk"
# What the aggregate calls invalid is 400, as every code that is not listed.
REFUSALS = Refusals({UNKNOWN: Answer.NOT_FOUND, "too_much": Answer.VALIDATION})


class Desk:
    """The desk as routes and sockets need it: finds orders, asks them, tells what came of it."""

    def __init__(self, site: OwnSite) -> None:
        self._site = site

    def new_id(self, key: Idempotent | None) -> str:
        """A fresh id for an order; the same again for the same key."""
        fresh = self._site.environment.ids.new_id().hex
        seed = fresh if key is None else f"{key.scope}\0{key.key}"
        return f"order-{UUID(bytes=sha256(seed.encode()).digest()[:16], version=4)}"

    async def over_http(self, command: Command) -> Happened:
        """Carry a command out; raises the answer to a refusal, and 408 when there is no outcome."""
        order = self._maybe_order(command.order_id)
        if order is None:
            raise not_found("Order", command.order_id)
        return await self._event(command, await carry_out(order, command, REFUSALS))

    async def over_socket(self, command: Command, speaker: Speaker) -> Happened | Refusal:
        """Carry a command out, or say why not; raises `AskError` and `StoreError`."""
        order = self._maybe_order(command.order_id)
        if order is None:
            return Refusal(UNKNOWN, f"Order with id {command.order_id} not found")
        key = speaker.key
        done = await execute(order, command, timeout=OUTCOME_S_MAX, idempotency=key)
        if isinstance(done, Refusal):
            version = None if key is None else await maybe_done(key, self._site.idempotency)
            if version is None:
                return done
            done = Done(version, replayed=True)
        return await self._event(command, done)

    async def look(self, order_id: str) -> Order:
        """Read an order, after all earlier commands; raises the answer 404."""
        order = self._maybe_order(order_id)
        if order is None:
            raise not_found("Order", order_id)
        return await read_state(order, Order, "Order", order_id)

    def _maybe_order(self, order_id: str) -> AggregateRef | None:
        """What cannot be an id is no order either, and starts no actor."""
        if not re.fullmatch(ID_PATTERN, order_id):
            return None
        desk = handle_of(OrderDesk, self._site.ref(DESK, OrderDesk))
        return desk.by_id[order_id]

    async def _event(self, command: Command, done: Done) -> Happened:
        """The event that a command caused, now or when it came before."""
        found: object = done.events[0] if done.events else None
        if found is None:
            stream = Orders().stream_of(command.order_id)
            store, version = self._site.store, done.version
            async for stored in store.load(stream, from_version=version, to_version=version):
                found = EVENTS.decode(stored)
        assert isinstance(found, Placed | Cancelled | Shipped)
        return found


__all__ = ["DESK", "REFUSALS", "Cancel", "Desk", "Place", "Ship"]
