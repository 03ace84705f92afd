"""Erlang as a peer: one compiled program that is asked for a run at a time.

`erlang/bench_peer.erl` is compiled by `erlc` into a folder of its own at each run, and measures
with Erlang's own clock: nothing of the pipe is in a figure. Never `erl -eval`: that interprets,
and is some fifteen times slower than what anybody runs.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal

SOURCE = Path(__file__).parent / "erlang" / "bench_peer.erl"

What = Literal["cast", "call", "alone", "supervised"]


class ErlangPeer:
    """A running Erlang that takes one request at a time."""

    def __init__(self, to: IO[str], back: IO[str]) -> None:
        self._to, self._back = to, back

    def times(self, what: What, count: int) -> list[float]:
        """Call this for the seconds that each phase of a run took."""
        self._to.write(f"{what} {count}\n")
        self._to.flush()
        line = self._back.readline()
        if not line:
            raise RuntimeError(f"Erlang ended while it measured {what!r}")
        return [int(one) / 1e6 for one in line.split()]


def is_installed() -> bool:
    """Call this to know whether there is an Erlang to compare with."""
    return shutil.which("erl") is not None and shutil.which("erlc") is not None


@contextmanager
def open_erlang() -> Iterator[ErlangPeer | None]:
    """Call this for a running Erlang, None where it is not installed; leaving it ends it."""
    if not is_installed():
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="bench-") as beams:
        subprocess.run(["erlc", "-Werror", "-o", beams, str(SOURCE)], check=True)
        command = ["erl", "-noshell", "-pa", beams, "-run", "bench_peer", "main"]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                yield ErlangPeer(process.stdin, process.stdout)
            finally:
                process.kill()
