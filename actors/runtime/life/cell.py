"""One actor: what stays of it (`Cell`), and what one run of it is (`Life`).

A cell is the identity of an actor: id, path, ref, mailbox, sums. It is made once and outlives
every crash; users hold its ref, only owners and the runtime itself hold cells. A life is one
incarnation: the instance, its timers and monitors, the replies it owes, how far it is on its way
to an end. It begins with `begin_incarnation` and is thrown away with its exit; the next one starts
clean, with the same mailbox.

A cell starts nothing by itself. Its owner (a supervisor, or the keeper of `open_actors`) decides,
and is told what came of it:

    owner -> cell      begin_incarnation, request_stop, kill; after an ending begin_incarnation
                       again, await_restart, await_first_message, or retire
    ref -> cell        request_stop, kill, at any time
    cell -> life       want (end after the message in hand), abort (a link, a child task or an
                       overflow ends it now), kill
    mailbox -> cell    wake, lost, overflowed
    life -> cell       life_started, life_exited
    cell -> owner      child_started, child_exited, child_wanted, child_unwanted, child_unkillable
    cell -> others     `Watch.ended` of whoever watches, `Tie.broke` of whatever it is linked to

`lifecycle.py` drives a life from step to step, `loop.py` handles its messages; neither decides.

The end of a life that had started goes through these steps, in this order and never in another
(a start that fails has nothing to settle: it is let go, and the owner told by `child_started`):

1. The exit is known (`Life.end_with`): the message in hand is settled, its asker told.
   After a crash or a kill the replies it owes fail here already.
2. `on_stop`, child tasks, the children of a supervisor, in the order `lifecycle.py` gives.
3. Everything the incarnation holds is let go (`Life.release`): replies it still owes fail, timers
   and monitors are cancelled, its stash goes back into the mailbox.
4. The owner is told (`child_exited`), and decides.
5. When no restart follows, the name is free at once, and what is queued is buried: asks fail,
   tells become dead letters.
6. Only then do watchers and links hear of it: whoever sees the end finds the name free, or the
   next incarnation begun. So an end can be waited for and acted on, without a race.

Steps 5 and 6, and the replies of step 1, are done at once when there is little to do. Thousands of
replies, messages or watchers go in slices, a few hundred between two rounds of the dispatcher, in
the same order. Meanwhile others have their turns, the next incarnation among them: the last of many
watchers may hear of an end when it has begun to work.

Rule 1: every operation here is synchronous and returns at once; results come through the owner.
An order of calls is therefore an order of events, and no lock is needed.
Rule 2: an incarnation has one exit. A crash beats a wish to stop, and the first wish beats later
ones. A kill beats both, except a crash that is already the exit.
Rule 3: a wish to stop is never forgotten. Between two lives it ends the coming one before it has
begun: the owner is told at once (`child_unwanted`) and decides as after any end of that kind. One
that comes during a start which then fails is there for the owner to take (`take_stop`). Only a stop
that drains, with mail queued, waits for an incarnation: nobody else can handle the mail.
Rule 4: only exceptions of user code become exits. What comes out of the runtime's own code,
KeyboardInterrupt, SystemExit and cancellation from outside pass through.
"""

from __future__ import annotations

import contextvars
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, Literal, Never, Protocol, TypeAlias, cast

import trio

from actors.runtime.delivery.batch import Batch, Taken
from actors.runtime.delivery.clock import Alarm
from actors.runtime.delivery.dispatcher import WAKES_TASK
from actors.runtime.delivery.envelope import (
    MESSAGE,
    MESSAGE_ID,
    NO_DEADLINE,
    REPLY,
    Activity,
    Context,
    Envelope,
    Later,
    Party,
    Several,
    current_activity,
)
from actors.runtime.delivery.mailbox import (
    AWAITS_TURN,
    AWAKE,
    DEFAULT_CAPACITY,
    PARKED,
    Entry,
    Mailbox,
    Notice,
)
from actors.runtime.delivery.ref import AnyRef, Post, Ref, Target, pass_on
from actors.runtime.life.child_tasks import ChildTasks
from actors.runtime.life.handlers import Handler, Table
from actors.runtime.life.hooks import AnyHooks
from actors.runtime.telling.spans import Spans
from actors.runtime.words.counting import Counts, KindSums, Level, Meter, Totals
from actors.runtime.words.errors import (
    ActorCrashed,
    ActorExited,
    AskError,
    BadReply,
    MailboxOverflow,
    NoProc,
)
from actors.runtime.words.exits import (
    Crashed,
    Exit,
    Failed,
    Ignored,
    Killed,
    Ready,
    StartOutcome,
    crash_from,
    stamped,
    without_cancelled,
)
from actors.runtime.words.messages import Ask
from actors.runtime.words.places import place_in

# `suspended`: user messages wait until `resume`. `restarting`, `backing_off`: between two
# incarnations, in the second case until a time; messages are kept. `stopped`: gone for good, or a
# child that may be started again. `unkillable`: a kill has not worked for a second.
Status: TypeAlias = Literal[
    "starting",
    "running",
    "suspended",
    "restarting",
    "backing_off",
    "stopping",
    "stopped",
    "unkillable",
]

# Why a message became a dead letter.
Reason: TypeAlias = Literal[
    "overflow", "expired", "unhandled", "no_such_actor", "stopped", "crashed", "killed"
]

# Long enough to close a few connections, short enough for a deploy; OTP's default too.
SHUTDOWN_S: Final[float] = 5.0
# A killed task that needs longer than this is shielded or blocked; someone has to look at it.
UNKILLABLE_AFTER_S: Final[float] = 1.0
# So many messages, watchers and links of an ended actor are seen to at once; more go in slices.
# Dispatched actors have 16 turns before the clock is looked at, and each may end: 16 times 32 times
# 3 us are within the 5 ms of ACT-29.
STEPS_AT_ONCE: Final = 32
# `receive` takes whatever comes; a program that makes classes of messages as it goes must not have
# all of them kept. More are handled too, each a microsecond slower.
CLASSES_KEPT: Final = 1000
# Enough to see a pattern in an actor's endings, little enough to keep for each.
LAST_EXITS_MAX: Final = 8

_KILLED: Final = Killed()
_NO_TABLE: Final = Table()


# Who decides, and who is told


class Owner(Protocol):
    """Who is told about a child's life. Calls are synchronous and must neither raise nor wait."""

    @property
    def nursery(self) -> trio.Nursery:
        """Where the tasks of incarnations run."""

    def child_started(self, cell: Cell, outcome: StartOutcome) -> None:
        """The start that `begin_incarnation` began is over.

        After one that failed `cell.take_stop` says whether somebody has asked for a stop meanwhile.
        """

    def child_exited(self, cell: Cell, exit_: Exit) -> None:
        """The incarnation is wholly over: `on_stop`, child tasks and its task."""

    def child_unkillable(self, cell: Cell, stack: str) -> None:
        """A kill has not worked for a second; `child_exited` comes if it ever ends."""

    def child_wanted(self, cell: Cell) -> None:
        """A message came for a cell that was left dormant."""

    def child_unwanted(self, cell: Cell, exit_: Exit) -> None:
        """Somebody stopped or killed an actor that waits for its restart.

        It counts as the end of the coming incarnation. The owner retires the cell, or has the next
        one come all the same and says so by `cell.goes_on(exit_)`.
        """


class Watch(Protocol):
    """Somebody who waits for the end of an incarnation, or (final) of the actor.

    One that belongs to an actor may name its path as `watcher`, for statistics.
    """

    final: bool

    def ended(self, cell: Cell, exit_: Exit, /) -> None:
        """Called once; the watch has been taken off the cell before."""


class Tie(Protocol):
    """What ties an actor to another one (`Link` in `actor/relations.py`)."""

    def broke(self, peer: Cell, ended: Cell, exit_: Exit) -> None:
        """Tell `peer` that `ended`, tied to it, has ended."""


class Observer(Protocol):
    """Somebody who is told of every change of the actors below a path."""

    def covers(self, path: str) -> bool:
        """Whether an actor at `path` is watched."""

    def put(
        self, at: float, kind: Literal["status", "message", "ended"], path: str,
        data: Mapping[str, object],
    ) -> None:  # fmt: skip
        """Take one change."""


# What a cell needs of the system around it


class Losses(Protocol):
    """Where messages go that nobody will handle."""

    def add(
        self,
        cell: Cell,
        envelope: Envelope,
        reason: Reason,
        exit_: Exit | None = None,
        note: str | None = None,
    ) -> None:
        """Take one."""


class Crashes(Protocol):
    """Where crashes are written down."""

    def crashed(self, life: Life, exit_: Crashed) -> None:
        """Take one, while its instance is at hand."""


class Watching(Protocol):
    """Whoever passes changes on to those who watch."""

    @property
    def before(self) -> Callable[[Cell, Envelope], bool] | None:
        """Who is asked before a message is handled; False: something else comes first."""

    def status(self, cell: Cell, because: str | None) -> None:
        """The status of a watched cell has changed."""

    def handled(self, cell: Cell, envelope: Envelope, spent: float) -> None:
        """A watched cell has handled a message."""


class Sweeping(Protocol):
    """Whoever sends the idle ones of the task actors to sleep (`resting.Sweep`)."""

    def add(self, life: Life) -> None:
        """It has a task that may be given back."""

    def discard(self, life: Life) -> None:
        """It has none any more."""


class Home(Post, Protocol):
    """A system, as far as its cells need it."""

    @property
    def clock(self) -> Callable[[], float]:
        """Real time, for budgets."""

    @property
    def check_replies(self) -> bool:
        """Whether replies are checked against the R of `Ask[R]`."""

    @property
    def counts(self) -> Totals: ...
    @property
    def dead_letters(self) -> Losses: ...
    @property
    def reports(self) -> Crashes: ...
    @property
    def changes_log(self) -> Watching: ...
    @property
    def spans(self) -> Spans | None: ...
    @property
    def sweep(self) -> Sweeping: ...
    def now(self) -> float: ...
    def next_cell_id(self) -> int: ...
    def apply_level(self, cell: Cell) -> None: ...
    def gone_sums_of(self, cell: Cell) -> KindSums: ...
    def forget(self, cell: Cell) -> Iterator[None]: ...


class Cell:
    """One actor. See the module's rules; supervisors hold cells, everyone else holds refs."""

    # Slots, for an actor shall cost a kilobyte or two, not ten. In groups, as `__init__` has them.
    __slots__ = (  # noqa: RUF023 - by what they are for, not by the alphabet
        # who it is
        "id", "name", "path", "ref", "system",
        # what its owner has decided
        "owner", "start", "actor_class", "budget", "shutdown", "start_timeout",
        "dormant", "gone", "refusal", "next_restart_at", "restart_window",
        # what is waiting, and what runs
        "mailbox", "life", "incarnation", "pending_stop", "draining", "kill_alarm", "look_alarm",
        # how it is, and how it has ended
        "status", "status_since", "started_at", "last_exits", "untold_exit",
        # who has to do with it
        "waiting_on", "watchers", "links", "broken_links", "topics", "being_told", "chores",
        # what is counted and measured
        "counts", "level", "meter", "spans", "senders", "observers",
    )  # fmt: skip

    # Set by `System.new_cell`; a cell that is gone from the beginning (`ByName` needs one under a
    # free name) has neither, and a retired one no `start`: what it held must not live on.
    owner: Owner
    start: Callable[[], AnyHooks]

    def __init__(self, system: Home, path: str, name: str | None) -> None:
        self.system = system
        self.path, self.name = path, name
        self.id = system.next_cell_id()
        self.ref: AnyRef = Ref(self)

        self.actor_class: type[AnyHooks] | None = None
        self.budget = (64, 0.001)
        self.shutdown = SHUTDOWN_S
        # None: what the class of the instance says, known when it has been made.
        self.start_timeout: float | None = None
        # Left without incarnation until a message comes; and over for good.
        self.dormant = self.gone = False
        # Why it may not start, said to whoever sent it something.
        self.refusal: str | None = None
        self.next_restart_at: float | None = None
        # Of its supervisor's budget: used, allowed, in how many seconds.
        self.restart_window: tuple[int, int, float] | None = None

        self.mailbox = Mailbox(self, DEFAULT_CAPACITY, "drop_new")
        self.life: Life | None = None
        # How many have started; the one that is starting now is not counted yet.
        self.incarnation = 0
        # A stop that no incarnation has ended by yet: it came while a start failed, or between two
        # lives. With `draining` the coming one handles what is queued, and ends then.
        self.pending_stop: Exit | None = None
        self.draining = False
        # What makes an end come in time: the kill after a stop, the look after a kill.
        self.kill_alarm: Alarm | None = None
        self.look_alarm: Alarm | None = None

        self.status: Status = "starting"
        self.status_since = self.started_at = system.now()
        self.last_exits: tuple[Exit, ...] = ()
        # How the last incarnation ended, while the owner has not decided and nobody was told.
        self.untold_exit: Exit | None = None

        # Whom its handler or hook waits for, asking or for room: what a ring is found by.
        self.waiting_on: Party | Several | None = None
        self.watchers: dict[Watch, bool] | None = None  # True only in `being_told`.
        # Of the current incarnation, or the coming one; moved to broken_links when it has ended.
        self.links: dict[Cell, Tie] | None = None
        self.broken_links: dict[Cell, Tie] | None = None
        self.topics: set[str] | None = None
        # Watchers of an incarnation that has ended, as long as not all have heard of it (True: done
        # with); and what is done about that and other things in slices, one after another.
        self.being_told: list[dict[Watch, bool]] | None = None
        self.chores: deque[Iterator[object]] | None = None

        self.counts, self.spans = Counts(), system.spans
        self.level: Level = "counters"
        # Of `sampled` and `full` actors; senders by path, with the time they were last seen.
        self.meter: Meter | None = None
        self.senders: dict[str, float] | None = None
        self.observers: tuple[Observer, ...] | None = None

    def __repr__(self) -> str:
        return f"<Cell {self.path} {self.status} {self.incarnation}>"

    def adopt(self, cls: type[AnyHooks]) -> None:
        """Called when the class is known: the mailbox gets the class's bounds."""
        if cls is not self.actor_class:
            self.actor_class, self.budget = cls, cls.budget
            self.mailbox.resize(cls.capacity, cls.overflow)
            self.system.apply_level(self)

    # What the owner calls

    def begin_incarnation(self, because: str | None = None) -> None:
        """Call this to start the next incarnation; the owner gets `child_started`."""
        assert self.life is None, f"{self!r} already has an incarnation"
        assert not self.gone, f"{self!r} is gone for good"
        self._tell_of_last_life()
        self.dormant = False
        self.mailbox.open()
        if self.draining:
            self.mailbox.close()
        self.next_restart_at = None
        self.set_status("starting", because)
        self.life = Life(self, self.incarnation + 1)
        self.system.dispatcher.enqueue(self)

    def await_restart(
        self,
        status: Literal["restarting", "backing_off"],
        at: float | None = None,
        because: str | None = None,
    ) -> None:
        """Call this after an ending that will be followed by a restart; the mailbox is kept."""
        self._tell_of_last_life()
        self.next_restart_at = at
        self.set_status(status, because)

    def await_first_message(self) -> None:
        """Call this to leave the cell without incarnation until a message comes.

        The owner gets `child_wanted` once, at once if messages are queued already.
        """
        self._tell_of_last_life()
        self.dormant = True
        self.set_status("stopped", "no message yet")
        if self.mailbox.queued or self.mailbox.waiting:
            self.wake()
        else:
            self.mailbox.idle, self.mailbox.system_idle = PARKED, True

    def request_stop(
        self, exit_: Exit, *, within: float | None = None, drain: bool = False
    ) -> None:
        """Call this to end the incarnation after the message in hand; killed `within` seconds.

        `within` defaults to the cell's `shutdown`. The first request decides on the exit; a
        further one can only bring the kill forward. Without an incarnation the coming one has
        ended so, unless there is mail to drain: then it does that, and stops.
        """
        life = self.life
        if life is not None:
            life.want(exit_, drain=drain)
        elif self.gone or self.dormant:
            return
        elif drain and self._has_mail:
            self.pending_stop, self.draining = self.pending_stop or exit_, True
            self.mailbox.close()
        else:
            self.owner.child_unwanted(self, self._never_begun(exit_))
            return
        self.limit_stop(self.shutdown if within is None else within)

    def limit_stop(self, within: float) -> None:
        """Call this to have it killed if it is not over in `within` seconds; the earliest counts.

        A stop becomes a kill: whoever asked for the end has decided already that it shall come.
        """
        due = trio.current_time() + within
        alarm = self.kill_alarm
        if due == NO_DEADLINE or (alarm is not None and alarm.due <= due):
            return
        if alarm is not None:
            alarm.cancel()
        self.kill_alarm = self.system.wheel.call_at(due, self._stop_is_late)

    def kill(self, exit_: Killed = _KILLED) -> None:
        """Call this to end the incarnation by force: no `on_stop`.

        Without one the coming one has ended so; a dormant actor, or one that is gone, stays so.
        """
        if self.gone or self.dormant:
            return
        life = self.life
        if life is None:
            self.owner.child_unwanted(self, self._never_begun(exit_))
        elif not life.killed:
            self.look_soon()
            life.kill(exit_)

    def look_soon(self) -> None:
        """Call this when what runs has been cut short, to see whether that has worked.

        It can fail to: shielded code, blocking code, a `def` handler that does not return.
        """
        if self.look_alarm is None:
            self.look_alarm = self.system.wheel.call_after(UNKILLABLE_AFTER_S, self._still_alive)

    def take_stop(self) -> Exit | None:
        """Call this after a failed start: the exit of a stop that came meanwhile, or None.

        It is the owner's then: whoever calls this and starts another incarnation has decided
        against the stop. None too while there is mail to drain: the coming one ends by that stop.
        """
        wish = self.pending_stop
        if wish is None or (self.draining and self._has_mail):
            return None
        self._forget_stop()
        return self._never_begun(wish)

    @property
    def _has_mail(self) -> bool:
        return bool(self.mailbox.queued or self.mailbox.waiting)

    def goes_on(self, exit_: Exit) -> None:
        """Call this when a restart follows all the same: whoever waited for an end has seen one."""
        self._forget_stop()
        self.mailbox.open()
        self.broken_links, self.links = self.links, None
        self._tell_end(exit_, final=False)

    def _never_begun(self, exit_: Exit) -> Exit:
        return stamped(exit_, self.incarnation, trio.current_time())

    def retire(self, exit_: Exit | None = None) -> None:
        """Call this when no restart will follow; the ref is dead for ever afterwards.

        Frees the name, turns what is queued into dead letters and failed asks, tells watchers.
        """
        if self.gone:
            return
        assert self.life is None, f"{self!r} still has an incarnation"
        last = exit_ or self.untold_exit
        assert last is not None, f"{self!r} has no exit to retire with"
        # The name is free before anybody hears of the end: a watcher may take it at once.
        self._close()
        self.set_status("stopped", last.because)
        del self.start
        self.untold_exit = None
        for entry in self.mailbox.drop_system():
            entry.drop()
        if self.mailbox.is_left:
            self._in_slices(self._bury(last), self.mailbox.held + self.mailbox.waiting_senders)
        self._tell_end(last, final=True)

    def refuse(self, because: str) -> None:
        """Call this instead of `retire` when a message came for an actor that may not start.

        Tells are dead letters `no_such_actor`, asks fail with NoProc; both name `because`.
        """
        self.refusal = because
        self._close()
        self._in_slices(self._refuse_all(), self.mailbox.held + self.mailbox.waiting_senders)

    def _refuse_all(self) -> Iterator[int]:
        for envelope in self.mailbox.leaving():
            if envelope is not None and type(envelope[MESSAGE]) is not Notice:
                self.lost(envelope, "closed")
                reply = envelope[REPLY]
                if reply is not None:
                    reply.fail(self.no_proc(envelope[MESSAGE]))
            yield _step_of(envelope)

    def abandon(self) -> None:
        """Called when the system is cancelled: whoever waits is told, nothing else is done."""
        self._close()
        for envelope in self.mailbox.leaving():
            reply = None if envelope is None else envelope[REPLY]
            if reply is not None:
                reply.fail(self.no_proc(reply.message))
        for entry in self.mailbox.drop_system():
            entry.drop()
        for watch in list(self.watchers or ()):
            self.unwatch(watch)
            watch.ended(self, Killed(because="the system was cancelled"))

    def post_system(self, entry: object) -> None:
        """Call this to pass `entry` to the actor's `on_system`, ahead of user messages.

        It is dropped when the incarnation has ended (or none runs) before it is looked at.
        """
        if self.life is not None:
            self.mailbox.post(_Note(self.life, entry))

    # What a life reports

    def life_started(self, outcome: StartOutcome) -> None:
        """Called by the life when its start is over, one way or another."""
        if isinstance(outcome, Ready):
            self.incarnation += 1
            self.started_at = trio.current_time()
            if self.incarnation > 1:
                self.counts.restarts += 1
                self.system.counts.restarts += 1
            self.set_status("stopping" if self.is_stopping else "running")
        else:
            self._start_has_failed()
        self.owner.child_started(self, outcome)

    def life_exited(self, exit_: Exit) -> None:
        """Called by the life when it is wholly over."""
        self._life_is_over()
        self._forget_stop()
        self.untold_exit = exit_
        # From here on `links` are those of the coming incarnation: a peer may link to it before
        # it runs, and must not hear how this one ended.
        self.broken_links, self.links = self.links, None
        self.last_exits = (*self.last_exits[1 - LAST_EXITS_MAX :], exit_)
        if isinstance(exit_, Crashed):
            self.counts.crashes += 1
        self.owner.child_exited(self, exit_)

    @property
    def is_stopping(self) -> bool:
        """Whether the incarnation has been asked to end."""
        return self.life is not None and (self.life.wanted is not None or self.life.killed)

    def set_status(self, status: Status, because: str | None = None) -> None:
        """Each change is one event with time and cause."""
        if status == self.status and self.incarnation:
            return
        self.status, self.status_since = status, trio.current_time()
        if self.observers is not None:
            self.system.changes_log.status(self, because)

    # What the mailbox reports

    def wake(self) -> None:
        """Called when the parked actor has something to do."""
        life = self.life
        if life is not None:
            life.wake()
        elif self.dormant:
            self.dormant = False
            self.owner.child_wanted(self)

    def lost(self, envelope: Envelope, reason: Literal["overflow", "closed"]) -> None:
        """Called for a message that found no place."""
        if reason == "overflow":
            self.counts.overflowed += 1
            self.system.dead_letters.add(self, envelope, "overflow")
        elif self.gone:
            self.system.dead_letters.add(self, envelope, "no_such_actor", note=self.refusal)
        else:
            self.system.dead_letters.add(self, envelope, "stopped")

    def given_up(self, envelopes: Sequence[Envelope]) -> None:
        """Called for queued asks that nobody waits for any more, when their room is needed."""
        self._in_slices(map(self.count_given_up, envelopes), len(envelopes))

    def count_given_up(self, envelope: Envelope) -> None:
        """Called for an ask that was settled before it was handled."""
        reply = envelope[REPLY]
        if reply is not None and reply.outcome == "timed_out":
            self.counts.expired += 1
            self.system.dead_letters.add(self, envelope, "expired")
        else:
            # Its asker was cancelled, or its system is being closed.
            self.counts.withdrawn += 1

    def overflowed(self) -> None:
        """Called in a class with `overflow = "crash"`."""
        if self.life is not None:
            self.life.abort(Crashed(MailboxOverflow(self.path, self.mailbox.capacity)))

    def failed(self, error: BaseException) -> None:
        """Called when code of its class that others run has raised: only this actor crashes.

        Raises it again when it is none of the actor's (`words/exits.py`), as everywhere.
        """
        crash = crash_from(error)
        if self.life is not None:
            self.life.abort(crash)

    def no_proc(self, message: object) -> NoProc:
        """The error of a send, ask or stop that finds nobody."""
        return NoProc(self.path, None if message is None else type(message), self.refusal)

    # Who watches, and how an end is told

    def watch(self, watch: Watch) -> None:
        """Tell `watch` of the end. The cell must not be gone."""
        if self.watchers is None:
            self.watchers = {}
        self.watchers[watch] = False

    def unwatch(self, watch: Watch) -> None:
        """Tell it nothing any more."""
        if self.watchers is not None:
            self.watchers.pop(watch, None)
        for watchers in self.being_told or ():
            if watch in watchers:
                watchers[watch] = True

    def tied(self) -> None:
        """Called when another actor was linked to this one; what stands for one may be derived."""

    def notify(self, ended: Cell, entry: Entry) -> None:
        """Tell this actor of an end, behind the last message of the ended one."""
        notice: Envelope = (Notice(entry), 0, None, NO_DEADLINE, 0.0, None)
        if not self.mailbox.put_behind(ended.id, notice):
            self.mailbox.post(entry)

    def _tell_of_last_life(self) -> None:
        """The owner has decided: the end of the last incarnation may be seen now."""
        exit_, self.untold_exit = self.untold_exit, None
        if exit_ is not None:
            self._tell_end(exit_, final=False)

    def _tell_end(self, exit_: Exit, *, final: bool) -> None:
        broken, self.broken_links = self.broken_links, None
        if final and self.links:
            # Tied to an incarnation that will never come.
            broken, self.links = {**self.links, **(broken or {})}, None
        watchers = self.watchers
        if not (broken or watchers or self.chores):
            return
        count = len(broken or ()) + len(watchers or ())
        # Whoever comes while they are told watches the next incarnation.
        apart = self._set_apart() if watchers and not final else {}
        steps = self._tell_all(exit_, broken or {}, apart, final)
        self._in_slices(steps, count)

    def _tell_all(
        self, exit_: Exit, broken: dict[Cell, Tie], watchers: dict[Watch, bool], final: bool
    ) -> Iterator[int]:
        # Of many neither a list is made nor all freed at once: that alone takes milliseconds.
        for peer, tie in broken.items():
            tie.broke(peer, self, exit_)
            yield 1
        if final:
            # Nobody comes any more; and whoever waited for this came back from an earlier end.
            watchers = self._set_apart()
        for watch, is_done in watchers.items():
            if is_done:
                continue  # It was taken off meanwhile.
            watchers[watch] = True
            if final or not watch.final:
                watch.ended(self, exit_)
            else:
                self.watch(watch)
            yield WAKES_TASK
        if self.being_told is not None:
            self.being_told = [one for one in self.being_told if one is not watchers] or None
        for told in (broken, watchers):
            while told:
                told.popitem()
                yield 1

    def _set_apart(self) -> dict[Watch, bool]:
        """Those who watch, to be told one after another; whoever comes now is none of them."""
        watchers, self.watchers = self.watchers, None
        if watchers is None:
            return {}
        self.being_told = [*(self.being_told or ()), watchers]
        return watchers

    # Inside

    def _start_has_failed(self) -> None:
        life = self.life
        assert life is not None
        wish = life.wanted
        self._life_is_over()
        if wish is not None and not isinstance(wish, Crashed):
            # Nobody has ended by this stop, or the kill it has become; it must not be lost with
            # the start that failed.
            self.pending_stop, self.draining = wish, life.draining
        if not self.draining:
            self._cancel_kill()

    def _life_is_over(self) -> None:
        self.life = None
        self.waiting_on = None
        if self.look_alarm is not None:
            self.look_alarm.cancel()
            self.look_alarm = None
        # Nobody is parked any more: what comes now waits, and wakes no one.
        self.mailbox.idle, self.mailbox.system_idle = AWAKE, False

    def _forget_stop(self) -> None:
        self.pending_stop, self.draining = None, False
        self._cancel_kill()

    def _cancel_kill(self) -> None:
        if self.kill_alarm is not None:
            self.kill_alarm.cancel()
            self.kill_alarm = None

    def _in_slices(self, steps: Iterator[object], count: int) -> None:
        """Do what takes about `count` steps: at once if they are few, else between others' turns.

        What is done in slices keeps its order among all that this cell does.
        """
        if self.chores is not None:
            self.chores.append(steps)
        elif count <= STEPS_AT_ONCE:
            for _ in steps:
                pass
        else:
            self.chores = deque([steps])
            self.system.dispatcher.do_in_slices(self._work_off(self.chores))

    def _work_off(self, chores: deque[Iterator[object]]) -> Iterator[object]:
        while chores:
            yield from chores[0]
            chores.popleft()
        self.chores = None

    def _close(self) -> None:
        self.gone, self.dormant = True, False
        self._forget_stop()
        forgetting = self.system.forget(self)
        if self.topics:
            self._in_slices(forgetting, len(self.topics))
        self.mailbox.close()

    def _bury(self, exit_: Exit) -> Iterator[int]:
        """What is left in the mailbox of an actor that is not started again."""
        for envelope in self.mailbox.leaving():
            if envelope is not None and type(envelope[MESSAGE]) is not Notice:
                self._bury_one(envelope, exit_)
            yield _step_of(envelope)

    def _bury_one(self, envelope: Envelope, exit_: Exit) -> None:
        reply = envelope[REPLY]
        if reply is not None and reply.outcome in ("withdrawn", "timed_out"):
            self.count_given_up(envelope)
            return
        self.system.dead_letters.add(self, envelope, "stopped", exit_)
        if reply is not None:
            kind = type(envelope[MESSAGE])
            reply.fail(ActorExited(self.path, exit_, kind, begun=False))

    def _stop_is_late(self) -> None:
        self.kill(Killed(because="the shutdown deadline passed"))

    def _still_alive(self) -> None:
        life = self.life
        if life is not None:
            cut = "a kill" if life.killed else "the end of its start_timeout"
            self.set_status("unkillable", f"{cut} has not worked for a second")
            self.owner.child_unkillable(self, life.stack())


def cell_of(ref: AnyRef) -> Cell:
    """Call this for the cell behind a ref; for owners, inspection and tests."""
    cell = ref._cell
    assert isinstance(cell, Cell)
    return cell


def _step_of(envelope: Envelope | None) -> int:
    """How much it counts that a message, or a waiting send (None), has left a mailbox."""
    return 1 if envelope is not None and envelope[REPLY] is None else WAKES_TASK


def _cancelled(timers: dict[object, Ticking], monitors: set[Monitoring]) -> Iterator[None]:
    # Taken off one by one: so they are freed a few at a time too.
    while timers:
        timers.popitem()[1].cancel()
        yield
    while monitors:
        monitors.pop().cancel()
        yield


def _dropped(entries: list[Entry]) -> Iterator[None]:
    entries.reverse()
    while entries:
        entries.pop().drop()
        yield


class _Note:
    """What a supervisor posts to itself; its `on_system` gets it."""

    __slots__ = ("_entry", "_life")

    def __init__(self, life: Life, entry: object) -> None:
        # The life, not its instance: a note may be posted before the instance is made.
        self._life, self._entry = life, entry

    def act(self) -> None:
        """Called by the loop. It is the supervisor's own code: raising here crashes it."""
        life = self._life
        assert life.instance is not None
        try:
            life.instance.on_system(self._entry)
        except BaseException as error:  # noqa: BLE001 - whatever a hook raises is its crash
            life.abort(crash_from(error))

    def drop(self) -> None:
        """Called when the incarnation ended first."""


# What belongs to an incarnation


class Ticking(Protocol):
    """A timer that is set."""

    @property
    def due(self) -> float: ...
    @property
    def interval(self) -> float | None: ...
    def cancel(self) -> None: ...


class Resting(Protocol):
    """Whatever looks at how long an actor has had nothing to do."""

    def parked(self) -> None:
        """It has nothing to do."""

    def cancel(self) -> None:
        """The incarnation is over."""


class Silence(Resting, Protocol):
    """The wait for a silence; standing still on request is none."""

    def pause(self) -> None: ...
    def resume(self) -> None: ...


class Holding(Protocol):
    """Somebody who looks into an actor, for more than a turn."""

    def drop(self) -> None:
        """The incarnation has ended first."""


class Monitoring(Protocol):
    """A monitor that is set."""

    @property
    def target(self) -> Cell: ...
    def cancel(self) -> None: ...


# `ending`: the exit is known, or the start has failed; hooks and child tasks may still run.
Phase: TypeAlias = Literal["new", "starting", "running", "ending", "over"]


class Life:
    """One incarnation of a cell: its state, and the steps both kinds of actors have in common."""

    __slots__ = (  # noqa: RUF023 - by what they are for, not by the alphabet
        # who it is
        "cell", "number", "instance", "table", "handlers", "has_task", "phase",
        # how it will end, and how it has ended
        "wanted", "killed", "draining", "late_start", "failed_start", "exit", "last_in_hand",
        # where it runs
        "context", "activity", "scope", "parked_task", "nursery",
        # giving the task back
        "wants_hibernation", "hibernating", "nap",
        # the budget of a turn
        "turn_left", "until_clock", "turn_began", "system_streak",
        # the message in hand
        "coroutine", "awaiting_since", "handling_began", "span_began", "set_aside",
        "passed_on", "gathered",
        # what an actor changes of itself
        "suspended", "held_by", "behaviour", "stash",
        # what it has set going
        "child_tasks", "owed", "timers", "idle_timer", "monitors",
    )  # fmt: skip

    def __init__(self, cell: Cell, number: int) -> None:
        self.cell, self.number = cell, number
        self.instance: AnyHooks | None = None
        self.table, self.handlers = _NO_TABLE, _NO_TABLE.handlers
        self.has_task = self.killed = False
        self.phase: Phase = "new"

        # The exit that was asked for, from a polite stop to a kill; and the one it came to.
        self.wanted: Exit | None = cell.pending_stop
        # Where an `on_start` waited that took too long, from then on; "" when that is not known.
        self.late_start: str | None = None
        # With `draining` it ends only when the mailbox is empty.
        self.draining = cell.draining
        self.failed_start: Failed | Ignored | None = None
        self.exit: Exit | None = None
        # For the crash report.
        self.last_in_hand: Envelope | None = None

        # Its own from the beginning: a context variable set by code of an actor is seen by no other
        # one. Its task is started in it, and has its copy then; that one stays when it hibernates.
        self.context: contextvars.Context = cell.system.dispatcher.clean.copy()
        # The dispatcher's, shared by all dispatched actors, until it has a task of its own.
        self.activity: Activity = cell.system.dispatcher.activity
        # Of task actors: what a kill or a late start cancels; the task between two messages.
        self.scope: trio.CancelScope | None = None
        self.parked_task: trio.lowlevel.Task | None = None
        self.nursery: trio.Nursery | None = None

        self.wants_hibernation = self.hibernating = False  # Done: the task is gone until it wakes.
        self.nap: Resting | None = None

        # Messages left in this turn, and how many of them may go before the next look at the
        # clock; when the turn began (0.0: the clock was not needed yet).
        self.turn_left = self.until_clock = 0
        self.turn_began = 0.0
        self.system_streak = 0  # A flood of system entries must let a user message through.

        # What an `async def` handler has made, until the task awaits it.
        self.coroutine: object = None
        self.awaiting_since: float | None = None
        # Of one that is measured and went another road than the batch; by the spans', of one told.
        self.handling_began = 0.0
        self.span_began: float | None = None
        # The message in hand, once its own handler has stashed it: it is not answered now; or
        # once it has passed it on: it is another actor's. Several, of one that takes a `Batch`.
        self.set_aside: Envelope | None = None
        self.passed_on: Envelope | None = None
        self.gathered: Batch[object] | None = None

        self.suspended = False
        self.held_by: Holding | None = None  # Standing still as well, until that is done.
        self.behaviour: Callable[[object], object] | None = None
        self.stash: list[Envelope] | None = None

        # Made at first use; most actors never need them.
        self.child_tasks: ChildTasks | None = None
        self.owed: dict[int, list[Later[Never]]] | None = None  # By the number of the message.
        self.timers: dict[object, Ticking] | None = None
        self.idle_timer: Silence | None = None
        self.monitors: set[Monitoring] | None = None

    def adopt(self, instance: AnyHooks) -> None:
        """Called with the new instance, before its `on_start`."""
        self.instance = instance
        cls = type(instance)
        self.table, self.handlers = cls.__table__, cls.__table__.handlers
        self.has_task = cls.__table__.is_task
        # Past a `__setattr__` of its own: that of a frozen dataclass refuses.
        object.__setattr__(instance, "_life", self)
        self.phase = "starting"
        self.cell.adopt(cls)

    # Wishes: they only note what shall be; the loop and the task look, and act on it

    def want(self, exit_: Exit, *, drain: bool = False) -> None:
        """It shall end after the message in hand; the first wish counts."""
        if self.wanted is not None or self.killed:
            # A later stop without `drain` is the more urgent one.
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
        """A child task, link or overflow ends it: a waiting handler is interrupted."""
        if self.killed or self.phase == "over":
            return
        if self.phase == "ending":
            # Too late to end it, not too late to say that it did not end well.
            if self.exit is not None and self.exit.clean and not exit_.clean:
                self.exit = self._stamp(exit_)
            return
        if exit_.clean and isinstance(self.wanted, Crashed):
            return
        self.wanted, self.draining = exit_, False
        self._interrupt(exit_.because)

    def kill(self, exit_: Killed) -> None:
        """It ends by force; a crash it already ended with stays the exit."""
        self.killed, self.draining = True, False
        self.wanted = exit_
        if self.exit is not None and not isinstance(self.exit, Crashed):
            self.exit = self._stamp(exit_)
        if self.child_tasks is not None:
            self.child_tasks.cancel()
        self._interrupt(exit_.because or "killed")

    def start_is_late(self) -> None:
        """Called when `on_start` has taken too long."""
        self.late_start = self._where() or ""
        self.cell.look_soon()
        self._interrupt("start_timeout passed")

    def _interrupt(self, because: str | None) -> None:
        # Without a scope nothing waits that could be cut short: a dispatched actor, or a task
        # between two steps of its life, which looks at `killed` before it goes on.
        if self.scope is not None:
            self.scope.cancel(reason=because)
        self.cell.mailbox.call_attention()

    def wake(self) -> None:
        """Called when a parked incarnation has something to do."""
        if self.parked_task is not None:
            task, self.parked_task = self.parked_task, None
            self.cell.system.dispatcher.tasks_waiting += 1
            trio.lowlevel.reschedule(task)
        else:
            self.cell.system.dispatcher.enqueue(self.cell)

    # Turns and rests

    def new_turn(self) -> None:
        """Called before the loop runs, when others have had their turn."""
        self.turn_left = self.cell.budget[0]
        self.until_clock = 0
        self.turn_began = 0.0

    def park(self) -> None:
        """Called when there is nothing to do: the next put, or system entry, wakes it."""
        mailbox = self.cell.mailbox
        stands_still = self.suspended or self.held_by is not None
        mailbox.idle = AWAKE if stands_still else PARKED if self.has_task else AWAITS_TURN
        mailbox.system_idle = True
        if self.nap is not None:
            self.nap.parked()
        if self.idle_timer is not None:
            self.idle_timer.parked()

    def unpark(self, _: object) -> trio.lowlevel.Abort:
        """Called by trio when the parked task is cancelled: nobody may wake it a second time."""
        self.parked_task = None
        self.cell.mailbox.idle, self.cell.mailbox.system_idle = AWAKE, False
        return trio.lowlevel.Abort.SUCCEEDED

    def may_hibernate(self) -> bool:
        """Whether an idle task actor shall give its task back now."""
        return self.wants_hibernation and not self.has_child_tasks

    @property
    def has_child_tasks(self) -> bool:
        """Whether one runs."""
        return self.child_tasks is not None and self.child_tasks.running > 0

    def hibernate(self) -> None:
        """Called as the last step of a task that is given back."""
        self.wants_hibernation, self.hibernating = False, True
        self.cell.system.sweep.discard(self)
        self.leave_task()
        self.park()

    def enter_task(self) -> None:
        """Called as the first step of a task that works for this incarnation alone."""
        task = trio.lowlevel.current_task()
        self.context = task.context
        self.activity = Activity(self.cell, task)
        current_activity.set(self.activity)

    def leave_task(self) -> None:
        """Called as one of the last steps of a task that worked for this incarnation alone."""
        # The context of a task holds its activity: as a circle both would wait for a collection.
        if self.activity is not self.cell.system.dispatcher.activity:
            self.activity.task = None

    def wrap(self, message: object, context: Context | None = None) -> Envelope:
        """The envelope of a message of the runtime (a tick, a Down), for its handler."""
        return (message, self.cell.system.next_id(), None, NO_DEADLINE, 0.0, context)

    # Owed replies (it is the `Debtor` of its `Later`s)

    def owe(self, envelope: Envelope) -> Later[object]:
        """Called by `reply_later`: `envelope` is answered later, and owed until then."""
        later: Later[object] = Later(self, envelope)
        if self.owed is None:
            self.owed = {}
        self.owed.setdefault(envelope[MESSAGE_ID], []).append(later)
        return later

    def forgive(self, later: Later[Never]) -> None:
        """Called when it was answered, or failed."""
        owed, number = self.owed, later.envelope[MESSAGE_ID]
        laters = None if owed is None else owed.get(number)
        if owed is not None and laters is not None and later in laters:
            laters.remove(later)
            if not laters:
                del owed[number]

    def unasked(self, envelope: Envelope) -> None:
        """Called with what is returned, or given later, to a message that was told."""
        if issubclass(type(envelope[MESSAGE]), Ask):
            self.cell.counts.late_replies += 1

    def refuses(self, envelope: Envelope, value: object) -> bool:
        """Called with what is given later: the wrong type fails the ask and crashes the actor."""
        message, reply = envelope[MESSAGE], envelope[REPLY]
        if not self.cell.system.check_replies or self.table.fits(type(message), value):
            return False
        error = BadReply(self.cell.path, message, value)
        if reply is not None:
            reply.fail(error)
        self.abort(Crashed(error))
        return True

    def fail_owed(self, exit_: Exit) -> None:
        """Nobody of this incarnation can give the replies it owes."""
        owed, self.owed = self.owed, None
        if owed:
            self.cell._in_slices(self._fail(owed, exit_), len(owed))

    def _fail(self, owed: dict[int, list[Later[Never]]], exit_: Exit) -> Iterator[int]:
        for laters in owed.values():
            for later in laters:
                later.fail(self._error_for(exit_, later.envelope))
                yield WAKES_TASK
        while owed:  # All at once would take its time.
            owed.popitem()
            yield 1

    def pass_on(self, envelope: Envelope, to: Target) -> None:
        """Called by `forward`: from here on `envelope` is settled by another actor."""
        reply = envelope[REPLY]
        self.passed_on = envelope
        for later in self._owed_for(envelope):
            self.forgive(later)
        if reply is None or reply.outcome == "waiting":
            pass_on(envelope, to, self.cell)
        else:
            self.cell.count_given_up(envelope)

    def owes(self, envelope: Envelope) -> bool:
        """Whether `envelope` is answered later."""
        return bool(self.owed) and bool(self._owed_for(envelope))

    def _owed_for(self, envelope: Envelope) -> list[Later[Never]]:
        laters = () if self.owed is None else self.owed.get(envelope[MESSAGE_ID], ())
        # One that was passed on, and comes back, has its number still.
        return [later for later in laters if later.envelope is envelope]

    # The end

    def end_with(self, exit_: Exit) -> None:
        """Handling is over: from here the exit is known, and the message in hand is settled."""
        if (self.killed and self.wanted is not None) or (
            isinstance(self.wanted, Crashed) and exit_.clean
        ):
            exit_ = self.wanted
        self.phase = "ending"
        self.exit = exit_ = self._stamp(exit_)
        self.cell.set_status("stopping", exit_.because)
        self._settle_in_hand(exit_)
        if not exit_.clean:
            # At a stop `on_stop` and child tasks may still answer; after a crash nobody will.
            self.fail_owed(exit_)
        # What is left of an actor without task and child tasks happens at once: nothing to limit.
        may_take_time = self.has_task or self.child_tasks is not None
        if may_take_time and not isinstance(exit_, Killed):
            self.cell.limit_stop(self.cell.shutdown)

    def stop_raised(self, error: BaseException) -> None:
        """`on_stop` crashed with this: that is the exit, the first one its `__context__`."""
        first = self.exit
        crash = Crashed(error)
        if isinstance(first, Crashed) and first.error is not crash.error:
            # Past a `__setattr__` of its own: that of a frozen dataclass refuses.
            BaseException.__setattr__(crash.error, "__context__", first.error)
        self.exit = self._stamp(crash)
        self.fail_owed(self.exit)

    def _stamp(self, exit_: Exit) -> Exit:
        return stamped(exit_, self.number, trio.current_time())

    def _settle_in_hand(self, exit_: Exit) -> None:
        envelope = self.activity.envelope
        if envelope is None or self.activity.cell is not self.cell:
            return
        self.last_in_hand = envelope
        self.activity.envelope = self.activity.out = None
        batch, self.gathered = self.gathered, None
        if batch is not None:
            if batch.failed is not None:
                self.last_in_hand = batch.failed.envelope
            self._settle_batch(batch, exit_)
            return
        if self.passed_on is envelope:
            return
        if self.set_aside is envelope:
            self._take_back(envelope)
        if not exit_.clean:
            reason: Reason = "killed" if isinstance(exit_, Killed) else "crashed"
            self.cell.system.dead_letters.add(self.cell, envelope, reason, exit_)
        reply = envelope[REPLY]
        if reply is not None and not self.owes(envelope):
            reply.fail(self._error_for(exit_, envelope))

    def _settle_batch(self, batch: Batch[object], exit_: Exit) -> None:
        """Each as one message in hand; what was done before the end stays done."""
        failed = batch.failed
        if failed is not None and failed.comes_back():
            self._take_back(failed.envelope)
        left = [taken for taken in batch if not taken.is_done]
        if exit_.clean:
            # `on_stop` may still answer these.
            left = [taken for taken in left if not self.owes(taken.envelope)]
        self.cell._in_slices(self._settle_each(left, failed, exit_), len(left))

    def _settle_each(
        self, left: list[Taken[object]], failed: Taken[object] | None, exit_: Exit
    ) -> Iterator[int]:
        # An end in good order was meant by whoever had one of them in hand; the others are lost by
        # it, as if they had waited still.
        reason: Reason = "stopped" if exit_.clean else "crashed"
        if isinstance(exit_, Killed):
            reason = "killed"
        for taken in left:
            envelope, reply = taken.envelope, taken.envelope[REPLY]
            if not exit_.clean or taken is not failed:
                self.cell.system.dead_letters.add(self.cell, envelope, reason, exit_)
            if reply is not None:
                reply.fail(self._error_for(exit_, envelope))
            yield WAKES_TASK

    def _take_back(self, envelope: Envelope) -> None:
        if self.stash:  # Or back in the mailbox already; it never comes a second time.
            self.stash = [kept for kept in self.stash if kept is not envelope]
        self.cell.mailbox.take_back(envelope)

    def _error_for(self, exit_: Exit, envelope: Envelope) -> AskError:
        kind = type(envelope[MESSAGE])
        if isinstance(exit_, Crashed):
            return ActorCrashed(self.cell.path, exit_.error, kind)
        return ActorExited(self.cell.path, exit_, kind)

    def release(self, exit_: Exit) -> None:
        """Called as the last step: everything that belongs to the incarnation is let go."""
        self.phase = "over"
        if self.has_task:
            self.cell.system.sweep.discard(self)
        self.fail_owed(exit_)
        if self.stash:
            self.cell.mailbox.put_back(self.stash)
        if self.held_by is not None:
            self.held_by.drop()
        for resting in (self.idle_timer, self.nap):
            if resting is not None:
                resting.cancel()
        timers, monitors = self.timers, self.monitors
        self.timers = self.monitors = self.stash = None
        self.idle_timer = self.nap = None
        if timers or monitors:
            # Those whose turn has not come do nothing any more: this life is over.
            count = len(timers or ()) + len(monitors or ())
            self._let_go(_cancelled(timers or {}, monitors or set()), count)
        # Ticks, requests and notes meant for it. Notices of ends on the user lane stay: they act
        # in the next incarnation, and find that they were for another one.
        entries = self.cell.mailbox.drop_system()
        if entries:
            # A broken link looks at the failed start, which is known only here and now.
            self._let_go(_dropped(entries), 0 if self.failed_start else len(entries))

    def _let_go(self, steps: Iterator[None], count: int) -> None:
        if count > STEPS_AT_ONCE:
            self.cell.system.dispatcher.do_in_slices(steps)
            return
        for _ in steps:
            pass

    def _where(self) -> str | None:
        task = self.activity.task
        return None if task is None else place_in(task.iter_await_frames())

    def stack(self) -> str:
        """Where a task actor waits, innermost frame last."""
        task = self.activity.task
        if task is None:
            return "(no task)"
        frames = traceback.StackSummary.extract(iter(task.iter_await_frames()))
        return "".join(frames.format())

    def handler_for(self, envelope: Envelope) -> Handler | None:
        """Called for a class that may have no entry in `handlers`, to make one if it can.

        A class whose metaclass cannot be hashed never gets one: only `receive` can handle it.
        """
        kind = type(envelope[MESSAGE])
        try:
            known = self.handlers.get(kind)
            is_kept = True
        except BaseException as error:  # noqa: BLE001 - a metaclass's `__hash__`, or `__eq__`
            without_cancelled(error)
            known, is_kept = None, False
        if known is not None:
            return known
        if self.behaviour is not None:
            behaviour = self.behaviour
            made: Handler = lambda _, message: behaviour(message)  # noqa: E731
        elif self.table.has_receive:
            assert self.instance is not None
            made = cast(Handler, type(self.instance).receive)
        else:
            return None
        if is_kept and len(self.handlers) < CLASSES_KEPT:
            self.handlers[kind] = made
        return made
