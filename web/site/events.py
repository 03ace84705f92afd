"""The stream of a page: opened here, filled by the feeds of the panels the page shows.

The first events are ready when the head goes out; what a feed holds follows as soon as the
feed has the reader (SITE-91). Which feeds they are is told by the feature that owns the page, as
a `StreamedPage`. Everything a stream took is given back when it closes.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import msgspec
from hypercorn.typing import HTTPScope
from quart import Blueprint, Response, request

from web.realtime import (
    PageHolds,
    Stream,
    StreamKey,
    open_stream,
    patch_signals,
    read_holds,
    stream_headers,
    stream_response,
)
from web.routing import paths
from web.routing.commands import parse_tab
from web.routing.errors import InvalidInput, NotPossible
from web.routing.services import Services
from web.server import current_request_state
from web.site.pages import viewer_mark

# What the page shows already, by its marks. Datastar's request carries no `Last-Event-ID`, and a
# page has several panels: so it says itself what it has (`web/views/static/connection.js`).
HOLDS_HEADER = "x-page-holds"

_CONNECTED = patch_signals({"sseConnected": True, "serverConnected": True})


class StreamQuery(msgspec.Struct, frozen=True):
    """What a page tells when it opens its stream."""

    tab: str = msgspec.field(name="sseTabId")
    page: str = msgspec.field(name="ssePage")
    room: str = msgspec.field(name="roomName", default="")
    panel: str = msgspec.field(name="labPanel", default="")
    filter_query: str = msgspec.field(name="operationsFilterQuery", default="")
    chosen_flow: str = msgspec.field(name="activeFlowId", default="")


class StreamedPage(Protocol):
    """What the stream of one kind of page is filled with."""

    async def check(self, query: StreamQuery) -> None:
        """Refuse what this page cannot be asking for; raises `InvalidInput` or `NotAllowed`."""

    def fill(self, stream: Stream, query: StreamQuery, holds: PageHolds | None) -> None:
        """Join the feeds of the page's panels; of what the page holds only the rest is sent.

        Returns at once.
        """


# Opens the stream of a topic for a program: its scope, the topic, and what it heard last.
OpenTopic = Callable[[HTTPScope, str, str], Awaitable[Response]]


def event_routes(
    services: Services,
    pages: Mapping[str, StreamedPage],
    open_topic: OpenTopic,
    fill_frame: Callable[[Stream], None],
) -> Blueprint:
    """Call this to get the route of all pages' streams; `pages` by the name a page gives itself.

    What is live in the frame of every page is joined by `fill_frame`, which returns at once.
    Programs name a topic instead, and are given its stream by `open_topic` (WEB-48).
    """
    routes = Blueprint("events", __name__)

    @routes.get(paths.EVENTS)
    async def events() -> Response:
        if "topic" in request.args:
            return await topic_stream(open_topic)
        query, page = await _read_query(pages)
        state = current_request_state()
        holds = read_holds(request.headers.get(HOLDS_HEADER, ""))
        shown_to = None if holds is None else holds.one("viewer")
        if shown_to is not None and shown_to != viewer_mark(state):
            # SITE-43: it shows what another viewer may see, under another name.
            raise NotPossible("the page was rendered for somebody else; load it again")
        key = StreamKey(state.visitor.id, parse_tab(query.tab))
        if request.method == "HEAD":
            # Opening would close the stream that the tab has.
            return Response(b"", headers=stream_headers(request.scope))
        stream = await open_stream(services.streams, key, request.scope)
        # It may be over already: the tab was faster to open another one. From here to the
        # answer nothing waits, so whoever is told of its end is told once.
        if stream.is_open:
            page.fill(stream, query, holds)
            fill_frame(stream)
        return stream_response(stream, request.scope, first=_CONNECTED)

    return routes


async def topic_stream(open_topic: OpenTopic) -> Response:
    """Call this in a route for the stream of the topic that a program names (WEB-48)."""
    return await open_topic(_http_scope(), _read_topic(), _last_event_id())


def _http_scope() -> HTTPScope:
    scope = request.scope
    assert scope["type"] == "http", "this is the route of a request"
    return scope


def _read_topic() -> str:
    topics = request.args.getlist("topic")
    if len(topics) != 1:
        raise InvalidInput("a stream has one topic; open another for another")
    return topics[0]


def _last_event_id() -> str:
    # It is UTF-8 (the HTML standard), and headers are read as latin-1.
    given = request.headers.get("last-event-id", "")
    return given.encode("latin-1", "replace").decode("utf-8", "replace")


async def _read_query(pages: Mapping[str, StreamedPage]) -> tuple[StreamQuery, StreamedPage]:
    try:
        query = msgspec.json.decode(request.args.get("datastar", ""), type=StreamQuery)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidInput(f"the signals cannot be read: {error}") from error
    page = pages.get(query.page)
    if page is None:
        raise InvalidInput("this page has no stream")
    await page.check(query)
    return query, page
