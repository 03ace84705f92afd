"""The site as a process of its own, started as a visitor's machine would, stopped by its id."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

from tests.patience import PATIENCE_S
from tests.processes.forked import run, start
from tests.processes.prepared import lay_out

ROOT = Path(__file__).parents[2]
# A stop has some twenty lines, and a traceback as many.
LAST_WORDS = 40


class SiteProcess:
    """A running `python -m web.cli serve`; `url` is set once the site has told its address.

    `log` is its standard error, by default one with its output, which `lines` keeps.
    """

    module = "web.cli"
    name = "greenroom"
    words: Sequence[str] = ("serve",)

    def __init__(
        self, state_dir: Path, log: int = subprocess.STDOUT, /, **environment: str
    ) -> None:
        self.state_dir, self._log = state_dir, log
        self._environment = environment
        self.lines: list[str] = []
        is_new = not (state_dir / "postgres").exists()
        if is_new and "DATABASE_URL" not in environment and "memory" not in self.words:
            lay_out(state_dir)
        self._start()

    def _settings(self, port: int = 0) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        settings = {
            "PORT": str(port),
            "STATE_DIR": str(self.state_dir),
            "DRAIN_BUDGET_SECS": str(round(PATIENCE_S)),
            # On a machine that others load too, turns are late without any load of ours.
            "OVERLOAD_LATE_MS": "60000",
            "OVERLOAD_AFTER_MS": "60000",
            **self._environment,
        }
        return {**kept, **settings, "PYTHONUNBUFFERED": "1"}

    def run(self, *arguments: str) -> str:
        """Run another command of the same program with the same settings; gives what it says."""
        done = run(self.module, arguments, environment=self._settings())
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _start(self, port: int = 0) -> None:
        self.process, self._output = start(
            self.module, self.words, environment=self._settings(port), errors=self._log
        )
        self._told = threading.Event()
        self.url = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._told.wait(PATIENCE_S) or not self.url:
            self.kill()
            raise AssertionError("the site did not start:\n" + "\n".join(self.lines))

    def _read(self) -> None:
        for line in self._output:
            self.lines.append(line.rstrip("\n"))
            found = re.search(rf"{self.name} is at (http://\S+)", line)
            if found:
                self.url = found.group(1).rstrip("/")
                self._told.set()
        self._output.close()
        self._told.set()

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask the process to stop; returns its exit code."""
        self.process.send_signal(number)
        return self.wait_ended()

    def wait_ended(self) -> int:
        """Wait until a process that was told to stop has, and all it said was read; its code."""
        code = self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        return code

    def last_words(self) -> str:
        """What it said last, without the requests: for who wants to know why it ended so."""
        own = [line for line in self.lines if not re.search(r"Z +(\d{3}|left) +[\d.]+ ms ", line)]
        return "\n".join(own[-LAST_WORDS:])

    def kill(self) -> None:
        """End the process at once, without any chance to tidy up."""
        self.process.kill()
        self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)

    def restart(self) -> None:
        """Start the next process on the same port and state."""
        self._start(self.port)

    def end(self) -> None:
        """Stop what runs, gently first; for the end of a test."""
        if self.process.poll() is None:
            try:
                self.stop()
            except subprocess.TimeoutExpired:
                self.kill()
                raise


class OwnProcess(SiteProcess):
    """A running `python -m docs.examples.own_site`."""

    module = "docs.examples.own_site"
    name = "drinks"


class ExampleProcess(SiteProcess):
    """A running `greenroom example NAME --store STORE`; what it is called, it says itself."""

    name = r"\w+"

    def __init__(self, example: str, store: str, state_dir: Path, **environment: str) -> None:
        self.words = ("example", example, "--store", store)
        super().__init__(state_dir, **environment)
