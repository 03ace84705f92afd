"""The figures on the home page, sent to its open streams at most once a second, when changed.

Nothing shown is a constant: each figure is read from the running process (SITE-6), or from what is
stored of all runs (LAB-75).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import trio

from actors.runtime import Actor, message
from web.realtime import Arrivals, Audience, Stream, joined, patch_elements
from web.server import Frame
from web.views import LastedView, ProofView, Renderer

# SITE-6: live, and no more than a person can read.
PERIOD_S = 1.0


# A page is not older than what an open one shows of the tree, however many are loaded: to count
# actors is to look at each of them.
GLANCE_KEPT_S = 0.2


@dataclass(slots=True)
class ProofSource:
    """Where each figure comes from."""

    actors_alive: Callable[[], int]
    open_streams: Callable[[], int]
    messages_delivered: Callable[[], int]
    restarts: Callable[[], tuple[int, float | None]]
    uptime_s: Callable[[], int]
    # Over all runs; None while the store was not asked yet.
    lasted: Callable[[], LastedView | None] = lambda: None
    _glance: tuple[float, ProofView] | None = field(default=None, init=False)

    def glance(self) -> ProofView:
        """Call this for the figures as they are or were a moment ago; the same object meanwhile."""
        now, kept = trio.current_time(), self._glance
        if kept is None or now - kept[0] >= GLANCE_KEPT_S:
            view = self.view()
            kept = self._glance = now, view if kept is None or kept[1] != view else kept[1]
        return kept[1]

    def view(self) -> ProofView:
        """Call this to read all figures now."""
        restarts_survived, last_restart_ms = self.restarts()
        return ProofView(
            actors_alive=self.actors_alive(),
            open_streams=self.open_streams(),
            messages_delivered=self.messages_delivered(),
            restarts_survived=restarts_survived,
            last_restart_ms=last_restart_ms,
            uptime_s=self.uptime_s(),
            lasted=self.lasted(),
        )


@message
class Look:
    """Time to see whether a figure changed."""


Messages = Arrivals | Look


class ProofFeed(Actor[Messages]):
    """Sends the figures to who watches them; with nobody watching it looks at nothing."""

    def __init__(self, source: ProofSource, renderer: Renderer, readers: Audience[Stream]) -> None:
        self._source, self._renderer, self._readers = source, renderer, readers
        # What was last told to all, without the time; None while nobody watches.
        self._told: ProofView | None = None
        # The newest look, rendered once for all who come within a period.
        self._seen: ProofView | None = None
        self._frame: Frame | None = None
        self._seen_at = 0.0

    def on_start(self) -> None:
        """Go on with the readers of an incarnation before."""
        self._readers.want_all()
        if self._readers:
            self.after(PERIOD_S, Look(), key="look")

    def on_arrivals(self, _: Arrivals) -> None:
        """Send the figures at once, then as they change."""
        if not self._readers:
            return
        if self._frame is None or trio.current_time() - self._seen_at >= PERIOD_S:
            self._frame = self._look()
        if self._told is None:
            self._told = self._seen
            self.after(PERIOD_S, Look(), key="look")
        self._serve(self._readers.take_waiting(), self._frame)

    def on_look(self, _: Look) -> None:
        """Send the figures if one of them changed; the page counts the seconds by itself."""
        if not self._readers:
            self._told = self._frame = None
            return
        self.after(PERIOD_S, Look(), key="look")
        self._frame = self._look()
        waiting = self._readers.take_waiting()
        self._serve(waiting if self._told == self._seen else self._readers, self._frame)
        self._told = self._seen

    def _look(self) -> Frame:
        view = self._source.view()
        self._seen, self._seen_at = replace(view, uptime_s=0), trio.current_time()
        return joined([patch_elements(self._renderer.proof(view))])

    def _serve(self, readers: Iterable[Stream], frame: Frame) -> None:
        for stream in readers:
            stream.put_panel("proof", frame)
