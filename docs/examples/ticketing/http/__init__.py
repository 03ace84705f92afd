"""Ticketing over HTTP: the box office as a site, for programs and for pages.

`greenroom example ticketing` serves it. Read `options.py` (what an operator may say), `bank.py`
(the simulated gateway, in the store), `desk.py` (who asks, and which office they ask), `feed.py`
(what was committed, told in each process), `shapes.py` (what clients send and are told), then
`routes/`, a file a resource.
"""

from __future__ import annotations

from functools import partial

from quart import Blueprint

from docs.examples.store_feed import FeedPlace
from docs.examples.ticketing.http.desk import BANK, OFFICE, Bank, desk_of
from docs.examples.ticketing.http.feed import TicketFeed
from docs.examples.ticketing.http.routes.payments import payment_routes
from docs.examples.ticketing.http.routes.reservations import reservation_routes
from docs.examples.ticketing.http.routes.shows import show_routes
from docs.examples.ticketing.http.routes.signing import signing_routes
from docs.examples.ticketing.http.routes.tickets import ticket_routes
from docs.examples.ticketing.office import INLINE, BoxOffice
from supervision import ChildSpec
from web.app import OwnSite, SitePlan
from web.server.quart_app import Identify

PORT = 8080


def tree(site: OwnSite) -> list[ChildSpec]:
    desk, place = desk_of(site), FeedPlace()
    return [
        ChildSpec(BANK, partial(Bank, desk), name=BANK, type="supervisor"),
        ChildSpec(OFFICE, partial(BoxOffice, desk.office), name=OFFICE, type="supervisor"),
        ChildSpec("feed", partial(TicketFeed, desk, place)),
    ]


def pages(site: OwnSite) -> Blueprint:
    routes = Blueprint("all", __name__)
    for part in (show_routes, reservation_routes, payment_routes, ticket_routes, signing_routes):
        routes.register_blueprint(part(site))
    return routes


def identify(site: OwnSite) -> Identify:
    return desk_of(site).identity


PLAN = SitePlan(
    name="ticketing",
    tree=tree,
    pages=pages,
    inline=INLINE,
    programs=("/api/", "/auth/", "/webhooks/"),
    identify=identify,
    sends_mail=True,
)
