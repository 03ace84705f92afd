"""The session actor: one per browser session, guest or not. It knows who acts and in which tab.

Rule 1: only this actor changes the tabs of its session.
Rule 2: a tab is bound to a room when its page is rendered or its stream connects, and stays
bound for ten minutes after both are gone, so that a reconnecting page works on.
Rule 3: a room that fails is an answer to the visitor, never a crash of the session.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from actors.accounts.words import Pane, Poster, RoomFailed, SessionId, TabId, TabUnbound
from actors.chat import (
    DEMO_DISPLAY_NAME,
    DEMO_USER_ID,
    Author,
    NotAMember,
    NotStored,
    NotTaken,
    Post,
    PostOutcome,
    RoomName,
    Rooms,
    guest_name,
    hide_words,
)
from actors.runtime import Actor, Ask, AskError, message

# A laptop lid closed for a coffee keeps its tabs; a forgotten one is let go.
TAB_KEPT_S = 600.0

# A script that renders pages without end fills its own session only so far; the least
# recently used tab goes first.
TABS_MAX = 64

# Shorter than the ten seconds a request may take: the visitor hears why, not only that. While the
# store stands still within the five of REL-82, also for who came while the room waited for it with
# the posts before: what the room has not begun by then, it leaves.
ROOM_ANSWER_TIMEOUT_S = 4.9


@message
class BindTab:
    """A page of the tab was rendered for a room."""

    tab: TabId
    room: RoomName


@message
class StreamOpened:
    """The tab's stream is open; until `StreamClosed` the tab stays bound."""

    tab: TabId
    room: RoomName


@message
class StreamClosed:
    """The tab's stream ended; the tab is kept for `TAB_KEPT_S` more."""

    tab: TabId


@message
class TabExpired:
    """A tab has had no page and no stream for `TAB_KEPT_S`."""

    tab: TabId


PostAnswer = PostOutcome | NotStored | NotTaken | NotAMember | TabUnbound | RoomFailed


@message
class PostInTab(Ask[PostAnswer]):
    """A visitor posts from a tab; the body is parsed already. `member` where one is signed in."""

    tab: TabId
    pane: Pane
    body: str = field(repr=False)
    client_id: str
    address_key: str | None
    member: Poster | None = None


@message
class RoomOfTab(Ask[RoomName | None]):
    """Asks for the room a tab is bound to."""

    tab: TabId


@dataclass(slots=True)
class _Tab:
    room: RoomName
    is_open: bool
    forget_expiry: Callable[[], None]


@message
class PostInRoom(Ask[PostAnswer]):
    """A client program posts to a room it names; otherwise as `PostInTab`."""

    room: RoomName
    body: str = field(repr=False)
    client_id: str
    address_key: str | None
    member: Poster | None = None


Messages = BindTab | StreamOpened | StreamClosed | TabExpired | PostInTab | PostInRoom | RoomOfTab


class SessionActor(Actor[Messages]):
    """Holds the tabs of one browser session and posts on the visitor's behalf.

    A member posts as themselves, a guest under a readable name that belongs to the session; the
    demo composer posts as the demo user, counted for this session.
    """

    def __init__(self, session_id: SessionId, rooms: Rooms) -> None:
        self.session_id, self._rooms = session_id, rooms
        self._tabs: dict[TabId, _Tab] = {}

    def on_bind_tab(self, message: BindTab) -> None:
        """Bind a rendered tab; an open stream of it stays known."""
        known = self._tabs.get(message.tab)
        self._bind(message.tab, message.room, is_open=known is not None and known.is_open)

    def on_stream_opened(self, message: StreamOpened) -> None:
        """Bind a tab whose stream connected, also after a restart of the server."""
        self._bind(message.tab, message.room, is_open=True)

    def on_stream_closed(self, message: StreamClosed) -> None:
        """Start the time after which the tab is forgotten."""
        known = self._tabs.get(message.tab)
        if known is not None:
            self._bind(message.tab, known.room, is_open=False)

    def on_tab_expired(self, message: TabExpired) -> None:
        """Forget the tab, unless its stream is open: then look again later."""
        known = self._tabs.get(message.tab)
        if known is not None and known.is_open:
            self._bind(message.tab, known.room, is_open=True)
        elif known is not None:
            del self._tabs[message.tab]

    def on_room_of_tab(self, message: RoomOfTab) -> RoomName | None:
        """Tell the room of a tab."""
        known = self._tabs.get(message.tab)
        return None if known is None else known.room

    async def on_post_in_tab(self, message: PostInTab) -> PostAnswer:
        """Hand the post to the tab's room and bring back its answer."""
        known = self._tabs.get(message.tab)
        if known is None:
            return TabUnbound()
        author = self.author(message.pane, message.member)
        post = _post_of(author, message)
        return await self._post(known.room, post)

    async def on_post_in_room(self, message: PostInRoom) -> PostAnswer:
        """Hand a client program's post to the room it names."""
        author = self.author(Pane.YOU, message.member)
        post = _post_of(author, message)
        return await self._post(message.room, post)

    def author(self, pane: Pane, member: Poster | None = None) -> Author:
        """Call this to learn under which name a pane posts."""
        match pane:
            case Pane.YOU if member is not None:
                return Author(member.user_id, None, member.name)
            case Pane.YOU:
                return Author(None, self.session_id, guest_name(self.session_id))
            case Pane.DEMO:
                return Author(DEMO_USER_ID, self.session_id, DEMO_DISPLAY_NAME)

    def redact(self, state: dict[str, object]) -> dict[str, object]:
        """Show nobody's words in reports."""
        return hide_words(state)

    async def _post(self, room: RoomName, post: Post) -> PostAnswer:
        try:
            return await self._rooms.of(room).ask(post, timeout=ROOM_ANSWER_TIMEOUT_S)
        except AskError as error:
            return RoomFailed(str(error))

    def _bind(self, tab: TabId, room: RoomName, *, is_open: bool) -> None:
        # A running timer also keeps the session from being passivated with tabs in it.
        self._tabs.pop(tab, None)
        expiry = self.after(TAB_KEPT_S, TabExpired(tab), key=tab)
        self._tabs[tab] = _Tab(room, is_open, expiry.cancel)
        if len(self._tabs) > TABS_MAX:
            closed = (name for name, known in self._tabs.items() if not known.is_open)
            # With its timer: a script that asks for pages without end would else fill the session.
            self._tabs.pop(next(closed, next(iter(self._tabs)))).forget_expiry()


def _post_of(author: Author, asked: PostInTab | PostInRoom) -> Post:
    member_id = None if asked.member is None else asked.member.user_id
    return Post(author, asked.body, asked.client_id, asked.address_key, member_id)
