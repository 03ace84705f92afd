"""`open_actors`: a system without supervisors, and the keeper, the owner of what is started in it.

Its actors are never restarted; a crash is reported and hurts no other. `supervision.opening` is the
twin for a tree, with the same `running` around it.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Final

import trio

from actors.runtime.delivery.envelope import Inheritance, Party, held_up
from actors.runtime.delivery.ref import AnyRef
from actors.runtime.life.cell import Cell
from actors.runtime.system.making import Maker, class_behind
from actors.runtime.system.reaching import closed, opened
from actors.runtime.system.system import System
from actors.runtime.telling.log import Log
from actors.runtime.watching.watchdog import BLOCK_THRESHOLD_S, Watchdog
from actors.runtime.words.errors import ActorExited, StartError, StartIgnored, StartTimeout
from actors.runtime.words.exits import (
    Crashed,
    Exit,
    Failed,
    Ignored,
    Normal,
    Shutdown,
    StartOutcome,
    lone_interrupt,
)
from actors.runtime.words.places import told_in_place
from actors.runtime.words.showing import redact_text

# Whoever waits for a process to end wants to know what it is waiting for, but not every second.
STACK_LOG_INTERVAL_S: Final = 5.0

_log = Log("actors.keeper")


@asynccontextmanager
async def open_actors(
    *,
    check_replies: bool = False,
    block_threshold: float = BLOCK_THRESHOLD_S,
    development: bool = False,
) -> AsyncIterator[System]:
    """Call this to run actors without supervisors: `async with open_actors() as system`.

    `block_threshold` is after how many seconds a loop that does not turn is reported; 0 for never.
    With `development` the log line of a crash has the whole traceback.
    Leaving it stops every actor, last started first. An error of the body is raised after that;
    cancellation from outside, KeyboardInterrupt, SystemExit and bugs of the runtime end all at
    once, and the first two of these errors leave as they are, in no group.
    """
    system = System(check_replies=check_replies, development=development)
    failure: Exception | None = None
    with BareInterrupts():
        async with running(system, block_threshold=block_threshold), trio.open_nursery() as nursery:
            system.keeper = keeper = Keeper(system, nursery)
            try:
                yield system
            except Exception as error:  # noqa: BLE001 - raised again when the actors have ended
                failure = error
            await keeper.close()
    if failure is not None:
        raise failure


class BareInterrupts:
    """Around nurseries: a lone KeyboardInterrupt or SystemExit leaves them as it is.

    trio wraps what a nursery raises in a group. `except KeyboardInterrupt` around `trio.run` does
    not catch that, and Python ends with code 1 and forty lines where `SystemExit(3)` was meant.
    """

    def __enter__(self) -> None:
        """Nothing happens here."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Raise the interrupt in place of its group."""
        interrupt = lone_interrupt(error)
        if interrupt is None:
            return
        # Raised while its group is handled it would name that as its context, and so itself.
        context = interrupt.__context__
        try:
            raise interrupt
        finally:
            interrupt.__context__ = context


@asynccontextmanager
async def running(
    system: System, *, block_threshold: float = BLOCK_THRESHOLD_S
) -> AsyncIterator[None]:
    """Call this around the owners of a system: its dispatcher and its clock run inside.

    Owners end their actors before they leave it. What is alive then was cancelled from outside;
    `system.close` tells everyone who waits, and dispatcher and clock go last.
    """
    # Under a virtual clock a pause of the loop is the test's own, and threads would disturb it.
    is_real_time = not _is_virtual(trio.lowlevel.current_clock())
    watchdog = _watchdog(system, block_threshold) if block_threshold and is_real_time else None
    inheritance = Inheritance()
    trio.lowlevel.add_instrument(inheritance)
    async with trio.open_nursery() as nursery:
        if watchdog is not None:
            watchdog.start()
        nursery.start_soon(system.wheel.run, name="actors: clock")
        nursery.start_soon(system.dispatcher.run, name="actors: dispatcher")
        if is_real_time:
            # Its sleep would be a reason for a virtual clock to jump.
            nursery.start_soon(system.sweep.run, name="actors: sweep")
        opened(system)
        try:
            yield
            # In good order what the actors have left is seen to in slices, else at once.
            await system.dispatcher.finish_chores()
        finally:
            system.close()
            closed(system)
            with suppress(KeyError):  # trio takes one out itself that was interrupted by Ctrl-C.
                trio.lowlevel.remove_instrument(inheritance)
            if watchdog is not None:
                watchdog.close()
        nursery.cancel_scope.cancel()


def _is_virtual(clock: object) -> bool:
    """Tell whether a clock is one of trio's for tests.

    Whoever made it has imported its module, which a program that runs no test does not need: it
    imports the whole of pytest where that is installed.
    """
    testing = sys.modules.get("trio.testing")
    return testing is not None and isinstance(clock, testing.MockClock)


def _watchdog(system: System, threshold: float) -> Watchdog:
    return Watchdog(
        threshold,
        system.dispatcher,
        lag_us=system.loop_lag_us,
        lag=system.tallies.histogram("loop_lag_seconds"),
        listeners=system.block_listeners,
        publish=system.topics.publish,
    )


class _Start:
    """Somebody parked until a start is over."""

    __slots__ = ("by", "outcome", "task")

    def __init__(self) -> None:
        self.outcome: StartOutcome | None = None
        self.task: trio.lowlevel.Task | None = None
        # Whose handler or hook waits for it: an `on_start` that asks that one would wait for ever.
        self.by: Party | None = None

    def leave(self) -> None:
        """Called when nobody is parked here any more."""
        if self.by is not None:
            self.by.waiting_on = None


class Keeper:
    """The owner of actors started with `system.start`, the smallest there is: it never restarts."""

    def __init__(self, system: System, nursery: trio.Nursery) -> None:
        self._system, self._nursery = system, nursery
        self._children: dict[Cell, None] = {}
        self._starts: dict[Cell, _Start] = {}
        self._is_closing = False

    @property
    def nursery(self) -> trio.Nursery:
        """Where the tasks of incarnations run."""
        return self._nursery

    async def start(
        self, actor: Maker, args: tuple[object, ...], name: str | None = None
    ) -> AnyRef:
        """See `System.start`."""
        cell, runs = await self._start(actor, args, name)
        if not runs:
            raise StartIgnored(cell.path)
        return cell.ref

    async def maybe_start(
        self, actor: Maker, args: tuple[object, ...], name: str | None = None
    ) -> AnyRef | None:
        """See `System.maybe_start`."""
        cell, runs = await self._start(actor, args, name)
        return cell.ref if runs else None

    def begin(self, actor: Maker, args: tuple[object, ...], name: str | None = None) -> AnyRef:
        """See `System.begin`."""
        return self._begin(actor, args, name).ref

    def _begin(self, actor: Maker, args: tuple[object, ...], name: str | None) -> Cell:
        if self._is_closing:
            raise RuntimeError("the system is being closed; nothing was started")
        made = class_behind(actor)
        cls = made if isinstance(made, type) else None
        called = getattr(made, "__name__", None)
        label = called.lower() if type(called) is str else "actor"
        cell = self._system.new_cell(
            self,
            partial(actor, *args),
            key=name or f"{label}-{self._system.next_id()}",
            name=name,
            actor_class=cls,
        )
        self._children[cell] = None
        cell.begin_incarnation()
        return cell

    async def _start(
        self, actor: Maker, args: tuple[object, ...], name: str | None
    ) -> tuple[Cell, bool]:
        """Start it, wait, and say whether it runs; raises when its start has failed."""
        cell = self._begin(actor, args, name)
        start = self._starts[cell] = _Start()
        start.task = trio.lowlevel.current_task()
        start.by = held_up()
        if start.by is not None:
            start.by.waiting_on = cell

        def abort(_: object) -> trio.lowlevel.Abort:
            # Nobody is told of the ref: what was begun must not go on behind the caller's back.
            self._starts.pop(cell, None)
            start.leave()
            cell.kill()
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)
        outcome = start.outcome
        if isinstance(outcome, Failed):
            if isinstance(outcome.error, StartTimeout):
                raise outcome.error
            raise StartError(cell.path, outcome.error)
        return cell, not isinstance(outcome, Ignored)

    # What the cells report (it is their `Owner`)

    def child_started(self, cell: Cell, outcome: StartOutcome) -> None:
        """Called when a start is over."""
        if isinstance(outcome, Failed):
            self._bury(cell, Crashed(outcome.error))
        elif isinstance(outcome, Ignored):
            self._bury(cell, Normal(because="it chose not to run"))
        start = self._starts.pop(cell, None)
        if start is not None:
            start.outcome = outcome
            start.leave()
            assert start.task is not None
            trio.lowlevel.reschedule(start.task)
        elif isinstance(outcome, Failed) and not isinstance(outcome.error, ActorExited):
            # Begun without waiting, or its caller was cancelled meanwhile: only the log can tell.
            error = redact_text(told_in_place(outcome.error))
            _log.error("actor_did_not_start", path=cell.path, error=error)

    def child_exited(self, cell: Cell, exit_: Exit) -> None:
        """Called when an actor has ended: it is not started again."""
        self._bury(cell, exit_)

    def child_unkillable(self, cell: Cell, stack: str) -> None:
        """Called when a kill does not work."""
        _log.error("actor_unkillable", path=cell.path, stack=stack)

    def child_wanted(self, cell: Cell) -> None:
        """Never called: no cell is left dormant here."""

    def child_unwanted(self, cell: Cell, exit_: Exit) -> None:
        """Never called: nobody waits for a restart here."""

    def _bury(self, cell: Cell, exit_: Exit) -> None:
        self._children.pop(cell, None)
        cell.retire(exit_)

    async def close(self) -> None:
        """Called when the body is over: stops all actors, last started first, one after another."""
        self._is_closing = True
        # One after another, looked up anew each time: others may end meanwhile. None can come,
        # `_begin` refuses, so this ends.
        while self._children:
            cell = next(reversed(self._children))
            cell.request_stop(Shutdown(because="the system is being closed"))
            await self._wait_for(cell)

    async def _wait_for(self, cell: Cell) -> None:
        end = partial(self._system.wait_down, cell.ref, final=True)
        await wait_and_tell(end, lambda: [cell], STACK_LOG_INTERVAL_S + cell.shutdown)


async def wait_and_tell(
    end: Callable[[], Awaitable[object]],
    held_up_by: Callable[[], Iterable[Cell]],
    every: float = STACK_LOG_INTERVAL_S,
) -> None:
    """Call this to wait for an end that may never come, and log now and then where it hangs."""
    while True:
        with trio.move_on_after(every):
            await end()
            return
        for cell in held_up_by():
            if cell.life is not None:
                _log.warning("still_waiting_for", path=cell.path, stack=cell.life.stack())
