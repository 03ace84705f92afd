"""What must not happen in a simulation: real threads, sockets, processes and clocks.

Rule 1: a stand-in acts only in the thread of a simulation; everywhere else it is the real thing.
Rule 2: who may call the real thing is decided by the module of the caller, in one table here.
"""

from __future__ import annotations

import _thread
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from threading import get_ident
from types import FrameType, ModuleType
from typing import Final, NoReturn

import trio

from actors.runtime import Cell
from actors.runtime.delivery.envelope import REPLY, current_activity
from actors.testing.world import chance, dates
from actors.testing.world.dates import EPOCH
from actors.testing.world.names import Function, Names

# They read clocks for records that no actor sees.
_MACHINERY: Final = (
    "logging", "structlog", "trio", "threading", "_pytest", "pytest", "pluggy", "hypothesis",
    "execnet", "xdist", "coverage",
)  # fmt: skip
# They work inside a simulation; what they measure is virtual then.
_HOUSE: Final = ("actors.runtime", "actors.testing", "supervision", "uuid")
# Only the test's own machinery; trio's sockets and threads are as real as any.
_MAY_REACH_OUT: Final = ("logging", "structlog", "_pytest", "pytest", "hypothesis", "execnet")

# These read the clock when they are given no time; with so many arguments they only convert it.
_CONVERTERS: Final = {"localtime": 0, "gmtime": 0, "ctime": 0, "asctime": 0, "strftime": 1}
_READERS: Final = (
    "time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns",
    "process_time", "process_time_ns", "thread_time", "thread_time_ns", "clock_gettime",
    "clock_gettime_ns", "sleep", *_CONVERTERS,
)  # fmt: skip
# Each module with a function of it, and who else may call that.
_REACHING_OUT: Final[tuple[tuple[ModuleType, str, *tuple[str, ...]], ...]] = (
    *((os, name) for name in ("fork", "forkpty", "posix_spawn", "posix_spawnp", "system")),
    *((socket, name) for name in ("socketpair", "getaddrinfo", "gethostbyname")),
    *((signal, name) for name in ("alarm", "setitimer")),
    # Who starts a `Thread` has been asked before.
    (_thread, "start_new_thread", "threading"),
    (trio.to_thread, "run_sync"),
    (trio.lowlevel, "start_thread_soon"),
)
# Methods, which everybody has from their class.
_METHODS: Final[tuple[tuple[type, str, str], ...]] = (
    (threading.Thread, "start", "threading.Thread.start"),
    (socket.socket, "__init__", "socket.socket"),
    (subprocess.Popen, "__init__", "subprocess.Popen"),
)


class SimulationLeak(Exception):
    """Something in a simulation reached for the real world; `call` names it, `where` the line.

    Nothing was called. Pass the clock, the adapter or the result in, and use a twin in memory here.
    Of time there is `trio.current_time()`, and `datetime.now()`, which follows it.
    """

    def __init__(self, call: str, where: str = "") -> None:
        at = f" at {where}" if where else ""
        super().__init__(
            f"{call} was called in a simulation{at}; it would make runs of one seed differ. "
            "Pass it in, and give the simulation a twin."
        )
        self.call, self.where = call, where


class Watch:
    """The guard of one run at a time: who may call what, and which leaks nobody has heard of."""

    def __init__(self) -> None:
        self._thread: int | None = None
        self.clock: trio.abc.Clock | None = None
        # Raised in an actor whom nobody asked: it crashed, was restarted, and no test would know.
        self.unheard: list[SimulationLeak] = []

    def begin(self, clock: trio.abc.Clock) -> None:
        """Call this at the begin of a run."""
        self._thread, self.clock, self.unheard = get_ident(), clock, []

    def end(self) -> None:
        """Call this at its end."""
        self._thread = self.clock = None

    @property
    def is_on(self) -> bool:
        """Whether this thread runs a simulation."""
        return self._thread == get_ident()

    def now(self) -> float:
        """The virtual time; 0.0 when none runs."""
        return 0.0 if self.clock is None else self.clock.current_time()

    def refuse(self, call: str, caller: FrameType) -> NoReturn:
        """Call this where a leak was found."""
        leak = SimulationLeak(call, _where(caller))
        if _nobody_hears():
            self.unheard.append(leak)
        raise leak


def _nobody_hears() -> bool:
    """Whether an error raised now only crashes an actor: no asker, no starter is told."""
    activity = current_activity.get()
    cell, envelope = activity.cell, activity.in_hand()
    if envelope is not None:
        return envelope[REPLY] is None
    return isinstance(cell, Cell) and cell.incarnation > 0


_watch: Final = Watch()


@contextmanager
def no_leaks(seed: int, clock: trio.abc.Clock) -> Iterator[Watch]:
    """Call this around what must be repeatable."""
    with ExitStack() as stack:
        _watch.begin(clock)
        stack.callback(_watch.end)
        for cls, name, label in _METHODS:
            real = getattr(cls, name)
            stack.callback(setattr, cls, name, real)
            setattr(cls, name, _guard(real, label, _MAY_REACH_OUT))
        stack.callback(_names.exchange, lambda _, real: real)
        _names.exchange(_chosen)
        for module, name, generator in _names.generators():
            if not _is_of(module, _MACHINERY):
                # Without the module: a program has another name in another process.
                chance.seed_anew(stack, generator, f"{seed} {name}")
        yield _watch


def _chosen(module: str, real: Function) -> Function:
    """What a module shall hold in place of a real function, while a simulation runs."""
    if (virtual := _VIRTUAL.get(real)) is not None and _is_of(module, _HOUSE):
        return virtual
    guard = _GUARDS.get(real)
    if guard is None:
        return _CONTROLLED[real]
    # Not needed, for the guard lets them pass, but it is one look less for each log line.
    return real if _is_of(module, _MACHINERY) and real in _CLOCKS else guard


def _guard(
    real: Function,
    label: str,
    may: tuple[str, ...],
    *,
    virtual: Function | None = None,
    converts: int | None = None,
) -> Function:
    """A function that refuses what `real` would do, except to those who may.

    The house is given `virtual`, if there is one. With `converts` arguments it reads no clock.
    """

    def guarded(*args: object, **options: object) -> object:
        if not _watch.is_on or (converts is not None and len(args) > converts):
            return real(*args, **options)
        caller = sys._getframe(1)
        module = str(caller.f_globals.get("__name__", ""))
        if virtual is not None and _is_of(module, _HOUSE):
            return virtual()
        if _is_of(module, may):
            return real(*args, **options)
        return _watch.refuse(label, caller)

    return guarded


# Asked for each held function at the begin and the end of each run, and at each call of a guarded
# one. A program has fewer modules than this, times the handful of lists.
@lru_cache(maxsize=8192)
def _is_of(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in packages)


def _where(frame: FrameType) -> str:
    """The line of a user that led to a call: the innermost that is not of a library we know."""
    at: FrameType | None = frame
    while at is not None:
        module = str(at.f_globals.get("__name__", ""))
        is_ours = _is_of(module, (*_MACHINERY, *_HOUSE))
        # What a dataclass has made of itself is in no file.
        is_ours = is_ours or at.f_code.co_filename.startswith("<")
        if not is_ours and module.partition(".")[0] not in _LIBRARY:
            return _line(at)
        at = at.f_back
    return _line(frame)


# The main program is in the list of the library, and somebody's own all the same.
_LIBRARY: Final = sys.stdlib_module_names - {"__main__"}


def _line(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno}, in {frame.f_code.co_name}"


def _virtual(real: Function, unit: int | None, origin: float) -> Function:
    """A clock that shows the virtual time since `origin`, in seconds or in `unit` parts of them."""

    def read() -> object:
        if not _watch.is_on:
            return real()
        seconds = origin + _watch.now()
        return seconds if unit is None else round(seconds * unit)

    return read


# Not from zero: 0.0 is "not measured" to the runtime.
_SPAN_ORIGIN: Final = 1.0
_NANO: Final = 1_000_000_000
_CLOCKS: Final[Mapping[Function, str]] = {getattr(time, name): name for name in _READERS}
_VIRTUAL: Final[Mapping[Function, Function]] = {
    real: _virtual(real, _NANO if name.endswith("_ns") else None, origin)
    for name, origin in (
        ("time", EPOCH.timestamp()),
        ("time_ns", EPOCH.timestamp()),
        ("monotonic", _SPAN_ORIGIN),
        ("monotonic_ns", _SPAN_ORIGIN),
        ("perf_counter", _SPAN_ORIGIN),
        ("perf_counter_ns", _SPAN_ORIGIN),
    )
    for real in (getattr(time, name),)
}
_GUARDS: Final[Mapping[Function, Function]] = {
    **{
        real: _guard(
            real, f"time.{name}", _MACHINERY,
            virtual=_VIRTUAL.get(real), converts=_CONVERTERS.get(name),
        )
        for real, name in _CLOCKS.items()
    },
    **{
        getattr(owner, name): _guard(
            getattr(owner, name), f"{owner.__name__}.{name}", (*_MAY_REACH_OUT, *also)
        )
        for owner, name, *also in _REACHING_OUT
        if hasattr(owner, name)
    },
}  # fmt: skip
_CONTROLLED: Final = {**chance.STAND_INS, **dates.STAND_INS}
_names: Final = Names({**_GUARDS, **_CONTROLLED})
for _real, _instead in _VIRTUAL.items():
    _names.add(_instead, _real)
