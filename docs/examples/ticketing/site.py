"""The whole of it: the API for programs, and the pages for people, on one tree.

`greenroom example ticketing` serves it, in memory or with `--store postgres`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from quart import Blueprint

from docs.examples.store_feed import FeedPlace
from docs.examples.ticketing import http
from docs.examples.ticketing.http.bus import bus_of
from docs.examples.ticketing.pages.buying import buying_routes
from docs.examples.ticketing.pages.front import FILES, Front
from docs.examples.ticketing.pages.gates import gate_routes
from docs.examples.ticketing.pages.holding import holding_routes
from docs.examples.ticketing.pages.live import PageFeed, live_parts
from docs.examples.ticketing.pages.signing import sign_in_routes
from docs.examples.ticketing.pages.staging import staging_routes
from supervision import ChildSpec
from web.app import OwnSite, PanelOf, serve_site


def tree(site: OwnSite) -> list[ChildSpec]:
    feed = partial(PageFeed, site.store, FeedPlace(), bus_of(site).source)
    return [*http.PLAN.tree(site), ChildSpec("page-feed", feed)]


def pages(site: OwnSite) -> Blueprint:
    routes, front = Blueprint("box-office", __name__), Front(site)
    routes.register_blueprint(http.PLAN.pages(site))
    for part in (buying_routes, holding_routes, gate_routes, staging_routes, sign_in_routes):
        routes.register_blueprint(part(front))
    return routes


def panels(site: OwnSite) -> Sequence[PanelOf]:
    return live_parts(Front(site))


PLAN = replace(
    http.PLAN,
    tree=tree,
    pages=pages,
    panels=panels,
    files=FILES,
)
if __name__ == "__main__":
    raise SystemExit(serve_site(PLAN))
