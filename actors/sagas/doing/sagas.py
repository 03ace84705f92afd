"""The sagas of a program, as its other parts see them: begun, told, asked, resumed.

`send` is what an `OutboxRelay` is given, `deliver` what a `TimerService` is. Between them and the
sagas' actors nothing is kept: whatever is lost here is sent again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias, TypeVar, cast

import msgspec
import trio

from actors.persistence import (
    EVENTS,
    AggregateRef,
    DeadLetters,
    Done,
    DueTimer,
    NewDeadLetter,
    OutboxEntry,
    ProjectionStore,
    Refusal,
    StoreError,
    execute,
)
from actors.reducers import Environment
from actors.runtime import Log, span
from actors.sagas.deciding.aggregate import (
    ANSWER,
    BEGIN,
    DONE,
    IS_STUCK,
    UNKNOWN_VERSION,
    check_start,
    read_command,
)
from actors.sagas.deciding.decisions import NOTHING_TO_UNDO
from actors.sagas.definition import Saga
from actors.sagas.doing.index import lines
from actors.sagas.doing.parts import SagaKinds, SagaParts
from actors.sagas.words.errors import (
    InvalidSagaId,
    InvalidSagaTransition,
    NoParticipant,
    SagaExists,
    SagaVersionsUnknown,
    SignalRefused,
    UnknownSaga,
    UnknownSagaKind,
)
from actors.sagas.words.log import SagaEvent
from actors.sagas.words.state import SagaState, apply
from actors.sagas.words.words import (
    LETTER_TARGET,
    SAGA_TARGET,
    Cancel,
    ChildStuck,
    Compensate,
    Outcome,
    Parent,
    Refused,
    SagaCommand,
    SagaId,
    SagaInput,
    Start,
    Status,
    Succeeded,
    TakeReply,
    TakeSignal,
    TakeTimer,
    Unavailable,
    Wake,
    named_id,
    plain,
    short,
)

D = TypeVar("D")

# So many sagas are woken at a time: each reads its log, and the site serves meanwhile.
RESUMED_AT_ONCE = 100
# Long enough for a store that is busy; what does not answer is told so by the next message.
ANSWER_S = 5.0
# A saga that cannot be read at start is met again by its next message.
WAKE_S = 30.0

# What serves a target: gives what came of a command, or None when `Sagas.reply` will tell later.
# It may be called again for one `SagaCommand.work`, and then has to answer as before.
Participant: TypeAlias = Callable[[SagaCommand], Awaitable[Outcome | None]]

_log = Log("actors.sagas")


def is_moment(error: BaseException) -> bool:
    """Call this to decide whether what a participant raised is over in a moment (RES-2)."""
    if isinstance(error, StoreError):
        return error.is_transient
    return isinstance(
        error, TimeoutError | ConnectionError | trio.TooSlowError | trio.BrokenResourceError
    )


@dataclass(frozen=True, slots=True)
class Resumed:
    """How many sagas were woken at start, and which could not be, with the error's code."""

    woken: int
    failed: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class SagaHistory:
    """A saga's log, each event with the time it was stored, and the state they add up to."""

    state: SagaState
    events: Sequence[tuple[datetime, SagaEvent]]


class Sagas:
    """Begins sagas, brings them what they wait for, and carries their commands out.

    `ref_of` gives the ref of a saga's actor, and starts it by its first message: with a supervisor
    that is `lambda saga: shop.sagas[saga.key]`. `participants` serve the targets of commands.
    Whoever asks waits for an answer for `answer_s` seconds.
    """

    def __init__(
        self,
        parts: SagaParts,
        ref_of: Callable[[SagaId], AggregateRef],
        participants: Mapping[str, Participant],
        *,
        dead_letters: DeadLetters | None = None,
        is_transient: Callable[[BaseException], bool] = is_moment,
        answer_s: float = ANSWER_S,
    ) -> None:
        self._parts, self._ref_of, self._participants = parts, ref_of, dict(participants)
        self._answer_s = answer_s
        self._dead_letters, self._is_transient = dead_letters, is_transient

    @property
    def kinds(self) -> SagaKinds:
        """Call this for the sagas that this program knows."""
        return self._parts.kinds

    @property
    def env(self) -> Environment:
        """Call this for the clock that sagas go by."""
        return self._parts.env

    # For whoever wants something done

    async def start(
        self,
        kind: type[Saga[D]],
        data: D,
        *,
        name: str | None = None,
        key: str | None = None,
        tenant: str | None = None,
    ) -> SagaId:
        """Call this to begin a saga; gives its id as soon as its first commands are stored.

        `name` is its own, `key` what a client repeats its request with: the same one is the same
        saga, which is not begun twice. With neither each call begins one. With `tenant` it is that
        tenant's, with all its messages and timers. Raises `SagaExists` for
        other data under that name, `InvalidSagaId`, `UnknownSagaKind`, `ValidationError` of msgspec
        and what the store says; after `StoreUnavailable` a repeat under the same name is safe.
        """
        if name is not None and key is not None:
            raise ValueError("give a saga a name or a key, not both")
        definition = kind.definition()
        if self.kinds.latest(definition.kind) is not definition:
            raise UnknownSagaKind(definition.kind, definition.version)
        if name is None:
            made = self.env.ids.new_id() if key is None else named_id(definition.kind, key)
            name = str(made)
        saga, command = SagaId.of(definition.kind, name, tenant), Start(plain(data))
        check_start(command, definition)
        await self.order(saga, command, "be started")
        return saga

    async def cancel(self, saga: SagaId, by: str, reason: str) -> None:
        """Call this as its owner: what is done is undone, a step in flight is awaited first.

        Raises `UnknownSaga`, and `InvalidSagaTransition` when it is not running; ValueError when it
        is not said by whom and why.
        """
        await self.order(saga, Cancel(short(by), short(reason)), "be cancelled")

    async def signal(self, saga: SagaId, message: object, *, key: str = "") -> None:
        """Call this with what a step waits for, or will; one with a known `key` changes nothing.

        Its class says which step takes it. Raises `UnknownSaga`, `SignalRefused` when no step waits
        for that class, and `InvalidSagaTransition` when the saga, or each step that waits for it,
        is over, or a hundred wait.
        """
        named = TakeSignal(type(message).__name__, plain(message), key)
        await self.order(saga, named, "take a signal")

    async def query(self, saga: SagaId) -> SagaState:
        """Call this for what its log says of a saga, whoever runs it; changes and starts nothing.

        Raises `UnknownSaga`, and what the store says.
        """
        return (await self.history(saga)).state

    async def history(self, saga: SagaId) -> SagaHistory:
        """Call this for what happened in a saga, event by event; as `query` in all else."""
        state, events = SagaState(), list[tuple[datetime, SagaEvent]]()
        async for stored in self._parts.log_of(saga.tenant).load(saga.stream):
            for fact in EVENTS.decode_all(stored):
                found = cast("SagaEvent", fact)
                state = apply(state, found)
                events.append((stored.recorded_at, found))
        if state.phase is Status.NEW:
            raise UnknownSaga(str(saga))
        return SagaHistory(state, tuple(events))

    async def tell(self, saga: SagaId, told: SagaInput) -> Done | Refusal:
        """Call this to tell a saga anything it may be told; what it refuses is an answer.

        Raises `UnknownSagaKind` before an actor of it is started.
        """
        self.kinds.versions(saga.kind)
        return await execute(self._ref_of(saga), told, timeout=self._answer_s)

    async def _told(self, saga: SagaId, told: SagaInput) -> Done | Refusal:
        """The same for what comes once: it waits for a program that has the saga's steps."""
        outcome = await self.tell(saga, told)
        if isinstance(outcome, Refusal) and outcome.code == UNKNOWN_VERSION:
            raise await self._refused(saga, outcome, "be told")
        return outcome

    async def order(self, saga: SagaId, told: SagaInput, asked: str) -> Done:
        """Call this as `tell`; a refusal is raised, and `asked` says what was wanted."""
        outcome = await self.tell(saga, told)
        if isinstance(outcome, Done):
            return outcome
        raise await self._refused(saga, outcome, asked)

    async def _refused(self, saga: SagaId, refusal: Refusal, asked: str) -> Exception:
        """The error that a refusal is for whoever asked."""
        match refusal.code:
            case "saga_exists":
                return SagaExists(str(saga))
            case "unknown_saga":
                return UnknownSaga(str(saga))
            case "signal_refused":
                return SignalRefused(str(saga), refusal.message)
            case code if code == UNKNOWN_VERSION:
                return UnknownSagaKind(saga.kind, (await self.query(saga)).version)
        state = await self.query(saga)
        return InvalidSagaTransition(str(saga), state.status, asked)

    # For participants

    async def reply(self, command: SagaCommand, outcome: Outcome) -> bool:
        """Call this with what came of a command; False when its saga waits for it no more.

        Raises `TypeError` for what is no outcome, or a result that is no mapping there, and
        `UnknownSagaKind` where another program has the saga's steps: tell that one.
        """
        saga = SagaId.parse(command.saga)
        outcome = _stored(outcome)
        done = await self._told(saga, TakeReply(command.step, command.token, outcome))
        return isinstance(done, Done) and bool(done.events)

    # For the relay and the timers

    def takes_message(self, entry: OutboxEntry) -> bool:
        """Call this where one relay sends other things too: whether this is a saga's."""
        return "saga-id" in entry.headers

    def takes_timer(self, timer: DueTimer) -> bool:
        """Call this where one service delivers other timers too: whether this is a saga's."""
        try:
            self.kinds.versions(SagaId.parse(timer.address).kind)
        except (InvalidSagaId, UnknownSagaKind):
            return False
        return True

    async def send(self, entry: OutboxEntry) -> None:
        """Give this to an `OutboxRelay`: carries out what a saga's append has sent.

        A command whose step timed out meanwhile is dropped: its undo waits behind it. Raises
        `NoParticipant`, `UnknownSagaKind` for a saga whose steps only another program has, as
        during a deploy, and what a participant raises that is no moment's trouble: it is sent
        again then, by the relay's rules.
        """
        if entry.target == LETTER_TARGET:
            await self._keep_letter(entry)
        elif entry.target == SAGA_TARGET and entry.headers.get("saga-name") == ANSWER:
            await self._answer(entry)
        else:
            command = read_command(entry.target, entry.payload, entry.headers)
            if command.due_at <= self.env.clock.now():
                self._parts.stats.expired += 1
            elif entry.target == SAGA_TARGET:
                await self._carry_out_by_child(command)
            else:
                await self._carry_out(command)

    async def deliver(self, timer: DueTimer) -> bool:
        """Give this to a `TimerService`: brings a saga its timer.

        Raises `UnknownSagaKind` for one whose steps only another program has: it comes again.
        """
        await self._told(SagaId.parse(timer.address), TakeTimer(timer.name, timer.token))
        return True

    async def _carry_out(self, command: SagaCommand) -> None:
        participant = self._participants.get(command.target)
        if participant is None:
            raise NoParticipant(command.target)
        name = "saga.undo" if command.is_undo else "saga.step"
        try:
            with span(name, saga=command.saga, step=command.step, attempt=command.attempt):
                outcome = await participant(command)
        except Exception as error:
            if not self._is_transient(error):
                raise
            outcome = Unavailable(short(f"{type(error).__name__}: {error}"))
        if outcome is not None:
            await self.reply(command, outcome)

    async def _carry_out_by_child(self, command: SagaCommand) -> None:
        child = SagaId.parse(str(command.body["child"]))
        if command.name == BEGIN:
            data = command.body["data"]
            assert isinstance(data, dict), "written by the parent"
            parent = Parent(command.saga, command.step, command.token)
            outcome = await self._told(child, Start(data, parent))
            if isinstance(outcome, Refusal):
                await self.reply(command, Refused(f"{child}: {outcome.message}"))
            return
        told = await self._told(child, Compensate(command.token, str(command.body["reason"])))
        if isinstance(told, Refusal):
            await self.reply(command, ChildStuck(f"at {child}: {told.message}"))
        elif told.value == NOTHING_TO_UNDO:
            await self.reply(command, Succeeded())

    async def _answer(self, entry: OutboxEntry) -> None:
        told = msgspec.json.decode(entry.payload, type=_Answer)
        match told.outcome:
            case outcome if outcome == DONE:
                found: Outcome = Succeeded(told.results)
            case outcome if outcome == IS_STUCK:
                found = ChildStuck(told.path)
            case _:
                found = Refused(told.reason)
        parent = SagaId.parse(entry.headers["saga-id"])
        await self._told(parent, TakeReply(told.step, told.token, found))

    async def _keep_letter(self, entry: OutboxEntry) -> None:
        if self._dead_letters is None:
            return
        told = msgspec.json.decode(entry.payload, type=dict[str, str])
        saga, letters = SagaId.parse(told["saga"]), self._dead_letters
        if saga.tenant is not None:
            letters = letters.for_tenant(saga.tenant)
        await letters.add(
            NewDeadLetter(
                kind="saga",
                source=saga.kind,
                message_id=f"{saga.stream}:{told['step']}",
                error_message=told["reason"],
                payload=entry.payload,
                stream_id=saga.stream,
            )
        )

    # At start

    async def check_versions(self, index: ProjectionStore, *, tenant: str | None = None) -> int:
        """Call this at start, before anything is resumed: how many sagas are not over.

        Raises `SagaVersionsUnknown` when some of them have steps that this program does not know.
        """
        unknown: Counter[tuple[str, int, str]] = Counter()
        count = 0
        async for line in lines(index, is_over=False, tenant=tenant):
            count += 1
            if not self.kinds.knows(line.kind, line.version, line.fingerprint):
                unknown[line.kind, line.version, line.fingerprint] += 1
        if unknown:
            raise SagaVersionsUnknown(unknown)
        return count

    async def resume(self, index: ProjectionStore, *, tenant: str | None = None) -> Resumed:
        """Call this at start: every saga that is not over gets its actor, a hundred at a time.

        Nothing depends on it, since whatever a saga waits for wakes it too; it finds out early
        what cannot go on, and moves sagas to new steps (`Saga.migrate`). Of each tenant it is a
        call of its own. Raises
        `SagaVersionsUnknown` before any is woken. Cancelled, the rest is woken by what comes.
        """
        await self.check_versions(index, tenant=tenant)
        limit, failed = trio.CapacityLimiter(RESUMED_AT_ONCE), dict[str, str]()
        woken = 0

        async def wake(saga: SagaId) -> None:
            nonlocal woken
            try:
                answer = await execute(self._ref_of(saga), Wake(), timeout=WAKE_S)
            except Exception as error:  # noqa: BLE001  (one that cannot be read stops no other)
                failed[str(saga)] = getattr(error, "code", type(error).__name__)
            else:
                woken += 1
                if isinstance(answer, Refusal):
                    failed[str(saga)] = answer.code
            finally:
                limit.release_on_behalf_of(saga)

        async with trio.open_nursery() as nursery:
            async for line in lines(index, is_over=False, tenant=tenant):
                saga = SagaId.parse(line.saga)
                await limit.acquire_on_behalf_of(saga)
                nursery.start_soon(wake, saga)
        for name, code in failed.items():
            _log.error("saga.not_resumed", saga=name, code=code)
        return Resumed(woken, failed)


class _Answer(msgspec.Struct):
    step: str
    token: str
    outcome: str
    results: dict[str, dict[str, object]] = {}
    reason: str = ""
    path: str = ""


def _stored(outcome: Outcome) -> Outcome:
    """The outcome as the log holds it, so that what cannot be stored is told its participant."""
    given: object = outcome
    if not isinstance(given, Succeeded | Refused | Unavailable | ChildStuck):
        raise TypeError(
            f"a participant gave {type(given).__name__}; give Succeeded, Refused or Unavailable, "
            "or None to reply later"
        )
    if isinstance(outcome, Succeeded):
        return Succeeded(plain(outcome.result))
    return outcome
