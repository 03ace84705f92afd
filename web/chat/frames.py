"""Room events as what a stream is sent: Datastar patches, encoded once for each viewer class."""

from actors.chat import Message, MessageWithdrawn, RoomName, Viewer, may_see
from web.chat.presenting import ViewerClass, message_view, window_views
from web.realtime import ElementPatchMode, joined, patch_elements, remove_elements
from web.server import Frame
from web.views import Renderer, element_id


class RoomFrames:
    """Renders and encodes for one room. Pure: the same event gives the same bytes."""

    def __init__(self, room: RoomName, renderer: Renderer) -> None:
        self._room, self._renderer = room, renderer

    def event_id(self, n: int) -> str:
        """Call this to name the `n`th event of the room on a stream; n survives restarts."""
        return f"{self._room.lower()}.{n}"

    def posted(self, message: Message, n: int, viewer_class: ViewerClass) -> Frame:
        """Call this to append a new message to both panes' lists."""
        parts = self._renderer.message(message_view(message, viewer_class))
        append = ElementPatchMode.APPEND
        return joined(
            [
                patch_elements(parts.you, selector="#chat-you-list", mode=append),
                patch_elements(
                    parts.demo,
                    selector="#chat-demo-list",
                    mode=append,
                    event_id=self.event_id(n),
                ),
            ]
        )

    def withdrawn(self, event: MessageWithdrawn) -> Frame:
        """Call this to take a message out of both panes."""
        name = element_id(str(event.id))
        return joined([remove_elements(f"#chat-you-{name}, #chat-demo-{name}")])

    def window(self, messages: tuple[Message, ...], n: int, viewer: Viewer) -> Frame:
        """Call this to replace both panes' lists by what the viewer may see."""
        seen = tuple(message for message in messages if may_see(message, viewer))
        html = self._renderer.chat_window(window_views(seen, viewer))
        return joined([patch_elements(html, event_id=self.event_id(n))])
