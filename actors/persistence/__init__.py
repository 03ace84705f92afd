"""What actors need of a store, as ports, and the words both sides share.

Read first:

- `words` and `ports`: the nouns, and what a store does with them;
- `errors`: what can go wrong, divided by what the caller does about it;
- `events`: how a program's event classes get their stored names and versions;
- `aggregate` and `aggregate_actor`: decide and apply, and the actor that carries them out;
- `projections` and `projection_runner`: read models, and the actor that fills them;
- `projection_waiting`: reading your own writes;
- `inline_projections`: those that are part of an append;
- `outbox`, `timers`, `dead_letters`, `idempotency`: what stands beside the log;
- `decisions`: what an append comes to, the same in every engine.

The adapters stand in `storage/postgres` and `storage/memory`; nothing here knows them.
"""

from actors.persistence.aggregate import (
    Aggregate,
    AggregateContractError,
    Decision,
    Done,
    Refusal,
    Reply,
)
from actors.persistence.aggregate_actor import (
    AggregateActor,
    AggregateRef,
    Execute,
    Failed,
    ReadState,
    execute,
)
from actors.persistence.companions import (
    CancelTimer,
    CloseTimer,
    OutboxMessage,
    SetTimer,
    TimerChange,
)
from actors.persistence.dead_letters import (
    DeadLetterCounts,
    DeadLetters,
    DeadLettersFull,
    DeadLetterStatus,
    InvalidTransition,
    NewDeadLetter,
    StoredDeadLetter,
    UnknownDeadLetter,
)
from actors.persistence.decisions import fits, repeat_of
from actors.persistence.errors import (
    AlreadyHandled,
    AppendTooLarge,
    BatchTooLarge,
    CodecError,
    ConcurrencyConflict,
    CursorOutdated,
    DuplicateEventId,
    EmptyAppend,
    EventTooLarge,
    Fenced,
    IdempotencyInFlight,
    IdempotencyMismatch,
    InvalidStreamId,
    PoolExhausted,
    StoredDataError,
    StoreError,
    StoreMisuse,
    StoreTimeout,
    StoreUnavailable,
    TimerGone,
    UnknownEventType,
)
from actors.persistence.events import EVENTS, EventTypes, event, upcaster
from actors.persistence.idempotency import Idempotency
from actors.persistence.inline_projections import (
    InlineProjectionFailed,
    InlineProjections,
    inline_collection,
)
from actors.persistence.outbox import Inbox, Outbox, OutboxEntry, OutboxStats
from actors.persistence.outbox_relay import OutboxRelay
from actors.persistence.ports import EventStore, Snapshots
from actors.persistence.projection_messages import AskStatus, ProjectionStatus, ReplayParked, Resume
from actors.persistence.projection_runner import ProjectionRunner
from actors.persistence.projection_waiting import (
    ProjectionHalted,
    ProjectionTimeout,
    wait_until,
    waiter_count,
)
from actors.persistence.projections import (
    Checkpoint,
    Document,
    GenerationState,
    Projection,
    ProjectionBatch,
    ProjectionStore,
    ProjectionTx,
    check_projections,
    live_collection,
)
from actors.persistence.timers import DueTimer, DurableTimers, TimerService
from actors.persistence.words import (
    ANY,
    APPEND_EVENTS_MAX,
    BATCH_EVENTS_MAX,
    BATCH_REQUESTS_MAX,
    EVENT_BYTES_MAX,
    EXISTS,
    PAGE_LIMIT,
    START,
    Appended,
    AppendRequest,
    Cursor,
    Expected,
    ExpectedVersion,
    Idempotent,
    Lag,
    NewEvent,
    Page,
    Shard,
    Snapshot,
    StoredEvent,
    StreamId,
    StreamInfo,
    Version,
)

__all__ = [
    "ANY",
    "APPEND_EVENTS_MAX",
    "BATCH_EVENTS_MAX",
    "BATCH_REQUESTS_MAX",
    "EVENTS",
    "EVENT_BYTES_MAX",
    "EXISTS",
    "PAGE_LIMIT",
    "START",
    "Aggregate",
    "AggregateActor",
    "AggregateContractError",
    "AggregateRef",
    "AlreadyHandled",
    "AppendRequest",
    "AppendTooLarge",
    "Appended",
    "AskStatus",
    "BatchTooLarge",
    "CancelTimer",
    "Checkpoint",
    "CloseTimer",
    "CodecError",
    "ConcurrencyConflict",
    "Cursor",
    "CursorOutdated",
    "DeadLetterCounts",
    "DeadLetterStatus",
    "DeadLetters",
    "DeadLettersFull",
    "Decision",
    "Document",
    "Done",
    "DueTimer",
    "DuplicateEventId",
    "DurableTimers",
    "EmptyAppend",
    "EventStore",
    "EventTooLarge",
    "EventTypes",
    "Execute",
    "Expected",
    "ExpectedVersion",
    "Failed",
    "Fenced",
    "GenerationState",
    "Idempotency",
    "IdempotencyInFlight",
    "IdempotencyMismatch",
    "Idempotent",
    "Inbox",
    "InlineProjectionFailed",
    "InlineProjections",
    "InvalidStreamId",
    "InvalidTransition",
    "Lag",
    "NewDeadLetter",
    "NewEvent",
    "Outbox",
    "OutboxEntry",
    "OutboxMessage",
    "OutboxRelay",
    "OutboxStats",
    "Page",
    "PoolExhausted",
    "Projection",
    "ProjectionBatch",
    "ProjectionHalted",
    "ProjectionRunner",
    "ProjectionStatus",
    "ProjectionStore",
    "ProjectionTimeout",
    "ProjectionTx",
    "ReadState",
    "Refusal",
    "ReplayParked",
    "Reply",
    "Resume",
    "SetTimer",
    "Shard",
    "Snapshot",
    "Snapshots",
    "StoreError",
    "StoreMisuse",
    "StoreTimeout",
    "StoreUnavailable",
    "StoredDataError",
    "StoredDeadLetter",
    "StoredEvent",
    "StreamId",
    "StreamInfo",
    "TimerChange",
    "TimerGone",
    "TimerService",
    "UnknownDeadLetter",
    "UnknownEventType",
    "Version",
    "check_projections",
    "event",
    "execute",
    "fits",
    "inline_collection",
    "live_collection",
    "repeat_of",
    "upcaster",
    "wait_until",
    "waiter_count",
]
