"""How a running site says where it is, and how it comes to its end.

The first signal leaves the tree, which drains; a second one leaves at once (REL-23). What
had to be cut is told in the log and by the exit code.
"""

import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import structlog

from web import paths
from web.server import DrainResult, Server
from web.settings import Settings

log = structlog.get_logger()

# What the shell expects of a process that a signal ended.
EXIT_OF_SIGNAL = 128

Say = Callable[[str], None]


def say(line: str) -> None:
    """Print a line for the person who started the site, past any buffer."""
    print(line, flush=True)  # noqa: T201 - this is the program's own voice, not a log line


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
            name = signal.Signals(number).name
            log.info("site.stopping", signal=name, budget_s=self.settings.drain_budget_s)
            self.begin_drain()
            break

    async def leave_at_second(self, signals: AsyncIterator[int]) -> None:
        """Call this in a task beside the stop; the guard of the embedded server outlives us."""
        async for number in signals:
            log.warning("site.stopped_at_once", signal=signal.Signals(number).name)
            os._exit(EXIT_OF_SIGNAL + number)

    def exit_code(self) -> int:
        """Call this at the end: 0 when everything ended by itself, else 1 with a list."""
        if not self._cut:
            log.info("site.stopped", uptime_s=round(time.monotonic() - self._began, 1))
            return 0
        log.warning("site.stopped", cut=self._cut)
        return 1
