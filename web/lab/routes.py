"""The routes of the lab: the page, and what a visitor may do to the actors it shows."""

from uuid import uuid4

import msgspec
from quart import Blueprint, Response

from actors.accounts import BindTab, ClaimCommand, TabId
from actors.chat import (
    DEMO_DISPLAY_NAME,
    LOBBY,
    CrashRoom,
    NotStored,
    ReadHistory,
    Viewer,
    guest_name,
)
from actors.chat.rooms import RoomRef
from web import paths
from web.chat.presenting import window_views
from web.commands import read_command
from web.errors import (
    InvalidInput,
    LabClosed,
    NoLiveStream,
    NoSuchThing,
    NotAvailable,
    NotHere,
    NotPossible,
)
from web.realtime import StreamKey
from web.server import RequestState, current_request_state
from web.services import Services
from web.settings import LabMode
from web.site.pages import PAGE_LAB, shell
from web.site.routes import page_response
from web.views import ChatView, LabPage, csrf_token, element_id

CRASH = "crash"
COMMAND_ID_LENGTH_MAX = 128


class LabCommand(msgspec.Struct, frozen=True):
    """What a button of the lab sends."""

    command_id: str = msgspec.field(name="commandId")
    tab: str = msgspec.field(name="sseTabId")


def lab_routes(services: Services) -> Blueprint:
    """Call this to get the routes of the lab."""
    routes = Blueprint("lab", __name__)

    @routes.get(paths.LAB)
    async def lab() -> Response:
        state = current_request_state()
        tab = str(uuid4())
        chat = await _chat_view(services, state, tab)
        frame = shell(state, "Lab", PAGE_LAB, services.version, tab)
        services.session(state.visitor.id).tell(BindTab(TabId(tab), LOBBY))
        page = LabPage(frame, services.tree.view(), chat)
        return page_response(services.renderer.lab_page(page))

    @routes.post(paths.LAB_ACTION)
    async def act(target: str, action: str) -> Response:
        state = current_request_state()
        command, origin = await read_command(LabCommand, "lab")
        if not 1 <= len(command.command_id) <= COMMAND_ID_LENGTH_MAX or action != CRASH:
            raise InvalidInput("there is no such action, or its command id is missing")
        if services.lab_mode is not LabMode.PUBLIC:
            raise LabClosed(services.lab_mode)
        if not services.is_loopback:
            raise NotHere("the site's own actors are crashed in loopback mode only")
        if services.streams.maybe_stream(StreamKey(state.visitor.id, origin.tab)) is None:
            raise NoLiveStream(origin.tab)
        room = _offered(services, target)
        services.lab_quota.take(state.visitor.id, state.address)
        session = services.session(state.visitor.id)
        claim = ClaimCommand(action, command.command_id)
        if await session.ask(claim, timeout=services.remaining(state)):
            room.tell(CrashRoom("crashed from the lab by a visitor"))
        return Response(b"", status=202, content_type=None)

    return routes


def _offered(services: Services, target: str) -> RoomRef:
    """Find what may be crashed. Judged before the command counts as given: a refused one may
    be sent again, and a repeat is answered as the first was (SITE-102)."""
    room = services.rooms.of(LOBBY)
    if target != str(room.id):
        raise NoSuchThing(target)
    if services.tree.target() is None:
        raise NotPossible(target)
    return room


async def _chat_view(services: Services, state: RequestState, tab: str) -> ChatView:
    viewer = Viewer(session_id=str(state.visitor.id))
    question = ReadHistory(viewer)
    history = await services.rooms.of(LOBBY).ask(question, timeout=services.remaining(state))
    if isinstance(history, NotStored):
        raise NotAvailable(history.reason)
    return ChatView(
        room=element_id(LOBBY),
        you_name=guest_name(str(state.visitor.id)),
        demo_name=DEMO_DISPLAY_NAME,
        messages=window_views(history.messages, viewer),
        tab_id=element_id(tab),
        client_id=element_id(str(uuid4())),
        demo_client_id=element_id(str(uuid4())),
        csrf=csrf_token(services.csrf.make(state.visitor.id)),
    )
