"""One open SSE connection of a tab: frames in, bytes on the socket, synchronously.

Rule 1: `put_chat` and `put_panel` are plain calls that return at once; they never wait, raise or
        yield. A reader that is behind costs its own backlog, nobody else's time.
Rule 2: frames are written in order; the lane is tried only when nothing older waits.
Rule 3: a backlog is bounded and has no silent gap (SITE-95): a panel keeps its latest state only;
        chat keeps its events in order until there are too many, then drops them all and asks for
        one full window. Panels never evict chat, chat never evicts panels.

`Stream` writes, `StreamBacklog` is the bookkeeping of what waits. The registry of all streams and
the actor of each (heartbeat, windows, stop) are in `streams.py`.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass

import trio

from web.realtime.errors import BadTabId
from web.server import COALESCE_BYTES, Bundle, Frame, GzipSum, Lane

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
    backlog: BacklogStatistics
    is_open: bool

    @property
    def outbox(self) -> BacklogStatistics:
        """The backlog, by the name it had before."""
        return self.backlog


class Stream:
    """A tab's stream; attach a lane once its response head is out.

    `closed` is set when it ends; `close_reason` tells why. `on_window_wanted` is called (at once,
    synchronously) when chat overflowed and a window has to be rendered.
    """

    __slots__ = (
        "_backlog",
        "_lane",
        "_on_closed",
        "_sum",
        "address",
        "close_reason",
        "closed",
        "frames_sent",
        "key",
        "on_window_wanted",
        "opened_at",
        "sent_at",
        "session_id",
    )

    def __init__(self, key: StreamKey, address: str) -> None:
        self.key = key
        # The session as other parts name it; made once, for a feed asks every reader for it.
        self.session_id = str(key.session)
        self.address = address
        self._lane: Lane | None = None
        # Of a compressed stream, what it was sent.
        self._sum: GzipSum | None = None
        self._backlog = StreamBacklog()
        self.closed = trio.Event()
        self.close_reason = ""
        self.frames_sent = 0
        self.opened_at = self.sent_at = trio.current_time()
        self.on_window_wanted: Callable[[], None] | None = None
        self._on_closed: list[Callable[[Stream], None]] = []

    def __repr__(self) -> str:
        state = self.close_reason or ("open" if self._lane else "opening")
        return f"<Stream {self.key} {state} {self._backlog!r}>"

    @property
    def is_open(self) -> bool:
        """Tell whether frames still reach the tab."""
        return not self.closed.is_set()

    @property
    def is_behind(self) -> bool:
        """Tell whether anything waits for the reader."""
        return bool(self._backlog.bytes) or self._backlog.window_wanted

    @property
    def waiting(self) -> int:
        """Count the frames that wait for the reader."""
        return len(self._backlog)

    def statistics(self) -> StreamStatistics:
        """Call this for the lab and the metrics."""
        return StreamStatistics(
            self.key, self.frames_sent, self._backlog.statistics(), self.is_open
        )

    def when_closed(self, told: Callable[[Stream], None]) -> None:
        """Call this to be told, once and synchronously, when the stream ended."""
        self._on_closed.append(told)

    def wake_by(self, wake: Callable[[], None]) -> None:
        """Call this, for whoever keeps the connection, to have `wake` called at the end."""
        self._on_closed.append(lambda _: wake())

    async def wait_over(self) -> None:
        """Call this to wait for its end."""
        await self.closed.wait()

    async def last(self) -> bytes:
        """Call this once it is closed for the last bytes of its answer's body."""
        return b"" if self._sum is None else self._sum.end()

    def hang_up(self) -> None:
        """Call this when its client is gone; may be repeated."""
        self.close("disconnected")

    def attach(self, lane: Lane, told: GzipSum | None = None) -> None:
        """Call this once, when the response head is out: what waited is written now.

        Where the lane compresses, every frame is added to `told`, the sum of what was sent before.
        """
        # No checkpoint from here to the end, so nothing is put between what waited and what the
        # lane is given next. The stream may have closed while the head was on its way.
        self._lane, self._sum = lane, told
        lane.when_ready(self._flush)
        self._flush()
        if self.closed.is_set():
            lane.close()

    def put_chat(self, frame: Frame, position: int) -> None:
        """Send one chat event, or keep it in order; `position` rises by one per event."""
        if self._written(frame) or self.closed.is_set():
            return
        # Told at the turn of the wish only: until the window comes, more events change nothing.
        had_wish = self._backlog.window_wanted
        self._backlog.put_chat(frame, position)
        if self._backlog.window_wanted and not had_wish and self.on_window_wanted is not None:
            self.on_window_wanted()

    def put_chats(self, bundle: Bundle) -> None:
        """Send several chat events with one write, or keep each as `put_chat` does."""
        if self._written(bundle, len(bundle)):
            return
        for frame, position in bundle.entries:
            self.put_chat(frame, position)

    def put_panel(self, panel: str, frame: Frame, over: Frame | None = None) -> bool:
        """Send a panel's state, or keep it instead of its older one; False when closed.

        `over` is kept in place of `frame` where an older one waits: for a patch that is right only
        behind the one it now replaces.
        """
        if self._written(frame):
            return True
        if self.closed.is_set():
            return False
        if not self._backlog.put_panel(panel, frame, over):
            self.close("panels overflowed")
            return False
        return True

    def write_now(self, bundle: Bundle) -> bool:
        """Send states of several panels with one write; False when nothing of it was taken.

        Then each is put by its name.
        """
        return self._written(bundle, len(bundle))

    def change_chat(self) -> None:
        """Call this when the page shows another chat: of the one before nothing is sent any more.

        Its window comes next.
        """
        self._backlog.change_chat()

    def put_window(self, frame: Frame, position: int) -> None:
        """Send the whole chat as it is; covers every event up to `position`."""
        if self.closed.is_set():
            return
        self._backlog.put_window(frame, position)
        self._flush()

    def close(self, reason: str) -> None:
        """End the stream; what waits is forgotten, except what a new one opens with.

        Safe to repeat, no checkpoint.
        """
        if self.closed.is_set():
            return
        self.close_reason = reason
        if self._lane is not None:
            self._backlog.clear()
            self._lane.close()
        self.closed.set()
        # Let go: most of who is told holds the stream.
        on_closed, self._on_closed = self._on_closed, []
        for told in on_closed:
            told(self)

    def _written(self, frame: Frame | Bundle, count: int = 1) -> bool:
        # While a window is wanted the lane is not tried, though the backlog may be empty: events
        # were dropped, and the next one would be shown behind a silent gap.
        lane, backlog = self._lane, self._backlog
        if lane is None or backlog.bytes or backlog.window_wanted:
            return False
        if not lane.write(frame.wire(lane.framing)):
            return False
        if self._sum is not None:
            self._sum.add(frame.payload)
        self.frames_sent += count
        self.sent_at = trio.current_time()
        return True

    def _flush(self) -> None:
        """Write what waits, coalesced; ends when the lane refuses or nothing is left."""
        lane = self._lane
        while lane is not None and self._backlog:
            if not lane.is_ready:
                return
            frames = self._backlog.take(COALESCE_BYTES)
            if not frames:
                return
            if not lane.write(b"".join([frame.wire(lane.framing) for frame in frames])):
                return  # the connection broke; its tasks are being cancelled
            if self._sum is not None:
                for frame in frames:
                    self._sum.add(frame.payload)
            self.frames_sent += len(frames)
            self.sent_at = trio.current_time()


# A reader 64 chat events behind reads one window faster than the events.
CHAT_EVENTS_MAX = 64
# With 10,000 streams all behind, 2.5 GB would be the worst; in practice panels are a few KiB.
BACKLOG_BYTES_MAX = 256 * 1024


@dataclass(frozen=True, slots=True)
class BacklogStatistics:
    """Counts what waits, and how often chat was replaced by a window."""

    chat_events: int
    panels: int
    bytes: int
    resyncs: int
    dropped: int


class StreamBacklog:
    """Holds what waits for one stream.

    `window_wanted` turns true when chat overflowed; it stays until `put_window`.
    """

    __slots__ = ("_chat", "_panels", "_window", "bytes", "dropped", "resyncs", "window_wanted")

    def __init__(self) -> None:
        # A list: it is short, and an empty deque holds 600 bytes for each idle stream.
        self._chat: list[tuple[int, Frame]] = []
        self._panels: dict[str, Frame] = {}
        self._window: Frame | None = None
        # Of everything that waits: 0 means that nothing does, for no frame is empty.
        self.bytes = 0
        self.window_wanted = False
        self.resyncs = 0
        # Events that a window took the place of.
        self.dropped = 0

    def __bool__(self) -> bool:
        return bool(self._chat or self._panels or self._window)

    def __len__(self) -> int:
        return len(self._chat) + len(self._panels) + (self._window is not None)

    def __repr__(self) -> str:
        return (
            f"<StreamBacklog chat={len(self._chat)} panels={len(self._panels)} bytes={self.bytes}>"
        )

    def statistics(self) -> BacklogStatistics:
        """Call this for the lab and the metrics."""
        return BacklogStatistics(
            len(self._chat), len(self._panels), self.bytes, self.resyncs, self.dropped
        )

    def put_chat(self, frame: Frame, position: int) -> None:
        """Keep a chat event; one too many replaces them all by the wish for a window."""
        self._chat.append((position, frame))
        self.bytes += len(frame)
        if len(self._chat) <= CHAT_EVENTS_MAX and self.bytes <= BACKLOG_BYTES_MAX:
            return
        # Events since the wish are in the window, or come after it and are kept again.
        self.dropped += len(self._chat)
        self.change_chat()
        if not self.window_wanted:
            self.window_wanted = True
            self.resyncs += 1

    def change_chat(self) -> None:
        """Forget what waits of the chat."""
        for _, dropped in self._chat:
            self.bytes -= len(dropped)
        self._chat.clear()
        if self._window is not None:
            self.bytes -= len(self._window)
            self._window = None

    def put_panel(self, panel: str, frame: Frame, over: Frame | None = None) -> bool:
        """Keep the latest state of a panel; False if panels alone are more than fits."""
        # To the end: what is newer is applied later, also across panels that overlap.
        older = self._panels.pop(panel, None)
        if older is not None:
            self.bytes -= len(older)
            frame = frame if over is None else over
        self._panels[panel] = frame
        self.bytes += len(frame)
        return sum(len(kept) for kept in self._panels.values()) <= BACKLOG_BYTES_MAX

    def put_window(self, frame: Frame, position: int) -> None:
        """Keep a full chat window that covers every event up to `position`."""
        self.window_wanted = False
        if self._window is not None:
            # One that still waits is replaced by the newer one, which holds all of it.
            self.bytes -= len(self._window)
        self._window = frame
        self.bytes += len(frame)
        while self._chat and self._chat[0][0] <= position:
            _, covered = self._chat.pop(0)
            self.bytes -= len(covered)

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
        self.bytes -= size
        return taken

    def clear(self) -> None:
        """Forget everything: the stream is over."""
        self._chat.clear()
        self._panels.clear()
        self._window = None
        self.bytes = 0

    def _next(self) -> Frame | None:
        if self._window is not None:
            frame, self._window = self._window, None
            return frame
        if self._chat and not self.window_wanted:
            return self._chat.pop(0)[1]
        if self._panels:
            return self._panels.pop(next(iter(self._panels)))
        return None
