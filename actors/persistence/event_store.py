"""The ports of the log and of snapshots, and what an append comes to.

Every adapter runs the conformance suite of its port (`storage/testing`). Each method may
raise `StoreUnavailable` (also as `StoreTimeout`, `PoolExhausted`): a read gave nothing
then, and a write happened wholly or not at all.

The functions below the ports are pure: engines gather the same facts and ask them, so that
their answers agree, and so do their refusals. The ports of what stands beside the log are in
`beside_log/`, that of read models in `projections/store.py`.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Protocol, Self
from uuid import UUID

import msgspec

from actors.persistence.errors import (
    BatchTooLarge,
    ConcurrencyConflict,
    CursorOutdated,
    DuplicateEventId,
    ForeignTenant,
    IdempotencyMismatch,
    InvalidField,
    StoreError,
    StreamArchived,
    StreamGone,
)
from actors.persistence.words import (
    ANY,
    ARCHIVED,
    BATCH_EVENTS_MAX,
    BATCH_REQUESTS_MAX,
    BIGINT_MAX,
    COUNT_MAX,
    END,
    EXISTS,
    KEY_BYTES_MAX,
    PAGE_LIMIT,
    READ_LIMIT_MAX,
    REOPENED,
    START,
    TOMBSTONED,
    VERSION_MAX,
    Appended,
    AppendRequest,
    BackwardPage,
    Bookmark,
    CancelTimer,
    CloseTimer,
    Condition,
    Counted,
    Cursor,
    Expected,
    ExpectedVersion,
    Idempotent,
    Lag,
    NewEvent,
    OutboxMessage,
    Page,
    Query,
    SetTimer,
    Shard,
    Snapshot,
    StoredEvent,
    StreamId,
    StreamInfo,
    TimerChange,
    Version,
    check_a,
    check_integer,
    check_list,
    check_stream,
    check_tenant,
    check_text,
    check_texts,
    owned_name,
)


class Follows(Protocol):
    """Where events are followed: an `EventStore`, or what was heard of one."""

    def follow(
        self,
        *,
        after: Cursor | Bookmark | None = None,
        types: Sequence[str] | None = None,
        categories: Sequence[str] | None = None,
    ) -> AsyncIterator[Page]:
        """See `EventStore.follow`."""
        ...


class EventStore(Protocol):
    """The log: streams of events, and one global order over all of them.

    A store is that of no tenant, or the view of one, from `for_tenant`. A view has streams, tags,
    idempotency keys and private subjects of its own, and sees no event of others. The store of no
    tenant likewise has its own, and beside that reads the whole order: `read_all`,
    `read_backwards`, `follow`, `lag`, and `count` of all or of types. Cursors, the lineage and
    event ids are those of all together.
    """

    @property
    def tenant(self) -> str | None:
        """Call this for whose view it is; None for the store of no tenant."""
        ...

    def for_tenant(self, tenant: str) -> Self:
        """Call this for the view of a tenant on the same store; costs nothing, keeps nothing.

        Raises `InvalidTenant`; from a view, `ForeignTenant` for any other than its own.
        """
        ...

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
        condition: Condition | None = None,
    ) -> Appended:
        """Call this to store events, and what goes with them, in one transaction.

        Appending the same event ids with the same content again writes nothing and gives the
        earlier result as `replayed`, whatever is expected. Raises `ConcurrencyConflict` with
        the true version when the stream is not as expected, `ConditionFailed` when its condition
        no longer holds, `DuplicateEventId` for an id stored elsewhere or otherwise, `Fenced`,
        `IdempotencyMismatch`, `IdempotencyInFlight`, `DuplicateMessageId`, `StreamArchived`,
        `StreamGone`; before any I/O `EmptyAppend`, `AppendTooLarge`, `InvalidField`, and
        `ForeignTenant` for an event or a key of another tenant. After each of them
        nothing was written. Cancelled, it is wholly there or wholly absent.
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

        A missing stream is empty; `from_version` below 1 is `InvalidField`, a `ValueError`.
        """
        ...

    def load_backwards(
        self,
        stream_id: StreamId,
        *,
        from_version: Version | None = None,
        to_version: Version = 1,
        limit: int | None = None,
    ) -> AsyncIterator[StoredEvent]:
        """Call this to read a stream newest first, from the given version or its end.

        Both bounds are included, so `from_version` is the higher one; at most `limit` events
        in constant memory. A missing stream is empty; `to_version` below 1, or a `limit` that
        is not 1 or more, is `InvalidField`, a `ValueError`.
        """
        ...

    async def read_all(
        self,
        *,
        after: Cursor | Bookmark | None = None,
        limit: int = PAGE_LIMIT,
        types: Sequence[str] | None = None,
        categories: Sequence[str] | None = None,
    ) -> Page:
        """Call this to read on in the global order; nothing later ever appears before `next`.

        `types` are plain names, such as `OrderPlaced`. One that a class of the store's
        `event_types` has today finds its events under all names that they were stored under.
        An event whose transaction, or an earlier one, is still open is not given yet. A place that
        was kept outside of the store is a `Bookmark`; one of another lineage is `CursorOutdated`. A
        limit that is not 1 to 10,000, or a cursor that is none, is `InvalidField`, a `ValueError`.
        """
        ...

    async def read_backwards(
        self,
        *,
        before: Cursor | Bookmark | None = None,
        limit: int = PAGE_LIMIT,
        types: Sequence[str] | None = None,
        categories: Sequence[str] | None = None,
    ) -> BackwardPage:
        """Call this to read the global order newest first, from its end or before a cursor.

        It begins where `read_all` ends: events whose transaction, or an earlier one, is still
        open are not there yet. So going on before `next` meets every older event once, whatever
        is appended meanwhile. A page may be short, or empty, and not the last. A `Bookmark` of
        another lineage is `CursorOutdated`.
        """
        ...

    async def count(
        self,
        *,
        stream_id: StreamId | None = None,
        category: str | None = None,
        types: Sequence[str] | None = None,
        up_to: int = COUNT_MAX,
    ) -> Counted:
        """Call this to count the stored events of a stream, a category, of types, or all.

        Counts `up_to` events at most (1 to 100,000), and looks at 20,000 at most where types of
        one stream, category or tenant are asked for; `is_whole` says whether it came to the end. A
        stream and a category at once is `InvalidField`, a `ValueError`.
        """
        ...

    async def read_tagged(
        self, query: Query, *, after: Cursor | Bookmark | None = None, limit: int = PAGE_LIMIT
    ) -> Page:
        """Call this to read what a decision is made on: the events of a query, in order.

        What is stored later of these tags comes behind `next`: read on until a page is the
        last, decide, and append with `Condition(query, page.next)`. Waits for appends of these
        tags that are under way. `after` is `next` of such a page, or the cursor that an append
        with a condition of this query came to; a bookmark of another lineage is `CursorOutdated`.
        Of an event stored under a name of before, the types of today are asked.
        """
        ...

    def follow(
        self,
        *,
        after: Cursor | Bookmark | None = None,
        types: Sequence[str] | None = None,
        categories: Sequence[str] | None = None,
    ) -> AsyncIterator[Page]:
        """Call this to read on for ever: what is there, then what comes, each event once.

        Survives a lost connection by reading on from its cursor. A store that comes back with
        another lineage than the bookmark's, or the first page's, is `CursorOutdated`. A page
        without events only says that a filter left something out. Close the iterator, or cancel,
        to end it.
        """
        ...

    async def lag(self, after: Cursor | None) -> Lag:
        """Call this to learn how far a reader at a cursor is behind the order's end.

        In a tenant's view 100,000 events stand for that many or more.
        """
        ...

    async def list_streams(
        self,
        *,
        category: str | None = None,
        prefix: str | None = None,
        after: str | None = None,
        limit: int = 100,
        include_archived: bool = False,
    ) -> list[StreamInfo]:
        """Call this to list streams by name, after a given one; none that was tombstoned."""
        ...

    async def archive(
        self,
        stream_id: StreamId,
        *,
        expected: ExpectedVersion = EXISTS,
        metadata: Mapping[str, str] | None = None,
    ) -> Appended:
        """Call this to close a stream to appends; it stays readable, and can be reopened.

        Appends an event `$archived` with this metadata. From the answer on every append is
        `StreamArchived`, but for a repeat of an earlier one, which is `replayed`. Archiving what
        is archived writes nothing and is `replayed` too. Raises `ConcurrencyConflict` when the
        stream is not as expected, `StreamGone`. Cancelled, it is wholly done or not at all.
        """
        ...

    async def reopen(
        self,
        stream_id: StreamId,
        *,
        expected: ExpectedVersion = EXISTS,
        metadata: Mapping[str, str] | None = None,
    ) -> Appended:
        """Call this to let an archived stream be written again, by an event `$reopened`.

        One that is open already is left as it is, and the answer is `replayed` with its last
        version. Raises as `archive` does.
        """
        ...

    async def tombstone(
        self,
        stream_id: StreamId,
        *,
        expected: ExpectedVersion = ANY,
        metadata: Mapping[str, str] | None = None,
    ) -> Appended:
        """Call this to close a stream for ever and hide its events; there is no way back.

        Appends an event `$tombstoned`, the only one of the stream that readers of the order
        still get; its snapshot is discarded. From the answer on every append is `StreamGone`,
        `load` gives nothing, and `head` the version of that event. A repeat is `replayed`. The
        rows are removed later, by whoever may (`remove_tombstoned`); readers see no difference.
        Raises `ConcurrencyConflict` when the stream is not as expected.
        """
        ...

    async def head(self, stream_id: StreamId) -> Version:
        """Call this for the last version of a stream, closed or not; 0 when it is empty."""
        ...

    async def lineage(self) -> str:
        """Call this for the id of the order that cursors belong to; renumbering changes it."""
        ...


class Snapshots(Protocol):
    """The latest state kept for a stream; only ever a help for loading."""

    def for_tenant(self, tenant: str) -> Self:
        """Call this for the states of a tenant's streams; as `EventStore.for_tenant`."""
        ...

    async def save(self, snapshot: Snapshot) -> None:
        """Call this to keep a state; one of a lower version than the kept one is ignored."""
        ...

    async def latest(self, stream_id: StreamId) -> Snapshot | None:
        """Call this for the kept state of a stream."""
        ...

    async def discard(self, stream_id: StreamId) -> None:
        """Call this to forget the kept state of a stream."""
        ...


# Whose a store is.


def check_view(own: str | None, wanted: str) -> None:
    """Call this before a view is made; raises `InvalidTenant`, or `ForeignTenant` from a view."""
    check_tenant(wanted)
    if own not in (None, wanted):
        raise ForeignTenant(own, wanted)


def owned(request: AppendRequest, tenant: str | None) -> AppendRequest:
    """Call this first in an engine's append, for the request as one of the store's tenant.

    What goes with it and is known by a name has its owned name from here on: the key of a message,
    the address of a timer, the consumer of the inbox. Raises `ForeignTenant` when the request, its
    key or one of its events names another tenant, `InvalidField` when a name is too long so.
    """
    key = request.idempotency
    if tenant is None:
        # Nearly every append of all, so it is looked at only.
        for event in request.events:
            if event.tenant is not None:
                raise ForeignTenant(None, event.tenant)
        if request.tenant is not None or (key is not None and key.tenant):
            raise ForeignTenant(None, request.tenant or (key.tenant if key else ""))
        return request
    named = {request.tenant, *(event.tenant for event in request.events)}
    if key is not None:
        named.add(key.tenant or None)
    for other in named - {None, tenant}:
        assert other is not None, "it was taken out"
        raise ForeignTenant(tenant, other)
    return replace(
        request,
        tenant=tenant,
        idempotency=None if key is None else replace(key, tenant=tenant),
        outbox=tuple(replace(one, key=owned_name(tenant, one.key)) for one in request.outbox),
        timers=tuple(_owned_change(one, tenant) for one in request.timers),
        inbox=None
        if request.inbox is None
        else (owned_name(tenant, request.inbox[0]), request.inbox[1]),
        events=[
            event if event.tenant is not None else msgspec.structs.replace(event, tenant=tenant)
            for event in request.events
        ],
    )


def _owned_change(change: TimerChange, tenant: str) -> TimerChange:
    match change:
        case SetTimer() | CancelTimer():
            return replace(change, address=owned_name(tenant, change.address))
        case CloseTimer():
            return change  # by its id, which nobody else has


# What is asked of a reader before any I/O. Each raises `InvalidField`.


def check_cursor(after: Cursor | None) -> Cursor:
    """Call this for where reading begins."""
    if after is None:
        return START
    check_a("a cursor", after, Cursor)
    check_integer("the txid of a cursor", after.txid, 0, BIGINT_MAX)
    check_integer("the position of a cursor", after.position, 0, BIGINT_MAX)
    return after


def check_before(before: Cursor | Bookmark | None) -> tuple[Cursor, str]:
    """Call this as `check_place`, for where reading backwards begins."""
    return check_place(END if before is None else before)


def check_place(after: Cursor | Bookmark | None) -> tuple[Cursor, str]:
    """Call this for where reading begins, and the lineage the store must have; empty for any."""
    if isinstance(after, Bookmark):
        return check_cursor(after.cursor), after.lineage
    return check_cursor(after), ""


def check_lineage(wanted: str, found: str) -> None:
    """Call this with the lineage that a page was read under; raises `CursorOutdated`."""
    if wanted not in ("", found):
        raise CursorOutdated(wanted, found)


def place_of(cursor: Cursor, lineage: str) -> Cursor | Bookmark:
    """Call this for where to go on, with the lineage where there is one."""
    return Bookmark(lineage, cursor) if lineage else cursor


def check_limit(limit: int) -> None:
    """Call this with how many are asked for at once."""
    check_integer("limit", limit, 1, READ_LIMIT_MAX)


def check_filter(field: str, names: Sequence[str] | None) -> list[str] | None:
    """Call this for the names of a filter as a list."""
    if names is None:
        return None
    if isinstance(names, str):
        raise InvalidField(field, "is one text; give a list of them")
    check_list(field, names)
    for name in names:
        check_text(field, name)
    return list(names)


def check_bounds(
    stream_id: str, from_version: Version, to_version: Version | None
) -> tuple[Version, Version]:
    """Call this for the bounds of a stream as numbers; what lies beyond them is left out."""
    check_stream(stream_id)
    check_integer("from_version", from_version, 1)
    if to_version is None:
        return from_version, VERSION_MAX
    check_integer("to_version", to_version)
    return from_version, max(0, min(to_version, VERSION_MAX))


def check_backwards(
    stream_id: str, from_version: Version | None, to_version: Version, limit: int | None
) -> tuple[Version, Version, int]:
    """Call this for the bounds of a stream read backwards, the higher one first, and how many."""
    check_stream(stream_id)
    if from_version is not None:
        check_integer("from_version", from_version)
    check_integer("to_version", to_version, 1)
    if limit is not None:
        check_integer("limit", limit, 1)
    highest = VERSION_MAX if from_version is None else max(0, min(from_version, VERSION_MAX))
    return highest, min(to_version, VERSION_MAX), limit or VERSION_MAX


def check_count(
    stream_id: str | None, category: str | None, types: Sequence[str] | None, up_to: int
) -> list[str] | None:
    """Call this with what is to be counted, for the types as a list."""
    if stream_id is not None:
        check_stream(stream_id)
        if category is not None:
            raise InvalidField("category", "is given beside a stream, which has one")
    check_names(category, None, None)
    check_integer("up_to", up_to, 1, COUNT_MAX)
    names = check_filter("types", types)
    return None if names is None else list(dict.fromkeys(names))


def check_names(category: str | None, prefix: str | None, after: str | None) -> None:
    """Call this with what a list of streams is asked for."""
    for field, text in (("category", category), ("prefix", prefix), ("after", after)):
        if text is not None:
            check_text(field, text, KEY_BYTES_MAX)


# What an append comes to, decided from what is stored.


def check_batch(requests: Sequence[AppendRequest]) -> None:
    """Call this before any I/O of a batch; raises `BatchTooLarge`."""
    if len(requests) > BATCH_REQUESTS_MAX:
        raise BatchTooLarge("requests", len(requests), BATCH_REQUESTS_MAX)
    events = sum(len(request.events) for request in requests)
    if events > BATCH_EVENTS_MAX:
        raise BatchTooLarge("events", events, BATCH_EVENTS_MAX)


def fits(expected: ExpectedVersion, actual: Version) -> bool:
    """Call this to decide whether a stream at a version is as an append expects it."""
    match expected:
        case Expected.ANY:
            return True
        case Expected.EXISTS:
            return actual > 0
        case int():
            return actual == expected


def spoken(expected: ExpectedVersion) -> int | str:
    """Call this for what an error says was expected."""
    return expected.value if isinstance(expected, Expected) else expected


def repeat_of(request: AppendRequest, stored: Mapping[UUID, StoredEvent]) -> Appended | None:
    """Call this with the stored events that have ids of a request, before its version counts.

    The earlier result when the request was stored before; None when no id is known; raises
    `DuplicateEventId` when an id is stored elsewhere, otherwise, or twice in the request.
    """
    # All or nothing: a request was stored in one transaction, so of its ids all are known, at
    # versions in a row, or it is another request that uses one of them again.
    ids = [event.event_id for event in request.events]
    if len(set(ids)) < len(ids):
        twice = next(one for one in ids if ids.count(one) > 1)
        raise DuplicateEventId(str(twice), request.stream_id)
    found = [stored[one] for one in ids if one in stored]
    if not found:
        return None
    first = found[0]
    for number, event in enumerate(request.events):
        kept = stored.get(event.event_id)
        if kept is None or not _is_same(event, kept, request, first.version + number):
            raise DuplicateEventId(str(found[0].event_id), request.stream_id)
    last = found[-1]
    return Appended(last.version, first.version, last.cursor, replayed=True)


def refuse_closed(stream_id: str, version: Version, last_type: str | None) -> None:
    """Call this with the last event of a stream before one is stored behind it."""
    if last_type == TOMBSTONED:
        raise StreamGone(stream_id)
    if last_type == ARCHIVED:
        raise StreamArchived(stream_id, version)


def outcome(
    request: AppendRequest,
    stored: Mapping[UUID, StoredEvent],
    version: Version,
    last_type: str | None,
) -> Appended | None:
    """Call this with what is stored of a request's ids and its stream; None when it may be stored.

    Else the earlier result of a repeat, or the reason why not. A repeat counts more than a
    stream that was archived since, and less than one that is gone: so is what was stored.
    """
    if last_type == TOMBSTONED:
        raise StreamGone(request.stream_id)
    repeated = repeat_of(request, stored)
    if repeated is not None:
        return repeated
    refuse_closed(request.stream_id, version, last_type)
    if not fits(request.expected, version):
        raise conflict(request, version)
    return None


def check_closing(
    stream_id: str, expected: ExpectedVersion, metadata: Mapping[str, str] | None
) -> Mapping[str, str]:
    """Call this before any I/O of closing or reopening a stream, for the metadata of its event."""
    check_stream(stream_id)
    if not isinstance(expected, Expected):
        check_integer("expected", expected, 0, VERSION_MAX)
    if metadata is None:
        return {}
    check_texts("metadata", metadata)
    return metadata


def is_closed_so(
    stream_id: str, kind: str, expected: ExpectedVersion, version: Version, last_type: str | None
) -> bool:
    """Call this to decide whether a stream is already what it is to become; raises why not."""
    if last_type == TOMBSTONED and kind != TOMBSTONED:
        raise StreamGone(stream_id)
    if last_type == kind or (kind == REOPENED and version > 0 and last_type != ARCHIVED):
        return True
    if not fits(expected, version):
        raise ConcurrencyConflict(stream_id, spoken(expected), version)
    return False


class KeptAnswer(msgspec.Struct, frozen=True):
    """What is kept of an append under its key: where its events stand in their stream.

    Not their cursor, which a renumbering changes: it is looked up when it is asked for.
    """

    stream_id: str
    first_version: Version
    version: Version


def keep_answer(stream_id: str, appended: Appended) -> bytes:
    """Call this for the bytes of an append's answer; `stream_id` among those of all tenants."""
    # A plain text: the encoder knows no kind of its own.
    kept = KeptAnswer(str(stream_id), appended.first_version, appended.version)
    return msgspec.json.encode(kept)


def kept_answer(request: Idempotent, data: bytes) -> KeptAnswer:
    """Call this to read them; other work's answer under that key is `IdempotencyMismatch`."""
    try:
        return msgspec.json.decode(data, type=KeptAnswer)
    except msgspec.DecodeError:
        raise IdempotencyMismatch(request.scope, request.key) from None


def _is_same(event: NewEvent, kept: StoredEvent, request: AppendRequest, version: Version) -> bool:
    return (
        kept.stream_id == request.stream_id
        and kept.tenant == request.tenant
        and kept.version == version
        and kept.type == event.type
        and kept.schema_version == event.schema_version
        and kept.data == event.data
    )


def matches(query: Query, event: StoredEvent) -> bool:
    """Call this to decide whether a tenant's event is of its query; types are stored names."""
    return any(
        (not one.types or event.type in one.types) and set(one.tags) <= set(event.tags)
        for one in query
    )


def tagged_page(found: Sequence[StoredEvent], begin: Cursor, limit: int, lineage: str) -> Page:
    """Call this with one event of a query more than a page has, if there is one."""
    events = found[:limit]
    at = events[-1].cursor if events else begin
    return Page(events, at, found[-1].cursor if len(found) > limit else at, lineage)


def conflict(request: AppendRequest, actual: Version) -> ConcurrencyConflict:
    """Call this for the error of a request whose stream is not as expected."""
    return ConcurrencyConflict(request.stream_id, spoken(request.expected), actual)
