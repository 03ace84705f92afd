"""The actor of one aggregate: it loads the stream, decides, appends, applies, in this order.

Rule 1: state changes only through `apply`, of events that are stored, live as in replay.
Rule 2: an append whose outcome is unknown makes the state doubtful: it is read on before
the next decision. The same events with the same ids are never decided twice.
Rule 3: a store that is away, and a conflict that stays, are answers (`Failed`), no crash.
Rule 4: a state made of private fields is thrown away when one of their subjects was forgotten,
and made again from what can still be read.
Rule 5: a state that is not read yet, or doubtful, answers nobody: whoever asks meanwhile is told
what the store says. So an outage ends no aggregate, and uses up no restarts of its supervisor.
Rule 6: an actor is one tenant's, or none's: that of its store. Whoever asks in the context of
another tenant is told so, before anything is read or decided.
Rule 7: a command that begins a stream (`Aggregate.opens`) is decided before the stream is read. Its
append expects none; where there is one, or the decision is no event, it is read and decided again.
Rule 8: an append tells whether the state was the newest; an answer without one does not. Where
other processes have actors of the stream too (`is_shared`), such an answer comes behind a look.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec
import trio

from actors.persistence.aggregate import (
    CONFLICT_RETRIES_MAX,
    SNAPSHOT_SUBJECTS_MAX,
    Aggregate,
    AggregateContractError,
    Decision,
    Done,
    check_aggregate,
    check_snapshots,
    has_private_events,
    jitter,
    read_state,
    schema_tag,
    write_state,
)
from actors.persistence.beside_log.outbox import LookAtOutbox
from actors.persistence.beside_log.subject_keys import Keyring
from actors.persistence.errors import (
    ConcurrencyConflict,
    Fenced,
    ForeignTenant,
    StoreError,
    StoreTimeout,
    StoreUnavailable,
    StreamGone,
)
from actors.persistence.event_store import EventStore, Snapshots
from actors.persistence.reducing.effects import carrying, metadata_of
from actors.persistence.words import (
    Appended,
    AppendRequest,
    Idempotent,
    NewEvent,
    OutboxMessage,
    Shard,
    Snapshot,
    TimerChange,
    owned_name,
)
from actors.reducers import Environment, Refusal, Reply
from actors.runtime import (
    NO_SPAN,
    Actor,
    Ask,
    IdleTimeout,
    Log,
    Normal,
    Ref,
    Shutdown,
    current_context,
    current_tallies,
    message,
    span,
)

S = TypeVar("S")
C = TypeVar("C")
E = TypeVar("E")

# An aggregate nobody speaks to gives its memory back; the next command loads it again.
IDLE_S = 900.0

# How long a start reads its stream before it is over all the same, and the next message reads on.
# Well under `start_timeout`: who has not started by then uses its supervisor's restarts up.
START_S_MAX = 5.0

# After a look at the store that took as long, and failed, everybody is told so for as long again:
# who waits in the mailbox behind a look of 4 s would else wait out another, and miss the answer
# in an ask of 5 s. A cut connection fails at once, and the next look may succeed.
AWAY_S = 0.25

# So long before the end of an ask its look at the store is given up: time for the answer.
ANSWER_S = 0.25

_log = Log("actors.persistence")


@dataclass(frozen=True, slots=True)
class Failed:
    """The store refused or did not answer; `execute` and `ask_state` raise the error."""

    error: StoreError


@message
class Execute(Ask[Done | Refusal | Failed]):
    """Asks an aggregate to carry out a command, with what belongs into the same transaction."""

    command: object
    idempotency: Idempotent | None = None
    outbox: Sequence[OutboxMessage] = ()
    timers: Sequence[TimerChange] = ()


@message
class ReadState(Ask[tuple[int, object] | Failed]):
    """Asks an aggregate for its version and state, after all earlier commands."""


# How an aggregate's actor is held.
AggregateRef = Ref[Execute | ReadState | IdleTimeout]


async def execute(
    ref: AggregateRef,
    command: object,
    *,
    timeout: float = 5.0,
    idempotency: Idempotent | None = None,
) -> Done | Refusal:
    """Call this to have a command carried out; raises what the store says, and `AskError`."""
    outcome = await ref.ask(Execute(command, idempotency), timeout=timeout)
    if isinstance(outcome, Failed):
        raise outcome.error
    return outcome


async def ask_state(ref: AggregateRef, *, timeout: float = 5.0) -> tuple[int, object]:
    """Call this for an aggregate's version and state, after all earlier commands.

    Raises what the store says while the state cannot be read, and `AskError`.
    """
    found = await ref.ask(ReadState(), timeout=timeout)
    if isinstance(found, Failed):
        raise found.error
    return found


class AggregateActor(Actor[Execute | ReadState | IdleTimeout], Generic[S, C, E]):
    """One stream of one aggregate. Start it under the stream's id; it ends when idle.

    It starts while its store is away too, and answers with the store's error until it is back.
    Where an event has private fields it needs the `keyring` of its store too. With `tenant`, or
    on a tenant's view, the stream, its snapshots and inline projections are that tenant's, and
    whoever asks in the context of another one is answered `ForeignTenant`. Raises `InvalidTenant`.
    Say `is_shared` where another process may have an actor of the stream: a refusal, an answer
    that stores nothing, and `ask_state` cost a read then.

    `look_at_outbox` and `look_for_timers` are called behind each append that sent or set something,
    for the relay and the timers; neither may wait. With `topic` it publishes there what came of
    each command that may have stored something, also when nobody waits for the answer any more.
    """

    def __init__(
        self,
        aggregate: Aggregate[S, C, E],
        id_: str,
        store: EventStore,
        env: Environment,
        *,
        snapshots: Snapshots | None = None,
        shard: Shard | None = None,
        idle_s: float = IDLE_S,
        keyring: Keyring | None = None,
        tenant: str | None = None,
        is_shared: bool = False,
        look_at_outbox: Callable[[LookAtOutbox], None] | None = None,
        look_for_timers: Callable[[], None] | None = None,
        topic: str | None = None,
    ) -> None:
        check_aggregate(aggregate)
        if keyring is None and has_private_events(aggregate):
            raise AggregateContractError(
                f"{type(aggregate).__name__} has events with private fields; give the actor the "
                "keyring of its store, or it would go on with what was forgotten"
            )
        if snapshots is not None:
            check_snapshots(aggregate)
        self.aggregate, self.env = aggregate, env
        self.stream_id = aggregate.stream_of(id_)
        if tenant is not None:
            store = store.for_tenant(tenant)
        self._tenant = store.tenant
        if snapshots is not None and self._tenant is not None:
            snapshots = snapshots.for_tenant(self._tenant)
        self._store, self._snapshots, self._shard = store, snapshots, shard
        self._idle_s, self._is_shared = idle_s, is_shared
        self._look_at_outbox, self._look_for_timers = look_at_outbox, look_for_timers
        self._topic = topic
        self._schema = "" if snapshots is None else schema_tag(aggregate)
        self._keyring = keyring
        # Whose private fields the state was made of, and how many had been forgotten by then.
        self._subjects: set[str] = set()
        self._forgets = 0
        self.state: S = aggregate.initial()
        self.version = 0
        self._kept_version = 0
        # Whether the snapshot was looked for, and whether the stream may have more than the state.
        self._is_begun, self._is_doubtful = False, True
        # What the store said when it was last found away, and until when that is the answer.
        self._away: StoreUnavailable | None = None
        self._away_until = 0.0

    async def on_start(self) -> None:
        """Load the stream: the latest snapshot, then the events behind it.

        A store that is away, or takes long, is met again by the messages.
        """
        self.idle_after(self._idle_s)
        if self._may_open():
            return  # what comes first may need no look
        try:
            await self._be_sure(START_S_MAX)
        except StoreError as error:
            if not error.is_transient:
                raise
            _log.warning("persistence.aggregate_waits", stream_id=self.stream_id, code=error.code)

    async def on_execute(self, message: Execute) -> Done | Refusal | Failed:
        """Decide and store; see the module's rules."""
        done = await self._carry_out(message)
        # After a failure what is stored may be unknown.
        if self._topic is not None and not isinstance(done, Refusal):
            self.system.topics.publish(self._topic, done)
        return done

    async def _carry_out(self, message: Execute) -> Done | Refusal | Failed:
        if (foreign := self._foreign()) is not None:
            return Failed(foreign)
        began = trio.current_time()
        try:
            if self._may_open() and isinstance(message.command, self.aggregate.opens):
                self._raise_if_away()
                opened = await self._maybe_open(message)
                if opened is not None:
                    return opened
            await self._be_fit()
            return await self._execute(message)
        except (Fenced, StreamGone) as error:
            # Somebody else owns the stream now, or nobody ever will: this actor must not decide
            # anything more, nor keep what was to be forgotten.
            self.stop(Shutdown(error.code))
            return Failed(error)
        except StoreError as error:
            # Also after a refusal that is sure (`InlineProjectionFailed`): one read too many costs
            # less than a list of errors to keep true.
            self._is_doubtful = True
            self._met(error, began)
            return Failed(error)

    async def on_read_state(self, message: ReadState) -> tuple[int, object] | Failed:
        """Give version and state; the state is frozen."""
        if (foreign := self._foreign()) is not None:
            return Failed(foreign)
        try:
            await self._be_fit()
            if self._is_shared:
                await self._read_on()
        except StoreError as error:
            return Failed(error)
        return self.version, self.state

    def on_idle_timeout(self, message: IdleTimeout) -> None:
        """End; whoever speaks next starts a new incarnation from the store."""
        self.stop(Normal())

    def _foreign(self) -> ForeignTenant | None:
        """Why who asks is not answered, when it is for another tenant."""
        context = current_context()
        asking = None if context is None else context.tenant
        if asking is None or self._tenant in (None, asking):
            return None
        return ForeignTenant(self._tenant, asking)

    async def _forget(self) -> None:
        """Begin anew when the state holds what was forgotten."""
        if self._keyring is None or not self._subjects:
            return
        began = trio.current_time()
        try:
            count = await self._keyring.forgets()
        except StoreError as error:
            # Nothing is heard of others while the store is away; what this process forgot is known.
            self._met(error, began)
            count = self._forgets
        is_outdated = self._keyring.has_forgotten(frozenset(self._subjects), self._forgets)
        self._forgets = count
        if is_outdated:
            self.state, self.version, self._kept_version = self.aggregate.initial(), 0, 0
            self._subjects.clear()
            self._is_doubtful = True

    async def _be_fit(self) -> None:
        """Have a state to answer from, or raise what the store says."""
        if self._is_doubtful:
            self._raise_if_away()
        await self._forget()
        left_s = self.remaining()
        await self._be_sure(max(left_s - ANSWER_S, left_s / 2))

    def _raise_if_away(self) -> None:
        """Say again what the store said a moment ago."""
        if self._away is not None:
            if trio.current_time() < self._away_until:
                # One for each: raised by many, one error carries every place any of them was at.
                # The store was not asked, so nothing was written.
                raise StoreUnavailable(self._away.reason, nothing_written=True)
            self._away = None

    def _met(self, error: StoreError, began: float) -> None:
        now = trio.current_time()
        if isinstance(error, StoreUnavailable) and now - began >= AWAY_S:
            self._away, self._away_until = error, now + AWAY_S

    async def _be_sure(self, within_s: float) -> None:
        """Read what the state lacks; what was read stays when the time is over, or it is cut."""
        if not self._is_doubtful:
            return
        began, before = trio.current_time(), (self._is_begun, self.version)
        try:
            with trio.move_on_after(max(within_s, 0.0)) as limit:
                if not self._is_begun:
                    await self._begin()
                await self._read_on()
            if limit.cancelled_caught:
                raise StoreTimeout(max(within_s, 0.0), nothing_written=True)
        except StoreError as error:
            if before == (self._is_begun, self.version):
                # Else it is only long, and the next look has less to read.
                self._met(error, began)
            raise

    async def _begin(self) -> None:
        if self._keyring is not None:
            self._forgets = await self._keyring.forgets()
        if self._snapshots is not None:
            await self._restore(self._snapshots)
        self._is_begun = True

    def _may_open(self) -> bool:
        """Whether nothing is known of the stream, and nothing else than events makes the state."""
        return (
            bool(self.aggregate.opens)
            and not self._is_begun
            and self._snapshots is None
            and self._keyring is None
        )

    async def _maybe_open(self, message: Execute) -> Done | None:
        """Begin the stream; None when there is one already, or this command does not begin it."""
        decision = self._decide(message)
        if isinstance(decision, Refusal | Reply) or not decision:
            return None
        try:
            done = await self._append(tuple(decision), message)
        except ConcurrencyConflict:
            return None
        # All of the stream: it was empty before, or was read since.
        self._is_begun, self._is_doubtful = True, False
        return done

    async def _execute(self, message: Execute) -> Done | Refusal:
        for attempt in range(CONFLICT_RETRIES_MAX + 1):
            decision = self._decide(message)
            if self._is_shared and (isinstance(decision, Refusal | Reply) or not decision):
                await self._read_on()
                decision = self._decide(message)
            if isinstance(decision, Refusal):
                return decision
            if isinstance(decision, Reply):
                return Done(self.version, value=decision.value)
            if not decision:
                return Done(self.version)
            try:
                return await self._append(tuple(decision), message)
            except ConcurrencyConflict:
                if attempt == CONFLICT_RETRIES_MAX:
                    raise
                await trio.sleep(jitter(self._draw()))
                await self._read_on()
        raise AssertionError("the last attempt returns or raises")

    def _decide(self, message: Execute) -> Decision[E]:
        return self.aggregate.decide(self.state, message.command, self.env)  # type: ignore[arg-type]

    async def _append(self, events: tuple[E, ...], message: Execute) -> Done:
        self._raise_if_away()
        metadata = metadata_of(self.env, self._tenant)
        stored = [self._encode(event, metadata) for event in events]
        beside = self.aggregate.beside(self.state, events, metadata)
        request = AppendRequest(
            self.stream_id,
            stored,
            self.version,
            self._shard,
            tuple(carrying(one, metadata) for one in (*message.outbox, *beside.outbox)),
            tuple(carrying(one, metadata) for one in (*message.timers, *beside.timers)),
            message.idempotency,
        )
        with NO_SPAN if self.cell.spans is None else span(
            "store.append", stream=str(self.stream_id), expected_version=self.version,
            events=len(stored),
        ):  # fmt: skip
            appended = await self._store.append_request(request)
        if appended.replayed:
            # The answer of an earlier request with this key: what it did may be unread here.
            await self._read_on()
            return Done(appended.version, cursor=appended.cursor, replayed=True)
        for new in stored:
            if new.private is not None:
                # As stored events name them.
                self._subjects |= {owned_name(self._tenant, one) for one in new.private.subjects}
        for event in events:
            self.state = self.aggregate.apply(self.state, event)
        self.version = appended.version
        self._maybe_keep()
        self._note_appended(request, appended)
        return self._done(appended, events)

    def _note_appended(self, request: AppendRequest, appended: Appended) -> None:
        if request.outbox and self._look_at_outbox is not None:
            self._look_at_outbox(LookAtOutbox())
        if request.timers and self._look_for_timers is not None:
            self._look_for_timers()

    @staticmethod
    def _done(appended: Appended, events: tuple[E, ...]) -> Done:
        return Done(appended.version, tuple(events), appended.cursor)

    def _encode(self, event: E, metadata: Mapping[str, str]) -> NewEvent:
        return self.aggregate.types.encode(
            event,
            event_id=self.env.ids.new_id(),
            metadata=metadata,
            tenant=self._tenant,
            tags=self.aggregate.tags(event),
        )

    async def _read_on(self) -> None:
        """Apply what the stream has behind the state."""
        with (
            NO_SPAN
            if self.cell.spans is None
            else span("store.load", stream=str(self.stream_id), from_version=self.version + 1)
        ):
            await self._apply_rest()
        self._is_doubtful = False

    async def _apply_rest(self) -> None:
        async for stored in self._store.load(self.stream_id, from_version=self.version + 1):
            self._subjects.update(() if stored.private is None else stored.private.subjects)
            # None for what became of the stream: no news for the state, and a version all the same.
            state = self.state
            for event in self.aggregate.types.decode_all(stored):
                state = self.aggregate.apply(state, event)  # type: ignore[arg-type]
            # All parts of a split event at once: a version is never half applied.
            self.state, self.version = state, stored.version

    async def _restore(self, snapshots: Snapshots) -> None:
        kept = await snapshots.latest(self.stream_id)
        if kept is None:
            return
        if kept.schema != self._schema:
            _log.warning("persistence.snapshot_ignored", stream_id=self.stream_id, why="schema")
            current_tallies().add("store_snapshots_total", "ignored")
            return
        try:
            self.state = read_state(self.aggregate, kept.data)
        except msgspec.DecodeError:
            _log.warning("persistence.snapshot_ignored", stream_id=self.stream_id, why="bytes")
            current_tallies().add("store_snapshots_total", "ignored")
            return
        current_tallies().add("store_snapshots_total", "used")
        self.version = self._kept_version = kept.version
        self._subjects.update(kept.subjects)

    def _maybe_keep(self) -> None:
        if self._snapshots is None or len(self._subjects) > SNAPSHOT_SUBJECTS_MAX:
            return
        if self.version - self._kept_version >= self.aggregate.snapshot_every:
            self._kept_version = self.version
            try:
                data = write_state(self.state)
            except Exception as error:  # noqa: BLE001  (the state's own classes are asked too)
                # The command is stored, and its answer must not depend on this.
                _log.warning(
                    "persistence.snapshot_failed", stream_id=self.stream_id, code=str(error)
                )
                return
            snapshot = Snapshot(
                self.stream_id, self.version, self._schema, data, frozenset(self._subjects)
            )
            self.start_soon(self._keep, self._snapshots, snapshot)

    @staticmethod
    async def _keep(snapshots: Snapshots, snapshot: Snapshot) -> None:
        try:
            await snapshots.save(snapshot)
            current_tallies().add("store_snapshots_total", "stored")
        except StoreError as error:
            # Only a help for loading: the next hundred events try again.
            _log.warning(
                "persistence.snapshot_failed", stream_id=snapshot.stream_id, code=error.code
            )
            current_tallies().add("store_snapshots_total", "failed")

    def _draw(self) -> float:
        """A number from 0 to 1 out of the random part of an id: the environment has no other."""
        return (self.env.ids.new_id().int & 0xFFFF) / 0x10000
