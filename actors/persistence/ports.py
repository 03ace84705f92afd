"""What actors ask of a store: one documented protocol for each thing that is kept.

Every adapter runs the conformance suite of its port (`storage/testing`). Each method may
raise `StoreUnavailable` (also as `StoreTimeout`, `PoolExhausted`): a read gave nothing
then, and a write happened wholly or not at all.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from actors.persistence.companions import OutboxMessage, TimerChange
from actors.persistence.errors import StoreError
from actors.persistence.words import (
    ANY,
    PAGE_LIMIT,
    Appended,
    AppendRequest,
    Cursor,
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


class EventStore(Protocol):
    """The log: streams of events, and one global order over all of them."""

    async def append(
        self,
        stream_id: StreamId,
        events: Sequence[NewEvent],
        *,
        expected: ExpectedVersion = ANY,
        shard: Shard | None = None,
        outbox: Sequence[OutboxMessage] = (),
        timers: Sequence[TimerChange] = (),
        idempotency: Idempotent | None = None,
    ) -> Appended:
        """Call this to store events, and what goes with them, in one transaction.

        Appending the same event ids with the same content again writes nothing and gives the
        earlier result as `replayed`, whatever is expected. Raises `ConcurrencyConflict` with
        the true version when the stream is not as expected, `DuplicateEventId` for an id
        stored elsewhere or otherwise, `Fenced`, `IdempotencyMismatch`,
        `IdempotencyInFlight`; before any I/O `EmptyAppend` and `AppendTooLarge`. After each
        of them nothing was written. Cancelled, it is wholly there or wholly absent.
        """
        ...

    async def append_request(self, request: AppendRequest) -> Appended:
        """Call this as `append`, with everything in one value."""
        ...

    async def append_batch(
        self, requests: Sequence[AppendRequest], *, atomic: bool = False
    ) -> list[Appended | StoreError]:
        """Call this to store many plain appends at once; results in the order of requests.

        A refused request fails alone; later ones on its stream see what was stored. With
        `atomic` all are stored or none, and the first error is raised. Requests with more
        than events are a `ValueError`, too many a `BatchTooLarge`, both before any I/O.
        """
        ...

    def load(
        self, stream_id: StreamId, *, from_version: Version = 1, to_version: Version | None = None
    ) -> AsyncIterator[StoredEvent]:
        """Call this to read a stream in order, both bounds included, in constant memory.

        A missing stream is empty; `from_version` below 1 is a `ValueError`.
        """
        ...

    async def read_all(
        self,
        *,
        after: Cursor | None = None,
        limit: int = PAGE_LIMIT,
        types: Sequence[str] | None = None,
        categories: Sequence[str] | None = None,
    ) -> Page:
        """Call this to read on in the global order; nothing later ever appears before `next`.

        An event whose transaction, or an earlier one, is still open is not given yet.
        """
        ...

    def follow(
        self,
        *,
        after: Cursor | None = None,
        types: Sequence[str] | None = None,
        categories: Sequence[str] | None = None,
    ) -> AsyncIterator[Page]:
        """Call this to read on for ever: what is there, then what comes, each event once.

        Survives a lost connection by reading on from its cursor. A page without events only
        says that a filter left something out. Close the iterator, or cancel, to end it.
        """
        ...

    async def lag(self, after: Cursor | None) -> Lag:
        """Call this to learn how far a reader at a cursor is behind the order's end."""
        ...

    async def list_streams(
        self,
        *,
        category: str | None = None,
        prefix: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[StreamInfo]:
        """Call this to list streams by name, after a given one."""
        ...

    async def head(self, stream_id: StreamId) -> Version:
        """Call this for the last version of a stream; 0 when it is empty."""
        ...

    async def lineage(self) -> str:
        """Call this for the id of the order that cursors belong to; renumbering changes it."""
        ...


class Snapshots(Protocol):
    """The latest state kept for a stream; only ever a help for loading."""

    async def save(self, snapshot: Snapshot) -> None:
        """Call this to keep a state; one of a lower version than the kept one is ignored."""
        ...

    async def latest(self, stream_id: StreamId) -> Snapshot | None:
        """Call this for the kept state of a stream."""
        ...

    async def discard(self, stream_id: StreamId) -> None:
        """Call this to forget the kept state of a stream."""
        ...
