"""Start and stop as the person at the terminal sees them."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import structlog.testing

from actors.runtime import Secret
from web.server import DrainResult, Server
from web.server.serving import CLOSE_S_MAX as SERVER_CLOSE_S_MAX
from web.settings import Settings
from web.wiring.composition import CLOSE_S_MAX, COMMANDS_S_MAX, TELL_S_MAX
from web.wiring.stopping import Stopping


class Said:
    """What was printed, and whether the drain began."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.lines: list[str] = []
        self.drains = 0
        self.stopping = Stopping(settings or Settings(port=0), self.begin, self.lines.append)

    def begin(self) -> None:
        self.drains += 1


def test_the_steps_of_a_drain_fit_into_its_budget() -> None:  # SITE-185 REL-21
    """As far as limits can promise it; how fast the machine is they cannot know."""
    before_and_after = 2 * SERVER_CLOSE_S_MAX  # the listeners first, the connections last
    steps = TELL_S_MAX + COMMANDS_S_MAX + 2 * CLOSE_S_MAX  # told, finished, streams, sockets
    assert before_and_after + steps <= Settings().drain_budget_s


def server(port: int) -> Server:
    return Server([("127.0.0.1", port)], is_tls=False)


def test_the_first_start_tells_where_everything_is() -> None:
    said = Said(Settings(port=0, state_dir=Path("somewhere")))
    assert said.stopping.port() == 0
    said.stopping.started(server(4711))
    assert said.lines[0] == "greenroom is at http://127.0.0.1:4711"
    assert said.lines[1].endswith("http://127.0.0.1:4711/lab")
    assert said.lines[2].endswith("/somewhere")
    assert said.stopping.port() == 4711


def test_a_restarted_server_takes_the_same_port_and_says_nothing() -> None:
    said = Said()
    said.stopping.started(server(4711))
    told = list(said.lines)
    said.stopping.started(server(4711))
    assert said.lines == told
    assert said.stopping.port() == 4711


def test_no_secret_of_the_database_is_told() -> None:  # SEC-131
    said = Said(Settings(port=0, database_url=Secret("postgresql://me:hunter2@db/site")))
    said.stopping.started(server(4711))
    assert "hunter2" not in "\n".join(said.lines)


class Signals:
    """Signals that have come, as trio hands them out."""

    def __init__(self, *numbers: signal.Signals) -> None:
        self._numbers = iter(numbers)

    def __aiter__(self) -> AsyncIterator[int]:
        return self

    async def __anext__(self) -> int:
        for number in self._numbers:
            return number
        raise StopAsyncIteration


async def test_the_first_signal_begins_the_drain() -> None:  # SITE-185
    said = Said()
    with structlog.testing.capture_logs() as logged:
        await said.stopping.wait(Signals(signal.SIGTERM, signal.SIGTERM))
    assert said.drains == 1
    assert [entry["event"] for entry in logged] == ["site.stopping"]
    assert logged[0]["signal"] == "SIGTERM"


async def test_a_further_hangup_is_no_second_signal() -> None:  # REL-23
    said = Said()
    with structlog.testing.capture_logs() as logged:
        await said.stopping.leave_at_second(Signals(signal.SIGHUP, signal.SIGHUP))
    assert logged == []


def test_the_exit_code_says_whether_something_was_cut() -> None:  # SITE-185 REL-22
    clean, cut = Said(), Said()
    clean.stopping.drained(DrainResult((("listeners", 0.1),), ()))
    cut.stopping.drained(DrainResult((("connections", 1.0),), ("connections",)))
    with structlog.testing.capture_logs() as logged:
        assert (clean.stopping.exit_code(), cut.stopping.exit_code()) == (0, 1)
    assert logged[1]["cut"] == ["connections"]
