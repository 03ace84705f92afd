"""A visitor cuts a stream or socket of their own, to see it come back (LAB-55)."""

from collections.abc import Callable
from typing import Protocol
from uuid import UUID

from quart import Blueprint, Response

from web.lab.sandbox.recording import Deed
from web.lab.stage import actions
from web.lab.stage.actions import StageServices
from web.realtime import SocketStatistics, StreamKey, Streams
from web.routing import paths
from web.routing.commands import answer_by_status_only
from web.routing.decided import CommandKey
from web.routing.errors import InvalidInput, NoSuchThing
from web.routing.services import Services
from web.server import current_request_state

DROP = "drop"
# How the record names what was cut; which one it was is nobody's matter.
A_CONNECTION = "a connection"
WHY = "dropped from the lab"
_SOCKET = "socket-"
# A tab's id is the longest of names.
NAME_LENGTH_MAX = 36


class Sockets(Protocol):
    """What is needed of a socket endpoint."""

    def statistics_of(self, user: str) -> list[SocketStatistics]:
        """See `SocketEndpoint.statistics_of`."""

    def drop(self, user: str, number: int, reason: str) -> bool:
        """See `SocketEndpoint.drop`."""


class Connections:
    """What a session has open. `sockets` gives None while the site has no server yet."""

    def __init__(self, streams: Streams, sockets: Callable[[], Sockets | None]) -> None:
        self.streams, self._sockets = streams, sockets

    def sockets_of(self, session: UUID) -> list[SocketStatistics]:
        """Call this for the sockets of a session, oldest first."""
        sockets = self._sockets()
        return [] if sockets is None else sockets.statistics_of(str(session))

    def has(self, session: UUID, name: str) -> bool:
        """Call this before `drop`: whether the session has something open of that name."""
        if name.startswith(_SOCKET):
            number = name.removeprefix(_SOCKET)
            return any(str(one.number) == number for one in self.sockets_of(session))
        return any(one.key.tab == name for one in self.streams.tabs(session))

    def drop(self, session: UUID, name: str) -> None:
        """Call this to cut it; nothing happens when it is gone."""
        if not self.has(session, name):
            return
        if not name.startswith(_SOCKET):
            stream = self.streams.maybe_stream(StreamKey(session, name))
            if stream is not None:
                stream.close(WHY)
            return
        sockets = self._sockets()
        if sockets is not None:
            sockets.drop(str(session), int(name.removeprefix(_SOCKET)), WHY)


def drop_routes(services: Services, stage: StageServices, connections: Connections) -> Blueprint:
    """Call this to get the route."""
    routes = Blueprint("dropping", __name__)

    @routes.post(paths.LAB_DROP)
    async def drop(name: str) -> Response:
        state = current_request_state()
        command, tab = await actions.read_stage_command()
        answer_by_status_only()
        if len(name) > NAME_LENGTH_MAX:
            raise InvalidInput("nothing has such a name")
        session = state.visitor.id
        key = CommandKey(session, f"{DROP} {name}", command.command_id)
        outcome = stage.decided.get(key)
        if outcome is None:
            actions.refuse_closed(services, stage, state, tab)
            if not connections.has(session, name):
                raise NoSuchThing(name)
            sandbox, deed = stage.sandboxes.of(session), Deed(DROP, A_CONNECTION, 1)
            actions.take_quota(stage, state, sandbox, deed)
            outcome = actions.DONE
            connections.drop(session, name)
            actions.settle(stage, state, key, sandbox, deed, outcome)
        return actions.answer_of(outcome, name)

    return routes
