"""The stream of a page: opened here, filled by the feeds of the panels the page shows.

The first events are ready when the head goes out; what a feed holds follows as soon as the
feed has the reader (SITE-91). Everything a stream took is given back when it closes.
"""

import msgspec
from quart import Blueprint, Response, request

from actors.accounts import StreamClosed, StreamOpened
from actors.chat import parse_room
from actors.runtime import NoProc
from web import paths
from web.commands import parse_tab
from web.errors import InvalidInput
from web.realtime import (
    STREAM_HEADERS,
    Stream,
    StreamKey,
    open_stream,
    patch_signals,
    stream_response,
)
from web.server import current_request_state
from web.services import Services
from web.site.pages import PAGE_HOME, PAGE_LAB

_CONNECTED = patch_signals({"sseConnected": True, "serverConnected": True})


class StreamQuery(msgspec.Struct, frozen=True):
    """What a page tells when it opens its stream."""

    tab: str = msgspec.field(name="sseTabId")
    page: str = msgspec.field(name="ssePage")
    room: str = msgspec.field(name="roomName", default="")


def event_routes(services: Services) -> Blueprint:
    """Call this to get the route of all pages' streams."""
    routes = Blueprint("events", __name__)

    @routes.get(paths.EVENTS)
    async def events() -> Response:
        query = _read_query()
        state = current_request_state()
        key = StreamKey(state.visitor.id, parse_tab(query.tab))
        if request.method == "HEAD":
            # Opening would close the stream that the tab has.
            return Response(b"", headers=STREAM_HEADERS)
        stream = await open_stream(services.streams, key, request.scope)
        # It may be over already: the tab was faster to open another one. From here to the
        # answer nothing waits, so whoever is told of its end is told once.
        if stream.is_open and query.page == PAGE_LAB:
            _show_lab(services, stream, query)
        elif stream.is_open:
            _show_home(services, stream)
        return stream_response(stream, request.scope, first=_CONNECTED)

    return routes


def _read_query() -> StreamQuery:
    try:
        query = msgspec.json.decode(request.args.get("datastar", ""), type=StreamQuery)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidInput(f"the signals cannot be read: {error}") from error
    if query.page not in {PAGE_HOME, PAGE_LAB}:
        raise InvalidInput("this page has no stream")
    if query.page == PAGE_LAB and parse_room(query.room) is None:
        raise InvalidInput("this page shows a room, and there is none of that name")
    return query


def _show_lab(services: Services, stream: Stream, query: StreamQuery) -> None:
    room, tab = parse_room(query.room), parse_tab(query.tab)
    assert room is not None, "the query was read"

    def leave(_: Stream) -> None:
        services.tree_readers.leave(stream)
        try:
            services.session(stream.key.session).tell(StreamClosed(tab))
        except NoProc:
            return  # all sessions are being restarted: this one knows no tab any more

    services.session(stream.key.session).tell(StreamOpened(tab, room))
    stream.when_closed(leave)
    services.shown.show(stream, room)
    services.tree_readers.join(stream)


def _show_home(services: Services, stream: Stream) -> None:
    stream.when_closed(services.proof_readers.leave)
    services.proof_readers.join(stream)
