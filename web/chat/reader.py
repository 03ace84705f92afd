"""A stream as a reader of a room: the two calls a feed makes, without anything between."""

from collections.abc import Callable

from web.realtime import Stream
from web.server import Frame


class StreamReader:
    """Passes a feed's frames to a stream."""

    __slots__ = ("put_chat", "put_window", "session_id")

    def __init__(self, stream: Stream) -> None:
        self.session_id = str(stream.key.session)
        self.put_chat: Callable[[Frame, int], None] = stream.put_chat
        self.put_window: Callable[[Frame, int], None] = stream.put_window
