"""The routes that belong to no panel: home and its stream, static files, health."""

from collections.abc import Callable
from dataclasses import dataclass
from uuid import uuid4

import msgspec
from quart import Blueprint, Response, request

from web.realtime import Audience, PageHolds, Stream, StreamKey, joined, patch_elements
from web.routing import paths
from web.routing.commands import parse_tab
from web.routing.errors import FailedOnPurpose, InvalidInput, NoSuchThing
from web.routing.services import Services
from web.server import Answer, ReadyAnswer, current_request_state, ready_answer
from web.site.events import StreamQuery
from web.site.health import Health
from web.site.measured import MEASURED
from web.site.pages import PAGE_HOME, page_response, shell
from web.site.proof_feed import ProofSource
from web.views import (
    CACHE_CONTROL,
    Doorway,
    ErrorView,
    HomePage,
    StageView,
    StaticTable,
    element_id,
    sample_code,
)

JSON = "application/json"
# What a page calls the panel with the stage.
STAGE = "tree"
# For a name that never changes, and is asked for by itself.
_A_DAY = b"public, max-age=86400"
# Streams, commands and pages of one person are nothing to be found.
_ROBOTS = b"".join(
    b"%b\n" % line.encode("ascii")
    for line in (
        "User-agent: *",
        *(
            f"Disallow: {path}"
            for path in (paths.EVENTS, "/demo/", "/api/", paths.ACCOUNT, paths.PROTECTED)
        ),
    )
)


@dataclass(frozen=True, slots=True)
class HomeStage:
    """The lab's stage, as far as the home page shows it.

    A page joins without a sandbox: one is made when its visitor first wants to crash something.
    """

    still: Callable[[], StageView]
    join: Callable[[Stream, str], None]
    leave: Callable[[Stream], None]


@dataclass(frozen=True, slots=True)
class SiteServices:
    """What the site itself needs beside the services of every feature."""

    static: StaticTable
    health: Health
    proof: ProofSource
    proof_readers: Audience[Stream]
    stage: HomeStage
    doorways: tuple[Doorway, ...] = ()


def site_routes(services: Services, site: SiteServices) -> Blueprint:
    """Call this to get the routes of the site itself."""
    routes = Blueprint("site", __name__)
    code = sample_code()

    @routes.get(paths.HOME)
    async def home() -> Response:
        state = current_request_state()
        frame = shell(services, state, "Home", PAGE_HOME, str(uuid4()))
        stage, ways = site.stage.still(), site.doorways
        page = HomePage(frame, site.proof.view(), code, stage, MEASURED, ways)
        return page_response(services.renderer.filled.home(page))

    @routes.get(paths.ERROR_TEST)
    async def error_test() -> Response:
        # SITE-157: with a tab that is open, what a page would show is told to it.
        tell_failure(services)
        raise FailedOnPurpose

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
        report = await site.health.report()
        # SEC-84: whoever may ask learns whether, and only an operator's own machines why.
        shown = report.to_json() if current_request_state().is_near else report.to_public_json()
        return _json(shown, 200 if report.is_ready else 503)

    return routes


class _TabQuery(msgspec.Struct, frozen=True):
    tab: str = msgspec.field(name="sseTabId", default="")


def tell_failure(services: Services) -> None:
    """Call this to show a failure on the page whose script asked; a plain request gets a page."""
    state, row = current_request_state(), Answer.INTERNAL.value
    try:
        asked = msgspec.json.decode(request.args.get("datastar", ""), type=_TabQuery)
        key = StreamKey(state.visitor.id, parse_tab(asked.tab))
    except (msgspec.DecodeError, RecursionError, InvalidInput):
        return  # no page's script, or none with a stream
    shown = ErrorView(row.status, row.title, row.text, element_id(state.request_id))
    frame = patch_elements(services.renderer.error_fragment(shown))
    services.streams.send_to(key, "error-test", joined([frame]))


def ready_answers(static: StaticTable, version: str) -> Callable[[str], ReadyAnswer | None]:
    """Call this to get the answers that are the same for everybody: probes and files, by path."""
    kept = (b"cache-control", CACHE_CONTROL.encode("ascii"))
    found = {
        paths.HEALTH: ready_answer("text/plain; charset=utf-8", b"OK"),
        paths.HEALTH_LIVE: ready_answer(
            JSON,
            msgspec.json.encode({"status": "ok", "version": version}),
            (b"cache-control", b"no-store"),
        ),
    }
    for name, file in static.files.items():
        found[f"/static/{name}"] = ready_answer(file.content_type, file.body, kept, has_gzip=True)
    icon = static.find(static.hashed_names["favicon.ico"])
    assert icon is not None, "a table finds what it names"
    found[paths.FAVICON] = ready_answer(icon.content_type, icon.body, (b"cache-control", _A_DAY))
    text = "text/plain; charset=utf-8"
    found[paths.ROBOTS] = ready_answer(text, _ROBOTS, (b"cache-control", _A_DAY))
    return found.get


class HomeStreams:
    """What the stream of a home page is sent: the figures, and the stage once it is wanted."""

    def __init__(self, site: SiteServices) -> None:
        self._readers, self._stage = site.proof_readers, site.stage

    async def check(self, query: StreamQuery) -> None:
        """Every query is one for this page."""

    def fill(self, stream: Stream, query: StreamQuery, holds: PageHolds | None) -> None:
        """Join the feeds until the stream closes; what they send is never the same."""
        stream.when_closed(self._readers.leave)
        stream.when_closed(self._stage.leave)
        self._readers.join(stream)
        # A page that comes back says that it had woken its stage.
        self._stage.join(stream, STAGE if query.panel == STAGE else "")


def _json(value: dict[str, object], status: int = 200) -> Response:
    return Response(
        msgspec.json.encode(value),
        status=status,
        content_type=JSON,
        headers={"cache-control": "no-store"},
    )
