"""The server as an actor of the tree, and how a running site comes to its end.

The order of an end, each step behind the one before it:

1. The first signal: `Stopping.wait` returns, `/ready` says no, and `app.py` leaves the tree.
2. The tree stops its children in reverse order. The server started last, so it is the first; its
   stop is the drain: new connections refused, streams told, commands finished, streams and
   sockets closed, connections closed. Everything it serves still runs behind it meanwhile.
3. The sockets', streams', feeds', sessions' and rooms' actors stop, then the database; then
   `app.py` leaves the embedded PostgreSQL.

A second SIGINT or SIGTERM leaves at once (REL-23). What had to be cut is told in the log and by the
exit code.
"""

import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Never

import trio

from actors.runtime import Actor, Exit, Log, System
from web.observability import say
from web.routing import paths
from web.server import DrainResult, DrainStep, Server, ServerSettings, WebApp, open_listeners, serve
from web.settings import Settings

log = Log(__name__)

# What the shell expects of a process that a signal ended.
EXIT_OF_SIGNAL = 128

Say = Callable[[str], None]


@dataclass(slots=True)
class Stopping:
    """Holds what is learnt of a run's start and end; `begin_drain` is told of the first signal."""

    settings: Settings
    begin_drain: Callable[[], None]
    say: Say = say
    _port: int | None = None
    _cut: list[str] = field(default_factory=list)
    _began: float = field(default_factory=time.monotonic)

    def port(self) -> int:
        """The port to listen on; once it is known, also when any free one was asked for."""
        return self.settings.port if self._port is None else self._port

    def started(self, server: Server) -> None:
        """Called when the server listens: tells where everything is, the first time."""
        if self._port is not None:
            return
        self._port = server.port
        home = self.settings.public_origin or server.url
        data = self.settings.database_url and "the server of DATABASE_URL"
        self.say(f"greenroom is at {home}")
        self.say(f"  the lab     {home}{paths.LAB}")
        self.say(f"  the data    {data or self.settings.state_dir.resolve()}")
        self.say("  to stop     Ctrl-C")

    def drained(self, result: DrainResult) -> None:
        """Called when the server let go of its clients."""
        self._cut += result.cut

    async def wait(self, signals: AsyncIterator[int]) -> None:
        """Call this in the tree: returns at the first signal; a second one ends the process."""
        async for number in signals:
            self.begin_drain()
            name = signal.Signals(number).name
            log.info("site.stopping", signal=name, budget_s=self.settings.drain_budget_s)
            break

    async def leave_at_second(self, signals: AsyncIterator[int]) -> None:
        """Call this in a task beside the stop; the guard of the embedded server outlives us."""
        async for number in signals:
            # A terminal that closes sends it more than once: that is no second wish.
            if signal.Signals(number).name == "SIGHUP":
                continue
            log.warning("site.stopped_at_once", signal=signal.Signals(number).name)
            os._exit(EXIT_OF_SIGNAL + number)

    def exit_code(self) -> int:
        """Call this at the end: 0 when everything ended by itself, else 1 with a list."""
        if not self._cut:
            log.info("site.stopped", uptime_s=round(time.monotonic() - self._began, 1))
            return 0
        log.warning("site.stopped", cut=self._cut)
        return 1


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
    """What `nursery.start` would pass, for a child task of an actor: `start_soon` passes none.

    `storage.postgres` has the same few lines for its own child task; the adapters and the web do
    not share a room where one pair of them could stand.
    """

    def __init__(self) -> None:
        self.event = trio.Event()
        self.server: Server | None = None

    def started(self, value: Server | None = None) -> None:
        self.server = value
        self.event.set()
