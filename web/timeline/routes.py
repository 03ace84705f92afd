"""The routes of the timeline: what a visitor leaves out and chooses, and what operators read."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec
import trio
from quart import Blueprint, Response, request

from actors.accounts import Role
from actors.timeline import DIAGNOSTIC_ENTRIES_MAX, Timeline, json_record
from web.realtime import StreamKey
from web.routing import paths
from web.routing.commands import answer_by_status_only, read_command
from web.routing.errors import InvalidInput, NoLiveStream, NoSuchThing
from web.routing.services import Services
from web.server import current_request_state
from web.timeline.feed import Viewers

# A request id is a UUID; a session's too.
_ID_LENGTH_MAX = 64
# What may be typed: ten terms of 64 letters and the commas between them, and some room.
FILTER_LENGTH_MAX = 4096


@dataclass(frozen=True, slots=True)
class TimelineServices:
    """What the timeline needs beside the services of every feature; `now` is for what is shown."""

    timeline: Timeline
    viewers: Viewers
    now: Callable[[], datetime]
    # What an operator sees who names neither request nor session.
    listed: Callable[[], Response]


class ViewCommand(msgspec.Struct, frozen=True):
    """What the panel sends: a filter, a choice, or whether somebody looks at it; any of them."""

    tab: str = msgspec.field(name="sseTabId")
    filter_query: str | None = msgspec.field(name="operationsFilterQuery", default=None)
    chosen: str | None = msgspec.field(name="activeFlowId", default=None)
    is_shown: bool | None = msgspec.field(name="isOperationsShown", default=None)
    # An own message: its flow is chosen.
    message: str | None = msgspec.field(name="messageId", default=None)


def timeline_routes(services: Services, own: TimelineServices) -> Blueprint:
    """Call this to get the routes of the timeline."""
    routes = Blueprint("timeline", __name__)

    @routes.post(paths.OPERATIONS_FILTER)
    async def look_at() -> Response:
        command, origin = await read_command(ViewCommand, "operations")
        if command.message is not None:
            # The link that was followed tells it, in words of its own: one of the two came last.
            answer_by_status_only()
        if len(command.filter_query or "") > FILTER_LENGTH_MAX:
            raise InvalidInput(f"a filter has at most {FILTER_LENGTH_MAX} letters")
        if max(len(command.chosen or ""), len(command.message or "")) > _ID_LENGTH_MAX:
            raise InvalidInput("there is no flow of such a long id")
        state = current_request_state()
        viewer = own.viewers.maybe_viewer(StreamKey(state.visitor.id, origin.tab))
        if viewer is None:
            raise NoLiveStream(origin.tab)
        chosen = command.chosen or None
        if command.message is not None:
            chosen = own.timeline.maybe_flow_of(state.visitor.text, command.message)
            if chosen is None:
                raise NoSuchThing("no flow of this message is known, or not any more")
        own.viewers.set(
            viewer,
            filter_query=command.filter_query,
            chosen=chosen,
            is_shown=command.is_shown,
        )
        return Response(b"", status=204, content_type=None)

    @routes.get(paths.OPS_TRACES)
    async def traces() -> Response:
        state = current_request_state()
        if state.signed_in is None or state.signed_in.role != Role.ADMIN.value:
            # As a path that is not there: nobody learns that operators have one.
            raise NoSuchThing(paths.OPS_TRACES)
        given = request.args
        request_id, session = given.get("request_id"), given.get("session_id")
        if request_id is None and session is None:
            return own.listed()
        if request_id is not None and session is not None:
            raise InvalidInput("name a request by request_id, or a session by session_id")
        entries = own.timeline.diagnostic(request_id=request_id, session=session)
        entries.sort(key=lambda entry: entry.at)
        began, now = trio.current_time(), own.now()
        lines = [
            msgspec.json.encode(json_record(entry, lambda at: now - timedelta(seconds=began - at)))
            for entry in entries[-DIAGNOSTIC_ENTRIES_MAX:]
        ]
        if not lines:
            raise NoSuchThing("no such request, or not known any more")
        return Response(
            b"\n".join(lines) + b"\n",
            content_type="application/x-ndjson",
            headers={"cache-control": "no-store"},
        )

    return routes
