"""What a visitor's own panels hold at one moment, for pages that are seen without scripts."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import trio

from actors.timeline import Timeline, newest_flows
from web.lab.panels.bucket import Buckets
from web.lab.panels.dropping import Connections
from web.views import FlowView, Renderer, StillView, element_id

# Each is a line; the page with scripts lists more.
FLOWS_MAX = 5


@dataclass(frozen=True, slots=True)
class Stills:
    """Where they are read from; making one keeps nothing of the visitor."""

    timeline: Timeline
    connections: Connections
    buckets: Buckets
    renderer: Renderer
    now: Callable[[], datetime]

    def of(self, session: UUID, *, is_new: bool) -> StillView:
        """Call this for a page of a session; of one that is new there is nothing to tell."""
        if is_new:
            return StillView()
        began, now = trio.current_time(), self.now()
        asked = self.timeline.flows_of(str(session))
        flows = newest_flows(asked, FLOWS_MAX, lambda at: now - timedelta(seconds=began - at))
        views = [
            FlowView(element_id(one.request_id), one.short_id, one.title, one.at, one.status, False)
            for one in flows
        ]
        tabs = len(list(self.connections.streams.tabs(session)))
        return StillView(
            flows=self.renderer.still_flows(views),
            open_count=str(tabs + len(self.connections.sockets_of(session))),
            tokens=str(self.buckets.left(session)),
        )
