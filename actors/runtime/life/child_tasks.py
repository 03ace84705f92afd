"""The child tasks of an incarnation: `self.start_soon`.

Their nursery lives in a task of its own, opened at first use, so that dispatched actors can have
child tasks too. One that raises ends the nursery, the others with it, and crashes the actor.

Each runs in a copy of the context variables of whoever starts it, mostly a handler, as any task.
"""

from __future__ import annotations

import contextvars
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeAlias, TypeVarTuple

import trio

from actors.runtime.delivery.envelope import current_activity
from actors.runtime.words.errors import exit_from
from actors.runtime.words.exits import Exit, leaves_of, readable, without_cancelled

Ts = TypeVarTuple("Ts")


class ChildTasks:
    """The nursery of one incarnation's child tasks.

    `nursery` is where its own task runs; `raised` is told what one of them has raised: a crash,
    or the exit of a `StopActor`.
    """

    def __init__(self, path: str, nursery: trio.Nursery, raised: Callable[[Exit], None]) -> None:
        self._path, self._raised = path, raised
        self._nursery: trio.Nursery | None = None
        # Started before the nursery is open: its task has been started, but has not run yet.
        self._early: list[_Early] = []
        self._cancelled = False
        self._over = trio.Event()
        nursery.start_soon(self._run, name=f"{path} (child tasks)")

    @property
    def running(self) -> int:
        """How many child tasks run."""
        nursery = self._nursery
        return len(self._early) + (len(nursery.child_tasks) if nursery is not None else 0)

    def start(self, task: Callable[[*Ts], Awaitable[object]], args: tuple[*Ts], name: str) -> None:
        """Run `task(*args)` as a child task; RuntimeError once they have been cancelled."""
        if self._cancelled:
            raise RuntimeError(
                f"the child tasks of {self._path} have ended with it; none was started"
            )
        # Forked now, in the task that starts it: what it sends has the cause of this message. And
        # set here, as it is inherited: a task of whoever is in hand would be given an heir first.
        inherited = current_activity.set(current_activity.get().fork())
        if self._nursery is None:
            first = partial(self._one, task, args)
            self._early.append((contextvars.copy_context(), first, name))
        else:
            self._nursery.start_soon(self._one, task, args, name=name)
        current_activity.reset(inherited)

    def cancel(self) -> None:
        """Cancel all child tasks, without waiting for their end: called by a kill."""
        self._cancelled = True
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    async def close(self) -> None:
        """Cancel all child tasks and wait for their end: called when the incarnation ends."""
        self.cancel()
        await self._over.wait()

    async def _run(self) -> None:
        try:
            async with trio.open_nursery() as self._nursery:
                if self._cancelled:
                    self._nursery.cancel_scope.cancel()
                for context, task, name in self._early:
                    context.run(partial(self._nursery.start_soon, task, name=name))
                self._early.clear()
                # Without this the nursery would close behind the last of them, and a later
                # `start_soon` would need another.
                await trio.sleep_forever()
        except BaseException as error:  # noqa: BLE001 - whatever a child task raises is the crash
            cause = without_cancelled(error, trio.lowlevel.current_task())
            self._raised(exit_from(cause))
        finally:
            self._cancelled = True
            self._over.set()

    async def _one(self, task: Callable[[*Ts], Awaitable[object]], args: tuple[*Ts]) -> None:
        try:
            await task(*args)
        except BaseException as error:
            cause = without_cancelled(error, trio.lowlevel.current_task())
            if not all(isinstance(leaf, trio.Cancelled) for leaf in leaves_of(cause)):
                if (stand_in := readable(error)) is not error:
                    raise stand_in from None  # trio looks at it too.
                raise
            # That no scope around it explains: the nursery would take it for its own.
            self._raised(exit_from(cause))
            self.cancel()


# A child task, with the context variables of whoever has started it, and its name.
_Early: TypeAlias = tuple[contextvars.Context, Callable[[], Awaitable[object]], str]
