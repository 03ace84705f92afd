"""The event store in PostgreSQL; the twin of `storage/memory/event_store.py`.

`events/appending.py` writes and `events/reading.py` reads; `events/gathering.py` lets single
events of many callers share a commit. This class gives each call its connection, and its error
its meaning. Below it stands the transaction of an append that
brings more than events.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from time import perf_counter
from typing import Self

import asyncpg

from actors.persistence import (
    ANY,
    ARCHIVED,
    COUNT_MAX,
    EXISTS,
    PAGE_LIMIT,
    REOPENED,
    TOMBSTONED,
    Appended,
    AppendRequest,
    BackwardPage,
    Bookmark,
    Claim,
    Condition,
    Counted,
    Cursor,
    EventTypes,
    ExpectedVersion,
    Idempotent,
    InlineProjections,
    Keyring,
    Lag,
    NewEvent,
    OutboxMessage,
    Page,
    Projection,
    Query,
    Shard,
    StoredEvent,
    StreamId,
    StreamInfo,
    TimerChange,
    Version,
)
from actors.persistence.beside_log.subject_keys import open_events, seal_request, seal_requests
from actors.persistence.event_store import (
    KeptAnswer,
    check_backwards,
    check_batch,
    check_before,
    check_bounds,
    check_closing,
    check_count,
    check_cursor,
    check_filter,
    check_limit,
    check_lineage,
    check_names,
    check_place,
    check_view,
    keep_answer,
    kept_answer,
    outcome,
    owned,
    place_of,
    tagged_page,
)
from actors.persistence.event_types import EVENTS as OWN_TYPES
from actors.persistence.words import check_query, check_stream, owned_name
from storage.errors import (
    DuplicateMessageId,
    Fenced,
    StatementRefused,
    StoreError,
    StoreMisuse,
    StoreUnavailable,
)
from storage.gathering import GatherStats
from storage.postgres.connecting.database import Database
from storage.postgres.connecting.figures import StoreTallies
from storage.postgres.connecting.notices import EVENTS, POLL_S
from storage.postgres.connecting.session import Connection
from storage.postgres.events import reading
from storage.postgres.events.appending import (
    RACES,
    append_batch,
    facts,
    insert,
    wait_in_line,
)
from storage.postgres.events.closing import close
from storage.postgres.events.gathering import Gatherer, road_of_owned
from storage.postgres.events.tagging import lock_tags, read_tagged
from storage.postgres.idempotency import claim, remember
from storage.postgres.outbox import OUTBOX_IDS, add_to_outbox, note_handled
from storage.postgres.projections import apply_inline
from storage.postgres.timers import change_timer
from storage.postgres.whole_appends import road_of_wholes

# Two races lost: the stream is a busy one. From there appends stand in line, one at a time.
RACES_BEFORE_LINE = 2

# In line an append loses to newcomers only, each time to one that made progress, and every other
# time at most: whoever loses so often meets no crowd but a fault.
RACES_MAX = 100


class _Refused(Exception):
    """Rolls back an append whose stream is shorter than expected, or whose condition fails."""

    def __init__(self, why: StoreError | None = None) -> None:
        super().__init__()
        self.why = why


class PostgresEventStore:
    """The port `EventStore` on a `Database`."""

    def __init__(
        self,
        database: Database,
        *,
        poll_s: float = POLL_S,
        inline: Sequence[Projection] = (),
        scanned_max: int = reading.SCANNED_MAX,
        event_types: EventTypes = OWN_TYPES,
        gatherer: Gatherer | None = None,
        keyring: Keyring | None = None,
    ) -> None:
        if scanned_max < 1:
            raise ValueError(f"scanned_max must be at least 1, got {scanned_max}")
        self._database, self._run, self._poll_s = database, database.run, poll_s
        self._scanned_max, self._event_types = scanned_max, event_types
        self._inline = InlineProjections(inline)
        self._gatherer = gatherer if gatherer is not None else Gatherer(database)
        self._whole_gatherer = self._gatherer.of_road(road_of_wholes(database, self._inline))
        self._owned_gatherer = self._gatherer.of_road(road_of_owned(database))
        self._keyring = keyring
        self._counted = StoreTallies(database.tallies)
        self._tenant: str | None = None

    @property
    def tenant(self) -> str | None:
        """See `EventStore.tenant`."""
        return self._tenant

    def for_tenant(self, tenant: str) -> Self:
        """See `EventStore.for_tenant`."""
        check_view(self._tenant, tenant)
        # All it has is shared: connections, the statements that gather, keys.
        view = copy(self)
        view._tenant = tenant
        return view

    # Word by word as in the port and in the twin: one line of body is no reason for a base class.
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
        """See `EventStore.append`."""
        return await self.append_request(
            AppendRequest(
                stream_id,
                events,
                expected,
                shard,
                outbox,
                timers,
                idempotency,
                condition=condition,
            )
        )

    async def append_request(self, request: AppendRequest) -> Appended:
        """See `EventStore.append_request`."""
        began = perf_counter()
        try:
            appended = await self._append(request)
        except StoreMisuse:
            raise  # Nothing was asked of the store.
        except StoreError as error:
            self._counted.appended([request], began, error)
            raise
        self._counted.appended([request], began)
        return appended

    async def _append(self, request: AppendRequest) -> Appended:
        request = await seal_request(self._keyring, owned(request, self._tenant))
        for lost in range(RACES_MAX):
            tried = await self._try(request, lost)
            if isinstance(tried, Appended):
                return tried
            repeated = outcome(request, *await self._run(facts, request))
            if repeated is not None:
                return repeated
            if tried is not None:
                raise tried
            # The stream is as expected again: the other writer rolled back, or any version
            # will do. Nothing was decided on what is stored, so the same append may go again.
        raise StoreUnavailable(
            f"{request.stream_id} lost {RACES_MAX} races in a row", nothing_written=True
        )

    async def append_batch(
        self, requests: Sequence[AppendRequest], *, atomic: bool = False
    ) -> list[Appended | StoreError]:
        """See `EventStore.append_batch`."""
        check_batch(requests)
        began = perf_counter()
        try:
            appended = await self._append_batch(requests, atomic=atomic)
        except StoreMisuse:
            raise
        except StoreError as error:
            self._counted.appended(requests, began, error)
            raise
        for request, one in zip(requests, appended, strict=True):
            self._counted.appended([request], began, one if isinstance(one, StoreError) else None)
        return appended

    async def _append_batch(
        self, requests: Sequence[AppendRequest], *, atomic: bool
    ) -> list[Appended | StoreError]:
        self._inline.check_batch(requests)
        requests = [owned(request, self._tenant) for request in requests]
        requests = await seal_requests(self._keyring, requests)
        for lost in range(RACES_MAX):
            try:
                if lost < RACES_BEFORE_LINE:
                    return await self._database.run(
                        append_batch, requests, atomic, lost > 0, channel=EVENTS
                    )
                return await self._database.transact(
                    _append_batch_in_line, requests, atomic, channel=EVENTS
                )
            except (StatementRefused, StoreUnavailable) as error:
                if not _is_lost_race(error):
                    raise
        raise StoreUnavailable(f"the batch lost {RACES_MAX} races in a row", nothing_written=True)

    async def load(
        self, stream_id: StreamId, *, from_version: Version = 1, to_version: Version | None = None
    ) -> AsyncIterator[StoredEvent]:
        """See `EventStore.load`."""
        at, last = check_bounds(stream_id, from_version, to_version)
        key = owned_name(self._tenant, stream_id)
        while at <= last:
            # Versions have no holes: a page that is short is the last one.
            to, began = min(last, at + PAGE_LIMIT - 1), perf_counter()
            page = await self._run(reading.stream_page, key, at, to)
            self._counted.loaded(stream_id.category, len(page), began)
            for event in await open_events(self._keyring, page):
                yield event
            if len(page) <= to - at:
                return
            at = to + 1

    async def load_backwards(
        self,
        stream_id: StreamId,
        *,
        from_version: Version | None = None,
        to_version: Version = 1,
        limit: int | None = None,
    ) -> AsyncIterator[StoredEvent]:
        """See `EventStore.load_backwards`."""
        at, last, left = check_backwards(stream_id, from_version, to_version, limit)
        key = owned_name(self._tenant, stream_id)
        while last <= at and left > 0:
            wanted = min(PAGE_LIMIT, left)
            page = await self._run(reading.stream_page_backwards, key, at, last, wanted)
            for event in await open_events(self._keyring, page):
                yield event
            if len(page) < wanted:
                return
            at, left = page[-1].version - 1, left - wanted

    async def read_all(
        self,
        *,
        after: Cursor | Bookmark | None = None,
        limit: int = PAGE_LIMIT,
        types: Sequence[str] | None = None,
        categories: Sequence[str] | None = None,
    ) -> Page:
        """See `EventStore.read_all`."""
        begin, lineage = check_place(after)
        check_limit(limit)
        types = self._event_types.widened(check_filter("types", types))
        categories = check_filter("categories", categories)
        page = await self._run(
            reading.page_of_lineage,
            lineage,
            begin,
            limit,
            types,
            categories,
            self._scanned_max,
            self._tenant,
        )
        return replace(page, events=await open_events(self._keyring, page.events))

    async def read_backwards(
        self,
        *,
        before: Cursor | Bookmark | None = None,
        limit: int = PAGE_LIMIT,
        types: Sequence[str] | None = None,
        categories: Sequence[str] | None = None,
    ) -> BackwardPage:
        """See `EventStore.read_backwards`."""
        begin, lineage = check_before(before)
        check_limit(limit)
        types = self._event_types.widened(check_filter("types", types))
        categories = check_filter("categories", categories)
        page = await self._run(
            reading.page_backwards,
            lineage,
            begin,
            limit,
            types,
            categories,
            self._scanned_max,
            self._tenant,
        )
        return replace(page, events=await open_events(self._keyring, page.events))

    async def read_tagged(
        self, query: Query, *, after: Cursor | Bookmark | None = None, limit: int = PAGE_LIMIT
    ) -> Page:
        """See `EventStore.read_tagged`."""
        tags, (begin, lineage) = check_query(query), check_place(after)
        check_limit(limit)
        query = self._event_types.widened_query(query)
        found, current = await self._database.transact(
            read_tagged, query, tags, begin, limit + 1, self._tenant
        )
        check_lineage(lineage, current)
        return tagged_page(await open_events(self._keyring, found), begin, limit, current)

    async def count(
        self,
        *,
        stream_id: StreamId | None = None,
        category: str | None = None,
        types: Sequence[str] | None = None,
        up_to: int = COUNT_MAX,
    ) -> Counted:
        """See `EventStore.count`."""
        types = self._event_types.widened(check_count(stream_id, category, types, up_to))
        return await self._run(
            reading.count, stream_id, category, types, up_to, self._scanned_max, self._tenant
        )

    async def follow(
        self,
        *,
        after: Cursor | Bookmark | None = None,
        types: Sequence[str] | None = None,
        categories: Sequence[str] | None = None,
    ) -> AsyncIterator[Page]:
        """See `EventStore.follow`."""
        at, lineage = check_place(after)
        bell = self._database.bell(EVENTS)
        with bell.heard():
            while True:
                # Before reading: what is committed while we read rings for us.
                wait = bell.listen()
                try:
                    place = place_of(at, lineage)
                    page = await self.read_all(after=place, types=types, categories=categories)
                except StoreUnavailable:
                    await wait(self._poll_s)
                    continue
                lineage = page.lineage
                if page.next > at:
                    at = page.next
                    yield page
                else:
                    await wait(self._poll_s)

    async def lag(self, after: Cursor | None) -> Lag:
        """See `EventStore.lag`."""
        return await self._run(reading.lag, check_cursor(after), self._tenant)

    async def list_streams(
        self,
        *,
        category: str | None = None,
        prefix: str | None = None,
        after: str | None = None,
        limit: int = 100,
        include_archived: bool = False,
    ) -> list[StreamInfo]:
        """See `EventStore.list_streams`."""
        check_names(category, prefix, after)
        check_limit(limit)
        beginning = prefix or ""
        if category is not None:
            if not f"{category}-".startswith(beginning[: len(category) + 1]):
                return []
            beginning = max(beginning, f"{category}-", key=len)
        return await self._run(
            reading.streams, beginning, after or "", limit, include_archived, self._tenant
        )

    async def head(self, stream_id: StreamId) -> Version:
        """See `EventStore.head`."""
        check_stream(stream_id)
        return await self._run(reading.head, owned_name(self._tenant, stream_id))

    async def lineage(self) -> str:
        """See `EventStore.lineage`."""
        return await self._run(reading.lineage)

    async def archive(
        self,
        stream_id: StreamId,
        *,
        expected: ExpectedVersion = EXISTS,
        metadata: Mapping[str, str] | None = None,
    ) -> Appended:
        """See `EventStore.archive`."""
        return await self._close(stream_id, ARCHIVED, expected, metadata)

    async def reopen(
        self,
        stream_id: StreamId,
        *,
        expected: ExpectedVersion = EXISTS,
        metadata: Mapping[str, str] | None = None,
    ) -> Appended:
        """See `EventStore.reopen`."""
        return await self._close(stream_id, REOPENED, expected, metadata)

    async def tombstone(
        self,
        stream_id: StreamId,
        *,
        expected: ExpectedVersion = ANY,
        metadata: Mapping[str, str] | None = None,
    ) -> Appended:
        """See `EventStore.tombstone`."""
        return await self._close(stream_id, TOMBSTONED, expected, metadata)

    async def _close(
        self,
        stream_id: StreamId,
        kind: str,
        expected: ExpectedVersion,
        metadata: Mapping[str, str] | None,
    ) -> Appended:
        given = check_closing(stream_id, expected, metadata)
        for lost in range(RACES_MAX):
            is_in_line = lost >= RACES_BEFORE_LINE
            try:
                return await self._database.transact(
                    close,
                    stream_id,
                    kind,
                    expected,
                    given,
                    self._tenant,
                    is_in_line,
                    channel=EVENTS,
                )
            except (StatementRefused, StoreUnavailable) as error:
                if not _is_lost_race(error):
                    raise
        raise StoreUnavailable(f"{stream_id} lost {RACES_MAX} races in a row", nothing_written=True)

    def gather_stats(self) -> GatherStats:
        """Call this to see how single events fared: how many shared a statement, who waits."""
        return self._gatherer.statistics()

    def whole_stats(self) -> GatherStats:
        """Call this to see the same of appends that bring more: messages, timers, documents."""
        return self._whole_gatherer.statistics()

    def owned_stats(self) -> GatherStats:
        """Call this to see the same of single events under a shard."""
        return self._owned_gatherer.statistics()

    def _gatherer_of(self, request: AppendRequest, is_plain: bool) -> Gatherer | None:
        """Who may send it together with others; None when it goes its careful way."""
        if is_plain and self._gatherer.takes(request):
            return self._gatherer
        return self._whole_gatherer if self._whole_gatherer.takes(request) else None

    def _is_owned_alone(self, request: AppendRequest) -> bool:
        """Whether only events are written, and nothing counts but the stream and the shard."""
        return (
            request.shard is not None
            and replace(request, shard=None).is_plain
            and not self._inline.wanting(request.events)
        )

    async def _try(self, request: AppendRequest, lost: int) -> Appended | StoreError | None:
        """The result; None when the version check or a constraint refused it.

        An error is what its condition refuses it with.
        """
        is_plain = request.is_plain and not self._inline.wanting(request.events)
        is_in_line = lost >= RACES_BEFORE_LINE
        try:
            if not lost and (gatherer := self._gatherer_of(request, is_plain)) is not None:
                return await gatherer.append(request)
            if not lost and self._is_owned_alone(request):
                # One statement instead of four, and its transaction; with others where it may.
                appended = await (
                    self._owned_gatherer.append(request)
                    if self._owned_gatherer.takes(request)
                    else self._database.run(insert, request, None, request.shard, channel=EVENTS)
                )
                if appended is not None:
                    return appended
                # Refused, for one reason or the other: below each is looked at by itself.
            if is_plain and not is_in_line:
                return await self._database.run(insert, request, channel=EVENTS)
            if request.condition is not None:
                query = self._event_types.widened_query(request.condition.query)
                request = replace(request, condition=Condition(query, request.condition.after))
            return await self._database.transact(
                _insert_with_all, request, self._inline, is_in_line, channel=EVENTS
            )
        except _Refused as refused:
            return refused.why
        except (StatementRefused, StoreUnavailable) as error:
            if _is_lost_race(error):
                return None
            if isinstance(error, StatementRefused) and error.constraint == OUTBOX_IDS:
                raise DuplicateMessageId(request.stream_id) from None
            raise


def _is_lost_race(error: Exception) -> bool:
    """Whether another writer was first; nothing was written then, and the same may go again."""
    if isinstance(error, StatementRefused):
        return error.kind == asyncpg.UniqueViolationError.__name__ and error.constraint in RACES
    # Two that bring the same ids in another order wait for each other until the server ends one.
    return isinstance(error.__cause__, asyncpg.DeadlockDetectedError)


async def _append_batch_in_line(
    connection: Connection, requests: Sequence[AppendRequest], atomic: bool
) -> list[Appended | StoreError]:
    await wait_in_line(connection, {request.key for request in requests})
    return await append_batch(connection, requests, atomic, True)


async def _insert_with_all(
    connection: Connection, request: AppendRequest, inline: InlineProjections, is_in_line: bool
) -> Appended:
    """In one transaction, in this order: shard, inbox, key, events, then what goes with them.

    Whatever raises here rolls all of it back. The order is that of the twin in memory, so
    that of several reasons to refuse an append both give the same. Only tags are locked, the
    condition looked at and the head read before all of it: see rule 1 of `events/appending.py`,
    and `events/tagging.py`.
    """
    if is_in_line:
        await wait_in_line(connection, [request.key])
    refusal = await lock_tags(connection, request) if request.tags else None
    base = None if request.is_plain else await reading.head(connection, request.key)
    if request.shard is not None:
        await _check_shard(connection, request.shard)
    if request.inbox is not None:
        await note_handled(connection, *request.inbox)
    held: Claim | None = None
    if request.idempotency is not None:
        begun = await claim(connection, request.idempotency)
        if isinstance(begun, bytes):
            return await _earlier(connection, kept_answer(request.idempotency, begun))
        held = begun
    if refusal is not None:
        raise _Refused(refusal)
    appended = await insert(connection, request, base)
    if appended is None:
        raise _Refused
    if request.outbox:
        await add_to_outbox(connection, request.outbox)
    for change in request.timers:
        await change_timer(connection, change)
    if held is not None:
        await remember(connection, held, keep_answer(request.key, appended))
    if inline.wanting(request.events):
        at = (appended.first_version, appended.version)
        stored = await reading.stream_page(connection, request.key, *at)
        await apply_inline(connection, inline, [stored])
    return appended


async def _earlier(connection: Connection, kept: KeptAnswer) -> Appended:
    cursor = await reading.cursor_at(connection, kept.stream_id, kept.version)
    return Appended(kept.version, kept.first_version, cursor, replayed=True)


async def _check_shard(connection: Connection, shard: Shard) -> None:
    # Held with other appends and with renewals of the lease, which change neither owner nor epoch:
    # a renewal that waited for appends could starve behind them. A takeover raises the epoch, a
    # part of a key (0033), and so waits for us.
    row = await connection.fetchrow(
        "SELECT owner, epoch FROM shards WHERE id = $1 FOR KEY SHARE", shard.id
    )
    if row is None or (row["owner"], row["epoch"]) != (shard.owner, shard.epoch):
        raise Fenced(shard.id, shard.epoch, None if row is None else row["epoch"])
