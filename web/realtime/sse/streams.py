"""All open streams, by browser session and tab, and the actor of each (SITE-90, SITE-93, SITE-94).

Rule 1: only this file opens a stream, so every cap is counted here and freed by `close` alone.
Rule 2: sending is synchronous and tells what became of it: delivered, missing, failed.
Rule 3: frames do not pass through the actor's mailbox. It passes the wish for a window on, and ends
        with the stream; nothing restarts it, a browser opens another.

One stream is in `stream.py`, the HTTP answer around it in `responding.py`; the heartbeats of all
are in `heartbeats.py`.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import ClassVar

import trio

from actors.runtime import Actor, Exit, Normal, message
from web.realtime.errors import StreamsFull, TooManyStreams
from web.realtime.sse.encoding import encode_retry, joined, patch_signals
from web.realtime.sse.heartbeats import Heartbeats
from web.realtime.sse.stream import Stream, StreamKey
from web.server import CLOSE_BATCH, CLOSE_PAUSE_S, Frame, counted_as

# SEC-48. Six connections a host is a browser's limit under HTTP/1.1; ten leave room for a second
# window and still stop a script that opens one per turn of its loop.
STREAMS_PER_SESSION_MAX = 10
# A school or an office behind one address.
STREAMS_PER_ADDRESS_MAX = 100
# Two descriptors short of what the soak test holds in 1 GB.
STREAMS_MAX = 10_000
# SITE-185: all tabs of a busy site must not come back in the same second.
RETRY_SPREAD_MS = (1000, 5000)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamCaps:
    """Holds how many streams may be open."""

    per_session: int = STREAMS_PER_SESSION_MAX
    per_address: int = STREAMS_PER_ADDRESS_MAX
    total: int = STREAMS_MAX


@dataclass(frozen=True, slots=True)
class Delivery:
    """Tells what became of a frame: tabs that got it, have no stream, or could not take it."""

    delivered: int
    missing: tuple[StreamKey, ...] = ()
    failed: tuple[StreamKey, ...] = ()


# Called at once, in the task of whoever sends, before the frame is given to a stream.
TellSent = Callable[[Frame], None]


@dataclass(frozen=True, slots=True)
class StreamCounts:
    """Counts streams: open now, opened since the start, refused, replaced, frames sent."""

    open: int
    sessions: int
    addresses: int
    opened: int
    refused: int
    replaced: int
    resyncs: int


@dataclass(slots=True)
class StreamSums:
    """What became of the frames of streams: for operators, who are told sums that never fall."""

    sent: int = 0
    dropped: int = 0
    resyncs: int = 0

    def add(self, stream: Stream) -> None:
        """Call this with a stream that is over, or to count an open one in."""
        backlog = stream.statistics().backlog
        self.sent += stream.frames_sent
        self.dropped += backlog.dropped
        self.resyncs += backlog.resyncs


class Streams:
    """All open streams of the process.

    `start_actor(stream)` starts the stream's actor in the tree; a failure ends the stream. `told`
    hears what single tabs and sessions are sent: a command's own answer, not what feeds tell all.
    """

    def __init__(
        self,
        *,
        caps: StreamCaps | None = None,
        start_actor: Callable[[Stream], Awaitable[object]],
        random: Random | None = None,
        told: TellSent | None = None,
    ) -> None:
        self._told = told
        self._caps = caps or StreamCaps()
        self._start_actor = start_actor
        # Spreads reconnects; nothing secret depends on it.
        self._random = random or Random()
        self._by_session: dict[uuid.UUID, dict[str, Stream]] = {}
        self._per_address: dict[str, int] = {}
        self._count = 0
        self._opened = self._replaced = 0
        self.refused = 0
        # Of those that are over.
        self.gone = StreamSums()
        self.is_draining = False
        # Of all that are open; `HeartbeatActor` sends them.
        self.heartbeats = Heartbeats()

    def __repr__(self) -> str:
        return f"<Streams open={self._count} sessions={len(self._by_session)}>"

    def __len__(self) -> int:
        return self._count

    def counts(self) -> StreamCounts:
        """Call this for the lab, the health page and the metrics."""
        return StreamCounts(
            open=self._count,
            sessions=len(self._by_session),
            addresses=len(self._per_address),
            opened=self._opened,
            refused=self.refused,
            replaced=self._replaced,
            resyncs=self.gone.resyncs + sum(s.statistics().backlog.resyncs for s in self.all()),
        )

    def all(self) -> list[Stream]:
        """Call this to get every open stream."""
        return [stream for tabs in self._by_session.values() for stream in tabs.values()]

    def maybe_stream(self, key: StreamKey) -> Stream | None:
        """Call this to find the stream of one tab, or None."""
        return self._by_session.get(key.session, {}).get(key.tab)

    def sessions(self) -> set[uuid.UUID]:
        """Call this for the browsers that have a stream open."""
        return set(self._by_session)

    def tabs(self, session: uuid.UUID) -> list[Stream]:
        """Call this to get the streams of all tabs of a browser."""
        return [*self._by_session.get(session, {}).values()]

    async def open(self, key: StreamKey, address: str) -> Stream:
        """Call this when a tab connects; a stream on the same key is replaced.

        Raises `TooManyStreams` (429) and `StreamsFull` (503); nothing was opened then, and an
        older stream of the key lives on. Replacing never hits a cap (SITE-93). Cancelled, or
        when the actor does not start, the new stream is closed.
        """
        address, older = counted_as(address), self.maybe_stream(key)
        if older is None:
            self._check_caps(key, address)
        elif self.is_draining:
            raise StreamsFull(self._caps.total)
        # Closing the older one frees its places, so the new one cannot fail at a cap; and between
        # the two there is no checkpoint in which somebody else could take them.
        if older is not None:
            self._replaced += 1
            older.close("replaced")
        stream = self._register(key, address)
        is_started = False
        try:
            await self._start_actor(stream)
            is_started = True
        finally:
            if not is_started:
                stream.close("its actor did not start")
        return stream

    def send_to(self, key: StreamKey, panel: str, frame: Frame) -> Delivery:
        """Call this to send a panel's state to one tab; other tabs never stand in for it."""
        return self.send_to_each([key], panel, frame)

    def send_to_each(self, keys: Iterable[StreamKey], panel: str, frame: Frame) -> Delivery:
        """Call this to send a panel's state to listed tabs."""
        if self._told is not None:
            self._told(frame)
        delivered = 0
        missing: list[StreamKey] = []
        failed: list[StreamKey] = []
        for key in keys:
            stream = self.maybe_stream(key)
            if stream is None:
                missing.append(key)
            elif stream.put_panel(panel, frame):
                delivered += 1
            else:
                failed.append(key)
        return Delivery(delivered, tuple(missing), tuple(failed))

    def send_to_session(self, session: uuid.UUID, panel: str, frame: Frame) -> Delivery:
        """Call this to send a panel's state to all tabs of a browser."""
        if self._told is not None:
            self._told(frame)
        return self._send_each(self.tabs(session), panel, frame)

    def send_to_all(self, panel: str, frame: Frame) -> Delivery:
        """Call this to send a panel's state to every open stream."""
        return self._send_each(self.all(), panel, frame)

    def close_session(self, session: uuid.UUID, reason: str) -> int:
        """Call this when a sign-in ends or a visitor changes: all tabs end at once (SEC-15)."""
        tabs = self.tabs(session)
        for stream in tabs:
            stream.close(reason)
        return len(tabs)

    def tell_draining(self) -> None:
        """Call this as step 3 of a drain: tabs show it and come back spread over seconds."""
        self.is_draining = True
        signals = patch_signals({"serverConnected": False})
        for stream in self.all():
            retry = encode_retry(self._random.randint(*RETRY_SPREAD_MS))
            stream.put_panel("draining", joined([retry, signals]))

    async def close_all(self, reason: str = "draining") -> None:
        """Call this as step 5 of a drain: 200 streams per 100 ms end."""
        # In batches: each close wakes a task and an actor, and thousands in one turn would hold
        # up the very answers that a drain waits for (REL-20). No new one comes meanwhile.
        streams = self.all()
        for at in range(0, len(streams), CLOSE_BATCH):
            if at:
                await trio.sleep(CLOSE_PAUSE_S)
            for stream in streams[at : at + CLOSE_BATCH]:
                stream.close(reason)

    def _register(self, key: StreamKey, address: str) -> Stream:
        stream = Stream(key, address)
        stream.when_closed(self._forget)
        self._by_session.setdefault(key.session, {})[key.tab] = stream
        self._per_address[address] = self._per_address.get(address, 0) + 1
        self._count += 1
        self._opened += 1
        self.heartbeats.add(stream)
        return stream

    def _send_each(self, streams: Sequence[Stream], panel: str, frame: Frame) -> Delivery:
        failed = [stream.key for stream in streams if not stream.put_panel(panel, frame)]
        return Delivery(len(streams) - len(failed), failed=tuple(failed))

    @property
    def total_max(self) -> int:
        """How many may be open in all."""
        return self._caps.total

    def _check_caps(self, key: StreamKey, address: str) -> None:
        refuse: Callable[[], Exception] | None = None
        if self.is_draining or self._count >= self._caps.total:
            refuse = partial(StreamsFull, self._caps.total)
        elif len(self._by_session.get(key.session, ())) >= self._caps.per_session:
            refuse = partial(TooManyStreams, "session", self._caps.per_session)
        elif self._per_address.get(address, 0) >= self._caps.per_address:
            refuse = partial(TooManyStreams, "address", self._caps.per_address)
        if refuse is not None:
            self.refused += 1
            raise refuse()

    def _forget(self, stream: Stream) -> None:
        """Free a closed stream's places; called by the stream itself, once."""
        self.heartbeats.discard(stream)
        tabs = self._by_session.get(stream.key.session, {})
        if tabs.get(stream.key.tab) is stream:
            del tabs[stream.key.tab]
        if not tabs:
            self._by_session.pop(stream.key.session, None)
        left = self._per_address[stream.address] - 1
        if left:
            self._per_address[stream.address] = left
        else:
            del self._per_address[stream.address]
        self._count -= 1
        self.gone.add(stream)


# Told synchronously; answers later with `stream.put_window`.
RequestWindow = Callable[[Stream], None]


@message
class WindowWanted:
    """Chat overflowed; the tab needs the whole window."""


@message
class Ended:
    """The stream is closed."""


class StreamActor(Actor[WindowWanted | Ended]):
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
