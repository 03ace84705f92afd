"""Stored messages as what a page shows of them, and room events as what a stream is sent. Pure.

Readers fall into classes that see a message alike, so that it is rendered and encoded once for
each class and the bytes are shared: the public, the session that wrote it, and moderators while it
waits for review.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from actors.chat import (
    DEMO_USER_ID,
    Message,
    MessageWithdrawn,
    RoomName,
    Viewer,
    author_name,
    is_own,
    may_see,
)
from actors.chat.policy import AUTO, author_id
from actors.chat.words import AuthorId
from actors.persistence import ERASED
from web.realtime import ElementPatchMode, joined, patch_elements, remove_elements
from web.server import Frame
from web.views import (
    MessageState,
    MessageView,
    PresenceView,
    Renderer,
    Speaker,
    element_id,
)

# Of a text that was forgotten: its day is over, or its author's account is.
ERASED_BODY = "(erased)"


class ViewerClass(StrEnum):
    """Who looks: everybody, the session whose message it is, or who decides about it."""

    PUBLIC = "public"
    AUTHOR = "author"
    MODERATOR = "moderator"


def message_view(message: Message, viewer_class: ViewerClass) -> MessageView:
    """Call this to show a message to a class of viewers; a removed one is its author's only."""
    reason = message.removed_for or ""
    return MessageView(
        id=element_id(str(message.id)),
        seq=message.seq,
        author=author_name(message),
        body=ERASED_BODY if message.body is ERASED else message.body,
        at=message.created_at,
        state=MessageState(message.status),
        speaker=_speaker(message, viewer_class),
        # The rule that had it wait is not why somebody has removed it.
        reason="" if reason == AUTO else reason,
    )


def class_of(message: Message, viewer: Viewer) -> ViewerClass:
    """Call this to learn how a viewer sees a message."""
    return ViewerClass.AUTHOR if is_own(message, viewer) else ViewerClass.PUBLIC


def window_views(messages: tuple[Message, ...], viewer: Viewer) -> tuple[MessageView, ...]:
    """Call this to show a page of history to one viewer, oldest first."""
    return tuple(message_view(message, class_of(message, viewer)) for message in messages)


class PageViews:
    """The views of each room's newest window for all who wrote nothing in it, made once.

    As long as the room gives the very same messages, that is: it does so while nothing changes.
    Whoever sees one of them as their own has views made for themselves, and nobody else gets them.
    """

    def __init__(self) -> None:
        self._kept: dict[RoomName, _Window] = {}

    def of(
        self, room: RoomName, messages: tuple[Message, ...], viewer: Viewer
    ) -> tuple[MessageView, ...]:
        """Call this for what `window_views` gives."""
        if viewer.is_moderator:
            return window_views(messages, viewer)
        kept = self._kept.get(room)
        if kept is None or kept.messages is not messages:
            authors = frozenset(map(author_id, messages))
            if _wrote_one(viewer, authors):
                return window_views(messages, viewer)
            kept = _Window(messages, authors, window_views(messages, viewer))
            self._kept[room] = kept
        if _wrote_one(viewer, kept.authors):
            return window_views(messages, viewer)
        return kept.views


@dataclass(frozen=True, slots=True)
class _Window:
    messages: tuple[Message, ...]
    authors: frozenset[AuthorId | None]
    views: tuple[MessageView, ...]


def _wrote_one(viewer: Viewer, authors: frozenset[AuthorId | None]) -> bool:
    ids = (viewer.session_id, viewer.user_id)
    return any(one is not None and one in authors for one in ids)


def _both_panes(message_id: UUID) -> str:
    name = element_id(str(message_id))
    return f"#chat-you-{name}, #chat-demo-{name}"


def _speaker(message: Message, viewer_class: ViewerClass) -> Speaker:
    if message.user_id == DEMO_USER_ID:
        return Speaker.DEMO
    return Speaker.YOU if viewer_class is ViewerClass.AUTHOR else Speaker.OTHER


class RoomFrames:
    """Renders and encodes for one room. Pure: the same event gives the same bytes."""

    def __init__(self, room: RoomName, renderer: Renderer) -> None:
        self._room, self._renderer = room, renderer

    def event_id(self, n: int) -> str:
        """Call this to name the `n`th event of the room on a stream; n survives restarts."""
        return f"{self._room.lower()}.{n}"

    def posted(
        self, message: Message, n: int, viewer_class: ViewerClass, *, has_waited: bool = False
    ) -> Frame:
        """Call this to append a message to both panes' lists; the page puts it where it belongs.

        `has_waited` for who sees it already, as one that waits for review.
        """
        parts = self._renderer.message(message_view(message, viewer_class))
        append = ElementPatchMode.APPEND
        before = [remove_elements(_both_panes(message.id))] if has_waited else []
        return joined(
            [
                *before,
                patch_elements(parts.you, selector="#chat-you-list", mode=append),
                patch_elements(
                    parts.demo,
                    selector="#chat-demo-list",
                    mode=append,
                    event_id=self.event_id(n),
                ),
            ]
        )

    def missing(
        self, shown: Sequence[MessageView], held: Sequence[str], n: int
    ) -> list[bytes] | None:
        """Call this for what turns a page that holds `held` (marks) into one that shows `shown`.

        None when that cannot be told by taking away and appending, or is not worth it: then it is
        sent the window. An empty list when nothing is missing.
        """
        marks = [view.mark for view in shown]
        known = frozenset(marks)
        kept = [mark for mark in held if mark in known]
        if kept != marks[: len(kept)] or len(shown) > 2 * len(kept):
            return None
        events: list[bytes] = []
        # Only what the page said it has: a selector that finds nothing is a warning in its console.
        gone = [mark for mark in held if mark not in known]
        if gone:
            events.append(remove_elements(",".join(f"[data-mark={mark!r}]" for mark in gone)))
        parts = [self._renderer.message(view) for view in shown[len(kept) :]]
        if parts:
            append = ElementPatchMode.APPEND
            you, demo = "".join(part.you for part in parts), "".join(part.demo for part in parts)
            events.append(patch_elements(you, selector="#chat-you-list", mode=append))
            events.append(
                patch_elements(
                    demo, selector="#chat-demo-list", mode=append, event_id=self.event_id(n)
                )
            )
        return events

    def withdrawn(self, event: MessageWithdrawn) -> Frame:
        """Call this to take a message out of both panes."""
        return joined([remove_elements(_both_panes(event.id))])

    def refused(self, message: Message, event: MessageWithdrawn) -> Frame:
        """Call this to tell the author, in the place of the message, that it was taken away."""
        html = self._renderer.withdrawn_message(message_view(message, ViewerClass.AUTHOR))
        return joined([patch_elements(html, event_id=self.event_id(event.n))])

    def presence(self, seen: PresenceView) -> Frame:
        """Call this to show who is in the room."""
        return joined([patch_elements(self._renderer.chat_presence(seen))])

    def window(self, messages: tuple[Message, ...], n: int, viewer: Viewer) -> Frame:
        """Call this to replace both panes' lists by what the viewer may see."""
        seen = tuple(message for message in messages if may_see(message, viewer))
        html = self._renderer.chat_window(window_views(seen, viewer))
        return joined([patch_elements(html, event_id=self.event_id(n))])
