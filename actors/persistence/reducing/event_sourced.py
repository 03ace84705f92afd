"""The actor of an event-sourced reducer: its events are stored, and make its state again.

    class AccountActor(EventSourcedReducerActor[Balance, Deposit | Deposited]):
        reducer = account
        category = "account"

        def initial(self) -> Balance:
            return Balance(0)

    ref = await start_reducer(system, AccountActor, env, "7", store)

Of its actions those that are marked as events are stored in its stream, whoever sends them: a
caller, an effect, or a command by `Record`. All else is as with every reducer actor.

Rule 1: only events change the state. A command that does raises `ReducerContractError`: its change
would be lost at the next start.
Rule 2: an event is reduced on trial, stored, and only then is its state the actor's, are its
effects begun, and is anybody told. What the reducer does not take is never stored.
Rule 3: a replay gives states alone. Effects of what is replayed were begun in the life that stored
it; what must outlive that one goes into the outbox or a timer, by the same `Record`.
Rule 4: an append whose outcome is unknown makes the state doubtful: it is read on before the next
action. A store that is away is an answer (`NotKept`), no crash.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar, Final, Generic, Never, TypeVar, cast, get_args, get_origin
from uuid import UUID

import msgspec
import trio

from actors.persistence.aggregate import (
    CONFLICT_RETRIES_MAX,
    SNAPSHOT_EVERY,
    jitter,
    tag_of,
)
from actors.persistence.errors import (
    ConcurrencyConflict,
    Fenced,
    StoreError,
    StoreTimeout,
    StreamGone,
    TimerGone,
)
from actors.persistence.event_store import EventStore, Snapshots
from actors.persistence.event_types import EVENTS, EventTypes
from actors.persistence.reducing.effects import carrying, metadata_of
from actors.persistence.reducing.recording import NotKept, Record, environment_of, reduced_at
from actors.persistence.words import (
    AppendRequest,
    CloseTimer,
    Idempotent,
    NewEvent,
    OutboxMessage,
    Shard,
    Snapshot,
    StoredEvent,
    StreamId,
    TimerChange,
)
from actors.reducers import (
    DurableDelays,
    Effect,
    Environment,
    Fire,
    Interpreter,
    Next,
    Reducer,
    ReducerActor,
    ReducerContractError,
    Reply,
    UnreadableDelay,
    is_event,
)
from actors.reducers.handles import Follower, still_open
from actors.reducers.messages import here
from actors.reducers.performing import Job
from actors.reducers.reducer_actor import Beginning
from actors.reducers.reducer_ref import AskFor, ReadState, Run
from actors.runtime import NO_SPAN, Ask, Context, Crashed, Later, Log, Shutdown, span
from actors.runtime.delivery.envelope import CONTEXT, current_activity

S = TypeVar("S")
A = TypeVar("A")

# As of an aggregate: how long a start reads before it is over all the same, and how long before
# the end of an ask its look at the store is given up.
START_S_MAX: Final = 5.0
ANSWER_S: Final = 0.25

_log = Log("actors.persistence")


@dataclass(slots=True)
class _Step(Generic[S]):
    """One action that was reduced on trial: what it makes."""

    action: object
    after: Next[S]


@dataclass(slots=True)
class _Decided(Generic[S]):
    """All that comes of one action at once, before anything of it is stored."""

    steps: list[_Step[S]] = field(default_factory=list)
    events: list[NewEvent] = field(default_factory=list)
    outbox: list[OutboxMessage] = field(default_factory=list)
    timers: list[TimerChange] = field(default_factory=list)
    idempotency: Idempotent | None = None
    # How many `Record`s it has: a handle counts each as an effect.
    records: int = 0


class EventSourcedReducerActor(ReducerActor[S, A], Generic[S, A]):
    """Base of an actor around an event-sourced reducer; one stream of events is its state.

    Set `reducer` and `category`, override `initial`. `types` knows the events among the actions.
    Raise `schema` when the reducer means something else than before: snapshots of the former
    meaning are then ignored. On a tenant's store everything is that tenant's.

    Whoever asks gets `NotKept` when the store refuses or is away; what is told then is a dead
    letter. TypeError when the class is made: for no event among its actions, for one with private
    fields (those need an `Aggregate`), and for one of other `types`.
    """

    category: ClassVar[str]
    schema: ClassVar[int] = 1
    snapshot_every: ClassVar[int] = SNAPSHOT_EVERY
    types: ClassVar[EventTypes] = EVENTS

    def __init__(
        self,
        env: Environment,
        id_: str,
        store: EventStore,
        *,
        snapshots: Snapshots | None = None,
        shard: Shard | None = None,
        interpreters: Mapping[type[Effect], Interpreter] | None = None,
        delays: DurableDelays | None = None,
    ) -> None:
        super().__init__(env, interpreters={**(interpreters or {}), Record: _within}, delays=delays)
        self.types.check()
        self.stream_id = self.stream_of(id_)
        if snapshots is not None and store.tenant is not None:
            snapshots = snapshots.for_tenant(store.tenant)
        self._store, self._snapshots, self._shard = store, snapshots, shard
        self._schema = "" if snapshots is None else self._check_snapshots()
        # One at a time, also of those that are fed back while the actor stops.
        self._turn = trio.Lock()
        self.version = self._kept_version = 0
        self._is_begun, self._is_doubtful = False, True

    def __init_subclass__(cls) -> None:
        if isinstance(getattr(cls, "reducer", None), Reducer):
            _check_events(cls)
        super().__init_subclass__()

    def stream_of(self, id_: str) -> StreamId:
        """Override this where a stream is named otherwise; raises `InvalidStreamId`."""
        return StreamId(f"{self.category}-{id_}")

    def on_start(self) -> object:
        """Load the stream; a store that is away, or takes long, is met again by the messages."""
        ReducerActor.on_start(self)
        return self._load()

    async def _load(self) -> None:
        try:
            await self._be_sure(START_S_MAX)
        except StoreError as error:
            if not error.is_transient:
                raise
            _log.warning("persistence.reducer_waits", stream_id=self.stream_id, code=error.code)

    # Messages

    async def _take(self, message: A) -> object:
        """Called with each action, as its base's."""
        envelope = self._envelope()
        job = self._fed_back(message, envelope[CONTEXT]) if self._fed else None
        if job is not None:
            await self._keep_feedback(job, message)
            return None
        if self._board.is_draining:
            return self._refuse(envelope)
        try:
            answer = await self._keep(message)
        except StoreError as error:
            if self.asker_waits:
                return self._fail(message, error)
            self.system.dead_letters.add(self.cell, envelope, "crashed", Crashed(error))
            return None
        return answer if isinstance(message, Ask) else None

    async def on_run(self, message: Run) -> bool | Later[bool]:  # type: ignore[override]
        """Reduce an action, and answer when its effects have begun."""
        if self._board.is_draining:
            return cast("Later[bool]", self._refuse_ask())
        beginning, handle = Beginning(), message.handle
        followers = (handle,) if handle.is_cascade else ()
        try:
            await self._keep(cast("A", message.action), followers, (handle,), beginning.one_began)
        except StoreError as error:
            return cast("Later[bool]", self._fail(message.action, error))
        return self._begun(message, beginning)

    async def on_ask_for(self, message: AskFor) -> Later[object]:  # type: ignore[override]
        """Reduce an action, and answer with the first that it causes and that is waited for."""
        if self._board.is_draining:
            return self._refuse_ask()
        later = message.outcome.later = self.reply_later(message)
        followers = (message.outcome,)
        try:
            await self._keep(cast("A", message.action), followers, followers)
        except StoreError as error:
            message.outcome.close(NotKept(self.path, message.action, error))
        return later

    async def on_read_state(self, message: ReadState) -> object:
        """Give the state, or a part of it, after all that is stored."""
        try:
            async with self._turn:
                await self._be_fit()
        except StoreError as error:
            return self._fail(message, error)
        return self._read(message)

    async def on_fire(self, message: Fire) -> bool | Later[bool]:  # type: ignore[override]
        """Reduce the action of a durable delay that is due.

        What it stores closes the delay in the same transaction: exactly one of its firing and its
        cancelling is stored.
        """
        if self._board.is_draining:
            return cast("Later[bool]", self._refuse_ask())
        try:
            action = await self._due(message)
            if action is None:
                return True
            closed = CloseTimer(message.timer_id)
            stored = self.version
            await self._keep(action, timers=(closed,))
        except UnreadableDelay as error:
            later = self.reply_later(message)
            later.fail(error)
            return later
        except TimerGone:
            self._board.counts.stale_delays += 1
            return True
        except StoreError as error:
            return cast("Later[bool]", self._fail(message, error))
        return self.version == stored

    def _fail(self, action: object, error: StoreError) -> Later[object]:
        later = self.reply_later()
        later.fail(NotKept(self.path, action, error))
        return later

    # Feedback

    async def _keep_feedback(self, job: Job, action: A) -> None:
        try:
            if not job.is_dropped:
                followers = still_open(job.followers)
                await self._keep(action, followers, followers, followed=action)
        except StoreError as error:
            job.refused = error
            envelope = self._life.wrap(action, job.context)
            self.system.dead_letters.add(self.cell, envelope, "crashed", Crashed(error))
        finally:
            job.was_reduced()

    async def _apply_at_stop(self, job: Job, action: object) -> None:
        with self._in_the_name_of(job):
            await self._keep_feedback(job, cast("A", action))

    # Deciding and storing

    async def _keep(
        self,
        action: A,
        followers: tuple[Follower, ...] = (),
        counting: tuple[Follower, ...] = (),
        begun: Callable[[], None] | None = None,
        *,
        followed: object = None,
        timers: Sequence[TimerChange] = (),
    ) -> object:
        """Reduce an action, store its events, and then all the rest; gives the answer.

        `followed` is an action that the followers have caused themselves. `timers` change in the
        same transaction, if there is one.
        """
        async with self._turn:
            await self._be_fit()
            decided = await self._decide_and_store(action, timers)
            return self._applied(decided, followers, counting, begun, followed)

    async def _decide_and_store(self, action: A, timers: Sequence[TimerChange]) -> _Decided[S]:
        for attempt in range(CONFLICT_RETRIES_MAX + 1):
            decided = self._decide(action)
            decided.timers += timers
            try:
                await self._append(decided)
                return decided
            except ConcurrencyConflict:
                # Another writer was first: what it stored may lead to another decision.
                if attempt == CONFLICT_RETRIES_MAX:
                    raise
                await trio.sleep(jitter(self.env.random.random()))
                await self._be_sure(math.inf)
        raise AssertionError("the last attempt returns or raises")

    def _decide(self, action: A) -> _Decided[S]:
        decided: _Decided[S] = _Decided()
        metadata = metadata_of(self.env, self._store.tenant)
        if self.types.is_event(action):
            self._reduce_event(decided, self._state, action, metadata)
            return decided
        before = self._state
        with (
            NO_SPAN
            if self.cell.spans is None
            else span("reducer.reduce", action=type(action).__name__)
        ):
            after = self.reducer.reduce(before, action, cast("Never", self.env))
        # One that is changed in place cannot be compared with what it was.
        if not self.reducer.in_place and after.state is not before and after.state != before:
            raise ReducerContractError(
                self.reducer.name, action, after, "only events change an event-sourced state"
            )
        decided.steps.append(_Step(action, after))
        state = before
        for one in after.effects:
            if isinstance(one, Record):
                decided.records += 1
                decided.outbox += [carrying(each, metadata) for each in one.outbox]
                decided.timers += [carrying(each, metadata) for each in one.timers]
                decided.idempotency = one.idempotency or decided.idempotency
                for event in one.events:
                    state = self._reduce_event(decided, state, event, metadata)
        return decided

    def _reduce_event(
        self, decided: _Decided[S], state: S, event: object, metadata: Mapping[str, str]
    ) -> S:
        name = self.reducer.name
        if type(event) not in self.reducer.handled or not self.types.is_event(event):
            raise ReducerContractError(name, event, event, "Record takes events that it reduces")
        new = self.types.encode(
            event, event_id=self.env.ids.new_id(), metadata=metadata, tenant=self._store.tenant
        )
        at = datetime.fromisoformat(metadata["timestamp"])
        after = self._reduced(state, event, new.event_id, at)
        if any(isinstance(one, Record) for one in after.effects):
            raise ReducerContractError(name, event, after, "an event records no further ones")
        decided.steps.append(_Step(event, after))
        decided.events.append(new)
        return after.state

    def _reduced(self, state: S, event: object, event_id: UUID, at: datetime) -> Next[S]:
        env = environment_of(self.env, event_id, at)
        return self.reducer.reduce(state, cast("A", event), cast("Never", env))

    async def _append(self, decided: _Decided[S]) -> None:
        for step in decided.steps:
            effects = [one for one in step.after.effects if not isinstance(one, Record)]
            self._check_interpreted(cast("A", step.action), tuple(effects))
        if not decided.events:
            return
        request = AppendRequest(
            self.stream_id,
            decided.events,
            self.version,
            self._shard,
            decided.outbox,
            decided.timers,
            decided.idempotency,
        )
        try:
            with NO_SPAN if self.cell.spans is None else span(
                "store.append", stream=str(self.stream_id), expected_version=self.version,
                events=len(decided.events),
            ):  # fmt: skip
                appended = await self._store.append_request(request)
        except (Fenced, StreamGone) as error:
            # Somebody else owns the stream now, or nobody ever will.
            self._lose()
            self.stop(Shutdown(error.code))
            raise
        except StoreError:
            self._lose()
            raise
        if appended.replayed:
            # Of the key: what an earlier request did may be unread here, and is not done again.
            decided.steps = decided.steps[:1]
            self._lose()
            await self._be_sure(math.inf)
            decided.steps[0].after = Next(self._state, *decided.steps[0].after.effects)
        else:
            self.version = appended.version

    def _applied(
        self,
        decided: _Decided[S],
        followers: tuple[Follower, ...],
        counting: tuple[Follower, ...],
        begun: Callable[[], None] | None,
        followed: object,
    ) -> object:
        """What was stored is so: states, effects, and whoever looks on, in this order."""
        answer: Reply | None = None
        waiting = 0
        for one in counting:
            for _ in range(decided.records):
                one.began()
                one.ended(None, is_done=True)
        context = self._metadata()
        for number, step in enumerate(decided.steps):
            answer = self._apply_step(step, followers, counting, begun, context) or answer
            waiting += self._waiting
            if number or step.action is followed:
                for one in followers:
                    one.caused(step.action)
            # What the command has recorded was caused by it.
            context = current_activity.get().sending() or context
        self._waiting = waiting
        if decided.events:
            self._maybe_save()
        return None if answer is None else answer.value

    def _apply_step(
        self,
        step: _Step[S],
        followers: tuple[Follower, ...],
        counting: tuple[Follower, ...],
        begun: Callable[[], None] | None,
        context: Context,
    ) -> Reply | None:
        answer: Reply | None = None
        self._state = step.after.state
        self._handled += 1
        self._waiting = 0
        for one in step.after.effects:
            if isinstance(one, Reply):
                answer = one
            elif isinstance(one, Record):
                continue
            elif not self._performing.start(one, followers, counting, begun):
                self._waiting += 1
        board = self._board
        board.seq += 1
        if board.has_listeners:
            board.show(step.action, context)
        return answer

    # Reading

    def _lose(self) -> None:
        """Called when it is not known what is stored."""
        self._is_doubtful = True
        if self.reducer.in_place:
            # The trial has changed it.
            self._state, self.version, self._kept_version = self._first_state(), 0, 0
            self._is_begun = False

    async def _be_fit(self) -> None:
        # A child task has no message in hand; the end of the stop cuts it.
        left_s = math.inf if self._is_stopping else self.remaining()
        await self._be_sure(max(left_s - ANSWER_S, left_s / 2))

    async def _be_sure(self, within_s: float) -> None:
        """Read what the state lacks; what was read stays when the time is over, or it is cut."""
        if not self._is_doubtful:
            return
        with trio.move_on_after(max(within_s, 0.0)) as limit:
            if not self._is_begun:
                if self._snapshots is not None:
                    await self._restore(self._snapshots)
                self._is_begun = True
            with (
                NO_SPAN
                if self.cell.spans is None
                else span("store.load", stream=str(self.stream_id), from_version=self.version + 1)
            ):
                async for stored in self._store.load(self.stream_id, from_version=self.version + 1):
                    self._replay(stored)
            self._is_doubtful = False
        if limit.cancelled_caught:
            raise StoreTimeout(max(within_s, 0.0), nothing_written=True)

    def _replay(self, stored: StoredEvent) -> None:
        state, at = self._state, reduced_at(stored)
        for event in self.types.decode_all(stored):
            state = self._reduced(state, event, stored.event_id, at).state
        # All parts of a split event at once: a version is never half applied.
        self._state, self.version = state, stored.version

    # Snapshots

    def _check_snapshots(self) -> str:
        state_type = _state_type(type(self))
        try:
            tag = tag_of(state_type, self.schema, self.types, _events_of(type(self)))
            msgspec.json.decode(msgspec.json.encode(self.initial()), type=state_type)
        except Exception as error:
            raise TypeError(
                f"{type(self).__name__}: its state cannot be kept as a snapshot: {error}; give it "
                "a state of plain data, or no snapshots"
            ) from error
        return tag

    async def _restore(self, snapshots: Snapshots) -> None:
        kept = await snapshots.latest(self.stream_id)
        if kept is None:
            return
        if kept.schema != self._schema:
            _log.warning("persistence.snapshot_ignored", stream_id=self.stream_id, why="schema")
            return
        try:
            self._state = msgspec.json.decode(kept.data, type=_state_type(type(self)))
        except msgspec.DecodeError:
            _log.warning("persistence.snapshot_ignored", stream_id=self.stream_id, why="bytes")
            return
        self.version = self._kept_version = kept.version

    def _maybe_save(self) -> None:
        if self._snapshots is None or self.version - self._kept_version < self.snapshot_every:
            return
        self._kept_version = self.version
        try:
            data = msgspec.json.encode(self._state)
        except Exception as error:  # noqa: BLE001  (the state's own classes are asked too)
            # The events are stored, and nothing must depend on this.
            _log.warning("persistence.snapshot_failed", stream_id=self.stream_id, code=str(error))
            return
        snapshot = Snapshot(self.stream_id, self.version, self._schema, data)
        self.start_soon(_save, self._snapshots, snapshot)


async def _save(snapshots: Snapshots, snapshot: Snapshot) -> None:
    try:
        await snapshots.save(snapshot)
    except StoreError as error:
        # Only a help for loading: the next hundred events try again.
        _log.warning("persistence.snapshot_failed", stream_id=snapshot.stream_id, code=error.code)


async def _within(wanted: Record, env: Environment) -> None:
    raise AssertionError("a Record is done with its action, never by itself")


def _events_of(cls: type[EventSourcedReducerActor[S, A]]) -> Sequence[type]:
    """The actions that are stored, by name."""
    found: list[type] = []
    for one in sorted(cls.reducer.handled, key=lambda kind: kind.__qualname__):
        try:
            cls.types.name_of(one)
        except TypeError:
            if is_event(one):
                raise
            continue
        found.append(one)
    return found


def _check_events(cls: type[EventSourcedReducerActor[S, A]]) -> None:
    """Called when the class is made; TypeError for events that it cannot keep."""
    name = f"{cls.__qualname__} ({here()})"
    if not isinstance(getattr(cls, "category", None), str):
        raise TypeError(f"{name} has no category: set `category = ...`")
    events = _events_of(cls)
    if not events:
        raise TypeError(f"{name} has no event among its actions: nothing is kept")
    private = [one.__name__ for one in events if cls.types.is_private(one)]
    if private:
        raise TypeError(
            f"{name} keeps {', '.join(private)}, which has private fields: those need "
            "an Aggregate, which makes its state anew when somebody is forgotten"
        )
    if beside := cls.types.beside(events):
        raise TypeError(
            f"{name}: what its events are split into has {', '.join(beside)} too, "
            "which its reducer does not take"
        )
    if cls.snapshot_every < 1:
        raise TypeError(f"{name}: snapshot_every must be at least 1")


def _state_type(cls: type) -> type:
    for kind in cls.__mro__:
        for base in kind.__dict__.get("__orig_bases__", ()):
            origin = get_origin(base)
            if isinstance(origin, type) and issubclass(origin, ReducerActor):
                found = get_args(base)[0]
                if not isinstance(found, TypeVar):
                    return cast("type", found)
    raise TypeError(f"{cls.__qualname__} names no state: derive it from {cls.__name__}[State, ...]")
