"""The sub-tasks of an incarnation: `self.start_soon`.

Their nursery lives in a task of its own, opened at first use, so that dispatched actors can have
sub-tasks too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

import trio

from actors.runtime.context import current_activity
from actors.runtime.words.exits import crash_from

if TYPE_CHECKING:
    from actors.runtime.life import Life


class Helpers:
    """The nursery of one incarnation's sub-tasks. One that raises crashes the actor."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._nursery: trio.Nursery | None = None
        self._early: list[Callable[[], Awaitable[object]]] = []
        self._cancelled = False
        self._over = trio.Event()
        cell = life.cell
        cell.owner.nursery.start_soon(self._run, name=f"{cell.path} (sub-tasks)")

    @property
    def running(self) -> int:
        """How many sub-tasks run."""
        nursery = self._nursery
        return len(self._early) + (len(nursery.child_tasks) if nursery is not None else 0)

    def start(self, task: Callable[[], Awaitable[object]], name: str) -> None:
        """Call this to run `task` as a sub-task; RuntimeError once they have been cancelled."""
        if self._cancelled:
            raise RuntimeError(
                f"the sub-tasks of {self._life.cell.path} have ended with it; none was started"
            )
        task = partial(self._as_part, self._life, current_activity.get().fork(), task)
        if self._nursery is None:
            self._early.append(task)
        else:
            self._nursery.start_soon(task, name=name)

    def cancel(self) -> None:
        """Call this to cancel all sub-tasks; `close` waits for their end too."""
        self._cancelled = True
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    async def close(self) -> None:
        """Call this to cancel all sub-tasks and wait for their end."""
        self.cancel()
        await self._over.wait()

    @staticmethod
    async def _as_part(life: Life, activity: object, task: Callable[[], Awaitable[object]]) -> None:
        current_activity.set(activity)  # type: ignore[arg-type]
        await task()

    async def _run(self) -> None:
        try:
            async with trio.open_nursery() as self._nursery:
                if self._cancelled:
                    self._nursery.cancel_scope.cancel()
                for task in self._early:
                    self._nursery.start_soon(task)
                self._early.clear()
                await trio.sleep_forever()
        except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 - user code's crash
            self._life.abort(crash_from(error))
        finally:
            self._over.set()
