"""The figures on the home page, sent to its open streams at most once a second, when changed.

Nothing shown is a constant: each figure is read from the running process (SITE-6), or from what is
stored of all runs (LAB-75).
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import trio

from actors.runtime import Actor, message
from web.realtime import Arrivals, Audience, Stream, joined, patch_elements
from web.server import Frame
from web.views import NO_LINES, LastedView, Line, ProofLines, ProofView, Renderer

# SITE-6: live, and no more than a person can read.
PERIOD_S = 1.0
# Five minutes fit into a line as wide as a figure, a point for each ten seconds.
SAMPLE_S = 10.0
SAMPLES_MAX = 30
_KEPT_S = SAMPLE_S * SAMPLES_MAX
# The box that the points of a line are in.
_WIDTH, _HEIGHT = 100, 20


class ProofHistory:
    """What the figures were while somebody looked, for their lines; of other times it has none."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, ProofView]] = deque(maxlen=SAMPLES_MAX)

    def with_lines(self, view: ProofView, now: float) -> ProofView:
        """Call this with the figures of now, to keep them and to have them with their lines."""
        while self._seen and self._seen[0][0] < now - _KEPT_S:
            self._seen.popleft()
        seen = [*self._seen, (now, view)]
        if not self._seen or now - self._seen[-1][0] >= SAMPLE_S:
            self._seen.append((now, view))
        times = [round((at - now) / _KEPT_S * _WIDTH) + _WIDTH for at, _ in seen]

        def line(figures: Sequence[int], least: int) -> Line:
            return tuple(zip(times, _heights(figures, least), strict=True))

        delivered = [one.messages_delivered for _, one in seen]
        crashes = [one.crashes for _, one in seen]
        lines = ProofLines(
            line([one.actors_alive for _, one in seen], 0),
            line([one.open_streams for _, one in seen], 0),
            # These only grow: seen is by how much.
            line(delivered, delivered[0]),
            line(crashes, crashes[0]),
        )
        return replace(view, lines=lines)


def _heights(figures: Sequence[int], least: int) -> list[int]:
    span = max(1, max(figures) - least)
    return [_HEIGHT - round((figure - least) / span * _HEIGHT) for figure in figures]


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
    history: ProofHistory = field(default_factory=ProofHistory)
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
        view = ProofView(
            actors_alive=self.actors_alive(),
            open_streams=self.open_streams(),
            messages_delivered=self.messages_delivered(),
            restarts_survived=restarts_survived,
            last_restart_ms=last_restart_ms,
            uptime_s=self.uptime_s(),
            lasted=self.lasted(),
        )
        return self.history.with_lines(view, trio.current_time())


@message
class Look:
    """Time to see whether a figure changed."""


Messages = Arrivals | Look


class ProofFeed(Actor[Messages]):
    """Sends the figures to who watches them; with nobody watching it looks at nothing."""

    def __init__(self, source: ProofSource, renderer: Renderer, readers: Audience[Stream]) -> None:
        self._source, self._renderer, self._readers = source, renderer, readers
        # What was last told to all, without the time and the lines, which move with
        # it; None while nobody watches.
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
        self._seen, self._seen_at = replace(view, uptime_s=0, lines=NO_LINES), trio.current_time()
        return joined([patch_elements(self._renderer.proof(view))])

    def _serve(self, readers: Iterable[Stream], frame: Frame) -> None:
        for stream in readers:
            stream.put_panel("proof", frame)
