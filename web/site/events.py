"""The stream of a page: opened here, filled by the feeds of the panels the page shows.

The first events are ready when the head goes out; what a feed holds follows as soon as the
feed has the reader (SITE-91). Everything a stream took is given back when it closes.
"""

import msgspec
from quart import Blueprint, Response, request

from actors.accounts import StreamClosed, StreamOpened
from actors.chat import parse_room
from web import paths
from web.chat.reader import StreamReader
from web.chat.room_feed import ReaderJoined, ReaderLeft, WindowWanted
from web.commands import parse_tab
from web.errors import InvalidInput
from web.lab.tree_feed import TreeReaderJoined, TreeReaderLeft
from web.realtime import Stream, StreamKey, open_stream, patch_signals, stream_response
from web.server import current_request_state
from web.services import Services
from web.site.pages import PAGE_HOME, PAGE_LAB
from web.site.proof_feed import ProofReaderJoined, ProofReaderLeft

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
        stream = await open_stream(services.streams, key, request.scope)
        if query.page == PAGE_LAB:
            _show_lab(services, stream, query)
        else:
            _show_home(services, stream)
        return stream_response(stream, request.scope, first=_CONNECTED)

    return routes


def _read_query() -> StreamQuery:
    try:
        query = msgspec.json.decode(request.args.get("datastar", ""), type=StreamQuery)
    except msgspec.DecodeError as error:
        raise InvalidInput(f"the signals cannot be read: {error}") from error
    if query.page not in {PAGE_HOME, PAGE_LAB}:
        raise InvalidInput("this page has no stream")
    if query.page == PAGE_LAB and parse_room(query.room) is None:
        raise InvalidInput("this page shows a room, and there is none of that name")
    return query


def _show_lab(services: Services, stream: Stream, query: StreamQuery) -> None:
    room, tab = parse_room(query.room), parse_tab(query.tab)
    assert room is not None, "the query was read"
    session, feed = services.session(stream.key.session), services.feeds.room(room)
    tree, reader = services.feeds.tree(), StreamReader(stream)

    def leave(_: Stream) -> None:
        feed.tell(ReaderLeft(reader))
        tree.tell(TreeReaderLeft(stream))
        session.tell(StreamClosed(tab))

    stream.when_closed(leave)
    services.windows.set(stream, lambda: feed.tell(WindowWanted(reader)))
    session.tell(StreamOpened(tab, room))
    feed.tell(ReaderJoined(reader))
    tree.tell(TreeReaderJoined(stream))


def _show_home(services: Services, stream: Stream) -> None:
    proof = services.feeds.proof()
    stream.when_closed(lambda closed: proof.tell(ProofReaderLeft(closed)))
    proof.tell(ProofReaderJoined(stream))
