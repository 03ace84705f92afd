"""`serve` as its user meets it: real processes, real signals."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from actors.runtime import open_actors
from supervision import open_system, run_until_signal, serve
from supervision.serving import stop_signals
from tests.patience import PATIENCE_S
from tests.signals import as_a_person_starts_it
from tests.supervision.puppets import MANY, Crash, Kit, Troupe

ROOT = Path(__file__).parents[2]
STARTS = ["start first", "start middle", "start last", "ready"]
STOPS = ["stop last", "stop middle", "stop first"]
OVER = "over, handlers restored: True"

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


class Program:
    """A run of `served.py`, read line by line."""

    def __init__(self, *words: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "tests.supervision.served", *words],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=as_a_person_starts_it,  # noqa: PLW1509 - it only resets two signals
        )

    def read_until(self, wanted: str) -> list[str]:
        assert self.process.stdout is not None
        lines = []
        for line in self.process.stdout:
            lines.append(line.rstrip("\n"))
            if lines[-1] == wanted:
                return lines
        raise AssertionError(f"ended before it said {wanted!r}: {lines}\n{self.errors()}")

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def errors(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.read()

    def end(self) -> tuple[int, list[str], str]:
        """The exit code, and what it said since."""
        said, errors = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, said.splitlines(), errors


@contextlib.contextmanager
def program(*words: str) -> Iterator[Program]:
    running = Program(*words)
    # Ends one that would hang for ever, while the test waits for its next line.
    watch = threading.Timer(PATIENCE_S, running.process.kill)
    watch.start()
    try:
        yield running
    finally:
        watch.cancel()
        running.process.kill()
        running.process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_stops_the_tree_in_order(number: signal.Signals) -> None:
    # SUP-20
    with program() as running:
        assert running.read_until("ready") == STARTS
        running.send(number)
        assert running.end() == (0, [*STOPS, OVER], "")


@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("hang", ["slow-stop", "stuck-stop"])
def test_a_second_signal_ends_at_once(number: signal.Signals, hang: str) -> None:
    with program(hang) as running:
        running.read_until("ready")
        running.send(number)
        running.read_until("stop last")
        # A terminal that closes sends SIGHUP more than once; that is no second wish.
        running.send(signal.SIGHUP)
        running.send(signal.SIGTERM)
        assert running.end() == (-signal.SIGTERM, [], "")


@pytest.mark.slow
def test_a_signal_while_it_starts_starts_nothing_more() -> None:
    with program("slow-start") as running:
        running.read_until("start middle")
        running.send(signal.SIGTERM)
        assert running.end() == (0, ["stop first", OVER], "")


@pytest.mark.slow
def test_a_signal_that_was_ignored_stays_so() -> None:
    """As `nohup` wants it."""
    with program("deaf") as running:
        running.read_until("ready")
        running.send(signal.SIGHUP)
        running.send(signal.SIGINT)
        assert running.end() == (0, [*STOPS, OVER], "")


@pytest.mark.slow
def test_it_ends_with_its_main_and_with_its_root() -> None:
    with program("main") as running:
        assert running.end() == (0, [*STARTS, *STOPS, OVER], "")
    with program("ends") as running:
        assert running.end() == (0, [OVER], "")


@pytest.mark.slow
def test_a_tree_that_does_not_start_is_told_in_one_line() -> None:
    # SUP-12
    with program("fails") as running:
        code, said, errors = running.end()
    assert code == 1
    assert said == ["start first", "start middle", "start last", "stop middle", "stop first"]
    lines = errors.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("top/inner/last did not start: OSError: no disk (")
    assert "served.py:" in lines[0]
    assert "development=True" in lines[1]


@pytest.mark.slow
def test_a_tree_that_gives_up_is_told_with_its_last_error() -> None:
    # DOC-4, SUP-42
    with program("gives-up", "develops") as running:
        code, said, errors = running.end()
    assert (code, said[-1]) == (1, "stop first")
    assert 'raise ValueError("as told")' in errors
    last = errors.splitlines()[-1]
    assert last.startswith("top gave up: ")
    assert "the last error of top/inner/last: ValueError: as told (" in last


@pytest.mark.slow
def test_what_main_raises_is_its_own_affair() -> None:
    with program("main-raises") as running:
        code, said, errors = running.end()
    assert (code, said) == (1, [*STARTS, *STOPS])
    assert errors.splitlines()[-1] == "LookupError: main's own"


@pytest.mark.slow
@pytest.mark.parametrize("words", [("main-exits",), ("main-exits", "plain")])
def test_an_exit_code_is_kept(words: tuple[str, ...]) -> None:
    # SUP-180
    with program(*words) as running:
        code, _, errors = running.end()
    assert (code, errors) == (3, "")


@pytest.mark.slow
def test_ctrl_c_around_a_plain_run_can_be_caught() -> None:
    # SUP-180
    with program("plain") as running:
        running.read_until("ready")
        running.send(signal.SIGINT)
        code, said, errors = running.end()
    assert (code, said) == (-signal.SIGINT, ["interrupted"])
    assert errors.splitlines()[-1] == "KeyboardInterrupt"
    assert "Group" not in errors


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)], ids=["ctrl-c", "exit"])
async def test_a_lone_interrupt_leaves_as_it_is(
    error: BaseException, kit: Kit, autojump_clock: MockClock
) -> None:
    # SUP-180
    async def in_a_handler() -> None:
        async with open_system(Troupe, MANY, [kit.spec("a")]) as sup:
            (await sup.refs())["a"].tell(Crash(error))
            await trio.sleep_forever()

    async def in_a_body() -> None:
        async with open_actors() as system, trio.open_nursery() as nursery:
            await system.start(kit.puppet, kit.stage, "a")
            nursery.start_soon(trio.sleep_forever)
            raise error

    for scenario in (in_a_handler, in_a_body):
        with pytest.raises(type(error)) as caught:
            await scenario()
        assert caught.value is error
        assert error.__context__ is None


async def test_an_interrupt_beside_an_error_stays_in_the_group(autojump_clock: MockClock) -> None:
    # SUP-180
    async def fails() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise OSError("beside it")

    async def scenario() -> None:
        async with open_actors(), trio.open_nursery() as nursery:
            nursery.start_soon(fails)
            await trio.testing.wait_all_tasks_blocked()
            raise KeyboardInterrupt

    with pytest.RaisesGroup(OSError, KeyboardInterrupt, flatten_subgroups=True):
        await scenario()


async def test_signals_in_a_program_that_runs_already() -> None:
    def before() -> list[object]:
        return [signal.getsignal(one) for one in SIGNALS]

    async def main(sup: Troupe) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await trio.sleep_forever()

    handlers = before()
    with trio.fail_after(PATIENCE_S):
        assert await run_until_signal(Troupe, MANY, [], main=main) is signal.SIGTERM
        assert before() == handlers
        assert await run_until_signal(Troupe, MANY, [], main=Troupe.which_children) is None
    assert before() == handlers


async def test_another_thread_hears_no_signals() -> None:
    def nothing(_: signal.Signals) -> None:
        raise AssertionError("never called")

    def wait() -> None:
        with stop_signals(nothing):
            raise AssertionError("never entered")

    with pytest.raises(RuntimeError, match="main thread"):
        await trio.to_thread.run_sync(wait)
    with pytest.raises(RuntimeError, match="main thread"):
        await trio.to_thread.run_sync(serve, Troupe, MANY, [])


def test_a_system_without_some_of_the_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows, which has no SIGHUP."""
    from supervision import serving

    monkeypatch.setattr(serving, "_NAMES", ("SIGINT", "SIGNEVER"))
    assert serving.stopping_signals() in ([signal.SIGINT], [])
