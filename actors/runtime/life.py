"""One incarnation: its instance, what it owes, and how it comes to its exit.

The state and the synchronous steps, the same for both kinds of actors. `lifecycle.py` drives them
with or without a task, `loop.py` handles messages.

Rule 1: an incarnation has one exit. A crash beats a wish to stop, a kill beats both unless the
crash came first, and the first wish to stop beats the later ones.
Rule 2: only exceptions of user code become exits. What comes out of the runtime's own code,
KeyboardInterrupt, SystemExit and cancellation from outside pass through.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Literal, Never, cast

import trio

from actors.runtime.context import Activity
from actors.runtime.envelope import Envelope
from actors.runtime.handlers import Handler, Table
from actors.runtime.later import Later
from actors.runtime.timers import IdleTimer, Nap, Timer
from actors.runtime.words.errors import ActorCrashed, ActorExited, AskError
from actors.runtime.words.exits import Crashed, Exit, Killed, crash_from, stamped

if TYPE_CHECKING:
    from actors.runtime.actor import AnyActor
    from actors.runtime.cell import Cell
    from actors.runtime.helpers import Helpers
    from actors.runtime.relations import Monitor
    from actors.runtime.words.exits import StartOutcome

Phase = Literal["new", "starting", "running", "ending", "over"]
_NO_TABLE: Final = Table()


class Life:
    """One incarnation of a cell."""

    __slots__ = (
        "activity", "allowed", "aside", "asleep", "began", "behaviour", "cell", "draining",
        "drowsy", "exit", "handlers", "helpers", "idle_timer", "instance", "killed",
        "last_in_hand", "left", "measuring", "monitors", "nap", "number", "nursery", "outcome",
        "owed",
        "pending", "phase", "scope", "since", "stash", "streak", "suspended", "table", "task",
        "timed_out", "timers", "wanted",
    )  # fmt: skip

    def __init__(self, cell: Cell, number: int) -> None:
        self.cell, self.number = cell, number
        self.instance: AnyActor | None = None
        self.table, self.handlers = _NO_TABLE, _NO_TABLE.handlers
        self.activity: Activity = cell.system.dispatcher.activity
        self.phase: Phase = "new"
        # How it will end, as far as that is known.
        self.wanted: Exit | None = cell.pending_stop
        self.killed = self.draining = self.timed_out = False
        self.exit: Exit | None = None
        self.outcome: StartOutcome | None = None
        # Of task actors: the scope for kills, and the task while it is parked between messages.
        self.scope: trio.CancelScope | None = None
        self.task: trio.lowlevel.Task | None = None
        self.nursery: trio.Nursery | None = None
        # Hibernation: asked for; and done, the task is gone until something comes.
        self.drowsy = self.asleep = False
        # Of the loop: messages left in this turn, and before the next look at the
        # clock, the start of the turn, system entries in a row, what is
        # awaited and since when, the message set aside by its own handler.
        self.left = self.allowed = self.streak = 0
        self.began = self.measuring = 0.0
        self.suspended = False
        self.pending: object = None
        self.since: float | None = None
        self.aside: Envelope | None = None
        # Made at first use; most actors never need them.
        self.helpers: Helpers | None = None
        self.owed: dict[Later[Never], None] | None = None
        self.stash: list[Envelope] | None = None
        self.behaviour: Callable[[object], object] | None = None
        self.timers: dict[object, Timer] | None = None
        self.idle_timer: IdleTimer | None = None
        self.nap: Nap | None = None
        self.monitors: set[Monitor] | None = None
        # For the crash report.
        self.last_in_hand: Envelope | None = None

    # Wishes

    def want(self, exit_: Exit, *, drain: bool = False) -> None:
        """Call this to end after the message in hand; the first wish counts."""
        if self.wanted is not None or self.killed:
            self.draining = self.draining and drain
            self.cell.mailbox.call_attention()
            return
        self.wanted, self.draining = exit_, drain
        if drain:
            self.cell.mailbox.close()
        if self.phase == "running":
            self.cell.set_status("stopping", exit_.because)
        self.cell.mailbox.call_attention()

    def abort(self, exit_: Exit) -> None:
        """Call this when a sub-task, link or overflow ends it: a waiting handler is interrupted."""
        if self.killed or self.phase == "over":
            return
        if self.phase == "ending":
            if self.exit is not None and self.exit.clean:
                self.exit = self._stamp(exit_)
            return
        self.wanted, self.draining = exit_, False
        self._interrupt(exit_.because)

    def kill(self, exit_: Killed) -> None:
        """Call this to end it by force; a crash it already ended with stays the exit."""
        self.killed, self.draining = True, False
        self.wanted = exit_
        if self.exit is not None and not isinstance(self.exit, Crashed):
            self.exit = self._stamp(exit_)
        if self.helpers is not None:
            self.helpers.cancel()
        self._interrupt(exit_.because or "killed")

    def start_is_late(self) -> None:
        """Call this when `on_start` has taken too long."""
        self.timed_out = True
        self._interrupt("start_timeout passed")

    def _interrupt(self, because: str | None) -> None:
        if self.scope is not None:
            self.scope.cancel(reason=because)
        self.cell.mailbox.call_attention()

    def wake(self) -> None:
        """Call this when a parked incarnation has something to do."""
        if self.task is not None:
            task, self.task = self.task, None
            self.cell.system.dispatcher.tasks_waiting += 1
            trio.lowlevel.reschedule(task)
        else:
            self.cell.system.dispatcher.enqueue(self.cell)

    # Turns

    def new_turn(self) -> None:
        """Call this before `loop.run` when others have had their turn."""
        self.left = self.cell.budget[0]
        self.allowed = 0
        self.began = 0.0

    def park(self) -> None:
        """Call this when there is nothing to do: the next put, or system entry, wakes it."""
        mailbox = self.cell.mailbox
        mailbox.idle = not self.suspended
        mailbox.system_idle = True
        if self.nap is not None:
            self.nap.parked()
        if self.idle_timer is not None:
            self.idle_timer.parked()

    def unpark(self, _: object) -> trio.lowlevel.Abort:
        """Called by trio when the parked task is cancelled: nobody may wake it a second time."""
        self.task = None
        self.cell.mailbox.idle = self.cell.mailbox.system_idle = False
        return trio.lowlevel.Abort.SUCCEEDED

    def may_sleep(self) -> bool:
        """Whether an idle task actor shall give its task back now."""
        return self.drowsy and (self.helpers is None or not self.helpers.running)

    def fall_asleep(self) -> None:
        """Call this as the last step of a task that is given back."""
        self.drowsy, self.asleep = False, True
        self.activity.task = None
        self.park()

    def new_activity(self) -> Activity:
        """Call this in a task that works for this incarnation alone."""
        return Activity(self.cell, trio.lowlevel.current_task())

    # From start to end

    def adopt(self, instance: AnyActor) -> None:
        """Call this with the new instance, before its `on_start`."""
        self.instance = instance
        cls = type(instance)
        self.table, self.handlers = cls.__table__, cls.__table__.handlers
        instance._life = self
        self.phase = "starting"
        if cls.hibernate_after is not None and self.table.is_task:
            self.nap = Nap(self, cls.hibernate_after)
        self.cell.adopt(cls)

    def end_with(self, exit_: Exit) -> None:
        """Call this when handling is over: the exit is known, the message in hand is settled."""
        if (self.killed and self.wanted is not None) or (
            isinstance(self.wanted, Crashed) and exit_.clean
        ):
            exit_ = self.wanted
        self.phase = "ending"
        self.exit = exit_ = self._stamp(exit_)
        self.cell.set_status("stopping", exit_.because)
        self._settle_in_hand(exit_)
        if not exit_.clean:
            self.fail_owed(exit_)
        # What is left of an actor without task and sub-tasks happens at once: nothing to limit.
        may_take_time = self.table.is_task or self.helpers is not None
        if may_take_time and not isinstance(exit_, Killed):
            self.cell.limit_stop(self.cell.shutdown)

    def _stamp(self, exit_: Exit) -> Exit:
        return stamped(exit_, self.number, trio.current_time())

    def stop_raised(self, error: BaseException) -> None:
        """Call this when `on_stop` raised: that is the exit, the first one its `__context__`."""
        first = self.exit
        crash = crash_from(error)
        if isinstance(first, Crashed) and first.error is not crash.error:
            crash.error.__context__ = first.error
        self.exit = self._stamp(crash)
        self.fail_owed(self.exit)

    def _settle_in_hand(self, exit_: Exit) -> None:
        envelope = self.activity.envelope
        if envelope is None or self.activity.cell is not self.cell:
            return
        self.last_in_hand = envelope
        self.activity.envelope = self.activity.out = None
        if self.aside is envelope:
            self._take_back(envelope)
        if not exit_.clean:
            reason: Literal["killed", "crashed"] = (
                "killed" if isinstance(exit_, Killed) else "crashed"
            )
            self.cell.system.dead_letters.add(self.cell, envelope, reason, exit_)
        reply = envelope[2]
        if reply is not None and not self._is_owed(envelope):
            reply.fail(self._error_for(exit_, envelope))

    def _take_back(self, envelope: Envelope) -> None:
        if self.stash:  # Or back in the mailbox already; it never comes a second time.
            self.stash = [kept for kept in self.stash if kept is not envelope]
        mailbox = self.cell.mailbox
        waiting = mailbox.batch[mailbox.index :]
        mailbox.batch[mailbox.index :] = [kept for kept in waiting if kept is not envelope]

    def _is_owed(self, envelope: Envelope) -> bool:
        return any(later.envelope is envelope for later in self.owed or ())

    def fail_owed(self, exit_: Exit) -> None:
        """Call this when nobody of this incarnation can give the replies it owes."""
        for later in list(self.owed or ()):
            later.fail(self._error_for(exit_, later.envelope))

    def _error_for(self, exit_: Exit, envelope: Envelope) -> AskError:
        kind = type(envelope[0])
        if isinstance(exit_, Crashed):
            return ActorCrashed(self.cell.path, exit_.error, kind)
        return ActorExited(self.cell.path, exit_, kind)

    def release(self, exit_: Exit) -> None:
        """Call this as the last step: everything that belongs to the incarnation is let go."""
        self.phase = "over"
        self.fail_owed(exit_)
        if self.stash:
            self.cell.mailbox.put_back(self.stash)
        for timer in list((self.timers or {}).values()):
            timer.cancel()
        for waiting in (self.idle_timer, self.nap):
            if waiting is not None:
                waiting.cancel()
        for monitor in list(self.monitors or ()):
            monitor.cancel()
        self.stash = self.timers = self.monitors = None
        self.idle_timer = self.nap = None
        for entry in self.cell.mailbox.drop_system():
            entry.drop()

    def stack(self) -> str:
        """Call this to see where a task actor waits, innermost frame last."""
        task = self.activity.task
        if task is None:
            return "(no task)"
        frames = traceback.StackSummary.extract(iter(task.iter_await_frames()))
        return "".join(frames.format())

    def handler_for(self, envelope: Envelope) -> Handler | None:
        """Call this for a class without entry in `handlers`, to make one or find there is none."""
        if self.behaviour is not None:
            behaviour = self.behaviour
            made: Handler = lambda _, message: behaviour(message)  # noqa: E731
        elif self.table.has_receive:
            assert self.instance is not None
            made = cast(Handler, type(self.instance).receive)
        else:
            return None
        self.handlers[type(envelope[0])] = made
        return made
