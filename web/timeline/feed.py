"""The feed of the timeline: open pages are sent what their own session has caused (SITE-129).

Rule 1: each viewer is rendered for at most once in `PERIOD_S`, and only when something that it may
see has changed. With nobody watching nothing is looked at.
Rule 2: what a viewer has chosen is kept here and is the viewer's own: it is copied when it is
chosen, so it can be read however much comes after it (SITE-124).
Rule 3: frames go straight into streams, so that sending them makes no entry (SITE-127).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import trio

from actors.runtime import Actor, message
from actors.timeline import ShownFlow, Timeline, flows_shown, parse_filter, shown_flow
from web.realtime import Arrivals, Stream, StreamKey, joined, patch_elements, patch_signals
from web.timeline.presenting import timeline_view
from web.views import Renderer

PERIOD_S = 0.1
PANEL = "timeline"


@dataclass(slots=True, eq=False)
class Viewer:
    """One open page that shows the timeline: its filter, and the flow it has chosen."""

    stream: Stream
    terms: tuple[str, ...] = ()
    chosen: str | None = None
    # The chosen flow as it was last seen.
    pinned: ShownFlow | None = None
    is_shown: bool = True
    is_choice_told: bool = False
    renders: int = 0


class Viewers:
    """All viewers, by session and tab; they outlive the feed's incarnations.

    `wake` nudges the feed; it is called at most once until the feed has looked.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._by_session: dict[str, dict[Stream, Viewer]] = {}
        self._due: dict[Viewer, None] = {}
        self._is_woken = False

    def __len__(self) -> int:
        return sum(map(len, self._by_session.values()))

    def join(
        self,
        stream: Stream,
        filter_query: str = "",
        chosen: str | None = None,
        *,
        is_shown: bool = True,
    ) -> Viewer:
        """Call this when the stream of a page with the panel opens; it leaves when it closes.

        A viewer whose panel is not shown is sent nothing until `set` says that it is.
        """
        viewer = Viewer(stream, parse_filter(filter_query), chosen or None, is_shown=is_shown)
        viewer.is_choice_told = viewer.chosen is not None
        self._by_session.setdefault(stream.session_id, {})[stream] = viewer
        stream.when_closed(self.leave)
        self._want(viewer)
        return viewer

    def leave(self, stream: Stream) -> None:
        """Call this when a stream has closed; harmless when it had left."""
        viewers = self._by_session.get(stream.session_id, {})
        viewer = viewers.pop(stream, None)
        if viewer is not None:
            self._due.pop(viewer, None)
        if not viewers:
            self._by_session.pop(stream.session_id, None)

    def maybe_viewer(self, key: StreamKey) -> Viewer | None:
        """Call this to find the viewer of one tab."""
        viewers = self._by_session.get(str(key.session), {})
        return next((one for one in viewers.values() if one.stream.key == key), None)

    def set(
        self,
        viewer: Viewer,
        *,
        filter_query: str | None = None,
        chosen: str | None = None,
        is_shown: bool | None = None,
    ) -> None:
        """Call this when somebody has typed a filter, chosen a flow, or turned to the panel."""
        if filter_query is not None:
            viewer.terms = parse_filter(filter_query)
        if is_shown is not None:
            viewer.is_shown = is_shown
        if chosen is not None and chosen != viewer.chosen:
            viewer.chosen, viewer.pinned, viewer.is_choice_told = chosen, None, True
        self._want(viewer)

    def changed(self, session: str) -> None:
        """Called by the timeline, for each entry; cheap where nobody looks."""
        viewers = self._by_session.get(session)
        if viewers is not None:
            for viewer in viewers.values():
                self._want(viewer)

    def take_due(self) -> Iterator[Viewer]:
        """Called by the feed: those to render for now."""
        due, self._due, self._is_woken = self._due, {}, False
        return iter(due)

    def want_all(self) -> None:
        """Called by a feed that starts."""
        self._is_woken = True  # it looks by itself
        for viewers in self._by_session.values():
            for viewer in viewers.values():
                self._due[viewer] = None

    def _want(self, viewer: Viewer) -> None:
        if not viewer.is_shown:
            return
        self._due[viewer] = None
        if not self._is_woken:
            self._is_woken = True
            self._wake()


@message
class Look:
    """Time to render for who is due."""


Messages = Arrivals | Look


class TimelineFeed(Actor[Messages]):
    """Renders the timeline for each viewer; `now` is the wall clock, for what is shown."""

    def __init__(
        self,
        timeline: Timeline,
        renderer: Renderer,
        viewers: Viewers,
        now: Callable[[], datetime],
    ) -> None:
        self._timeline, self._renderer, self._viewers, self._now = timeline, renderer, viewers, now
        self._looked_at = -PERIOD_S

    def on_start(self) -> None:
        """Go on with the viewers of an incarnation before."""
        self._viewers.want_all()
        # Not at once: what cannot be shown must not crash the feed in a tight loop.
        self.after(PERIOD_S, Look(), key="look")

    def on_arrivals(self, _: Arrivals) -> None:
        """Something is due: at once after a quiet time, else when the period is over."""
        left_s = self._looked_at + PERIOD_S - trio.current_time()
        self.after(max(0.0, left_s), Look(), key="look")

    async def on_look(self, _: Look) -> None:
        """Render for who is due."""
        self._looked_at = trio.current_time()
        for viewer in self._viewers.take_due():
            if viewer.stream.is_open and viewer.is_shown:
                self._send(viewer)
                # A page costs a millisecond: others have their turn between two of them.
                await trio.lowlevel.checkpoint()

    def _send(self, viewer: Viewer) -> None:
        timeline, moment = self._timeline, self._moment
        key = viewer.stream.key
        entries = timeline.live(viewer.stream.session_id)
        flows = flows_shown(entries, key.tab, viewer.terms, moment)
        if viewer.chosen is None and flows:
            viewer.chosen = flows[0].request_id
        viewer.pinned = self._chosen(viewer, flows)
        view = timeline_view(flows, viewer.pinned)
        events = [patch_elements(self._renderer.timeline(view))]
        if viewer.chosen is not None and not viewer.is_choice_told:
            viewer.is_choice_told = True
            events.append(patch_signals({"activeFlowId": viewer.chosen}, only_if_missing=True))
        viewer.renders += 1
        viewer.stream.put_panel(PANEL, joined(events))

    def _chosen(self, viewer: Viewer, flows: list[ShownFlow]) -> ShownFlow | None:
        """The chosen flow as it is now, or as it was last seen; never another session's."""
        chosen = viewer.chosen
        listed = next((flow for flow in flows if flow.request_id == chosen), None)
        if listed is not None or chosen is None:
            return listed
        flow = self._timeline.maybe_flow(chosen)
        if flow is None or flow.is_hidden or flow.session != viewer.stream.session_id:
            return viewer.pinned
        return shown_flow(flow, self._moment)

    def _moment(self, at: float) -> datetime:
        return self._now() - timedelta(seconds=trio.current_time() - at)
