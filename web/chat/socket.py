"""Chat for client programs: the topics of rooms and their command on `/ws` (SITE-107).

The same actors, limits and visibility as on the page: only what everybody may see is
published here.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Annotated

import msgspec
from hypercorn.typing import HTTPScope, WebsocketScope

from actors.accounts import PostAnswer, Poster, PostInRoom
from actors.accounts.kept.tokens import Scope
from actors.accounts.session import Messages as SessionMessage
from actors.chat import (
    LOBBY,
    ROOM_NAMES,
    BadPost,
    IsMember,
    NotStored,
    Posted,
    Repeated,
    RoomName,
    Rooms,
    Status,
    author_name,
    topic_of,
)
from actors.chat import MessagePosted as PostedEvent
from actors.chat import MessageWithdrawn as WithdrawnEvent
from actors.chat.policy import BODY_LENGTH_MAX, CLIENT_ID_LENGTH_MAX, parse_body, parse_client_id
from actors.persistence import ERASED
from actors.persistence.errors import StoreUnavailable
from actors.runtime import AskError, Ref
from web.chat.presenting import ERASED_BODY
from web.chat.routes import poster_of, refuse_unless_stored
from web.realtime import (
    Action,
    Caller,
    Close,
    Done,
    Refused,
    Request,
    SocketCode,
    client_of,
    guest_of,
)
from web.routing.errors import (
    EnoughWaiting,
    InvalidInput,
    NotAllowed,
    NotAvailable,
    NotSignedIn,
    RateLimited,
    TabNotBound,
)
from web.routing.quota import address_key
from web.routing.services import FindSession
from web.server import Answer, RequestState, request_state

# A body is trimmed before it is measured: room for blanks around it.
_BODY_SENT_MAX = 4 * BODY_LENGTH_MAX


class PostMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Posts to the room of the command's topic."""

    body: Annotated[str, msgspec.Meta(min_length=1, max_length=_BODY_SENT_MAX)]
    client_id: Annotated[str, msgspec.Meta(min_length=1, max_length=CLIENT_ID_LENGTH_MAX)]


class MessagePosted(msgspec.Struct, frozen=True):
    """A message is in the room; `n` rises by one with every event of the room."""

    id: str
    room: str
    n: int
    author: str
    body: str
    at: str


class MessageWithdrawn(msgspec.Struct, frozen=True):
    """A message was taken away."""

    id: str
    n: int


class PostStored(msgspec.Struct, frozen=True):
    """Told to who posted, where it does not hear its message: it waits for review, or is known."""

    client_id: str
    id: str
    status: Status


@dataclass(frozen=True, slots=True)
class SocketGuest:
    """Who speaks on a socket: the browser session of its cookie, or one of its own."""

    session_id: str
    address_key: str
    # Where one is signed in on it: session and sign-in end together, and the socket with them.
    member: Poster | None = None
    # Of an API token: what it was made for.
    may_hear: bool = True
    may_post: bool = True


class RoomTells:
    """What client programs are told of room events; nothing of what not everybody may see."""

    def action(self, message: object, /) -> Action | None:
        """Write an event as an action."""
        match message:
            case PostedEvent(posted, n) if posted.status is Status.VISIBLE:
                event: msgspec.Struct = MessagePosted(
                    id=str(posted.id),
                    room=posted.room,
                    n=n,
                    author=author_name(posted),
                    body=ERASED_BODY if posted.body is ERASED else posted.body,
                    at=posted.created_at.isoformat().replace("+00:00", "Z"),
                )
            case WithdrawnEvent(_, message_id, n):
                event = MessageWithdrawn(str(message_id), n)
            case _:
                return None
        return Action(type(event).__name__, msgspec.json.encode(event))

    def position(self, message: object, /) -> int | None:
        """Tell the room event's number."""
        match message:
            case PostedEvent(posted, n) if posted.status is Status.VISIBLE:
                return n
            case WithdrawnEvent(_, _, n):
                return n
            case _:
                return None


class ChatService:
    """What a socket may hear and do in chat."""

    def __init__(
        self,
        session: FindSession,
        how_closed: Callable[[str], Close | None] = lambda session: None,
        *,
        rooms: Rooms,
        epoch: Callable[[RoomName], Awaitable[str | None]],
        hears: Callable[[str, str], bool] = lambda session, topic: False,
    ) -> None:
        """`epoch` tells the one of a room's topic, None while nobody knows it.

        `hears` tells whether a session may hear a topic that is none of chat.
        """
        self._hears, self._rooms = hears, rooms
        self._session, self._how_closed, self._epoch = session, how_closed, epoch

    async def may_stay(self, principal: SocketGuest) -> Close | None:
        """As long as the session goes on."""
        return self._how_closed(principal.session_id)

    async def may_hear(self, principal: SocketGuest, topic: str) -> bool:
        """Guests read the Lobby; the other rooms have members. Raises `Refused`, see `Service`."""
        if not principal.may_hear:
            return False
        room = _maybe_room(topic)
        if room is None:
            return self._hears(principal.session_id, topic)
        return await self._is_let_in(principal, room)

    async def may_publish(self, principal: SocketGuest, topic: str | None) -> bool:
        """Whoever may read a room may post there; without a topic the Lobby is meant."""
        room = LOBBY if topic is None else _maybe_room(topic)
        return principal.may_post and room is not None and await self._is_let_in(principal, room)

    async def _is_let_in(self, principal: SocketGuest, room: RoomName) -> bool:
        if room == LOBBY or principal.member is None:
            return room == LOBBY
        try:
            known = await self._rooms.of(room).ask(IsMember(principal.member.user_id))
        except AskError:
            known = NotStored("its room is away")
        if isinstance(known, NotStored):
            text = "The room does not answer; try again."
            raise Refused(text, SocketCode.TIMEOUT, retry_after=1)
        return known

    async def dispatch(self, command: msgspec.Struct, request: Request[SocketGuest], /) -> Done:
        """Post through the same session and room actors as the pages do.

        The post's own id makes a repeat safe, also over restarts: the store knows it (SITE-66).
        """
        assert isinstance(command, PostMessage), "the endpoint takes no other command"
        principal = request.principal
        room = LOBBY if request.topic is None else _maybe_room(request.topic) or LOBBY
        try:
            body, client_id = parse_body(command.body), parse_client_id(command.client_id)
        except BadPost as error:
            raise Refused(str(error), SocketCode.VALIDATION_ERROR) from error
        post = PostInRoom(room, body, client_id, principal.address_key, principal.member)
        try:
            session: Ref[SessionMessage] = self._session(principal.session_id)
            answer = await session.ask(post)
            done = _done(answer, client_id, topic_of(room))
            return replace(done, position=await self._position(room, refuse_unless_stored(answer)))
        except RateLimited as error:
            wait = error.retry_after
            text = f"A limit is reached; post again in {wait:.1f} s."
            if isinstance(error, EnoughWaiting):
                text = f"{error.waiting_max} of your messages wait for a moderator already."
            raise Refused(text, SocketCode.TOO_MANY_REQUESTS, retry_after=wait) from error
        except InvalidInput as error:
            raise Refused(str(error), SocketCode.VALIDATION_ERROR) from error
        except NotAllowed as error:
            raise Refused("The room has members.", SocketCode.FORBIDDEN) from error
        except (AskError, NotAvailable, TabNotBound) as error:
            text = "The room does not answer; send it again with the same id."
            raise Refused(text, SocketCode.TIMEOUT, retry_after=1) from error

    async def _position(self, room: RoomName, stored: Posted | Repeated) -> str | None:
        """Where the post stands: `epoch.seq`, as its event has them (WEB-40)."""
        epoch = None if stored.n is None else await self._epoch(room)
        return None if epoch is None else f"{epoch}.{stored.n}"


def _done(answer: PostAnswer, client_id: str, topic: str) -> Done:
    """Tell what became of a post; only a new one that all may see is heard by its topic."""
    stored = refuse_unless_stored(answer)
    message = stored.message
    is_heard = isinstance(stored, Posted) and message.status is Status.VISIBLE
    told = PostStored(client_id, str(message.id), message.status)
    return Done(told, heard_on=topic if is_heard else None)


def _maybe_room(topic: str) -> RoomName | None:
    return next((room for room in ROOM_NAMES if topic == topic_of(room)), None)


# Uses a ticket up: the session whose it is, None for no good one. Raises `NotAvailable`.
TakeTicket = Callable[[str], Awaitable[str | None]]


# Finds out who is signed in; raises `StoreUnavailable` and its kin, `NotSignedIn`, and
# `InvalidInput` for an API token in the query.
Identify = Callable[[RequestState, HTTPScope | WebsocketScope], Awaitable[None]]


async def socket_guest(
    take_ticket: TakeTicket, identify: Identify, scope: WebsocketScope | HTTPScope
) -> Caller[SocketGuest] | Answer:
    """Call this at the handshake: a guest is whoever the visitor cookie says, else the ticket.

    A program without either that names itself (`?client=`) is the same guest each time, else
    someone new. Its id is random and its own, so nobody else becomes that guest by accident. Who
    shows a bearer token, or a ticket, that is none, is not taken for a guest: that is 401. An API
    token for nothing of chat is 403.
    """
    state, client = request_state(scope), client_of(scope)
    try:
        await identify(state, scope)
    except StoreUnavailable:
        return Answer.UNAVAILABLE
    except NotSignedIn:
        return Answer.UNAUTHENTICATED
    except InvalidInput:
        return Answer.INVALID
    session_id = state.visitor.text
    if state.visitor.is_new:
        if any(name == b"authorization" for name, _ in scope["headers"]):
            return Answer.UNAUTHENTICATED
        if state.ticket is not None:
            try:
                known = await take_ticket(state.ticket.reveal())
            except NotAvailable:
                return Answer.UNAVAILABLE
            if known is None:
                return Answer.UNAUTHENTICATED
            session_id = known
        elif client is not None:
            session_id = str(guest_of(client))
    scopes = None if state.signed_in is None else state.signed_in.scopes
    may_hear, may_post = (
        scopes is None or one in scopes for one in (Scope.CHAT_READ, Scope.CHAT_WRITE)
    )
    if not (may_hear or may_post):
        return Answer.FORBIDDEN
    key = address_key(state.address)
    guest = SocketGuest(session_id, key, poster_of(state), may_hear, may_post)
    name = None if client is None else str(client)
    return Caller(guest, session_id, name, guest.address_key)
