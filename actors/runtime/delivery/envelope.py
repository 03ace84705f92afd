"""What travels with a message: its papers, who waits for the reply, and what caused it.

An envelope is a plain tuple: one is made for every message, and nothing in Python is cheaper.
`Reply` is the slot of an ask in it, `Later` a reply that is given after its handler; `Context`
says where a message comes from, `Activity` what one task is handling right now.

Rule 1: a `Reply` is settled once; whatever comes after that is dropped and counted.
Rule 2: a context variable does not cross a mailbox; the `Context` in the envelope does.
Rule 3: one `Context` is made per handled message, at its first send, and shared by all it causes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Final, Generic, Literal, Never, Protocol, Self, TypeAlias, TypeVar

import trio

from actors.runtime.telling.spans import TRACEPARENT_CHARS, Spans
from actors.runtime.words.counting import Counts
from actors.runtime.words.errors import AskError, AskTimeout, NoProc
from actors.runtime.words.showing import shown
from actors.runtime.words.tallies import Tallies

NO_DEADLINE: Final = math.inf

R_contra = TypeVar("R_contra", contravariant=True)


# Where a message comes from


@dataclass(slots=True, unsafe_hash=True)
class Context:
    """Where a message comes from. Treat it as frozen; freezing it would cost 0.2 us a message."""

    # The same for all that one request has led to.
    correlation_id: str
    # The id of the message that was in hand when this one was sent; a text where that was one of
    # another system, as it is stored: behind a restart numbers begin anew.
    causation_id: int | str | None = None
    # As W3C Trace Context writes it; its span is that in which the sender had its message in hand.
    traceparent: str | None = None
    # The path of the actor that sent it.
    sender: str | None = None
    user_id: str | None = None
    tenant: str | None = None
    # Paths can be taken over by another actor, ids cannot: ACT-22 asks for the very sender.
    sender_id: int = 0


# What the edge of a site lets through: it is stored, and shown.
_CORRELATION = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


def is_correlation(given: object) -> bool:
    """Call this to ask whether something can be a correlation id: 1 to 64 of A-Za-z0-9._-."""
    return isinstance(given, str) and _CORRELATION.fullmatch(given) is not None


# Who waits for the reply


class Numbering(Protocol):
    """A system, as far as it numbers messages."""

    def next_id(self) -> int:
        """The number of the next message."""

    def text_id(self, number: int) -> str:
        """A number as text that is unique among systems."""

    def span_id(self, number: int, actor: int) -> str:
        """The span in which an actor, by its id, handles the message of a number."""

    @property
    def tallies(self) -> Tallies:
        """What is counted of its actors for operators."""


class Party(Protocol):
    """An actor, as far as it causes messages and waits for replies."""

    waiting_on: Party | Several | None

    @property
    def id(self) -> int: ...
    @property
    def path(self) -> str: ...
    @property
    def system(self) -> Numbering: ...
    @property
    def spans(self) -> Spans | None:
        """What records its spans, where somebody reads them."""


class WaitingRoom(Protocol):
    """A mailbox, as far as a settled ask leaves it."""

    def forget(self, reply: Reply) -> None:
        """Take out an ask that still waits for room."""

    def gave_up(self) -> None:
        """An ask that is queued has been settled: it takes no room any more."""


class Asked(Party, Protocol):
    """An actor, as far as a reply needs it."""

    @property
    def counts(self) -> Counts: ...
    @property
    def mailbox(self) -> WaitingRoom: ...
    def no_proc(self, message: object) -> NoProc: ...


# How far a message came: no room yet, in the mailbox, set aside, in a handler.
Stage: TypeAlias = Literal["mailbox", "queued", "stashed", "handling"]
Outcome: TypeAlias = Literal["waiting", "answered", "failed", "timed_out", "withdrawn"]


class Reply:
    """One asker, parked until its ask is settled.

    `task` is None once it is settled; every way to settle it looks at that first, so of a reply,
    a deadline and a cancellation that meet in one round of the scheduler the first one counts.
    """

    __slots__ = (
        "asked_at", "asker", "bucket", "cell", "deadline", "error", "message", "outcome", "parked",
        "stage", "task", "value",
    )  # fmt: skip

    def __init__(
        self,
        task: trio.lowlevel.Task,
        cell: Asked,
        message: object,
        asked_at: float,
        deadline: float,
    ) -> None:
        self.task: trio.lowlevel.Task | None = task
        self.cell, self.message = cell, message
        self.asked_at, self.deadline = asked_at, deadline
        self.stage: Stage = "mailbox"
        self.outcome: Outcome = "waiting"
        self.value: object = None
        self.error: AskError | None = None
        # Where the clock keeps it, to be taken out without a search (`clock.Bucket`).
        self.bucket: dict[Reply, None] | None = None
        # An ask that is served at once is settled before its task has parked: nobody to wake.
        self.parked = False
        # Whose handler waits; the waiting edge goes with the ask, not when its task runs again.
        self.asker: Party | None = None

    def give(self, value: object) -> None:
        """Here is the reply; a second or a late one is counted and dropped."""
        if self.task is None:
            self.cell.counts.late_replies += 1
            return
        self.value = value
        self._settle("answered")

    def fail(self, error: AskError) -> None:
        """No reply will come; does nothing once the ask is settled."""
        if self.task is not None:
            self.error = error
            self._settle("failed")

    def expire(self, now: float, stage: Stage | None = None) -> None:
        """Called by the clock when the deadline has passed; `stage` says how far it came."""
        if self.task is not None:
            waited = now - self.asked_at
            self.cell.counts.timed_out += 1
            came = stage or self.stage
            # A stash is a part of the mailbox, for whoever asks from outside.
            self.error = AskTimeout(
                self.cell.path, self.message, waited, "queued" if came == "stashed" else came
            )
            self._settle("timed_out")

    def withdraw(self, _: object = None) -> trio.lowlevel.Abort:
        """Called by trio, as the abort function, when the asker was cancelled.

        The message may be in a handler already: it is handled to its end, and the reply dropped.
        """
        self._leave("withdrawn")
        return trio.lowlevel.Abort.SUCCEEDED

    def _settle(self, outcome: Outcome) -> None:
        task = self.task
        assert task is not None
        self._leave(outcome)
        self.wake(task)

    def _leave(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.task = None
        if self.asker is not None:
            self.asker.waiting_on = None
        bucket = self.bucket
        if bucket is not None:
            bucket.pop(self, None)
            self.bucket = None
        if self.stage != "handling":
            # Not yet, or no longer, in a handler: its place is free for others.
            if self.stage == "mailbox":
                self.cell.mailbox.forget(self)
            elif self.stage == "queued":
                self.cell.mailbox.gave_up()

    def wake(self, task: trio.lowlevel.Task) -> None:
        """Called when it is settled; one of several asks waits for the others instead."""
        if self.parked:
            trio.lowlevel.reschedule(task)


class Several:
    """Those whom one handler waits for at once, in `ask_all`: whose replies are still open."""

    __slots__ = ("_open",)

    def __init__(self, open_: Collection[Reply]) -> None:
        self._open = open_

    @property
    def path(self) -> str:
        """Their paths."""
        return ", ".join(one.path for one in self.parties())

    def parties(self) -> list[Party]:
        """Who they are now; one that has replied is none of them any more."""
        return [reply.cell for reply in self._open]


# The message, its number, its reply slot (None for a tell), its absolute deadline, when it was put
# into the mailbox (0.0: not measured), and its context (None: nothing to pass on).
Envelope: TypeAlias = tuple[object, int, Reply | None, float, float, Context | None]
# Its places by name; where every message passes it is unpacked instead.
MESSAGE: Final = 0
MESSAGE_ID: Final = 1
REPLY: Final = 2
DEADLINE: Final = 3
ENQUEUED_AT: Final = 4
CONTEXT: Final = 5


class Debtor(Protocol):
    """An incarnation, as far as it owes replies."""

    def unasked(self, envelope: Envelope) -> None:
        """Drop the reply to a message that was told; to an `Ask` it is counted."""

    def forgive(self, later: Later[Never]) -> None:
        """Take it off what is owed."""

    def refuses(self, envelope: Envelope, value: object) -> bool:
        """Whether a reply is of the wrong type, and has crashed the actor."""


class Later(Generic[R_contra]):
    """An owed reply, made by `self.reply_later()`; it fails when its incarnation ends."""

    __slots__ = ("_debtor", "envelope")

    def __init__(self, debtor: Debtor, envelope: Envelope) -> None:
        self._debtor, self.envelope = debtor, envelope

    def __deepcopy__(self, _: object) -> Self:
        return self  # A copy of an actor's state owes the same replies.

    @property
    def asker_gone(self) -> bool:
        """Whether nobody waits for the reply any more."""
        reply = self.envelope[REPLY]
        return reply is None or reply.task is None

    def reply(self, value: R_contra) -> None:
        """Call this with the answer; a second or a late one is counted and dropped.

        So is one to an `Ask` that was told: nobody waits for it, and nobody looks at its type.
        With `check_replies` one of the wrong type crashes the actor; the asker gets that error.
        """
        self._debtor.forgive(self)
        reply = self.envelope[REPLY]
        if reply is None:
            self._debtor.unasked(self.envelope)
        elif not self._debtor.refuses(self.envelope, value):
            reply.give(value)

    def fail(self, error: AskError) -> None:
        """Call this to end the ask without a reply (the runtime does when the actor ends)."""
        self._debtor.forgive(self)
        reply = self.envelope[REPLY]
        if reply is not None:
            reply.fail(error)


# What is being handled right now


class Inside(Protocol):
    """A stretch of a handler that is told of, as far as what is sent inside is caused by it."""

    @property
    def envelope(self) -> Envelope | None:
        """The message that was in hand when it began."""

    @property
    def before(self) -> Context:
        """Of whose trace it is."""

    @property
    def number(self) -> int:
        """That of its span."""

    def context(self) -> Context:
        """Where that comes from what is sent inside; the same each time."""


class Activity:
    """What one task is doing for an actor: the message in hand, and what it has caused.

    A task actor has one of its own, dispatched actors share the dispatcher's; with `cell` None
    nobody is being served, and sends take their context from the edge. A task that others start
    while a message is in hand inherits one (`heir`), which does not change with the next message.
    """

    __slots__ = ("cell", "envelope", "inside", "origin", "out", "task")

    def __init__(self, cell: Party | None = None, task: trio.lowlevel.Task | None = None) -> None:
        self.cell = cell
        self.task = task
        self.envelope: Envelope | None = None
        # The context of everything sent while this message is in hand, made at the first send.
        self.out: Context | None = None
        # In which stretch of the handler its task is, while nothing was sent in there: one that
        # belongs to another message than that in hand counts for nothing.
        self.inside: Inside | None = None
        # Of an heir: from whom, and the number of the message that was in hand there. Not the
        # message itself, for the task may outlive it by far.
        self.origin: tuple[Activity, int | None] | None = None

    def sending(self) -> Context | None:
        """The context of what is sent now; None outside, with nothing to pass."""
        if self.out is not None:
            return self.out
        cell = self.cell
        if cell is None:
            return edge.get()
        self.out = out = self._cause(cell)
        return out

    def _cause(self, cell: Party) -> Context:
        inside, envelope = self.inside, self.envelope
        if inside is not None and inside.envelope is envelope:
            return inside.context()
        return caused_by(envelope, cell)

    def fork(self) -> Activity:
        """The activity of a child task: same cause, but nothing in hand."""
        child = Activity(self.cell)
        child.out = self.sending()
        return child

    def heir(self) -> Activity:
        """The activity of a task that is started now: same cause, and in hand what is in hand here.

        Only as long as it is. The task may be in a nursery of the handler's own, and work for that
        message; or in one that outlives it, and must have nothing of what is handled later.
        """
        child = self.fork()
        child.origin = self, self._number
        return child

    def seen_from_elsewhere(self) -> Activity:
        """As `heir`, for another thread: nothing is written to what belongs to the loop."""
        envelope, out, cell = self.envelope, self.out, self.cell
        seen = Activity(cell)
        seen.out = out if out is not None or cell is None else self._cause(cell)
        seen.origin = self, None if envelope is None else envelope[MESSAGE_ID]
        return seen

    def in_hand(self) -> Envelope | None:
        """The message that this task works for, with its deadline; also that of an heir."""
        origin = self.origin
        if origin is None:
            return self.envelope
        return origin[0].envelope if origin[0]._number == origin[1] else None

    def works_for(self, other: Activity) -> bool:
        """Whether what is in hand there is in hand here: `other` itself, or an heir in time."""
        origin = self.origin
        if origin is None:
            return self is other
        return origin[0] is other and other._number == origin[1]

    @property
    def _number(self) -> int | None:
        return None if self.envelope is None else self.envelope[MESSAGE_ID]


class SharedActivity(Activity):
    """The one of all dispatched actors: code of theirs may run in the task of whoever asks."""

    __slots__ = ()


def caused_by(envelope: Envelope | None, cell: Party) -> Context:
    """The context of what `cell` sends while it has `envelope` in hand."""
    if envelope is None:
        # A hook: nothing caused it, so a new correlation begins here.
        out = Context(cell.system.text_id(cell.system.next_id()), sender=cell.path)
    else:
        _, message_id, _, _, _, before = envelope
        if before is None:
            out = Context(cell.system.text_id(message_id), message_id, sender=cell.path)
        else:
            trace = before.traceparent
            if trace is not None:
                trace = child_of(trace, cell.system.span_id(message_id, cell.id))
            out = Context(
                before.correlation_id,
                message_id,
                trace,
                cell.path,
                before.user_id,
                before.tenant,
            )
    out.sender_id = cell.id
    return out


def child_of(traceparent: str, span: str) -> str:
    """The same trace with another span, of 16 hexadecimal digits.

    What is not as long as version 00 of W3C Trace Context writes it is passed on as it came: where
    its span stands is not known.
    """
    if len(traceparent) != TRACEPARENT_CHARS:
        return traceparent
    return f"{traceparent[:36]}{span}{traceparent[52:]}"


edge: ContextVar[Context | None] = ContextVar("edge_context", default=None)
OUTSIDE: Final = Activity()
# Set once per task; the activity changes with each message, so log lines always see the right one.
# The watchdog's thread reads it too, off the context of the task that holds the loop.
current_activity: ContextVar[Activity] = ContextVar("current_activity", default=OUTSIDE)


class Inheritance(trio.abc.Instrument):
    """Gives a task that code of an actor starts, in whatever nursery, an activity of its own.

    Without it the task would share that of the actor, for context variables are inherited: it
    would ask under the deadline, and tell in the name, of whatever is in hand by then. Done where
    a task is started, for that is rare; at each message it would be a fifth of what that costs.
    One for each system is one too many in a run with two of them, and does no harm.
    """

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        """Called by trio before the first step of a task; it has its copy of the variables."""
        activity = task.context.get(current_activity)
        # Heirs and child tasks (`task` is None) do not change, and can be shared.
        if activity is not None and activity.task is not None and activity.cell is not None:
            is_own = type(activity) is SharedActivity or (
                activity.task is trio.lowlevel.current_task()
            )
            # Not its own code: a thread that it has left behind, with its variables of then. What
            # is in hand by now is none of that thread's.
            task.context.run(current_activity.set, activity.heir() if is_own else OUTSIDE)


def activity_in_thread() -> Activity:
    """Call this in a thread other than trio's, for what is sent from there.

    A thread that a handler waits for works for the message in hand. One that it has left behind
    (`abandon_on_cancel`) works for nobody, and nor does one of which that is not known: it has the
    variables of the handler still, but the actor may have gone on to other messages.
    """
    activity = current_activity.get()
    if activity.task is None:
        return activity  # Nobody's, or one that does not change.
    # First looked at, then asked: until it is left behind its actor stands still.
    seen = activity.seen_from_elsewhere()
    try:
        trio.from_thread.check_cancelled()
    except (trio.Cancelled, RuntimeError):
        return OUTSIDE
    return seen


def _checked(context: Context) -> Context:
    """A context that the runtime can read where nobody is there to get an error."""
    if type(context) is not Context or type(context.sender_id) is not int:
        raise TypeError(f"edge_context takes a Context, not {shown(context)}")
    if type(context.correlation_id) is str and (
        context.sender is None or type(context.sender) is str
    ):
        return context
    # Plain texts: the `__hash__` of a subclass is code of the user's.
    sender = None if context.sender is None else _text(context.sender)
    return replace(context, correlation_id=_text(context.correlation_id), sender=sender)


def _text(value: str) -> str:
    if not issubclass(type(value), str):
        raise TypeError(f"a Context holds texts, not {shown(value)}")
    return str.__str__(value)


def held_up() -> Party | None:
    """Call this before the task waits, for the actor whose handler or hook it is; mostly None.

    A task that a handler has started is not it: the handler may go on.
    """
    activity = current_activity.get()
    return activity.cell if activity.task is trio.lowlevel.current_task() else None


def current_context() -> Context | None:
    """Call this to get correlation, causation and trace for a log line or an outgoing call."""
    return current_activity.get().sending()


def cause_of(context: Context) -> str | None:
    """Call this for the id of the message that has caused something, as it is stored or shown.

    No message of another system has it, nor one of another life of this program.
    """
    cause, cell = context.causation_id, current_activity.get().cell
    if cause is None or isinstance(cause, str):
        return cause
    return str(cause) if cell is None else cell.system.text_id(cause)


def current_tallies() -> Tallies:
    """Call this where an actor's code counts something: the tallies of its system.

    Outside of all actors, in a tool or a test of one function, what is counted goes nowhere.
    """
    cell = current_activity.get().cell
    return Tallies() if cell is None else cell.system.tallies


class _EdgeContext:
    """Carries a context for as long as it is entered."""

    # Not a generator: it is entered for each request, and one takes three times as long.
    __slots__ = ("_context", "_inner", "_token")

    def __init__(self, context: Context) -> None:
        self._context = context

    def __enter__(self) -> Context:
        context, activity = self._context, current_activity.get()
        self._token, self._inner = edge.set(context), None
        cell = activity.cell
        if cell is not None and activity.task is None:
            inside = Activity(cell)
            inside.out = replace(context, sender=cell.path, sender_id=cell.id)
            inside.origin = activity.origin
            self._inner = current_activity.set(inside)
        return context

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._inner is not None:
            current_activity.reset(self._inner)
        edge.reset(self._token)


def edge_context(context: Context) -> AbstractContextManager[Context]:
    """Call this where a request comes in; what is told and asked inside carries `context`.

    Also in a child task, or another one that an actor has started, a server's for one: the request
    is the cause then, not what the task was started for. In a handler the message in hand stays it.
    Raises TypeError for what is no Context of texts.
    """
    return _EdgeContext(_checked(context))
