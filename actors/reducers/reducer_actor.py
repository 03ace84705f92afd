"""The actor that runs a reducer: it owns the state, and carries out the effects.

    class Counter(ReducerActor[Count, Increment | Reset]):
        reducer = count

        def initial(self) -> Count:
            return Count(0)

    counter = await start_reducer(system, Counter, env)

Rule 1: one action at a time goes through the reducer, whoever it is from; what effects feed back
passes the same mailbox.
Rule 2: an action is seen by others only behind the state it has made: subscribers and who waits for
an outcome are told last.
Rule 3: a reducer that raises leaves nothing behind. The state of before was its actor's, and the
next incarnation begins with `initial()`.
Rule 4: what is asked of a class is asked when it is made: what its reducer does not take, and
effects that nobody interprets, never meet traffic.
"""

from __future__ import annotations

import copy
import inspect
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import (
    ClassVar,
    Final,
    Generic,
    Never,
    ParamSpec,
    TypeVar,
    cast,
    get_args,
    get_origin,
)

import trio

from actors.reducers.delays import DurableDelays, Fence, Fire, Ring, UnreadableDelay
from actors.reducers.effects import Delay, Effect, Parallel, Reply, Sequential, is_durable
from actors.reducers.environment import Environment
from actors.reducers.handles import Follower, Raised, still_open
from actors.reducers.messages import here, place_of
from actors.reducers.performing import (
    BUILT_IN,
    EffectTallies,
    Interpreter,
    Job,
    Performing,
    is_interpreted,
)
from actors.reducers.reducer import Reducer, members
from actors.reducers.reducer_ref import (
    AskFor,
    Board,
    Drain,
    Drained,
    Draining,
    Perform,
    ReadState,
    ReducerRef,
    Run,
)
from actors.runtime import (
    NO_SPAN,
    Actor,
    AnyRef,
    Ask,
    AskError,
    Context,
    Crashed,
    Exit,
    Later,
    Log,
    Ref,
    System,
    current_context,
    span,
)
from actors.runtime.delivery.envelope import (
    CONTEXT,
    MESSAGE,
    MESSAGE_ID,
    NO_DEADLINE,
    Activity,
    Envelope,
    cause_of,
    current_activity,
)
from actors.runtime.delivery.ref import make_envelope

P = ParamSpec("P")
S = TypeVar("S")
A = TypeVar("A")

# How long a stop waits for effects. A supervisor that gives less time is obeyed.
DRAIN_S: Final = 30.0
# Of the time that a supervisor gives, so much: the rest is for cancelling, and for telling it.
_SHARE_OF_SHUTDOWN: Final = 0.9

# So many of what was cancelled are named in an exit, which is shown on one line; the log has all.
NAMES_TOLD: Final = 10

# What need not be looked into.
_ALWAYS_INTERPRETED: Final = BUILT_IN - {Parallel, Sequential, Delay}

_log = Log("actors.reducers")


class ReducerActor(
    Actor[A | Run | AskFor | ReadState | Drain | Perform | Fire | Ring], Generic[S, A]
):
    """Base of an actor around a reducer; `ReducerActor[State, Action | OtherAction]`.

    Set `reducer`, override `initial`. TypeError, with file and line, when the class is made and its
    reducer does not take every action of the union. The actor is not started (TypeError) without
    the interpreters of `interpreted`, and of the effects that its reducer names.
    """

    reducer: Reducer[S, A, Never]
    # Effects that an interpreter is handed in for, at each start.
    interpreted: ClassVar[tuple[type[Effect], ...]] = ()
    drain_s: ClassVar[float] = DRAIN_S
    ref_class: ClassVar[type[AnyRef]] = ReducerRef

    def __init__(
        self,
        env: Environment,
        *,
        interpreters: Mapping[type[Effect], Interpreter] | None = None,
        delays: DurableDelays | None = None,
    ) -> None:
        self.env = env
        self._delays = delays
        self._fence: Fence | None = None
        self._interpreters = {} if interpreters is None else dict(interpreters)
        for kind in sorted({*self.interpreted, *self.reducer.effects}, key=place_of):
            if not is_interpreted(kind, self._interpreters):
                raise TypeError(
                    f"{type(self).__name__} has effects of {place_of(kind)}, which nobody "
                    "interprets: hand its interpreter in, or give it a `run`"
                )
        # Feedback that is on its way, by the context it was sent in.
        self._fed: dict[int, Job] = {}
        self._is_stopping = False
        self._handled = 0
        self._drains: list[tuple[Later[Drained], int, int]] = []

    def __init_subclass__(cls) -> None:
        _fit(cls)
        super().__init_subclass__()

    def initial(self) -> S:
        """Override this: the state to begin with, at each start."""
        raise TypeError(f"{type(self).__name__} has no initial()")

    def on_start(self) -> object:
        """Begin with the initial state."""
        ref = self.ref
        self._board = ref.board if isinstance(ref, ReducerRef) else Board()
        self._board.is_draining = False
        if self._delays is not None:
            if self.cell.name is None and "/" not in self.path:
                raise TypeError(
                    f"{type(self).__name__} has delays that come back by its path, so it needs a "
                    f"name: {self.path} is another one at the next start"
                )
            self._delays.check(self.path, self.reducer.handled)
            self._fence = Fence(self._delays, self.path)
        self._performing = self._board.performing = Performing(
            self,
            self.env,
            self._interpreters,
            self._board.counts,
            self._fence,
            EffectTallies(self.system.tallies, type(self).__name__),
        )
        self._took = self.system.tallies.histogram("reducer_seconds", type(self).__name__)
        self._state = self._first_state()
        return None

    def _first_state(self) -> S:
        """What `initial()` gives; its own where it is changed in place.

        The next incarnation may be given the same object, and another actor.
        """
        first = self.initial()
        return copy.deepcopy(first) if self.reducer.in_place else first

    def on_stop(self, exit: Exit) -> object:  # noqa: A002 - the word of the whole runtime for this
        """Let effects finish, unless it crashed: then the runtime has cancelled them."""
        if exit.clean and self._performing.pending:
            return self._finish()
        return None

    # Messages

    def _take(self, message: A) -> object:
        """Called with each action; those that effects feed back are known by their context."""
        envelope = self._envelope()
        job = self._fed_back(message, envelope[CONTEXT]) if self._fed else None
        if job is not None:
            self._take_feedback(job, message)
            return None
        if self._board.is_draining:
            return self._refuse(envelope)
        answer = self._apply(message)
        return answer if isinstance(message, Ask) else None

    def on_run(self, message: Run) -> bool | Later[bool]:
        """Reduce an action, and answer when its effects have begun."""
        if self._board.is_draining:
            return cast("Later[bool]", self._refuse_ask())
        beginning = Beginning()
        handle = message.handle
        followers = (handle,) if handle.is_cascade else ()
        self._apply(cast("A", message.action), followers, (handle,), beginning.one_began)
        return self._begun(message, beginning)

    def _begun(self, message: Run, beginning: Beginning) -> bool | Later[bool]:
        if not beginning.wait_for(self._waiting):
            return True
        beginning.later = self.reply_later(message)
        return beginning.later

    def on_ask_for(self, message: AskFor) -> Later[object]:
        """Reduce an action, and answer with the first that it causes and that is waited for."""
        if self._board.is_draining:
            return self._refuse_ask()
        later = message.outcome.later = self.reply_later(message)
        followers = (message.outcome,)
        self._apply(cast("A", message.action), followers, followers)
        return later

    def on_read_state(self, message: ReadState) -> object:
        """Give the state, or a part of it; a copy where it is changed in place."""
        return self._read(message)

    def _read(self, message: ReadState) -> object:
        found: object = self._state
        if message.select is not None:
            try:
                found = message.select(found)
                if self.reducer.in_place:
                    # What it chose, or made, may be nothing to copy: a view, a generator.
                    found = copy.deepcopy(found)
            except Exception as error:  # noqa: BLE001 - code of the asker's: it is told
                return Raised(error)
            return found
        return copy.deepcopy(found) if self.reducer.in_place else found

    def on_drain(self, message: Drain) -> Later[Drained]:
        """Refuse actions from now on, and answer when all effects are over."""
        later = self.reply_later(message)
        self._board.is_draining = True
        self._drains.append((later, self._handled, self._board.counts.ended))
        if len(self._drains) == 1:
            self.start_soon(self._tell_drained)
        return later

    def on_perform(self, message: Perform) -> None:
        """Carry out an effect once more: of a dead letter that was sent again."""
        self._performing.start(message.effect, (), ())

    def on_fire(self, message: Fire) -> Later[bool]:
        """Look whether a durable delay that is due still stands, and have its action reduced."""
        # No `async def`: an actor with one of those is asked at two and a half times the cost.
        if self._board.is_draining:
            return cast("Later[bool]", self._refuse_ask())
        later = self.reply_later(message)
        self.start_soon(self._look_up, message, later)
        return later

    async def _look_up(self, fire: Fire, later: Later[bool]) -> None:
        try:
            action = await self._due(fire)
        except AskError as error:
            later.fail(error)
            return
        if action is None:
            later.reply(True)
        else:
            await self.ref.send(Ring(fire, action, later))

    def on_ring(self, message: Ring) -> None:
        """Reduce the action of a delay that stands, unless it was cancelled on its way here."""
        if self._fence is not None and self._fence.is_behind(message.fire):
            self._board.counts.stale_delays += 1
        else:
            self._apply(cast("A", message.action))
        message.later.reply(True)

    async def _due(self, message: Fire) -> A | None:
        """The action of a delay that is due; None when it was cancelled or handled before."""
        fence = self._fence
        if fence is None:
            raise UnreadableDelay(self.path, "the actor was started without `delays`")
        is_open = not fence.is_behind(message) and await fence.delays.is_open(self.path, message)
        # Cancelled while the store was asked: by an effect of this actor, which goes on meanwhile.
        if not is_open or fence.is_behind(message):
            self._board.counts.stale_delays += 1
            return None
        return cast("A", fence.delays.action_of(self.path, message, self.reducer.handled))

    # Reducing

    def _apply(
        self,
        action: A,
        followers: tuple[Follower, ...] = (),
        counting: tuple[Follower, ...] = (),
        begun: Callable[[], None] | None = None,
    ) -> object:
        """Reduce an action and start its effects; gives what the reducer answers.

        `followers` follow what is fed back, `counting` count the effects.
        """
        began = trio.current_time()
        with (
            NO_SPAN
            if self.cell.spans is None
            else span("reducer.reduce", action=type(action).__name__)
        ):
            after = self.reducer.reduce(self._state, action, cast("Never", self.env))
        self._took.note(trio.current_time() - began)
        answer: object = None
        if after.effects:
            self._check_interpreted(action, after.effects)
        self._state = after.state
        self._handled += 1
        self._waiting = 0
        for one in after.effects:
            if isinstance(one, Reply):
                answer = one.value
            elif not self._performing.start(one, followers, counting, begun):
                self._waiting += 1
        board = self._board
        board.seq += 1
        if board.has_listeners:
            board.show(action, self._metadata())
        return answer

    def _check_interpreted(self, action: A, effects: tuple[Effect, ...]) -> None:
        for one in effects:
            kind = type(one)
            if kind in _ALWAYS_INTERPRETED:
                continue
            if isinstance(one, Parallel | Sequential):
                self._check_interpreted(action, one.effects)
            elif is_durable(one) and self._fence is None:
                raise TypeError(
                    f"{self.reducer.name} returned a durable Delay for {action!r}; start the actor "
                    "with `delays=...`, where it is kept"
                )
            elif not is_interpreted(kind, self._interpreters):
                raise TypeError(
                    f"{self.reducer.name} returned {place_of(kind)} for {action!r}, which nobody "
                    "interprets; name it in `@reducer(effects=...)`, to be told of it at the start"
                )

    def _metadata(self) -> Context:
        envelope = current_activity.get().envelope
        context = None if envelope is None else envelope[CONTEXT]
        if context is not None:
            return context
        if envelope is not None:
            return Context(self.system.text_id(envelope[MESSAGE_ID]))
        out = current_activity.get().sending()
        assert out is not None
        return out

    def _envelope(self) -> Envelope:
        """The message in hand; for handlers only, where nobody has to be asked whose it is."""
        envelope = self._life.activity.envelope
        assert envelope is not None
        return envelope

    # Feedback

    async def feed(self, job: Job, action: object) -> None:
        """Called by an effect: have an action reduced; returns when it was, at once where it can.

        It can where an ask could be answered at once: the actor has nothing to do, and nobody waits
        for a turn. Cancellation is noticed where it waits, and behind a drop.
        """
        life = self._life
        # It is known again by that with which it is sent: inside of a span that is another one
        # than the effect began with.
        job.context = current_activity.get().sending()
        if type(action) not in life.handlers:
            self.cell.counts.unhandled += 1
            envelope = life.wrap(action, job.context)
            self.system.dead_letters.add(self.cell, envelope, "unhandled")
            return
        job.action, job.is_reduced = action, False
        if self._is_stopping:
            job.lift_deadline()
        else:
            self._fed[id(job.context)] = job
            cell = life.cell
            dispatcher = cell.system.dispatcher
            if dispatcher.can_serve(cell):
                activity = current_activity.get()
                dispatcher.serve(cell, make_envelope(cell, action, None, NO_DEADLINE, activity))
                if job.is_reduced and not job.is_dropped:
                    return
                await self._note_end(job)
                return
            job.lift_deadline()
            job.reduced = trio.Event()
            mailbox = cell.mailbox
            if len(mailbox.inbox) < mailbox.limit:
                # There is room: nothing to wait for, nor to be cut short.
                self.ref.tell(cast("A", action))
                await job.reduced.wait()
                return
            with trio.CancelScope() as job.sending:
                try:
                    await self.ref.send(cast("A", action))
                except BaseException:
                    # Nothing was delivered.
                    self._fed.pop(id(job.context), None)
                    raise
            if not job.sending.cancelled_caught:
                await job.reduced.wait()
                return
        await self._apply_at_stop(job, action)

    async def _note_end(self, job: Job) -> None:
        """See that an effect is cancelled: by its own action, or by the crash of that one."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if not job.is_reduced:
            job.reduced = trio.Event()
            await job.reduced.wait()

    def _fed_back(self, action: object, context: Context | None) -> Job | None:
        """The effect that an action in the mailbox came of."""
        job = self._fed.get(id(context))
        if job is None or job.context is not context or job.action is not action:
            return None
        return self._fed.pop(id(context))

    def _take_feedback(self, job: Job, action: A) -> None:
        if not job.is_dropped:
            followers = still_open(job.followers)
            self._apply(action, followers, followers)
            for one in followers:
                one.caused(action)
        job.was_reduced()

    def lost(self, effect: Effect, error: Exception) -> None:
        """Called when an effect has failed, and nobody makes an action of that."""
        context = current_context()
        assert context is not None
        _log.warning(
            "effect_failed",
            path=self.path,
            effect=type(effect).__name__,
            error=type(error).__name__,
            text=str(error),
            correlation_id=context.correlation_id,
            causation_id=cause_of(context),
        )
        envelope = self._life.wrap(Perform(effect), context)
        self.system.dead_letters.add(self.cell, envelope, "crashed", Crashed(error))

    # The end

    async def _finish(self) -> None:
        """Wait for effects as long as there is time; what is left is named, and cancelled."""
        within = min(self.drain_s, _SHARE_OF_SHUTDOWN * self.cell.shutdown)
        self._is_stopping = True
        performing = self._performing
        performing.finish_by(trio.current_time() + within)
        for envelope in self.cell.mailbox.take_out(self._is_feedback):
            job = self._fed.pop(id(envelope[CONTEXT]))
            await self._apply_at_stop(job, job.action)
        for job in list(self._fed.values()):
            if job.sending is not None:
                job.sending.cancel()
        with trio.move_on_after(within):
            await performing.wait_idle()
        if left := performing.names():
            _log.warning("effects_cancelled", path=self.path, count=len(left), names=left)
            self._tell_in_exit(left)

    def _tell_in_exit(self, left: list[str]) -> None:
        """Whoever is told of the end is told what it has cut short."""
        more = f" and {len(left) - NAMES_TOLD} more" if len(left) > NAMES_TOLD else ""
        text = f"cancelled {', '.join(left[:NAMES_TOLD])}{more}"
        exit_ = self._life.exit
        assert exit_ is not None
        because = text if exit_.because is None else f"{exit_.because}; {text}"
        self._life.exit = replace(exit_, because=because)

    def _is_feedback(self, envelope: Envelope) -> bool:
        job = self._fed.get(id(envelope[CONTEXT]))
        return (
            job is not None
            and job.context is envelope[CONTEXT]
            and (job.action is envelope[MESSAGE])
        )

    async def _apply_at_stop(self, job: Job, action: object) -> None:
        """Reduce what did not pass the mailbox, as if it had."""
        with self._in_the_name_of(job):
            self._take_feedback(job, cast("A", action))

    @contextmanager
    def _in_the_name_of(self, job: Job) -> Iterator[None]:
        activity = Activity(self.cell)
        assert job.context is not None
        activity.out = replace(job.context, causation_id=self.system.next_id())
        token = current_activity.set(activity)
        try:
            yield
        finally:
            current_activity.reset(token)

    async def _tell_drained(self) -> None:
        await self._performing.wait_idle()
        drains, self._drains = self._drains, []
        for later, handled, ended in drains:
            later.reply(Drained(self._handled - handled, self._board.counts.ended - ended))

    def _refuse(self, envelope: Envelope) -> object:
        if self.asker_waits:
            return self._refuse_ask()
        self.system.dead_letters.add(self.cell, envelope, "stopped", note="it is draining")
        return None

    def _refuse_ask(self) -> Later[object]:
        later = self.reply_later()
        later.fail(Draining(self.path))
        return later


class Beginning:
    """The effects of one action that still wait for a place, and who waits for them."""

    def __init__(self) -> None:
        self._began = 0
        self._count = 0
        self.later: Later[bool] | None = None

    def wait_for(self, count: int) -> int:
        """How many have not begun yet."""
        self._count = count
        return count

    def one_began(self) -> None:
        """Called when one of them begins, or is cancelled before."""
        self._count -= 1
        if self._count == 0 and self.later is not None:
            self.later.reply(True)


async def start_reducer(
    system: System,
    actor: Callable[P, ReducerActor[S, A]],
    /,
    *args: P.args,
    **kwargs: P.kwargs,
) -> ReducerRef[S, A]:
    """Call this to start a reducer actor, as `System.start`; gives the handle with its type.

    Raises StartError, also for an effect that nobody interprets.
    """
    return as_reducer(actor, await system.start(actor, *args, **kwargs))


def as_reducer(actor: Callable[P, ReducerActor[S, A]], ref: Ref[A]) -> ReducerRef[S, A]:
    """Call this to get a supervised child's ref with its type; TypeError when it is no reducer's.

    `actor` is the class it runs.
    """
    if not isinstance(ref, ReducerRef):
        raise TypeError(f"{ref!r} is no ref of a reducer actor; name its class where it is started")
    return ref


def _fit(cls: type) -> None:
    """Called before a class is compiled: gives `on_action` the actions that this class names."""
    union = _union_of(cls)
    if union is None:
        # A base that leaves the actions to those who derive from it, or has got them.
        if isinstance(vars(cls).get("reducer"), Reducer) and not hasattr(cls, "on_action"):
            raise TypeError(
                f"{place_of(cls)} ({here()}) names no actions: derive it from "
                "ReducerActor[State, Action | OtherAction]"
            )
        return
    actions = frozenset(members(union))
    name = f"{place_of(cls)} ({here()})"
    of = getattr(cls, "reducer", None)
    if not isinstance(of, Reducer):
        raise TypeError(f"{name} has no reducer: set `reducer = ...`, a function with @reducer")
    missing = sorted(one.__name__ for one in actions - of.handled)
    if missing:
        raise TypeError(f"{name}: its reducer {of.name} does not take {', '.join(missing)}")
    foreign = sorted(one.__name__ for one in of.handled - actions)
    if foreign:
        raise TypeError(
            f"{name}: its reducer {of.name} takes {', '.join(foreign)}, which ReducerActor[...] "
            "does not name"
        )
    initial = getattr(cls, "initial", None)
    if initial is ReducerActor.initial or inspect.iscoroutinefunction(initial):
        raise TypeError(f"{name} has no initial(): define it, as a plain method")
    # Of a class that takes them in its own way, that one.
    common = cast("types.FunctionType", getattr(cls, "_take"))  # noqa: B009
    own = types.FunctionType(common.__code__, common.__globals__, "on_action")
    own.__doc__, own.__qualname__ = common.__doc__, f"{cls.__qualname__}.on_action"
    own.__annotations__ = {"message": union}
    setattr(cls, "on_action", own)  # noqa: B010 - a checker knows it as another one


def _union_of(cls: type) -> object:
    for base in getattr(cls, "__orig_bases__", ()) if "__orig_bases__" in vars(cls) else ():
        origin = get_origin(base)
        if isinstance(origin, type) and issubclass(origin, ReducerActor):
            union = get_args(base)[1]
            return None if isinstance(union, TypeVar) else union
    return None
