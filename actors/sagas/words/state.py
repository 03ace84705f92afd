"""What a saga's log adds up to: a state, made by `apply` alone, whatever its definition says.

Facts only: which step is where. What comes next is decided in `deciding/decisions.py`, and needs
the definition.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Literal, TypeAlias, assert_never

import msgspec

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
from actors.sagas.words.words import FINAL, Parent, Status

# `waiting` is between a failed attempt and the next; `unknown` is failed, and may yet be done.
StepPhase: TypeAlias = Literal["new", "started", "waiting", "done", "failed", "unknown", "skipped"]
UndoPhase: TypeAlias = Literal["", "started", "waiting", "done", "failed", "skipped"]
"""How far the undo of a step is."""


class StepState(msgspec.Struct, frozen=True):
    """How far a step is, and its undo. `tries` counts the undo's attempts since it was resumed."""

    phase: StepPhase = "new"
    attempt: int = 0
    token: str = ""
    due_at: datetime | None = None
    result: Mapping[str, object] = {}
    reason: str = ""
    undo: UndoPhase = ""
    undo_attempt: int = 0
    undo_token: str = ""
    undo_due_at: datetime | None = None
    undo_reason: str = ""
    tries: int = 0
    sort: str = ""


class SagaState(msgspec.Struct, frozen=True):
    """All that is known of a saga. `phase` is its status but for being stuck, which `stuck` says.

    `reason` is why it compensates or failed; `stuck_step` is empty when the saga's own code failed.
    """

    phase: Status = Status.NEW
    stuck: str = ""
    stuck_step: str = ""
    times_stuck: int = 0
    kind: str = ""
    version: int = 0
    fingerprint: str = ""
    data: Mapping[str, object] = {}
    started_at: datetime | None = None
    deadline_at: datetime | None = None
    parent: Parent | None = None
    reason: str = ""
    undo_token: str = ""
    steps: Mapping[str, StepState] = {}
    signals: tuple[SignalReceived, ...] = ()
    signal_keys: tuple[str, ...] = ()

    @property
    def status(self) -> Status:
        """Call this for the status as people see it."""
        return Status.STUCK if self.stuck else self.phase

    @property
    def is_over(self) -> bool:
        """Call this to ask whether nothing more happens by itself."""
        return self.phase in FINAL

    def step(self, name: str) -> StepState:
        """Call this for how far a step is."""
        return self.steps.get(name, _NEW)

    def in_phase(self, *phases: StepPhase) -> list[str]:
        """Call this for the steps that are in one of these phases, in the order they began."""
        return [name for name, one in self.steps.items() if one.phase in phases]


_NEW = StepState()


def _changed(state: SagaState, step: str, **changes: object) -> SagaState:
    one = msgspec.structs.replace(state.step(step), **changes)
    return msgspec.structs.replace(state, steps={**state.steps, step: one})


def apply(state: SagaState, event: SagaEvent) -> SagaState:
    """Call this for the state after an event; pure, and never refuses."""
    match event:
        case SagaStarted():
            return _started(event)
        case StepStarted() | StepSucceeded() | StepFailed() | StepSkipped():
            return _apply_step(state, event)
        case UndoStarted() | UndoSucceeded() | UndoFailed() | UndoSkipped():
            return _apply_undo(state, event)
        case SignalReceived():
            keys = (*state.signal_keys, event.key) if event.key else state.signal_keys
            signals = (*state.signals, event)
            return msgspec.structs.replace(state, signals=signals, signal_keys=keys)
        case CompensationStarted():
            token = event.undo_token or state.undo_token
            reason = state.reason or event.reason
            return msgspec.structs.replace(
                state, phase=Status.COMPENSATING, reason=reason, undo_token=token
            )
        case SagaCompleted():
            return msgspec.structs.replace(state, phase=Status.COMPLETED)
        case SagaFailed():
            return msgspec.structs.replace(
                state, phase=Status.FAILED, stuck="", stuck_step="", reason=event.reason
            )
        case SagaStuck():
            return msgspec.structs.replace(
                state,
                stuck=event.reason or "stuck",
                stuck_step=event.step,
                times_stuck=state.times_stuck + 1,
            )
        case SagaResumed():
            steps = {
                name: msgspec.structs.replace(one, tries=0) for name, one in state.steps.items()
            }
            return msgspec.structs.replace(state, stuck="", stuck_step="", steps=steps)
        case SagaMigrated():
            return msgspec.structs.replace(
                state, version=event.version, fingerprint=event.fingerprint
            )
    assert_never(event)


class Applied:
    """`apply`, with what it gave for the events of one decision, which three ask for in turn.

    Whoever decides, whoever makes the messages beside, and whoever keeps the state that is stored.
    """

    __slots__ = ("_known",)

    def __init__(self) -> None:
        # By the id of the event, which is held as long as that stands for it.
        self._known: dict[int, tuple[SagaState, SagaEvent, SagaState]] = {}

    def forget(self) -> None:
        """Call this before a decision: what an earlier one came to is not asked for any more."""
        self._known.clear()

    def __call__(self, state: SagaState, event: SagaEvent) -> SagaState:
        """Call this for the state after an event, which is kept."""
        known = self._known.get(id(event))
        if known is not None and known[0] is state:
            return known[2]
        after = apply(state, event)
        self._known[id(event)] = state, event, after
        return after

    def take(self, state: SagaState, event: SagaEvent) -> SagaState:
        """Call this for the same at last: nothing of it is kept."""
        known = self._known.pop(id(event), None)
        return known[2] if known is not None and known[0] is state else apply(state, event)


def _started(event: SagaStarted) -> SagaState:
    parent = None
    if event.parent:
        parent = Parent(event.parent, event.parent_step, event.parent_token)
    return SagaState(
        Status.RUNNING,
        kind=event.kind,
        version=event.version,
        fingerprint=event.fingerprint,
        data=event.data,
        started_at=event.started_at,
        deadline_at=event.deadline_at,
        parent=parent,
    )


def _apply_step(
    state: SagaState, event: StepStarted | StepSucceeded | StepFailed | StepSkipped
) -> SagaState:
    match event:
        case StepStarted():
            return _changed(
                state,
                event.step,
                phase="started",
                attempt=event.attempt,
                token=event.token,
                due_at=event.due_at,
                sort=event.sort,
            )
        case StepSucceeded():
            if event.signal:
                state = _without_signal(state, event)
            return _changed(state, event.step, phase="done", result=event.result)
        case StepFailed():
            phase: StepPhase = "failed"
            if event.retry_at is not None:
                phase = "waiting"
            elif event.kind in ("timeout", "transient"):
                phase = "unknown"
            return _changed(
                state, event.step, phase=phase, reason=event.reason, due_at=event.retry_at
            )
        case StepSkipped():
            return _changed(state, event.step, phase="skipped", reason=event.reason)
    assert_never(event)


def _without_signal(state: SagaState, event: StepSucceeded) -> SagaState:
    meant = (event.signal, event.result)
    taken = next((one for one in state.signals if (one.name, one.message) == meant), None)
    left = tuple(one for one in state.signals if one is not taken)
    return msgspec.structs.replace(state, signals=left)


def _apply_undo(
    state: SagaState, event: UndoStarted | UndoSucceeded | UndoFailed | UndoSkipped
) -> SagaState:
    match event:
        case UndoStarted():
            return _changed(
                state,
                event.step,
                undo="started",
                undo_attempt=event.attempt,
                undo_token=event.token,
                undo_due_at=event.due_at,
                tries=state.step(event.step).tries + 1,
            )
        case UndoSucceeded():
            return _changed(state, event.step, undo="done")
        case UndoFailed():
            undo: UndoPhase = "failed" if event.retry_at is None else "waiting"
            return _changed(
                state,
                event.step,
                undo=undo,
                undo_reason=event.reason,
                undo_due_at=event.retry_at,
            )
        case UndoSkipped():
            return _changed(state, event.step, undo="skipped", undo_reason=event.reason)
    assert_never(event)
