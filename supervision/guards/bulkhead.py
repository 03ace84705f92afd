"""A bulkhead: so many calls to one dependency at once, a short queue, and no more.

`BulkheadState` counts, without clock or task; `Bulkhead` guards calls with it. A place that
becomes free goes to the one who has waited longest, never to a newcomer.

Rule: a waiter that is cancelled or gives up leaves the queue at once.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import trio

from actors.runtime.words.places import in_place
from supervision.specs.errors import NotCalled

T = TypeVar("T")


class BulkheadFull(NotCalled):
    """Raised when no place became free in time, or the queue is full; nothing was called."""

    def __init__(self, name: str, waiting: int) -> None:
        super().__init__(
            f"{name} is busy and {waiting} calls wait before this one; nothing was called. "
            "Try again later, or allow more at once."
        )
        self.name, self.waiting = name, waiting


@dataclass(frozen=True, slots=True)
class BulkheadPolicy:
    """`concurrent` calls at once; `queue` more wait, each at most `wait` seconds."""

    concurrent: int = 10
    wait: float = 5.0
    queue: int = 100

    def __post_init__(self) -> None:
        if not (self.concurrent >= 1 and self.queue >= 0 and self.wait >= 0):
            raise ValueError(in_place(f"{self!r}: concurrent >= 1, queue >= 0, wait >= 0"))


@dataclass(frozen=True, slots=True)
class BulkheadStats:
    """The gauge of one dependency."""

    name: str
    running: int
    waiting: int
    peak: int
    refused: int


class BulkheadState:
    """The counting; a waiter is any object."""

    def __init__(self, policy: BulkheadPolicy) -> None:
        self.policy = policy
        self.running = self.peak = self.refused = 0
        self.queue: dict[object, None] = {}

    def enter(self, waiter: object) -> bool | None:
        """Call this before a call: True is in, False waits in the queue, None is refused."""
        if self.running < self.policy.concurrent and not self.queue:
            self._count_in()
            return True
        if len(self.queue) >= self.policy.queue:
            self.refused += 1
            return None
        self.queue[waiter] = None
        return False

    def leave(self) -> object | None:
        """Call this after a call: the waiter who has its place now, or None."""
        self.running -= 1
        if not self.queue:
            return None
        waiter = next(iter(self.queue))
        del self.queue[waiter]
        self._count_in()
        return waiter

    def give_up(self, waiter: object) -> None:
        """Call this when a waiter leaves the queue without a place."""
        self.queue.pop(waiter, None)

    def _count_in(self) -> None:
        self.running += 1
        self.peak = max(self.peak, self.running)


class Bulkhead:
    """Guards calls to one dependency: `async with bulkhead.place(): ...`."""

    def __init__(
        self,
        name: str,
        policy: BulkheadPolicy = BulkheadPolicy(),
    ) -> None:
        self.name = name
        self._machine = BulkheadState(policy)

    def __repr__(self) -> str:
        machine = self._machine
        return f"<Bulkhead {self.name}: {machine.running} running, {len(machine.queue)} waiting>"

    def stats(self) -> BulkheadStats:
        """Call this for the gauge."""
        machine = self._machine
        return BulkheadStats(
            self.name, machine.running, len(machine.queue), machine.peak, machine.refused
        )

    async def call(self, make: Callable[[], Awaitable[T]]) -> T:
        """Call this to make a call in a place of its own. Raises `BulkheadFull`."""
        async with self.place():
            return await make()

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Call this to hold a place; raises `BulkheadFull` after the wait, always a checkpoint."""
        await self._enter()
        try:
            yield
        finally:
            self._leave()

    async def _enter(self) -> None:
        await trio.lowlevel.checkpoint()
        machine, turn = self._machine, trio.Event()
        entered = machine.enter(turn)
        if entered is None:
            raise BulkheadFull(self.name, len(machine.queue))
        if entered:
            return
        is_in = False
        try:
            with trio.move_on_after(machine.policy.wait):
                await turn.wait()
            is_in = turn.is_set()
        finally:
            machine.give_up(turn)
            # A cancellation from outside and a free place may meet in one turn of the loop: the
            # place was handed over to a task that will never use it, so it is handed on.
            if turn.is_set() and not is_in:
                self._leave()
        if not is_in:
            machine.refused += 1
            raise BulkheadFull(self.name, len(machine.queue))

    def _leave(self) -> None:
        waiter = self._machine.leave()
        if isinstance(waiter, trio.Event):
            waiter.set()
