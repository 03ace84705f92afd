"""Who decides about orders, who tells of them, and who fills their list.

Every order is an actor of its own, started by the first message for it and gone when nobody has
asked for a while. What was committed is read back from the store and published on one topic, by
one actor: so a change is told once, whoever asked for it, in whichever process.
"""

from __future__ import annotations

from actors.persistence import (
    AggregateActor,
    EventStore,
    Page,
    ProjectionRunner,
    ProjectionStore,
)
from actors.persistence.event_types import EVENTS
from actors.reducers import Environment
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
from docs.examples.orders.searching import OrderSearch
from docs.examples.orders.shapes import told
from docs.examples.store_feed import FeedPlace, StoreFeed
from supervision import Supervisor, child_method, dynamic_method

TOPIC = "orders"
# An order is asked for a few times in a row, and then seldom: who asks later waits for one read.
IDLE_S = 10.0
# A thousand a second for as long as each stays. More are answered 503 until some have gone.
ORDERS_MAX = 20_000


class OrderFeed(StoreFeed):
    """Reads what happens to orders from the store, and publishes it."""

    categories = (CATEGORY,)

    async def tell(self, page: Page) -> None:
        """Publish each change."""
        for stored in page.events:
            happened = None if stored.is_system else EVENTS.decode(stored)
            if isinstance(happened, Placed | Cancelled | Shipped):
                self.system.topics.publish(TOPIC, told(happened))


class OrderDesk(Supervisor, intensity=10, period=5.0):
    """Orders by their ids, the feed of their topic, the list of all, and what finds them."""

    def __init__(
        self,
        store: EventStore,
        projections: ProjectionStore,
        searched: ProjectionStore,
        env: Environment,
        place: FeedPlace,
    ) -> None:
        self.store, self.projections, self.searched = store, projections, searched
        self.env, self.place = env, place

    @dynamic_method(key="order_id", restart="transient", max_children=ORDERS_MAX)
    def by_id(self, order_id: str) -> AggregateActor[Order, Command, Happened]:
        return AggregateActor(Orders(), order_id, self.store, self.env, idle_s=IDLE_S)

    @child_method()
    def feed(self) -> OrderFeed:
        return OrderFeed(self.store, self.place)

    @child_method()
    def listing(self) -> ProjectionRunner:
        return ProjectionRunner(OrderProjection(), self.store, self.projections)

    @child_method()
    def searching(self) -> ProjectionRunner:
        return ProjectionRunner(OrderSearch(), self.store, self.searched)
