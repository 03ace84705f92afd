"""How a reducer actor is held: run an action, wait for its outcome, read the state, follow it.

    handle = await counter.run(Increment())
    total = await counter.state(count_of)
    paid = await orders.ask_for(Pay(order_id), (Paid, PaymentFailed))

What is told, sent and asked goes as to every actor. The state never leaves the actor but as a value
that nobody can change.

Rule 1: what waits belongs to its caller. When that one is cancelled nothing of it stays behind.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final, Generic, Literal, Self, TypeAlias, TypeVar, cast, overload
from weakref import ref as weak

import trio

from actors.reducers.effects import Effect
from actors.reducers.handles import EffectHandle, Found, Outcome, Raised
from actors.reducers.messages import here
from actors.reducers.performing import Counts, Performing
from actors.runtime import (
    Ask,
    AskError,
    AskTimeout,
    Cell,
    Context,
    Exit,
    Ref,
    current_context,
    edge_context,
    message,
)
from actors.runtime.delivery.envelope import Activity, current_activity, is_correlation
from actors.runtime.delivery.ref import ASK_TIMEOUT_S, Target
from actors.runtime.life.cell import cell_of
from actors.runtime.telling.spans import is_traceparent

S_co = TypeVar("S_co", covariant=True)
A_contra = TypeVar("A_contra", contravariant=True)
O = TypeVar("O")  # noqa: E741 - an outcome
T = TypeVar("T")

# Behind by so many actions a subscriber has other things to do; it is told how many it missed.
SUBSCRIPTION_CAPACITY: Final = 16
DRAIN_TIMEOUT_S: Final = 30.0
# Which effects a handle counts: those of the action, or also those of all that it causes.
Track: TypeAlias = Literal["direct", "cascade"]


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a call says about itself; each field that is given wins over what is inherited.

    ValueError for a correlation id that is not 1 to 64 characters of `A-Za-z0-9._-`, a traceparent
    that is none, and what is no text or says nothing.
    """

    correlation_id: str | None = None
    traceparent: str | None = None
    user_id: str | None = None
    tenant: str | None = None

    def __post_init__(self) -> None:
        given: object = self.correlation_id
        if given is not None and not is_correlation(given):
            raise ValueError(
                f"correlation_id is {given!r}; it must be 1 to 64 of the characters A-Za-z0-9._- "
                f"({here()})"
            )
        for name in ("traceparent", "user_id", "tenant"):
            text: object = getattr(self, name)
            if text is not None and not (isinstance(text, str) and text.strip()):
                raise ValueError(f"{name} is {text!r}; it must be a text ({here()})")
        if self.traceparent is not None and not is_traceparent(self.traceparent):
            raise ValueError(
                f"traceparent is {self.traceparent!r}; it is written as 00-, 32 and 16 hexadecimal "
                f"digits, and -01 ({here()})"
            )


@dataclass(frozen=True, slots=True)
class Applied(Generic[A_contra]):
    """An action that was reduced: the `seq`-th of its actor, and where it came from."""

    seq: int
    action: object
    metadata: Context


@dataclass(frozen=True, slots=True)
class Lagged:
    """So many actions came while a subscriber had no room for them; it missed those."""

    missed: int


@dataclass(frozen=True, slots=True)
class Drained:
    """What was done between the call of `drain` and its end."""

    handled: int
    effects: int


@dataclass(frozen=True, slots=True)
class Health:
    """How a reducer actor is.

    `degraded`: it drains, or effects wait for a place; `unhealthy`: it is not there, or just
    restarting. `waited_s` is how long effects have waited for a place, all taken together;
    `failed` and `cancelled` count effects since the actor was started.
    """

    status: Literal["healthy", "degraded", "unhealthy"]
    message: str
    pending: int = 0
    waiting: int = 0
    waited_s: float = 0.0
    failed: int = 0
    cancelled: int = 0


class Draining(AskError):
    """The actor is being drained: the action was not reduced. Send it to another, or later."""

    def __init__(self, path: str) -> None:
        super().__init__(path, None, f"{path} is draining; the action was not reduced")


class DrainTimeout(Exception):
    """`drain` took too long: `pending` effects are left, `names` says which; it goes on."""

    def __init__(self, path: str, pending: int, names: list[str]) -> None:
        super().__init__(f"{path} still has {pending} effects: {', '.join(names)}; it goes on")
        self.path, self.pending, self.names = path, pending, names


class OutcomeTimeout(AskTimeout):
    """No action that was waited for came in time; the action itself may have been reduced."""

    def __init__(self, path: str, asked: object, outcome: str, waited: float, stage: str) -> None:
        super().__init__(path, asked, waited, stage)
        self.outcome = outcome
        self.args = (f"{path}: no {outcome} came of {asked!r} within {waited:.3f} s",)


# What is asked of the actor itself


@message
class Run(Ask[bool]):
    """Asks to reduce an action; answered when its effects have begun."""

    action: object
    handle: EffectHandle


@message
class AskFor(Ask[object]):
    """Asks to reduce an action; answered with what comes of it."""

    action: object
    outcome: Outcome


@message
class ReadState(Ask[object]):
    """Asks for the state, or what `select` makes of it."""

    select: Callable[[object], object] | None = None


@message
class Drain(Ask[Drained]):
    """Asks to refuse actions, and for the end of all effects."""


@message
class Perform:
    """Tells to carry out an effect once more."""

    effect: Effect


# Who listens


class Subscription(Generic[A_contra]):
    """The actions of one actor, from now on; `async with` ends it, and so does the actor's end.

    One task at a time may read it.
    """

    def __init__(self, board: Board, capacity: int) -> None:
        self._board, self._capacity = board, capacity
        self._items: deque[Applied[A_contra] | Lagged] = deque()
        self._missed = 0
        self._reader: trio.lowlevel.Task | None = None
        self._is_over = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Applied[A_contra] | Lagged:
        """Wait for the next action; `Lagged` in the place of those that were missed."""
        if self._reader is not None:
            raise RuntimeError("another task reads this subscription")
        await trio.lowlevel.checkpoint()
        if not self._items and not self._missed and not self._is_over:
            self._reader = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abort)
        if self._items:
            return self._items.popleft()
        if self._missed:
            lagged, self._missed = Lagged(self._missed), 0
            return lagged
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Call this to hear no more; not a checkpoint."""
        self._board.forget(self)
        self.end()

    def put(self, item: Applied[A_contra]) -> None:
        """Called by the actor with each action."""
        items = self._items
        if self._missed and len(items) + 1 < self._capacity:
            items.append(Lagged(self._missed))
            self._missed = 0
        if self._missed or len(items) >= self._capacity:
            self._missed += 1
            return
        items.append(item)
        self._wake()

    def end(self) -> None:
        """Called when there will be no more; what was put is still read."""
        self._is_over = True
        self._wake()

    def _wake(self) -> None:
        if self._reader is not None:
            task, self._reader = self._reader, None
            trio.lowlevel.reschedule(task)

    def _abort(self, _: object) -> trio.lowlevel.Abort:
        self._reader = None
        return trio.lowlevel.Abort.SUCCEEDED


class Board:
    """What an actor and those who hold it share; it stays when the actor restarts."""

    final = True

    def __init__(self) -> None:
        # Weak: who forgets a subscription without ending it is not told for ever.
        self._listeners: dict[int, weak[Subscription[object]]] = {}
        self._is_watched = False
        self.counts = Counts()
        self.seq = 0
        """How many actions were reduced."""
        self.waiting = 0
        """How many `ask_for` wait."""
        self.performing: Performing | None = None
        self.is_draining = False

    @property
    def has_listeners(self) -> bool:
        """Whether anybody wants to see actions."""
        return bool(self._listeners)

    def listen(self, cell: Cell, subscription: Subscription[object]) -> None:
        """Called for a new subscription."""
        if cell.gone:
            subscription.end()
            return
        if not self._is_watched:
            self._is_watched = True
            cell.watch(self)
        self._listeners[id(subscription)] = weak(subscription)

    def forget(self, subscription: object) -> None:
        """Called when one has ended."""
        self._listeners.pop(id(subscription), None)

    def show(self, action: object, metadata: Context) -> None:
        """Called with each action that was reduced."""
        applied: Applied[object] = Applied(self.seq, action, metadata)
        gone: list[int] = []
        for number, one in self._listeners.items():
            subscription = one()
            if subscription is None:
                gone.append(number)
            else:
                subscription.put(applied)
        for number in gone:
            del self._listeners[number]

    def ended(self, cell: Cell, exit_: Exit, /) -> None:
        """Called by the cell when the actor has ended for good."""
        listeners, self._listeners = self._listeners, {}
        for one in listeners.values():
            subscription = one()
            if subscription is not None:
                subscription.end()


class ReducerRef(Ref[A_contra], Generic[S_co, A_contra]):
    """The handle of a reducer actor with state S that takes actions A."""

    __slots__ = ("board",)

    def __init__(self, cell: Target) -> None:
        super().__init__(cell)
        self.board = Board()

    async def run(
        self,
        action: A_contra,
        *,
        metadata: Metadata | None = None,
        track: Track = "direct",
        timeout: float | None = ASK_TIMEOUT_S,
    ) -> EffectHandle:
        """Call this to have an action reduced; returns when its effects have begun.

        The handle says how far they are. Raises as `ask`, and Draining.
        """
        if track not in ("direct", "cascade"):
            raise ValueError(f"track is {track!r}; it must be 'direct' or 'cascade'")
        handle = EffectHandle(is_cascade=track == "cascade")
        with _in_the_name_of(metadata, self._cell):
            await self.ask(Run(action, handle), timeout=timeout)
        return handle

    @overload
    async def ask_for(
        self,
        action: A_contra,
        outcome: type[O],
        timeout: float | None = ASK_TIMEOUT_S,
        *,
        metadata: Metadata | None = None,
    ) -> O: ...
    @overload
    async def ask_for(
        self,
        action: A_contra,
        outcome: tuple[type[O], ...],
        timeout: float | None = ASK_TIMEOUT_S,
        *,
        metadata: Metadata | None = None,
    ) -> O: ...
    @overload
    async def ask_for(
        self,
        action: A_contra,
        outcome: Callable[[object], bool],
        timeout: float | None = ASK_TIMEOUT_S,
        *,
        metadata: Metadata | None = None,
    ) -> object: ...
    async def ask_for(
        self,
        action: A_contra,
        outcome: object,
        timeout: float | None = ASK_TIMEOUT_S,
        *,
        metadata: Metadata | None = None,
    ) -> object:
        """Call this for the first action that comes of `action` and matches; it is applied then.

        What comes of it is what its effects feed back, what their effects feed back, and so on.
        What another actor tells this one of its own accord is not: ask it, with a Dispatch.
        Raises OutcomeTimeout, ActorCrashed at once, Draining and what `ask` raises; what a
        predicate raises is raised here. Cancelled, nothing is left of it in the actor.
        """
        waits = Outcome(outcome)
        asked = AskFor(action, waits)
        self.board.waiting += 1
        try:
            with _in_the_name_of(metadata, self._cell):
                found = await self.ask(asked, timeout=timeout)
        except AskTimeout as error:
            raise OutcomeTimeout(
                self.path, action, repr(waits), error.waited, error.stage
            ) from None
        finally:
            self.board.waiting -= 1
            if waits.later is not None:
                waits.close(AskError(self.path, AskFor, "nobody waits for the outcome any more"))
        if isinstance(found, Raised):
            raise found.error
        return cast("Found", found).action

    @overload
    async def state(
        self, select: None = None, *, timeout: float | None = ASK_TIMEOUT_S
    ) -> S_co: ...
    @overload
    async def state(
        self, select: Callable[[S_co], T], *, timeout: float | None = ASK_TIMEOUT_S
    ) -> T: ...
    async def state(
        self, select: Callable[[S_co], T] | None = None, *, timeout: float | None = ASK_TIMEOUT_S
    ) -> S_co | T:
        """Call this for the state after all earlier messages, or what `select` makes of it.

        `select` runs in the actor and must be pure; what it raises is raised here.
        """
        found = await self.ask(
            ReadState(cast("Callable[[object], object] | None", select)), timeout=timeout
        )
        if isinstance(found, Raised):
            raise found.error
        return cast("S_co | T", found)

    def subscribe(self, capacity: int = SUBSCRIPTION_CAPACITY) -> Subscription[A_contra]:
        """Call this for the actions that are applied from now on, in order.

        At most `capacity` wait; past it the newer ones are missed, and one `Lagged` tells how many.
        It ends with the actor, not with a restart. ValueError for a capacity below 1.
        """
        if type(capacity) is not int or capacity < 1:
            raise ValueError(f"capacity is {capacity!r}; it must be at least 1")
        subscription: Subscription[A_contra] = Subscription(self.board, capacity)
        self.board.listen(cell_of(self), cast("Subscription[object]", subscription))
        return subscription

    async def drain(self, timeout: float | None = DRAIN_TIMEOUT_S) -> Drained:
        """Call this to have new actions refused and all effects finished, feedback reduced.

        What is asked from now on gets Draining, what is told becomes a dead letter. Raises
        DrainTimeout with what is left: it goes on, and stopping the actor cancels it.
        """
        try:
            return await self.ask(Drain(), timeout=timeout)
        except AskTimeout:
            performing = self.board.performing
            names = [] if performing is None else performing.names()
            pending = 0 if performing is None else performing.pending
            raise DrainTimeout(self.path, pending, names) from None

    def health(self) -> Health:
        """Call this to see how the actor is, from outside: nothing is asked of it."""
        status, board = self._cell.status, self.board
        counts, performing = board.counts, board.performing
        if performing is None or status != "running":
            return Health("unhealthy", f"it is {status}", 0, 0, 0.0, counts.failed)
        waiting = performing.places.waiting
        grade: Literal["healthy", "degraded"] = "healthy"
        text = "it takes actions"
        if board.is_draining:
            grade, text = "degraded", "it is draining"
        elif waiting:
            grade, text = "degraded", f"{waiting} effects wait for a place"
        return Health(
            grade,
            text,
            performing.pending,
            waiting,
            performing.places.waited_s,
            counts.failed,
            counts.cancelled,
        )


@contextmanager
def _in_the_name_of(metadata: Metadata | None, cell: Target) -> Iterator[None]:
    """What is asked inside carries what is given, and for the rest what is inherited."""
    if metadata is None:
        yield
        return
    given = {
        name: value
        for name in ("correlation_id", "traceparent", "user_id", "tenant")
        if (value := getattr(metadata, name)) is not None
    }
    before = current_context() or Context(cell.system.text_id(cell.system.next_id()))
    context = replace(before, **given)
    activity = current_activity.get()
    if activity.cell is None:
        with edge_context(context):
            yield
        return
    # In a handler: its message stays the cause, in the words of the caller.
    inside = Activity(activity.cell)
    inside.out = context
    inside.origin = activity.heir().origin
    token = current_activity.set(inside)
    try:
        yield
    finally:
        current_activity.reset(token)
