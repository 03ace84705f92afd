"""Erlang as the other side of a comparison: a compiled program, spoken to line by line."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO


def is_installed() -> bool:
    """Whether there is an Erlang to compare with; without one nothing is said to have passed."""
    return shutil.which("erl") is not None and shutil.which("erlc") is not None


class Program:
    """A running Erlang program, and both ends of its pipes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self.to: IO[str] = process.stdin
        self.back: IO[str] = process.stdout

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()


@contextmanager
def open_program(sources: Sequence[Path], *flags: str) -> Iterator[Program]:
    """Compile the sources into a folder of their own and run `main` of the first one.

    `flags` are those of the emulator; leaving it ends the process.
    """
    with tempfile.TemporaryDirectory(prefix="erlang-") as beams:
        subprocess.run(["erlc", "-Werror", "-o", beams, *map(str, sources)], check=True)
        command = ["erl", "-noshell", *flags, "-pa", beams, "-run", sources[0].stem, "main"]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                yield Program(process)
            finally:
                process.kill()
