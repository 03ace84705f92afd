"""Reading one's own writes: waiting until a projection has reached a cursor.

Rule 1: of all who wait for one projection, one looks, and tells the others what it saw: a
commit costs a query, however many wait for it.
Rule 2: who leaves hands the looking over; the last one leaves nothing behind.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol
from weakref import WeakKeyDictionary

import trio

from actors.persistence.errors import StoreError, StoreUnavailable
from actors.persistence.projections.store import Checkpoint, GenerationState, serves
from actors.persistence.words import START, Cursor

WAIT_S = 2.0
WAIT_POLL_S = 0.05


class Checkpoints(Protocol):
    """What waiting needs of a `ProjectionStore`."""

    async def checkpoints(self, projection: str) -> Sequence[Checkpoint]:
        """See `ProjectionStore.checkpoints`."""
        ...

    async def changed(self, timeout_s: float) -> None:
        """See `ProjectionStore.changed`."""
        ...


class ProjectionTimeout(StoreUnavailable):
    """Raised when a projection did not come as far as wanted in time; ask again, or read old."""

    code = "projection_timeout"

    def __init__(self, name: str, wanted: Cursor, reached: Cursor) -> None:
        super().__init__(f"projection {name} is at {reached}, not yet at {wanted}")
        self.name, self.wanted, self.reached = name, wanted, reached


class ProjectionHalted(StoreError):
    """Raised when a projection was stopped by an event it cannot apply."""

    code = "projection_halted"

    def __init__(self, name: str, error: str) -> None:
        super().__init__(f"projection {name} is halted: {error}. Mend it, then resume.")
        self.name, self.error = name, error


class Rebuilding(StoreUnavailable):
    """Raised at once when only a newer version of a projection is filled, which does not serve yet.

    Read old, or ask again when it has taken over; running the old version beside the new one
    keeps both moving.
    """

    code = "projection_rebuilding"

    def __init__(self, name: str, wanted: Cursor, reached: Cursor) -> None:
        super().__init__(
            f"projection {name} serves from {reached} and is built anew; nobody fills the one "
            f"that serves up to {wanted}"
        )
        self.name, self.wanted, self.reached = name, wanted, reached


# One more look than the first: a runner of the old version may be about to commit.
LEFT_LOOKS = 2


class _Watch:
    """Those who wait for one projection of one store."""

    def __init__(self, store: Checkpoints, name: str) -> None:
        self._store, self._name = store, name
        self._is_looking = False
        self._told = trio.Event()
        self._looks = 0
        self._failure: StoreError | None = None
        self.waiting = 0
        self.reached = START
        self.halted: str | None = None
        self.left_looks = 0

    async def next_look(self) -> None:
        """Look, or wait for the one who is looking; raises what the look raised."""
        if self._is_looking:
            # Taken before waiting: the one who looks may be cancelled, and then tells without
            # having looked. What an earlier look raised must not be raised again for that.
            before = self._looks
            await self._told.wait()
            # Nothing seen: the one who looked has left, and the caller may take its place.
            if self._looks != before and self._failure is not None:
                raise self._failure
            return
        self._is_looking = True
        try:
            # The first look is at once; the commit that is waited for may have been long ago.
            # One that falls between a look and `changed` rings for nobody: hence the poll.
            if self._looks:
                await self._store.changed(WAIT_POLL_S)
            await self._look()
        finally:
            self._is_looking = False
            told, self._told = self._told, trio.Event()
            told.set()

    async def _look(self) -> None:
        self._failure = None
        try:
            known = await self._store.checkpoints(self._name)
        except StoreError as error:
            self._failure = error
            raise
        finally:
            self._looks += 1
        live = [one for one in known if serves(one)]
        self.reached = min((one.cursor for one in live), default=START)
        halted = [one for one in live if one.state is GenerationState.HALTED]
        self.halted = (halted[0].error or "") if halted else None
        is_built = any(one.state is GenerationState.BUILDING for one in known)
        is_left = is_built and not all(one.is_filled for one in live)
        self.left_looks = self.left_looks + 1 if is_left else 0


# By store and name, for as long as somebody waits; a store that is gone takes its own along.
_watches: WeakKeyDictionary[Checkpoints, dict[str, _Watch]] = WeakKeyDictionary()
# Rings when somebody begins to.
_calls: WeakKeyDictionary[Checkpoints, dict[str, trio.Event]] = WeakKeyDictionary()


@contextmanager
def _watched(store: Checkpoints, name: str) -> Iterator[_Watch]:
    by_name = _watches.setdefault(store, {})
    watch = by_name.setdefault(name, _Watch(store, name))
    watch.waiting += 1
    call = _calls.get(store, {}).pop(name, None)
    if call is not None:
        call.set()
    try:
        yield watch
    finally:
        watch.waiting -= 1
        if not watch.waiting:
            del by_name[name]


def waiter_count(store: Checkpoints) -> int:
    """Call this for how many wait for projections of a store, in this process."""
    return sum(watch.waiting for watch in _watches.get(store, {}).values())


async def next_waiter(store: Checkpoints, name: str) -> None:
    """Call this to wait until somebody in this process waits for a projection."""
    if name in _watches.get(store, {}):
        await trio.lowlevel.checkpoint()
        return
    await _calls.setdefault(store, {}).setdefault(name, trio.Event()).wait()


async def wait_until(
    store: Checkpoints, name: str, cursor: Cursor, *, timeout_s: float = WAIT_S
) -> None:
    """Call this to read your own writes: returns when the projection has reached a cursor.

    Works in every process. Raises `ProjectionTimeout`, and without waiting for that
    `ProjectionHalted` and `Rebuilding`; leaves no waiter.
    """
    with _watched(store, name) as watch:
        with trio.move_on_after(timeout_s):
            while watch.halted is not None or watch.reached < cursor:
                await watch.next_look()
                if watch.halted is not None:
                    raise ProjectionHalted(name, watch.halted)
                if watch.left_looks >= LEFT_LOOKS and watch.reached < cursor:
                    raise Rebuilding(name, cursor, watch.reached)
            await trio.lowlevel.checkpoint()
            return
        raise ProjectionTimeout(name, cursor, watch.reached)
