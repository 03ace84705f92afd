"""Stored messages as what a page shows of them. Pure.

Readers fall into classes that see a message alike, so that it is rendered once for each
class and the bytes are shared: the public, and the session that wrote it.
"""

from enum import StrEnum

from actors.chat import DEMO_USER_ID, Message, Status, Viewer, author_name, is_own
from web.views import MessageState, MessageView, Speaker, element_id


class ViewerClass(StrEnum):
    """Who looks: everybody, or the session whose message it is."""

    PUBLIC = "public"
    AUTHOR = "author"


def message_view(message: Message, viewer_class: ViewerClass) -> MessageView:
    """Call this to show a message to a class of viewers; a removed one is never shown."""
    state = MessageState.PENDING if message.status is Status.PENDING else MessageState.VISIBLE
    return MessageView(
        id=element_id(str(message.id)),
        seq=message.seq,
        author=author_name(message),
        body=message.body,
        at=message.created_at,
        state=state,
        speaker=_speaker(message, viewer_class),
    )


def class_of(message: Message, viewer: Viewer) -> ViewerClass:
    """Call this to learn how a viewer sees a message."""
    return ViewerClass.AUTHOR if is_own(message, viewer) else ViewerClass.PUBLIC


def window_views(messages: tuple[Message, ...], viewer: Viewer) -> tuple[MessageView, ...]:
    """Call this to show a page of history to one viewer, oldest first."""
    return tuple(message_view(message, class_of(message, viewer)) for message in messages)


def _speaker(message: Message, viewer_class: ViewerClass) -> Speaker:
    if message.user_id == DEMO_USER_ID:
        return Speaker.DEMO
    return Speaker.YOU if viewer_class is ViewerClass.AUTHOR else Speaker.OTHER
