"""What a saga does next: pure functions from a state, what it is told and its definition to events.

Rule 1: facts are recorded in whatever status; only `_advance` acts on them, and it does nothing
while the saga is stuck. So whoever resumes it has lost nothing.
Rule 2: a reply or timer counts that carries the token of what is in flight. All others are
`IGNORED`, and change nothing.
Rule 3: after each input the events say all that follows from it, the next steps' beginning
included. So a log never ends at a place from which nobody would go on.
Rule 4: nothing is undone while a step is in flight.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import assert_never

import msgspec

from actors.persistence import Decision, Refusal, Reply
from actors.reducers import Environment
from actors.sagas.definition import Definition, Step, Unit
from actors.sagas.words.log import (
    CompensationStarted,
    FailureKind,
    SagaCompleted,
    SagaEvent,
    SagaFailed,
    SagaMigrated,
    SagaResumed,
    SagaStarted,
    SagaStuck,
    SignalReceived,
    StepFailed,
    StepSkipped,
    StepStarted,
    StepSucceeded,
    UndoFailed,
    UndoSkipped,
    UndoStarted,
    UndoSucceeded,
)
from actors.sagas.words.state import Applied, SagaState
from actors.sagas.words.words import (
    Break,
    Cancel,
    ChildStuck,
    Compensate,
    Intervene,
    Outcome,
    Refused,
    SagaInput,
    Start,
    Status,
    Succeeded,
    TakeReply,
    TakeSignal,
    TakeTimer,
    Unavailable,
    Wake,
    plain,
    short,
)

# So many signals may wait in a log: more is a sender in a loop.
SIGNALS_MAX = 100

# Answers that change nothing: what came is of another attempt, or of a saga that is over.
IGNORED = "ignored"
# It was over, and nothing of it stands.
NOTHING_TO_UNDO = "nothing to undo"
# It was started, or signalled, so before.
KNOWN = "known"

# Names of timers.
DEADLINE, STEP, RETRY, UNDO, UNDO_RETRY = "deadline", "step", "retry", "undo", "undo_retry"


@dataclass(frozen=True, slots=True)
class _Turn:
    """One decision under way: the state as it is after the events so far."""

    definition: Definition
    env: Environment
    state: SagaState
    applied: Applied
    events: tuple[SagaEvent, ...] = ()

    def then(self, *events: SagaEvent) -> _Turn:
        state, applied = self.state, self.applied
        for event in events:
            state = applied(state, event)
        return _Turn(self.definition, self.env, state, applied, (*self.events, *events))

    def step(self, name: str) -> Step[object]:
        found = self.definition.step(name)
        if found is None:
            raise LookupError(f"{self.definition.kind} has no step {name} any more")
        return found


def decide(
    definition: Definition,
    state: SagaState,
    told: SagaInput,
    env: Environment,
    applied: Applied | None = None,
) -> Decision[SagaEvent]:
    """Call this for the events that what a saga is told causes, an answer, or a refusal.

    `applied` has the states after them, for whoever wants them next.
    Refusals have the codes `unknown_saga`, `saga_exists`, `invalid_transition`,
    `signal_refused`, `too_many_signals` and `cannot_migrate`.
    """
    turn = _Turn(definition, env, state, Applied() if applied is None else applied)
    if state.phase is Status.NEW:
        return _when_new(turn, told)
    match told:
        case Start():
            is_same = told.data == state.data
            return Reply(KNOWN) if is_same else Refusal("saga_exists", "started with other data")
        case TakeReply():
            return _answer(_take_reply(turn, told))
        case TakeTimer():
            return _answer(_take_timer(turn, told))
        case TakeSignal():
            return _take_signal(turn, told)
        case Compensate():
            return _compensate_child(turn, told)
        case Cancel():
            return _cancel(turn, told)
        case Wake():
            return _wake(turn)
        case Break():
            return () if state.stuck or state.is_over else [SagaStuck("", short(told.reason))]
        case Intervene():
            return _intervene(turn, told)
    assert_never(told)


def _answer(turn: _Turn | None) -> Decision[SagaEvent]:
    return Reply(IGNORED) if turn is None else _advanced(turn).events


def _when_new(turn: _Turn, told: SagaInput) -> Decision[SagaEvent]:
    match told:
        case Start(data, parent):
            definition, now = turn.definition, turn.env.clock.now()
            started = SagaStarted(
                definition.kind,
                definition.version,
                definition.fingerprint,
                data,
                now,
                now + timedelta(seconds=definition.deadline_s),
                "" if parent is None else parent.saga,
                "" if parent is None else parent.step,
                "" if parent is None else parent.token,
            )
            return _advanced(turn.then(started)).events
        case Compensate():
            return Reply(NOTHING_TO_UNDO)
        case TakeTimer() | TakeReply() | Wake() | Break():
            return Reply(IGNORED)
    return Refusal("unknown_saga", "it was never started")


# What comes back.


def _take_reply(turn: _Turn, told: TakeReply) -> _Turn | None:
    one = turn.state.step(told.step)
    if one.phase == "started" and one.token == told.token:
        turn = _resumed_by(turn, told)
        return _step_ended(turn, told.step, told.outcome)
    if one.undo == "started" and one.undo_token == told.token:
        turn = _resumed_by(turn, told)
        return _undo_ended(turn, told.step, told.outcome)
    return None


def _resumed_by(turn: _Turn, told: TakeReply) -> _Turn:
    """A child that was stuck has gone on: so does who waits for it."""
    is_awaited = bool(turn.state.stuck) and turn.state.stuck_step == told.step
    if not is_awaited or isinstance(told.outcome, ChildStuck):
        return turn
    return turn.then(SagaResumed("child", "the saga it waited for went on"))


def _step_ended(turn: _Turn, name: str, outcome: Outcome) -> _Turn:
    match outcome:
        case Succeeded():
            try:
                result = plain(outcome.result)
                turn.step(name).read(result)
            except (msgspec.ValidationError, TypeError) as error:
                # Something was done, but what: it is undone as if nobody had answered.
                return _failed(turn, name, "timeout", f"its result is not as declared: {error}")
            return turn.then(StepSucceeded(name, result))
        case Refused():
            return _failed(turn, name, "permanent", outcome.reason)
        case Unavailable():
            return _tried_again(turn, name, outcome.reason)
        case ChildStuck():
            return turn.then(SagaStuck(name, short(outcome.path)))
    assert_never(outcome)


def _tried_again(turn: _Turn, name: str, reason: str) -> _Turn:
    attempt, retries = turn.state.step(name).attempt, turn.step(name).retries
    if turn.state.phase is not Status.RUNNING or attempt > len(retries):
        return _failed(turn, name, "transient", reason)
    retry_at = turn.env.clock.now() + timedelta(seconds=retries[attempt - 1])
    return turn.then(StepFailed(name, "transient", short(reason), retry_at))


def _failed(turn: _Turn, name: str, kind: FailureKind, reason: str) -> _Turn:
    turn = turn.then(StepFailed(name, kind, short(reason)))
    if turn.state.phase is Status.RUNNING and not turn.state.stuck:
        turn = _compensating(turn, f"{name}: {reason}")
    return turn


def _undo_ended(turn: _Turn, name: str, outcome: Outcome) -> _Turn:
    match outcome:
        case Succeeded():
            return turn.then(UndoSucceeded(name))
        case Refused():
            return _undo_failed(turn, name, "permanent", outcome.reason)
        case Unavailable():
            return _undo_failed(turn, name, "transient", outcome.reason)
        case ChildStuck():
            # It stays in flight: when somebody has helped the child, its answer comes.
            return turn.then(SagaStuck(name, short(outcome.path)))
    assert_never(outcome)


def _undo_failed(turn: _Turn, name: str, kind: FailureKind, reason: str) -> _Turn:
    tries, retries = turn.state.step(name).tries, turn.step(name).retries
    if tries <= len(retries):
        retry_at = turn.env.clock.now() + timedelta(seconds=retries[tries - 1])
        return turn.then(UndoFailed(name, kind, short(reason), retry_at))
    turn = turn.then(UndoFailed(name, kind, short(reason)))
    return turn if turn.state.stuck else turn.then(SagaStuck(name, short(reason)))


# Time.


def _take_timer(turn: _Turn, told: TakeTimer) -> _Turn | None:
    what, _, name = told.name.partition(":")
    one = turn.state.step(name)
    is_do, is_undo = one.token == told.token, one.undo_token == told.token
    match what:
        case "step" if is_do and one.phase == "started":
            if turn.state.stuck and turn.state.stuck_step == name:
                return None  # of a child that waits for a person: its answer still counts
            return _failed(turn, name, "timeout", "nobody answered in time")
        case "retry" if is_do and one.phase == "waiting":
            return _begun(turn, turn.step(name)) if _runs(turn) else None
        case "undo" if is_undo and one.undo == "started":
            if turn.state.stuck:
                return None  # of a child that waits for a person: its answer still counts
            return _undo_failed(turn, name, "timeout", "nobody answered in time")
        case "undo_retry" if is_undo and one.undo == "waiting":
            return None if turn.state.stuck else _undo_begun(turn, turn.step(name))
        case "deadline" if _runs(turn):
            return _past_deadline(turn)
    return None


def _runs(turn: _Turn) -> bool:
    return turn.state.phase is Status.RUNNING and not turn.state.stuck


def _past_deadline(turn: _Turn) -> _Turn:
    for name in turn.state.in_phase("started", "waiting"):
        turn = turn.then(StepFailed(name, "timeout", "the saga's deadline is over"))
    return _compensating(turn, "the saga's deadline is over")


# Signals, and what others decide.


def _take_signal(turn: _Turn, told: TakeSignal) -> Decision[SagaEvent]:
    if turn.state.is_over:
        return Refusal("invalid_transition", "take a signal")
    if told.key and told.key in turn.state.signal_keys:
        return Reply(KNOWN)
    refused = _signal_refusal(turn, told)
    if refused is not None:
        return refused
    if len(turn.state.signals) >= SIGNALS_MAX:
        return Refusal("too_many_signals", f"{SIGNALS_MAX} signals wait already")
    return _advanced(turn.then(SignalReceived(told.name, told.message, told.key))).events


def _signal_refusal(turn: _Turn, told: TakeSignal) -> Refusal | None:
    """Why no step will ever take a signal: it would lie in the log, and its sender not know."""
    known = {one.name: one.wait_for for one in turn.definition.steps if one.wait_for is not None}
    meant = [name for name, awaited in known.items() if awaited.__name__ == told.name]
    if not meant:
        awaited = ", ".join(sorted({one.__name__ for one in known.values()})) or "no signal"
        return Refusal("signal_refused", f"no step waits for {told.name}; they wait for {awaited}")
    if turn.state.phase is not Status.RUNNING or all(
        turn.state.step(name).phase not in ("new", "started") for name in meant
    ):
        return Refusal("invalid_transition", "take a signal")
    why = ""
    for name in meant:
        try:
            turn.step(name).read(told.message)
        except msgspec.ValidationError as error:
            why = f"{name} cannot read the {told.name}: {error}"
        else:
            return None
    return Refusal("signal_refused", why)


def _compensate_child(turn: _Turn, told: Compensate) -> Decision[SagaEvent]:
    state = turn.state
    if state.phase is Status.FAILED:
        return Reply(NOTHING_TO_UNDO)
    if state.undo_token == told.token:
        return Reply(KNOWN)
    began = CompensationStarted(short(told.reason), "parent", told.token)
    if state.stuck:
        # Told again, now that somebody waits for it: the parent hears which of its children it is.
        return turn.then(began, SagaStuck(state.stuck_step, state.stuck)).events
    return _advanced(_compensating(turn, told.reason, "parent", told.token)).events


def _cancel(turn: _Turn, told: Cancel) -> Decision[SagaEvent]:
    if not _runs(turn):
        return Refusal("invalid_transition", "be cancelled")
    return _advanced(_compensating(turn, told.reason, told.by)).events


def _intervene(turn: _Turn, told: Intervene) -> Decision[SagaEvent]:
    state, resumed = turn.state, SagaResumed(told.by, short(told.reason))
    match told.action:
        case "retry" if state.stuck:
            return _advanced(_timed_out(turn.then(resumed))).events
        case "skip" if state.stuck and state.stuck_step:
            return _advanced(_skipped(turn.then(resumed), state.stuck_step, told)).events
        case "compensate" if state.phase is Status.RUNNING:
            turn = turn.then(resumed) if state.stuck else turn
            return _advanced(_timed_out(_compensating(turn, told.reason, told.by))).events
        case "fail" if state.stuck:
            return turn.then(SagaFailed(short(told.reason), told.by)).events
    return Refusal("invalid_transition", f"do {told.action}")


def _timed_out(turn: _Turn) -> _Turn:
    """What is still in flight behind its time: its timer came while the saga was stuck."""
    for name in turn.state.in_phase("started"):
        if _is_past(turn, name):
            turn = _failed(turn, name, "timeout", "nobody answered in time")
    return turn


def _skipped(turn: _Turn, name: str, told: Intervene) -> _Turn:
    if turn.state.phase is Status.COMPENSATING and turn.state.step(name).undo:
        return turn.then(UndoSkipped(name, short(told.reason), told.by))
    return turn.then(StepSkipped(name, told.by, short(told.reason)))


# Other steps than it began with.


def _wake(turn: _Turn) -> Decision[SagaEvent]:
    definition, state = turn.definition, turn.state
    if state.is_over:
        return Reply(KNOWN)
    unread = _unread(definition, state)
    if (definition.version, definition.fingerprint) == (state.version, state.fingerprint):
        return Refusal("cannot_read", unread) if unread else Reply(KNOWN)
    if definition.migrate is None:
        return Refusal("cannot_migrate", "its steps are others, and there is no migrate()")
    if unread:
        return Refusal("cannot_migrate", unread)
    at = definition.migrate(state)
    names = [one.name for one in definition.steps]
    busy = state.in_phase("started", "waiting")
    done = [name for name, one in state.steps.items() if one.phase in ("done", "unknown")]
    lost = [name for name in (*busy, *done) if name not in names]
    if at not in names or lost:
        why = f"there is no step {at}" if not lost else f"{', '.join(lost)} would be lost"
        return Refusal("cannot_migrate", why)
    # A saga that runs, or has, is not undone by a command; nor is a command by a saga's end.
    others = [
        one.name
        for one in definition.steps
        if one.name in (*busy, *done) and one.sort != state.step(one.name).sort
    ]
    if others:
        why = f"{', '.join(others)} began as something else: a command, a signal or another saga"
        return Refusal("cannot_migrate", why)
    turn = turn.then(SagaMigrated(definition.version, definition.fingerprint, at))
    for name in names[: names.index(at)]:
        if turn.state.step(name).phase == "new":
            turn = turn.then(StepSkipped(name, "migrate", f"goes on at {at}"))
    return _advanced(turn).events


def _unread(definition: Definition, state: SagaState) -> str:
    """What of its log the classes of today cannot read: each next command would fail by it."""
    what = "its data"
    try:
        msgspec.convert(state.data, definition.data_type, str_keys=True)
        for name, one in state.steps.items():
            found = definition.step(name)
            if one.phase == "done" and found is not None:
                what = f"the result of {name}"
                found.read(one.result)
    except msgspec.ValidationError as error:
        return f"{what} is not as its class is now: {error}"
    return ""


# What follows.


def _compensating(turn: _Turn, reason: str, by: str = "", token: str = "") -> _Turn:
    turn = turn.then(CompensationStarted(short(reason), by, token))
    for name in turn.state.in_phase("started"):
        if turn.step(name).wait_for is not None:
            turn = turn.then(StepFailed(name, "cancelled", "nobody waits for the signal any more"))
    for name in turn.state.in_phase("waiting"):
        turn = turn.then(StepFailed(name, "transient", "not tried again"))
    return turn


def _advanced(turn: _Turn) -> _Turn:
    """All that follows by itself; each round either ends it or adds events."""
    while not turn.state.stuck:
        match turn.state.phase:
            case Status.RUNNING:
                after = _forward(turn)
            case Status.COMPENSATING:
                after = _backward(turn)
            case _:
                return turn
        if after is turn:
            return turn
        turn = after
    return turn


def _forward(turn: _Turn) -> _Turn:
    for name in turn.state.in_phase("started"):
        signal = _signal(turn, turn.step(name))
        if signal is not None:
            return turn.then(StepSucceeded(name, signal.message, signal.name))
    for name in turn.state.in_phase("failed", "unknown"):
        # It ended while the saga was stuck, and nobody could act on it.
        return _compensating(turn, f"{name}: {turn.state.step(name).reason}")
    for unit in turn.definition.units:
        phases = [turn.state.step(one.name).phase for one in unit.steps]
        if all(phase in ("done", "skipped") for phase in phases):
            continue
        return _unit_begun(turn, unit)
    return turn.then(SagaCompleted())


def _signal(turn: _Turn, step: Step[object]) -> SignalReceived | None:
    """The first signal that a step waits for; one that it cannot read stays where it is."""
    for one in turn.state.signals:
        if step.wait_for is not None and one.name == step.wait_for.__name__:
            try:
                step.read(one.message)
            except msgspec.ValidationError:
                continue
            return one
    return None


def _unit_begun(turn: _Turn, unit: Unit) -> _Turn:
    for one in unit.steps:
        state = turn.state.step(one.name)
        is_late = state.phase == "waiting" and _is_past(turn, one.name)
        if state.phase == "new" or is_late:
            turn = _begun(turn, one)
    return turn


def _is_past(turn: _Turn, name: str) -> bool:
    """Whether the time of a step, or of its next attempt, is over."""
    due_at = turn.state.step(name).due_at
    return due_at is not None and due_at <= turn.env.clock.now()


def _begun(turn: _Turn, one: Step[object]) -> _Turn:
    due_at = turn.env.clock.now() + timedelta(seconds=one.timeout_s)
    attempt = turn.state.step(one.name).attempt + 1
    return turn.then(StepStarted(one.name, attempt, _token(turn), due_at, one.sort))


def _undo_begun(turn: _Turn, one: Step[object]) -> _Turn:
    due_at = turn.env.clock.now() + timedelta(seconds=one.undo_timeout_s)
    attempt = turn.state.step(one.name).undo_attempt + 1
    return turn.then(UndoStarted(one.name, attempt, _token(turn), due_at))


def _token(turn: _Turn) -> str:
    return str(turn.env.ids.new_id())


def _backward(turn: _Turn) -> _Turn:
    if turn.state.in_phase("started"):
        return turn
    for unit in reversed(turn.definition.units):
        left = list(_to_undo(turn, unit))
        if not left:
            continue
        here = left if unit.parallel_undo else left[:1]
        before = turn
        for one in here:
            turn = _undo_next(turn, one)
        if turn is not before or not all(_is_settled(turn, one) for one in here):
            return turn
    return turn.then(SagaFailed(turn.state.reason))


def _to_undo(turn: _Turn, unit: Unit) -> Iterator[Step[object]]:
    """The steps of a unit that are done, or may be, and not yet undone; the last one first."""
    for one in reversed(unit.steps):
        state = turn.state.step(one.name)
        is_sent = one.wait_for is None
        is_unknown = state.phase == "unknown" and one.undo_when_unknown and is_sent
        if (state.phase == "done" or is_unknown) and not _is_settled(turn, one):
            yield one


def _is_settled(turn: _Turn, one: Step[object]) -> bool:
    return turn.state.step(one.name).undo in ("done", "skipped")


def _undo_next(turn: _Turn, one: Step[object]) -> _Turn:
    state = turn.state.step(one.name)
    if not one.can_undo:
        return turn.then(UndoSkipped(one.name, "it has no undo"))
    is_late = state.undo == "waiting" and (
        state.undo_due_at is not None and state.undo_due_at <= turn.env.clock.now()
    )
    if state.undo in ("", "failed") or is_late or _is_overdue(turn, one):
        return _undo_begun(turn, one)
    return turn


def _is_overdue(turn: _Turn, one: Step[object]) -> bool:
    """Whether an undo is in flight whose time passed while the saga was stuck."""
    state = turn.state.step(one.name)
    return (
        state.undo == "started"
        and state.tries == 0
        and state.undo_due_at is not None
        and state.undo_due_at <= turn.env.clock.now()
    )


def in_flight(state: SagaState) -> Sequence[str]:
    """Call this for the steps that somebody is working at, undos too."""
    undoing = [name for name, one in state.steps.items() if one.undo == "started"]
    return [*state.in_phase("started"), *undoing]
