"""How you hold an actor: tell, send, ask, stop, kill.

A ref belongs to the actor, not to an incarnation: it works across restarts, and is dead for ever
once the actor is gone for good, also when another one takes the name.

`tell` and `ask` are the two hot roads: a tell puts an envelope into a list and wakes whoever is
parked; an ask is a tell with a `Reply` in its envelope, whose task parks until that is settled.
"""

from __future__ import annotations

import math
from threading import get_ident
from time import perf_counter
from typing import Final, Generic, Never, Protocol, Self, TypeAlias, TypeVar, cast

import trio

from actors.runtime.delivery.clock import Wheel
from actors.runtime.delivery.dispatcher import Dispatcher, Turning
from actors.runtime.delivery.envelope import (
    DEADLINE,
    NO_DEADLINE,
    OUTSIDE,
    Activity,
    Asked,
    Context,
    Envelope,
    Numbering,
    Party,
    Reply,
    Several,
    current_activity,
    edge,
)
from actors.runtime.delivery.mailbox import AWAKE, Mailbox
from actors.runtime.words.errors import AskTimeout, DeadlockError, MailboxFull, StopTimeout
from actors.runtime.words.exits import Exit, Killed, Normal, asked_by, checked_exit
from actors.runtime.words.messages import Ask

M_contra = TypeVar("M_contra", contravariant=True)
R = TypeVar("R")

# Longer than any healthy handler, shorter than a person's patience.
ASK_TIMEOUT_S: Final = 5.0
STOP_TIMEOUT_S: Final = 5.0
_NORMAL: Final = Normal()


class Ref(Generic[M_contra]):
    """The handle of one actor that takes messages of type M; hashable, equal by actor."""

    __slots__ = ("_cell",)

    # The class of whoever gets the messages, where that is not the actor itself.
    _stands_for: type | None = None

    def __init__(self, cell: Target) -> None:
        self._cell = cell

    def __deepcopy__(self, _: object) -> Self:
        return self  # A copy of an actor's state holds the same actors.

    def __repr__(self) -> str:
        return f"<Ref {self.path}#{self._cell.id} {self._cell.status}>"

    @property
    def path(self) -> str:
        """The names from the root, joined by `/`."""
        return self._cell.path

    @property
    def id(self) -> int:
        """The number of the actor, never used twice in a system."""
        return self._cell.id

    def tell(self, message: M_contra, *, deadline: float = NO_DEADLINE) -> None:
        """Call this to pass a message on and forget it; never waits, never fails.

        What cannot be delivered is a dead letter. `deadline` is an absolute time after which
        the message shall not be handled any more; ValueError when it is no time. Off the trio
        thread: RuntimeError.
        """
        if deadline is not NO_DEADLINE:
            deadline = checked_deadline(deadline)
        cell = self._cell
        system = cell.system
        if get_ident() != system.thread_id:
            raise off_thread("tell")
        activity = current_activity.get()
        # `activity.out` is there from the second send of a handler on; then nothing is called.
        context = edge.get() if activity is OUTSIDE else activity.out or activity.sending()
        mailbox = cell.mailbox
        message_id = system.next_id()
        timed = mailbox.timed
        # Written out, as in `make_envelope`: a call more here is a tenth of what a tell costs.
        enqueued_at = perf_counter() if timed and not message_id % timed else 0.0
        envelope: Envelope = (message, message_id, None, deadline, enqueued_at, context)
        inbox = mailbox.inbox
        if len(inbox) >= mailbox.limit:
            mailbox.put(envelope)
            return
        # `Mailbox.put` written out: below the limit nothing has to be looked at.
        inbox.append(envelope)
        if mailbox.idle:
            mailbox.idle, mailbox.system_idle = AWAKE, False
            cell.wake()

    def _target(self, message: M_contra) -> Target:
        """Who gets `message`; another kind of ref may choose by it."""
        return self._cell

    async def send(
        self, message: M_contra, timeout: float | None = None, *, deadline: float = NO_DEADLINE
    ) -> None:
        """Call this to deliver a message, waiting for room.

        It notices cancellation always, and lets other tasks run when it has to wait, and else at
        every 64th send. Raises MailboxFull when no room came within `timeout` seconds (None: waits
        for ever), NoProc when the actor is gone, and DeadlockError, as an ask, when a handler or
        hook would wait for an actor that waits for it. Whatever is raised, and cancelled, nothing
        was delivered.
        """
        cell = self._cell
        check_thread(cell, "send")
        limit = checked_timeout(timeout)
        if deadline is not NO_DEADLINE:
            deadline = checked_deadline(deadline)
        # Before anything is looked at: nothing is delivered when this raises, and nobody runs
        # between what is seen below and what is done about it.
        if cell.system.dispatcher.may_go_on():
            await trio.lowlevel.checkpoint_if_cancelled()
        else:
            await trio.lowlevel.checkpoint()
        if cell.mailbox.closed:
            raise cell.no_proc(message)
        activity = current_activity.get()
        envelope = make_envelope(cell, message, None, deadline, activity)
        task = trio.lowlevel.current_task()
        waiter = cell.mailbox.offer(envelope, task)
        if waiter is None:
            return
        sender = activity.cell if activity.task is task else None
        if sender is not None:
            try:
                refuse_ring(sender, cell, type(message))
            except DeadlockError:
                cell.mailbox.forget_waiter(waiter)
                raise
            waiter.sender, sender.waiting_on = sender, cell

        def abort(_: object) -> trio.lowlevel.Abort:
            cell.mailbox.forget_waiter(waiter)
            return trio.lowlevel.Abort.SUCCEEDED

        with trio.move_on_after(limit) as scope:
            await trio.lowlevel.wait_task_rescheduled(abort)
        # Once let in, the task is rescheduled and can no longer be aborted: delivered or cancelled,
        # never both.
        if scope.cancelled_caught:
            raise MailboxFull(cell.path, cell.mailbox.capacity, message)
        if not waiter.delivered:
            raise cell.no_proc(message)

    async def ask(self, message: Ask[R], timeout: float | None = ASK_TIMEOUT_S) -> R:
        """Call this to get the reply to `message`.

        It notices cancellation always, and lets other tasks run unless the actor can be served
        at once (a dispatched one with nothing to do), but then at every 64th ask.

        The deadline is the earliest of: now + `timeout` seconds, the deadline of the message being
        handled, the caller's own cancel scopes. Raises an AskError: AskTimeout, ActorCrashed,
        ActorExited, UnhandledMessage, DeadlockError, NoProc or BadReply; ValueError for a timeout
        that is no number >= 0. Cancelled while waiting, the ask is withdrawn.
        """
        cell = self._cell
        check_thread(cell, "ask")
        limit = checked_timeout(timeout)
        task = trio.lowlevel.current_task()
        activity = current_activity.get()
        now = trio.current_time()
        deadline = now + limit
        # Only the handler or hook itself is held up; a task it has opened shares its activity.
        asker = activity.cell if activity.task is task else None
        in_hand = activity.in_hand() if activity.origin else activity.envelope
        if in_hand is not None:
            deadline = min(deadline, in_hand[DEADLINE])
        if cell.mailbox.closed:
            # Whoever asks a dead actor again and again must not keep others from running.
            await trio.lowlevel.checkpoint()
            raise cell.no_proc(message)
        dispatcher = cell.system.dispatcher
        at_once = dispatcher.can_serve(cell)
        if not at_once:
            deadline = min(deadline, trio.current_effective_deadline())
        if deadline <= now:
            await trio.lowlevel.checkpoint()
            raise AskTimeout(cell.path, message, 0.0, "mailbox")
        if asker is not None:
            refuse_ring(asker, cell, type(message))
        if at_once:
            # It may be answered without ever parking; cancellation must be noticed all the same.
            # Nobody runs in between: `can_serve` still holds behind it.
            await trio.lowlevel.checkpoint_if_cancelled()
        reply = Reply(task, cell, message, now, deadline)
        envelope = make_envelope(cell, message, reply, deadline, activity)
        if asker is not None:
            reply.asker, asker.waiting_on = asker, cell
        if at_once:
            dispatcher.serve(cell, envelope)
        else:
            cell.mailbox.offer(envelope, None)
        if reply.task is not None:
            # Not settled at once. Only now into the wheel: most asks of dispatched actors never
            # come here, and a deadline can only pass while this task is parked.
            cell.system.wheel.add(reply)
            reply.parked = True
            await trio.lowlevel.wait_task_rescheduled(reply.withdraw)
        if reply.error is not None:
            raise reply.error
        return cast(R, reply.value)

    async def stop(
        self,
        exit: Exit = _NORMAL,  # noqa: A002 - the word of the whole runtime for this
        timeout: float | None = STOP_TIMEOUT_S,
        *,
        drain: bool = False,
    ) -> None:
        """Call this to end the actor after its message in hand, and wait until it has ended.

        With `drain` it handles what is queued first. It is killed when this takes longer than
        its shutdown deadline. While it waits for a restart the coming incarnation has ended so
        before it has begun, and what follows is for its supervisor to decide; only with mail to
        drain it comes first. Raises StopTimeout after `timeout` seconds (the stop goes on), NoProc
        when it is gone already, DeadlockError when an actor waits for its own end, TypeError for
        what is no exit.
        """
        cell = self._cell
        check_thread(cell, "stop")
        checked_exit(exit)
        limit = checked_timeout(timeout)
        if cell.gone:
            await trio.lowlevel.checkpoint()
            raise cell.no_proc(None)
        activity = current_activity.get()
        if activity.cell is cell and activity.task is trio.lowlevel.current_task():
            raise DeadlockError([cell.path, cell.path])
        if cell.dormant:
            await trio.lowlevel.checkpoint()
            return
        # Watched before it is asked: an actor that ends at once is not missed.
        wait = EndOf(cell, trio.lowlevel.current_task())
        cell.watch(wait)
        cell.request_stop(asked_by(exit, activity.cell), drain=drain)
        began = trio.current_time()
        with trio.move_on_after(limit) as scope:
            await wait.wait()
        if scope.cancelled_caught:
            raise StopTimeout(cell.path, trio.current_time() - began)

    def kill(self) -> None:
        """Call this to end the actor by force: no `on_stop`. Does nothing at a dead one.

        A running `def` handler cannot be cut short; the kill acts after it. While the actor waits
        for a restart it is as after `stop`.
        """
        check_thread(self._cell, "kill")
        activity = current_activity.get()
        self._cell.kill(asked_by(Killed(because="kill() was called"), activity.cell))


# A ref of whatever type: it can be held, monitored and stopped, but told nothing.
AnyRef: TypeAlias = Ref[Never]


# What stands behind a ref


class Post(Numbering, Protocol):
    """A system, as far as refs need it."""

    @property
    def thread_id(self) -> int:
        """The thread of trio."""

    @property
    def wheel(self) -> Wheel:
        """Where deadlines of asks wait."""

    @property
    def dispatcher(self) -> Dispatcher:
        """Who may serve an ask at once."""


class Target(Asked, Turning, Protocol):
    """What stands behind a ref: a cell, as far as refs need it (`cell_of` gives all of it)."""

    @property
    def system(self) -> Post: ...
    @property
    def mailbox(self) -> Mailbox: ...
    @property
    def ref(self) -> AnyRef: ...
    @property
    def status(self) -> str: ...
    @property
    def gone(self) -> bool: ...
    @property
    def dormant(self) -> bool: ...
    def wake(self) -> None: ...
    def watch(self, watch: EndOf) -> None: ...
    def unwatch(self, watch: EndOf) -> None: ...
    def request_stop(self, exit_: Exit, *, drain: bool) -> None: ...
    def kill(self, exit_: Killed) -> None: ...


class EndOf:
    """Somebody who waits until an actor has ended (`Watch` in `life/cell.py`)."""

    __slots__ = ("_cell", "_parked", "_task", "exit", "final")

    def __init__(self, cell: Target, task: trio.lowlevel.Task, *, final: bool = False) -> None:
        self._cell, self._task, self.final = cell, task, final
        # It may end within the very call that asks for it: then nobody has parked yet.
        self._parked = False
        self.exit: Exit | None = None

    async def wait(self) -> Exit:
        """Call this when the cell has been watched; a checkpoint."""
        if self.exit is None:
            self._parked = True
            await trio.lowlevel.wait_task_rescheduled(self.abort)
            assert self.exit is not None
        else:
            # Shielded: it has ended, and its caller must not hear of a cancellation instead.
            await trio.lowlevel.cancel_shielded_checkpoint()
        return self.exit

    def ended(self, _: object, exit_: Exit) -> None:
        """Called by the cell when it has ended; the watch has been taken off before."""
        self.exit = exit_
        if self._parked:
            trio.lowlevel.reschedule(self._task)

    def abort(self, _: object) -> trio.lowlevel.Abort:
        """Called by trio when the waiting task is cancelled; it will not be told any more."""
        self._cell.unwatch(self)
        return trio.lowlevel.Abort.SUCCEEDED


def make_envelope(
    cell: Target, message: object, reply: Reply | None, deadline: float, activity: Activity
) -> Envelope:
    """A message and its papers, as `tell` puts them together."""
    message_id = cell.system.next_id()
    timed = cell.mailbox.timed
    enqueued_at = perf_counter() if timed and not message_id % timed else 0.0
    return (message, message_id, reply, deadline, enqueued_at, activity.out or activity.sending())


def pass_on(envelope: Envelope, cell: Target, by: Party) -> None:
    """Called for a message that `by` passes on to `cell`; whoever asked waits for `cell` now.

    Number, deadline and cause stay. The sender does not: a notice of the end of `by` has to stand
    behind what it has passed on, and a fault between the two has to meet it.
    """
    message, message_id, reply, deadline, _, before = envelope
    if before is None:
        before = Context(by.system.text_id(message_id))
    context = Context(
        before.correlation_id,
        before.causation_id,
        before.traceparent,
        by.path,
        before.user_id,
        before.tenant,
        by.id,
    )
    timed = cell.mailbox.timed
    enqueued_at = perf_counter() if timed and not message_id % timed else 0.0
    passed: Envelope = (message, message_id, reply, deadline, enqueued_at, context)
    if reply is None:
        cell.mailbox.put(passed)
        return
    if cell.mailbox.closed:
        reply.fail(cell.no_proc(message))
        return
    if reply.asker is not None:
        try:
            refuse_ring(reply.asker, cell, type(message))
        except DeadlockError as error:
            reply.fail(error)
            return
        reply.asker.waiting_on = cell
    # As in a new ask: what comes of it concerns `cell`, and it may have to wait for room there.
    reply.cell, reply.stage = cell, "mailbox"
    cell.mailbox.offer(passed, None)


def refuse_ring(asker: Party, asked: Party, kind: type) -> None:
    """Called before a handler or hook waits; DeadlockError when it would wait for itself.

    A send that waits for room is such a wait as well: there is none before the handler of the
    other one is over. Room that comes another way (an ask given up) is a chance, not a plan.
    """
    if asked.waiting_on is None and asked is not asker:
        return  # By far the commonest.
    cycle = way_back(asker, asked)
    if cycle is not None:
        raise DeadlockError([asker.path, *cycle], kind)


def way_back(asker: Party, asked: Party) -> list[str] | None:
    """The paths from `asked` to `asker`, along who waits for whom; None when there is no way.

    It comes to an end: what would close a ring is never begun.
    """
    way: list[str] = []
    waiting: Party | Several | None = asked
    while waiting is not None:
        if isinstance(waiting, Several):
            ways = (way_back(asker, one) for one in waiting.parties())
            rest = next((one for one in ways if one is not None), None)
            return None if rest is None else way + rest
        way.append(waiting.path)
        if waiting is asker:
            return way
        waiting = waiting.waiting_on
    return None


def checked_timeout(timeout: float | None) -> float:
    """A timeout as seconds; ValueError unless it is a number >= 0 or None."""
    if type(timeout) is float and timeout >= 0.0:
        return timeout  # By far the commonest; the questions below cost more than the rest.
    if timeout is None:
        return math.inf
    if not is_number(timeout) or not timeout >= 0:
        raise ValueError(f"timeout is {timeout!r}; it must be a number of seconds >= 0, or None")
    # A plain number from here on: of a class of its own it may have code of its own.
    return float(timeout)


def checked_deadline(deadline: float) -> float:
    """An absolute time; ValueError for what is no number: it would be read by the receiver."""
    if not is_number(deadline) or math.isnan(deadline):
        raise ValueError(f"deadline is {deadline!r}; it must be a time, as trio.current_time() is")
    return float(deadline)


def is_number(value: object) -> bool:
    """Whether it is a number that a time can be: callers need not have asked a type checker."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        float(value)
    except OverflowError:  # 10**400 is less than `inf`, and can be added to no time.
        return False
    return True


def check_thread(cell: Target, what: str) -> None:
    """Raises RuntimeError off the trio thread."""
    if get_ident() != cell.system.thread_id:
        raise off_thread(what)


def off_thread(what: str) -> RuntimeError:
    """The error of a ref used in the wrong thread."""
    return RuntimeError(
        f"ref.{what} was called outside the trio thread; nothing was sent. "
        "Use system.portal there: portal.tell, portal.send and portal.ask take a ref and a message."
    )
