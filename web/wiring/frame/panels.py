"""Live panels of a site of one's own: a part of a page that follows a topic.

Rule 1: a panel looks the same to everybody, so it is rendered once for all who watch it.
Rule 2: at most ten times a second, and never while nobody watches; what is shown is the newest.
Rule 3: a panel whose source is away (`AskError`, `StoreError`, or no answer in time) keeps what it
        shows and tries again; any other error is a bug: its feed is restarted, ever later, and
        that panel alone stands still.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial

import trio
from quart import Blueprint, Response, request

from actors.persistence.errors import StoreError
from actors.runtime import Actor, AskError, Log, Ref
from supervision import ChildSpec, Plan, Supervisor
from web.realtime import (
    Arrivals,
    Audience,
    ElementPatchMode,
    Stream,
    StreamKey,
    Streams,
    joined,
    open_stream,
    patch_elements,
    stream_headers,
    stream_response,
    waker,
)
from web.routing.commands import parse_tab
from web.routing.errors import InvalidInput
from web.server import current_request_state
from web.wiring.frame.serving import feeds_plan

log = Log(__name__)

LIVE = "/live"
# Faster than an eye tells apart, and slow enough for a thousand readers.
PERIOD_S = 0.1
# A source that is away is asked again about as often as a person would.
RETRY_S = 1.0
# As an ask waits by itself, and well below what a request may take.
RENDER_S_MAX = 5.0


@dataclass(frozen=True, slots=True)
class Panel:
    """A part of pages that renews itself when something is published on `topic`.

    `render` gives its whole inner HTML, the same for everybody; what people wrote must be escaped
    in it, as `OwnSite.render` does. `name` stands in the page as the element `panel-<name>`.
    """

    name: str
    topic: str
    render: Callable[[], Awaitable[str]]

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ValueError(f"{self.name!r} names no panel; take letters, digits and _")


class Watched:
    """A panel and who watches it; it outlives the incarnations of its feed."""

    def __init__(self, panel: Panel, find: Callable[[], Ref[Arrivals]]) -> None:
        self.panel = panel
        self.readers = Audience[Stream](self._wake)
        self._nudge = waker(find)
        # One nudge is enough until the feed looks.
        self._is_due = False

    def deliver(self, _: object) -> None:
        """Called with each message of the topic: whoever watches is to see what came of it."""
        if self.readers:
            self.readers.want_all()
            self._wake()

    def look(self) -> None:
        """Called by the feed before it renders: what comes from now on is another nudge."""
        self._is_due = False

    def _wake(self) -> None:
        if not self._is_due:
            self._is_due = True
            self._nudge()


class PanelFeed(Actor[Arrivals]):
    """Renders a panel and sends it to who waits for it."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._next_at = 0.0

    def on_start(self) -> None:
        """Go on with the readers of an incarnation before."""
        self._watched.look()
        self._watched.readers.want_all()
        self.tell_self()

    def tell_self(self, delay_s: float = 0.0) -> None:
        """Look again in a moment."""
        self.after(delay_s, Arrivals(), key="look")

    async def on_arrivals(self, _: Arrivals) -> None:
        """Render once for all who wait, unless it was a moment ago."""
        wait_s = self._next_at - trio.current_time()
        if wait_s > 0:
            self.tell_self(wait_s)
            return
        self._watched.look()
        readers = self._watched.readers
        waiting = readers.take_waiting()
        if not waiting:
            return
        self._next_at = trio.current_time() + PERIOD_S
        panel = self._watched.panel
        try:
            with trio.fail_after(RENDER_S_MAX):
                html = await panel.render()
        except (AskError, StoreError, trio.TooSlowError) as error:
            log.warning("panel.away", panel=panel.name, error=type(error).__name__)
            for reader in waiting:
                readers.want(reader)
            self._next_at = trio.current_time() + RETRY_S
            self.tell_self(RETRY_S)
            return
        patch = patch_elements(html, selector=f"#{element(panel)}", mode=ElementPatchMode.INNER)
        frame = joined([patch])
        for stream in waiting:
            stream.put_panel(panel.name, frame)


def element(panel: Panel) -> str:
    """Call this for the id of the element that holds a panel."""
    return f"panel-{panel.name}"


class PanelsSupervisor(Supervisor):
    """Restarts a panel's feed alone; its readers are kept and are sent everything anew."""

    def __init__(self, watched: Mapping[str, Watched]) -> None:
        self._watched = watched

    def plan(self) -> Plan:
        """A feed for each panel."""
        return feeds_plan(
            ChildSpec(name, partial(PanelFeed, one), name=feed_name(name))
            for name, one in self._watched.items()
        )


def feed_name(panel: str) -> str:
    """Call this for the name under which a panel's feed is registered."""
    return f"panel-feed-{panel}"


def panel_routes(streams: Streams, watched: Mapping[str, Watched]) -> Blueprint:
    """Call this to get the route of the streams that bring panels to open pages."""
    routes = Blueprint("panels", __name__)

    @routes.get(LIVE)
    async def live() -> Response:
        names = request.args.getlist("panel")
        if not names or not watched.keys() >= set(names):
            raise InvalidInput("a stream names the panels of its page")
        key = StreamKey(current_request_state().visitor.id, parse_tab(request.args.get("tab", "")))
        if request.method == "HEAD":
            # Opening would close the stream that the tab has.
            return Response(b"", headers=stream_headers(request.scope))
        stream = await open_stream(streams, key, request.scope)
        # From here to the answer nothing waits: whoever is told of its end is told once.
        if stream.is_open:
            for name in set(names):
                stream.when_closed(watched[name].readers.leave)
                watched[name].readers.join(stream)
        return stream_response(stream, request.scope)

    return routes
