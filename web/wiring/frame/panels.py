"""Live panels of a site of one's own: a part of a page that follows a topic.

Rule 1: a panel looks the same to everybody, so it is rendered once for all who watch it. Of a
        `PanelOf` there is one for each key: who watches one is told nothing of the others.
Rule 2: at most ten times a second, and never while nobody watches; what is shown is the newest.
Rule 3: a panel whose source is away (`AskError`, `StoreError`, or no answer in time) keeps what it
        shows and tries again; any other error is a bug: its feed is restarted, ever later, and
        that panel alone stands still.
"""

import re
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
# A page of more parts than these is several pages.
PANELS_OF_STREAM_MAX = 20
# It stands in addresses, ids and selectors as it is.
_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


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


async def everybody(_: str) -> bool:
    """Let all who ask watch."""
    return True


@dataclass(frozen=True, slots=True)
class PanelOf:
    """A panel of which there is one for each of many things: the seats of an event, an order.

    A page asks for `name:key`, the key being 1 to 64 letters, digits, - and _. `key_of` says whose
    a message of the topic is, None for nobody's; `render` gives the inner HTML for a key, also for
    one that nothing is known of. `may` is asked in the request of a stream whether it may watch.
    """

    name: str
    topic: str
    key_of: Callable[[object], str | None]
    render: Callable[[str], Awaitable[str]]
    may: Callable[[str], Awaitable[bool]] = everybody

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ValueError(f"{self.name!r} names no panel; take letters, digits and _")


@dataclass(frozen=True, slots=True)
class Shown:
    """One panel as a page names it: `name`, or `name:key`."""

    name: str
    key: str = ""

    @property
    def element(self) -> str:
        """Call this for the id of the element that holds it."""
        return f"panel-{self.name}-{self.key}" if self.key else f"panel-{self.name}"


class Watched:
    """A panel and who watches it, by key; it outlives the incarnations of its feed."""

    def __init__(self, panel: Panel | PanelOf, find: Callable[[], Ref[Arrivals]]) -> None:
        self.panel = panel
        # Of a key as long as a stream is open that watches it.
        self._readers: dict[str, Audience[Stream]] = {}
        self._nudge = waker(find)
        # One nudge is enough until the feed looks.
        self._is_due = False

    def __len__(self) -> int:
        return sum(map(len, self._readers.values()))

    def has(self, key: str) -> bool:
        """Call this for whether a page can name it so."""
        return (_KEY.fullmatch(key) is not None) if isinstance(self.panel, PanelOf) else not key

    async def may_watch(self, key: str) -> bool:
        """Call this in a request for whether who sent it may watch."""
        return await self.panel.may(key) if isinstance(self.panel, PanelOf) else True

    async def render(self, key: str) -> str:
        """Call this for the panel as it is now."""
        if isinstance(self.panel, PanelOf):
            return await self.panel.render(key)
        return await self.panel.render()

    def join(self, key: str, stream: Stream) -> None:
        """Call this when a stream opens; it is told of its end."""
        readers = self._readers.setdefault(key, Audience(self._wake))
        stream.when_closed(partial(self._leave, key))
        readers.join(stream)

    def _leave(self, key: str, stream: Stream) -> None:
        readers = self._readers.get(key)
        if readers is not None:
            readers.leave(stream)
            if not readers:
                del self._readers[key]

    def deliver(self, message: object) -> None:
        """Called with each message of the topic: whoever watches is to see what came of it."""
        key = self.panel.key_of(message) if isinstance(self.panel, PanelOf) else ""
        readers = None if key is None else self._readers.get(key)
        if readers:
            readers.want_all()
            self._wake()

    def want_all(self) -> None:
        """Called by a feed that starts: everybody is served anew."""
        for readers in self._readers.values():
            readers.want_all()

    def take_waiting(self) -> Mapping[str, Mapping[Stream, object]]:
        """Called by the feed: who waits now, by key; they are taken as served."""
        taken = {key: readers.take_waiting() for key, readers in self._readers.items()}
        return {key: waiting for key, waiting in taken.items() if waiting}

    def want(self, key: str, waiting: Mapping[Stream, object]) -> None:
        """Called by the feed with those whom it could not serve."""
        for stream in waiting:
            if key in self._readers:
                self._readers[key].want(stream)

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
        self._watched.want_all()
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
        waiting = self._watched.take_waiting()
        if not waiting:
            return
        self._next_at = trio.current_time() + PERIOD_S
        is_away = False
        for key, streams in waiting.items():
            is_away = not await self._serve(key, streams) or is_away
        if is_away:
            self._next_at = trio.current_time() + RETRY_S
            self.tell_self(RETRY_S)

    async def _serve(self, key: str, waiting: Mapping[Stream, object]) -> bool:
        """Show one panel to those who wait for it; False where its source is away."""
        shown = Shown(self._watched.panel.name, key)
        try:
            with trio.fail_after(RENDER_S_MAX):
                html = await self._watched.render(key)
        except (AskError, StoreError, trio.TooSlowError) as error:
            log.warning("panel.away", panel=shown.name, error=type(error).__name__)
            self._watched.want(key, waiting)
            return False
        patch = patch_elements(html, selector=f"#{shown.element}", mode=ElementPatchMode.INNER)
        frame = joined([patch])
        for stream in waiting:
            stream.put_panel(shown.element, frame)
        return True


def shown_of(watched: Mapping[str, Watched], text: str) -> Shown | None:
    """Call this with `name` or `name:key`; None for a panel that there is not."""
    name, colon, key = text.partition(":")
    found = watched.get(name)
    is_named = found is not None and bool(colon) == bool(key) and found.has(key)
    return Shown(name, key) if is_named else None


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
        named = dict.fromkeys(request.args.getlist("panel"))
        panels = [shown for name in named if (shown := shown_of(watched, name)) is not None]
        if not 1 <= len(named) <= PANELS_OF_STREAM_MAX or len(panels) < len(named):
            raise InvalidInput("a stream names the panels of its page")
        for shown in panels:
            if not await watched[shown.name].may_watch(shown.key):
                raise InvalidInput("a stream names panels that its page may show")
        key = StreamKey(current_request_state().visitor.id, parse_tab(request.args.get("tab", "")))
        if request.method == "HEAD":
            # Opening would close the stream that the tab has.
            return Response(b"", headers=stream_headers(request.scope))
        stream = await open_stream(streams, key, request.scope)
        # From here to the answer nothing waits: whoever is told of its end is told once.
        if stream.is_open:
            for shown in panels:
                watched[shown.name].join(shown.key, stream)
        return stream_response(stream, request.scope)

    return routes
