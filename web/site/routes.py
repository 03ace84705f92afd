"""The routes that belong to no panel: home, static files, health."""

from uuid import uuid4

import msgspec
from quart import Blueprint, Response

from web import paths
from web.errors import NoSuchThing
from web.server import current_request_state
from web.services import Services
from web.site.pages import PAGE_HOME, shell
from web.views import CACHE_CONTROL, HomePage, sample_code

HTML = "text/html; charset=utf-8"
JSON = "application/json"


def page_response(html: str) -> Response:
    """Call this to answer a page; it holds a nonce and names, so no cache keeps it (SEC-60)."""
    return Response(html, content_type=HTML, headers={"cache-control": "no-store"})


def site_routes(services: Services) -> Blueprint:
    """Call this to get the routes of the site itself."""
    routes = Blueprint("site", __name__)
    code = sample_code()

    @routes.get(paths.HOME)
    async def home() -> Response:
        state = current_request_state()
        frame = shell(state, "Home", PAGE_HOME, services.version, str(uuid4()))
        page = HomePage(frame, services.proof.view(), code)
        return page_response(services.renderer.home_page(page))

    @routes.get(paths.STATIC)
    async def static(name: str) -> Response:
        found = services.static.find(name)
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
        report = await services.health.report()
        return _json(report.to_json(), 200 if report.is_ready else 503)

    return routes


def _json(value: dict[str, object], status: int = 200) -> Response:
    return Response(
        msgspec.json.encode(value),
        status=status,
        content_type=JSON,
        headers={"cache-control": "no-store"},
    )
