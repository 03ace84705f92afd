"""The routes of the lab: the page, its stream, and what a visitor may do to the actors it shows."""

from collections.abc import Callable
from dataclasses import dataclass
from uuid import uuid4

from quart import Blueprint, Response

from actors.accounts import BindTab, StreamClosed, StreamOpened, TabId
from actors.chat import LOBBY, CrashRoom, RoomRef, parse_room
from actors.runtime import Log, NoProc
from web.chat.refusals import RefusedPost, ShowAgain
from web.chat.routes import (
    LOBBY_NOW,
    ChatServices,
    RoomPart,
    chat_view,
    may_read,
    member_name,
    read_part,
    viewer_of,
)
from web.lab.demos.counter import Counters
from web.lab.demos.routes import PANEL_VIEWS
from web.lab.panels.feed import PANELS_OPEN
from web.lab.panels.still import Stills
from web.lab.sandbox.recording import Deed
from web.lab.sandbox.words import ABOVE
from web.lab.stage import actions
from web.lab.stage.actions import OPERATIONS, SITE, StageServices
from web.lab.tree.feed import TreeSource
from web.realtime import Audience, PageHolds, Stream
from web.routing import paths
from web.routing.commands import parse_tab
from web.routing.decided import CommandKey
from web.routing.errors import (
    InvalidInput,
    LabClosed,
    NoLiveStream,
    NoSuchThing,
    NotPossible,
    error_table,
)
from web.routing.services import Services
from web.server import Answer, current_request_state, tell_unavailable
from web.settings import LabMode
from web.site.events import StreamQuery
from web.site.pages import PAGE_LAB, form_response, page_response, shell
from web.timeline.feed import Viewers
from web.views import LabPage, Shell

log = Log(__name__)

CRASH = "crash"
# How the record names what a visitor may crash of the site itself.
ROOM_PLACE = "the Lobby's room"


@dataclass(frozen=True, slots=True)
class LabServices:
    """What the lab needs beside the services of every feature; chat stands on its page."""

    chat: ChatServices
    tree: TreeSource
    tree_readers: Audience[Stream]
    stage: StageServices
    is_loopback: bool
    has_offered: Callable[[str], bool]
    timeline: Viewers
    wake_panels: Callable[[], None]
    counters: Counters
    stills: Stills


def lab_routes(services: Services, lab: LabServices) -> Blueprint:
    """Call this to get the routes of the lab."""
    routes = actions.stage_routes(services, lab.stage)

    @routes.get(paths.LAB)
    async def lab_page() -> Response:
        page = await _page(services, lab, await read_part(services, lab.chat))
        return page_response(services.renderer.filled.lab(page))

    @routes.post(paths.LAB_ACTION)
    async def act(target: str, action: str) -> Response:
        state = current_request_state()
        command, tab = await actions.read_stage_command()
        if target in ABOVE:
            return actions.act(services, lab.stage, target, action, command)
        if action not in actions.ACTIONS:
            raise InvalidInput("there is no such action")
        key = CommandKey(state.visitor.id, f"{action} of the site", command.command_id)
        outcome = lab.stage.decided.get(key)
        if outcome is None:
            if lab.stage.switch.mode is not LabMode.PUBLIC:
                raise LabClosed(lab.stage.switch.mode)
            if not actions.has_stream(services, state.visitor.id, tab):
                raise NoLiveStream(tab)
            # In public nobody learns which of the site's own actors there are (LAB-6, LAB-90).
            if action != CRASH or not lab.is_loopback:
                raise NoSuchThing(target)
            room, deed = _offered(lab, target), Deed(CRASH, ROOM_PLACE, 1)
            sandbox = lab.stage.sandboxes.of(state.visitor.id)
            actions.take_quota(lab.stage, state, sandbox, deed)
            room.tell(CrashRoom("crashed from the lab by a visitor"))
            outcome = actions.DONE
            actions.settle(lab.stage, state, key, sandbox, deed, outcome)
        return actions.answer_of(outcome, target)

    return routes


async def _page(
    services: Services,
    lab: LabServices,
    part: RoomPart = LOBBY_NOW,
    refused: RefusedPost | None = None,
) -> LabPage:
    tab = str(uuid4())
    frame = shell(services, current_request_state(), "Lab", PAGE_LAB, tab, room=part.room)
    return await lab_view(services, lab, frame, tab, part, refused)


async def lab_view(
    services: Services,
    lab: LabServices,
    frame: Shell,
    tab: str,
    part: RoomPart = LOBBY_NOW,
    refused: RefusedPost | None = None,
) -> LabPage:
    """Call this for all panels of the lab, for a page of this frame and tab that shows some.

    Its chat shows `part`, which who looks may read.

    Raises `StoreUnavailable` and its kin when the room cannot be read, and `NoProc` while sessions
    are being restarted.
    """
    state = current_request_state()
    chat = await chat_view(services, lab.chat, state, part, tab, refused)
    try:
        services.session(state.visitor.id).tell(BindTab(TabId(tab), part.room))
    except NoProc:
        # What was typed is more than a tab that works; its page says that it is in no room.
        if refused is None:
            raise
    count = str(lab.counters.of(state.visitor.text))
    stage = lab.stage.picture.still()
    still = lab.stills.of(state.visitor.id, is_new=state.visitor.is_new)
    return LabPage(frame, lab.tree.view(), chat, stage, PANEL_VIEWS, count, still)


def lab_again(services: Services, lab: LabServices) -> ShowAgain:
    """Call this for what answers a refused form of the chat: the lab's page, with what was typed.

    Its status is the refusal's, and so are the seconds to wait and the limit.
    """
    rows = error_table()

    async def show(refused: RefusedPost) -> Response:
        row = rows.row(refused.error)
        if row.status == Answer.UNAVAILABLE.value.status:
            tell_unavailable(refused.error)
        elif row.status >= 500:
            log.error("chat.post_not_stored", status=row.status, exc_info=refused.error)
        page = await _page(services, lab, RoomPart(refused.room), refused)
        more = {name.decode(): value.decode() for name, value in row.headers}
        if row.retry_after_s is not None:
            more["retry-after"] = str(row.retry_after_s)
        # Rendered for this one answer: nobody else may be given what was typed.
        return form_response(services.renderer.lab_page(page), row.status, **more)

    return show


class LabStreams:
    """What the stream of a lab page is sent: the tree, and the room of its chat panel."""

    def __init__(self, services: Services, lab: LabServices) -> None:
        self._services, self._lab = services, lab

    async def check(self, query: StreamQuery) -> None:
        """Refuse a page that names no room, or one that its viewer may not read (SITE-91).

        Raises `InvalidInput`, or `NotPossible`: loaded again it shows the Lobby.
        """
        room = parse_room(query.room)
        if room is None:
            raise InvalidInput("this page shows a room, and there is none of that name")
        if not await may_read(self._services, self._lab.chat, current_request_state(), room):
            raise NotPossible("this page shows a room of others; load it again")
        if query.panel and query.panel not in actions.PANELS:
            raise InvalidInput("the lab has no such panel")

    def fill(self, stream: Stream, query: StreamQuery, holds: PageHolds | None) -> None:
        """Join the feeds and bind the tab; everything is given back when the stream closes."""
        room, tab = parse_room(query.room), parse_tab(query.tab)
        assert room is not None, "the query was checked"

        def leave(_: Stream) -> None:
            self._lab.tree_readers.leave(stream)
            self._lab.stage.sandboxes.leave(stream)
            try:
                self._services.session(stream.key.session).tell(StreamClosed(tab))
            except NoProc:
                return  # all sessions are being restarted: this one knows no tab any more

        self._services.session(stream.key.session).tell(StreamOpened(tab, room))
        stream.when_closed(leave)
        who = viewer_of(current_request_state())
        self._lab.chat.shown.show(stream, room, holds, who, member_name(current_request_state()))
        # LAB-1: a panel that nobody sees is sent nothing. Who does not say sees the site's tree.
        panel = query.panel or SITE
        if panel == SITE:
            self._lab.tree_readers.join(stream, holds)
        self._lab.chat.shown.watch(stream, is_shown=panel == actions.CHAT)
        self._lab.stage.sandboxes.join(stream, panel)
        if panel in PANELS_OPEN:
            self._lab.wake_panels()
        self._lab.counters.join(stream)
        self._lab.timeline.join(
            stream, query.filter_query, query.chosen_flow, is_shown=query.panel == OPERATIONS
        )


def _offered(lab: LabServices, target: str) -> RoomRef:
    """Find what may be crashed. Judged before the command counts as given: a refused one may
    be sent again, and a repeat is answered as the first was (SITE-102)."""
    offered = lab.tree.read().target
    if offered is None or not lab.has_offered(target):
        raise NoSuchThing(target)
    if not offered.is_running:
        raise NotPossible(target)
    # A page may show a former life of it: after a give-up above, the same actor has another id.
    return lab.chat.rooms.of(LOBBY)
