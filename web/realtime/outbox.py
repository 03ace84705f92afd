"""What a stream still has to send while its reader is busy: bounded, with a policy (SITE-95).

Pure bookkeeping. A panel keeps its latest state only; chat keeps its events in order until there
are too many, then drops them all and asks for one full window, so there is no silent gap. Panels
never evict chat, chat never evicts panels.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from web.server import Frame

# A reader 64 chat events behind reads one window faster than the events.
CHAT_EVENTS_MAX = 64
# With 10,000 streams all behind, 2.5 GB would be the worst; in practice panels are a few KiB.
OUTBOX_BYTES_MAX = 256 * 1024


@dataclass(frozen=True, slots=True)
class OutboxStatistics:
    """Counts what waits, and how often chat was replaced by a window."""

    chat_events: int
    panels: int
    bytes: int
    resyncs: int


class Outbox:
    """Holds what waits for one stream.

    `window_wanted` turns true when chat overflowed; it stays until `put_window`.
    """

    __slots__ = ("_bytes", "_chat", "_panels", "_window", "resyncs", "window_wanted")

    def __init__(self) -> None:
        self._chat: deque[tuple[int, Frame]] = deque()
        self._panels: dict[str, Frame] = {}
        self._window: Frame | None = None
        self._bytes = 0
        self.window_wanted = False
        self.resyncs = 0

    def __bool__(self) -> bool:
        return bool(self._chat or self._panels or self._window)

    def __repr__(self) -> str:
        return f"<Outbox chat={len(self._chat)} panels={len(self._panels)} bytes={self._bytes}>"

    def statistics(self) -> OutboxStatistics:
        """Call this for the lab and the metrics."""
        return OutboxStatistics(len(self._chat), len(self._panels), self._bytes, self.resyncs)

    def put_chat(self, frame: Frame, position: int) -> None:
        """Keep a chat event; one too many replaces them all by the wish for a window."""
        self._chat.append((position, frame))
        self._bytes += len(frame)
        if len(self._chat) <= CHAT_EVENTS_MAX and self._bytes <= OUTBOX_BYTES_MAX:
            return
        # Events since the wish are in the window, or come after it and are kept again.
        for _, dropped in self._chat:
            self._bytes -= len(dropped)
        self._chat.clear()
        if self._window is not None:
            self._bytes -= len(self._window)
            self._window = None
        if not self.window_wanted:
            self.window_wanted = True
            self.resyncs += 1

    def put_panel(self, panel: str, frame: Frame) -> bool:
        """Keep the latest state of a panel; False if panels alone are more than fits."""
        # To the end: what is newer is applied later, also across panels that overlap.
        older = self._panels.pop(panel, None)
        if older is not None:
            self._bytes -= len(older)
        self._panels[panel] = frame
        self._bytes += len(frame)
        return sum(len(kept) for kept in self._panels.values()) <= OUTBOX_BYTES_MAX

    def put_window(self, frame: Frame, position: int) -> None:
        """Keep a full chat window that covers every event up to `position`."""
        self.window_wanted = False
        self._window = frame
        self._bytes += len(frame)
        while self._chat and self._chat[0][0] <= position:
            _, covered = self._chat.popleft()
            self._bytes -= len(covered)

    def take(self, bytes_max: int) -> list[Frame]:
        """Take what may be sent next: the window, chat in order, then panels.

        Chat waits while a window is wanted. At least one frame if there is any, then as many as
        fit into `bytes_max`.
        """
        taken: list[Frame] = []
        size = 0
        while size < bytes_max:
            frame = self._next()
            if frame is None:
                break
            taken.append(frame)
            size += len(frame)
        self._bytes -= size
        return taken

    def clear(self) -> None:
        """Forget everything: the stream is over."""
        self._chat.clear()
        self._panels.clear()
        self._window = None
        self._bytes = 0

    def _next(self) -> Frame | None:
        if self._window is not None:
            frame, self._window = self._window, None
            return frame
        if self._chat and not self.window_wanted:
            return self._chat.popleft()[1]
        if self._panels:
            return self._panels.pop(next(iter(self._panels)))
        return None
