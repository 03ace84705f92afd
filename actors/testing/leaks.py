"""What must not happen in a simulation: real threads, sockets and clocks."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Final, NoReturn

import trio

# These read clocks for their own records, which no actor sees.
_ALLOWED: Final = ("logging", "structlog", "trio.", "_pytest", "threading", "hypothesis")

# Only the test's own machinery; trio's sockets and threads are as real as any.
_ALLOWED_REAL: Final = ("logging", "structlog", "_pytest", "hypothesis")

_CALLS: Final[tuple[tuple[object, str, str], ...]] = (
    (threading.Thread, "start", "threading.Thread.start"),
    (trio.to_thread, "run_sync", "trio.to_thread.run_sync"),
    (socket.socket, "__init__", "socket.socket"),
    (time, "time", "time.time"),
    (time, "time_ns", "time.time_ns"),
    (time, "monotonic", "time.monotonic"),
    (time, "perf_counter", "time.perf_counter"),
    (time, "sleep", "time.sleep"),
)


class SimulationLeak(Exception):
    """Something in a simulation reached for the real world; `call` names it.

    Nothing was called. Pass the clock, the adapter or the result in, and use a twin in memory here.
    """

    def __init__(self, call: str) -> None:
        super().__init__(
            f"{call} was called in a simulation; it would make runs of one seed differ. "
            "Pass it in, and give the simulation a twin."
        )
        self.call = call


@contextmanager
def no_leaks() -> Iterator[None]:
    """Call this around what must be repeatable."""
    with ExitStack() as stack:
        for owner, name, label in _CALLS:
            real = getattr(owner, name)
            setattr(owner, name, _guard(real, label))
            stack.callback(setattr, owner, name, real)
        yield


def _guard(real: Callable[..., object], label: str) -> Callable[..., object]:  # type: ignore[explicit-any]  # stands for any signature
    def guarded(*args: object, **options: object) -> object:
        caller = str(sys._getframe(1).f_globals.get("__name__", ""))
        if caller.startswith(_ALLOWED if label.startswith("time.") else _ALLOWED_REAL):
            return real(*args, **options)
        return refuse(label)

    return guarded


def refuse(label: str) -> NoReturn:
    """Call this where a simulation has found a leak."""
    raise SimulationLeak(label)
