"""The routes that belong to no panel: home and its stream, static files, health."""

from dataclasses import dataclass
from uuid import uuid4

import msgspec
from quart import Blueprint, Response

from web.realtime import Audience, Stream
from web.routing import paths
from web.routing.errors import NoSuchThing
from web.routing.services import Services
from web.server import current_request_state
from web.site.events import StreamQuery
from web.site.health import Health
from web.site.pages import PAGE_HOME, page_response, shell
from web.site.proof_feed import ProofSource
from web.views import CACHE_CONTROL, HomePage, StaticTable, sample_code

JSON = "application/json"


@dataclass(frozen=True, slots=True)
class SiteServices:
    """What the site itself needs beside the services of every feature."""

    static: StaticTable
    health: Health
    proof: ProofSource
    proof_readers: Audience[Stream]


def site_routes(services: Services, site: SiteServices) -> Blueprint:
    """Call this to get the routes of the site itself."""
    routes = Blueprint("site", __name__)
    code = sample_code()

    @routes.get(paths.HOME)
    async def home() -> Response:
        state = current_request_state()
        frame = shell(state, "Home", PAGE_HOME, services.version, str(uuid4()))
        page = HomePage(frame, site.proof.view(), code)
        return page_response(services.renderer.home_page(page))

    @routes.get(paths.STATIC)
    async def static(name: str) -> Response:
        found = site.static.find(name)
        if found is None:
            raise NoSuchThing(name)
        return Response(
            found.body, content_type=found.content_type, headers={"cache-control": CACHE_CONTROL}
        )

    @routes.get(paths.HEALTH)
    async def health() -> Response:
        return Response(b"OK", content_type="text/plain; charset=utf-8")

    @routes.get(paths.HEALTH_LIVE)
    async def live() -> Response:
        return _json({"status": "ok", "version": services.version})

    @routes.get(paths.READY)
    @routes.get(paths.HEALTH_READY)
    async def ready() -> Response:
        report = await site.health.report()
        # SEC-84: whoever may ask learns whether, and only an operator's own machines why.
        shown = report.to_json() if current_request_state().is_near else report.to_public_json()
        return _json(shown, 200 if report.is_ready else 503)

    return routes


class HomeStreams:
    """What the stream of a home page is sent: the figures."""

    def __init__(self, site: SiteServices) -> None:
        self._readers = site.proof_readers

    def check(self, query: StreamQuery) -> None:
        """Every query is one for this page."""

    def fill(self, stream: Stream, query: StreamQuery) -> None:
        """Join the feed of the figures, until the stream closes."""
        stream.when_closed(self._readers.leave)
        self._readers.join(stream)


def _json(value: dict[str, object], status: int = 200) -> Response:
    return Response(
        msgspec.json.encode(value),
        status=status,
        content_type=JSON,
        headers={"cache-control": "no-store"},
    )
