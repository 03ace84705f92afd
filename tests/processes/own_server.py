"""Servers of other people that a test starts for itself, on loopback: the frame of each kind.

Each has a folder of its own with its files and its log, is waited for by its port, and is ended by
its pid. Whoever started it may be killed: then it ends too.
"""

from __future__ import annotations

import signal
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.processes.ports import free_port, is_listening, wait_for

# The kernel closes the only writing end of the pipe whatever way we end. Signals at a parent's
# death follow the thread that started the process, which may end long before. What a terminal
# sends goes to all of a group; this one has to be the last of them.
_GUARD = """trap '' INT TERM HUP; read -r _; kill -s "$1" "$2" 2>/dev/null"""


class Guard:
    """Ends a process when we end without having done so; `leave` once that is no longer wanted."""

    def __init__(self, process: subprocess.Popen[bytes], how: str = "KILL") -> None:
        self._shell = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD, "guard", how, str(process.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def leave(self) -> None:
        """Call this before the process is waited for: later its number may be a stranger's."""
        self._shell.kill()
        self._shell.wait()
        assert self._shell.stdin is not None
        self._shell.stdin.close()


@dataclass
class OwnServer(ABC):
    """One server; what a test does to it are its methods. Leaving the block ends it."""

    folder: Path
    port: int = field(default_factory=free_port, kw_only=True)
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _guard: Guard | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)

    @abstractmethod
    def command(self) -> Sequence[str]:
        """What is started, once its files are there."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, and wait for its port."""
        command = self.command()
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        self._guard = Guard(self.process)
        self.until(lambda: is_listening(self.port))

    def kill(self) -> None:
        """End it without a word; a stopped one too."""
        if self.process is None or self._guard is None:
            return
        self.process.kill()
        self._guard.leave()
        self.process.wait()
        self._guard = None

    def hang(self) -> None:
        """Stop it: it accepts connections, and says nothing."""
        self.signal(signal.SIGSTOP)
        # Each thread stops by itself: until all have, it may still answer.
        self.until(self._stands_still)

    def go_on(self) -> None:
        """Let it go on."""
        self.signal(signal.SIGCONT)

    def signal(self, number: int) -> None:
        """Send it a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def log(self) -> bytes:
        """What it has said."""
        return (self.folder / "server.log").read_bytes()

    def until(self, is_so: Callable[[], bool]) -> None:
        """Wait for what it does; raises RuntimeError when it ends, or never does it."""
        assert self.process is not None
        wait_for(is_so, self.process, lambda: self.log().decode(errors="replace"))

    def _stands_still(self) -> bool:
        assert self.process is not None
        threads = Path(f"/proc/{self.process.pid}/task").glob("*/stat")
        return all(one.read_text().rpartition(")")[2].split()[0] == "T" for one in threads)
