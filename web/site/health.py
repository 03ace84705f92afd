"""Whether the site can serve: named checks, run in parallel, each with a time limit.

Components tell what is wrong in a few fixed words, never a host, a user or a secret.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import trio

from actors.runtime import Log

log = Log(__name__)

# WEB-20: a check that takes longer is an answer too.
CHECK_S_MAX = 5.0
# Probes of several machines come together; the database is asked once a second at most.
KEPT_S = 1.0

_WORST_FIRST = ("unhealthy", "degraded")


class Unhealthy(Exception):
    """Raised by a check; its text is shown to whoever asks."""


class Degraded(Exception):
    """Raised by a check of something that serves, but not as it should; it stays ready."""


Check = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Component:
    """What a check found. `error` is None for a healthy one."""

    error: str | None
    duration_ms: float
    is_degraded: bool = False

    @property
    def is_healthy(self) -> bool:
        """Call this to learn whether it serves; a degraded one does."""
        return self.error is None or self.is_degraded

    @property
    def status(self) -> str:
        """Call this to get the status word."""
        if self.is_degraded:
            return "degraded"
        return "healthy" if self.is_healthy else "unhealthy"

    def to_json(self) -> dict[str, object]:
        """Call this to get the component as the health page shows it."""
        shown: dict[str, object] = {
            "healthy": self.is_healthy,
            "status": self.status,
            "duration_ms": round(self.duration_ms, 3),
        }
        if self.error is not None:
            shown["error"] = self.error
        return shown


@dataclass(frozen=True, slots=True)
class HealthReport:
    """All components at one moment."""

    components: Mapping[str, Component]
    duration_ms: float
    is_draining: bool = False

    @property
    def is_ready(self) -> bool:
        """Call this to learn whether requests should be sent here."""
        healthy = all(component.is_healthy for component in self.components.values())
        return healthy and not self.is_draining

    @property
    def status(self) -> str:
        """Call this to get the worst status of all components."""
        found = {component.status for component in self.components.values()}
        return next((word for word in _WORST_FIRST if word in found), "healthy")

    def to_public_json(self) -> dict[str, object]:
        """Call this to get the answer of `/ready` for anybody: whether, and not why."""
        return {"ready": self.is_ready, "status": "draining" if self.is_draining else self.status}

    def to_json(self) -> dict[str, object]:
        """Call this to get the answer of `/ready` for an operator, with every component."""
        if self.is_draining:
            return {"ready": False, "status": "draining"}
        return {
            "ready": self.is_ready,
            "status": self.status,
            "duration_ms": round(self.duration_ms, 3),
            "components": {name: found.to_json() for name, found in self.components.items()},
        }


class Health:
    """Runs the checks of the site; many callers at once share one run."""

    def __init__(self, checks: Mapping[str, Check], is_draining: Callable[[], bool]) -> None:
        self._checks, self._is_draining = checks, is_draining
        self._kept: tuple[float, HealthReport] | None = None
        self._running = trio.Lock()
        self._has_started = False
        self._doubts = 0

    async def report(self) -> HealthReport:
        """Call this to get a report at most a second old; while draining none is made."""
        if self._is_draining():
            return HealthReport({}, 0.0, is_draining=True)
        report = await self._report()
        self._has_started = self._has_started or report.is_ready
        return report

    async def has_started(self) -> bool:
        """Call this to learn whether all of it was ever ready; from then on it is so for good.

        Until then each call looks anew, as `report` does: at the store with its schema, and at the
        actors. What was started and broke since is for `report` to tell.
        """
        return self._has_started or (await self.report()).is_ready

    async def _report(self) -> HealthReport:
        async with self._running:
            if self._kept is None or trio.current_time() - self._kept[0] > KEPT_S:
                doubts = self._doubts
                report = await self._run()
                # Dated when it was made: who waited for a slow run is given its result too. Not
                # kept when something failed meanwhile, which it may not have seen.
                if self._doubts == doubts:
                    self._kept = (trio.current_time(), report)
                return report
            return self._kept[1]

    def doubt(self) -> None:
        """Call this when something could not be served: the next report is a fresh one."""
        self._kept = None
        self._doubts += 1

    async def _run(self) -> HealthReport:
        began = trio.current_time()
        found: dict[str, Component] = {}
        async with trio.open_nursery() as nursery:
            for name, check in self._checks.items():
                nursery.start_soon(self._one, name, check, found)
        ordered = {name: found[name] for name in self._checks}
        return HealthReport(ordered, (trio.current_time() - began) * 1000)

    @staticmethod
    async def _one(name: str, check: Check, found: dict[str, Component]) -> None:
        began = trio.current_time()
        error: str | None = "took too long"
        is_degraded = False
        with trio.move_on_after(CHECK_S_MAX):
            try:
                await check()
                error = None
            except Unhealthy as problem:
                error = str(problem)
            except Degraded as problem:
                error, is_degraded = str(problem), True
            except Exception:
                # A check with a bug is no sign of health; its cause belongs into the log only.
                log.exception("health.check_failed", component=name)
                error = "the check failed"
        took_ms = (trio.current_time() - began) * 1000
        found[name] = Component(error, took_ms, is_degraded)
