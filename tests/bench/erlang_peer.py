"""Erlang as a peer: one compiled program that is asked for a run at a time.

`erlang/bench_peer.erl` measures with Erlang's own clock, so nothing of the pipe is in a figure. It
is compiled, never handed to `erl -eval`: that interprets, and is some fifteen times slower than
what anybody runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from tests.erlang import Program, is_installed, open_program

SOURCE = Path(__file__).parent / "erlang" / "bench_peer.erl"

What = Literal["cast", "call", "alone", "supervised"]


class ErlangPeer:
    """A running Erlang that takes one request at a time."""

    def __init__(self, program: Program) -> None:
        self._program = program

    def times(self, what: What, count: int) -> list[float]:
        """Call this for the seconds that each phase of a run took."""
        self._program.to.write(f"{what} {count}\n")
        self._program.to.flush()
        line = self._program.back.readline()
        if not line:
            raise RuntimeError(f"Erlang ended while it measured {what!r}")
        return [int(one) / 1e6 for one in line.split()]


@contextmanager
def open_peer() -> Iterator[ErlangPeer | None]:
    """Call this for a running peer, None where Erlang is not installed; leaving it ends it."""
    if not is_installed():
        yield None
        return
    with open_program([SOURCE]) as program:
        yield ErlangPeer(program)
