"""One open SSE connection of a tab: frames in, bytes on the socket, synchronously.

Rule 1: `put_chat` and `put_panel` are plain calls that return at once; they never wait, raise or
        yield. A reader that is behind costs its own outbox, nobody else's time.
Rule 2: frames are written in order; the lane is tried only when nothing older waits.

Life cycle (heartbeat, windows, stop) belongs to the stream's actor in `stream_actor.py`; the
registry is `streams.py`.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass

import trio

from web.realtime.errors import BadTabId
from web.realtime.outbox import Outbox, OutboxStatistics
from web.server import Frame, Lane

# One system call's worth; more would only wait in the kernel.
COALESCE_BYTES = 64 * 1024
_TAB_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class StreamKey:
    """Names a stream: the browser's session and the tab within it. Raises `BadTabId`."""

    session: uuid.UUID
    tab: str

    def __post_init__(self) -> None:
        if not _TAB_ID.fullmatch(self.tab):
            raise BadTabId

    def __str__(self) -> str:
        return f"{self.session.hex[:8]}.{self.tab}"


@dataclass(frozen=True, slots=True)
class StreamStatistics:
    """Holds what the lab shows of a stream."""

    key: StreamKey
    frames_sent: int
    outbox: OutboxStatistics
    is_open: bool


class Stream:
    """A tab's stream; attach a lane once its response head is out.

    `closed` is set when it ends; `close_reason` tells why. `on_window_wanted` is called (at once,
    synchronously) when chat overflowed and a window has to be rendered.
    """

    __slots__ = (
        "_lane",
        "_on_closed",
        "_outbox",
        "address",
        "close_reason",
        "closed",
        "frames_sent",
        "key",
        "on_window_wanted",
        "sent_at",
    )

    def __init__(self, key: StreamKey, address: str) -> None:
        self.key = key
        self.address = address
        self._lane: Lane | None = None
        self._outbox = Outbox()
        self.closed = trio.Event()
        self.close_reason = ""
        self.frames_sent = 0
        self.sent_at = trio.current_time()
        self.on_window_wanted: Callable[[], None] | None = None
        self._on_closed: list[Callable[[Stream], None]] = []

    def __repr__(self) -> str:
        state = self.close_reason or ("open" if self._lane else "opening")
        return f"<Stream {self.key} {state} {self._outbox!r}>"

    @property
    def is_open(self) -> bool:
        """Tell whether frames still reach the tab."""
        return not self.closed.is_set()

    def statistics(self) -> StreamStatistics:
        """Call this for the lab and the metrics."""
        return StreamStatistics(self.key, self.frames_sent, self._outbox.statistics(), self.is_open)

    def when_closed(self, told: Callable[[Stream], None]) -> None:
        """Call this to be told, once and synchronously, when the stream ended."""
        self._on_closed.append(told)

    def attach(self, lane: Lane) -> None:
        """Call this once, when the response head is out: what waited is written now."""
        self._lane = lane
        lane.when_ready(self._flush)
        self._flush()
        if self.closed.is_set():
            lane.close()

    def put_chat(self, frame: Frame, position: int) -> None:
        """Send one chat event, or keep it in order; `position` rises by one per event."""
        if self._written(frame) or self.closed.is_set():
            return
        had_wish = self._outbox.window_wanted
        self._outbox.put_chat(frame, position)
        if self._outbox.window_wanted and not had_wish and self.on_window_wanted is not None:
            self.on_window_wanted()

    def put_panel(self, panel: str, frame: Frame) -> bool:
        """Send a panel's state, or keep it instead of its older one; False when closed."""
        if self._written(frame):
            return True
        if self.closed.is_set():
            return False
        if not self._outbox.put_panel(panel, frame):
            self.close("panels overflowed")
            return False
        return True

    def put_window(self, frame: Frame, position: int) -> None:
        """Send the whole chat as it is; covers every event up to `position`."""
        if self.closed.is_set():
            return
        self._outbox.put_window(frame, position)
        self._flush()

    def close(self, reason: str) -> None:
        """End the stream; what waits is forgotten, except what a new one opens with.

        Safe to repeat, no checkpoint.
        """
        if self.closed.is_set():
            return
        self.close_reason = reason
        if self._lane is not None:
            self._outbox.clear()
            self._lane.close()
        self.closed.set()
        for told in self._on_closed:
            told(self)

    def _written(self, frame: Frame) -> bool:
        lane = self._lane
        if lane is None or self._outbox or self._outbox.window_wanted:
            return False
        if not lane.write(frame.wire(lane.framing)):
            return False
        self.frames_sent += 1
        self.sent_at = trio.current_time()
        return True

    def _flush(self) -> None:
        """Write what waits, coalesced; ends when the lane refuses or nothing is left."""
        lane = self._lane
        while lane is not None and self._outbox:
            if not lane.is_ready:
                return
            frames = self._outbox.take(COALESCE_BYTES)
            if not frames:
                return
            if not lane.write(b"".join([frame.wire(lane.framing) for frame in frames])):
                return  # the connection broke; its tasks are being cancelled
            self.frames_sent += len(frames)
            self.sent_at = trio.current_time()
