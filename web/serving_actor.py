"""The server as an actor of the tree: the last to start, and the first to stop.

Its stop is the drain: everything it serves is told, finished and closed before the actors
behind it are stopped.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Never

import structlog
import trio

from actors.runtime import Actor, Exit, System
from web.server import (
    DrainResult,
    DrainStep,
    Server,
    ServerSettings,
    WebApp,
    open_listeners,
    serve,
)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Served:
    """An application, how its connections are treated, and how it lets go of them."""

    app: WebApp
    settings: ServerSettings
    drain_steps: tuple[DrainStep, ...]


# Made once the port is known, because an origin names it.
Compose = Callable[[System, int], Served]


class ServingActor(Actor[Never]):
    """Listens and serves. Raises `PortBusy` or `PortForbidden` when it cannot begin."""

    def __init__(
        self,
        host: str,
        port: Callable[[], int],
        compose: Compose,
        started: Callable[[Server], None],
        drained: Callable[[DrainResult], None],
    ) -> None:
        self._host, self._port = host, port
        self._compose, self._started, self._drained = compose, started, drained
        self._served: Served | None = None
        self._server: Server | None = None

    async def on_start(self) -> None:
        """Open the port and serve; it ends with this incarnation."""
        listeners = open_listeners(self._host, self._port())
        with ExitStack() as unless_served:
            for listener in listeners:
                unless_served.callback(listener.close)
            served = self._compose(self.system, listeners[0].getsockname()[1])
            unless_served.pop_all()
        ready = _Started()
        self.start_soon(
            partial(serve, served.app, served.settings, sockets=listeners, task_status=ready)
        )
        await ready.event.wait()
        assert ready.server is not None, "the server says that it started by giving itself"
        self._served, self._server = served, ready.server
        self._started(ready.server)

    async def on_stop(self, exit: Exit) -> None:  # noqa: A002 - the runtime's word
        """Drain: no new connections, commands finish, streams are told and closed."""
        if self._server is None or self._served is None:
            return
        self._drained(await self._server.drain(self._served.drain_steps))


class _Started:
    """What `nursery.start` would pass, for a sub-task of an actor."""

    def __init__(self) -> None:
        self.event = trio.Event()
        self.server: Server | None = None

    def started(self, value: Server | None = None) -> None:
        self.server = value
        self.event.set()
