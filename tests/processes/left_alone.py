"""Starts a process, tells its number, and waits to be killed (see `test_own_server`)."""

import signal
import subprocess

from tests.patience import FOR_EVER_S
from tests.processes.own_server import Guard


def main() -> None:
    process = subprocess.Popen(["sleep", str(FOR_EVER_S)])
    guard = Guard(process)
    print(process.pid, flush=True)
    signal.pause()
    guard.leave()


if __name__ == "__main__":
    main()
