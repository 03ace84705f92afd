"""Orders: an HTTP API and a WebSocket for programs, a list, and a page that follows it.

`python -m docs.examples.orders` serves it on PORT 3000 with PostgreSQL. Read `deciding.py` first
(what an order is), then `desk.py` (the actors), `listing.py` (the list, filled from the store),
`searching.py` (orders found by words),
`shapes.py` (what clients send and are told), `commands.py` (how a command reaches an order, once),
`routes.py`, `sockets.py` and `page.py`. `history.py` prints what happened to an order, `load.py`
tells how many are placed a second.
"""

from __future__ import annotations

from functools import partial

from quart import Blueprint

from docs.examples.orders.commands import DESK
from docs.examples.orders.desk import OrderDesk
from docs.examples.orders.page import order_panels, page_routes
from docs.examples.orders.routes import listing_routes, order_routes
from docs.examples.orders.searching import FIELDS, NAME
from docs.examples.orders.sockets import order_topics
from docs.examples.store_feed import FeedPlace
from supervision import ChildSpec
from web.app import OwnSite, SitePlan


def tree(site: OwnSite) -> list[ChildSpec]:
    place = FeedPlace()
    models, searched = site.beside.projections, site.searching.projections
    desk = partial(OrderDesk, site.store, models, searched, site.environment, place)
    return [ChildSpec(DESK, desk, name=DESK, type="supervisor")]


def pages(site: OwnSite) -> Blueprint:
    routes = Blueprint("all", __name__)
    for part in (order_routes(site), listing_routes(site), page_routes(site)):
        routes.register_blueprint(part)
    return routes


PLAN = SitePlan(
    name="orders",
    tree=tree,
    pages=pages,
    panels=order_panels,
    topics=order_topics,
    searched={NAME: FIELDS},
    # What clients of this API know.
    sockets=("/api/v1/ws", "/ws"),
    alive="ok",
)
