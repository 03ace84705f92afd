"""What a saga's log holds: its events. A stream of them is all there is of a saga.

Their names are stored ones, with version 1; `actors.persistence` adds the envelope's metadata.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

from actors.persistence import event

FailureKind: TypeAlias = Literal["transient", "permanent", "timeout", "cancelled"]
"""Why a step failed: for a moment, for good, or nobody knows."""


@event(allow=("parent_token",))
@dataclass(frozen=True)
class SagaStarted:
    """A saga begins: with which steps, of which data, until when; of which parent's step."""

    kind: str
    version: int
    fingerprint: str
    data: Mapping[str, object]
    started_at: datetime
    deadline_at: datetime
    parent: str = ""
    parent_step: str = ""
    parent_token: str = ""


@event(allow=("token",))
@dataclass(frozen=True)
class StepStarted:
    """A step's command is in the outbox; a reply counts that carries the token, until `due_at`.

    `sort` is empty for a command, `signal` for one that waits, `saga KIND` for a nested saga.
    """

    step: str
    attempt: int
    token: str
    due_at: datetime
    sort: str = ""


@event()
@dataclass(frozen=True)
class StepSucceeded:
    """A step is done; `signal` names what it had waited for, and took."""

    step: str
    result: Mapping[str, object]
    signal: str = ""


@event()
@dataclass(frozen=True)
class StepFailed:
    """An attempt failed; the next is made at `retry_at`, or none."""

    step: str
    kind: FailureKind
    reason: str
    retry_at: datetime | None = None


@event()
@dataclass(frozen=True)
class StepSkipped:
    """A step is not done: a person said so, or a migration went past it."""

    step: str
    by: str
    reason: str


@event()
@dataclass(frozen=True)
class SignalReceived:
    """A signal came; it waits here until a step wants it."""

    name: str
    message: Mapping[str, object]
    key: str = ""


@event(allow=("undo_token",))
@dataclass(frozen=True)
class CompensationStarted:
    """What is done will be undone, once no step is in flight any more."""

    reason: str
    by: str = ""
    undo_token: str = ""


@event(allow=("token",))
@dataclass(frozen=True)
class UndoStarted:
    """The undo of a step is in the outbox."""

    step: str
    attempt: int
    token: str
    due_at: datetime


@event()
@dataclass(frozen=True)
class UndoSucceeded:
    """A step is undone."""

    step: str


@event()
@dataclass(frozen=True)
class UndoFailed:
    """An attempt to undo failed; the next is made at `retry_at`, or none."""

    step: str
    kind: FailureKind
    reason: str
    retry_at: datetime | None = None


@event()
@dataclass(frozen=True)
class UndoSkipped:
    """A step stays done: it has no undo, or a person said so."""

    step: str
    reason: str
    by: str = ""


@event()
@dataclass(frozen=True)
class SagaCompleted:
    """All steps are done."""


@event()
@dataclass(frozen=True)
class SagaFailed:
    """All that was done is undone; or a person gave it up, whose name stands in `by`."""

    reason: str
    by: str = ""


@event()
@dataclass(frozen=True)
class SagaStuck:
    """A person must decide: an undo failed for good, or the saga's own code did."""

    step: str
    reason: str


@event()
@dataclass(frozen=True)
class SagaResumed:
    """A stuck saga goes on: somebody said so, or the child that it waited for ended."""

    by: str
    reason: str


@event()
@dataclass(frozen=True)
class SagaMigrated:
    """A saga goes on with the steps of another version, from `step` on."""

    version: int
    fingerprint: str
    step: str


@event()
@dataclass(frozen=True)
class SagasPurged:
    """Sagas that were over for long have no log any more; stands in a stream of its own."""

    sagas: tuple[str, ...]


SagaEvent: TypeAlias = (
    SagaStarted
    | StepStarted
    | StepSucceeded
    | StepFailed
    | StepSkipped
    | SignalReceived
    | CompensationStarted
    | UndoStarted
    | UndoSucceeded
    | UndoFailed
    | UndoSkipped
    | SagaCompleted
    | SagaFailed
    | SagaStuck
    | SagaResumed
    | SagaMigrated
)
"""What stands in a saga's log."""
