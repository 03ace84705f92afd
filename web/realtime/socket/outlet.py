"""The sending half of one WebSocket: frames in, bytes on the socket, synchronously.

Rule 1: `send` and `send_topic` are plain calls that return at once and never raise.
Rule 2: after `close` nothing more is taken; what was taken is still written, for a second.
Rule 3: what a busy reader has not taken waits in a bounded backlog, with a policy for each topic
        when it is full (REL-70).
Rule 4: every frame that was given is delivered, dropped, replaced, or waits (REL-73).

Who decides what is sent: `connection.py`. The ASGI side around it: `endpoint.py`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import trio

from web.realtime.errors import SocketCode
from web.realtime.socket.messages import Error, Form, encode_server
from web.realtime.socket.protocol import CloseCode
from web.server import COALESCE_BYTES, Bundle, Frame, Framing, Lane

# What was taken before a close is written in this time, or not at all.
FLUSH_S = 1.0


@dataclass(frozen=True, slots=True)
class OutletStatistics:
    """Counts what became of the frames given to one client: `sent` is the sum of the others."""

    sent: int
    delivered: int
    dropped: int
    replaced: int
    waiting: int


class Outlet:
    """Sends to one client; `closing` is set when our side wants the end.

    It also counts the messages of the client that are not answered yet, for a drain.
    """

    __slots__ = (
        "_backlog",
        "_given",
        "_lane",
        "_moved",
        "_sent",
        "_unanswered",
        "at_once",
        "close_code",
        "close_reason",
        "closing",
        "form",
        "is_open",
        "on_closing",
    )

    def __init__(self, lane: Lane, form: Form = Form.PLAIN) -> None:
        self._lane = lane
        self.form = form
        self._backlog = SocketBacklog(partial(_lagged, form))
        self._given = self._unanswered = 0
        # Set whenever something that is waited for may be so: made by who waits, mostly nobody.
        self._moved: trio.Event | None = None
        self.closing = trio.Event()
        self.close_code = CloseCode.NORMAL
        self.close_reason = ""
        # Told once our side wants the end, and again when nothing waits any more.
        self.on_closing: Callable[[], None] | None = None
        self._sent = 0
        # Events that the lane took at once, see `putter`; and whether `closing` is not set, there.
        self.at_once = 0
        self.is_open = True
        lane.when_ready(self._flush)

    def __repr__(self) -> str:
        return f"<Outlet sent={self.sent} {self._backlog!r}>"

    @property
    def sent(self) -> int:
        """Count the messages that the lane took."""
        return self._sent + self.at_once

    @property
    def queued(self) -> int:
        """Count the messages that wait for the reader."""
        return len(self._backlog)

    def statistics(self) -> OutletStatistics:
        """Call this for the lab and the metrics."""
        backlog = self._backlog
        return OutletStatistics(
            self._given + self.at_once, self.sent, backlog.dropped, backlog.replaced, len(backlog)
        )

    @property
    def unanswered(self) -> int:
        """Count the messages of the client that are not dealt with."""
        return self._unanswered

    def ask(self) -> None:
        """Call this when a message of the client is taken; `answer` when it is dealt with."""
        self._unanswered += 1

    def answer(self) -> None:
        """Call this for each `ask`."""
        self._unanswered -= 1
        if not self._unanswered:
            self._move()

    async def wait_answered(self) -> None:
        """Call this in a drain: waits until every message is dealt with, or the end."""
        while self._unanswered and not self.closing.is_set():
            await self._wait_moved()

    def send(self, frame: Frame) -> None:
        """Send a reply, or keep it in order."""
        self._put(frame, None, None)

    def send_topic(self, frame: Frame, topic: str, policy: Policy) -> None:
        """Send an event of a topic, or keep it by the topic's policy."""
        self._put(frame, topic, policy)

    def putter(self, topic: str, policy: Policy, after: int) -> Callable[[Frame, int], None]:
        """Call this for what sends events of a topic as `send_topic` does, those behind `after`."""
        send_topic = self.send_topic

        def put(frame: Frame, position: int) -> None:
            # A client that was here before may be ahead of what this process has heard.
            if position > after:
                send_topic(frame, topic, policy)

        lane, entries = self._lane, self._backlog.entries
        if lane.framing is not Framing.SOCKET:
            return put

        def put_at_once(frame: Frame, position: int) -> None:
            # `_put` written out: a fan-out comes here once a reader, and beside the system call
            # this is most of what an event costs.
            if position <= after:
                return
            wire = frame.socket or frame.wire(Framing.SOCKET)
            if self.is_open and not entries and lane.write(wire):
                self.at_once += 1
            else:
                send_topic(frame, topic, policy)

        return put_at_once

    def send_topics(self, bundle: Bundle, topic: str, policy: Policy) -> None:
        """Send several events of a topic with one write, or keep each by the topic's policy."""
        lane = self._lane
        if self._backlog or self.closing.is_set() or not lane.write(bundle.wire(lane.framing)):
            for frame, _ in bundle.entries:
                self._put(frame, topic, policy)
            return
        self._given += len(bundle)
        self._sent += len(bundle)

    def send_control(self, wire: bytes) -> bool:
        """Send a ping if nothing is waiting; False means the reader is behind anyway."""
        return not self.closing.is_set() and self._lane.write(wire)

    def close(self, code: CloseCode, reason: str = "") -> None:
        """End the connection from our side; the first code given counts."""
        if self.closing.is_set():
            return
        self.close_code, self.close_reason = code, reason
        self.is_open = False
        # Who is cut off for not reading will not read the rest either.
        if code is CloseCode.SLOW:
            self._backlog.clear()
        self._move()
        self.closing.set()
        if self.on_closing is not None:
            self.on_closing()

    async def wait_flushed(self, limit_s: float) -> None:
        """Call this after `close`: waits until what was taken is written, or the limit."""
        await trio.lowlevel.checkpoint()
        with trio.move_on_after(limit_s):
            while self._backlog:
                await self._wait_moved()
        self.end()

    def end(self) -> None:
        """Call this when the connection is over: what still waits is dropped."""
        self._lane.close()
        self._backlog.clear()
        self._move()

    async def wait_room(self, limit_s: float) -> bool:
        """Call this before more is sent than the reader may be behind: waits until nothing waits.

        False when it took longer than the limit. A checkpoint in every case.
        """
        await trio.lowlevel.checkpoint()
        with trio.move_on_after(limit_s):
            while self._backlog and not self.closing.is_set():
                await self._wait_moved()
        return not self._backlog

    def _put(self, frame: Frame, topic: str | None, policy: Policy | None) -> None:
        if self.closing.is_set():
            return
        self._given += 1
        # The lane is tried only when nothing older waits: replies and events keep their order.
        if not self._backlog and self._lane.write(frame.wire(self._lane.framing)):
            self._sent += 1
            return
        if not self._backlog.put(frame, topic, policy):
            self.close(CloseCode.SLOW, "too far behind")

    def _flush(self) -> None:
        while self._backlog and self._lane.is_ready:
            waited = len(self._backlog)
            frames = self._backlog.take(COALESCE_BYTES)
            # Notes of gaps were given by nobody, and count when they go out.
            self._given += len(frames) - (waited - len(self._backlog))
            wire = b"".join([frame.wire(self._lane.framing) for frame in frames])
            if not self._lane.write(wire):
                self._backlog.dropped += len(frames)  # the connection broke
                return
            self._sent += len(frames)
        if not self._backlog:
            self._move()
            if self.closing.is_set() and self.on_closing is not None:
                self.on_closing()

    async def _wait_moved(self) -> None:
        if self._moved is None:
            self._moved = trio.Event()
        await self._moved.wait()

    def _move(self) -> None:
        moved, self._moved = self._moved, None
        if moved is not None:
            moved.set()


def _lagged(form: Form, topic: str, missed: int) -> Frame:
    text = f"You are behind: {missed} events of {topic} were left out; load it anew."
    if form is Form.PLAIN:
        return Frame(encode_server(Error(text)))
    return Frame(encode_server(Error(text, SocketCode.LAGGED, missed=missed)))


# A minute of a busy room; a reader further behind is not reading.
MESSAGES_MAX = 1000
QUEUE_BYTES_MAX = 1024 * 1024


class Policy(enum.Enum):
    """Says what happens to a topic's events when a reader is behind."""

    DISCONNECT = "disconnect"  # close 1013: the client comes back and loads a snapshot
    DROP_OLDEST = "drop_oldest"  # the client is told how many it missed
    LATEST = "latest"  # only the newest is worth sending


@dataclass(slots=True)
class _Entry:
    frame: Frame
    topic: str | None


class SocketBacklog:
    """Holds what waits for one WebSocket; `lagged(topic, missed)` builds the note for a gap."""

    __slots__ = ("_bytes", "_lagged", "_missed", "dropped", "entries", "replaced")

    def __init__(self, lagged: Callable[[str, int], Frame]) -> None:
        # The same for as long as it lives. A list: it is mostly empty, never long, and an empty
        # deque holds 700 bytes for each idle connection.
        self.entries: list[_Entry] = []
        self._bytes = 0
        self._missed: dict[str, int] = {}
        self._lagged = lagged
        self.dropped = self.replaced = 0

    def __bool__(self) -> bool:
        return bool(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __repr__(self) -> str:
        return f"<SocketBacklog messages={len(self.entries)} bytes={self._bytes}>"

    def put(self, frame: Frame, topic: str | None = None, policy: Policy | None = None) -> bool:
        """Keep a frame by its topic's policy; False when the connection must be closed (1013).

        Without a topic (replies) a full queue means a client that asks and never reads.
        """
        if policy is Policy.LATEST and topic is not None:
            self._replace(topic)
        self.entries.append(_Entry(frame, topic))
        self._bytes += len(frame)
        # A dropping topic gives up its own oldest, never another's: who hears a busy topic loses
        # nothing of a quiet one. With none of its own left to give, the connection is closed.
        while len(self.entries) > MESSAGES_MAX or self._bytes > QUEUE_BYTES_MAX:
            if policy is not Policy.DROP_OLDEST or topic is None or not self._drop(topic):
                return False
        return True

    def take(self, bytes_max: int) -> list[Frame]:
        """Take what may be sent next, in order; a gap is told before the event after it."""
        taken: list[Frame] = []
        size = 0
        while self.entries and size < bytes_max:
            entry = self.entries.pop(0)
            self._bytes -= len(entry.frame)
            missed = self._missed.pop(entry.topic, 0) if entry.topic is not None else 0
            if missed and entry.topic is not None:
                taken.append(self._lagged(entry.topic, missed))
            taken.append(entry.frame)
            size += len(entry.frame)
        return taken

    def clear(self) -> None:
        """Forget everything: the connection is over."""
        self.dropped += len(self.entries)
        self.entries.clear()
        self._missed.clear()
        self._bytes = 0

    def _replace(self, topic: str) -> None:
        for entry in self.entries:
            if entry.topic == topic:
                self.entries.remove(entry)
                self._bytes -= len(entry.frame)
                self.replaced += 1
                return

    def _drop(self, topic: str) -> bool:
        for entry in self.entries:
            if entry.topic == topic:
                self.entries.remove(entry)
                self._bytes -= len(entry.frame)
                self._missed[topic] = self._missed.get(topic, 0) + 1
                self.dropped += 1
                return True
        return False
