"""The page `/ops` and its stream.

Rule: who may come here is declared in `web.accounts.roles.access`: the role, and a fresh proof. Its
stream shows the same, and asks for the same.
"""

from __future__ import annotations

from uuid import uuid4

from quart import Blueprint, Response, request

from web.accounts.identity import member_of
from web.accounts.roles.access import ACCESS, judge
from web.observability.operating.overview.reading import OverviewSource
from web.realtime import Audience, PageHolds, Stream
from web.routing import paths
from web.routing.errors import NotAllowed, NotSignedIn
from web.routing.services import Services
from web.server import current_request_state
from web.site.events import StreamQuery
from web.site.pages import PAGE_OVERVIEW, form_response, shell
from web.views.moderation import OverviewPage


class OverviewStreams:
    """What the stream of an operator's page is sent: the figures, every two seconds."""

    def __init__(self, readers: Audience[Stream]) -> None:
        self._readers = readers

    async def check(self, query: StreamQuery) -> None:
        """Refuse who may not see the page; raises `NotAllowed` and its kin."""
        member = member_of(request.scope)
        if member is None:
            raise NotSignedIn("this is for operators who are signed in")
        # It is no page, so who has not proven enough is refused, and asks with a page.
        refused = await judge(ACCESS[paths.OPS]["GET"], member, _never)
        assert refused is None, "a stream is asked for nothing"

    def fill(self, stream: Stream, query: StreamQuery, holds: PageHolds | None) -> None:
        """Join the feed of the figures, until the stream closes."""
        stream.when_closed(self._readers.leave)
        self._readers.join(stream)


async def _never(*_: object) -> Response:
    raise NotAllowed("this needs a fresh proof of who you are; load the page again")


def overview_routes(services: Services, source: OverviewSource) -> Blueprint:
    """Call this to get the routes."""
    routes = Blueprint("overview", __name__)

    @routes.get(paths.OPS)
    async def look() -> Response:
        state = current_request_state()
        with source.watching():
            view = await source.read()
        frame = shell(services, state, "The running site", PAGE_OVERVIEW, str(uuid4()))
        return form_response(services.renderer.overview_page(OverviewPage(frame, view)))

    return routes
