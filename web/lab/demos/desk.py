"""The actor of one open page that uses the demos: it runs errands, and shows what panels found.

Rule: it works for one stream and ends with it, and so does what it has running (SITE-105). Of a tab
that came back with another stream nothing of before goes on. A browser without scripts has no
stream: its pages share one desk, which is asked what it has to say, and leaves when nobody asks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

import trio

from actors.runtime import Actor, Ask, Exit, IdleTimeout, Normal, message
from actors.timeline import Kind, Shown, Timeline, shown_flow
from web.lab.demos.counter import Counters
from web.lab.demos.errands import IDLE, PLAIN_RUN_S, RUN_S, Errand, Errands, Told
from web.realtime import Stream, StreamKey, Streams, joined, patch_elements, patch_signals
from web.server import Frame
from web.timeline.collector import patch_values

PANEL = "demo-errands"
# In the place of a tab: the desk of all pages of a browser session that have no scripts. No tab is
# named so, for theirs are UUIDs.
PLAIN = "plain"
# How long the desk of such pages is there for nobody: to read what became of the last errand.
# Longer than a run, so that none is running then.
PLAIN_IDLE_S = 60.0


class Render(Protocol):
    """Makes a panel's result of what it found out and of the trace of its request."""

    def __call__(self, trace: tuple[Shown, ...]) -> str: ...


@message
class Guard(Ask[bool | None]):
    """A click that waits for its turn. False when too many wait, None when its tab is gone."""

    request_id: str


@message
class Replace(Ask[bool | None]):
    """A click that cancels whatever runs. None when its tab is gone."""

    request_id: str


@message
class Done:
    """A run is over."""

    number: int


@message
class Ended:
    """A stream has closed."""

    stream: Stream


@message
class Show:
    """A panel has found something out; its request has been answered."""

    panel: str
    request_id: str
    render: Render = field(repr=False)


@message
class Look(Ask[Told]):
    """A page without scripts is loaded, and shows what there is."""


Messages = Guard | Replace | Done | Ended | Show | Look


@dataclass(frozen=True, slots=True)
class DemoParts:
    """What the actors of the demos are given; `now` is the wall clock, for what is shown."""

    counters: Counters
    streams: Streams
    timeline: Timeline
    now: Callable[[], datetime]


class DeskActor(Actor[Messages]):
    """Works for the page whose stream has `tab` for its key."""

    def __init__(self, tab: str, parts: DemoParts) -> None:
        self._key, self._parts = key_of(tab), parts
        self._is_plain = self._key.tab == PLAIN
        self._stream: Stream | None = None
        self._errands = Errands()
        self._scope = trio.CancelScope()

    def on_start(self) -> None:
        """Wait for what is asked; without a stream nothing else tells that nobody is there."""
        if self._is_plain:
            self.idle_after(PLAIN_IDLE_S)

    def on_guard(self, message: Guard) -> bool | None:
        """Start it, or let it wait."""
        if not self._attached():
            return None
        if self._errands.is_full:
            return False
        self._start(self._errands.guard(message.request_id))
        self._tell(message.request_id)
        return True

    def on_replace(self, message: Replace) -> bool | None:
        """Cancel what runs and start it."""
        if not self._attached():
            return None
        self._scope.cancel()
        self._start(self._errands.replace(message.request_id))
        self._tell(message.request_id)
        return True

    def on_done(self, message: Done) -> None:
        """Start what waits next, if that run was not cancelled meanwhile."""
        over = self._errands.running
        if over is None or over.number != message.number:
            return
        self._start(self._errands.finish(message.number))
        self._tell(over.request_id)

    def on_look(self, message: Look) -> Told:
        """Say what runs, and what has become of the others."""
        return self._errands.told

    def on_idle_timeout(self, message: IdleTimeout) -> None:
        """Leave: nobody has asked for long."""
        self.stop(Normal())

    def on_show(self, message: Show) -> None:
        """Show a panel's result with all that its request has led to."""
        if not self._attached():
            return
        assert self._stream is not None
        flow = self._parts.timeline.maybe_flow(message.request_id)
        trace = () if flow is None else shown_flow(flow, self._moment).entries
        frame = joined([patch_elements(message.render(trace))])
        self._put(f"demo-{message.panel}", frame, message.request_id)

    def on_stop(self, exit: Exit) -> None:  # noqa: A002 - the runtime's word
        """Show nothing as running that ends here: the next click makes another desk."""
        if self._stream is not None and self._errands.running is not None:
            self._stream.put_panel(PANEL, joined([patch_signals(dict(IDLE))]))

    def on_ended(self, message: Ended) -> None:
        """End what runs for a stream that is over, and leave unless its tab is back."""
        if message.stream is self._stream:
            self._let_go()
        if self._stream is None and self._parts.streams.maybe_stream(self._key) is None:
            self.stop(Normal())

    def _attached(self) -> bool:
        """Whether there is somebody to work for; a tab that came back starts with nothing."""
        if self._is_plain:
            return True
        stream = self._parts.streams.maybe_stream(self._key)
        if stream is not self._stream:
            self._let_go()
            self._stream = stream
            if stream is not None:
                ref = self.ref
                stream.when_closed(lambda over: ref.tell(Ended(over)))
        if stream is None:
            self.stop(Normal())
        return stream is not None

    def _let_go(self) -> None:
        self._scope.cancel()
        self._errands, self._stream = Errands(), None

    def _start(self, errand: Errand | None) -> None:
        if errand is not None:
            self._scope = trio.CancelScope()
            self.start_soon(self._run, errand.number, self._scope)

    async def _run(self, number: int, scope: trio.CancelScope) -> None:
        """The work: a while of waiting, as for something that is far away."""
        with scope:
            await trio.sleep(PLAIN_RUN_S if self._is_plain else RUN_S)
            self.ref.tell(Done(number))

    def _tell(self, request_id: str) -> None:
        errands = self._errands
        signals = {
            "demoMessage": errands.message,
            "demoStatus": errands.status,
            "_demoCounts": errands.counts,
        }
        self._put(PANEL, joined([patch_signals(signals)]), request_id)

    def _put(self, panel: str, frame: Frame, request_id: str) -> None:
        if self._stream is not None and self._stream.put_panel(panel, frame):
            values = patch_values(frame)
            self._parts.timeline.note(request_id, Kind.SSE_PATCH, values)

    def _moment(self, at: float) -> datetime:
        return self._parts.now() - timedelta(seconds=trio.current_time() - at)


def desk_name(key: StreamKey) -> str:
    """Call this for the name of the desk of a tab."""
    return f"{key.session.hex}.{key.tab}"


def key_of(name: str) -> StreamKey:
    """Call this for the tab of a desk of that name."""
    session, _, tab = name.partition(".")
    return StreamKey(UUID(session), tab)
