"""Ticketing over HTTP: the box office as a site, for programs and for pages.

`greenroom example ticketing` serves it. Read `options.py` (what an operator may say), `bank.py`
(the simulated gateway, in the store), `desk.py` (who asks, and which office they ask), `bus.py`
(where what was committed is told), `feed.py` (what came of it, told in each process), `shapes.py`
(what clients send and are told), then `routes/`, a file a resource.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from quart import Blueprint

from actors.persistence import ProjectionRunner
from docs.examples.store_feed import FeedPlace
from docs.examples.ticketing.http.bus import bus_of
from docs.examples.ticketing.http.desk import BANK, OFFICE, Bank, desk_of
from docs.examples.ticketing.http.feed import FEED, TicketFeed
from docs.examples.ticketing.http.health import components
from docs.examples.ticketing.http.hooks import COURIER, HOOKS, HOOKS_POLICY, Courier
from docs.examples.ticketing.http.routes.hooks import hook_routes
from docs.examples.ticketing.http.routes.lists import list_routes
from docs.examples.ticketing.http.routes.payments import payment_routes
from docs.examples.ticketing.http.routes.reservations import reservation_routes
from docs.examples.ticketing.http.routes.shows import show_routes
from docs.examples.ticketing.http.routes.signing import signing_routes
from docs.examples.ticketing.http.routes.tickets import ticket_routes
from docs.examples.ticketing.http.sockets import Beat, TicketSockets, at_paths
from docs.examples.ticketing.office import INLINE, BoxOffice
from docs.examples.ticketing.reading import finding
from docs.examples.ticketing.reading.finding import EventSearch
from docs.examples.ticketing.reading.halls import Halls
from docs.examples.ticketing.reading.listing import EventListing
from docs.examples.ticketing.reading.sales import Sales
from supervision import ChildSpec
from web.app import OwnSite, SitePlan
from web.server.quart_app import Identify

PORT = 8080


def tree(site: OwnSite) -> list[ChildSpec]:
    desk, place, rows = desk_of(site), FeedPlace(), site.beside.projections
    bus = bus_of(site)
    fed = partial(ProjectionRunner, source=bus.source)
    return [
        *bus.children(),
        ChildSpec(BANK, partial(Bank, desk), name=BANK, type="supervisor"),
        ChildSpec(OFFICE, partial(BoxOffice, desk.office), name=OFFICE, type="supervisor"),
        ChildSpec(COURIER, partial(Courier, site, desk.options.hooks), name=COURIER),
        ChildSpec(FEED, partial(TicketFeed, desk, place, bus.source), name=FEED),
        ChildSpec("beat", partial(Beat, sockets_of(site))),
        *(
            ChildSpec(one.name, partial(fed, one, site.store, rows))
            for one in (EventListing(), Halls(), Sales())
        ),
        ChildSpec(
            finding.NAME,
            partial(fed, EventSearch(), site.store, site.searching.projections),
        ),
    ]


def sockets_of(site: OwnSite) -> TicketSockets:
    """Call this for the sockets of a site."""
    return site.once(_make_sockets)


def _make_sockets(site: OwnSite) -> TicketSockets:
    return TicketSockets(desk_of(site))


def endpoints(site: OwnSite) -> Mapping[str, TicketSockets]:
    return at_paths(sockets_of(site))


def pages(site: OwnSite) -> Blueprint:
    routes = Blueprint("all", __name__)
    for part in (
        show_routes,
        reservation_routes,
        payment_routes,
        ticket_routes,
        hook_routes,
        list_routes,
        signing_routes,
    ):
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
    endpoints=endpoints,
    sends_mail=True,
    health=components,
    alive=None,
    outside={HOOKS: HOOKS_POLICY},
    searched={finding.NAME: finding.FIELDS},
)
