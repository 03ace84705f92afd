"""The server as an actor of the tree, and how a running site comes to its end.

The order of an end, each step behind the one before it:

1. The first signal: `/ready` says no; a node of a cluster hands over what it owns, while all of it
   still serves; and `web.app` leaves the tree.
2. The tree stops its children in reverse order. The server started last, so it is the first; its
   stop is the drain: new connections refused, streams told, commands finished, streams and
   sockets closed, connections closed. Everything it serves still runs behind it meanwhile.
3. The sockets', streams', feeds', sessions' and rooms' actors stop, then the database; then
   `web.app` leaves the embedded PostgreSQL.

Each has a line in the log, with its time and what was left (REL-20); what had to be cut is named
in the last one, and the exit code is 1 then. `leaving.py` ends the process when this takes longer
than its budget, or when a second signal comes.
"""

import signal
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Never

import trio

from actors.runtime import Actor, Cell, Exit, Log, System
from supervision import REPORTS, Report
from web.observability import say
from web.routing import paths
from web.server import DrainResult, DrainStep, Server, ServerSettings, WebApp, open_listeners, serve
from web.settings import Settings
from web.wiring.leaving import EXIT_CUT, threads_left

log = Log(__name__)

# What a supervisor reports of a child that did not end as it was asked to.
_CUT = frozenset({"shutdown_error", "unkillable"})
# More names than this say nothing more; their number does.
_CUT_MAX = 20

Say = Callable[[str], None]


@dataclass(slots=True)
class Stopping:
    """Holds what is learnt of a run's start and end."""

    settings: Settings
    say: Say = say
    # What is said at the start: the name of it, where its data lie when the settings do not say
    # so, and pages worth a visit.
    name: str = "greenroom"
    data: str = ""
    pages: Mapping[str, str] = field(default_factory=lambda: {"the lab": paths.LAB})
    _port: int | None = None
    _cut: dict[str, None] = field(default_factory=dict)
    _began: float = field(default_factory=time.monotonic)
    # Which part of an end is going on, and since when.
    _part: str = "the start"
    _part_began: float = 0.0
    _system: System | None = None
    # Parts of the end that are over: how long each took, and how many actors were left then.
    _over: dict[str, tuple[float, int]] = field(default_factory=dict)

    @property
    def phases(self) -> Mapping[str, tuple[float, int]]:
        """Call this for the parts of an end: seconds, and actors left; none before it begins."""
        if not self._part_began or not self._part:
            return self._over
        seconds = time.monotonic() - self._part_began
        return {**self._over, self._part: (round(seconds, 3), self._actors_left())}

    def port(self) -> int:
        """The port to listen on; once it is known, also when any free one was asked for."""
        return self.settings.port if self._port is None else self._port

    def started(self, server: Server) -> None:
        """Called when the server listens: tells where everything is, the first time."""
        if self._port is not None:
            return
        self._port = server.port
        home = self.settings.public_origin or server.url
        data = self.data or (self.settings.database_url and "the server of DATABASE_URL")
        self.say(f"{self.name} is at {home}")
        for page, path in self.pages.items():
            self.say(f"  {page:<11} {home}{path}")
        self.say(f"  the data    {data or self.settings.state_dir.resolve()}")
        self.say("  to stop     Ctrl-C")

    def drained(self, result: DrainResult) -> None:
        """Called when the server let go of its clients."""
        self._cut |= dict.fromkeys(result.cut)

    def begin(self, number: signal.Signals, system: System, part: str = "actors") -> None:
        """Call this at the first signal, with the part that an end begins with.

        From now on it is noted what has to be cut.
        """
        self._system = system
        system.topics.subscribe(REPORTS, self)
        log.info("site.stopping", signal=number.name, budget_s=self.settings.drain_budget_s)
        self.enter(part)

    def deliver(self, message: object) -> None:
        """Called with what supervisors report meanwhile (a `Sink` of the system's topics)."""
        if isinstance(message, Report) and message.context in _CUT:
            self._cut[f"actor {message.offender.path}"] = None

    def enter(self, part: str) -> None:
        """Call this when a part of the end begins; what came before is over."""
        now = time.monotonic()
        if self._part_began:
            seconds = round(now - self._part_began, 3)
            left = self._over[self._part] = (seconds, self._actors_left())
            log.info("site.stop_step", step=self._part, seconds=seconds, left=left[1])
        self._part, self._part_began = part, now

    def left(self) -> list[str]:
        """Call this in any thread for what has been cut so far, and what has not ended yet.

        Of the actors those that were asked to end; one above them waits for them only.
        """
        ending = [cell.path for cell in self._cells() if cell.status in {"stopping", "unkillable"}]
        leaves = [
            f"actor {path}"
            for path in ending
            if not any(other.startswith(f"{path}/") for other in ending)
        ]
        return _shortened([*self._cut, self._part, *leaves, *threads_left()])

    def exit_code(self) -> int:
        """Call this at the end: 0 when everything ended by itself, else 1 with a list."""
        self.enter("")
        if not self._cut:
            log.info("site.stopped", uptime_s=round(time.monotonic() - self._began, 1))
            return 0
        log.warning("site.stopped", cut=_shortened(self._cut))
        return EXIT_CUT

    def _cells(self) -> Iterable[Cell]:
        return () if self._system is None else self._system.cells()

    def _actors_left(self) -> int:
        return len(list(self._cells()))


def _shortened(names: Iterable[str]) -> list[str]:
    found = list(dict.fromkeys(names))
    more = len(found) - _CUT_MAX
    return found if more <= 0 else [*found[:_CUT_MAX], f"and {more} more"]


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
