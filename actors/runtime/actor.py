"""The base class of every actor: what it can declare, override and call.

The methods here only pass on; what they do stands in the module named in each group.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from functools import partial
from typing import (
    TYPE_CHECKING,
    ClassVar,
    Generic,
    Never,
    TypeAlias,
    TypeVar,
    TypeVarTuple,
    cast,
    overload,
)

import trio

from actors.runtime import relations, stash, timers
from actors.runtime.context import Activity, current_activity
from actors.runtime.envelope import NO_DEADLINE
from actors.runtime.handlers import Table, compile_table, protocol_of
from actors.runtime.helpers import Helpers
from actors.runtime.later import Later
from actors.runtime.overflow import DEFAULT_CAPACITY, Overflow, check_mailbox
from actors.runtime.port import START_TIMEOUT_S
from actors.runtime.ref import AnyRef, Ref
from actors.runtime.words.counting import Level
from actors.runtime.words.exits import Exit, Normal
from actors.runtime.words.messages import Ask
from actors.runtime.words.showing import redact_names

if TYPE_CHECKING:
    from actors.runtime.cell import Cell
    from actors.runtime.life import Life
    from actors.runtime.system import System

M = TypeVar("M", contravariant=True)  # noqa: PLC0105 - the M of Actor[M], in every signature
R = TypeVar("R")
Ts = TypeVarTuple("Ts")


class Actor(Generic[M]):
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

    # How many user messages may wait, and what happens to one more tell.
    capacity: ClassVar[int] = DEFAULT_CAPACITY
    overflow: ClassVar[Overflow] = "drop_new"
    # After so many messages, or seconds, others get their turn.
    budget: ClassVar[tuple[int, float]] = (64, 0.001)
    # Whether the end of a linked actor comes as a message (`Exited`).
    trap_exits: ClassVar[bool] = False
    stash_capacity: ClassVar[int] = stash.STASH_CAPACITY
    hibernate_after: ClassVar[float | None] = None
    # `on_start` that takes longer fails as StartTimeout.
    start_timeout: ClassVar[float] = START_TIMEOUT_S
    # What is measured: off, counters, sampled (times of one message in 16) or full.
    level: ClassVar[Level] = "counters"
    # For supervisors: the incarnation opens a nursery for its children's tasks.
    opens_nursery: ClassVar[bool] = False

    __table__: ClassVar[Table] = Table()
    _life: Life

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        check_mailbox(cls.capacity, cls.overflow)
        receive = None if cls.receive is Actor.receive else cls.receive
        cls.__table__ = table = compile_table(cls, Actor, protocol_of(cls, Actor), receive)
        if cls.trap_exits and receive is None and relations.Exited not in table.handlers:
            raise TypeError(
                f"{cls.__qualname__} traps exits but has no method on_...(self, message: Exited)"
            )

    # Hooks. They return `object` here so that `def` and `async def` both may override them.

    def on_start(self) -> object:
        """Override this to begin; may be `async`, return IGNORE or `Started(info)`, or raise."""
        return None

    def on_stop(self, exit: Exit) -> object:  # noqa: A002 - the word of the whole runtime for this
        """Override this to clean up; may be `async`. Runs after a crash too, not after a kill."""
        return None

    def receive(self, message: M) -> object:
        """Override this to take every message yourself, with a `match`; may be `async`."""
        raise TypeError("receive is only called where it is overridden")

    def redact(self, state: dict[str, object]) -> dict[str, object]:
        """Override this to hide secrets from reports; see `redaction.redact_names`."""
        return redact_names(state)

    # Hooks of supervisors

    def on_system(self, entry: object) -> None:
        """Override this to take entries given to `cell.post_system`, ahead of user messages."""

    async def wind_down(self, exit: Exit) -> None:  # noqa: A002
        """Override this to end the children; called for every ending, after `on_stop`."""

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

    # Where it stands

    @property
    def ref(self) -> Ref[M]:
        """The handle others use."""
        return self._life.cell.ref  # type: ignore[return-value]

    @property
    def system(self) -> System:
        """The system it runs in."""
        return self._life.cell.system

    @property
    def path(self) -> str:
        """The names from the root, joined by `/`."""
        return self._life.cell.path

    @property
    def incarnation(self) -> int:
        """How many times it was started, this time included."""
        return self._life.number

    @property
    def deadline(self) -> float:
        """The absolute deadline of the message in hand; `inf` when it has none."""
        activity = self._activity
        return NO_DEADLINE if activity.envelope is None else activity.envelope[3]

    def remaining(self) -> float:
        """Call this to get the seconds left for the message in hand; `inf` when unlimited."""
        return self.deadline - trio.current_time()

    @property
    def asker_gone(self) -> bool:
        """Whether nobody waits any more for the reply to the message in hand."""
        envelope = self._activity.envelope
        reply = None if envelope is None else envelope[2]
        return reply is not None and reply.task is None

    @property
    def asker_waits(self) -> bool:
        """Whether somebody waits for the reply to the message in hand."""
        envelope = self._activity.envelope
        reply = None if envelope is None else envelope[2]
        return reply is not None and reply.task is not None

    @property
    def _activity(self) -> Activity:
        activity = self._life.activity
        if activity.cell is not self._life.cell or current_activity.get() is not activity:
            raise RuntimeError(
                f"only a handler or hook of {self.path} has a message in hand, not a sub-task nor "
                "anybody else. Read what you need there, and pass it on."
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
        return Later(self._life, envelope)

    def stop(self, exit: Exit = Normal()) -> None:  # noqa: A002, B008 - exits are frozen
        """Call this to end after this handler; its reply is still given."""
        self._life.want(exit)

    def start_soon(self, task: Callable[[*Ts], Awaitable[object]], *args: *Ts) -> None:
        """Call this to run a sub-task; if it raises, the actor crashes."""
        if self._life.phase == "over":
            raise RuntimeError(f"this incarnation of {self.path} is over; no sub-task was started")
        if self._life.helpers is None:
            self._life.helpers = Helpers(self._life)
        name = f"{self.path} {getattr(task, '__name__', 'sub-task')}"
        self._life.helpers.start(partial(task, *args), name)

    # Time (`timers.py`)

    def after(self, delay: float, message: M, *, key: Hashable = None) -> timers.Timer:
        """Call this to get `message` in `delay` seconds; `key` replaces its earlier timer."""
        return timers.Timer(self._life, timers.checked_delay(delay), message, key, None)

    def every(self, interval: float, message: M, *, key: Hashable = None) -> timers.Timer:
        """Call this to get `message` every `interval` seconds; at most one tick waits."""
        step = timers.checked_interval(interval)
        return timers.Timer(self._life, step, message, key, step)

    def idle_after(self, delay: float | None) -> None:
        """Call this to get IdleTimeout when no message came for `delay` seconds; None ends it."""
        timers.set_idle(self._life, delay)

    # Others (`relations.py`)

    def monitor(self, ref: AnyRef, *, final: bool = False) -> relations.Monitor:
        """Call this to get one Down when the actor's incarnation (final: the actor) ends."""
        return relations.Monitor(self._life, ref._cell, final=final)

    def demonitor(self, monitor: relations.Monitor) -> None:
        """Call this to get no Down of this monitor, also when it was queued."""
        monitor.cancel()

    def link(self, ref: AnyRef) -> None:
        """Call this to share the other's fate, and it yours; see `trap_exits`."""
        relations.link(self._life.cell, ref._cell)

    def unlink(self, ref: AnyRef) -> None:
        """Call this to end the link; no exit of the other is handled afterwards."""
        relations.unlink(self._life.cell, ref._cell)

    def hibernate(self) -> None:
        """Call this to give the task back once there is nothing to do; the next message wakes it.

        State, timers and monitors stay. A dispatched actor has nothing to give back.
        """
        self._life.drowsy = self._life.table.is_task and not self.opens_nursery

    # Messages for later (`stash.py`)

    def stash(self) -> None:
        """Call this to set the message in hand aside; StashFull beyond `stash_capacity`."""
        stash.stash(self._life, self.stash_capacity)

    def unstash_all(self) -> None:
        """Call this to put everything set aside back to the front, in order."""
        stash.unstash_all(self._life)

    def become(self, behaviour: Callable[[M], object] | None) -> None:
        """Call this to let `behaviour` take every message; None brings the handlers back."""
        stash.become(self._life, cast(Callable[[object], object] | None, behaviour))


# An actor of whatever type.
AnyActor: TypeAlias = Actor[Never]
