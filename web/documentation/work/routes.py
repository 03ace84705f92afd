"""The routes of the mechanism pages. Their panels are the lab's, and so are their streams."""

from contextlib import suppress
from uuid import uuid4

from msgspec.structs import replace
from quart import Blueprint, Response

from actors.accounts import StreamClosed, StreamOpened
from actors.chat import parse_room
from actors.runtime import NoProc
from web.chat.routes import viewer_of
from web.documentation.work.mechanisms import CHAT, COMMANDS, OPERATIONS, Mechanism
from web.documentation.work.presenting import mechanism_view
from web.lab.routes import LabServices, LabStreams, lab_view
from web.realtime import PageHolds, Stream
from web.routing import paths
from web.routing.commands import parse_tab
from web.routing.errors import InvalidInput, NoSuchThing
from web.routing.services import Services
from web.server import current_request_state
from web.site.events import StreamQuery
from web.site.pages import PAGE_WORK, form_response, shell
from web.views import MechanismView, WorkListPage, WorkPage, element_id

# Which of the lab's panels shows a mechanism at work; its page's stream is sent that and no more.
_CHAT, _DEMOS, _OPERATIONS = "chat", "demos", "operations"
_PANELS = {CHAT: _CHAT, COMMANDS: _DEMOS, OPERATIONS: _OPERATIONS}


def work_routes(
    services: Services, lab: LabServices, mechanisms: tuple[Mechanism, ...]
) -> Blueprint:
    """Call this to get the routes."""
    routes = Blueprint("work", __name__)
    has_documents = services.pages.documents is not None
    shown: dict[str, MechanismView] = {
        one.slug: mechanism_view(one, has_documents=has_documents) for one in mechanisms
    }

    @routes.get(paths.WORK)
    async def all_of_them() -> Response:
        frame = shell(services, current_request_state(), "Work", PAGE_WORK, back=paths.WORK)
        page = WorkListPage(frame, tuple(shown.values()))
        return form_response(services.renderer.work_list(page))

    @routes.get(paths.WORK_PAGE)
    async def one_of_them(slug: str) -> Response:
        view = shown.get(slug)
        if view is None:
            raise NoSuchThing(slug)
        state, tab = current_request_state(), str(uuid4())
        frame = shell(services, state, view.eyebrow, PAGE_WORK, tab, back=view.path)
        page = await lab_view(services, lab, frame, tab)
        shown_page = WorkPage(frame, view, element_id(_PANELS[slug]), page)
        return form_response(services.renderer.work_page(shown_page))

    return routes


class WorkStreams:
    """What the stream of a mechanism's page is sent: the panel it shows, as the lab's page is."""

    def __init__(self, services: Services, lab: LabServices) -> None:
        self._services, self._lab = services, lab
        self._of_lab = LabStreams(services, lab)

    async def check(self, query: StreamQuery) -> None:
        """Refuse a page that shows none of the panels, and what the lab refuses; raises alike."""
        if query.panel not in _PANELS.values():
            raise InvalidInput("a mechanism's page shows one of three panels")
        await self._of_lab.check(replace(query, panel=""))

    def fill(self, stream: Stream, query: StreamQuery, holds: PageHolds | None) -> None:
        """Join the feeds and bind the tab; everything is given back when the stream closes."""
        tab, session, room = parse_tab(query.tab), stream.key.session, parse_room(query.room)
        assert room is not None, "the query was checked"

        def leave(_: Stream) -> None:
            # All sessions are being restarted: this one knows no tab any more.
            with suppress(NoProc):
                self._services.session(session).tell(StreamClosed(tab))

        self._services.session(session).tell(StreamOpened(tab, room))
        stream.when_closed(leave)
        if query.panel == _CHAT:
            self._lab.chat.shown.show(stream, room, holds, viewer_of(current_request_state()))
            return
        self._lab.counters.join(stream)
        if query.panel == _OPERATIONS:
            self._lab.timeline.join(stream, query.filter_query, query.chosen_flow, is_shown=True)
