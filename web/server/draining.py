"""The order in which a server stops, as data: named steps, each with its own time.

`serving.py` closes the listeners and the connections; what stands between (telling streams,
letting commands finish, closing streams) is given by the composition root as `DrainStep`s.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog
import trio

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DrainStep:
    """Holds one step of a shutdown: cut after `limit_s`, the next one follows all the same."""

    name: str
    limit_s: float
    run: Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class DrainResult:
    """Tells what a drain did: seconds for each step, and the names of steps that were cut."""

    seconds: tuple[tuple[str, float], ...]
    cut: tuple[str, ...]

    @property
    def is_clean(self) -> bool:
        """Tell whether every step ended by itself."""
        return not self.cut


async def run_steps(steps: Sequence[DrainStep]) -> DrainResult:
    """Call this to run `steps` in order, one log line each (REL-20).

    A step over its time is cancelled and named in the result; a step that raises is a bug and
    ends the drain.
    """
    seconds: list[tuple[str, float]] = []
    cut: list[str] = []
    for step in steps:
        began = trio.current_time()
        with trio.move_on_after(step.limit_s) as scope:
            await step.run()
        took = trio.current_time() - began
        seconds.append((step.name, took))
        if scope.cancelled_caught:
            cut.append(step.name)
        log.info(
            "server.drain_step",
            step=step.name,
            seconds=round(took, 3),
            was_cut=scope.cancelled_caught,
        )
    return DrainResult(tuple(seconds), tuple(cut))
