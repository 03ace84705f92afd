"""The routes that belong to no panel: home and its stream, and the demonstration of a failure."""

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
from quart import Blueprint, Response, request

from web.realtime import Audience, PageHolds, Stream, StreamKey, joined, patch_elements
from web.routing import paths
from web.routing.commands import parse_tab
from web.routing.errors import FailedOnPurpose, InvalidInput
from web.routing.services import Services
from web.server import Answer, current_request_state, new_uuid
from web.site.events import StreamQuery
from web.site.measured import MEASURED
from web.site.pages import PAGE_HOME, frame_words, is_moderator, page_response, shell
from web.site.proof_feed import ProofSource
from web.views import (
    Doorway,
    ErrorView,
    HomePage,
    StageView,
    element_id,
    sample_code,
)

# What a page calls the panel with the stage.
STAGE = "tree"
# Streams, commands and pages of one person are nothing to be found.
ROBOTS = b"".join(
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
        state, tab, filled = current_request_state(), new_uuid(), services.renderer.filled
        stage, proof, ways = site.stage.still(), site.proof.glance(), site.doorways
        # What decides how all see the page: to guests the frame offers other ways than to members.
        known = services, stage, proof, ways, state.signed_in is None

        def view() -> HomePage:
            frame = shell(services, state, "Home", PAGE_HOME, tab)
            return HomePage(frame, proof, code, stage, MEASURED, ways)

        if is_moderator(state):  # in their frame stands how many messages wait
            return page_response(filled.home(view()))
        page = filled.maybe_home(known, frame_words(services, state, tab))
        return page_response(page or filled.new_home(known, view()))

    @routes.get(paths.ERROR_TEST)
    async def error_test() -> Response:
        # SITE-157: with a tab that is open, what a page would show is told to it.
        tell_failure(services)
        raise FailedOnPurpose

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
