"""The routes of chat: parse, ask the visitor's session, answer with a status.

The panel itself stands on the lab's page, which asks here for what it shows at first.
"""

from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from hashlib import sha256
from uuid import UUID, uuid4

import msgspec
import trio
from quart import Blueprint, Response, request

from actors.accounts import (
    BindTab,
    Limit,
    Limited,
    Pane,
    PostAnswer,
    Poster,
    PostInTab,
    Role,
    RoomFailed,
    RoomOfTab,
    StreamOpened,
    TabId,
    TabUnbound,
)
from actors.accounts.kept.throttle import TRIES_MAX
from actors.chat import (
    DEMO_DISPLAY_NAME,
    LOBBY,
    BadPost,
    History,
    IsMember,
    Join,
    Message,
    NewestCache,
    NotAMember,
    NotStored,
    NotTaken,
    Posted,
    ReadHistory,
    RenewNewest,
    Repeated,
    RoomName,
    Rooms,
    Status,
    TooManyPosts,
    TooManyWaiting,
    Viewer,
    guest_name,
    parse_room,
)
from actors.chat.chat_log import HISTORY_LIMIT
from actors.chat.policy import LIMIT_PERIOD_S, POSTS_PER_AUTHOR_MAX, parse_body, parse_client_id
from actors.persistence.words import BIGINT_MAX
from actors.runtime import AskError, NoProc
from actors.timeline import Kind, Values
from web.api.limits import rate_limit_headers
from web.chat.presenting import PageViews, window_views
from web.chat.readers import ShownRooms
from web.chat.refusals import SOURCES, RefusedPost, ShowAgain, words_for
from web.realtime import StreamKey, joined, patch_signals
from web.routing import paths
from web.routing.commands import Origin, answer_by_status_only, read_command, say_instead
from web.routing.errors import (
    EnoughWaiting,
    InvalidForm,
    InvalidInput,
    NoLiveStream,
    NoSuchThing,
    NotAllowed,
    NotAvailable,
    NotSignedIn,
    RateLimited,
    Refused,
    TabNotBound,
)
from web.routing.quota import address_key
from web.routing.services import Services
from web.server import RequestState, current_request_state
from web.site.pages import form_response, sign_in_path
from web.views import ChatView, element_id


@dataclass(frozen=True, slots=True)
class ChatServices:
    """What chat needs beside the services of every feature."""

    rooms: Rooms
    newest: NewestCache
    shown: ShownRooms
    views: PageViews = field(default_factory=PageViews)
    # Of an author, in `LIMIT_PERIOD_S`: told where that is reached.
    posts_max: int = POSTS_PER_AUTHOR_MAX


@dataclass(frozen=True, slots=True)
class RoomPart:
    """What a page shows of a room: its newest messages, or those before a number."""

    room: RoomName
    before: int | None = None


LOBBY_NOW = RoomPart(LOBBY)


class PostCommand(msgspec.Struct, frozen=True):
    """What the visitor's own composer sends."""

    body: str = msgspec.field(name="chatDraftBody")
    client_id: str = msgspec.field(name="clientId")
    tab: str = msgspec.field(name="sseTabId")
    room: str = msgspec.field(name="roomName", default="")


class PostAsDemoCommand(msgspec.Struct, frozen=True):
    """What the demo user's composer sends."""

    body: str = msgspec.field(name="chatDemoDraftBody")
    client_id: str = msgspec.field(name="demoClientId")
    tab: str = msgspec.field(name="sseTabId")
    room: str = msgspec.field(name="roomName", default="")


class JoinCommand(msgspec.Struct, frozen=True):
    """What the switch of the rooms sends."""

    room: str = msgspec.field(name="roomName")
    tab: str = msgspec.field(name="sseTabId")


# SITE-155: a page says within two seconds that the store does not answer; it is given most of them.
PAGE_READ_S_MAX = 1.5


def chat_routes(services: Services, chat: ChatServices, show_again: ShowAgain) -> Blueprint:
    """Call this to get the routes of chat; `show_again` answers a plain form that was refused."""
    routes = Blueprint("chat", __name__)

    @routes.post(paths.CHAT_POST)
    async def post() -> Response:
        command, origin = await read_command(PostCommand, SOURCES[Pane.YOU])
        return await _post(services, chat, Pane.YOU, command, origin, show_again)

    @routes.post(paths.CHAT_POST_AS_DEMO)
    async def post_as_demo() -> Response:
        command, origin = await read_command(PostAsDemoCommand, SOURCES[Pane.DEMO])
        return await _post(services, chat, Pane.DEMO, command, origin, show_again)

    @routes.post(paths.CHAT_JOIN)
    async def join() -> Response:
        command, origin = await read_command(JoinCommand, "chat-room")
        if origin.is_form:
            # Without scripts there is no page to move: the next one shows the room.
            return await _join_and_show(services, chat, command.room)
        # The switch of the rooms tells it itself.
        answer_by_status_only()
        await _join(services, chat, command.room, origin.tab)
        return Response(b"", status=204, content_type=None)

    @routes.get(paths.CHAT_HISTORY)
    async def older() -> Response:
        room = parse_room(request.args.get("room", LOBBY))
        if room is None:
            raise NoSuchThing("there is no such room")
        before = parse_number("before", request.args.get("before"), BIGINT_MAX)
        limit = parse_number("limit", request.args.get("limit"), HISTORY_LIMIT)
        state = current_request_state()
        if not await may_read(services, chat, state, room):
            raise NotAllowed("this room has members")
        page = await _history(services, chat, state, room, before, limit or HISTORY_LIMIT)
        views = window_views(page.messages, viewer_of(state))
        html = services.renderer.chat_history(views, has_older=page.has_older)
        return form_response(html)

    @routes.get(paths.CHAT)
    async def to_lab() -> Response:
        return _redirect(308)

    return routes


async def may_read(
    services: Services, chat: ChatServices, state: RequestState, room: RoomName
) -> bool:
    """Call this to learn whether who looks may read a room; raises `NotAvailable`."""
    if room == LOBBY:
        return True
    member = poster_of(state)
    if member is None:
        return False
    patience_s = min(PAGE_READ_S_MAX, services.remaining(state))
    answer = await chat.rooms.of(room).ask(IsMember(member.user_id), timeout=patience_s)
    if isinstance(answer, NotStored):
        raise NotAvailable(answer.reason)
    return answer


async def _join(services: Services, chat: ChatServices, name: str, tab: TabId) -> None:
    """Make who asks a member, and show the room on their open page (SITE-75). Safe to repeat."""
    state, room = current_request_state(), parse_room(name)
    if room is None:
        raise NoSuchThing("there is no such room")
    member = poster_of(state)
    if member is None and room != LOBBY:
        raise NotSignedIn("the other rooms have members")
    key = StreamKey(state.visitor.id, tab)
    if _room_shown(services, chat, key) is None:
        raise NoLiveStream(tab)
    if member is not None:
        await _become_member(services, chat, state, room, member)
    # Looked up now: it may have been opened anew meanwhile, or be gone. From here nothing waits.
    stream = services.streams.maybe_stream(key)
    if stream is None or not chat.shown.move(stream, room, viewer_of(state), member_name(state)):
        raise NoLiveStream(tab)
    services.session(state.visitor.id).tell(StreamOpened(tab, room))
    stream.put_panel("chat-room", joined([patch_signals({"roomName": str(room)})]))


async def _become_member(
    services: Services, chat: ChatServices, state: RequestState, room: RoomName, member: Poster
) -> None:
    asked = chat.rooms.of(room).ask(Join(member.user_id), timeout=services.remaining(state))
    match await asked:
        case NotStored(reason):
            raise NotAvailable(reason)
        case NotAMember():
            raise NotSignedIn("this account is not there any more")


async def _join_and_show(services: Services, chat: ChatServices, name: str) -> Response:
    state, room = current_request_state(), parse_room(name)
    if room is None:
        raise NoSuchThing("there is no such room")
    member = poster_of(state)
    if member is not None:
        await _become_member(services, chat, state, room, member)
    elif room != LOBBY:
        # SITE-41: to sign in, and back to the page with the switch.
        location = sign_in_path(paths.LAB)
        return Response(b"", status=303, headers={"location": location}, content_type=None)
    return _redirect(303, room)


async def read_part(services: Services, chat: ChatServices) -> RoomPart:
    """Call this for what a page's address asks to be shown: `?room=` and `?before=` (SITE-19).

    Raises `NoSuchThing`, `InvalidInput`, `NotAvailable`, and `NotSignedIn` or `NotAllowed` for a
    room of others.
    """
    room = parse_room(request.args.get("room", LOBBY))
    if room is None:
        raise NoSuchThing("there is no such room")
    before = parse_number("before", request.args.get("before"), BIGINT_MAX)
    state = current_request_state()
    if not await may_read(services, chat, state, room):
        error = NotSignedIn if poster_of(state) is None else NotAllowed
        raise error("this room has members")
    return RoomPart(room, before)


async def chat_view(
    services: Services,
    chat: ChatServices,
    state: RequestState,
    part: RoomPart,
    tab: str,
    refused: RefusedPost | None = None,
) -> ChatView:
    """Call this to get a room's panel as a page shows it first; raises `NotAvailable`.

    Whether who looks may read it was asked before.

    With a `refused` form it is never unavailable: what was written is shown without the messages.
    """
    viewer = viewer_of(state)
    try:
        history = await _history(services, chat, state, part.room, part.before)
    except (NotAvailable, AskError):
        if refused is None:
            raise
        history = History((), 0, has_older=False)
    view = ChatView(
        room=element_id(part.room),
        you_name=own_name(state),
        demo_name=DEMO_DISPLAY_NAME,
        messages=chat.views.of(part.room, history.messages, viewer),
        tab_id=element_id(tab),
        client_id=element_id(str(uuid4())),
        demo_client_id=element_id(str(uuid4())),
        csrf=services.csrf_of(state),
        has_older=history.has_older,
        is_newest=part.before is None,
    )
    return view if refused is None else _with_draft(view, refused)


def _with_draft(view: ChatView, refused: RefusedPost) -> ChatView:
    view = replace(view, refusal=refused.view)
    # It may be stored all the same: sent again with its id it is stored once.
    kept = refused.maybe_client_id
    if kept is None or kept in (view.client_id, view.demo_client_id):
        return view
    if refused.pane is Pane.YOU:
        return replace(view, client_id=kept)
    return replace(view, demo_client_id=kept)


async def _history(
    services: Services,
    chat: ChatServices,
    state: RequestState,
    room: RoomName,
    before: int | None = None,
    limit: int = HISTORY_LIMIT,
) -> History:
    viewer = viewer_of(state)
    if before is None:
        now = trio.current_time()
        kept = chat.newest.maybe_history(room, viewer, limit, now)
        if kept is not None:
            if chat.newest.wants_renewal(room, now):
                # A room that is away reads them when it is back.
                with suppress(NoProc):
                    chat.rooms.of(room).tell(RenewNewest())
            return kept
    question = ReadHistory(viewer, before, limit)
    patience_s = min(PAGE_READ_S_MAX, services.remaining(state))
    history = await chat.rooms.of(room).ask(question, timeout=patience_s)
    if isinstance(history, NotStored):
        raise NotAvailable(history.reason)
    return history


def parse_number(name: str, text: str | None, most: int) -> int | None:
    """Call this to read a number of a query, 1 to `most`; None without one, else `InvalidInput`."""
    if text is None:
        return None
    # Not what `int` takes beside digits: signs, blanks, underscores, digits of other scripts.
    if not (text.isascii() and text.isdigit() and len(text) <= 19 and 1 <= int(text) <= most):
        raise InvalidInput(f"{name} is a number from 1 to {most}")
    return int(text)


async def _post(
    services: Services,
    chat: ChatServices,
    pane: Pane,
    command: PostCommand | PostAsDemoCommand,
    origin: Origin,
    show_again: ShowAgain,
) -> Response:
    try:
        stored = await _stored(services, chat, pane, command, origin)
    except (Refused, AskError) as error:
        if origin.is_form:
            room = await _room_of(services, origin.tab)
            return await show_again(RefusedPost(pane, command.body, command.client_id, error, room))
        say_instead(words_for(error), counts_down=not isinstance(error, EnoughWaiting))
        raise
    if origin.is_form:
        return _redirect(303, stored.message.room)
    key = StreamKey(current_request_state().visitor.id, origin.tab)
    _tell_other_tabs(services, chat, key, stored.message.id)
    fresh = _fresh(pane, stored.message.id)
    if command.room and services.streams.maybe_stream(key) is None:
        # The page's is at another node still, or comes back just now: the answer carries it.
        return Response(msgspec.json.encode(fresh), status=202, content_type="application/json")
    services.streams.send_to(key, f"composer-{pane}", joined([patch_signals(fresh)]))
    return Response(b"", status=202, content_type=None)


def _tell_other_tabs(services: Services, chat: ChatServices, key: StreamKey, posted: UUID) -> None:
    """They have the same timeline, so the message is theirs as well (LAB-68)."""
    told = joined([patch_signals({"_postedId": str(posted)})])
    for stream in services.streams.tabs(key.session):
        if stream.key != key and chat.shown.maybe_room(stream) is not None:
            stream.put_panel("posted", told)


async def _room_of(services: Services, tab: TabId) -> RoomName:
    """The room of a page without scripts; the Lobby for one that is in none any more."""
    state = current_request_state()
    try:
        asked = services.session(state.visitor.id).ask(
            RoomOfTab(tab), timeout=services.remaining(state)
        )
        return await asked or LOBBY
    except AskError:
        return LOBBY


async def _stored(
    services: Services,
    chat: ChatServices,
    pane: Pane,
    command: PostCommand | PostAsDemoCommand,
    origin: Origin,
) -> Posted | Repeated:
    state = current_request_state()
    invalid: type[Refused] = InvalidForm if origin.is_form else InvalidInput
    try:
        body, client_id = parse_body(command.body), parse_client_id(command.client_id)
    except BadPost as error:
        raise invalid(str(error)) from error
    if pane is Pane.YOU and state.signed_in is None:
        # SITE-9: a guest speaks as the demo user; whose sign-in is over has their text still.
        raise NotSignedIn("a post under one's own name needs a sign-in")
    services.timeline.note(state.request_id, Kind.CHAT_INCOMING, _incoming(pane, body))
    session = services.session(state.visitor.id)
    key = StreamKey(state.visitor.id, origin.tab)
    address, member = address_key(state.address), poster_of(state)
    post = PostInTab(origin.tab, pane, body, client_id, address, member)
    answer = await session.ask(post, timeout=services.remaining(state))
    if isinstance(answer, TabUnbound) and _bind_again(services, chat, key, command.room):
        answer = await session.ask(post, timeout=services.remaining(state))
    if isinstance(answer, Repeated) and _says_another(answer.message, body):
        # The page was not told that its former post came in, so it has no other id yet; what has
        # been written there since is a message of its own, and lost if it were taken for a repeat.
        post = replace(post, client_id=_id_of(client_id, body))
        answer = await session.ask(post, timeout=services.remaining(state))
    try:
        return refuse_unless_stored(answer, chat.posts_max)
    except InvalidInput as error:
        raise invalid(str(error)) from error


def _says_another(stored: Message, body: str) -> bool:
    # Of one that was taken away the text is not known: it does not come back by a repeat.
    return stored.status in (Status.VISIBLE, Status.PENDING) and stored.body != body


def _id_of(client_id: str, body: str) -> str:
    """The id of a text that came under the id of another; the same each time it is sent again."""
    return sha256(f"{client_id} {body}".encode()).hexdigest()


def _bind_again(services: Services, chat: ChatServices, key: StreamKey, named: str) -> bool:
    """Bind a tab that its session does not know; whether that could be done.

    The session's actor was restarted, and the page works on; or it is another node's page, whose
    stream ends there while its posts come here already, and which says in which room it is. Who
    may post there the room decides, as always.
    """
    session = services.session(key.session)
    shown = _room_shown(services, chat, key)
    if shown is not None:
        session.tell(StreamOpened(TabId(key.tab), shown))
        return True
    room = parse_room(named)
    if room is None:
        return False
    session.tell(BindTab(TabId(key.tab), room))
    return True


def _room_shown(services: Services, chat: ChatServices, key: StreamKey) -> RoomName | None:
    stream = services.streams.maybe_stream(key)
    return None if stream is None else chat.shown.maybe_room(stream)


def _limits_told(posts_max: int, retry_after_s: float) -> list[tuple[bytes, bytes]]:
    """Say which limit it is; who waits longer than its window has reached one that has no name.

    So many posts that a limit of tries could not be that many are no limit worth telling.
    """
    if retry_after_s > LIMIT_PERIOD_S or posts_max > TRIES_MAX:
        return []
    limit = Limit("chat-post", posts_max, timedelta(seconds=LIMIT_PERIOD_S))
    return rate_limit_headers(limit.key, limit, Limited(retry_after_s))


def refuse_unless_stored(
    answer: PostAnswer, posts_max: int = POSTS_PER_AUTHOR_MAX
) -> Posted | Repeated:
    """Call this with a session's answer; raises what the visitor is told unless it is stored."""
    match answer:
        case Posted() | Repeated():
            return answer
        case TooManyPosts(retry_after_s):
            raise RateLimited(retry_after_s, _limits_told(posts_max, retry_after_s))
        case TooManyWaiting(waiting_max):
            raise EnoughWaiting(waiting_max)
        case TabUnbound():
            raise TabNotBound
        case NotAMember():
            raise NotAllowed("this room has members")
        case NotTaken():
            raise InvalidInput("this message cannot be kept; write it in another way")
        case NotStored(reason) | RoomFailed(reason):
            raise NotAvailable(reason)


def viewer_of(state: RequestState) -> Viewer:
    """Call this for who looks, and whether they decide about what waits for review."""
    signed_in, session_id = state.signed_in, state.visitor.text
    if signed_in is None:
        return Viewer(session_id=session_id)
    return Viewer(signed_in.user_id, session_id, signed_in.role == Role.MODERATOR)


def own_name(state: RequestState) -> str:
    """Call this for the name under which somebody posts: a member's own, or a guest's."""
    member = poster_of(state)
    return guest_name(state.visitor.text) if member is None else member.name


def member_name(state: RequestState) -> str | None:
    """Call this for the name of who is signed in; None for a guest."""
    return None if state.signed_in is None else state.signed_in.name


def poster_of(state: RequestState) -> Poster | None:
    """Call this for the member in whose name a request posts; None for a guest."""
    signed_in = state.signed_in
    return None if signed_in is None else Poster(signed_in.user_id, signed_in.name)


def _incoming(pane: Pane, body: str) -> Values:
    """What the timeline is told of a post: who speaks, and how much; never what."""
    size = len(body.encode())
    return {"direction": "in", "sender": str(pane), "receiver": "room", "payload_bytes": size}


def _fresh(pane: Pane, posted: UUID) -> dict[str, object]:
    # Clears the composer and frees it; the next post has an id of its own. The page learns which
    # message is its own: as the demo user, many speak with one name (LAB-68).
    own = {"_postedId": str(posted)}
    if pane is Pane.YOU:
        return {"chatDraftBody": "", "clientId": str(uuid4()), **own}
    return {"chatDemoDraftBody": "", "demoClientId": str(uuid4()), **own}


def _redirect(status: int, room: RoomName = LOBBY) -> Response:
    location = paths.LAB_CHAT if room == LOBBY else f"{paths.LAB}?room={room}#chat-demo"
    return Response(b"", status=status, headers={"location": location}, content_type=None)
