"""Who decides about orders, who tells of them, and who fills their list.

Every order is an actor of its own, started by the first message for it and gone when nobody has
asked for a while. What was committed is read back from the store and published on one topic, by
one actor: so a change is told once, whoever asked for it, in whichever process.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import cast

import trio

from actors.persistence import (
    START,
    AggregateActor,
    Cursor,
    CursorOutdated,
    EventStore,
    Page,
    ProjectionRunner,
    ProjectionStore,
    StoreError,
    StoreUnavailable,
)
from actors.persistence.event_types import EVENTS
from actors.reducers import Environment
from actors.runtime import Actor, Ask, Log, message
from docs.examples.orders.deciding import (
    CATEGORY,
    Cancelled,
    Command,
    Happened,
    Order,
    Orders,
    Placed,
    Shipped,
)
from docs.examples.orders.listing import OrderProjection
from docs.examples.orders.shapes import told
from supervision import Supervisor, child_method, dynamic_method

TOPIC = "orders"
# An order is asked for a few times in a row, and then seldom: who asks later waits for one read.
IDLE_S = 10.0
# A thousand a second for as long as each stays. More are answered 503 until some have gone.
ORDERS_MAX = 20_000
# A store that is away is asked again as often as a person would.
AWAY_S = 1.0

log = Log(__name__)


@message
class AskPlace(Ask[Cursor]):
    """Asks the feed how far it has told."""


class FeedPlace:
    """How far the feed has told. It outlives the feed, so a crash of it skips nothing."""

    def __init__(self) -> None:
        self.at: Cursor | None = None


class OrderFeed(Actor[AskPlace]):
    """Reads what happens to orders from the store, and publishes it."""

    def __init__(self, store: EventStore, place: FeedPlace) -> None:
        self._store, self._place = store, place

    async def on_start(self) -> None:
        """Begin where the log ends, or where the feed before this one had come."""
        if self._place.at is None:
            try:
                self._place.at = await self._end()
            except StoreError as error:
                log.warning("orders.feed_waits", code=error.code)
        self.start_soon(self._follow)

    def on_ask_place(self, message: AskPlace) -> Cursor:
        """Tell how far it has told."""
        return self._place.at or START

    async def _follow(self) -> None:
        while True:
            try:
                if self._place.at is None:
                    self._place.at = await self._end()
                await self._tell_for_ever(self._place.at)
            except StoreUnavailable as error:
                log.warning("orders.feed_waits", code=error.code)
                await trio.sleep(AWAY_S)
            except CursorOutdated:
                # Another order of events: what was told of the one before says nothing in it.
                self._place.at = None

    async def _tell_for_ever(self, after: Cursor) -> None:
        pages = self._store.follow(after=after, categories=[CATEGORY])
        async with aclosing(cast("AsyncGenerator[Page, None]", pages)) as reading:
            async for page in reading:
                for stored in page.events:
                    happened = None if stored.is_system else EVENTS.decode(stored)
                    if isinstance(happened, Placed | Cancelled | Shipped):
                        self.system.topics.publish(TOPIC, told(happened))
                    self._place.at = stored.cursor
                self._place.at = page.next

    async def _end(self) -> Cursor:
        newest = await self._store.read_backwards(limit=1, categories=[CATEGORY])
        return newest.events[0].cursor if newest.events else START


class OrderDesk(Supervisor, intensity=10, period=5.0):
    """Orders by their ids, the feed of their topic, and the list of all."""

    def __init__(
        self, store: EventStore, projections: ProjectionStore, env: Environment, place: FeedPlace
    ) -> None:
        self.store, self.projections, self.env, self.place = store, projections, env, place

    @dynamic_method(key="order_id", restart="transient", max_children=ORDERS_MAX)
    def by_id(self, order_id: str) -> AggregateActor[Order, Command, Happened]:
        return AggregateActor(Orders(), order_id, self.store, self.env, idle_s=IDLE_S)

    @child_method()
    def feed(self) -> OrderFeed:
        return OrderFeed(self.store, self.place)

    @child_method()
    def listing(self) -> ProjectionRunner:
        return ProjectionRunner(OrderProjection(), self.store, self.projections)
