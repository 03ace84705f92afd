"""The routes of the lab: the page, its stream, and what a visitor may do to the actors it shows."""

from collections.abc import Callable
from dataclasses import dataclass
from uuid import uuid4

import msgspec
from quart import Blueprint, Response

from actors.accounts import BindTab, ClaimCommand, StreamClosed, StreamOpened, TabId
from actors.chat import LOBBY, CrashRoom, RoomRef, parse_room
from actors.runtime import NoProc
from web.chat.routes import ChatServices, chat_view, viewer_of
from web.lab.quota import LabQuota
from web.lab.tree_feed import TreeSource
from web.realtime import Audience, PageHolds, Stream, StreamKey
from web.routing import paths
from web.routing.commands import parse_tab, read_command
from web.routing.errors import (
    InvalidInput,
    LabClosed,
    NoLiveStream,
    NoSuchThing,
    NotHere,
    NotPossible,
)
from web.routing.services import Services
from web.server import current_request_state
from web.settings import LabMode
from web.site.events import StreamQuery
from web.site.pages import PAGE_LAB, page_response, shell
from web.views import LabPage

CRASH = "crash"
COMMAND_ID_LENGTH_MAX = 128


@dataclass(frozen=True, slots=True)
class LabServices:
    """What the lab needs beside the services of every feature; chat stands on its page."""

    chat: ChatServices
    tree: TreeSource
    tree_readers: Audience[Stream]
    mode: LabMode
    quota: LabQuota
    is_loopback: bool
    has_offered: Callable[[str], bool]


class LabCommand(msgspec.Struct, frozen=True):
    """What a button of the lab sends."""

    command_id: str = msgspec.field(name="commandId")
    tab: str = msgspec.field(name="sseTabId")


def lab_routes(services: Services, lab: LabServices) -> Blueprint:
    """Call this to get the routes of the lab."""
    routes = Blueprint("lab", __name__)

    @routes.get(paths.LAB)
    async def lab_page() -> Response:
        state = current_request_state()
        tab = str(uuid4())
        chat = await chat_view(services, lab.chat, state, LOBBY, tab)
        frame = shell(services, state, "Lab", PAGE_LAB, tab)
        services.session(state.visitor.id).tell(BindTab(TabId(tab), LOBBY))
        page = LabPage(frame, lab.tree.view(), chat)
        return page_response(services.renderer.filled.lab(page))

    @routes.post(paths.LAB_ACTION)
    async def act(target: str, action: str) -> Response:
        state = current_request_state()
        command, origin = await read_command(LabCommand, "lab")
        if not 1 <= len(command.command_id) <= COMMAND_ID_LENGTH_MAX or action != CRASH:
            raise InvalidInput("there is no such action, or its command id is missing")
        if lab.mode is not LabMode.PUBLIC:
            raise LabClosed(lab.mode)
        if not lab.is_loopback:
            raise NotHere("the site's own actors are crashed in loopback mode only")
        if services.streams.maybe_stream(StreamKey(state.visitor.id, origin.tab)) is None:
            raise NoLiveStream(origin.tab)
        room = _offered(lab, target)
        lab.quota.take(state.visitor.id, state.address)
        session = services.session(state.visitor.id)
        claim = ClaimCommand(action, command.command_id)
        if await session.ask(claim, timeout=services.remaining(state)):
            room.tell(CrashRoom("crashed from the lab by a visitor"))
        return Response(b"", status=202, content_type=None)

    return routes


class LabStreams:
    """What the stream of a lab page is sent: the tree, and the room of its chat panel."""

    def __init__(self, services: Services, lab: LabServices) -> None:
        self._services, self._lab = services, lab

    async def check(self, query: StreamQuery) -> None:
        """Refuse a page that names no room; raises `InvalidInput`."""
        if parse_room(query.room) is None:
            raise InvalidInput("this page shows a room, and there is none of that name")

    def fill(self, stream: Stream, query: StreamQuery, holds: PageHolds | None) -> None:
        """Join the feeds and bind the tab; everything is given back when the stream closes."""
        room, tab = parse_room(query.room), parse_tab(query.tab)
        assert room is not None, "the query was checked"

        def leave(_: Stream) -> None:
            self._lab.tree_readers.leave(stream)
            try:
                self._services.session(stream.key.session).tell(StreamClosed(tab))
            except NoProc:
                return  # all sessions are being restarted: this one knows no tab any more

        self._services.session(stream.key.session).tell(StreamOpened(tab, room))
        stream.when_closed(leave)
        who = viewer_of(current_request_state())
        self._lab.chat.shown.show(stream, room, holds, who)
        self._lab.tree_readers.join(stream, holds)


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
