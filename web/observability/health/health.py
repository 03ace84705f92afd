"""Who runs the checks: all at once, seldom, and none twice at a time.

Rule 1: checks run in the actor `HealthActor`, not in the request that asked: who asks may go at
any time, and what hangs holds nobody up.
Rule 2: those who ask meanwhile share one round, and its report counts for a second.
Rule 3: a check that has not come back is not started again, and its component is unhealthy.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextvars import Context, copy_context
from datetime import datetime
from functools import partial
from typing import Never, TypeAlias

import trio

from actors.runtime import Actor, Exit, Log
from web.observability.health.words import (
    Checked,
    Component,
    Finding,
    HealthReport,
    unhealthy,
)

log = Log(__name__)

# WEB-20: a check that takes longer is an answer too.
CHECK_S_MAX = 5.0
# Probes of several machines come together; the database is asked once a second at most.
KEPT_S = 1.0

_FAILED = unhealthy("the check failed")
_LATE = unhealthy(f"took longer than {CHECK_S_MAX:g} s")
_NOT_RUN = unhealthy("the checks do not run")


# Runs a task beside the messages of an actor, as `Actor.start_soon`; RuntimeError when it is over.
StartSoon: TypeAlias = Callable[[Callable[[], Awaitable[object]]], object]


class _Round:
    """All checks once: what is found so far, and who is waited for."""

    def __init__(self, doubts: int) -> None:
        self.doubts = doubts
        self.began = trio.current_time()
        self.found: dict[str, Checked] = {}
        self.awaited: set[str] = set()
        self.all_found = trio.Event()
        # Set when the report is there, or never will be: the actor that ran it is gone.
        self.done = trio.Event()
        self.report: HealthReport | None = None

    def note(self, name: str, checked: Checked) -> None:
        self.found[name] = checked
        self.awaited.discard(name)
        if not self.awaited:
            self.all_found.set()


class Health:
    """The components of a program, and how they were found a moment ago.

    It is made once and outlives the incarnations of the `HealthActor` that runs its checks; `now`
    is the clock of `checked_at`. Raises ValueError for two components of one name.
    """

    def __init__(
        self,
        components: Iterable[Component],
        now: Callable[[], datetime],
        is_draining: Callable[[], bool] = lambda: False,
    ) -> None:
        self._components: dict[str, Component] = {}
        for one in components:
            if one.name in self._components:
                raise ValueError(f"two components are called {one.name!r}")
            self._components[one.name] = one
        self._now, self._is_draining = now, is_draining
        self._kept: tuple[float, HealthReport] | None = None
        self._round: _Round | None = None
        # Checks that were begun and have not come back, and since when.
        self._under_way: dict[str, float] = {}
        self._runner: tuple[StartSoon, Context] | None = None
        self._has_started = False
        self._doubts = 0

    def __repr__(self) -> str:
        status = "not asked" if self._kept is None else self._kept[1].status
        return f"<Health of {len(self._components)} components: {status}>"

    async def report(self) -> HealthReport:
        """Call this to get a report at most a second old; while draining none is made.

        It takes 5 s at most, twice as long when something was doubted meanwhile. Cancelling it
        leaves the checks to whoever else waits for them.
        """
        doubts = self._doubts
        while not self._is_draining():
            kept = self._kept
            if kept is not None and trio.current_time() - kept[0] <= KEPT_S:
                return kept[1]
            round_ = self._round or self._begin()
            if round_ is not None:
                await round_.done.wait()
            if round_ is None or round_.report is None:
                return self._not_run()
            # One that began before the doubt may not have seen what it was about.
            if round_.doubts >= doubts:
                return round_.report
        return HealthReport({}, is_draining=True)

    async def has_started(self) -> bool:
        """Call this to learn whether all of it ever served; from then on it is so for good.

        Until then each call looks anew, as `report` does. What was started and broke since is for
        `report` to tell.
        """
        if not self._has_started:
            await self.report()
        return self._has_started

    def doubt(self) -> None:
        """Call this when something could not be served: the next report is a fresh one."""
        self._kept = None
        self._doubts += 1

    def attach(self, start_soon: StartSoon | None) -> None:
        """Called by the actor that runs the checks: where it begins them, None when it ends."""
        # In its own context: a check is not part of the request that asked.
        self._runner = None if start_soon is None else (start_soon, copy_context())

    def _begin(self) -> _Round | None:
        if self._runner is None:
            return None
        start_soon, context = self._runner
        round_ = _Round(self._doubts)
        try:
            context.run(start_soon, partial(self._run, round_))
        except RuntimeError:
            return None  # the actor has ended, and the next one has not begun
        self._round = round_
        return round_

    async def _run(self, round_: _Round) -> None:
        try:
            if not self._start_checks(round_):
                return
            with trio.move_on_after(CHECK_S_MAX):
                await round_.all_found.wait()
            report = self._report_of(round_)
            self._has_started = self._has_started or report.has_started
            round_.report = report
            # Dated when it was made: who waited for a slow one is given its result too. Not kept
            # when something failed meanwhile, which it may not have seen.
            if self._doubts == round_.doubts:
                self._kept = (trio.current_time(), report)
        finally:
            self._round = None
            round_.done.set()

    def _start_checks(self, round_: _Round) -> bool:
        """Begin all that are not under way; False when the actor has ended meanwhile."""
        if self._runner is None:
            return False
        start_soon, _ = self._runner
        to_wait_for: list[tuple[str, Awaitable[Finding]]] = []
        for name, component in self._components.items():
            if name in self._under_way:
                continue
            try:
                found = component.check()
            except Exception:
                log.exception("health.check_failed", component=name)
                found = _FAILED
            if isinstance(found, Awaitable):
                to_wait_for.append((name, found))
                round_.awaited.add(name)
            else:
                round_.found[name] = self._checked(name, found, round_.began)
        if not to_wait_for:
            round_.all_found.set()
        for at, (name, check) in enumerate(to_wait_for):
            try:
                start_soon(partial(self._one, name, check, round_))
            except RuntimeError:
                for _, unbegun in to_wait_for[at:]:
                    if isinstance(unbegun, Coroutine):
                        unbegun.close()
                return False
            self._under_way[name] = round_.began
        return True

    async def _one(self, name: str, check: Awaitable[Finding], round_: _Round) -> None:
        found = _LATE
        try:
            with trio.move_on_after(CHECK_S_MAX):
                found = await check
        except Exception:
            # A check with a bug is no sign of health; its cause belongs into the log only.
            log.exception("health.check_failed", component=name)
            found = _FAILED
        finally:
            del self._under_way[name]
        round_.note(name, self._checked(name, found, round_.began))

    def _checked(self, name: str, found: object, began: float) -> Checked:
        if not isinstance(found, Finding):
            log.error("health.no_finding", component=name, kind=type(found).__name__)
            found = _FAILED
        return Checked(found, self._now(), (trio.current_time() - began) * 1000)

    def _report_of(self, round_: _Round) -> HealthReport:
        found = {
            name: round_.found.get(name) or self._overdue(name, round_) for name in self._components
        }
        return HealthReport(found, (trio.current_time() - round_.began) * 1000)

    def _overdue(self, name: str, round_: _Round) -> Checked:
        since = self._under_way.get(name, round_.began)
        seconds = trio.current_time() - since
        hangs = unhealthy(f"its check has not come back for {seconds:.0f} s")
        return Checked(_LATE if since == round_.began else hangs, self._now(), seconds * 1000)

    def _not_run(self) -> HealthReport:
        return HealthReport(
            {name: Checked(_NOT_RUN, self._now(), 0.0) for name in self._components}
        )


class HealthActor(Actor[Never]):
    """Runs the checks of a `Health` as its child tasks; stands before the server in the tree.

    It takes no messages: who asks has the `Health` itself. A check that cannot be cancelled holds
    up its stop, which the supervisor then tells as of any other actor.
    """

    def __init__(self, health: Health) -> None:
        self._health = health

    def on_start(self) -> None:
        """Take over the checks."""
        self._health.attach(self.start_soon)

    def on_stop(self, exit: Exit) -> None:  # noqa: A002  (the runtime's word)
        """Let nobody begin a round that would be cut."""
        self._health.attach(None)
