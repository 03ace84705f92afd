"""Moderation on the web: the queue's page, its stream and its form, and the audit's page.

Rule 1: who asks is judged at each request by the role of that moment (SITE-49).
Rule 2: the store decides once; the page only tells what became of it.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TypeVar
from urllib.parse import quote
from uuid import UUID, uuid4

import trio
from quart import Blueprint, Response, request

from actors.accounts import Role
from actors.chat import (
    ROOM_NAMES,
    AuditEntry,
    BadPost,
    ChatLog,
    ChatLogUnavailable,
    Decided,
    Decision,
    MessagePosted,
    MessageWithdrawn,
    Moderate,
    ModerationOutcome,
    NotDecided,
    NotStored,
    RoomForgot,
    RoomResumed,
    Rooms,
    Status,
    Viewer,
    WaitingList,
    author_name,
    is_by_reviewer,
    parse_decision,
    parse_reason,
    topic_of,
)
from actors.chat.moderation import QUEUE_LIMIT
from actors.persistence import ERASED
from actors.persistence.words import BIGINT_MAX
from actors.runtime import Actor, message
from web.chat.presenting import ERASED_BODY
from web.chat.routes import PAGE_READ_S_MAX, parse_number, viewer_of
from web.realtime import Arrivals, Audience, PageHolds, Stream, joined, patch_elements
from web.routing import paths
from web.routing.errors import (
    NotAllowed,
    NotAvailable,
    NotSignedIn,
)
from web.routing.services import Services
from web.server import Frame, Rendering, RequestState, current_request_state, require_media
from web.site.events import StreamQuery
from web.site.pages import PAGE_AUDIT, PAGE_MODERATION, form_response, shell, sign_in_path
from web.views import (
    AuditPage,
    AuditView,
    CsrfToken,
    ElementId,
    ModerationPage,
    QueueView,
    Renderer,
    WaitingView,
    element_id,
    local_path,
)

R = TypeVar("R")

# A burst of posts that wait is read once; a moderator reads no faster.
LOOK_AFTER_S = 0.1
# While the store is away.
RETRY_S = 1.0

# On an open page, with what was decided meanwhile: twice what waits there. Past it the oldest of
# those is left out, and then the page does move.
SHOWN_MAX = 2 * QUEUE_LIMIT

_FORM = "application/x-www-form-urlencoded"
# What a page says that was redirected to: `?done=` names one of them.
_NOTICES = {
    "approve": "Approved: everybody in the room sees it now.",
    "remove": "Removed: its author was told why.",
}
_PROBLEMS = {
    NotDecided.UNKNOWN: (404, "This message is not there any more."),
    NotDecided.OWN: (403, "You wrote this: another moderator decides."),
    NotDecided.NOT_WAITING: (409, "It was decided already, or never waited; nothing was changed."),
}


# -- the queue as it is now --------------------------------------------------------------------


@dataclass(slots=True)
class QueueReader:
    """Whose page shows the queue, the token of its forms, and what stands on it."""

    viewer: Viewer
    csrf: CsrfToken
    shown: tuple[WaitingView, ...] = ()


class QueueReaders(Audience[Stream]):
    """The open pages of moderators that show the queue."""

    def __init__(self, wake: Callable[[], None]) -> None:
        super().__init__(wake)
        self._who: dict[Stream, QueueReader] = {}

    def watch(self, stream: Stream, viewer: Viewer, csrf: CsrfToken) -> None:
        """Call this when a moderator's page opens its stream."""
        self._who[stream] = QueueReader(viewer, csrf)
        stream.when_closed(self.leave)
        self.join(stream)

    def leave(self, reader: Stream) -> None:
        """Call this when a stream closed; harmless when it had left."""
        self._who.pop(reader, None)
        super().leave(reader)

    def who(self, stream: Stream) -> QueueReader:
        """Call this for whose page it is, and what it shows."""
        return self._who[stream]

    def forget_shown(self) -> None:
        """Call this when texts are gone: none of them may be sent once more."""
        for reader in self._who.values():
            reader.shown = ()


class BadgeReaders(Audience[Stream]):
    """The open pages of moderators, whatever they show: they tell how many wait.

    `count` is what was read last, None before: pages are rendered with it.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        super().__init__(wake)
        self.count: int | None = None

    def watch(self, stream: Stream) -> None:
        """Call this when a moderator's page opens its stream."""
        stream.when_closed(self.leave)
        self.join(stream)


def readers_of(wake: Callable[[], None]) -> tuple[QueueReaders, BadgeReaders]:
    """Call this for the pages that show the queue, and those that tell how many wait."""
    return QueueReaders(wake), BadgeReaders(wake)


@message
class Look:
    """The queue may be another one."""


Messages = MessagePosted | MessageWithdrawn | RoomResumed | RoomForgot | Arrivals | Look


class ModerationFeed(Actor[Messages]):
    """Reads the queue when something changed in it, and sends it to moderators' pages.

    With nobody looking it still reads how many wait: a page begins with that.
    """

    def __init__(
        self, log: ChatLog, renderer: Renderer, pages: QueueReaders, badges: BadgeReaders
    ) -> None:
        self._log, self._renderer = log, renderer
        self._pages, self._badges = pages, badges
        self._waiting: WaitingList | None = None
        self._will_look = False

    async def on_start(self) -> None:
        """Subscribe to all rooms, then read the queue."""
        for room in ROOM_NAMES:
            self.system.topics.subscribe(topic_of(room), self.ref)
        self._pages.want_all()
        self._badges.want_all()
        await self.on_look(Look())

    def on_message_posted(self, event: MessagePosted) -> None:
        """One that waits, or one that was approved; most are neither."""
        waiting = () if self._waiting is None else self._waiting.messages
        is_news = event.message.status is Status.PENDING
        if is_news or any(one.message.id == event.message.id for one in waiting):
            self._look_soon()
        elif self._waiting is not None and self._waiting.count > len(waiting):
            self._look_soon()  # It may be one behind those that are known.

    def on_message_withdrawn(self, _: MessageWithdrawn) -> None:
        """One of them was removed."""
        self._look_soon()

    def on_room_resumed(self, _: RoomResumed) -> None:
        """The room restarted: nobody knows what was not told."""
        self._look_soon()

    def on_room_forgot(self, _: RoomForgot) -> None:
        """Messages, or their texts, are gone."""
        self._waiting = None
        self._pages.forget_shown()
        self._look_soon()

    async def on_arrivals(self, _: Arrivals) -> None:
        """Send a page that opened what it shows; who signed in since wrote some of it perhaps."""
        if self._waiting is not None:
            self._serve(self._waiting)
        self._look_soon()

    async def on_look(self, _: Look) -> None:
        """Read the queue; send it when it is another one."""
        # What changes from here on may not be read, and is looked at again.
        self._will_look = False
        try:
            waiting = await self._log.waiting()
        except ChatLogUnavailable:
            self._look_soon(RETRY_S)
            return
        if waiting != self._waiting:
            self._waiting, self._badges.count = waiting, waiting.count
            self._pages.want_all()
            self._badges.want_all()
        self._serve(waiting)

    def _look_soon(self, after_s: float = LOOK_AFTER_S) -> None:
        # Not put off by what comes meanwhile: in a busy room it would never be.
        if not self._will_look:
            self._will_look = True
            self.after(after_s, Look())

    def _serve(self, waiting: WaitingList) -> None:
        for stream in self._pages.take_waiting():
            reader = self._pages.who(stream)
            view = steady(reader.shown, queue_view(waiting, reader.viewer, reader.csrf))
            reader.shown = view.items
            html = self._renderer.moderation_queue(view)
            stream.put_panel("moderation", _frame(html))
        badges = self._badges.take_waiting()
        if badges:
            frame = _frame(self._renderer.moderation_badge(waiting.count))
            for stream in badges:
                stream.put_panel("moderation-badge", frame)


def _frame(html: str) -> Frame:
    return joined([patch_elements(html)])


def queue_view(waiting: WaitingList, viewer: Viewer, csrf: CsrfToken) -> QueueView:
    """Call this to show the queue to a moderator."""
    items = tuple(
        WaitingView(
            id=element_id(str(one.message.id)),
            room=one.message.room,
            author=author_name(one.message),
            author_id=_short(one.message.user_id or one.message.author_session or ""),
            body=ERASED_BODY if one.message.body is ERASED else one.message.body,
            at=one.message.created_at,
            reason=one.reason,
            is_own=is_by_reviewer(one, viewer),
        )
        for one in waiting.messages
    )
    return QueueView(items, waiting.count - len(items), csrf)


def steady(shown: tuple[WaitingView, ...], now: QueueView) -> QueueView:
    """Call this for what a page shows next that shows this: what was decided stays in its place.

    Else the next message would come to stand where this one was, under the hand that decides.
    """
    new = {one.id: one for one in now.items}
    items = [new.pop(one.id) if one.id in new else replace(one, is_decided=True) for one in shown]
    items += new.values()
    surplus = len(items) - SHOWN_MAX
    gone = {one.id for one in [one for one in items if one.is_decided][: max(0, surplus)]}
    return replace(now, items=tuple(one for one in items if one.id not in gone))


def _short(ident: UUID | str) -> ElementId:
    return element_id(str(ident).replace("-", "")[-8:])


# -- pages and the form ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ModerationServices:
    """What moderation needs beside the services of every feature."""

    log: ChatLog
    rooms: Rooms
    pages: QueueReaders
    badges: BadgeReaders


class ModerationStreams:
    """What the stream of a moderator's page is sent: the queue as it changes."""

    def __init__(self, services: Services, mine: ModerationServices) -> None:
        self._services, self._mine = services, mine

    async def check(self, query: StreamQuery) -> None:
        """Refuse who is no moderator; raises `NotAllowed`."""
        _moderator(current_request_state())

    def fill(self, stream: Stream, query: StreamQuery, holds: PageHolds | None) -> None:
        """Join the feed of the queue, until the stream closes."""
        state = current_request_state()
        self._mine.pages.watch(stream, viewer_of(state), self._services.csrf_of(state))


def moderation_routes(services: Services, mine: ModerationServices) -> Blueprint:
    """Call this to get the routes of moderation."""
    routes = Blueprint("moderation", __name__)

    @routes.get(paths.MODERATION)
    async def queue() -> Response:
        if (gate := _gate()) is not None:
            return gate
        _moderator(current_request_state())
        return await _queue_page(services, mine, notice=_NOTICES.get(request.args.get("done", "")))

    @routes.post(paths.MODERATION)
    async def decide() -> Response:
        require_media(_FORM)
        typed = await request.form
        if (gate := _gate(paths.MODERATION)) is not None:
            return gate
        state = current_request_state()
        _moderator(state)
        raw_id, note = typed.get("message_id", ""), typed.get("reason", "")
        try:
            message_id = _parse_id(raw_id)
            decision, reason = parse_decision(typed.get("decision", "")), parse_reason(note)
        except BadPost as error:
            return await _queue_page(
                services, mine, status=422, problem=str(error), note=(raw_id, note, error)
            )
        outcome = await _decided(services, mine, (message_id, decision, reason))
        match outcome:
            case Decided():
                return _redirect(f"{paths.MODERATION}?done={decision}")
            case NotStored(why):
                raise NotAvailable(why)
            case NotDecided.NO_MODERATOR:
                raise NotAllowed("this is for moderators")
            case NotDecided():
                status, problem = _PROBLEMS[outcome]
                return await _queue_page(services, mine, status=status, problem=problem)

    @routes.get(paths.AUDIT)
    async def audit() -> Response:
        if (gate := _gate()) is not None:
            return gate
        state = current_request_state()
        _moderator(state)
        before = parse_number("before", request.args.get("before"), BIGINT_MAX)
        page = await _within(services, state, mine.log.audited(before=before))
        entries = tuple(map(_audit_view, page.entries))
        shown = AuditPage(
            shell(services, state, "Audit", PAGE_AUDIT),
            entries,
            local_path(f"{paths.AUDIT}?before={entries[-1].id}") if page.has_older else None,
            is_first=before is None,
        )
        return form_response(services.renderer.audit_page(shown))

    return routes


async def _decided(
    services: Services, mine: ModerationServices, typed: tuple[UUID, Decision, str]
) -> ModerationOutcome | NotStored:
    state, (message_id, decision, reason) = current_request_state(), typed
    room = await _within(services, state, mine.log.room_of(message_id))
    if room is None:
        return NotDecided.UNKNOWN
    viewer = viewer_of(state)
    assert viewer.user_id is not None, "a moderator is signed in"
    asked = Moderate(message_id, viewer.user_id, viewer.session_id, decision, reason)
    return await mine.rooms.of(room).ask(asked, timeout=services.remaining(state))


async def _queue_page(
    services: Services,
    mine: ModerationServices,
    *,
    status: int = 200,
    notice: str | None = None,
    problem: str = "",
    note: tuple[str, str, BadPost] | None = None,
) -> Response:
    state = current_request_state()
    waiting = await _within(services, state, mine.log.waiting())
    mine.badges.count = waiting.count
    view = queue_view(waiting, viewer_of(state), services.csrf_of(state))
    if note is not None:
        # SITE-64: what was typed comes back beside what is wrong with it.
        raw_id, typed, error = note
        items = tuple(
            replace(one, note=typed, problem=error.problem) if one.id == raw_id else one
            for one in view.items
        )
        view = replace(view, items=items)
    frame = shell(services, state, "Moderation", PAGE_MODERATION, str(uuid4()))
    page = ModerationPage(frame, view, notice or "", problem)
    return form_response(services.renderer.moderation_page(page), status)


async def _within(services: Services, state: RequestState, read: Awaitable[R]) -> R:
    """Give a page what it reads, or say within two seconds that the store is away (SITE-155)."""
    with trio.move_on_after(min(PAGE_READ_S_MAX, services.remaining(state))):
        return await read
    raise NotAvailable("the store does not answer")


def _gate(back: str | None = None) -> Response | None:
    """Send a guest to the sign-in and back; a command is refused (SITE-41)."""
    state = current_request_state()
    if state.signed_in is not None:
        return None
    if state.rendering is Rendering.BARE:
        raise NotSignedIn("this needs a sign-in")
    query = request.query_string.decode("latin-1")
    asked = quote(request.path, safe="/") + (f"?{query}" if query else "")
    return _redirect(sign_in_path(back or asked))


def _moderator(state: RequestState) -> None:
    if state.signed_in is None or state.signed_in.role != Role.MODERATOR:
        raise NotAllowed("this is for moderators")


def _parse_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise BadPost("message_id", "names no message") from None


def _audit_view(entry: AuditEntry) -> AuditView:
    facts = {name: str(value) for name, value in entry.metadata.items() if value is not None}
    room_id = facts.pop("room_id", "")
    facts.pop("timestamp_ms", None)
    if entry.actor is not None:
        actor = entry.actor_name or f"user-{entry.actor.hex[-8:]}"
    else:
        actor = "a guest" if entry.action == "chat.message.post" else "the program"
    return AuditView(
        id=entry.id,
        at=entry.at,
        action=entry.action,
        actor=actor,
        room=entry.room or f"room {room_id[:8]}",
        facts=tuple(sorted(facts.items())),
    )


def _redirect(path: str) -> Response:
    headers = {"location": path, "cache-control": "no-store"}
    return Response(b"", status=303, headers=headers, content_type=None)
