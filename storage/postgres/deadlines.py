"""Deadlines of many pieces of work with one timer: a timer each would cost more than it gives.

Runs on the asyncio thread. Work that is overdue is cancelled; `run` of the pool tells that
cancellation from others by asking `is_overdue`.
"""

import asyncio
from typing import Any

# How late a deadline may be noticed; limits are seconds.
GRAIN_S = 0.05


class Deadlines:
    """Which tasks work until when."""

    def __init__(self) -> None:
        self._until: dict[asyncio.Task[Any], float] = {}
        self._overdue: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, task: "asyncio.Task[Any]", timeout_s: float) -> None:
        """Call this when a task begins its work."""
        loop = asyncio.get_running_loop()
        self._until[task] = loop.time() + timeout_s
        if self._timer is None:
            self._timer = loop.call_later(GRAIN_S, self._look, loop)

    def is_overdue(self, task: "asyncio.Task[Any]") -> bool:
        """Call this in a cancelled task to learn whether it was cancelled for being late."""
        return task in self._overdue

    def end(self, task: "asyncio.Task[Any]") -> None:
        """Call this when the work ended, however it did."""
        del self._until[task]
        self._overdue.discard(task)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for task, until in tuple(self._until.items()):
            if until <= now and task not in self._overdue:
                self._overdue.add(task)
                task.cancel()
        # With nothing in hand the timer rests.
        self._timer = loop.call_later(GRAIN_S, self._look, loop) if self._until else None
