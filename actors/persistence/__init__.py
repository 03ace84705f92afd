"""What actors need of a store, as ports, and the words both sides share.

Read first:

- `errors`: what can go wrong, divided by what the caller does about it.

The adapters stand in `storage/postgres` and `storage/memory`; nothing here knows them.
"""

from actors.persistence.errors import (
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
    UnknownEventType,
)

__all__ = [
    "AppendTooLarge",
    "BatchTooLarge",
    "CodecError",
    "ConcurrencyConflict",
    "CursorOutdated",
    "DuplicateEventId",
    "EmptyAppend",
    "EventTooLarge",
    "Fenced",
    "IdempotencyInFlight",
    "IdempotencyMismatch",
    "InvalidStreamId",
    "PoolExhausted",
    "StoreError",
    "StoreMisuse",
    "StoreTimeout",
    "StoreUnavailable",
    "StoredDataError",
    "UnknownEventType",
]
