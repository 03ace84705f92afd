"""Around one run: the real world shut out, and whole again afterwards."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import trio

from actors.testing.world.chance import seeded_chance
from actors.testing.world.dates import virtual_dates
from actors.testing.world.leaks import Watch, no_leaks

_one_at_a_time = threading.Lock()


@contextmanager
def alone() -> Iterator[None]:
    """Call this around a whole run; what it exchanges belongs to all of the process.

    Raises RuntimeError when another simulation runs, in this thread or another one; that one is
    not disturbed.
    """
    if not _one_at_a_time.acquire(blocking=False):
        raise RuntimeError("a simulation runs already in this process; run them one after another")
    try:
        yield
    finally:
        _one_at_a_time.release()


@contextmanager
def sealed(seed: int, clock: trio.abc.Clock) -> Iterator[Watch]:
    """Call this around what must be repeatable; its `Watch` knows of leaks nobody was told of."""
    with ExitStack() as stack:
        stack.enter_context(_no_collections())
        stack.enter_context(seeded_chance(seed))
        stack.enter_context(virtual_dates(clock))
        yield stack.enter_context(no_leaks(seed, clock))


@contextmanager
def _no_collections() -> Iterator[None]:
    """When garbage is collected depends on all the process holds: finalizers would run anywhere."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
