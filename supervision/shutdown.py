"""Ends what is no actor, in order: a client, a file, a thread of somebody else's library.

    ending = ShutdownCoordinator(budget=30.0)
    ending.add("orders", orders.flush, phase=0, timeout=5.0)
    ending.add("pool", pool.close, phase=1)
    for outcome in await ending.shut_down():
        print(outcome)

A tree of actors needs none of this: it ends last started first, each with its own time.

Rule 1: the handlers of a phase run side by side; the next phase begins when all have ended, or when
        their time is over. One that raises or hangs stops nobody else.
Rule 2: one that does not even end when it is cancelled is left behind, and named.
Rule 3: the budget is for all phases together. What it does not reach is cancelled at once, and so
        had a moment at least.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import trio

from actors.runtime import Log
from actors.runtime.words.showing import shown

# As of an actor that is asked to stop.
TIMEOUT_S: Final = 5.0
# What a platform gives a process between asking and killing.
BUDGET_S: Final = 30.0
# One that was cancelled gets so long to put its things away before it is left behind.
GRACE_S: Final = 0.5

# It did all that it had to; it raised; it was cancelled; it did not end even then.
Result: TypeAlias = Literal["done", "failed", "late", "stuck"]
# What ends one thing; what it gives is of no interest.
Handler: TypeAlias = Callable[[], Awaitable[object]]

_log = Log("supervision.shutdown")


@dataclass(frozen=True, slots=True)
class ShutdownOutcome:
    """How one handler ended, in seconds: `late` was cancelled, `stuck` did not end even then."""

    name: str
    phase: int
    result: Result
    seconds: float
    error: str = ""

    @property
    def is_clean(self) -> bool:
        """Whether it did all that it had to."""
        return self.result == "done"


@dataclass(slots=True, eq=False)
class _Step:
    name: str
    handler: Handler
    phase: int
    timeout: float
    scope: trio.CancelScope
    ended: trio.Event
    result: Result = "late"
    error: str = ""
    seconds: float = 0.0


class ShutdownCoordinator:
    """Handlers by phase; see the top of this file. `budget` is in seconds, for all of them."""

    def __init__(self, budget: float = BUDGET_S) -> None:
        if not 0 < budget < math.inf:
            raise ValueError(f"budget is {budget!r}; it must be seconds above 0")
        self._budget = budget
        self._steps: dict[str, _Step] = {}
        self._is_over: trio.Event | None = None
        self._outcomes: list[ShutdownOutcome] = []

    def __repr__(self) -> str:
        return f"<ShutdownCoordinator of {len(self._steps)}>"

    def add(self, name: str, handler: Handler, phase: int = 0, timeout: float = TIMEOUT_S) -> None:
        """Call this for something that has to end; lower phases end first, and `name` is one.

        Raises ValueError for a name that is taken, or a time that is none, and RuntimeError once
        the end has begun: it would run too late, or never.
        """
        if self._is_over is not None:
            raise RuntimeError(f"the end has begun; {name} was not added")
        if not name or name in self._steps:
            raise ValueError(f"{name!r} is taken, or empty; each handler has a name of its own")
        if not 0 < timeout < math.inf:
            raise ValueError(f"timeout of {name} is {timeout!r}; it must be seconds above 0")
        self._steps[name] = _Step(name, handler, phase, timeout, trio.CancelScope(), trio.Event())

    async def shut_down(self) -> list[ShutdownOutcome]:
        """Call this to end all; gives how each ended, in the order in which they were added.

        Called again it waits for the first to be over, and gives the same. Cancelled, handlers that
        run are cancelled, and later phases do not begin.
        """
        if self._is_over is not None:
            await self._is_over.wait()
            return list(self._outcomes)
        self._is_over = trio.Event()
        latest = trio.current_time() + self._budget
        try:
            for phase in sorted({step.phase for step in self._steps.values()}):
                steps = [step for step in self._steps.values() if step.phase == phase]
                await self._end(steps, latest)
        finally:
            for step in self._steps.values():
                step.scope.cancel()
            self._outcomes = [
                ShutdownOutcome(step.name, step.phase, step.result, step.seconds, step.error)
                for step in self._steps.values()
            ]
            self._is_over.set()
        return list(self._outcomes)

    async def _end(self, steps: list[_Step], latest: float) -> None:
        began = trio.current_time()
        for step in steps:
            step.scope.deadline = min(began + step.timeout, max(latest, began))
            # None waits for another, and none that is stuck is waited for: so they are nobody's
            # children. They never raise.
            trio.lowlevel.spawn_system_task(_carry_out, step, name=f"shutdown of {step.name}")
        for step in steps:
            with trio.move_on_at(step.scope.deadline + GRACE_S):
                await step.ended.wait()
            if not step.ended.is_set():
                step.result, step.seconds = "stuck", trio.current_time() - began
        for step in steps:
            if step.result != "done":
                _log.warning(
                    "shutdown_not_clean", name=step.name, result=step.result, error=step.error
                )


async def _carry_out(step: _Step) -> None:
    began = trio.current_time()
    result: Result = "late"
    try:
        with step.scope:
            await step.handler()
            result = "done"
    except Exception as error:  # noqa: BLE001  (rule 1: it stops nobody else)
        result, step.error = "failed", shown(error)
    finally:
        step.seconds = trio.current_time() - began
        step.result = result
        step.ended.set()
