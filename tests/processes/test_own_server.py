"""What tests start beside themselves does not outlive them."""

from __future__ import annotations

import os
import select
import signal
import subprocess

from tests.patience import FOR_EVER_S, PATIENCE_S
from tests.processes.forked import start
from tests.processes.own_server import Guard


def test_what_a_killed_run_had_started_ends_with_it() -> None:
    program, said = start("tests.processes.left_alone", [])
    with said:
        pid = int(said.readline())
        ended = os.pidfd_open(pid)
        try:
            program.kill()
            program.wait(PATIENCE_S)
            assert select.select([ended], [], [], PATIENCE_S)[0], f"{pid} is still there"
        finally:
            os.close(ended)


def test_a_guard_that_has_left_ends_nothing() -> None:
    process = subprocess.Popen(["sleep", str(FOR_EVER_S)])
    guard = Guard(process)
    guard.leave()
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == -signal.SIGTERM
