"""Signals, a budget that passes, a second signal: the process is gone, whatever hangs."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import structlog.testing
import trio

from tests.patience import FOR_EVER_S, PATIENCE_S, until
from web.wiring.leaving import WayOut, threads_left

ROOT = Path(__file__).parents[3]


class Left:
    """Notes how the process would have ended."""

    def __init__(self, budget_s: float = FOR_EVER_S) -> None:
        self._codes: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.way_out = WayOut(budget_s, self.names, self._codes.put)

    def names(self) -> Sequence[str]:
        return ["actor site/rooms/lobby"]

    async def code(self) -> int:
        return await trio.to_thread.run_sync(lambda: self._codes.get(timeout=PATIENCE_S))

    @property
    def is_alive(self) -> bool:
        return self._codes.empty()


@pytest.fixture(autouse=True)
def hang_ups_end_programs() -> Iterator[None]:
    """A suite that is run by `nohup` has them ignored, and programs keep to that."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


async def test_the_first_signal_is_told_and_signals_are_put_back() -> None:
    # SITE-185
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    left = Left()
    with left.way_out as way_out:
        way_out.open()
        signal.raise_signal(signal.SIGTERM)
        assert await way_out.first() is signal.SIGTERM
    assert before == {number: signal.getsignal(number) for number in before}
    assert left.is_alive


async def test_a_second_signal_ends_the_process_although_the_loop_hangs() -> None:
    # REL-23
    left = Left()
    with structlog.testing.capture_logs() as logged, left.way_out as way_out:
        way_out.open()
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGHUP)  # a terminal that closes sends it more than once
        assert left.is_alive
        signal.raise_signal(signal.SIGINT)
        # No turn of the loop: this is the thread of a handler that never returns.
        assert left._codes.get(timeout=PATIENCE_S) == 128 + signal.SIGINT
    assert logged == [{"event": "site.stopped_at_once", "log_level": "warning", "signal": "SIGINT"}]


HOLDS_ITS_LOOP = """
import time, trio
from web.wiring.leaving import WayOut

async def main():
    with WayOut(3600, list) as way_out:
        way_out.open()
        print("up", flush=True)
        await way_out.first()
        print("held", flush=True)
        time.sleep(3600)

trio.run(main)
"""


def test_a_process_whose_loop_hangs_is_gone_at_the_second_signal() -> None:
    # REL-23: by its own code, which is no kill
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS_ITS_LOOP], cwd=ROOT, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == b"held\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 128 + signal.SIGTERM


async def test_a_stop_over_its_budget_is_cut_and_tells_what_was_left() -> None:
    # REL-22
    left = Left(budget_s=0.01)
    with structlog.testing.capture_logs() as logged, left.way_out as way_out:
        way_out.open()
        signal.raise_signal(signal.SIGTERM)
        assert await left.code() == 1
    assert logged[-1]["event"] == "site.stopped"
    assert logged[-1]["cut"] == ["actor site/rooms/lobby"]


async def test_a_log_that_hangs_holds_nobody_up() -> None:
    # REL-22, SITE-132
    stuck = threading.Event()
    left = Left(budget_s=0.01)
    left.way_out._left = lambda: [str(stuck.wait(PATIENCE_S))]
    with structlog.testing.capture_logs() as logged, left.way_out as way_out:
        way_out.open()
        signal.raise_signal(signal.SIGTERM)
        assert await left.code() == 1
        assert logged == []
        stuck.set()
        await until(lambda: bool(logged))


async def test_without_a_signal_nothing_ends() -> None:
    left = Left(budget_s=0.0)
    with left.way_out as way_out:
        way_out.open()
    way_out._thread.join(PATIENCE_S)
    assert not way_out._thread.is_alive()
    assert left.is_alive


async def test_a_thread_that_works_is_named_and_one_that_waits_is_not() -> None:
    # REL-22
    reading, writing = os.pipe()
    begun = threading.Event()

    def stick() -> None:
        begun.set()
        os.read(reading, 1)

    stuck = threading.Thread(target=stick, name="reports")
    stuck.start()
    begun.wait(PATIENCE_S)
    over = threading.Event()
    waiting = threading.Thread(target=over.wait, name="idle")
    waiting.start()
    found = threads_left()
    os.write(writing, b"x")
    over.set()
    for thread in (stuck, waiting):
        thread.join(PATIENCE_S)
    for number in (reading, writing):
        os.close(number)
    assert any(one.startswith("thread reports at test_leaving.py:") for one in found)
    assert not any("idle" in one for one in found)
