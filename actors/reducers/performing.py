"""Effects, carried out: the interpreters, the running effects of one incarnation, their places.

Every effect runs as a child task of its actor, in the context of the action that had it. What
comes of it goes through the mailbox of the actor, as any message, and the effect is over when that
was reduced.

Rule 1: what an effect raises never crashes its actor. It becomes an action by its `failed`, or else
a dead letter that can be sent again.
Rule 2: places are taken in the order in which effects were returned; one that only waits takes
none, and nor does one that is made of others: nothing that holds a place waits for another one.
Rule 3: the end of an effect is told to those who follow it however it ends.
"""

from __future__ import annotations

import inspect
import math
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Hashable,
    Mapping,
    Sequence,
)
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Final, Never, Protocol, TypeAlias, cast

import trio

from actors.reducers.delays import Fence, Writing
from actors.reducers.effects import (
    Cancel,
    Delay,
    Dispatch,
    Effect,
    Future,
    Nothing,
    Operation,
    Parallel,
    Reply,
    Sequential,
    Stream,
    is_durable,
)
from actors.reducers.environment import Environment, Outside
from actors.reducers.handles import Follower
from actors.reducers.messages import place_of
from actors.runtime import NO_SPAN, Ask, Cell, Context, span
from actors.runtime.delivery.envelope import Activity, current_activity
from actors.runtime.delivery.span import AnySpan
from actors.runtime.words.tallies import Count, Histogram, Tallies

# So many of one actor at once: enough to keep a database busy, few enough not to drown it.
RUNNING_MAX: Final = 64

# Tuples, for they are asked for each effect: a union costs more to make than to look through.
_GIVES_ONE: Final = (Future, Delay, Dispatch, Cancel)
_DONE_AT_ONCE: Final = (Nothing, Cancel)

# Carries out an effect of one class: `async def (effect, env)`. What it returns is put through the
# effect's `ok`; where it has none it is the action itself, or None.
Interpreter: TypeAlias = Callable[[Never, Never], Awaitable[object]]


class NothingOutside(Exception):
    """Raised for an operation with a `dependency` whose actor's environment has no `outside`."""

    def __init__(self, operation: str, name: str) -> None:
        super().__init__(
            f"{operation} calls {name!r}, but its environment has no `outside`; nothing was "
            "called. Give it the program's Dependencies"
        )
        self.name = name


class EffectTimeout(Exception):
    """A `Future` took longer than its `timeout`; it was cancelled, and may have done its work."""

    def __init__(self, effect: Effect, timeout: float) -> None:
        super().__init__(f"{effect!r} took more than {timeout:g} s and was cancelled")
        self.effect, self.timeout = effect, timeout


class Cancelled(Exception):
    """The outcome of an effect that was cancelled by its key, where others wait for it."""


class Feeding(Protocol):
    """A reducer actor, as far as its effects need it."""

    @property
    def cell(self) -> Cell | None: ...
    async def feed(self, job: Job, action: object) -> None:
        """Have an action reduced; returns when it was, at once where it can be."""
        ...

    def lost(self, effect: Effect, error: Exception) -> None:
        """An effect has failed, and nobody makes an action of it."""
        ...

    def start_soon(self, task: Callable[[Work], Awaitable[object]], work: Work, /) -> object:
        """Start a child task."""
        ...


class Place:
    """One of the places of running effects, or a turn in the queue for one."""

    __slots__ = ("began", "granted", "has_left", "wanted_at")

    def __init__(self, wanted_at: float | None = None) -> None:
        # None where it was free at once.
        self.wanted_at = wanted_at
        self.granted = wanted_at is None
        self.has_left = False
        self.began = None if wanted_at is None else trio.Event()


class Places:
    """How many effects may run at once; who comes first is served first."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._queue: deque[Place] = deque()
        self.waited_s = 0.0
        """How long effects have waited, all taken together, in seconds."""

    @property
    def waiting(self) -> int:
        """How many wait for a place."""
        return len(self._queue)

    def take(self) -> Place:
        """Call this for a place, now or later."""
        if self._free:
            self._free -= 1
            return Place()
        place = Place(trio.current_time())
        self._queue.append(place)
        return place

    def leave(self, place: Place) -> None:
        """Call this once for each place that was taken, granted or not."""
        if place.has_left:
            return
        place.has_left = True
        if not place.granted:
            self._queue.remove(place)
        elif self._queue:
            heir = self._queue.popleft()
            heir.granted = True
            if heir.wanted_at is not None and heir.began is not None:
                self.waited_s += trio.current_time() - heir.wanted_at
                heir.began.set()
        else:
            self._free += 1


class Job:
    """One effect that is not made of others, while it waits or runs."""

    __slots__ = ("action", "context", "due", "effect", "followers", "has_cancelled", "has_found",
                 "is_dropped", "is_over", "is_reduced", "place", "reduced", "refused", "scope",
                 "sending", "writing")  # fmt: skip

    def __init__(
        self, effect: Effect, followers: tuple[Follower, ...], place: Place | None, due: float
    ) -> None:
        self.effect, self.followers, self.place, self.due = effect, followers, place, due
        # Its own once its task runs; what is cancelled before is over when that one begins.
        self.scope: trio.CancelScope | None = None
        self.is_over = False
        # In whose name it acts; feedback is known by it.
        self.context: Context | None = None
        # The action on its way, whether it was reduced, and who waits for that.
        self.action: object = None
        self.is_reduced = False
        self.reduced: trio.Event | None = None
        self.sending: trio.CancelScope | None = None
        # Why its action was not reduced, where it was to be stored first.
        self.refused: Exception | None = None
        # Of what is written for the durable delays of its actor: its turn.
        self.writing: Writing | None = None
        # Of a `Cancel`: whether it has done its part here, and whether anything was there.
        self.has_cancelled = self.has_found = False
        # Cancelled after its action was sent: that must not be reduced.
        self.is_dropped = False

    @property
    def name(self) -> str:
        """Its class, and its key where it has one."""
        key = getattr(self.effect, "key", None)
        kind = type(self.effect).__name__
        return kind if key is None else f"{kind} {key!r}"

    def cancel(self) -> None:
        """Call this to cancel it, also before it has begun."""
        self.is_over = True
        if self.scope is not None:
            self.scope.cancel()

    def lift_deadline(self) -> None:
        """Call this when a Future has done its work in time, and its action has to wait."""
        if self.scope is not None and self.scope.deadline != math.inf:
            self.scope.deadline = math.inf

    def was_reduced(self) -> None:
        """Call this when its action was, or must not be any more."""
        self.is_reduced = True
        if self.reduced is not None:
            self.reduced.set()


# What begins when an effect is started: of one that is made of others, its first ones.
Prepared: TypeAlias = "Job | list[Prepared] | None"


@dataclass(slots=True, eq=False)
class Work:
    """One effect as a reducer has returned it."""

    effect: Effect
    followers: tuple[Follower, ...]
    # Who counts it: also handles that do not follow what it feeds back.
    counting: tuple[Follower, ...]
    first: Prepared
    begun: Callable[[], None] | None


@dataclass(slots=True)
class Counts:
    """What became of the effects of an actor, since it was started."""

    started: int = 0
    ended: int = 0
    failed: int = 0
    cancelled: int = 0
    unknown_keys: int = 0
    stale_delays: int = 0


class EffectTallies:
    """The figures of the effects of a class of actors, for operators."""

    def __init__(self, tallies: Tallies, kind: str) -> None:
        self._tallies, self._kind = tallies, kind
        # Of those that are not over, also while they wait for a place.
        self.running = tallies.count("effects_running", kind)
        self.items = tallies.count("stream_items_total", kind)
        self._kept: dict[type[Effect], tuple[Count, Count, Histogram]] = {}

    def of(self, effect: Effect) -> tuple[Count, Count, Histogram]:
        """Call this for begun, failed and how long, of the class of an effect."""
        found = self._kept.get(type(effect))
        if found is None:
            name, make = type(effect).__name__, self._tallies
            found = self._kept[type(effect)] = (
                make.count("effects_started_total", self._kind, name),
                make.count("effects_failed_total", self._kind, name),
                make.histogram("effect_seconds", self._kind, name),
            )
        return found


class Performing:
    """The effects of one incarnation."""

    def __init__(
        self,
        actor: Feeding,
        env: object,
        interpreters: Mapping[type[Effect], Interpreter],
        counts: Counts,
        fence: Fence | None = None,
        tallies: EffectTallies | None = None,
    ) -> None:
        self._actor, self._env, self._interpreters = actor, env, interpreters
        self._tallies = tallies or EffectTallies(Tallies(), "")
        self._fence = fence
        self._keyed: dict[Hashable, dict[Job, None]] = {}
        # Of whoever waits until none is left.
        self._idle: trio.Event | None = None
        # Of an actor that stops: until when effects may run.
        self._until: float | None = None
        self.counts = counts
        self.places = Places(RUNNING_MAX)
        # In the order in which they were started.
        self.works: dict[Work, None] = {}
        self.jobs: dict[Job, None] = {}

    @property
    def pending(self) -> int:
        """How many effects are not over, those that wait for a place included."""
        return len(self.works)

    def names(self) -> list[str]:
        """What has not ended yet."""
        return [one.name for one in self.jobs]

    def start(
        self,
        effect: Effect,
        followers: tuple[Follower, ...],
        counting: tuple[Follower, ...],
        begun: Callable[[], None] | None = None,
    ) -> bool:
        """Call this in the handler that returned it; whether it has begun, else `begun` is called.

        An effect that waits for a place has not.
        """
        self.counts.started += 1
        if type(effect) is Future:  # The commonest: nothing has to be looked for.
            job = self._job(effect, followers)
            has_begun = job.place is None or job.place.granted
            self._begin(Work(effect, followers, counting, job, None if has_begun else begun))
            return has_begun
        if isinstance(effect, _DONE_AT_ONCE) and not self._is_written(effect):
            self.counts.ended += 1
            for one in counting:
                one.began()
                one.ended(None, is_done=True)
            if isinstance(effect, Cancel):
                self.cancel(effect.key)
            return True
        first = self._prepared(effect, followers)
        has_begun = True
        if isinstance(first, Job):
            if isinstance(effect, Cancel):
                self._begin_cancel(effect, first)
            has_begun = first.place is None or first.place.granted
        self._begin(Work(effect, followers, counting, first, None if has_begun else begun))
        return has_begun

    def _begin(self, work: Work) -> None:
        self._actor.start_soon(self._run, work)
        self.works[work] = None
        for one in work.counting:
            one.began()

    def cancel(self, key: Hashable) -> None:
        """Call this to cancel what runs, or waits, under a key."""
        if not self._drop_all(key):
            self.counts.unknown_keys += 1

    def _drop_all(self, key: Hashable) -> bool:
        jobs = self._keyed.get(key)
        for job in list(jobs or ()):
            self.drop(job)
        return bool(jobs)

    def drop(self, job: Job) -> None:
        """Call this to cancel one effect, also when its action is on its way."""
        job.is_dropped = True
        job.cancel()

    def finish_by(self, when: float) -> None:
        """Call this when the actor stops: what will not end by itself until then is cancelled now.

        That are streams, and delays that are due later.
        """
        self._until = when
        for job in list(self.jobs):
            self._maybe_end(job, when)

    def _maybe_end(self, job: Job, when: float) -> None:
        if isinstance(job.effect, Stream) or (job.due > when and job.writing is None):
            job.cancel()

    async def wait_idle(self) -> None:
        """Call this to wait until none is left."""
        while self.works:
            if self._idle is None:
                self._idle = trio.Event()
            await self._idle.wait()

    # As child tasks

    async def _run(self, work: Work) -> None:
        error, is_done = None, False
        if self._actor.cell is None:
            self._act_alone()
        else:
            # The activity of a child task is its own, and new: only its context is shared.
            activity = current_activity.get()
            activity.out = _own(activity.out)
        try:
            first = work.first
            if isinstance(first, Job) and first.effect is work.effect:
                outcome = await self._leaf(first, work.begun)
            else:
                outcome = await self._whole(work.effect, work.followers, work.first, work.begun)
            is_done = not isinstance(outcome, Cancelled)
            error = outcome if is_done else None
        finally:
            if not isinstance(work.first, Job) or work.first in self.jobs:
                # What was cancelled before it began.
                self._forget_all(work.first)
            del self.works[work]
            self.counts.ended += 1
            for one in work.counting:
                one.ended(error, is_done=is_done)
            if self._idle is not None and not self.works:
                idle, self._idle = self._idle, None
                idle.set()

    async def _whole(
        self,
        effect: Effect,
        followers: tuple[Follower, ...],
        first: Prepared,
        begun: Callable[[], None] | None = None,
    ) -> Exception | None:
        """Carry out an effect, whatever it is made of; gives what it failed with."""
        if isinstance(effect, Parallel):
            assert isinstance(first, list)
            return await self._together(effect.effects, followers, first)
        if isinstance(effect, Sequential):
            for number, one in enumerate(effect.effects):
                begins = first if number == 0 else self._prepared(one, followers)
                outcome = await self._whole(one, followers, begins)
                if outcome is not None:
                    return outcome
            return None
        if not isinstance(first, Job):
            # Of `Nothing` and `Cancel` within others.
            if isinstance(effect, Cancel):
                self.cancel(effect.key)
            return None
        return await self._leaf(first, begun)

    async def _together(
        self, effects: Sequence[Effect], followers: tuple[Follower, ...], first: list[Prepared]
    ) -> Exception | None:
        outcomes: list[Exception | None] = [None] * len(effects)

        async def one_of(at: int, begins: Prepared) -> None:
            self._act_alone()
            try:
                outcomes[at] = await self._whole(effects[at], followers, begins)
            finally:
                self._forget_all(begins)

        async with trio.open_nursery() as nursery:
            for at, begins in enumerate(first):
                nursery.start_soon(one_of, at, begins)
        return next((one for one in outcomes if one is not None), None)

    async def _leaf(self, job: Job, begun: Callable[[], None] | None) -> Exception | None:
        job.context, has_begun = current_activity.get().out, False
        effect, place = job.effect, job.place
        due = math.inf
        is_run = isinstance(effect, Future) and type(effect) not in self._interpreters
        timed = cast("Future", effect) if is_run else None
        if timed is not None and (place is None or place.began is None):
            # Said when it is made: to be told later costs a scope as much again.
            due = trio.current_time() + timed.timeout
        job.scope = trio.CancelScope(deadline=due)
        if job.is_over:
            job.scope.cancel()
        try:
            with job.scope:
                if place is not None and place.began is not None:
                    await place.began.wait()
                    if timed is not None:
                        job.scope.deadline = trio.current_time() + timed.timeout
                if begun is not None:
                    begun()
                    has_begun = True
                return await self._timed(job, timed)
            if timed is not None and not job.is_dropped:
                # Its own deadline; a scope of its own for what is fed back of that.
                with trio.CancelScope() as job.scope:
                    return await self._failed(job, EffectTimeout(timed, timed.timeout))
            self.counts.cancelled += 1
            if begun is not None and not has_begun:
                begun()
            return Cancelled(job.name)
        finally:
            self._forget(job)

    async def _timed(self, job: Job, timed: Future | None) -> Exception | None:
        started, _, took = self._tallies.of(job.effect)
        started.number += 1
        began = trio.current_time()
        cell = self._actor.cell
        try:
            with NO_SPAN if cell is None or cell.spans is None else _told(job.effect) as told:
                error = await self._do(job, timed)
                if error is not None:
                    told.fail(type(error).__name__)
                return error
        finally:
            took.note(trio.current_time() - began)

    async def _do(self, job: Job, timed: Future | None) -> Exception | None:
        effect = job.effect
        assert job.scope is not None
        try:
            if timed is not None:
                # The scope of its job has its deadline: another one costs a tenth of the effect.
                outside = getattr(timed.op, "dependency", None)
                if outside is None:
                    action = await timed.op.run(cast("Never", self._env))
                else:
                    action = await self._through(outside, timed.op, job.scope.deadline)
                if job.scope.cancel_called:
                    # It did not look: its time is over all the same, and it is told so.
                    await trio.lowlevel.checkpoint()
                if timed.maps or type(timed) is not Future:
                    action = _mapped(timed, _answer(timed, action))
            elif (items := self._items(effect)) is not None:
                async with aclosing(cast("AsyncGenerator[object, None]", items)) as actions:
                    async for action in actions:
                        self._tallies.items.number += 1
                        error = await self._feed(job, _mapped(effect, action))
                        if error is not None:
                            return error
                        # What is reduced at once lets nobody say that it is enough.
                        await trio.lowlevel.checkpoint_if_cancelled()
                return None
            elif job.writing is not None:
                await self._write(job, job.writing)
                return None
            else:
                action = _mapped(effect, _answer(effect, await self._result(effect)))
        except Exception as error:  # noqa: BLE001 - rule 1
            if job.scope.cancel_called:
                # Raised by what was cancelled: that it was is what is told.
                await trio.lowlevel.checkpoint()
            return await self._failed(job, error)
        if action is None:
            return None
        await self._actor.feed(job, action)
        return self._refused(job)

    async def _through(self, name: str, op: Operation[Never], deadline: float) -> object:
        """Run what calls outside through its guards; their errors are those of the effect."""
        outside: Outside | None = getattr(self._env, "outside", None)
        if outside is None:
            raise NothingOutside(place_of(type(op)), name)
        run = partial(op.run, cast("Never", self._env))
        return await outside.dependency(name).call(run, deadline=deadline)

    def _items(self, effect: Effect) -> AsyncIterator[object] | None:
        """The actions of an effect that gives several; None for one that gives at most one."""
        if isinstance(effect, Stream):
            return effect.op.run(cast("Never", self._env))
        if isinstance(effect, _GIVES_ONE) or type(effect) in self._interpreters:
            return None
        run = getattr(effect, "run", None)
        if not inspect.isasyncgenfunction(run):
            return None
        made: AsyncIterator[object] = run(self._env)
        return made

    async def _result(self, effect: Effect) -> object:
        interpreter = self._interpreters.get(type(effect))
        if interpreter is not None:
            return await interpreter(cast("Never", effect), cast("Never", self._env))
        if isinstance(effect, Delay):
            await trio.sleep(effect.seconds)
            return effect.action
        if isinstance(effect, Dispatch):
            if effect.ok is None:
                effect.to.tell(cast("Never", effect.message))
                return None
            asked = cast("Ask[object]", effect.message)
            return await effect.to.ask(cast("Never", asked), timeout=effect.timeout)
        run = cast("Callable[[object], Awaitable[object]]", getattr(effect, "run"))  # noqa: B009
        return await run(self._env)

    # Durable delays

    def _is_written(self, effect: Effect) -> bool:
        """Whether an effect is one for the store: a durable delay, or what may cancel one."""
        if self._fence is None:
            return False
        return is_durable(effect) or (isinstance(effect, Cancel) and isinstance(effect.key, str))

    def _begin_cancel(self, effect: Cancel, job: Job) -> None:
        """Cancel at once what is here; what is stored follows."""
        assert self._fence is not None
        assert job.writing is not None
        self._fence.raise_to(str(effect.key), job.writing.token)
        job.has_cancelled = True
        job.has_found = self._drop_all(effect.key)

    async def _write(self, job: Job, writing: Writing) -> None:
        effect, fence = job.effect, self._fence
        assert fence is not None
        assert isinstance(effect, Delay | Cancel)
        if isinstance(effect, Cancel) and not job.has_cancelled:
            self._begin_cancel(effect, job)
        count = await fence.write(effect, writing)
        if isinstance(effect, Cancel) and not count and not job.has_found:
            self.counts.unknown_keys += 1

    async def _failed(self, job: Job, error: Exception) -> Exception:
        self.counts.failed += 1
        effect = job.effect
        self._tallies.of(effect)[1].number += 1
        callback = cast("Callable[[Exception], object] | None", getattr(effect, "failed", None))
        if callback is None:
            self._actor.lost(effect, error)
            return error
        try:
            action = _mapped(effect, callback(error))
        except Exception as second:  # noqa: BLE001 - rule 1
            self._actor.lost(effect, second)
            return second
        await self._feed(job, action)
        return error

    async def _feed(self, job: Job, action: object) -> Exception | None:
        """Feed an action back; gives why it was not reduced."""
        if action is None:
            return None
        await self._actor.feed(job, action)
        return self._refused(job)

    def _refused(self, job: Job) -> Exception | None:
        if job.refused is not None:
            self.counts.failed += 1
        return job.refused

    # Who holds what

    def _prepared(self, effect: Effect, followers: tuple[Follower, ...]) -> Prepared:
        """Note what begins with an effect: its key is known, and its place taken, from now on."""
        if isinstance(effect, Parallel):
            return [self._prepared(one, followers) for one in effect.effects]
        if isinstance(effect, Sequential):
            return self._prepared(effect.effects[0], followers) if effect.effects else None
        if isinstance(effect, _DONE_AT_ONCE) and not self._is_written(effect):
            return None
        return self._job(effect, followers)

    def _forget_all(self, begun: Prepared) -> None:
        if isinstance(begun, Job):
            self._forget(begun)
        elif begun is not None:
            for one in begun:
                self._forget_all(one)

    def _job(self, effect: Effect, followers: tuple[Follower, ...]) -> Job:
        due = -math.inf
        if isinstance(effect, Delay):
            due = trio.current_time() + effect.seconds
        is_written = self._fence is not None and self._is_written(effect)
        place = None if effect.is_idle and not is_written else self.places.take()
        job = Job(effect, followers, place, due)
        if is_written and self._fence is not None:
            ids = cast("Environment", self._env).ids
            job.writing = self._fence.turn(str(ids.new_id()))
        self.jobs[job] = None
        self._tallies.running.number += 1
        if self._until is not None:
            self._maybe_end(job, self._until)
        if (key := _key_of(job)) is not None:
            self._keyed.setdefault(key, {})[job] = None
        return job

    def _forget(self, job: Job) -> None:
        """Called when it is over; a second time it does nothing."""
        if job not in self.jobs:
            return
        del self.jobs[job]
        self._tallies.running.number -= 1
        if job.place is not None:
            self.places.leave(job.place)
        if job.writing is not None:
            job.writing.over.set()
        if (key := _key_of(job)) is not None:
            jobs = self._keyed[key]
            del jobs[job]
            if not jobs:
                del self._keyed[key]

    def _act_alone(self) -> None:
        """Give this task a context of its own: what is told with it came from this effect."""
        activity = Activity(self._actor.cell)
        activity.out = _own(current_activity.get().sending())
        current_activity.set(activity)


def _told(effect: Effect) -> AnySpan:
    return span(f"effect.{type(effect).__name__}")


def _own(out: Context | None) -> Context | None:
    """A copy, written out: `replace` takes ten times as long."""
    if out is None:
        return None
    return Context(
        out.correlation_id,
        out.causation_id,
        out.traceparent,
        out.sender,
        out.user_id,
        out.tenant,
        out.sender_id,
    )


# What the actor carries out itself.
BUILT_IN: Final = frozenset(
    {Nothing, Delay, Cancel, Parallel, Sequential, Future, Stream, Dispatch, Reply}
)


def is_interpreted(kind: type[Effect], interpreters: Mapping[type[Effect], Interpreter]) -> bool:
    """Whether effects of a class can be carried out."""
    return kind in BUILT_IN or kind in interpreters or hasattr(kind, "run")


def _key_of(job: Job) -> Hashable:
    """What it is cancelled by; a write is not, it is followed by another one."""
    return None if job.writing is not None else getattr(job.effect, "key", None)


def _answer(effect: Effect, result: object) -> object:
    """The action that `ok` makes of a result; of an effect that has none the result is it."""
    if type(effect) is Future or not hasattr(effect, "ok"):
        return result
    ok = cast("Callable[[object], object] | None", effect.ok)
    return None if ok is None else ok(result)


def _mapped(effect: Effect, action: object) -> object:
    for one in effect.maps:
        if action is None:
            return None
        action = cast("Callable[[object], object]", one)(action)
    return action
