"""One task that gives turns to all actors without a task of their own, first come first served.

It also sees to fairness between actors: nobody gets two turns in a row while others wait. And it
does the chores of the runtime, whatever may be long and nobody waits for in its own task: the
messages an ended actor has left, those who watch it. They go in slices between the turns.

Rule 1: code of an actor runs in the `context` of its incarnation, whoever's task it runs in: what
it sets in context variables reaches nobody else (a turn of 1.5 us costs 0.04 us more for it).
"""

from __future__ import annotations

import contextvars
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NoReturn, Protocol

import trio

from actors.runtime.delivery.envelope import Envelope, SharedActivity, current_activity
from actors.runtime.delivery.mailbox import AWAITS_TURN, AWAKE, Mailbox

# Other tasks of the process (sockets, task actors) wait at most this long for the dispatcher,
# unless a single handler takes longer.
ROUND_S: Final = 0.001
# The clock is read once in so many turns or more often: a turn may be as short as a microsecond.
TURNS_PER_LOOK: Final = 16
# So many steps of a chore at most between two rounds, a few microseconds each, and for so long.
# ACT-29 allows 5 ms for all that is done in one turn of the loop.
CHORE_STEPS: Final = 256
CHORE_S: Final = 0.001
# As many steps as one counts that wakes a task: that runs in the same turn of the loop, and takes
# ten times as long. What a step counts is what the chore yields; None is 1.
WAKES_TASK: Final = 4
# With the one that goes through the queue then, as many as an actor handles messages in a turn.
AT_ONCE_MAX: Final = 63
# The same for sends that find room: the one behind them lets others run.
SENDS_AT_ONCE_MAX: Final = 63


class Driven(Protocol):
    """A life, as far as it decides who drives it."""

    @property
    def has_task(self) -> bool:
        """Whether it runs in a task of its own."""

    @property
    def context(self) -> contextvars.Context:
        """Where its code runs, and what its task is started with."""


class Turning(Protocol):
    """An actor, as far as it is given turns."""

    @property
    def path(self) -> str: ...
    @property
    def mailbox(self) -> Mailbox: ...
    @property
    def life(self) -> Driven | None: ...


class Dispatcher:
    """The run queue; `enqueue` an actor to give it a turn, `run` is the task.

    `turn` gives one turn, and says whether another is wanted. `clock` is real time; `shuffle` is
    what a simulation does with the queue before a round.
    """

    def __init__(
        self,
        turn: Callable[[Turning], bool],
        clock: Callable[[], float],
        shuffle: Callable[[deque[Turning]], None] | None,
    ) -> None:
        self._turn = turn
        self._clock, self._shuffle = clock, shuffle
        # Of all dispatched actors, one after another: `cell` is set while code of one of them runs.
        self.activity = SharedActivity()
        # What every incarnation begins with, as a copy: the variables of whoever opened the
        # system, not of whoever happens to start an actor later.
        self.clean = contextvars.copy_context()
        self.clean.run(current_activity.set, self.activity)
        self._queue: deque[Turning] = deque()
        self._parked: trio.lowlevel.Task | None = None
        self._at_once_left = AT_ONCE_MAX
        self._sends_left = SENDS_AT_ONCE_MAX
        self._chores: deque[Iterator[object]] = deque()
        # Task actors that have been woken, or have given way, and have not run since.
        self.tasks_waiting = 0
        # Who had the last turn, dispatched or in a task of its own.
        self.last: Turning | None = None

    @property
    def is_simulated(self) -> bool:
        """Whether runs have to be repeatable: nothing may depend on what memory looks like."""
        return self._shuffle is not None

    @property
    def run_queue(self) -> int:
        """How many actors wait for a turn."""
        return len(self._queue)

    def enqueue(self, cell: Turning) -> None:
        """Called when an actor is woken; it must not be in the queue already."""
        self._queue.append(cell)
        if self._parked is not None:
            task, self._parked = self._parked, None
            trio.lowlevel.reschedule(task)

    def enqueue_all(self, cells: Iterable[Turning]) -> None:
        """The same for many, with one wake of the dispatcher; none may be queued yet."""
        self._queue.extend(cells)
        if self._parked is not None:
            task, self._parked = self._parked, None
            trio.lowlevel.reschedule(task)

    def do_in_slices(self, steps: Iterator[object]) -> None:
        """Called with a chore: a bit of it is done after each round, by turns with others.

        It yields what a step counts (`WAKES_TASK`), or whatever else counts one.
        """
        self._chores.append(steps)
        self.enqueue_all(())

    async def finish_chores(self) -> None:
        """Called before a system is closed in good order: returns when nothing is left to do."""
        while self._chores:
            await trio.lowlevel.checkpoint()

    def finish_chores_now(self) -> None:
        """Called when a system ends, in good order or not: nobody gets a turn any more."""
        while self._chores:
            # Left in its place: what it does may bring the next one.
            for _ in self._chores[0]:
                pass
            self._chores.popleft()

    def _do_chores(self) -> None:
        chores, until, left = self._chores, self._clock() + CHORE_S, CHORE_STEPS
        while left > 0 and self._clock() <= until:
            step = next(chores[0], self)
            if step is self:
                chores.popleft()
                if not chores:
                    return
            left -= step if type(step) is int else 1
        chores.rotate(-1)

    def can_serve(self, cell: Turning) -> bool:
        """Whether an ask of `cell` may be served at once, in the task of its asker.

        That saves two rounds of the scheduler, most of what an ask costs. Only while nobody waits
        for a turn, so that nobody is overtaken, and not for ever, so that tasks get theirs.
        """
        if self._parked is None or self._at_once_left == 0 or self._shuffle is not None:
            self._at_once_left = AT_ONCE_MAX
            return False
        return cell.mailbox.idle == AWAITS_TURN

    def may_go_on(self) -> bool:
        """Whether a send that need not wait may do without letting others run.

        Counted for all tasks together: one that never lets others run is alone in that.
        """
        if self._sends_left == 0:
            self._sends_left = SENDS_AT_ONCE_MAX
            return False
        self._sends_left -= 1
        return True

    def serve(self, cell: Turning, envelope: Envelope) -> None:
        """Called when `can_serve`: the actor handles `envelope` now."""
        self._at_once_left -= 1
        mailbox = cell.mailbox
        mailbox.idle, mailbox.system_idle = AWAKE, False
        mailbox.offer(envelope, None)
        self.last = cell
        life = cell.life
        assert life is not None
        if life.context.run(self._turn, cell):
            self.enqueue(cell)

    async def run(self) -> NoReturn:
        """Called once, in a task of the system; it ends by cancellation."""
        self.activity.task = trio.lowlevel.current_task()
        current_activity.set(self.activity)
        queue = self._queue
        while True:
            if not queue and not self._chores:
                self._parked = trio.lowlevel.current_task()
                await trio.lowlevel.wait_task_rescheduled(self._abort)
            else:
                await trio.lowlevel.checkpoint()
                if self.tasks_waiting and queue and queue[0] is self.last:
                    # It ran last, before others that are waiting in their tasks.
                    await trio.lowlevel.checkpoint()
            if queue:
                self._round()
                if self._chores:
                    # In a turn of their own: either may take all the time that one is allowed.
                    await trio.lowlevel.checkpoint()
            if self._chores:
                self._do_chores()

    async def let_others_run(self, cell: Turning) -> None:
        """Called in the task of an actor that has used up its budget."""
        self.last = cell
        self.tasks_waiting += 1
        try:
            await trio.lowlevel.checkpoint()
            if self.last is cell:
                # trio's order within a round is random: without this it could be first again,
                # also before tasks that nobody here knows of, an asker's for one.
                await trio.lowlevel.checkpoint()
        finally:
            self.tasks_waiting -= 1

    def _round(self) -> None:
        queue, turn = self._queue, self._turn
        if self._shuffle is not None:
            self._shuffle(queue)
        until, look = self._clock() + ROUND_S, 1
        for turns in range(1, len(queue) + 1):
            cell = queue.popleft()
            self.last = cell
            life = cell.life
            # None: it ended while it waited for this turn.
            if life is not None and life.context.run(turn, cell):
                queue.append(cell)
            if turns == look:
                if self._clock() > until:
                    return
                # After 1, 2, 4, 8 and so on: crashes in a row take a hundred times a quick turn.
                look += min(turns, TURNS_PER_LOOK)

    def _abort(self, _: object) -> trio.lowlevel.Abort:
        self._parked = None
        return trio.lowlevel.Abort.SUCCEEDED
