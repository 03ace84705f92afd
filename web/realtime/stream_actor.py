"""The actor of one SSE stream: heartbeat, the wish for a window, and the end (SITE-95).

Frames do not pass through its mailbox: they are written synchronously by `stream.py`. It lives
as long as the stream and no restart follows: a browser that lost its stream opens another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import trio

from actors.runtime import Actor, Exit, Normal, message
from web.realtime.sse import HEARTBEAT, HEARTBEAT_S
from web.realtime.stream import Stream

# Rounding may leave a rest too small to move the clock; looking then would never end.
_SOONEST_S = 0.01

# Told synchronously; answers later with `stream.put_window`.
RequestWindow = Callable[[Stream], None]


@message
class Beat:
    """Look whether the stream was silent for too long."""


@message
class WindowWanted:
    """Chat overflowed; the tab needs the whole window."""


@message
class Ended:
    """The stream is closed."""


class StreamActor(Actor[Beat | WindowWanted | Ended]):
    """Owns the life of one `Stream`; stopping or crashing closes it."""

    # One of each kind at most is on its way at any time.
    capacity: ClassVar[int] = 8

    def __init__(self, stream: Stream, request_window: RequestWindow) -> None:
        self._stream = stream
        self._request_window = request_window

    def on_start(self) -> None:
        """Begin to look after the stream; ends at once if it closed already."""
        ref = self.ref
        self._stream.on_window_wanted = lambda: ref.tell(WindowWanted())
        self._stream.when_closed(lambda _: ref.tell(Ended()))
        if not self._stream.is_open:
            ref.tell(Ended())
        self.after(HEARTBEAT_S, Beat())

    def on_beat(self, message: Beat) -> None:
        """Send a comment after 15 s of silence; look again when the next one may be due."""
        silent_s = trio.current_time() - self._stream.sent_at
        if silent_s >= HEARTBEAT_S:
            self._stream.put_panel("heartbeat", HEARTBEAT)
            silent_s = 0.0
        self.after(max(HEARTBEAT_S - silent_s, _SOONEST_S), Beat())

    def on_window_wanted(self, message: WindowWanted) -> None:
        """Ask for the window; it comes by `put_window`."""
        if self._stream.is_open:
            self._request_window(self._stream)

    def on_ended(self, message: Ended) -> None:
        """Leave the tree."""
        self.stop(Normal())

    def on_stop(self, exit: Exit) -> None:  # noqa: A002 - the runtime's word
        """Close the stream, whatever ended the actor."""
        self._stream.close("its actor ended")
