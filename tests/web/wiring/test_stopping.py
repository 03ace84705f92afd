"""Start and stop as the person at the terminal sees them."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Never

import structlog.testing
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actors.runtime import Actor, Exit, Secret
from supervision import ChildSpec, Flags, Plan, Supervisor, open_system
from web.server import REQUEST_S, DrainResult, Server
from web.server.connection.overload import Overload, OverloadSettings
from web.server.serving import CLOSE_S_MAX as SERVER_CLOSE_S_MAX
from web.settings import Settings
from web.wiring.frame.serving import (
    CLOSE_S_MAX,
    COMMANDS_S_MAX,
    TELL_S_MAX,
    UnderWay,
    commands_s,
    sending_s,
    server_shutdown_s,
)
from web.wiring.stopping import Stopping


class Said:
    """What was printed, and whether the drain began."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.lines: list[str] = []
        self.stopping = Stopping(settings or Settings(port=0), self.lines.append)


def test_the_steps_of_a_drain_fit_into_its_budget() -> None:  # SITE-185 REL-21
    """As far as limits can promise it; how fast the machine is they cannot know."""
    before_and_after = 2 * SERVER_CLOSE_S_MAX  # the listeners first, the connections last
    others = before_and_after + TELL_S_MAX + 2 * CLOSE_S_MAX  # told, streams, sockets
    assert others + commands_s(Settings()) + sending_s(Settings()) <= Settings().drain_budget_s
    for budget_s in (12, 20, 600):
        settings = Settings(drain_budget_s=budget_s)
        steps_s = others + commands_s(settings) + sending_s(settings)
        assert steps_s <= server_shutdown_s(settings)
    # With time enough no command is cut: its own is over before.
    assert commands_s(Settings(drain_budget_s=30)) == COMMANDS_S_MAX > REQUEST_S


async def test_a_stop_waits_for_what_is_on_its_way_and_for_nothing_later(
    autojump_clock: MockClock,
) -> None:
    # RES-10, REL-20: a batch of the outbox that is never empty holds no stop
    under_way = UnderWay()

    async def send(seconds: float) -> float:
        await trio.sleep(seconds)
        return seconds

    counted = under_way.around(send)
    await under_way.wait_ended()

    async def end_soon() -> None:
        with trio.move_on_after(3):
            await counted(100.0)

    async with trio.open_nursery() as nursery:
        for seconds in (1.0, 2.0):
            nursery.start_soon(counted, seconds)
        # One that is cut is over, too.
        nursery.start_soon(end_soon)
        await trio.sleep(0.5)
        assert len(under_way) == 3
        began = trio.current_time()
        async with trio.open_nursery() as waiting:
            waiting.start_soon(under_way.wait_ended)
            await wait_all_tasks_blocked()
            nursery.start_soon(counted, 50.0)
        assert trio.current_time() - began == 2.5
        assert len(under_way) == 1
        nursery.cancel_scope.cancel()
    assert len(under_way) == 0
    assert await counted(0.0) == 0.0


def server(port: int) -> Server:
    return Server([("127.0.0.1", port)], Overload(OverloadSettings()), is_tls=False)


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


class Hanging(Actor[Never]):
    async def on_stop(self, exit: Exit) -> None:  # noqa: A002 - the runtime's word
        await trio.sleep_forever()


class Shop(Supervisor):
    def plan(self) -> Plan:
        return Plan(Flags(), [ChildSpec("quick", Actor), ChildSpec("slow", Hanging, shutdown=2.0)])


async def test_who_had_to_be_killed_at_the_stop_is_named(autojump_clock: MockClock) -> None:
    # REL-20, REL-22
    said = Said()
    with structlog.testing.capture_logs() as logged:
        async with trio.open_nursery() as beside, open_system(Shop) as shop:

            async def look() -> None:
                await trio.sleep(1)
                assert said.stopping.left()[:2] == ["actors", "actor shop/slow"]
                # OBS-1: of one under way too
                assert said.stopping.phases["actors"][1] > 0

            beside.start_soon(look)
            assert said.stopping.phases == {}
            said.stopping.begin(signal.SIGTERM, shop.system)
        assert said.stopping.exit_code() == 1
        seconds, left = said.stopping.phases["actors"]
        assert (left, seconds >= 0) == (0, True)
    lines = [entry for entry in logged if entry["event"].startswith("site.")]
    assert [line["event"] for line in lines] == ["site.stopping", "site.stop_step", "site.stopped"]
    assert (lines[1]["step"], lines[1]["left"]) == ("actors", 0)
    assert lines[2]["cut"] == ["actor shop/slow"]


def test_a_long_list_of_what_was_cut_is_shortened() -> None:
    said = Said()
    said.stopping.drained(DrainResult((), tuple(map(str, range(30)))))
    with structlog.testing.capture_logs() as logged:
        assert said.stopping.exit_code() == 1
    assert logged[-1]["cut"] == [*map(str, range(20)), "and 10 more"]


def test_the_exit_code_says_whether_something_was_cut() -> None:  # SITE-185 REL-22
    clean, cut = Said(), Said()
    clean.stopping.drained(DrainResult((("listeners", 0.1),), ()))
    cut.stopping.drained(DrainResult((("connections", 1.0),), ("connections",)))
    with structlog.testing.capture_logs() as logged:
        assert (clean.stopping.exit_code(), cut.stopping.exit_code()) == (0, 1)
    assert logged[1]["cut"] == ["connections"]
