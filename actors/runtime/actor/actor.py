"""The base class of every actor: what an author declares, overrides and calls.

What the runtime reads and calls, the settings and the hooks, is inherited from `Hooks`
(`life/hooks.py`); everything an actor itself calls stands here: replies and its own end, time,
other actors, messages for later. What comes of a timer or a monitor that is set is told in
`timers.py` and `relations.py`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from typing import ClassVar, Final, Never, TypeAlias, TypeVar, TypeVarTuple, cast, overload

import trio

from actors.runtime.actor.relations import Exited, Monitor, link, unlink
from actors.runtime.actor.timers import (
    IdleTimeout,
    IdleTimer,
    Timer,
    checked_delay,
    checked_interval,
)
from actors.runtime.delivery.envelope import (
    DEADLINE,
    MESSAGE,
    NO_DEADLINE,
    REPLY,
    Activity,
    Envelope,
    Later,
    Reply,
    current_activity,
)
from actors.runtime.delivery.mailbox import check_mailbox
from actors.runtime.delivery.ref import AnyRef, Ref, is_number
from actors.runtime.life.cell import Cell, Life, cell_of
from actors.runtime.life.child_tasks import ChildTasks
from actors.runtime.life.gathering import gathering
from actors.runtime.life.handlers import compile_table, protocol_of
from actors.runtime.life.hooks import Hooks, check_class_names, reserve
from actors.runtime.life.loop import is_async
from actors.runtime.system.system import System
from actors.runtime.words.counting import check_level
from actors.runtime.words.errors import StashFull
from actors.runtime.words.exits import Exit, Normal, checked_exit
from actors.runtime.words.messages import Ask
from actors.runtime.words.places import in_place
from actors.runtime.words.showing import shown

M = TypeVar("M", contravariant=True)  # noqa: PLC0105 - the M of Actor[M], in every signature
R = TypeVar("R")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# A quarter of a mailbox: an actor that sets more aside is waiting for something that went wrong.
STASH_CAPACITY: Final = 256


class Actor(Hooks[M]):
    """An actor that takes messages of type M.

    ```python
    class Stock(Actor[Add | Total]):
        def __init__(self, shelf: str) -> None:   # plain arguments, called anew at each restart
            self.counts: dict[str, int] = {}
        def on_add(self, message: Add) -> None:   # found by its annotation
            self.counts[message.item] = self.counts.get(message.item, 0) + message.count
        def on_total(self, message: Total) -> int:
            return self.counts.get(message.item, 0)
    ```

    With only `def` methods it runs on the shared dispatcher, with an `async def` handler or hook in
    a task of its own. One message at a time, always.
    """

    stash_capacity: ClassVar[int] = STASH_CAPACITY

    _life: Life

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        check_class_names(cls)
        check_mailbox(cls.capacity, cls.overflow)
        _check_settings(cls)
        receive = None if cls.receive is Actor.receive else cls.receive
        try:
            cls.__table__ = table = compile_table(
                cls, Actor, protocol_of(cls, Actor), receive, gathering
            )
        except TypeError as error:
            raise type(error)(in_place(str(error))) from error.__cause__
        if cls.trap_exits and receive is None and Exited not in table.handlers:
            raise TypeError(
                f"{cls.__qualname__} traps exits but has no method on_...(self, message: Exited)"
            )

    # Where it stands

    @property
    def ref(self) -> Ref[M]:
        """The handle others use."""
        return self._life.cell.ref  # type: ignore[return-value]

    @property
    def system(self) -> System:
        """The system it runs in."""
        system = self._life.cell.system
        assert isinstance(system, System)
        return system

    @property
    def path(self) -> str:
        """The names from the root, joined by `/`."""
        return self._life.cell.path

    @property
    def incarnation(self) -> int:
        """How many times it was started, this time included."""
        return self._life.number

    @property
    def cell(self) -> Cell:
        """Its identity and port; for supervisors, which own cells and post entries to their own."""
        return self._life.cell

    @property
    def nursery(self) -> trio.Nursery:
        """The nursery opened for a class with `opens_nursery`, for the tasks of its children."""
        nursery = self._life.nursery
        if nursery is None:
            raise RuntimeError(f"{type(self).__name__} does not set opens_nursery")
        return nursery

    # The message in hand

    @property
    def deadline(self) -> float:
        """The absolute deadline of the message in hand; `inf` when it has none."""
        activity = self._activity
        if activity.envelope is None:
            return NO_DEADLINE
        deadline = activity.envelope[DEADLINE]
        if not self._life.has_task and trio.lowlevel.current_task() is not activity.task:
            # Served at once, in the task of the asker: its scopes hold here too.
            return min(deadline, trio.current_effective_deadline())
        return deadline

    def remaining(self) -> float:
        """Call this to get the seconds left for the message in hand; `inf` when unlimited."""
        return self.deadline - trio.current_time()

    @property
    def asker_gone(self) -> bool:
        """Whether nobody waits any more for the reply to the message in hand."""
        reply = self._reply
        return reply is not None and reply.task is None

    @property
    def asker_waits(self) -> bool:
        """Whether somebody waits for the reply to the message in hand."""
        reply = self._reply
        return reply is not None and reply.task is not None

    @property
    def _reply(self) -> Reply | None:
        envelope = self._activity.envelope
        return None if envelope is None else envelope[REPLY]

    @property
    def _activity(self) -> Activity:
        life = self._life
        activity, current = life.activity, current_activity.get()
        if activity.cell is not life.cell or not (
            current is activity or current.works_for(activity)
        ):
            raise RuntimeError(
                f"only a handler or hook of {self.path} has a message in hand, not a child task "
                "nor anybody else. Read what you need there, and pass it on."
            )
        return activity

    # Replies and the end

    @overload
    def reply_later(self) -> Later[object]: ...
    @overload
    def reply_later(self, message: Ask[R]) -> Later[R]: ...
    def reply_later(self, message: object = None) -> Later[object] | Later[R]:
        """Call this in a handler to answer the message in hand from elsewhere.

        Passing the message only tells the type checker what `reply` takes.
        """
        envelope = self._activity.envelope
        if envelope is None:
            raise RuntimeError("reply_later() is for handlers; no message is in hand here")
        self._check_is_here(envelope)
        return self._life.owe(envelope)

    @overload
    def forward(self, ref: AnyRef) -> Later[object]: ...
    @overload
    def forward(self, ref: Ref[T], message: T) -> Later[object]: ...
    def forward(self, ref: AnyRef, message: object = None) -> Later[object]:
        """Call this in a handler to pass the message in hand on, as if it had been sent to `ref`.

        An asker waits for `ref` from then on and gets its reply straight, within the deadline it
        has asked with; this actor owes nothing, and may crash or stop. Return what this returns,
        for a type checker wants an answer:

        ```python
        def on_total(self, message: Total) -> Later[int]:
            return self.forward(self.shelves[message.shelf], message)
        ```

        Never waits. A tell that finds a full mailbox is subject to its `overflow`, an ask waits
        for room. With `ref` dead a tell is a dead letter and the asker gets NoProc; an asker that
        would wait for itself gets DeadlockError. Raises RuntimeError when no message is in hand,
        or it has been answered, stashed or passed on already. Passing `message`, the one in hand,
        only tells the type checker what `ref` must take.
        """
        life, envelope = self._life, self._activity.envelope
        if envelope is None:
            raise RuntimeError("forward() is for handlers; no message is in hand here")
        if message is not None and message is not envelope[MESSAGE]:
            raise RuntimeError("forward() passes on the message in hand; tell any other")
        self._check_is_here(envelope)
        reply = envelope[REPLY]
        if life.set_aside is envelope or (reply is not None and reply.outcome == "answered"):
            raise RuntimeError("the message in hand is stashed or answered; it was not passed on")
        life.pass_on(envelope, ref._target(cast(Never, envelope[MESSAGE])))
        return Later(life, envelope)

    def _check_is_here(self, envelope: Envelope) -> None:
        life = self._life
        if life.gathered is not None and envelope is life.gathered.shared:
            raise RuntimeError(
                "a batch is in hand; take the message that is meant: `with taken: ...`"
            )
        if life.passed_on is envelope:
            raise RuntimeError("the message in hand was passed on; it is another actor's now")

    def stop(self, exit: Exit = Normal()) -> None:  # noqa: A002, B008 - exits are frozen
        """Call this to end after this handler; its reply is still given.

        `exit` says how: `Normal()`, or `Shutdown(info)` for a reason that others can read. To end
        at once, without a reply, raise `StopActor`. TypeError for what is no exit.
        """
        self._life.want(checked_exit(exit))

    def start_soon(self, task: Callable[[*Ts], Awaitable[object]], *args: *Ts) -> None:
        """Call this to run a child task beside the messages; if it raises, the actor crashes.

        Returns at once. The task ends with the incarnation: cancelled at a crash, a kill or, behind
        `on_stop`, a stop, and awaited before the next one begins. It has no message in hand.
        RuntimeError when the incarnation is over.
        """
        life = self._life
        if life.phase == "over":
            raise RuntimeError(
                f"this incarnation of {self.path} is over; no child task was started"
            )
        if life.child_tasks is None:
            life.child_tasks = ChildTasks(self.path, life.cell.owner.nursery, life.abort)
        name = f"{life.cell.path} {getattr(task, '__name__', 'child task')}"
        life.child_tasks.start(task, args, name)

    # Time

    def after(self, delay: float, message: M, *, key: Hashable = None) -> Timer:
        """Call this to get `message` in `delay` seconds; `key` replaces its earlier timer.

        It ends with the incarnation, or by `cancel()` of what this returns. Raises ValueError for a
        delay that is no finite number of seconds >= 0, and what hashing the key raises; nothing is
        set then.
        """
        return Timer(self._life, checked_delay(delay), message, key, None)

    def every(self, interval: float, message: M, *, key: Hashable = None) -> Timer:
        """Call this to get `message` every `interval` seconds, the first time after one of them.

        Without drift, and at most one tick waits in the mailbox. It ends with the incarnation, or
        by `cancel()` of what this returns. Raises ValueError for less than 0.01 s.
        """
        step = checked_interval(interval)
        return Timer(self._life, step, message, key, step)

    def idle_after(self, delay: float | None) -> None:
        """Call this to get IdleTimeout when no message came for `delay` seconds; None ends it.

        Never early, and up to 10 ms late, so that many silences take one wake of the loop. Once;
        the next message arms it again. Timers are no messages. Raises TypeError without a
        handler for `IdleTimeout`, ValueError for a delay that is no finite number >= 0.
        """
        life = self._life
        if life.idle_timer is not None:
            life.idle_timer.cancel()
        if delay is not None:
            delay = checked_delay(delay)
            takes_all = life.table.has_receive or life.behaviour is not None
            if not takes_all and IdleTimeout not in life.handlers:
                raise TypeError(f"{type(self).__name__} has no handler for IdleTimeout")
        life.idle_timer = None if delay is None else IdleTimer(life, delay)

    def hibernate(self) -> None:
        """Call this to give the task back once there is nothing to do; the next message wakes it.

        State, timers and monitors stay. A dispatched actor has nothing to give back.
        """
        self._life.wants_hibernation = self._life.has_task and not self.opens_nursery

    # Others

    def monitor(self, ref: AnyRef, *, final: bool = False) -> Monitor:
        """Call this to get one `Down` when the actor's incarnation (final: the actor) ends.

        Of a dead actor it comes at once, with `NoProc`. The monitor ends with this incarnation, or
        by `cancel()` of what this returns.
        """
        return Monitor(self._life, cell_of(ref), final=final)

    def demonitor(self, monitor: Monitor) -> None:
        """Call this to get no Down of this monitor, also when it was queued."""
        monitor.cancel()

    def link(self, ref: AnyRef) -> None:
        """Call this to share the other's fate, and it yours; see `trap_exits`.

        A crash or kill of one crashes the other (`LinkBroken`), a shutdown shuts it down, a normal
        end does nothing. With `trap_exits` each comes as a message, `Exited`. The link ends with
        either incarnation. To link twice, or to oneself, changes nothing.
        """
        link(self._life.cell, cell_of(ref))

    def unlink(self, ref: AnyRef) -> None:
        """Call this to end the link; no exit of the other is handled afterwards."""
        unlink(self._life.cell, cell_of(ref))

    # Messages for later, and other rules for a while

    def stash(self) -> None:
        """Call this to set the message in hand aside; it is not answered now.

        Raises StashFull beyond `stash_capacity`, RuntimeError when no message is in hand.
        """
        life = self._life
        envelope = life.activity.envelope
        is_own = life.activity.cell is life.cell and current_activity.get().works_for(life.activity)
        if envelope is None or not is_own:
            raise RuntimeError(
                "stash() is for handlers; hooks and child tasks have no message in hand"
            )
        self._check_is_here(envelope)
        if life.set_aside is envelope:
            return  # Set aside already; once is enough to come back once.
        if life.stash is None:
            life.stash = []
        if len(life.stash) >= self.stash_capacity:
            raise StashFull(self.path, self.stash_capacity)
        life.stash.append(envelope)
        life.set_aside = envelope

    def unstash_all(self) -> None:
        """Call this to put everything set aside back to the front of the mailbox, in order."""
        life = self._life
        if life.stash:
            envelopes, life.stash = life.stash, None
            life.cell.mailbox.put_back(envelopes)

    def become(self, behaviour: Callable[[M], object] | None) -> None:
        """Call this to let `behaviour` take every message; None brings the handlers back.

        Raises TypeError for what cannot be called, and for an `async` behaviour in an actor without
        a task.
        """
        life = self._life
        if behaviour is not None and not callable(behaviour):
            raise TypeError(f"{shown(behaviour)} cannot be a behaviour; give a function, or None")
        if is_async(behaviour) and not life.has_task:
            raise TypeError(
                f"{self.path} runs on the dispatcher and cannot await; make one of its handlers "
                "`async def` to give it a task"
            )
        life.behaviour = cast(Callable[[object], object] | None, behaviour)
        # An empty table of its own: filled as classes come, by `Life.handler_for`.
        life.handlers = life.table.handlers if behaviour is None else {}
        life.cell.mailbox.call_attention()  # The loop holds the old table until it looks up.


def _check_settings(cls: type[AnyActor]) -> None:
    limit, nap = cls.start_timeout, cls.hibernate_after
    if not is_number(limit) or not limit >= 0:
        raise ValueError(f"start_timeout is {limit!r}; it must be a number of seconds >= 0")
    if nap is not None and (not is_number(nap) or not nap >= 0):
        raise ValueError(f"hibernate_after is {nap!r}; it must be seconds >= 0, or None")
    if not _is_budget(cls.budget):
        raise ValueError(
            f"budget is {cls.budget!r}; it must be a tuple of messages >= 1 and seconds > 0"
        )
    check_level(cls.level)
    if not _is_count(cls.batch_max):
        raise ValueError(f"batch_max is {cls.batch_max!r}; it must be a number of messages >= 1")
    room = cls.stash_capacity
    if not is_number(room) or not room >= 0:
        raise ValueError(f"stash_capacity is {room!r}; it must be a number >= 0")


def _is_budget(budget: object) -> bool:
    if not isinstance(budget, tuple) or len(budget) != 2:
        return False
    messages, seconds = budget
    return _is_count(messages) and is_number(seconds) and seconds > 0


def _is_count(value: object) -> bool:
    return isinstance(value, int) and is_number(value) and value >= 1


reserve(Actor)

# An actor of whatever type.
AnyActor: TypeAlias = Actor[Never]
