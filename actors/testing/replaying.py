"""Faults put in again at the places where a trace has them, whoever put them in then.

A place is told by what had happened (`trace.Place`). In the same scenario all of it comes again,
and the scenario's own call is made at that very place: it is let through, nothing else is done, and
the trace has the same bytes. In a scenario that was changed, and does not call any more, the fault
is put in as soon as its place is about to be left:

- the task step it was in is over, or goes on to its next line
- its actor is about to begin the next message
- nothing is left to do at that time, and the clock is about to move on

A call of the scenario at another place than the recorded one is left out.

Rule 1: watching for a place changes nothing; no task, no alarm, no message is made for it.
Rule 2: of one actor, faults are put in in order; `heal` comes behind all that were before it.
Rule 3: a fault whose place never comes is an error, never a run that passes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import trio
import trio.testing

from actors.testing.trace import STEPS, Fault, Place, Trace

# Written in the middle of what they tell: nothing may be done to the actor then.
_CHANGES = frozenset({"status", "ended"})
# Sums of times are not exact; no two timers of a scenario are this close and mean to differ.
_CLOSE_S = 1e-9


class PlaceNeverCame(Exception):
    """A replay has ended, and these `faults` of its trace were not put in.

    The scenario was changed so much that their actors did not come that far. Record a new trace,
    or replay with the scenario as it was.
    """

    def __init__(self, faults: list[Fault], trace: Trace) -> None:
        told = "; ".join(
            f"{fault} belongs behind step {fault.place.steps} of its actor, which came to step "
            f"{trace.steps(fault.path)}, at {fault.place.at:g} s"
            for fault in faults
        )
        super().__init__(f"the replay ended before the place of {len(faults)} faults came: {told}")
        self.faults = faults


class Turns(trio.abc.Instrument):
    """Counts the steps of tasks, and knows which was the first at this virtual time."""

    def __init__(self, clock: trio.testing.MockClock, trace: Trace) -> None:
        self._clock, self._trace = clock, trace
        self._now = clock.current_time()
        self._first = self._lines_before = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Called by trio."""
        self._trace.turn += 1
        self._lines_before = len(self._trace)

    def after_io_wait(self, timeout: float) -> None:
        """Called by trio; time moves only between two of these."""
        now = self._clock.current_time()
        if now != self._now:
            self._now, self._first = now, self._trace.turn

    def place(self, path: str) -> Place:
        """Call this to get where the run is, for a fault of the actor at `path`."""
        trace = self._trace
        turn = trace.turn - max(self._first, trace.turn_of(path))
        lines = len(trace) - self._lines_before
        return Place(trace.steps(path), self._clock.current_time(), turn, lines)


class Replay(Turns):
    """Call `claims` for each fault the scenario calls; the others are put in by `put_in`."""

    def __init__(
        self,
        clock: trio.testing.MockClock,
        trace: Trace,
        faults: list[Fault],
        put_in: Callable[[Fault], None],
    ) -> None:
        super().__init__(clock, trace)
        self._left, self._put_in = list(faults), put_in
        # Their actor has changed, and nothing could be done to it then: at the end of this step.
        self._overdue: list[Fault] = []
        self._busy = False
        # What this raises would be logged and forgotten by trio.
        self.failure: Exception | None = None
        trace.listener = self.line_comes

    def claims(self, name: str, arguments: tuple[object, ...]) -> bool:
        """Whether the trace has a fault like this here; it is not put in a second time."""
        for fault in self._next():
            if (fault.name, fault.arguments) == (name, arguments) and fault.place == self.place(
                fault.path
            ):
                self._left.remove(fault)
                return True
        return False

    def missed(self, *, closing: bool) -> list[Fault]:
        """Call this when the scenario is over, and when all is: what should have come by now."""
        return [fault for fault in self._left if closing or not fault.closing]

    def line_comes(self, kind: str, path: str) -> None:
        """Called before each line of the trace."""
        for fault in self._next():
            here, place = self.place(fault.path), fault.place
            leaves_actor = path == fault.path and kind in STEPS and here.steps >= place.steps
            leaves_line = (here.at, here.turn) == (place.at, place.turn) and (
                here.steps >= place.steps and here.lines >= place.lines
            )
            if path == fault.path and kind in _CHANGES:
                if leaves_actor:
                    self._overdue.append(fault)
            elif leaves_actor or leaves_line:
                self._act(fault)

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Called by trio."""
        if not self._left:
            return
        for fault in self._next():
            here, place = self.place(fault.path), fault.place
            is_due = here.steps >= place.steps and (here.at, here.turn) >= (place.at, place.turn)
            if is_due or fault in self._overdue:
                self._act(fault)

    def before_io_wait(self, timeout: float) -> None:
        """Called by trio before it looks for something to do, or moves the clock."""
        if not self._left or not self._is_idle():
            return
        now = self._clock.current_time()
        reached = [
            fault for fault in self._next() if self._trace.steps(fault.path) >= fault.place.steps
        ]
        if not reached:
            return
        at = min(fault.place.at for fault in reached)
        if at > now:
            if at - now >= trio.lowlevel.current_statistics().seconds_to_next_deadline - _CLOSE_S:
                return  # Something of the scenario happens before, or then.
            self._clock.jump(at - now)
            self.after_io_wait(0.0)
        for fault in reached:
            if fault.place.at <= at:
                self._act(fault)

    def _next(self) -> Iterator[Fault]:
        """The faults that may be put in now, by rule 2."""
        if self._busy:
            return
        behind: set[str] = set()
        for fault in list(self._left):
            if fault.name == "heal" and behind:
                return
            if fault.path not in behind:
                yield fault
            if fault in self._left:
                behind.add(fault.path)
                if fault.name == "heal":
                    return

    def _act(self, fault: Fault) -> None:
        self._left.remove(fault)
        self._busy = True
        try:
            self._put_in(fault)
        except Exception as error:  # noqa: BLE001 - told when the run is over
            self.failure = self.failure or error
        finally:
            self._busy = False

    def _is_idle(self) -> bool:
        """Whether nothing happens any more at this time."""
        figures = trio.lowlevel.current_statistics()
        if figures.tasks_runnable or figures.run_sync_soon_queue_size:
            return False
        if figures.seconds_to_next_deadline <= _CLOSE_S:
            return False  # The clock has been moved, and nobody has been woken yet.
        return not any(map(_waits_for_idleness, _tasks()))


def _tasks() -> Iterator[trio.lowlevel.Task]:
    root = trio.lowlevel.current_root_task()
    left = [] if root is None else [root]
    while left:
        task = left.pop()
        yield task
        left.extend(child for nursery in task.child_nurseries for child in nursery.child_tasks)


def _waits_for_idleness(task: trio.lowlevel.Task) -> bool:
    """Whether it stands in `wait_all_tasks_blocked`: trio wakes it before it moves the clock."""
    code = trio.testing.wait_all_tasks_blocked.__code__
    return any(frame.f_code is code for frame, _ in task.iter_await_frames())
