"""A saga as an aggregate: what its log means, and what goes into the append of its events.

Commands and timers are made of the events, by the definition: whoever stores the same events
sends the same. The ids of messages and timers are made of the saga's, so that a repeat is known;
keys and addresses are its stream's, which the store tells from those of other tenants.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

import msgspec

from actors.persistence import (
    Aggregate,
    Beside,
    CancelTimer,
    Decision,
    OutboxMessage,
    Refusal,
    Reply,
    SetTimer,
    StreamId,
    TimerChange,
)
from actors.persistence.beside_log.outbox import PARTS_HEADER, SAGAS
from actors.reducers import Environment
from actors.sagas.deciding.decisions import (
    DEADLINE,
    IGNORED,
    RETRY,
    STEP,
    UNDO,
    UNDO_RETRY,
    decide,
)
from actors.sagas.definition import Definition, Facts, Step, Work, filled
from actors.sagas.words.log import (
    CompensationStarted,
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
    COMMANDS,
    LETTER_TARGET,
    SAGA_TARGET,
    SagaCommand,
    SagaId,
    SagaInput,
    Start,
    TakeReply,
    TakeTimer,
    Wake,
    named_id,
    plain,
    target_of,
)

# Messages of a saga to sagas.
BEGIN, UNDO_CHILD, ANSWER = "$begin", "$undo", "$answer"
# How a child's answer tells what came of it.
DONE, NOT_DONE, IS_STUCK = "done", "not_done", "stuck"
# The code of a refusal: other programs may have the steps that this one lacks.
UNKNOWN_VERSION = "unknown_version"


class WrongCommand(TypeError):
    """Raised for a function of a saga's class that gives no command: a mistake in that class."""

    def __init__(self, where: str, found: object) -> None:
        super().__init__(f"{where}: gave {type(found).__name__}, which is not marked with @command")


class SagaLog(Aggregate[SagaState, SagaInput, SagaEvent]):
    """The aggregate of one saga of one kind; `versions` has every class of it, by version.

    A new saga goes by the highest; one that runs by its own, as long as that class has the steps
    it began with, and when it is woken by the highest, if that can migrate it.
    """

    category, state_type = "saga", SagaState
    # The log of a new saga is not looked for first: the append tells if there is one.
    opens = (Start,)

    def __init__(self, saga: SagaId, versions: Mapping[int, Definition]) -> None:
        self.saga, self.versions = saga, versions
        self.latest = versions[max(versions)]
        # Made once: they are in each message and timer.
        self._stream, self._text = saga.stream, str(saga)
        self._applied = Applied()

    def stream_of(self, id_: str) -> StreamId:
        """See `Aggregate.stream_of`: each kind is a category of its own."""
        return self._stream

    def initial(self) -> SagaState:
        """See `Aggregate.initial`."""
        return SagaState()

    def definition(self, state: SagaState) -> Definition | None:
        """Call this for the class that a saga goes by; None when this program does not have it."""
        if not state.version:
            return self.latest
        found = self.versions.get(state.version)
        return found if found is not None and found.fingerprint == state.fingerprint else None

    def decide(self, state: SagaState, command: SagaInput, env: Environment) -> Decision[SagaEvent]:
        """See `Aggregate.decide`."""
        found = self.definition(state)
        if found is None and isinstance(command, Wake):
            found = self.latest
        if found is None and state.is_over and isinstance(command, TakeReply | TakeTimer):
            return Reply(IGNORED)
        if found is None:
            why = f"this program has no v{state.version} with its steps"
            return Refusal(UNKNOWN_VERSION, why)
        self._applied.forget()
        return decide(found, state, command, env, self._applied)

    def apply(self, state: SagaState, event: SagaEvent) -> SagaState:
        """See `Aggregate.apply`."""
        return self._applied.take(state, event)

    def beside(
        self, before: SagaState, events: Sequence[SagaEvent], metadata: Mapping[str, str]
    ) -> Beside:
        """See `Aggregate.beside`: the commands that leave, and the timers."""
        if self.latest.own_parts:
            metadata = {**metadata, PARTS_HEADER: SAGAS}
        state, outbox = before, list[OutboxMessage]()
        timers = list[TimerChange]()
        for event in events:
            state = self._applied(state, event)
            outbox += self._messages(state, event, metadata)
            timers += self._timers(state, event, metadata)
        return Beside(tuple(outbox), tuple(timers))

    # Timers

    def _timers(
        self, state: SagaState, event: SagaEvent, metadata: Mapping[str, str]
    ) -> Iterator[TimerChange]:
        match event:
            case SagaStarted():
                yield self._set(DEADLINE, "", event.deadline_at, metadata)
            case StepStarted(step, _, token, due_at):
                yield self._set(f"{STEP}:{step}", token, due_at, metadata)
            case StepSucceeded(step) | StepSkipped(step):
                yield self._cancel(f"{STEP}:{step}")
            case StepFailed(step):
                yield self._cancel(f"{STEP}:{step}")
                if event.retry_at is not None:
                    yield self._set(
                        f"{RETRY}:{step}", state.step(step).token, event.retry_at, metadata
                    )
            case UndoStarted(step, _, token, due_at):
                yield self._set(f"{UNDO}:{step}", token, due_at, metadata)
            case UndoSucceeded(step):
                yield self._cancel(f"{UNDO}:{step}")
            case UndoFailed(step):
                yield self._cancel(f"{UNDO}:{step}")
                if event.retry_at is not None:
                    token = state.step(step).undo_token
                    yield self._set(f"{UNDO_RETRY}:{step}", token, event.retry_at, metadata)
            case SagaCompleted() | SagaFailed():
                yield self._cancel(DEADLINE)
            case (
                SagaStuck()
                | SagaResumed()
                | SagaMigrated()
                | SignalReceived()
                | CompensationStarted()
                | UndoSkipped()
            ):
                return

    def _set(
        self, name: str, token: str, due_at: datetime, metadata: Mapping[str, str]
    ) -> SetTimer:
        id_ = named_id(self._text, name, token)
        return SetTimer(id_, self._stream, name, token, due_at, metadata=metadata)

    def _cancel(self, name: str) -> CancelTimer:
        return CancelTimer(self._stream, name)

    # Messages

    def _messages(
        self, state: SagaState, event: SagaEvent, metadata: Mapping[str, str]
    ) -> Iterator[OutboxMessage]:
        match event:
            case StepStarted(step, attempt, token, due_at):
                one = self._step(state, step)
                if one.wait_for is not None:
                    return
                body, name, target = self._work(state, one, one.do, BEGIN)
                command = SagaCommand(
                    name, target, body, self._text, step, attempt, token, False, due_at
                )
                yield _message(command, self._stream, metadata)
            case UndoStarted(step, attempt, token, due_at):
                one = self._step(state, step)
                body, name, target = self._work(state, one, one.undo, UNDO_CHILD)
                command = SagaCommand(
                    name, target, body, self._text, step, attempt, token, True, due_at
                )
                yield _message(command, self._stream, metadata)
            case SagaCompleted():
                results = {name: one.result for name, one in state.steps.items() if one.result}
                yield from self._to_parent(state, DONE, {"results": results}, metadata)
            case SagaFailed():
                found = DONE if state.undo_token else NOT_DONE
                told = {"reason": f"{self.saga}: {event.reason}"}
                yield from self._to_parent(state, found, told, metadata)
            case SagaStuck():
                place = f"{self.saga}" + (f"/{event.step}" if event.step else "")
                path = event.reason if event.reason.startswith("at ") else f"at {place}"
                yield from self._to_parent(state, IS_STUCK, {"path": path}, metadata)
                yield self._letter(state, event, metadata)
            case _:
                return

    def _step(self, state: SagaState, name: str) -> Step[object]:
        definition = self.definition(state)
        found = None if definition is None else definition.step(name)
        if found is None:
            raise LookupError(f"{self.saga} has no step {name}")
        return found

    def _work(
        self, state: SagaState, one: Step[object], work: Work | None, child_name: str
    ) -> tuple[Mapping[str, object], str, str]:
        """What is to be sent for a step: its body, its name, and to whom."""
        facts = self._facts(state)
        if one.child is not None:
            kind = one.child.definition().kind
            child = self.saga.child(kind, one.name)
            body: dict[str, object] = {"child": str(child)}
            if child_name == BEGIN and one.child_data is not None:
                body["data"] = plain(one.child_data(facts))  # type: ignore[arg-type]
            else:
                body["reason"] = state.reason
            return body, child_name, SAGA_TARGET
        if isinstance(work, type):
            made = filled(work, facts, one.name)
        else:
            assert work is not None, "checked when the class was made"
            made = work(facts)  # type: ignore[arg-type]
        target = target_of(type(made))
        if target is None:
            raise WrongCommand(one.where, made)
        return plain(made), COMMANDS.name_of(type(made)), target

    def _facts(self, state: SagaState) -> Facts[object]:
        definition = self.definition(state)
        assert definition is not None, "nothing is decided without one"
        results = {
            name: found.read(one.result)
            for name, one in state.steps.items()
            if one.phase == "done" and (found := definition.step(name)) is not None
        }
        data: object = msgspec.convert(state.data, definition.data_type, str_keys=True)
        return Facts(self._text, data, results, state.reason)

    def _to_parent(
        self,
        state: SagaState,
        outcome: str,
        told: Mapping[str, object],
        metadata: Mapping[str, str],
    ) -> Iterator[OutboxMessage]:
        if state.parent is None:
            return
        parent, token = state.parent, state.undo_token or state.parent.token
        body = {"step": parent.step, "token": token, "outcome": outcome, **told}
        yield OutboxMessage(
            # Stuck again, it must not look like the first time.
            named_id(self._text, ANSWER, token, outcome, state.times_stuck),
            "command",
            SAGA_TARGET,
            self._stream,
            msgspec.json.encode(body),
            {**metadata, "saga-name": ANSWER, "saga-id": parent.saga},
        )

    def _letter(
        self, state: SagaState, event: SagaStuck, metadata: Mapping[str, str]
    ) -> OutboxMessage:
        body = {"saga": self._text, "step": event.step, "reason": event.reason}
        return OutboxMessage(
            named_id(self._text, LETTER_TARGET, state.times_stuck),
            "command",
            LETTER_TARGET,
            self._stream,
            msgspec.json.encode(body),
            {**metadata, "saga-name": LETTER_TARGET, "saga-id": self._text},
        )


def outbox_keys(saga: SagaId, events: Sequence[SagaEvent]) -> tuple[str, ...]:
    """Call this for the keys of all that may leave with these events, as the outbox has them."""
    own, keys = str(saga), dict[str, None]()
    for event in events:
        match event:
            case StepStarted() | UndoStarted():
                keys[_key(own, event.step)] = None
            case SagaStuck():
                keys[own] = None
            case SagaCompleted() | SagaFailed() if "/" in saga.name:
                keys[own] = None  # the answer to its parent
    return tuple(keys)


def is_first(message: OutboxMessage) -> bool:
    """Call this for a saga's message to ask whether none of its key can be before it."""
    headers = message.headers
    return headers.get("saga-attempt") == "1" and not headers["saga-undo"]


def _key(stream: str, step: str) -> str:
    """In order with all others of its step, so an undo comes after."""
    return f"{stream}:{step}"


def _message(command: SagaCommand, stream: StreamId, metadata: Mapping[str, str]) -> OutboxMessage:
    """A command in the outbox; `stream` is the saga's."""
    word = "undo" if command.is_undo else "do"
    return OutboxMessage(
        named_id(command.saga, command.step, word, command.attempt),
        "command",
        command.target,
        _key(stream, command.step),
        msgspec.json.encode(command.body),
        {
            **metadata,
            "saga-name": command.name,
            "saga-id": command.saga,
            "saga-step": command.step,
            "saga-attempt": str(command.attempt),
            "saga-token": command.token,
            "saga-undo": "1" if command.is_undo else "",
            "saga-due-at": command.due_at.isoformat(),
            "idempotency-key": command.key,
        },
    )


_OWN = frozenset({"timestamp"})


def read_command(target: str, payload: bytes, headers: Mapping[str, str]) -> SagaCommand:
    """Call this for the command in a message of the outbox; raises `KeyError`, `ValueError`."""
    others = {
        name: text
        for name, text in headers.items()
        if not name.startswith("saga-") and name not in _OWN
    }
    return SagaCommand(
        headers["saga-name"],
        target,
        msgspec.json.decode(payload),
        headers["saga-id"],
        headers["saga-step"],
        int(headers["saga-attempt"]),
        headers["saga-token"],
        headers["saga-undo"] == "1",
        datetime.fromisoformat(headers["saga-due-at"]),
        others,
    )


def check_start(data: Start, definition: Definition) -> None:
    """Call this before a saga begins; raises `msgspec.ValidationError` for other data."""
    msgspec.convert(data.data, definition.data_type, str_keys=True)
