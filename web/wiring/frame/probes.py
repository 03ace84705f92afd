"""What any site answers without asking anybody: static files, and whether it is well."""

from collections.abc import Callable

import msgspec
from quart import Blueprint, Response, request

from actors.runtime import System
from web.observability.health import Component, Finding, Health, degraded, healthy, unhealthy
from web.realtime import Streams
from web.routing import paths
from web.routing.errors import NoSuchThing
from web.server import ReadyAnswer, current_load, current_request_state, ready_answer
from web.views import CACHE_CONTROL, StaticTable
from web.wiring.frame.finding import STREAMS

JSON = "application/json"
_TEXT = "text/plain; charset=utf-8"
# For a name that never changes, and is asked for by itself.
_A_DAY = b"public, max-age=86400"
# A favicon is asked for by every browser, named or not.
_ICON = "favicon.ico"
# A person asks for the numbers too: `/ready?verbose`.
_VERBOSE = "verbose"
# From here on a site that grows has a moment left before it refuses pages their stream.
STREAMS_DEGRADED = 0.9


def ready_answers(
    static: StaticTable, version: str, *, robots: bytes, alive: bytes | None = b"OK"
) -> Callable[[str], ReadyAnswer | None]:
    """Call this to get the answers that are the same for everybody: probes and files, by path."""
    kept = (b"cache-control", CACHE_CONTROL.encode("ascii"))
    told = msgspec.json.encode({"status": "ok", "version": version})
    live = ready_answer(JSON, told, (b"cache-control", b"no-store"))
    found = {
        paths.HEALTH: live if alive is None else ready_answer(_TEXT, alive),
        paths.HEALTH_LIVE: live,
    }
    for name, file in static.files.items():
        found[f"/static/{name}"] = ready_answer(file.content_type, file.body, kept, has_gzip=True)
    icon = static.find(static.hashed_names.get(_ICON, ""))
    if icon is not None:
        day = (b"cache-control", _A_DAY)
        found[paths.FAVICON] = ready_answer(icon.content_type, icon.body, day)
    found[paths.ROBOTS] = ready_answer(_TEXT, robots, (b"cache-control", _A_DAY))
    return found.get


def probe_routes(health: Health) -> Blueprint:
    """Call this to get the routes behind `ready_answers`: `/ready`, `/health/startup` and so on."""
    routes = Blueprint("probes", __name__)

    # A GET of these is answered before Quart is asked (`ready_answers`). They are routes for what
    # else comes: names that are no files, and methods that are answered 405 with the right ones.
    @routes.get(paths.STATIC)
    @routes.get(paths.FAVICON)
    @routes.get(paths.ROBOTS)
    async def static(name: str = "") -> Response:
        raise NoSuchThing(name)

    @routes.get(paths.HEALTH)
    @routes.get(paths.HEALTH_LIVE)
    async def probe() -> Response:
        raise NoSuchThing(request.path)

    @routes.get(paths.READY)
    @routes.get(paths.HEALTH_READY)
    async def ready() -> Response:
        report = await health.report()
        # SEC-84: whoever may ask learns whether, and only an operator's own machines why.
        is_verbose = _VERBOSE in request.args
        shown = (
            report.to_json(is_verbose=is_verbose)
            if current_request_state().is_near
            else report.to_public_json()
        )
        return _probed(shown, is_well=report.is_ready)

    @routes.get(paths.HEALTH_STARTUP)
    async def startup() -> Response:
        started = await health.has_started()
        return _probed({"started": started}, is_well=started)

    @routes.get(paths.HEALTH_LOAD)
    async def load() -> Response:
        # SEC-84: how much it takes to keep others out is for an operator's own machines.
        if not current_request_state().is_near:
            raise NoSuchThing(request.path)
        return _probed(current_load(), is_well=True)

    return routes


def _probed(shown: object, *, is_well: bool) -> Response:
    return Response(
        msgspec.json.encode(shown),
        status=200 if is_well else 503,
        content_type=JSON,
        headers={"cache-control": "no-store"},
    )


def streams_component(find: Callable[[], Streams], system: Callable[[], System]) -> Component:
    """Call this for the streams of open pages: who stands above them, and how many there are."""

    def check() -> Finding:
        streams = find()
        numbers = {"open": len(streams), "open_max": streams.total_max}
        if streams.is_draining:
            return unhealthy("streams are being closed", **numbers)
        if system().whereis(STREAMS) is None:
            return unhealthy("no stream can be opened: what starts them is away", **numbers)
        if len(streams) > STREAMS_DEGRADED * streams.total_max:
            return degraded("nearly as many streams are open as may be", **numbers)
        return healthy(**numbers)

    return Component("streams", check)
